"""Streams over real sockets on loopback, in clear text and in TLS."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from posthouse import observe
from posthouse.clock import SystemClock
from posthouse.net import stream, tls
from posthouse.net.listen import bind
from posthouse.net.server import Gate, Handler, Server, serve
from posthouse.net.stream import (
    ConnectionLost,
    DialError,
    OctetsBeforeTls,
    Stopping,
    Stream,
    StreamTimeout,
    TlsFailed,
)
from posthouse.net.tls import Certificates
from posthouse.written import Endpoint
from tests.support import run, until

LOOPBACK = Endpoint("127.0.0.1", 0)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def certificates(directory: Path) -> Certificates:
    return Certificates([tls.private_pair(directory, "mx.example.org", SystemClock())])


async def echo(one: Stream) -> None:
    while octets := await one.read():
        one.write(octets)
        await one.drain()


@asynccontextmanager
async def serving(
    handler: Handler, context: Certificates | None = None, gate: Gate | None = None
) -> AsyncIterator[Server]:
    server = await serve(handler, bind(LOOPBACK), context.context if context else None, gate=gate)
    try:
        yield server
    finally:
        # uvloop does not end while somebody listens: a test that fails would hang.
        await server.stop(1)
    assert server.connections == 0


async def dial(server: Server) -> Stream:
    return await stream.connect(server.endpoints[0], seconds=30)


@dataclass(eq=False)
class Timer:
    """What `call_later` gives."""

    at: float
    call: Callable[[], None]
    timers: "list[Timer]"

    def when(self) -> float:
        return self.at

    def cancel(self) -> None:
        if self in self.timers:
            self.timers.remove(self)


class SetLoop:
    """What a stream uses of a loop: one on which time passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def create_future(self) -> "asyncio.Future[None]":
        return asyncio.get_running_loop().create_future()

    def call_later(self, seconds: float, call: Callable[..., None], *given: Any) -> Timer:
        self.timers.append(Timer(self.now + seconds, partial(call, *given), self.timers))
        return self.timers[-1]

    async def advance(self, seconds: float) -> None:
        """Let time pass, and those who are woken by it go on."""
        end = self.now + seconds
        while due := [one for one in self.timers if one.at <= end]:
            first = min(due, key=Timer.when)
            first.cancel()
            self.now = first.at
            first.call()
            await turns()
        self.now = end


async def turns() -> None:
    """So many turns of the loop that whoever could go on has."""
    for _ in range(5):
        await asyncio.sleep(0)


class NoTransport(asyncio.Transport):
    """Of a stream that a test feeds by hand."""


def fed() -> tuple[Stream, SetLoop]:
    """A stream on such a loop, to be given octets by `arrive`."""
    loop = SetLoop()
    one = Stream(loop)  # type: ignore[arg-type]  # it has what is used
    one.connection_made(NoTransport())
    return one, loop


def arrive(one: Stream, octets: bytes) -> None:
    one.get_buffer(-1)[: len(octets)] = octets
    one.buffer_updated(len(octets))


async def read_exactly(one: Stream, size: int) -> bytes:
    octets = b""
    while len(octets) < size:
        received = await one.read()
        assert received, f"the stream ended after {len(octets)} octets"
        octets += received
    return octets


def test_octets_go_there_and_back_and_the_end_is_told() -> None:
    async def main() -> None:
        async with serving(echo) as server:
            one = await dial(server)
            assert one.peer == server.endpoints[0]
            assert one.local.host == "127.0.0.1"
            assert one.tls is None
            one.write([b"a", b"bc", memoryview(b"d")])
            assert await read_exactly(one, 4) == b"abcd"
            await one.close()
            assert one.gone
            one.write(b"into the void")
            assert await one.read() == b""
            with pytest.raises(ConnectionLost):
                await one.drain()

    run(main())


@pytest.mark.parametrize("encrypted", [False, True])
def test_octets_are_acknowledged_before_the_rest_is_there(certificates: Certificates, encrypted: bool) -> None:
    """That it is faster is seen with a client that waits for it (docs/interop.md); here it must work in each state."""

    async def patient(one: Stream) -> None:
        while octets := await one.read():
            one.acknowledge()
            one.write(octets)

    async def main() -> None:
        async with serving(patient, certificates if encrypted else None) as server:
            one = await dial(server)
            if encrypted:
                await one.start_tls(tls.client_context(verify=False))
            one.write(b"all but the rest")
            assert await read_exactly(one, 16) == b"all but the rest"
            await one.close()
            one.acknowledge()

    run(main())


