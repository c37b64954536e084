"""Canonical forms of header fields and bodies: what signer and verifier hash, so that small changes on the way do not
matter (RFC 6376 §3.4).

Promises: a body of any size is gone through in pieces, with memory bounded by the largest; however it is cut, the
octets that come out are the same. No work is done line by line, and the time is linear whatever the octets.
Refuses: to mend. CRLF ends a line and nothing else does; a bare CR or LF is an octet like others.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Final

_CRLF: Final = b"\r\n"
_WSP: Final = re.compile(rb"[ \t]+")
# Line endings at the beginning of a text that was turned round.
_ENDINGS: Final = re.compile(rb"(?:\n\r)*+")
_BLANK_LINES: Final = _CRLF * 8192


def header_field(field: bytes, *, relaxed: bool) -> bytes:
    """A field in canonical form, with its CRLF. `field` is its exact octets (RFC 6376 §3.4.1, §3.4.2)."""
    if not relaxed:
        return field if field.endswith(_CRLF) else field + _CRLF
    name, _, value = field.partition(b":")
    unfolded = _WSP.sub(b" ", value.replace(_CRLF, b"")).strip(b" ")
    return b"%b:%b\r\n" % (name.rstrip(b" \t").lower(), unfolded)


def body(pieces: Iterable[bytes], *, relaxed: bool) -> Iterator[bytes]:
    """A body in canonical form, in pieces (RFC 6376 §3.4.3, §3.4.4)."""
    held = b""  # the end of what was read, which the next piece may make part of a line ending or of a run of spaces
    blank = 0  # empty lines that were read and not handed out: they are nothing where only more of them follow
    written = False
    for piece in pieces:
        text = held + piece
        if relaxed:
            text = _collapsed(text)
        kept = _settled(text, relaxed)
        held = text[kept:]
        text = text[:kept]
        if relaxed:
            text = text.replace(b" \r\n", _CRLF)
        ending = _ENDINGS.match(text[len(text.rstrip(_CRLF)) :][::-1])
        assert ending is not None, "the pattern matches nothing too"
        ended = ending.end()
        if ended < len(text):
            yield from _lines(blank)
            yield text[: len(text) - ended]
            written, blank = True, 0
        blank += ended // 2
    if relaxed and held == b" ":
        held = b""
    if held:
        yield from _lines(blank)
        yield held
    # An empty body is one empty line in the simple form, and nothing in the relaxed one.
    if held or written or not relaxed:
        yield _CRLF


def body_hash(pieces: Iterable[bytes], *, relaxed: bool) -> bytes:
    """SHA-256 of a body in canonical form (RFC 6376 §3.7)."""
    hashed = hashlib.sha256()
    for piece in body(pieces, relaxed=relaxed):
        hashed.update(piece)
    return hashed.digest()


def _collapsed(text: bytes) -> bytes:
    """Each run of spaces and tabs as one space. A run of n takes log n goes, each as fast as memory."""
    if b"\t" in text:
        text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text


def _settled(text: bytes, relaxed: bool) -> int:
    """How much of it does not depend on what follows."""
    end = len(text)
    if text.endswith(b"\r"):
        end -= 1
    if relaxed and text.endswith(b" ", 0, end):
        end -= 1
    return end


def _lines(count: int) -> Iterator[bytes]:
    """So many empty lines."""
    while count > 0:
        some = min(count, len(_BLANK_LINES) // 2)
        yield _BLANK_LINES[: 2 * some]
        count -= some
