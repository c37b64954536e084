"""DNS, asked of a resolver: the records that mail needs, cached, with DNSSEC's verdict where it can be believed.

Promises: an answer is a frozen value; whatever a server or somebody on the way sends, nothing is raised but the four
errors below. Every question leaves from a port and with an id of its own (RFC 5452 §9). Equal questions that are under
way share one. The cache is bounded in octets and keeps negative answers too (RFC 2308).
The AD bit is believed from a resolver on loopback or one that is marked trusted, else `authentic` is False.
Refuses: to resolve by itself (it is a stub), to validate signatures, and to interpret: null MX and implicit MX are the
caller's.
"""

import asyncio
import ipaddress
import secrets
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from posthouse.clock import Clock
from posthouse.net.answer import (
    AAAA,
    MX,
    NXDOMAIN,
    PTR,
    SERVFAIL,
    SUCCESS,
    TLSA,
    TXT,
    A,
    Malformed,
    Message,
    TooManyAliases,
    read,
)
from posthouse.net.answer import Mx as Mx
from posthouse.net.answer import Tlsa as Tlsa
from posthouse.net.stream import DialError, Stream, connect
from posthouse.written import Endpoint

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Record = str | bytes | Mx | Tlsa

# RFC 9715 §3: no answer of this size is fragmented on the way.
_PAYLOAD: Final = 1232
# RFC 8767 §4 and common practice: nothing is believed for longer than a day; RFC 2308 §5: absence for three hours.
_LONGEST_TTL: Final = 86_400
_LONGEST_ABSENCE: Final = 3 * 3600
# RFC 9520 §3.2: failures are cached too, from one second to five minutes.
_FAILURE_TTL: Final = 5
_CACHE_OCTETS: Final = 16 * 1024 * 1024
_MOST_AT_ONCE: Final = 400
# RFC 8914 §4: DNSSEC bogus, signature expired, not yet valid, DNSKEY or RRSIGs missing, no zone key bit, NSEC missing.
_BOGUS_CODES: Final = frozenset((6, 7, 8, 9, 10, 11, 12))


class DnsError(Exception):
    """No records: `question` is what was asked, such as "MX of example.org"."""

    def __init__(self, question: str, text: str) -> None:
        super().__init__(f"{question}: {text}")
        self.question = question
        self.text = text


class NoSuchDomain(DnsError):
    """The name does not exist, nor any below it (NXDOMAIN)."""


class NoRecords(DnsError):
    """The name exists, without records of this type."""


class TemporaryFailure(DnsError):
    """There is no answer now: ask again later."""


class ServerFailure(TemporaryFailure):
    """The resolver itself could not find out (SERVFAIL), or only what leads nowhere: a circle of aliases."""


