"""Copying, moving and expunging many emails at once.

Promises: some statements, whatever the number of emails; JMAP's and IMAP's totals follow exactly. What is copied or
moved keeps its order. An email that is placed nowhere any more is kept for a while (retention.py). Where a home moves,
the email's row says so: an email that was only ever moved has no entry in placement_email.
Refuses: to bound the number of uids of one change: the caller does (`emails.BATCH`), so that no writer waits long.
"""

from collections.abc import Collection, Iterable

from posthouse.mailbox import chosen, ranges
from posthouse.mailbox.chosen import EVERY, MARKED, Chosen, Weighing, Which
from posthouse.mailbox.flagging import hide
from posthouse.mailbox.model import Change, NoSuchMailbox, lock_account
from posthouse.store.database import Tx, Value


def copy(tx: Tx, account: int, mailbox: int, uids: Collection[int], target: int, now: int) -> list[tuple[int, int]]:
    """Place these emails in `target` too, flags included (RFC 9051 §6.4.7); uid here and uid there, in order.

    The email is the same (RFC 8474 §5.1), also where it is in `target` already. Raises NoSuchMailbox, NoSuchAccount.
    """
    change = Change(tx, lock_account(tx, account), now)
    found = chosen.choose(tx, account, mailbox, ranges.pack(uids), other=target)
    if found is None:
        _demand(tx, account, target)
        return []
    # What is copied to where it is comes there a second time, and counts once.
    weighing = Weighing(change, found.visible, into=target, apart=found.apart and mailbox != target)
    first = _place(change, found, mailbox, target, homes=False)
    weighing.settle()
    change.finish()
    return list(_pairs(found, first))


def move(tx: Tx, account: int, mailbox: int, uids: Collection[int], target: int, now: int) -> list[tuple[int, int]]:
    """Place these emails in `target` instead (RFC 6851); uid here and uid there, in order.

    Raises NoSuchMailbox, NoSuchAccount.
    """
    change = Change(tx, lock_account(tx, account), now)
    moved = move_in(change, mailbox, ranges.pack(uids), target)
    if moved:
        change.finish()
    else:
        _demand(tx, account, target)
    return moved


def expunge(tx: Tx, account: int, mailbox: int, uids: Collection[int], now: int) -> list[int]:
    """Take these placements away; the uids that were there. An email that is nowhere any more is kept for a while.

    Whoever wants only those marked \\Deleted gives only those. Raises NoSuchAccount.
    """
    return _expunge(tx, account, mailbox, ranges.pack(uids), EVERY, now)


def expunge_deleted(tx: Tx, account: int, mailbox: int, now: int, within: Collection[int] | None = None) -> list[int]:
    """EXPUNGE, and with `within` UID EXPUNGE (RFC 4315 §2.1): take away what is marked \\Deleted now; the uids."""
    return _expunge(tx, account, mailbox, chosen.ALL if within is None else ranges.pack(within), MARKED, now)


def _expunge(tx: Tx, account: int, mailbox: int, asked: str, which: Which, now: int) -> list[int]:
    change = Change(tx, lock_account(tx, account), now)
    gone = expunge_in(change, mailbox, asked, which)
    if gone:
        change.finish()
    return gone


def expunge_in(change: Change, mailbox: int, asked: str = chosen.ALL, which: Which = EVERY) -> list[int]:
    """`expunge` as part of a larger change. `asked`: uids as packed ranges."""
    tx, account = change.tx, change.account
    found = chosen.choose(tx, account, mailbox, asked, which)
    if found is None:
        return []
    weighing = Weighing(change, found.visible, out_of=mailbox, apart=found.apart)
    _lift(change, found, mailbox)
    if found.visible:
        hide(change, found.visible, () if found.alone else chosen.visible(tx, account, found.visible))
    weighing.settle()
    _forget(change, found, mailbox)
    return ranges.expand(found.uids)


def _forget(change: Change, found: Chosen, mailbox: int) -> None:
    """Those of the emails that are nowhere any more were in this mailbox last."""
    tx, account = change.tx, change.account
    lost = found.emails if found.alone else ranges.spans(chosen.unplaced(tx, account, found.emails))
    if lost:
        packed = ranges.pack_ranges(lost)
        change.octets -= tx.value("emails_total_size", account=account, emails=packed)
        change.emails -= ranges.count(lost)
        tx.run("emails_expunge", account=account, mailbox=mailbox, now=change.now, emails=packed)
        chosen.over(tx, "emails_delete", lost, account=account)


def move_in(change: Change, mailbox: int, asked: str, target: int) -> list[tuple[int, int]]:
    """`move` as part of a larger change. `asked`: uids as packed ranges. Raises NoSuchMailbox where there is one."""
    found = chosen.choose(change.tx, change.account, mailbox, asked, other=target)
    if found is None:
        return []
    # In its new place an email is seen as it was in the old one: none is destroyed.
    seen = found.visible if mailbox != target else ()
    weighing = Weighing(change, seen, into=target, out_of=mailbox, apart=found.apart)
    first = _place(change, found, mailbox, target, homes=True)
    _lift(change, found, mailbox)
    weighing.settle()
    return list(_pairs(found, first))


def _place(change: Change, found: Chosen, mailbox: int, target: int, *, homes: bool) -> int:
    """Place these in `target` too, in their order; the first uid there. `homes`: where they are their emails' home,
    that is there from now on. Raises NoSuchMailbox."""
    tx, account = change.tx, change.account
    uid = first = change.take_uids(target, found.count)
    written: dict[str, Value] = {
        "account": account, "target": target, "homes": int(homes), "modseq": change.modseq, "saved_at": change.now,
    }  # fmt: skip
    parallel = found.emails[0] if found.parallel else None
    if parallel is not None and not found.deleted:
        low, high = parallel
        tx.run("placements_of_emails", **written, low=low, high=high, delta=first - low)
        uid += found.count
    else:
        for low, high in found.uids:
            tx.run("placements_copy", **written, mailbox=mailbox, low=low, high=high, delta=uid - low)
            uid += high - low + 1
    if homes and parallel is not None:
        low, high = parallel
        tx.run("emails_rehome", account=account, mailbox=target, delta=first - low, low=low, high=high)
    elif homes and found.homes:
        tx.run("emails_follow", account=account, mailbox=target, low=first, high=uid - 1)
    change[target].enter(found.count, found.octets, found.unseen, found.deleted, found.deleted_octets)
    change.emails_updated += found.visible
    return first


def _lift(change: Change, found: Chosen, mailbox: int) -> None:
    """Take these placements away."""
    chosen.over(change.tx, "placements_remove", found.uids, account=change.account, mailbox=mailbox)
    ledger = change[mailbox]
    ledger.enter(-found.count, -found.octets, -found.unseen, -found.deleted, -found.deleted_octets)
    ledger.gone += found.uids


def _pairs(found: Chosen, first: int) -> Iterable[tuple[int, int]]:
    """Uid before and uid after."""
    return zip(ranges.expand(found.uids), range(first, first + found.count), strict=True)


def _demand(tx: Tx, account: int, mailbox: int) -> None:
    if tx.one("mailbox_place", account=account, mailbox=mailbox) is None:
        raise NoSuchMailbox(f"account {account} has no mailbox {mailbox}")
