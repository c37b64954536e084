"""Fields of headers: what is found without parsing, and what is kept for who asks again."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from posthouse.imapd import fields
from posthouse.imapd.content import Message, answer
from posthouse.imapd.fields import Kept, is_of_header, literal, named_fields, names_of
from posthouse.mailbox.emails import Content
from posthouse.mailbox.summary import render
from posthouse.message.header import Header
from posthouse.store.blobs import BlobRef
from posthouse.wire.imap.fetch import Section, Text
from tests.doors.house import ALICE, BOB, House, in_house, message

_BROKEN = sorted((Path(__file__).parent.parent / "corpus").glob("*.eml"))
_PROLOGUE = b"Return-Path: <bob@example.org>\r\n"
_NAMES = (b"Subject", b"FROM", b"Content-Type", b"Received", b"X")
_LINES = st.lists(
    st.sampled_from(
        [
            b"Subject: a",
            b"SUBJECT : b",
            b"subject\t:",
            b"Subjects: c",
            b" folded",
            b"\tfolded: too",
            b"From: d",
            b"no field",
            b":",
        ]
    ),
    max_size=12,
)


def asked_for(*names: bytes) -> Section:
    return Section(b"BODY[HEADER.FIELDS (...)]", (), Text.FIELDS, fields=names, peek=True)


def one_by_one(octets: bytes, item: Section) -> bytes:
    """The literal as a FETCH of the one message says it, from all of it."""
    reference = BlobRef(1, len(octets), b"", octets, None)
    opened = Message(Content(1, _PROLOGUE, reference, render(octets).parts), octets)
    label, *pieces = [bytes(piece) for piece in answer(item, opened)]
    assert label.endswith(b" {%d}\r\n" % len(b"".join(pieces)))
    return b"".join(pieces)


@given(_LINES, st.sampled_from([b"\r\n", b"\n"]), st.sets(st.sampled_from([b"subject", b"from", b"x"]), min_size=1))
def test_looking_for_fields_finds_what_parsing_finds(lines: list[bytes], ending: bytes, names: set[bytes]) -> None:
    header = b"".join(line + ending for line in lines) + ending
    parsed = Header.parse(header)
    expected = [header[field.start : field.end] for field in parsed.fields if field.name in names]
    assert named_fields(header, names) == expected


@given(_LINES, st.sets(st.sampled_from([b"Subject", b"FROM", b"x"]), min_size=1), st.sampled_from([b"", b"\0"]))
def test_what_is_kept_is_what_the_message_answers(lines: list[bytes], names: set[bytes], nul: bytes) -> None:
    octets = b"".join(line + nul + b"\r\n" for line in lines) + b"\r\nbody\r\n"
    item = asked_for(*names)
    assert is_of_header(item)
    header = _PROLOGUE + octets[: octets.index(b"\r\n\r\n") + 4] if lines else _PROLOGUE + b"\r\n"
    assert literal(header, names_of(item)) == one_by_one(octets, item)


def test_asked_twice_broken_mail_answers_the_same(tmp_path: Path) -> None:
    """From what is kept, octet by octet what is made of the whole message: in any order and under any spelling."""

    async def test(house: House) -> None:
        for path in _BROKEN:
            await house.file(path.read_bytes(), prologue=_PROLOGUE)
        names = b" ".join(_NAMES).decode()
        expected = [one_by_one(path.read_bytes(), asked_for(*_NAMES)) for path in _BROKEN]
        client = await house.imap()
        for command in (f"FETCH 1:* (BODY.PEEK[HEADER.FIELDS ({names})])",) * 2:
            told = await client.ok(command)
            label = b"BODY[HEADER.FIELDS (%b)]" % names.encode()
            assert told == [
                b"* %d FETCH (%b {%d}\r\n%b)" % (number, label, len(octets), octets)
                for number, octets in enumerate(expected, 1)
            ]
        reversed_names = " ".join(names.lower().split()[::-1])
        told = await client.ok(f"UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS ({reversed_names})] RFC822.SIZE)")
        label = b"BODY[HEADER.FIELDS (%b)]" % reversed_names.encode()
        for number, (path, octets) in enumerate(zip(_BROKEN, expected, strict=True), 1):
            size = len(_PROLOGUE + path.read_bytes())
            assert told[number - 1] == b"* %d FETCH (UID %d %b {%d}\r\n%b RFC822.SIZE %d)" % (
                number, number, label, len(octets), octets, size,
            )  # fmt: skip

    in_house(tmp_path, test)


def test_what_others_do_meanwhile_is_told_as_it_is(tmp_path: Path) -> None:
    """Numbers move and mail comes: nothing that is kept goes with a number."""

    async def test(house: House) -> None:
        for number in (1, 2, 3):
            await house.file(message(number))
        client, other = await house.imap(), await house.imap()
        command = "FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])"

        def line(seq: int, number: int) -> bytes:
            found = b"".join(named_fields(message(number), [b"subject"])) + b"\r\n"
            return b"* %d FETCH (UID %d BODY[HEADER.FIELDS (SUBJECT)] {%d}\r\n%b)" % (seq, number, len(found), found)

        everything = [line(number, number) for number in (1, 2, 3)]
        assert await client.ok(command) == everything
        await other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        await other.ok("EXPUNGE")
        await house.file(message(4))
        assert (await client.ok(command))[:3] == everything
        await client.ok("NOOP")
        assert await client.ok(command) == [line(1, 2), line(2, 3), line(3, 4)]

    in_house(tmp_path, test)


def test_what_is_kept_is_told_to_nobody_who_may_not_read_it(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        alice, bob = await house.imap(mailbox=None), await house.imap(BOB, mailbox=None)
        await alice.ok("CREATE Project")
        await house.file(message(1), mailbox="Project")
        await alice.ok(f"SETACL Project {BOB} lr")
        command = "FETCH 1 (BODY.PEEK[HEADER.FIELDS (SUBJECT)])"
        await alice.ok("SELECT Project")
        await bob.ok(f'SELECT "Other Users/{ALICE}/Project"')
        told = await alice.ok(command)
        assert await bob.ok(command) == told
        await alice.ok(f"DELETEACL Project {BOB}")
        assert (await bob.tagged(command))[:3] in (b"NO ", b"BAD")

    in_house(tmp_path, test)


# --- how much is kept -------------------------------------------------------------------------------------------------


def test_answers_are_kept_by_account_and_names() -> None:
    kept = Kept()
    kept.keep(1, (b"a",), {7: b"seven"})
    kept.keep(1, (b"a",), {8: b"eight"})
    assert kept.of(1, (b"a",)) == {7: b"seven", 8: b"eight"}
    assert not kept.of(1, (b"a", b"b"))
    assert not kept.of(2, (b"a",))
    octets = kept.octets
    kept.keep(1, (b"a",), {7: b"seven"})
    assert kept.octets == octets


def test_long_answers_and_long_lists_are_not_kept() -> None:
    kept = Kept()
    kept.keep(1, (b"a",), {7: b"x" * 100_000})
    kept.keep(1, (b"a" * 2000,), {7: b"x"})
    assert kept.octets == 0
    assert not kept.of(1, (b"a",))


def test_an_account_has_few_lists_the_oldest_goes() -> None:
    kept = Kept()
    for number in range(20):
        kept.keep(1, (b"%d" % number,), {1: b"x"})
        kept.of(1, (b"0",))
    assert kept.of(1, (b"0",))
    assert sum(bool(kept.of(1, (b"%d" % number,))) for number in range(20)) == fields._LISTS


def test_an_account_has_half_of_the_room() -> None:
    kept = Kept(100_000)
    for email in range(1000):
        kept.keep(1, (b"a",), {email: b"x" * 500})
    assert 40_000 < kept.octets <= 50_000
    assert 0 in kept.of(1, (b"a",))
    kept.keep(1, (b"b",), dict.fromkeys(range(60), b"x" * 500))
    assert kept.of(1, (b"b",))
    assert not kept.of(1, (b"a",))


def test_accounts_that_did_not_ask_for_longest_go_first() -> None:
    kept = Kept(100_000)
    for account in range(1, 10):
        kept.keep(account, (b"a",), dict.fromkeys(range(30), b"x" * 500))
        assert kept.of(1, (b"a",))
    assert kept.octets <= 100_000
    assert [account for account in range(1, 10) if kept.of(account, (b"a",))] == [1, 7, 8, 9]


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9), st.integers(0, 50), st.integers(0, 9000))))
def test_the_room_is_never_exceeded_and_what_is_kept_is_right(asked: list[tuple[int, int, int, int]]) -> None:
    kept = Kept(60_000)
    for account, name, email, size in asked:
        octets = b"%d " % email * size
        kept.keep(account, (b"%d" % name,), {email: octets[:9000]})
        found = kept.of(account, (b"%d" % name,))
        assert all(one.startswith(b"%d " % key) or not one for key, one in found.items())
        assert kept.octets <= 60_000