class Bogus(TemporaryFailure):
    """There is an answer, and DNSSEC says that it was forged or is broken: it must not be used, and may be mended."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[R_co]):
    """Records, at least one; `ttl` in seconds when they were fetched; `authentic`: DNSSEC vouches for them.

    `name` is where they were found, after aliases (CNAME), in lower case without the last dot.
    """

    records: tuple[R_co, ...]
    ttl: int
    authentic: bool
    name: str


class Resolver(Protocol):
    """Whom a room asks. Each method raises NoSuchDomain, NoRecords, TemporaryFailure or Bogus."""

    async def mx(self, domain: str) -> Answer[Mx]:
        """Mail exchangers, by preference; a null MX (RFC 7505) is the one record with host ""."""
        ...

    async def addresses(self, host: str, *, ipv6: bool = True) -> Answer[str]:
        """Addresses, IPv4 before IPv6; without `ipv6` only the former."""
        ...

    async def txt(self, name: str) -> Answer[bytes]:
        """Texts, the strings of each put together without anything between."""
        ...

    async def ptr(self, address: str) -> Answer[str]:
        """Names of an IP address."""
        ...

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        """TLSA records (RFC 6698) of a name such as "_25._tcp.mx.example.org"."""
        ...


def believed(server: Endpoint, trusted: bool | None) -> bool:
    """Is this server's word that DNSSEC vouches for an answer taken? None: on loopback, where nobody can forge it."""
    return server.loopback if trusted is None else trusted


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a question came to: an answer, or which error with what text; how long that holds, and what it weighs."""

    answer: Answer[Record] | None
    failure: type[DnsError]
    text: str
    ttl: int
    weight: int


class StubResolver:
    """Asks the resolvers of this machine. Implements Resolver."""

    def __init__(
        self,
        servers: Sequence[Endpoint],
        clock: Clock,
        *,
        trusted: bool | None = None,
        timeout: float = 3.0,
        attempts: int = 3,
        cache_octets: int = _CACHE_OCTETS,
    ) -> None:
        """`trusted` None: the AD bit of servers on loopback is believed. `timeout` seconds for one server's answer,
        `attempts` rounds through all of them."""
        self._servers = tuple(servers)
        self._clock = clock
        self._trusted = trusted
        self._timeout = timeout
        self._attempts = attempts
        self._cache = _Cache(clock, cache_octets)
        self._asking: dict[tuple[str, int], asyncio.Task[_Outcome]] = {}
        self._places = asyncio.Semaphore(_MOST_AT_ONCE)

    async def mx(self, domain: str) -> Answer[Mx]:
        """Mail exchangers, by preference (RFC 5321 §5.1)."""
        answer = await self._ask(domain, MX, Mx)
        return Answer(tuple(sorted(answer.records)), answer.ttl, answer.authentic, answer.name)

    async def addresses(self, host: str, *, ipv6: bool = True) -> Answer[str]:
        """Addresses, IPv4 before IPv6. One family's failure is raised only where the other gives no address."""
        if not ipv6:
            return await self._ask(host, A, str)
        both = await asyncio.gather(self._ask(host, A, str), self._ask(host, AAAA, str), return_exceptions=True)
        found = [one for one in both if isinstance(one, Answer)]
        if not found:
            # A failure beats an absence: the family that failed may have addresses.
            raise next((one for one in both if isinstance(one, TemporaryFailure)), _raisable(both))
        return Answer(
            tuple(address for answer in found for address in answer.records),
            min(answer.ttl for answer in found),
            all(answer.authentic for answer in found),
            found[0].name,
        )

    async def txt(self, name: str) -> Answer[bytes]:
        """Texts, the strings of each put together (RFC 7208 §3.3)."""
        return await self._ask(name, TXT, bytes)

    async def ptr(self, address: str) -> Answer[str]:
        """Names of an IP address (RFC 1035 §3.5, RFC 3596 §2.5)."""
        return await self._ask(ipaddress.ip_address(address).reverse_pointer, PTR, str)

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        """TLSA records (RFC 6698)."""
        return await self._ask(name, TLSA, Tlsa)

    # --- one question

    async def _ask(self, name: str, kind: int, wanted: type[R]) -> Answer[R]:
        name = name.lower().removesuffix(".")
        key = (name, kind)
        outcome = self._cache.get(key)
        if outcome is None:
            task = self._asking.get(key)
            if task is None:
                task = self._asking[key] = asyncio.create_task(self._find_out(name, kind))
                task.add_done_callback(lambda _: self._asking.pop(key, None))
            # Whoever is cancelled leaves; the others still wait for the answer.
            outcome = await asyncio.shield(task)
        if outcome.answer is None:
            raise outcome.failure(f"{_NAMES[kind]} of {name}", outcome.text)
        answer = outcome.answer
        records = tuple(record for record in answer.records if isinstance(record, wanted))
        return Answer(records, answer.ttl, answer.authentic, answer.name)

    async def _find_out(self, name: str, kind: int) -> _Outcome:
        """Ask the servers until one knows, and remember it."""
        encoded = _encode_name(name)
        if encoded is None:
            return _Outcome(None, NoSuchDomain, "this cannot be a name in DNS", 0, 0)
        async with self._places:
            outcome = await self._ask_servers(encoded, kind)
            if outcome.failure is ServerFailure:
                # RFC 4035 §4.9.2: with checking disabled the resolver hands out what it holds for forged.
                unchecked = await self._ask_servers(encoded, kind, checking_disabled=True)
                if not issubclass(unchecked.failure, TemporaryFailure):
                    outcome = _Outcome(None, Bogus, "DNSSEC does not vouch for the answer", _FAILURE_TTL, 100)
        self._cache.put((name, kind), outcome)
        return outcome

    async def _ask_servers(self, encoded: bytes, kind: int, *, checking_disabled: bool = False) -> _Outcome:
        failure: type[DnsError] = TemporaryFailure
        text = "no resolver is configured"
        for _ in range(1 if checking_disabled else self._attempts):
            for server in self._servers:
                try:
                    message, size = await self._exchange(server, encoded, kind, checking_disabled)
                except _NoAnswer as error:
                    text = str(error)
                    continue
                outcome = self._judge(server, message, kind, size)
                if outcome.failure not in (TemporaryFailure, ServerFailure):
                    return outcome
                failure, text = outcome.failure, outcome.text
            if failure is ServerFailure:
                # It has tried for long already; asking again at once only adds to its load (RFC 9520 §3.1).
                break
        return _Outcome(None, failure, text, _FAILURE_TTL, 100)

    def _judge(self, server: Endpoint, message: Message, kind: int, size: int) -> _Outcome:
        """What this reply comes to."""
        if message.code == NXDOMAIN:
            return _Outcome(None, NoSuchDomain, "no such domain", min(message.negative_ttl, _LONGEST_ABSENCE), 100)
        if message.code == SERVFAIL:
            if message.extended_codes & _BOGUS_CODES:
                return _Outcome(None, Bogus, "DNSSEC does not vouch for the answer", _FAILURE_TTL, 100)
            return _Outcome(None, ServerFailure, "the resolver could not find out (SERVFAIL)", 0, 0)
        if message.code != SUCCESS:
            return _Outcome(None, TemporaryFailure, f"{server} answered with code {message.code}", 0, 0)
        try:
            name, records, ttl = message.follow(kind)
        except TooManyAliases:
            # RFC 1034 §3.6.2: a loop is an error to be signalled. It says nothing of what there is, and may be mended.
            return _Outcome(None, ServerFailure, "aliases (CNAME) that lead in a circle or too far", 0, 0)
        if not records:
            text = f"no {_NAMES[kind]} records"
            return _Outcome(None, NoRecords, text, min(message.negative_ttl, _LONGEST_ABSENCE), 100)
        ttl = min(ttl, _LONGEST_TTL)
        authentic = message.authentic and believed(server, self._trusted)
        weight = 200 + 3 * size + sum(map(_weight, records))
        return _Outcome(Answer(records, ttl, authentic, name), NoRecords, "", ttl, weight)

    async def _exchange(
        self, server: Endpoint, encoded: bytes, kind: int, checking_disabled: bool
    ) -> tuple[Message, int]:
        """The reply of one server, and its size. Raises _NoAnswer."""
        id = secrets.randbits(16)
        query = _encode_query(id, encoded, kind, checking_disabled)

        def fits(octets: bytes) -> Message | None:
            try:
                return read(octets, id, encoded, kind)
            except Malformed:
                # Whoever sent this, it is no answer to what we asked: the true one may still come.
                return None

        try:
            async with asyncio.timeout(self._timeout):
                message, size = await _ask_by_udp(server, query, fits)
                if message.truncated:
                    message, size = await _ask_by_tcp(server, query, fits, self._timeout)
                return message, size
        except (TimeoutError, DialError) as error:
            raise _NoAnswer(f"no answer from {server}") from error
        except OSError as error:
            raise _NoAnswer(f"{server}: {(error.strerror or str(error)).lower()}") from error


