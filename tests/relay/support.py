"""Peers that answer by a script, names that resolve as a test says, and jobs to relay."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from posthouse.clock import SetClock
from posthouse.net.dns import Answer, Mx, NoRecords, NoSuchDomain, TemporaryFailure, Tlsa
from posthouse.net.tls import client_context
from posthouse.queue.attempt import Forgo, Held, LeaseLost
from posthouse.queue.outcome import Outcome, Report
from posthouse.queue.queue import Job, QueuedMail, QueuedMessage, QueuedRecipient
from posthouse.relay.connections import Opener, Pool, Timeouts, TlsPolicy
from posthouse.relay.courier import RelayCourier
from posthouse.relay.route import Router
from posthouse.relay.security import Security
from posthouse.relay.trip import Signer
from posthouse.relay.ways import Way, Ways
from posthouse.store.blobs import BlobRef, Blobs
from posthouse.store.database import Listener, StoreUnavailable, Topic
from posthouse.terms.address import parse
from posthouse.terms.envelope import NO_WISHES, Wishes
from posthouse.trust.tlsrpt import Tally
from posthouse.trust.transport import Encryption
from posthouse.written import Dial, Target

MESSAGE = b"Subject: Hello\r\n\r\nHello.\r\n.a dot\r\n"
EHLO = "250-there\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8"
DROP = "(drop)"
HANG = "(hang)"


@dataclass
class Peer:
    """An SMTP server that says what it is told to.

    `answers`: verb → replies in the order in which they are used up, the last repeats; DROP hangs up and HANG says
    nothing. "" is the greeting, "." the answer to a message. `said` is all that clients said, a list a connection.
    With `lmtp` a message is answered for each recipient that was taken. `path`: a socket in the file system.
    """

    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    said: list[list[str]] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    port: int = 0
    used: dict[str, int] = field(default_factory=dict)
    server: asyncio.Server | None = None
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    last: str = ""
    lmtp: bool = False
    implicit: bool = False
    path: Path | None = None
    taken: int = 0
    talking: int = 0

    USUAL: ClassVar[dict[str, Sequence[str]]] = {
        "": ("220 there",), "EHLO": (EHLO,), "HELO": ("250 there",), "MAIL": ("250 2.1.0 fine",),
        "RCPT": ("250 2.1.5 fine",), "DATA": ("354 go on",), ".": ("250 2.0.0 taken as 42",), "RSET": ("250 ok",),
        "QUIT": ("221 bye",), "STARTTLS": ("220 go ahead",), "LHLO": (EHLO,), "AUTH": ("235 2.7.0 welcome",),
    }  # fmt: skip

    async def __aenter__(self) -> "Peer":
        if self.path:
            self.server = await asyncio.start_unix_server(self._converse, self.path, limit=1 << 20)
            return self
        first = self.tls if self.implicit else None
        self.server = await asyncio.start_server(self._converse, "127.0.0.1", 0, limit=1 << 20, ssl=first)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self.writers:
            writer.close()
        await self.server.wait_closed()

    def _answer(self, verb: str) -> str:
        answers = self.answers.get(verb) or self.USUAL.get(verb) or ("502 5.5.1 what?",)
        index = self.used.get(verb, 0)
        self.used[verb] = index + 1
        return answers[min(index, len(answers) - 1)]

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.talking += 1
        try:
            # Couriers hang up on liars, in the middle of a word.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._talk(reader, writer)
        finally:
            self.talking -= 1
            writer.close()

    async def left(self) -> None:
        """Until all who came have hung up, and all that they sent has been heard."""
        while self.talking:
            await asyncio.sleep(0.001)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said: list[str] = []
        self.said.append(said)
        self.writers.append(writer)
        verb = ""
        while await self._answer_to(writer, verb):
            if verb == "STARTTLS" and self.tls:
                await writer.start_tls(self.tls)
            if verb == "QUIT":
                break
            if verb == "MAIL":
                self.taken = 0
            if verb == "RCPT" and self.last.startswith("2"):
                self.taken += 1
            if verb == "DATA" and self.last.startswith("354"):
                message = await self._message(reader)
                if message is None:
                    break
                self.messages.append(message)
                verb = "."
                continue
            line = await reader.readline()
            if not line:
                break
            said.append(line.decode(errors="replace").rstrip("\r\n"))
            verb = (line.split() or [b""])[0].decode(errors="replace").upper()
            if verb == "BDAT":
                self.messages.append(await reader.readexactly(int(line.split()[1])))
                verb = "."

    async def _answer_to(self, writer: asyncio.StreamWriter, verb: str) -> bool:
        times = self.taken if self.lmtp and verb == "." else 1
        return all([await self._say(writer, self._answer(verb)) for _ in range(times)])

    async def _message(self, reader: asyncio.StreamReader) -> bytes | None:
        lines = []
        while (line := await reader.readline()) != b".\r\n":
            if not line:
                return None
            lines.append(line)
        return b"".join(lines)

    async def _say(self, writer: asyncio.StreamWriter, reply: str) -> bool:
        self.last = reply
        if reply == HANG:
            await asyncio.sleep(3600)
        if reply == DROP:
            return False
        writer.write(reply.encode() + b"\r\n")
        await writer.drain()
        return True


@dataclass
class Names:
    """A Resolver out of dictionaries. A string instead of records is an error: "nxdomain" or "servfail"."""

    mx_records: dict[str, Sequence[tuple[int, str]] | str] = field(default_factory=dict)
    hosts: dict[str, Sequence[str] | str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def mx(self, domain: str) -> Answer[Mx]:
        self.asked.append(f"mx {domain}")
        found = self.mx_records.get(domain, ())
        self._check(domain, found)
        return Answer(tuple(Mx(*one) for one in found if not isinstance(one, str)), 60, False, domain)

    async def addresses(self, host: str, *, ipv6: bool = True) -> Answer[str]:
        self.asked.append(f"addresses {host}")
        found = self.hosts.get(host, ())
        self._check(host, found)
        return Answer(tuple(one for one in found if ipv6 or ":" not in one), 60, False, host)

    def _check(self, name: str, found: object) -> None:
        if found == "nxdomain":
            raise NoSuchDomain(name, "no such domain")
        if found == "servfail":
            raise TemporaryFailure(name, "servfail")
        if not found:
            raise NoRecords(name, "no records")

    async def txt(self, name: str) -> Answer[bytes]:
        raise NoRecords(name, "no records")

    async def ptr(self, address: str) -> Answer[str]:
        raise NoRecords(address, "no records")

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        raise NoRecords(name, "no records")


class NoMemory:
    """A store that knows nothing, and forgets what it is told."""

    async def read(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return None

    async def write(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return None

    def listen(self, topic: Topic, id: int = 0) -> Listener:
        raise AssertionError("nobody rings here")

    def hear(self) -> None:
        return

    async def close(self) -> None:
        return


def by_mx(mode: Encryption = "opportunistic") -> Way:
    """The way that is taken where none fits."""
    return Way("mx", (Target("mx"),), TlsPolicy(mode))


# Nobody is given up because the machine stood still. Where a peer is waited for in vain, the test says at what stage,
# and SOON: whoever does answer there is never waited for so shortly.
PATIENT = Timeouts(connect=30, greeting=30, hello=30, mail=30, rcpt=30, data=30, block=30, dot=30, quit=30, idle=3600)
SOON = 0.02


@dataclass
class Desk:
    """AtWork: what the rig notes, and the jobs that come next. `forgone` are those that will not be attempted.

    `patience`: with what is begun ahead, where it is another than the rig's.
    """

    rig: "Rig"
    jobs: list[Job] = field(default_factory=list)
    asked: list[Job] = field(default_factory=list)
    forgo: Forgo | None = None
    patience: Timeouts | None = None

    async def __call__(self, recipients: Sequence[int]) -> None:
        await self.rig.before_dot(recipients)

    def ahead(self, forgo: Forgo) -> Job | None:
        if not self.jobs:
            return None
        self.forgo = forgo
        self.rig.wait(self.patience or self.rig.timeouts)
        self.asked.append(self.jobs.pop(0))
        return self.asked[-1]


@cache
def _verifying() -> ssl.SSLContext:
    """By the machine's authorities, which take their time to be read."""
    return client_context(verify=True)


