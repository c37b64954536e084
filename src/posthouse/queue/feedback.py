"""What comes back of mail that an account sent: failures in our queue, reports and complaints (RFC 3464, 5965).

Promises: a report of others counts only where it is about a message of the account that gets it: by the Message-ID or
the ENVID that this account submitted it with, and about a recipient whom another server took it for: of the others we
know ourselves what became of them. It is told in that journey. One that came with a sender is no report. What it is
about is looked for outside the transaction that files it (`look`): strangers decide how much there is to look at.
Refuses: to hold mail back (directory/suppression.py keeps the list; who sends asks it).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from posthouse import journey
from posthouse.directory import suppression
from posthouse.directory.suppression import COMPLAINT
from posthouse.journey import Journey
from posthouse.limits import MB
from posthouse.message.cause import cause_of
from posthouse.message.feedback import Feedback, parse_feedback
from posthouse.message.header import Buffer, Header
from posthouse.message.report import RecipientReport, Report, parse_report
from posthouse.observe import Step
from posthouse.queue.outcome import Fate, Outcome
from posthouse.queue.queue import Job
from posthouse.store.database import Tx
from posthouse.terms.address import Address, BadAddress, parse

# A report that returns a whole message is seldom larger; of larger ones we believe nothing.
_LARGEST: Final = 1 * MB
# Of one report so many recipients are looked at, and of what the account submitted with its Message-ID so many.
_MOST_TOLD: Final = 100
_MOST_JOURNEYS: Final = 5
_NOT_ABUSE: Final = "not-spam"


@dataclass(frozen=True, slots=True)
class News:
    """What is said of one recipient. `cause` None: nothing that the list should hold."""

    address: Address
    cause: str | None
    told: str
    words: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What a report says to an account of a message that it submitted: the one of this journey."""

    account: int
    journey: int
    news: tuple[News, ...]


def of_outcomes(tx: Tx, job: Job, outcomes: Sequence[Outcome], now: int) -> None:
    """Recipients of an account's mail that failed for good go on its list."""
    account = job.mail.account
    if account is None:
        return
    recipients = {recipient.id: recipient for recipient in job.recipients}
    for outcome in outcomes:
        if outcome.fate is Fate.FAILED:
            reply = outcome.reply
            cause = cause_of(reply.enhanced, reply.text).value
            suppression.note(tx, account, recipients[outcome.recipient].address, cause, str(reply), now)


def read(header: Header, octets: Buffer, *, null_sender: bool) -> Report | Feedback | None:
    """The report or complaint that a message is; None where it is none, or too large to be one.

    `null_sender`: it came with the null reverse-path, as each report does (RFC 3464 §2), and no complaint need. Who has
    an account at a large provider cannot send so: he forges no reports about the others there.
    """
    kind = (header.first(b"content-type") or b"").lower()
    if b"multipart/" not in kind or len(octets) > _LARGEST:
        return None
    if b"feedback-report" in kind:
        return parse_feedback(octets)
    # Any multipart: OpenSMTPD says mixed.
    return parse_report(octets) if null_sender else None


def look(tx: Tx, accounts: Iterable[int], found: Report | Feedback, secret: bytes) -> tuple[Heard, ...]:
    """What a report says to the accounts that get it. Only reads."""
    heard = [_heard(tx, account, found, secret) for account in accounts]
    return tuple([one for one in heard if one is not None])


def take_in(tx: Tx, heard: Iterable[Heard], account: int, now: int) -> tuple[Step, ...]:
    """Write down what this account has heard; the steps that its message's journey gains."""
    steps: list[Step] = []
    for one in heard:
        if one.account == account:
            steps += _take_in(tx, one, now)
    return tuple(steps)


def _take_in(tx: Tx, heard: Heard, now: int) -> list[Step]:
    steps: list[Step] = []
    for news in heard.news:
        if news.cause is not None:
            suppression.note(tx, heard.account, news.address, news.cause, news.words, now)
        facts = {"recipient": str(news.address), "action": news.told, "cause": news.cause, "reply": news.words}
        steps.append(Step("report.received", now, heard.journey, facts))
    journey.record(tx, heard.journey, steps)
    return steps


def _heard(tx: Tx, account: int, found: Report | Feedback, secret: bytes) -> Heard | None:
    envid = found.envid if isinstance(found, Report) else None
    for about in journey.submitted(tx, account, found.message_id, envid, secret, _MOST_JOURNEYS):
        handed_on = {address.key for one in _handed_on(about) if (address := _address(one)) is not None}
        news = tuple([one for one in _news(found, about) if one.address.key in handed_on])
        if news:
            return Heard(account, about.id, news)
    return None


def _handed_on(one: Journey) -> Iterator[str]:
    """Those for whom another server took it; nobody but us knows of those who are at home, wait or have failed."""
    for step in one.steps:
        if step.kind == "recipient.relayed" and isinstance(address := step.facts.get("recipient"), str):
            yield address


def _news(found: Report | Feedback, about: Journey) -> Iterator[News]:
    if isinstance(found, Report):
        for report in found.recipients[:_MOST_TOLD]:
            # A server behind an alias names its own address last, and ours first.
            both = [_address((written or "").rpartition(";")[2]) for written in (report.original, report.final)]
            for known in {one.key: one for one in both if one is not None}.values():
                yield _of_recipient(report, known)
        return
    told = f"complaint: {found.kind}"
    cause = None if found.kind == _NOT_ABUSE else COMPLAINT
    # For privacy the recipient is often left out: with one there is no doubt who it was.
    for one in found.recipients[:_MOST_TOLD] or (about.recipients if len(about.recipients) == 1 else ()):
        if (address := _address(one)) is not None:
            yield News(address, cause, told, told)


def _of_recipient(report: RecipientReport, address: Address) -> News:
    words = report.diagnostic or report.status
    cause = cause_of(report.status, words).value if report.action == "failed" else None
    return News(address, cause, report.action, words)


def _address(text: str) -> Address | None:
    try:
        return parse(text.strip().strip("<>"), utf8=True)
    except BadAddress:
        return None
