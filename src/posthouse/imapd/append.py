"""APPEND (RFC 9051 §6.3.12), also of several messages at once (MULTIAPPEND, RFC 3502).

Promises: messages come in at the client's speed and never whole in memory where they are large. All of one command are
filed in one transaction, or none; OK follows its commit. The octets are kept as they came, bare line endings too: what
a client has signed or compares is not touched here.
Refuses: NUL, which RFC 9051 §4.3.1 lets no server send back, and more messages at once than the writer should hold.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from posthouse import limits
from posthouse.imapd.messages import find_target
from posthouse.imapd.session import Refused, Session, split_flags
from posthouse.mailbox import append as filing
from posthouse.mailbox import emails
from posthouse.mailbox.model import MailboxError, NoSuchMailbox
from posthouse.mailbox.summary import Rendered, render
from posthouse.store.blobs import Spool, SpoolFull, Staged
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import AppendEnd, Command, Event, LiteralChunk, LiteralEnd
from posthouse.wire.imap.request import AppendMessage
from posthouse.wire.imap.response import Code

# Rendering more than this takes longer than the loop should stand still.
_IN_THREAD: Final = 128 * limits.KB
# INTERNALDATE as it can be said: from 1970 on, with four digits of the year.
_LATEST: Final = 253_402_300_799_000


async def append(session: Session, command: Command, asked: request.Append) -> None:
    """APPEND: its messages follow."""
    session.ongoing = _Appending(session, command, asked.mailbox)


@dataclass(frozen=True, slots=True)
class _Message:
    """A message as it goes into the transaction."""

    staged: Staged
    rendered: Rendered
    keywords: Sequence[str]
    deleted: bool
    received_at: int


class _Appending:
    """An APPEND under way: the messages that have come in, and the one that does."""

    def __init__(self, session: Session, command: Command, path: str) -> None:
        self.command = command
        self._session = session
        self._path = path
        self._announced: list[AppendMessage] = []
        self._spools: list[Spool] = []
        self._ready: list[_Message] = []
        self._flaw: Refused | None = None

    async def take(self, event: Event) -> None:
        """A message is announced, comes, ends; the command ends. Raises Refused, MailboxError, StoreUnavailable."""
        match event:
            case LiteralChunk(octets):
                self._write(octets)
            case AppendMessage():
                await self._begin(event)
            case LiteralEnd():
                await self._finish_message()
            case AppendEnd():
                await self._end()
            case _:
                raise AssertionError(f"{event} is no part of an APPEND")

    async def drop(self) -> None:
        """Let go of what came in. Safe to call twice."""
        for spool in self._spools:
            spool.discard()
        await self._abandon(self._ready)
        self._ready = []

    async def _begin(self, message: AppendMessage) -> None:
        if len(self._spools) >= limits.IMAP_APPENDS:
            raise Refused(f"At most {limits.IMAP_APPENDS} messages at once", Code.LIMIT)
        if not self._spools:
            await self._find()
        try:
            self._spools.append(self._session.around.blobs.spool())
        except SpoolFull as error:
            raise _no_room() from error
        self._announced.append(message)
        self._session.engine.accept()

    async def _find(self) -> tuple[int, int]:
        try:
            return await self._session.read(find_target, self._path)
        except NoSuchMailbox as error:
            raise Refused("There is no such mailbox", Code.TRYCREATE) from error

    def _write(self, octets: bytes) -> None:
        """What is wrong with a message is said at its end: before, nobody listens."""
        if self._flaw is not None:
            return
        if b"\0" in octets:
            # RFC 3516 §4.3: also for a literal8, where the destination cannot hold it.
            self._flaw = Refused("A message with NUL cannot be kept; encode it", Code.UNKNOWN_CTE)
            return
        try:
            self._spools[-1].write(octets)
        except SpoolFull:
            self._flaw = _no_room()

    async def _finish_message(self) -> None:
        """Each message is made ready as it ends, others being served in between: five hundred at once take long."""
        if self._flaw is not None:
            return
        spool = self._spools[-1]
        message = await self._prepare(self._announced[-1], spool)
        self._ready.append(message)
        if message.staged.name is not None:
            spool.discard()  # and its descriptor; what is in memory stays counted until the end
        await self._session.pause()

    async def _end(self) -> None:
        if self._flaw is not None:
            raise self._flaw
        session = self._session
        messages, self._ready = self._ready, []
        try:
            # The instant at which the client may forget its copies: when this has returned.
            uids, validity = await session.write(
                _file, self._path, messages, session.around.clock.now(), session.around.secret
            )
        except NoSuchMailbox as error:
            await self._abandon(messages)
            raise Refused("There is no such mailbox", Code.TRYCREATE) from error
        except (MailboxError, StoreUnavailable):
            await self._abandon(messages)
            raise
        await session.drop()
        await session.ok(self.command, "Filed", response.appenduid(validity, uids))

    async def _prepare(self, message: AppendMessage, spool: Spool) -> _Message:
        """All that can be done before the transaction."""
        around = self._session.around
        octets = spool.buffer()
        rendered = render(octets) if len(octets) <= _IN_THREAD else await asyncio.to_thread(render, octets)
        staged = await around.blobs.stage(spool)
        received_at = around.clock.now() if message.received_at is None else message.received_at
        return _Message(staged, rendered, *split_flags(message.flags), min(max(received_at, 0), _LATEST))

    async def _abandon(self, messages: Sequence[_Message]) -> None:
        for message in messages:
            await self._session.around.blobs.abandon(message.staged)


def _no_room() -> Refused:
    return Refused("No room for more mail just now; try again later", Code.UNAVAILABLE)


def _file(
    tx: Tx, account: int, path: str, messages: Sequence[_Message], now: int, secret: bytes
) -> tuple[list[int], int]:
    """File the messages; their uids, and the uidvalidity. Raises NoSuchMailbox, OverQuota, TooManyKeywords."""
    mailbox, validity = find_target(tx, account, path)
    uids = []
    for message in messages:
        bits = emails.learn_keywords(tx, account, message.keywords) if message.keywords else 0
        filed = filing.file_email(
            tx,
            account,
            filing.store_message(tx, message.staged, message.rendered),
            message.rendered,
            mailboxes=(mailbox,),
            received_at=message.received_at,
            thread_secret=secret,
            now=now,
            keywords=bits,
            deleted=message.deleted,
        )
        uids.append(filed.uids[mailbox])
    return uids, validity
