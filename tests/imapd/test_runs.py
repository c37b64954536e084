"""Summaries and structures that are asked for again: what is kept of them, and that it is what is read."""

from pathlib import Path

from posthouse.imapd import runs
from posthouse.imapd.fields import Kept
from posthouse.wire.imap.fetch import Attribute
from tests.doors.house import ALICE, BOB, House, in_house, message
from tests.imapd.test_opening import looks

_SUMMARIES = "FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"


def test_runs_are_grouped_where_something_in_them_is_rendered() -> None:
    flags, date, size = Attribute.FLAGS, Attribute.INTERNALDATE, Attribute.SIZE
    envelope, structure = Attribute.ENVELOPE, Attribute.BODYSTRUCTURE
    assert list(runs.grouped([flags, date, size, envelope, structure])) == [flags, (date, size, envelope, structure)]
    assert list(runs.grouped([date, size, flags, structure, flags])) == [date, size, flags, (structure,), flags]
    assert runs.names_of((size, envelope)) == (b"RFC822.SIZE", b"ENVELOPE")


def test_what_was_answered_is_not_looked_up_again(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for number in range(1, 6):
            await house.file(message(number), received_at=1_767_258_000_000 + number * 1000)
        # One by one, so that all orders of items are compared with what is read.
        client, second = await house.imap(), await house.imap()
        first = await client.ok(_SUMMARIES)
        assert len(first) == 5
        assert b'INTERNALDATE " 1-Jan-2026 09:00:03 +0000" RFC822.SIZE ' in first[2]
        assert b'ENVELOPE ("Thu, 01 Jan 2026 09:00:00 +0000" "Coach 3" ' in first[2]
        with looks(house) as found:
            assert await client.ok(_SUMMARIES) == first
            assert await second.ok(_SUMMARIES) == first
            assert await second.ok(_SUMMARIES.replace("1:*", "2,4")) == [first[1], first[3]]
            told = await second.ok(_SUMMARIES.replace("FETCH 1:* (", "UID FETCH 3 ("))
            assert told == [first[2].replace(b"(FLAGS", b"(UID 3 FLAGS")]
        assert found == []
        with looks(house) as found:
            # Another order is another answer.
            told = await client.ok("FETCH 3 (ENVELOPE FLAGS BODYSTRUCTURE)")
        assert found
        whole = first[2]
        envelope = whole[whole.index(b"ENVELOPE") : whole.index(b" BODYSTRUCTURE")]
        structure = whole[whole.index(b"BODYSTRUCTURE") : -1]
        assert told == [b"* 3 FETCH (%b FLAGS () %b)" % (envelope, structure)]

    in_house(tmp_path, test)


def test_what_others_change_is_told_beside_what_is_kept(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for number in (1, 2, 3):
            await house.file(message(number))
        client, other = await house.imap(), await house.imap()
        first = await client.ok(_SUMMARIES)
        await other.ok(r"STORE 2 +FLAGS.SILENT (\Flagged new)")
        await client.ok("NOOP")
        changed = first[1].replace(b"FLAGS ()", rb"FLAGS (\Flagged new)")
        assert await client.ok(_SUMMARIES) == [first[0], changed, first[2]]
        await other.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
        await other.ok("EXPUNGE")
        # Numbers move, and of what has come nothing is kept yet.
        await house.file(message(4))
        await client.ok("NOOP")
        told = await client.ok(_SUMMARIES)
        assert told[:2] == [changed.replace(b"* 2", b"* 1"), first[2].replace(b"* 3", b"* 2")]
        assert len(told) == 3
        assert b'"Coach 4"' in told[2]

    in_house(tmp_path, test)


def test_other_items_beside_them_are_read(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file(message(1))
        client = await house.imap()
        first = await client.ok("FETCH 1 (RFC822.SIZE ENVELOPE)")
        for beside in ("PREVIEW", "THREADID", "SAVEDATE", "BODY.PEEK[1]", "BODY.PEEK[HEADER.FIELDS (To)]"):
            told = await client.ok(f"FETCH 1 (RFC822.SIZE ENVELOPE {beside})")
            assert told[0].startswith(first[0].removesuffix(b")") + b" ")

    in_house(tmp_path, test)


def test_what_is_too_long_to_be_kept_is_read_each_time(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file(message(1))
        many = ", ".join([f"friend{number}@example.org" for number in range(400)])
        await house.file(message(2).replace(b"To: alice@example.org", f"To: {many}".encode()))
        await house.file(message(3))
        client = await house.imap()
        first = await client.ok(_SUMMARIES)
        assert len(first[1]) > 10_000
        for _ in range(2):
            with looks(house) as found:
                assert await client.ok(_SUMMARIES) == first
            assert len(found) == 1

    in_house(tmp_path, test)


def test_of_others_mail_nothing_is_kept(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        alice, bob = await house.imap(mailbox=None), await house.imap(BOB, mailbox=None)
        await alice.ok("CREATE Project")
        await house.file(message(1), mailbox="Project")
        await alice.ok(f"SETACL Project {BOB} lr")
        await alice.ok("SELECT Project")
        await bob.ok(f'SELECT "Other Users/{ALICE}/Project"')
        told = await alice.ok(_SUMMARIES)
        for _ in range(2):
            with looks(house) as found:
                assert await bob.ok(_SUMMARIES) == told
            # Each look asks for the right.
            assert found
        await alice.ok(f"DELETEACL Project {BOB}")
        assert (await bob.tagged(_SUMMARIES))[:3] in (b"NO ", b"BAD")

    in_house(tmp_path, test)


def test_what_is_dropped_is_read_again() -> None:
    kept = Kept(20_000)
    run = (Attribute.ENVELOPE,)
    kept.keep(1, runs.names_of(run), {7: b"ENVELOPE ()"})
    found = kept.of(1, runs.names_of(run))
    for account in range(2, 20):
        kept.keep(account, (b"to",), dict.fromkeys(range(10), b"x" * 500))
    assert not kept.of(1, runs.names_of(run))
    # Who is in the midst of an answer has what he took.
    assert found[7] == b"ENVELOPE ()"
