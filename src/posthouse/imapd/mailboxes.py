"""Commands about mailboxes: LIST and its kin, STATUS, CREATE, DELETE, RENAME, SUBSCRIBE, NAMESPACE.

Promises: totals come from the mailbox' row and are never counted. Names are paths with "/" between levels, the Inbox
is INBOX.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from posthouse.imapd import places
from posthouse.imapd.pattern import matcher
from posthouse.imapd.places import Place
from posthouse.imapd.refusal import Refused
from posthouse.imapd.session import LINES, Session
from posthouse.mailbox import mailboxes, metadata, shares
from posthouse.mailbox.mailboxes import SEPARATOR
from posthouse.mailbox.model import BadName, Mailbox, MailboxExists, NoPermission, NoSuchMailbox
from posthouse.store.database import Tx
from posthouse.wire.imap import acl, request, response
from posthouse.wire.imap import metadata as wire
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

# Characters of names that are held against patterns in a row: some tens of milliseconds.
_COMPARED: Final = 100_000

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
    everywhere = await session.read(places.everywhere)
    found = [place.mailbox for place in everywhere]
    noted = await session.read(_all_noted, everywhere) if asked.metadata else {}
    matches = matcher(asked.reference, asked.patterns)
    parents = {mailbox.path.rpartition(SEPARATOR)[0] for mailbox in found}
    # RFC 5258 §3.5: what has others below it that are selected, whether or not the pattern matches those.
    below: set[str] = set()
    if ListSelect.RECURSIVEMATCH in asked.select:
        below = _above([mailbox for mailbox in found if _is_selected(mailbox, asked.select)])
    by = [option.value for option in (ListSelect.SUBSCRIBED, ListSelect.SPECIAL_USE) if option in asked.select]
    turns = _Turns(session, len(asked.patterns))
    for place in everywhere:
        mailbox = place.mailbox
        selected = _is_selected(mailbox, asked.select)
        if matches(mailbox.path) and (selected or mailbox.path in below):
            attributes = _attributes(place, asked, mailbox.path in parents)
            childinfo = by if mailbox.path in below else []
            session.engine.send(
                response.listed(mailbox.path, attributes, utf8=session.engine.utf8, childinfo=childinfo)
            )
            # RFC 5819 §3: not of what is there for those below it only.
            if selected:
                _tell_beside(session, place, asked, noted)
        await turns.pass_on(len(mailbox.path))
    if not asked.select:
        await _tell_gaps(session, everywhere, matches, turns)
    await session.ok(command, "Those are the mailboxes")


class _Turns:
    """Lets others have their turn after so many names, or so many characters of them that each of the patterns was held
    against: names may be long, and patterns many."""

    def __init__(self, session: Session, patterns: int) -> None:
        self._session = session
        self._patterns = patterns
        self._names = self._compared = 0

    async def pass_on(self, characters: int) -> None:
        """Another name, of so many characters, is done."""
        self._names += 1
        self._compared += characters * self._patterns
        if self._names >= LINES or self._compared >= _COMPARED:
            self._names = self._compared = 0
            await self._session.pause()


_Noted = Mapping[tuple[int, int], Mapping[str, bytes]]


def _tell_beside(session: Session, place: Place, asked: request.List, noted: _Noted) -> None:
    """What a client wants to know of a mailbox with its name."""
    engine, mailbox = session.engine, place.mailbox
    if asked.status and place.permits("r"):
        engine.send(describe(session, mailbox, asked.status, place.ids))
    if asked.metadata:
        # RFC 9590 §3
        values = visible(place, noted.get((place.account, mailbox.id), {}))
        told = [(entry, values.get(entry)) for entry in asked.metadata]
        engine.send(wire.metadata(mailbox.path, told, utf8=engine.utf8))
    if ListReturn.MYRIGHTS in asked.returns:
        # RFC 8440 §3
        engine.send(acl.my_rights(mailbox.path, place.rights, utf8=engine.utf8))


async def _tell_gaps(
    session: Session, everywhere: Sequence[Place], matches: Callable[[str], bool], turns: _Turns
) -> None:
    """Names above others' mailboxes (RFC 9051 §6.3.9.4): a client finds its way down by them."""
    for path in places.gaps(everywhere):
        if matches(path):
            attributes = [b"\\Noselect", b"\\NonExistent", b"\\HasChildren"]
            session.engine.send(response.listed(path, attributes, utf8=session.engine.utf8))
        await turns.pass_on(len(path))


def _all_noted(tx: Tx, account: int, everywhere: Sequence[Place]) -> _Noted:
    owners = {place.account for place in everywhere} | {account}
    return {
        (owner, mailbox): entries for owner in owners for mailbox, entries in metadata.every_entry(tx, owner).items()
    }


