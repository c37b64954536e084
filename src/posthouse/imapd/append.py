"""APPEND (RFC 9051 §6.3.12), also of several messages at once (MULTIAPPEND, RFC 3502) and of parts of others (CATENATE,
RFC 4469); REPLACE (RFC 8508).

Promises: messages come in at the client's speed and never whole in memory where they are large. All of one command are
filed in one transaction, or none; OK follows its commit. What is replaced goes in the same one, and leaves its room to
what comes. The octets are kept as they came, bare line endings too: what a client has signed or compares is not touched
here.
Refuses: NUL, which RFC 9051 §4.3.1 lets no server send back; a header that is not ASCII, from who has not said that he
can read one (unless the configuration takes it from anybody); and more messages at once than the writer should hold.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from posthouse import limits, observe
from posthouse.imapd import content, limit, places
from posthouse.imapd.across import permitted
from posthouse.imapd.flags import split_flags
from posthouse.imapd.places import Place
from posthouse.imapd.refusal import Refused
from posthouse.imapd.session import Session
from posthouse.mailbox import append as filing
from posthouse.mailbox import emails, mailboxes, placing, shares
from posthouse.mailbox.emails import Content
from posthouse.mailbox.model import (
    Change,
    MailboxError,
    NoPermission,
    NoSuchEmail,
    NoSuchMailbox,
    Standing,
    State,
    lock_account,
    lock_account_to_append,
)
from posthouse.mailbox.summary import Rendered, render
from posthouse.message.downgrade import has_ascii_header
from posthouse.store.blobs import BlobLost, Buffer, Spool, SpoolFull, Staged
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.terms.keywords import BITS
from posthouse.wire.imap import request, response, url
from posthouse.wire.imap.event import AppendEnd, Command, Event, LiteralChunk, LiteralEnd, MessageEnd
from posthouse.wire.imap.grammar import ParseError
from posthouse.wire.imap.request import AppendMessage, AppendText, AppendUrl, CatenatedMessage
from posthouse.wire.imap.response import Code
from posthouse.wire.imap.url import MessageUrl

# Rendering more than this takes longer than the loop should stand still.
_IN_THREAD: Final = 128 * limits.KB
# After so much of mail others have a turn: a millisecond or two.
_TURN: Final = 32 * limits.KB
# So much of a part is copied before others have a turn.
_PIECE: Final = 256 * limits.KB
# INTERNALDATE as it can be said: from 1970 on, with four digits of the year.
_LATEST: Final = 253_402_300_799_000


async def append(session: Session, command: Command, asked: request.Append) -> None:
    """APPEND: its messages follow."""
    session.ongoing = _Appending(session, command, asked.mailbox)


async def replace(session: Session, command: Command, asked: request.Replace) -> None:
    """REPLACE and UID REPLACE: the message follows."""
    opened = session.writable
    numbers = session.numbers(asked.numbers, uid=asked.uid)
    if not numbers:
        raise Refused("There is no such message", Code.NONEXISTENT)
    replaced = _Replaced(opened.account, opened.mailbox, opened.view.uid(numbers[0][0]))
    session.ongoing = _Appending(session, command, asked.mailbox, replaced)


class _Replaced(NamedTuple):
    """What goes for a message: where it was when the command came. The mailbox may be lost while the message comes."""

    account: int
    mailbox: int
    uid: int


class _Message(NamedTuple):
    """A message as it goes into the transaction."""

    staged: Staged
    rendered: Rendered
    keywords: Sequence[str]
    deleted: bool
    received_at: int


class _Appending:
    """An APPEND or REPLACE under way: the messages that have come in, and the one that does.

    `replaced`: what goes for it.
    """

    def __init__(self, session: Session, command: Command, path: str, replaced: _Replaced | None = None) -> None:
        self.command = command
        self._session = session
        self._path = path
        self._replaced = replaced
        self._announced: list[AppendMessage | CatenatedMessage] = []
        self._parts = 0
        self._target: Place | None = None
        self._spools: list[Spool] = []
        self._ready: list[_Message] = []
        self._flaw: Refused | None = None
        self._since_turn = 0

    async def take(self, event: Event) -> None:
        """A message is announced, comes, ends; the command ends. Raises Refused, MailboxError, StoreUnavailable."""
        match event:
            case LiteralChunk(octets):
                self._write(octets)
            case AppendMessage():
                await self._begin(event)
                self._session.engine.accept()
            case LiteralEnd():
                if isinstance(self._announced[-1], AppendMessage):
                    await self._finish_message()
            case CatenatedMessage():
                await self._begin(event)
            case AppendText(size):
                self._expect(size)
                self._session.engine.accept()
            case AppendUrl(named):
                await self._copy(named)
            case MessageEnd():
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

    async def _begin(self, message: AppendMessage | CatenatedMessage) -> None:
        most, code = limit.appends(self._session)
        if len(self._spools) >= most:
            raise Refused(f"At most {most} messages at once", code)
        if not self._spools:
            self._target = await self._find()
        try:
            self._spools.append(self._session.around.blobs.spool())
        except SpoolFull as error:
            raise _no_room() from error
        self._announced.append(message)

    async def _find(self) -> Place:
        known = self._session.filed_in
        if known is not None and known[0] == self._path and self._replaced is None:
            # So it was a moment ago. The transaction looks again: this look spares the client sending in vain.
            return known[1]
        try:
            place = await self._session.read(places.find, self._path, "i")
        except NoSuchMailbox as error:
            raise Refused("There is no such mailbox", Code.TRYCREATE) from error
        if self._replaced is not None and self._replaced.account != place.account:
            raise Refused("What is replaced stays in the same account", Code.CANNOT)
        return place

    def _expect(self, size: int) -> None:
        """Another part, of so many octets, is to be had. Raises Refused."""
        self._parts += 1
        if self._parts > limits.IMAP_PARTS:
            raise Refused(f"At most {limits.IMAP_PARTS} parts at once", Code.LIMIT)
        if self._spools[-1].size + size > self._session.around.append_limit:
            # RFC 4469 §4.2
            raise Refused("The message would be too big", Code.TOOBIG)

    async def _copy(self, named: bytes) -> None:
        """Add the part that a URL names, as FETCH would give it (RFC 4469 §3), which marks nothing as seen."""
        if self._flaw is not None:
            return
        for piece in await self._part(named):
            with memoryview(piece) as view:
                for start in range(0, len(view), _PIECE):
                    try:
                        self._spools[-1].write(view[start : start + _PIECE])
                    except SpoolFull as error:
                        raise _no_room() from error
                    await self._session.pause()

    async def _part(self, named: bytes) -> list[Buffer]:
        """Its octets. Raises Refused, StoreUnavailable."""
        session, blame = self._session, response.bad_url(named)
        try:
            wanted = url.parse(named)
            found = await _find_content(session, wanted)
            message = content.Message(found, await session.around.blobs.load(found.blob))
        except ParseError as error:
            raise Refused(error.text, blame) from error
        except MailboxError as error:
            raise Refused("The URL leads to no message", blame) from error
        except BlobLost as error:
            observe.fault("imap.content_lost", error, account=session.owner, email=found.email)
            raise Refused("The store has lost the content of a message", Code.CORRUPTION) from error
        octets = content.octets(wanted.section, message)
        if octets is None:
            raise Refused("The message has no such part", blame)
        self._expect(sum(map(len, octets)))
        return octets

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
        if not spool.size:
            # RFC 3502 §6.3.11: so a client takes back what it has begun.
            raise Refused("There is no empty message; nothing is filed")
        message = await self._prepare(self._announced[-1], spool)
        self._ready.append(message)
        if message.staged.name is not None:
            spool.discard()  # and its descriptor; what is in memory stays counted until the end
        self._since_turn += message.rendered.size
        if self._since_turn > _TURN:
            self._since_turn = 0
            await self._session.pause()

    async def _end(self) -> None:
        if self._flaw is not None:
            raise self._flaw
        session = self._session
        session.filed_in = None
        messages, self._ready = self._ready, []
        try:
            # The instant at which the client may forget its copies: when this has returned.
            uids, place, seen = await self._file(messages)
        except NoSuchMailbox as error:
            await self._abandon(messages)
            raise Refused("There is no such mailbox", Code.TRYCREATE) from error
        except (MailboxError, StoreUnavailable):
            await self._abandon(messages)
            raise
        await session.drop()
        session.filed_in = self._path, place
        code = response.appenduid(place.mailbox.uidvalidity, uids)
        if self._replaced is None:
            opened = session.selected
            await session.ok(
                self.command, "Filed", code, look=opened is not None and seen != opened.view.snapshot.modseq
            )
        else:
            # RFC 8508 §4.3: before the client hears what is gone.
            session.engine.send(response.ok("The new one is there", code))
            await session.ok(self.command, "Replaced", removed=True)

    async def _file(self, messages: Sequence[_Message]) -> tuple[Sequence[int], Place, int | None]:
        assert self._target is not None, "it was found before the first message came"
        session, around = self._session, self._session.around
        now, client = around.clock.now(), session.owner
        what = (client, self._path, self._target, messages, self._replaced, now, around.secret)
        if self._target.own:
            watched = None if session.selected is None or session.away else session.selected.mailbox
            return await session.write(_file, *what, watched)
        return await session.write_to(self._target.account, _file, *what, None)

    async def _prepare(self, message: AppendMessage | CatenatedMessage, spool: Spool) -> _Message:
        """All that can be done before the transaction."""
        around = self._session.around
        octets = spool.buffer()
        rendered = render(octets) if len(octets) <= _IN_THREAD else await asyncio.to_thread(render, octets)
        may = around.raw_headers or self._session.engine.utf8
        if rendered.mended and not may and not has_ascii_header(octets):
            # RFC 9755 §4, and RFC 9051 §6.3.12 for who has enabled IMAP4rev2.
            raise Refused("A header that is not ASCII is taken after ENABLE UTF8=ACCEPT", Code.CANNOT)
        staged = await around.blobs.stage(spool)
        received_at = around.clock.now() if message.received_at is None else message.received_at
        return _Message(staged, rendered, *split_flags(message.flags), min(max(received_at, 0), _LATEST))

    async def _abandon(self, messages: Sequence[_Message]) -> None:
        for message in messages:
            await self._session.around.blobs.abandon(message.staged)


def _no_room() -> Refused:
    return Refused("No room for more mail just now; try again later", Code.UNAVAILABLE)


async def _find_content(session: Session, wanted: MessageUrl) -> Content:
    """What a URL leads to. Raises MailboxError, StoreUnavailable."""
    selected = session.selected
    opened = known = None
    if selected is not None:
        opened = selected.account, selected.mailbox
        # What the client sees under that uid, though it may be gone.
        known = next((entry.email for entry in selected.view.by_uid(wanted.uid, wanted.uid)), None)
    if wanted.mailbox is not None:
        return await session.read(_content_named, wanted.mailbox, wanted, opened, known)
    if selected is None:
        raise NoSuchMailbox("no mailbox is open")
    return await session.look(_content_at, selected.mailbox, wanted, known)


def _content_named(
    tx: Tx, account: int, path: str, wanted: MessageUrl, opened: tuple[int, int] | None, known: int | None
) -> Content:
    """The same in a mailbox of this name, one's own or another's; `opened`: the open one, and whose it is.

    Raises NoSuchMailbox, NoPermission, BadName, NoSuchEmail.
    """
    place = places.find(tx, account, path, "r")
    there = place.account, place.mailbox.id
    return _content_at(tx, place.account, place.mailbox.id, wanted, known if there == opened else None)


def _content_at(tx: Tx, account: int, mailbox: int, wanted: MessageUrl, known: int | None) -> Content:
    """Raises NoSuchMailbox, NoSuchEmail."""
    email = emails.at(tx, account, mailbox, wanted.uid) or known
    validity = mailboxes.get(tx, account, mailbox).uidvalidity
    if email is None or wanted.uidvalidity not in (None, validity):
        raise NoSuchEmail(f"mailbox {mailbox} of account {account} has no message {wanted.uid}")
    return emails.content(tx, account, email)


def _file(
    tx: Tx,
    account: int,
    client: int,
    path: str,
    known: Place,
    messages: Sequence[_Message],
    replaced: _Replaced | None,
    now: int,
    secret: bytes,
    watched: int | None,
) -> tuple[Sequence[int], Place, int | None]:
    """File the messages; their uids, where they are, and the highest modseq of the mailbox `watched`. What is
    `replaced` goes first, and makes room. `client`: the account that is logged in, whose name for the mailbox `path`
    is; it led to `known`.

    Raises NoSuchMailbox, NoPermission, NoSuchEmail, OverQuota, TooManyKeywords.
    """
    found = None if replaced is not None else _still_there(tx, known, watched)
    if found is not None:
        state, standing = found
        change = Change(tx, state, now)
        change[known.mailbox.id].first_uid = standing.uidnext
        uids = filing.file_emails(change, known.mailbox.id, _new(tx, known, messages), thread_secret=secret)
        seen = change.modseq if watched == known.mailbox.id else standing.watched
        return uids, known, None if watched is None else seen
    place = places.find(tx, client, path, "i")
    if place.account != account:
        raise NoSuchMailbox(f"{path!r} is another's by now")
    if replaced is not None:
        _take_out(tx, client, replaced, now)
    new = _new(tx, place, messages)
    change = Change(tx, lock_account(tx, account), now)
    uids = filing.file_emails(change, place.mailbox.id, new, thread_secret=secret)
    return uids, place, None if watched is None else tx.value("mailbox_modseq", account=account, mailbox=watched)


def _still_there(tx: Tx, known: Place, watched: int | None) -> tuple[State, Standing] | None:
    """Does the name lead where it led, as most do: to a mailbox of one's own, at the top? Then its account is locked.
    None: that is to be looked for."""
    mailbox = known.mailbox
    if not known.own or mailbox.parent is not None:
        return None
    found = lock_account_to_append(tx, known.account, mailbox.id, watched or 0)
    return found if found is not None and found[1][:2] == (mailbox.name, mailbox.role) else None


def _take_out(tx: Tx, client: int, replaced: _Replaced, now: int) -> None:
    """What is replaced goes."""
    account, opened, old = replaced
    if not set("te") <= set(shares.rights_of(tx, account, opened, client)):
        raise NoPermission(f"account {client} may take nothing out of mailbox {opened} of account {account}")
    if not placing.expunge(tx, account, opened, [old], now):
        raise NoSuchEmail(f"mailbox {opened} of account {account} has no message {old} any more")


def _new(tx: Tx, place: Place, messages: Sequence[_Message]) -> list[filing.New]:
    # Asked once for each set of them: most messages that come together have the same.
    sets = dict.fromkeys([tuple(one.keywords) for one in messages])
    bits = {names: _bits(tx, place, names) for names in sets}
    return [
        filing.New(
            one.staged,
            one.rendered,
            one.received_at,
            bits[tuple(one.keywords)],
            one.deleted and place.permits("t"),
        )
        for one in messages
    ]


def _bits(tx: Tx, place: Place, names: Sequence[str]) -> int:
    """These keywords, as far as the client may set them, as the account knows them."""
    # RFC 4314 §4: flags that the client may not set are left out.
    may = permitted(names, place.rights)
    if all(name in BITS for name in may):
        return sum([BITS[name] for name in set(may)])
    return emails.learn_keywords(tx, place.account, may)
