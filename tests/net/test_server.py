"""Who is let in, counted and introduced, over real sockets on loopback."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from posthouse import observe
from posthouse.clock import SystemClock
from posthouse.net import server as servers
from posthouse.net import stream, tls
from posthouse.net.listen import bind
from posthouse.net.server import Server, serve
from posthouse.net.stream import Stream
from posthouse.net.tls import Certificates
from posthouse.terms.reply import Reply
from posthouse.written import Endpoint
from tests.support import run

LOOPBACK = Endpoint("127.0.0.1", 0)
BUSY = Reply(421, "4.3.2", "Too many")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("tls")
    return Certificates([tls.private_pair(directory, "mx.example.org", SystemClock())])


class Counting:
    """A gate that lets so many in at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.here: list[str] = []
        self.seen: list[str] = []

    def arrive(self, peer: str) -> Reply | None:
        """One more."""
        self.here.append(peer)
        self.seen.append(peer)
        return BUSY if len(self.here) > self.most else None

    def depart(self, peer: str) -> None:
        """One less."""
        self.here.remove(peer)


async def told(one: Stream) -> None:
    """Says who came to where, or why he may not."""
    one.write(f"{one.unwelcome or f'{one.peer} {one.local.host}'}\n".encode())
    if one.unwelcome is None:
        one.write(b"read " + await one.read())


@asynccontextmanager
async def serving(
    context: Certificates | None = None, gate: Counting | None = None, proxies: tuple[str, ...] = ()
) -> AsyncIterator[Server]:
    server = await serve(told, bind(LOOPBACK), context.context if context else None, gate=gate, proxies=proxies)
    try:
        yield server
    finally:
        await server.stop(1)
    assert server.connections == 0
    assert gate is None or gate.here == []


async def call(server: Server, octets: bytes = b"", *, encrypted: bool = False) -> Stream:
    one = await stream.connect(server.endpoints[0], seconds=30)
    one.write(octets)
    if encrypted:
        await one.start_tls(tls.client_context(verify=False))
    return one


async def all_of(one: Stream) -> bytes:
    octets = b""
    while more := await one.read():
        octets += more
    one.abort()
    return octets


def v2(source: str, *, extensions: bytes = b"") -> bytes:
    """A header of version 2, from this address to 192.0.2.25."""
    block = socket.inet_aton(source) + socket.inet_aton("192.0.2.25") + struct.pack("!HH", 4711, 25) + extensions
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(block)) + block


V1 = b"PROXY TCP4 203.0.113.7 192.0.2.25 4711 25\r\n"


async def until(server: Server, count: int) -> None:
    while server.connections != count:
        await asyncio.sleep(0.005)


def test_who_is_not_welcome_is_told_by_the_door_in_clear_text_and_hears_nothing_where_tls_is_first(
    certificates: Certificates,
) -> None:
    async def main() -> None:
        for context in (None, certificates):
            gate = Counting(1)
            async with serving(context, gate) as server:
                first = await call(server, encrypted=context is not None)
                assert (await first.read()).startswith(b"127.0.0.1:")
                reader, writer = await asyncio.open_connection(*server.endpoints[0])
                rest = await reader.read()
                assert rest == (b"" if context else b"421 4.3.2 Too many\n")
                writer.close()
                await first.close()
                await until(server, 0)
                assert gate.here == []
                again = await call(server, encrypted=context is not None)
                assert (await again.read()).startswith(b"127.0.0.1:")
                await again.close()
            assert gate.seen == ["127.0.0.1"] * 3

    run(main())


def test_a_handshake_that_has_not_ended_counts(certificates: Certificates) -> None:
    async def main() -> None:
        gate = Counting(2)
        async with serving(certificates, gate) as server:
            silent = [await call(server) for _ in range(2)]
            await until(server, 2)
            third = await call(server)
            assert await third.read() == b""
            third.abort()
            silent[0].abort()
            await until(server, 1)
            assert gate.here == ["127.0.0.1"]
            fourth = await call(server, encrypted=True)
            assert (await fourth.read()).startswith(b"127.0.0.1:")
            for one in (silent[1], fourth):
                one.abort()

    run(main())


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("header", [V1, v2("203.0.113.7"), v2("203.0.113.7", extensions=b"\x03\0\x04abcd\xe0\0\0")])
def test_behind_a_balancer_the_one_it_names_is_the_peer(
    certificates: Certificates, encrypted: bool, header: bytes
) -> None:
    async def main() -> None:
        gate = Counting(9)
        async with serving(certificates if encrypted else None, gate, ("127.0.0.0/8",)) as server:
            one = await call(server, header, encrypted=encrypted)
            assert await one.read() == b"203.0.113.7:4711 192.0.2.25\n"
            one.write(b"EHLO\r\n")
            assert await one.read() == b"read EHLO\r\n"
            one.abort()
        assert gate.seen == ["203.0.113.7"]

    run(main())


def test_a_header_may_come_octet_by_octet_or_with_all_that_follows() -> None:
    async def main() -> None:
        async with serving(proxies=("127.0.0.1/32",)) as server:
            for header in (V1, v2("203.0.113.7")):
                one = await call(server)
                for octet in header:
                    one.write(bytes([octet]))
                    await asyncio.sleep(0)
                assert await one.read() == b"203.0.113.7:4711 192.0.2.25\n"
                one.write(b"x")
                assert await all_of(one) == b"read x"
                together = await call(server, header + b"EHLO me first\r\n")
                assert await all_of(together) == b"203.0.113.7:4711 192.0.2.25\nread EHLO me first\r\n"

    run(main())


