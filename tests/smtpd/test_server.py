"""One connection's conversation, and what it leaves to others."""

import asyncio
from collections.abc import Awaitable

from posthouse.clock import SetClock
from posthouse.net import stream
from posthouse.net.listen import bind
from posthouse.net.server import serve
from posthouse.net.stream import Stream
from posthouse.smtpd.pace import Pace
from posthouse.smtpd.server import converse
from posthouse.terms.reply import Reply
from posthouse.wire.smtp.command import Bdat, Quit
from posthouse.wire.smtp.event import Closed, Connected, DataChunk, Event
from posthouse.wire.smtp.server import SmtpServer
from posthouse.written import Endpoint
from tests.support import run


class Answering:
    """Says yes to everything, and notes how often others had their turn meanwhile."""

    def __init__(self, engine: SmtpServer) -> None:
        self.engine = engine
        self.pace = Pace(SetClock(), line=300, rate=500, session=900)
        self.pause = 0.0
        self.turns = 0
        self.seen: list[int] = []

    def handle(self, event: Event) -> Awaitable[None] | None:
        if isinstance(event, Connected):
            asyncio.get_running_loop().call_soon(self.others)
        self.seen.append(self.turns)
        code = 220 if isinstance(event, Connected) else 221 if isinstance(event, Quit) else 250
        self.engine.reply(Reply(code, None, "yes"))
        return None

    def closed(self, event: Closed) -> None:
        assert event.why == "quit"

    def others(self) -> None:
        self.turns += 1
        if self.engine.state.name != "CLOSED":
            asyncio.get_running_loop().call_soon(self.others)


def test_who_says_much_at_once_leaves_others_their_turn() -> None:
    """40,000 commands of one read held everybody else up for 300 ms; each connection of an address may do it again."""
    answering: list[Answering] = []

    async def serve_one(one: Stream) -> None:
        engine = SmtpServer("mx", {}, home="there.example")
        answering.append(Answering(engine))
        await converse(one, engine, answering[0])

    async def main() -> None:
        server = await serve(serve_one, bind(Endpoint("127.0.0.1", 0)))
        one = await stream.connect(server.endpoints[0], seconds=30)
        one.write(b"EHLO far.example\r\n" + b"NOOP\r\n" * 2000 + b"QUIT\r\n")
        while await one.read():
            pass
        await one.close()
        await server.stop(1)

    run(main())
    seen = answering[0].seen
    assert len(seen) == 2003
    assert max(seen.count(turn) for turn in set(seen)) <= 51


class Watching(Pace):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__(SetClock(), line=300, rate=500, session=900)
        self.reads: list[bool] = []
        self.begun: list[bool] = []

    def begin(self, *, goes_on: bool = False) -> None:
        self.begun.append(goes_on)
        super().begin(goes_on=goes_on)

    def is_late(self, octets: int, *, message: bool) -> bool:
        self.reads.append(message)
        return super().is_late(octets, message=message)


class Taking(Answering):
    """Says yes to whatever wants an answer."""

    def handle(self, event: Event) -> Awaitable[None] | None:
        return None if isinstance(event, Bdat | DataChunk) else super().handle(event)


def test_a_message_in_chunks_is_timed_as_one() -> None:
    answering: list[Taking] = []
    watching = Watching()

    async def serve_one(one: Stream) -> None:
        engine = SmtpServer("mx", {"CHUNKING": ""}, home="there.example")
        answering.append(Taking(engine))
        answering[0].pace = watching
        await converse(one, engine, answering[0])

    async def main() -> None:
        server = await serve(serve_one, bind(Endpoint("127.0.0.1", 0)))
        one = await stream.connect(server.endpoints[0], seconds=30)
        try:
            for said, replies in (
                (b"", 1),
                (b"EHLO far.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 1\r\na", 4),
                (b"NOOP\r\nBDAT 1 LAST\r\nb", 2),
                (b"QUIT\r\n", 1),
            ):
                one.write(said)
                heard = b""
                while heard.count(b"\r\n") < replies:
                    octets = await one.read()
                    assert octets, heard
                    heard += octets
        finally:
            await one.close()
            await server.stop(1)

    run(main())
    # Connected, Hello, Mail, Rcpt, Bdat, ChunkEnd, Noop, Bdat, DataEnd, Quit.
    assert watching.begun == [False] * 4 + [True] * 4 + [False] * 2
    assert watching.reads == [False, True, False]
