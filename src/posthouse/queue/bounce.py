"""What the sender is told of a recipient: who is told, in which words, and in the same commit that ends it.

Promises: the sender of a message hears of each recipient that fails, once, in a report for programs and people
(RFC 3464), unless NOTIFY says otherwise (RFC 3461 §4.1); of one that waits for long, or that was reached, where he
wants to. A report about a report is never written (RFC 5321 §6.1): the journey then says that nobody was told.
Refuses: to decide that something has failed, except that time is up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from posthouse import journey
from posthouse.limits import HEADER_SIZE, KB
from posthouse.message import build
from posthouse.message.addresses import Mailbox
from posthouse.message.report import Action, RecipientReport, delivery_report
from posthouse.observe import Step
from posthouse.queue import queue as the_queue
from posthouse.queue.outcome import Fate, Outcome
from posthouse.queue.queue import Job, NewRecipient, QueuedMail, QueuedRecipient
from posthouse.store import blobs
from posthouse.store.blobs import BlobLost, Blobs, Staged
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.terms.envelope import DeliverBy, Wishes
from posthouse.terms.reply import Reply

_NEVER_TRIED: Final = Reply(451, "4.4.7", "The message could not be attempted in time")
_TOO_LATE: Final = Reply(554, "5.4.7", "The time by which the message was to arrive has passed")
# What of the failed message is returned: its header, or all of it where RET=FULL asks for that and it is not too long.
_MOST_RETURNED: Final = 256 * KB


# --- time is up -------------------------------------------------------------------------------------------------------


def give_up(job: Job, outcomes: Sequence[Outcome], now: int) -> tuple[Outcome, ...]:
    """The same outcomes; where the message's time is up, deferrals have become failures."""
    if now < job.mail.expires_at:
        return tuple(outcomes)
    return tuple(
        replace(outcome, fate=Fate.FAILED, given_up=True) if outcome.fate is Fate.DEFERRED else outcome
        for outcome in outcomes
    )


def time_is_up(job: Job) -> tuple[Outcome, ...]:
    """Failures of all recipients of a job that was not attempted again, with what was said of them last."""
    return tuple(
        Outcome(one.id, Fate.FAILED, one.last_reply or _NEVER_TRIED, remote=one.last_remote, given_up=True)
        for one in job.recipients
    )


def too_late(job: Job, now: int) -> tuple[Outcome, ...] | None:
    """Failures of all recipients of a job that may not be attempted any more; None where it may.

    RFC 2852 §4.1.4: in mode R what did not arrive in time goes back, with 5.4.7 (RFC 3463 §3.5: delivery time expired).
    """
    by = job.mail.wishes.deliver_by
    if by is None or not by.returned or now < by.at:
        return None
    return tuple(Outcome(one.id, Fate.FAILED, _TOO_LATE) for one in job.recipients)


# --- who is told ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """What the sender hears of one recipient. `retry_until`: a delay, and how long we go on."""

    recipient: QueuedRecipient
    action: Action
    status: str
    reply: Reply
    remote: str | None
    retry_until: int | None = None


def reportable(job: Job, outcomes: Sequence[Outcome]) -> tuple[Told, ...]:
    """What of these outcomes the sender wants to hear; nothing where there is no sender (RFC 5321 §6.1)."""
    if job.sender is None:
        return ()
    recipients = {recipient.id: recipient for recipient in job.recipients}
    by = job.mail.wishes.deliver_by
    # In mode R the message's own time ends where it was to arrive by.
    late = by is not None and by.returned and by.at <= job.mail.expires_at
    told = [_told(recipients[outcome.recipient], outcome, by, late) for outcome in outcomes]
    return tuple(one for one in told if one is not None)


