"""Mailboxes: the tree of them, their names, roles and totals.

Promises: a mailbox keeps its id and uidvalidity through renames; a uidvalidity is never given again, also where a
name is deleted and made again. Names are NFC (RFC 5198), one level each; a path is names from the top parted by "/".
The Inbox is "INBOX" in any case of letters (RFC 9051 §5.1) and always there. Totals are read, never counted.
Refuses: to delete a mailbox that has others below it (RFC 9051 §6.3.5 HASCHILDREN; so no name without a mailbox ever
arises), to delete the Inbox, and names with control characters.
"""

import unicodedata
from collections.abc import Iterable
from typing import Final

from posthouse.mailbox import chosen, metadata, placing, shares
from posthouse.mailbox.model import (
    BadName,
    Change,
    HasChildren,
    Mailbox,
    MailboxExists,
    NoSuchMailbox,
    ReservedMailbox,
    TooManyMailboxes,
    lock_account,
)
from posthouse.store.database import Tx
from posthouse.terms.inbox import INBOX, at_top

SEPARATOR: Final = "/"
# What stands above the mailboxes that others share (RFC 2342): no mailbox of one's own is called so.
OTHERS: Final = "Other Users"

# What an account begins with: role, name. RFC 6154 §2 names the roles, RFC 8621 §10.5.1 the Inbox's.
STANDARD: Final = (
    ("inbox", "Inbox"),
    ("drafts", "Drafts"),
    ("sent", "Sent"),
    ("junk", "Junk"),
    ("trash", "Trash"),
    ("archive", "Archive"),
)
ROLES: Final = frozenset({role for role, _ in STANDARD})

# Octets of UTF-8 in one name; levels; mailboxes of an account. RFC 8621 §2 asks that 255 octets fit.
MAX_NAME: Final = 255
MAX_DEPTH: Final = 20
MAX_MAILBOXES: Final = 10_000


def create_account_mailboxes(tx: Tx, account: int, now: int) -> None:
    """Give a new account its standard mailboxes. Locks the account, whose row of counters exists."""
    change = Change(tx, lock_account(tx, account), now)
    for order, (role, name) in enumerate(STANDARD, 1):
        _insert(change, None, name, role=role, sort_order=order)
    change.finish()


def list_mailboxes(tx: Tx, account: int) -> list[Mailbox]:
    """Every mailbox with its totals, by path, the Inbox first."""
    rows = tx.all("mailbox_list", account=account)
    paths = _paths({row[0]: (row[1], row[2], row[3]) for row in rows})
    return [
        Mailbox(row[0], row[1], row[2], paths[row[0]], row[3], bool(row[4]), *row[5:])
        for row in sorted(rows, key=lambda row: (paths[row[0]] != INBOX, paths[row[0]]))
    ]


def get(tx: Tx, account: int, mailbox: int) -> Mailbox:
    """One mailbox with its totals. Raises NoSuchMailbox."""
    row = tx.one("mailbox_get", account=account, mailbox=mailbox)
    if row is None:
        raise NoSuchMailbox(f"account {account} has no mailbox {mailbox}")
    return Mailbox(row[0], row[1], row[2], path_of(tx, account, mailbox), row[3], bool(row[4]), *row[5:])


def find(tx: Tx, account: int, path: str) -> int:
    """The mailbox at a path. Raises NoSuchMailbox."""
    mailbox = _find(tx, account, path)
    if mailbox is None:
        raise NoSuchMailbox(f"no mailbox is named {path!r}")
    return mailbox


def by_role(tx: Tx, account: int, role: str) -> int:
    """The mailbox of a role: "inbox", "sent"… Raises NoSuchMailbox."""
    mailbox: int | None = tx.value("mailbox_by_role", account=account, role=role)
    if mailbox is None:
        raise NoSuchMailbox(f"account {account} has no mailbox for {role}")
    return mailbox


def path_of(tx: Tx, account: int, mailbox: int) -> str:
    """Where a mailbox stands. Raises NoSuchMailbox."""
    names: list[str] = []
    step: int | None = mailbox
    while step is not None:
        row = tx.one("mailbox_place", account=account, mailbox=step)
        if row is None:
            raise NoSuchMailbox(f"account {account} has no mailbox {mailbox}")
        step, name, role = row
        names.append(INBOX if step is None and role == "inbox" else name)
    return SEPARATOR.join(reversed(names))


def has_room(tx: Tx, account: int, path: str) -> bool:
    """Whether `create` would find the account with too many mailboxes."""
    count: int = tx.value("mailbox_count", account=account)
    return count + path.count(SEPARATOR) < MAX_MAILBOXES


def create(tx: Tx, account: int, path: str, now: int, *, role: str | None = None) -> int:
    """Make a mailbox, and those above it that are missing (RFC 9051 §6.3.4); its id.

    Raises MailboxExists (of the path, or the role), BadName, TooManyMailboxes, NoSuchAccount.
    """
    names = split(path)
    change = Change(tx, lock_account(tx, account), now)
    if _find(tx, account, path) is not None:
        raise MailboxExists(f"{path!r} is there already")
    if role is not None:
        _check_role(tx, account, role)
    parent = _create_parents(change, names[:-1])
    mailbox = _insert(change, parent, names[-1], role=role)
    change.finish()
    return mailbox