def visible(place: Place, held: Mapping[str, bytes]) -> dict[str, bytes]:
    """What the client may know of what is noted of a mailbox (RFC 5464 §3.3): of another's nothing private."""
    if place.own:
        return annotations(place.mailbox, held)
    if not place.permits("l") or not set("rswip") & set(place.rights):
        return {}
    return {entry: value for entry, value in held.items() if not entry.startswith("/private/")}


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
    return {**held, metadata.SPECIAL_USE: use} if use else dict(held)


def mark(role: str | None, *, parent: bool, subscribed: bool) -> list[bytes]:
    """The attributes of a mailbox of this role: with others below it (`parent`) or not, subscribed to or not."""
    found = [b"\\HasChildren" if parent else b"\\HasNoChildren"]
    if subscribed:
        found.append(b"\\Subscribed")
    if role in _ATTRIBUTES:
        # RFC 6154 §2: may be told also where nobody asked, and old clients look for it.
        found.append(_ATTRIBUTES[role])
    return found


def _attributes(place: Place, asked: request.List, parent: bool) -> list[bytes]:
    mailbox = place.mailbox
    wanted = ListReturn.SUBSCRIBED in asked.returns or ListSelect.SUBSCRIBED in asked.select
    # RFC 9051 §7.3.1: which tell of children cost nothing here, so they are always told (RFC 3348).
    found = mark(mailbox.role, parent=parent, subscribed=wanted and mailbox.subscribed)
    # RFC 4314 §4: SELECT takes "r".
    return found if place.permits("r") else [b"\\Noselect", *found]


async def lsub(session: Session, command: Command, asked: request.Lsub) -> None:
    """LSUB: RFC 3501 §6.3.9."""
    found = [place.mailbox for place in await session.read(places.everywhere)]
    matches = matcher(asked.reference, (asked.pattern,))
    told: set[str] = set()
    turns = _Turns(session, 1)
    for mailbox in found:
        if mailbox.subscribed:
            path = mailbox.path if matches(mailbox.path) else _parent_instead(mailbox.path, matches)
            if path is not None and path not in told:
                told.add(path)
                attributes = [] if path == mailbox.path else [b"\\Noselect"]
                session.engine.send(response.listed(path, attributes, utf8=session.engine.utf8, command=b"LSUB"))
        # Those above it were perhaps held against the pattern too.
        await turns.pass_on(len(mailbox.path) * (1 + mailbox.path.count(SEPARATOR)))
    await session.ok(command, "Those are the subscribed mailboxes")


def _parent_instead(path: str, matches: Callable[[str], bool]) -> str | None:
    """RFC 3501 §6.3.9: "%" stops at a level; what is above a subscribed mailbox is told in its stead."""
    return next((parent for parent in _parents(path) if matches(parent)), None)


async def status(session: Session, command: Command, asked: request.Status) -> None:
    """STATUS: RFC 9051 §6.3.11."""
    if StatusItem.HIGHESTMODSEQ in asked.items:
        session.heed_modseqs()
    place = await session.readable(asked.mailbox)
    session.engine.send(describe(session, place.mailbox, asked.items, place.ids))
    await session.ok(command, "Those are its totals")


def describe(session: Session, mailbox: Mailbox, items: Sequence[StatusItem], ids: str = "") -> bytes:
    """The STATUS response of a mailbox. `ids`: `Place.ids`."""
    totals = [(item.value, _value(session, mailbox, item, ids)) for item in items]
    return response.status(mailbox.path, totals, utf8=session.engine.utf8)


def _value(session: Session, mailbox: Mailbox, item: StatusItem, ids: str) -> bytes:
    match item:
        case StatusItem.MAILBOXID:
            return b"(%b)" % object_id(mailbox.id, ids)
        case StatusItem.APPENDLIMIT:
            # RFC 7889 §3.1: the same for each, as the capability says.
            return b"%d" % session.around.append_limit
        case _:
            return b"%d" % _TOTALS[item](mailbox)


def object_id(mailbox: int, ids: str) -> bytes:
    """What a mailbox is known by whatever it is called, and never another (RFC 8474 §4)."""
    return b"F%b%d" % (ids.encode(), mailbox)


async def create(session: Session, command: Command, asked: request.Create) -> None:
    """CREATE: RFC 9051 §6.3.4, RFC 6154 §3."""
    role = role_for(asked.use)
    # RFC 9051 §6.3.4: a delimiter at the end says that others will come below; it names the same mailbox.
    path = asked.mailbox.removesuffix(SEPARATOR)
    if role is not None and places.is_others(path):
        raise Refused("Another's mailbox has no use here", Code.USEATTR)
    try:
        made, normal = await session.write(_create, path, session.around.clock.now(), role)
    except MailboxExists as error:
        if role is None or await session.read(_exists, path):
            raise
        raise Refused("Another mailbox has that use", Code.USEATTR) from error
    tell_name(session, path, normal)
    # RFC 8474 §4.1
    await session.ok(command, "Made", response.mailbox_id(made))


def tell_name(session: Session, asked: str, path: str) -> None:
    """RFC 9051 §6.3.9.7: what a mailbox is called, where the client has written that otherwise."""
    if asked != path and session.rev2:
        session.engine.send(response.listed(path, (), utf8=session.engine.utf8, oldname=asked))


