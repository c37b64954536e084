"""Write through one door, read through another: the whole house, every door of it on one store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from posthouse.clock import SetClock
from tests.doors.house import ImapClient, Pop3Client, having
from tests.harness import MESSAGE, PASSWORD, House, house
from tests.support import run

BOB = "bob@home.example"
DOORS = {"smtp": "none", "lmtp": "none", "submission": "none", "imap": "none", "pop3": "none"}


class Reading:
    """Clients of the reading doors, hung up at the end."""

    def __init__(self, home: House, stack: AsyncExitStack) -> None:
        self._home = home
        self._stack = stack

    async def imap(self, mailbox: str = "INBOX", login: str = BOB) -> ImapClient:
        """Logged in, with a mailbox open."""
        client = await ImapClient.connect(self._home.ports["imap"])
        self._stack.push_async_callback(client.close)
        await client.ok(f'LOGIN {login} "{PASSWORD}"')
        await client.ok(f"SELECT {mailbox}")
        return client

    async def pop3(self, login: str = BOB) -> Pop3Client:
        """Logged in."""
        client = await Pop3Client.connect(self._home.ports["pop3"])
        self._stack.push_async_callback(client.close)
        assert (await client.say(f"USER {login}")).startswith(b"+OK")
        assert (await client.say(f"PASS {PASSWORD}")).startswith(b"+OK")
        return client


@asynccontextmanager
async def doors(directory: Path) -> AsyncIterator[tuple[House, Reading]]:
    """The house of Bob and Carol, and a way in."""
    async with house(directory, listeners=DOORS) as home, AsyncExitStack() as stack:
        await home.people(BOB, "carol@home.example")
        yield home, Reading(home, stack)


def test_what_is_delivered_wakes_those_who_idle_and_shows_in_pop3(tmp_path: Path) -> None:
    async def main() -> None:
        async with doors(tmp_path) as (home, reading):
            idling = await reading.imap()
            await idling.idle()
            stranger = await home.connect("smtp")
            assert (await stranger.send("eve@far.example", [BOB])).startswith("250")
            assert await idling.response() == b"* 1 EXISTS"
            local = await home.connect("lmtp")
            assert (await local.envelope("eve@far.example", [BOB], hello="LHLO far.example")).startswith("250")
            assert (await local.data(MESSAGE)).startswith("250")
            assert await idling.response() == b"* 2 EXISTS"
            await idling.done()
            whole = (await idling.ok("FETCH 1 BODY.PEEK[]"))[0]
            assert b"Return-Path: <eve@far.example>\r\n" in whole
            assert MESSAGE in whole
            maildrop = await reading.pop3()
            assert (await maildrop.say("STAT")).startswith(b"+OK 2 ")
            size = int((await maildrop.say("LIST 1")).split()[2])
            assert len(b"\r\n".join([*await maildrop.lines("RETR 1"), b""])) == size
            assert b"RFC822.SIZE %d)" % size in (await idling.ok("FETCH 1 RFC822.SIZE"))[0]

    run(main())


def test_what_imap_appends_pop3_shows(tmp_path: Path) -> None:
    async def main() -> None:
        async with doors(tmp_path) as (_, reading):
            writer = await reading.imap()
            assert (await writer.append(MESSAGE)).startswith(b"OK")
            maildrop = await reading.pop3()
            assert b"\r\n".join([*await maildrop.lines("RETR 1"), b""]) == MESSAGE
            named = await maildrop.say("UIDL 1")
            await writer.ok("MOVE 1 Archive")
            await writer.ok("SELECT Archive")
            await writer.ok("MOVE 1 INBOX")
            await writer.ok("SELECT INBOX")
            assert await (await reading.pop3()).say("UIDL 1") == named
            # POP3 marks nothing as seen.
            assert b"FLAGS ()" in (await writer.ok("FETCH 1 FLAGS"))[0]

    run(main())


def test_what_pop3_removes_vanishes_from_imap(tmp_path: Path) -> None:
    async def main() -> None:
        async with doors(tmp_path) as (home, reading):
            watcher = await reading.imap()
            for _ in range(3):
                stranger = await home.connect("smtp")
                assert (await stranger.send("eve@far.example", [BOB])).startswith("250")
            await watcher.ok("NOOP")
            await watcher.idle()
            broken = await reading.pop3()
            assert (await broken.say("DELE 1")).startswith(b"+OK")
            await broken.close()
            maildrop = await reading.pop3()
            assert (await maildrop.say("DELE 2")).startswith(b"+OK")
            assert (await maildrop.say("QUIT")).startswith(b"+OK")
            # IDLE may begin with what a command told before.
            told = await watcher.response()
            assert (await watcher.response() if told.endswith(b" EXISTS") else told) == b"* 2 EXPUNGE"
            await watcher.done()
            assert len(await watcher.ok("FETCH 1:* UID")) == 2

    run(main())


def test_what_imap_moves_leaves_the_maildrop(tmp_path: Path) -> None:
    async def main() -> None:
        async with doors(tmp_path) as (_, reading):
            writer = await reading.imap()
            for _ in range(2):
                assert (await writer.append(MESSAGE)).startswith(b"OK")
            before = await reading.pop3()
            await writer.ok("MOVE 1 Archive")
            assert (await (await reading.pop3()).say("STAT")).startswith(b"+OK 1 ")
            # Whoever had it in his list can still read it, and his QUIT takes nothing from where it is now.
            assert b"\r\n".join([*await before.lines("RETR 1"), b""]) == MESSAGE
            assert (await before.say("DELE 1")).startswith(b"+OK")
            assert (await before.say("QUIT")).startswith(b"+OK")
            archive = await reading.imap("Archive")
            assert len(await archive.ok("FETCH 1:* UID")) == 1

    run(main())


def test_the_doors_share_the_count_of_wrong_guesses(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            # It stands still: a guess too many closes the doors for seconds at first.
            house(tmp_path, listeners=DOORS, settings='limits.login_failures = "2/10m"', clock=SetClock()) as home,
            AsyncExitStack() as stack,
        ):
            await home.people(BOB)
            imap = await ImapClient.connect(home.ports["imap"])
            pop3 = await Pop3Client.connect(home.ports["pop3"])
            stack.push_async_callback(imap.close)
            stack.push_async_callback(pop3.close)
            assert b"AUTHENTICATIONFAILED" in await imap.tagged(f"LOGIN {BOB} wrong1")
            await pop3.say(f"USER {BOB}")
            assert b"[AUTH]" in await pop3.say("PASS wrong2")
            await imap.tagged(f"LOGIN {BOB} wrong3")
            await pop3.say(f"USER {BOB}")
            assert b"[LOGIN-DELAY]" in await pop3.say("PASS wrong4")
            assert b"UNAVAILABLE" in await imap.tagged(f"LOGIN {BOB} wrong5")
            submission = await home.connect("submission")
            answer = await submission.say("EHLO there", "AUTH PLAIN AGJvYkBob21lLmV4YW1wbGUAd3Jvbmc0")
            assert answer.startswith("4")

    run(main())


def test_a_hundred_messages_by_three_doors_at_once(tmp_path: Path) -> None:
    """Strangers deliver, a client appends, another moves, while two watch; nothing is lost and nothing is twice."""

    async def main() -> None:
        async with doors(tmp_path) as (home, reading):
            watchers = [await reading.imap() for _ in range(2)]
            appender, mover = await reading.imap(), await reading.imap()

            async def deliver(door: str, hello: str) -> None:
                client = await home.connect(door)
                for _ in range(25):
                    await client.envelope("eve@far.example", [BOB], hello=hello)
                    assert (await client.data(MESSAGE)).startswith("250")

            async def append() -> None:
                for _ in range(25):
                    assert (await appender.append(MESSAGE)).startswith(b"OK")

            async def move() -> None:
                for _ in range(25):
                    await mover.tagged("UID MOVE 1:* Archive")

            await asyncio.gather(
                deliver("smtp", "EHLO far.example"), deliver("lmtp", "LHLO far.example"), append(), move()
            )
            for watcher in watchers:
                await watcher.ok("NOOP")
            counts = [len(await watcher.ok("FETCH 1:* UID")) for watcher in watchers]
            (status,) = having(await mover.ok("STATUS Archive (MESSAGES)"), b"STATUS")
            archived = int(status.rstrip(b")").split()[-1])
            assert [count + archived for count in counts] == [75, 75]

    run(main())
