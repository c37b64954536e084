"""GETMETADATA and SETMETADATA, and what others have set meanwhile (RFC 5464).

Promises: of several entries that are set at once all are, or none. An entry that is asked for and has no value is told
as NIL. A mailbox' use (RFC 6154 §4) can be read and set as any other entry. A client that has enabled METADATA hears
which entries of its account others have set or removed, with the next answer or while it idles.
Refuses: shared entries of the server to clients; what all of its users see is not one user's to write.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from posthouse import limits, observe
from posthouse.imapd import places
from posthouse.imapd.mailboxes import role_for, visible
from posthouse.imapd.places import Place
from posthouse.imapd.refusal import Refused
from posthouse.imapd.session import Session
from posthouse.mailbox import changes, mailboxes, metadata
from posthouse.mailbox.metadata import OF_ACCOUNT, SPECIAL_USE
from posthouse.mailbox.model import CannotCalculateChanges, MailboxExists, NoSuchMailbox
from posthouse.mailbox.ranges import Ranges
from posthouse.mailbox.view import Entry
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.wire.imap import metadata as wire
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.response import Code

# RFC 5464 §3.2.1.1
_ADMIN: Final = "/shared/admin"


async def get_metadata(session: Session, command: Command, asked: wire.GetMetadata) -> None:
    """GETMETADATA: RFC 5464 §4.2."""
    if asked.mailbox == wire.SERVER:
        path, held = wire.SERVER, await session.read(_of_server, _domain(session))
    else:
        path, held = await session.read(_of_mailbox, asked.mailbox)
    told, longest = _choose(held, asked)
    if told:
        session.engine.send(wire.metadata(path, told, utf8=session.engine.utf8))
    await session.ok(command, "That is what is noted", wire.long_entries(longest) if longest else b"")


def _domain(session: Session) -> str:
    assert session.account is not None, "the table lets this come after a login only"
    return session.account.name.rpartition("@")[2]


def _of_server(tx: Tx, account: int, domain: str) -> dict[str, bytes]:
    # RFC 5464 §3.2.1.1: a URI. RFC 5321 §4.5.1: every domain has a postmaster.
    return metadata.entries(tx, account, OF_ACCOUNT) | {_ADMIN: b"mailto:postmaster@" + quote(domain).encode()}


def _of_mailbox(tx: Tx, account: int, path: str) -> tuple[str, dict[str, bytes]]:
    """Raises NoSuchMailbox."""
    place = places.find(tx, account, path, "l")
    return place.mailbox.path, visible(place, metadata.entries(tx, place.account, place.mailbox.id))


def _choose(held: Mapping[str, bytes], asked: wire.GetMetadata) -> tuple[list[tuple[str, bytes | None]], int]:
    """What is told, and how long the longest value is that is left out for its size (0: none is)."""
    told: dict[str, bytes | None] = {}
    longest = 0
    for entry in asked.entries:
        names = metadata.below(held, entry, asked.depth)
        if not names:
            told[entry] = None
        for name in names:
            if asked.max_size is not None and len(held[name]) > asked.max_size:
                longest = max(longest, len(held[name]))
            else:
                told[name] = held[name]
    return list(told.items()), longest


async def set_metadata(session: Session, command: Command, asked: wire.SetMetadata) -> None:
    """SETMETADATA: RFC 5464 §4.3."""
    if asked.mailbox == wire.SERVER:
        if any(entry.startswith("/shared/") for entry, _ in asked.values):
            raise Refused("What all users see is set by those who run this server", Code.NOPERM)
        await session.write(metadata.put, OF_ACCOUNT, asked.values, session.around.clock.now())
    else:
        uses = [value for entry, value in asked.values if entry == SPECIAL_USE]
        roles = [role_for((use or b"").decode("ascii", "replace").split()) for use in uses]
        try:
            await session.write(_set, asked.mailbox, asked.values, roles, session.around.clock.now())
        except MailboxExists as error:
            raise Refused("Another mailbox has that use", Code.USEATTR) from error
    await session.ok(command, "Noted")


def _set(
    tx: Tx,
    account: int,
    path: str,
    values: Sequence[tuple[str, bytes | None]],
    roles: Sequence[str | None],
    now: int,
) -> None:
    """Raises NoSuchMailbox, AnnotationTooLong, TooManyAnnotations; MailboxExists (of the role), ReservedMailbox."""
    place = places.find(tx, account, path)
    mailbox = place.mailbox
    if not place.own:
        _check(place, values)
    metadata.put(tx, place.account, mailbox.id, [pair for pair in values if pair[0] != SPECIAL_USE], now)
    for role in roles[-1:]:
        if role != mailbox.role:
            mailboxes.set_role(tx, account, mailbox.id, role, now)


def _check(place: Place, values: Sequence[tuple[str, bytes | None]]) -> None:
    """Of another's mailbox shared entries can be set. Raises NoSuchMailbox, NoPermission, Refused."""
    # RFC 5464 §3.3 asks for "l" and any of "rswip"; what all see should take the right to write.
    place.demand("lw")
    if any(entry.startswith("/private/") for entry, _ in values):
        raise Refused("Of what another shares nothing private is kept", wire.NO_PRIVATE)


