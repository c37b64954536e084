"""Which placements a change is about, found as one set; and what a change does to what JMAP counts.

Promises: a set costs two or three statements, whatever its size and however it is scattered. What JMAP counts of a
mailbox (emails, threads) comes out right however often and wherever an email is placed.
Refuses: to change anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from posthouse.mailbox import ranges
from posthouse.mailbox.model import Change, Totals
from posthouse.mailbox.ranges import Ranges
from posthouse.store.database import Tx, Value
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
    near: int | None = 1
    if homes == count:
        places = {"here": mailbox, "there": mailbox if other is None else other}
        near = tx.value("emails_placed_again", account=account, emails=ranges.pack_ranges(emails), **places)
    parallel = together and not slant
    return Chosen(
        uids, emails, visible, count, octets, unseen, deleted, deleted_octets, homes, near is None, not near, parallel
    )


def visible(tx: Tx, account: int, emails: Ranges) -> list[int]:
    """Those of these emails that have a placement which is not \\Deleted."""
    return [row[0] for row in tx.all("emails_visible", account=account, emails=ranges.pack_ranges(emails))]


def unplaced(tx: Tx, account: int, emails: Ranges) -> list[int]:
    """Those of these emails that are nowhere."""
    return [row[0] for row in tx.all("emails_unplaced", account=account, emails=ranges.pack_ranges(emails))]


def threads_of(tx: Tx, account: int, emails: Ranges) -> list[int]:
    """The threads of these emails."""
    return [row[0] for row in tx.all("emails_threads", account=account, emails=ranges.pack_ranges(emails), read=_READ)]


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
    `places`: mailboxes where emails become read or unread, and nothing else.
    """

    __slots__ = ("_before", "_change", "_emails", "_out_of", "_packed", "_read", "_threads")

    def __init__(
        self,
        change: Change,
        emails: Ranges,
        *,
        into: int | None = None,
        out_of: int | None = None,
        apart: bool = False,
        places: Iterable[int] = (),
    ) -> None:
        self._change = change
        self._emails = emails
        # Thread → how many of these emails are in it and unread.
        self._threads: dict[int, int] = {}
        if emails:
            packed = ranges.pack_ranges(emails)
            self._threads = dict(change.tx.all("emails_threads", account=change.account, emails=packed, read=_READ))
        self._packed = ranges.pack(self._threads)
        self._read = _READ if places else 0
        self._before: dict[int, Totals] = {}
        self._out_of = out_of if apart else None
        if apart and into is not None:
            self._carry(into, 1)
        elif self._threads and not apart:
            weighed = {*places, *[place for place in (into, out_of) if place is not None]}
            self._before = {place: self._weigh(place) for place in weighed}

    def settle(self) -> None:
        """All is written: enter what came of it into the mailboxes' ledgers."""
        for mailbox, before in self._before.items():
            self._change[mailbox].weigh(before, self._weigh(mailbox))
        if self._out_of is not None:
            self._carry(self._out_of, -1)

    def _carry(self, mailbox: int, sign: int) -> None:
        """All of the emails come into a mailbox, or have left it; what of their threads is there without them."""
        if not self._threads:
            return
        unread = [thread for thread, count in self._threads.items() if count]
        # None of these emails is there, which needs no look where their ids run without a gap.
        low, high = self._emails[0] if len(self._emails) == 1 else (0, 0)
        rows = self._change.tx.all("threads_in_mailbox", **self._where(mailbox), low=low, high=high)
        others = {thread: unread for thread, _, unread in rows}
        ledger = self._change[mailbox]
        ledger.emails += sign * ranges.count(self._emails)
        ledger.unread += sign * sum(self._threads.values())
        ledger.more_threads += sign * (len(self._threads) - len(others))
        ledger.more_unread_threads += sign * sum([not others.get(thread) for thread in unread])

    def _weigh(self, mailbox: int) -> Totals:
        row = self._change.tx.one("threads_weighed", **self._where(mailbox), only=self._read)
        assert row is not None, "it counts"
        return Totals(0, row[1], 0, row[3]) if self._read else Totals._make(row)

    def _where(self, mailbox: int) -> dict[str, Value]:
        return {"account": self._change.account, "mailbox": mailbox, "threads": self._packed, "read": _READ}
