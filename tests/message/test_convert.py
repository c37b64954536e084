"""Messages brought into a form that the next hop carries; what a reader decodes from them stays the same."""

import contextlib
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.limits import TEXT_LINE
from posthouse.message.convert import NotConvertible, convert, is_binary
from posthouse.message.header import Header
from posthouse.message.mime import Part, decode_body, read, scan, walk
from tests.message.corpus import NAMES, load


def seven(octets: bytes) -> bytes:
    return b"".join(convert(octets))


def eight(octets: bytes) -> bytes:
    return b"".join(convert(octets, eight_bit=True))


def leaves(octets: bytes) -> list[tuple[str, str, bytes]]:
    """What a reader gets: type and decoded body of each part that holds something itself."""
    return [
        (part.type, part.subtype, decode_body(octets, part))
        for part in walk(scan(octets))
        if not part.children and part.message is None
    ]


def label(octets: bytes, part: Part) -> bytes | None:
    return Header.parse(octets, part.header_start, part.body_start).first(b"content-transfer-encoding")


TEXT = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"


def test_text_with_a_few_accents_becomes_quoted_printable() -> None:
    body = "Grüße aus Köln, und noch ein ganzer Satz dazu = gut.\r\n.\r\nFrom here \r\n"
    converted = seven((TEXT + "Content-Transfer-Encoding: 8bit\r\nX: y\r\n\r\n" + body).encode())
    assert (
        converted
        == (
            TEXT + "Content-Transfer-Encoding: quoted-printable\r\nX: y\r\n\r\n"
            "Gr=C3=BC=C3=9Fe aus K=C3=B6ln, und noch ein ganzer Satz dazu =3D gut.\r\n=2E\r\nFrom here=20\r\n"
        ).encode()
    )


@pytest.mark.parametrize(
    ("kind", "body"),
    [("text/plain; charset=utf-8", "Привет, мир\r\n".encode()), ("image/png", b"\x89PNG\r\n\x1a\r\n" + b"a" * 99)],
)
def test_other_content_becomes_base64(kind: str, body: bytes) -> None:
    whole = f"MIME-Version: 1.0\r\nContent-Type: {kind}\r\n\r\n".encode() + body
    converted = seven(whole)
    assert label(converted, scan(converted)) == b"base64"
    assert leaves(converted) == leaves(whole)
    assert max(map(len, converted.split(b"\r\n"))) <= 76


def test_a_message_that_is_not_mime_becomes_so() -> None:
    converted = seven("Subject: x\r\n\r\nGrüße, lieber Leser.\r\n".encode())
    header = Header.parse(converted)
    assert header.first(b"mime-version") == b"1.0"
    assert header.first(b"content-type") == b"text/plain; charset=utf-8"
    assert Header.parse(seven(b"Subject: x\r\n\r\nGr\xfc\xdfe\r\n")).first(b"content-type") == (
        b"text/plain; charset=unknown-8bit"
    )


def nested(inner: str) -> bytes:
    return (
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        "preamble\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nascii\r\n"
        f"--b\r\n{inner}\r\n--b--\r\nepilogue\r\n"
    ).encode()


def test_parts_are_converted_where_they_lie_and_labels_tell_the_truth() -> None:
    whole = nested("Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<p>ü, sagt sie")
    converted = seven(whole)
    root = scan(converted)
    assert [label(converted, part) for part in walk(root)] == [b"7bit", b"7bit", b"quoted-printable"]
    assert leaves(converted) == leaves(whole)
    assert b"preamble\r\n--b\r\n" in converted
    assert converted.endswith(b"\r\n--b--\r\nepilogue\r\n")


def test_a_message_inside_is_converted_inside() -> None:
    whole = nested("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: in\r\n\r\nGrüße!")
    converted = seven(whole)
    inside = next(part for part in walk(scan(converted)) if part.message)
    assert label(converted, inside) == b"7bit"
    assert inside.message is not None
    assert Header.parse(converted, inside.message.header_start).first(b"mime-version") == b"1.0"
    assert [body for _, _, body in leaves(converted)] == [body for _, _, body in leaves(whole)]


@pytest.mark.parametrize(
    ("inner", "prohibited"),
    [
        ("Content-Type: multipart/signed; boundary=c\r\n\r\n--c\r\n\r\nü\r\n--c\r\n\r\nsig\r\n--c--", True),
        ("Content-Type: multipart/encrypted; boundary=c\r\n\r\n--c\r\n\r\nü\r\n--c--", True),
        ("Content-Type: text/plain; name=ü\r\n\r\nü", False),
        ("Content-Type: text/plain\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nü", False),
        ("Content-Type: multipart/mixed\r\n\r\nü", False),
        ("Content-Type: message/partial\r\n\r\nü", False),
        ("Content-Type: multipart/mixed; boundary=c\r\n\r\nü\r\n--c\r\n\r\na\r\n--c--\r\n", False),
    ],
)
def test_what_cannot_be_converted_is_refused(inner: str, prohibited: bool) -> None:
    with pytest.raises(NotConvertible) as caught:
        seven(nested(inner))
    assert caught.value.prohibited is prohibited


def test_a_signed_part_that_fits_stays_as_it_is_octet_for_octet() -> None:
    signed = (
        "Content-Type: multipart/signed; boundary=c\r\n\r\n--c\r\nContent-Transfer-Encoding: 8bit\r\n\r\nu\r\n"
        "--c\r\n\r\nsig\r\n--c--"
    )
    whole = nested(f"{signed}\r\n--b\r\nContent-Type: text/plain\r\n\r\nGrüße, lieber Leser")
    assert signed.encode() in seven(whole)


