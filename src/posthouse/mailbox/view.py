"""What one session has been told of a mailbox, over the newest snapshot.

Promises: a View holds its own difference to the snapshot: what it has not announced. It answers by the sequence numbers
its client knows, and still knows emails that others have expunged (RFC 9051 §7.5.1 tells when a client may hear of it).
Refuses: to know what an untagged response looks like.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from functools import reduce
from itertools import chain, compress
from operator import or_
from typing import Final, NamedTuple
from weakref import WeakSet

from posthouse.mailbox.changes import Placed
from posthouse.mailbox.pieces import Pieces
from posthouse.mailbox.ranges import Ranges, expand, parts
from posthouse.mailbox.snapshot import Diff, Snapshot, diff

# A view that has more changed uids than this to announce keeps none of them, and looks through the modseqs instead.
_MANY: Final = 64
# Rows of a mailbox that are looked through in one step, where many have changed: less than a millisecond.
_STRIDE: Final = 4096
# Up to one in so many are looked up one by one; for more, all are gone through once.
_FEW: Final = 10


class Entry(NamedTuple):
    """A placement with the sequence number that a session's client knows it by."""

    seq: int
    uid: int
    email: int
    flags: int
    modseq: int


class Entries(NamedTuple):
    """The same of many, in columns: an object for each would take as long as writing what is told of it."""

    seqs: Sequence[int]
    uids: Sequence[int]
    emails: Sequence[int]
    flags: Sequence[int]
    modseqs: Sequence[int]

    @staticmethod
    def of(entries: Sequence[Entry]) -> "Entries":
        """The columns of these."""
        return Entries(*zip(*entries, strict=True)) if entries else _NONE

    def chosen(self, marks: Sequence[bool]) -> "Entries":
        """Those of them that are marked."""
        return self if all(marks) else Entries(*[tuple(compress(column, marks)) for column in self])

    def only(self, some: Collection[int]) -> "Entries":
        """Those of these emails."""
        return self.chosen([email in some for email in self.emails])

    def without(self, gone: Collection[int]) -> "Entries":
        """All but those of these emails."""
        return self.chosen([email not in gone for email in self.emails]) if gone else self

    @staticmethod
    def join(some: "Sequence[Entries]") -> "Entries":
        """One behind the other."""
        if len(some) < 2:
            return some[0] if some else _NONE
        return Entries(*[tuple(chain.from_iterable(columns)) for columns in zip(*some, strict=True)])

    def backwards(self) -> "Entries":
        """The last one first."""
        return Entries(*[column[::-1] for column in self])

    def lots(self, size: int) -> "Iterator[Entries]":
        """So many at a time."""
        for start in range(0, len(self.uids), size):
            yield Entries(*[column[start : start + size] for column in self])


_NONE: Final = Entries((), (), (), (), ())


