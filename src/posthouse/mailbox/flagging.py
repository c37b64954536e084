"""Flags of many emails at once.

Promises: some statements, whatever the number of emails; JMAP's and IMAP's totals follow exactly. `\\Deleted` belongs
to a placement and hides it from JMAP (RFC 8621 §4.1.1): an email whose last visible placement is marked reads as
destroyed there, unmarked as created. All other flags are keywords and belong to the email: its placements elsewhere
change with it.
Refuses: to bound the number of uids of one change: the caller does, so that no writer waits long.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from posthouse.mailbox import chosen, ranges
from posthouse.mailbox.chosen import MARKED, UNMARKED, Chosen, Weighing, Which
from posthouse.mailbox.model import KEYWORDS, Change, lock_account
from posthouse.mailbox.ranges import Ranges
from posthouse.store.database import Tx
from posthouse.terms.keywords import DRAFT, SEEN

# In so many ranges it is tried whether emails came together: three statements each.
_FEW_RANGES: Final = 50


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
    changed: list[tuple[int, int]] = []
    if add & KEYWORDS or remove:
        changed += _set_keywords(change, mailbox, asked, add & KEYWORDS, ~remove)
    if deleted is not None:
        changed += _set_deleted(change, mailbox, asked, deleted)
    if not changed:
        return Stored(None, (), True, modified)
    meant = ranges.join(changed)
    return Stored(change.finish(), meant, meant == ranges.join(change[mailbox].changed), modified)


def _set_keywords(change: Change, mailbox: int, asked: str, add: int, keep: int) -> Ranges:
    """Change the keywords of these placements' emails; the uids among them that it made a difference to."""
    if (add | ~keep) & (SEEN | DRAFT):
        return _set_found(change, mailbox, asked, add, keep)
    done, left = _set_at_home(change, mailbox, asked, add, keep)
    return [*done, *_set_found(change, mailbox, ranges.pack_ranges(left), add, keep)] if left else done


def _set_at_home(change: Change, mailbox: int, asked: str, add: int, keep: int) -> tuple[Ranges, Ranges]:
    """The same where uids and emails run in parallel and the emails are placed here and nowhere else, which is what
    mail that came together looks like. Nobody becomes read or unread by it, so nothing has to be counted before, and
    one walk does it. And the ranges of uids that are left to be looked at otherwise."""
    tx, account = change.tx, change.account
    spans: Ranges = json.loads(asked)
    if len(spans) > _FEW_RANGES:
        return (), spans
    done, left = list[tuple[int, int]](), list[tuple[int, int]]()
    for low, high in spans:
        delta = chosen.delta(tx, account, mailbox, low, high)
        emails = () if delta is None else [(low + delta, high + delta)]
        # An email is placed somewhere: if it is nowhere but in its home it is there.
        if delta is None or chosen.placed_again(tx, account, emails, mailbox, mailbox) is not None:
            left.append((low, high))
            continue
        uids, those_are_all = _set_range(change, mailbox, (low, high), delta, add, keep)
        done += uids
        if not those_are_all:
            left.append((low, high))
    return done, left


def _set_range(
    change: Change, mailbox: int, span: tuple[int, int], delta: int, add: int, keep: int
) -> tuple[Ranges, bool]:
    """Change the emails that are so far above these uids and have their home there, and no other placement: the uids of
    those that it made a difference to; and whether there are as many such emails as uids."""
    (low, high), tx, account = span, change.tx, change.account
    where = {"account": account, "mailbox": mailbox, "low": low + delta, "high": high + delta, "delta": delta}
    changed = tx.run("emails_set_keywords_at_home", **where, add=add, keep=keep, modseq=change.modseq)
    uids, count = [span], changed
    if changed < high - low + 1:
        row = tx.one("emails_changed_at_home", **where, modseq=change.modseq)
        assert row is not None, "it counts"
        count = row[0]
        uids = ranges.spans([email - delta for email in json.loads(row[1])])
    emails: Ranges = [(first + delta, last + delta) for first, last in uids]
    change[mailbox].changed += uids
    if emails and tx.value("mailbox_marked", account=account, mailbox=mailbox):
        emails = ranges.spans(chosen.visible(tx, account, emails))
    change.emails_updated += emails
    return uids, count == high - low + 1


def _set_found(change: Change, mailbox: int, asked: str, add: int, keep: int) -> Ranges:
    """Change the keywords of these placements' emails, wherever they are placed; the uids among them that it made a
    difference to."""
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
