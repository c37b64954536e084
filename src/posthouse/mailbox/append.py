"""Filing: a message's row, and an email of it in an account.

Promises: an email is filed whole or not at all: row, thread, placements, totals, quota and feed in the caller's
transaction. Many accounts share one message row. The quota is checked under the account's lock, in the commit that
files.
Refuses: to decide into which mailbox, and to file one envelope twice in an account: both are the caller's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from posthouse.mailbox import threads
from posthouse.mailbox.model import Change, OverQuota, State, is_unread, lock_account
from posthouse.mailbox.summary import Rendered
from posthouse.store import blobs
from posthouse.store.blobs import Staged
from posthouse.store.database import Topic, Tx


@dataclass(frozen=True, slots=True)
class Filed:
    """An email that was filed: its ids, and its uid in each mailbox."""

    email: int
    thread: int
    uids: dict[int, int]
    modseq: int


@dataclass(frozen=True, slots=True)
class Filing:
    """One account's share of a message that several get: see `file_email`."""

    account: int
    mailboxes: Sequence[int]
    prologue: bytes = b""
    keywords: int = 0


def store_message(tx: Tx, content: Staged | int, rendered: Rendered) -> int:
    """Store what all who receive a message share; the message's id. `content`: octets, or the blob they are already in.

    Without an email in the same transaction the message is nobody's.
    """
    blob = content if isinstance(content, int) else blobs.insert(tx, content)
    message: int = tx.value(
        "message_insert",
        blob=blob,
        size=rendered.size,
        sent_at=rendered.sent_at,
        has_attachment=int(rendered.has_attachment),
        preview=rendered.preview,
        summary=rendered.summary,
        structure=rendered.structure,
        parts=rendered.parts,
    )
    tx.run("message_text_insert", message=message, head=rendered.head, body=rendered.body)
    return message


def file_email(
    tx: Tx,
    account: int,
    message: int,
    rendered: Rendered,
    *,
    mailboxes: Sequence[int],
    received_at: int,
    thread_secret: bytes,
    now: int | None = None,
    prologue: bytes = b"",
    keywords: int = 0,
    deleted: bool = False,
    overshoot: bool = False,
) -> Filed:
    """File a stored message as a new email of an account, placed in each of `mailboxes`.

    `received_at` is the internal date; `now` (where it differs, as in APPEND) the time of the change. `overshoot`
    asks no quota. Locks the account.
    Raises NoSuchAccount, NoSuchMailbox, OverQuota.
    """
    change = Change(tx, lock_account(tx, account), received_at if now is None else now)
    size = len(prologue) + rendered.size
    if not overshoot:
        check_quota(change.state, size, 1)
    thread = threads.join(change, threads.links(rendered, thread_secret))
    email = change.new_email()
    tx.run(
        "email_insert",
        account=account,
        id=email,
        message=message,
        thread=thread.id,
        received_at=received_at,
        size=size,
        keywords=keywords,
        prologue=prologue,
    )
    add_email(change, email, thread, mailboxes, keywords=keywords, size=size, deleted=deleted)
    modseq = change.finish()
    tx.ring(Topic.SEARCH, account)
    return Filed(email, thread.id, {mailbox: change[mailbox].first_uid for mailbox in mailboxes}, modseq)


def file_many(
    tx: Tx, message: int, rendered: Rendered, filings: Iterable[Filing], *, received_at: int, thread_secret: bytes
) -> dict[int, Filed | OverQuota]:
    """File one message in several accounts (limits.LOCAL_RECIPIENTS at most); by account, the email or its quota's
    answer.

    Accounts are locked in ascending id, so the caller may have locked them before with `lock_accounts`, or none of
    them.
    Raises NoSuchAccount, NoSuchMailbox.
    """
    fates: dict[int, Filed | OverQuota] = {}
    for filing in sorted(filings, key=lambda filing: filing.account):
        try:
            fates[filing.account] = file_email(
                tx,
                filing.account,
                message,
                rendered,
                mailboxes=filing.mailboxes,
                received_at=received_at,
                thread_secret=thread_secret,
                prologue=filing.prologue,
                keywords=filing.keywords,
            )
        except OverQuota as error:
            # Raised before the first row of this account is written.
            fates[filing.account] = error
    return fates


def check_quota(state: State, octets: int, emails: int) -> None:
    """Raises OverQuota where the account would hold more than it may. An email counts once, wherever it is placed."""
    if state.quota_octets is not None and state.used_octets + octets > state.quota_octets:
        raise OverQuota(state.account)
    if state.quota_emails is not None and state.used_emails + emails > state.quota_emails:
        raise OverQuota(state.account)


def add_email(
    change: Change,
    email: int,
    thread: threads.Thread,
    mailboxes: Sequence[int],
    *,
    keywords: int,
    size: int,
    deleted: bool,
) -> None:
    """Enter a new email into the ledgers: used by all that make one."""
    change.octets += size
    change.emails += 1
    unread = is_unread(keywords)
    for mailbox in mailboxes:
        ledger = change[mailbox]
        ledger.placed.append((email, deleted))
        ledger.add_placement(keywords, size, deleted)
        if not deleted:
            ledger.add_email(thread.id, unread)
    if not deleted:
        change.emails_created.append(email)
        change.threads_joined.setdefault(thread.id, thread.visible)
