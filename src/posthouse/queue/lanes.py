"""Lanes: what is due, the lease on one, and claiming from it. Functions over a transaction.

Promises: a recipient is in the hands of at most one holder of its lane's lease. A claim costs the same however many
recipients wait in other lanes, or wait for their own time in this one.
Refuses: to wait, to attempt, to settle (settling.py) and to decide who goes first (schedule.py).

A lease is a row's token and time, never an open transaction. Its holder renews it while couriers run. One that ran out
is taken by the next holder; recipients that were past the final dot may then have been delivered, and their journeys
say so. A site is leased by one runner, so that what it may be asked to bear holds across processes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from posthouse import journey
from posthouse.limits import KB, LOCAL_RECIPIENTS, RECIPIENTS
from posthouse.observe import WARNING, Step
from posthouse.queue.queue import (
    MEMBERS,
    Job,
    QueuedMessage,
    QueuedRecipient,
    as_list,
    read_message,
    read_reply,
)
from posthouse.queue.schedule import LaneState, Postpone, is_local
from posthouse.store import blobs
from posthouse.store.database import Row, Tx
from posthouse.terms.address import parse

# A lane that holds nothing but held recipients is due never.
NEVER: Final = 1 << 62
# RFC 5321 §4.5.3.1.8: a peer takes at least 100 recipients in a transaction.
CLAIM_RECIPIENTS: Final = 100
# A message costs whoever claims it some 30 µs, twice that where its pages are not at hand; most claims are made by the
# only writer.
CLAIM_MESSAGES: Final = 25
# Of each lane that is started: enough for its first connection to begin with.
FIRST_MESSAGES: Final = 5
# What the rows' octets of one claim may hold in memory, about; the first message is taken whatever its size.
CLAIM_OCTETS: Final = 256 * KB

# Where the envelope begins in a row of a claim.
_ENVELOPE: Final = 12

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
class Look:
    """What a runner needs to know: lanes that are due, which of their sites are down (failures, and until when), when
    a lane becomes due by itself, and what next_deadline says."""

    lanes: tuple[LaneState, ...]
    sites: Mapping[str, tuple[int, int]]
    wake_at: int | None
    deadline: int | None


# --- what is due ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Found:
    """Lanes by id, and what the database knows of their sites."""

    lanes: dict[int, LaneState] = field(default_factory=dict)
    sites: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, rows: Sequence[Row]) -> int:
        for id, destination, sender, due_at, site, priority, failures, site_failures, site_due_at in rows:
            self.lanes[id] = LaneState(id, destination, sender, due_at, site, priority, failures)
            self.sites[site or destination] = (site_failures or 0, site_due_at or 0)
        return len(rows)


def look(tx: Tx, now: int, holder: int = 0, full: Sequence[str] = (), limit: int = 300) -> Look:
    """Lanes that may be started by this runner now: the `limit` oldest. Where there are more, also the oldest whose
    sites are not `full`, urgent ones, and some of each sender, so that thousands do not hide the others."""
    found = _Found()
    if found.add(tx.all("lanes_due", now=now, holder=holder, limit=limit)) == limit:
        names = json_list(full)
        found.add(tx.all("lanes_due_elsewhere", now=now, holder=holder, full=names, limit=limit))
        found.add(tx.all("lanes_due_urgent", now=now, holder=holder, limit=limit // 5))
        _add_senders(tx, found, now, holder)
    return Look(tuple(found.lanes.values()), found.sites, next_due(tx, now), next_deadline(tx, now))


def _add_senders(tx: Tx, found: _Found, now: int, holder: int, senders: int = 50, each: int = 5) -> None:
    sender = tx.value("lanes_next_sender", sender="", now=now)
    for _ in range(senders):
        if sender is None:
            break
        found.add(tx.all("lanes_due_of_sender", sender=sender, now=now, holder=holder, limit=each))
        sender = tx.value("lanes_next_sender", sender=sender, now=now)


def next_due(tx: Tx, now: int) -> int | None:
    """When a lane becomes due that is not due yet, or another's lease ends; None: never."""
    return first(tx.value("lanes_next_due", now=now), tx.value("lanes_next_lease_end", now=now))


def next_deadline(tx: Tx, now: int) -> int | None:
    """When a message's time is up next that has not much, or one should have arrived; None: never, or not soon."""
    return first(tx.value("queue_next_expiry", now=now), tx.value("queue_next_overdue", now=now))


def first(*times: int | None) -> int | None:
    """The first of these times; None: never."""
    return min((time for time in times if time is not None and time < NEVER), default=None)


