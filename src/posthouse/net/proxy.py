"""The PROXY protocol, versions 1 and 2: a load balancer in front of us says, before anything else, who has connected to
it (HAProxy's specification, https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt; § below are its sections).

Promises: `read` takes any beginning of a connection and says that more is needed, what the header says and where it
ends, or BadHeader; any split of the octets gives the same answer, and whatever cannot become a header is refused at its
first wrong octet. `receive` takes the header from a socket and not one octet of what stands behind it, so that TLS may.
Refuses: to guess whether a header is there; a listener either requires it or does not know it (§2).
"""

import asyncio
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Final

from posthouse.written import Endpoint, unmapped

# §2.1: 107 octets are enough for any line with its CRLF.
_LONGEST_LINE: Final = 107
_LINE: Final = b"PROXY "
# §2.2. No line of version 1 begins so.
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = 16
# §2.2 allows 65,535 octets of addresses and extensions; with a client's certificate in them they are a few hundred.
_MOST_BEHIND: Final = 4096
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
# Family and transport: how many octets the addresses take. Only TCP tells whom we speak with.
_ADDRESSES: Final = {0x11: 12, 0x21: 36, 0x12: 12, 0x22: 36, 0x31: 216, 0x32: 216}
_TCP: Final = (0x11, 0x21)
_PORT: Final = re.compile(r"(?:0|[1-9][0-9]{0,4})\Z", re.ASCII)


class BadHeader(Exception):
    """The connection does not begin with a PROXY header; the message says why."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says: who connected (`source`) to which address of the balancer's (`destination`), and how many
    octets it takes. None, None: the balancer speaks for itself (LOCAL), or does not know; the connection's own
    addresses count.
    """

    source: Endpoint | None
    destination: Endpoint | None
    length: int


def read(octets: bytes) -> Header | None:
    """The header that these octets begin with; None: more are needed (and these belong to it). Raises BadHeader."""
    if octets.startswith(_SIGNATURE[: len(octets)]):
        return _read_binary(octets)
    if octets.startswith(_LINE[: len(octets)]):
        return _read_line(octets)
    raise BadHeader("the connection does not begin with a PROXY header")


def _read_line(octets: bytes) -> Header | None:
    """§2.1"""
    line, end, _ = octets[:_LONGEST_LINE].partition(b"\r\n")
    if b"\n" in line or b"\r" in (line if end else line[:-1]):
        raise BadHeader("the PROXY line holds a CR or LF alone")
    if not end:
        if len(octets) >= _LONGEST_LINE:
            raise BadHeader("the PROXY line has no end")
        return None
    length = len(line) + 2
    try:
        words = line.decode("ascii").split(" ")
    except UnicodeDecodeError as error:
        raise BadHeader("the PROXY line is no ASCII text") from error
    if words[1] == "UNKNOWN":
        return Header(None, None, length)
    if words[1] not in ("TCP4", "TCP6") or len(words) != 6:
        raise BadHeader("the PROXY line does not read as one")
    _, protocol, source, destination, source_port, destination_port = words
    version = 4 if protocol == "TCP4" else 6
    return Header(
        _written_endpoint(version, source, source_port),
        _written_endpoint(version, destination, destination_port),
        length,
    )


def _written_endpoint(version: int, host: str, port: str) -> Endpoint:
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise BadHeader("the PROXY line holds an address that is none") from error
    # Python takes a scope ("%eth0"); the specification does not.
    if address.version != version or "%" in host:
        raise BadHeader("the PROXY line holds an address of another family")
    if not _PORT.match(port) or int(port) > 65535:
        raise BadHeader("the PROXY line holds a port that is none")
    return Endpoint(unmapped(str(address)), int(port))


def _read_binary(octets: bytes) -> Header | None:
    """§2.2"""
    if len(octets) > 12 and octets[12] not in (_LOCAL, _PROXY):
        raise BadHeader("the PROXY header has another version or command")
    if len(octets) < _FIXED:
        return None
    behind = int.from_bytes(octets[14:16], "big")
    if behind > _MOST_BEHIND:
        raise BadHeader(f"the PROXY header is longer than {_MOST_BEHIND} octets")
    kind = octets[13]
    if octets[12] == _PROXY and (kind >> 4 > 3 or kind & 15 > 2 or behind < _ADDRESSES.get(kind, 0)):
        raise BadHeader("the PROXY header holds no addresses of its kind")
    length = _FIXED + behind
    if len(octets) < length:
        return None
    if octets[12] == _LOCAL or kind not in _TCP:
        # "The receiver is free to accept the connection anyway and use the real endpoint addresses."
        return Header(None, None, length)
    # What stands behind the addresses (§2.2: type, length, value) tells nothing that we use.
    return Header(*_packed_endpoints(octets[_FIXED : _FIXED + _ADDRESSES[kind]]), length)


def _packed_endpoints(block: bytes) -> tuple[Endpoint, Endpoint]:
    size = (len(block) - 4) // 2
    hosts = [unmapped(str(ipaddress.ip_address(block[at : at + size]))) for at in (0, size)]
    ports = [int.from_bytes(block[at : at + 2], "big") for at in (2 * size, 2 * size + 2)]
    return Endpoint(hosts[0], ports[0]), Endpoint(hosts[1], ports[1])


async def receive(connection: socket.socket) -> Header:
    """Take the header from a connection that was just accepted. Raises BadHeader, OSError.

    The socket does not block, and no transport has it yet. How long this may take is the caller's to say.
    """
    had = b""
    while True:
        await _readable(connection)
        try:
            seen = connection.recv(_FIXED + _MOST_BEHIND, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            continue
        if not seen:
            raise BadHeader("the connection ended within its PROXY header")
        header = read(had + seen)
        # What was looked at is there: so much is taken at once, and no more.
        had += connection.recv(len(seen) if header is None else header.length - len(had))
        if header is not None:
            return header


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)
