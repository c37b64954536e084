"""A stored message as the multi-line answer of POP3 (RFC 1939 §3): dots doubled, the end added.

Promises: whole buffers at a time, in pieces of at most 64 KB, so that a message of any size takes no more memory. A
bare CR or LF comes out as CRLF: there are clients for whom it ends a line, and a dot after it the answer, behind which
a message could forge the server's words. Refuses: to know where the message lies; it is handed buffers.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from posthouse.limits import KB
from posthouse.wire.lines import clean
from posthouse.wire.smtp.data import Buffer, pieces

_ENDING: Final = re.compile(rb"\r\n|\r|\n")
_DOT: Final = re.compile(rb"\n\.")
END: Final = b".\r\n"
# A message of so many octets may go at once.
SMALL: Final = 64 * KB


def whole(buffers: Iterable[Buffer]) -> Iterator[bytes]:
    """A message, of which `buffers` are the parts in order, as RETR sends it: stuffed, with its end."""
    return _stuffed(_lines(buffers))


def whole_kept(*buffers: Buffer) -> Iterator[bytes]:
    """The same of buffers that `is_kept` was true of: they are not looked through again for bare CR and LF."""
    return _stuffed(piece for buffer in buffers for piece in pieces(buffer))


def is_dotted(buffer: Buffer) -> bool:
    """Whether a line in it begins with a dot. Of buffers that are kept and not dotted `whole` sends each octet as it
    is, and END behind them."""
    return bytes(buffer[:1]) == b"." or _DOT.search(buffer) is not None


def top(buffers: Iterable[Buffer], lines: int) -> Iterator[bytes]:
    """Its header, the empty line and `lines` lines of its body, as TOP sends them (RFC 1939 §7)."""
    return _stuffed(_first_lines(_lines(buffers), lines))


def size(buffers: Iterable[Buffer]) -> int:
    """How many octets `whole` sends, but for the dots that it doubles and the end of the answer: the message's size as
    RFC 1939 §11 counts it."""
    octets, tail = 0, b"\r\n"
    for part in _lines(buffers):
        octets += len(part)
        tail = (tail + part[-2:])[-2:]
    return octets if tail == b"\r\n" else octets + 2


def is_kept(buffer: Buffer) -> bool:
    """Whether `whole` sends it as it is, but for dots: its lines, the last one too, end in CRLF."""
    return (not len(buffer) or bytes(buffer[-2:]) == b"\r\n") and all(map(clean, pieces(buffer)))


def _stuffed(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Dots doubled, and the end; in `parts` every line ends in CRLF and no CRLF is torn."""
    begins = True  # a line, with what comes next
    for part in parts:
        if not part:
            continue
        # Looking for one takes half the time of replacing none.
        stuffed = part.replace(b"\r\n.", b"\r\n..") if _DOT.search(part) else part
        yield b"." + stuffed if begins and part.startswith(b".") else stuffed
        begins = part.endswith(b"\r\n")
    yield END if begins else b"\r\n" + END


def _lines(buffers: Iterable[Buffer]) -> Iterator[bytes]:
    """The octets in pieces, each bare CR or LF made CRLF."""
    for buffer in buffers:
        for piece in pieces(buffer):
            yield piece if clean(piece) else _ENDING.sub(b"\r\n", piece)


def _first_lines(parts: Iterable[bytes], lines: int) -> Iterator[bytes]:
    behind = b"\r\n"  # the end of what went before: the header ends at an empty line, be it the first
    in_header = True
    for part in parts:
        rest = part
        if in_header:
            joined = behind + part
            end = joined.find(b"\r\n\r\n")
            if end < 0:
                behind = joined[-3:]
                yield part
                continue
            in_header = False
            cut = end + 4 - len(behind)
            yield part[:cut]
            rest = part[cut:]
        count = rest.count(b"\n")
        if count >= lines:
            yield rest[: _end_of_line(rest, lines)]
            return
        lines -= count
        yield rest


def _end_of_line(octets: bytes, count: int) -> int:
    """Where the `count`-th line ends."""
    end = 0
    for _ in range(count):
        end = octets.index(b"\n", end) + 1
    return end