def test_a_message_signed_by_dkim_is_left_alone() -> None:
    with pytest.raises(NotConvertible) as caught:
        seven("DKIM-Signature: v=1\r\nSubject: x\r\n\r\nü\r\n".encode())
    assert caught.value.prohibited


def test_a_bad_encoding_is_made_a_good_one() -> None:
    for encoding, body in (("quoted-printable", "a=C3=BC ü\r\n"), ("base64", "YWJj\r\nü\r\n")):
        whole = (TEXT + f"Content-Transfer-Encoding: {encoding}\r\n\r\n{body}").encode()
        converted = seven(whole)
        assert converted.isascii()
        assert leaves(converted) == leaves(whole)


def test_binary_becomes_base64_and_eight_bit_text_stays_where_that_is_carried() -> None:
    image = "Content-Type: image/x; name=a\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\n\r\xff"
    text = "--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: binary\r\n\r\nGrüße!"
    whole = nested(f"{image}\r\n{text}")
    converted = eight(whole)
    assert leaves(converted) == leaves(whole)
    assert [label(converted, part) for part in walk(scan(converted))] == [b"8bit", b"8bit", b"base64", b"8bit"]
    assert "Grüße!".encode() in converted
    assert not is_binary(converted)


def test_what_is_binary() -> None:
    assert not is_binary(b"a\r\nb\r\n\xff")
    assert not is_binary(b"\r\n".join([b"x" * 1000] * 1000))
    for octets in (b"a\nb", b"a\rb", b"\0", b"\r", b"x" * (TEXT_LINE + 1), b"a" * 131071 + b"\r\x00"):
        assert is_binary(octets)
    # A CRLF that lies across two windows is one.
    assert not is_binary(b"a" * 131071 + b"\r\nb")


def test_a_large_mapped_message_is_converted_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.write(nested("Content-Type: text/plain; charset=utf-8\r\n\r\n").partition(b"\r\n--b--")[0])
        for _ in range(20_000):
            file.write("Eine Zeile mit ü, und noch ein wenig mehr.\r\n".encode())
        file.write(b"--b--\r\n")
    with path.open("rb") as made, mmap(made.fileno(), 0, access=ACCESS_READ) as mapped:
        pieces = list(convert(mapped))
        assert max(map(len, pieces)) < 1 << 20
        converted = b"".join(pieces)
        assert leaves(converted) == leaves(mapped[:])


@pytest.mark.parametrize("name", NAMES)
def test_no_oddity_is_lost(name: str) -> None:
    whole = load(name)
    try:
        converted = seven(whole)
    except NotConvertible:
        return
    assert converted.isascii()
    if any(part.type == "message" and part.subtype == "global" for part in walk(scan(whole))):
        return
    assert leaves(converted) == leaves(whole)


TYPES = st.sampled_from(["text/plain", "text/html; charset=utf-8", "image/png", "application/octet-stream", ""])
LABELS = st.sampled_from(["", "7bit", "8bit", "binary", "quoted-printable", "base64", "x-odd"])
WORDS = st.sampled_from([b"word ", "ü".encode(), b"\xff", b"=", b".", b" ", b"\t", b"\r\n", b"\0", b"\n", b"x" * 80])
BODIES = st.lists(WORDS, max_size=40).map(b"".join)


@st.composite
def entities(draw: st.DrawFn, depth: int = 0) -> bytes:
    """A part, with parts in it or none."""
    kind = draw(st.sampled_from(["leaf", "leaf", "multipart", "message"])) if depth < 3 else "leaf"
    encoding = draw(LABELS)
    lines = [f"Content-Transfer-Encoding: {encoding}"] if encoding else []
    if kind == "multipart":
        boundary = f"b{depth}"
        children = draw(st.lists(entities(depth + 1), min_size=1, max_size=3))
        head = "\r\n".join([f"Content-Type: multipart/mixed; boundary={boundary}", *lines, "", ""]).encode()
        parts = b"".join(f"--{boundary}\r\n".encode() + child + b"\r\n" for child in children)
        return head + parts + f"--{boundary}--\r\n".encode()
    if kind == "message":
        head = "\r\n".join(["Content-Type: message/rfc822", *lines, "", ""]).encode()
        return head + b"Subject: in\r\n" + draw(entities(depth + 1))
    type = draw(TYPES)
    lines += [f"Content-Type: {type}"] if type else []
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + draw(BODIES)


def longest(octets: bytes) -> Iterator[int]:
    for part in walk(read(octets)[0]):
        if part.encoding in (b"quoted-printable", b"base64") and not part.children and part.message is None:
            yield from map(len, octets[part.body_start : part.end].split(b"\r\n"))


@given(entities(), st.booleans())
def test_a_converted_message_decodes_to_the_same_parts(entity: bytes, eight_bit: bool) -> None:
    whole = b"Subject: x\r\nMIME-Version: 1.0\r\n" + entity
    try:
        converted = b"".join(convert(whole, eight_bit=eight_bit))
    except NotConvertible:
        return
    assert eight_bit or converted.isascii()
    assert not is_binary(converted)
    assert leaves(converted) == leaves(whole)
    assert b"".join(convert(converted, eight_bit=eight_bit)) == converted


@given(BODIES.map(lambda body: body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").replace(b"\0", b"")))
def test_encoded_lines_are_short(body: bytes) -> None:
    whole = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\xff" + b"a" * 30 + body
    assert max(longest(seven(whole)), default=0) <= 76


@given(st.binary(max_size=300))
def test_whatever_comes_only_its_own_error_is_raised(octets: bytes) -> None:
    with contextlib.suppress(NotConvertible):
        assert seven(octets).isascii()
