"""A message on its way in: the header made right, limits kept, nothing left behind."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse import limits
from posthouse.directory.addresses import Expansion, Standing
from posthouse.limits import KB, MB
from posthouse.policy.check import Facts, RecipientFacts
from posthouse.reception.intake import HeaderEdit, Intake
from posthouse.reception.refusals import Trail
from posthouse.store.blobs import Blobs
from posthouse.terms.address import parse
from posthouse.terms.envelope import Envelope, Recipient
from posthouse.terms.reply import Refusal

HEADER = b"From: <eve@far.example>\r\nSubject: Hello\r\n"
RECEIVED = (
    b"Received: from far.example ([192.0.2.7])\r\n"
    b"\tby mail.home.example (posthouse) with ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384) id 0000000000002\r\n"
    b"\tfor <bob@home.example>;\r\n\tThu, 01 Jan 2026 00:00:00 +0000\r\n"
)


@contextmanager
def holder(memory: int = 10 * MB, disk: int = 100 * MB) -> Iterator[Blobs]:
    """Where octets go; all that was taken must be given back."""
    with tempfile.TemporaryDirectory() as directory:
        blobs = Blobs(Path(directory) / "blobs", memory_budget=memory, disk_budget=disk)
        yield blobs
        assert [path for path in Path(directory).rglob("*") if path.is_file()] == []
        assert (blobs._memory.left, blobs._disk.left) == (memory, disk)
        blobs.close()


def intake(
    blobs: Blobs, *recipients: str, most: int = 10 * MB, edit: HeaderEdit | None = None, peer: str = "192.0.2.7"
) -> Intake:
    """One as the door begins it."""
    facts = Facts("mx", peer, helo="far.example", esmtp=True, tls="TLSv1.3 TLS_AES_256_GCM_SHA384")
    expansion = Expansion(Standing.KNOWN)
    facts.recipients = [RecipientFacts(Recipient(parse(one)), expansion) for one in recipients or ["bob@home.example"]]
    return Intake(
        blobs,
        facts,
        Envelope(None),
        Trail(2, None),
        hostname="mail.home.example",
        protocol="ESMTPS",
        edit=edit,
        at=1_767_225_600_000,
        most=most,
    )


def gathered(*pieces: bytes, edit: HeaderEdit | None = None, most: int = 10 * MB) -> bytes | int:
    """What is stored of these pieces, without our Received field; or the code of the refusal."""
    with holder() as blobs, intake(blobs, edit=edit, most=most) as made:
        for piece in pieces:
            made.write(piece)
        made.end()
        if made.refusal is not None:
            return made.refusal.code
        octets = bytes(made.spool.buffer())
        assert octets.startswith(RECEIVED)
        assert made.header is not None
        return octets[len(RECEIVED) :]


def test_our_received_field_stands_in_front() -> None:
    assert gathered(HEADER + b"\r\nHi\r\n") == HEADER + b"\r\nHi\r\n"


def test_nobody_is_named_where_there_are_several() -> None:
    with holder() as blobs, intake(blobs, "bob@home.example", "hidden@home.example") as made:
        made.write(HEADER + b"\r\nHi\r\n")
        assert b"for <" not in bytes(made.spool.buffer())


PARTS = st.sampled_from([b"\r\n", b"A: b\r\n", b"\r\n\r\n", b"Return-Path: <x@y>\r\n", b"Z:", b"text", b"x" * 300])


@settings(deadline=None)
@given(st.lists(PARTS, max_size=8).map(b"".join), st.lists(st.integers(0, 2000), max_size=6))
def test_any_split_gives_the_same_octets(message: bytes, cuts: list[int]) -> None:
    message += b"\r\n"
    places = [0, *sorted(cut % (len(message) + 1) for cut in cuts), len(message)]
    pieces = [message[a:b] for a, b in pairwise(places)]
    whole = gathered(message)
    assert gathered(*pieces) == whole
    # Only the header changes, and there only Return-Path.
    fields = message.partition(b"\r\n\r\n")[0] if not message.startswith(b"\r\n") else b""
    if b"Return-Path" not in fields:
        assert whole == message


def test_an_empty_message_is_our_header() -> None:
    assert gathered() == b""
    assert gathered(b"\r\n") == b"\r\n"


def test_a_header_may_end_with_the_message() -> None:
    assert gathered(HEADER) == HEADER


def test_return_path_of_others_goes() -> None:
    message = (
        b"Return-Path:\r\n <a@b.example>\r\nSubject: Hello\r\nReturn-path: <c@d.example>\r\n\r\nReturn-Path: text\r\n"
    )
    assert gathered(message) == b"Subject: Hello\r\n\r\nReturn-Path: text\r\n"


def test_the_edit_sees_the_fields_and_only_them() -> None:
    seen: list[bytes] = []

    def edit(head: bytes) -> bytes:
        seen.append(head)
        return head + b"Date: now\r\n"

    assert gathered(HEADER[:10], HEADER[10:], b"\r\nHi\r\n", edit=edit) == HEADER + b"Date: now\r\n\r\nHi\r\n"
    assert seen == [HEADER]


def test_what_the_edit_refuses_is_refused_at_the_end() -> None:
    def edit(head: bytes) -> bytes:
        raise Refusal(550, "5.7.1", "Not yours")

    assert gathered(HEADER + b"\r\n", b"more\r\n", edit=edit) == 550
    assert gathered(HEADER, edit=edit) == 550


def test_a_message_that_is_too_long_is_refused_and_not_kept() -> None:
    with holder() as blobs, intake(blobs, most=1000) as made:
        made.write(HEADER + b"\r\n" + b"x" * 900)
        assert made.refusal is None
        made.write(b"x" * 200)
        assert blobs._memory.left == 10 * MB
        made.write(b"x" * 200)
        made.end()
        assert made.refusal is not None
        assert str(made.refusal) == "552 5.3.4 A message may have 1000 octets here"


def test_a_header_that_is_too_long_is_refused_however_it_comes() -> None:
    line = b"X: " + b"x" * 995 + b"\r\n"
    header = line * (limits.HEADER_SIZE // len(line))
    assert isinstance(gathered(header + b"\r\nHi\r\n"), bytes)
    long = header + line
    for size in (len(long) + 6, 100_000, 1000):
        message = long + b"\r\nHi\r\n"
        assert gathered(*(message[at : at + size] for at in range(0, len(message), size))) == 552


def test_headers_on_their_way_keep_to_the_budget_too() -> None:
    with holder(memory=100 * KB, disk=200 * KB) as blobs:
        made = [intake(blobs, peer="127.0.0.1") for _ in range(4)]
        for one in made:
            one.write(b"X: " + b"x" * (90 * KB))
        # One in memory, two on the disk, and no room for the fourth.
        assert [one.refusal.code if one.refusal else 0 for one in made] == [0, 0, 0, 452]
        for one in made:
            one.discard()


def test_a_header_that_was_spilled_is_made_right_all_the_same() -> None:
    with holder(memory=1 * KB) as blobs, intake(blobs) as made:
        made.write(b"Return-Path: <x@y.example>\r\nX: ")
        made.write(b"x" * 5000)
        made.write(b"\r\n\r")
        made.write(b"\nbody\r\n")
        made.end()
        assert bytes(made.spool.buffer()) == RECEIVED + b"X: " + b"x" * 5000 + b"\r\n\r\nbody\r\n"


def test_a_full_budget_is_told_at_the_end() -> None:
    with holder(memory=1 * KB, disk=1 * KB) as blobs, intake(blobs) as made:
        made.write(HEADER + b"\r\n")
        made.write(b"x" * 2000)
        assert blobs._disk.left == 1 * KB
        made.end()
        assert made.refusal is not None
        assert (made.refusal.code, made.refusal.enhanced) == (452, "4.3.1")


def test_what_is_discarded_leaves_nothing() -> None:
    with holder() as blobs:
        one = intake(blobs)
        one.write(HEADER + b"\r\n" + b"x" * (300 * KB))
        assert blobs._disk.left < 100 * MB
        one.discard()
        one.discard()


def test_a_large_header_is_not_kept_apart_while_its_message_comes() -> None:
    """Two hundred strangers who paused behind one of 256 KB held 140 MB, whatever the budgets were."""
    fields = b"".join(b"X-%04d: %s\r\n" % (number, b"y" * 100) for number in range(1000))
    message = HEADER + b"Message-ID: <1@far.example>\r\nReturn-Path: <x@y>\r\n" + fields + b"\r\n"
    with holder() as blobs, intake(blobs) as one:
        for start in range(0, len(message), 5000):
            one.write(message[start : start + 5000])
        one.write(b"From: <another@far.example>\r\n")
        assert one.header is None
        # What its journey is found by, should it never end.
        assert one.trail.header is not None
        assert {field.name for field in one.trail.header.fields} == {b"subject", b"message-id"}
        one.end()
        assert one.refusal is None
        assert one.header is one.trail.header is not None
        assert one.header.all(b"from") == [b"<eve@far.example>"]
        assert len(one.header.fields) == 1003
        assert one.header.complete
        stored = message.replace(b"Return-Path: <x@y>\r\n", b"") + b"From: <another@far.example>\r\n"
        assert bytes(one.spool.buffer()) == RECEIVED + stored
