"""The header of a message or of one of its parts: fields by offset, and what their values say.

Promises: nothing raises, whatever the octets; every field keeps the offsets of its exact octets; a header ends at its
first empty line and nowhere else (RFC 5322 §2.1). Work and memory are bounded by HEADER_SIZE and HEADER_FIELDS: what
lies past them belongs to the header, but its fields are not known.
Refuses: to correct anything. A line that is no field is kept as a field without a name.
"""

import binascii
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from posthouse.limits import HEADER_FIELDS, HEADER_SIZE
from posthouse.message.addresses import Group, Mailbox, parse_addresses
from posthouse.message.charset import decode, undeclared
from posthouse.message.date import parse_date
from posthouse.message.octets import Buffer, Octets, find, searchable
from posthouse.message.words import decode_words

# What the other rooms need to read a header, whichever file it lives in.
__all__ = [
    "Buffer",
    "Field",
    "Group",
    "Header",
    "Mailbox",
    "Parameters",
    "decode_words",
    "message_ids",
    "parameter",
    "parse_addresses",
    "parse_date",
    "parse_parameters",
    "unfold",
]

Parameters = tuple[tuple[bytes, bytes], ...]

_NEAR: Final = 16 * 1024
_MAX_LINES: Final = 4 * HEADER_FIELDS
_SPACE: Final = 0x20  # an octet is found by its number many times faster than by a bytes of one
_TAB: Final = 0x09
_LF: Final = 0x0A
_new = tuple.__new__  # a NamedTuple's own constructor takes twice the time
_MESSAGE_ID = re.compile(rb"<([^<>\s]{1,996})>")


class Field(NamedTuple):
    """One field: its name in lower case (b"" for a line that is no field) and where it lies in the buffer.

    `start` is the first octet of the name, `value` the octet after the colon, `end` the octet after the last line
    ending.
    """

    name: bytes
    start: int
    value: int
    end: int


class Header:
    """The fields of one header. `start` to `end` is the header with the empty line that ends it; the body begins at
    `end`.
    """

    __slots__ = ("_block", "_first", "_more", "end", "fields", "start")

    def __init__(self, block: bytes, start: int, end: int) -> None:
        self._block = block
        self.start = start
        self.end = end
        self.fields: list[Field] = _fields(block, start)
        first: dict[bytes, Field] = {}
        more: dict[bytes, list[Field]] = {}
        for field in self.fields:
            if field[0] not in first:
                first[field[0]] = field
            else:
                more.setdefault(field[0], []).append(field)
        self._first = first
        self._more = more

    @classmethod
    def parse(cls, octets: Buffer, start: int = 0, stop: int | None = None) -> "Header":
        """The header that begins at `start` and may reach as far as `stop`."""
        source = searchable(octets)
        stop = len(source) if stop is None else stop
        fields_end, end = _bounds(source, start, stop)
        return cls(source[start : min(fields_end, start + HEADER_SIZE)], start, end)

    @property
    def complete(self) -> bool:
        """False where a limit was met: there are fields of which nothing is known here."""
        unread = self.end - self.start - len(self._block) > 2  # more than the empty line
        return not unread and len(self.fields) < HEADER_FIELDS and self._block.count(b"\n") < _MAX_LINES

    def first(self, name: bytes) -> bytes | None:
        """The unfolded value of the first field of this name (lower case), or None."""
        field = self._first.get(name)
        return None if field is None else self.value(field)

    def firsts(self, names: Iterable[bytes]) -> list[bytes | None]:
        """The same of several names."""
        get, value = self._first.get, self.value
        return [None if (field := get(name)) is None else value(field) for name in names]

    def all(self, name: bytes) -> list[bytes]:
        """The unfolded values of all fields of this name (lower case), topmost first."""
        field = self._first.get(name)
        if field is None:
            return []
        return [self.value(field), *map(self.value, self._more.get(name, ()))]

    def count(self, name: bytes) -> int:
        """How many fields have this name: Received fields tell how far a message has come (RFC 5321 §6.3)."""
        return (name in self._first) + len(self._more.get(name, ()))

    def value(self, field: Field) -> bytes:
        """What stands after the colon, unfolded."""
        return unfold(self._block[field[2] - self.start : field[3] - self.start])

    def octets(self, field: Field) -> bytes:
        """The exact octets of the field, line endings included."""
        return self._block[field[1] - self.start : field[3] - self.start]


def _bounds(octets: Octets, start: int, stop: int) -> tuple[int, int]:
    """Where the fields end, and where the body begins behind the empty line."""
    opening = octets[start : min(start + 2, stop)]
    if opening == b"\r\n" or opening[:1] == b"\n":
        return start, start + (1 if opening[:1] == b"\n" else 2)
    # Near first: of the two spellings one is usually missing, and the search for it would go through the whole message.
    for limit in (min(start + _NEAR, stop), stop):
        crlf = find(octets, b"\n\r\n", start, limit)
        lf = find(octets, b"\n\n", start, limit if crlf < 0 else crlf + 1)
        if lf >= 0:
            return lf + 1, lf + 2
        if crlf >= 0:
            return crlf + 1, crlf + 3
    return stop, stop