def role_for(use: Sequence[str]) -> str | None:
    """The role that a client asks for by special-use attributes. Raises Refused."""
    roles = [_ROLES.get(attribute.lower()) for attribute in use]
    if len(roles) > 1 or None in roles:
        raise Refused("A mailbox can be one of \\Archive \\Drafts \\Junk \\Sent \\Trash", Code.USEATTR)
    return roles[0] if roles else None


def _create(tx: Tx, account: int, path: str, now: int, role: str | None) -> tuple[bytes, str]:
    """Its id, and what it is called. Raises MailboxExists, BadName, TooManyMailboxes, NoSuchMailbox, NoPermission."""
    owner, inner = places.owner_of(tx, account, path)
    if owner != account:
        _demand_below(tx, account, path)
    made = mailboxes.create(tx, owner, inner, now, role=role)
    return object_id(made, places.ids_of(owner, own=owner == account)), _normal(path, inner)


def _normal(path: str, inner: str) -> str:
    """The path in its normal form; its end is what its owner calls it."""
    names = SEPARATOR.join(mailboxes.split(inner))
    name = path.removesuffix(inner).removeprefix(places.PREFIX)
    return places.PREFIX + name.casefold() + names if name else names


def _demand_below(tx: Tx, account: int, path: str) -> None:
    """RFC 4314 §4: it takes "k" in the nearest mailbox above that there is. Raises NoPermission, NoSuchMailbox."""
    owner, inner = places.owner_of(tx, account, path)
    above = inner.rpartition(SEPARATOR)[0]
    while above:
        try:
            parent = mailboxes.find(tx, owner, above)
        except NoSuchMailbox:
            above = above.rpartition(SEPARATOR)[0]
            continue
        if "k" in shares.rights_of(tx, owner, parent, account):
            return
        break
    raise NoPermission(f"account {account} may make no mailbox there in account {owner}")


def _exists(tx: Tx, account: int, path: str) -> bool:
    try:
        places.find(tx, account, path)
    except NoSuchMailbox:
        return False
    return True


async def delete(session: Session, command: Command, asked: request.Delete) -> None:
    """DELETE: RFC 9051 §6.3.5."""
    deleted = await session.write(_delete, asked.mailbox, session.around.clock.now())
    opened = session.selected
    if opened is not None and (opened.account, opened.mailbox) == deleted:
        # Whoever deletes what it has open is told so, and needs no BYE.
        session.shut()
        session.engine.unselect("The mailbox that was open has been deleted")
    await session.ok(command, "Deleted")


def _delete(tx: Tx, account: int, path: str, now: int) -> tuple[int, int]:
    """Whose it was, and its id. Raises MailboxError."""
    place = places.find(tx, account, path, "x")
    mailboxes.delete(tx, place.account, place.mailbox.id, now)
    return place.account, place.mailbox.id


async def rename(session: Session, command: Command, asked: request.Rename) -> None:
    """RENAME: RFC 9051 §6.3.6."""
    to = asked.to.removesuffix(SEPARATOR)
    normal = await session.write(_rename, asked.mailbox, to, session.around.clock.now())
    tell_name(session, to, normal)
    await session.ok(command, "Renamed")


def _rename(tx: Tx, account: int, path: str, to: str, now: int) -> str:
    """What it is called then. Raises MailboxError."""
    place = places.find(tx, account, path, "x")
    owner, inner = places.owner_of(tx, account, to)
    if owner != place.account:
        raise BadName("a mailbox stays in its account")
    if not place.own:
        if mailboxes.by_role(tx, owner, "inbox") == place.mailbox.id:
            raise NoPermission("another's Inbox stays where it is")
        _demand_below(tx, account, to)
    mailboxes.rename(tx, owner, place.mailbox.id, inner, now)
    return _normal(to, inner)


async def subscribe(session: Session, command: Command, asked: request.Subscribe) -> None:
    """SUBSCRIBE and UNSUBSCRIBE: RFC 9051 §6.3.7, §6.3.8."""
    try:
        place = await session.write(_subscribe, asked.mailbox, asked.subscribed, session.around.clock.now())
        if not place.own and session.watch is not None:
            session.watch.subscribed(place.account, place.mailbox.id, asked.subscribed)
    except NoSuchMailbox:
        # What is not there is not subscribed either: clients tidy up after a DELETE.
        if asked.subscribed:
            raise
    await session.ok(command, "Subscribed" if asked.subscribed else "Unsubscribed")


def _subscribe(tx: Tx, account: int, path: str, subscribed: bool, now: int) -> Place:
    """Raises NoSuchMailbox, NoPermission."""
    place = places.find(tx, account, path, "l" if subscribed else "")
    if place.own:
        mailboxes.subscribe(tx, account, place.mailbox.id, subscribed, now)
    else:
        shares.subscribe(tx, place.account, place.mailbox.id, account, subscribed)
    return place