class View:
    """One session's sight of a mailbox: what its client has been told, over the newest snapshot.

    A client knows placements up to `known` (a bound on uids). `ghosts` are those of them that are gone and not
    announced.
    """

    __slots__ = (
        "__weakref__", "_changed", "_ghost_seqs", "_ghosts", "_heard", "_told", "known", "modseq", "others", "snapshot",
    )  # fmt: skip

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.known = snapshot.uidnext
        self.modseq = snapshot.modseq
        self._told = len(snapshot)
        self._ghosts: Sequence[Placed] = []
        self._ghost_seqs: Sequence[int] = []
        # None: too many, look for modseqs above `_heard`
        self._changed: set[int] | None = set()
        self._heard = snapshot.modseq
        # All that look at this mailbox: they are known as long as there is one.
        self.others: WeakSet[View] | None = None

    def __len__(self) -> int:
        """How many messages the client believes to be there (EXISTS)."""
        return self._told + len(self._ghosts)

    @property
    def ghosts(self) -> Sequence[Placed]:
        """Placements that are gone and of which the client has not heard, in order of uid."""
        return self._ghosts

    def seq(self, uid: int) -> int | None:
        """The sequence number of a uid, where the client knows it."""
        index = self.snapshot.find(uid)
        if index is not None and uid < self.known:
            return index + 1 + bisect_left(self._ghosts, (uid,))
        ghost = self._find_ghost(uid)
        return None if ghost is None else self._ghost_seqs[ghost]

    def _find_ghost(self, uid: int) -> int | None:
        index = bisect_left(self._ghosts, (uid,))
        return index if index < len(self._ghosts) and self._ghosts[index].uid == uid else None

    def uid(self, seq: int) -> int:
        """The uid behind a sequence number. Raises IndexError where there is none."""
        entries = self.by_seq(seq, seq)
        if not entries:
            raise IndexError(f"there is no message {seq}")
        return entries[0].uid

    def uids(self, spans: Ranges) -> tuple[tuple[int, int], ...]:
        """Ranges of sequence numbers, none of them above the last, as ranges of uids."""
        if self._ghosts:
            return tuple([(self.uid(low), self.uid(high)) for low, high in spans])
        column = self.snapshot.uids
        return tuple([(column[low - 1], column[high - 1]) for low, high in spans])

    def by_seq(self, low: int, high: int) -> list[Entry]:
        """The placements of these sequence numbers, both ends included; beyond the last there are none."""
        low, high = max(low, 1), min(high, len(self))
        if low > high:
            return []
        first = bisect_left(self._ghost_seqs, low)
        last = bisect_right(self._ghost_seqs, high)
        # Live placements in front of a sequence number are those before it less the ghosts.
        live = self._entries(low - 1 - first, high - last, low)
        if first == last:
            return live
        return self._with_ghosts(live, first, last, low)

    def by_uid(self, low: int, high: int) -> list[Entry]:
        """The placements of these uids that the client knows, both ends included."""
        high = min(high, self.known - 1)
        if low > high:
            return []
        first = bisect_left(self._ghosts, (low,))
        last = bisect_left(self._ghosts, (high + 1,))
        start = bisect_left(self.snapshot.uids, low)
        stop = bisect_right(self.snapshot.uids, high)
        live = self._entries(start, stop, start + 1 + first)
        if first == last:
            return live
        return self._with_ghosts(live, first, last, start + 1 + first)

    def columns(self, low: int, high: int) -> Entries:
        """The placements of these sequence numbers, both ends included; all of them are there."""
        if self._ghosts:
            return Entries.of(self.by_seq(low, high))
        s, place = self.snapshot, slice(low - 1, high)
        return Entries(range(low, high + 1), s.uids[place], s.emails[place], s.flags[place], s.modseqs[place])

    def everything(self) -> list[Entry]:
        """All placements that the client knows."""
        return self.by_seq(1, len(self))

    def span(self, low: int, high: int) -> tuple[int, int]:
        """The sequence numbers of the placements that the client knows at these uids, both ends included: the first and
        the last; where there are none the last comes before the first."""
        high = min(high, self.known - 1)
        first = bisect_left(self.snapshot.uids, low) + bisect_left(self._ghosts, (low,)) + 1
        return first, bisect_right(self.snapshot.uids, high) + bisect_left(self._ghosts, (high + 1,))

    def spans(self, uids: Ranges) -> list[tuple[int, int]]:
        """The placements that the client knows at these ranges of uids, as ranges of sequence numbers."""
        if self._ghosts:
            spans = [self.span(low, high) for low, high in uids]
            return [(first, last) for first, last in spans if first <= last]
        column, told = self.snapshot.uids, self._told
        found: list[tuple[int, int]] = []
        ahead = 1
        for low, high in uids:
            # Mostly nothing is missing since the last one: it is as far ahead of its place.
            first = low - ahead
            if not (0 <= first < told and column[first] == low):
                first = bisect_left(column, low, 0, told)
            last = bisect_right(column, high, first, told) if low < high else first + 1
            if first < last <= told and column[first] <= high:
                found.append((first + 1, last))
                ahead = column[first] - first
        return found

    def chunks(self, numbers: Ranges, size: int) -> Iterator[list[Entry]]:
        """The placements of these sequence numbers, so many at a time, each lot as it is when it is asked for."""
        for some in parts(numbers, size):
            yield [entry for low, high in some for entry in self.by_seq(low, high)]

    def lots(self, numbers: Ranges, size: int) -> Iterator[Entries]:
        """The same in columns; all of these are there."""
        return map(self._those, parts(numbers, size))

    def _those(self, numbers: Ranges) -> Entries:
        if len(numbers) == 1:
            return self.columns(*numbers[0])
        if self._ghosts:
            return Entries.of([entry for low, high in numbers for entry in self.by_seq(low, high)])
        return self._at([number - 1 for number in expand(numbers)])

    def _at(self, places: Sequence[int]) -> Entries:
        """What stands at these places of the snapshot, where there are no ghosts."""
        s = self.snapshot
        uids, emails = [s.uids[place] for place in places], [s.emails[place] for place in places]
        return Entries([place + 1 for place in places], uids, emails, s.flags.at(places), s.modseqs.at(places))

    def live_uids(self) -> "array[int]":
        """The uids that the client knows and that are still there, in order."""
        return self.snapshot.uids[: self._told]

    def seqs(self, uids: Sequence[int]) -> list[int]:
        """The sequence numbers of these uids, which are in order; what the client does not know is passed over."""
        if len(uids) * _FEW < len(self):
            return [seq for uid in uids if (seq := self.seq(uid)) is not None]
        known = self.live_uids().tolist()
        if self._ghosts:
            known = sorted([*known, *[place.uid for place in self._ghosts]])
        places = dict(zip(known, range(1, len(known) + 1), strict=True))
        return [places[uid] for uid in uids if uid in places]

    def changed_after(self, modseq: int, low: int, high: int) -> Entries:
        """Those of the placements of these sequence numbers that changed after `modseq`."""
        low, high = max(low, 1), min(high, len(self))
        if self._ghosts:
            return Entries.of([entry for entry in self.by_seq(low, high) if entry.modseq > modseq])
        late = [changed > modseq for changed in self.snapshot.modseqs[low - 1 : high]]
        places = list(compress(range(low - 1, high), late))
        return self._at(places) if len(places) < len(late) else self.columns(low, high)

    def absent(self, uids: Ranges) -> list[tuple[int, int]]:
        """Of these ranges of uids, which are in order, those where no message is: neither in the mailbox, nor one that
        the client has not heard to be gone."""
        found: list[tuple[int, int]] = []
        column, ghosts = self.snapshot.uids, self._ghosts
        for low, high in uids:
            there = column[bisect_left(column, low) : bisect_right(column, high)].tolist()
            between = ghosts[bisect_left(ghosts, (low,)) : bisect_left(ghosts, (high + 1,))]
            for uid in [*sorted([*there, *[place.uid for place in between]]), high + 1]:
                if low < uid:
                    found.append((low, uid - 1))
                low = uid + 1
        return found

    def _entries(self, start: int, stop: int, seq: int) -> list[Entry]:
        s = self.snapshot
        if stop - start == 1:
            return [Entry(seq, s.uids[start], s.emails[start], s.flags[start], s.modseqs[start])]
        columns = (s.uids[start:stop], s.emails[start:stop], s.flags[start:stop], s.modseqs[start:stop])
        return list(map(Entry._make, zip(range(seq, seq + stop - start), *columns, strict=True)))

    def _with_ghosts(self, live: list[Entry], first: int, last: int, seq: int) -> list[Entry]:
        merged = sorted([*[entry[1:] for entry in live], *self._ghosts[first:last]])
        return [Entry(number, *place) for number, place in enumerate(merged, seq)]

    def rebase(self, snapshot: Snapshot, news: Diff | None = None) -> None:
        """Look at a later snapshot of the same mailbox. `news` is the difference, where the caller has it."""
        if snapshot is self.snapshot:
            return
        if news is None:
            news = diff(self.snapshot, snapshot)
        gone: Sequence[Placed] = news.expunged
        if gone and gone[-1].uid >= self.known:
            gone = [place for place in gone if place.uid < self.known]
        if gone:
            self._ghosts = sorted([*self._ghosts, *gone]) if self._ghosts else gone
        if self._changed is not None and bisect_left(news.changed, self.known) > _MANY:
            self._changed = None
        if self._changed is not None:
            self._changed.update(news.changed[: bisect_left(news.changed, self.known)])
            self._changed.difference_update([place.uid for place in gone])
            if len(self._changed) > _MANY:
                self._changed = None
        self.snapshot = snapshot
        self._count()

    def _count(self) -> None:
        uids = self.snapshot.uids
        self._told = bisect_left(uids, self.known)
        # Those in front of whatever is left, and behind all of it, need not be looked for: often all were taken away.
        first, last = (uids[0], uids[-1]) if uids else (1 << 32, 0)
        if self._ghosts and self._ghosts[-1].uid < first:
            self._ghost_seqs = range(1, len(self._ghosts) + 1)
            return
        self._ghost_seqs = [
            number + (0 if (uid := place[0]) < first else len(uids) if uid > last else bisect_left(uids, uid))
            for number, place in enumerate(self._ghosts, 1)
        ]

    @property
    def stale(self) -> bool:
        """True where there is something to announce."""
        return bool(self._ghosts or self._changed or self._changed is None or len(self.snapshot) > self._told)

    def changed(self) -> Iterator[Entries]:
        """Placements whose flags or modseq changed since they were last announced, by the numbers known now: some at a
        time, where there are many, each lot as all were when the first was asked for; a lot may be empty."""
        if self._changed is not None:
            few = [self.by_uid(uid, uid) for uid in sorted(self._changed)]
            return iter([Entries.of([entry for entries in few for entry in entries])])
        return _late(self.snapshot, self._ghosts, self._heard, self._told)

    def unheard(self, uids: Sequence[int]) -> list[int]:
        """Those of these uids, which are in order, that changed and have not been announced."""
        if self._changed is not None:
            return [uid for uid in uids if uid in self._changed] if self._changed else []
        s, heard = self.snapshot, self._heard
        start, stop = (bisect_left(s.uids, uids[0]), bisect_right(s.uids, uids[-1])) if uids else (0, 0)
        modseqs = s.modseqs[start:stop] if s.modseq > heard else array("q")
        if not modseqs or max(modseqs) <= heard:
            return []
        late = {uid for uid, modseq in zip(s.uids[start:stop], modseqs, strict=True) if modseq > heard}
        return [uid for uid in uids if uid in late]

    def changed_bits(self) -> int:
        """All flags that any of them has, and perhaps others that stand in the mailbox."""
        if self._changed is not None:
            return reduce(or_, [bits for some in self.changed() for bits in some.flags], 0)
        return reduce(or_, set(self.snapshot.flags), 0)

    def having(self, uids: "array[int]", flags: "array[int]") -> Collection[int]:
        """Those of these uids, which are in order, that have the flags beside them now; the column itself, where that
        is all of them."""
        return self._agreeing(self.snapshot.flags, uids, flags)

    def unchanged(self, uids: "array[int]", modseqs: "array[int]") -> Collection[int]:
        """The same of those that have the modseq beside them still."""
        return self._agreeing(self.snapshot.modseqs, uids, modseqs)

    def _agreeing(self, column: Pieces, uids: "array[int]", wanted: "array[int]") -> Collection[int]:
        """The uids of these that have this value in a column."""
        start = bisect_left(self.snapshot.uids, uids[0]) if uids else 0
        stop = start + len(uids)
        if self.snapshot.uids[start:stop] == uids and column[start:stop] == wanted:
            return uids
        values = dict(zip(uids, wanted, strict=True))
        if len(values) * _FEW < len(self.snapshot):
            found = [(uid, self.snapshot.find(uid)) for uid in values]
            return {uid for uid, index in found if index is not None and column[index] == values[uid]}
        return {uid for uid, value in zip(self.snapshot.uids, column, strict=True) if values.get(uid) == value}

    def announce_changed(self) -> Iterator[Entries]:
        """`changed`, which then count as announced. No sequence number moves."""
        found = self.changed()
        self._changed = set()
        self._heard = self.snapshot.modseq
        self._settle_modseq()
        return found

    def silence(self, uids: Collection[int]) -> None:
        """The client knows of what changed at these uids (RFC 9051 §6.4.6 .SILENT): nothing to announce there."""
        if self._changed is not None:
            rest = self._changed.difference(uids)
        else:
            rest = self._late_but(uids)
        self._changed = None if len(rest) > _MANY else rest
        if not rest:
            self._heard = self.snapshot.modseq
        self._settle_modseq()

    def _late_but(self, uids: Collection[int]) -> set[int]:
        """What changed after `_heard` elsewhere than at these uids."""
        heard, late = self._heard, self.live_uids()
        # Mostly a client changes all that is there, or all that has changed: columns are then compared in one go.
        if late == uids:
            return set()
        modseqs = self.snapshot.modseqs[: self._told]
        if modseqs and min(modseqs) <= heard:
            late = array("I", compress(late, [modseq > heard for modseq in modseqs]))
        return set() if late == uids else set(late).difference(uids)

    def announce_expunged(self) -> tuple[Sequence[int], Sequence[int]]:
        """Ghosts: the sequence numbers known before, in order, and the uids; the client hears of them now, the last one
        first.

        EXPUNGE with descending numbers needs no correction between them.
        """
        found = self._ghost_seqs, [place.uid for place in self._ghosts]
        self._ghosts, self._ghost_seqs = [], []
        self._settle_modseq()
        return found

    def announce_added(self) -> list[Entry]:
        """Placements that came since, with their new sequence numbers: EXISTS is `len` afterwards."""
        before = len(self)
        self.known = self.snapshot.uidnext
        found = self._entries(self._told, len(self.snapshot), before + 1)
        self._told = len(self.snapshot)
        self._settle_modseq()
        return found

    def _settle_modseq(self) -> None:
        """Once nothing is left to announce, everything up to the snapshot's modseq is known (HIGHESTMODSEQ)."""
        if not self.stale:
            self.modseq = self.snapshot.modseq


def _late(s: Snapshot, ghosts: Sequence[Placed], heard: int, told: int) -> Iterator[Entries]:
    """Those of the first `told` placements that changed after `heard`, numbered by a client who knows the ghosts too;
    what stands in so many rows at a time, which may be nothing."""
    for start in range(0, told, _STRIDE):
        stop = min(start + _STRIDE, told)
        uids, modseqs = s.uids[start:stop], s.modseqs[start:stop]
        seqs: Sequence[int] = range(start + 1, stop + 1)
        if ghosts:
            seqs = [seq + bisect_left(ghosts, (uid,)) for seq, uid in zip(seqs, uids, strict=True)]
        rows = Entries(seqs, uids, s.emails[start:stop], s.flags[start:stop], modseqs)
        yield rows.chosen([modseq > heard for modseq in modseqs])
