"""A stored message as the multi-line answer of POP3 (RFC 1939 §3): dots doubled, the end added.

Promises: whole buffers at a time, in pieces of at most 64 KB, so that a message of any size takes no more memory. A
bare CR or LF comes out as CRLF: there are clients for whom it ends a line, and a dot after it the answer, behind which
a message could forge the server's words. Refuses: to know where the message lies; it is handed buffers.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from posthouse.wire.lines import clean
from posthouse.wire.smtp.data import Buffer, Stuffer, pieces

_ENDING: Final = re.compile(rb"\r\n|\r|\n")


def whole(buffers: Iterable[Buffer]) -> Iterator[bytes]:
    """A message, of which `buffers` are the parts in order, as RETR sends it: stuffed, with its end."""
    return _stuffed(_lines(buffers))


def top(buffers: Iterable[Buffer], lines: int) -> Iterator[bytes]:
    """Its header, the empty line and `lines` lines of its body, as TOP sends them (RFC 1939 §7)."""
    return _stuffed(_first_lines(_lines(buffers), lines))


def _stuffed(parts: Iterable[bytes]) -> Iterator[bytes]:
    stuffer = Stuffer()
    for part in parts:
        yield stuffer.send(part)
    yield stuffer.end()


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
