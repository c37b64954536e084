"""Filing: a message's row, and an email of it in an account.

Promises: an email is filed whole or not at all: row, thread, placements, totals, quota and feed in the caller's
transaction. Many accounts share one message row. The quota is checked under the account's lock, in the commit that
files.
Refuses: to decide into which mailbox, and to file one envelope twice in an account: both are the caller's.
"""

from collections.abc import Sequence
from typing import NamedTuple

from posthouse.mailbox import threads
from posthouse.mailbox.model import Change, OverQuota, State, is_unread, lock_account
from posthouse.mailbox.summary import Rendered
from posthouse.store import blobs
from posthouse.store.blobs import Staged
from posthouse.store.database import Topic, Tx


class Filed(NamedTuple):
    """An email that was filed: its ids, and its uid in each mailbox."""

    email: int
    thread: int
    uids: dict[int, int]
    modseq: int


def store_message(tx: Tx, content: Staged | int, rendered: Rendered, emails: int = 1) -> int:
    """Store what all who receive a message share; the message's id. `content`: octets, or the blob they are already
    in, which may be a message's.

    The caller files so many `emails` of it in the same transaction: with the last of them the message goes.
    """
    if isinstance(content, int):
        message = content
        if tx.run("message_share", id=message, more=emails):
            return message
    else:
        message = blobs.insert(tx, content)
    tx.put(
        "message_insert",
        id=message,
        emails=emails,
        size=rendered.size,
        sent_at=rendered.sent_at,
        has_attachment=int(rendered.has_attachment),
        text_at=rendered.text_at,
        sorting=rendered.sorting,
        links=rendered.links,
        head=rendered.head,
        preview=rendered.preview,
        summary=rendered.summary,
        structure=rendered.structure,
        parts=rendered.parts,
    )
    if rendered.text_at is None:
        tx.put("message_text_insert", message=message, body=rendered.body)
    if rendered.mended or rendered.dotted:
        tx.put("message_mended_insert", message=message, only_dots=int(not rendered.mended))
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
    if not overshoot:
        check_quota(change.state, len(prologue) + rendered.size, 1)
    return file_in(
        change,
        message,
        len(prologue) + rendered.size,
        threads.look(tx, account, threads.links(rendered, thread_secret), mailboxes[0]),
        mailboxes=mailboxes,
        received_at=received_at,
        prologue=prologue,
        keywords=keywords,
        deleted=deleted,
    )


class New(NamedTuple):
    """A message that is to become an email; `content` as in `store_message`."""

    content: Staged | int
    rendered: Rendered
    received_at: int
    keywords: int
    deleted: bool


def file_emails(change: Change, mailbox: int, new: Sequence[New], *, thread_secret: bytes) -> Sequence[int]:
    """Store these messages and file them as new emails of a locked account in one mailbox, by one change, into which
    nothing else has been entered, and which is finished here; their uids, in order.

    Raises NoSuchMailbox, OverQuota.
    """
    tx, account = change.tx, change.account
    check_quota(change.state, sum([one.rendered.size for one in new]), len(new))
    hashes = [threads.links(one.rendered, thread_secret) for one in new]
    # What follows asks nothing, so that the rows of a message go to the database together.
    links = threads.Links(tx, account, hashes, mailbox)
    change.next_uid(mailbox)
    for one, own in zip(new, hashes, strict=True):
        kin = links.kin(own)
        _, thread = _enter(
            change,
            store_message(tx, one.content, one.rendered),
            one.rendered.size,
            kin,
            mailboxes=(mailbox,),
            received_at=one.received_at,
            keywords=one.keywords,
            deleted=one.deleted,
        )
        links.joined(kin, thread)
    change.finish()
    tx.ring(Topic.SEARCH, account)
    first = change[mailbox].first_uid
    return range(first, first + change.emails)


def file_in(
    change: Change,
    message: int,
    size: int,
    kin: threads.Kin,
    *,
    mailboxes: Sequence[int],
    received_at: int,
    prologue: bytes = b"",
    keywords: int = 0,
    deleted: bool = False,
) -> Filed:
    """`file_email` in an account that is locked and has room for `size` octets; `kin` as threads.py has found it, asked
    about the first of `mailboxes`.

    Nothing else has been entered into the change, which is finished here. Raises NoSuchMailbox.
    """
    email, thread = _enter(
        change,
        message,
        size,
        kin,
        mailboxes=mailboxes,
        received_at=received_at,
        prologue=prologue,
        keywords=keywords,
        deleted=deleted,
    )
    modseq = change.finish()
    change.tx.ring(Topic.SEARCH, change.account)
    return Filed(email, thread.id, {mailbox: change[mailbox].first_uid for mailbox in mailboxes}, modseq)


def _enter(
    change: Change,
    message: int,
    size: int,
    kin: threads.Kin,
    *,
    mailboxes: Sequence[int],
    received_at: int,
    prologue: bytes = b"",
    keywords: int,
    deleted: bool,
) -> tuple[int, threads.Thread]:
    """Enter a new email into a change; its id, and its thread. Raises NoSuchMailbox."""
    email = change.new_email()
    thread = threads.join(change, email, kin)
    change.tx.put(
        "email_insert",
        account=change.account,
        id=email,
        message=message,
        thread=thread.id,
        received_at=received_at,
        size=size,
        keywords=keywords,
        mailbox=mailboxes[0],
        uid=change.next_uid(mailboxes[0]),
        prologue=prologue,
    )
    add_email(change, email, thread, mailboxes, keywords=keywords, size=size, deleted=deleted)
    return email, thread


def check_quota(state: State, octets: int, emails: int) -> None:
    """Raises OverQuota where the account would hold more than it may, or all of its domain. An email counts once,
    wherever it is placed; what one transaction files for several of a domain is held against what that held before."""
    if state.quota_octets is not None and state.used_octets + octets > state.quota_octets:
        raise OverQuota(state.account)
    if state.quota_emails is not None and state.used_emails + emails > state.quota_emails:
        raise OverQuota(state.account)
    if state.domain_quota is not None and (state.domain_octets or 0) + octets > state.domain_quota:
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
    """Enter a new email into the ledgers: used by all that make one. The first of `mailboxes` is its home."""
    change.octets += size
    change.emails += 1
    unread = is_unread(keywords)
    if thread.before is not None:
        change[mailboxes[0]].before[thread.id] = thread.before
    for mailbox in mailboxes:
        ledger = change[mailbox]
        ledger.placed.append((email, deleted, mailbox == mailboxes[0]))
        ledger.add_placement(keywords, size, deleted)
        if not deleted:
            ledger.add_email(thread.id, unread)
    if not deleted:
        change.emails_created.append(email)
        change.threads_joined.setdefault(thread.id, thread.visible)
