"""METADATA: what is written is read again, and no command asks for too much."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse import limits
from posthouse.wire.imap import metadata
from posthouse.wire.imap.grammar import ParseError, Parser
from posthouse.wire.imap.metadata import SetMetadata

WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="/*%"), min_size=1, max_size=9)
SCOPES = st.sampled_from(["private", "shared"])
ENTRIES = st.builds(lambda scope, words: "/".join(["", scope, "x", *words]), SCOPES, st.lists(WORDS, max_size=3))


@given(st.lists(st.tuples(ENTRIES, st.none() | st.binary(max_size=40)), min_size=1, max_size=4))
def test_what_is_told_can_be_set(values: list[tuple[str, bytes | None]]) -> None:
    """RFC 5464 §5: entry-values are the same on both ways, whatever octets a value has."""
    told = metadata.metadata("a", values, utf8=False)
    parser = Parser(told.removeprefix(b"* METADATA").removesuffix(b"\r\n"))
    expected = tuple((entry.lower(), value) for entry, value in values)
    assert metadata.parse_set(parser) == SetMetadata("a", expected)
    parser.end()


@given(st.binary(max_size=60) | st.text('/pPrivatehsd *%()"{}~1+\r\n\0', max_size=60).map(str.encode))
def test_nothing_but_parse_error(octets: bytes) -> None:
    for parse in (metadata.parse_get, metadata.parse_set, metadata.parse_wanted):
        for start in (b" ", b" a ", b" a (/private/x ", b" (DEPTH 1) a "):
            with suppress(ParseError):
                parse(Parser(start + octets))


def test_a_command_names_so_many_entries() -> None:
    most = limits.METADATA_ASKED
    names = b" ".join([b"/private/x"] * most)
    pairs = b" ".join([b"/private/x NIL"] * most)
    assert len(metadata.parse_get(Parser(b" a (%b)" % names)).entries) == most
    assert len(metadata.parse_set(Parser(b" a (%b)" % pairs)).values) == most
    for parse, octets in (
        (metadata.parse_get, b" a (%b /private/y)" % names),
        (metadata.parse_wanted, b" (%b /private/y)" % names),
        (metadata.parse_set, b" a (%b /private/y NIL)" % pairs),
    ):
        with pytest.raises(ParseError) as caught:
            parse(Parser(octets))
        assert caught.value.no
        assert caught.value.code == b"LIMIT"


def test_a_name_has_so_many_octets() -> None:
    longest = b"/private/" + b"x" * (limits.METADATA_NAME - 9)
    assert metadata.parse_entries(Parser(longest)) == (longest.decode(),)
    with pytest.raises(ParseError):
        metadata.parse_entries(Parser(longest + b"x"))


def test_changed_entries_are_told_without_values() -> None:
    """RFC 5464 §4.4.2, §5 entry-list: no parentheses; in several responses where there are many."""
    assert metadata.changed("", ["/shared/comment"], utf8=False) == b'* METADATA "" /shared/comment\r\n'
    found = metadata.changed("Büro", [f"/private/{number} x" for number in range(11)], utf8=False)
    first, second = found.splitlines()
    assert first.startswith(b'* METADATA "B&APw-ro" "/private/0 x" "/private/1 x" ')
    assert second == b'* METADATA "B&APw-ro" "/private/10 x"'
