"""URLs of messages."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.wire.imap import url
from posthouse.wire.imap.fetch import Text
from posthouse.wire.imap.grammar import MAX_NUMBER64, ParseError


def test_a_message_in_a_mailbox() -> None:
    found = url.parse(b"/Drafts;UIDVALIDITY=385759045/;UID=20/;section=1.2.MIME")
    assert (found.mailbox, found.uidvalidity, found.uid) == ("Drafts", 385759045, 20)
    assert (found.section.part, found.section.text, found.section.partial) == ((1, 2), Text.MIME, None)


@pytest.mark.parametrize(
    ("octets", "mailbox"),
    [
        (b"/Drafts/;UID=20", "Drafts"),
        (b"/a/b%20c/;uid=20", "a/b c"),
        (b"/inbox/;UID=20", "INBOX"),
        (b"/%E9%A9%BF%E7%AB%99/;UID=20", "驿站"),
        (b";UID=20", None),
        (b"/;UID=20", None),
    ],
)
def test_which_mailbox(octets: bytes, mailbox: str | None) -> None:
    found = url.parse(octets)
    assert (found.mailbox, found.uidvalidity, found.uid, found.section.text) == (mailbox, None, 20, Text.WHOLE)


def test_a_section_is_written_as_fetch_has_it() -> None:
    section = url.parse(b"/a/;UID=1/;SECTION=HEADER.FIELDS%20(From%20To)").section
    assert (section.text, section.fields) == (Text.FIELDS, (b"From", b"To"))


@pytest.mark.parametrize(
    ("partial", "expected"), [(b"0.10", (0, 10)), (b"7", (7, MAX_NUMBER64)), (b"9999999999999999999", None)]
)
def test_a_part_of_it(partial: bytes, expected: tuple[int, int] | None) -> None:
    assert url.parse(b"/a/;UID=1/;PARTIAL=" + partial).section.partial == (expected or (MAX_NUMBER64, MAX_NUMBER64))


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"/a",
        b"/a/;UID=0",
        b"/a/;UID=4294967296",
        b"/a;UIDVALIDITY=4294967296/;UID=1",
        b"/a/;UID=1/;SECTION=NOPE",
        b"/a/;UID=1/;SECTION=1]",
        b"/a/;UID=1/;SECTION=%5D%5B",
        b"/a/;UID=1;URLAUTH=anonymous",
        b"imap://other.example/a/;UID=1",
        b"//other.example/a/;UID=1",
        b"/%FF/;UID=1",
        b"/%2/;UID=1",
        b"/a?SUBJECT%20x",
    ],
)
def test_what_names_no_message_here(octets: bytes) -> None:
    with pytest.raises(ParseError):
        url.parse(octets)


@given(st.binary(max_size=100) | st.text("/;UIDSECTON=.%0129a(]", max_size=60).map(str.encode))
@example(b"/" + b"%" * 60 + b";UID=1")
def test_nothing_but_its_own_error(octets: bytes) -> None:
    try:
        found = url.parse(octets)
    except ParseError:
        return
    assert found.uid > 0
