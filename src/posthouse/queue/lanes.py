"""Lanes: what is due, the lease on one, claiming from it and settling what became of it. Functions over a transaction.

Promises: a recipient is in the hands of at most one holder of its lane's lease, and each recipient ends exactly once: a
settlement by whoever no longer holds the lease writes nothing but the journey. A claim costs the same however many
recipients wait in other lanes, or wait for their own time in this one.
Refuses: to wait, to attempt, and to decide who goes first (schedule.py).

A lease is a row's token and time, never an open transaction. Its holder renews it while couriers run. One that ran out
is taken by the next holder; recipients that were past the final dot may then have been delivered, and their journeys
say so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from posthouse import journey
from posthouse.limits import KB, LOCAL_RECIPIENTS
from posthouse.observe import WARNING, Fact, Step
from posthouse.queue.outcome import Fate, Outcome, Report
from posthouse.queue.queue import (
    Job,
    QueuedMessage,
    QueuedRecipient,
    find_message,
    forget_messages,
    read_reply,
    write_reply,
)
from posthouse.queue.schedule import LaneState, is_local, retry_at
from posthouse.store import blobs
from posthouse.store.database import Row, Tx
from posthouse.terms.address import parse

# A lane that holds nothing but held recipients is due never.
NEVER: Final = 1 << 62
# RFC 5321 §4.5.3.1.8: a peer takes at least 100 recipients in a transaction.
CLAIM_RECIPIENTS: Final = 100
CLAIM_MESSAGES: Final = 20
# What the rows' octets of one claim may hold in memory, about; the first message is taken whatever its size.
CLAIM_OCTETS: Final = 256 * KB

Cursor = tuple[int, int]
START: Final[Cursor] = (-1, -1)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a lane. `failures` is how often in a row the destination had failed when it was taken."""

    lane: int
    token: int
    destination: str
    sender: str
    failures: int
    site: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """Jobs to be done under a lease, where the next claim goes on, and whether it is worth asking for."""

    jobs: tuple[Job, ...]
    after: Cursor
    more: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settlement did: the steps that were recorded, the lease as it is now (None: it was lost), whether the
    lane now backs off, and the outcomes that came out inside it."""

    steps: tuple[Step, ...]
    lease: Lease | None
    doomed: bool
    inside: tuple[Outcome, ...] = ()


# --- what is due ------------------------------------------------------------------------------------------------------


def due(tx: Tx, now: int, limit: int = 500, senders: int = 100, each: int = 10) -> list[LaneState]:
    """Lanes that may be started now: the `limit` oldest, and where there are more, the oldest `each` of up to
    `senders` senders as well, so that one sender's thousands do not hide the others."""
    lanes = {row[0]: LaneState(*row) for row in tx.all("lanes_due", now=now, limit=limit)}
    if len(lanes) == limit:
        sender = tx.value("lanes_next_sender", sender="", now=now)
        for _ in range(senders):
            if sender is None:
                break
            rows = tx.all("lanes_due_of_sender", sender=sender, now=now, limit=each)
            lanes.update((row[0], LaneState(*row)) for row in rows)
            sender = tx.value("lanes_next_sender", sender=sender, now=now)
    return list(lanes.values())


def next_due(tx: Tx, now: int) -> int | None:
    """When a lane becomes due that is not due yet, another's lease ends, or a message's time is up; None: never."""
    times = [tx.value("lanes_next_due", now=now), tx.value("lanes_next_lease_end", now=now)]
    times.append(tx.value("queue_next_expiry", now=now))
    return min((time for time in times if time is not None and time < NEVER), default=None)


def expired(tx: Tx, now: int, limit: int = 100) -> list[int]:
    """Lanes that wait with recipients whose time is up. What was due while nobody ran is tried first, not given up."""
    return [lane for (lane,) in tx.all("queue_expired_lanes", now=now, limit=limit)]


def look(tx: Tx, now: int) -> tuple[list[LaneState], list[int], int | None]:
    """What a runner needs to know: lanes that are due, lanes with expired recipients, and when to look again."""
    return due(tx, now), expired(tx, now), next_due(tx, now)


# --- the lease --------------------------------------------------------------------------------------------------------


def lease(tx: Tx, lane: int, now: int, until: int) -> Lease | None:
    """Take the lane until `until`; None where it is held, leased by another, or gone.

    A lease that ran out is taken over: those past the dot under it are journalled as possible duplicates.
    """
    row = tx.one("lane_lease", lane=lane, now=now, until=until)
    if row is None:
        return None
    token, destination, sender, failures, site = row
    for _, address, of in tx.all("lane_past_dot", lane=lane):
        journey.record(tx, of, [_possible_duplicate(of, address, now)])
    tx.run("lane_clear_past_dot", lane=lane)
    return Lease(lane, token, destination, sender, failures, site)


