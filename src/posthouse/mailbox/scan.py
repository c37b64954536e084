"""What can be said of a search without reading rows: by a mailbox' snapshot and its columns, and by the words that the
account has, where the caller has looked them up.

Promises: of each email it says yes, no, or leaves it open, and yes and no are exact. Nothing holds the loop for longer
than a window of emails takes: some milliseconds.
Refuses: to read texts and octets; `query` does for what is left open.

How: a leaf is a mask, an octet for each email of a window, and masks are joined as whole numbers: 20,000 emails cost a
few microseconds a join. Others have their turn after each leaf, of which a client may ask hundreds; what is in memory
for it are the masks of one window.
"""

import asyncio
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from typing import Final

from posthouse.mailbox import columns
from posthouse.mailbox.columns import Column, Columns, Kind, Numbers, Texts
from posthouse.mailbox.conditions import (
    ZONE,
    And,
    Body,
    Condition,
    Deleted,
    Fields,
    Head,
    Header,
    Keywords,
    Leaf,
    Modseq,
    Not,
    OfEmail,
    OfThread,
    Or,
    Received,
    Saved,
    Sent,
    Size,
    Uids,
    leaves,
)
from posthouse.mailbox.model import DELETED
from posthouse.mailbox.search import Suspects
from posthouse.mailbox.snapshot import Snapshot

# Emails that are judged at once.
WINDOW: Final = 16_384


@dataclass(frozen=True, slots=True)
class Sight:
    """A mailbox as it is seen: its snapshot, and where its columns are."""

    snapshot: Snapshot
    columns: Columns

    async def column(self, kind: Kind) -> Column:
        """A column of all that the snapshot has. Raises StoreUnavailable."""
        s = self.snapshot
        return await self.columns.get(s.account, s.mailbox, s.uidvalidity, kind, s.uids[-1] if s.uids else 0)


# Where a condition holds for certain, and where it may: masks.
_Bounds = tuple[int, int]

# What the account's words say of a leaf.
Words = Mapping[Leaf, Suspects]
Worded = Head | Body | Fields | Header


async def scan(
    sight: Sight, condition: Condition, uids: Sequence[int], words: Words | None = None
) -> tuple[bytes, bytes]:
    """Of these uids (in order; what the snapshot does not have is passed over) those for which a prepared condition
    holds, and those for which that is open: an octet for each uid, 1 where it is so. Raises StoreUnavailable."""
    s = sight.snapshot
    if uids and bisect_right(s.uids, uids[-1]) - bisect_left(s.uids, uids[0]) != len(uids):
        there = bytes([s.find(uid) is not None for uid in uids])
        if 0 in there:
            both = await scan(sight, condition, list(compress(uids, there)), words)
            return spread(both[0], there), spread(both[1], there)
    known = _Known(sight, words or {})
    asked = list(leaves(condition))
    if sight.columns.fits(len(s)):
        for leaf in asked:
            await known.learn(leaf)
    held: list[bytes] = []
    left: list[bytes] = []
    for start in range(0, len(uids), WINDOW):
        window = _Window(known, uids[start : start + WINDOW])
        for leaf in asked:
            window.look(leaf)
            await asyncio.sleep(0)
        lower, upper = window.bounds(condition)
        held.append(window.octets(lower))
        left.append(window.octets(upper & ~lower))
    return b"".join(held), b"".join(left)


def spread(marks: bytes, places: bytes) -> bytes:
    """The marks of what stands at the marked places; nothing is marked at others."""
    if len(marks) == len(places):
        return marks
    each = iter(marks)
    return bytes([place and next(each) for place in places])


class _Known:
    """What the leaves of one search have to look at, read beforehand."""

    def __init__(self, sight: Sight, words: Words) -> None:
        self.snapshot = sight.snapshot
        self.words = words
        self.numbers: dict[type[Leaf], Numbers] = {}
        self.texts: dict[bytes, Texts] = {}
        self._sight = sight

    async def learn(self, leaf: Leaf) -> None:
        """Read what this leaf needs."""
        kind = _NUMBERS.get(type(leaf))
        if kind is not None and type(leaf) not in self.numbers:
            column = await self._sight.column(kind)
            assert isinstance(column, Numbers)
            self.numbers[type(leaf)] = column
        elif isinstance(leaf, Head) and leaf.field not in self.texts:
            text = await self._sight.column(columns.HEADS[leaf.field])
            assert isinstance(text, Texts)
            self.texts[leaf.field] = text


_NUMBERS: Final[dict[type, Kind]] = {
    Received: columns.RECEIVED,
    Sent: columns.SENT,
    Saved: columns.SAVED,
    Size: columns.SIZE,
    OfThread: columns.THREAD,
}


