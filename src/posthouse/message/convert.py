"""A message in a form that the next hop can carry: 8-bit or binary parts in quoted-printable or base64 (RFC 6152 §3).

Promises: what a reader decodes from the converted message is what it decodes from the original, part for part; only
parts that cannot travel as they are change, and the labels that would lie. Memory does not grow with the message.
Refuses (NotConvertible) what cannot be converted without breaking it: signed and encrypted parts (RFC 1847 §2.1), a
message with a DKIM signature, 8-bit octets in a header, between parts, or in an encoding that nobody knows.
"""

import binascii
import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from posthouse.limits import TEXT_LINE
from posthouse.message.header import Buffer, Header, parse_parameters
from posthouse.message.mime import Part, read
from posthouse.message.octets import Octets, decoded, searchable, windows

_ASCII: Final = bytes(range(128))
_PLAIN: Final = frozenset([b"7bit", b"8bit", b"binary"])
_ENCODED: Final = frozenset([b"quoted-printable", b"base64"])
_SEALED: Final = frozenset(["signed", "encrypted"])
# Fields that hold for the body as it was (RFC 6376, RFC 8617).
_SIGNATURES: Final = (b"dkim-signature", b"arc-message-signature")
# Of text with fewer octets than a fifth above 127, quoted-printable is the shorter one, and people can read it.
_FEW: Final = 5
# RFC 2045 §6.8: 76 characters a line are 57 octets.
_BASE64_LINE: Final = 76
_BASE64_GROUP: Final = 57
# RFC 2045 §6.7 (5): 76 characters; binascii lets a space at the end of a full line make it longer.
_QP_TOO_LONG: Final = re.compile(rb"^([^\r\n]{74,})(=[0-9A-F]{2})(?=\r?$)", re.MULTILINE)


class NotConvertible(Exception):
    """The message cannot be brought into that form; the text says why. `prohibited`: it must not be, for it is signed
    (RFC 3463 §3.7: X.6.2; otherwise X.6.3).
    """

    def __init__(self, why: str, *, prohibited: bool = False) -> None:
        super().__init__(why)
        self.prohibited = prohibited


def is_binary(octets: Buffer) -> bool:
    """True where only BINARYMIME carries it (RFC 2045 §2.9): a NUL, a bare CR or LF, a line longer than any text's."""
    source = searchable(octets)
    return _measure(windows(source, 0, len(source))).binary


def convert(octets: Buffer, *, eight_bit: bool = False, signed: bool = False) -> Iterator[bytes]:
    """The message in 7-bit form, or with `eight_bit` in one that 8BITMIME carries, in pieces.

    `signed`: DKIM's signatures may break, for they have been looked at and there is no other way to keep the message.
    Raises NotConvertible before the first piece.
    """
    source = searchable(octets)
    root, header = read(source)
    if not signed and any(header.count(name) for name in _SIGNATURES):
        raise NotConvertible("it carries a signature that would break", prohibited=True)
    converter = _Converter(source, eight_bit)
    converter.message(root, header)
    return _apply(source, converter.edits)


@dataclass(frozen=True, slots=True)
class _Edit:
    """Octets start:end become what `pieces` gives."""

    start: int
    end: int
    pieces: Callable[[], Iterator[bytes]]


def _apply(octets: Octets, edits: list[_Edit]) -> Iterator[bytes]:
    at = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        yield from windows(octets, at, edit.start)
        yield from edit.pieces()
        at = edit.end
    yield from windows(octets, at, len(octets))


@dataclass(frozen=True, slots=True)
class _Measured:
    """How many octets are above 127, and whether it is no text by its lines."""

    high: int
    binary: bool


def _measure(pieces: Iterator[bytes]) -> _Measured:
    high = run = 0
    binary, held = False, b""
    for window in pieces:
        high += 0 if window.isascii() else len(window.translate(None, _ASCII))
        if not binary:
            piece = held + window
            held = b"\r" if piece.endswith(b"\r") else b""
            piece = piece[: len(piece) - len(held)]
            binary, run = _no_text(piece, run)
    return _Measured(high, binary or bool(held))


def _no_text(piece: bytes, run: int) -> tuple[bool, int]:
    """Whether this ends all hope that it is text, and how long its unfinished last line is; `run` so far."""
    endings = piece.count(b"\r\n")
    if 0 in piece or piece.count(b"\n") != endings or piece.count(b"\r") != endings:
        return True, 0
    start = -run
    while len(piece) - start > TEXT_LINE:
        ending = piece.rfind(b"\n", max(start, 0), max(start + TEXT_LINE, 0))
        if ending < 0:
            return True, 0
        start = ending + 1
    last = piece.rfind(b"\n")
    return False, run + len(piece) if last < 0 else len(piece) - last - 1


