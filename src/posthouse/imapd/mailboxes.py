"""Commands about mailboxes: LIST and its kin, STATUS, CREATE, DELETE, RENAME, SUBSCRIBE, NAMESPACE.

Promises: totals come from the mailbox' row and are never counted. Names are paths with "/" between levels, the Inbox
is INBOX.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from posthouse.imapd.session import Session
from posthouse.mailbox import mailboxes
from posthouse.mailbox.mailboxes import INBOX, SEPARATOR
from posthouse.mailbox.model import Mailbox, MailboxExists, NoSuchMailbox
from posthouse.store.database import Tx
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.request import ListReturn, ListSelect, StatusItem
from posthouse.wire.imap.response import Code

# RFC 6154 §2. The Inbox has no attribute: its name says it.
_ATTRIBUTES: Final = {
    "archive": b"\\Archive",
    "drafts": b"\\Drafts",
    "junk": b"\\Junk",
    "sent": b"\\Sent",
    "trash": b"\\Trash",
}
_ROLES: Final = {attribute.decode().lower(): role for role, attribute in _ATTRIBUTES.items()}

_TOTALS: Final[dict[StatusItem, Callable[[Mailbox], int]]] = {
    StatusItem.MESSAGES: lambda mailbox: mailbox.messages,
    StatusItem.UIDNEXT: lambda mailbox: mailbox.uidnext,
    StatusItem.UIDVALIDITY: lambda mailbox: mailbox.uidvalidity,
    StatusItem.UNSEEN: lambda mailbox: mailbox.unseen,
    StatusItem.DELETED: lambda mailbox: mailbox.deleted,
    StatusItem.SIZE: lambda mailbox: mailbox.octets,
    # RFC 9051 Appendix E: \\Recent is gone; nothing is recent here.
    StatusItem.RECENT: lambda mailbox: 0,
}


async def list_(session: Session, command: Command, asked: request.List) -> None:
    """LIST: RFC 9051 §6.3.9."""
    if asked.patterns == ("",) and not asked.extended:
        # RFC 9051 §6.3.9: an empty pattern asks for the delimiter.
        session.engine.send(response.listed("", [b"\\Noselect"], utf8=session.engine.utf8))
        await session.ok(command, "That is the delimiter")
        return
    found = await session.read(mailboxes.list_mailboxes)
    matches = _matcher(asked.reference, asked.patterns)
    parents = {mailbox.parent for mailbox in found}
    below = _subscribed_below(found) if ListSelect.RECURSIVEMATCH in asked.select else set()
    for mailbox in found:
        children = [b"SUBSCRIBED"] if mailbox.path in below else []
        if not matches(mailbox.path) or not (_selected(mailbox, asked.select) or children):
            continue
        attributes = list(_attributes(mailbox, asked, mailbox.id in parents))
        session.engine.send(response.listed(mailbox.path, attributes, utf8=session.engine.utf8, childinfo=children))
        if asked.status:
            session.engine.send(_status(session, mailbox, asked.status))
    await session.ok(command, "Those are the mailboxes")


def _selected(mailbox: Mailbox, select: frozenset[ListSelect]) -> bool:
    if ListSelect.SUBSCRIBED in select and not mailbox.subscribed:
        return False
    return not (ListSelect.SPECIAL_USE in select and mailbox.role not in _ATTRIBUTES)


def _subscribed_below(found: Sequence[Mailbox]) -> set[str]:
    """Paths that have a subscribed mailbox somewhere below them."""
    above: set[str] = set()
    for mailbox in found:
        names = mailbox.path.split(SEPARATOR)
        if mailbox.subscribed:
            above.update(SEPARATOR.join(names[:depth]) for depth in range(1, len(names)))
    return above


def _attributes(mailbox: Mailbox, asked: request.List, parent: bool) -> Iterator[bytes]:
    # RFC 9051 §7.3.1: which tell of children cost nothing here, so they are always told (RFC 3348).
    yield b"\\HasChildren" if parent else b"\\HasNoChildren"
    if mailbox.subscribed and (ListReturn.SUBSCRIBED in asked.returns or ListSelect.SUBSCRIBED in asked.select):
        yield b"\\Subscribed"
    if mailbox.role in _ATTRIBUTES:
        # RFC 6154 §2: may be told also where nobody asked, and old clients look for it.
        yield _ATTRIBUTES[mailbox.role]


async def lsub(session: Session, command: Command, asked: request.Lsub) -> None:
    """LSUB: RFC 3501 §6.3.9."""
    found = await session.read(mailboxes.list_mailboxes)
    matches = _matcher(asked.reference, (asked.pattern,))
    told: set[str] = set()
    for mailbox in found:
        if not mailbox.subscribed:
            continue
        if matches(mailbox.path):
            told.add(mailbox.path)
            session.engine.send(response.listed(mailbox.path, (), utf8=session.engine.utf8, command=b"LSUB"))
            continue
        # "%" stops at a level: the parent of a subscribed mailbox is told in its stead, with \Noselect.
        names = mailbox.path.split(SEPARATOR)
        parents = (SEPARATOR.join(names[:depth]) for depth in range(len(names) - 1, 0, -1))
        parent = next((path for path in parents if matches(path)), None)
        if parent is not None and parent not in told:
            told.add(parent)
            line = response.listed(parent, [b"\\Noselect"], utf8=session.engine.utf8, command=b"LSUB")
            session.engine.send(line)
    await session.ok(command, "Those are the subscribed mailboxes")


def _matcher(reference: str, patterns: Sequence[str]) -> Callable[[str], bool]:
    """RFC 9051 §6.3.9: `*` is anything, `%` anything but the delimiter; INBOX matches in any case."""
    compiled = [re.compile(_expression(reference + pattern), re.DOTALL) for pattern in patterns]
    inbox = any(re.fullmatch(_expression((reference + pattern).upper()), INBOX) for pattern in patterns)
    return lambda path: (path == INBOX and inbox) or any(one.fullmatch(path) for one in compiled)


def _expression(pattern: str) -> str:
    # Runs of wildcards are one: a pattern of many would else take exponential time.
    pattern = re.sub(r"[*%]*\*[*%]*", "*", pattern)
    pattern = re.sub(r"%+", "%", pattern)
    parts = {"*": ".*", "%": f"[^{SEPARATOR}]*"}
    return "".join(parts.get(part) or re.escape(part) for part in re.split(r"([*%])", pattern))


async def namespace(session: Session, command: Command, asked: request.Namespace) -> None:
    """NAMESPACE: RFC 9051 §6.3.10. Everything is one's own."""
    session.engine.send(response.namespace([("", SEPARATOR)], utf8=session.engine.utf8))
    await session.ok(command, "That is the namespace")


