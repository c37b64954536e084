"""Many numbers as the octets of a response: what SEARCH, SORT and THREAD answer are thousands of message numbers.

Promises: numbers are written as `%d` writes them. Those below MOST are written once a process, when they are first
asked for, and then only put together: a third of what writing them takes. Refuses: to keep more than that, some 5 MB.
"""

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Final, overload

# Below this each number is kept as it is written.
MOST: Final = 1 << 16
# Numbers of a piece of a long answer.
PIECE: Final = 32_768
# So many more are written when one of them is asked for.
_STEP: Final = 4096

_written: list[bytes] = []


class Marked(Sequence[int]):
    """Those of some numbers that are marked, by an octet of 0 or 1 for each: taken out when they are asked for, and not
    before. Where the numbers are a range they are written without that."""

    __slots__ = ("_found", "_length", "marks", "numbers")

    def __init__(self, numbers: Sequence[int], marks: bytes) -> None:
        self.numbers = numbers
        self.marks = marks
        self._length = marks.count(1)
        self._found: list[int] | None = None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        return iter(self.found())

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> list[int]: ...

    def __getitem__(self, index: int | slice) -> int | list[int]:
        return self.found()[index]

    def found(self) -> list[int]:
        """They."""
        if self._found is None:
            self._found = list(compress(self.numbers, self.marks))
        return self._found


def pieces(numbers: Sequence[int]) -> Iterator[bytes]:
    """What `spaced` writes, in pieces of which each takes a millisecond or two."""
    if isinstance(numbers, Marked):
        for start in range(0, len(numbers.marks), PIECE):
            stop = start + PIECE
            yield spaced(Marked(numbers.numbers[start:stop], numbers.marks[start:stop]))
    else:
        for start in range(0, len(numbers), PIECE):
            yield spaced(numbers[start : start + PIECE])


def spaced(numbers: Sequence[int]) -> bytes:
    """These numbers, none of them negative, with a space in front of each."""
    if not numbers:
        return b""
    if isinstance(numbers, Marked):
        some = numbers.numbers
        if isinstance(some, range) and some.step == 1 and _have(some[-1]):
            # An empty one in front of all brings the first space.
            return b" ".join([b"", *compress(_written[some.start : some.stop], numbers.marks)])
        numbers = numbers.found()
    try:
        return b" ".join([b"", *map(_written.__getitem__, numbers)])
    except IndexError:
        if not _have(max(numbers)):
            return (b" %d" * len(numbers)) % tuple(numbers)
    return b" ".join([b"", *map(_written.__getitem__, numbers)])


def _have(largest: int) -> bool:
    """Have all up to this one written; False where it is too large for that."""
    if largest >= MOST:
        return False
    if largest >= len(_written):
        upto = largest // _STEP * _STEP + _STEP
        # In one step, for a thread may read meanwhile; what two have written twice is the same.
        _written[:] = [b"%d" % number for number in range(upto)]
    return True
