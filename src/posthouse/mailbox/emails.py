"""Emails and their placements: reading rows and contents, flags, copy, move, expunge. (`reading.py`: for FETCH.)

Promises: reading goes by email ids, which a session has from its snapshot, so that it finds an email also after another
session has expunged it. Changes to many emails are a few statements, whatever their number; JMAP's and IMAP's totals
follow exactly. `\\Deleted` belongs to a placement and hides it from JMAP (RFC 8621 §4.1.1): an email whose last
visible placement is marked reads as destroyed there, unmarked as created. All other flags are keywords and belong to
the email: its placements elsewhere change with it.
Refuses: to bound the number of uids of one change: the caller does (`BATCH`), so that no writer waits long.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, NamedTuple

from posthouse.mailbox import ranges
from posthouse.mailbox.model import (
    KEYWORDS,
    BadKeyword,
    Change,
    Ledger,
    NoSuchEmail,
    NoSuchMailbox,
    TooManyKeywords,
    is_unread,
    lock_account,
)
from posthouse.store import blobs
from posthouse.store.blobs import BlobRef
from posthouse.store.database import Row, Tx
from posthouse.terms.keywords import BITS, FIRST_OWN_BIT, LAST_OWN_BIT, SEEN

# Emails a door reads in one transaction, and changes in one: a few milliseconds of reader, some tens of writer.
CHUNK: Final = 1000
BATCH: Final = 5000

# RFC 8621 §4.1.1 allows 255; nobody types one that long.
MAX_KEYWORD: Final = 100
_NO_KEYWORD: Final = frozenset('(){]%*"\\')


class EmailRow(NamedTuple):
    """An email's own row. `received_at`: UTC milliseconds; `size`: octets, prologue included; `keywords`: bits."""

    id: int
    message: int
    thread: int
    received_at: int
    size: int
    keywords: int


class Content(NamedTuple):
    """Where an email's octets are: `prologue` and then the blob. Offsets in `parts` (packed) count from the blob."""

    email: int
    prologue: bytes
    blob: BlobRef
    parts: bytes

    @property
    def size(self) -> int:
        """Octets of the whole."""
        return len(self.prologue) + self.blob.size


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a change of flags: its modseq (None: nothing changed), and the uids that `unchanged_since` kept
    from it."""

    modseq: int | None
    changed: int
    modified: list[int]


class _Chosen(NamedTuple):
    """A placement that a change is about, with what it needs of its email."""

    uid: int
    email: int
    deleted: int
    modseq: int
    keywords: int
    thread: int
    size: int


class _Standing:
    """How often an email is placed; how often visibly; and the latter in two mailboxes. Kept up to date in a change."""

    __slots__ = ("here", "placements", "there", "visible")

    def __init__(self, placements: int, visible: int, here: int, there: int) -> None:
        self.placements = placements
        self.visible = visible
        self.here = here
        self.there = there


# reading --------------------------------------------------------------------------------------------------------------


def rows(tx: Tx, account: int, emails: Collection[int]) -> dict[int, EmailRow]:
    """The rows of these emails, the expunged ones that are still kept among them. Missing ones are left out."""
    found = {row[0]: EmailRow._make(row) for row in tx.all("emails_rows", account=account, emails=ranges.pack(emails))}
    if len(found) < len(emails):
        missing = ranges.pack(set(emails) - found.keys())
        found.update((row[0], EmailRow._make(row)) for row in tx.all("expunged_rows", account=account, emails=missing))
    return found


def contents(tx: Tx, account: int, emails: Collection[int], *, parts: bool = True) -> dict[int, Content]:
    """Where the octets of these emails are; without `parts` those are empty. Whoever asks bounds the number: small
    blobs come with their octets."""
    packed = ranges.pack(emails)
    places: list[Row] = tx.all("emails_prologues", account=account, emails=packed)
    if len(places) < len(emails):
        missing = ranges.pack(set(emails).difference([row[0] for row in places]))
        places += tx.all("expunged_prologues", account=account, emails=missing)
    messages = {row[1] for row in places}
    refs = blobs.find_many(tx, sorted(messages))
    if not parts:
        return {email: Content(email, prologue, refs[message], b"") for email, message, prologue in places}
    trees: dict[int, bytes] = dict(tx.all("messages_contents", messages=ranges.pack(messages)))
    return {email: Content(email, prologue, refs[message], trees[message]) for email, message, prologue in places}


def at(tx: Tx, account: int, mailbox: int, uid: int) -> int | None:
    """The email that is placed there."""
    return next((row.email for row in _choose(tx, account, mailbox, [uid])), None)


def content(tx: Tx, account: int, email: int) -> Content:
    """Where one email's octets are. Raises NoSuchEmail."""
    found = contents(tx, account, [email])
    if email not in found:
        raise NoSuchEmail(f"account {account} has no email {email}")
    return found[email]


