"""What changed since a modseq: the one feed that CONDSTORE, QRESYNC, IDLE, JMAP's /changes and push read.

Promises: what `since` gives, applied to what was there at that modseq, comes to what is there now. An email "is there"
as JMAP sees it: with a placement that is not \\Deleted; a thread, while one of its emails is. What was made and taken
away in between is not mentioned; what was taken away and came back is updated.
Refuses: to answer below the floor, where changes are forgotten (CannotCalculateChanges): the asker reads everything
anew.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from posthouse.mailbox import ranges
from posthouse.mailbox.model import CannotCalculateChanges, NoSuchAccount
from posthouse.mailbox.ranges import Ranges
from posthouse.store.database import Row, Tx

# Rows of the feed read by one statement.
PAGE: Final = 1000
_BEHIND: Final = 1 << 62


class States(NamedTuple):
    """Where an account stands: the epoch, its modseq, what is forgotten, and the highest modseq of each JMAP type."""

    epoch: int
    modseq: int
    floor: int
    mailboxes: int
    emails: int
    threads: int


class Placed(NamedTuple):
    """A placement as sessions see it; `flags`: keywords, and model.DELETED."""

    uid: int
    email: int
    flags: int
    modseq: int


@dataclass(slots=True)
class Delta:
    """Ids of one kind."""

    created: set[int] = field(default_factory=set)
    updated: set[int] = field(default_factory=set)
    destroyed: set[int] = field(default_factory=set)

    def add(self, created: Iterable[int], updated: Iterable[int], destroyed: Iterable[int]) -> None:
        """Add what happened next."""
        for id in created:
            if id in self.destroyed:
                self.destroyed.remove(id)
                self.updated.add(id)
            else:
                self.created.add(id)
        self.updated.update([id for id in updated if id not in self.created])
        for id in destroyed:
            self.updated.discard(id)
            if id in self.created:
                self.created.remove(id)
            else:
                self.destroyed.add(id)

    def __len__(self) -> int:
        return len(self.created) + len(self.updated) + len(self.destroyed)


@dataclass(slots=True)
class Uids:
    """Uids of one mailbox: made or changed and still there, and gone."""

    changed: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Changes:
    """What happened after one modseq up to `until`; `more`: there is more after it.

    `counted`: mailboxes of `mailboxes.updated` of which nothing but totals changed (RFC 8621 §2.2).
    """

    until: int
    more: bool = False
    mailboxes: Delta = field(default_factory=Delta)
    counted: set[int] = field(default_factory=set)
    emails: Delta = field(default_factory=Delta)
    threads: Delta = field(default_factory=Delta)
    placements: dict[int, Uids] = field(default_factory=dict)


def states(tx: Tx, account: int) -> States:
    """Where the account stands. Raises NoSuchAccount."""
    row = tx.one("account_states", account=account)
    if row is None:
        raise NoSuchAccount(f"account {account} has no mail store")
    return States(*row)


def since(tx: Tx, account: int, modseq: int, limit: int | None = None) -> Changes:
    """What happened in the account after `modseq`. With `limit`, no further than the change that brings the ids to it.

    One change is never cut: where it alone names more than `limit` ids, so does the answer.
    Raises CannotCalculateChanges, NoSuchAccount.
    """
    current = _check(tx, account, modseq)
    found = Changes(modseq)
    # Behind every row of the change that the asker knows.
    last: tuple[int, int] = (modseq, _BEHIND)
    while last[0] < current:
        rows = tx.all("changes_since", account=account, modseq=last[0], mailbox=last[1], limit=PAGE)
        for row in rows:
            full = limit is not None and len(found.emails) + len(found.threads) + len(found.mailboxes) >= limit
            if full and row[0] != found.until:
                found.more = True
                return found
            _add(found, row)
        if len(rows) < PAGE:
            found.until = current
            break
        last = rows[-1][:2]
    return found


class Heard(NamedTuple):
    """What a listener hears of what happened up to `until`: where uids changed and where some went (a mailbox of which
    only its own doing is told is in `mailboxes` alone), which mailboxes were made, renamed, subscribed or removed by
    others, and whether any was at all; whether others changed annotations. `more`: there is more after it."""

    until: int
    more: bool
    mailboxes: set[int]
    changed: set[int]
    gone: set[int]
    named: set[int]
    renamed: bool
    annotated: bool


def heard(tx: Tx, account: int, modseq: int, until: int | None = None, *, own: Ranges = (), limit: int = PAGE) -> Heard:
    """What happened in the account after `modseq` (up to `until`), without the ids: its cost follows the number of
    changes, not of what they changed. `own`: the modseqs of the listener's own doing. At most `limit` rows are read.

    Raises CannotCalculateChanges, NoSuchAccount.
    """
    current = _check(tx, account, modseq)
    until = current if until is None else until
    found = Heard(until, False, set(), set(), set(), set(), False, False)
    rows = tx.all("changes_heard", account=account, modseq=modseq, until=until, limit=limit + 1)
    for at, mailbox, changed, gone, annotated, *named in rows:
        mine = any(low <= at <= high for low, high in own)
        if annotated and not mine:
            found = found._replace(annotated=True)
        if changed or gone:
            found.mailboxes.add(mailbox)
            if changed and not mine:
                found.changed.add(mailbox)
            if gone and not mine:
                found.gone.add(mailbox)
        if any(named):
            found = found._replace(renamed=True)
            if not mine:
                found.named.update([id for text in named for id in ranges.numbers(text)])
    return found._replace(more=len(rows) > limit)


class Annotated(NamedTuple):
    """Entries that others set or removed up to `until`, in the order of their names, by mailbox (0: the account's own).
    `more`: there are more."""

    until: int
    more: bool
    entries: dict[int, list[str]]


def annotated(
    tx: Tx, account: int, modseq: int, until: int | None = None, *, own: Ranges = (), limit: int = PAGE
) -> Annotated:
    """Which annotations changed after `modseq` (up to `until`), but for the listener's `own` doing: at most `limit`
    rows of the feed are read.

    Raises CannotCalculateChanges, NoSuchAccount.
    """
    current = _check(tx, account, modseq)
    until = current if until is None else until
    rows = tx.all("changes_annotated", account=account, modseq=modseq, until=until, limit=limit + 1)
    found: dict[int, set[str]] = {}
    for at, mailbox, entries in rows[:limit]:
        if not any(low <= at <= high for low, high in own):
            found.setdefault(mailbox, set()).update(json.loads(entries))
    return Annotated(until, len(rows) > limit, {mailbox: sorted(entries) for mailbox, entries in found.items()})


def uids_since(
    tx: Tx, account: int, mailbox: int, modseq: int, until: int = _BEHIND
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The uids of one mailbox that were made or changed after `modseq`, `until` that one at the latest (some may be
    gone), and those that went, as ranges.

    Raises CannotCalculateChanges, NoSuchAccount.
    """
    _check(tx, account, modseq)
    rows = tx.all("changes_of_mailbox", account=account, mailbox=mailbox, modseq=modseq, until=until)
    return ranges.union([row[0] for row in rows]), ranges.union([row[1] for row in rows])


def placements(tx: Tx, account: int, mailbox: int, uids: Ranges) -> list[Placed]:
    """Those of these placements that are there, in order of uid."""
    found = tx.all("placements_seen", account=account, mailbox=mailbox, uids=ranges.pack_ranges(uids))
    return [Placed._make(row) for row in found]


def _check(tx: Tx, account: int, modseq: int) -> int:
    """The account's modseq, where the changes after `modseq` are known."""
    current = states(tx, account)
    if not current.floor <= modseq <= current.modseq:
        raise CannotCalculateChanges(f"changes of account {account} after {modseq} are not known")
    return current.modseq


def _add(found: Changes, row: Row) -> None:
    """Add one row of the feed."""
    found.until = row[0]
    if row[1] and (row[2] or row[3]):
        uids = found.placements.setdefault(row[1], Uids())
        uids.changed.update(ranges.numbers(row[2]))
        gone = ranges.numbers(row[3])
        uids.gone.update(gone)
        uids.changed.difference_update(gone)
    for delta, first in ((found.emails, 4), (found.threads, 7)):
        delta.add(*[ranges.numbers(text) for text in row[first : first + 3]])
    created, updated, counted, destroyed = [ranges.numbers(text) for text in row[10:14]]
    found.counted = (found.counted | (set(counted) - found.mailboxes.updated)).difference(updated, created, destroyed)
    found.mailboxes.add(created, [*updated, *counted], destroyed)
    found.counted &= found.mailboxes.updated
