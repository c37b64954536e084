"""A mailbox at one modseq, packed: four columns that all sessions of a process share.

Promises: a snapshot never changes, and costs 24 octets a placement. It is made from the one before, or from what is
kept packed in the store (`packed.py`), and the feed of changes; it shares with the one before what has not changed: a
flag of one in a million costs a piece of two columns. Its length is held against the mailbox' total: where that says
something else, or the feed does not reach so far, placements are read.
Refuses: to read an email's row or content (`emails.py`), and to know what a client has been told (`view.py`).
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from posthouse.mailbox import changes, masks, packed, ranges
from posthouse.mailbox.changes import Placed
from posthouse.mailbox.model import NoSuchMailbox
from posthouse.mailbox.pieces import Pieces
from posthouse.mailbox.ranges import Ranges
from posthouse.mailbox.recent import Happened
from posthouse.store.database import Tx

_OCTETS_EACH: Final = 24
# Placements that are read at once. So few that the collector of cyclic garbage does not go through the rows of a large
# mailbox again and again: that cost half of the time.
_PAGE: Final = 500


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
    flags: Pieces
    modseqs: Pieces

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


class Followed(NamedTuple):
    """A newer snapshot; what leads to it from the one before, where the feed tells; how many placements were looked at
    one by one; and what the feed says."""

    snapshot: Snapshot
    news: Diff | None
    looked: int
    happened: Happened | None = None


class _Now(NamedTuple):
    """What the mailbox' row says, and below which modseq changes are forgotten."""

    uidvalidity: int
    uidnext: int
    modseq: int
    messages: int
    floor: int


def load(tx: Tx, account: int, mailbox: int, old: Snapshot | None = None) -> Snapshot:
    """The mailbox as it is now: `old` itself where nothing changed, made from it where the feed allows, or read anew.

    Raises NoSuchMailbox.
    """
    return follow(tx, account, mailbox, old).snapshot


def follow(tx: Tx, account: int, mailbox: int, old: Snapshot | None = None) -> Followed:
    """The same, with what leads there from `old`: comparing the two costs much more."""
    row = tx.one("mailbox_view", account=account, mailbox=mailbox)
    if row is None:
        raise NoSuchMailbox(f"account {account} has no mailbox {mailbox}")
    now = _Now(*row)
    if old is not None and (found := _later(tx, old, now)) is not None:
        return found
    kept = _unpack(tx, account, mailbox)
    if kept is not None and (found := _later(tx, kept, now)) is not None:
        return found._replace(news=None, happened=None)
    new = _read(tx, account, mailbox, now)
    return Followed(new, None, len(new))


def _later(tx: Tx, old: Snapshot, now: _Now) -> Followed | None:
    """The newest snapshot, made from another; None where it cannot be, or where reading all is cheaper."""
    if old.uidvalidity != now.uidvalidity or old.modseq > now.modseq:
        return None
    if old.modseq == now.modseq:
        return Followed(old, Diff([], [], []), 0) if len(old) == now.messages else None
    if old.modseq < now.floor:
        return None
    changed, gone = changes.uids_since(tx, old.account, old.mailbox, old.modseq)
    if 2 * ranges.count(changed) >= len(old) + 100:
        return None
    news = changes.placements(tx, old.account, old.mailbox, changed)
    spans = [(bisect_left(old.uids, low), bisect_right(old.uids, high)) for low, high in gone]
    went = [(start, stop) for start, stop in spans if start < stop]
    new = _advance(old, now, news, went)
    diff = _diff_of(old, news, went)
    if len(new) != now.messages:
        return None
    return Followed(new, diff, len(news) + len(diff.expunged), (changed, gone))


def _unpack(tx: Tx, account: int, mailbox: int) -> Snapshot | None:
    """The mailbox as it was packed last."""
    found = packed.find(tx, account, mailbox)
    columns = None if found is None else packed.columns(tx, account, mailbox, found)
    if found is None or columns is None:
        return None
    return Snapshot(account, mailbox, found.uidvalidity, found.uidnext, found.modseq, *columns)


