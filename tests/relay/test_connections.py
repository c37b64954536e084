"""Opening and keeping connections; and the courier against our own server's engine."""

import asyncio
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from posthouse.clock import SetClock
from posthouse.net.listen import bind
from posthouse.net.server import serve
from posthouse.net.stream import Stream, connect
from posthouse.net.tls import client_context
from posthouse.queue.outcome import Stage
from posthouse.relay.connections import Connection, Hop, HopFailed, Opener, Pool, Timeouts, TlsPolicy
from posthouse.store.blobs import Blobs
from posthouse.terms.reply import Reply
from posthouse.wire.smtp import command
from posthouse.wire.smtp.event import Closed, Connected, DataChunk, DataEnd
from posthouse.wire.smtp.server import SmtpServer
from posthouse.written import Endpoint
from tests.relay.support import MESSAGE, PATIENT, SOON, Peer, Rig, told
from tests.support import run

OPENER = Opener(
    "mx.home.example",
    PATIENT,
    client_context(verify=False),
    source=("127.0.0.1",),
    verifying=client_context(verify=True),
    clock=SetClock(),
)


def hop(peer: Peer, mode: str = "opportunistic") -> Hop:
    return Hop("there.example", peer.port, TlsPolicy(mode))  # type: ignore[arg-type]


def test_a_connection_is_kept_for_an_equal_hop_only() -> None:
    async def main() -> None:
        async with Peer() as peer:
            pool = Pool(PATIENT)
            connection = await OPENER.open(hop(peer), Endpoint("127.0.0.1", peer.port))
            pool.give(connection)
            assert pool.take(hop(peer, "require")) is None
            assert pool.take(Hop("other.example", peer.port)) is None
            assert pool.take(hop(peer)) is connection
            assert pool.take(hop(peer)) is None
            connection.abort()
            await pool.close()

    run(main())


def test_a_connection_on_which_something_was_said_unasked_is_not_used_again() -> None:
    async def main() -> None:
        async with Peer() as peer:
            pool = Pool(PATIENT)
            connection = await OPENER.open(hop(peer), Endpoint("127.0.0.1", peer.port))
            pool.give(connection)
            peer.writers[0].write(b"421 4.4.2 you were idle\r\n")
            while connection.reusable:
                await asyncio.sleep(0.001)
            assert pool.take(hop(peer)) is None
            await pool.close()

    run(main())


def test_closing_the_pool_says_goodbye() -> None:
    async def main() -> None:
        async with Peer() as peer:
            pool = Pool(PATIENT)
            pool.give(await OPENER.open(hop(peer), Endpoint("127.0.0.1", peer.port)))
            await pool.close()
            assert peer.said[0][-1] == "QUIT"

    run(main())


@pytest.mark.parametrize(
    ("answers", "stage", "said", "times"),
    [
        ({"": ("554 no",)}, Stage.GREETING, True, PATIENT),
        ({"": ("421 busy",)}, Stage.GREETING, True, PATIENT),
        ({"": ("(hang)",)}, Stage.GREETING, False, replace(PATIENT, greeting=SOON)),
        ({"EHLO": ("502 what",), "HELO": ("550 no",)}, Stage.HELLO, True, PATIENT),
        ({"EHLO": ("(drop)",)}, Stage.HELLO, False, PATIENT),
        ({"EHLO": ("(hang)",)}, Stage.HELLO, False, replace(PATIENT, hello=SOON)),
    ],
)
def test_opening_fails_with_the_stage_and_the_words(
    answers: dict[str, tuple[str]], stage: Stage, said: bool, times: Timeouts
) -> None:
    async def main() -> None:
        async with Peer(answers) as peer:
            with pytest.raises(HopFailed) as caught:
                await replace(OPENER, timeouts=times).open(hop(peer), Endpoint("127.0.0.1", peer.port))
            assert (caught.value.stage, caught.value.said) == (stage, said)

    run(main())


class Hasty:
    """A clock on which half a minute passes whenever it is looked at."""

    def __init__(self) -> None:
        self.looks = 0

    def time(self) -> float:
        self.looks += 1
        return self.looks * 30.0