class _Window:
    """Some emails, and what is said of them."""

    def __init__(self, known: _Known, uids: Sequence[int]) -> None:
        self._known = known
        self._uids = uids
        s = known.snapshot
        self._first = bisect_left(s.uids, uids[0])
        last = bisect_right(s.uids, uids[-1])
        # Where all of them stand in the snapshot in a row; else each is looked for.
        self._row = slice(self._first, last) if last - self._first == len(uids) else None
        self._all = int.from_bytes(b"\1" * len(uids), "little")
        self._values: dict[type[Leaf], list[int | None]] = {}
        # By the leaf's id: comparing two that name thousands of uids takes long.
        self._bounds: dict[int, _Bounds] = {}

    def look(self, leaf: Leaf) -> None:
        """Judge them by one leaf: a few milliseconds."""
        self._bounds[id(leaf)] = self._of_leaf(leaf)

    def octets(self, mask: int) -> bytes:
        """The mask, an octet for each of its uids."""
        return (mask & self._all).to_bytes(len(self._uids), "little")

    def bounds(self, condition: Condition) -> _Bounds:
        """Where the condition holds, and where it may, by its leaves that have been looked at."""
        match condition:
            case Not(part):
                lower, upper = self.bounds(part)
                return self._all ^ upper, self._all ^ lower
            case And(parts):
                lower = upper = self._all
                for part in parts:
                    low, high = self.bounds(part)
                    lower, upper = lower & low, upper & high
                return lower, upper
            case Or(parts):
                lower = upper = 0
                for part in parts:
                    low, high = self.bounds(part)
                    lower, upper = lower | low, upper | high
                return lower, upper
            case _:
                return self._bounds[id(condition)]

    def _of_leaf(self, leaf: Leaf) -> _Bounds:
        match leaf:
            case Uids(uid_ranges):
                return self._exact(self._within(uid_ranges))
            case Keywords(bits):
                return self._having(bits)
            case Deleted():
                return self._having(DELETED)
            case Modseq(least):
                return self._exact(bytes([modseq >= least for modseq in self._column("modseqs")]))
            case OfEmail(email):
                return self._exact(bytes([one == email for one in self._column("emails")]))
            case OfThread(thread):
                return self._between(leaf, thread, thread + 1)
            case Received(since, before) | Saved(since, before):
                return self._between(leaf, since, before)
            case Size(above, below):
                return self._between(leaf, None if above is None else above + 1, below)
            case Sent():
                # By the clock of whoever sent it, of which the zone is not kept.
                lower, _ = self._between(leaf, *leaf.within(-ZONE))
                _, upper = self._between(leaf, *leaf.within(ZONE))
                return lower, upper
            case Head(name, text) if name in self._known.texts:
                column = self._known.texts[name]
                lower = self._mask({uid for some in column.containing(text, *self._ends) for uid in some})
                return lower, lower | (self._mask(column.unsure) if column.unsure else 0)
            case Head() | Body() | Fields() | Header() if leaf in self._known.words:
                return self._by_words(self._known.words[leaf])
            case _:
                return 0, self._all

    def _having(self, bits: int) -> _Bounds:
        """Those that have all these flags: the octets of the column that these stand in, each looked up in a table."""
        found = self._all
        octets = array("q", self._column("flags")).tobytes()
        for place in range(8):
            asked = bits >> 8 * place & 0xFF
            if asked:
                column = octets[place if sys.byteorder == "little" else 7 - place :: 8]
                found &= int.from_bytes(column.translate(_table(asked)), "little")
        return found, found

    def _by_words(self, suspects: Suspects) -> _Bounds:
        may, certain, mark = suspects.emails, suspects.certain, suspects.mark
        if may is None:
            return 0, self._all
        emails = self._column("emails")
        lower = int.from_bytes(bytes(map(certain.__contains__, emails)), "little") if certain else 0
        upper = int.from_bytes(bytes([email > mark or email in may for email in emails]), "little")
        return lower, lower | upper

    def _exact(self, mask: bytes) -> _Bounds:
        found = int.from_bytes(mask, "little")
        return found, found

    def _mask(self, marked: set[int]) -> int:
        return int.from_bytes(bytes(map(marked.__contains__, self._uids)), "little")

    def _column(self, name: str) -> "Sequence[int] | array[int]":
        """Of the snapshot, for the uids of this window."""
        s = self._known.snapshot
        column: array[int] = getattr(s, name)
        if self._row is not None:
            return column[self._row]
        return [column[bisect_left(s.uids, uid)] for uid in self._uids]

    def _within(self, uid_ranges: Sequence[tuple[int, int]]) -> bytes:
        mask = bytearray(len(self._uids))
        first, last = self._ends
        near = max(bisect_right(uid_ranges, first, key=_low) - 1, 0)
        for low, high in uid_ranges[near : bisect_right(uid_ranges, last, key=_low)]:
            start, stop = bisect_left(self._uids, low), bisect_right(self._uids, high)
            mask[start:stop] = b"\1" * (stop - start)
        return bytes(mask)

    @property
    def _ends(self) -> tuple[int, int]:
        return self._uids[0], self._uids[-1]

    def _between(self, leaf: Leaf, least: int | None, below: int | None) -> _Bounds:
        """What is not known of an email leaves it open."""
        if type(leaf) not in self._known.numbers:
            return 0, self._all
        if type(leaf) not in self._values:
            self._values[type(leaf)] = self._known.numbers[type(leaf)].of(self._uids)
        values = self._values[type(leaf)]
        low = columns.UNDATED + 1 if least is None else least
        high = 1 << 63 if below is None else below
        if None in values:
            lower = bytes([value is not None and low <= value < high for value in values])
            upper = bytes([value is None or low <= value < high for value in values])
            return int.from_bytes(lower, "little"), int.from_bytes(upper, "little")
        return self._exact(bytes([low <= value < high for value in values if value is not None]))


@lru_cache(maxsize=256)
def _table(bits: int) -> bytes:
    """For each octet, 1 where it has all these bits."""
    return bytes([octet & bits == bits for octet in range(256)])


def _low(uid_range: tuple[int, int]) -> int:
    return uid_range[0]
