"""Which placements a change is about, found as one set; and what a change does to what JMAP counts.

Promises: a set costs two or three statements, whatever its size and however it is scattered. What JMAP counts of a
mailbox (emails, threads) comes out right however often and wherever an email is placed.
Refuses: to change anything.
"""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from posthouse.mailbox import ranges
from posthouse.mailbox.model import Change, Totals
from posthouse.mailbox.ranges import Ranges
from posthouse.store.database import Row, Tx, Value
from posthouse.terms.keywords import DRAFT, SEEN

# Every uid there can be.
ALL: Final = "[[1,4294967295]]"
_READ: Final = SEEN | DRAFT


class Which(NamedTuple):
    """Those of some placements that are meant: whose email's keywords `keep` and then `add` would change, or that are
    marked \\Deleted (`standing` 1) or are not (0)."""

    keep: int
    add: int
    standing: int


# No email has all bits: this would change every one.
EVERY: Final = Which(0, -1, -1)
MARKED: Final = Which(-1, 0, 1)
UNMARKED: Final = Which(-1, 0, 0)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Placements in one mailbox. `uids`: exactly those that are there; `emails`: theirs, each once; `visible`: those of
    them with one of these placements that is not \\Deleted.

    `octets` and the numbers behind it are of placements. `homes`: how many are their email's home. `alone`: none of the
    emails is placed anywhere else; `apart`: none in this mailbox, nor in another that was named. `parallel`: uids and
    emails both run without a gap, in the same order.
    """

    uids: Ranges
    emails: Ranges
    visible: Ranges
    count: int
    octets: int
    unseen: int
    deleted: int
    deleted_octets: int
    homes: int
    alone: bool
    apart: bool
    parallel: bool


def choose(
    tx: Tx, account: int, mailbox: int, asked: str, which: Which = EVERY, other: int | None = None
) -> Chosen | None:
    """Those of the placements with these uids (packed ranges) that are there and are meant; None where none is.
    `other`: the other mailbox that the change is about."""
    found = _parallel(tx, account, mailbox, asked, which) or _scattered(tx, account, mailbox, asked, which)
    if found is None or found.homes < found.count:
        return found
    # Each of the emails has its home here: are there other placements?
    near = placed_again(tx, account, found.emails, mailbox, mailbox if other is None else other)
    return replace(found, alone=near is None, apart=not near)


def placed_again(tx: Tx, account: int, emails: Ranges, here: int, there: int) -> int | None:
    """Is one of these emails placed elsewhere than in its home: nowhere None, in one of these two mailboxes 1, else
    0."""
    packed = ranges.pack_ranges(emails)
    near: int | None = tx.value("emails_placed_again", account=account, emails=packed, here=here, there=there)
    return near


def delta(tx: Tx, account: int, mailbox: int, low: int, high: int) -> int | None:
    """How far the emails of two placements are above their uids; None where not both are equally far, or one is not
    there."""
    ends = tx.one("placements_ends", account=account, mailbox=mailbox, low=low, high=high)
    if ends is None or ends[0] is None or ends[1] is None or ends[1] - ends[0] != high - low:
        return None
    return int(ends[0]) - low


def _parallel(tx: Tx, account: int, mailbox: int, asked: str, which: Which) -> Chosen | None:
    """The same where uids and emails run in parallel without a gap and all of these are meant, which is what mail
    that came together looks like; else None."""
    spans = json.loads(asked)
    if len(spans) != 1:
        return None
    ((low, high),) = spans
    above = delta(tx, account, mailbox, low, high)
    if above is None:
        return None
    deleted, count = int(which.standing == 1), high - low + 1
    row = tx.one(
        "placements_parallel",
        account=account, mailbox=mailbox, low=low, high=high, delta=above, deleted=deleted,
        keep=which.keep, add=which.add, standing=which.standing, seen=SEEN,
    )  # fmt: skip
    assert row is not None, "it counts"
    if row[0] != count or row[1] != count:
        return None
    _, _, octets, unseen = row
    emails: Ranges = [(low + above, high + above)]
    seen: Ranges = () if deleted else emails
    marked, marked_octets = deleted * count, deleted * octets
    return Chosen(
        [(low, high)], emails, seen, count, octets, unseen, marked, marked_octets, count, False, False, parallel=True
    )


def _scattered(tx: Tx, account: int, mailbox: int, asked: str, which: Which) -> Chosen | None:
    """The same of any placements."""
    where: dict[str, Value] = {
        "account": account, "mailbox": mailbox, "uids": asked,
        "keep": which.keep, "add": which.add, "standing": which.standing,
    }  # fmt: skip
    row = tx.one("placements_chosen", **where, seen=SEEN)
    assert row is not None, "it counts"
    count, first, last, least, most, slant, homes, octets, unseen, deleted, deleted_octets = row
    if not count:
        return None
    uids: Ranges = [(first, last)]
    emails: Ranges = [(least, most)]
    visible: Ranges = () if deleted else emails
    # Each email has one home: where all of these are homes there are as many emails.
    together = homes == count and most - least == count - 1
    if not together or last - first != count - 1 or 0 < deleted < count:
        listed = tx.all("placements_listed", **where)
        uids = ranges.spans([row[0] for row in listed])
        emails = ranges.spans([row[1] for row in listed])
        visible = ranges.spans([row[1] for row in listed if not row[2]]) if deleted else emails
    parallel = together and not slant
    return Chosen(uids, emails, visible, count, octets, unseen, deleted, deleted_octets, homes, False, False, parallel)


def visible(tx: Tx, account: int, emails: Ranges) -> list[int]:
    """Those of these emails that have a placement which is not \\Deleted."""
    return [row[0] for row in tx.all("emails_visible", account=account, emails=ranges.pack_ranges(emails))]


def unplaced(tx: Tx, account: int, emails: Ranges) -> list[int]:
    """Those of these emails that are nowhere."""
    return [row[0] for row in tx.all("emails_unplaced", account=account, emails=ranges.pack_ranges(emails))]


def threads_of(tx: Tx, account: int, emails: Ranges) -> list[int]:
    """The threads of these emails."""
    return list(_threads(tx, account, emails))


def _threads(tx: Tx, account: int, emails: Ranges) -> dict[int, int]:
    """The threads of these emails, and how many of the emails are unread in each."""
    row = tx.one("emails_threads", account=account, emails=ranges.pack_ranges(emails), read=_READ)
    assert row is not None, "it gathers"
    every, unread = map(json.loads, row)
    return {**dict.fromkeys(every, 0), **Counter(unread)}


def over(tx: Tx, statement: str, spans: Ranges, **values: int) -> None:
    """Carry a statement out over each of these ranges: writing a range costs a fifth of writing a set."""
    if len(spans) == 1:
        ((low, high),) = spans
        tx.run(statement, **values, low=low, high=high)
    else:
        tx.many(statement, [{**values, "low": low, "high": high} for low, high in spans])


class Weighing:
    """What a change of these emails does to JMAP's totals of mailboxes. Made before anything is written, settled after
    all of it.

    Where `apart`, each of them comes into the mailbox `into` and leaves `out_of`: then only what else their threads
    have there has to be found, in `into` before and in `out_of` after. Else both are weighed before and after.
    `places`: mailboxes where emails become read or unread, and nothing else. `still`: it is one mailbox, where each of
    them is seen once and nowhere else; where their ids run without a gap they then leave it and come again.
    """

    __slots__ = (
        "_again", "_before", "_change", "_emails", "_others", "_out_of", "_packed", "_read", "_threads",
    )  # fmt: skip

    def __init__(
        self,
        change: Change,
        emails: Ranges,
        *,
        into: int | None = None,
        out_of: int | None = None,
        apart: bool = False,
        places: Collection[int] = (),
        still: bool = False,
    ) -> None:
        self._change = change
        self._emails = emails
        # Thread → how many of these emails are in it and unread.
        self._threads: dict[int, int] = {}
        if emails:
            self._threads = _threads(change.tx, change.account, emails)
        self._packed = ranges.pack(self._threads)
        self._read = _READ if places else 0
        self._before: dict[int, Totals] = {}
        self._out_of = out_of if apart else None
        self._again: int | None = None
        # What else these threads have there, where that stays as it is.
        self._others: list[Row] = []
        if apart and into is not None:
            self._carry(into, 1, self._find_others(into))
        elif still and self._threads and len(emails) == 1:
            (self._again,) = places
            self._others = self._find_others(self._again)
            self._carry(self._again, -1, self._others)
        elif self._threads and not apart:
            weighed = {*places, *[place for place in (into, out_of) if place is not None]}
            self._before = {place: self._weigh(place) for place in weighed}

    def settle(self) -> None:
        """All is written: enter what came of it into the mailboxes' ledgers."""
        for mailbox, before in self._before.items():
            self._change[mailbox].weigh(before, self._weigh(mailbox))
        if self._out_of is not None:
            self._carry(self._out_of, -1, self._find_others(self._out_of))
        if self._again is not None:
            self._threads = _threads(self._change.tx, self._change.account, self._emails)
            self._carry(self._again, 1, self._others)

    def _find_others(self, mailbox: int) -> list[Row]:
        """What of the emails' threads is in a mailbox without them: threads, their emails and unread ones."""
        if not self._threads:
            return []
        # None of these emails is there, which needs no look where their ids run without a gap.
        low, high = self._emails[0] if len(self._emails) == 1 else (0, 0)
        return self._change.tx.all("threads_in_mailbox", **self._where(mailbox), low=low, high=high)

    def _carry(self, mailbox: int, sign: int, rows: Sequence[Row]) -> None:
        """All of the emails come into a mailbox, or have left it, where these others are."""
        if not self._threads:
            return
        unread = len(self._threads) - list(self._threads.values()).count(0)
        already = sum([1 for thread, _, others in rows if others and self._threads[thread]])
        ledger = self._change[mailbox]
        ledger.emails += sign * ranges.count(self._emails)
        ledger.unread += sign * sum(self._threads.values())
        ledger.more_threads += sign * (len(self._threads) - len(rows))
        ledger.more_unread_threads += sign * (unread - already)

    def _weigh(self, mailbox: int) -> Totals:
        row = self._change.tx.one("threads_weighed", **self._where(mailbox), only=self._read)
        assert row is not None, "it counts"
        return Totals(0, row[1], 0, row[3]) if self._read else Totals._make(row)

    def _where(self, mailbox: int) -> dict[str, Value]:
        return {"account": self._change.account, "mailbox": mailbox, "threads": self._packed, "read": _READ}
