"""Mailboxes that others may use: who may do what in whose (RFC 4314).

Promises: to its owner everything in a mailbox is allowed; to another what was granted, and where nothing was the
mailbox is not there. A mailbox that is made below a shared one is shared alike (RFC 4314 §4); what was granted goes
with the mailbox, and with either account. Whoever is concerned hears the bell.
Refuses: to know names of accounts other than by their rows; who may be granted something is the door's to say.
"""

from typing import Final, NamedTuple

from posthouse import limits
from posthouse.mailbox.model import NoSuchMailbox, TooManyShares, lock_account
from posthouse.store.database import Topic, Tx

# RFC 4314 §2.1, in its order.
ALL: Final = "lrswipkxtea"


class Shared(NamedTuple):
    """What another has granted: whose mailbox, and whether it is subscribed to."""

    owner: int
    name: str
    mailbox: int
    rights: str
    subscribed: bool


class Granted(NamedTuple):
    """What was granted of a mailbox, to the account of this name."""

    mailbox: int
    name: str
    rights: str


def ordered(rights: str) -> str:
    """Each right once, in the order of ALL."""
    return "".join([right for right in ALL if right in rights])


def rights_of(tx: Tx, owner: int, mailbox: int, account: int) -> str:
    """What the account may do there; "": it is not to know of it."""
    if owner == account:
        return ALL
    found: str | None = tx.value("share_rights", account=owner, mailbox=mailbox, grantee=account)
    return found or ""


def owner_named(tx: Tx, name: str, account: int) -> int:
    """The account of this name, where it shares anything with this one. Raises NoSuchMailbox."""
    found: int | None = tx.value("share_owner", name=name, grantee=account)
    if found is None:
        raise NoSuchMailbox(f"nobody named {name!r} shares anything with account {account}")
    return found


def shared_with(tx: Tx, account: int) -> list[Shared]:
    """What others have granted to the account, by their names."""
    rows = tx.all("shares_with", grantee=account)
    return [Shared(owner, name, mailbox, rights, bool(known)) for owner, name, mailbox, rights, known in rows]


def granted(tx: Tx, owner: int, mailbox: int) -> list[tuple[str, str]]:
    """Whom what was granted of a mailbox, by name."""
    return [(name, rights) for name, rights in tx.all("shares_of_mailbox", account=owner, mailbox=mailbox)]


def granted_by(tx: Tx, owner: int) -> list[Granted]:
    """The same of all the account's mailboxes."""
    return [Granted._make(row) for row in tx.all("shares_of_account", account=owner)]


def grant(tx: Tx, owner: int, mailbox: int, account: int, rights: str) -> None:
    """Let the account do this and nothing else there; "": nothing. Raises NoSuchMailbox, TooManyShares."""
    lock_account(tx, owner)
    if tx.one("mailbox_place", account=owner, mailbox=mailbox) is None:
        raise NoSuchMailbox(f"account {owner} has no mailbox {mailbox}")
    if rights:
        tx.run("share_put", account=owner, mailbox=mailbox, grantee=account, rights=ordered(rights))
        if tx.value("share_count", account=owner, mailbox=mailbox) > limits.SHARES:
            raise TooManyShares(f"mailbox {mailbox} of account {owner} is shared with too many")
    else:
        tx.run("share_delete", account=owner, mailbox=mailbox, grantee=account)
    tx.ring(Topic.ACCOUNT, owner)
    tx.ring(Topic.ACCOUNT, account)


def subscribe(tx: Tx, owner: int, mailbox: int, account: int, subscribed: bool) -> None:
    """Set whether the account wants to see another's mailbox in the list of those subscribed."""
    tx.run("share_subscribe", account=owner, mailbox=mailbox, grantee=account, subscribed=int(subscribed))


def inherit(tx: Tx, owner: int, parent: int, mailbox: int) -> None:
    """A new mailbox is shared as the one above it is."""
    tx.run("shares_inherit", account=owner, parent=parent, mailbox=mailbox)


def drop(tx: Tx, owner: int, mailbox: int) -> None:
    """The mailbox is gone."""
    for (account,) in tx.all("shares_drop", account=owner, mailbox=mailbox):
        tx.ring(Topic.ACCOUNT, account)