def every_uid(tx: Tx, account: int, mailbox: int) -> list[int]:
    """All uids of a mailbox, in order."""
    return [row[0] for row in tx.all("placements_uids", account=account, mailbox=mailbox, after=0, limit=-1)]


def deleted_uids(tx: Tx, account: int, mailbox: int) -> list[int]:
    """The uids that are marked \\Deleted, in order."""
    return [row[0] for row in tx.all("placements_deleted", account=account, mailbox=mailbox)]


def placements(tx: Tx, account: int, email: int) -> list[tuple[int, int, bool]]:
    """Where an email is: mailbox, uid, \\Deleted."""
    found = tx.all("emails_placements", account=account, emails=ranges.pack([email]))
    return [(row[0], row[1], bool(row[3])) for row in found]


# keywords -------------------------------------------------------------------------------------------------------------


def keyword_names(tx: Tx, account: int) -> dict[int, str]:
    """The account's keywords by bit (1 << n), those of terms/keywords.py among them."""
    names = {bit: name for name, bit in BITS.items()}
    names.update((1 << row[0], row[1]) for row in tx.all("keyword_names", account=account))
    return names


def keyword_spellings(tx: Tx, account: int) -> dict[int, str]:
    """The same, the account's own as they were first written."""
    names = {bit: name for name, bit in BITS.items()}
    names.update((1 << row[0], row[2]) for row in tx.all("keyword_names", account=account))
    return names


def known_keywords(tx: Tx, account: int, names: Iterable[str]) -> int:
    """The bits of those of these keywords that the account has met: for reading and searching."""
    bits = {name: bit for bit, name in keyword_names(tx, account).items()}
    return sum({bits.get(name.lower(), 0) for name in names})


def learn_keywords(tx: Tx, account: int, names: Iterable[str]) -> int:
    """The bits of these keywords, given to those that the account has not met, which keep their spelling. Locks the
    account.

    Raises BadKeyword, TooManyKeywords, NoSuchAccount.
    """
    wanted: dict[str, str] = {}
    for written in names:
        wanted.setdefault(check_keyword(written), written)
    lock_account(tx, account)
    bits = {name: bit for bit, name in keyword_names(tx, account).items()}
    free = (n for n in range(FIRST_OWN_BIT, LAST_OWN_BIT + 1) if 1 << n not in bits.values())
    for name in sorted(wanted.keys() - bits.keys()):
        number = next(free, None)
        if number is None:
            raise TooManyKeywords(f"an account has {LAST_OWN_BIT - FIRST_OWN_BIT + 1} keywords of its own at most")
        tx.run("keyword_insert", account=account, bit=number, name=name, written=wanted[name])
        bits[name] = 1 << number
    return sum(bits[name] for name in wanted)


def check_keyword(name: str) -> str:
    """A keyword in its normal form, lower case (RFC 8621 §4.1.1). Raises BadKeyword."""
    lowered = name.lower()
    if not 0 < len(lowered) <= MAX_KEYWORD or not all("!" <= c <= "~" and c not in _NO_KEYWORD for c in lowered):
        raise BadKeyword('a keyword is printable ASCII without ( ) { ] % * " \\')
    return lowered


