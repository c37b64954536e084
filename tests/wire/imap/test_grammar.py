"""The words of the grammar, and that the parser raises nothing but ParseError."""

from binascii import b2a_base64
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.wire.imap import command
from posthouse.wire.imap.grammar import ParseError, Parser, decode_base64
from tests.wire.imap.test_command import EXAMPLES


def read(octets: bytes, production: str) -> object:
    parser = Parser(octets)
    found = getattr(parser, production)()
    parser.end()
    return found


@pytest.mark.parametrize(
    ("production", "octets", "value"),
    [
        ("atom", b"a+b.c/d", b"a+b.c/d"),
        ("astring", b"a]b", b"a]b"),
        ("astring", b'""', b""),
        ("astring", b'"a \\"b\\\\"', b'a "b\\'),
        ("astring", b"{3}\r\na\r\n", b"a\r\n"),
        ("astring", b"{3+}\r\nfoo", b"foo"),
        ("nstring", b"nil", None),
        ("nstring", b'"nil"', b"nil"),
        ("number", b"0", 0),
        ("number", b"4294967295", 4294967295),
        ("list_mailbox", b"a/%*]", "a/%*]"),
        ("mailbox", b"&ZeVnLIqe-", "日本語"),
        ("flag", b"\\Seen", "\\Seen"),
        ("flag", b"$MDNSent", "$MDNSent"),
        ("flag_list", b"()", ()),
        ("flag_list", b"( $Junk)", ("$Junk",)),
        ("date_time", b'"01-Jan-1970 00:00:00 +0000"', 0),
        ("date_time", b'" 1-jan-1970 01:30:00 +0130"', 0),
        ("date_time", b'"17-Jul-1996 02:44:25 -0700"', 837596665000),
        ("date_time", b'"31-Dec-2016 23:59:60 +0000"', 1483228799000),
        ("initial_response", b"=", b""),
        ("initial_response", b"AGEAYg==", b"\0a\0b"),
    ],
)
def test_productions(production: str, octets: bytes, value: object) -> None:
    assert read(octets, production) == value


@pytest.mark.parametrize(
    ("production", "octets"),
    [
        ("atom", b""),
        ("atom", b"a]"),
        ("atom", b"a{"),
        ("atom", b"\xc3\xa9"),
        ("astring", b"a b"),
        ("astring", b'"a'),
        ("astring", b'"a\\b"'),
        ("astring", b'"a\nb"'),
        ("astring", b"{3}\r\nab"),
        ("astring", b"{3}ab"),
        ("astring", b"{99999999999999999999}\r\n"),
        ("astring", b"~{1}\r\na"),
        ("number", b"4294967296"),
        ("number", b"12345678901234567890123"),
        ("number", b"-1"),
        ("nz_number", b"0"),
        ("mailbox", b"&"),
        ("mailbox", b'"\xc3\xa9"'),
        ("flag", b"\\"),
        ("flag", b"\\*"),
        ("flag_list", b"(a  b)"),
        ("flag_list", b"(a"),
        ("date", b"30-Feb-2020"),
        ("date", b"1-Foo-2020"),
        ("date", b'"1-Jan-2020'),
        ("date_time", b'"1-Jan-1970 00:00:00 +0000"'),
        ("date_time", b'"01-Jan-1970 24:00:00 +0000"'),
        ("date_time", b'"01-Jan-0000 00:00:00 +0000"'),
        ("initial_response", b"A"),
        ("initial_response", b"AA=A"),
    ],
)
def test_what_the_productions_refuse(production: str, octets: bytes) -> None:
    with pytest.raises(ParseError):
        read(octets, production)


def test_a_mailbox_in_utf8() -> None:
    assert Parser('"日本&語"'.encode(), utf8=True).mailbox() == "日本&語"
    with pytest.raises(ParseError):
        Parser(b'"\xff"', utf8=True).mailbox()


SEXTETS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


@given(st.binary(max_size=60) | st.text("AB9+/=-", max_size=8).map(str.encode))
@example(b"AB==")
def test_base64(octets: bytes) -> None:
    """Octets are made of six bits a letter; what is left at the end makes none (RFC 4648 §4), whatever it is."""
    try:
        decoded = decode_base64(octets)
    except ValueError:
        return
    bits = "".join([f"{SEXTETS.index(letter):06b}" for letter in octets.rstrip(b"=")])
    assert decoded == bytes([int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8)])
    assert len(octets) == len(b2a_base64(decoded, newline=False))


LINES = [line for lines in EXAMPLES.values() for line in lines]


@st.composite
def commands(draw: st.DrawFn) -> bytes:
    """A command, some of whose octets are others."""
    line = bytearray(b"a " + draw(st.sampled_from(LINES)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(2, len(line)))
        cut = draw(st.integers(0, 6))
        line[at : at + cut] = draw(
            st.sampled_from(
                [b"", b" ", b"(", b")", b'"', b"{3}\r\n", b"*", b"\\", b"[", b"]", b"NOT ", b"0", b"\xff", b"<", b"$"]
            )
            | st.binary(max_size=3)
        )
    return bytes(line)


@given(commands() | st.binary(max_size=60).map(lambda octets: b"a UID SEARCH " + octets), st.booleans())
@example(b"a SEARCH " + b"(" * 30_000, False)
@example(b"a SEARCH " + b"NOT " * 15_000 + b"ALL", False)
@example(b"a SEARCH " + b"OR " * 15_000, False)
@example(b"a FETCH 1 BODY[" + b"1." * 30_000 + b"1]", False)
@example(b"a LIST () " + b"(" * 60_000, False)
def test_nothing_but_parse_error(octets: bytes, utf8: bool) -> None:
    head = command.head(octets)
    if head is None or head.row is None:
        return
    with suppress(ParseError):
        command.parse(head.row, octets, head.arguments, utf8=utf8)
