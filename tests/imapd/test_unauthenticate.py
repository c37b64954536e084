"""UNAUTHENTICATE (RFC 8437): nothing of the one who was here stays for the next."""

from pathlib import Path

import pytest

from posthouse.directory import accounts
from posthouse.imapd.around import Surroundings
from tests.doors.house import ALICE, BOB, PASSWORD, House, having, in_house, message


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    """RFC 8437 §8."""

    async def test(house: House) -> None:
        client = await house.imap()
        assert not having(await client.ok("CAPABILITY"), b"UNAUTHENTICATE")
        assert (await client.tagged("UNAUTHENTICATE")).startswith(b"BAD")
        await client.ok("FETCH 1:* (FLAGS)")

    in_house(tmp_path, test, unauthenticate=False)


def test_the_account_that_was_left_has_no_say(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        await client.ok("NOTIFY SET (personal (MessageNew MessageExpunge))")
        await client.ok("UNAUTHENTICATE")
        await client.ok(f'LOGIN {BOB} "{PASSWORD}"')
        await client.ok("SELECT INBOX")
        await client.ok("NOTIFY SET (selected (MessageNew MessageExpunge))")
        await house.file(message(1), mailbox="Archive")
        await house.store.write(accounts.set_enabled, house.alice.id, False)
        await house.file(message(2), account=house.bob)
        assert await client.response() == b"* 1 EXISTS"
        await house.store.write(accounts.set_enabled, house.bob.id, False)
        assert await client.response() == b"* BYE [UNAVAILABLE] This account is closed"

    in_house(tmp_path, test)


def test_whoever_logs_out_has_as_long_again_to_log_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        # What is left of the time that it had at first is more than this test may take.
        monkeypatch.setattr(Surroundings, "login_timeout", 0.1)
        await client.ok("UNAUTHENTICATE")
        assert await client.response() == b"* BYE You took too long"
        assert await client.closed()

    in_house(tmp_path, test, login_timeout=3600.0)


def test_flags_of_the_one_are_not_the_others(tmp_path: Path) -> None:
    """The same bit is another keyword in another account."""

    async def test(house: House) -> None:
        await house.file(message(1))
        await house.file(message(1), account=house.bob)
        client = await house.imap()
        assert await client.ok("STORE 1 +FLAGS (red)") != []
        await client.ok("UNAUTHENTICATE")
        await client.ok(f'LOGIN {BOB} "{PASSWORD}"')
        await client.ok("SELECT INBOX")
        assert having(await client.ok("STORE 1 +FLAGS (blue)"), b"FETCH") == [b"* 1 FETCH (UID 1 FLAGS (blue))"]
        await client.ok("UNAUTHENTICATE")
        await client.ok(f'LOGIN {ALICE} "{PASSWORD}"')
        await client.ok("SELECT INBOX")
        assert await client.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS (red))"]

    in_house(tmp_path, test)
