"""Sorting what is much without holding anybody up: it is parted by some of its values, and each part sorted by itself.

Promises: the order that `sorted` makes, equals kept as they are; between two parts that it yields some milliseconds
pass at most. Refuses: to wait; who takes the parts lets others have their turn.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

T = TypeVar("T")

# In a part, about.
PART: Final = 8000
# So many values for each part are looked at, to choose those by which it is parted.
SAMPLES: Final = 64


def parted(items: Sequence[T], key: Callable[[T], Any], *, reverse: bool = False) -> Iterator[list[T]]:
    """The items by their keys, a part after the other. While they are parted, parts are empty."""
    count = len(items) // PART + 1
    some = sorted(map(key, items[:: max(1, len(items) // (SAMPLES * count))]))
    pivots = list(dict.fromkeys([some[len(some) * part // count] for part in range(1, count)]))
    # What lies between two pivots, and what is equal to one: that is in order.
    found: list[list[T]] = [[] for _ in range(2 * len(pivots) + 1)]
    for start in range(0, len(items), PART):
        for one in items[start : start + PART]:
            value = key(one)
            found[bisect_left(pivots, value) + bisect_right(pivots, value)].append(one)
        yield []
    for number in reversed(range(len(found))) if reverse else range(len(found)):
        if number % 2 == 0:
            found[number].sort(key=key, reverse=reverse)
        yield found[number]
