"""What has happened in a mailbox while this process followed it: the feed of changes, without a look at the store.

Promises: what is told since a modseq is what the feed tells (`changes.uids_since`), or nothing. It is bounded: what
happened first is forgotten first.
Refuses: to answer since a modseq at which this process has not seen the mailbox.
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import Final

from posthouse.mailbox import ranges
from posthouse.mailbox.ranges import Ranges

# Ranges of uids and changes that are kept of one mailbox.
_MOST: Final = 1000
_OCTETS_EACH: Final = 24

# Ranges of uids: made or changed (some may be gone), and gone.
Happened = tuple[Ranges, Ranges]


class Recent:
    """What happened in one mailbox after a modseq. `octets`: what it takes of memory, about."""

    __slots__ = ("_changed", "_gone", "_seen")

    def __init__(self, modseq: int) -> None:
        # The modseqs at which the mailbox was seen, in order.
        self._seen = array("q", [modseq])
        self._changed = _Rows()
        self._gone = _Rows()

    @property
    def octets(self) -> int:
        return 500 + len(self) * _OCTETS_EACH

    def __len__(self) -> int:
        return len(self._seen) + len(self._changed.at) + len(self._gone.at)

    def add(self, modseq: int, happened: Happened) -> None:
        """All that happened after the last one that was seen, up to this modseq."""
        changed, gone = happened
        self._seen.append(modseq)
        if len(changed) + len(gone) > _MOST:
            self._forget(modseq)
            return
        self._changed.add(modseq, changed)
        self._gone.add(modseq, gone)
        while len(self) > _MOST and len(self._seen) > 1:
            self._forget(self._seen[len(self._seen) // 2])

    def _forget(self, modseq: int) -> None:
        """All up to this one, which was seen."""
        del self._seen[: bisect_left(self._seen, modseq)]
        self._changed.forget(modseq)
        self._gone.forget(modseq)

    def since(self, modseq: int, until: int) -> Happened | None:
        """What happened after `modseq`, `until` that one at the latest, in order, ranges apart from each other; None
        where it is not known."""
        if not (self._saw(modseq) and self._saw(until)):
            return None
        return self._changed.between(modseq, until), self._gone.between(modseq, until)

    def _saw(self, modseq: int) -> bool:
        place = bisect_left(self._seen, modseq)
        return place < len(self._seen) and self._seen[place] == modseq


class _Rows:
    """Ranges of uids, each with the modseq at which it was seen, in order of these."""

    __slots__ = ("at", "highs", "lows")

    def __init__(self) -> None:
        self.at, self.lows, self.highs = array("q"), array("I"), array("I")

    def add(self, modseq: int, uids: Ranges) -> None:
        for low, high in uids:
            self.at.append(modseq)
            self.lows.append(low)
            self.highs.append(high)

    def forget(self, modseq: int) -> None:
        stop = bisect_right(self.at, modseq)
        for column in (self.at, self.lows, self.highs):
            del column[:stop]

    def between(self, modseq: int, until: int) -> Ranges:
        place = slice(bisect_right(self.at, modseq), bisect_right(self.at, until))
        lows, highs = self.lows[place], self.highs[place]
        return ranges.spans(lows) if lows == highs else ranges.join(zip(lows, highs, strict=True))
