"""What is kept after it was expunged, for how long, and how it comes back.

Promises: an email that left its last mailbox keeps its content for as long as the configuration says, readable by
sessions that have not heard, restorable under new ids, also where its mailbox is gone. Then its row goes, and with the
last email of a message the message, whose blob becomes a suspect of the sweep. The feed of changes is forgotten from
its old end, and the floor says how far.
Refuses: to remove a blob (`store/blobs.py`), and to do much in one transaction: callers repeat until 0 comes back.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Final, NamedTuple

from posthouse.mailbox import append, mailboxes, ranges, search
from posthouse.mailbox.model import Change, NoSuchMailbox, lock_account
from posthouse.mailbox.threads import Thread
from posthouse.store import blobs
from posthouse.store.database import Topic, Tx

BATCH: Final = 500
# Changes of one account that are forgotten in one transaction.
_CHANGES: Final = 5000


class Restored(NamedTuple):
    """An email that came back: its new id, and the mailbox that it is in."""

    email: int
    mailbox: int


class Expunged(NamedTuple):
    """An email that can be restored. `mailbox`: where it was last; times are UTC milliseconds."""

    email: int
    mailbox: int
    gone_at: int
    message: int
    thread: int
    received_at: int
    size: int
    keywords: int


def list_expunged(tx: Tx, account: int, after: int = 0, limit: int = BATCH) -> list[Expunged]:
    """What can be restored, by email id, those above `after`."""
    found = tx.all("expunged_list", account=account, after=after, limit=limit)
    return [Expunged._make(row) for row in found]


def last_places(tx: Tx, account: int) -> dict[int, tuple[str, bool]]:
    """The paths of the account's mailboxes by id, those that are gone among them (False)."""
    places = {id: (path, False) for id, path in tx.all("mailboxes_gone", account=account)}
    return places | {one.id: (one.path, True) for one in mailboxes.list_mailboxes(tx, account)}


def undelete(tx: Tx, account: int, chosen: Collection[int], now: int) -> dict[int, Restored]:
    """File these expunged emails again where they were last; what became of each by its old id. Where that mailbox is
    gone they come into one of its name, which is made where there is none.

    Those that are not kept any more are left out. Raises NoSuchAccount, OverQuota.
    """
    lock_account(tx, account)
    rows = tx.all("expunged_find", account=account, emails=ranges.pack(chosen))
    places = _places(tx, account, {row[1] for row in rows}, now)
    change = Change(tx, lock_account(tx, account), now)
    append.check_quota(change.state, sum(row[5] for row in rows), len(rows))
    threads = ranges.pack({row[3] for row in rows})
    visible = {row[0] for row in tx.all("threads_visible", account=account, threads=threads)}
    fresh: dict[int, Restored] = {}
    for old, mailbox, message, thread, received_at, size, keywords, prologue in rows:
        email, place = change.new_email(), places[mailbox]
        fresh[old] = Restored(email, place)
        tx.put(
            "email_insert",
            account=account,
            id=email,
            message=message,
            thread=thread,
            received_at=received_at,
            size=size,
            keywords=keywords,
            mailbox=place,
            uid=change.next_uid(place),
            prologue=prologue,
        )
        entry = Thread(thread, thread in visible)
        append.add_email(change, email, entry, [place], keywords=keywords, size=size, deleted=False)
    if fresh:
        _forget_rows(tx, account, list(fresh))
        change.finish()
        tx.ring(Topic.SEARCH, account)
    return fresh


def _places(tx: Tx, account: int, wanted: Collection[int], now: int) -> dict[int, int]:
    """The mailboxes that take the place of these: themselves, or those of their names, or the Inbox."""
    there = {mailbox.id for mailbox in mailboxes.list_mailboxes(tx, account)}
    gone: dict[int, str] = dict(tx.all("mailboxes_gone", account=account))
    return {id: id if id in there else _named(tx, account, gone.get(id), now) for id in wanted}


