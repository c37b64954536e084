"""A small authoritative DNS server, for the demo and for tests: a whole Internet of a few names on loopback.

Promises: answers A, AAAA, MX, TXT, PTR, CNAME, TLSA and NS by UDP and TCP on one port; what it does not know does not
exist (NXDOMAIN). It can be told to fail in the ways that resolvers see, one name or all of them.
Refuses: to recurse, to transfer zones, to sign. It says of an answer what it is told to say (`authentic`).
"""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from posthouse.net.server import Server, serve
from posthouse.net.stream import Stream
from posthouse.written import Endpoint

Fault = Literal["servfail", "silence", "truncated", "refused", "garbage", "bogus", "bogus without a word"]

_TYPES: Final = ("A", "AAAA", "MX", "TXT", "PTR", "CNAME", "TLSA", "NS", "SOA")


_ANY_PORT: Final = Endpoint("127.0.0.1", 0)


class BadZone(ValueError):
    """A line is no record: the message says which, and why."""


@dataclass(slots=True)
class Zone:
    """Records by name and type. Names are absolute, with or without the last dot."""

    ttl: int = 300
    records: dict[dns.name.Name, dict[dns.rdatatype.RdataType, list[dns.rdata.Rdata]]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, *, ttl: int = 300) -> "Zone":
        """Lines of "name TYPE data", such as "example.org MX 10 mx.example.org."; "#" begins a comment.

        Raises BadZone.
        """
        zone = cls(ttl)
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, _, rest = line.partition(" ")
            kind, _, data = rest.strip().partition(" ")
            try:
                zone.add(name, kind, data.strip())
            except BadZone as error:
                raise BadZone(f"line {number}: {error}") from error
        return zone

    @classmethod
    def of(cls, records: Mapping[str, Mapping[str, Sequence[str] | str]], *, ttl: int = 300) -> "Zone":
        """{"example.org": {"MX": "10 mx.example.org.", "TXT": ['"v=spf1 -all"']}}. Raises BadZone."""
        zone = cls(ttl)
        for name, kinds in records.items():
            for kind, data in kinds.items():
                for one in [data] if isinstance(data, str) else data:
                    zone.add(name, kind, one)
        return zone

    def add(self, name: str, kind: str, data: str) -> None:
        """One more record. Raises BadZone."""
        if kind.upper() not in _TYPES:
            raise BadZone(f"{kind!r} is none of {', '.join(_TYPES)}")
        try:
            owner = dns.name.from_text(name)
            rdatatype = dns.rdatatype.from_text(kind)
            rdata = dns.rdata.from_text(dns.rdataclass.IN, rdatatype, data, relativize=False)
        except (dns.exception.DNSException, ValueError) as error:
            raise BadZone(f"{name} {kind} {data}: {error}") from error
        self.records.setdefault(owner, {}).setdefault(rdatatype, []).append(rdata)

    def remove(self, name: str) -> None:
        """Forget the name with all its records."""
        self.records.pop(dns.name.from_text(name), None)

    def exists(self, name: dns.name.Name) -> bool:
        """The name has records, or there are names below it (RFC 8020)."""
        return name in self.records or any(owner.is_subdomain(name) for owner in self.records)