def test_who_ends_as_the_time_to_stop_is_over_is_counted_out() -> None:
    async def main() -> None:
        gate, begun = Counting(1), asyncio.Event()

        async def brief(_: Stream) -> None:
            begun.set()
            await asyncio.sleep(0.02)

        server = await serve(brief, bind(LOOPBACK), gate=gate)
        one = await stream.connect(server.endpoints[0], seconds=30)
        await begun.wait()
        # Both times are over in one turn of the loop, the session's before the other.
        asyncio.get_running_loop().call_soon(time.sleep, 0.2)
        await server.stop(0.05)
        assert (server.connections, gate.here) == (0, [])
        one.abort()

    run(main())


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0"])
def test_a_balancer_that_speaks_for_itself_is_the_peer(header: bytes) -> None:
    async def main() -> None:
        async with serving(proxies=("127.0.0.1/32",)) as server:
            one = await call(server, header + b"NOOP\r\n")
            whole = await all_of(one)
            assert whole.startswith(f"{one.local} 127.0.0.1\n".encode())

    run(main())


@pytest.mark.parametrize("encrypted", [False, True])
def test_without_its_header_nobody_is_served(
    certificates: Certificates, encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[observe.Step] = []
    end = observe.subscribe(steps.append)

    def refusals() -> list[object]:
        return [step.facts["error"] for step in steps if step.kind == "proxy.refused"]

    async def main() -> None:
        gate = Counting(9)
        async with serving(certificates if encrypted else None, gate, ("127.0.0.1/32",)) as server:
            for octets in (b"EHLO far.example\r\n", b"PROXY TCP4 ", b""):
                # Only who says nothing, or not enough, is waited for in vain.
                monkeypatch.setattr(servers, "PROXY_SECONDS", 30 if octets.startswith(b"EHLO") else 0.1)
                reader, writer = await asyncio.open_connection(*server.endpoints[0])
                writer.write(octets)
                try:
                    assert await reader.read() == b""
                except ConnectionResetError:
                    assert octets
                writer.close()
            monkeypatch.setattr(servers, "PROXY_SECONDS", 30)
            half = await call(server, b"PROXY")
            await half.close()
            while len(refusals()) < 4:
                await asyncio.sleep(0.005)
        assert gate.seen == []

    run(main())
    end()
    assert refusals() == [
        "the connection does not begin with a PROXY header",
        "no PROXY header within 0.1 s",
        "no PROXY header within 0.1 s",
        "the connection ended within its PROXY header",
    ]


def test_the_header_is_believed_from_configured_addresses_only() -> None:
    async def main() -> None:
        async with serving(proxies=("127.0.0.2/32", "2001:db8::/32")) as server:
            reader, writer = await asyncio.open_connection(*server.endpoints[0])
            assert await reader.read() == b""
            writer.close()
            one = await stream.connect(server.endpoints[0], seconds=30, source="127.0.0.2")
            one.write(V1)
            assert (await one.read()).startswith(b"203.0.113.7:4711")
            one.abort()

    run(main())


def test_a_socket_of_both_families_tells_of_ipv4_as_it_is() -> None:
    """systemd's are such: a balancer that is configured by its IPv4 address would be none."""

    async def main() -> None:
        for proxies in ((), ("127.0.0.0/8",)):
            bound = socket.socket(socket.AF_INET6)
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            bound.bind(("::", 0))
            bound.setblocking(False)
            server = await serve(told, [bound], proxies=proxies)
            try:
                one = await stream.connect(Endpoint("127.0.0.1", server.endpoints[0].port), seconds=30)
                one.write(V1 if proxies else b"")
                assert (await one.read()).startswith(b"203.0.113.7:4711 192.0.2.25" if proxies else b"127.0.0.1:")
                one.abort()
            finally:
                await server.stop(1)

    run(main())


def test_who_is_gone_before_he_is_accepted_is_not_taken_for_this_machine() -> None:
    """The kernel keeps what a connection brought that was reset, and no longer tells whose it was."""

    async def main() -> None:
        gate = Counting(10)
        async with serving(gate=gate) as server:
            with socket.socket() as gone:
                gone.bind(("127.0.0.9", 0))
                gone.connect(tuple(server.endpoints[0]))
                gone.sendall(b"in another's name")
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Whoever comes behind is accepted behind.
            one = await stream.connect(server.endpoints[0], seconds=30, source="127.0.0.8")
            one.write(b"x")
            assert (await one.read()).startswith(b"127.0.0.8:")
            one.abort()
        assert "127.0.0.1" not in gate.seen

    run(main())


@pytest.mark.parametrize("encrypted", [False, True])
def test_who_is_named_and_not_welcome_is_turned_away(certificates: Certificates, encrypted: bool) -> None:
    async def main() -> None:
        gate = Counting(0)
        async with serving(certificates if encrypted else None, gate, ("127.0.0.0/8",)) as server:
            reader, writer = await asyncio.open_connection(*server.endpoints[0])
            writer.write(V1)
            assert await reader.read() == (b"" if encrypted else b"421 4.3.2 Too many\n")
            writer.close()
            await until(server, 0)
        assert gate.seen == ["203.0.113.7"]

    run(main())
