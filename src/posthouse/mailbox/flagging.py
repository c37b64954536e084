"""Flags of many emails at once.

Promises: some statements, whatever the number of emails; JMAP's and IMAP's totals follow exactly. `\\Deleted` belongs
to a placement and hides it from JMAP (RFC 8621 §4.1.1): an email whose last visible placement is marked reads as
destroyed there, unmarked as created. All other flags are keywords and belong to the email: its placements elsewhere
change with it.
Refuses: to bound the number of uids of one change: the caller does (`emails.BATCH`), so that no writer waits long.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass

from posthouse.mailbox import chosen, ranges
from posthouse.mailbox.chosen import MARKED, UNMARKED, Chosen, Weighing, Which
from posthouse.mailbox.model import KEYWORDS, Change, lock_account
from posthouse.mailbox.ranges import Ranges
from posthouse.store.database import Tx
from posthouse.terms.keywords import DRAFT, SEEN


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a change of flags: its modseq (None: nothing changed), of which of the placements that it was
    meant for, and the uids that `unchanged_since` kept from it. `only`: no other placement in the mailbox has changed
    with them."""

    modseq: int | None
    uids: Ranges
    only: bool
    modified: list[int]


def store_flags(
    tx: Tx,
    account: int,
    mailbox: int,
    uids: Collection[int],
    *,
    now: int,
    add: int = 0,
    remove: int = 0,
    deleted: bool | None = None,
    unchanged_since: int | None = None,
    ours: Collection[int] = (),
) -> Stored:
    """Take away and give keywords (bits), and set \\Deleted (None: as it is). `remove` comes first: KEYWORDS replaces
    all.

    With `unchanged_since` placements of a higher modseq are left alone and named (RFC 7162 §3.1.3), but for those of
    `ours`: of what the same command has changed already. Uids that are not there are passed over. Raises NoSuchAccount.
    """
    change = Change(tx, lock_account(tx, account), now)
    asked, modified = ranges.pack(uids), list[int]()
    if unchanged_since is not None:
        found = tx.all("placements_modseqs", account=account, mailbox=mailbox, uids=asked)
        modified = [uid for uid, modseq in found if modseq > unchanged_since and modseq not in ours]
        asked = ranges.pack([uid for uid, modseq in found if modseq <= unchanged_since or modseq in ours])
    changed = [*_set_keywords(change, mailbox, asked, add & KEYWORDS, ~remove)]
    if deleted is not None:
        changed += _set_deleted(change, mailbox, asked, deleted)
    if not changed:
        return Stored(None, (), True, modified)
    meant = ranges.join(changed)
    return Stored(change.finish(), meant, meant == ranges.join(change[mailbox].changed), modified)


def _set_keywords(change: Change, mailbox: int, asked: str, add: int, keep: int) -> Ranges:
    """Change the keywords of these placements' emails; the uids among them that it made a difference to."""
    tx, account = change.tx, change.account
    found = chosen.choose(tx, account, mailbox, asked, Which(keep, add, -1))
    if found is None:
        return ()
    placed = {mailbox: found.uids} if found.alone else _placements(tx, account, mailbox, found)
    touched = add | ~keep
    if touched & SEEN:
        for place, uids in placed.items():
            unseen = found.unseen if found.alone else _unseen(tx, account, place, uids)
            change[place].unseen += (0 if add & SEEN else ranges.count(uids)) - unseen
    read = found.emails if touched & (SEEN | DRAFT) else ()
    weighing = Weighing(change, read, places=placed, still=found.alone and not found.deleted)
    chosen.over(tx, "emails_set_keywords", found.emails, account=account, add=add, keep=keep, modseq=change.modseq)
    for place, uids in placed.items():
        change[place].changed += uids
    weighing.settle()
    change.emails_updated += found.visible if found.alone else _visible(change, found)
    return found.uids


def _visible(change: Change, found: Chosen) -> Ranges:
    if not found.deleted:
        return found.emails
    return ranges.spans(chosen.visible(change.tx, change.account, found.emails))


def _placements(tx: Tx, account: int, here: int, found: Chosen) -> dict[int, Ranges]:
    """Where these emails, which were found in one mailbox, are: uids by mailbox."""
    packed = ranges.pack_ranges(found.emails)
    if found.homes == found.count:
        copies = tx.all("emails_copies", account=account, emails=packed)
        all_of = {mailbox: ranges.spans(json.loads(uids)) for mailbox, uids in copies}
        return {**all_of, here: ranges.join([*found.uids, *all_of.get(here, ())])}
    placed: dict[int, list[int]] = {}
    for mailbox, uid, *_ in tx.all("emails_placements", account=account, emails=packed):
        placed.setdefault(mailbox, []).append(uid)
    return {mailbox: ranges.spans(uids) for mailbox, uids in placed.items()}


def _unseen(tx: Tx, account: int, mailbox: int, uids: Ranges) -> int:
    """How many of these placements are of emails that are not seen."""
    found = tx.value("placements_unseen", account=account, mailbox=mailbox, uids=ranges.pack_ranges(uids), seen=SEEN)
    return int(found)


def _set_deleted(change: Change, mailbox: int, asked: str, deleted: bool) -> Ranges:
    """Mark these placements, or unmark them; the uids of those that were not so before."""
    tx, account = change.tx, change.account
    found = chosen.choose(tx, account, mailbox, asked, UNMARKED if deleted else MARKED)
    if found is None:
        return ()
    into, out_of = (None, mailbox) if deleted else (mailbox, None)
    weighing = Weighing(change, found.emails, into=into, out_of=out_of, apart=found.apart)
    if not deleted:
        show(change, found.emails, () if found.alone else chosen.visible(tx, account, found.emails))
    chosen.over(
        tx, "placements_set_deleted", found.uids,
        account=account, mailbox=mailbox, deleted=int(deleted), modseq=change.modseq,
    )  # fmt: skip
    if deleted:
        hide(change, found.emails, () if found.alone else chosen.visible(tx, account, found.emails))
    weighing.settle()
    ledger, sign = change[mailbox], 1 if deleted else -1
    ledger.deleted += sign * found.count
    ledger.deleted_octets += sign * found.octets
    ledger.changed += found.uids
    return found.uids


def hide(change: Change, emails: Ranges, still: Collection[int]) -> None:
    """Placements of these emails ceased to be seen; `still`: those that are seen elsewhere."""
    remain = ranges.spans(still)
    gone = ranges.without(emails, remain)
    change.emails_updated += remain
    change.emails_destroyed += gone
    if gone:
        change.threads_left.update(chosen.threads_of(change.tx, change.account, gone))


def show(change: Change, emails: Ranges, before: Collection[int]) -> None:
    """Hidden placements of these emails are about to be seen; `before`: those that are seen elsewhere."""
    tx, account = change.tx, change.account
    there = ranges.spans(before)
    come = ranges.without(emails, there)
    change.emails_updated += there
    change.emails_created += ranges.expand(come)
    if come:
        threads = chosen.threads_of(tx, account, come)
        known = {row[0] for row in tx.all("threads_visible", account=account, threads=ranges.pack(threads))}
        for thread in threads:
            change.threads_joined.setdefault(thread, thread in known)
