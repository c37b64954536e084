"""What a FETCH may ask for (RFC 9051 §6.4.5, §9 `fetch-att`; RFC 3501 §6.4.5): the items, their tables, their grammar.

A new item without arguments is a row in ATTRIBUTES; one with arguments is a row in SECTIONS and a small function.
Each item knows the label under which it is answered, so that a door copies octets and formats nothing.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from posthouse.wire.imap.grammar import MAX_NUMBER64, Parser
from posthouse.wire.imap.response import astring

_ITEM = re.compile(rb"[A-Za-z0-9.]+")
_PART = re.compile(rb"[1-9][0-9]{0,8}(?:\.[1-9][0-9]{0,8})*")
_PLAIN_FIELDS = re.compile(rb"\(([A-Za-z0-9-]+(?: [A-Za-z0-9-]+)*)\)")
_FIELD_NAME = re.compile(rb"[!-9;-~]+\Z")
# RFC 8970 §6: LAZY asks for no preview that takes time; ours are made when a message is filed.
_LAZY = re.compile(rb" \(LAZY(?: LAZY)*\)", re.IGNORECASE)


class Attribute(Enum):
    """An item without arguments; the value is its label in the answer."""

    UID = b"UID"
    FLAGS = b"FLAGS"
    INTERNALDATE = b"INTERNALDATE"
    SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    MODSEQ = b"MODSEQ"
    EMAILID = b"EMAILID"
    THREADID = b"THREADID"
    SAVEDATE = b"SAVEDATE"
    PREVIEW = b"PREVIEW"


class Text(Enum):
    """Which octets of a message, or of one of its parts, a Section means (RFC 9051 §6.4.5.1)."""

    WHOLE = b""
    HEADER = b"HEADER"
    FIELDS = b"HEADER.FIELDS"
    FIELDS_NOT = b"HEADER.FIELDS.NOT"
    TEXT = b"TEXT"
    MIME = b"MIME"


@dataclass(frozen=True, slots=True)
class Section:
    """BODY[...], BODY.PEEK[...] or one of RFC822, RFC822.HEADER, RFC822.TEXT.

    `part` holds the numbers of the part, () the message itself; `fields` the names asked for by FIELDS and FIELDS_NOT
    as written; `partial` origin and most octets. Unless `peek`, fetching it sets \\Seen.
    """

    label: bytes
    part: tuple[int, ...]
    text: Text
    fields: tuple[bytes, ...] = ()
    partial: tuple[int, int] | None = None
    peek: bool = False


@dataclass(frozen=True, slots=True)
class Binary:
    """BINARY[...] or BINARY.PEEK[...]: a part with its content transfer encoding undone."""

    label: bytes
    part: tuple[int, ...]
    partial: tuple[int, int] | None = None
    peek: bool = False


@dataclass(frozen=True, slots=True)
class BinarySize:
    """BINARY.SIZE[...]: how many octets Binary would give."""

    label: bytes
    part: tuple[int, ...]


Item = Attribute | Section | Binary | BinarySize

ATTRIBUTES: Final[dict[bytes, Attribute]] = {item.value: item for item in Attribute}

# RFC 9051 §6.4.5: a macro stands alone, never within parentheses.
MACROS: Final[dict[bytes, tuple[Item, ...]]] = {
    b"FAST": (Attribute.FLAGS, Attribute.INTERNALDATE, Attribute.SIZE),
    b"ALL": (Attribute.FLAGS, Attribute.INTERNALDATE, Attribute.SIZE, Attribute.ENVELOPE),
    b"FULL": (Attribute.FLAGS, Attribute.INTERNALDATE, Attribute.SIZE, Attribute.ENVELOPE, Attribute.BODY),
}

# RFC 3501 §6.4.5: RFC822 and its kin are sections under a label of their own.
_PLAIN: Final[dict[bytes, Item]] = {
    **ATTRIBUTES,
    b"RFC822": Section(b"RFC822", (), Text.WHOLE),
    b"RFC822.HEADER": Section(b"RFC822.HEADER", (), Text.HEADER, peek=True),
    b"RFC822.TEXT": Section(b"RFC822.TEXT", (), Text.TEXT),
}


def parse_items(parser: Parser) -> tuple[Item, ...]:
    """macro / fetch-att / "(" fetch-att *(SP fetch-att) ")"."""
    if parser.sees(b"("):
        return parser.listed(parse_item)
    start = parser.at
    macro = MACROS.get(parser.match(_ITEM, "a FETCH item").group().upper())
    if macro is not None:
        return macro
    parser.at = start
    return (parse_item(parser),)


def parse_item(parser: Parser) -> Item:
    """One fetch-att."""
    start = parser.at
    name = parser.match(_ITEM, "a FETCH item").group().upper()
    if parser.sees(b"["):
        section = SECTIONS.get(name)
        if section is not None:
            return section(parser)
    elif name in _PLAIN:
        item = _PLAIN[name]
        if item is Attribute.PREVIEW and (lazy := _LAZY.match(parser.octets, parser.at)):
            parser.at = lazy.end()
        return item
    parser.at = start
    return parser.fail("a FETCH item")


def section_named(text: bytes) -> Section:
    """The section that stands so between brackets, as a URL names it (RFC 5092 §5). Raises ParseError."""
    parser = Parser(b"[%b]" % text)
    section = _section(parser, peek=True)
    parser.end()
    return section


def _section(parser: Parser, *, peek: bool = False) -> Section:
    # section = "[" [section-spec] "]"
    parser.expect(b"[", "a section")
    part = _part(parser)
    whole = parser.sees(b"]") or (part and not parser.accept(b"."))
    text = Text.WHOLE if whole else _text(parser, bool(part))
    fields, listed = _fields(parser) if text is Text.FIELDS or text is Text.FIELDS_NOT else ((), b"")
    parser.expect(b"]", "the end of the section")
    partial = _partial(parser)
    return Section(b"BODY[%b]%b" % (_written(part, text, listed), _origin(partial)), part, text, fields, partial, peek)


def _binary(parser: Parser, *, peek: bool = False) -> Binary:
    part = _section_binary(parser)
    partial = _partial(parser)
    return Binary(b"BINARY[%b]%b" % (_dotted(part), _origin(partial)), part, partial, peek)


def _binary_size(parser: Parser) -> BinarySize:
    part = _section_binary(parser)
    return BinarySize(b"BINARY.SIZE[%b]" % _dotted(part), part)


def _section_binary(parser: Parser) -> tuple[int, ...]:
    parser.expect(b"[", "a section")
    part = () if parser.sees(b"]") else _part(parser)
    parser.expect(b"]", "the end of the section")
    return part


def _part(parser: Parser) -> tuple[int, ...]:
    found = _PART.match(parser.octets, parser.at)
    if found is None:
        return ()
    parser.at = found.end()
    return tuple(map(int, found.group().split(b".")))


_TEXTS: Final[dict[bytes, Text]] = {text.value: text for text in Text if text is not Text.WHOLE}


def _text(parser: Parser, of_part: bool) -> Text:
    start = parser.at
    text = _TEXTS.get(parser.match(_ITEM, "a section").group().upper())
    # RFC 9051 §6.4.5.1: MIME needs a part number before it.
    if text is None or (text is Text.MIME and not of_part):
        parser.at = start
        parser.fail("HEADER, TEXT, MIME or HEADER.FIELDS")
    return text


def _fields(parser: Parser) -> tuple[tuple[bytes, ...], bytes]:
    """The names of fields, and how they are written in the label."""
    parser.space()
    plain = _PLAIN_FIELDS.match(parser.octets, parser.at)
    if plain is None:
        names = parser.listed(_field_name)
        return names, b" (%b)" % b" ".join(map(astring, names))
    # What nearly every client writes, at once.
    parser.at = plain.end()
    return tuple(plain.group(1).split(b" ")), b" " + plain.group()


def _field_name(parser: Parser) -> bytes:
    start = parser.at
    name = parser.astring()
    if not _FIELD_NAME.match(name):
        parser.at = start
        parser.fail("the name of a header field")
    return name


def _partial(parser: Parser) -> tuple[int, int] | None:
    # partial = "<" number64 "." nz-number64 ">"
    if not parser.accept(b"<"):
        return None
    origin = parser.number(MAX_NUMBER64)
    parser.expect(b".", "a dot")
    count = parser.nz_number(MAX_NUMBER64)
    parser.expect(b">", "the end of the partial")
    return origin, count


def _written(part: tuple[int, ...], text: Text, listed: bytes) -> bytes:
    dot = b"." if part and text is not Text.WHOLE else b""
    return b"%b%b%b%b" % (_dotted(part), dot, text.value, listed)


def _dotted(part: tuple[int, ...]) -> bytes:
    return b".".join([b"%d" % number for number in part])


def _origin(partial: tuple[int, int] | None) -> bytes:
    # RFC 9051 §7.5.2: the answer names the origin only.
    return b"<%d>" % partial[0] if partial else b""


def _peek(parser: Parser) -> Section:
    return _section(parser, peek=True)


def _binary_peek(parser: Parser) -> Binary:
    return _binary(parser, peek=True)


SECTIONS: Final[dict[bytes, Callable[[Parser], Item]]] = {
    b"BODY": _section,
    b"BODY.PEEK": _peek,
    b"BINARY": _binary,
    b"BINARY.PEEK": _binary_peek,
    b"BINARY.SIZE": _binary_size,
}
