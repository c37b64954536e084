"""Connections to hops: opening one to where mail may be offered, speaking on it, and keeping it for the next message.

Promises: a connection that is handed out has been greeted and has said what it offers; one that is kept serves only a
hop with the same name and port and an equal TLS policy, for so many messages and so many idle seconds. Waiting is
bounded by RFC 5321 §4.5.3.2's times. Whatever breaks comes out as HopFailed, with the stage and the words.
Refuses: to know about recipients and routes.
"""

import asyncio
import os
import ssl
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from posthouse.clock import Clock
from posthouse.net import dial, stream
from posthouse.net.stream import ConnectionLost, DialError, Stream, StreamTimeout
from posthouse.net.tls import TlsFailed
from posthouse.queue.outcome import Stage
from posthouse.terms.reply import Reply
from posthouse.trust import dane
from posthouse.trust.tlsrpt import Failure
from posthouse.trust.transport import OPPORTUNISTIC
from posthouse.trust.transport import TlsPolicy as TlsPolicy
from posthouse.wire.sasl import mechanisms
from posthouse.wire.sasl.exchange import ClientExchange
from posthouse.wire.sasl.strings import SaslError
from posthouse.wire.smtp.client import Answered, Event, Lost, SmtpClient
from posthouse.written import Endpoint

Place = Endpoint | Path
"""Where a hop is reached: at an address, or a socket in the file system."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that a peer may take (RFC 5321 §4.5.3.2); it names none for the connect. `idle`: how long we keep one."""

    connect: float = 30
    greeting: float = 300
    hello: float = 300
    mail: float = 300
    rcpt: float = 300
    data: float = 120
    block: float = 180
    dot: float = 600
    quit: float = 5
    idle: float = 10


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are to a hop that asks."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Hop:
    """A host to speak to: its name as the route gave it, the port, and how. `implicit`: TLS from the first octet.

    `source`: addresses of ours to come from, one a family.
    """

    name: str
    port: int
    policy: TlsPolicy = OPPORTUNISTIC
    lmtp: bool = False
    implicit: bool = False
    login: Login | None = None
    source: tuple[str, ...] = ()


class HopFailed(Exception):
    """The conversation with a hop broke at `stage`; `said` tells whether `reply` is the peer's own.

    `place`: where, if it was not reached.
    """

    def __init__(self, stage: Stage, reply: Reply, *, said: bool, place: Place | None = None) -> None:
        super().__init__(f"{stage.value}: {reply}")
        self.stage = stage
        self.reply = reply
        self.said = said
        self.place = place
        self.behind = False
        """What was said behind the end of a message may be why: the same may be borne in a conversation of its own."""
        self.failure: Failure = "validation-failure"
        """Where TLS broke: what a report calls it (RFC 8460 §4.3)."""

    def called(self, failure: Failure) -> "HopFailed":
        """The same, with a name for reports."""
        self.failure = failure
        return self


