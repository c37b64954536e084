"""Sequence sets (RFC 9051 §4.1.1, §9 `sequence-set`): message numbers or UIDs, as a client writes them and as we do.

Promises: `parse` raises ValueError and nothing else; `compress` writes the shortest set, and 100,000 numbers of it in
milliseconds. Refuses: to know which messages exist; `resolve` is told the largest number in use.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress as select
from itertools import islice
from operator import sub
from typing import Final

Range = tuple[int, int]

LARGEST: Final = (1 << 32) - 1
# What `*` is held as: above every number, so that a range with it is ordered like any other.
STAR: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """Ranges as written, each with its lower end first; `*` is STAR. `saved`: `$` stands in it (RFC 9051 §6.4.4.1)."""

    ranges: tuple[Range, ...]
    saved: bool = False

    def resolve(self, largest: int) -> tuple[Range, ...]:
        """The ranges with `*` being `largest`, ascending, merged, nothing above `largest`.

        `largest` is the largest number in use, 0 where there is none. `559:*` always contains `*` (RFC 9051 §9).
        """
        found: list[Range] = []
        for low, high in sorted(_swapped(low, high, largest) for low, high in self.ranges):
            if low > largest or high < 1:
                continue
            if found and low <= found[-1][1] + 1:
                found[-1] = (found[-1][0], max(found[-1][1], high))
            else:
                found.append((low, high))
        return tuple(found)

    def octets(self) -> bytes:
        """The set as it travels."""
        parts = [_written(low) if low == high else _written(low) + b":" + _written(high) for low, high in self.ranges]
        return b",".join([*parts, b"$"] if self.saved else parts)


def _swapped(low: int, high: int, largest: int) -> Range:
    if high == STAR:
        return (largest, largest) if low == STAR else (min(low, largest), largest)
    return low, min(high, largest)


def _written(number: int) -> bytes:
    return b"*" if number == STAR else b"%d" % number


def parse(text: bytes) -> SequenceSet:
    """The set that `text` spells. Raises ValueError."""
    ranges: list[Range] = []
    saved = False
    for part in text.split(b","):
        if part == b"$":
            saved = True
            continue
        left, colon, right = part.partition(b":")
        first = _number(left)
        last = _number(right) if colon else first
        ranges.append((first, last) if first <= last else (last, first))
    return SequenceSet(tuple(ranges), saved)


def _number(digits: bytes) -> int:
    # RFC 9051 §9: nz-number = digit-nz *DIGIT, below 2^32.
    if digits == b"*":
        return STAR
    if not digits.isdigit() or digits[0] == 0x30 or len(digits) > 10 or (number := int(digits)) > LARGEST:
        raise ValueError("not a sequence number")
    return number


def ranges_of(numbers: Sequence[int]) -> list[Range]:
    """The runs in `numbers`, which ascend and repeat nothing."""
    if not numbers:
        return []
    count = len(numbers)
    if numbers[-1] - numbers[0] == count - 1:
        return [(numbers[0], numbers[-1])]
    # Where the difference to the one before is not 1, a run begins: found without a step of ours for each number.
    steps = map(sub, islice(numbers, 1, None), numbers)
    starts = [0, *select(range(1, count), map((1).__ne__, steps))]
    return [(numbers[a], numbers[b - 1]) for a, b in zip(starts, [*starts[1:], count], strict=True)]


def compress(numbers: Sequence[int]) -> bytes:
    """`numbers`, which ascend and repeat nothing, as a sequence-set; b"" where there are none."""
    return write(ranges_of(numbers))


def in_order(numbers: Sequence[int]) -> bytes:
    """`numbers` in whatever order they are, as a sequence-set that keeps it: only what ascends by one is a range
    (RFC 5267 §3.1)."""
    if not numbers:
        return b""
    count = len(numbers)
    steps = map(sub, islice(numbers, 1, None), numbers)
    starts = [0, *select(range(1, count), map((1).__ne__, steps))]
    return write((numbers[a], numbers[b - 1]) for a, b in zip(starts, [*starts[1:], count], strict=True))


def write(ranges: Iterable[Range]) -> bytes:
    """Ranges as a sequence-set."""
    return b",".join([b"%d:%d" % (low, high) if low != high else b"%d" % low for low, high in ranges])
