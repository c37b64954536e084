"""The octets of a message as FETCH hands them out: sections, fields, parts with their encoding undone (RFC 9051
§6.4.5.1, RFC 3516).

Promises: what is large passes as buffers of what is stored, uncopied. Size and part numbers are those of the whole
message, prologue included. No NUL leaves but by BINARY (RFC 9051 §4.3.1).
Refuses: to know sessions.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain
from typing import Final

from posthouse.imapd.fields import FEW_NAMES, INSTEAD_OF_NUL, named_fields
from posthouse.imapd.refusal import Refused
from posthouse.mailbox.emails import Content
from posthouse.message import mime
from posthouse.message.header import Header
from posthouse.message.mime import Part
from posthouse.store.blobs import Buffer
from posthouse.wire.imap import response
from posthouse.wire.imap.fetch import Binary, BinarySize, Section, Text
from posthouse.wire.imap.response import Code

Partial = tuple[int, int]

# RFC 2045 §6.1; mime.decode_body knows these.
_ENCODINGS: Final = frozenset((b"7bit", b"8bit", b"binary", b"quoted-printable", b"base64"))
_NUL: Final = re.compile(rb"\0")


class Message:
    """A message as it is read: the prologue, then the blob, whose parts are counted from its own beginning."""

    def __init__(self, content: Content, blob: Buffer) -> None:
        self.prologue = content.prologue
        self.blob = blob
        self._parts = content.parts

    @cached_property
    def root(self) -> Part:
        """The tree of its parts."""
        return mime.unpack(self._parts)

    @property
    def header(self) -> bytes:
        """The whole header with its empty line."""
        return self.prologue + bytes(self.blob[mime.header_of(self._parts)])


def answer(item: Section | Binary | BinarySize, message: Message) -> Iterable[Buffer]:
    """An item's label and octets. Raises Refused, before the first of them."""
    match item:
        case Section():
            return _section(item, message)
        case Binary(part=()):
            # RFC 3516 §4.2: without a part number the whole message, which has no encoding of its own.
            return _whole(item, message)
        case Binary():
            return _binary(item, message)
        case BinarySize():
            return [b"%b %d" % (item.label, _binary_size(item, message))]


# --- BODY[...] --------------------------------------------------------------------------------------------------------


def _section(item: Section, message: Message) -> Iterable[Buffer]:
    found = octets(item, message)
    if found is None:
        return [item.label + b" NIL"]
    return [response.body_start(item.label, sum(map(len, found))), *found]


def octets(item: Section, message: Message) -> list[Buffer] | None:
    """What a section's literal holds, in pieces; None where the message has no such part."""
    pieces = _octets(item, message)
    return None if pieces is None else [without_nul(piece) for piece in _partial(pieces, item.partial)]


def _octets(item: Section, message: Message) -> list[Buffer] | None:
    """The octets of a section, in the pieces they lie in; None where the message has no such part."""
    match item.text:
        case Text.FIELDS | Text.FIELDS_NOT:
            return _fields(item, message)
        case Text.WHOLE if not item.part:
            return [message.prologue, message.blob]
        case Text.HEADER if not item.part:
            return [message.header]
    bounds = mime.section(message.root, item.part, item.text.value.decode())
    return None if bounds is None else [memoryview(message.blob)[slice(*bounds)]]


def _fields(item: Section, message: Message) -> list[Buffer] | None:
    """HEADER.FIELDS: the fields of these names, or all others, and the empty line."""
    octets = message.header
    if item.part:
        bounds = mime.section(message.root, item.part, "HEADER")
        if bounds is None:
            return None
        octets = bytes(message.blob[slice(*bounds)])
    names = {name.lower() for name in item.fields}
    wanted = item.text is Text.FIELDS
    found = named_fields(octets, names) if wanted and len(names) <= FEW_NAMES else None
    if found is None:
        fields = Header.parse(octets).fields
        found = [octets[field.start : field.end] for field in fields if (field.name in names) is wanted]
    return [b"".join([*found, b"\r\n"])]


def _partial(pieces: list[Buffer], partial: Partial | None) -> list[Buffer]:
    """The octets from an origin on, at most so many; none where there are none."""
    if partial is None:
        return pieces
    origin, count = partial
    found: list[Buffer] = []
    for piece in pieces:
        size = len(piece)
        if origin < size and count > 0:
            # A view would hold all of what was made for this alone.
            cut = (piece if isinstance(piece, bytes) else memoryview(piece))[origin : origin + count]
            found.append(cut)
            count -= len(cut)
        origin = max(0, origin - size)
    return found


def without_nul(octets: Buffer) -> Buffer:
    """The octets as they may leave: RFC 9051 §4.3.1 lets no NUL out but in a literal8."""
    return bytes(octets).replace(b"\0", INSTEAD_OF_NUL) if _has_nul(octets) else octets


def _has_nul(octets: Buffer) -> bool:
    # bytes search ten times as fast as anything else does.
    return b"\0" in octets if isinstance(octets, bytes) else _NUL.search(octets) is not None


# --- BINARY[...] ------------------------------------------------------------------------------------------------------


def _whole(item: Binary, message: Message) -> Iterable[Buffer]:
    pieces = _partial([message.prologue, message.blob], item.partial)
    nul = any(map(_has_nul, pieces))
    return [response.binary_start(item.label, sum(map(len, pieces)), nul=nul), *pieces]


def _binary(item: Binary, message: Message) -> Iterable[Buffer]:
    part = _part(message, item.part)
    if part is None:
        return [item.label + b" NIL"]
    # Gone through twice, so that it is never in memory whole: a literal begins with its size.
    origin, count = item.partial or (0, part.end)
    size, nul = 0, False
    for piece in _window(mime.decode_pieces(message.blob, part), origin, count):
        size += len(piece)
        nul = nul or b"\0" in piece
    start = response.binary_start(item.label, size, nul=nul)
    return chain([start], _window(mime.decode_pieces(message.blob, part), origin, count))


def _window(pieces: Iterator[bytes], origin: int, count: int) -> Iterator[bytes]:
    """Of the octets in these pieces those from `origin` on, at most `count`."""
    for piece in pieces:
        if origin < len(piece):
            cut = piece[origin : origin + count]
            yield cut
            count -= len(cut)
        origin = max(0, origin - len(piece))
        if not count:
            return


def _binary_size(item: BinarySize, message: Message) -> int:
    if not item.part:
        return len(message.prologue) + len(message.blob)
    part = _part(message, item.part)
    return 0 if part is None else mime.decoded_size(message.blob, part)


def _part(message: Message, numbers: tuple[int, ...]) -> Part | None:
    """The part of these numbers, None where there is none. Raises Refused where its encoding is not known."""
    part = mime.find(message.root, numbers)
    if part is not None and part.encoding not in _ENCODINGS:
        raise Refused("A part has an encoding that is not known here", Code.UNKNOWN_CTE)
    return part