# --- the lease --------------------------------------------------------------------------------------------------------


def lease(tx: Tx, lane: int, now: int, until: int, even_held: bool = False) -> Lease | None:
    """Take the lane until `until`; None where it is held (unless that does not matter), leased by another, or gone.

    A lease that ran out is taken over: those past the dot under it are journalled as possible duplicates.
    """
    row = tx.one("lane_lease", lane=lane, until=until, even_held=int(even_held))
    if row is None:
        row = tx.one("lane_take_over", lane=lane, now=now, until=until, even_held=int(even_held))
        if row is None:
            return None
        clear_past_dot(tx, lane, now)
    token, destination, sender, failures, site = row
    return Lease(lane, token, destination, sender, failures, site)


def clear_past_dot(tx: Tx, lane: int, now: int) -> None:
    """Whoever was past the dot in this lane, and heard no answer, may have been served: the journeys say so."""
    for _, address, of in tx.all("lane_past_dot", lane=lane):
        journey.record(tx, of, [possible_duplicate(of, address, now)])
    tx.run("lane_clear_past_dot", lane=lane)


def start(
    tx: Tx, lanes: Sequence[int], now: int, until: int, holder: int = 0, sites: Mapping[int, str] | None = None
) -> list[tuple[Lease, Claim]]:
    """Take those of these lanes that can be had, each with its first claim: one commit for all.

    `sites` are those of the lanes that are to be leased for the holder: lanes of one that another has are left alone.
    """
    refused = {site for site in set((sites or {}).values()) if not lease_site(tx, site, holder, now, until)}
    started: list[tuple[Lease, Claim]] = []
    for lane in lanes:
        if sites and sites.get(lane) in refused:
            continue
        held = lease(tx, lane, now, until)
        if held is not None:
            first = claim(tx, held, START, now, FIRST_MESSAGES)
            assert first is not None, "the lease was taken in this transaction"
            started.append((held, first))
    return started


def lease_site(tx: Tx, site: str, holder: int, now: int, until: int) -> bool:
    """Take or keep the site for this runner. False: another has it."""
    return tx.one("site_lease", site=site, holder=holder, now=now, until=until) is not None


def renew_sites(tx: Tx, sites: Sequence[str], idle: Sequence[str], holder: int, until: int) -> set[str]:
    """Keep these sites until `until`, let the idle ones go; those that were lost."""
    for site in idle:
        tx.run("site_let_go", site=site, holder=holder)
        tx.run("site_delete_if_idle", site=site)
    return {site for site in sites if not tx.run("site_renew", site=site, holder=holder, until=until)}


def postpone(tx: Tx, lanes: Iterable[Postpone], now: int) -> None:
    """These lanes wait with their site, without an attempt of their own."""
    for one in lanes:
        tx.run("lane_postpone", lane=one.lane, site=one.site, until=one.until, now=now)


def renew(tx: Tx, leases: Sequence[Lease], until: int) -> set[int]:
    """Keep these leases until `until`; the lanes of those that were lost."""
    return {held.lane for held in leases if not tx.run("lane_renew", lane=held.lane, token=held.token, until=until)}


def release(tx: Tx, held: Lease, not_before: int = 0) -> None:
    """Give the lane back: it is due when its first recipient is, or when its backoff says; an empty lane goes."""
    row = tx.one("lane_of_lease", lane=held.lane, token=held.token)
    if row is None:
        return
    if row[1]:
        tx.run("lane_backs_off_for_nobody", lane=held.lane)
    tx.run("lane_release", lane=held.lane, never=NEVER, not_before=not_before)
    tx.run("lane_delete_if_empty", lane=held.lane)


def abandon(tx: Tx, held: Lease) -> None:
    """Let the lease run out now: a courier was stopped past the dot, and the next holder is to know."""
    tx.run("lane_abandon", lane=held.lane, token=held.token)


def abandon_leases(tx: Tx) -> int:
    """Let every lease run out now. Only for whoever knows that no other process works on this store."""
    tx.run("sites_abandon")
    return tx.run("lanes_abandon")


def forget_sites(tx: Tx, now: int, limit: int = 500) -> int:
    """Remove sites that nothing waits for any more; how many."""
    return tx.run("sites_forget", now=now, limit=limit)


# --- claiming ---------------------------------------------------------------------------------------------------------


