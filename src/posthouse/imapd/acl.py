"""SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS (RFC 4314).

Promises: rights are given to accounts, by any of their addresses. An owner keeps all rights. Who has no right to know
of a mailbox hears that it is not there.
Refuses: groups, "anyone" and negative rights, which the RFC leaves to us; and to share beyond one's own domain, which
is for those who run the server.
"""

from posthouse.directory import accounts
from posthouse.directory.model import NoSuchAccount
from posthouse.imapd import places
from posthouse.imapd.places import Place
from posthouse.imapd.refusal import Refused
from posthouse.imapd.session import Session
from posthouse.mailbox import shares
from posthouse.mailbox.shares import ALL
from posthouse.store.database import Tx
from posthouse.wire.imap import acl as wire
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.response import Code


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
    grantee = _meant(tx, place, identifier)
    if grantee == place.account:
        raise Refused("The owner keeps all rights", Code.CANNOT)
    before = shares.rights_of(tx, place.account, place.mailbox.id, grantee)
    match how:
        case "+":
            rights = before + rights
        case "-":
            rights = "".join([right for right in before if right not in rights])
    shares.grant(tx, place.account, place.mailbox.id, grantee, rights)


def _meant(tx: Tx, place: Place, identifier: str) -> int:
    """The account that an identifier means. Raises Refused."""
    try:
        found = accounts.by_address(tx, identifier)
    except NoSuchAccount as error:
        raise Refused("Mailboxes are shared with accounts of one's own domain", Code.CANNOT) from error
    if _domain(found.name) != _domain(accounts.find(tx, place.account).name):
        raise Refused("Mailboxes are shared with accounts of one's own domain", Code.CANNOT)
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
    path, required = await session.read(_grantable, asked.mailbox, asked.identifier)
    session.engine.send(wire.list_rights(path, asked.identifier, required, utf8=session.engine.utf8))
    await session.ok(command, "Those can be granted")


def _grantable(tx: Tx, account: int, path: str, identifier: str) -> tuple[str, str]:
    place = places.find(tx, account, path, "a")
    return place.mailbox.path, ALL if _meant(tx, place, identifier) == place.account else ""


async def my_rights(session: Session, command: Command, asked: wire.MyRights) -> None:
    """MYRIGHTS: RFC 4314 §3.5."""
    place = await session.read(places.find, asked.mailbox)
    if not set(place.rights) & set("lrikxa"):
        # RFC 4314 §4: any of these tells that it is there.
        raise Refused("There is no such mailbox", Code.NONEXISTENT)
    session.engine.send(wire.my_rights(place.mailbox.path, place.rights, utf8=session.engine.utf8))
    await session.ok(command, "That is allowed")
