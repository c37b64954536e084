"""The MIME tree of a message: where each part lies in the octets, and what its header says of it (RFC 2045, 2046).

Promises: nothing raises, whatever the octets; offsets count from the first octet of the message; no body is copied,
so a mapped file of any size costs little memory. Depth, parts, fields and the work of searching are bounded
(limits.py). Broken mail reads as follows. A multipart without its closing delimiter ends where what holds it ends;
one without any delimiter, or without a boundary, is text/plain (RFC 2045 §5.2); a line is a delimiter only when the
boundary is all it has, so that one boundary may be the beginning of another; bare LF ends a line as CRLF does. What
lies deeper than the limit is application/octet-stream.
Refuses: to change or decode octets unasked, and to judge.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from posthouse.limits import MIME_DEPTH, MIME_LOOKALIKE, MIME_PARTS, MIME_WORK, MIME_WORK_FLOOR
from posthouse.message.header import Buffer, Header, Parameters, parameter, parse_parameters
from posthouse.message.octets import Octets, count_lines, decoded, searchable
from posthouse.message.octets import find as find_octets

_Type = tuple[str, str, Parameters]

TEXT_PLAIN: Final[_Type] = ("text", "plain", ())
_MESSAGE: Final[_Type] = ("message", "rfc822", ())
_OPAQUE: Final[_Type] = ("application", "octet-stream", ())
# RFC 2046 §5.2.1 and RFC 6532 §3.7: parts that are whole messages.
_MESSAGES: Final = frozenset(["rfc822", "global"])


class Part(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One part: header from `header_start` to `body_start` (its empty line included), body from there to `end`.

    Type, subtype and encoding are lower case; the rest is as written in the header, unfolded. `lines` is how many lines
    end in the body, for text and messages; elsewhere 0. A multipart has `children`, a message/rfc822 has `message`.
    """

    header_start: int
    body_start: int
    end: int
    lines: int
    type: str
    subtype: str
    parameters: Parameters
    encoding: bytes
    id: bytes | None
    description: bytes | None
    disposition: bytes | None
    disposition_parameters: Parameters
    md5: bytes | None
    language: bytes | None
    location: bytes | None
    children: tuple["Part", ...] = ()
    message: "Part | None" = None

    @property
    def size(self) -> int:
        """Octets of the body, still encoded."""
        return self.end - self.body_start

    @property
    def charset(self) -> str | None:
        """What the part says its charset is."""
        return parameter(self.parameters, b"charset")

    @property
    def filename(self) -> str | None:
        """The name its sender gave it: Content-Disposition's (RFC 2183 §2.3), else Content-Type's."""
        return parameter(self.disposition_parameters, b"filename") or parameter(self.parameters, b"name")

    @property
    def is_attachment(self) -> bool:
        """Whether its header asks for it to be shown apart (RFC 2183 §2.2: an unknown disposition is an attachment)."""
        return self.disposition is not None and self.disposition != b"inline"


def scan(octets: Buffer) -> Part:
    """The tree of a whole message."""
    return read(octets)[0]


def read(octets: Buffer) -> tuple[Part, Header]:
    """The tree of a whole message, and its header, parsed once."""
    source = searchable(octets)
    return _Scanner(source).entity(0, len(source), 0, TEXT_PLAIN)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Part).decode


def pack(part: Part) -> bytes:
    """The tree as a few octets, to be stored."""
    return _encode(part)


def unpack(packed: bytes) -> Part:
    """The tree that `pack` packed. Raises msgspec.DecodeError for anything else."""
    return _decode(packed)