def rename(tx: Tx, account: int, mailbox: int, path: str, now: int) -> None:
    """Move a mailbox, with all below it, to another path. Missing mailboxes above it are made (RFC 9051 §6.3.6).

    The Inbox stays: its mail moves into a new mailbox at `path`, what is below it stays too. Raises NoSuchMailbox,
    MailboxExists, BadName (also where a mailbox would come below itself), TooManyMailboxes.
    """
    names = split(path)
    change = Change(tx, lock_account(tx, account), now)
    place = tx.one("mailbox_place", account=account, mailbox=mailbox)
    if place is None:
        raise NoSuchMailbox(f"account {account} has no mailbox {mailbox}")
    if _find(tx, account, path) not in (None, mailbox):
        raise MailboxExists(f"{path!r} is there already")
    if place[2] == "inbox":
        _empty_inbox(change, mailbox, names)
    else:
        _move(change, mailbox, names)
    change.finish()


def delete(tx: Tx, account: int, mailbox: int, now: int) -> None:
    """Take a mailbox away and expunge what is in it: emails that are nowhere else can be restored for a while.

    Raises NoSuchMailbox, ReservedMailbox (the Inbox), HasChildren.
    """
    change = Change(tx, lock_account(tx, account), now)
    place = tx.one("mailbox_place", account=account, mailbox=mailbox)
    if place is None:
        raise NoSuchMailbox(f"account {account} has no mailbox {mailbox}")
    if place[2] == "inbox":
        raise ReservedMailbox("the Inbox cannot be deleted")
    if tx.one("mailbox_has_children", account=account, mailbox=mailbox):
        raise HasChildren("the mailbox has others below it")
    # What was in it, or was expunged from it before, is restored into a mailbox of this name (retention.py).
    path = path_of(tx, account, mailbox)
    tx.run("mailbox_gone", account=account, mailbox=mailbox, path=path, gone_at=now)
    placing.expunge_in(change, mailbox)
    change.mailboxes_destroyed.append(mailbox)
    change.finish()
    tx.run("mailbox_delete", account=account, mailbox=mailbox)
    metadata.drop(tx, account, mailbox)
    shares.drop(tx, account, mailbox)


def subscribe(tx: Tx, account: int, mailbox: int, subscribed: bool, now: int) -> None:
    """Set whether the owner wants to see a mailbox in the list of those subscribed. Raises NoSuchMailbox."""
    _update(tx, account, mailbox, now, "mailbox_subscribe", subscribed=int(subscribed))


def set_sort_order(tx: Tx, account: int, mailbox: int, order: int, now: int) -> None:
    """Where a client shows the mailbox among its siblings (RFC 8621 §2). Raises NoSuchMailbox."""
    _update(tx, account, mailbox, now, "mailbox_sort", sort_order=order)


def set_role(tx: Tx, account: int, mailbox: int, role: str | None, now: int) -> None:
    """Give a mailbox a role or take it. Raises NoSuchMailbox, MailboxExists (another has it), ReservedMailbox,
    BadName."""
    lock_account(tx, account)
    place = tx.one("mailbox_place", account=account, mailbox=mailbox)
    if "inbox" in (role, place and place[2]):
        raise ReservedMailbox("the Inbox keeps its role")
    if role is not None:
        _check_role(tx, account, role)
    _update(tx, account, mailbox, now, "mailbox_set_role", role=role, annotation=metadata.SPECIAL_USE)


def split(path: str) -> list[str]:
    """The names of a path, checked and in their normal form, the Inbox's in capitals. Raises BadName."""
    names = [check_name(name) for name in path.split(SEPARATOR)]
    if len(names) > MAX_DEPTH:
        raise BadName(f"mailboxes nest {MAX_DEPTH} deep at most")
    if names[0].startswith("#"):
        # RFC 9051 §5.1.1: such names belong to namespaces.
        raise BadName("a name at the top cannot begin with #")
    if names[0] == OTHERS:
        raise BadName(f"{OTHERS} is where others' mailboxes are")
    return [at_top(names[0]), *names[1:]]


def check_name(name: str) -> str:
    """One name in its normal form (RFC 5198 §3: NFC). Raises BadName."""
    if len(name) > 4 * MAX_NAME:
        # Normalising takes time by the square of a run of marks; NFC makes no name so much shorter.
        raise BadName(f"a mailbox name has {MAX_NAME} octets at most")
    normal = unicodedata.normalize("NFC", name)
    if not normal.strip():
        raise BadName("a mailbox name cannot be empty")
    if SEPARATOR in normal:
        raise BadName(f"a mailbox name cannot hold {SEPARATOR}")
    # RFC 9051 §5.1: no control characters; U+2028 and U+2029 neither. Surrogates are no text.
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in normal):
        raise BadName("a mailbox name cannot hold control characters")
    if len(normal.encode()) > MAX_NAME:
        raise BadName(f"a mailbox name has {MAX_NAME} octets at most")
    return normal


