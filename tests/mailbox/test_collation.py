"""What messages are sorted and threaded by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailbox.collation import casemap, links, read_links, sort_lines, sort_text
from posthouse.mailbox.summary import render
from posthouse.message.addresses import split_addresses


@pytest.mark.parametrize(
    ("text", "mapped"),
    [
        ("abc_Z", "ABC_Z"),
        ("straße", "STRAßE"),
        ("é", "E\u0301"),
        ("ǆ", "D\u017e".replace("\u017e", "z\u030c")),
        ("ﬁ", "fi"),
    ],
)
def test_casemap(text: str, mapped: str) -> None:
    """RFC 5051 §2: each letter by itself in title case, then decomposed."""
    assert casemap(text) == mapped


@given(st.text(alphabet=st.characters(max_codepoint=127)), st.text())
def test_each_letter_is_mapped_by_itself(ascii_text: str, text: str) -> None:
    assert casemap(ascii_text) == ascii_text.upper()
    assert casemap(ascii_text + text).startswith(ascii_text.upper())


def test_sort_text() -> None:
    fields = {
        b"from": sort_lines(split_addresses(b"=?utf-8?q?J=C3=B6rg?= <jk@example.org>")),
        b"to": sort_lines(split_addresses(b"bob@example.org, alice@example.org")),
        b"cc": sort_lines(split_addresses(b"Friends: a@example.org;")),
    }
    assert sort_text("The coach", fields).split("\n") == [
        "THE COACH", "JK", "BOB", "FRIENDS", "JO\u0308RG", "BOB@EXAMPLE.ORG",
    ]  # fmt: skip
    assert sort_text("", {}) == "\n" * 5


@given(subject=st.text(), name=st.binary(max_size=40))
def test_sort_text_has_six_lines_of_bounded_length(subject: str, name: bytes) -> None:
    lines = sort_text(subject, {b"from": sort_lines(split_addresses(name))}).split("\n")
    assert len(lines) == 6
    assert max(map(len, lines)) <= 500


def test_letters_that_become_many_do_not_make_it_longer() -> None:
    assert [len(line) for line in sort_text("\ufdfa" * 500, {}).split("\n")] == [500, 0, 0, 0, 0, 0]


@given(st.none() | st.text(min_size=1), st.lists(st.text(min_size=1), max_size=5), st.booleans())
def test_links_come_out_as_they_went_in(own: str | None, references: list[str], reply: bool) -> None:
    was_reply, id, ancestors = read_links(links(own, references, reply))
    assert was_reply is reply
    assert bool(id) is (own is not None)
    assert len(ancestors) == len(references)
    if own is not None:
        assert list(read_links(links(None, [own], False))[2]) == [id]


def test_in_reply_to_counts_where_there_are_no_references() -> None:
    """RFC 5256 §3: and of it the first id."""
    only = render(b"Message-ID: <c@x>\r\nIn-Reply-To: <a@x> <b@x>\r\n\r\n").links
    both = render(b"Message-ID: <c@x>\r\nIn-Reply-To: <a@x>\r\nReferences: <b@x>\r\n\r\n").links
    assert only == links("c@x", ["a@x"], False)
    assert both == links("c@x", ["b@x"], False)
    assert render(b"Subject: Re: [list] x\r\n\r\n").links == links(None, [], True)
