"""What a person does with the queue: list, show, hold, release, retry, reroute, drop. Functions over a transaction.

Promises: each works on a bounded number of recipients and says where to go on, so that a queue of a million is no
different from one of ten; `each` goes through all of them, a short transaction at a time. What is in flight is left to
its courier: it is neither taken away under it nor sent twice. What is said to be held is not sent.
Refuses: to send anything itself: it moves due times and rings. `give_up` fails what is to go back now, under the lanes'
leases, as the runner would.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from posthouse import journey
from posthouse.clock import Clock
from posthouse.observe import Step
from posthouse.queue import lanes
from posthouse.queue.clerk import Clerk
from posthouse.queue.outcome import Fate, Outcome, Report
from posthouse.queue.queue import DOMAIN, as_list, end, find_messages, open_lane, read_reply
from posthouse.store.database import Row, Store, Topic, Tx
from posthouse.terms.address import parse
from posthouse.terms.reply import Reply

T = TypeVar("T")

_CHUNK: Final = 500
# Recipients of one lane that are made due together.
_FLUSHED: Final = 5000
_LEASE_MS: Final = 60_000
_GIVEN_UP: Final = Reply(554, "5.0.0", "Given up by the postmaster")


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
    """One recipient as a person sees it. `due_at` is when it is tried next, unless it is `held` or `in_flight` now.

    `scheduled`: nobody tried it yet, because it is to leave later. `delayed_at`: when its sender was told of the delay.
    """

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
    scheduled: bool
    delayed_at: int | None


@dataclass(frozen=True, slots=True)
class ListedLane:
    """One lane as a person sees it; `recipients` is counted up to a thousand. `site` is what its destination rolls up
    to, once that is known."""

    destination: str
    sender: str
    due_at: int
    failures: int
    held: bool
    in_flight: bool
    last_reply: Reply | None
    last_remote: str | None
    recipients: int
    site: str | None
    priority: int


def list_recipients(
    tx: Tx,
    wanted: Selection,
    now: int,
    after: int = 0,
    limit: int = 100,
    upto: int = lanes.NEVER,
    queued_by: int = lanes.NEVER,
) -> list[Listed]:
    """Recipients that fit, in the order of their ids, those behind `after` and up to `upto`, of messages that were
    queued at `queued_by` or before."""
    rows = tx.all(
        "queue_list",
        now=now,
        after=after if wanted.id is None else max(after, wanted.id - 1),
        upto=upto if wanted.id is None else wanted.id,
        queued_by=queued_by,
        limit=limit,
        **_parameters(wanted),
    )
    return [Listed(*[*_readable(row[:16], 11), bool(row[16]), row[17]]) for row in rows]


def count(tx: Tx, wanted: Selection, most: int = 1_000_000) -> int:
    """How many recipients fit, counted up to `most`; one where an id is given."""
    if wanted.id is not None:
        return 1
    counted: int = tx.value("queue_count", most=most, **_parameters(wanted))
    return counted


def _parameters(wanted: Selection) -> dict[str, int | str | None]:
    return {
        "journey": wanted.journey,
        "sender": None if wanted.sender is None else wanted.sender.lower(),
        "recipient": None if wanted.recipient is None else wanted.recipient.lower(),
        "destination": wanted.destination,
    }


def list_lanes(tx: Tx, now: int, limit: int = 1000) -> list[ListedLane]:
    """Lanes with how many wait in each."""
    return [ListedLane(*_readable(row, 4)) for row in tx.all("queue_lanes", now=now, most=1000, limit=limit)]


def _readable(row: Row, at: int) -> list[Any]:
    """The row with its two booleans and its reply, which stand from column `at` on, as what they are."""
    held, in_flight, reply = row[at : at + 3]
    return [*row[:at], bool(held), bool(in_flight), read_reply(reply) if reply else None, *row[at + 3 :]]


# --- doing ------------------------------------------------------------------------------------------------------------


Operation = Callable[[Tx, list[Listed], int], int]
"""Does something to recipients; how many it concerned."""


@dataclass(frozen=True, slots=True)
class Holding:
    """So many are held now, and are not sent. So many more are `under_way`: their octets are on the way just now, and
    may arrive; whoever is not taken is held then."""

    held: int
    under_way: int


def hold(tx: Tx, recipients: list[Listed], now: int) -> Holding:
    """Keep these where they are until released. Couriers ask, before they send, whether they still may."""
    under_way = {id for (id,) in tx.all("queue_under_way", ids=as_list(one.id for one in recipients), now=now)}
    fresh = [one.id for one in recipients if tx.run("queue_hold_recipient", id=one.id)]
    return Holding(sum(id not in under_way for id in fresh), len(under_way))


def hold_restored(tx: Tx) -> int:
    """Hold all that goes to others, of a queue that came back from a backup: it may have gone since. How many."""
    return tx.run("restored_queue")


def release(tx: Tx, recipients: list[Listed], now: int) -> int:
    """Let those go, now, that were held, or were to leave later by their sender's wish."""
    released = sum(tx.run("queue_release_recipient", id=one.id, now=now) for one in recipients)
    _wake(tx, recipients, now)
    return released