# --- what others have set ---------------------------------------------------------------------------------------------


async def listen(session: Session) -> None:
    """The client has enabled METADATA (RFC 5464 §4.1). Where it has said what it wants to be told (RFC 5465), that
    stays. Raises MailboxError, StoreUnavailable."""
    if session.watch is None:
        session.watch = _Listening(session, (await session.read(changes.states)).modseq)


class _Listening:
    """What a client that has enabled METADATA is told: which entries of its mailboxes and of the server are others now,
    with the answers to its commands, or while it idles. `at`: the modseq up to which it knows."""

    def __init__(self, session: Session, at: int) -> None:
        self._session = session
        self._at = at
        self._own: list[tuple[int, int]] = []
        # The bell may have rung since that modseq was read.
        self._stale = True

    @property
    def accounts(self) -> Collection[int]:
        """Of others nothing is told."""
        return (self._session.owner,)

    def hear(self, rung: Collection[int]) -> None:
        """A bell has rung."""
        self._stale = True

    def did(self, account: int, first: int, last: int) -> None:
        """The client's own doing."""
        if account == self._session.owner:
            self._own.append((first, last))

    def subscribed(self, account: int, mailbox: int, subscribed: bool) -> None:
        """Nor is that told."""

    def listen(self) -> None:
        """Between commands nothing is told that was not asked for by NOTIFY."""

    async def stop(self) -> None:
        """Nor is anything to be stopped."""

    async def tell_added(self, entries: Sequence[Entry]) -> None:
        """Of messages no more is told than of any."""

    async def tell_others(self) -> None:
        """Which entries others have changed."""
        session = self._session
        if not self._stale:
            return
        self._stale = False
        try:
            found = await session.read(_heard, self._at, tuple(self._own))
        except StoreUnavailable as error:
            self._stale = True
            observe.tell("imap.no_news", level=observe.WARNING, error=str(error))
        except CannotCalculateChanges:
            # The client comes again, and asks for what it wants to know.
            session.part("More has been annotated than can be told")
        else:
            self._at = found.until
            self._own = [(low, high) for low, high in self._own if high > found.until]
            for path, entries in found.entries:
                session.engine.send(wire.changed(path, entries, utf8=session.engine.utf8))


class _Heard(NamedTuple):
    """Entries that others have changed, by the name of their mailbox, of the server first; up to which modseq."""

    until: int
    entries: list[tuple[str, list[str]]]


def _heard(tx: Tx, account: int, modseq: int, own: Ranges) -> _Heard:
    """What is to be told of what happened after `modseq`, `own` being the client's own doing. Raises
    CannotCalculateChanges, also where that is too much to be told."""
    found = changes.annotated(tx, account, modseq, own=own, limit=limits.NOTIFY_CHANGES)
    if found.more or len(found.entries) > limits.NOTIFY_MAILBOXES:
        raise CannotCalculateChanges("too many annotations have changed at once")
    told: list[tuple[str, list[str]]] = []
    for mailbox in sorted(found.entries):
        try:
            path = wire.SERVER if mailbox == OF_ACCOUNT else mailboxes.path_of(tx, account, mailbox)
        except NoSuchMailbox:
            # It is gone, and they with it.
            continue
        told.append((path, found.entries[mailbox]))
    return _Heard(found.until, told)
