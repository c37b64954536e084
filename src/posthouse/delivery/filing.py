"""Filing a message in accounts of ours, as reception does when it accepts and the courier when it delivers later.

Promises: each account's copy is filed whole or answered for: OverQuota and NoSuchAccount are answers, not errors. The
message is stored once, and only where somebody gets it. Everything happens in the caller's transaction.
Refuses: to decide who gets a copy, and in which mailbox.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.mailbox import append, threads
from posthouse.mailbox.append import Filed
from posthouse.mailbox.model import Change, NoSuchAccount, OverQuota, lock_account_to_file
from posthouse.mailbox.summary import Rendered
from posthouse.store.blobs import Staged
from posthouse.store.database import Tx
from posthouse.terms.address import Address

INBOX = "inbox"
JUNK = "junk"
SENT = "sent"


@dataclass(frozen=True, slots=True)
class Copy:
    """What one account gets: header lines in front, the mailbox by `role`, keywords from the start."""

    account: int
    prologue: bytes
    role: str = INBOX
    keywords: int = 0


Fate = Filed | OverQuota | NoSuchAccount


def file_local(
    tx: Tx,
    content: Staged | int,
    rendered: Rendered,
    copies: Sequence[Copy],
    *,
    received_at: int,
    thread_secret: bytes,
    overshoot: bool = False,
) -> dict[int, Fate]:
    """File one message for these accounts (each once, limits.LOCAL_RECIPIENTS at most); by account, what came of it.

    `content` is staged octets, or the id of the blob that holds them. Locks the accounts, in ascending id. Where nobody
    can take a copy nothing is stored. `overshoot` asks no quota. The instant of responsibility is the caller's commit:
    before it the message is whoever's it was, after it the account's.
    """
    fates: dict[int, Fate] = {}
    fitting: list[tuple[Copy, Change, int, threads.Kin]] = []
    links = threads.links(rendered, thread_secret)
    for copy in sorted(copies, key=lambda copy: copy.account):
        try:
            # People may delete any mailbox but the Inbox, which then takes its mail.
            state, mailbox, uid = lock_account_to_file(tx, copy.account, copy.role)
            if not overshoot:
                append.check_quota(state, len(copy.prologue) + rendered.size, 1)
        except (NoSuchAccount, OverQuota) as answer:
            fates[copy.account] = answer
            continue
        change = Change(tx, state, received_at)
        change[mailbox].first_uid = uid
        fitting.append((copy, change, mailbox, threads.look(tx, copy.account, links, mailbox)))
    if not fitting:
        return fates
    # A blob of the queue's may be a message already: of copies that were filed at acceptance.
    message = append.store_message(tx, content, rendered, len(fitting))
    for copy, change, mailbox, kin in fitting:
        fates[copy.account] = append.file_in(
            change,
            message,
            len(copy.prologue) + rendered.size,
            kin,
            mailboxes=(mailbox,),
            received_at=received_at,
            prologue=copy.prologue,
            keywords=copy.keywords,
        )
    return fates


def prologue(sender: Address | None, recipient: Address | str) -> bytes:
    """What final delivery puts in front: who sent it (RFC 5321 §4.4), and for which address it came (RFC 9228)."""
    return f"Return-Path: <{sender or ''}>\r\nDelivered-To: {recipient}\r\n".encode()
