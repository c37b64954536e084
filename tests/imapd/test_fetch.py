"""FETCH of what is large, broken, or gone; what a message shows is in the transcripts."""

import asyncio
import base64
import threading
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.imapd import fields, portions
from posthouse.imapd.content import Message, answer
from posthouse.mailbox import retention
from posthouse.mailbox.emails import Content
from posthouse.mailbox.summary import render
from posthouse.message import mime
from posthouse.message.header import Header
from posthouse.message.mime import Part
from posthouse.store.blobs import BlobRef, Buffer
from posthouse.wire.imap.fetch import Section, Text
from tests.doors.house import House, having, in_house, message
from tests.imapd.sending import held


def part(octets: bytes, encoding: str, kind: str = "application/octet-stream") -> bytes:
    """A message of one part."""
    head = f"Subject: one part\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + octets


def literal(response: bytes) -> bytes:
    """The first literal in a response."""
    head, _, rest = response.partition(b"}\r\n")
    return rest[: int(head.rpartition(b"{")[2])]


def test_the_prologue_counts_everywhere(tmp_path: Path) -> None:
    """docs/mailbox.md: size, BODY[] and the header are those of prologue and blob; parts are counted from the blob."""

    async def test(house: House) -> None:
        octets, prologue = part(b"text\r\n", "7bit", "text/plain"), b"Delivered-To: alice@example.org\r\n"
        await house.file(octets, prologue=prologue)
        client = await house.imap()
        whole = await client.ok("FETCH 1 (RFC822.SIZE BODY.PEEK[])")
        assert b"RFC822.SIZE %d " % len(prologue + octets) in whole[0]
        assert literal(whole[0]) == prologue + octets
        assert literal((await client.ok("FETCH 1 BODY.PEEK[HEADER]"))[0]).startswith(prologue + b"Subject")
        found = await client.ok("FETCH 1 BODY.PEEK[HEADER.FIELDS (Delivered-To)]")
        assert literal(found[0]) == prologue + b"\r\n"
        assert literal((await client.ok("FETCH 1 BODY.PEEK[]<10.30>"))[0]) == (prologue + octets)[10:40]
        assert literal((await client.ok("FETCH 1 BODY.PEEK[1]"))[0]) == b"text\r\n"
        assert literal((await client.ok("FETCH 1 BINARY.PEEK[]"))[0]) == prologue + octets
        assert b"BINARY.SIZE[] %d" % len(prologue + octets) in (await client.ok("FETCH 1 BINARY.SIZE[]"))[0]

    in_house(tmp_path, test)


def test_an_encoding_that_nobody_knows(tmp_path: Path) -> None:
    """RFC 9051 §6.4.5: NO with UNKNOWN-CTE."""

    async def test(house: House) -> None:
        await house.file(part(b"begin 644 x\r\n", "x-uuencode"))
        client = await house.imap()
        for item in ("BINARY.PEEK[1]", "BINARY[1]", "BINARY.SIZE[1]"):
            assert (await client.say(f"FETCH 1 (UID {item})"))[-1].startswith(b"NO [UNKNOWN-CTE] ")
        assert literal((await client.ok("FETCH 1 BODY.PEEK[1]"))[0]) == b"begin 644 x\r\n"

    in_house(tmp_path, test)


def test_no_nul_leaves_but_in_a_literal8(tmp_path: Path) -> None:
    """RFC 9051 §4.3.1"""

    async def test(house: House) -> None:
        await house.file(part(b"a\0b\r\n", "8bit"))
        client = await house.imap()
        assert literal((await client.ok("FETCH 1 BODY.PEEK[1]"))[0]) == b"a\x80b\r\n"
        found = await client.ok("FETCH 1 BINARY.PEEK[1]")
        assert b"BINARY[1] ~{5}\r\n" in found[0]
        assert literal(found[0]) == b"a\0b\r\n"

    in_house(tmp_path, test)


def test_a_large_message_in_a_file(tmp_path: Path) -> None:
    """It comes through a file, in and out, whole and in parts; decoded, too."""

    async def test(house: House) -> None:
        inside = Random(1).randbytes(1_500_000)
        octets = part(base64.encodebytes(inside).replace(b"\n", b"\r\n"), "base64")
        client = await house.imap()
        assert (await client.append(octets)).startswith(b"OK")
        assert literal((await client.ok("FETCH 1 BODY.PEEK[]"))[0]) == octets
        assert literal((await client.ok("FETCH 1 BODY.PEEK[]<1000000.700000>"))[0]) == octets[1_000_000:1_700_000]
        assert literal((await client.ok("FETCH 1 BINARY.PEEK[1]"))[0]) == inside
        assert literal((await client.ok("FETCH 1 BINARY.PEEK[1]<1000.500000>"))[0]) == inside[1000:501_000]
        assert b"BINARY.SIZE[1] 1500000" in (await client.ok("FETCH 1 BINARY.SIZE[1]"))[0]

    in_house(tmp_path, test)


