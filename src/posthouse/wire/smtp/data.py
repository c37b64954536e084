"""The message between DATA and its final dot (RFC 5321 §4.5.2), whole buffers at a time.

Promises: only CRLF "." CRLF ends a message, for any split of the octets; what comes out is the message as its writer
had it; a bare CR or LF, or a line past the limit, is found in every message. No Python runs per line.
Refuses: to hand out octets of a message once a flaw has been found in it, and to send a message that has one.
"""

import mmap
import re
from collections.abc import Iterator
from typing import Final, Literal

from posthouse import limits
from posthouse.wire.lines import BareLineEnding, clean

Buffer = bytes | memoryview | mmap.mmap
Flaw = Literal["bare", "long"]

_END: Final = b"\r\n.\r\n"
# A buffer that ends like this may go on to be the end of the message, or holds a dot that may have to go.
_BEGUN: Final = tuple(_END[:length] for length in (4, 3, 2, 1))
# A line that begins with a dot: `find` takes twice as long (36 µs for 50 KB).
_DOT: Final = re.compile(rb"\r\n\.")
_CHUNK: Final = 64 * limits.KB


class Unstuffer:
    """Takes dots away and finds the end. `flaw`: what is wrong with the message; `size`: octets that came out."""

    __slots__ = ("_held", "_run", "_virtual", "flaw", "size")

    def __init__(self) -> None:
        # RFC 5321 §4.1.1.4: the CRLF of the DATA command begins the first line, so ".\r\n" at once is an empty message.
        self._held = b"\r\n"
        self._virtual = 2
        self._run = 0
        self.flaw: Flaw | None = None
        self.size = 0

    def receive(self, octets: bytes) -> tuple[bytes, bytes | None]:
        """What `octets` add to the message; and None, or, once the message has ended, the octets behind its end."""
        buffer = self._held + octets
        dot = _first_dot(buffer)
        end = buffer.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            return self._message(buffer[: end + 2], dot < end), buffer[end + 5 :]
        self._held = next((begun for begun in _BEGUN if buffer.endswith(begun)), b"")
        return self._message(buffer[: len(buffer) - len(self._held)], dot >= 0), None

    def take(self, raw: bytes) -> bytes:
        """What octets of a message that has no dots to be taken away add to it: for Chunks."""
        self._virtual = 0
        return self._message(raw, False)

    def _message(self, raw: bytes, dots: bool) -> bytes:
        """`raw` never begins or ends inside a CRLF or between it and a dot; with `dots` some lines begin with one."""
        if not raw or self.flaw == "bare":
            return b""
        self._measure(raw)
        # RFC 5321 §4.5.2: a leading dot is deleted. The end has been cut off, so each one here has something behind it.
        message = raw.replace(b"\r\n.", b"\r\n") if dots else raw
        if self._virtual:
            message = message[2:]
            self._virtual = 0
        if not clean(raw):
            self.flaw = "bare"
        if self.flaw is not None:
            return b""
        self.size += len(message)
        return message

    def _measure(self, raw: bytes) -> None:
        """Find a line longer than limits.TEXT_LINE (with its ending), in jumps of that length."""
        start = -self._run
        while len(raw) - start > limits.TEXT_LINE:
            ending = raw.rfind(b"\n", max(start, 0), start + limits.TEXT_LINE)
            if ending < 0:
                self.flaw = "long"
                return
            start = ending + 1
        last = raw.rfind(b"\n")
        self._run = len(raw) - (last + 1 if last >= 0 else start)


class Chunks:
    """The message in BDAT's chunks (RFC 3030), which come as they are. `flaw`, `size`: as of Unstuffer.

    `arrived`: octets of the chunks, which may end inside a CRLF. `binary` (BODY=BINARYMIME): any octets make a message,
    and nothing is a flaw.
    """

    __slots__ = ("_binary", "_held", "_lines", "arrived", "size")

    def __init__(self, *, binary: bool = False) -> None:
        self._binary = binary
        self._lines = Unstuffer()
        self._held = b""
        self.arrived = 0
        self.size = 0

    @property
    def flaw(self) -> Flaw | None:
        """What is wrong with the message so far."""
        return self._lines.flaw

    def receive(self, octets: bytes) -> bytes:
        """What `octets` add to the message. A CR at their end waits for what comes behind it."""
        self.arrived += len(octets)
        if not self._binary:
            octets = self._held + octets
            self._held = b"\r" if octets.endswith(b"\r") else b""
            octets = self._lines.take(octets[:-1] if self._held else octets)
        self.size += len(octets)
        return octets

    def end(self) -> bytes:
        """What the end of the last chunk adds."""
        rest = self._lines.take(self._held) if self._held else b""
        self._held = b""
        self.size += len(rest)
        return rest


class Stuffer:
    """Doubles leading dots and writes the end. Raises BareLineEnding instead of sending a bare CR or LF."""

    __slots__ = ("_held", "_tail")

    def __init__(self) -> None:
        self._tail = b"\r\n"
        self._held = b""

    def send(self, octets: bytes) -> bytes:
        """The octets to send for the next piece of the message; a CR at its end waits for the piece after it."""
        if self._held or octets.endswith(b"\r"):
            octets = self._held + octets
            self._held = b"\r" if octets.endswith(b"\r") else b""
            octets = octets[: len(octets) - len(self._held)]
        if not octets:
            return b""
        if not clean(octets):
            raise BareLineEnding("LF" if octets.count(b"\n") > octets.count(b"\r\n") else "CR")
        # `replace` looks for the first one as slowly as `find`.
        stuffed = octets.replace(b"\r\n.", b"\r\n..") if _first_dot(octets) >= 0 else octets
        if self._tail == b"\r\n" and octets.startswith(b"."):
            stuffed = b"." + stuffed
        self._tail = (self._tail + octets[-2:])[-2:]
        return stuffed

    def end(self) -> bytes:
        """The end of the message, with the CRLF that its last line may lack (RFC 5321 §4.1.1.4)."""
        if self._held:
            raise BareLineEnding("CR")
        return b".\r\n" if self._tail == b"\r\n" else _END


def _first_dot(octets: bytes) -> int:
    """Where the first CRLF stands behind which a line begins with a dot; -1: nowhere."""
    # The search ends at the last dot, which `rfind` finds in a microsecond where what is large has none (Base64). The
    # one that ends the message does not count as that.
    ended = octets.endswith(_END)
    last = octets.rfind(b".", 0, len(octets) - 3 if ended else len(octets))
    if (found := _DOT.search(octets, 0, last + 1)) is not None:
        return found.start()
    return len(octets) - len(_END) if ended else -1


def pieces(buffer: Buffer) -> Iterator[bytes]:
    """`buffer` in pieces of at most 64 KB, none of which ends inside a CRLF unless the buffer does."""
    if isinstance(buffer, bytes) and len(buffer) <= _CHUNK:
        if buffer:
            yield buffer
        return
    with memoryview(buffer) as view:
        start, size = 0, len(view)
        while start < size:
            piece = bytes(view[start : start + _CHUNK])
            if piece[-1] == 13 and len(piece) > 1 and start + len(piece) < size:
                piece = piece[:-1]
            yield piece
            start += len(piece)
