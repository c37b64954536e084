"""What a person does with the queue: list, show, hold, release, retry, drop. Functions over a transaction.

Promises: each works on a bounded number of recipients and says where to go on, so that a queue of a million is no
different from one of ten; `each` goes through all of them. What is in flight is left to its courier: it is neither
taken away under it nor sent twice.
Refuses: to bounce, and to send anything itself: it moves due times and rings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from posthouse import journey
from posthouse.observe import Step
from posthouse.queue.queue import forget_messages, read_reply
from posthouse.store.database import Row, Store, Topic, Tx
from posthouse.terms.reply import Reply

_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Selection:
    """Which recipients are meant: those that fit everything that is given.

    `recipient` and `sender` are addresses, compared without case ("" is the null sender); `destination` is a lane's,
    such as "domain:example.org"; `id` is a recipient's in the queue.
    """

    id: int | None = None
    journey: int | None = None
    sender: str | None = None
    recipient: str | None = None
    destination: str | None = None

    @property
    def whole_destination(self) -> bool:
        """The destination itself is meant, with what comes later."""
        return self.destination is not None and self == Selection(destination=self.destination)


@dataclass(frozen=True, slots=True)
class Listed:
    """One recipient as a person sees it. `due_at` is when it is tried next, unless it is `held` or `in_flight` now."""

    id: int
    journey: int
    size: int
    sender: str | None
    queued_at: int
    expires_at: int
    address: str
    original: str
    destination: str
    due_at: int
    attempts: int
    held: bool
    in_flight: bool
    last_reply: Reply | None
    last_remote: str | None
    lane: int
    message: int


@dataclass(frozen=True, slots=True)
class ListedLane:
    """One lane as a person sees it; `recipients` is counted up to a thousand."""

    destination: str
    sender: str
    due_at: int
    failures: int
    held: bool
    in_flight: bool
    last_reply: Reply | None
    last_remote: str | None
    recipients: int


def list_recipients(tx: Tx, wanted: Selection, now: int, after: int = 0, limit: int = 100) -> list[Listed]:
    """Recipients that fit, in the order they were queued, those behind the id `after`."""
    rows = tx.all(
        "queue_list",
        id=wanted.id,
        journey=wanted.journey,
        sender=None if wanted.sender is None else wanted.sender.lower(),
        recipient=None if wanted.recipient is None else wanted.recipient.lower(),
        destination=wanted.destination,
        now=now,
        after=after,
        limit=limit,
    )
    return [Listed(*_readable(row, 11)) for row in rows]


def list_lanes(tx: Tx, now: int, limit: int = 1000) -> list[ListedLane]:
    """Lanes with how many wait in each."""
    return [ListedLane(*_readable(row, 4)) for row in tx.all("queue_lanes", now=now, most=1000, limit=limit)]


def _readable(row: Row, at: int) -> list[Any]:
    """The row with its two booleans and its reply, which stand from column `at` on, as what they are."""
    held, in_flight, reply = row[at : at + 3]
    return [*row[:at], bool(held), bool(in_flight), read_reply(reply) if reply else None, *row[at + 3 :]]


Operation = Callable[[Tx, list[Listed], int], int]
"""Does something to recipients; how many it concerned."""


def hold(tx: Tx, recipients: list[Listed], now: int) -> int:
    """Keep these where they are until released. An attempt under way goes on."""
    return sum(tx.run("queue_hold_recipient", id=one.id) for one in recipients)


def release(tx: Tx, recipients: list[Listed], now: int) -> int:
    """Let those that were held go on, now."""
    released = sum(tx.run("queue_release_recipient", id=one.id) for one in recipients)
    _wake(tx, recipients, now)
    return released


def retry(tx: Tx, recipients: list[Listed], now: int) -> int:
    """Try these now instead of when they are due; those in flight are being tried."""
    for one in recipients:
        # Moves only what is due later: what a courier has in hands is due already, and is not claimed twice.
        tx.run("queue_retry_recipient", id=one.id, now=now)
    _wake(tx, recipients, now)
    return sum(not one.in_flight for one in recipients)


def drop(tx: Tx, recipients: list[Listed], now: int) -> int:
    """Remove these without a bounce. Those in flight stay: their courier may be past the dot."""
    dropped = [one for one in recipients if not one.in_flight]
    steps: dict[int, list[Step]] = {}
    for one in dropped:
        tx.run("queue_settle_final", id=one.id, lane=one.lane)
        step = Step("recipient.dropped", now, one.journey, {"recipient": one.address, "reason": "dropped by hand"})
        steps.setdefault(one.journey, []).append(step)
    for of, told in steps.items():
        journey.record(tx, of, told)
    forget_messages(tx, sorted({one.message for one in dropped}), now)
    for lane in sorted({one.lane for one in dropped}):
        tx.run("lane_delete_if_empty", lane=lane)
    return len(dropped)


def _wake(tx: Tx, recipients: list[Listed], now: int) -> None:
    for lane in sorted({one.lane for one in recipients}):
        tx.run("queue_retry_lane", lane=lane, now=now)
    tx.ring(Topic.QUEUE)


def hold_destination(tx: Tx, destination: str, now: int) -> None:
    """Hold a destination: everything that waits for it, and what comes later."""
    tx.value("queue_lane_open", destination=destination, sender="", due_at=now)
    tx.run("queue_hold_destination", destination=destination)


def release_destination(tx: Tx, destination: str, now: int) -> int:
    """Let a destination that was held go on, now; the number of its lanes."""
    lanes = tx.run("queue_release_destination", destination=destination, now=now)
    for (lane,) in tx.all("queue_lanes_of", destination=destination):
        tx.run("lane_delete_if_empty", lane=lane)
    tx.ring(Topic.QUEUE)
    return lanes


async def each(store: Store, operation: Operation, wanted: Selection, now: int) -> int:
    """Carry `operation` out on every recipient that fits, some hundreds a commit; how many it concerned."""
    done = after = 0
    while True:
        some = await store.read(list_recipients, wanted, now, after, _CHUNK)
        if not some:
            return done
        done += await store.write(_again, operation, wanted, now, some[0].id - 1, len(some))
        after = some[-1].id


def _again(tx: Tx, operation: Operation, wanted: Selection, now: int, after: int, limit: int) -> int:
    """The same recipients, as they stand inside the writing transaction."""
    return operation(tx, list_recipients(tx, wanted, now, after, limit), now)
