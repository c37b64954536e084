"""Ages: whose time is up, who waits for long, who should have arrived, and whose time cannot be true. Functions over a
transaction.

Promises: what has come to its time is found by a walk along all that waits, a stretch in a transaction, so that no
recipient pays for indexes that are seldom asked. What has less than two hours is found without one. What waited while
nobody ran is tried first, before it is given up or told of.
Refuses: to end or to tell anything, and to say when to walk (deadlines.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from posthouse.queue import lanes
from posthouse.store.database import Topic, Tx

# Rows of a stretch: half a millisecond, or some, where their pages are not at hand.
_STRETCH: Final = 2000
# Recipients that are given up before it is looked for more.
_MOST_EXPIRED: Final = 400
# Recipients who wait for long, as many as are looked at together.
_MOST_DELAYED: Final = 200


@dataclass(frozen=True, slots=True)
class Stretch:
    """The recipients with ids behind `after`, up to `upto`; `last`: there are none behind it.

    `expired`: some whose time is up. `delayed`: some who wait for long, whose senders want to hear it. `next_at`: when
    the first of the others comes to one of these times; None: never. `astray`: some are due later than any schedule
    says, by a clock that was set back since.
    """

    after: int
    upto: int
    last: bool
    expired: bool
    delayed: bool
    next_at: int | None
    astray: bool = False


def walk(tx: Tx, now: int, notice: int, longest: int, after: int = 0, most: int = _STRETCH) -> Stretch:
    """The next stretch, of `most` recipients. To wait for long is to wait for `notice` milliseconds; nobody waits for
    more than `longest` between two attempts."""
    row = tx.one("queue_walk", after=after, limit=most, now=now, since=now - notice, latest=now + longest)
    assert row is not None, "a count has a row"
    upto, count, expired, delayed, next_expiry, next_since, astray = row
    next_delay = None if next_since is None else next_since + notice
    next_at = lanes.first(next_expiry, next_delay)
    return Stretch(after, upto or after, count < most, bool(expired), bool(delayed), next_at, bool(astray))


def call_back(tx: Tx, found: Stretch, now: int, longest: int) -> None:
    """Who is astray in this stretch is due now; his lane by `call_back_lanes`."""
    tx.run("queue_call_back", after=found.after, upto=found.upto, now=now, latest=now + longest)


def call_back_lanes(tx: Tx, now: int, longest: int) -> None:
    """Lanes and sites that wait for longer than any schedule says, and not for who is to leave later, are due now."""
    tx.run("sites_call_back", now=now, latest=now + longest)
    if tx.run("lanes_call_back", now=now, latest=now + longest):
        tx.ring(Topic.QUEUE)


def expired(tx: Tx, found: Stretch, now: int, after: int) -> tuple[dict[int, list[int]], int | None]:
    """Some of the stretch whose time is up, behind `after`, by lane; and behind whom the others stand (None: that was
    all). What was due while nobody ran is tried first, and not here; nor is what is held."""
    rows = tx.all("queue_expired", after=after, upto=found.upto, now=now, limit=_MOST_EXPIRED)
    by_lane: dict[int, list[int]] = {}
    for id, lane, rests in rows:
        if rests:
            by_lane.setdefault(lane, []).append(id)
    return by_lane, rows[-1][0] if len(rows) == _MOST_EXPIRED else None


@dataclass(frozen=True, slots=True)
class Delayed:
    """Messages with recipients who wait for long, whose senders want to hear of it. `left`: some are about to be tried.
    `after`: behind whom the others stand; None: that was all."""

    messages: tuple[int, ...]
    left: bool
    after: int | None


def delayed(tx: Tx, found: Stretch, now: int, notice: int, after: int) -> Delayed:
    """Some of the stretch who wait for long, behind `after`."""
    rows = tx.all("queue_delayed", after=after, upto=found.upto, since=now - notice, now=now, limit=_MOST_DELAYED)
    return Delayed(
        tuple(dict.fromkeys(message for _, message, soon in rows if not soon)),
        any(soon for _, _, soon in rows),
        rows[-1][0] if len(rows) == _MOST_DELAYED else None,
    )


def overdue(tx: Tx, now: int, limit: int = 100) -> list[int]:
    """Messages that should have arrived by now, whose senders want to hear of it (RFC 2852 §4.1.4, mode N)."""
    return list(dict.fromkeys(message for (message,) in tx.all("queue_overdue", now=now, limit=limit)))


def overdue_told(tx: Tx, messages: Sequence[int]) -> None:
    """Whoever wanted to hear that these are overdue was told."""
    for message in messages:
        tx.run("queue_overdue_told", message=message)
