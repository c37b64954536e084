"""Sets of numbers (uids, email ids) as JSON ranges: `[[4,9],[12,12]]`.

Promises: one spelling for what goes into a statement as a parameter, what the feed of changes keeps (there a single
number is itself), and what a client is told; the size follows the number of gaps, not of numbers.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

EMPTY: Final = "[]"

Ranges = Sequence[tuple[int, int]]


def spans(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """These numbers, in any order, doubles allowed, as ranges: in order, apart from each other, ends included."""
    ordered = sorted(set(numbers))
    if not ordered:
        return []
    first = last = ordered[0]
    if ordered[-1] - first == len(ordered) - 1:
        return [(first, ordered[-1])]
    found: list[tuple[int, int]] = []
    for number in ordered:
        if number > last + 1:
            found.append((first, last))
            first = number
        last = number
    found.append((first, last))
    return found


def pack(numbers: Iterable[int]) -> str:
    """The JSON of these numbers, in any order, doubles allowed."""
    if isinstance(numbers, range) and numbers and numbers.step == 1:
        return f"[[{numbers[0]},{numbers[-1]}]]"
    ordered = sorted(set(numbers))
    if not ordered:
        return EMPTY
    first, last = ordered[0], ordered[-1]
    return f"[[{first},{last}]]" if last - first == len(ordered) - 1 else pack_ranges(spans(ordered))


def told(numbers: Collection[int]) -> str | None:
    """What a column keeps of these numbers: None for none; one number is itself."""
    if len(numbers) == 1:
        (number,) = numbers
        return str(number)
    return pack(numbers) if numbers else None


def told_ranges(ranges: Ranges) -> str | None:
    """The same of ranges, in any order, which may overlap."""
    if not ranges:
        return None
    joined = join(ranges) if len(ranges) > 1 else ranges
    low, high = joined[0]
    return str(low) if len(joined) == 1 and low == high else pack_ranges(joined)


def pack_ranges(ranges: Ranges) -> str:
    """The JSON of ranges that are already there: inclusive, in order, apart from each other."""
    if len(ranges) == 1:
        ((low, high),) = ranges
        return f"[[{low},{high}]]"
    return json.dumps(ranges, separators=(",", ":"))


def union(columns: Iterable[str | None]) -> list[tuple[int, int]]:
    """The ranges of all numbers that `told` wrote into these, in order, apart from each other."""
    text = ",".join([column for column in columns if column is not None])
    if "[" not in text:
        return spans(map(int, text.split(","))) if text else []
    found = json.loads(f"[{text}]")
    return join([span for one in found for span in (((one, one),) if isinstance(one, int) else map(tuple, one))])


def join(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """These ranges, which may overlap, in order, apart from each other."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def intersect(left: Ranges, right: Ranges) -> list[tuple[int, int]]:
    """The ranges of what is in both, each of which is in order, its ranges apart from each other."""
    if len(left) == 1 and right and left[0][0] <= right[0][0] and right[-1][1] <= left[0][1]:
        return list(right)
    found: list[tuple[int, int]] = []
    others = iter(right)
    other = next(others, None)
    for low, high in left:
        while other is not None and other[0] <= high:
            if other[1] >= low:
                found.append((max(low, other[0]), min(high, other[1])))
            if other[1] > high:
                break
            other = next(others, None)
    return found


def without(left: Ranges, right: Ranges) -> list[tuple[int, int]]:
    """The ranges of what is in `left` and not in `right`, each of which is in order, its ranges apart from each
    other."""
    found: list[tuple[int, int]] = []
    others = iter(right)
    other = next(others, None)
    for low, high in left:
        while other is not None and other[1] < low:
            other = next(others, None)
        while other is not None and other[0] <= high:
            if low < other[0]:
                found.append((low, other[0] - 1))
            low = other[1] + 1
            if other[1] >= high:
                break
            other = next(others, None)
        if low <= high:
            found.append((low, high))
    return found


def parts(ranges: Ranges, size: int) -> Iterator[Ranges]:
    """These ranges, in their order, so many numbers at a time."""
    if count(ranges) <= size:
        if ranges:
            yield ranges
        return
    part: list[tuple[int, int]] = []
    room = size
    for low, high in ranges:
        while low <= high:
            last = min(high, low + room - 1)
            part.append((low, last))
            room -= last + 1 - low
            low = last + 1
            if not room:
                yield part
                part, room = [], size
    if part:
        yield part


def count(ranges: Ranges) -> int:
    """How many numbers these ranges hold."""
    return sum([high - low + 1 for low, high in ranges])


def numbers(column: str | None) -> list[int]:
    """The numbers that `told` wrote, in order."""
    return expand(_read(column))


def _read(column: str | None) -> Ranges:
    if column is None:
        return ()
    found = json.loads(column)
    return ((found, found),) if isinstance(found, int) else found


def expand(ranges: Ranges) -> list[int]:
    """The numbers in these ranges, in order."""
    if count(ranges) == len(ranges):
        return [number for number, _ in ranges]
    return [number for low, high in ranges for number in range(low, high + 1)]
