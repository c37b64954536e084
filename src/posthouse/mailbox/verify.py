"""What a search cannot know from rows, looked up in the stored octets: header fields as they stand, bodies beyond
what is indexed.

Promises: never raises, whatever the octets; strings are compared as `query` says. The prologue counts as part of the
header.
Refuses: to be fast; `query` asks only for emails that its SQL could not settle.
"""

import re
from functools import cached_property
from typing import Final

from posthouse.message import mime
from posthouse.message.addresses import split_addresses
from posthouse.message.charset import decode, undeclared
from posthouse.message.header import Buffer, Header, decode_words, parse_date
from posthouse.message.mime import Part
from posthouse.message.text import fold, from_html, head_text

_ZONE: Final = re.compile(rb"([+-])(\d\d)(\d\d)\s*(?:\(|\Z)")
# Octets of one part that are looked through: a stranger's mail costs no more than this of memory.
_MOST: Final = 16 * 1024 * 1024


def address_needle(text: str) -> str:
    """What is looked for in addresses: they are kept as "name local@domain", without the angle brackets."""
    return fold(text.replace("<", " ").replace(">", " "))


class Document:
    """An email's octets, taken apart as far as a question needs it."""

    def __init__(self, prologue: bytes, octets: Buffer, parts: bytes) -> None:
        self._prologue = prologue
        self._octets = octets
        self._parts = parts

    @cached_property
    def _headers(self) -> tuple[Header, ...]:
        """The header as it is in the blob, and the fields in front of it."""
        own = Header.parse(self._octets)
        return (Header.parse(self._prologue), own) if self._prologue else (own,)

    def _all(self, name: str) -> list[bytes]:
        key = name.lower().encode("ascii", "replace")
        return [raw for header in self._headers for raw in header.all(key)]

    @property
    def sent_on(self) -> int | None:
        """The Date field's day and time as written, in milliseconds as if it were UTC."""
        raw = self._headers[-1].first(b"date")
        at = None if raw is None else parse_date(raw)
        if raw is None or at is None:
            return None
        zone = _ZONE.search(raw)
        if zone is None:
            return at
        minutes = int(zone[2]) * 60 + int(zone[3])
        return at + (minutes if zone[1] == b"+" else -minutes) * 60_000

    def subject_contains(self, text: str) -> bool:
        """Whether the subject does."""
        needle = fold(text)
        return any(needle in fold(decode_words(raw)) for raw in self._all("subject"))

    def address_contains(self, field: str, text: str) -> bool:
        """Whether a name or address in the field does."""
        needle = address_needle(text)
        return any(needle in head_text("", split_addresses(raw)) for raw in self._all(field))

    def header_contains(self, name: str, text: str) -> bool:
        """Whether a field of this name does (RFC 9051 §6.4.4: with an empty text, whether there is one)."""
        needle = fold(text)
        return any(needle in fold(decode_words(raw)) for raw in self._all(name))

    def body_contains(self, text: str) -> bool:
        """Whether the decoded text of a part does, the header of a message inside among it."""
        needle = fold(text)
        root = mime.unpack(self._parts)
        return any(needle in fold(text) for part in mime.walk(root) for text in self._texts(part))

    def contains(self, text: str) -> bool:
        """Whether header or body do."""
        needle = fold(text)
        for header in self._headers:
            for field in header.fields:
                line = f"{field.name.decode('ascii', 'replace')}: {decode_words(header.value(field))}"
                if needle in fold(line):
                    return True
        return self.body_contains(text)

    def _texts(self, part: Part) -> list[str]:
        found = [part.filename] if part.filename else []
        if part.message is not None:
            inner = Header.parse(self._octets, part.message.header_start, part.message.body_start)
            found += [decode_words(inner.value(field)) for field in inner.fields]
        elif part.type == "text":
            octets = self._decoded(part)
            text = decode(octets, part.charset) if part.charset else undeclared(octets)
            found.append(from_html(text) if part.subtype == "html" else text)
        return found

    def _decoded(self, part: Part) -> bytes:
        pieces: list[bytes] = []
        left = _MOST
        for piece in mime.decode_pieces(self._octets, part):
            pieces.append(piece[:left])
            left -= len(piece)
            if left <= 0:
                break
        return b"".join(pieces)