def test_a_peer_that_sends_no_more_may_still_read() -> None:
    async def late(one: Stream) -> None:
        received = b""
        while octets := await one.read():
            received += octets
        assert one.ended
        assert not one.gone
        one.write(b"250 " + received)

    async def main() -> None:
        async with serving(late) as server:
            reader, writer = await asyncio.open_connection(*server.endpoints[0])
            writer.write(b"QUIT")
            writer.write_eof()
            assert await reader.read() == b"250 QUIT"
            writer.close()

    run(main())


def test_twenty_megabytes_pass_in_both_directions_with_bounded_memory() -> None:
    size = 20 * 1024 * 1024

    async def main() -> None:
        async with serving(echo) as server:
            one = await dial(server)
            sending = asyncio.create_task(one.send(bytes(size)))
            assert await read_exactly(one, size) == bytes(size)
            await sending
            await one.close()

    run(main())


def test_who_reads_nothing_holds_the_peer_back() -> None:
    async def sleepy(one: Stream) -> None:
        await until(lambda: one._held)
        # What comes in one read is taken whole; nothing is read after that.
        assert one._waiting < 2 * stream._MOST_WAITING
        total = 0
        while octets := await one.read():
            total += len(octets)
            if total == 8 * 1024 * 1024:
                one.write(b"all")

    async def main() -> None:
        async with serving(sleepy) as server:
            one = await dial(server)
            one.write(bytes(8 * 1024 * 1024))
            assert one.blocked
            await one.drain()
            assert await one.read() == b"all"
            await one.close()

    run(main())


def test_one_timer_bounds_each_wait() -> None:
    async def main() -> None:
        one, loop = fed()
        one.timeout = 15
        for _ in range(4):
            # Each wait has the whole time again.
            reading = asyncio.create_task(one.read())
            await turns()
            await loop.advance(14)
            assert not reading.done()
            arrive(one, b"x")
            assert await reading == b"x"
            assert len(loop.timers) <= 1
        reading = asyncio.create_task(one.read())
        await turns()
        await loop.advance(15)
        with pytest.raises(StreamTimeout, match="silent for 15 s"):
            await reading

    run(main())


def test_who_was_given_up_once_may_be_waited_for_again() -> None:
    async def main() -> None:
        async with serving(echo) as server:
            one = await dial(server)
            one.timeout = 0.01
            with pytest.raises(StreamTimeout, match=r"silent for 0\.01 s"):
                await one.read()
            one.timeout = None
            one.write(b"y")
            assert await one.read() == b"y"
            await one.close()

    run(main())


def test_a_shorter_timeout_holds_for_a_wait_that_has_begun() -> None:
    async def main() -> None:
        async with serving(echo) as server:
            one = await dial(server)
            one.timeout = 600
            reading = asyncio.create_task(one.read())
            await until(lambda: one._reader is not None)
            one.timeout = 0.05
            with pytest.raises(StreamTimeout):
                await reading
            await one.close()

    run(main())


def test_a_drain_that_lasts_too_long_is_a_timeout() -> None:
    over = asyncio.Event()

    async def deaf(one: Stream) -> None:
        await over.wait()

    async def main() -> None:
        async with serving(deaf) as server:
            one = await dial(server)
            one.timeout = 0.1
            one.write(bytes(16 * 1024 * 1024))
            with pytest.raises(StreamTimeout):
                await one.drain()
            one.abort()
            over.set()

    run(main())


def test_a_cancelled_read_loses_nothing() -> None:
    async def main() -> None:
        async with serving(echo) as server:
            one = await dial(server)
            reading = asyncio.create_task(one.read())
            await until(lambda: one._reader is not None)
            reading.cancel()
            one.write(b"kept")
            await until(lambda: one.waiting)
            assert reading.cancelled()
            assert await one.read() == b"kept"
            await one.close()

    run(main())


