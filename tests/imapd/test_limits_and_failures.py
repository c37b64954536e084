"""Where a command has to be refused, or fails in the middle: what others see, and what the client is told then."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from posthouse import limits
from posthouse.mailbox import recent
from posthouse.mailbox.known import Known
from posthouse.mailbox.mailboxes import MAX_DEPTH
from posthouse.mailbox.view import View
from posthouse.store.database import StoreUnavailable
from tests.doors.house import ALICE, BOB, House, having, in_house, message, opened
from tests.support import run

_THERE = f'"Other Users/{ALICE}/INBOX"'
_SHARED = f'"Other Users/{ALICE}/Archive"'


@contextmanager
def unreadable(house: House, name: str) -> Iterator[None]:
    """While it lasts, looks by the function of this name fail."""
    read = house.store.read

    async def sometimes(function: Any, *args: Any, **kwargs: Any) -> Any:
        if function.__name__ == name:
            raise StoreUnavailable("the disk is full")
        return await read(function, *args, **kwargs)

    with mock.patch.object(house.store, "read", sometimes):
        yield


def test_what_is_moved_comes_no_deeper_than_mailboxes_nest(tmp_path: Path) -> None:
    """Else there are names that nobody can say, and in the end a tree that nobody can read, whom it is shared with
    included."""

    async def test(house: House) -> None:
        client = await house.imap(mailbox=None)
        await client.ok("CREATE " + "/".join("a" * MAX_DEPTH))
        await client.ok("CREATE b/c")
        assert await client.tagged("RENAME a b/c/a") == b"NO [CANNOT] A mailbox cannot be named so"
        await client.ok("RENAME b c")
        await client.ok("RENAME a/a/a/a c/c/a")

    in_house(tmp_path, test)


def test_renaming_the_inbox_makes_no_room_for_annotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "METADATA_OCTETS", 100)

    async def test(house: House) -> None:
        client = await house.imap(mailbox=None)
        await client.ok(f'SETMETADATA INBOX (/private/comment "{"x" * 40}")')
        assert await client.tagged("RENAME INBOX a") == b"NO [METADATA TOOMANY] There are too many annotations"
        assert not having(await client.ok('LIST "" a'), b"LIST")

    in_house(tmp_path, test)


def test_a_filter_of_uids_means_nothing_in_several_mailboxes(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap(mailbox=None)
        await client.ok('SETMETADATA "" (/private/filters/values/mine "UID 1:5")')
        answer = await client.tagged("ESEARCH IN (personal) FILTER mine")
        assert answer == b"BAD Numbers and UIDs mean nothing in several mailboxes"

    in_house(tmp_path, test)


def test_an_order_by_relevance_is_not_watched(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for number in range(4):
            await house.file(message(number, "coaching" if number % 2 else "coach"))
        client = await house.imap()
        told = await client.ok("SORT RETURN (UPDATE ALL) (RELEVANCY) UTF-8 FUZZY BODY coaching")
        assert having(told, b"NOUPDATE")
        await house.file(message(9, "coaching"))
        assert await client.ok("NOOP") == [b"* 5 EXISTS"]

    in_house(tmp_path, test)


def test_items_to_be_told_with_an_update_are_limited(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        items = " ".join([f"BODY.PEEK[]<{number}.1>" for number in range(limits.NOTIFY_ITEMS + 1)])
        assert (await client.tagged(f"SEARCH RETURN (UPDATE ({items})) ALL")).startswith(b"NO [LIMIT] ")

    in_house(tmp_path, test)


def test_a_select_that_fails_in_the_end_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What this process has followed it need not look for.
    monkeypatch.setattr(recent, "_MOST", 0)

    async def test(house: House) -> None:
        await house.file(message(1))
        client = await house.imap(mailbox=None)
        await client.ok("ENABLE QRESYNC")
        (stands,) = await client.ok("STATUS INBOX (UIDVALIDITY HIGHESTMODSEQ)")
        validity, modseq = stands.rstrip(b")").split()[4::2]
        await house.file(message(2))
        with unreadable(house, "uids_since"):
            answer = await client.tagged(b"SELECT INBOX (QRESYNC (%b %b))" % (validity, modseq))
        assert answer.startswith(b"NO [UNAVAILABLE] ")
        await house.file(message(3))
        assert await client.ok("NOOP") == []
        assert not having(await client.ok("SELECT INBOX"), b"CLOSED")

    in_house(tmp_path, test)


def test_what_is_done_is_done_though_news_cannot_be_told(tmp_path: Path) -> None:
    """A client that hears NO files its message again."""

    async def test(house: House) -> None:
        await house.file(message(1))
        client, other = await house.imap(), await house.imap()
        await other.ok("STORE 1 +FLAGS (New)")
        with unreadable(house, "keyword_spellings"):
            assert (await client.append(message(2))).startswith(b"OK [APPENDUID ")
        told = await client.ok("NOOP")
        assert having(told, b"* 1 FETCH (UID 1 FLAGS (New))")
        assert having(told, b"EXISTS") == [b"* 2 EXISTS"]

    in_house(tmp_path, test)


def test_a_notify_that_fails_changes_nothing(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        with unreadable(house, "load"):
            answer = await client.tagged("NOTIFY SET (personal (MessageNew MessageExpunge))")
        assert answer.startswith(b"NO [UNAVAILABLE] ")
        await house.file(message(1))
        assert await client.ok("NOOP") == [b"* 1 EXISTS"]

    in_house(tmp_path, test)


def test_a_copy_into_another_account_is_of_all_or_none(tmp_path: Path) -> None:
    """RFC 9051 §6.4.7: what others have expunged is missed; by UID it is passed over."""

    async def test(house: House) -> None:
        for number in (1, 2):
            await house.file(message(number), account=house.bob)
        alice = await house.imap()
        await alice.ok(f"SETACL Archive {BOB} lri")
        bob, other = await house.imap(BOB), await house.imap(BOB)
        await other.ok(r"STORE 1 +FLAGS (\Deleted)")
        await other.ok("EXPUNGE")
        assert await bob.tagged(f"COPY 1:2 {_SHARED}") == b"NO [EXPUNGEISSUED] This message is gone"
        assert (await bob.tagged(f"UID COPY 1:2 {_SHARED}")).endswith(b" 2 1] Copied")

    in_house(tmp_path, test)


def test_what_comes_while_anothers_mailbox_is_opened_is_news(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        alice = await house.imap()
        await alice.ok(f"SETACL INBOX {BOB} lr")
        bob = await house.imap(BOB, None)
        look = house.snapshots.open

        async def slowly(account: int, mailbox: int, known: Known | None) -> View:
            view = await look(account, mailbox, known)
            await house.file(message(1))
            return view

        with mock.patch.object(house.snapshots, "open", slowly):
            assert having(await bob.ok(f"SELECT {_THERE}"), b"EXISTS") == [b"* 0 EXISTS"]
        assert await bob.ok("NOOP") == [b"* 1 EXISTS"]

    in_house(tmp_path, test)


def test_no_message_number_is_told_once_they_are_off(tmp_path: Path) -> None:
    """RFC 9586 §3, also of the first unseen one."""

    async def test(house: House) -> None:
        await house.file(message(1))
        client = await house.imap()
        assert having(await client.ok("SELECT INBOX"), b"UNSEEN")
        await client.ok("ENABLE UIDONLY")
        assert not having(await client.ok("SELECT INBOX"), b"UNSEEN")

    in_house(tmp_path, test)


def test_what_one_process_has_answered_another_knows(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as house, opened(tmp_path) as other:
            here, there = await house.imap(), await other.imap(mailbox=None)
            for number in range(1, 51):
                assert (await here.append(message(number))).startswith(b"OK")
                assert await there.ok("STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES %d)' % number]

    run(main())
