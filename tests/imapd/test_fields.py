"""Fields of headers: what is found without parsing, and what is kept for who asks again."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.imapd import fetch, fields, portions
from posthouse.imapd.content import Message, answer
from posthouse.imapd.fields import Kept, is_of_header, literal, literal_of_beginning, named_fields, names_of
from posthouse.mailbox import emails
from posthouse.mailbox.emails import Content
from posthouse.mailbox.summary import render
from posthouse.message.header import Header
from posthouse.message.mime import header_of
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
            b"\rfrom: a lone CR",
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


@given(
    _LINES,
    st.sampled_from([b"\r\n", b"\n"]),
    st.sampled_from([b"", b"\r\n", b"X: ", b"X: Subject: a", b"X: Subject: a\r"]),
    st.sets(st.sampled_from([b"subject", b"from", b"x"]), min_size=1),
)
@example([b"Subject: a", b"\rfrom: a lone CR"], b"\r\n", b"", {b"subject"})
@example([b"Subject: a"], b"\n", b"X: Subject: a", {b"subject"})
def test_looking_for_fields_finds_what_parsing_finds(
    lines: list[bytes], ending: bytes, last: bytes, names: set[bytes]
) -> None:
    header = b"".join(line + ending for line in lines) + last
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


@given(
    _LINES,
    _LINES,
    st.sampled_from([b"\r\n", b"\n"]),
    st.sampled_from([b"\r\n", b"\n", b"\r", b""]),
    st.sampled_from([b"", _PROLOGUE, b"From: way\r\n"]),
    st.sets(st.sampled_from([b"Subject", b"FROM", b"x"]), min_size=1),
    st.sampled_from([b"", b"\0"]),
)
def test_a_beginning_tells_what_the_whole_message_does_or_nothing(
    lines: list[bytes],
    body: list[bytes],
    ending: bytes,
    empty: bytes,
    prologue: bytes,
    names: set[bytes],
    nul: bytes,
) -> None:
    """Fields that stand in the body are none; a header that may go on behind the octets is not answered from them."""
    octets = b"".join(line + nul + ending for line in lines) + empty + b"".join(line + ending for line in body)
    wanted = names_of(asked_for(*names))
    bounds = header_of(render(octets).parts)
    expected = literal(prologue + octets[bounds], wanted)
    for cut in range(len(octets) + 1):
        told = literal_of_beginning(prologue, octets[:cut], wanted)
        assert told == expected or (told is None and (cut < bounds.stop or bounds.stop == len(octets)))


@pytest.mark.parametrize(
    "header",
    [
        b"f" * 300_000,
        b"\n" + b"from" * 75_000,
        b"from:\n " * 40_000,
        b"from\n" * 60_000,
        b"from" + b" " * 300_000,
        b"from:" + b"\t\r" * 150_000,
        b"\r" * 300_000,
        b"\n\r" * 150_000,
    ],
)
def test_however_a_header_is_written_looking_takes_no_longer_than_it_is_long(header: bytes) -> None:
    """What is not linear here would take minutes."""
    assert literal(header, (b"from", b"fromage", b"x")).endswith(b"\r\n")
    literal_of_beginning(b"", header, (b"from", b"fromage", b"x"))


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


def long_message(number: int, size: int) -> bytes:
    """A message whose header has about so many octets."""
    trace = b"Received: from a.test\r\n" * (size // 24)
    return trace + message(number) + b"Subject: in the body\r\n"


@pytest.mark.parametrize("portion", [portions._PORTION, 3000])
def test_headers_of_any_length_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portion: int) -> None:
    """Those that are found at the beginning, those for which more is read, those in files and those that never end,
    among each other; an email that is there twice, and one that others have expunged."""
    for name, value in (
        ("_BEGINNINGS", 7), ("_BEGINNING", 400), ("_LONGER_BEGINNINGS", 2), ("_LONGER_BEGINNING", 2000),
        ("_PORTION", portion), ("LOT", 20),
    ):  # fmt: skip
        monkeypatch.setattr(portions, name, value)
    large = message(1, "x" * 300_000)
    filed = [long_message(number, (0, 900, 5000, 0, 1800)[number % 5]) for number in range(2, 24)]
    filed += [message(30).partition(b"\r\n\r\n")[0], b"", b"\r\n", b"no field", b"Subject: \0\r\n\r\n"]

    async def test(house: House) -> None:
        client, other = await house.imap(), await house.imap()
        for _ in range(4):
            await client.append(large)
        for octets in filed:
            await house.file(octets, prologue=_PROLOGUE)
        assert (await house.store.read(lambda tx: tx.query("SELECT count(*) FROM blob WHERE place = 1", ()))) == [(4,)]
        await client.ok("NOOP")
        await client.ok("COPY 2:3,9 INBOX")
        await client.ok("NOOP")
        item = asked_for(b"Subject", b"Return-Path")
        expected = [literal(large, names_of(item))] * 4 + [one_by_one(octets, item) for octets in filed]
        expected += [expected[1], expected[2], expected[8]]
        await other.ok("UID STORE 6 +FLAGS.SILENT (\\Deleted)")
        await other.ok("UID EXPUNGE 6")
        count = len(expected)
        sizes = [int(line.split()[-1][:-1]) for line in await client.ok("FETCH 1:* (RFC822.SIZE)")]
        label = b"BODY[HEADER.FIELDS (Subject Return-Path)]"
        command = f"(BODY.PEEK[{label.decode()[5:]}"
        lines = [
            b"* %d FETCH (%b {%d}\r\n%b" % (number, label, len(octets), octets)
            for number, octets in enumerate(expected, 1)
        ]
        # Some of a portion are kept, then all.
        assert await client.ok(f"FETCH 2,5,8:10,20 {command})") == [lines[at - 1] + b")" for at in (2, 5, 8, 9, 10, 20)]
        told = await client.ok(f"FETCH 1:* {command} RFC822.SIZE)")
        assert told == [b"%b RFC822.SIZE %d)" % one for one in zip(lines, sizes, strict=True)]
        monkeypatch.setattr(portions, "_look", None)
        assert await client.ok(f"FETCH 1:{count} {command})") == [line + b")" for line in lines]

    in_house(tmp_path, test)


def test_no_message_is_read_whole_for_a_header_of_20_kb(tmp_path: Path) -> None:
    """Neither many of them nor one."""

    async def test(house: House) -> None:
        messages = [long_message(number, 20_000 * (number % 2)) for number in range(1, 20)]
        for octets in messages:
            await house.file(octets, prologue=_PROLOGUE)
        client = await house.imap()
        with mock.patch.object(emails, "contents") as contents:
            for numbers in ("1", "2:*"):
                told = await client.ok(f"FETCH {numbers} (BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
                assert all(b"Subject: Coach" in line for line in told)
        assert not contents.called

    in_house(tmp_path, test)


def test_who_asks_for_the_same_field_often_has_no_more_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty items, each of which holds most of a header: it took as much memory for each as one takes."""
    made: list[int] = []
    real = portions.read

    async def counted(*asked: Any) -> AsyncGenerator[portions.Known, None]:
        async for known in real(*asked):
            found = [one for literals in known.kept.values() for one in literals.values()]
            made.append(sum(map(len, found)) + 40 * sum(one.blob.size for one in known.contents.values()))
            yield known

    monkeypatch.setattr(portions, "read", counted)
    # Of one message that would be too much.
    monkeypatch.setattr(fetch, "_LITTLE", 100_000_000)

    async def test(house: House) -> None:
        for size in [7000] * 60 + [20_000] * 20 + [40_000] * 5:
            await house.file(b"Subject: x\r\n" + b" y\r\n" * (size // 4) + b"\r\n")
        client = await house.imap()
        items = " ".join(f"BODY.PEEK[HEADER.FIELDS (Subject X{number})]" for number in range(40))
        assert len(await client.ok(f"FETCH 1:* ({items})")) == 85
        assert sum(made) > 40 * 1_000_000
        assert max(made) <= 3 * 40 * 41_000

    in_house(tmp_path, test)


def test_headers_in_anothers_mailbox_are_told_and_not_kept(tmp_path: Path) -> None:
    """Each look asks for the right, so nothing is answered without one."""

    async def test(house: House) -> None:
        for number in range(1, 6):
            await house.file(long_message(number, 20_000 * (number % 2)))
        alice, bob = await house.imap(), await house.imap(BOB, None)
        await alice.ok(f"SETACL INBOX {BOB} lr")
        await bob.ok(f'SELECT "Other Users/{ALICE}/INBOX"')
        command = "FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])"
        with mock.patch.object(Kept, "keep") as keep:
            told = await bob.ok(command)
        assert not keep.called
        assert told == await alice.ok(command)

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