def _weight(record: Record) -> int:
    """What a record takes in memory, roughly. Names of 250 octets may have taken two in the answer."""
    text = record.host if isinstance(record, Mx) else record.data if isinstance(record, Tlsa) else record
    return 100 + len(text)


_NAMES: Final = {A: "A", AAAA: "AAAA", MX: "MX", TXT: "TXT", PTR: "PTR", TLSA: "TLSA"}


def _raisable(both: "tuple[Answer[str] | BaseException, ...]") -> BaseException:
    """Of two absences the lesser: a name without addresses of one family does exist."""
    errors = [one for one in both if isinstance(one, BaseException)]
    return next((one for one in errors if not isinstance(one, NoSuchDomain)), errors[0])


class _NoAnswer(Exception):
    """This server did not answer."""


class _Cache:
    """Outcomes for as long as they hold, the oldest leaving when there is no room."""

    def __init__(self, clock: Clock, octets: int) -> None:
        self._clock = clock
        self._room = octets
        self._entries: dict[tuple[str, int], tuple[float, _Outcome]] = {}

    def get(self, key: tuple[str, int]) -> _Outcome | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock.monotonic():
            self._drop(key)
            return None
        return entry[1]

    def put(self, key: tuple[str, int], outcome: _Outcome) -> None:
        if outcome.ttl <= 0:
            return
        self._drop(key)
        self._entries[key] = (self._clock.monotonic() + outcome.ttl, outcome)
        self._room -= outcome.weight + len(key[0])
        while self._room < 0:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: tuple[str, int]) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._room += entry[1].weight + len(key[0])