def claim(tx: Tx, held: Lease, after: Cursor, now: int, messages: int = CLAIM_MESSAGES) -> Claim | None:
    """The next recipients of the lane that are due, behind `after`, oldest first; None where the lease was lost."""
    lane_held = tx.value("lane_of_lease", lane=held.lane, token=held.token)
    if lane_held is None:
        return None
    if lane_held:
        return Claim((), after, False)
    rows, more = _due(tx, held, after, now, messages)
    taken, jobs = _jobs(tx, held.lane, held.destination, rows, messages)
    more = more or taken < len(rows)
    if taken:
        after = (rows[taken - 1][7], rows[taken - 1][0])
    return Claim(jobs, after, more)


def _due(tx: Tx, held: Lease, after: Cursor, now: int, messages: int) -> tuple[list[Row], bool]:
    """The next rows that are due, and whether there may be more. Most messages have one recipient: no more rows are
    read than are wanted of such, and more only where that would part some that can go together."""
    most = LOCAL_RECIPIENTS if is_local(held.destination) else CLAIM_RECIPIENTS
    rows: list[Row] = []
    for limit in (min(messages + 1, most), most):
        rows = tx.all("queue_claim", lane=held.lane, now=now, after_due=after[0], after_id=after[1], limit=limit)
        if len(rows) < limit or len({row[1] for row in rows}) > messages:
            return rows, len(rows) == limit
    return rows, True


def claim_of(tx: Tx, held: Lease, recipients: Sequence[int]) -> tuple[Job, ...]:
    """Those of these recipients that stand in the lane and are not held, with what was last said of them."""
    if tx.value("lane_of_lease", lane=held.lane, token=held.token) is None:
        return ()
    rows = tx.all("queue_claim_expired", lane=held.lane, ids=as_list(recipients), limit=CLAIM_RECIPIENTS)
    return _jobs(tx, held.lane, held.destination, rows)[1]


def jobs_of(tx: Tx, held: Lease, recipients: Sequence[int]) -> tuple[Job, ...]:
    """Those of these recipients that stand in the lane, due or not, held or not."""
    if tx.value("lane_of_lease", lane=held.lane, token=held.token) is None:
        return ()
    rows = tx.all("queue_end_by_hand", lane=held.lane, ids=as_list(recipients))
    return _jobs(tx, held.lane, held.destination, rows)[1]


def jobs_that_wait(tx: Tx, message: int, limit: int = RECIPIENTS) -> tuple[Job, ...]:
    """Recipients of the message whose sender wants to hear of a delay and was not told yet. Not to be attempted."""
    rows = tx.all("queue_waiting_of", message=message, limit=limit)
    return _jobs(tx, 0, "", rows)[1]


def _jobs(
    tx: Tx, lane: int, destination: str, rows: Sequence[Row], most: int = CLAIM_MESSAGES
) -> tuple[int, tuple[Job, ...]]:
    """As many of these rows as fit one claim, as jobs: a job's recipients share message, prologue and reverse-path.

    A recipient that stands for a batch of a list's members is a job of its own, for each is to be a commit.
    """
    alone = destination.startswith(MEMBERS)
    groups: dict[tuple[int, bytes, str | None, int], list[QueuedRecipient]] = {}
    wanted: dict[int, QueuedMessage] = {}
    octets = taken = 0
    for row in rows:
        id = row[1]
        if id not in wanted:
            if wanted and (len(wanted) == most or octets >= CLAIM_OCTETS):
                break
            wanted[id] = message = read_message(row[0], id, row[_ENVELOPE:])
            octets += message.mail.size
        groups.setdefault((id, row[6], row[11], row[0] if alone else 0), []).append(_recipient(row))
        taken += 1
    refs = blobs.find_many(tx, [one.mail.blob for one in wanted.values()]) if wanted else {}
    return taken, tuple(
        Job(
            lane,
            destination,
            wanted[id],
            _blob(refs, wanted[id].mail.blob),
            tuple(recipients),
            prologue,
            parse(return_path) if return_path else None,
        )
        for (id, prologue, return_path, _), recipients in groups.items()
    )


def _blob(found: Mapping[int, blobs.BlobRef], id: int) -> blobs.BlobRef:
    """Where the octets lie. A row that is gone is found out at loading, like a file that is."""
    return found.get(id) or blobs.BlobRef(id, 0, b"", None, None)


def _recipient(row: Row) -> QueuedRecipient:
    id, _, address, original, notify, orcpt, _, due_at, attempts, last_reply, last_remote, *_ = row
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


def possible_duplicate(of: int, address: str, now: int) -> Step:
    """At least once wherever SMTP is between; the journey says when it may have been twice."""
    return Step("recipient.possible_duplicate", now, of, {"recipient": address}, WARNING)


def json_list(texts: Iterable[str]) -> str:
    """Texts as a statement takes several."""
    return json.dumps(list(texts))