# flags ----------------------------------------------------------------------------------------------------------------


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
) -> Stored:
    """Take away and give keywords (bits), and set \\Deleted (None: as it is). `remove` comes first: KEYWORDS replaces
    all.

    With `unchanged_since` placements of a higher modseq are left alone and named (RFC 7162 §3.1.3). Uids that are not
    there are passed over. Raises NoSuchAccount.
    """
    change = Change(tx, lock_account(tx, account), now)
    chosen = _choose(tx, account, mailbox, uids)
    modified: list[int] = []
    if unchanged_since is not None:
        modified = [row.uid for row in chosen if row.modseq > unchanged_since]
        chosen = [row for row in chosen if row.modseq <= unchanged_since]
    changed = _set_keywords(change, chosen, add & KEYWORDS, ~remove)
    if deleted is not None:
        flipped = [row for row in chosen if row.deleted != deleted]
        _set_deleted(change, mailbox, flipped, deleted, add & KEYWORDS, ~remove)
        changed.update([row.uid for row in flipped])
    if not changed:
        return Stored(None, 0, modified)
    return Stored(change.finish(), len(changed), modified)


def _set_keywords(change: Change, chosen: Sequence[_Chosen], add: int, keep: int) -> set[int]:
    """Change the keywords of these placements' emails; the uids among them that it made a difference to."""
    affected = {row.email: row for row in chosen if row.keywords & keep | add != row.keywords}
    if not affected:
        return set()
    tx, account = change.tx, change.account
    _over(tx, "emails_set_keywords", affected, account=account, add=add, keep=keep)
    seen_moves = add & SEEN or not keep & SEEN
    counted: set[tuple[int, int]] = set()
    for mailbox, uid, email, deleted in tx.all("emails_placements", account=account, emails=ranges.pack(affected)):
        row = affected[email]
        after = row.keywords & keep | add
        ledger = change[mailbox]
        ledger.changed.append(uid)
        if seen_moves and (row.keywords ^ after) & SEEN:
            ledger.unseen += 1 if row.keywords & SEEN else -1
        if not deleted:
            change.emails_updated.add(email)
            unread = is_unread(after) - is_unread(row.keywords)
            # An email placed twice in a mailbox counts there once.
            if unread and (mailbox, email) not in counted:
                counted.add((mailbox, email))
                ledger.add_unread(row.thread, unread)
    for mailbox, ledger in change.mailboxes.items():
        _over(tx, "placements_touch", ledger.changed, account=account, mailbox=mailbox, modseq=change.modseq)
    return {row.uid for row in chosen if row.email in affected}


def _set_deleted(change: Change, mailbox: int, flipped: Sequence[_Chosen], deleted: bool, add: int, keep: int) -> None:
    """Mark or unmark these placements, whose emails have the keywords that `keep` and `add` leave them with."""
    if not flipped:
        return
    tx, account = change.tx, change.account
    standing = _standing(tx, account, {row.email for row in flipped}, mailbox, 0)
    visible_before = set() if deleted else _visible_threads(tx, account, flipped)
    uids = [row.uid for row in flipped]
    modseq = change.modseq
    _over(tx, "placements_set_deleted", uids, account=account, mailbox=mailbox, deleted=int(deleted), modseq=modseq)
    ledger = change[mailbox]
    sign = 1 if deleted else -1
    ledger.deleted += sign * len(flipped)
    ledger.deleted_octets += sign * sum([row.size for row in flipped])
    for row in flipped:
        ledger.changed.append(row.uid)
        unread = is_unread(row.keywords & keep | add)
        if deleted:
            _hide(change, ledger, row, unread, standing[row.email])
        else:
            _show(change, ledger, row, unread, standing[row.email], row.thread in visible_before)