def retry(tx: Tx, recipients: list[Listed], now: int) -> int:
    """Try these now instead of when they are due; those in flight are being tried, and those whose senders want them to
    leave later, or that are held, are not."""
    waiting = [one for one in recipients if not one.scheduled and not one.held]
    for one in waiting:
        # Moves only what is due later: what a courier has in hands is due already, and is not claimed twice.
        tx.run("queue_retry_recipient", id=one.id, now=now)
    _wake(tx, waiting, now)
    return sum(not one.in_flight for one in waiting)


def drop(tx: Tx, recipients: list[Listed], now: int) -> int:
    """Remove these without a bounce. Those in flight stay: their courier may be past the dot."""
    dropped = [one for one in recipients if not one.in_flight]
    steps: dict[int, list[Step]] = {}
    for one in dropped:
        step = Step("recipient.dropped", now, one.journey, {"recipient": one.address, "reason": "dropped by hand"})
        steps.setdefault(one.journey, []).append(step)
    end(tx, [one.id for one in dropped], now)
    for of, told in steps.items():
        journey.record(tx, of, told)
    for lane in sorted({one.lane for one in dropped}):
        tx.run("lane_delete_if_empty", lane=lane)
    return len(dropped)


def reroute(destination: str | None) -> Operation:
    """What sends recipients to another destination, now; None: to where their domains' mail usually goes. Those in
    flight stay."""

    def operation(tx: Tx, recipients: list[Listed], now: int) -> int:
        moved = [one for one in recipients if not one.in_flight]
        for lane in {one.lane for one in moved}:
            lanes.clear_past_dot(tx, lane, now)
        messages = find_messages(tx, [one.id for one in moved])
        targets: dict[tuple[str, str, int], int] = {}
        steps: dict[int, list[Step]] = {}
        for one in moved:
            mail = messages[one.id].mail
            to = destination or DOMAIN + parse(one.address).domain
            key = (to, mail.lane_sender, mail.wishes.priority)
            if key not in targets:
                targets[key] = open_lane(tx, to, mail, now)
            tx.run("queue_reroute", id=one.id, lane=targets[key], now=now)
            facts = {"recipient": one.address, "destination": to, "before": one.destination}
            steps.setdefault(one.journey, []).append(Step("recipient.rerouted", now, one.journey, facts))
        for of, told in steps.items():
            journey.record(tx, of, told)
        for lane in sorted({one.lane for one in moved} - set(targets.values())):
            tx.run("lane_delete_if_empty", lane=lane)
        tx.ring(Topic.QUEUE)
        return len(moved)

    return operation


def _wake(tx: Tx, recipients: list[Listed], now: int) -> None:
    for lane in sorted({one.lane for one in recipients}):
        _wake_lane(tx, lane, now)
    tx.ring(Topic.QUEUE)


def _wake_lane(tx: Tx, lane: int, now: int) -> None:
    """The lane is tried now, whether it or its site backs off or not."""
    for name in tx.one("queue_retry_lane", lane=lane, now=now) or ():
        tx.run("queue_retry_site", site=name)


def _try_all_of(tx: Tx, destination: str, now: int) -> None:
    """What waits for the destination is tried now, but for what is held, or is to leave later by its sender's wish."""
    for (lane,) in tx.all("queue_lanes_of", destination=destination):
        tx.run("queue_retry_of_lane", lane=lane, now=now, limit=_FLUSHED)
        _wake_lane(tx, lane, now)
    tx.ring(Topic.QUEUE)


# --- destinations -----------------------------------------------------------------------------------------------------


def flush(tx: Tx, domain: str, now: int) -> int:
    """Try what waits for this domain now, as ETRN wants it (RFC 1985); how many recipients wait, counted up to a
    thousand. What is held stays so, and what is to leave later by its sender's wish."""
    _try_all_of(tx, DOMAIN + domain, now)
    return count(tx, Selection(destination=DOMAIN + domain), most=1000)