@dataclass
class Rig:
    """A courier with everything around it."""

    blobs: Blobs
    peer: Peer
    names: Names = field(default_factory=lambda: Names({}, {"there.example": ["127.0.0.1"]}))
    timeouts: Timeouts = PATIENT
    messages: int = 100
    mode: Encryption = "opportunistic"
    past_dot: list[list[int]] = field(default_factory=list)
    lease_lost: bool = False
    store_away_after: int = 1000
    held_after: int = 1000
    ways: Sequence[Way] = ()
    signer: Signer | None = None
    verifying: ssl.SSLContext | None = None
    clock: SetClock = field(default_factory=SetClock)
    security: Security | None = None

    def __post_init__(self) -> None:
        router = Router(
            self.names,
            own=frozenset({"mx.home.example"}),
            random=Random(1),
            dial=Dial(None, self.peer.port),
        )
        self.pool = Pool(self.timeouts, self.messages)
        verifying = self.verifying or _verifying()
        self.opener = Opener(
            "mx.home.example", self.timeouts, client_context(verify=False), verifying=verifying, clock=self.clock
        )
        security = self.security or Security(self.names, NoMemory(), self.clock, Tally(self.clock), None, by_dane=False)
        ways = Ways(by_mx(self.mode), self.ways, self.name_account)
        self.courier = RelayCourier(self.blobs, router, security, self.opener, self.pool, self.clock, ways, self.signer)

    def wait(self, timeouts: Timeouts) -> None:
        """What is begun from now on, on whatever connection, waits so long."""
        self.courier._opener = replace(self.opener, timeouts=timeouts)

    async def name_account(self, account: int) -> str | None:
        return "alice@home.example" if account == 7 else None

    async def before_dot(self, recipients: Sequence[int]) -> None:
        if self.lease_lost:
            raise LeaseLost
        if len(self.past_dot) >= self.store_away_after:
            raise StoreUnavailable("no room on the disk")
        if len(self.past_dot) >= self.held_after:
            raise Held
        self.past_dot.append(list(recipients))

    async def send(self, *recipients: str, **named: Any) -> Report:
        """One attempt at such a `job`."""
        return await self.courier.attempt(self.job(*recipients, **named), Desk(self))

    def job(
        self,
        *recipients: str,
        first: int = 1,
        octets: bytes = MESSAGE,
        smtputf8: bool = False,
        sender: str | None = "alice@home.example",
        prologue: bytes = b"",
        domain: str = "there.example",
        destination: str | None = None,
        wishes: Wishes = NO_WISHES,
        account: int | None = None,
        notify: frozenset[str] | None = None,
        orcpt: str | None = None,
    ) -> Job:
        """A job for these recipients, numbered from `first`, which is the number of its journey, too."""
        waiting = tuple(
            QueuedRecipient(id, parse(one), one, notify, orcpt)
            for id, one in enumerate(recipients or ("bob@there.example",), first)
        )
        mail = QueuedMail(
            journey=first, blob=first, size=len(octets), sender=parse(sender) if sender else None, queued_at=0,
            expires_at=1 << 60, account=account, wishes=replace(wishes, smtputf8=smtputf8 or wishes.smtputf8),
        )  # fmt: skip
        blob = BlobRef(first, len(octets), b"", octets, None)
        return Job(1, destination or f"domain:{domain}", QueuedMessage(first, mail), blob, waiting, prologue)


def told(report: Report) -> dict[int, tuple[str, int, str]]:
    """recipient → fate, code, what it dooms."""
    outcomes: Sequence[Outcome] = report.outcomes
    assert len({one.recipient for one in outcomes}) == len(outcomes), "one outcome a recipient"
    return {one.recipient: (one.fate.value, one.reply.code, one.dooms.value) for one in outcomes}
