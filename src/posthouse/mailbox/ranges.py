"""Sets of numbers (uids, email ids) as JSON ranges: `[[4,9],[12,12]]`.

Promises: one spelling for what goes into a statement as a parameter, what the feed of changes keeps, and what a client
is told; the size follows the number of gaps, not of numbers.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Final

EMPTY: Final = "[]"

Ranges = Sequence[tuple[int, int]]


def pack(numbers: Iterable[int]) -> str:
    """The JSON of these numbers, in any order, doubles allowed."""
    ordered = sorted(numbers)
    if not ordered:
        return EMPTY
    first = last = ordered[0]
    if len(ordered) == 1:
        return f"[[{first},{first}]]"
    parts: list[str] = []
    for number in ordered:
        if number > last + 1:
            parts.append(f"[{first},{last}]")
            first = number
        last = number
    parts.append(f"[{first},{last}]")
    return f"[{','.join(parts)}]"


def pack_ranges(ranges: Ranges) -> str:
    """The JSON of ranges that are already there: inclusive, in order, apart from each other."""
    return json.dumps(ranges, separators=(",", ":"))


def unpack(text: str) -> list[tuple[int, int]]:
    """The ranges that `pack` wrote."""
    return [(low, high) for low, high in json.loads(text)]


def numbers(text: str) -> list[int]:
    """The numbers that `pack` wrote, in order."""
    if text == EMPTY:
        return []
    found: list[int] = []
    for low, high in json.loads(text):
        found.extend(range(low, high + 1))
    return found
