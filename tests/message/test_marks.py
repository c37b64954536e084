"""What a header tells of how a message came to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message.header import Header
from posthouse.message.marks import is_automatic, is_impersonal, senders_on


@pytest.mark.parametrize(
    ("fields", "automatic", "impersonal"),
    [
        (b"Subject: x\r\n", False, False),
        (b"Auto-Submitted: no\r\n", False, False),
        (b"Auto-Submitted: NO (by hand)\r\n", False, False),
        (b"Auto-Submitted:\r\n auto-replied; owner=x\r\n", True, True),
        (b"Auto-Submitted: auto-generated\r\n", True, True),
        (b"Precedence: Bulk\r\n", False, True),
        (b"Precedence: first-class\r\n", False, False),
        (b"List-Id: <x.example>\r\n", False, True),
        (b"List-Unsubscribe: <mailto:x@x.example>\r\n", False, True),
        (b"X-Autoreply: yes\r\n", False, True),
    ],
)
def test_what_programs_write(fields: bytes, automatic: bool, impersonal: bool) -> None:
    header = Header.parse(fields + b"\r\n")
    assert (is_automatic(header), is_impersonal(header)) == (automatic, impersonal)


def test_who_sent_it_on() -> None:
    header = Header.parse(b"Delivered-To: Team@home.example \r\nDelivered-To:\r\n STRASSE@x.example\r\n\r\n")
    assert senders_on(header) == {"team@home.example", "strasse@x.example"}


@given(st.binary(max_size=200))
def test_never_raises(octets: bytes) -> None:
    for fields in (octets, b"Auto-Submitted:" + octets, b"Precedence:" + octets, b"Delivered-To:" + octets):
        header = Header.parse(fields)
        assert is_impersonal(header) or not is_automatic(header)
        senders_on(header)
