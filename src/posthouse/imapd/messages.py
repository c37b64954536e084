"""Commands that change what is in a mailbox: APPEND, STORE, COPY, MOVE, EXPUNGE (RFC 9051 §6.3.12, §6.4).

Promises: an answer of OK follows the commit. A change of many messages is made in batches, so that no other writer
waits long; COPY and MOVE of a set are one transaction where they fit a batch. A message comes in at the client's
speed and never whole in memory where it is large.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from posthouse import limits
from posthouse.imapd.session import Selected, Session, split_flags
from posthouse.mailbox import append as filing
from posthouse.mailbox import emails, mailboxes
from posthouse.mailbox.append import Filed
from posthouse.mailbox.model import KEYWORDS, MailboxError, NoSuchMailbox
from posthouse.mailbox.summary import Rendered, render
from posthouse.store.blobs import Spool, SpoolFull, Staged
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.request import AppendMessage, StoreHow
from posthouse.wire.imap.response import Code
from posthouse.wire.imap.sequence import SequenceSet

# Rendering more than this takes longer than the loop should stand still.
_IN_THREAD: Final = 128 * limits.KB
_READ_ONLY: Final = "The mailbox is open for reading only"


# --- STORE ------------------------------------------------------------------------------------------------------------


async def store(session: Session, command: Command, asked: request.Store) -> None:
    """STORE and UID STORE."""
    opened = session.open
    if opened.read_only:
        session.engine.no(command, _READ_ONLY, Code.READ_ONLY)
        return
    names, deleted = split_flags(asked.flags)
    bits = await session.write(emails.learn_keywords, names) if names else 0
    add, remove, mark = _change(asked.how, bits, deleted)
    entries = session.entries(asked.numbers, uid=asked.uid)
    now = session.around.clock.now()
    for start in range(0, len(entries), emails.BATCH):
        uids = [entry.uid for entry in entries[start : start + emails.BATCH]]
        await session.write(emails.store_flags, opened.mailbox, uids, now=now, add=add, remove=remove, deleted=mark)
    await session.refresh()
    if asked.silent:
        opened.view.silence([entry.uid for entry in entries])
    else:
        # RFC 9051 §6.4.6: the new flags are told, also where they are the old ones.
        current = session.entries(asked.numbers, uid=asked.uid)
        await session.learn_flags(current)
        session.engine.send(*[session.flags_changed(entry) for entry in current])
        opened.view.silence([entry.uid for entry in current])
    await session.ok(command, "Stored")


def _change(how: StoreHow, bits: int, deleted: bool) -> tuple[int, int, bool | None]:
    """Keywords to add and to remove, and what becomes of \\Deleted (None: as it is)."""
    match how:
        case StoreHow.SET:
            return bits, KEYWORDS, deleted
        case StoreHow.ADD:
            return bits, 0, True if deleted else None
        case StoreHow.REMOVE:
            return 0, bits, False if deleted else None


# --- COPY, MOVE, EXPUNGE ----------------------------------------------------------------------------------------------


async def copy(session: Session, command: Command, asked: request.Copy) -> None:
    """COPY and UID COPY."""
    placed, validity = await _transfer(session, asked.numbers, asked.uid, asked.mailbox, moved=False)
    await session.refresh()
    await session.ok(command, "Copied", _copyuid(validity, placed))


async def move(session: Session, command: Command, asked: request.Move) -> None:
    """MOVE and UID MOVE: RFC 9051 §6.4.8."""
    if session.open.read_only:
        session.engine.no(command, _READ_ONLY, Code.READ_ONLY)
        return
    placed, validity = await _transfer(session, asked.numbers, asked.uid, asked.mailbox, moved=True)
    if placed:
        # RFC 6851 §4.3: COPYUID stands before the EXPUNGEs.
        session.engine.send(response.ok("Moved", _copyuid(validity, placed)))
    await session.refresh()
    await session.ok(command, "Moved")


async def _transfer(
    session: Session, numbers: SequenceSet, uid: bool, path: str, *, moved: bool
) -> tuple[list[tuple[int, int]], int]:
    """Place messages in another mailbox: pairs of uid here and there, and the uidvalidity there."""
    entries = session.entries(numbers, uid=uid)
    function = emails.move if moved else emails.copy
    target, validity = await session.read(_target, path)
    placed: list[tuple[int, int]] = []
    for start in range(0, max(1, len(entries)), emails.BATCH):
        uids = [entry.uid for entry in entries[start : start + emails.BATCH]]
        placed += await session.write(function, session.open.mailbox, uids, target, session.around.clock.now())
    return placed, validity


def _target(tx: Tx, account: int, path: str) -> tuple[int, int]:
    mailbox = mailboxes.find(tx, account, path)
    return mailbox, mailboxes.get(tx, account, mailbox).uidvalidity


def _copyuid(validity: int, placed: Sequence[tuple[int, int]]) -> bytes:
    if not placed:
        return b""
    return response.copyuid(validity, [source for source, _ in placed], [target for _, target in placed])


async def expunge(session: Session, command: Command, asked: request.Expunge) -> None:
    """EXPUNGE and UID EXPUNGE."""
    if session.open.read_only:
        session.engine.no(command, _READ_ONLY, Code.READ_ONLY)
        return
    within = None
    if asked.uids is not None:
        within = {entry.uid for entry in session.entries(asked.uids, uid=True)}
    await remove_deleted(session, session.open, within)
    await session.refresh()
    await session.ok(command, "Expunged")


async def remove_deleted(session: Session, opened: Selected, within: set[int] | None = None) -> None:
    """Take away what is marked \\Deleted, batch by batch."""
    marked = await session.read(emails.deleted_uids, opened.mailbox)
    chosen = [uid for uid in marked if within is None or uid in within]
    for start in range(0, len(chosen), emails.BATCH):
        batch = frozenset(chosen[start : start + emails.BATCH])
        await session.write(emails.expunge_deleted, opened.mailbox, session.around.clock.now(), batch)


# --- APPEND -----------------------------------------------------------------------------------------------------------


class Appending:
    """An APPEND under way: its command, and the message that is coming in."""

    def __init__(self, session: Session, command: Command, asked: request.Append) -> None:
        self._session = session
        self._command = command
        self._path = asked.mailbox
        self._message: AppendMessage | None = None
        self._spool: Spool | None = None
        self._full = False

    async def begin(self, message: AppendMessage) -> bool:
        """A message is announced; False where the command was refused."""
        session = self._session
        if self._message is not None:
            session.engine.no(self._command, "One message at a time", Code.CANNOT)
            return False
        try:
            await session.read(mailboxes.find, self._path)
            self._spool = session.around.blobs.spool()
        except NoSuchMailbox:
            session.engine.no(self._command, "There is no such mailbox", Code.TRYCREATE)
            return False
        except SpoolFull:
            session.engine.no(self._command, "No room for more mail just now; try again later", Code.UNAVAILABLE)
            return False
        except (MailboxError, StoreUnavailable) as error:
            session.fail(self._command, error)
            return False
        self._message = message
        session.engine.accept()
        return True

    def write(self, octets: bytes) -> None:
        """More of the message."""
        if self._spool is not None and not self._full:
            try:
                self._spool.write(octets)
            except SpoolFull:
                self._full = True

    async def end(self) -> None:
        """All of it is there: file it and answer."""
        session, spool, message = self._session, self._spool, self._message
        assert spool is not None, "a message was announced"
        assert message is not None, "a message was announced"
        if self._full:
            session.engine.no(self._command, "No room for more mail just now; try again later", Code.UNAVAILABLE)
            return
        try:
            filed, mailbox = await self._file(spool, message)
        except NoSuchMailbox:
            session.engine.no(self._command, "There is no such mailbox", Code.TRYCREATE)
            return
        except (MailboxError, StoreUnavailable) as error:
            session.fail(self._command, error)
            return
        await session.refresh()
        await session.ok(self._command, "Filed", response.appenduid(filed[1], [filed[0].uids[mailbox]]))

    async def _file(self, spool: Spool, message: AppendMessage) -> tuple[tuple[Filed, int], int]:
        around, session = self._session.around, self._session
        octets = spool.buffer()
        rendered = render(octets) if len(octets) <= _IN_THREAD else await asyncio.to_thread(render, octets)
        staged = await around.blobs.stage(spool)
        names, deleted = split_flags(message.flags)
        now = around.clock.now()
        received_at = now if message.received_at is None else message.received_at
        try:
            # The instant at which the client may forget its copy: when this has returned.
            return await session.write(
                _append, self._path, staged, rendered, names, deleted, received_at, now, around.secret
            )
        except (MailboxError, StoreUnavailable):
            around.blobs.abandon(staged)
            raise

    def discard(self) -> None:
        """Let go of what came in. Safe to call twice."""
        if self._spool is not None:
            self._spool.discard()


def _append(
    tx: Tx,
    account: int,
    path: str,
    staged: Staged,
    rendered: Rendered,
    keywords: Sequence[str],
    deleted: bool,
    received_at: int,
    now: int,
    secret: bytes,
) -> tuple[tuple[Filed, int], int]:
    """File the message; what was filed with the mailbox' uidvalidity, and the mailbox."""
    bits = emails.learn_keywords(tx, account, keywords) if keywords else 0
    mailbox, validity = _target(tx, account, path)
    message = filing.store_message(tx, staged, rendered)
    filed = filing.file_email(
        tx,
        account,
        message,
        rendered,
        mailboxes=(mailbox,),
        received_at=received_at,
        thread_secret=secret,
        now=now,
        keywords=bits,
        deleted=deleted,
    )
    return (filed, validity), mailbox
