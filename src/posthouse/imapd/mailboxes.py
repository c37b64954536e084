"""Commands about mailboxes: LIST and its kin, STATUS, CREATE, DELETE, RENAME, SUBSCRIBE, NAMESPACE.

Promises: totals come from the mailbox' row and are never counted. Names are paths with "/" between levels, the Inbox
is INBOX.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from posthouse.imapd.pattern import matcher
from posthouse.imapd.session import LINES, Refused, Session
from posthouse.mailbox import mailboxes, metadata
from posthouse.mailbox.mailboxes import SEPARATOR
from posthouse.mailbox.model import Mailbox, MailboxExists, NoSuchMailbox
from posthouse.store.database import Tx
from posthouse.wire.imap import metadata as wire
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
# RFC 6154 §4
SPECIAL_USE: Final = "/private/specialuse"
_ROLES: Final = {attribute.decode().lower(): role for role, attribute in _ATTRIBUTES.items()}

_TOTALS: Final[dict[StatusItem, Callable[[Mailbox], int]]] = {
    StatusItem.MESSAGES: lambda mailbox: mailbox.messages,
    StatusItem.UIDNEXT: lambda mailbox: mailbox.uidnext,
    StatusItem.UIDVALIDITY: lambda mailbox: mailbox.uidvalidity,
    StatusItem.UNSEEN: lambda mailbox: mailbox.unseen,
    StatusItem.DELETED: lambda mailbox: mailbox.deleted,
    # RFC 9208 §4.1.4: by the sizes of the messages, whether or not they are elsewhere too.
    StatusItem.DELETED_STORAGE: lambda mailbox: mailbox.deleted_octets,
    StatusItem.SIZE: lambda mailbox: mailbox.octets,
    # RFC 9051 Appendix E: \\Recent is gone; nothing is recent here.
    StatusItem.RECENT: lambda mailbox: 0,
    StatusItem.HIGHESTMODSEQ: lambda mailbox: mailbox.highest_modseq,
}


async def list_(session: Session, command: Command, asked: request.List) -> None:
    """LIST: RFC 9051 §6.3.9."""
    if StatusItem.HIGHESTMODSEQ in asked.status:
        session.heed_modseqs()
    if asked.patterns == ("",) and not asked.extended:
        # RFC 9051 §6.3.9: an empty pattern asks for the delimiter.
        session.engine.send(response.listed("", [b"\\Noselect"], utf8=session.engine.utf8))
        await session.ok(command, "That is the delimiter")
        return
    found = await session.read(mailboxes.list_mailboxes)
    noted = await session.read(metadata.every_entry) if asked.metadata else {}
    matches = matcher(asked.reference, asked.patterns)
    parents = {mailbox.parent for mailbox in found}
    # RFC 5258 §3.5: what has others below it that are selected, whether or not the pattern matches those.
    below: set[str] = set()
    if ListSelect.RECURSIVEMATCH in asked.select:
        below = _above([mailbox for mailbox in found if _is_selected(mailbox, asked.select)])
    by = [option.value for option in (ListSelect.SUBSCRIBED, ListSelect.SPECIAL_USE) if option in asked.select]
    for number, mailbox in enumerate(found, 1):
        if matches(mailbox.path) and (_is_selected(mailbox, asked.select) or mailbox.path in below):
            attributes = _attributes(mailbox, asked, mailbox.id in parents)
            childinfo = by if mailbox.path in below else []
            session.engine.send(
                response.listed(mailbox.path, attributes, utf8=session.engine.utf8, childinfo=childinfo)
            )
            if asked.status:
                session.engine.send(describe(session, mailbox, asked.status))
            if asked.metadata:
                session.engine.send(_noted(session, mailbox, noted.get(mailbox.id, {}), asked.metadata))
        if number % LINES == 0:
            await session.pause()
    await session.ok(command, "Those are the mailboxes")


def _noted(session: Session, mailbox: Mailbox, held: Mapping[str, bytes], asked: Sequence[str]) -> bytes:
    """The METADATA response of a mailbox (RFC 9590 §3)."""
    values = annotations(mailbox, held)
    return wire.metadata(mailbox.path, [(entry, values.get(entry)) for entry in asked], utf8=session.engine.utf8)


def _is_selected(mailbox: Mailbox, select: frozenset[ListSelect]) -> bool:
    if ListSelect.SUBSCRIBED in select and not mailbox.subscribed:
        return False
    return not (ListSelect.SPECIAL_USE in select and mailbox.role not in _ATTRIBUTES)


def _above(mailboxes: Sequence[Mailbox]) -> set[str]:
    """Paths that have one of these somewhere below them (RFC 9051 §6.3.9.6)."""
    return {parent for mailbox in mailboxes for parent in _parents(mailbox.path)}


def _parents(path: str) -> list[str]:
    """The paths above one, the nearest first."""
    names = path.split(SEPARATOR)
    return [SEPARATOR.join(names[:depth]) for depth in range(len(names) - 1, 0, -1)]


def annotations(mailbox: Mailbox, held: Mapping[str, bytes]) -> dict[str, bytes]:
    """What is noted of a mailbox (RFC 5464): what is kept, and its use."""
    use = _ATTRIBUTES.get(mailbox.role or "")
    return {**held, SPECIAL_USE: use} if use else dict(held)


def mark(role: str | None, *, parent: bool, subscribed: bool) -> list[bytes]:
    """The attributes of a mailbox of this role: with others below it (`parent`) or not, subscribed to or not."""
    found = [b"\\HasChildren" if parent else b"\\HasNoChildren"]
    if subscribed:
        found.append(b"\\Subscribed")
    if role in _ATTRIBUTES:
        # RFC 6154 §2: may be told also where nobody asked, and old clients look for it.
        found.append(_ATTRIBUTES[role])
    return found


def _attributes(mailbox: Mailbox, asked: request.List, parent: bool) -> list[bytes]:
    wanted = ListReturn.SUBSCRIBED in asked.returns or ListSelect.SUBSCRIBED in asked.select
    # RFC 9051 §7.3.1: which tell of children cost nothing here, so they are always told (RFC 3348).
    return mark(mailbox.role, parent=parent, subscribed=wanted and mailbox.subscribed)


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
    if StatusItem.HIGHESTMODSEQ in asked.items:
        session.heed_modseqs()
    mailbox = await session.read(by_path, asked.mailbox)
    session.engine.send(describe(session, mailbox, asked.items))
    await session.ok(command, "Those are its totals")


def describe(session: Session, mailbox: Mailbox, items: Sequence[StatusItem]) -> bytes:
    """The STATUS response of a mailbox."""
    totals = [(item.value, _value(session, mailbox, item)) for item in items]
    return response.status(mailbox.path, totals, utf8=session.engine.utf8)


def _value(session: Session, mailbox: Mailbox, item: StatusItem) -> bytes:
    match item:
        case StatusItem.MAILBOXID:
            return b"(%b)" % object_id(mailbox.id)
        case StatusItem.APPENDLIMIT:
            # RFC 7889 §3.1: the same for each, as the capability says.
            return b"%d" % session.around.append_limit
        case _:
            return b"%d" % _TOTALS[item](mailbox)


def object_id(mailbox: int) -> bytes:
    """What a mailbox is known by whatever it is called, and never another (RFC 8474 §4)."""
    return b"F%d" % mailbox


def by_path(tx: Tx, account: int, path: str) -> Mailbox:
    """The mailbox of that name with its totals. Raises NoSuchMailbox."""
    return mailboxes.get(tx, account, mailboxes.find(tx, account, path))


async def create(session: Session, command: Command, asked: request.Create) -> None:
    """CREATE: RFC 9051 §6.3.4, RFC 6154 §3."""
    role = role_for(asked.use)
    # RFC 9051 §6.3.4: a delimiter at the end says that others will come below; it names the same mailbox.
    path = asked.mailbox.removesuffix(SEPARATOR)
    try:
        made = await session.write(mailboxes.create, path, session.around.clock.now(), role=role)
    except MailboxExists as error:
        if role is None or await session.read(_exists, path):
            raise
        raise Refused("Another mailbox has that use", Code.USEATTR) from error
    # RFC 8474 §4.1
    await session.ok(command, "Made", response.mailbox_id(object_id(made)))


def role_for(use: Sequence[str]) -> str | None:
    """The role that a client asks for by special-use attributes. Raises Refused."""
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
