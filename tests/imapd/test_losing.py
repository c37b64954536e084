"""What is lost under a session: the open mailbox, or what may be done there, before a command that has come already."""

import asyncio
from itertools import count
from pathlib import Path
from unittest import mock

import pytest

from posthouse.imapd import fetch, server
from posthouse.imapd.places import Place
from posthouse.imapd.session import Session
from posthouse.mailbox import mailboxes, shares
from posthouse.mailbox.snapshot import Snapshot
from posthouse.mailbox.view import Entry
from posthouse.wire.imap.fetch import Item
from posthouse.wire.imap.server import ImapServer
from tests.doors.house import ALICE, BOB, House, having, in_house, message, until


@pytest.mark.parametrize("rev2", [False, True])
def test_a_command_that_waited_finds_no_mailbox(tmp_path: Path, rev2: bool) -> None:
    """The task of a NOTIFY speaks, and loses the mailbox, while the command has come already. It is answered as if it
    had come a moment later: by BYE (RFC 2180 §3.3), or in IMAP4rev2, where one hears CLOSED, by BAD."""

    async def test(house: House) -> None:
        client, other = await house.imap(mailbox=None), await house.imap()
        if rev2:
            await client.ok("ENABLE IMAP4rev2")
        await client.ok("SELECT Archive")
        await client.ok("NOTIFY SET (selected (MessageNew MessageExpunge))")
        looking, go = asyncio.Event(), asyncio.Event()
        look = house.snapshots.current

        async def slowly(account: int, mailbox: int) -> Snapshot:
            looking.set()
            await go.wait()
            return await look(account, mailbox)

        with mock.patch.object(house.snapshots, "current", slowly):
            await other.ok("UNSELECT")
            await other.ok("DELETE Archive")
            await looking.wait()
            with mock.patch.object(ImapServer, "receive", autospec=True, side_effect=ImapServer.receive) as received:
                await client.send(b"a EXPUNGE\r\n")
                while not received.called:
                    await asyncio.sleep(0.001)
            # It has been read, and waits.
            go.set()
            if rev2:
                assert (await client.response()).startswith(b"* OK [CLOSED]")
                assert await client.response() == b"a BAD Not while authenticated"
                await client.ok("NOOP")
            else:
                assert await client.response() == b"* BYE The mailbox that was open has been deleted"
                assert await client.closed()

    in_house(tmp_path, test)


_THERE = f'"Other Users/{ALICE}/INBOX"'


@pytest.mark.parametrize(
    "command",
    [
        "FETCH 1 FLAGS", "FETCH 1 FLAGS (CHANGEDSINCE 1)", "SEARCH BODY nine", "SORT (SUBJECT) UTF-8 ALL",
        "THREAD REFERENCES UTF-8 ALL", "ESEARCH SUBJECT coach", "STORE 1 +FLAGS (New)", "STORE 1 -FLAGS (Old)",
        f'COPY 1 "Other Users/{ALICE}/Archive"',
    ],
)  # fmt: skip
def test_what_is_taken_back_is_not_shown_once_more(tmp_path: Path, command: str) -> None:
    """RFC 4314 §4: also not to who has the mailbox open and has not heard of it; what is known of its messages and what
    is kept of them for searches is theirs too. Nor does it leave anything in the other's account."""

    async def test(house: House) -> None:
        await house.file(message(1))
        alice = await house.imap()
        await alice.ok(f"SETACL INBOX {BOB} lrswi")
        await alice.ok(f"SETACL Archive {BOB} lri")
        bob = await house.imap(BOB, None)
        await bob.ok("ENABLE IMAP4rev2")
        await bob.ok(f"SELECT {_THERE}")
        await alice.ok(f"DELETEACL INBOX {BOB}")
        await house.file(message(2))
        assert await bob.say(command) == [b"NO [NOPERM] You may not do this here"]
        assert having(await bob.ok("CHECK"), b"CLOSED")
        assert await bob.tagged("CHECK") == b"BAD Not while authenticated"
        assert b"New" not in b"".join(await alice.ok("SELECT INBOX"))

    in_house(tmp_path, test)


def test_a_right_that_is_taken_back_is_missed_by_the_next_command(tmp_path: Path) -> None:
    """Who may still read reads on, and only marks nothing as seen."""

    async def test(house: House) -> None:
        await house.file(message(1))
        alice = await house.imap()
        await alice.ok(f"SETACL INBOX {BOB} lrs")
        bob = await house.imap(BOB, _THERE)
        await alice.ok(f"SETACL INBOX {BOB} lr")
        told = await bob.ok("FETCH 1 BODY[TEXT]")
        assert having(told, b"PERMANENTFLAGS") == [b"* OK [PERMANENTFLAGS ()] Flags that stay"]
        assert having(told, b"nine")
        assert await alice.ok("SEARCH SEEN") == [b"* SEARCH"]
        assert await bob.ok("CLOSE") == []

    in_house(tmp_path, test)