def test_content_that_the_store_has_lost(tmp_path: Path) -> None:
    """RFC 5530 §3: CORRUPTION; the other messages come all the same."""

    async def test(house: House) -> None:
        client = await house.imap()
        large = part(b"x" * 400_000, "7bit")
        for octets in (part(b"small\r\n", "7bit"), large, part(b"behind\r\n", "7bit")):
            assert (await client.append(octets)).startswith(b"OK")
        for file in (tmp_path / "blobs").rglob("*"):
            if file.is_file():
                file.unlink()
        *told, tagged = await client.say("FETCH 1:3 BODY.PEEK[]")
        assert tagged == b"NO [CORRUPTION] The store has lost the content of 1 messages"
        assert [line[:9] for line in told] == [b"* 1 FETCH", b"* 3 FETCH"]

    in_house(tmp_path, test)


def test_reading_sets_seen_once_and_only_where_it_reads(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.file()
        reader, other = await house.imap(), await house.imap()
        assert having(await reader.ok("FETCH 1 BINARY.PEEK[1]"), b"FLAGS") == []
        assert having(await reader.ok("FETCH 1 (FLAGS BODY[1])"), rb"FLAGS (\Seen)")
        assert having(await reader.ok("FETCH 1 (BODY[1])"), b"FLAGS") == []
        assert await other.ok("NOOP") == [rb"* 1 FETCH (UID 1 FLAGS (\Seen))"]
        assert await reader.ok("NOOP") == []

    in_house(tmp_path, test)


OCTETS = part(b"0123456789" * 5, "7bit", "text/plain")
PROLOGUE = b"Return-Path: <bob@example.org>\r\n"


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(1, 300))
def test_a_partial_is_a_slice_of_the_whole(origin: int, count: int) -> None:
    """Across the seam between prologue and blob, too."""
    reference = BlobRef(1, len(OCTETS), b"", OCTETS, None)
    message = Message(Content(1, PROLOGUE, reference, render(OCTETS).parts), OCTETS)
    pieces = list(answer(Section(b"BODY[]", (), Text.WHOLE, partial=(origin, count)), message))
    assert b"".join(pieces[1:]) == (PROLOGUE + OCTETS)[origin : origin + count]