# copy, move, expunge --------------------------------------------------------------------------------------------------


def copy(tx: Tx, account: int, mailbox: int, uids: Collection[int], target: int, now: int) -> list[tuple[int, int]]:
    """Place these emails in `target` too, flags included (RFC 9051 §6.4.7); uid here and uid there, in order.

    The email is the same (RFC 8474 §5.1), also where it is in `target` already. Raises NoSuchMailbox, NoSuchAccount.
    """
    change = Change(tx, lock_account(tx, account), now)
    chosen = _choose(tx, account, mailbox, uids)
    if not chosen:
        _demand(tx, account, target)
        return []
    _place(change, chosen, target)
    change.finish()
    return list(enumerate_placed(chosen, change[target].first_uid))


def move(tx: Tx, account: int, mailbox: int, uids: Collection[int], target: int, now: int) -> list[tuple[int, int]]:
    """Place these emails in `target` instead (RFC 6851); uid here and uid there, in order.

    Raises NoSuchMailbox, NoSuchAccount.
    """
    change = Change(tx, lock_account(tx, account), now)
    chosen = move_in(change, mailbox, uids, target)
    if not chosen:
        _demand(tx, account, target)
        return []
    change.finish()
    return list(enumerate_placed(chosen, change[target].first_uid))


def expunge(tx: Tx, account: int, mailbox: int, uids: Collection[int], now: int) -> list[int]:
    """Take these placements away; the uids that were there. An email that is nowhere any more is kept for a while.

    Whoever wants only those marked \\Deleted gives only those. Raises NoSuchAccount.
    """
    change = Change(tx, lock_account(tx, account), now)
    gone = expunge_in(change, mailbox, uids)
    if gone:
        change.finish()
    return gone


def expunge_deleted(tx: Tx, account: int, mailbox: int, now: int, within: Collection[int] | None = None) -> list[int]:
    """EXPUNGE, and with `within` UID EXPUNGE (RFC 4315 §2.1): take away what is marked \\Deleted now; the uids."""
    change = Change(tx, lock_account(tx, account), now)
    marked = deleted_uids(tx, account, mailbox)
    gone = expunge_in(change, mailbox, marked if within is None else [uid for uid in marked if uid in within])
    if gone:
        change.finish()
    return gone


def enumerate_placed(chosen: Sequence[_Chosen], first: int) -> Iterable[tuple[int, int]]:
    """Pairs of uid before and uid after, for placements that were made in this order."""
    return zip([row.uid for row in chosen], range(first, first + len(chosen)), strict=True)


def expunge_in(change: Change, mailbox: int, uids: Collection[int]) -> list[int]:
    """`expunge` as part of a larger change."""
    tx, account = change.tx, change.account
    chosen = _choose(tx, account, mailbox, uids)
    if not chosen:
        return []
    standing = _standing(tx, account, {row.email for row in chosen}, mailbox, 0)
    ledger = change[mailbox]
    lost: list[int] = []
    for row in chosen:
        email = standing[row.email]
        _lift(change, ledger, row, email)
        if not email.placements:
            lost.append(row.email)
            change.octets -= row.size
    _remove(change, mailbox, chosen)
    if lost:
        change.emails -= len(lost)
        tx.run("emails_expunge", account=account, mailbox=mailbox, now=change.now, emails=ranges.pack(lost))
        _over(tx, "emails_delete", lost, account=account)
    return [row.uid for row in chosen]


def move_in(change: Change, mailbox: int, uids: Collection[int], target: int) -> list[_Chosen]:
    """`move` as part of a larger change; the placements that were moved, in the order they were placed."""
    chosen = _choose(change.tx, change.account, mailbox, uids)
    if not chosen:
        return []
    standing = _place(change, chosen, target, mailbox)
    ledger = change[mailbox]
    for row in chosen:
        email = standing[row.email]
        if mailbox == target:
            email.here = email.there
        # The email stays visible in its new place: nothing is destroyed.
        _lift(change, ledger, row, email)
        if mailbox == target:
            email.there = email.here
    _remove(change, mailbox, chosen)
    return chosen