def hold_destination(tx: Tx, destination: str, now: int) -> int:
    """Hold a destination: everything that waits for it, and what comes later; how many are under way all the same, as
    in Holding."""
    tx.value("queue_lane_open", destination=destination, sender="", priority=0, due_at=now)
    tx.run("queue_hold_destination", destination=destination)
    under_way: int = tx.value("queue_under_way_to", destination=destination, now=now)
    return under_way


def release_destination(tx: Tx, destination: str, now: int) -> int:
    """Let a destination that was held go on, now; the number of its lanes."""
    lanes = tx.run("queue_release_destination", destination=destination)
    if lanes:
        _try_all_of(tx, destination, now)
    for (lane,) in tx.all("queue_lanes_of", destination=destination):
        tx.run("lane_delete_if_empty", lane=lane)
    return lanes


# --- any number -------------------------------------------------------------------------------------------------------

# Told now and then how many recipients were gone through.
Progress = Callable[[int], None]


async def each(
    store: Store, operation: Operation, wanted: Selection, now: int, progress: Progress = lambda _: None
) -> int:
    """Carry `operation` out on every recipient that fits, some hundreds a commit; how many it concerned. What is queued
    meanwhile is not meant, unless it comes of a message that was there."""
    return sum([done async for done in _through(store, operation, wanted, now, progress)])


async def hold_each(store: Store, wanted: Selection, now: int, progress: Progress = lambda _: None) -> Holding:
    """Hold every recipient that fits, as `each` does."""
    done = [one async for one in _through(store, hold, wanted, now, progress)]
    return Holding(sum(one.held for one in done), sum(one.under_way for one in done))


async def _through(
    store: Store, operation: Callable[[Tx, list[Listed], int], T], wanted: Selection, now: int, progress: Progress
) -> AsyncIterator[T]:
    after = seen = 0
    newest, queued_by = await store.read(_newest, now)
    while some := await store.read(list_recipients, wanted, now, after, _CHUNK, newest, queued_by):
        yield await store.write(_again, operation, wanted, now, some[0].id - 1, some[-1].id, queued_by)
        after = some[-1].id
        seen += len(some)
        progress(seen)


def _newest(tx: Tx, now: int) -> tuple[int, int]:
    """The highest id of a recipient, and by when what is there was queued: now, unless the clock was set back.

    Ids alone do not tell who comes later: each process takes numbers of its own, and another's may be far ahead.
    """
    row = tx.one("queue_newest")
    assert row is not None, "a maximum has a row"
    return row[0] or 0, max(row[1] or now, now)


def _again(
    tx: Tx,
    operation: Callable[[Tx, list[Listed], int], T],
    wanted: Selection,
    now: int,
    after: int,
    upto: int,
    queued_by: int,
) -> T:
    """The same recipients, as they stand inside the writing transaction."""
    return operation(tx, list_recipients(tx, wanted, now, after, lanes.NEVER, upto, queued_by), now)


async def give_up(
    store: Store, clerk: Clerk, clock: Clock, wanted: Selection, progress: Progress = lambda _: None
) -> int:
    """Fail every recipient that fits, now, and tell the senders who want to hear of it; how many. Those in lanes at
    work stay: a courier has them in hands."""
    done = after = seen = 0
    newest, queued_by = await store.read(_newest, clock.now())
    while some := await store.read(list_recipients, wanted, clock.now(), after, _CHUNK, newest, queued_by):
        by_lane: dict[int, list[int]] = {}
        for one in some:
            if not one.in_flight:
                by_lane.setdefault(one.lane, []).append(one.id)
        for lane, ids in by_lane.items():
            done += await _give_up(store, clerk, clock, lane, ids)
        after = some[-1].id
        seen += len(some)
        progress(seen)
    return done


async def _give_up(store: Store, clerk: Clerk, clock: Clock, lane: int, ids: list[int]) -> int:
    now = clock.now()
    held = await store.write(lanes.lease, lane, now, now + _LEASE_MS, True)
    if held is None:
        return 0
    done = 0
    try:
        while jobs := await store.read(lanes.jobs_of, held, ids):
            reports = [
                (job, Report(tuple(Outcome(one.id, Fate.FAILED, _GIVEN_UP) for one in job.recipients))) for job in jobs
            ]
            await asyncio.gather(*[clerk.settle(held, job, report) for job, report in reports])
            done += sum(len(job.recipients) for job in jobs)
    finally:
        await store.write(lanes.release, held)
    return done
