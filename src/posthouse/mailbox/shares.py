"""Mailboxes that others may use: who may do what in whose (RFC 4314).

Promises: to its owner everything in a mailbox is allowed; to another what was granted to it or to anyone, less what is
denied to it or to anyone; where nothing is left the mailbox is not there. A mailbox that is made below a shared one is
shared alike (RFC 4314 §4); what was granted goes with the mailbox, and with either account. Whoever is concerned hears
the bell; where that is anyone, whoever has the mailbox open does, and whoever listens to SHARES, for the owner's id.
Refuses: to know names of accounts other than by their rows; who may be granted something is the door's to say. Groups.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from posthouse import limits
from posthouse.mailbox.model import NoSuchMailbox, TooManyShares, lock_account
from posthouse.store.database import Topic, Tx

# RFC 4314 §2.1, in its order.
ALL: Final = "lrswipkxtea"
# In the place of an account: all that are here, and what they are called together (RFC 4314 §2).
ANYONE: Final = 0
ANYONE_NAME: Final = "anyone"
# Before the name of who is denied something (RFC 4314 §2).
NEGATIVE: Final = "-"


class Shared(NamedTuple):
    """What another has granted: whose mailbox, and whether it is subscribed to."""

    owner: int
    name: str
    mailbox: int
    rights: str
    subscribed: bool


class Granted(NamedTuple):
    """What was granted of a mailbox, to the account of this name, or to anyone; with NEGATIVE before it, what is
    denied."""

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
    return _left(tx.all("share_rights", account=owner, mailbox=mailbox, grantee=account))


def _left(rows: Iterable[tuple[str, str]]) -> str:
    """RFC 4314 §2: all that is granted, less all that is denied."""
    granted, denied = "", ""
    for more, less in rows:
        granted += more
        denied += less
    return ordered("".join([right for right in granted if right not in denied]))


def held(tx: Tx, owner: int, mailbox: int, account: int) -> tuple[str, str]:
    """What is granted and what is denied to the account by its own name, or to ANYONE."""
    found: tuple[str, str] | None = tx.one("share_get", account=owner, mailbox=mailbox, grantee=account)
    return found or ("", "")


def owner_named(tx: Tx, name: str, account: int) -> int:
    """The account of this name, where it shares anything with this one. Raises NoSuchMailbox."""
    found: int | None = tx.value("share_owner", name=name, grantee=account)
    if found is None:
        raise NoSuchMailbox(f"nobody named {name!r} shares anything with account {account}")
    return found


def shared_with(tx: Tx, account: int, owner: int = 0) -> list[Shared]:
    """What others have granted to the account, by their names; with `owner`, what this one has."""
    names: dict[tuple[int, int], str] = {}
    rights: dict[tuple[int, int], list[tuple[str, str]]] = {}
    subscribed: set[tuple[int, int]] = set()
    for whose, name, mailbox, more, less, known in tx.all("shares_with", grantee=account, owner=owner):
        names[whose, mailbox] = name
        rights.setdefault((whose, mailbox), []).append((more, less))
        if known:
            subscribed.add((whose, mailbox))
    found = [Shared(key[0], name, key[1], _left(rights[key]), key in subscribed) for key, name in names.items()]
    return [shared for shared in found if shared.rights]


def granted(tx: Tx, owner: int, mailbox: int) -> list[tuple[str, str]]:
    """Whom what was granted of a mailbox and denied, by name."""
    return list(_entries(tx.all("shares_of_mailbox", account=owner, mailbox=mailbox)))


def granted_by(tx: Tx, owner: int) -> list[Granted]:
    """The same of all the account's mailboxes."""
    rows = tx.all("shares_of_account", account=owner)
    return [Granted(mailbox, *entry) for mailbox, *row in rows for entry in _entries([row])]


def _entries(rows: Iterable[Sequence[str | None]]) -> Iterator[tuple[str, str]]:
    for name, rights, denied in rows:
        name = name or ANYONE_NAME
        if rights:
            yield name, rights
        if denied:
            yield NEGATIVE + name, denied


def grant(tx: Tx, owner: int, mailbox: int, account: int, rights: str, *, denies: bool = False) -> None:
    """Let the account (or ANYONE) do this and nothing else there by its name; "": nothing. With `denies`, do not let it
    do this, whatever is granted; "": nothing is denied. Raises NoSuchMailbox, TooManyShares."""
    lock_account(tx, owner)
    if tx.one("mailbox_place", account=owner, mailbox=mailbox) is None:
        raise NoSuchMailbox(f"account {owner} has no mailbox {mailbox}")
    statement = "share_deny" if denies else "share_put"
    tx.run(statement, account=owner, mailbox=mailbox, grantee=account, rights=ordered(rights))
    tx.run("share_tidy", account=owner, mailbox=mailbox)
    if rights and tx.value("share_count", account=owner, mailbox=mailbox) > limits.SHARES:
        raise TooManyShares(f"mailbox {mailbox} of account {owner} is shared with too many")
    tx.ring(Topic.ACCOUNT, owner)
    if account == ANYONE:
        tx.ring(Topic.SHARES, owner)
    else:
        tx.ring(Topic.ACCOUNT, account)


def subscribe(tx: Tx, owner: int, mailbox: int, account: int, subscribed: bool) -> None:
    """Set whether the account wants to see another's mailbox in the list of those subscribed."""
    tx.run("share_subscribe", account=owner, mailbox=mailbox, grantee=account, subscribed=int(subscribed))
    tx.run("share_tidy", account=owner, mailbox=mailbox)
    tx.ring(Topic.ACCOUNT, account)


def inherit(tx: Tx, owner: int, parent: int, mailbox: int) -> None:
    """A new mailbox is shared as the one above it is."""
    tx.run("shares_inherit", account=owner, parent=parent, mailbox=mailbox)


def drop(tx: Tx, owner: int, mailbox: int) -> None:
    """The mailbox is gone."""
    for (account,) in tx.all("shares_drop", account=owner, mailbox=mailbox):
        if account != ANYONE:
            tx.ring(Topic.ACCOUNT, account)
