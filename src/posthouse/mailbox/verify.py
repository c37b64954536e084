"""What a search cannot know from rows, looked up in the stored octets: header fields as they stand, bodies beyond
what is indexed.

Promises: never raises, whatever the octets; strings are compared as `conditions` says, and are folded already. The
prologue counts as part of the header. No step holds the interpreter for longer than some ten milliseconds, so that in
a thread this holds up nobody.
Refuses: to be fast; `query` asks only for emails that its SQL could not settle.
"""

import re
from collections.abc import Collection, Iterator
from functools import cached_property
from typing import Final

from posthouse.limits import HEADER_SIZE, KB, MB
from posthouse.mailbox import vocabulary
from posthouse.mailbox.conditions import Body, Fields, Head, Leaf, Sent
from posthouse.mailbox.conditions import Header as HasField
from posthouse.message import mime
from posthouse.message.addresses import split_addresses
from posthouse.message.charset import decode, undeclared
from posthouse.message.date import parse_written
from posthouse.message.header import Buffer, Header, decode_words
from posthouse.message.mime import Part
from posthouse.message.text import address_text, fold, from_html

# Octets of one part that are looked through: a stranger's mail costs no more than this of memory. HTML is taken apart
# in one step: 30 ms a megabyte, 120 ms of the worst.
_MOST: Final = 8 * MB
_MOST_HTML: Final = 512 * KB
# Characters that are folded at once.
_WINDOW: Final = 64 * 1024
# How far from its end it is cut, and in front of what: letters that never join with what stands before them.
_NEAR_END: Final = 1000
_ALONE: Final = re.compile(
    "[\0-\u02ff\u0370-\u0482\u048a-\u052f\u3041-\u3096\u30a1-\u30fa\u3400-\u9fff\uac00-\ud7a3\uff66-\uff9d]"
)
# Octets of a header that may stand for other text: encoded-words, NUL, what is not ASCII.
_OBSCURE: Final = (b"=?", b"\0")
_COLON: Final = re.compile(r"[\s:]+")


class Headers:
    """An email's header: the prologue, and the fields in the blob, of which no more than these octets need be there."""

    def __init__(self, prologue: bytes, octets: Buffer) -> None:
        self._prologue = prologue
        self._octets = octets

    def says(self, leaf: Leaf) -> bool | None:
        """Whether a leaf holds; None for what the header does not tell."""
        match leaf:
            case Fields(text):
                return not self._lacks(text) and any(text in line for line in self._lines)
            case HasField(name, text):
                # RFC 9051 §6.4.4: with an empty text, whether there is such a field.
                return not self._lacks(f"{name} {text}".lower()) and any(
                    text in fold(decode_words(raw)) for raw in self._all(name)
                )
            case Head(b"subject" | b"message-id", text):
                return any(text in fold(decode_words(raw)) for raw in self._all(leaf.field.decode()))
            case Head(field, text):
                return any(text in address_text(split_addresses(raw)) for raw in self._all(field.decode()))
            case Sent(since, before):
                day = self.sent_on
                return day is not None and (since is None or day >= since) and (before is None or day < before)
            case _:
                return None

    @property
    def sent_on(self) -> int | None:
        """The Date field's day and time as written, in milliseconds as if it were UTC."""
        raw = self._headers[-1].first(b"date")
        return None if raw is None else parse_written(raw)

    @property
    def words(self) -> set[str]:
        """The words of all fields and of their names."""
        if self._plain is not None:
            return vocabulary.words(self._plain.decode("ascii"))
        return set[str]().union(*map(vocabulary.header_words, self._lines))

    @cached_property
    def _headers(self) -> tuple[Header, ...]:
        """The header as it is in the blob, and the fields in front of it."""
        own = Header.parse(self._octets)
        return (Header.parse(self._prologue), own) if self._prologue else (own,)

    @cached_property
    def _lines(self) -> list[str]:
        return [
            fold(f"{field.name.decode('ascii', 'replace')}: {decode_words(header.value(field))}")
            for header in self._headers
            for field in header.fields
        ]

    def _all(self, name: str) -> list[bytes]:
        key = name.lower().encode("ascii", "replace")
        return [raw for header in self._headers for raw in header.all(key)]

    @cached_property
    def _plain(self) -> bytes | None:
        """At least the header, in lower case; None where it may say what its octets do not show."""
        octets = self._prologue + bytes(self._octets[:HEADER_SIZE])
        return octets.lower() if octets.isascii() and not any(one in octets for one in _OBSCURE) else None

    def _lacks(self, text: str) -> bool:
        """True where it needs no parsing to see that some word of this is nowhere in the header."""
        if self._plain is None:
            return False
        return not text.isascii() or any(word.encode() not in self._plain for word in _COLON.split(text))


class Document(Headers):
    """An email's octets. `needles`: what bodies are asked for; all of them are looked for at once."""

    def __init__(self, prologue: bytes, octets: Buffer, parts: bytes, needles: Collection[str]) -> None:
        super().__init__(prologue, octets)
        self._parts = parts
        self._needles = needles

    def says(self, leaf: Leaf) -> bool | None:
        """Whether a leaf holds: bodies are the decoded text of a part, the header of a message inside among it."""
        return leaf.text in self._in_bodies if isinstance(leaf, Body) else super().says(leaf)

    @cached_property
    def _in_bodies(self) -> set[str]:
        found: set[str] = set()
        for part in mime.walk(mime.unpack(self._parts)):
            for text in self._texts(part):
                for window in folded(text, max(map(len, self._needles))):
                    found |= {needle for needle in self._needles if needle not in found and needle in window}
                    if len(found) == len(self._needles):
                        return found
        return found

    def _texts(self, part: Part) -> Iterator[str]:
        if part.filename:
            yield part.filename
        if part.message is not None:
            inner = Header.parse(self._octets, part.message.header_start, part.message.body_start)
            for field in inner.fields:
                yield decode_words(inner.value(field))
        elif part.type == "text":
            html = part.subtype == "html"
            octets = self._decoded(part, _MOST_HTML if html else _MOST)
            text = decode(octets, part.charset) if part.charset else undeclared(octets)
            yield from_html(text) if html else text

    def _decoded(self, part: Part, left: int) -> bytes:
        pieces: list[bytes] = []
        for piece in mime.decode_pieces(self._octets, part):
            pieces.append(piece[:left])
            left -= len(piece)
            if left <= 0:
                break
        return b"".join(pieces)


def folded(text: str, longest: int) -> Iterator[str]:
    """A text in its folded form, as windows: what is no longer than `longest` and in the text is in one of them."""
    at = 0
    tail = ""
    while at < len(text):
        end = _cut(text, at)
        window = fold(text[at:end])
        if tail or at:
            # The fold of a part has no white space at its ends.
            parted = text[at - 1].isspace() or text[at].isspace()
            window = f"{tail}{' ' if parted and tail and window else ''}{window}"
        yield window
        tail = window[-longest:] if longest else ""
        at = end


def _cut(text: str, at: int) -> int:
    """Where a window that begins at `at` may end: behind it nothing joins with what is before."""
    if len(text) - at <= _WINDOW:
        return len(text)
    alone = _ALONE.search(text, at + _WINDOW - _NEAR_END, at + _WINDOW)
    return alone.start() if alone else at + _WINDOW
