"""Writing down what became of jobs: many couriers' reports in one transaction, as acceptance has it.

Promises: each recipient ends exactly once: a settlement by whoever no longer holds the lease writes nothing but the
journey. That somebody is past the dot stands before the dot is sent. What a report asks to be done in the same commit,
and what the sender is told, are in it.
Refuses: to wait, to attempt, and to word what the sender is told (bounce.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from posthouse import journey
from posthouse.observe import Fact, Step
from posthouse.queue import bounce, feedback, lanes
from posthouse.queue.lanes import Claim, Cursor, Lease, possible_duplicate
from posthouse.queue.outcome import Fate, Outcome, Report
from posthouse.queue.queue import Job, QueuedRecipient, as_list, end, write_reply
from posthouse.queue.schedule import is_local, retry_at
from posthouse.store.database import Topic, Tx

# Lanes woken in one transaction when their site lives again; the others keep their time.
_WOKEN: Final = 500


@dataclass(frozen=True, slots=True)
class Telling:
    """What the sender is told: of outcomes that are known, and of those that come out in the settling commit."""

    prepared: bounce.Bounce | None = None
    draft: bounce.Draft | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """These recipients of the lane may be taken from now on: the dot is about to be sent."""

    held: Lease
    recipients: Sequence[int]


class Marked(Enum):
    """What became of a mark. HELD: somebody held one of these recipients, or their lane, since they were claimed; none
    was marked, and none may be sent. LOST: the lease is another's."""

    NOTED = "noted"
    HELD = "held"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Settlement:
    """A job with what is to be written down about it. `jitter` in [0, 1).

    `site_down`: the lane's site is known to have failed before. `after`: claim on behind this (None: don't).
    `last`: nobody else works on the lane; it is given back where nothing is left to do.
    """

    held: Lease
    job: Job
    report: Report
    now: int
    jitter: float
    telling: Telling = field(default_factory=Telling)
    site_down: bool = False
    after: Cursor | None = None
    last: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settlement did: the steps that were recorded, the lease as it is now (None: it was lost), and whether the
    lane now backs off.

    `down`: the site or destination that is down with it, its failures and until when. `inside`: outcomes that came out
    in the transaction. `claim`: the next jobs, where they were asked for. `released`: the lane was given back. `held`:
    somebody held one of the recipients since they were claimed; what was to be done `inside` was not done for any.
    """

    steps: tuple[Step, ...]
    lease: Lease | None
    doomed: bool = False
    down: tuple[str, int, int] | None = None
    inside: tuple[Outcome, ...] = ()
    claim: Claim | None = None
    released: bool = False
    held: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """`delays` are seconds between attempts, the last repeats. `secret` keys what journeys are found by."""

    delays: Sequence[float]
    secret: bytes


Entry = Mark | Settlement


def write_down(tx: Tx, entries: Sequence[Entry], rules: Rules) -> list[Marked | Settled]:
    """All of these in one transaction, in order: what became of each mark, and what each settlement did.

    The instant of responsibility: before this commits, each recipient is the queue's; after it, those with a final
    outcome are the next MTA's, their mailbox's, or told of in a bounce that the same commit queued.
    """
    wanted = {(entry.held.lane, entry.held.token): None for entry in entries}
    packed = f"[{','.join(f'[{lane},{token}]' for lane, token in wanted)}]"
    # Whether they are held, of those that stand.
    standing: dict[int, int] = {row[0]: row[1] for row in tx.all("lanes_of_leases", leases=packed)}
    marks: list[int] = []
    ended: list[int] = []
    deferred: list[int] = []
    answers: list[Marked | Settled] = []
    for at, entry in enumerate(entries):
        lane_held = standing.get(entry.held.lane)
        match entry:
            case Mark():
                answers.append(Marked.LOST if lane_held is None else Marked.HELD if lane_held else Marked.NOTED)
                if lane_held == 0:
                    marks.append(at)
            case Settlement() if lane_held is not None:
                settled, final = _settle(tx, entry, rules, bool(lane_held))
                ended += final
                if len(final) < len(entry.job.recipients):
                    deferred += [one.id for one in entry.job.recipients]
                answers.append(settled)
            case Settlement():
                answers.append(_too_late(tx, entry))
    if marks:
        _mark(tx, entries, marks, answers)
    if deferred:
        tx.run("queue_not_past_dot", ids=as_list(deferred))
    if ended:
        end(tx, ended, max(entry.now for entry in entries if isinstance(entry, Settlement)))
    return [_go_on(tx, entry, answer) for entry, answer in zip(entries, answers, strict=True)]


def _mark(tx: Tx, entries: Sequence[Entry], marks: Sequence[int], answers: list[Marked | Settled]) -> None:
    """Note who may be taken from now on. Who was held since the claim is found where fewer are noted than wanted."""
    wanted = {at: entry.recipients for at in marks if isinstance(entry := entries[at], Mark)}
    ids = [id for recipients in wanted.values() for id in recipients]
    if tx.run("queue_past_dot", ids=as_list(ids)) == len(ids):
        return
    # The others may also have been noted in an earlier transaction of their attempt.
    held = {id for (id,) in tx.all("queue_held_of", ids=as_list(ids))}
    for at, recipients in wanted.items():
        if not held.isdisjoint(recipients):
            answers[at] = Marked.HELD
            tx.run("queue_not_past_dot", ids=as_list(recipients))


def _settle(tx: Tx, entry: Settlement, rules: Rules, lane_held: bool) -> tuple[Settled, list[int]]:
    """What became of one job; and the recipients that have ended."""
    job, now, report, held = entry.job, entry.now, entry.report, entry.held
    if report.inside and (lane_held or tx.one("queue_held_of", ids=as_list(one.id for one in job.recipients))):
        # What is done at home is done here, and nothing before: it has no mark.
        return Settled((), held, held=True), []
    inside = report.inside(tx) if report.inside else None
    outcomes = report.outcomes + (inside.outcomes if inside else ())
    steps = [*report.steps, *(inside.steps if inside else ())]
    down = next((outcome for outcome in outcomes if outcome.destination_down), None)
    failures, backoff = _backoff(tx, entry, rules) if down else (0, 0)
    recipients = {recipient.id: recipient for recipient in job.recipients}
    final: list[int] = []
    for outcome in outcomes:
        recipient = recipients[outcome.recipient]
        due_at: int | None = None
        if outcome.fate.final:
            final.append(outcome.recipient)
        else:
            due_at = retry_at(rules.delays, recipient.attempts + 1, entry.jitter, now, job.mail.expires_at)
            _defer(tx, recipient, outcome, due_at)
            due_at = backoff if outcome.destination_down else due_at
        steps.append(outcome_step(job, recipient, outcome, now, due_at))
    journey.record(tx, job.mail.journey, steps)
    feedback.of_outcomes(tx, job, outcomes, now)
    told = _tell(tx, entry, inside.outcomes if inside else (), rules)
    held = _learn_site(tx, held, report)
    away = None
    if down:
        away = _back_off(tx, entry, down, failures, backoff)
    elif held.failures or entry.site_down:
        held = _revive(tx, held, outcomes, entry)
    settled = Settled((*steps, *told), held, down is not None, away, inside.outcomes if inside else ())
    return settled, final


def _defer(tx: Tx, recipient: QueuedRecipient, outcome: Outcome, due_at: int) -> None:
    tx.run(
        "queue_settle_deferred",
        id=outcome.recipient,
        # Where the lane backs off as a whole, its recipients are due with it and not later.
        due_at=recipient.due_at if outcome.destination_down else due_at,
        reply=write_reply(outcome.reply),
        remote=outcome.remote,
    )


def _tell(tx: Tx, entry: Settlement, inside: Sequence[Outcome], rules: Rules) -> tuple[Step, ...]:
    """What the sender is told, queued."""
    steps: list[Step] = []
    if entry.telling.prepared is not None:
        steps += bounce.queue(tx, entry.telling.prepared, rules.secret)
    if entry.telling.draft is not None:
        steps += bounce.write(tx, entry.telling.draft, bounce.reportable(entry.job, inside), rules.secret)
    return tuple(steps)


# --- the lane and its site --------------------------------------------------------------------------------------------


def _learn_site(tx: Tx, held: Lease, report: Report) -> Lease:
    if not report.site or report.site == held.site:
        return held
    tx.run("lane_site", lane=held.lane, site=report.site)
    return replace(held, site=report.site)


def _concerned(entry: Settlement) -> str | None:
    """What is down where this lane's destination is: the site that was tried, or the destination while it has none.

    One that has, and could not be routed this time, takes nobody with it.
    """
    if entry.report.site:
        return entry.report.site
    return None if entry.held.site else entry.held.destination


def _backoff(tx: Tx, entry: Settlement, rules: Rules) -> tuple[int, int]:
    """How often the lane and its site have failed now, and when they are tried again.

    Couriers that ran side by side meet the same failure: it counts once a lease.
    """
    failures, name = entry.held.failures, _concerned(entry)
    if name is not None and (row := tx.one("site_get", site=name)):
        # Another lane's attempt under way when the site went down says the same once more.
        failures = max(failures, row[0] - 1 if row[1] > entry.now else row[0])
    return failures + 1, retry_at(rules.delays, failures + 1, entry.jitter, entry.now)


def _back_off(tx: Tx, entry: Settlement, down: Outcome, failures: int, until: int) -> tuple[str, int, int] | None:
    """The lane backs off, and its site with all other lanes."""
    reply = write_reply(down.reply)
    tx.run("lane_backs_off", lane=entry.held.lane, failures=failures, due_at=until, reply=reply, remote=down.remote)
    name = _concerned(entry)
    if name is None or is_local(entry.held.destination):
        return None
    tx.run("site_backs_off", site=name, failures=failures, due_at=until, reply=reply, remote=down.remote)
    return name, failures, until


def _revive(tx: Tx, held: Lease, outcomes: Sequence[Outcome], entry: Settlement) -> Lease:
    """Earlier failures are forgotten where the destination lives, and who waited for it is woken."""
    if all(outcome.given_up for outcome in outcomes):
        return held
    if held.failures:
        tx.run("lane_lives", lane=held.lane)
    for name in dict.fromkeys((held.site or held.destination, held.destination)):
        if tx.run("site_lives", site=name):
            tx.run("site_wake_lanes", site=name, now=entry.now, limit=_WOKEN)
            tx.run("destination_wake_lanes", destination=name, now=entry.now, limit=_WOKEN)
            tx.ring(Topic.QUEUE)
    return replace(held, failures=0)


# --- afterwards -------------------------------------------------------------------------------------------------------


def _go_on(tx: Tx, entry: Entry, answer: Marked | Settled) -> Marked | Settled:
    """The next claim where it was asked for, and the lane given back where nothing is left."""
    if isinstance(answer, Marked) or isinstance(entry, Mark) or answer.lease is None:
        return answer
    claim, ends = None, answer.doomed or answer.held
    if entry.after is not None and not ends:
        claim = lanes.claim(tx, answer.lease, entry.after, entry.now)
    if entry.last and (ends or (claim is not None and not claim.jobs)):
        lanes.release(tx, answer.lease)
        return replace(answer, claim=claim, released=True)
    return answer if claim is None else replace(answer, claim=claim)


def _too_late(tx: Tx, entry: Settlement) -> Settled:
    """The lease was lost, and the recipients are another holder's: tell the journey what happened all the same."""
    job = entry.job
    recipients = {recipient.id: recipient for recipient in job.recipients}
    steps = list(entry.report.steps)
    for outcome in entry.report.outcomes:
        recipient = recipients[outcome.recipient]
        steps.append(outcome_step(job, recipient, outcome, entry.now, None))
        if outcome.fate is Fate.RELAYED:
            steps.append(possible_duplicate(job.mail.journey, str(recipient.address), entry.now))
    journey.record(tx, job.mail.journey, steps)
    return Settled(tuple(steps), None)


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


# --- delays -----------------------------------------------------------------------------------------------------------


def tell_of_delay(tx: Tx, job: Job, prepared: bounce.Bounce | None, now: int, secret: bytes) -> tuple[Step, ...]:
    """Note that the sender is told of these recipients' delay, and queue what tells it: one commit. Nothing is said of
    those who left meanwhile, or whose delay another process has told of."""
    wait = {id for (id,) in tx.all("queue_delay_told", ids=as_list(one.id for one in job.recipients), now=now)}
    if prepared is None:
        return ()
    if len(wait) == len(job.recipients):
        return bounce.queue(tx, prepared, secret)
    told = [one for one in bounce.delayed(job) if one.recipient.id in wait]
    return bounce.write(tx, prepared.draft, told, secret)
