"""SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS (RFC 4314).

Promises: rights are given to accounts, by any of their addresses, and taken by negative rights ("-ADDRESS"). An owner
keeps all rights. Who has no right to know of a mailbox hears that it is not there.
Refuses: groups; and to share beyond one's own domain, or with anyone, which is for those who run the server (Dovecot
too has it so unless it is told otherwise: one could show things to all others). What they have given, an owner may take
back.
"""

from typing import Final

from posthouse.directory import accounts
from posthouse.directory.model import NoSuchAccount
from posthouse.imapd import places
from posthouse.imapd.places import Place
from posthouse.imapd.refusal import Refused
from posthouse.imapd.session import Session
from posthouse.mailbox import shares
from posthouse.mailbox.shares import ALL, ANYONE, ANYONE_NAME, NEGATIVE
from posthouse.store.database import Tx
from posthouse.wire.imap import acl as wire
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.response import Code

_WITH_WHOM: Final = "Mailboxes are shared with accounts of one's own domain; there are no groups"


async def set_acl(session: Session, command: Command, asked: wire.SetAcl) -> None:
    """SETACL: RFC 4314 §3.1."""
    await session.write(_change, asked.mailbox, asked.identifier, asked.how, asked.rights)
    await session.ok(command, "So be it")


async def delete_acl(session: Session, command: Command, asked: wire.DeleteAcl) -> None:
    """DELETEACL: RFC 4314 §3.2."""
    await session.write(_change, asked.mailbox, asked.identifier, "", "")
    await session.ok(command, "So be it")


def _change(tx: Tx, account: int, path: str, identifier: str, how: str, rights: str) -> None:
    """Raises NoSuchMailbox, NoPermission, TooManyShares, Refused."""
    place = places.find(tx, account, path, "a")
    grantee, denies = _meant(tx, place, identifier)
    if grantee == place.account:
        raise Refused("The owner keeps all rights", Code.CANNOT)
    granted, denied = shares.held(tx, place.account, place.mailbox.id, grantee)
    before = denied if denies else granted
    match how:
        case "+":
            rights = before + rights
        case "-":
            rights = "".join([right for right in before if right not in rights])
    if grantee == ANYONE and not denies and not set(rights) <= set(before):
        raise Refused("With anyone those share who run this server", Code.NOPERM)
    shares.grant(tx, place.account, place.mailbox.id, grantee, rights, denies=denies)


def _meant(tx: Tx, place: Place, identifier: str) -> tuple[int, bool]:
    """The account that an identifier means, or ANYONE, and whether it stands for what is denied. Raises Refused."""
    # RFC 4314 §2: "anyone", and what begins with "-", are no names of users.
    denies = identifier.startswith(NEGATIVE)
    name = identifier.removeprefix(NEGATIVE)
    return ANYONE if name == ANYONE_NAME else _account(tx, place, name), denies


def _account(tx: Tx, place: Place, identifier: str) -> int:
    try:
        found = accounts.by_address(tx, identifier)
    except NoSuchAccount as error:
        raise Refused(_WITH_WHOM, Code.CANNOT) from error
    if _domain(found.name) != _domain(accounts.find(tx, place.account).name):
        raise Refused(_WITH_WHOM, Code.CANNOT)
    return found.id


def _domain(name: str) -> str:
    return name.rpartition("@")[2]


async def get_acl(session: Session, command: Command, asked: wire.GetAcl) -> None:
    """GETACL: RFC 4314 §3.3."""
    path, entries = await session.read(_entries, asked.mailbox)
    session.engine.send(wire.acl(path, entries, utf8=session.engine.utf8))
    await session.ok(command, "Those may use it")


def _entries(tx: Tx, account: int, path: str) -> tuple[str, list[tuple[str, str]]]:
    place = places.find(tx, account, path, "a")
    owner = accounts.find(tx, place.account).name
    return place.mailbox.path, [(owner, ALL), *shares.granted(tx, place.account, place.mailbox.id)]


async def list_rights(session: Session, command: Command, asked: wire.ListRights) -> None:
    """LISTRIGHTS: RFC 4314 §3.4."""
    path, required, more = await session.read(_grantable, asked.mailbox, asked.identifier)
    session.engine.send(wire.list_rights(path, asked.identifier, required, more, utf8=session.engine.utf8))
    await session.ok(command, "Those can be granted")


def _grantable(tx: Tx, account: int, path: str, identifier: str) -> tuple[str, str, str]:
    """The mailbox, what the identifier has in any case, and what else it can be given there."""
    place = places.find(tx, account, path, "a")
    grantee, denies = _meant(tx, place, identifier)
    if grantee == place.account:
        return place.mailbox.path, "" if denies else ALL, ""
    return place.mailbox.path, "", "" if grantee == ANYONE and not denies else ALL


async def my_rights(session: Session, command: Command, asked: wire.MyRights) -> None:
    """MYRIGHTS: RFC 4314 §3.5."""
    place = await session.read(places.find, asked.mailbox)
    if not set(place.rights) & set("lrikxa"):
        # RFC 4314 §4: any of these tells that it is there.
        raise Refused("There is no such mailbox", Code.NONEXISTENT)
    session.engine.send(wire.my_rights(place.mailbox.path, place.rights, utf8=session.engine.utf8))
    await session.ok(command, "That is allowed")
