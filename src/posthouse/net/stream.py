"""The transport under every engine: octets in, octets out, over uvloop.

Promises: what arrives is read into one buffer a thread and handed on as whole receives; a session that reads nothing
stops the peer once 256 KB wait for it, and one that writes is told to wait (`drain`) while the peer reads nothing.
What is written in one turn of the loop leaves in one system call. A connection has one timer, however often it reads.
Octets that are already there when TLS is to start end the connection (CVE-2011-0411).
Refuses: to know any protocol, and to listen; that is server.py's.
"""

import asyncio
import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Sequence
from mmap import mmap
from typing import Any, Final, TypeVar

import uvloop

from posthouse import observe
from posthouse.net.binding import bindings
from posthouse.net.compression import Deflate
from posthouse.net.tls import PeerTls, presented, reason
from posthouse.net.tls import TlsFailed as TlsFailed
from posthouse.terms.reply import Reply
from posthouse.written import Endpoint, unmapped

T = TypeVar("T")
Octets = bytes | bytearray | memoryview

_BUFFER_SIZE: Final = 128 * 1024
# As much may wait for a session before its peer is held back.
_MOST_WAITING: Final = 256 * 1024
# A write goes out in such pieces: TLS would else encrypt a whole message into memory at once.
_PIECE: Final = 256 * 1024
# RFC 8446 and 5246 set no time; a peer that shakes hands for longer than this is not well, or not kind.
HANDSHAKE_SECONDS: Final = 30.0
# tcp(7); other systems have none.
_QUICK_ACKNOWLEDGEMENT: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class ConnectionLost(ConnectionError):
    """The connection ended under a write that still had octets to send."""


class StreamTimeout(TimeoutError):
    """The peer sent nothing, or took nothing, for as long as the stream's `timeout` allows."""


class Stopping(Exception):
    """The server stops: say goodbye in your protocol, and return."""


class OctetsBeforeTls(TlsFailed):
    """The peer sent octets behind its wish for TLS, in clear text; whoever wrote them, they are not to be obeyed."""


class DialError(Exception):
    """No connection came about. `timed_out` tells silence from refusal."""

    def __init__(self, text: str, *, timed_out: bool = False) -> None:
        super().__init__(text)
        self.timed_out = timed_out