class Nameserver:
    """Answers for one zone, until it is stopped. `queries` holds what was asked, as ("example.org", "MX")."""

    def __init__(self, zone: Zone, *, authentic: bool = False) -> None:
        """`authentic`: claim that DNSSEC vouches for all of it."""
        self.zone = zone
        self.authentic = authentic
        self.faults: dict[str, Fault] = {}
        self.queries: list[tuple[str, str]] = []
        self.endpoint = Endpoint("127.0.0.1", 0)
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: Server | None = None

    async def start(self, endpoint: Endpoint = _ANY_PORT) -> Endpoint:
        """Listen by UDP and TCP; port 0 lets the system choose one. Returns where. Raises OSError."""
        stream_socket, datagram_socket = _bind_both(endpoint)
        self.endpoint = Endpoint(endpoint.host, stream_socket.getsockname()[1])
        self._tcp = await serve(self._converse, [stream_socket])
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=datagram_socket)
        return self.endpoint

    async def stop(self) -> None:
        """Listen no more."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            await self._tcp.stop(0.1)

    def fail(self, name: str, fault: Fault) -> None:
        """From now on answer questions for `name` in this way; "*" is every name."""
        self.faults[name.lower().removesuffix(".")] = fault

    async def _converse(self, stream: Stream) -> None:
        stream.timeout = 5
        received = b""
        while octets := await stream.read():
            received += octets
            while len(received) >= 2 and len(received) >= (end := 2 + int.from_bytes(received[:2])):
                answer = self.answer(received[2:end], by_tcp=True)
                received = received[end:]
                if answer is not None:
                    stream.write(len(answer).to_bytes(2) + answer)

    def answer(self, octets: bytes, *, by_tcp: bool = False) -> bytes | None:
        """The answer to these octets; None where none is given."""
        try:
            query = dns.message.from_wire(octets)
        except dns.exception.DNSException:
            return None
        if len(query.question) != 1:
            return None
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.queries.append((name, dns.rdatatype.to_text(question.rdtype)))
        fault = self.faults.get(name, self.faults.get("*"))
        if fault == "silence":
            return None
        if fault == "garbage":
            return octets[:2] + b"\xff" * 40
        response = dns.message.make_response(query, recursion_available=True)
        if fault is not None and self._fail(fault, query, response, by_tcp):
            return response.to_wire()
        self._fill(response, question)
        if self.authentic and query.flags & dns.flags.AD:
            response.flags |= dns.flags.AD
        return _fit(response, 65535 if by_tcp else max(query.payload, 512))

    def _fail(self, fault: Fault, query: dns.message.Message, response: dns.message.Message, by_tcp: bool) -> bool:
        """Make the response a failure; False where this question is to be answered all the same."""
        if fault == "truncated":
            if not by_tcp:
                response.flags |= dns.flags.TC
            return not by_tcp
        if fault in ("bogus", "bogus without a word") and query.flags & dns.flags.CD:
            return False
        response.set_rcode(dns.rcode.REFUSED if fault == "refused" else dns.rcode.SERVFAIL)
        if fault == "bogus":
            response.use_edns(options=[dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS)])
        return True

    def _fill(self, response: dns.message.Message, question: dns.rrset.RRset) -> None:
        response.flags |= dns.flags.AA
        name = question.name
        # A chain of aliases may be circular: each name is visited once.
        visited: set[dns.name.Name] = set()
        while name not in visited:
            visited.add(name)
            kinds = self.zone.records.get(name, {})
            found = kinds.get(question.rdtype)
            if found:
                response.answer.append(dns.rrset.from_rdata_list(name, self.zone.ttl, found))
                return
            aliases = kinds.get(dns.rdatatype.CNAME)
            if not aliases:
                break
            response.answer.append(dns.rrset.from_rdata_list(name, self.zone.ttl, aliases))
            name = dns.name.from_text(aliases[0].to_text())
        if not self.zone.exists(name):
            response.set_rcode(dns.rcode.NXDOMAIN)
        # RFC 2308 §2: an absence comes with the zone's SOA, which says for how long it holds.
        soa = f"ns.invalid. hostmaster.invalid. 1 3600 600 86400 {self.zone.ttl}"
        rdata = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.SOA, soa)
        response.authority.append(dns.rrset.from_rdata_list(dns.name.root, self.zone.ttl, [rdata]))


def _fit(response: dns.message.Message, size: int) -> bytes:
    try:
        return response.to_wire(max_size=size)
    except dns.exception.TooBig:
        response.flags |= dns.flags.TC
        response.answer.clear()
        response.authority.clear()
        return response.to_wire()


def _bind_both(endpoint: Endpoint) -> tuple[socket.socket, socket.socket]:
    """A stream and a datagram socket on one port. Raises OSError."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    for attempt in range(20):
        stream_socket = socket.socket(family, socket.SOCK_STREAM)
        datagram_socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            stream_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stream_socket.bind(tuple(endpoint))
            datagram_socket.bind((endpoint.host, stream_socket.getsockname()[1]))
        except OSError:
            stream_socket.close()
            datagram_socket.close()
            # The system chose a port that is free for one of the two only: let it choose another.
            if endpoint.port != 0 or attempt == 19:
                raise
            continue
        stream_socket.setblocking(False)
        datagram_socket.setblocking(False)
        return stream_socket, datagram_socket
    raise AssertionError("the last attempt raises or returns")


class _Datagrams(asyncio.DatagramProtocol):
    """Questions by UDP."""

    def __init__(self, server: Nameserver) -> None:
        self._server = server
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.answer(data)
        if answer is not None:
            self._transport.sendto(answer, addr)
