"""The Inbox as POP3 knows a mailbox: a list that is numbered once, and what may be taken out of it at the end.

Promises: the list is what stood in the Inbox at one moment, without what is marked \\Deleted; an email that is placed
there twice is shown once. What makes a message's unique-id (the Inbox' uidvalidity and the email's id) stays with it
for as long as the account has it, also when it is moved away and back, and is never another's. Removing takes an email
away from the Inbox, also where it was put there anew meanwhile; elsewhere it stays. Which messages are sent otherwise
than they are stored is known without a look at them; how large they are then is for who sends them to say.
Refuses: to remove anything before it is told to.
"""

from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from posthouse.mailbox import emails, mailboxes, placing, ranges, reading
from posthouse.mailbox.emails import Content
from posthouse.mailbox.model import lock_account
from posthouse.store.database import Tx

# What the statement `maildrop` says of those that are sent otherwise than they are stored, and not for dots alone.
_MENDED: Final = 2

# Prologue and octets of an email, or where they are: no row of a blob's has them.
Found = tuple[bytes, bytes] | Content


@dataclass(slots=True)
class Drop:
    """The maildrop of a session: message n is at n - 1. `removed`: indexes that are marked to be removed; `mended`: of
    messages that are sent otherwise than they are stored, whose sizes are yet to be settled; `otherwise`: all such;
    `altered`: these, and those of whose octets dots are doubled, which are not counted."""

    account: int
    mailbox: int
    uidvalidity: int
    emails: "array[int]"
    sizes: "array[int]"
    mended: set[int] = field(default_factory=set)
    otherwise: frozenset[int] = frozenset()
    altered: frozenset[int] = frozenset()
    removed: set[int] = field(default_factory=set)

    def settle(self, index: int, size: int) -> None:
        """So many octets are sent of this message."""
        self.sizes[index] = size
        self.mended.discard(index)

    def number(self, number: int) -> int | None:
        """The index of a message that is there and not removed."""
        index = number - 1
        return index if 0 <= index < len(self.emails) and index not in self.removed else None

    def left(self) -> list[int]:
        """The indexes of those that are not removed, in order."""
        return [index for index in range(len(self.emails)) if index not in self.removed]

    def unique_id(self, index: int) -> bytes:
        """RFC 1939 §7: 1 to 70 printable characters, unique in the maildrop and over time."""
        return b"%d.%d" % (self.uidvalidity, self.emails[index])


class Sizes:
    """How many octets are sent of messages that are sent otherwise than they are stored, by account, email, and whether
    headers may come in UTF-8: an email never changes. The newest so many are kept."""

    def __init__(self, kept: int = 20_000) -> None:
        self._kept = kept
        self._sizes: dict[tuple[int, int, bool], int] = {}

    def find(self, account: int, email: int, *, utf8: bool) -> int | None:
        """None: it is not known any more."""
        return self._sizes.get((account, email, utf8))

    def keep(self, account: int, email: int, size: int, *, utf8: bool) -> None:
        """It was found out."""
        if len(self._sizes) >= self._kept:
            del self._sizes[next(iter(self._sizes))]
        self._sizes[account, email, utf8] = size

    def __len__(self) -> int:
        return len(self._sizes)


class Drops:
    """Whose maildrops are open: with `exclusive` one session at a time has each (RFC 1939 §4)."""

    def __init__(self, *, exclusive: bool = False) -> None:
        self._exclusive = exclusive
        self._open: set[int] = set()

    def take(self, account: int) -> bool:
        """False where another session has it."""
        if account in self._open:
            return False
        if self._exclusive:
            self._open.add(account)
        return True

    def give_back(self, account: int) -> None:
        """The session that took it has ended."""
        self._open.discard(account)


def look(tx: Tx, account: int) -> Drop:
    """The maildrop as it is now. Raises NoSuchMailbox."""
    inbox = mailboxes.by_role(tx, account, "inbox")
    rows = tx.all("maildrop", account=account, mailbox=inbox)
    sizes: dict[int, int] = {email: size for email, size, _ in rows}
    how = {email: altered for email, _, altered in rows if altered}
    uidvalidity = mailboxes.get(tx, account, inbox).uidvalidity
    altered = {index: how[email] for index, email in enumerate(sizes) if email in how} if how else {}
    mended = frozenset([index for index, kind in altered.items() if kind == _MENDED])
    return Drop(
        account,
        inbox,
        uidvalidity,
        array("q", sizes),
        array("q", sizes.values()),
        set(mended),
        mended,
        frozenset(altered),
    )


def octets(tx: Tx, account: int, chosen: Sequence[int]) -> Mapping[int, Found]:
    """What is found of these emails. Missing ones are left out. Whoever asks bounds the number: what lies in rows comes
    with its octets."""
    rows = reading.octets(tx, account, chosen)
    found: dict[int, Found] = {email: (prologue, whole) for email, prologue, whole in rows}
    elsewhere = [email for email, _, whole in rows if whole is None]
    if elsewhere:
        found.update(emails.contents(tx, account, elsewhere, parts=False))
    return found


def remove(tx: Tx, account: int, mailbox: int, chosen: Collection[int], now: int) -> int:
    """Expunge these emails from a mailbox, in this one transaction; how many placements. Raises NoSuchAccount."""
    lock_account(tx, account)
    placements = tx.all("emails_placements", account=account, emails=ranges.pack(chosen))
    uids = [uid for place, uid, _, _ in placements if place == mailbox]
    return len(placing.expunge(tx, account, mailbox, uids, now))