def _fields(block: bytes, start: int) -> list[Field]:
    found: list[Field] = []
    lines = block.split(b"\n", _MAX_LINES)
    if len(lines) > _MAX_LINES:
        lines.pop()
    name: bytes | None = None
    begin = value = 0
    at = start
    for line in lines:
        if line[:1] > b" ":  # all others go on with the field above (RFC 5322 §2.2.3)
            if name is not None:
                found.append(_new(Field, (name, begin, value, at)))
                if len(found) == HEADER_FIELDS:
                    return found
            name, colon, _ = line.partition(b":")
            begin = at
            value = at + len(name) + 1
            if not colon:
                name, value = b"", at
            elif _SPACE in name or _TAB in name:
                name = _trimmed(name)
            name = name.lower()
        at += len(line) + 1
    if name is not None:
        found.append(_new(Field, (name, begin, value, min(at, start + len(block)))))
    return found


def _trimmed(name: bytes) -> bytes:
    # RFC 5322 §4.5: white space before the colon is obsolete; inside a name it makes the line no field ("From me
    # 10:00").
    name = name.rstrip(b" \t")
    return b"" if b" " in name or b"\t" in name else name


def unfold(value: bytes) -> bytes:
    """RFC 5322 §2.2.3: without the line endings, and without white space around it."""
    value = value.strip(b" \t\r\n")
    if _LF in value:
        value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    return value


_PARAMETER = re.compile(rb';\s*([^=;\s"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^;]*))', re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT = re.compile(rb'("(?:[^"\\]|\\.)*"?)|\([^()]*\)', re.DOTALL)
_SEGMENT = re.compile(rb"([^*]+)\*(\d{1,3})(\*?)\Z")
_MAX_PARAMETERS: Final = 200
_LONGEST_VALUE: Final = 1024  # octets decoded; file systems stop at 255


def parse_parameters(raw: bytes) -> tuple[bytes, Parameters]:
    """The value in front of the first semicolon, and the parameters in order, names in lower case (RFC 2045 §5.1).

    Continuations are joined (RFC 2231 §3). A value in RFC 2231's charset'language'%41 form keeps that form, and its
    name keeps the asterisk, as IMAP servers show it; `parameter` decodes it.
    """
    if b"(" in raw:
        raw = _COMMENT.sub(lambda match: match[1] or b" ", raw)
    value, semicolon, _ = raw.partition(b";")
    if not semicolon:
        return value.strip(), ()
    found: list[tuple[bytes, bytes]] = []
    segmented = False
    for match in _PARAMETER.finditer(raw, len(value)):
        name, quoted, token = match.groups()
        if quoted is None:
            text = token.strip()
        else:
            text = _ESCAPE.sub(rb"\1", quoted) if b"\\" in quoted else quoted
        segmented = segmented or b"*" in name
        found.append((name.lower(), text))
        if len(found) == _MAX_PARAMETERS:
            break
    return value.strip(), tuple(_joined(found) if segmented else found)


def _joined(found: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """RFC 2231 §3: name*0, name*1* … become one parameter, where the first of them stood."""
    segments: dict[bytes, dict[int, tuple[bytes, bool]]] = {}
    order: list[tuple[bytes, bytes | None]] = []
    for name, text in found:
        match = _SEGMENT.match(name)
        if match is None:
            order.append((name, text))
            continue
        if match[1] not in segments:
            segments[match[1]] = {}
            order.append((match[1], None))
        segments[match[1]].setdefault(int(match[2]), (text, bool(match[3])))
    joined: list[tuple[bytes, bytes]] = []
    for name, plain in order:
        if plain is not None:
            joined.append((name, plain))
            continue
        pieces = [piece for _, piece in sorted(segments[name].items())]
        if any(extended for _, extended in pieces):
            # RFC 2231 §4.1: segments of both kinds may mix; in the plain ones "%" means itself.
            texts = [text if extended else text.replace(b"%", b"%25") for text, extended in pieces]
            joined.append((name + b"*", b"".join(texts)))
        else:
            joined.append((name, b"".join(text for text, _ in pieces)))
    return joined


_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")


def parameter(parameters: Parameters, name: bytes) -> str | None:
    """The decoded text of a parameter, RFC 2231's form before the plain one, or None.

    Encoded-words inside a plain value are decoded too: RFC 2047 §5 forbids them there, and most of the world sends
    them.
    """
    plain: bytes | None = None
    for written, whole in parameters:
        value = whole[:_LONGEST_VALUE]
        if written == name:
            plain = value if plain is None else plain
        elif written == name + b"*":
            charset, quote, rest = value.partition(b"'")
            _, second, text = rest.partition(b"'")
            if not (quote and second):
                charset, text = b"", value
            octets = _PERCENT.sub(lambda match: binascii.unhexlify(match[1]), text)
            return decode(octets, charset.decode("latin-1"))
    return None if plain is None else decode_words(plain)


def message_ids(raw: bytes) -> list[str]:
    """The message-ids of a Message-ID, In-Reply-To or References field, without angle brackets (RFC 5322 §3.6.4).

    Phrases and comments around them are skipped. A lone word with an @ counts, for senders who forget the brackets.
    """
    found = _MESSAGE_ID.findall(raw)
    if not found and raw:
        bare = raw.strip(b"<> \t")
        if b"@" in bare and len(bare.split()) == 1 and len(bare) < 997:
            found = [bare]
    return [undeclared(id) for id in found]