class _Scratch(threading.local):
    """The buffer that a thread's loop reads into; what is in it is copied out before the loop reads again."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_BUFFER_SIZE))


_scratch = _Scratch()


class Stream(asyncio.BufferedProtocol):
    """One connection. One coroutine reads and one writes (they may be the same)."""

    __slots__ = (
        "_chunks",
        "_connected",
        "_deflate",
        "_drainer",
        "_ended",
        "_finished",
        "_gone",
        "_held",
        "_loop",
        "_reader",
        "_scratch",
        "_since",
        "_stopping",
        "_timeout",
        "_timer",
        "_transport",
        "_waiting",
        "blocked",
        "local",
        "peer",
        "unwelcome",
    )

    peer: Endpoint
    local: Endpoint
    unwelcome: Reply | None
    """Why nobody is to be served here, as the server's Gate said; the door says it in its protocol."""
    blocked: bool
    """True while `drain` would wait, for the peer reads nothing from us: a session that writes little may ask first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connected: "Callable[[Stream], None] | None" = None) -> None:
        self._loop = loop
        self._connected = connected
        self.unwelcome = None
        self._scratch = _scratch.view
        self._transport: Any = None
        self._chunks: list[bytes] = []
        self._waiting = 0
        self._deflate: Deflate | None = None
        self._held = False  # we read nothing from the peer
        self.blocked = False
        self._ended = False  # the peer sends nothing more
        self._finished = False  # and has said so
        self._gone: asyncio.Future[None] | bool = False
        self._stopping = False
        self._reader: asyncio.Future[None] | None = None
        self._drainer: asyncio.Future[None] | None = None
        self._since = 0.0
        self._timeout: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    # --- for sessions

    def read(self) -> Coroutine[Any, Any, bytes]:
        """Everything that arrived since the last read; b"" once the peer sends nothing more.

        Raises StreamTimeout, and Stopping when nothing is there and the server stops. Cancelling loses no octets. Of
        what comes compressed a read gives a part; Broken (a ConnectionError) is raised where it cannot be unpacked.
        """
        return self._take() if self._deflate is None else self._unpack(self._deflate)

    async def _unpack(self, deflate: Deflate) -> bytes:
        while not (octets := deflate.unpack()):
            packed = await self._take()
            if not packed or deflate.ended:
                # RFC 4978 knows no end of compression but that of the connection; RFC 8437's comes by `stop_compress`.
                return b""
            deflate.take(packed)
        return octets

    async def _take(self) -> bytes:
        while not self._chunks:
            if self._ended:
                return b""
            if self._stopping:
                raise Stopping
            self._reader = self._loop.create_future()
            self._watch()
            try:
                await self._reader
            finally:
                self._reader = None
        octets = b"".join(self._chunks)
        self._chunks.clear()
        self._waiting = 0
        if self._held:
            self._held = False
            self._transport.resume_reading()
        return octets

    def write(self, octets: Octets | Sequence[Octets]) -> None:
        """Send these octets, in order, when this turn of the loop ends. After the connection has ended: nothing."""
        if self._gone:
            return
        if self._deflate is not None:
            self._transport.write(self._deflate.pack(octets if isinstance(octets, list | tuple) else (octets,)))
        elif isinstance(octets, list | tuple):
            self._transport.writelines(octets)
        else:
            self._transport.write(octets)

    @property
    def compressed(self) -> bool:
        """True between `compress` and `stop_compress`."""
        return self._deflate is not None

    def compress(self) -> None:
        """Compress what is written from here on, and unpack what arrives (RFC 4978 §3)."""
        self._deflate = Deflate()

    def stop_compress(self) -> None:
        """Go on uncompressed, both ways; what has been read was all that came compressed (RFC 8437 §4.1)."""
        deflate, self._deflate = self._deflate, None
        if deflate is not None and (left := deflate.rest()):
            self._chunks.insert(0, left)
            self._waiting += len(left)

    def rest(self) -> None:
        """Nothing much will be said for a while: let go of what compression remembers for it."""
        if self._deflate is not None:
            self._deflate.forget()

    async def hush(self, seconds: float) -> bool:
        """Wait so long, or until octets are there; True where the peer kept quiet and is still there.

        Raises Stopping when the server stops, and what `read` raises.
        """
        if not self._chunks and not self._ended and not self._stopping:
            await self._doze(seconds)
        if self._stopping and not self._chunks:
            raise Stopping
        return not self._chunks and not self._ended

    async def pause(self, seconds: float) -> None:
        """Wait so long, whatever arrives; less where the peer sends nothing more or the server stops."""
        until = self._loop.time() + seconds
        while not self._ended and not self._stopping and (left := until - self._loop.time()) > 0:
            await self._doze(left)

    async def _doze(self, seconds: float) -> None:
        """Wait so long, or until anything happens that a reader is woken for."""
        self._reader = reader = self._loop.create_future()
        self._watch()
        timer = self._loop.call_later(seconds, _wake, reader)
        try:
            await reader
        finally:
            self._reader = None
            timer.cancel()

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was written. Raises ConnectionLost, StreamTimeout."""
        while self.blocked and not self._gone:
            self._drainer = self._loop.create_future()
            self._watch()
            try:
                await self._drainer
            finally:
                self._drainer = None
        if self._gone:
            raise ConnectionLost("the connection has ended")

    async def send(self, octets: Octets | mmap) -> None:
        """Write something large in pieces, at the peer's speed. Raises what `drain` raises."""
        with memoryview(octets) as view:
            for start in range(0, len(view), _PIECE):
                self.write(bytes(view[start : start + _PIECE]))
                await self.drain()

    @property
    def waiting(self) -> bool:
        """True where octets have arrived that nobody has read."""
        return bool(self._chunks) or (self._deflate is not None and self._deflate.pending)

    @property
    def gone(self) -> bool:
        """True once the connection has ended, on whatever side."""
        return bool(self._gone)

    @property
    def ended(self) -> bool:
        """True once the peer sends nothing more, though what it sent may still wait to be read."""
        return self._ended

    @property
    def finished(self) -> bool:
        """True once the peer has said that it sends nothing more; in TLS in a way that nobody else can.

        Where the connection has `ended` without, something may be missing (RFC 8446 §6.1).
        """
        return self._finished

    @property
    def timeout(self) -> float | None:
        """Seconds that one read or drain may wait; None: for ever."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._timeout = seconds
        # One that fires too early looks how long there is left; it is set again for less.
        if self._timer is not None and (seconds is None or self._timer.when() > self._loop.time() + seconds):
            self._timer.cancel()
            self._timer = None
        if self._reader is not None or self._drainer is not None:
            self._watch()

    def acknowledge(self) -> None:
        """Acknowledge now what has come, where the rest of it is awaited before anything is answered.

        A client that leaves Nagle's algorithm on holds its last small piece back until then, and Linux would wait 40 ms
        for an answer to send the acknowledgement with.
        """
        if _QUICK_ACKNOWLEDGEMENT is not None and not self._gone and not self.local.is_path:
            self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _QUICK_ACKNOWLEDGEMENT, 1)

    @property
    def tls(self) -> PeerTls | None:
        """What was agreed with the peer; None in clear text."""
        ssl_object = self._transport.get_extra_info("ssl_object")
        return None if ssl_object is None else PeerTls.of(ssl_object)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The certificates that the peer showed (DER), its own first, as they came, unverified; none in clear text."""
        ssl_object = self._transport.get_extra_info("ssl_object")
        return () if ssl_object is None else presented(ssl_object)

    @property
    def bindings(self) -> tuple[tuple[str, bytes], ...]:
        """The channel bindings of a session that we serve (RFC 5056): type and octets; none in clear text."""
        ssl_object = self._transport.get_extra_info("ssl_object")
        return () if ssl_object is None else bindings(ssl_object)

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        seconds: float = HANDSHAKE_SECONDS,
    ) -> None:
        """Go on in TLS. Raises TlsFailed; the connection is then closed.

        A server first writes its "go ahead" and calls this without waiting in between: what the peer sent before it
        could read that was not meant for TLS, and is refused (OctetsBeforeTls).
        """
        if self._chunks:
            self.abort()
            raise OctetsBeforeTls("octets in clear text behind the wish for TLS")
        if self._gone or self._ended:
            self.abort()
            raise TlsFailed("the connection ended before TLS began")
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                context,
                server_side=server_side,
                server_hostname=server_hostname,
                ssl_handshake_timeout=seconds,
            )
        except BaseException as error:
            self._transport.abort()
            # uvloop tells of no connection_lost where a handshake failed.
            self.connection_lost(None)
            if isinstance(error, OSError | ssl.SSLError):
                raise TlsFailed(reason(error)) from error
            raise
        self._transport = transport

    async def close(self, seconds: float = 5.0) -> None:
        """Send what was written, then end the connection; after `seconds` end it anyway."""
        if self._gone:
            return
        if self.tls is None and not self._transport.get_write_buffer_size():
            # All is with the kernel, which sends it: nothing to wait for.
            self._gone = True
            self._transport.close()
            return
        gone = self._gone = self._loop.create_future()
        self._transport.close()
        try:
            async with asyncio.timeout(seconds):
                await gone
        except TimeoutError:
            self._transport.abort()
        finally:
            self._gone = True

    def abort(self) -> None:
        """End the connection at once; what was written may be lost."""
        if self._transport is not None:
            self._transport.abort()

    def stop(self) -> None:
        """Let the session know that the server stops: its next read that finds nothing raises Stopping."""
        self._stopping = True
        _wake(self._reader)

    # --- for the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.peer = endpoint_of(peer)
        self.local = endpoint_of(transport.get_extra_info("sockname"))
        if self._connected is None:
            return
        if peer is None:
            # It was reset before it was accepted. What it had sent may still be there, but nobody can tell from whom.
            self.abort()
        else:
            self._connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        self._chunks.append(bytes(self._scratch[:nbytes]))
        self._waiting += nbytes
        if self._waiting >= _MOST_WAITING and not self._held:
            self._held = True
            self._transport.pause_reading()
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(None)

    def eof_received(self) -> bool:
        self._ended = self._finished = True
        _wake(self._reader)
        # The peer may still read our answers; TLS has no such half (RFC 5246 §7.2.1), uvloop closes it itself.
        return self._transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        waiter, self._gone = self._gone, True
        self._ended = True
        if isinstance(waiter, asyncio.Future):
            _wake(waiter)
        _wake(self._reader)
        _wake(self._drainer)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        _wake(self._drainer)

    # --- the one timer

    def _watch(self) -> None:
        """Note when the waiting began. A timer that is set already looks at this when it fires."""
        if self._timeout is not None:
            self._since = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._timeout, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self._timeout is None or (self._reader is None and self._drainer is None):
            return
        left = self._since + self._timeout - self._loop.time()
        if left > 0.001:
            self._timer = self._loop.call_later(left, self._expire)
            return
        for waiter in (self._reader, self._drainer):
            if waiter is not None and not waiter.done():
                waiter.set_exception(StreamTimeout(f"the peer was silent for {self._timeout:g} s"))


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def endpoint_of(name: Any) -> Endpoint:
    """An address as sockets tell it. Whoever comes by a Unix socket has none, and is on this machine."""
    if isinstance(name, tuple):
        # A socket that takes both families, as systemd's may, tells of IPv4 in IPv6's clothes.
        return Endpoint(unmapped(name[0]), name[1])
    return Endpoint(name, 0) if isinstance(name, str) and name.startswith("/") else Endpoint("127.0.0.1", 0)


# --- clients ----------------------------------------------------------------------------------------------------------


async def connect(
    address: Endpoint,
    *,
    seconds: float,
    source: str | None = None,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
) -> Stream:
    """A connection to this address, from `source` where one is given; with `tls`, in TLS from the first octet.

    Raises DialError, and TlsFailed. `seconds` bounds the connecting; the handshake has its own time.
    """
    loop = asyncio.get_running_loop()
    origin = None if source is None else (source, 0)
    try:
        async with asyncio.timeout(seconds):
            _, stream = await loop.create_connection(
                lambda: Stream(loop), address.host, address.port, local_addr=origin
            )
    except TimeoutError as error:
        raise DialError(f"no answer from {address} within {seconds:g} s", timed_out=True) from error
    except OSError as error:
        timed_out = error.errno == errno.ETIMEDOUT
        raise DialError(f"{address}: {plain(error)}", timed_out=timed_out) from error
    if tls is not None:
        await stream.start_tls(tls, server_hostname=server_hostname)
    return stream


def plain(error: OSError) -> str:
    """What the system says, in its words."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to its end on the loop that everything here is made for; what nobody catches on it is logged."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        observe.adopt_loop(runner.get_loop())
        return runner.run(main)