def _place(change: Change, chosen: Sequence[_Chosen], target: int, source: int = 0) -> dict[int, _Standing]:
    """Add placements of these in `target`; how each email stands then (`there`: in `target`, `here`: in `source`)."""
    standing = _standing(change.tx, change.account, {row.email for row in chosen}, source, target)
    ledger = change[target]
    for row in chosen:
        ledger.placed.append((row.email, bool(row.deleted), False))
        ledger.add_placement(row.keywords, row.size, bool(row.deleted))
        email = standing[row.email]
        email.placements += 1
        if not row.deleted:
            change.emails_updated.add(row.email)
            if not email.there:
                ledger.add_email(row.thread, is_unread(row.keywords))
            email.visible += 1
            email.there += 1
    return standing


def _choose(tx: Tx, account: int, mailbox: int, uids: Collection[int]) -> list[_Chosen]:
    """Those of these placements that are there, in order of uid."""
    found = tx.all("placements_chosen", account=account, mailbox=mailbox, uids=ranges.pack(uids))
    return sorted(map(_Chosen._make, found), key=itemgetter(0))


def _standing(tx: Tx, account: int, emails: Collection[int], here: int, there: int) -> dict[int, _Standing]:
    found = tx.all("emails_standing", account=account, emails=ranges.pack(emails), here=here, there=there)
    return {row[0]: _Standing(*row[1:]) for row in found}


def _visible_threads(tx: Tx, account: int, chosen: Iterable[_Chosen]) -> set[int]:
    """Those of these placements' threads that have an email to be seen."""
    packed = ranges.pack({row.thread for row in chosen})
    return {row[0] for row in tx.all("threads_visible", account=account, threads=packed)}


def _lift(change: Change, ledger: Ledger, row: _Chosen, email: _Standing) -> None:
    """A placement goes."""
    ledger.gone.append(row.uid)
    ledger.add_placement(row.keywords, row.size, bool(row.deleted), -1)
    email.placements -= 1
    if not row.deleted:
        _hide(change, ledger, row, is_unread(row.keywords), email)


def _hide(change: Change, ledger: Ledger, row: _Chosen, unread: bool, email: _Standing) -> None:
    """A visible placement ceases to be one; `unread` as the email is now."""
    email.visible -= 1
    email.here -= 1
    if not email.here:
        ledger.add_email(row.thread, unread, -1)
    if email.visible:
        change.emails_updated.add(row.email)
    else:
        change.emails_destroyed.append(row.email)
        change.threads_left.add(row.thread)


def _show(change: Change, ledger: Ledger, row: _Chosen, unread: bool, email: _Standing, thread_visible: bool) -> None:
    """A hidden placement becomes visible."""
    if email.visible:
        change.emails_updated.add(row.email)
    else:
        change.emails_created.append(row.email)
        change.threads_joined.setdefault(row.thread, thread_visible)
    email.visible += 1
    email.here += 1
    if email.here == 1:
        ledger.add_email(row.thread, unread)


def _remove(change: Change, mailbox: int, chosen: Sequence[_Chosen]) -> None:
    uids = [row.uid for row in chosen]
    _over(change.tx, "placements_remove", uids, account=change.account, mailbox=mailbox)


def _over(tx: Tx, statement: str, numbers: Iterable[int], **values: int) -> None:
    """Carry a statement out over each range of these numbers: writing a range costs a fifth of writing a set."""
    tx.many(statement, [{**values, "low": low, "high": high} for low, high in ranges.spans(numbers)])


def _demand(tx: Tx, account: int, mailbox: int) -> None:
    if tx.one("mailbox_place", account=account, mailbox=mailbox) is None:
        raise NoSuchMailbox(f"account {account} has no mailbox {mailbox}")
