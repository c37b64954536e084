"""Annotations: what clients keep with an account's mailboxes, or with the account (RFC 5464).

Promises: named by paths in lower case, with octets for values, bounded in number and size. Those of a mailbox go with
it. Of several that are set at once all are, or none. What is set to something else, or removed, is in the feed of
changes. Refuses: to understand a value.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from posthouse import limits
from posthouse.mailbox.model import AnnotationTooLong, Change, NoSuchMailbox, TooManyAnnotations, lock_account
from posthouse.store.database import Tx

# In the place of a mailbox: what is kept with the account, RFC 5464's private entries of the server.
OF_ACCOUNT: Final = 0
# RFC 6154 §4: what a mailbox is used for, which is kept with the mailbox itself.
SPECIAL_USE: Final = "/private/specialuse"


def get(tx: Tx, account: int, mailbox: int, entry: str) -> bytes | None:
    """One value; None where there is none."""
    found: bytes | None = tx.value("annotation_get", account=account, mailbox=mailbox, entry=entry)
    return found


def entries(tx: Tx, account: int, mailbox: int) -> dict[str, bytes]:
    """All entries of a mailbox, by name."""
    return dict(tx.all("annotations_get", account=account, mailbox=mailbox))


def every_entry(tx: Tx, account: int) -> dict[int, dict[str, bytes]]:
    """All entries of each mailbox that has any; in their order."""
    found: dict[int, dict[str, bytes]] = {}
    for mailbox, entry, value in tx.all("annotations_all", account=account):
        found.setdefault(mailbox, {})[entry] = value
    return found


def put(tx: Tx, account: int, mailbox: int, values: Sequence[tuple[str, bytes | None]], now: int) -> None:
    """Keep these, and forget those without a value. Locks the account.

    Raises NoSuchAccount, NoSuchMailbox, AnnotationTooLong, TooManyAnnotations.
    """
    change = Change(tx, lock_account(tx, account), now)
    if mailbox != OF_ACCOUNT and tx.one("mailbox_place", account=account, mailbox=mailbox) is None:
        raise NoSuchMailbox(f"account {account} has no mailbox {mailbox}")
    if any(len(value) > limits.METADATA_VALUE for _, value in values if value is not None):
        raise AnnotationTooLong(f"a value has {limits.METADATA_VALUE} octets at most")
    changed: list[str] = []
    for entry, value in values:
        if value is None:
            done = tx.run("annotation_delete", account=account, mailbox=mailbox, entry=entry)
        else:
            done = tx.run("annotation_put", account=account, mailbox=mailbox, entry=entry, value=value)
        if done:
            changed.append(entry)
    if any(value is not None for _, value in values):
        _check_room(tx, account, mailbox)
    if changed:
        change.annotations[mailbox] = changed
        change.finish()


def _check_room(tx: Tx, account: int, mailbox: int) -> None:
    count = tx.value("annotation_count", account=account, mailbox=mailbox)
    if count > limits.METADATA_ENTRIES or tx.value("annotation_octets", account=account) > limits.METADATA_OCTETS:
        raise TooManyAnnotations(f"account {account} cannot keep more annotations")


def copy(tx: Tx, account: int, mailbox: int, to: int) -> None:
    """Give another mailbox the same (RFC 5464 §4.1: where the Inbox is renamed). Raises TooManyAnnotations."""
    if tx.run("annotations_copy", account=account, mailbox=mailbox, to=to):
        _check_room(tx, account, to)


def drop(tx: Tx, account: int, mailbox: int) -> None:
    """The mailbox is gone: so are they (RFC 5464 §4.1)."""
    tx.run("annotations_drop", account=account, mailbox=mailbox)


def below(found: Mapping[str, bytes], entry: str, depth: int | None) -> list[str]:
    """An entry and those below it, so many levels (None: all), that have a value, in their order."""
    prefix = entry + "/"
    reach = [name for name in found if name == entry or name.startswith(prefix)]
    return sorted(name for name in reach if depth is None or name.count("/") <= entry.count("/") + depth)
