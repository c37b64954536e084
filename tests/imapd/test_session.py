"""What a session keeps right while others change the mailbox under it."""

import asyncio
from pathlib import Path

from posthouse.imapd.refusal import WORDS
from posthouse.mailbox import model
from posthouse.mailbox.model import MailboxError
from tests.doors.house import House, having, in_house, message


def test_every_error_of_the_model_has_words() -> None:
    errors = {kind for kind in vars(model).values() if isinstance(kind, type) and issubclass(kind, MailboxError)}
    assert errors - {MailboxError} == set(WORDS)


def test_a_message_that_others_expunged_can_be_read_until_the_client_hears_of_it(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file(message(1))
        reader, other = await house.imap(), await house.imap()
        await other.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
        await other.ok("EXPUNGE")
        found = await reader.ok("FETCH 1 (BODY.PEEK[] ENVELOPE RFC822.SIZE)")
        assert message(1) in found[0]
        assert having(await reader.ok("NOOP"), b"EXPUNGE") == [b"* 1 EXPUNGE"]
        assert (await reader.tagged("FETCH 1 UID")).startswith(b"BAD")

    in_house(tmp_path, test)


def test_numbers_stay_while_expunge_may_not_be_told(tmp_path: Path) -> None:
    """RFC 9051 §7.5.1: not in answer to FETCH, STORE, SEARCH; the UID forms are other commands."""

    async def test(house: House) -> None:
        for number in range(1, 4):
            await house.file(message(number))
        reader, other = await house.imap(), await house.imap()
        await other.ok(r"STORE 2 +FLAGS.SILENT (\Deleted)")
        await other.ok("EXPUNGE")
        for command in ("FETCH 3 UID", "STORE 3 +FLAGS (x)", "SEARCH ALL"):
            assert having(await reader.ok(command), b"EXPUNGE") == [], command
        assert having(await reader.ok("FETCH 3 UID"), b"UID 3") != []
        assert having(await reader.ok("UID FETCH 3 FLAGS"), b"EXPUNGE") == [b"* 2 EXPUNGE"]
        assert having(await reader.ok("FETCH 2 UID"), b"UID 3") != []

    in_house(tmp_path, test)


def test_a_search_finds_no_expunged_message_under_the_old_numbers(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for number in range(1, 4):
            await house.file(message(number))
        reader, other = await house.imap(), await house.imap()
        await other.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
        await other.ok("EXPUNGE")
        assert await reader.ok("FETCH 1 UID")  # the view has heard of it now
        assert (await reader.ok("SEARCH ALL"))[0] == b"* SEARCH 2 3"

    in_house(tmp_path, test)


def test_deleting_the_mailbox_ends_the_sessions_that_have_it_open(tmp_path: Path) -> None:
    """RFC 2180 §3.3; under IMAP4rev2 the session goes on without a mailbox (RFC 9051 §3, figure 1)."""

    async def test(house: House) -> None:
        owner = await house.imap()
        await owner.ok("CREATE x")
        old, new = await house.imap(mailbox="x"), await house.imap(mailbox=None)
        await new.ok("ENABLE IMAP4rev2")
        await new.ok("SELECT x")
        await owner.ok("DELETE x")
        assert [line[:16] for line in await new.ok("NOOP")] == [b"* OK [CLOSED] Th"]
        assert (await new.tagged("FETCH 1 UID")).startswith(b"BAD")
        await new.ok("SELECT INBOX")
        assert await old.ok("NOOP") == []
        assert (await old.response()).startswith(b"* BYE ")
        assert await old.closed()

    in_house(tmp_path, test)


def test_deleting_the_mailbox_ends_an_idle_on_it(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        owner = await house.imap()
        await owner.ok("CREATE x")
        old, new = await house.imap(mailbox="x"), await house.imap(mailbox=None)
        await new.ok("ENABLE IMAP4rev2")
        await new.ok("SELECT x")
        await old.idle()
        await new.idle()
        await owner.ok("DELETE x")
        assert (await old.response()).startswith(b"* BYE ")
        assert await old.closed()
        assert (await new.response()).startswith(b"* OK [CLOSED]")
        await new.done()

    in_house(tmp_path, test)


def test_a_new_keyword_of_another_is_told_before_it_is_seen(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file()
        reader, other = await house.imap(), await house.imap()
        await other.ok("STORE 1 +FLAGS (brandnew)")
        told = await reader.ok("NOOP")
        assert [line.split()[1] for line in told] == [b"FLAGS", b"OK", b"1"]
        assert b"brandnew" in told[0]
        assert told[2] == b"* 1 FETCH (UID 1 FLAGS (brandnew))"

    in_house(tmp_path, test)


def test_renaming_leaves_the_mailbox_open(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        owner = await house.imap()
        await owner.ok("CREATE x")
        await house.file(mailbox="x")
        reader = await house.imap(mailbox="x")
        await owner.ok("RENAME x y")
        assert having(await reader.ok("FETCH 1 UID"), b"UID 1")
        assert (await owner.tagged("DELETE x")).startswith(b"NO [NONEXISTENT]")
        await house.file(message(2), mailbox="y")
        assert await reader.ok("NOOP") == [b"* 2 EXISTS"]

    in_house(tmp_path, test)


def test_a_long_set_of_single_numbers(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for number in range(1, 31):
            await house.file(message(number))
        client = await house.imap()
        odd = ",".join(str(n) for n in range(29, 0, -2))
        assert len(await client.ok(f"FETCH {odd},3:5,4 UID")) == 16
        assert len(await client.ok(f"UID FETCH {odd},3:5,4,900:999 FLAGS")) == 16

    in_house(tmp_path, test)


def test_many_changes_are_told_in_pieces(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await asyncio.gather(*(house.file(message(number)) for number in range(1200)))
        reader, other = await house.imap(), await house.imap()
        assert await other.ok(r"STORE 1:* +FLAGS.SILENT (\Seen)") == []
        told = await reader.ok("NOOP")
        assert len(told) == 1200
        assert told[-1] == rb"* 1200 FETCH (UID 1200 FLAGS (\Seen))"
        assert len(await other.ok(r"STORE 1:* FLAGS (\Deleted)")) == 1200
        assert having(await other.ok("EXPUNGE"), b"EXPUNGE")[-1] == b"* 1 EXPUNGE"
        assert len(await reader.ok("NOOP")) == 1200

    in_house(tmp_path, test)
