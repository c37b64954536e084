"""Values as people write them: durations, sizes, rates, addresses with ports.

Promises: each `parse_` raises nothing but ValueError, and reads back what `format_` or `str()` of its value writes.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, NamedTuple, NewType

Duration = NewType("Duration", float)
"""Seconds; written "90s", "5m", "4h", "5d", "250ms"."""
Size = NewType("Size", int)
"""Octets; written "25MB" (KB, MB and GB count in 1024s) or as a whole number."""

_DURATION_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS: Final = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
_WRITTEN_DURATION = re.compile(r"([0-9]{1,9}) ?(ms|s|m|h|d)\Z")
_WRITTEN_SIZE = re.compile(r"([0-9]{1,15}) ?(B|KB|MB|GB)\Z")


class Endpoint(NamedTuple):
    """Where to listen or whom to ask: an IP address ("*": every address of this machine) and a port."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Only this machine can reach it."""
        return self.host != "*" and ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Dial(NamedTuple):
    """What replaces the address, the port, or both, that a peer is dialled at."""

    host: str | None
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in (self.host or "") else self.host or ""
        return f"{host}:{self.port}" if self.port else host


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in any `seconds`; written "100/1h"."""

    count: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.count}/{format_duration(self.seconds)}"


def parse_duration(text: str) -> Duration:
    """Seconds of "90s", "5m", "4h", "5d", "250ms". Raises ValueError."""
    match = _WRITTEN_DURATION.match(text)
    if not match:
        raise ValueError(f"{text!r} is no duration")
    return Duration(int(match[1]) * _DURATION_UNITS[match[2]])


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as these seconds, to the millisecond."""
    thousandths = round(seconds * 1000)
    for unit, size in reversed(_DURATION_UNITS.items()):
        whole, rest = divmod(thousandths, round(size * 1000))
        if not rest and whole:
            return f"{whole}{unit}"
    return "0s"


def parse_size(text: str) -> Size:
    """Octets of "25MB", "300KB", "2GB", "512B". Raises ValueError."""
    match = _WRITTEN_SIZE.match(text)
    if not match:
        raise ValueError(f"{text!r} is no size")
    return Size(int(match[1]) * _SIZE_UNITS[match[2]])


def format_size(octets: int) -> str:
    """The shortest text that `parse_size` reads as this many octets."""
    for unit, size in reversed(_SIZE_UNITS.items()):
        if octets % size == 0 and octets >= size:
            return f"{octets // size}{unit}"
    return "0B"


def parse_endpoint(text: str, *, port: int | None = None) -> Endpoint:
    """The endpoint that "192.0.2.1:25", "[::1]:25", "localhost:25" or "*:25" spells; `port` where none is written.

    Raises ValueError.
    """
    host, written = _split_port(text)
    if written is None and port is None:
        raise ValueError(f"{text!r} lacks a port")
    if host is None:
        raise ValueError(f"{text!r} lacks an address")
    return Endpoint(host, (port or 0) if written is None else written)


def parse_dial(text: str) -> Dial:
    """The override that "127.0.0.1:2525", "127.0.0.1" or ":2525" spells. Raises ValueError."""
    host, port = _split_port(text)
    if host == "*" or port == 0 or (host is None and port is None):
        raise ValueError(f"{text!r} cannot be dialled")
    return Dial(host, port)


def parse_rate(text: str) -> Rate:
    """The rate that "100/1h" spells. Raises ValueError."""
    count, slash, period = text.partition("/")
    if not slash or not re.fullmatch(r"[0-9]{1,9}", count) or int(count) < 1:
        raise ValueError(f"{text!r} is no rate")
    seconds = parse_duration(period)
    if seconds <= 0:
        raise ValueError(f"{text!r} is no rate")
    return Rate(int(count), seconds)


def _split_port(text: str) -> tuple[str | None, int | None]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]*))(?::([0-9]{1,5}))?", text, re.ASCII)
    if not match:
        raise ValueError(f"{text!r} is no address and port")
    host = match[1] or match[2] or None
    if host == "localhost":
        host = "127.0.0.1"
    if host is not None and host != "*":
        host = str(ipaddress.ip_address(host))
        if (":" in host) != (match[1] is not None):
            raise ValueError(f"{text!r}: brackets are for IPv6")
    port = None if match[3] is None else int(match[3])
    if port is not None and port > 65535:
        raise ValueError(f"{text!r}: no such port")
    return host, port