def test_tls_from_the_first_octet(certificates: Certificates, directory: Path) -> None:
    async def who(one: Stream) -> None:
        agreed = one.tls
        assert agreed is not None
        one.write(f"{agreed}".encode())
        assert await one.read() == b"bye"

    async def main() -> None:
        trusting = tls.client_context(verify=True, authorities=directory / "ca.pem")
        async with serving(who, certificates) as server:
            one = await stream.connect(server.endpoints[0], seconds=30, tls=trusting, server_hostname="mx.example.org")
            assert await one.read() == b"TLSv1.3 TLS_AES_256_GCM_SHA384"
            assert one.tls is not None
            assert one.tls.bits == 256
            assert one.tls.certificate
            one.write(b"bye")
            await one.close()
            with pytest.raises(TlsFailed, match="certificate refused"):
                await stream.connect(server.endpoints[0], seconds=30, tls=trusting, server_hostname="mx.example.com")

    run(main())


async def starttls(one: Stream, context: Certificates) -> None:
    """A server that does nothing but STARTTLS."""
    while octets := await one.read():
        if octets.startswith(b"STARTTLS\r\n"):
            one.write(b"220 go\r\n")
            if octets != b"STARTTLS\r\n":
                # What an engine hands back: octets behind the command.
                raise OctetsBeforeTls("pipelined behind STARTTLS")
            await one.start_tls(context.context, server_side=True)
        else:
            one.write(octets.upper())


def test_starttls_goes_on_in_tls(certificates: Certificates) -> None:
    async def main() -> None:
        async with serving(lambda one: starttls(one, certificates)) as server:
            one = await dial(server)
            one.write(b"hello")
            assert await one.read() == b"HELLO"
            one.write(b"STARTTLS\r\n")
            assert await one.read() == b"220 go\r\n"
            await one.start_tls(tls.client_context(verify=False), server_hostname="mx.example.org")
            assert str(one.tls).startswith("TLSv1.3")
            size = 3 * 1024 * 1024
            sending = asyncio.create_task(one.send(b"x" * size))
            assert await read_exactly(one, size) == b"X" * size
            await sending
            await one.close()

    run(main())


def test_octets_that_are_there_before_tls_end_the_connection(certificates: Certificates) -> None:
    """CVE-2011-0411: what an attacker put behind STARTTLS must not be obeyed inside TLS."""
    failed: list[BaseException] = []
    heard = asyncio.Event()

    async def careless(one: Stream) -> None:
        await one.read()
        heard.set()
        await until(lambda: one.waiting)
        try:
            await one.start_tls(certificates.context, server_side=True)
        except OctetsBeforeTls as error:
            failed.append(error)

    async def main() -> None:
        async with serving(careless) as server:
            one = await dial(server)
            one.write(b"STARTTLS\r\n")
            await heard.wait()
            one.write(b"MAIL FROM:<>\r\n")
            assert await one.read() == b""
            one.abort()
        assert len(failed) == 1

    run(main())


@pytest.mark.parametrize("octets", [b"", b"EHLO mail.example.org\r\n", b"\x16\x03\x01\x00\x05hello"])
def test_a_handshake_that_fails_ends_the_connection(certificates: Certificates, octets: bytes) -> None:
    async def main() -> None:
        async with serving(lambda one: starttls(one, certificates)) as server, serving(echo, certificates) as implicit:
            for port in (server.endpoints[0], implicit.endpoints[0]):
                reader, writer = await asyncio.open_connection(*port)
                if port == server.endpoints[0]:
                    writer.write(b"STARTTLS\r\n")
                    assert await reader.readline() == b"220 go\r\n"
                writer.write(octets)
                writer.write_eof()
                # An alert may come, then the end.
                assert b"220" not in await reader.read()
                writer.close()

    run(main())


def test_a_client_told_to_start_tls_by_a_server_that_does_not(certificates: Certificates) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            one = await dial(server)
            with pytest.raises(TlsFailed):
                await one.start_tls(tls.client_context(verify=False))
            assert one.gone
            assert await one.read() == b""

    run(main())


@pytest.mark.parametrize("quiet", [True, False])
def test_who_speaks_while_we_are_quiet_is_noticed(quiet: bool) -> None:
    heard: list[bool] = []

    async def reserved(one: Stream) -> None:
        # Who says nothing is waited for shortly, and who does, or goes away, for as long as it takes.
        heard.append(await one.hush(0.02 if quiet and not heard else 3600))
        one.write(b"220 hello\r\n")

    async def main() -> None:
        async with serving(reserved) as server:
            one = await dial(server)
            if not quiet:
                one.write(b"EHLO me first\r\n")
            assert await one.read() == b"220 hello\r\n"
            await one.close()
            gone = await dial(server)
            gone.abort()
            await until(lambda: len(heard) == 2)
        assert heard == [quiet, False]

    run(main())


