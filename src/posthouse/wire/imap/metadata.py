"""METADATA on the wire (RFC 5464, RFC 9590): its commands, what they ask for, and the response.

Promises: an entry that cannot be one is BAD; entries come in lower case, for they are the same in any. Values are
octets. Refuses: to know which entries there are.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from posthouse import limits
from posthouse.wire.imap.grammar import ParseError, Parser
from posthouse.wire.imap.response import astring, mailbox, nstring, parenthesized

# RFC 5464 §3.2: ASCII without controls, "*" and "%"; no empty component. §3.2: /private or /shared comes first.
_ENTRY: Final = re.compile(rb"/(?:private|shared)(?:/[ -$&-)+-.0-~]+)*\Z", re.IGNORECASE)
# At least two components, and four of a vendor's (RFC 5464 §3.2).
_SETTABLE: Final = re.compile(r"/[^/]+/(?!vendor(?:/|\Z))[^/]+|/[^/]+/vendor/[^/]+/[^/]+")
_LITERAL8: Final = re.compile(rb"~\{([0-9]{1,20})\+?\}\r\n")
_DEPTHS: Final[dict[bytes, int | None]] = {b"0": 0, b"1": 1, b"INFINITY": None}
_OPTIONS: Final = (b"MAXSIZE", b"DEPTH")
# Entries without values in one response.
_IN_A_LINE: Final = 10

# In the place of a mailbox.
SERVER: Final = ""


@dataclass(frozen=True, slots=True)
class GetMetadata:
    """GETMETADATA: RFC 5464 §4.2. No `mailbox`: the server's. `max_size` in octets, None: any. `depth`: levels below
    the entries that are asked for, None: all."""

    mailbox: str
    entries: tuple[str, ...]
    max_size: int | None = field(default=None, kw_only=True)
    depth: int | None = field(default=0, kw_only=True)


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """SETMETADATA: RFC 5464 §4.3. No `mailbox`: the server's. None for a value: it goes."""

    mailbox: str
    values: tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """METADATA as a return option of LIST (RFC 9590 §3)."""

    entries: tuple[str, ...]


def parse_get(parser: Parser) -> GetMetadata:
    """Behind GETMETADATA: [SP options] SP mailbox [SP options] SP entries.

    RFC 5464 §5 has the options before the mailbox, and its examples behind it; clients write the one and the other.
    """
    parser.space()
    options = _options(parser) if parser.sees(b"(") else {}
    if options:
        parser.space()
    name = parser.mailbox()
    parser.space()
    if not options and parser.sees(b"(") and parser.octets[parser.at + 1 : parser.at + 8].upper().startswith(_OPTIONS):
        options = _options(parser)
        parser.space()
    return GetMetadata(name, parse_entries(parser), **options)


def _options(parser: Parser) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option, value in parser.listed(_option):
        if option in found:
            parser.fail("each option once")
        found[option] = value
    return found


def _option(parser: Parser) -> tuple[str, int | None]:
    start = parser.at
    word = parser.keyword()
    if word not in _OPTIONS:
        parser.at = start
        parser.fail("MAXSIZE or DEPTH")
    parser.space()
    if word == b"MAXSIZE":
        return "max_size", parser.number()
    start = parser.at
    depth = parser.keyword()
    if depth not in _DEPTHS:
        parser.at = start
        parser.fail("0, 1 or infinity")
    return "depth", _DEPTHS[depth]


def parse_entries(parser: Parser) -> tuple[str, ...]:
    """entries: one, or some in parentheses."""
    found = parser.listed(_entry) if parser.sees(b"(") else (_entry(parser),)
    _bound(len(found))
    return found


def parse_wanted(parser: Parser) -> Wanted:
    """Behind METADATA among the return options of LIST: SP entries."""
    parser.space()
    return Wanted(parse_entries(parser))


def parse_set(parser: Parser) -> SetMetadata:
    """Behind SETMETADATA: SP mailbox SP entry-values."""
    parser.space()
    name = parser.mailbox()
    parser.space()
    values = parser.listed(_entry_value)
    _bound(len(values))
    return SetMetadata(name, values)


def _bound(count: int) -> None:
    if count > limits.METADATA_ASKED:
        raise ParseError("There are too many entries", b"LIMIT", no=True)


def _entry(parser: Parser) -> str:
    start = parser.at
    octets = parser.astring()
    if not _ENTRY.match(octets) or len(octets) > limits.METADATA_NAME:
        parser.at = start
        parser.fail("an entry below /private or /shared")
    return octets.decode("ascii").lower()


def _entry_value(parser: Parser) -> tuple[str, bytes | None]:
    start = parser.at
    entry = _entry(parser)
    if not _SETTABLE.match(entry):
        parser.at = start
        parser.fail("an entry that can have a value")
    parser.space()
    return entry, _value(parser)


def _value(parser: Parser) -> bytes | None:
    # value = nstring / literal8
    if not parser.sees(b"~"):
        return parser.nstring()
    start = parser.at
    size = int(parser.match(_LITERAL8, "a literal").group(1))
    octets = parser.octets[parser.at : parser.at + size]
    if len(octets) != size:
        parser.at = start
        parser.fail("a literal")
    parser.at += size
    return octets


def metadata(name: str, values: Iterable[tuple[str, bytes | None]], *, utf8: bool) -> bytes:
    """METADATA with values (RFC 5464 §4.4.1); None: there is none."""
    words = [b"%b %b" % (astring(entry.encode("ascii")), _written(value)) for entry, value in values]
    return b"* METADATA %b %b\r\n" % (mailbox(name, utf8=utf8), parenthesized(words))


def changed(name: str, entries: Sequence[str], *, utf8: bool) -> bytes:
    """METADATA without values, of which nobody asked for any (RFC 5464 §4.4.2): these entries are others now."""
    # RFC 5464 §4.4: as many responses as one likes; no line grows too long for a client.
    lines = (entries[start : start + _IN_A_LINE] for start in range(0, len(entries), _IN_A_LINE))
    words = (b" ".join([astring(entry.encode("ascii")) for entry in some]) for some in lines)
    return b"".join([b"* METADATA %b %b\r\n" % (mailbox(name, utf8=utf8), some) for some in words])


def _written(value: bytes | None) -> bytes:
    # RFC 5464 §5: value = nstring / literal8, which alone may hold NUL.
    return nstring(value) if value is None or b"\0" not in value else b"~{%d}\r\n%b" % (len(value), value)


TOO_MANY: Final = b"METADATA TOOMANY"
NO_PRIVATE: Final = b"METADATA NOPRIVATE"


def too_long(largest: int) -> bytes:
    """METADATA MAXSIZE: what a value may have, in octets (RFC 5464 §4.3)."""
    return b"METADATA MAXSIZE %d" % largest


def long_entries(largest: int) -> bytes:
    """METADATA LONGENTRIES: how large the largest value is that was left out (RFC 5464 §4.2.1)."""
    return b"METADATA LONGENTRIES %d" % largest