class Connection:
    """One conversation with a hop. `messages` counts those offered on it; `kept`: it has waited in the pool, the last
    time since `idle_since`, by the loop's clock.

    `verified`: the peer has shown who it is. `followed`: it has borne an envelope behind the end of a message.
    """

    def __init__(self, hop: Hop, address: Place, transport: Stream) -> None:
        self.hop = hop
        self.address = address
        self.messages = 0
        self.kept = False
        self.verified = False
        self.followed = False
        self.client = SmtpClient(lmtp=hop.lmtp)
        self.idle_since = 0.0
        # As journeys call it: each message's tells.
        self.shown_address = str(address)
        self._stream = transport
        self._loop = asyncio.get_running_loop()

    @property
    def tls(self) -> str | None:
        """Version and cipher, where the connection is encrypted."""
        agreed = self._stream.tls
        return None if agreed is None else f"{agreed.version} {agreed.cipher}"

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The certificates that the peer showed (DER), its own first."""
        return self._stream.chain

    @property
    def private(self) -> bool:
        """Nobody else hears what is said: TLS, or this machine's own."""
        return self._stream.tls is not None or isinstance(self.address, Path) or self.address.loopback

    @property
    def spent(self) -> bool:
        """The peer takes no more transactions on this connection (RFC 9422 §4)."""
        most = self.client.limits.get("MAILMAX")
        return most is not None and self.messages >= most

    async def next_event(self, seconds: float) -> Event:
        """What the peer answers next, whole within `seconds`, however its octets are strewn; else, or on loss, Lost."""
        until: float | None = None
        while (event := self.client.next_event()) is None:
            self.flush()
            if until is None:
                until, self._stream.timeout = self._loop.time() + seconds, seconds
            else:
                self._stream.timeout = max(until - self._loop.time(), 0.001)
            try:
                octets = await self._stream.read()
            except StreamTimeout:
                return Lost(f"no reply within {seconds:g} seconds", silent=True)
            except ConnectionLost as error:
                return Lost(str(error))
            self.client.receive(octets)
        self.flush()
        return event

    async def interrupted(self) -> Lost | None:
        """As the engine's, of all that has arrived by now."""
        if self._stream.waiting:
            self.client.receive(await self._stream.read())
        return self.client.interrupted()

    async def expect(self, stage: Stage, seconds: float) -> Answered:
        """The answer to the one command under way. Raises HopFailed where there is none, and on 421."""
        event = await self.next_event(seconds)
        if isinstance(event, Lost):
            raise lost(stage, event)
        return event

    def flush(self) -> None:
        """Send what the engine wants sent."""
        octets = self.client.outgoing()
        if octets:
            self._stream.write(octets)

    async def send(self, octets: bytes, seconds: float, behind: bytes = b"") -> None:
        """Send part of a message at the peer's speed, behind what the engine wants sent; `behind` leaves in the same
        packet. Raises HopFailed.
        """
        self.flush()
        self._stream.timeout = seconds
        # One write: each is a packet of its own, and wakes the peer.
        self._stream.write((octets, behind) if behind else octets)
        if self._stream.blocked:
            try:
                await self._stream.drain()
            except (StreamTimeout, ConnectionLost) as error:
                raise lost(Stage.DATA, Lost(str(error))) from error

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """The handshake behind a STARTTLS that was answered 220, or before the greeting. Raises TlsFailed."""
        await self._stream.start_tls(context, server_hostname=name)
        if not self.hop.implicit:
            self.client.secured()

    async def authenticate(self, exchange: ClientExchange, seconds: float) -> Answered:
        """Log in, within `seconds` of waiting and computing; the last answer. A hop may ask for a computation that
        takes long: it runs in a thread.

        Raises HopFailed.
        """
        self.client.authenticate(exchange)
        until = self._loop.time() + seconds
        while (event := await asyncio.to_thread(self.client.next_event)) is None:
            self.flush()
            self._stream.timeout = max(until - self._loop.time(), 0.001)
            try:
                self.client.receive(await self._stream.read())
            except (StreamTimeout, ConnectionLost) as error:
                raise lost(Stage.AUTH, Lost(str(error))) from error
        if isinstance(event, Lost):
            raise lost(Stage.AUTH, event)
        return event

    @property
    def reusable(self) -> bool:
        """True where another message may be offered: nothing is open, nothing came unasked, nobody hung up."""
        quiet = not (self._stream.ended or self._stream.gone or self._stream.waiting)
        return quiet and self.client.idle and self.client.next_event() is None

    async def quit(self, seconds: float) -> None:
        """Say goodbye and end it (RFC 5321 §4.1.1.10: wait for the answer, but not for long)."""
        if self.reusable and not self.client.ready_for_content:
            self.client.quit()
            await self.next_event(seconds)
        await self._stream.close(seconds)

    def abort(self) -> None:
        """End it at once."""
        self._stream.abort()

    def rest(self) -> None:
        """Nobody uses it from now on."""
        self.idle_since = self._loop.time()


def not_reached(error: DialError, place: Place | None = None) -> HopFailed:
    """What a connection that did not come about is."""
    # RFC 3463 §3.5: 4.4.1 no answer from host.
    return HopFailed(Stage.CONNECT, Reply(421, "4.4.1", f"No connection: {error}"), said=False, place=place)


def lost(stage: Stage, event: Lost) -> HopFailed:
    """What the end of a conversation at this stage is: the peer's last word, or ours for its silence."""
    if event.reply is not None:
        return HopFailed(stage, event.reply, said=True)
    return HopFailed(stage, Reply(421, "4.4.2", f"Conversation broke off: {event.why}"), said=False)


