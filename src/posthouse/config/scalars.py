"""Single values: what may stand for each type of `values.py`, in words, and how it is read.

Promises: `SCALARS` has a row for every type that a setting may have; its reader raises ValueError and nothing else.
"""

import ipaddress
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from msgspec import Struct
from msgspec.structs import fields

from posthouse.config.values import (
    Count,
    DomainName,
    DomainOrAny,
    DomainPattern,
    IpAddress,
    MailAddress,
    Network,
    Pause,
    Port,
    Server,
)
from posthouse.terms.address import parse as parse_address
from posthouse.terms.address import parse_domain
from posthouse.written import (
    LARGEST_SIZE,
    Dial,
    Duration,
    Endpoint,
    Rate,
    Size,
    Target,
    parse_dial,
    parse_duration,
    parse_endpoint,
    parse_network,
    parse_rate,
    parse_size,
    parse_target,
)


def expects(kind: Any) -> str:
    """What may stand for this type, in words."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return expects(next(part for part in get_args(kind) if part is not NoneType))
    if origin is Literal:
        return "one of " + ", ".join(f'"{value}"' for value in get_args(kind))
    if origin is tuple:
        return f"a list: each {expects(get_args(kind)[0])}"
    if isinstance(kind, type) and issubclass(kind, Struct):
        return "a table with " + ", ".join(info.encode_name for info in fields(kind))
    return SCALARS[kind][0]


def _text(parse_text: Callable[[str], object]) -> Callable[[object], object]:
    def read(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError
        return parse_text(value)

    return read


def _number(low: int, high: int) -> Callable[[object], object]:
    def read(value: object) -> object:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError
        return value

    return read


def _read_bool(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _read_size(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SIZE:
        return Size(value)
    return _text(parse_size)(value)


def _read_server(text: str) -> Server:
    endpoint = parse_endpoint(text, port=53)
    if endpoint.host == "*" or endpoint.port == 0:
        raise ValueError(f"{text!r} cannot be asked")
    return Server(endpoint)


def _read_plain(text: str) -> str:
    if not text.isprintable():
        raise ValueError("control characters")
    return text


def _read_duration(text: str) -> Duration:
    seconds = parse_duration(text)
    if seconds <= 0:
        raise ValueError("no time at all")
    return seconds


def _read_network(text: str) -> str:
    return str(parse_network(text))


def _read_pattern(text: str) -> str:
    if text == "<>":
        return text
    star = "*." if text.startswith("*.") else ""
    return star + parse_domain(text.removeprefix(star))


def _read_address(text: str) -> str:
    return str(ipaddress.ip_address(text))


SCALARS: Final[Mapping[Any, tuple[str, Callable[[object], object]]]] = {
    str: ("text in quotes", _text(_read_plain)),
    bool: ("true or false", _read_bool),
    int: ("a whole number", _number(-(2**63), 2**63 - 1)),
    Path: ("a path", _text(_read_plain)),
    Count: ("a whole number, 1 or more", _number(1, 2**31)),
    Port: ("a port, 1 to 65535", _number(1, 65535)),
    Duration: ('a duration such as "90s", "5m", "4h" or "5d"', _text(_read_duration)),
    Pause: ('a duration such as "3s", or "0s"', _text(parse_duration)),
    Size: ('a size such as "500KB" or "25MB"', _read_size),
    Rate: ('a rate such as "100/1h"', _text(parse_rate)),
    Endpoint: (
        'an address and port such as "127.0.0.1:25", "[::1]:25" or "*:25", or "unix:/path"',
        _text(parse_endpoint),
    ),
    Server: ('an IP address, and a port where it is not 53, such as "127.0.0.1:5353"', _text(_read_server)),
    IpAddress: ('an IP address such as "192.0.2.1"', _text(_read_address)),
    Network: ('a network such as "192.0.2.0/24"', _text(_read_network)),
    DomainPattern: ('a domain such as "example.org" or "*.example.org"', _text(_read_pattern)),
    DomainName: ('a domain such as "example.org"', _text(parse_domain)),
    DomainOrAny: (
        'a domain such as "example.org", or "*"',
        _text(lambda text: text if text == "*" else parse_domain(text)),
    ),
    MailAddress: ('an address such as "alice@example.org"', _text(lambda text: parse_address(text).key)),
    Target: ('"mx", "hold", "smtp://host:587", "smtps://host", "lmtp://host:24" or "lmtp:/path"', _text(parse_target)),
    Dial: ('an address, a port, or both: "127.0.0.1:2525", "127.0.0.1" or ":2525"', _text(parse_dial)),
}