async def status(session: Session, command: Command, asked: request.Status) -> None:
    """STATUS: RFC 9051 §6.3.11."""
    mailbox = await session.read(_by_path, asked.mailbox)
    session.engine.send(_status(session, mailbox, asked.items))
    await session.ok(command, "Those are its totals")


def _status(session: Session, mailbox: Mailbox, items: Sequence[StatusItem]) -> bytes:
    totals = [(item.value, _TOTALS[item](mailbox)) for item in items]
    return response.status(mailbox.path, totals, utf8=session.engine.utf8)


def _by_path(tx: Tx, account: int, path: str) -> Mailbox:
    return mailboxes.get(tx, account, mailboxes.find(tx, account, path))


async def create(session: Session, command: Command, asked: request.Create) -> None:
    """CREATE: RFC 9051 §6.3.4, RFC 6154 §3."""
    roles = [_ROLES.get(use.lower(), "") for use in asked.use]
    if len(roles) > 1 or "" in roles:
        session.engine.no(command, "A mailbox can be one of \\Archive \\Drafts \\Junk \\Sent \\Trash", Code.USEATTR)
        return
    # RFC 9051 §6.3.4: a delimiter at the end says that others will come below; it names the same mailbox.
    path = asked.mailbox.removesuffix(SEPARATOR)
    role = roles[0] if roles else None
    try:
        await session.write(mailboxes.create, path, session.around.clock.now(), role=role)
    except MailboxExists as error:
        if role is not None and await session.read(_is_free, path):
            session.engine.no(command, "Another mailbox has that use", Code.USEATTR)
        else:
            session.fail(command, error)
        return
    await session.ok(command, "Made")


def _is_free(tx: Tx, account: int, path: str) -> bool:
    try:
        mailboxes.find(tx, account, path)
    except NoSuchMailbox:
        return True
    return False


async def delete(session: Session, command: Command, asked: request.Delete) -> None:
    """DELETE: RFC 9051 §6.3.5."""
    await session.write(_delete, asked.mailbox, session.around.clock.now())
    if session.selected is not None and session.selected.path == asked.mailbox:
        # Its numbers mean nothing any more.
        session.selected = None
        session.engine.ok(command, "Deleted; it was open")
        session.engine.bye("The open mailbox was deleted")
        return
    await session.ok(command, "Deleted")


def _delete(tx: Tx, account: int, path: str, now: int) -> None:
    mailboxes.delete(tx, account, mailboxes.find(tx, account, path), now)


async def rename(session: Session, command: Command, asked: request.Rename) -> None:
    """RENAME: RFC 9051 §6.3.6."""
    await session.write(_rename, asked.mailbox, asked.to.removesuffix(SEPARATOR), session.around.clock.now())
    await session.refresh()
    await session.ok(command, "Renamed")


def _rename(tx: Tx, account: int, path: str, to: str, now: int) -> None:
    mailboxes.rename(tx, account, mailboxes.find(tx, account, path), to, now)


async def subscribe(session: Session, command: Command, asked: request.Subscribe) -> None:
    """SUBSCRIBE and UNSUBSCRIBE: RFC 9051 §6.3.7, §6.3.8."""
    await session.write(_subscribe, asked.mailbox, asked.subscribed, session.around.clock.now())
    await session.ok(command, "Subscribed" if asked.subscribed else "Unsubscribed")


def _subscribe(tx: Tx, account: int, path: str, subscribed: bool, now: int) -> None:
    mailboxes.subscribe(tx, account, mailboxes.find(tx, account, path), subscribed, now)