# --- opening ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opener:
    """How connections are made: our name in EHLO, times, source addresses, and the TLS context for strangers."""

    hostname: str
    timeouts: Timeouts
    context: ssl.SSLContext
    verifying: ssl.SSLContext
    clock: Clock
    source: tuple[str, ...] = ()

    async def open(self, hop: Hop, address: Place, policy: TlsPolicy | None = None) -> Connection:
        """Connect to this address, and `begin` there. Raises HopFailed."""
        try:
            transport = await self._connect(hop, address)
        except DialError as error:
            raise not_reached(error) from error
        return await self.begin(hop, address, transport, policy)

    async def reach(self, hop: Hop, places: Sequence[Place]) -> tuple[Place | None, Stream | None, list[HopFailed]]:
        """Connect to the first of these (at least one) that answers (RFC 8305 §5): where, and how others failed."""
        if len(places) == 1 or not all(isinstance(place, Endpoint) for place in places):
            return await self._reach_one(hop, places[0])
        ended = await dial.race(
            [place for place in places if isinstance(place, Endpoint)], lambda place: self._connect(hop, place)
        )
        return ended.address, ended.stream, [not_reached(error, address) for address, error in ended.failed]

    async def _reach_one(self, hop: Hop, place: Place) -> tuple[Place | None, Stream | None, list[HopFailed]]:
        try:
            return place, await self._connect(hop, place), []
        except DialError as error:
            return None, None, [not_reached(error, place)]

    async def _connect(self, hop: Hop, place: Place) -> Stream:
        if isinstance(place, Path):
            return await dial.connect_unix(place, seconds=self.timeouts.connect)
        return await stream.connect(place, seconds=self.timeouts.connect, source=self._source(hop, place))

    async def begin(self, hop: Hop, address: Place, transport: Stream, policy: TlsPolicy | None = None) -> Connection:
        """A connection on which mail may be offered, protected as the hop's policy says, or this one in its place.

        Raises HopFailed; with stage TLS where protection did not come about, after which `policy.weaker` may be tried.
        """
        policy = policy or hop.policy
        connection = Connection(hop, address, transport)
        try:
            if hop.implicit:
                await self._shake_hands(connection, policy)
            await self._greet(connection)
            if policy.mode != "off" and not hop.implicit:
                await self._secure(connection, policy)
            if hop.login is not None:
                await self._log_in(connection, hop.login)
        except BaseException:
            connection.abort()
            raise
        return connection

    def _source(self, hop: Hop, address: Endpoint) -> str | None:
        """Our address of the family that the peer's is of."""
        family = ":" in address.host
        return next((source for source in hop.source or self.source if (":" in source) == family), None)

    async def _greet(self, connection: Connection) -> None:
        greeting = await connection.expect(Stage.GREETING, self.timeouts.greeting)
        if greeting.reply.code != 220:
            raise HopFailed(Stage.GREETING, greeting.reply, said=True)
        await self._hello(connection)

    async def _hello(self, connection: Connection) -> None:
        connection.client.hello(self.hostname)
        answer = await connection.expect(Stage.HELLO, self.timeouts.hello)
        while not connection.client.idle:
            # EHLO was not understood; the engine has said HELO.
            answer = await connection.expect(Stage.HELLO, self.timeouts.hello)
        if answer.reply.code != 250:
            raise HopFailed(Stage.HELLO, answer.reply, said=True)

    async def _secure(self, connection: Connection, policy: TlsPolicy) -> None:
        """STARTTLS where it is offered (RFC 3207); a policy that requires it fails without."""
        required = policy.mode != "opportunistic"
        if "STARTTLS" not in connection.client.extensions:
            if required:
                reply = Reply(451, "4.7.4", "TLS is required, and not offered")
                raise HopFailed(Stage.TLS, reply, said=False).called("starttls-not-supported")
            return
        connection.client.starttls()
        answer = await connection.expect(Stage.TLS, self.timeouts.hello)
        if answer.reply.code != 220:
            if required:
                # Whatever it says, it may do TLS tomorrow: no mail ends for good by this.
                reply = Reply(451, "4.7.4", f"TLS is required, and the server said: {answer.reply}")
                raise HopFailed(Stage.TLS, reply, said=False).called("starttls-not-supported")
            return
        if isinstance(event := connection.client.next_event(), Lost):
            # Octets in clear text behind the 220: whoever wrote them, there is no TLS on this connection.
            raise HopFailed(Stage.TLS, Reply(451, "4.7.5", f"TLS cannot begin: {event.why}"), said=False)
        await self._shake_hands(connection, policy)
        await self._hello(connection)

    async def _shake_hands(self, connection: Connection, policy: TlsPolicy) -> None:
        """TLS, and with whom the policy says. Raises HopFailed."""
        by_authority = policy.mode == "verify" and not policy.tlsa
        name = _unbracketed(policy.names[0] if policy.names else connection.hop.name)
        try:
            await connection.start_tls(self.verifying if by_authority else self.context, name)
            if policy.tlsa:
                dane.verify(policy.tlsa, connection.chain, policy.names, self.clock.now())
        except TlsFailed as error:
            reply = Reply(451, "4.7.5", f"TLS handshake failed: {error}")
            raise HopFailed(Stage.TLS, reply, said=False).called(_failure(error)) from error
        except dane.NotVerified as error:
            # RFC 7672 §2.2: what does not fit gets no mail, and the next host may.
            reply = Reply(451, "4.7.5", f"The server is not the one that its TLSA records describe: {error}")
            raise HopFailed(Stage.TLS, reply, said=False).called(error.failure) from error
        connection.verified = policy.mode == "verify"

    async def _log_in(self, connection: Connection, login: Login) -> None:
        """AUTH (RFC 4954). A password never travels where others may hear it; SCRAM shows none."""
        offered = [one for one in connection.client.mechanisms if connection.private or one.startswith("SCRAM-")]
        try:
            exchange = mechanisms.client(offered, login.username, login.password, b64encode(os.urandom(18)).decode())
        except SaslError as error:
            raise HopFailed(Stage.AUTH, Reply(535, "5.7.8", f"Cannot log in: {error}"), said=False) from error
        if exchange is None:
            # RFC 4954 §6: 4.7.0 where a login is wanted and cannot be had now.
            text = f"No way to log in that is safe {'here' if connection.private else 'without TLS'} is offered"
            raise HopFailed(Stage.AUTH, Reply(454, "4.7.0", text), said=False)
        answer = await connection.authenticate(exchange, self.timeouts.hello)
        if answer.reply.code != 235:
            raise HopFailed(Stage.AUTH, answer.reply, said=True)