def _told(recipient: QueuedRecipient, outcome: Outcome, by: DeliverBy | None, late: bool) -> Told | None:
    """RFC 3461 §4.1, §5.2: failures are reported unless NOTIFY leaves them out, success only where it is named."""
    notify = recipient.notify
    if outcome.fate is Fate.FAILED and (notify is None or "FAILURE" in notify):
        return Told(recipient, "failed", status(outcome, late=late), outcome.reply, outcome.remote)
    if outcome.fate is Fate.RELAYED and by is not None and _leaves_the_time(by, outcome):
        if notify is None or "NEVER" not in notify:
            return Told(recipient, "relayed", outcome.reply.enhanced or "2.0.0", outcome.reply, outcome.remote)
        return None
    if notify is None or "SUCCESS" not in notify or outcome.dsn_carried:
        return None
    if outcome.fate is Fate.DELIVERED:
        action: Action = "expanded" if outcome.expanded else "delivered"
        return Told(recipient, action, outcome.reply.enhanced or "2.0.0", outcome.reply, None)
    if outcome.fate is Fate.RELAYED:
        # RFC 3461 §5.2.2: the next server will tell nothing, so we do.
        return Told(recipient, "relayed", outcome.reply.enhanced or "2.0.0", outcome.reply, outcome.remote)
    return None


def _leaves_the_time(by: DeliverBy, outcome: Outcome) -> bool:
    """RFC 2852 §4.1.4.2: in mode N, where the next server knows no DELIVERBY, nobody will tell the sender that it is
    late, so he hears now that it was passed on. §4.1.4: where relays are to be traced, each of them tells.
    """
    return by.trace or not (by.returned or outcome.by_carried)


def wants_success(job: Job) -> bool:
    """Somebody wants to hear of success."""
    return job.sender is not None and any("SUCCESS" in (one.notify or ()) for one in job.recipients)


def delayed(job: Job) -> tuple[Told, ...]:
    """What the sender hears while the job's recipients wait (RFC 3461 §4.1: where NOTIFY says nothing, or DELAY)."""
    if job.sender is None:
        return ()
    return tuple(
        Told(
            recipient,
            "delayed",
            (reply := recipient.last_reply or _NEVER_TRIED).enhanced or "4.0.0",
            reply,
            recipient.last_remote,
            retry_until=job.mail.expires_at,
        )
        for recipient in job.recipients
        if recipient.notify is None or "DELAY" in recipient.notify
    )


def silence(job: Job, outcomes: Sequence[Outcome], now: int) -> tuple[Step, ...]:
    """The line of the journey that says that nobody is told of these failures, and why; none where nothing failed."""
    failed = [outcome for outcome in outcomes if outcome.fate is Fate.FAILED]
    if not failed:
        return ()
    reason = "the message is a report itself" if job.sender is None else "the sender asked not to be told"
    recipients = {recipient.id: str(recipient.address) for recipient in job.recipients}
    names = tuple(recipients[outcome.recipient] for outcome in failed[:20])
    return (Step("bounce.none", now, job.mail.journey, {"recipients": names, "reason": reason}),)


# --- the report -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draft:
    """A report that may have to be written, about `job`: what goes back with it (`full`: all of it), and its name.

    It has a journey of its own.
    """

    job: Job
    journey: int
    message_id: str
    hostname: str
    returned: bytes
    full: bool
    now: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Bounce:
    """A report ready to be queued: its octets are staged."""

    draft: Draft
    staged: Staged


async def draft(
    store: Blobs, job: Job, hostname: str, now: int, expires_at: int, random: Random, *, failed: bool
) -> Draft:
    """Everything about a report but what it tells. `failed`: it is to tell of a failure."""
    octets, full = await _original(store, job, failed=failed)
    own = journey.new_id(now, random.getrandbits(21))
    message_id = build.message_id(hostname, f"bounce.{journey.code(own)}")
    return Draft(job, own, message_id, hostname, octets, full, now, expires_at)


async def _original(store: Blobs, job: Job, *, failed: bool) -> tuple[bytes, bool]:
    """What of the message goes back with the report, and whether that is all of it.

    RFC 3461 §4.3: the header, or with RET=FULL everything, where something failed. A large one is never sent back (as
    Postfix's bounce_size_limit has it), and one that is lost, or cannot be read now, cannot be.
    """
    try:
        octets = await store.load(job.blob)
    except (BlobLost, StoreUnavailable):
        return b"", False
    # RFC 8689 §5: what was to travel only under verified TLS does not come back in a report that may not.
    whole = failed and job.mail.wishes.ret == "FULL" and not job.mail.wishes.requiretls
    if whole and len(octets) <= _MOST_RETURNED:
        return bytes(octets), True
    head = bytes(octets[:HEADER_SIZE])
    end = head.find(b"\r\n\r\n")
    return (head[: end + 4] if end >= 0 else b""), False


