"""The orders in which a mailbox was sorted, kept: what is compared of an email never changes, so an order stays good
for what it has; what has come since is put in its places, what has gone is taken out.

Promises: what is answered is what `sorting.sort` would answer. An order is within the budget of `kept.py`, 12 octets a
message; it is never changed, a new one takes its place. Refuses: to keep orders by scores, which are one search's, and
those of a few messages among many: these are sorted.
"""

import asyncio
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, filterfalse, islice
from typing import Any, Final

from posthouse.mailbox import columns, sorting
from posthouse.mailbox.columns import Column
from posthouse.mailbox.scan import Sight
from posthouse.mailbox.sorting import By, Key

# Fewer than one in so many are sorted by themselves.
_SHARE: Final = 4
# Up to so many that came or went since, and of those that came one in so many, are put in their places one by one.
_FEW: Final = 500
_SHARE_NEW: Final = 8
_OCTETS: Final = 12
# Messages without a pause.
_RUN: Final = 16_384


@dataclass(frozen=True, slots=True)
class Order:
    """All messages of a snapshot: their uids, and at which place in the snapshot each stands, counted from 1; and the
    snapshot's uids, in its own order."""

    uids: "array[int]"
    places: "array[int]"
    members: "array[int]"


async def sort(
    sight: Sight, uids: Sequence[int], keys: Sequence[Key], marks: bytes | None
) -> tuple[Sequence[int], Sequence[int] | None]:
    """These uids, which ascend, in order of the keys; and at which places in the snapshot they stand, counted from 1,
    where `marks` are given: an octet for each message of the snapshot's beginning, 1 for one of these. Raises
    StoreUnavailable."""
    snapshot = sight.snapshot
    if marks is None or not _keepable(sight, keys) or len(uids) * _SHARE < len(snapshot):
        return await sorting.sort(sight, list(uids), keys), None
    order = await _order(sight, tuple(keys))
    if order is None:
        # Something is gone of which the snapshot does not know.
        return await sorting.sort(sight, list(uids), keys), None
    if len(uids) == len(order.uids):
        return order.uids, order.places
    asked = (b"\0" + marks).ljust(len(snapshot) + 1, b"\0")
    chosen = bytearray()
    for start in range(0, len(order.places), _RUN):
        chosen += bytes(map(asked.__getitem__, order.places[start : start + _RUN]))
        await asyncio.sleep(0)
    return await _gathered(compress(order.uids, chosen)), await _gathered(compress(order.places, chosen))


async def _gathered(numbers: Iterator[int]) -> "array[int]":
    """They, with a pause now and then."""
    found = array("I")
    while some := list(islice(numbers, _RUN)):
        found.extend(some)
        await asyncio.sleep(0)
    return found


def _keepable(sight: Sight, keys: Sequence[Key]) -> bool:
    return sight.columns.fits(len(sight.snapshot)) and all(key.by is not By.SCORE for key in keys)


async def _order(sight: Sight, keys: tuple[Key, ...]) -> Order | None:
    """The order of all that the snapshot has; None where some of it cannot be read any more."""
    s, kept = sight.snapshot, sight.columns.kept
    name = s.mailbox, s.uidvalidity, keys
    before: Order | None = kept.get(s.account, name)
    order = None if before is None else await _followed(sight, keys, before)
    if order is None:
        places = await sorting.places(sight, s.uids, keys)
        if len(places) != len(s):
            return None
        uids = await _gathered(map(s.uids.__getitem__, places))
        order = Order(uids, await _gathered(map((1).__add__, places)), s.uids)
    if order is not before:
        kept.put(s.account, name, order, _OCTETS * len(order.uids))
    return order


