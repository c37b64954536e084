"""Digests are written so that what stands in them is read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message import digest, mime
from posthouse.message.addresses import Mailbox
from posthouse.message.digest import Cover
from posthouse.message.header import Header

LIST = Mailbox("The team", "team", "home.example")


def cover(*, text: str = "Three\n", eight_bit: bool = False) -> Cover:
    sender = Mailbox("The team", "team-request", "home.example")
    return Cover(sender, LIST, LIST, "Digest", text, 0, "digest.1@home.example", eight_bit)


def written(front: Cover, *messages: bytes) -> bytes:
    return digest.beginning(front) + b"".join([digest.part(front, one) for one in messages]) + digest.ending(front)


def test_a_digest_from_its_first_octet_to_its_last() -> None:
    assert written(cover(), b"Subject: a\r\n\r\nA\r\n") == (
        b"From: The team <team-request@home.example>\r\nTo: The team <team@home.example>\r\n"
        b"Reply-To: The team <team@home.example>\r\nSubject: Digest\r\nDate: Thu, 01 Jan 1970 00:00:00 +0000\r\n"
        b"Message-ID: <digest.1@home.example>\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed;\r\n boundary="=_ca72b398620b2cfbaab1c93e"\r\n\r\n'
        b"--=_ca72b398620b2cfbaab1c93e\r\n"
        b"Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\nThree\r\n"
        b"\r\n--=_ca72b398620b2cfbaab1c93e\r\n"
        b'Content-Type: multipart/digest;\r\n boundary="=_223f9cd3b38ed8c234f7cfd6"\r\n\r\n'
        b"--=_223f9cd3b38ed8c234f7cfd6\r\n"
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: a\r\n\r\nA\r\n\r\n"
        b"--=_223f9cd3b38ed8c234f7cfd6--\r\n\r\n--=_ca72b398620b2cfbaab1c93e--\r\n"
    )


def test_a_table_of_contents_names_subject_and_author() -> None:
    assert digest.contents([("Lunch", "Ann"), ("Dinner", "")]) == "   1. Lunch (Ann)\n   2. Dinner\n"


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        (b"x" * 998 + b"\r\n", True),
        (b"x" * 999 + b"\r\n", False),
        (b"a\r\nb", True),
        (b"a\nb", False),
        (b"a\rb", False),
        (b"\n\r", False),
        (b"a\0", False),
        (b"\xff", True),
        (b"", True),
    ],
)
def test_what_could_not_travel_inside_another_message_is_a_file(body: bytes, fits: bool) -> None:
    octets = written(cover(), b"Subject: x\r\n\r\n" + body)
    (part,) = mime.scan(octets).children[1].children
    assert (part.message is not None) is fits


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4), st.text(max_size=100))
def test_whatever_stands_in_a_digest_is_read_back(bodies: list[bytes], text: str) -> None:
    messages = [b"Subject: x\r\n\r\n" + body for body in bodies]
    eight_bit = not b"".join(messages).isascii()
    octets = written(cover(text=text, eight_bit=eight_bit), *messages)
    root = mime.scan(octets)
    _, inner = root.children
    assert (inner.type, inner.subtype, len(inner.children)) == ("multipart", "digest", len(messages))
    for part, message in zip(inner.children, messages, strict=True):
        if part.message is not None:
            assert bytes(octets[part.body_start : part.end]) == message
        else:
            assert mime.decode_body(octets, part) == message
    # RFC 2045 §6.4: what is around 8-bit parts says so.
    said = Header.parse(octets).first(b"content-transfer-encoding")
    assert said == (b"8bit" if eight_bit else None)