def test_lost_content_is_left_out_also_where_only_fields_are_asked(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap()
        for octets in (part(b"small\r\n", "7bit"), part(b"x" * 400_000, "7bit"), part(b"behind\r\n", "7bit")):
            assert (await client.append(octets)).startswith(b"OK")
        for file in (tmp_path / "blobs").rglob("*"):
            if file.is_file():
                file.unlink()
        told = await client.say("FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        assert [line[:10] for line in told[:-1]] == [b"* 1 FETCH ", b"* 3 FETCH "]
        assert told[-1].startswith(b"NO [CORRUPTION] ")

    in_house(tmp_path, test)


def test_a_store_that_cannot_write_keeps_nobody_from_reading(tmp_path: Path) -> None:
    """The body is given; that it was read is noted another time."""

    async def test(house: House) -> None:
        await house.file(part(b"text\r\n", "7bit", "text/plain"))
        client = await house.imap()
        with house.unwritable():
            answer = await client.ok("FETCH 1 BODY[1]")
        assert literal(answer[0]) == b"text\r\n"
        assert b"FLAGS" not in answer[0]
        assert b"\\Seen" in (await client.ok("FETCH 1 BODY[1]"))[0]

    in_house(tmp_path, test)


_BROKEN = sorted((Path(__file__).parent.parent / "corpus").glob("*.eml"))
_SECTION = Section(b"BODY[]", (), Text.WHOLE)


def whole(octets: bytes, prologue: bytes) -> bytes:
    """What a FETCH of the one message says of it."""
    reference = BlobRef(1, len(octets), b"", octets, None)
    return b"".join(map(bytes, answer(_SECTION, Message(Content(1, prologue, reference, b""), octets))))


def test_many_messages_at_once_are_answered_as_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in them, also where an email is there twice, one is expunged elsewhere, and portions are small."""
    monkeypatch.setattr(portions, "_PORTION", 5000)
    monkeypatch.setattr(portions, "LOT", 7)

    async def test(house: House) -> None:
        messages = [(path.read_bytes(), b"X-Way: %d\r\n" % number) for number, path in enumerate(_BROKEN)]
        messages += [(b"", b""), (b"\0.\0" * 10, b"X: y\r\n"), (b"Subject: x\r\n\r\n" + b"y" * 300_000, b"")]
        for octets, prologue in messages:
            await house.file(octets, prologue=prologue)
        client, other = await house.imap(), await house.imap()
        await client.ok("COPY 2:4,1 INBOX")
        await client.ok("NOOP")
        messages += [messages[0], *messages[1:4]]
        await other.ok("UID STORE 3 +FLAGS.SILENT (\\Deleted)")
        await other.ok("UID EXPUNGE 3")
        for items, form in (
            ("BODY.PEEK[]", b"* %d FETCH (%b)"),
            ("UID BODY.PEEK[] RFC822.SIZE", b"* %d FETCH (UID %d %b RFC822.SIZE %d)"),
        ):
            told = await client.ok(f"FETCH 1:* ({items})")
            for number, (octets, prologue) in enumerate(messages, 1):
                body = whole(octets, prologue)
                values = (number, number, body, len(prologue + octets)) if b"UID" in form else (number, body)
                assert told[number - 1] == form % values
            assert len(told) == len(messages)
            some = [1, 3, 4, 6, *range(9, 21)]
            assert await client.ok(f"FETCH 1,3:4,6,9:20 ({items})") == [told[number - 1] for number in some]
            assert await client.ok("FETCH 1,3:4,6,9:20 (FLAGS)") == [
                b"* %d FETCH (FLAGS (%b))" % (one, b"\\Deleted" if one == 3 else b"") for one in some
            ]
            assert told == [(await client.ok(f"FETCH {number} ({items})"))[0] for number in range(1, len(told) + 1)]
        rendered_items = "UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE EMAILID THREADID PREVIEW"
        told = await client.ok(f"FETCH 1:* ({rendered_items})")
        assert told == [
            (await client.ok(f"FETCH {number} ({rendered_items})"))[0] for number in range(1, len(messages) + 1)
        ]
        for (octets, prologue), line in zip(messages, told, strict=True):
            rendered = render(octets)
            assert b" RFC822.SIZE %d ENVELOPE %b BODYSTRUCTURE %b EMAILID (" % (
                len(prologue + octets), rendered.summary, rendered.structure,
            ) in line  # fmt: skip

    in_house(tmp_path, test)


def test_a_message_that_is_gone_for_good_is_left_out(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for number in range(1, 6):
            await house.file(part(b"%d\r\n" % number, "7bit", "text/plain"))
        client, other = await house.imap(), await house.imap()
        await other.ok("STORE 2,4 +FLAGS.SILENT (\\Deleted)")
        await other.ok("EXPUNGE")
        asked = ("BODY.PEEK[]", "RFC822.SIZE ENVELOPE", "BODY.PEEK[HEADER.FIELDS (Subject)]", "THREADID BODY.PEEK[1]")
        for items in asked:
            assert len(await client.ok(f"FETCH 1:* ({items})")) == 5
        now = 10**15
        assert await house.store.write(retention.drop_expunged, now, now) == 2
        for items in (*asked, "THREADID BODY.PEEK[HEADER.FIELDS (To)]"):
            told = await client.ok(f"FETCH 1:* ({items})")
            # What was answered and is kept is known of them still.
            known = 5 if items in asked[1:3] else 3
            assert len(told) == known
            assert told[-1].startswith(b"* 5 FETCH ")

    in_house(tmp_path, test)


def test_a_message_whose_octets_are_lost_is_not_left_out_in_silence(tmp_path: Path) -> None:
    """Who keeps a copy by IMAP would else believe that it has everything."""

    async def test(house: House) -> None:
        for number in range(3):
            await house.file(message(number))
        client = await house.imap()
        lost = "DELETE FROM blob WHERE id = (SELECT message FROM email WHERE id = 2)"
        await house.store.write(lambda tx: tx.query(lost, ()))
        await client.send(b"x FETCH 1:3 (BODY.PEEK[])\r\n")
        said = await client.reader.read()
        assert b"* BYE [SERVERBUG]" in said
        assert b"x OK" not in said

    in_house(tmp_path, test)


def test_what_is_large_is_decoded_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both times: its size is told before its octets, so it is gone through twice."""
    threads: list[threading.Thread] = []
    decode = mime.decode_pieces

    def decoding(octets: Buffer, part: Part) -> Iterator[bytes]:
        for piece in decode(octets, part):
            threads.append(threading.current_thread())
            yield piece

    async def test(house: House) -> None:
        inside = Random(1).randbytes(1_000_000)
        await house.file(part(base64.encodebytes(inside).replace(b"\n", b"\r\n"), "base64"))
        client = await house.imap()
        monkeypatch.setattr(mime, "decode_pieces", decoding)
        found = await client.ok("FETCH 1 (BINARY.PEEK[1] BINARY.PEEK[1]<900000.10>)")
        assert literal(found[0]) == inside
        assert found[0].endswith(b"BINARY[1]<900000> {10}\r\n%b)" % inside[900_000:900_010])
        assert len(threads) > 30
        assert threading.current_thread() not in threads

    in_house(tmp_path, test)


@pytest.mark.parametrize(
    ("item", "times"),
    [
        ("BODY.PEEK[HEADER.FIELDS.NOT (x-{})]<1.5>", 1),
        ("BODY.PEEK[HEADER.FIELDS (x-{})]", 1),
        ("BINARY.PEEK[1]<{}.5>", 2),
    ],
)
def test_others_have_their_turn_between_many_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, item: str, times: int
) -> None:
    """Of one message or of several: 100 KB are gone through twelve times in a row at most."""
    turn = 0
    made: list[int] = []
    parse, find, decode = Header.parse, fields.literal, mime.decode_pieces

    def parsing(octets: bytes) -> Header:
        made.append(turn)
        return parse(octets)

    def finding(header: bytes, names: fields.Names) -> bytes:
        made.append(turn)
        return find(header, names)

    def decoding(octets: Buffer, part: Part) -> Iterator[bytes]:
        made.append(turn)
        yield from decode(octets, part)

    async def count() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def test(house: House) -> None:
        for number in range(3):
            head = b"".join([b"X-%d: %b\r\n" % (each, b"y" * 90) for each in range(1024)])
            await house.file(b"Subject: %d\r\n%b\r\nIt leaves at nine.\r\n" % (number, head))
        client = await house.imap()
        monkeypatch.setattr(Header, "parse", parsing)
        monkeypatch.setattr(fields, "literal", finding)
        monkeypatch.setattr(mime, "decode_pieces", decoding)
        counting = asyncio.create_task(count())
        items = " ".join([item.format(number) for number in range(40)])
        try:
            assert len(await client.ok(f"FETCH 1:* ({items})")) == 3
        finally:
            counting.cancel()
        assert len(made) == 120 * times
        assert max(len(list(some)) for _, some in groupby(made)) <= 12

    in_house(tmp_path, test)


@pytest.mark.parametrize(
    ("item", "most"),
    [
        ("HEADER.FIELDS (Subject X{})]", 4),
        ("HEADER]<0.200000{}>", 4),
        ("HEADER]<{}.200>", 40),
        # With a NUL in it each is a copy; else it is a view of what is there.
        ("TEXT]<0.200000{}>", 4),
        ("1]<{}.2000000>", 40),
        # Of these no more is known than of 256 KB.
        ("HEADER.FIELDS.NOT (X{})]", 40),
    ],
)
def test_one_message_is_not_copied_any_number_of_times(tmp_path: Path, item: str, most: int) -> None:
    """For each of 500 items a header of 50 MB was in memory once."""
    text = b"x" * 1_500_000 + b"\0" * item.startswith("TEXT") + b"\r\n"
    octets = b"Subject: x\r\n" + b" yyyyyyyyyyyy\r\n" * 100_000 + b"\r\n" + text

    async def test(house: House) -> None:
        await house.file(octets)
        client = await house.imap()

        def items(count: int) -> str:
            return " ".join(f"BODY.PEEK[{item.format(number)}" for number in range(count))

        assert len(await client.ok(f"FETCH 1 ({items(most)})")) == 1
        if most < 40:
            *told, answer = await client.say(f"FETCH 1 ({items(40)})")
            assert (told, answer) == ([], b"NO [LIMIT] That is too much of one message at once")
            assert len(await client.ok(f"FETCH 1 ({items(1)})")) == 1

    in_house(tmp_path, test)


def test_small_pieces_do_not_gather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is decoded to a third of its size, too, no more than some pieces are in memory."""

    async def test(house: House) -> None:
        await house.file(part(b"".join([b"=41" * 24 + b"=\r\n"] * 40_000), "quoted-printable"))
        client = await house.imap()
        waiting = held(monkeypatch)
        assert literal((await client.ok("FETCH 1 BINARY.PEEK[1]"))[0]) == b"A" * 960_000
        assert max(waiting) < 256 * 1024

    in_house(tmp_path, test)
