import asyncio
from pathlib import Path

import pytest

from posthouse.directory import accounts
from posthouse.imapd import idle
from tests.doors.house import ALICE, BOB, House, in_house, message, until
from tests.store.support import open_store


def test_news_of_another_process_come_while_the_client_idles(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        other = open_store(tmp_path)
        await client.idle()
        await house.file(message(1), store=other)
        assert await client.response() == b"* 1 EXISTS"
        await house.file(message(2), store=other)
        assert await client.response() == b"* 2 EXISTS"
        assert await client.done() == []
        await other.close()

    in_house(tmp_path, test)


def test_what_came_before_it_is_told_at_once(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        await house.file()
        await client.idle()
        assert await client.response() == b"* 1 EXISTS"
        await client.done()

    in_house(tmp_path, test)


def test_all_who_idle_on_a_mailbox_hear(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        clients = [await house.imap() for _ in range(5)]
        for client in clients:
            await client.idle()
        await house.file()
        assert [await client.response() for client in clients] == [b"* 1 EXISTS"] * 5
        for client in clients:
            await client.done()

    in_house(tmp_path, test)


def test_a_silent_client_hears_a_word_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "STILL_HERE", 0.02)

    async def test(house: House) -> None:
        client = await house.imap()
        await client.idle()
        assert await client.response() == b"* OK Still here"
        assert await client.response() == b"* OK Still here"
        await client.send(b"DONE\r\n")
        assert b"No longer idle" in (await client.until(b"t3 "))[-1]

    in_house(tmp_path, test)


def test_whose_account_is_disabled_is_shown_out(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        await client.idle()
        await house.store.write(accounts.set_enabled, house.alice.id, False)
        assert await client.response() == b"* BYE [UNAVAILABLE] This account is closed"
        assert await client.closed()

    in_house(tmp_path, test)


def test_hanging_up_leaves_nothing_behind(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        before = asyncio.all_tasks()
        client = await house.imap()
        await client.idle()
        await client.close()
        await house.file()
        await until(lambda: asyncio.all_tasks() <= before)
        again = await house.imap()
        assert await again.ok("NOOP") == []

    in_house(tmp_path, test)


def test_done_in_the_same_breath(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        await client.send(b"a IDLE\r\nDONE\r\nb NOOP\r\n")
        assert [line[:4] for line in await client.until(b"b ")] == [b"+ id", b"a OK", b"b OK"]

    in_house(tmp_path, test)


def test_what_comes_with_the_end_of_it_is_told_by_the_next_answer(tmp_path: Path) -> None:
    """With another's mailbox open, two bells are listened to; one may ring in the moment in which nobody waits any
    more."""

    async def test(house: House) -> None:
        alice, bob = await house.imap(), await house.imap(BOB, mailbox=None)
        await alice.ok(f"SETACL INBOX {BOB} lr")
        await bob.ok(f'SELECT "Other Users/{ALICE}/INBOX"')
        for number in range(1, 9):
            await bob.idle()
            await house.file(message(number))
            for _ in range(number - 1):
                await asyncio.sleep(0)
            assert b"* %d EXISTS" % number in [*await bob.done(), *await bob.ok("NOOP")]

    in_house(tmp_path, test)
