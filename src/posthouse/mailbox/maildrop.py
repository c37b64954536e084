"""The Inbox as POP3 knows a mailbox: a list that is numbered once, and what may be taken out of it at the end.

Promises: the list is what stood in the Inbox at one moment, without what is marked \\Deleted; an email that is placed
there twice is shown once. What makes a message's unique-id (the Inbox' uidvalidity and the email's id) stays with it
for as long as the account has it, also when it is moved away and back, and is never another's. Removing takes an email
away from the Inbox, also where it was put there anew meanwhile; elsewhere it stays.
Refuses: to remove anything before it is told to.
"""

from array import array
from collections.abc import Collection
from dataclasses import dataclass, field

from posthouse.mailbox import emails, mailboxes, ranges
from posthouse.mailbox.model import lock_account
from posthouse.store.database import Tx


@dataclass(slots=True)
class Drop:
    """The maildrop of a session: message n is at n - 1. `removed`: indexes that are marked to be removed."""

    account: int
    mailbox: int
    uidvalidity: int
    emails: "array[int]"
    sizes: "array[int]"
    removed: set[int] = field(default_factory=set)

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
    sizes: dict[int, int] = dict(tx.all("maildrop", account=account, mailbox=inbox))
    uidvalidity = mailboxes.get(tx, account, inbox).uidvalidity
    return Drop(account, inbox, uidvalidity, array("q", sizes), array("q", sizes.values()))


def remove(tx: Tx, account: int, mailbox: int, chosen: Collection[int], now: int) -> int:
    """Expunge these emails from a mailbox, in this one transaction; how many placements. Raises NoSuchAccount."""
    lock_account(tx, account)
    placements = tx.all("emails_placements", account=account, emails=ranges.pack(chosen))
    uids = [uid for place, uid, _, _ in placements if place == mailbox]
    return len(emails.expunge(tx, account, mailbox, uids, now))