def compose(draft: Draft, told: Sequence[Told]) -> bytes:
    """The report to the sender of the draft's job. Pure."""
    mail, to = draft.job.mail, draft.job.sender
    assert to is not None, "nothing is reportable where there is nobody to tell"
    by = mail.wishes.deliver_by
    return delivery_report(
        reporting_mta=draft.hostname,
        # RFC 3464 §2 wants a human-readable From; the name is what every reader of mail knows.
        sender=Mailbox("Mail delivery", "MAILER-DAEMON", draft.hostname),
        to=Mailbox("", to.local, to.domain),
        at=draft.now,
        message_id=draft.message_id,
        recipients=[_report(one, draft.now) for one in told],
        original=draft.returned,
        full=draft.full,
        arrived_at=mail.queued_at,
        deliver_by=None if by is None else by.at,
        envid=mail.wishes.envid,
    )


def _report(told: Told, now: int) -> RecipientReport:
    recipient = told.recipient
    return RecipientReport(
        final=str(recipient.address),
        action=told.action,
        status=told.status,
        # RFC 3461 §4.2: ORCPT travels as it came. Without one §6.3 (d) wants no such field; as Postfix does, we name
        # the address as it came in, which a relay may make an ORCPT of (§5.2.1): so its sender knows it again.
        original=recipient.orcpt or f"rfc822;{recipient.original}",
        remote_mta=told.remote,
        diagnostic=str(told.reply),
        last_attempt_at=now,
        will_retry_until=told.retry_until,
    )


def status(outcome: Outcome, *, late: bool = False) -> str:
    """The status of a failure (RFC 3463): the reply's own, or that time was up. `late`: the sender had set the time."""
    enhanced = outcome.reply.enhanced
    if outcome.given_up and late:
        return "5.4.7"  # RFC 2852 §4.1.4, mode R: as where it was not attempted again
    if outcome.given_up:
        # A mailbox of ours that stayed full is full; anything else ran out of time (RFC 3463 §3.5, X.4.7).
        return "5.2.2" if outcome.remote is None and enhanced == "4.2.2" else "4.4.7"
    return enhanced or "5.0.0"


def write(tx: Tx, draft: Draft, told: Sequence[Told], secret: bytes) -> tuple[Step, ...]:
    """Write and queue a report on what came out inside this transaction; no `told`, no report."""
    if not told:
        return ()
    octets = compose(draft, told)
    return queue(tx, Bounce(draft, blobs.in_row(octets)), secret)


def queue(tx: Tx, bounce: Bounce, secret: bytes) -> tuple[Step, ...]:
    """Queue the report, in the transaction that settles what it is about; the steps that tell of it."""
    draft = bounce.draft
    sender = draft.job.sender
    assert sender is not None, "nothing is reportable where there is nobody to tell"
    blob = blobs.insert(tx, bounce.staged)
    mail = QueuedMail(
        journey=draft.journey,
        blob=blob,
        size=bounce.staged.size,
        # RFC 5321 §4.5.5: the null reverse-path, so that nothing ever answers it.
        sender=None,
        queued_at=draft.now,
        expires_at=draft.expires_at,
        # RFC 6533 §4: an address that is not ASCII needs SMTPUTF8 to be written to.
        wishes=Wishes(smtputf8=not sender.ascii, requiretls=draft.job.mail.wishes.requiretls),
    )
    the_queue.accept(
        tx, mail, [NewRecipient(sender, the_queue.destination_of(tx, sender), notify=frozenset({"NEVER"}))]
    )
    about, own = draft.job.mail.journey, draft.journey
    written = Step("bounce.written", draft.now, own, {"recipient": str(sender), "about": journey.code(about)})
    told = Step("bounce.sent", draft.now, about, {"to": str(sender), "bounce": journey.code(own)})
    journey.open(
        tx,
        own,
        message_id=draft.message_id,
        sender=None,
        recipients=[str(sender)],
        subject=None,
        secret=secret,
        steps=[written],
    )
    journey.record(tx, about, [told])
    return told, written
