"""Connections to hops: opening one to where mail may be offered, speaking on it, and keeping it for the next message.

Promises: a connection that is handed out has been greeted and has said what it offers; one that is kept serves only a
hop with the same name and port and an equal TLS policy, for so many messages and so many idle seconds. Waiting is
bounded by RFC 5321 §4.5.3.2's times. Whatever breaks comes out as HopFailed, with the stage and the words.
Refuses: to know about recipients and routes.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from posthouse.net import stream
from posthouse.net.stream import ConnectionLost, DialError, Stream, StreamTimeout
from posthouse.net.tls import TlsFailed
from posthouse.queue.outcome import Stage
from posthouse.terms.reply import Reply
from posthouse.wire.smtp.client import Answered, Event, Lost, SmtpClient
from posthouse.written import Endpoint

Encryption = Literal["off", "opportunistic", "require"]


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
class TlsPolicy:
    """What encryption a hop must have; connections are shared only under equal ones."""

    mode: Encryption = "opportunistic"


@dataclass(frozen=True, slots=True)
class Hop:
    """A host to speak to: its name as the route gave it, the port, and how."""

    name: str
    port: int
    policy: TlsPolicy = TlsPolicy()


class HopFailed(Exception):
    """The conversation with a hop broke at `stage`; `said` tells whether `reply` is the peer's own."""

    def __init__(self, stage: Stage, reply: Reply, *, said: bool) -> None:
        super().__init__(f"{stage.value}: {reply}")
        self.stage = stage
        self.reply = reply
        self.said = said


class Connection:
    """One conversation with a hop. `messages` counts those offered on it."""

    def __init__(self, hop: Hop, address: Endpoint, transport: Stream) -> None:
        self.hop = hop
        self.address = address
        self.messages = 0
        self.client = SmtpClient()
        self._stream = transport
        self._timer: asyncio.TimerHandle | None = None

    @property
    def tls(self) -> str | None:
        """Version and cipher, where the connection is encrypted."""
        agreed = self._stream.tls
        return None if agreed is None else f"{agreed.version} {agreed.cipher}"

    async def next_event(self, seconds: float) -> Event:
        """What the peer answers next; silence for `seconds`, and loss, come out as Lost."""
        while (event := self.client.next_event()) is None:
            self.flush()
            self._stream.timeout = seconds
            try:
                octets = await self._stream.read()
            except StreamTimeout:
                return Lost(f"no reply within {seconds:g} seconds")
            except ConnectionLost as error:
                return Lost(str(error))
            self.client.receive(octets)
        self.flush()
        return event

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

    async def send(self, octets: bytes, seconds: float) -> None:
        """Send part of a message at the peer's speed. Raises HopFailed."""
        self._stream.timeout = seconds
        self._stream.write(octets)
        if self._stream.blocked:
            try:
                await self._stream.drain()
            except (StreamTimeout, ConnectionLost) as error:
                raise lost(Stage.DATA, Lost(str(error))) from error

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """The handshake behind a STARTTLS that was answered 220. Raises TlsFailed."""
        await self._stream.start_tls(context, server_hostname=name)
        self.client.secured()

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

    def expire(self, seconds: float, expired: Callable[["Connection"], None]) -> None:
        """Have `expired` called when nobody has taken it for so long."""
        self._timer = asyncio.get_running_loop().call_later(seconds, expired, self)

    def taken(self) -> None:
        """It is in use again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


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
    source: tuple[str, ...] = ()

    async def open(self, hop: Hop, address: Endpoint, *, plain: bool = False) -> Connection:
        """A connection on which mail may be offered. `plain`: TLS was tried and broke, go without.

        Raises HopFailed; with stage TLS where the handshake broke, after which an opportunistic caller may try plain.
        """
        try:
            transport = await stream.connect(address, seconds=self.timeouts.connect, source=self._source(address))
        except DialError as error:
            # RFC 3463 §3.5: 4.4.1 no answer from host.
            raise HopFailed(Stage.CONNECT, Reply(421, "4.4.1", f"No connection: {error}"), said=False) from error
        connection = Connection(hop, address, transport)
        try:
            await self._greet(connection)
            if hop.policy.mode != "off" and not plain:
                await self._secure(connection)
        except BaseException:
            connection.abort()
            raise
        return connection

    def _source(self, address: Endpoint) -> str | None:
        """Our address of the family that the peer's is of."""
        family = ":" in address.host
        return next((source for source in self.source if (":" in source) == family), None)

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

    async def _secure(self, connection: Connection) -> None:
        """STARTTLS where it is offered (RFC 3207); a policy that requires it fails without."""
        required = connection.hop.policy.mode == "require"
        if "STARTTLS" not in connection.client.extensions:
            if required:
                raise HopFailed(Stage.TLS, Reply(451, "4.7.4", "TLS is required, and not offered"), said=False)
            return
        connection.client.starttls()
        answer = await connection.expect(Stage.TLS, self.timeouts.hello)
        if answer.reply.code != 220:
            if required:
                raise HopFailed(Stage.TLS, answer.reply, said=True)
            return
        try:
            await connection.start_tls(self.context, connection.hop.name)
        except TlsFailed as error:
            raise HopFailed(Stage.TLS, Reply(451, "4.7.5", f"TLS handshake failed: {error}"), said=False) from error
        await self._hello(connection)


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
        self._goodbyes: set[asyncio.Task[None]] = set()

    def take(self, hop: Hop) -> Connection | None:
        """The connection to this hop that was used last, if one is kept and still good."""
        kept = self._kept.get(hop, [])
        while kept:
            connection = kept[-1]
            self._remove(connection)
            if connection.reusable:
                return connection
            connection.abort()
        return None

    def give(self, connection: Connection) -> None:
        """Keep it for the next message, or say goodbye where it has served enough."""
        if not connection.reusable or connection.messages >= self._messages or self._count >= _MOST_KEPT:
            self.end(connection)
            return
        self._kept.setdefault(connection.hop, []).append(connection)
        self._count += 1
        connection.expire(self._timeouts.idle, self._expired)

    def end(self, connection: Connection) -> None:
        """Say goodbye behind the caller's back."""
        task = asyncio.create_task(connection.quit(self._timeouts.quit))
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)

    async def close(self) -> None:
        """Say goodbye to all."""
        for connections in list(self._kept.values()):
            for connection in list(connections):
                self._remove(connection)
                self.end(connection)
        if self._goodbyes:
            await asyncio.wait(self._goodbyes)

    def _expired(self, connection: Connection) -> None:
        self._remove(connection)
        self.end(connection)

    def _remove(self, connection: Connection) -> None:
        connection.taken()
        kept = self._kept[connection.hop]
        kept.remove(connection)
        self._count -= 1
        if not kept:
            del self._kept[connection.hop]