def start(tx: Tx, lanes: Sequence[int], now: int, until: int) -> list[tuple[Lease, Claim]]:
    """Take those of these lanes that can be had, each with its first claim: one commit for all."""
    started: list[tuple[Lease, Claim]] = []
    for lane in lanes:
        held = lease(tx, lane, now, until)
        if held is not None:
            first = claim(tx, held, START, now)
            assert first is not None, "the lease was taken in this transaction"
            started.append((held, first))
    return started


def renew(tx: Tx, leases: Sequence[Lease], until: int) -> set[int]:
    """Keep these leases until `until`; the lanes of those that were lost."""
    return {held.lane for held in leases if not tx.run("lane_renew", lane=held.lane, token=held.token, until=until)}


def release(tx: Tx, held: Lease, not_before: int = 0) -> None:
    """Give the lane back: it is due when its first recipient is, or when its backoff says; an empty lane goes."""
    if tx.value("lane_of_lease", lane=held.lane, token=held.token) is not None:
        tx.run("lane_release", lane=held.lane, never=NEVER, not_before=not_before)
        tx.run("lane_delete_if_empty", lane=held.lane)


def abandon_leases(tx: Tx) -> int:
    """Let every lease run out now. Only for whoever knows that no other process works on this store."""
    return tx.run("lanes_abandon")


# --- claiming ---------------------------------------------------------------------------------------------------------


def claim(tx: Tx, held: Lease, after: Cursor, now: int) -> Claim | None:
    """The next recipients of the lane that are due, behind `after`, oldest first; None where the lease was lost."""
    lane_held = tx.value("lane_of_lease", lane=held.lane, token=held.token)
    if lane_held is None:
        return None
    if lane_held:
        return Claim((), after, False)
    limit = LOCAL_RECIPIENTS if is_local(held.destination) else CLAIM_RECIPIENTS
    rows = tx.all("queue_claim", lane=held.lane, now=now, after_due=after[0], after_id=after[1], limit=limit)
    taken, jobs = _jobs(tx, held, rows)
    more = taken < len(rows) or len(rows) == limit
    if taken:
        after = (rows[taken - 1][7], rows[taken - 1][0])
    return Claim(jobs, after, more)


def claim_expired(tx: Tx, held: Lease, now: int) -> tuple[Job, ...]:
    """Recipients of the lane whose time is up, with what was last said of them."""
    if tx.value("lane_of_lease", lane=held.lane, token=held.token) is None:
        return ()
    rows = tx.all("queue_claim_expired", lane=held.lane, now=now, limit=CLAIM_RECIPIENTS)
    return _jobs(tx, held, rows)[1]


def _jobs(tx: Tx, held: Lease, rows: Sequence[Row]) -> tuple[int, tuple[Job, ...]]:
    """As many of these rows as fit one claim, as jobs: a job's recipients share message and prologue."""
    groups: dict[tuple[int, bytes], list[QueuedRecipient]] = {}
    messages: dict[int, QueuedMessage] = {}
    octets = taken = 0
    for row in rows:
        message = row[1]
        if message not in messages:
            if messages and (len(messages) == CLAIM_MESSAGES or octets >= CLAIM_OCTETS):
                break
            found = find_message(tx, message)
            assert found is not None, "a recipient's message is removed after its last recipient"
            messages[message] = found
            octets += found.mail.size
        groups.setdefault((message, row[6]), []).append(_recipient(row))
        taken += 1
    refs = {id: _blob(tx, message.mail.blob) for id, message in messages.items()}
    return taken, tuple(
        Job(held.lane, held.destination, messages[message], refs[message], tuple(recipients), prologue)
        for (message, prologue), recipients in groups.items()
    )


def _blob(tx: Tx, id: int) -> blobs.BlobRef:
    """Where the octets lie. A row that is gone is found out at loading, like a file that is."""
    return blobs.find(tx, id) or blobs.BlobRef(id, 0, b"", None, None)


def _recipient(row: Row) -> QueuedRecipient:
    id, _, address, original, notify, orcpt, _, due_at, attempts, last_reply, last_remote = row
    return QueuedRecipient(
        id=id,
        address=parse(address),
        original=original,
        notify=None if notify is None else frozenset(notify.split(",")),
        orcpt=orcpt,
        due_at=due_at,
        attempts=attempts,
        last_reply=None if last_reply is None else read_reply(last_reply),
        last_remote=last_remote,
    )


def mark_past_dot(tx: Tx, held: Lease, recipients: Sequence[int]) -> bool:
    """Note, before the final dot is sent, that from now on these may have been taken. False: the lease was lost."""
    if tx.value("lane_of_lease", lane=held.lane, token=held.token) is None:
        return False
    tx.many("queue_past_dot", [{"id": id, "lane": held.lane} for id in recipients])
    return True


