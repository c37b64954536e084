"""What becomes of a recipient that has failed: who is told, in which words, and in the same commit that ends it.

Promises: the sender of a message hears of each recipient that fails, once, in a report for programs and people
(RFC 3464), unless NOTIFY says otherwise (RFC 3461 §4.1). A report about a report is never written (RFC 5321 §6.1): the
journey then says that nobody was told. Refuses: to decide that something has failed, except that time is up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from posthouse import journey
from posthouse.limits import HEADER_SIZE, KB
from posthouse.message import build
from posthouse.message.addresses import Mailbox
from posthouse.message.report import RecipientReport, delivery_report
from posthouse.observe import Step
from posthouse.queue import queue as the_queue
from posthouse.queue.outcome import Fate, Outcome
from posthouse.queue.queue import Job, NewRecipient, QueuedMail
from posthouse.queue.schedule import LOCAL
from posthouse.store import blobs
from posthouse.store.blobs import BlobLost, Blobs, Staged
from posthouse.store.database import Tx
from posthouse.terms.address import Address
from posthouse.terms.envelope import Wishes
from posthouse.terms.reply import Reply

_NEVER_TRIED: Final = Reply(451, "4.4.7", "The message could not be attempted in time")
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


# --- who is told ------------------------------------------------------------------------------------------------------


def reportable(job: Job, failed: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Those of the failures that the sender wants to hear of; none where there is no sender."""
    if job.mail.sender is None:
        return ()
    recipients = {recipient.id: recipient for recipient in job.recipients}
    # RFC 3461 §4.1: where NOTIFY says nothing, failures are reported.
    return tuple(
        outcome for outcome in failed if (notify := recipients[outcome.recipient].notify) is None or "FAILURE" in notify
    )


def silence(job: Job, failed: Sequence[Outcome], now: int) -> tuple[Step, ...]:
    """The line of the journey that says that nobody is told, and why."""
    reason = "the message is a report itself" if job.mail.sender is None else "the sender asked not to be told"
    recipients = {recipient.id: str(recipient.address) for recipient in job.recipients}
    names = tuple(recipients[outcome.recipient] for outcome in failed[:20])
    return (Step("bounce.none", now, job.mail.journey, {"recipients": names, "reason": reason}),)


# --- the report -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bounce:
    """A report ready to be queued: about `job`, with its octets staged. It has a journey of its own."""

    job: Job
    journey: int
    message_id: str
    staged: Staged
    now: int
    expires_at: int


def original(store: Blobs, job: Job) -> tuple[bytes, bool]:
    """What of the failed message goes back with the report, and whether that is all of it.

    RFC 3461 §4.3: the header, or with RET=FULL everything. A large one is never sent back (as Postfix's
    bounce_size_limit has it), and a lost one cannot be.
    """
    try:
        octets = store.load(job.blob)
    except BlobLost:
        return b"", False
    if job.mail.wishes.ret == "FULL" and len(octets) <= _MOST_RETURNED:
        return bytes(octets), True
    head = bytes(octets[:HEADER_SIZE])
    end = head.find(b"\r\n\r\n")
    return (head[: end + 4] if end >= 0 else b""), False


def compose(
    job: Job, told: Sequence[Outcome], returned: tuple[bytes, bool], hostname: str, message_id: str, now: int
) -> bytes:
    """The report to the sender of `job` about these failures. The job has a sender."""
    sender = job.mail.sender
    assert sender is not None, "reportable() gives nothing where there is nobody to tell"
    octets, full = returned
    return delivery_report(
        reporting_mta=hostname,
        # RFC 3464 §2 wants a human-readable From; the name is what every reader of mail knows.
        sender=Mailbox("Mail delivery", "MAILER-DAEMON", hostname),
        to=Mailbox("", sender.local, sender.domain),
        at=now,
        message_id=message_id,
        recipients=_reports(job, told, now),
        original=octets,
        full=full,
        arrived_at=job.mail.queued_at,
        envid=job.mail.wishes.envid,
    )


def _reports(job: Job, told: Sequence[Outcome], now: int) -> list[RecipientReport]:
    recipients = {recipient.id: recipient for recipient in job.recipients}
    reports = []
    for outcome in told:
        recipient = recipients[outcome.recipient]
        reports.append(
            RecipientReport(
                final=str(recipient.address),
                action="failed",
                status=status(outcome),
                # RFC 3461 §4.2: ORCPT travels as it came; without one the address as it came in says as much.
                original=recipient.orcpt or f"rfc822;{recipient.original}",
                remote_mta=outcome.remote,
                diagnostic=str(outcome.reply),
                last_attempt_at=now,
            )
        )
    return reports


def status(outcome: Outcome) -> str:
    """The status of a failure (RFC 3463): the reply's own, or that time was up."""
    enhanced = outcome.reply.enhanced
    if outcome.given_up:
        # A mailbox of ours that stayed full is full; anything else ran out of time (RFC 3463 §3.5, X.4.7).
        return "5.2.2" if outcome.remote is None and enhanced == "4.2.2" else "4.4.7"
    return enhanced or "5.0.0"


def queue(tx: Tx, bounce: Bounce, secret: bytes) -> tuple[Step, ...]:
    """Queue the report, in the transaction that settles what it is about; the steps that tell of it."""
    sender = bounce.job.mail.sender
    assert sender is not None, "reportable() gives nothing where there is nobody to tell"
    blob = blobs.insert(tx, bounce.staged)
    mail = QueuedMail(
        journey=bounce.journey,
        blob=blob,
        size=bounce.staged.size,
        # RFC 5321 §4.5.5: the null reverse-path, so that nothing ever answers it.
        sender=None,
        queued_at=bounce.now,
        expires_at=bounce.expires_at,
        # RFC 6533 §4: an address that is not ASCII needs SMTPUTF8 to be written to.
        wishes=Wishes(smtputf8=not sender.ascii),
    )
    the_queue.accept(tx, mail, [NewRecipient(sender, _destination(tx, sender), notify=frozenset({"NEVER"}))])
    about, own = bounce.job.mail.journey, bounce.journey
    written = Step("bounce.written", bounce.now, own, {"recipient": str(sender), "about": journey.code(about)})
    told = Step("bounce.sent", bounce.now, about, {"to": str(sender), "bounce": journey.code(own)})
    journey.open(
        tx,
        own,
        message_id=bounce.message_id,
        sender=None,
        recipients=[str(sender)],
        subject=None,
        secret=secret,
        steps=[written],
    )
    journey.record(tx, about, [told])
    return told, written


def _destination(tx: Tx, address: Address) -> str | None:
    """Home, where its domain is served here; else None, by its MX."""
    return LOCAL if tx.one("domain_find", name=address.domain) else None


def fresh_journey(now: int, random: Random) -> int:
    """An id for the journey of a bounce."""
    return journey.new_id(now, random.getrandbits(21))


def name(journey_id: int, hostname: str) -> str:
    """The Message-ID of the bounce with that journey, without its brackets."""
    return build.message_id(hostname, f"bounce.{journey.code(journey_id)}")
