"""Where a name leads: to a mailbox of one's own, or to one that another shares (RFC 2342, RFC 4314).

Promises: this is the only way from a name to another's mailbox, and it comes with the rights that were granted. Where
these do not let one see the mailbox, it is not there (RFC 4314 §6).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from posthouse.mailbox import mailboxes, shares
from posthouse.mailbox.mailboxes import OTHERS, SEPARATOR
from posthouse.mailbox.model import Mailbox, NoPermission, NoSuchMailbox
from posthouse.mailbox.shares import ALL
from posthouse.store.database import Tx

# What stands before the names of others' mailboxes.
PREFIX: Final = OTHERS + SEPARATOR


@dataclass(frozen=True, slots=True)
class Place:
    """A mailbox, under the name that the client knows it by, in its owner's `account`; `rights` of the client there."""

    account: int
    mailbox: Mailbox
    rights: str
    own: bool

    @property
    def ids(self) -> str:
        """As `ids_of`."""
        return ids_of(self.account, own=self.own)

    def permits(self, needed: str) -> bool:
        """May the client do all of this?"""
        return set(needed) <= set(self.rights)

    def demand(self, needed: str) -> None:
        """Raises NoPermission, or NoSuchMailbox where the client may not see it either."""
        if not self.permits(needed):
            if "l" in self.rights:
                raise NoPermission(f"{needed} is not granted in mailbox {self.mailbox.id} of account {self.account}")
            raise NoSuchMailbox(f"mailbox {self.mailbox.id} of account {self.account} is not to be seen")


def ids_of(account: int, *, own: bool) -> str:
    """What stands in ids of this account's mail before the number (RFC 8474 §4): each numbers its own."""
    return "" if own else f"{account}-"


def is_others(path: str) -> bool:
    """Does the name lead to others' mailboxes?"""
    return path.startswith(PREFIX)


def owner_of(tx: Tx, account: int, path: str) -> tuple[int, str]:
    """In whose mail a name leads, and what it is called there. Raises NoSuchMailbox."""
    if not is_others(path):
        return account, path
    name, _, inner = path.removeprefix(PREFIX).partition(SEPARATOR)
    owner = shares.owner_named(tx, name.casefold(), account)
    if not inner:
        raise NoSuchMailbox("the name of an account is no mailbox")
    return owner, inner


def find(tx: Tx, account: int, path: str, needed: str = "") -> Place:
    """The mailbox of that name with its totals, for a client of this account. Raises NoSuchMailbox, NoPermission."""
    owner, inner = owner_of(tx, account, path)
    mailbox = mailboxes.get(tx, owner, mailboxes.find(tx, owner, inner))
    rights = shares.rights_of(tx, owner, mailbox.id, account)
    if not rights:
        raise NoSuchMailbox(f"mailbox {mailbox.id} of account {owner} is not shared with account {account}")
    if owner != account:
        name = path.removeprefix(PREFIX).partition(SEPARATOR)[0].casefold()
        mailbox = _as_seen(mailbox, name)
    place = Place(owner, mailbox, rights, owner == account)
    place.demand(needed)
    return place


def _as_seen(mailbox: Mailbox, name: str, subscribed: bool = False) -> Mailbox:
    """Another's mailbox: what it is used for there is nothing to us."""
    return replace(mailbox, path=f"{PREFIX}{name}{SEPARATOR}{mailbox.path}", role=None, subscribed=subscribed)


def everywhere(tx: Tx, account: int) -> list[Place]:
    """All mailboxes that the client may see: its own, then others' by their names."""
    places = [Place(account, mailbox, ALL, True) for mailbox in mailboxes.list_mailboxes(tx, account)]
    trees: dict[int, dict[int, Mailbox]] = {}
    others: list[Place] = []
    for shared in shares.shared_with(tx, account):
        if shared.owner not in trees:
            trees[shared.owner] = {one.id: one for one in mailboxes.list_mailboxes(tx, shared.owner)}
        mailbox = trees[shared.owner].get(shared.mailbox)
        if mailbox is not None and "l" in shared.rights:
            seen = _as_seen(mailbox, shared.name, shared.subscribed)
            others.append(Place(shared.owner, seen, shared.rights, False))
    return places + sorted(others, key=lambda place: place.mailbox.path)


def gaps(places: Sequence[Place]) -> list[str]:
    """Names above others' mailboxes that are no mailboxes to the client."""
    there = {place.mailbox.path for place in places}
    above: set[str] = set()
    for place in places:
        if not place.own:
            names = place.mailbox.path.split(SEPARATOR)
            above.update([SEPARATOR.join(names[:depth]) for depth in range(1, len(names))])
    return sorted(above - there)
