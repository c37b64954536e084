"""Mailbox names in modified UTF-7 and UTF-8, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.terms.inbox import INBOX, at_top
from posthouse.wire.imap import names

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (b"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),  # RFC 3501 §5.1.3
        (b"Entw&APw-rfe", "Entwürfe"),
        (b"A&-B", "A&B"),
        (b"&2D3eAA-", "\U0001f600"),
        (b"", ""),
        (b"inbox", "INBOX"),
        (b"Inbox/sub", "Inbox/sub"),
    ],
)
def test_modified_utf7(octets: bytes, name: str) -> None:
    assert names.decode(octets, utf8=False) == name
    if name != "INBOX":
        assert names.encode(name, utf8=False) == octets


@pytest.mark.parametrize(
    "octets",
    [
        b"&",
        b"a&b",
        b"&AGE-",  # a letter that represents itself
        b"&U,A-&U,A-",  # a shift that need not end
        b"&U,BTFw=-",
        b"&U/BTFw-",
        b"&2D0-",  # half a pair
        b"&AA-",
        "é".encode(),
        b"a\x01",
    ],
)
def test_what_is_not_modified_utf7(octets: bytes) -> None:
    with pytest.raises(ValueError):
        names.decode(octets, utf8=False)


@given(TEXT, st.booleans())
def test_a_name_survives(name: str, utf8: bool) -> None:
    assert names.decode(names.encode(name, utf8=utf8), utf8=utf8) == at_top(name)


@given(st.binary(max_size=40) | st.text("&-A,/+bcé", max_size=12).map(str.encode), st.booleans())
def test_octets_have_one_name_or_none(octets: bytes, utf8: bool) -> None:
    try:
        name = names.decode(octets, utf8=utf8)
    except ValueError:
        return
    if name != INBOX:
        assert names.encode(name, utf8=utf8) == octets