def _named(tx: Tx, account: int, path: str | None, now: int) -> int:
    if path is not None:
        try:
            return mailboxes.find(tx, account, path)
        except NoSuchMailbox:
            if mailboxes.has_room(tx, account, path):
                return mailboxes.create(tx, account, path, now)
    return mailboxes.by_role(tx, account, "inbox")


def drop_expunged(tx: Tx, before: int, now: int, limit: int = BATCH) -> int:
    """Drop what was expunged before `before`; how many emails. 0: nothing is left to drop."""
    rows = tx.all("expunged_old", before=before, limit=limit)
    by_account: dict[int, list[int]] = {}
    for account, email, _ in rows:
        by_account.setdefault(account, []).append(email)
    for account in sorted(by_account):
        lock_account(tx, account)
        _forget_rows(tx, account, by_account[account])
    _drop_messages(tx, [row[2] for row in rows], now)
    if not rows:
        # Whatever was in them has gone with them, or before.
        tx.run("mailboxes_gone_forget", before=before)
    return len(rows)


def expire_changes(tx: Tx, account: int, before: int) -> int:
    """Forget changes made before `before`, from the oldest on, and raise the floor; the new floor, 0 where nothing
    was old.

    Raises NoSuchAccount.
    """
    lock_account(tx, account)
    rows = tx.all("changes_oldest", account=account, limit=_CHANGES)
    old = [modseq for modseq, _ in takewhile(lambda row: row[1] < before, rows)]
    if not old:
        return 0
    floor: int = old[-1]
    tx.run("changes_expire", account=account, floor=floor)
    tx.run("changes_floor", account=account, floor=floor)
    return floor


def accounts_after(tx: Tx, account: int, limit: int = BATCH) -> list[int]:
    """The accounts with mail, by id, above `account`: for a round over all of them."""
    return [row[0] for row in tx.all("accounts_after", account=account, limit=limit)]


def empty_account(tx: Tx, account: int, now: int, limit: int = BATCH) -> int:
    """Take away the mail of an account that is being removed, for good and with no feed; how many emails. 0: all is
    gone.

    When 0 comes back nothing of the account is left in the mail tables but what goes with its row.
    """
    rows = tx.all("account_emails", account=account, limit=limit)
    placed: dict[int, list[int]] = {}
    for mailbox, uid, *_ in tx.all("emails_placements", account=account, emails=ranges.pack([row[0] for row in rows])):
        placed.setdefault(mailbox, []).append(uid)
    for mailbox, uids in placed.items():
        spans = ranges.spans(uids)
        tx.many(
            "placements_remove",
            [{"account": account, "mailbox": mailbox, "low": low, "high": high} for low, high in spans],
        )
    tx.many("email_delete", [{"account": account, "email": row[0]} for row in rows])
    _forget_rows(tx, account, [row[0] for row in rows])
    _drop_messages(tx, [row[1] for row in rows], now)
    if not rows:
        for statement in ("account_links_delete", "account_changes_delete", "shares_forget"):
            tx.run(statement, account=account)
    return len(rows)


def _forget_rows(tx: Tx, account: int, gone: Sequence[int]) -> None:
    tx.many("expunged_delete", [{"account": account, "email": email} for email in gone])
    search.forget(tx, account, gone)


def _drop_messages(tx: Tx, messages: Sequence[int], now: int) -> None:
    """An email of each of these messages is gone (of one of them perhaps several). With its last one a message goes,
    and its blob is to be looked at."""
    gone = Counter(messages)
    left = {row[0]: row[1] - gone[row[0]] for row in tx.all("messages_emails", messages=ranges.pack(messages))}
    unused = [message for message, emails in left.items() if emails <= 0]
    tx.many("message_delete", [{"message": message} for message in unused])
    tx.many("message_text_delete", [{"message": message} for message in unused])
    tx.many("message_mended_delete", [{"message": message} for message in unused])
    tx.many("message_share", [{"id": id, "more": -gone[id]} for id, emails in left.items() if emails > 0])
    blobs.suspect(tx, unused, now)
