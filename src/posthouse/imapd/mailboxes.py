"""Commands about mailboxes: LIST and its kin, STATUS, CREATE, DELETE, RENAME, SUBSCRIBE, NAMESPACE.

Promises: totals come from the mailbox' row and are never counted. Names are paths with "/" between levels, the Inbox
is INBOX.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from posthouse.imapd.pattern import matcher
from posthouse.imapd.session import LINES, Refused, Session
from posthouse.mailbox import mailboxes
from posthouse.mailbox.mailboxes import SEPARATOR
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
    matches = matcher(asked.reference, asked.patterns)
    parents = {mailbox.parent for mailbox in found}
    below = _above_subscribed(found) if ListSelect.RECURSIVEMATCH in asked.select else set()
    for number, mailbox in enumerate(found, 1):
        if matches(mailbox.path) and (_is_selected(mailbox, asked.select) or mailbox.path in below):
            attributes = _attributes(mailbox, asked, mailbox.id in parents)
            childinfo = [b"SUBSCRIBED"] if mailbox.path in below else []
            session.engine.send(
                response.listed(mailbox.path, attributes, utf8=session.engine.utf8, childinfo=childinfo)
            )
            if asked.status:
                session.engine.send(_status(session, mailbox, asked.status))
        if number % LINES == 0:
            await session.pause()
    await session.ok(command, "Those are the mailboxes")


def _is_selected(mailbox: Mailbox, select: frozenset[ListSelect]) -> bool:
    if ListSelect.SUBSCRIBED in select and not mailbox.subscribed:
        return False
    return not (ListSelect.SPECIAL_USE in select and mailbox.role not in _ATTRIBUTES)


def _above_subscribed(found: Sequence[Mailbox]) -> set[str]:
    """Paths that have a subscribed mailbox somewhere below them (RFC 9051 §6.3.9.6)."""
    above: set[str] = set()
    for mailbox in found:
        if mailbox.subscribed:
            above.update(_parents(mailbox.path))
    return above


def _parents(path: str) -> list[str]:
    """The paths above one, the nearest first."""
    names = path.split(SEPARATOR)
    return [SEPARATOR.join(names[:depth]) for depth in range(len(names) - 1, 0, -1)]


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
    matches = matcher(asked.reference, (asked.pattern,))
    told: set[str] = set()
    for number, mailbox in enumerate(found, 1):
        if mailbox.subscribed:
            path = mailbox.path if matches(mailbox.path) else _parent_instead(mailbox.path, matches)
            if path is not None and path not in told:
                told.add(path)
                attributes = [] if path == mailbox.path else [b"\\Noselect"]
                session.engine.send(response.listed(path, attributes, utf8=session.engine.utf8, command=b"LSUB"))
        if number % LINES == 0:
            await session.pause()
    await session.ok(command, "Those are the subscribed mailboxes")


def _parent_instead(path: str, matches: Callable[[str], bool]) -> str | None:
    """RFC 3501 §6.3.9: "%" stops at a level; what is above a subscribed mailbox is told in its stead."""
    return next((parent for parent in _parents(path) if matches(parent)), None)


async def status(session: Session, command: Command, asked: request.Status) -> None:
    """STATUS: RFC 9051 §6.3.11."""
    mailbox = await session.read(by_path, asked.mailbox)
    session.engine.send(_status(session, mailbox, asked.items))
    await session.ok(command, "Those are its totals")


def _status(session: Session, mailbox: Mailbox, items: Sequence[StatusItem]) -> bytes:
    totals = [(item.value, _TOTALS[item](mailbox)) for item in items]
    return response.status(mailbox.path, totals, utf8=session.engine.utf8)


def by_path(tx: Tx, account: int, path: str) -> Mailbox:
    """The mailbox of that name with its totals. Raises NoSuchMailbox."""
    return mailboxes.get(tx, account, mailboxes.find(tx, account, path))


async def create(session: Session, command: Command, asked: request.Create) -> None:
    """CREATE: RFC 9051 §6.3.4, RFC 6154 §3."""
    role = _role(asked.use)
    # RFC 9051 §6.3.4: a delimiter at the end says that others will come below; it names the same mailbox.
    path = asked.mailbox.removesuffix(SEPARATOR)
    try:
        await session.write(mailboxes.create, path, session.around.clock.now(), role=role)
    except MailboxExists as error:
        if role is None or await session.read(_exists, path):
            raise
        raise Refused("Another mailbox has that use", Code.USEATTR) from error
    await session.ok(command, "Made")


def _role(use: Sequence[str]) -> str | None:
    """The role that a client asks for. Raises Refused."""
    roles = [_ROLES.get(attribute.lower()) for attribute in use]
    if len(roles) > 1 or None in roles:
        raise Refused("A mailbox can be one of \\Archive \\Drafts \\Junk \\Sent \\Trash", Code.USEATTR)
    return roles[0] if roles else None


def _exists(tx: Tx, account: int, path: str) -> bool:
    try:
        mailboxes.find(tx, account, path)
    except NoSuchMailbox:
        return False
    return True


async def delete(session: Session, command: Command, asked: request.Delete) -> None:
    """DELETE: RFC 9051 §6.3.5."""
    deleted = await session.write(_delete, asked.mailbox, session.around.clock.now())
    if session.selected is not None and session.selected.mailbox == deleted:
        # Whoever deletes what it has open is told so, and needs no BYE.
        session.selected = None
        session.engine.unselect("The mailbox that was open has been deleted")
    await session.ok(command, "Deleted")


def _delete(tx: Tx, account: int, path: str, now: int) -> int:
    mailbox = mailboxes.find(tx, account, path)
    mailboxes.delete(tx, account, mailbox, now)
    return mailbox


async def rename(session: Session, command: Command, asked: request.Rename) -> None:
    """RENAME: RFC 9051 §6.3.6."""
    await session.write(_rename, asked.mailbox, asked.to.removesuffix(SEPARATOR), session.around.clock.now())
    await session.ok(command, "Renamed")


def _rename(tx: Tx, account: int, path: str, to: str, now: int) -> None:
    mailboxes.rename(tx, account, mailboxes.find(tx, account, path), to, now)


async def subscribe(session: Session, command: Command, asked: request.Subscribe) -> None:
    """SUBSCRIBE and UNSUBSCRIBE: RFC 9051 §6.3.7, §6.3.8."""
    try:
        await session.write(_subscribe, asked.mailbox, asked.subscribed, session.around.clock.now())
    except NoSuchMailbox:
        # What is not there is not subscribed either: clients tidy up after a DELETE.
        if asked.subscribed:
            raise
    await session.ok(command, "Subscribed" if asked.subscribed else "Unsubscribed")


def _subscribe(tx: Tx, account: int, path: str, subscribed: bool, now: int) -> None:
    mailboxes.subscribe(tx, account, mailboxes.find(tx, account, path), subscribed, now)