# What OpenSSL finds wrong with a certificate (x509_vfy.h); all the rest is nobody we trust.
_CALLED: Final[dict[int, Failure]] = {
    9: "certificate-expired",
    10: "certificate-expired",
    62: "certificate-host-mismatch",
}


def _unbracketed(name: str) -> str:
    """An address literal (RFC 5321 §4.1.3) as an address: certificates are for these, and no name is asked for then."""
    return name[1:-1].removeprefix("IPv6:") if name.startswith("[") else name


def _failure(error: TlsFailed) -> Failure:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _CALLED.get(cause.verify_code, "certificate-not-trusted")
    return "validation-failure"


# --- keeping ----------------------------------------------------------------------------------------------------------

# Connections kept in all; each costs the peer something too.
_MOST_KEPT: Final = 200


class Pool:
    """Connections that wait for their next message. Everything here runs on the loop."""

    def __init__(self, timeouts: Timeouts, messages: int = 100) -> None:
        """`messages`: so many are offered on one connection before it ends (Exim: 500; many hang up after 100)."""
        self._timeouts = timeouts
        self._messages = messages
        self._kept: dict[Hop, list[Connection]] = {}
        self._count = 0
        # One timer for all: to set one for each message that is sent would cost more than looking through them now and
        # then.
        self._sweeping: asyncio.TimerHandle | None = None
        self._goodbyes: set[asyncio.Task[None]] = set()

    def take(self, hop: Hop) -> Connection | None:
        """The connection to this hop that was used last, if one is kept and still good."""
        kept = self._kept.get(hop)
        while kept:
            connection = kept.pop()
            self._count -= 1
            if connection.reusable:
                connection.kept = True
                return connection
            connection.abort()
        return None

    def has_served(self, connection: Connection) -> bool:
        """No further message is to be offered on it."""
        return connection.spent or connection.messages >= self._messages

    def give(self, connection: Connection) -> None:
        """Keep it for the next message, or say goodbye where it has served enough."""
        if self.has_served(connection) or not connection.reusable or self._count >= _MOST_KEPT:
            self.end(connection)
            return
        connection.rest()
        self._kept.setdefault(connection.hop, []).append(connection)
        self._count += 1
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self._timeouts.idle, self._sweep)

    def end(self, connection: Connection) -> None:
        """Say goodbye behind the caller's back."""
        task = asyncio.create_task(connection.quit(self._timeouts.quit))
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)

    async def close(self) -> None:
        """Say goodbye to all."""
        for kept in self._kept.values():
            for connection in kept:
                self.end(connection)
        self._kept.clear()
        self._count = 0
        if self._sweeping is not None:
            self._sweeping.cancel()
        if self._goodbyes:
            await asyncio.wait(self._goodbyes)

    def _sweep(self) -> None:
        """Say goodbye to those that have waited long enough; the first of a hop has waited longest."""
        loop, idle = asyncio.get_running_loop(), self._timeouts.idle
        now = loop.time()
        for hop, kept in list(self._kept.items()):
            while kept and kept[0].idle_since + idle <= now:
                self._count -= 1
                self.end(kept.pop(0))
            if not kept:
                del self._kept[hop]
        self._sweeping = None
        if self._kept:
            first = min(kept[0].idle_since for kept in self._kept.values())
            # Timers may come a little early.
            self._sweeping = loop.call_later(max(first + idle - now, idle / 10), self._sweep)