# --- settling ---------------------------------------------------------------------------------------------------------


def settle(tx: Tx, held: Lease, job: Job, report: Report, now: int, delays: Sequence[float], jitter: float) -> Settled:
    """Write down what became of the job's recipients, and do what the report asks to be done in the same commit.

    The instant of responsibility: before this commits, each recipient is the queue's; after it, those with a final
    outcome are the next MTA's, their mailbox's, or told of in a bounce that the same commit queued.
    """
    if tx.value("lane_of_lease", lane=held.lane, token=held.token) is None:
        return _settle_too_late(tx, job, report, now)
    inside = report.inside(tx) if report.inside else None
    outcomes = report.outcomes + (inside.outcomes if inside else ())
    recipients = {recipient.id: recipient for recipient in job.recipients}
    steps = [*report.steps, *(inside.steps if inside else ())]
    # Couriers that ran side by side meet the same failure: it counts once a lease.
    backoff = retry_at(delays, held.failures + 1, jitter, now)
    for outcome in outcomes:
        recipient = recipients[outcome.recipient]
        due_at = retry_at(delays, recipient.attempts + 1, jitter, now, job.mail.expires_at)
        _settle_one(tx, job, recipient, outcome, due_at)
        steps.append(outcome_step(job, recipient, outcome, now, backoff if outcome.destination_down else due_at))
    if steps:
        journey.record(tx, job.mail.journey, steps)
    if any(outcome.fate.final for outcome in outcomes):
        forget_messages(tx, [job.message.id], now)
    held, doomed = _judge_lane(tx, held, outcomes, backoff)
    if report.site and report.site != held.site:
        tx.run("lane_site", lane=held.lane, site=report.site)
        held = replace(held, site=report.site)
    return Settled(tuple(steps), held, doomed, inside.outcomes if inside else ())


def _settle_one(tx: Tx, job: Job, recipient: QueuedRecipient, outcome: Outcome, due_at: int) -> None:
    if outcome.fate.final:
        tx.run("queue_settle_final", id=outcome.recipient, lane=job.lane)
        return
    tx.run(
        "queue_settle_deferred",
        id=outcome.recipient,
        lane=job.lane,
        # Where the lane backs off as a whole, its recipients are due with it and not later.
        due_at=recipient.due_at if outcome.destination_down else due_at,
        reply=write_reply(outcome.reply),
        remote=outcome.remote,
    )


def _judge_lane(tx: Tx, held: Lease, outcomes: Sequence[Outcome], backoff: int) -> tuple[Lease, bool]:
    """Back the lane off where its destination failed; forget earlier failures where it lives."""
    down = next((outcome for outcome in outcomes if outcome.destination_down), None)
    if down:
        failures, reply = held.failures + 1, write_reply(down.reply)
        tx.run("lane_backs_off", lane=held.lane, failures=failures, due_at=backoff, reply=reply, remote=down.remote)
        return held, True
    if held.failures and not all(outcome.given_up for outcome in outcomes):
        tx.run("lane_lives", lane=held.lane)
        held = replace(held, failures=0)
    return held, False


def _settle_too_late(tx: Tx, job: Job, report: Report, now: int) -> Settled:
    """The lease was lost, and the recipients are another holder's: tell the journey what happened all the same."""
    recipients = {recipient.id: recipient for recipient in job.recipients}
    steps = list(report.steps)
    for outcome in report.outcomes:
        recipient = recipients[outcome.recipient]
        steps.append(outcome_step(job, recipient, outcome, now, None))
        if outcome.fate is Fate.RELAYED:
            steps.append(_possible_duplicate(job.mail.journey, str(recipient.address), now))
    if steps:
        journey.record(tx, job.mail.journey, steps)
    return Settled(tuple(steps), None, False)


def outcome_step(job: Job, recipient: QueuedRecipient, outcome: Outcome, now: int, due_at: int | None) -> Step:
    """The line of the journey that tells a recipient's outcome; `retry_at` is when the recipient is due again."""
    facts: dict[str, Fact] = {
        "recipient": str(recipient.address),
        "reply": str(outcome.reply),
        "remote": outcome.remote,
        "dooms": outcome.dooms.value if outcome.fate in (Fate.DEFERRED, Fate.FAILED) else None,
        "given_up": True if outcome.given_up else None,
        "retry_at": due_at if outcome.fate is Fate.DEFERRED else None,
    }
    return Step(f"recipient.{outcome.fate.value}", now, job.mail.journey, facts)


def _possible_duplicate(of: int, address: str, now: int) -> Step:
    """At least once wherever SMTP is between; the journey says when it may have been twice."""
    return Step("recipient.possible_duplicate", now, of, {"recipient": address}, WARNING)
