"""APPEND when something is in the way; what it says is in the transcripts."""

from pathlib import Path

import pytest

from posthouse import limits
from posthouse.directory import accounts
from posthouse.store.blobs import Blobs
from posthouse.store.database import StoreUnavailable
from tests.doors.house import ALICE, MESSAGE, PASSWORD, House, having, in_house, message


def test_over_quota_nothing_is_filed(tmp_path: Path) -> None:
    """Also not the messages of the same command that would have fitted."""

    async def test(house: House) -> None:
        await house.store.write(accounts.set_quota, house.alice.id, 2 * len(MESSAGE), None)
        client = await house.imap()
        one = b"{%d+}\r\n%b" % (len(MESSAGE), MESSAGE)
        await client.send(b"a APPEND INBOX " + one + b" " + one + b" " + one + b"\r\n")
        assert (await client.until(b"a "))[-1].startswith(b"a NO [OVERQUOTA] ")
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 0)']
        assert (await client.append(MESSAGE)).startswith(b"OK [APPENDUID ")

    in_house(tmp_path, test)


def test_no_room_for_what_is_unfinished(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        assert (await client.append(b"x" * 5000)).startswith(b"NO [UNAVAILABLE] No room")
        assert (await client.append(MESSAGE)).startswith(b"OK")

    in_house(tmp_path, test, blobs=Blobs(tmp_path / "small", memory_budget=1000, disk_budget=1000))


def test_more_messages_than_the_writer_should_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IMAP_APPENDS", 3)

    async def test(house: House) -> None:
        client = await house.imap()
        one = b" {%d+}\r\n%b" % (len(MESSAGE), MESSAGE)
        await client.send(b"a APPEND INBOX" + one * 4 + b"\r\nb APPEND INBOX" + one * 3 + b"\r\n")
        assert (await client.until(b"a "))[-1] == b"a NO [LIMIT] At most 3 messages at once"
        assert b"b OK [APPENDUID " in (await client.until(b"b "))[-1]

    in_house(tmp_path, test)


def test_a_mailbox_that_goes_while_the_message_comes(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client, other = await house.imap(), await house.imap()
        await other.ok("CREATE x")
        await client.send(b"a APPEND x {%d}\r\n" % len(MESSAGE))
        await client.until(b"+")
        await other.ok("DELETE x")
        await client.send(MESSAGE + b"\r\n")
        assert (await client.until(b"a "))[-1].startswith(b"a NO [TRYCREATE] ")

    in_house(tmp_path, test)


def test_the_open_mailbox_goes_while_a_message_comes_to_another(tmp_path: Path) -> None:
    """The message is filed, and said to be."""

    async def test(house: House) -> None:
        other = await house.imap()
        await other.ok("CREATE x")
        client = await house.imap(mailbox="x")
        await client.send(b"a APPEND INBOX {%d}\r\n" % len(MESSAGE))
        await client.until(b"+")
        await other.ok("DELETE x")
        await client.send(MESSAGE + b"\r\n")
        assert b"a OK [APPENDUID " in (await client.until(b"a "))[-1]
        assert (await client.response()).startswith(b"* BYE ")

    in_house(tmp_path, test)


def test_hanging_up_in_the_middle_files_nothing(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        await client.send(b"a APPEND INBOX {100+}\r\nhalf of it")
        await client.close()
        other = await house.imap()
        assert await other.ok("STATUS INBOX (MESSAGES)") == [b'* STATUS "INBOX" (MESSAGES 0)']

    in_house(tmp_path, test)


def test_a_store_that_cannot_write_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(house: House) -> None:
        client = await house.imap()

        async def fails(*args: object, **kwargs: object) -> None:
            raise StoreUnavailable("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(house.store, "write", fails)
            assert (await client.append(MESSAGE)).startswith(b"NO [UNAVAILABLE] ")
            assert (await client.tagged("CREATE x")).startswith(b"NO [UNAVAILABLE] ")
        with monkeypatch.context() as patch:
            patch.setattr(house.store, "read", fails)
            assert (await client.tagged('LIST "" *')).startswith(b"NO [UNAVAILABLE] ")
            assert (await client.tagged("SELECT INBOX")).startswith(b"NO [UNAVAILABLE] ")
            fresh = await house.imap(None)
            assert (await fresh.tagged(f'LOGIN {ALICE} "{PASSWORD} "')).startswith(b"NO [UNAVAILABLE] ")
        assert (await client.append(MESSAGE)).startswith(b"OK")

    in_house(tmp_path, test)


def test_what_one_appends_another_sees(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client, other = await house.imap(mailbox=None), await house.imap()
        assert (await client.append(message(1), flags=r"\Seen $Forwarded new")).startswith(b"OK")
        told = await other.ok("NOOP")
        assert told == [b"* 1 EXISTS"]
        found = await other.ok("FETCH 1 FLAGS")
        assert having(found, b"* FLAGS") != []
        assert found[-1] == rb"* 1 FETCH (FLAGS (\Seen $Forwarded new))"

    in_house(tmp_path, test)