def _read(tx: Tx, account: int, mailbox: int, now: _Now) -> Snapshot:
    uids, emails, flags, modseqs = columns = (array("I"), array("I"), array("q"), array("q"))
    after = 0
    while rows := tx.all("snapshot_load", account=account, mailbox=mailbox, after=after, limit=_PAGE):
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(values)
        after = uids[-1]
    at = now.uidvalidity, now.uidnext, now.modseq
    return Snapshot(account, mailbox, *at, uids, emails, Pieces([flags]), Pieces([modseqs]))


def _diff_of(old: Snapshot, news: Sequence[Placed], gone: Sequence[tuple[int, int]]) -> Diff:
    """What the feed says happened after `old`, where those that are gone stood in these ranges of indices (from, up
    to). A uid that came and went in between is in neither."""
    columns = (old.uids, old.emails, old.flags, old.modseqs)
    runs = [zip(*[column[start:stop] for column in columns], strict=True) for start, stop in gone]
    expunged = [Placed._make(place) for run in runs for place in run]
    changed = [place.uid for place in news if place.uid < old.uidnext]
    return Diff(expunged, changed, [place.uid for place in news if place.uid >= old.uidnext])


def _advance(old: Snapshot, now: _Now, news: Sequence[Placed], gone: Sequence[tuple[int, int]]) -> Snapshot:
    """The next snapshot: what stood in these ranges of indices is gone, and these placements have changed or come."""
    uids, emails, flags, modseqs = old.uids, old.emails, old.flags, old.modseqs
    if gone:
        runs = _between(gone, len(old))
        uids, emails = _joined(uids, runs), _joined(emails, runs)
        flags, modseqs = flags.without(runs), modseqs.without(runs)
    added = [place for place in news if place.uid >= old.uidnext]
    if added:
        uids, emails = uids[:], emails[:]
    changed = [(bisect_left(uids, place.uid), place) for place in news if place.uid < old.uidnext]
    uids.extend([place.uid for place in added])
    emails.extend([place.email for place in added])
    flags = flags.changed([(index, place.flags) for index, place in changed], [place.flags for place in added])
    modseqs = modseqs.changed([(index, place.modseq) for index, place in changed], [place.modseq for place in added])
    at = old.uidvalidity, now.uidnext, now.modseq
    return Snapshot(old.account, old.mailbox, *at, uids, emails, flags, modseqs)


def flagged(old: Snapshot, modseq: int, uids: Ranges, keep: int, add: int) -> tuple[Snapshot, Diff]:
    """The snapshot after a change of flags, the next after `old` in the mailbox: these placements `keep` some of what
    they had, and get others. And what leads there."""
    flags, modseqs, changed = old.flags, old.modseqs, array("I")
    for low, high in uids:
        start, stop = bisect_left(old.uids, low), bisect_right(old.uids, high)
        flags = flags.put(start, masks.changed(flags[start:stop], keep, add))
        modseqs = modseqs.put(start, array("q", [modseq]) * (stop - start))
        changed += old.uids[start:stop]
    at = old.uidvalidity, old.uidnext, modseq
    new = Snapshot(old.account, old.mailbox, *at, old.uids, old.emails, flags, modseqs)
    return new, Diff([], changed.tolist(), [])


def _between(gone: Sequence[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """The ranges of indices that are left where these, which ascend, are taken out."""
    edges = pairwise([(0, 0), *gone, (length, length)])
    return [(before, after) for (_, before), (after, _) in edges if after > before]


def _joined(column: "array[int]", runs: Sequence[tuple[int, int]]) -> "array[int]":
    found = array(column.typecode)
    for start, stop in runs:
        found += column[start:stop]
    return found


def diff(old: Snapshot, new: Snapshot) -> Diff:
    """What leads from `old` to `new`, a later snapshot of the same mailbox (same uidvalidity)."""
    if old is new:
        return Diff([], [], [])
    first_new = bisect_left(new.uids, old.uidnext)
    added = new.uids[first_new:].tolist()
    kept_uids = new.uids[:first_new]
    if kept_uids == old.uids:
        return Diff([], [old.uids[index] for index in old.modseqs.differing(new.modseqs, first_new)], added)
    kept = set(kept_uids)
    expunged = [
        Placed(*place)
        for place in zip(old.uids, old.emails, old.flags, old.modseqs, strict=True)
        if place[0] not in kept
    ]
    was = dict(zip(old.uids, old.modseqs, strict=True))
    return Diff(expunged, [uid for uid, now in zip(kept_uids, new.modseqs, strict=False) if was[uid] != now], added)
