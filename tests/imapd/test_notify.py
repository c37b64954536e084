"""NOTIFY (RFC 5465) among several clients and servers; what one client sees is in the transcripts."""

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest

from posthouse import limits
from posthouse.directory import accounts
from posthouse.imapd.session import Session
from posthouse.mailbox import mailboxes, retention
from posthouse.mailbox.changes import heard
from posthouse.mailbox.newest import Snapshots
from posthouse.mailbox.view import View
from posthouse.store.database import Tx
from tests.doors.house import ALICE, BOB, House, ImapClient, having, in_house, message, until
from tests.store.support import open_store

_EVERYTHING = "NOTIFY SET (selected (MessageNew MessageExpunge FlagChange)) (personal (MessageNew MessageExpunge))"


def test_news_of_another_process_come_while_the_client_says_nothing(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        await client.ok(_EVERYTHING)
        other = open_store(tmp_path)
        await house.file(message(1), store=other)
        assert await client.response() == b"* 1 EXISTS"
        await house.file(message(2), mailbox="Archive", store=other)
        assert (await client.response()).startswith(b'* STATUS "Archive" (MESSAGES 1 UIDNEXT 2 ')
        await house.file(message(3), store=other)
        assert await client.response() == b"* 2 EXISTS"
        assert await client.ok("NOOP") == []
        await other.close()

    in_house(tmp_path, test)


def test_all_who_watch_hear_and_share_a_tree(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        clients = [await house.imap(mailbox=None) for _ in range(5)]
        for client in clients:
            await client.ok("NOTIFY SET (personal (MessageNew MessageExpunge MailboxName))")
        busy = await house.imap(mailbox=None)
        await busy.ok("CREATE New")
        for client in clients:
            assert await client.response() == rb'* LIST (\HasNoChildren) "/" "New"'
        await house.file(mailbox="New")
        for client in clients:
            assert (await client.response()).startswith(b'* STATUS "New" (MESSAGES 1 UIDNEXT 2 ')
        await busy.ok("NOOP")
        assert len(house.snapshots.trees) == 1

    in_house(tmp_path, test)


def test_the_same_events_come_while_it_idles(tmp_path: Path) -> None:
    """RFC 5465 §4."""

    async def test(house: House) -> None:
        client = await house.imap()
        await client.ok("NOTIFY SET (selected (MessageNew (UID) MessageExpunge)) (mailboxes Archive (MailboxName))")
        await client.idle()
        await house.file(message(1), mailbox="Archive")
        await house.file(message(2))
        assert [await client.response(), await client.response()] == [b"* 1 EXISTS", b"* 1 FETCH (UID 1)"]
        assert await client.done() == []
        await house.file(message(3))
        assert [await client.response(), await client.response()] == [b"* 2 EXISTS", b"* 2 FETCH (UID 2)"]

    in_house(tmp_path, test)


def test_news_wait_for_the_end_of_an_answer(tmp_path: Path) -> None:
    """What is told unasked does not stand in the middle of a long answer."""

    async def test(house: House) -> None:
        for number in range(1, 4):
            await house.file(message(number, "x" * 600_000))
        client = await house.imap()
        await client.ok(_EVERYTHING)
        await client.send(b"a UID FETCH 1:* (BODY.PEEK[])\r\n")
        await house.file(message(4))
        told = await client.until(b"a ")
        bodies = having(told, b"BODY[] {")
        assert [body.endswith(b"x\r\n)") for body in bodies] == [True] * 3
        assert having(told, b"EXISTS") == [b"* 4 EXISTS"] or await client.response() == b"* 4 EXISTS"

    in_house(tmp_path, test)


def test_what_came_before_is_told_by_the_command(tmp_path: Path) -> None:
    """RFC 5465 §3.1: it implies a NOOP, also for a client that then wants nothing."""

    async def test(house: House) -> None:
        client = await house.imap()
        await house.file()
        assert await client.ok("NOTIFY SET (personal (MailboxName))") == [b"* 1 EXISTS"]
        await house.file()
        assert await client.ok("NOOP") == []
        assert await client.ok("NOTIFY NONE") == [b"* 2 EXISTS"]

    in_house(tmp_path, test)


def test_a_client_that_falls_behind_is_told_so(tmp_path: Path) -> None:
    """RFC 5465 §5.8: then nothing more, as after NOTIFY NONE."""

    async def test(house: House) -> None:
        client = await house.imap(mailbox=None)
        await client.ok("NOTIFY SET (personal (MessageNew MessageExpunge))")
        await house.store.write(_file_and_forget, house.alice.id)
        assert b"[NOTIFICATIONOVERFLOW]" in await client.response()
        await house.file()
        assert await client.ok("NOOP") == []
        await client.ok("NOTIFY SET (personal (MessageNew MessageExpunge))")
        await house.file()
        assert (await client.response()).startswith(b'* STATUS "INBOX" (MESSAGES 2 ')

    in_house(tmp_path, test)


def _file_and_forget(tx: Tx, account: int) -> None:
    """Two changes, of which the feed knows one when anybody looks."""
    now = 1_800_000_000_000
    mailboxes.create(tx, account, "a", now)
    retention.expire_changes(tx, account, now + 1)
    mailboxes.create(tx, account, "b", now)


def test_too_much_at_once_is_an_overflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NOTIFY_MAILBOXES", 2)

    async def test(house: House) -> None:
        clients: list[ImapClient] = []
        for events in ("MessageNew MessageExpunge", "MailboxName"):
            clients.append(await house.imap(mailbox=None))
            await clients[-1].ok(f"NOTIFY SET (personal ({events}))")
        await house.store.write(_create, house.alice.id)
        assert b"[NOTIFICATIONOVERFLOW]" in await clients[1].response()
        assert await clients[0].ok("NOOP") == []

    in_house(tmp_path, test)


def _create(tx: Tx, account: int) -> None:
    for name in "abc":
        mailboxes.create(tx, account, name, 1_800_000_000_000)


def test_what_was_told_beside_commands_is_told_again_where_a_silent_store_changes_it(tmp_path: Path) -> None:
    """RFC 9051 §6.4.6: the client cannot know whether it was told before its STORE was done, or what came of it."""

    async def test(house: House) -> None:
        for number in range(2):
            await house.file(message(number))
        client, other = await house.imap(), await house.imap()
        await client.ok("NOTIFY SET (selected (MessageNew MessageExpunge FlagChange))")
        await other.ok("STORE 1 FLAGS (red)")
        assert (await client.response()).startswith(b"* FLAGS (")
        assert (await client.response()).startswith(b"* OK [PERMANENTFLAGS")
        assert await client.response() == b"* 1 FETCH (UID 1 FLAGS (red))"
        told = await client.ok(r"STORE 1:2 FLAGS.SILENT (\Answered)")
        assert told == [b"* 1 FETCH (UID 1 FLAGS (\\Answered))"]
        assert await client.ok(r"STORE 1:2 FLAGS.SILENT (\Flagged)") == []

    in_house(tmp_path, test)


def test_a_look_costs_what_changed(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for number in range(10):
            await house.file(message(number))
        before = await house.store.read(_heard, house.alice.id, 0)
        assert before.mailboxes == before.changed != set()
        client = await house.imap()
        await client.ok(r"STORE 1:* +FLAGS.SILENT (\Deleted)")
        await client.ok("EXPUNGE")
        found = await house.store.read(_heard, house.alice.id, before.until)
        assert (found.mailboxes, found.changed, found.gone) == (before.mailboxes,) * 3
        own = await house.store.read(heard, house.alice.id, before.until, own=((before.until + 1, found.until),))
        assert (own.mailboxes, own.changed, own.gone) == (before.mailboxes, set(), set())
        cut = await house.store.read(heard, house.alice.id, 0, limit=3)
        assert cut.more
        assert not found.more

    in_house(tmp_path, test)


_heard = heard


def test_the_task_ends_with_the_conversation(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        before = len(asyncio.all_tasks())
        client = await house.imap()
        await client.ok(_EVERYTHING)
        await client.ok("NOOP")
        again = await house.imap()
        await again.ok(_EVERYTHING)
        await again.ok("LOGOUT")
        assert await again.closed()
        await client.close()
        await house.file()
        other = await house.imap()
        await other.ok("NOOP")
        await other.close()
        await until(lambda: len(asyncio.all_tasks()) <= before)

    in_house(tmp_path, test)


def test_whose_account_is_disabled_is_shown_out(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        await client.ok(_EVERYTHING)
        await house.store.write(accounts.set_enabled, house.alice.id, False)
        assert await client.response() == b"* BYE [UNAVAILABLE] This account is closed"
        assert await client.closed()

    in_house(tmp_path, test)


def test_the_open_mailbox_is_deleted(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap(mailbox=None)
        await client.ok("ENABLE IMAP4rev2")
        await client.ok("CREATE Doomed")
        await client.ok("SELECT Doomed")
        await client.ok("NOTIFY SET (selected (MessageNew MessageExpunge)) (personal (MailboxName))")
        other = await house.imap()
        await other.ok("DELETE Doomed")
        assert (await client.response()).startswith(b"* OK [CLOSED]")
        assert await client.response() == rb'* LIST (\NonExistent) "/" "Doomed"'
        await client.ok("NOOP")

    in_house(tmp_path, test)


def test_an_answer_behind_anothers_knows_what_that_one_did(tmp_path: Path) -> None:
    """Also in the moment in which the task has heard two bells, and has not begun to tell."""

    async def test(house: House) -> None:
        alice, bob = await house.imap(), await house.imap(BOB, mailbox=None)
        await alice.ok(f"SETACL INBOX {BOB} lr")
        await bob.ok(f'SELECT "Other Users/{ALICE}/INBOX"')
        await bob.ok("NOTIFY SET (selected (MessageNew MessageExpunge))")
        for number in range(1, 9):
            await house.file(message(number))
            for _ in range(number - 1):
                await asyncio.sleep(0)
            assert b"* %d EXISTS" % number in await bob.ok("NOOP")

    in_house(tmp_path, test)


_UNKNOWN = b"Subject: odd\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n"


@pytest.mark.parametrize("how", ["alone", "idle", "watched"])
def test_a_part_that_cannot_be_decoded_ends_nothing(tmp_path: Path, how: str) -> None:
    """Anybody may send such a message: the client hears why it is told no more of it, and of the next one all."""

    async def test(house: House) -> None:
        client = await house.imap()
        items = "" if how == "watched" else " (UID BINARY.PEEK[1])"
        await client.ok(f"NOTIFY SET (selected (MessageNew{items} MessageExpunge))")
        if how == "watched":
            await client.ok("UID SEARCH RETURN (UPDATE (UID BINARY.PEEK[1])) ALL")
        if how == "idle":
            await client.idle()
        await house.file(_UNKNOWN)
        assert await client.response() == b"* 1 EXISTS"
        assert (await client.response()).startswith(b"* NO [UNKNOWN-CTE]")
        await house.file(message(2))
        told = await client.until(b"* 2 FETCH")
        assert b"* 2 EXISTS" in told
        assert b"BINARY[1] {20}\r\nIt leaves at nine." in told[-1]

    in_house(tmp_path, test)


_THERE = f'"Other Users/{ALICE}/Archive"'


async def _shared(house: House) -> ImapClient:
    """Bob, who is told of the open mailbox, and then opens one of Alice's."""
    alice, bob = await house.imap(), await house.imap(BOB)
    await alice.ok(f"SETACL Archive {BOB} lr")
    await bob.ok("NOTIFY SET (selected (MessageNew MessageExpunge)) (mailboxes Archive (MailboxName))")
    await bob.ok(f"SELECT {_THERE}")
    return bob


def test_what_another_shares_is_heard_of_whenever_it_was_opened(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        bob = await _shared(house)
        await house.file(mailbox="Archive")
        assert await bob.response() == b"* 1 EXISTS"
        await bob.ok("SELECT INBOX")
        await house.file(account=house.bob)
        assert await bob.response() == b"* 1 EXISTS"

    in_house(tmp_path, test)


def test_a_ring_while_a_command_looks_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task hears it, and waits for the command to end: what came behind the command's look is told then."""

    async def test(house: House) -> None:
        bob = await _shared(house)
        heard_again = asyncio.Event()
        hear, refresh = Session._hear, Snapshots.refresh

        def listening(session: Session, rung: Collection[int]) -> None:
            hear(session, rung)
            heard_again.set()

        async def slowly(snapshots: Snapshots, view: View) -> None:
            monkeypatch.setattr(Snapshots, "refresh", refresh)
            await refresh(snapshots, view)
            # The look is over, and the command does not know it yet.
            heard_again.clear()
            await house.file(mailbox="Archive")
            await heard_again.wait()

        monkeypatch.setattr(Session, "_hear", listening)
        monkeypatch.setattr(Snapshots, "refresh", slowly)
        # The first command in what another shares looks: what was there before its bell was heard is not known.
        await bob.ok("NOOP")
        assert await bob.response() == b"* 1 EXISTS"

    in_house(tmp_path, test)