def test_a_pause_lasts_whatever_arrives() -> None:
    async def main() -> None:
        one, loop = fed()
        pausing = asyncio.create_task(one.pause(10))
        await turns()
        for octets in (b"one", b" two"):
            await loop.advance(4)
            arrive(one, octets)
            await turns()
            assert not pausing.done()
        await loop.advance(1.9)
        assert not pausing.done()
        await loop.advance(0.1)
        await pausing
        assert await one.read() == b"one two"

    run(main())


def test_a_pause_ends_with_the_peer() -> None:
    over = asyncio.Event()

    async def slow(one: Stream) -> None:
        await one.pause(3600)
        over.set()

    async def main() -> None:
        async with serving(slow) as server:
            one = await dial(server)
            one.write(b"one")
            await until(lambda: server.connections == 1)
            one.abort()
            await over.wait()

    run(main())


def test_who_is_made_to_wait_hears_that_the_server_stops() -> None:
    begun = asyncio.Event()

    async def slow(one: Stream) -> None:
        begun.set()
        await one.pause(3600)
        try:
            await one.hush(3600)
        except Stopping:
            one.write(b"421 bye\r\n")

    async def main() -> None:
        server = await serve(slow, bind(LOOPBACK))
        one = await dial(server)
        await begun.wait()
        await server.stop(3600)
        assert await one.read() == b"421 bye\r\n"
        one.abort()

    run(main())


def test_stopping_is_told_to_who_waits_and_ends_who_does_not_listen(certificates: Certificates) -> None:
    async def polite(one: Stream) -> None:
        try:
            await one.read()
        except Stopping:
            one.write(b"421 bye\r\n")

    async def deaf(one: Stream) -> None:
        await asyncio.sleep(3600)

    async def stops(handler: Handler, words: bytes, seconds: float) -> None:
        with socket.socket() as reserved:
            # Nobody else gets the port while this is bound to it, too.
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind(tuple(LOOPBACK))
            server = await serve(handler, bind(Endpoint(*reserved.getsockname())))
            one = await dial(server)
            await until(lambda: server.connections == 1)
            await server.stop(seconds)
            assert server.connections == 0
            assert await one.read() == words
            with pytest.raises(DialError, match="refused"):
                await dial(server)
            one.abort()

    async def main() -> None:
        await stops(polite, b"421 bye\r\n", 3600)
        await stops(deaf, b"", 0.02)
        # Those within a handshake are not waited for.
        implicit = await serve(echo, bind(LOOPBACK), certificates.context)
        silent = await dial(implicit)
        await until(lambda: implicit.connections == 1)
        await implicit.stop(3600)
        silent.abort()

    run(main())


def test_what_a_handler_lets_out_is_logged_and_ends_the_connection() -> None:
    seen: list[observe.Step] = []
    end = observe.subscribe(seen.append)

    async def broken(one: Stream) -> None:
        raise RuntimeError("a mistake of ours")

    async def main() -> None:
        async with serving(broken) as server:
            one = await dial(server)
            assert await one.read() == b""
            one.abort()

    run(main())
    end()
    assert [step.kind for step in seen if step.level == observe.ERROR] == ["session.failed"]


def test_why_a_connection_did_not_come_about() -> None:
    async def main() -> None:
        with pytest.raises(DialError, match=r"127\.0\.0\.1:1: connection refused") as refused:
            await stream.connect(Endpoint("127.0.0.1", 1), seconds=30)
        assert not refused.value.timed_out
        # A listener whose backlog is full answers nobody.
        with socket.socket() as full:
            full.bind(tuple(LOOPBACK))
            full.listen(0)
            name = Endpoint(*full.getsockname())
            waiting: list[Stream] = []

            async def fill() -> None:
                while True:
                    waiting.append(await stream.connect(name, seconds=0.2))

            with pytest.raises(DialError, match=r"no answer from .* within 0\.2 s") as silent:
                await fill()
            assert silent.value.timed_out
            for one in waiting:
                one.abort()

    run(main())


def test_a_source_address_is_used() -> None:
    async def main() -> None:
        async with serving(echo) as server:
            one = await stream.connect(server.endpoints[0], seconds=30, source="127.0.0.9")
            assert one.local.host == "127.0.0.9"
            await one.close()
            with pytest.raises(DialError, match="cannot assign requested address"):
                await stream.connect(server.endpoints[0], seconds=30, source="192.0.2.1")

    run(main())