class _Bounds(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How a packed Part begins."""

    header_start: int
    body_start: int


_decode_bounds = msgspec.msgpack.Decoder(_Bounds).decode


def header_of(packed: bytes) -> slice:
    """Where the header of the whole message lies, by what `pack` packed. Raises msgspec.DecodeError."""
    bounds = _decode_bounds(packed)
    return slice(bounds.header_start, bounds.body_start)


# What an octet of a header costs, in octets searched: its lines may be as short as two.
_HEADER_WORK: Final = 32


# What a part's header says of it.
_FIELDS: Final = (
    b"content-type",
    b"content-transfer-encoding",
    b"content-disposition",
    b"content-id",
    b"content-description",
    b"content-md5",
    b"content-language",
    b"content-location",
)


class _Scanner:
    """One pass over one message. `_work` is how many octets may still be gone through."""

    __slots__ = ("_octets", "_parts", "_work")

    def __init__(self, octets: Octets) -> None:
        self._octets = octets
        self._parts = 0
        self._work = max(MIME_WORK_FLOOR, MIME_WORK * len(octets))

    def entity(self, start: int, stop: int, depth: int, default: _Type) -> tuple[Part, Header]:
        """The part whose header begins at `start`, ending at `stop`."""
        header = Header.parse(self._octets, start, stop)
        body = header.end
        self._parts += 1
        self._work -= MIME_LOOKALIKE * len(header.fields) + _HEADER_WORK * (body - start)
        of_type, encoding, of_disposition, id, description, md5, language, location = header.firsts(_FIELDS)
        kind = _content_type(of_type, default)
        children: tuple[Part, ...] = ()
        message: Part | None = None
        lines = 0
        if kind[0] == "multipart":
            kind, children = self._multipart(kind, body, stop, depth)
        elif kind[0] == "message" and kind[1] in _MESSAGES:
            kind, message = self._message(kind, body, stop, depth)
        if kind[0] == "text" or message is not None:
            lines = count_lines(self._octets, body, stop)
        disposition, disposition_parameters = _disposition(of_disposition)
        part = Part(
            header.start,
            body,
            stop,
            lines,
            kind[0],
            kind[1],
            kind[2],
            _encoding(encoding),
            id,
            description,
            disposition,
            disposition_parameters,
            md5,
            language,
            location,
            children,
            message,
        )
        return part, header

    def _message(self, kind: _Type, start: int, stop: int, depth: int) -> tuple[_Type, Part | None]:
        self._work -= stop - start
        if depth >= MIME_DEPTH or self._parts >= MIME_PARTS or self._work < 0:
            return _OPAQUE, None
        return kind, self.entity(start, stop, depth + 1, TEXT_PLAIN)[0]

    def _multipart(self, kind: _Type, start: int, stop: int, depth: int) -> tuple[_Type, tuple[Part, ...]]:
        if depth >= MIME_DEPTH:
            return _OPAQUE, ()
        # RFC 2046 §5.1.5: the parts of a digest are messages unless they say otherwise.
        default = _MESSAGE if kind[1] == "digest" else TEXT_PLAIN
        boundary = next((value for name, value in kind[2] if name == b"boundary"), b"")
        children: list[Part] = []
        if boundary:
            for begin, end in self._regions(b"\n--" + boundary.rstrip(), start, stop):
                children.append(self.entity(begin, end, depth + 1, default)[0])
        return (kind, tuple(children)) if children else (TEXT_PLAIN, ())

    def _regions(self, needle: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Where the parts between delimiters begin and end. The LF that ends a header or delimiter may begin the next
        one.
        """
        delimiter = self._delimiter(needle, start - 1, stop)
        while delimiter is not None and not delimiter[2] and self._parts < MIME_PARTS:
            begin = delimiter[1]
            delimiter = self._delimiter(needle, begin - 1, stop)
            yield begin, stop if delimiter is None else max(begin, delimiter[0])

    def _delimiter(self, needle: bytes, at: int, stop: int) -> tuple[int, int, bool] | None:
        """The next delimiter: where the part before it ends, where the part behind it begins, whether it is the last
        one.
        """
        octets = self._octets
        while self._work > 0:
            found = find_octets(octets, needle, max(at, 0), stop)
            self._work -= (found if found >= 0 else stop) - at
            if found < 0:
                return None
            behind = found + len(needle)
            tail = _DELIMITER_TAIL.match(octets[behind : min(behind + _PADDING, stop)])
            if tail is not None:
                # RFC 2046 §5.1.1: the line ending in front of a delimiter belongs to the delimiter.
                end = found - 1 if found and octets[found - 1 : found] == b"\r" else found
                return end, behind + tail.end(), tail[1] is not None
            self._work -= MIME_LOOKALIKE
            at = found + 1
        return None


# RFC 2046 §5.1.1: "--" closes; transport may have padded the line.
_DELIMITER_TAIL: Final = re.compile(rb"(--)?[ \t]*\r?(?:\n|\Z)")
_PADDING: Final = 100

_TYPE: Final = re.compile(rb"([!#$%&'*+.^_`{|}~0-9A-Za-z-]{1,127})/([!#$%&'*+.^_`{|}~0-9A-Za-z-]{1,127})\Z")
_CACHED_VALUE: Final = 256


def _content_type(raw: bytes | None, default: _Type) -> _Type:
    """RFC 2045 §5.2: without Content-Type, or with one that cannot be read, the default is text/plain."""
    if raw is None:
        return default
    # A boundary does not come again.
    return _read_type(raw) if len(raw) > _CACHED_VALUE or b"boundary" in raw else _common_type(raw)


def _read_type(raw: bytes) -> _Type:
    value, parameters = parse_parameters(raw)
    match = _TYPE.match(value)
    if match is None:
        return "text", "plain", parameters
    return match[1].lower().decode(), match[2].lower().decode(), parameters


# The same few values head nearly all parts.
_common_type = lru_cache(maxsize=512)(_read_type)


_ENCODINGS: Final = {name: name for name in (b"7bit", b"8bit", b"binary", b"quoted-printable", b"base64")}


def _encoding(raw: bytes | None) -> bytes:
    if raw is None:
        return b"7bit"
    return _ENCODINGS.get(raw) or parse_parameters(raw.lower())[0].strip(b'"') or b"7bit"


def _disposition(raw: bytes | None) -> tuple[bytes | None, Parameters]:
    if not raw:
        return None, ()
    value, parameters = parse_parameters(raw)
    return value.lower() or None, parameters


def walk(part: Part) -> Iterator[Part]:
    """The part and everything in it, embedded messages too, in the order of the octets."""
    yield part
    for child in part.children:
        yield from walk(child)
    if part.message is not None:
        yield from walk(part.message)


def find(root: Part, path: Sequence[int]) -> Part | None:
    """The part that IMAP calls by these numbers (RFC 9051 §6.4.5.1); the whole message for none."""
    part = root
    holder: Part | None = root
    for number in path:
        if holder is None or number < 1:
            return None
        if holder.children:
            if number > len(holder.children):
                return None
            part = holder.children[number - 1]
        elif number == 1:  # "Every message has at least one part number": the body of one that is no multipart.
            part = holder
        else:
            return None
        holder = part.message if part.message is not None else part if part.children else None
    return part


def section(root: Part, path: Sequence[int], what: str) -> tuple[int, int] | None:
    """Where a section begins and ends (RFC 9051 §6.4.5.1), or None where the message has none such.

    `what` is "" for a part's body (the whole message where the path is empty), "MIME" for its header, "HEADER" or
    "TEXT" for the header or body of the message, or of the message/rfc822 at that path.
    """
    part = find(root, path)
    if part is None:
        return None
    if what == "MIME":
        return (part.header_start, part.body_start) if path else None
    if what == "":
        return (part.body_start, part.end) if path else (part.header_start, part.end)
    message = part.message if path else part
    if message is None:
        return None
    return (message.header_start, message.body_start) if what == "HEADER" else (message.body_start, message.end)


def decode_body(octets: Buffer, part: Part) -> bytes:
    """The body without its transfer encoding (RFC 2045 §6). Faulty base64 or quoted-printable gives what can be read
    of it.
    """
    return b"".join(decode_pieces(octets, part))


def decode_pieces(octets: Buffer, part: Part) -> Iterator[bytes]:
    """The same in pieces, so that a large attachment never lies in memory whole."""
    return decoded(searchable(octets), part.body_start, part.end, part.encoding)


def decoded_size(octets: Buffer, part: Part) -> int:
    """How many octets `decode_body` gives (RFC 9051 §6.4.5: BINARY.SIZE)."""
    return sum(len(piece) for piece in decode_pieces(octets, part))