def test_a_peer_that_strews_its_octets_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An octet just before each timeout would hold a courier for months."""

    async def converse(one: Stream) -> None:
        one.write(b"220-")
        while not one.gone:
            await asyncio.sleep(0.005)
            one.write(b"x")

    async def main() -> None:
        server = await serve(converse, bind(Endpoint("127.0.0.1", 0)))
        place, clock = server.endpoints[0], Hasty()
        try:
            connection = Connection(Hop("there.example", place.port), place, await connect(place, seconds=30))
            monkeypatch.setattr(connection, "_loop", clock)
            with pytest.raises(HopFailed, match="no reply within 300 seconds"):
                await connection.expect(Stage.GREETING, 300)
            # Each time that something came there was less time left, and in the end none.
            assert clock.looks > 10
            connection.abort()
        finally:
            await server.stop(1)

    run(main())


def test_nobody_there_is_a_failure_to_connect() -> None:
    async def main() -> None:
        # Bound, so that nobody else gets the port, and not listening.
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            with pytest.raises(HopFailed) as caught:
                await OPENER.open(Hop("there.example", port), Endpoint("127.0.0.1", port))
        assert (caught.value.stage, caught.value.reply.enhanced) == (Stage.CONNECT, "4.4.1")

    run(main())


@pytest.mark.parametrize(
    ("name", "shown", "good"),
    [
        ("[127.0.0.1]", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("[IPv6:2001:db8::1]", "2001:db8::1", True),
        ("[127.0.0.1]", "127.0.0.2", False),
        ("[127.0.0.1]", "there.example", False),
        ("there.example", "there.example", True),
        ("mx.there.example", "*.there.example", True),
        ("a.mx.there.example", "*.there.example", False),
    ],
)
def test_a_certificate_is_for_the_name_or_address_that_was_meant(
    tmp_path: Path, name: str, shown: str, good: bool
) -> None:
    """An address literal is no name: it is looked for among the addresses of a certificate, and not asked for by name
    (RFC 6066 §3)."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    asked: list[str | None] = []

    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(shown).configure_cert(context)
        context.sni_callback = lambda _, asked_for, __: asked.append(asked_for)
        verifying = client_context(verify=True, authorities=tmp_path / "ca.pem")
        async with Peer({"EHLO": ("250-there\r\n250 STARTTLS",)}, tls=context) as peer:
            opener = replace(OPENER, verifying=verifying)
            hop = Hop(name, peer.port, TlsPolicy("verify"))
            if good:
                connection = await opener.open(hop, Endpoint("127.0.0.1", peer.port))
                assert connection.verified
                connection.abort()
            else:
                with pytest.raises(HopFailed, match="certificate refused"):
                    await opener.open(hop, Endpoint("127.0.0.1", peer.port))

    run(main())
    assert asked == [name if name.endswith("example") else None]


class OwnServer:
    """Our own engine behind a socket, which takes everything but mail for `nobody`."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.connections = 0

    async def converse(self, stream: Stream) -> None:
        self.connections += 1
        engine = SmtpServer("mx", {"PIPELINING": "", "8BITMIME": "", "ENHANCEDSTATUSCODES": ""}, home="there.example")
        octets = b""
        while True:
            event = engine.next_event()
            match event:
                case None:
                    stream.write(engine.outgoing())
                    engine.receive(await stream.read())
                case Connected():
                    engine.reply(Reply(220, None, "there"))
                case command.Hello():
                    engine.reply(engine.hello_reply("there"))
                case command.Rcpt(recipient) if recipient.address.local == "nobody":
                    engine.reply(Reply(550, "5.1.1", "Nobody here"))
                case command.Data():
                    engine.reply(Reply(354, None, "Go on"))
                case DataChunk(more):
                    octets += more
                case DataEnd():
                    self.messages.append(octets)
                    octets = b""
                    engine.reply(Reply(250, "2.0.0", "Taken"))
                case Closed():
                    stream.write(engine.outgoing())
                    return
                case _:
                    engine.reply(Reply(250, "2.0.0", "Fine"))


@pytest.mark.parametrize("octets", [MESSAGE, b"", b".\r\n", b"no end", b"a\r\n" * 300_000])
def test_our_own_server_gets_what_was_sent(tmp_path: Path, octets: bytes) -> None:
    async def main() -> None:
        own = OwnServer()
        listening = socket.create_server(("127.0.0.1", 0))
        server = await serve(own.converse, [listening])
        rig = Rig(Blobs(tmp_path / "blobs"), Peer(port=server.endpoints[0].port))
        for _ in range(2):
            report = await rig.send("bob@there.example", "nobody@there.example", octets=octets, prologue=b"X: y\r\n")
            assert told(report) == {1: ("relayed", 250, "recipient"), 2: ("failed", 550, "recipient")}
        await rig.courier.close()
        await server.stop(1)
        whole = b"X: y\r\n" + octets
        # RFC 5321 §4.1.1.4: a last line without an end gets one.
        assert own.messages == [whole if whole.endswith(b"\r\n") else whole + b"\r\n"] * 2
        assert own.connections == 1

    run(main())