def _find(tx: Tx, account: int, path: str) -> int | None:
    parent = 0
    names = split(path)
    if names[0] == INBOX:
        parent = by_role(tx, account, "inbox")
        names = names[1:]
    for name in names:
        step: int | None = tx.value("mailbox_child", account=account, parent=parent, name=name)
        if step is None:
            return None
        parent = step
    return parent


def _paths(places: dict[int, tuple[int | None, str, str | None]]) -> dict[int, str]:
    """The path of each mailbox: id → (parent, name, role)."""
    paths: dict[int, str] = {}

    def path(mailbox: int) -> str:
        if mailbox not in paths:
            parent, name, role = places[mailbox]
            own = INBOX if parent is None and role == "inbox" else name
            paths[mailbox] = own if parent is None else f"{path(parent)}{SEPARATOR}{own}"
        return paths[mailbox]

    for mailbox in places:
        path(mailbox)
    return paths


def _create_parents(change: Change, names: Iterable[str]) -> int | None:
    """The mailbox at the end of these names, made as far as it is missing; None: the top."""
    tx, account = change.tx, change.account
    parent: int | None = None
    for level, name in enumerate(names):
        if level == 0 and name == INBOX:
            parent = by_role(tx, account, "inbox")
            continue
        step: int | None = tx.value("mailbox_child", account=account, parent=parent or 0, name=name)
        parent = _insert(change, parent, name) if step is None else step
    return parent


def _insert(change: Change, parent: int | None, name: str, *, role: str | None = None, sort_order: int = 10) -> int:
    if change.tx.value("mailbox_count", account=change.account) >= MAX_MAILBOXES:
        raise TooManyMailboxes(f"an account has {MAX_MAILBOXES} mailboxes at most")
    mailbox, uidvalidity = change.new_mailbox()
    change.tx.run(
        "mailbox_insert",
        account=change.account,
        id=mailbox,
        parent=parent,
        name=name,
        role=role,
        subscribed=int(role is not None),
        sort_order=sort_order,
        uidvalidity=uidvalidity,
        modseq=change.modseq,
    )
    if parent is not None:
        shares.inherit(change.tx, change.account, parent, mailbox)
    change.mailboxes_created.append(mailbox)
    return mailbox


def _empty_inbox(change: Change, inbox: int, names: list[str]) -> None:
    """RFC 9051 §6.3.6: renaming INBOX moves its messages to the new name and leaves INBOX empty."""
    if names[0] == INBOX and len(names) == 1:
        raise MailboxExists("the Inbox is there already")
    target = _insert(change, _create_parents(change, names[:-1]), names[-1])
    placing.move_in(change, inbox, chosen.ALL, target)
    metadata.copy(change.tx, change.account, inbox, target)


def _move(change: Change, mailbox: int, names: list[str]) -> None:
    tx, account = change.tx, change.account
    if names[0] == INBOX and len(names) == 1:
        raise MailboxExists("the Inbox is there already")
    parent = _create_parents(change, names[:-1])
    step = parent
    while step is not None:
        if step == mailbox:
            raise BadName("a mailbox cannot be below itself")
        step = (tx.one("mailbox_place", account=account, mailbox=step) or (None,))[0]
    if len(names) + _levels_below(tx, account, mailbox) > MAX_DEPTH:
        raise BadName(f"mailboxes nest {MAX_DEPTH} deep at most")
    tx.run("mailbox_move", account=account, mailbox=mailbox, parent=parent, name=names[-1])
    change.mailboxes_updated.add(mailbox)


def _levels_below(tx: Tx, account: int, mailbox: int) -> int:
    parents = {row[0]: row[1] for row in tx.all("mailbox_list", account=account)}
    levels, level = 0, {mailbox}
    while level := {id for id, parent in parents.items() if parent in level}:
        levels += 1
    return levels


def _check_role(tx: Tx, account: int, role: str) -> None:
    if role not in ROLES:
        raise BadName(f"{role!r} is no role")
    if tx.value("mailbox_by_role", account=account, role=role) is not None:
        raise MailboxExists(f"another mailbox has the role {role}")


def _update(
    tx: Tx, account: int, mailbox: int, now: int, statement: str, annotation: str = "", **values: int | str | None
) -> None:
    """Change a mailbox' row where that makes a difference to nothing else, or to an annotation made of it."""
    change = Change(tx, lock_account(tx, account), now)
    if not tx.run(statement, account=account, mailbox=mailbox, **values):
        raise NoSuchMailbox(f"account {account} has no mailbox {mailbox}")
    change.mailboxes_updated.add(mailbox)
    if annotation:
        change.annotations[mailbox] = [annotation]
    change.finish()