async def _followed(sight: Sight, keys: tuple[Key, ...], before: Order) -> Order | None:
    """The order of the snapshot, made of one of the same mailbox; None where too much is new or gone."""
    s = sight.snapshot
    uids, places, members = before.uids, before.places, before.members
    start = bisect_right(s.uids, members[-1]) if members else 0
    new = s.uids[start:]
    if len(new) > _FEW or len(new) * _SHARE_NEW > len(s):
        return None
    if s.uids[:start] != members:
        gone = _gone(members, s.uids[:start])
        if gone is None:
            return None
        away = {members[place] for place in gone}
        uids = await _gathered(filterfalse(away.__contains__, uids))
        # What stood behind has moved up.
        left = filterfalse({place + 1 for place in gone}.__contains__, places)
        places = await _gathered(place - bisect_left(gone, place) for place in left)
    if new:
        values = await _Values.read(sight, keys)
        come = await sorting.sort(sight, new, keys)
        if len(come) != len(new):
            return None
        at: list[int] = []
        for uid in come:
            place = values.place(uids, uid)
            if place is None:
                return None
            at.append(place)
        places = _inserted(places, at, [bisect_right(s.uids, uid) for uid in come])
        uids = _inserted(uids, at, come)
    return before if uids is before.uids else Order(uids, places, s.uids)


def _gone(before: "array[int]", now: "array[int]") -> list[int] | None:
    """At which places stood those of these uids, which ascend, that are there no more; None: too many, or others have
    come among them."""
    found: list[int] = []
    old = new = 0
    while old < len(before):
        # How many are the same from here on: by comparing whole stretches, and halves of one that differs.
        size = min(len(before) - old, len(now) - new)
        if before[old : old + size] != now[new : new + size]:
            low = 0
            while size - low > 1:
                middle = (low + size) // 2
                if before[old + low : old + middle] == now[new + low : new + middle]:
                    low = middle
                else:
                    size = middle
            size = low
        old, new = old + size, new + size
        if old < len(before):
            found.append(old)
            old += 1
        if len(found) > _FEW:
            return None
    return found if new == len(now) else None


def _inserted(numbers: "array[int]", at: Sequence[int], more: Sequence[int]) -> "array[int]":
    """Numbers with each of `more` put in front of what stands at its place in `at`, which ascend."""
    found = array("I")
    start = 0
    for place, number in zip(at, more, strict=True):
        found.extend(numbers[start:place])
        found.append(number)
        start = place
    found.extend(numbers[start:])
    return found


class _Values:
    """What is compared of any email of a mailbox."""

    def __init__(self, keys: Sequence[tuple[Key, Column]], received: Column | None) -> None:
        self._keys = keys
        self._received = received

    @classmethod
    async def read(cls, sight: Sight, keys: Sequence[Key]) -> "_Values":
        """Of all columns that the keys need."""
        found = [(key, await sight.column(sorting.KINDS[key.by])) for key in keys]
        dates = any(key.by is By.SENT for key in keys)
        return cls(found, await sight.column(columns.RECEIVED) if dates else None)

    def _of(self, key: Key, column: Column, uid: int) -> Any:
        value = column.one(uid)
        if value == columns.UNDATED and key.by is By.SENT and self._received is not None:
            # RFC 5256 §2.2
            return self._received.one(uid)
        return value

    def place(self, order: Sequence[int], uid: int) -> int | None:
        """Where a uid that is higher than all of these belongs among them: behind what is alike. None where one of them
        is not in a column: that was read after it had gone."""
        mine = [self._of(key, column, uid) for key, column in self._keys]
        low, high = 0, len(order)
        while low < high:
            middle = (low + high) // 2
            before = self._before(mine, order[middle])
            if before is None:
                return None
            if before:
                high = middle
            else:
                low = middle + 1
        return low

    def _before(self, mine: Sequence[Any], other: int) -> bool | None:
        for value, (key, column) in zip(mine, self._keys, strict=True):
            their = self._of(key, column, other)
            if value is None or their is None:
                return None
            if value != their:
                return bool(value < their) is not key.reverse
        return False
