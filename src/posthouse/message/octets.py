"""One way to look into the octets of a message, whether they lie in memory or in a mapped file.

Promises: a mapped file of any size is searched and counted through a window, so memory does not grow with the message.
Refuses: to know what the octets mean.
"""

import binascii
from collections.abc import Iterator
from mmap import mmap
from typing import Final, TypeAlias

# What the rooms hand about.
Buffer: TypeAlias = bytes | memoryview | mmap
# What can be searched.
Octets: TypeAlias = bytes | mmap

# Large enough for the search inside a window to run at the speed of memory, small enough to stay in the cache.
WINDOW: Final = 128 * 1024

_NOT_BASE64: Final = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_LONGEST_LINE: Final = 1024 * 1024


def searchable(octets: Buffer) -> Octets:
    """The same octets as bytes or mmap. Copies only a memoryview that shows a part of something."""
    if isinstance(octets, memoryview):
        whole = octets.obj
        if isinstance(whole, bytes | mmap) and len(whole) == octets.nbytes:
            return whole
        return octets.tobytes()
    return octets


def find(octets: Octets, needle: bytes, start: int, end: int) -> int:
    """Where `needle` first lies wholly inside start:end, or -1."""
    if isinstance(octets, bytes):
        return octets.find(needle, start, end)
    # mmap.find compares octet by octet; bytes.find on a copied window is many times faster.
    overlap = len(needle) - 1
    while start < end:
        at = octets[start : min(start + WINDOW + overlap, end)].find(needle)
        if at >= 0:
            return start + at
        start += WINDOW
    return -1


def count_lines(octets: Octets, start: int, end: int) -> int:
    """How many lines end inside start:end (how many LF it has)."""
    if isinstance(octets, bytes):
        return octets.count(b"\n", start, end)
    return sum(octets[at : min(at + WINDOW, end)].count(b"\n") for at in range(start, end, WINDOW))


def from_base64(text: bytes) -> bytes:
    """RFC 2045 §6.8, with what broken mail needs: foreign octets are skipped, missing padding is supplied."""
    try:
        return binascii.a2b_base64(text)
    except binascii.Error:
        kept = text.translate(None, _NOT_BASE64).partition(b"=")[0]
        whole = len(kept) - (len(kept) % 4 == 1)
        return binascii.a2b_base64(kept[:whole] + b"==")


def windows(octets: Octets, start: int, end: int) -> Iterator[bytes]:
    """start:end in pieces of at most a window."""
    for at in range(start, end, WINDOW):
        yield octets[at : min(at + WINDOW, end)]


def decoded(octets: Octets, start: int, end: int, encoding: bytes) -> Iterator[bytes]:
    """start:end without its transfer encoding (RFC 2045 §6), in pieces. An encoding that is not known changes
    nothing.
    """
    if encoding == b"base64":
        yield from _base64_pieces(octets, start, end)
    elif encoding == b"quoted-printable":
        yield from _quoted_printable_pieces(octets, start, end)
    else:
        yield from windows(octets, start, end)


def _base64_pieces(octets: Octets, start: int, end: int) -> Iterator[bytes]:
    if end - start <= WINDOW:
        yield from_base64(octets[start:end])
        return
    held = b""
    for piece in windows(octets, start, end):
        held += piece.translate(None, _NOT_BASE64)
        padded = b"=" in held
        whole = len(held) if padded else len(held) & ~3
        yield from_base64(held[:whole])
        if padded:  # RFC 2045 §6.8: padding marks the end of the data.
            return
        held = held[whole:]
    yield from_base64(held)


def _quoted_printable_pieces(octets: Octets, start: int, end: int) -> Iterator[bytes]:
    if end - start <= WINDOW:
        yield binascii.a2b_qp(octets[start:end])
        return
    held = b""
    for piece in windows(octets, start, end):
        held += piece
        # Nothing reaches over the end of a line; a line that never ends is cut where it may go wrong, but once.
        whole = held.rfind(b"\n") + 1 or (len(held) if len(held) > _LONGEST_LINE else 0)
        yield binascii.a2b_qp(held[:whole])
        held = held[whole:]
    yield binascii.a2b_qp(held)
