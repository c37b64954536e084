"""A mailbox as sessions see it: one packed, immutable snapshot that all of them share, and what each has been told.

Promises: a snapshot costs 24 octets a placement, once a process; a new one is made from the one before and the feed of
changes. A View (one session's) holds the newest snapshot and its own difference to it: what it has not announced. It
answers by the sequence numbers its client knows, and still knows emails that others have expunged (RFC 9051 §7.5.1
tells when a client may hear of it).
Refuses: to read an email's row or content (`emails.py`), and to know what an untagged response looks like.
"""

import asyncio
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Final, NamedTuple
from weakref import WeakSet, WeakValueDictionary

from posthouse.limits import MB
from posthouse.mailbox import changes, ranges
from posthouse.mailbox.changes import Placed
from posthouse.mailbox.model import NoSuchMailbox
from posthouse.mailbox.ranges import Ranges
from posthouse.mailbox.tree import Trees
from posthouse.store.database import Store, Tx

# Octets of snapshots that are kept while no session looks at them.
CACHE: Final = 64 * MB
_OCTETS_EACH: Final = 24
# Placements that are read at once. So few that the collector of cyclic garbage does not go through the rows of a large
# mailbox again and again: that cost half of the time.
_PAGE: Final = 500
# A view that has more changed uids than this to announce keeps none of them, and looks through the modseqs instead.
_MANY: Final = 64
# Up to one in so many are looked up one by one; for more, all are gone through once.
_FEW: Final = 10