# --- octets out and in ------------------------------------------------------------------------------------------------


def _encode_name(name: str) -> bytes | None:
    """A name as a question carries it (RFC 1035 §3.1); None where DNS has no such name."""
    if not name.isascii():
        return None
    encoded = bytearray()
    for label in name.encode("ascii").split(b".") if name else ():
        if not 0 < len(label) <= 63:
            return None
        encoded.append(len(label))
        encoded += label
    encoded.append(0)
    return bytes(encoded) if len(encoded) <= 255 else None


def _encode_query(id: int, encoded: bytes, kind: int, checking_disabled: bool) -> bytes:
    """Recursion desired; AD asks for DNSSEC's verdict (RFC 6840 §5.7); EDNS says how much we take (RFC 6891 §6.1)."""
    flags = 0x0120 | (0x0010 if checking_disabled else 0)
    header = struct.pack("!6H", id, flags, 1, 0, 0, 1)
    return header + encoded + struct.pack("!HH", kind, 1) + b"\0" + struct.pack("!HHIH", 41, _PAYLOAD, 0, 0)


Fits = Callable[[bytes], Message | None]


async def _ask_by_udp(server: Endpoint, query: bytes, fits: Fits) -> tuple[Message, int]:
    """The first datagram of this server that fits the question. Raises OSError; waits for ever otherwise."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[tuple[Message, int]] = loop.create_future()
    asking = socket.socket(socket.AF_INET6 if ":" in server.host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        asking.setblocking(False)
        # Connected: the kernel picks a random port, and takes datagrams from nobody else.
        asking.connect(tuple(server))

        def arrived() -> None:
            try:
                octets = asking.recv(65535)
            except BlockingIOError:
                return
            except OSError as error:
                if not answered.done():
                    answered.set_exception(error)
                return
            message = fits(octets)
            if message is not None and not answered.done():
                answered.set_result((message, len(octets)))

        loop.add_reader(asking.fileno(), arrived)
        asking.send(query)
        return await answered
    finally:
        loop.remove_reader(asking.fileno())
        asking.close()


async def _ask_by_tcp(server: Endpoint, query: bytes, fits: Fits, seconds: float) -> tuple[Message, int]:
    """The same question where the answer did not fit a datagram (RFC 7766). Raises OSError, DialError, TimeoutError."""
    stream = await connect(server, seconds=seconds)
    try:
        stream.timeout = seconds
        stream.write(struct.pack("!H", len(query)) + query)
        octets = await _read_framed(stream)
        message = fits(octets)
        if message is None or message.truncated:
            raise OSError("the answer by TCP does not fit the question")
        return message, len(octets)
    finally:
        stream.abort()


async def _read_framed(stream: Stream) -> bytes:
    octets = b""
    while len(octets) < 2 or len(octets) < 2 + int.from_bytes(octets[:2]):
        received = await stream.read()
        if not received:
            raise OSError("the connection ended within the answer")
        octets += received
    return octets[2 : 2 + int.from_bytes(octets[:2])]


def system_servers(path: Path = Path("/etc/resolv.conf")) -> tuple[Endpoint, ...]:
    """The resolvers that this machine uses; 127.0.0.1 where the file names none (resolv.conf(5))."""
    servers = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                servers.append(Endpoint(str(ipaddress.ip_address(words[1])), 53))
            except ValueError:
                continue
    return tuple(servers) or (Endpoint("127.0.0.1", 53),)