class _Converter:
    """One walk through the tree; `edits` is what is to be changed."""

    def __init__(self, octets: Octets, eight_bit: bool) -> None:
        self._octets = octets
        self._eight_bit = eight_bit
        self._label = b"8bit" if eight_bit else b"7bit"
        # What such a label promises too much of.
        self._false = frozenset([b"binary"]) if eight_bit else frozenset([b"8bit", b"binary"])
        self.edits: list[_Edit] = []

    def message(self, part: Part, header: Header) -> None:
        """A whole message: what we write into it, it must be MIME to mean (RFC 2045 §4)."""
        before = len(self.edits)
        self._entity(part, header)
        if len(self.edits) > before and header.first(b"mime-version") is None:
            self._add(part, b"MIME-Version: 1.0\r\n")

    def _entity(self, part: Part, header: Header) -> None:
        if not header.complete:
            raise NotConvertible("one of its headers is too large")
        if part.type == "multipart" and part.subtype in _SEALED:
            if not self._fits(part.header_start, part.end):
                # RFC 1847 §2.1: what is signed must not be changed on the way.
                raise NotConvertible(f"a part of it is {part.subtype}", prohibited=True)
            return
        if not self._fits(part.header_start, part.body_start):
            raise NotConvertible("one of its headers has octets that no encoding can replace")
        if part.children:
            self._multipart(part, header)
        elif part.message is not None and part.subtype == "rfc822":
            # RFC 2046 §5.2.1: only what is inside may be encoded.
            self._relabel(part, header)
            self.message(part.message, self._header(part.message))
        elif self._fits(part.body_start, part.end):
            self._relabel(part, header)
        else:
            self._leaf(part, header)

    def _multipart(self, part: Part, header: Header) -> None:
        at = part.body_start
        for child in part.children:
            self._check_between(at, child.header_start)
            self._entity(child, self._header(child))
            at = child.end
        self._check_between(at, part.end)
        self._relabel(part, header)

    def _check_between(self, start: int, end: int) -> None:
        if not self._fits(start, end):
            raise NotConvertible("there are octets between its parts that no encoding can replace")

    def _leaf(self, part: Part, header: Header) -> None:
        declared = parse_parameters(header.first(b"content-type") or _default(part))[0].lower()
        if declared.startswith(b"multipart/") or declared in (b"message/rfc822", b"message/partial"):
            # RFC 2045 §6.4: such types must not be encoded; this one could not be taken apart.
            raise NotConvertible(f"a part says that it is {declared.decode(errors='replace')}, and is not well-formed")
        if part.encoding not in _PLAIN and part.encoding not in _ENCODED:
            raise NotConvertible(f"a part has the encoding {part.encoding.decode(errors='replace')}")
        encoding = self._choose(part)
        encode = _quoted_printable if encoding == b"quoted-printable" else _base64
        self._set_encoding(part, header, encoding)
        if header.first(b"content-type") is None:
            self._add(part, self._type_of(part))
        self.edits.append(_Edit(part.body_start, part.end, lambda: encode(self._decoded(part))))

    def _decoded(self, part: Part) -> Iterator[bytes]:
        return decoded(self._octets, part.body_start, part.end, part.encoding)

    def _choose(self, part: Part) -> bytes:
        """The encoding that suits the content; what was encoded badly keeps its kind."""
        if part.encoding in _ENCODED:
            binary = _measure(self._decoded(part)).binary
            return b"base64" if binary else part.encoding
        measured = _measure(windows(self._octets, part.body_start, part.end))
        few = measured.high * _FEW < part.size
        return b"quoted-printable" if part.type == "text" and few and not measured.binary else b"base64"

    def _type_of(self, part: Part) -> bytes:
        """What to say of text whose charset nobody has named (RFC 1428 §3)."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for piece in self._decoded(part):
                decoder.decode(piece)
            decoder.decode(b"", True)
        except UnicodeDecodeError:
            return b"Content-Type: text/plain; charset=unknown-8bit\r\n"
        return b"Content-Type: text/plain; charset=utf-8\r\n"

    # --- the header

    def _header(self, part: Part) -> Header:
        return Header.parse(self._octets, part.header_start, part.body_start)

    def _relabel(self, part: Part, header: Header) -> None:
        """A label that promises more than travels becomes the right one."""
        if part.encoding in self._false and part.size:
            self._set_encoding(part, header, self._label)

    def _set_encoding(self, part: Part, header: Header, encoding: bytes) -> None:
        line = b"Content-Transfer-Encoding: " + encoding + b"\r\n"
        fields = [field for field in header.fields if field.name == b"content-transfer-encoding"]
        for field in fields:
            self._replace(field.start, field.end, line if field is fields[0] else b"")
        if not fields:
            self._add(part, line)

    def _add(self, part: Part, line: bytes) -> None:
        """A line at the end of the part's header, before the empty line."""
        # A header that fits has no bare LF, and one with a body behind it has an empty line.
        self._replace(part.body_start - 2, part.body_start - 2, line)

    def _replace(self, start: int, end: int, octets: bytes) -> None:
        self.edits.append(_Edit(start, end, lambda: iter((octets,))))

    def _fits(self, start: int, end: int) -> bool:
        """True where this may travel as it is."""
        measured = _measure(windows(self._octets, start, end))
        return not measured.binary and (self._eight_bit or not measured.high)


def _default(part: Part) -> bytes:
    """What a part is that does not say so: text, or in a digest a message (RFC 2046 §5.1.5)."""
    return b"text/plain" if part.type == "text" else b"message/rfc822"


def _quoted_printable(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """RFC 2045 §6.7. Nothing reaches over the end of a line, and no line of text is long."""
    held = b""
    for piece in pieces:
        held += piece
        whole = held.rfind(b"\r\n") + 2
        if whole > 1:
            yield _encode_lines(held[:whole])
            held = held[whole:]
    yield _encode_lines(held)


def _encode_lines(text: bytes) -> bytes:
    # The first line ending shows binascii which kind to write.
    return _QP_TOO_LONG.sub(rb"\1=\r\n\2", binascii.b2a_qp(b"\r\n" + text)[2:])


def _base64(pieces: Iterator[bytes]) -> Iterator[bytes]:
    held = b""
    for piece in pieces:
        held += piece
        whole = len(held) - len(held) % _BASE64_GROUP
        yield _base64_lines(held[:whole])
        held = held[whole:]
    yield _base64_lines(held)


def _base64_lines(octets: bytes) -> bytes:
    encoded = binascii.b2a_base64(octets, newline=False)
    return b"".join(encoded[at : at + _BASE64_LINE] + b"\r\n" for at in range(0, len(encoded), _BASE64_LINE))
