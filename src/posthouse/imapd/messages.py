"""Commands that change what is in the open mailbox: STORE, COPY, MOVE, EXPUNGE (RFC 9051 §6.4).

Promises: an answer of OK follows the commit. A change of many messages is made in batches, so that no other writer
waits long; what fits a batch is one transaction. A client that asked not to be told of its own change still hears of
what others changed at the same time.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from operator import itemgetter
from typing import NamedTuple

from posthouse.imapd.session import Refused, Session, split_flags
from posthouse.mailbox import emails, mailboxes
from posthouse.mailbox.model import DELETED, KEYWORDS, NoSuchMailbox
from posthouse.store.database import Tx
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.request import StoreHow
from posthouse.wire.imap.response import Code
from posthouse.wire.imap.sequence import Range

# --- STORE ------------------------------------------------------------------------------------------------------------


async def store(session: Session, command: Command, asked: request.Store) -> None:
    """STORE and UID STORE."""
    opened, view = session.writable, session.writable.view
    numbers = session.numbers(asked.numbers, uid=asked.uid)
    change = await _read_change(session, asked)
    expected: dict[int, int] = {}
    unheard: set[int] = set()
    for chunk in session.chunks(numbers, emails.BATCH):
        expected.update([(entry.uid, change.of(entry.flags)) for entry in chunk])
        # Their flags as they are in the view are not yet those that the client knows.
        unheard.update([entry.uid for entry in view.changed()])
        await session.write(_store, opened.mailbox, [entry.uid for entry in chunk], change, session.around.clock.now())
    await session.refresh()
    missing = bool(view.ghosts) and not expected.keys().isdisjoint([place.uid for place in view.ghosts])
    if asked.silent:
        # RFC 9051 §6.4.6: what another changed is told, silent or not.
        own = [uid for uid, flags in expected.items() if uid not in unheard and view.flags(uid) == flags]
        view.silence(own)
    else:
        await _tell(session, numbers)
    # RFC 5530 §3: others have expunged some, which the client has yet to hear.
    await session.ok(command, "Stored", Code.EXPUNGEISSUED if missing else b"")


class _FlagChange(NamedTuple):
    """Keywords to add, and to remove before that, and what becomes of \\Deleted (None: it stays)."""

    add: int
    remove: int
    deleted: bool | None

    def of(self, flags: int) -> int:
        """What becomes of these flags."""
        mark = flags & DELETED if self.deleted is None else DELETED * self.deleted
        return flags & KEYWORDS & ~self.remove | self.add | mark


def _store(tx: Tx, account: int, mailbox: int, uids: Collection[int], change: _FlagChange, now: int) -> None:
    emails.store_flags(
        tx, account, mailbox, uids, now=now, add=change.add, remove=change.remove, deleted=change.deleted
    )


async def _read_change(session: Session, asked: request.Store) -> _FlagChange:
    names, deleted = split_flags(asked.flags)
    if asked.how is StoreHow.REMOVE:
        # What nobody has met cannot be removed, and need not be learnt for it.
        return _FlagChange(0, await session.read(emails.known_keywords, names), False if deleted else None)
    bits = await session.write(emails.learn_keywords, names) if names else 0
    if asked.how is StoreHow.SET:
        return _FlagChange(bits, KEYWORDS, deleted)
    return _FlagChange(bits, 0, True if deleted else None)


async def _tell(session: Session, numbers: Sequence[Range]) -> None:
    """The flags of these messages as they are now, also where they are the old ones (RFC 9051 §6.4.6)."""
    view = session.open.view
    while not session.knows(entries := [*session.all_of(numbers), *view.changed()]):
        await session.learn_names()
    view.announce_changed()
    gone = {place.uid for place in view.ghosts}
    current = {entry.uid: entry for entry in entries if entry.uid not in gone}
    await session.tell_flags(sorted(current.values()))


# --- COPY, MOVE, EXPUNGE ----------------------------------------------------------------------------------------------


async def copy(session: Session, command: Command, asked: request.Copy) -> None:
    """COPY and UID COPY."""
    function = emails.copy if asked.uid else _copy_all
    placed, validity = await _transfer(session, function, asked)
    await session.ok(command, "Copied", _copyuid(validity, placed))


class _Missing(Exception):
    """Some of the messages are not there any more."""


def _copy_all(
    tx: Tx, account: int, mailbox: int, uids: Collection[int], target: int, now: int
) -> list[tuple[int, int]]:
    """RFC 9051 §6.4.7: all of them or none. Raises _Missing."""
    placed = emails.copy(tx, account, mailbox, uids, target, now)
    if len(placed) < len(uids):
        raise _Missing
    return placed


async def move(session: Session, command: Command, asked: request.Move) -> None:
    """MOVE and UID MOVE: RFC 9051 §6.4.8, RFC 6851."""
    placed, validity = await _transfer(session, emails.move, asked, session.writable.mailbox)
    if placed:
        # RFC 6851 §4.3: COPYUID stands before the EXPUNGEs.
        session.engine.send(response.ok("Moved", _copyuid(validity, placed)))
    await session.ok(command, "Moved")


_Transfer = Callable[[Tx, int, int, Collection[int], int, int], list[tuple[int, int]]]


async def _transfer(
    session: Session, function: _Transfer, asked: request.Copy | request.Move, source: int | None = None
) -> tuple[list[tuple[int, int]], int]:
    """Place messages in another mailbox: pairs of uid here and there, and the uidvalidity there. Raises Refused."""
    source = session.open.mailbox if source is None else source
    numbers = session.numbers(asked.numbers, uid=asked.uid)
    placed: list[tuple[int, int]] = []
    try:
        target, validity = await session.read(find_target, asked.mailbox)
        for chunk in session.chunks(numbers, emails.BATCH):
            uids = [entry.uid for entry in chunk]
            placed += await session.write(function, source, uids, target, session.around.clock.now())
    except NoSuchMailbox as error:
        # RFC 9051 §6.4.7: the client may make it and try again.
        raise Refused("There is no such mailbox", Code.TRYCREATE) from error
    except _Missing as error:
        raise Refused("Some of these messages have been expunged; say NOOP", Code.EXPUNGEISSUED) from error
    return placed, validity


def find_target(tx: Tx, account: int, path: str) -> tuple[int, int]:
    """A mailbox by its name, and its uidvalidity. Raises NoSuchMailbox."""
    mailbox = mailboxes.find(tx, account, path)
    return mailbox, mailboxes.get(tx, account, mailbox).uidvalidity


def _copyuid(validity: int, placed: Sequence[tuple[int, int]]) -> bytes:
    if not placed:
        return b""
    return response.copyuid(validity, [source for source, _ in placed], [target for _, target in placed])


async def expunge(session: Session, command: Command, asked: request.Expunge) -> None:
    """EXPUNGE and UID EXPUNGE."""
    within = None if asked.uids is None else session.uid_ranges(asked.uids, uid=True)
    await remove_deleted(session, within)
    await session.ok(command, "Expunged")


async def remove_deleted(session: Session, within: Sequence[Range] | None = None) -> None:
    """Take away what is marked \\Deleted, where asked only among these uids, batch by batch. Raises Refused."""
    mailbox = session.writable.mailbox
    marked = await session.read(emails.deleted_uids, mailbox)
    if within is not None:
        marked = [uid for uid in marked if _lies_in(uid, within)]
    for start in range(0, len(marked), emails.BATCH):
        batch = frozenset(marked[start : start + emails.BATCH])
        await session.write(emails.expunge_deleted, mailbox, session.around.clock.now(), batch)


def _lies_in(uid: int, ranges: Sequence[Range]) -> bool:
    """Is it in one of these, which are in order?"""
    index = bisect_right(ranges, uid, key=itemgetter(0)) - 1
    return index >= 0 and uid <= ranges[index][1]
