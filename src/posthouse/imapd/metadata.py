"""GETMETADATA and SETMETADATA (RFC 5464).

Promises: of several entries that are set at once all are, or none. An entry that is asked for and has no value is told
as NIL. A mailbox' use (RFC 6154 §4) can be read and set as any other entry.
Refuses: shared entries of the server to clients; what all of its users see is not one user's to write.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from posthouse.imapd import places
from posthouse.imapd.mailboxes import SPECIAL_USE, role_for, visible
from posthouse.imapd.places import Place
from posthouse.imapd.refusal import Refused
from posthouse.imapd.session import Session
from posthouse.mailbox import mailboxes, metadata
from posthouse.mailbox.metadata import OF_ACCOUNT
from posthouse.mailbox.model import MailboxExists
from posthouse.store.database import Tx
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
        await session.write(metadata.put, OF_ACCOUNT, asked.values)
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
    metadata.put(tx, place.account, mailbox.id, [pair for pair in values if pair[0] != SPECIAL_USE])
    for role in roles[-1:]:
        if role != mailbox.role:
            mailboxes.set_role(tx, account, mailbox.id, role, now)


def _check(place: Place, values: Sequence[tuple[str, bytes | None]]) -> None:
    """Of another's mailbox shared entries can be set. Raises NoSuchMailbox, NoPermission, Refused."""
    # RFC 5464 §3.3 asks for "l" and any of "rswip"; what all see should take the right to write.
    place.demand("lw")
    if any(entry.startswith("/private/") for entry, _ in values):
        raise Refused("Of what another shares nothing private is kept", wire.NO_PRIVATE)