class Entry(NamedTuple):
    """A placement with the sequence number that a session's client knows it by."""

    seq: int
    uid: int
    email: int
    flags: int
    modseq: int


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The placements of a mailbox at `modseq`, in order of uid: four columns of equal length."""

    account: int
    mailbox: int
    uidvalidity: int
    uidnext: int
    modseq: int
    uids: "array[int]"
    emails: "array[int]"
    flags: "array[int]"
    modseqs: "array[int]"

    def __len__(self) -> int:
        return len(self.uids)

    def find(self, uid: int) -> int | None:
        """The index of a uid."""
        index = bisect_left(self.uids, uid)
        return index if index < len(self.uids) and self.uids[index] == uid else None

    @property
    def octets(self) -> int:
        """What it takes of memory, about."""
        return 400 + len(self.uids) * _OCTETS_EACH


@dataclass(frozen=True, slots=True)
class Diff:
    """What leads from one snapshot to a later one. `expunged`: placements as they were; `changed`, `added`: uids, in
    order."""

    expunged: list[Placed]
    changed: list[int]
    added: list[int]


def load(tx: Tx, account: int, mailbox: int, old: Snapshot | None = None) -> Snapshot:
    """The mailbox as it is now: `old` itself where nothing changed, made from it where the feed allows, or read anew.

    Raises NoSuchMailbox.
    """
    return follow(tx, account, mailbox, old)[0]


def follow(tx: Tx, account: int, mailbox: int, old: Snapshot | None = None) -> tuple[Snapshot, Diff | None]:
    """The same, with what leads there from `old`, where the feed tells: comparing the two costs much more."""
    row = tx.one("mailbox_view", account=account, mailbox=mailbox)
    if row is None:
        raise NoSuchMailbox(f"account {account} has no mailbox {mailbox}")
    uidvalidity, uidnext, modseq, floor = row
    if old is not None and old.uidvalidity == uidvalidity and modseq >= old.modseq >= floor:
        if old.modseq == modseq:
            return old, Diff([], [], [])
        changed, gone = changes.uids_since(tx, account, mailbox, old.modseq)
        # Reading all is cheaper than reading most.
        if 2 * ranges.count(changed) < len(old) + 100:
            news = changes.placements(tx, account, mailbox, changed)
            went = ranges.expand(gone)
            return _advance(old, uidnext, modseq, news, went), _diff_of(old, news, went)
    columns = (array("I"), array("I"), array("q"), array("q"))
    after = 0
    while rows := tx.all("snapshot_load", account=account, mailbox=mailbox, after=after, limit=_PAGE):
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(values)
        after = columns[0][-1]
    new = Snapshot(account, mailbox, uidvalidity, uidnext, modseq, *columns)
    return new, None


def _diff_of(old: Snapshot, news: Sequence[Placed], gone: Sequence[int]) -> Diff:
    """What the feed says happened after `old`. A uid that came and went in between is in neither."""
    places = [index for uid in gone if (index := old.find(uid)) is not None]
    expunged = [Placed(old.uids[index], old.emails[index], old.flags[index], old.modseqs[index]) for index in places]
    changed = [place.uid for place in news if place.uid < old.uidnext]
    return Diff(expunged, changed, [place.uid for place in news if place.uid >= old.uidnext])


def _advance(old: Snapshot, uidnext: int, modseq: int, news: Sequence[Placed], gone: Sequence[int]) -> Snapshot:
    """The next snapshot: copies of the columns, mended where the feed says so. Those that stay the same are shared."""
    if gone:
        uids, emails, flags, modseqs = _without(old, gone)
    else:
        uids, emails, flags, modseqs = old.uids, old.emails, old.flags[:], old.modseqs[:]
        if any(place.uid >= old.uidnext for place in news):
            uids, emails = uids[:], emails[:]
    for uid, email, flag, changed in news:
        if uid >= old.uidnext:
            uids.append(uid)
            emails.append(email)
            flags.append(flag)
            modseqs.append(changed)
        else:
            index = bisect_left(uids, uid)
            flags[index] = flag
            modseqs[index] = changed
    return Snapshot(old.account, old.mailbox, old.uidvalidity, uidnext, modseq, uids, emails, flags, modseqs)


def _without(old: Snapshot, gone: Sequence[int]) -> tuple["array[int]", "array[int]", "array[int]", "array[int]"]:
    """The columns of a snapshot without these uids (those it never had do no harm), put together from the runs
    between."""
    columns = (array("I"), array("I"), array("q"), array("q"))
    start = 0
    for uid in [*gone, None]:
        stop = len(old) if uid is None else bisect_left(old.uids, uid, start)
        for new, column in zip(columns, (old.uids, old.emails, old.flags, old.modseqs), strict=True):
            if stop > start:
                new.extend(column[start:stop])
        start = stop + 1 if stop < len(old) and old.uids[stop] == uid else stop
    return columns


def diff(old: Snapshot, new: Snapshot) -> Diff:
    """What leads from `old` to `new`, a later snapshot of the same mailbox (same uidvalidity)."""
    if old is new:
        return Diff([], [], [])
    first_new = bisect_left(new.uids, old.uidnext)
    added = new.uids[first_new:].tolist()
    kept_uids = new.uids[:first_new]
    if kept_uids == old.uids:
        pairs = zip(old.uids, old.modseqs, new.modseqs, strict=False)
        changed = [] if old.modseqs == new.modseqs[:first_new] else [uid for uid, was, now in pairs if was != now]
        return Diff([], changed, added)
    kept = set(kept_uids)
    expunged = [
        Placed(*place)
        for place in zip(old.uids, old.emails, old.flags, old.modseqs, strict=True)
        if place[0] not in kept
    ]
    was = dict(zip(old.uids, old.modseqs, strict=True))
    return Diff(expunged, [uid for uid, now in zip(kept_uids, new.modseqs, strict=False) if was[uid] != now], added)


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
        self._ghosts: list[Placed] = []
        self._ghost_seqs: list[int] = []
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

    def everything(self) -> list[Entry]:
        """All placements that the client knows."""
        return self.by_seq(1, len(self))

    def span(self, low: int, high: int) -> tuple[int, int]:
        """The sequence numbers of the placements that the client knows at these uids, both ends included: the first and
        the last; where there are none the last comes before the first."""
        high = min(high, self.known - 1)
        first = bisect_left(self.snapshot.uids, low) + bisect_left(self._ghosts, (low,)) + 1
        return first, bisect_right(self.snapshot.uids, high) + bisect_left(self._ghosts, (high + 1,))

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

    def changed_after(self, modseq: int, low: int, high: int) -> list[Entry]:
        """Those of the placements of these sequence numbers that changed after `modseq`."""
        low, high = max(low, 1), min(high, len(self))
        if self._ghosts:
            return [entry for entry in self.by_seq(low, high) if entry.modseq > modseq]
        s = self.snapshot
        found = [index for index, changed in enumerate(s.modseqs[low - 1 : high], low - 1) if changed > modseq]
        return [Entry(index + 1, s.uids[index], s.emails[index], s.flags[index], s.modseqs[index]) for index in found]

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
        gone = [place for place in news.expunged if place.uid < self.known]
        if gone:
            self._ghosts = sorted([*self._ghosts, *gone])
        if self._changed is not None:
            self._changed.update([uid for uid in news.changed if uid < self.known])
            self._changed.difference_update([place.uid for place in gone])
            if len(self._changed) > _MANY:
                self._changed = None
        self.snapshot = snapshot
        self._count()

    def _count(self) -> None:
        uids = self.snapshot.uids
        self._told = bisect_left(uids, self.known)
        self._ghost_seqs = [bisect_left(uids, place.uid) + number for number, place in enumerate(self._ghosts, 1)]

    @property
    def stale(self) -> bool:
        """True where there is something to announce."""
        return bool(self._ghosts or self._changed or self._changed is None or len(self.snapshot) > self._told)

    def changed(self) -> list[Entry]:
        """Placements whose flags or modseq changed since they were last announced, by the numbers known now."""
        if self._changed is not None:
            found = [self.by_uid(uid, uid) for uid in sorted(self._changed)]
            return [entry for entries in found for entry in entries]
        s = self.snapshot
        return [
            Entry(self._seq_at(index), s.uids[index], s.emails[index], s.flags[index], s.modseqs[index])
            for index in self._changed_places()
        ]

    def changed_bits(self) -> int:
        """All flags that any of them has."""
        if self._changed is not None:
            return reduce(or_, [entry.flags for entry in self.changed()], 0)
        flags, heard = self.snapshot.flags, self._heard
        return reduce(
            or_, [bits for bits, modseq in zip(flags, self.snapshot.modseqs, strict=True) if modseq > heard], 0
        )

    def _changed_places(self) -> list[int]:
        """Where in the snapshot what changed stands, when there is too much of it to be kept."""
        heard = self._heard
        return [index for index, modseq in enumerate(self.snapshot.modseqs[: self._told]) if modseq > heard]

    def having(self, flags: Mapping[int, int]) -> set[int]:
        """Those of these uids that have these flags now."""
        return self._agreeing(self.snapshot.flags, flags)

    def unchanged(self, modseqs: Mapping[int, int]) -> set[int]:
        """Those of these uids that have this modseq still."""
        return self._agreeing(self.snapshot.modseqs, modseqs)

    def _agreeing(self, column: "array[int]", values: Mapping[int, int]) -> set[int]:
        """The uids of these that have this value in a column."""
        if len(values) * _FEW < len(self.snapshot):
            found = [(uid, self.snapshot.find(uid)) for uid in values]
            return {uid for uid, index in found if index is not None and column[index] == values[uid]}
        return {uid for uid, value in zip(self.snapshot.uids, column, strict=True) if values.get(uid) == value}

    def _seq_at(self, index: int) -> int:
        """The sequence number of what stands there in the snapshot."""
        return index + 1 + (bisect_left(self._ghosts, (self.snapshot.uids[index],)) if self._ghosts else 0)

    def announce_changed(self) -> list[Entry]:
        """`changed`, which then count as announced. No sequence number moves."""
        found = self.changed()
        self._changed = set()
        self._heard = self.snapshot.modseq
        self._settle_modseq()
        return found

    def silence(self, uids: Collection[int]) -> None:
        """The client knows of what changed at these uids (RFC 9051 §6.4.6 .SILENT): nothing to announce there."""
        changed = self._changed
        if changed is None:
            column = self.snapshot.uids
            changed = {column[index] for index in self._changed_places()}
        rest = changed.difference(uids)
        self._changed = None if len(rest) > _MANY else rest
        if not rest:
            self._heard = self.snapshot.modseq
        self._settle_modseq()

    def announce_expunged(self) -> list[Entry]:
        """Ghosts by the sequence numbers known before, in order; the client hears of them now, the last one first.

        EXPUNGE with descending numbers needs no correction between them.
        """
        found = [Entry(seq, *place) for seq, place in zip(self._ghost_seqs, self._ghosts, strict=True)]
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


class Snapshots:
    """The snapshots of this process: each mailbox' newest one, and the views that look at it; `trees`: those of names.

    Views follow when a newer snapshot is made, whatever their session does: no old one is held for a client that
    sleeps.
    """

    def __init__(self, store: Store, budget: int = CACHE) -> None:
        self.trees = Trees(store)
        self._store = store
        self._budget = budget
        self._octets = 0
        self._newest: OrderedDict[tuple[int, int], Snapshot] = OrderedDict()
        self._views: WeakValueDictionary[tuple[int, int], WeakSet[View]] = WeakValueDictionary()
        # Looks under way, each with its number, and the number of the last one.
        self._looking: dict[tuple[int, int], tuple[int, asyncio.Future[Snapshot | None]]] = {}
        self._looks = 0

    def __len__(self) -> int:
        """How many mailboxes anybody looks at."""
        return len(self._views)

    async def current(self, account: int, mailbox: int) -> Snapshot:
        """The mailbox as it is now. Raises NoSuchMailbox, StoreUnavailable.

        A thousand who ask at once, because the bell rang for all of them, are answered by two looks: the one that is
        under way may have begun too early for some, the next one has not.
        """
        key = account, mailbox
        before = self._looks
        while (look := self._looking.get(key)) is not None:
            number, end = look
            await asyncio.wait([end])
            found = end.result()
            if number > before and found is not None:
                return found
        return await self._look(key)

    async def _look(self, key: tuple[int, int]) -> Snapshot:
        self._looks += 1
        end: asyncio.Future[Snapshot | None] = asyncio.get_running_loop().create_future()
        self._looking[key] = self._looks, end
        new: Snapshot | None = None
        try:
            old = self._newest.get(key)
            found, news = await self._store.read(follow, *key, old)
            new = self._keep(found, old, news)
            return new
        finally:
            del self._looking[key]
            end.set_result(new)

    async def open(self, account: int, mailbox: int) -> View:
        """A view for a session; it lives as long as the session holds it. Raises NoSuchMailbox, StoreUnavailable."""
        view = View(await self.current(account, mailbox))
        view.others = self._views.setdefault((account, mailbox), WeakSet())
        view.others.add(view)
        # Another reader may have gone on while this one waited.
        view.rebase(self._newest.get((account, mailbox), view.snapshot))
        return view

    async def refresh(self, view: View) -> None:
        """Bring a view, and all others of its mailbox, up to date. Raises NoSuchMailbox, StoreUnavailable."""
        await self.current(view.snapshot.account, view.snapshot.mailbox)

    def _keep(self, new: Snapshot, base: Snapshot | None, news: Diff | None) -> Snapshot:
        """Make it the newest one, unless a newer is there; `news` lead to it from `base`."""
        key = new.account, new.mailbox
        old = self._newest.get(key)
        if old is not None:
            if old.uidvalidity == new.uidvalidity and old.modseq >= new.modseq:
                self._newest.move_to_end(key)
                return old
            self._octets -= old.octets
        self._newest[key] = new
        self._newest.move_to_end(key)
        self._octets += new.octets
        self._lead(key, base, new, news)
        self._shrink()
        return new

    def _lead(self, key: tuple[int, int], old: Snapshot | None, new: Snapshot, news: Diff | None) -> None:
        """Bring the views of a mailbox to its newest snapshot; most look at the one before."""
        views = self._views.get(key)
        if not views:
            return
        for view in list(views):
            if view.snapshot is not old:
                view.rebase(new)
                continue
            news = news or diff(view.snapshot, new)
            view.rebase(new, news)

    def _shrink(self) -> None:
        """Forget the snapshots that were asked for least recently. Views keep theirs alive."""
        while self._octets > self._budget and len(self._newest) > 1:
            _, oldest = self._newest.popitem(last=False)
            self._octets -= oldest.octets
