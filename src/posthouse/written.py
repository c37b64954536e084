"""Values as people write them: durations, sizes, rates, addresses with ports.

Promises: each `parse_` raises nothing but ValueError, and reads back what `format_` or `str()` of its value writes.
"""

import ipaddress
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, NewType

Duration = NewType("Duration", float)
"""Seconds; written "90s", "5m", "4h", "5d", "250ms"."""
Size = NewType("Size", int)
"""Octets; written "25MB" (KB, MB and GB count in 1024s) or as a whole number."""

_DURATION_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS: Final = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
# What lies this far ahead or back is still a date.
_LONGEST_DURATION: Final = 36_525 * 86400.0
LARGEST_SIZE: Final = 2**63 - 1
_WRITTEN_DURATION = re.compile(r"([0-9]{1,9}) ?(ms|s|m|h|d)\Z")
_WRITTEN_SIZE = re.compile(r"([0-9]{1,15}) ?(B|KB|MB|GB)\Z")


class Endpoint(NamedTuple):
    """Where to listen or whom to ask: an IP address ("*": every address of this machine) and a port.

    Or a Unix socket: `host` is its path then, which begins with "/", and the port is 0.
    """

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Only this machine can reach it."""
        return self.is_path or (self.host != "*" and ipaddress.ip_address(self.host).is_loopback)

    @property
    def is_path(self) -> bool:
        """It is a Unix socket."""
        return self.host.startswith("/")

    def __str__(self) -> str:
        if self.is_path:
            return f"unix:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def unmapped(host: str) -> str:
    """The IPv4 address that an IPv6 one stands for ("::ffff:192.0.2.1", RFC 4291 §2.5.5.2); all others as they are."""
    if not host.startswith("::ffff:"):
        return host
    address = ipaddress.IPv6Address(host).ipv4_mapped
    return host if address is None else str(address)


def parse_network(text: str, *, strict: bool = True) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The network that "192.0.2.0/24", "2001:db8::/32" or a single address spells; IPv4 where it is mapped into IPv6.

    Raises ValueError; where `strict`, also where the address has bits beyond the length.
    """
    network = ipaddress.ip_network(text, strict)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        address = network.network_address.ipv4_mapped
        if address is not None:
            return ipaddress.IPv4Network((address, network.prefixlen - 96))
    return network


class Dial(NamedTuple):
    """What replaces the address, the port, or both, that a peer is dialled at."""

    host: str | None
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in (self.host or "") else self.host or ""
        return f"{host}:{self.port}" if self.port else host


@dataclass(frozen=True, slots=True)
class Target:
    """Where a route leads: "mx" (whoever DNS names), "hold" (nowhere), or one host.

    A host is reached as `host` (a name, or an address), at `port`, or at the socket `path`. `implicit`: TLS from the
    first octet.
    """

    kind: Literal["mx", "hold", "smtp", "lmtp"]
    host: str = ""
    port: int = 0
    implicit: bool = False
    path: Path | None = None

    def __str__(self) -> str:
        if self.kind in ("mx", "hold"):
            return self.kind
        if self.path is not None:
            return f"lmtp:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}{'s' if self.implicit else ''}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in any `seconds`; written "100/1h"."""

    count: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.count}/{format_duration(self.seconds)}"


def parse_duration(text: str) -> Duration:
    """Seconds of "90s", "5m", "4h", "5d", "250ms"; a hundred years at most. Raises ValueError."""
    match = _WRITTEN_DURATION.match(text)
    seconds = int(match[1]) * _DURATION_UNITS[match[2]] if match else math.inf
    if seconds > _LONGEST_DURATION:
        raise ValueError(f"{text!r} is no duration")
    return Duration(seconds)


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as these seconds, to the millisecond."""
    thousandths = round(seconds * 1000)
    for unit, size in reversed(_DURATION_UNITS.items()):
        whole, rest = divmod(thousandths, round(size * 1000))
        if not rest and whole:
            return f"{whole}{unit}"
    return "0s"


def parse_size(text: str) -> Size:
    """Octets of "25MB", "300KB", "2GB", "512B"; at most what the store can hold, 8 EB. Raises ValueError."""
    match = _WRITTEN_SIZE.match(text)
    octets = int(match[1]) * _SIZE_UNITS[match[2]] if match else LARGEST_SIZE + 1
    if octets > LARGEST_SIZE:
        raise ValueError(f"{text!r} is no size")
    return Size(octets)


def format_size(octets: int) -> str:
    """The shortest text that `parse_size` reads as this many octets."""
    for unit, size in reversed(_SIZE_UNITS.items()):
        if octets % size == 0 and octets >= size:
            return f"{octets // size}{unit}"
    return "0B"


def rough_size(octets: int) -> str:
    """Octets as people say them, to a tenth: "512 B", "1.4 KB", "3.0 MB"."""
    for unit, size in reversed(_SIZE_UNITS.items()):
        if size > 1 and octets >= size:
            return f"{octets / size:.1f} {unit}"
    return f"{octets} B"


def parse_endpoint(text: str, *, port: int | None = None) -> Endpoint:
    """The endpoint that "192.0.2.1:25", "[::1]:25", "localhost:25" or "*:25" spells; `port` where none is written.

    And "unix:/path", where there is no `port`. Raises ValueError.
    """
    if text.startswith("unix:/") and port is None and text.isprintable():
        return Endpoint(text.removeprefix("unix:"), 0)
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


_TARGET: Final = re.compile(
    r"(smtp|smtps|lmtp)://(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?))(?::([0-9]{1,5}))?"
)
# RFC 5321 §4.5.4.2, RFC 8314 §3.3; LMTP has no port of its own (RFC 2033 §6), 24 is "any private mail system".
_TARGET_PORTS: Final = {"smtp": 25, "smtps": 465, "lmtp": 24}


def parse_target(text: str) -> Target:
    """What "mx", "hold", "smtp://host:587", "smtps://host", "lmtp://127.0.0.1:24" or "lmtp:/run/lmtp" spells.

    Raises ValueError.
    """
    if text in ("mx", "hold"):
        return Target("mx" if text == "mx" else "hold")
    if text.startswith("lmtp:/") and not text.startswith("lmtp://"):
        return Target("lmtp", path=Path(text.removeprefix("lmtp:")))
    match = _TARGET.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} leads nowhere")
    scheme, literal, name, written = match.groups()
    port = _TARGET_PORTS[scheme] if written is None else int(written)
    host = str(ipaddress.IPv6Address(literal)) if literal else name.lower()
    if not 0 < port < 65536 or ".." in host:
        raise ValueError(f"{text!r}: no such host or port")
    return Target("lmtp" if scheme == "lmtp" else "smtp", host, port, scheme == "smtps")


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