def test_what_is_replaced_is_lost_before_the_message_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task of a NOTIFY has its turn between a REPLACE and its message."""

    async def test(house: House) -> None:
        client, other = await house.imap(mailbox=None), await house.imap()
        await house.file(mailbox="Archive")
        await client.ok("ENABLE IMAP4rev2")
        await client.ok("SELECT Archive")
        await client.ok("NOTIFY SET (selected (MessageNew MessageExpunge))")
        pause = Session.pause
        deleted: list[bytes] = []

        async def slowly(session: Session) -> None:
            await pause(session)
            if session.ongoing is not None and not deleted:
                deleted.append(await other.tagged("DELETE Archive"))
                # Its task has heard the bell, and waits for the turn.
                await until(lambda: session._stale)

        await client.ok("NOOP")
        monkeypatch.setattr(server, "_TURN", 1)
        monkeypatch.setattr(Session, "pause", slowly)
        await client.send(b"a REPLACE 1 INBOX {3+}\r\nx:y\r\nb STATUS INBOX (MESSAGES)\r\n")
        assert (await client.response()).startswith(b"* OK [CLOSED]")
        assert (await client.response()).startswith(b"a NO [EXPUNGEISSUED]")
        assert await client.response() == b'* STATUS "INBOX" (MESSAGES 0)'
        assert (await client.response()).startswith(b"b OK")
        assert deleted[0].startswith(b"OK")

    in_house(tmp_path, test)


_THEIRS = f'"Other Users/{ALICE}/Archive"'


@pytest.mark.parametrize("look", [1, 2])
def test_a_right_that_is_taken_while_a_mailbox_is_opened(tmp_path: Path, look: int) -> None:
    """From anyone, whose bells do not ring: behind the first look at the rights, and before the owner's bell is heard;
    and behind the second, that at the mailbox being between them."""

    async def test(house: House) -> None:
        await house.file(mailbox="Archive")
        owner = house.alice.id
        archive = await house.store.read(mailboxes.find, owner, "Archive")
        await house.store.write(shares.grant, owner, archive, shares.ANYONE, "lr")
        bob = await house.imap(BOB, mailbox=None)
        readable = Session.readable

        looks = count(1)

        async def slowly(session: Session, path: str) -> Place:
            found = await readable(session, path)
            if next(looks) == look:
                await house.store.write(shares.grant, owner, archive, shares.ANYONE, "")
            return found

        with mock.patch.object(Session, "readable", slowly):
            opened = await bob.tagged(f"SELECT {_THEIRS}")
        if look == 1:
            assert opened.startswith(b"NO [NONEXISTENT]")
        else:
            assert opened.startswith(b"OK [READ-ONLY]")
            assert (await bob.tagged("FETCH 1 FLAGS")).startswith(b"NO [NOPERM]")

    in_house(tmp_path, test)


@pytest.mark.parametrize("watched", [False, True])
def test_a_right_that_is_taken_while_news_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    """What was asked for of new messages is told no more; then the mailbox is lost, and not the connection."""

    async def test(house: House) -> None:
        owner = house.alice.id
        archive = await house.store.read(mailboxes.find, owner, "Archive")
        await house.store.write(shares.grant, owner, archive, house.bob.id, "lr")
        bob = await house.imap(BOB, mailbox=None)
        await bob.ok("ENABLE IMAP4rev2")
        await bob.ok(f"SELECT {_THEIRS}")
        items = "" if watched else " (UID BODY.PEEK[TEXT])"
        await bob.ok(f"NOTIFY SET (selected (MessageNew{items} MessageExpunge))")
        if watched:
            await bob.ok("UID SEARCH RETURN (UPDATE (UID BODY.PEEK[TEXT])) ALL")
        tell = fetch.tell

        async def slowly(session: Session, chunk: list[Entry], wanted: tuple[Item, ...]) -> None:
            await house.store.write(shares.grant, owner, archive, house.bob.id, "")
            await tell(session, chunk, wanted)

        monkeypatch.setattr(fetch, "tell", slowly)
        await house.file(mailbox="Archive")
        told = await bob.until(b"* OK [CLOSED]")
        assert told[0] == b"* 1 EXISTS"
        assert not having(told, b"FETCH")
        await bob.ok("NOOP")

    in_house(tmp_path, test)
