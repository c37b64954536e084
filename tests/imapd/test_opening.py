"""SELECT and STATUS answer from what is known of an account, as long as nothing happens in it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.doors.house import House, having, in_house, message
from tests.store.support import open_store
from tests.support import run


@contextmanager
def looks(house: House) -> Iterator[list[Any]]:
    """What is read from the store meanwhile."""
    found: list[Any] = []
    read = house.store.read

    async def count(function: Any, *args: Any, **kwargs: Any) -> Any:
        found.append(function)
        return await read(function, *args, **kwargs)

    house.store.read = count  # type: ignore[method-assign]  # this instance's only
    try:
        yield found
    finally:
        house.store.read = read  # type: ignore[method-assign]


def test_what_is_opened_again_is_not_looked_up(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file(message(1))
        one, two = await house.imap(), await house.imap()
        first = await one.ok("SELECT INBOX")
        totals = await one.ok("STATUS INBOX (MESSAGES UIDNEXT UNSEEN)")
        with looks(house) as found:
            # What was open is closed first.
            assert await one.ok("SELECT INBOX") == first
            await one.ok("UNSELECT")
            assert await one.ok("SELECT INBOX") == [line for line in first if b"CLOSED" not in line]
            assert await two.ok("STATUS INBOX (MESSAGES UIDNEXT UNSEEN)") == totals
            assert await two.ok("SELECT INBOX") == first
        assert found == []

    in_house(tmp_path, test)


def test_what_others_do_is_seen_at_once(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        reader, other = await house.imap(mailbox=None), await house.imap()
        for number in range(1, 4):
            await house.file(message(number))
            opened = await reader.ok("SELECT INBOX")
            assert having(opened, b"EXISTS") == [b"* %d EXISTS" % number]
            assert having(opened, b"UNSEEN") == [b"* OK [UNSEEN 1] The first unseen one"]
            await reader.ok("UNSELECT")
        await other.ok("NOOP")
        await other.ok(r"STORE 1:2 +FLAGS (\Seen new)")
        opened = await reader.ok("SELECT INBOX")
        assert having(opened, b"UNSEEN") == [b"* OK [UNSEEN 3] The first unseen one"]
        assert having(await reader.ok("FETCH 1 FLAGS"), b"new")
        await reader.ok("UNSELECT")
        await other.ok(r"STORE 3 +FLAGS (\Seen \Deleted)")
        assert having(await reader.ok("SELECT INBOX"), b"[UNSEEN") == []
        await reader.ok("UNSELECT")
        await other.ok("EXPUNGE")
        totals = await reader.ok("STATUS INBOX (MESSAGES UIDNEXT)")
        assert having(totals, b"* STATUS") == [b'* STATUS "INBOX" (MESSAGES 2 UIDNEXT 4)']

    in_house(tmp_path, test)


def test_a_name_leads_to_what_is_there_now(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        reader, other = await house.imap(mailbox=None), await house.imap()
        await other.ok("CREATE a")
        first = having(await reader.ok("EXAMINE a"), b"MAILBOXID")
        await other.ok("RENAME a b")
        assert (await reader.tagged("SELECT a")).startswith(b"NO [NONEXISTENT]")
        assert having(await reader.ok("SELECT b"), b"MAILBOXID") == first
        await reader.ok("UNSELECT")
        await other.ok("CREATE a")
        assert having(await reader.ok("SELECT a"), b"MAILBOXID") != first
        await reader.ok("UNSELECT")
        await other.ok("DELETE a")
        assert (await reader.tagged("STATUS a (MESSAGES)")).startswith(b"NO [NONEXISTENT]")

    in_house(tmp_path, test)


def test_each_is_told_what_it_asked_for(tmp_path: Path) -> None:
    """EXAMINE beside SELECT, IMAP4rev2 beside rev1, UTF-8 beside modified UTF-7."""

    async def test(house: House) -> None:
        old, new = await house.imap(mailbox=None), await house.imap(mailbox=None)
        await new.ok("ENABLE IMAP4rev2")
        await old.ok("CREATE &ZeVnLIqe-")
        for _ in range(2):
            opened = await old.ok("SELECT &ZeVnLIqe-")
            assert having(opened, b"LIST") == []
            assert having(opened, b"RECENT") == [b"* 0 RECENT"]
            assert having(opened, b"PERMANENTFLAGS") != having(await old.ok("EXAMINE &ZeVnLIqe-"), b"PERMANENTFLAGS")
            opened = await new.ok('SELECT "日本語"'.encode())
            assert having(opened, b"LIST") == ['* LIST () "/" "日本語"'.encode()]
            assert having(opened, b"RECENT") == []
            await old.ok("UNSELECT")
            await new.ok("UNSELECT")

    in_house(tmp_path, test)


def test_what_another_process_did_is_seen_once_its_bell_is_heard(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        reader, listener = await house.imap(), await house.imap()
        other = open_store(tmp_path)
        await reader.ok("UNSELECT")
        await listener.idle()
        await house.file(message(1), store=other)
        assert await listener.response() == b"* 1 EXISTS"
        assert having(await reader.ok("SELECT INBOX"), b"EXISTS") == [b"* 1 EXISTS"]
        await listener.done()
        await other.close()

    in_house(tmp_path, test)


def test_a_bell_that_lies_unheard_is_heard_before_a_mailbox_is_opened(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        snapshots, owner = house.snapshots, house.alice.id
        one = snapshots.accounts.of(owner)
        inbox = (await snapshots.open(owner, 1, one)).snapshot.mailbox
        assert snapshots.accounts.of(owner) is one
        assert one.get(inbox) is not None

        async def deliver() -> None:
            other = open_store(tmp_path)
            await house.file(message(1), store=other)
            await other.close()

        # This loop stands still meanwhile: it has not heard the other process' bell by itself.
        thread = threading.Thread(target=run, args=(deliver(),))
        thread.start()
        thread.join()
        known = snapshots.accounts.of(owner)
        assert known is not one
        assert len(await snapshots.open(owner, inbox, known)) == 1

    in_house(tmp_path, test)
