"""FETCH: what a client asks of messages (RFC 9051 §6.4.5), read in chunks and sent at its speed.

Promises: summaries and structures are copied from where they were rendered, never parsed. A large body is never whole
in memory. No transaction outlives a chunk, and the other sessions have a turn after each. Content is found also of
messages that others have expunged and this client has not heard of.
Refuses: to change anything but \\Seen, and that only where the mailbox is open for writing.

A new item is a row in _COLUMNS; one with octets of its own a case in content.py.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Final, NamedTuple

from posthouse import observe
from posthouse.imapd import content
from posthouse.imapd.content import Message
from posthouse.imapd.session import LINES, Refused, Session
from posthouse.limits import KB
from posthouse.mailbox import emails, summary
from posthouse.mailbox.emails import Content, EmailRow, Rendering
from posthouse.mailbox.snapshot import Entry
from posthouse.store.blobs import BlobLost, Buffer
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.terms.keywords import SEEN
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.fetch import Attribute, Binary, BinarySize, Item, Section
from posthouse.wire.imap.response import Code

# Octets of messages that are read at once: small ones come with their rows.
_PORTION: Final = 512 * KB
# So few messages are read without looking at their sizes first.
_FEW: Final = 3
# Undoing the encoding of more than this takes longer than the loop should stand still.
_IN_THREAD: Final = 512 * KB
# A piece as large as this is sent before the next one is made.
_SOON: Final = 64 * KB


class Known(NamedTuple):
    """A chunk of messages and what the asked items need of each, in lists of one length; what nobody asked for is
    empty."""

    entries: list[Entry]
    rows: list[EmailRow]
    renderings: list[Rendering]
    contents: dict[int, Content]


Column = Callable[[Session, Known], list[bytes]]

_COLUMNS: Final[dict[Attribute, Column]] = {
    Attribute.UID: lambda session, known: [b"%d" % entry.uid for entry in known.entries],
    Attribute.FLAGS: lambda session, known: [session.flags(entry.flags) for entry in known.entries],
    Attribute.MODSEQ: lambda session, known: [b"(%d)" % entry.modseq for entry in known.entries],
    Attribute.EMAILID: lambda session, known: [b"(M%d)" % entry.email for entry in known.entries],
    Attribute.THREADID: lambda session, known: [b"(T%d)" % row.thread for row in known.rows],
    Attribute.INTERNALDATE: lambda session, known: [response.date_time(row.received_at) for row in known.rows],
    Attribute.SIZE: lambda session, known: [b"%d" % row.size for row in known.rows],
    Attribute.ENVELOPE: lambda session, known: [rendering.summary for rendering in known.renderings],
    Attribute.BODYSTRUCTURE: lambda session, known: [rendering.structure for rendering in known.renderings],
}
_OF_ROW: Final = frozenset({Attribute.THREADID, Attribute.INTERNALDATE, Attribute.SIZE})
_OF_RENDERING: Final = frozenset({Attribute.ENVELOPE, Attribute.BODYSTRUCTURE})


async def fetch(session: Session, command: Command, asked: request.Fetch) -> None:
    """FETCH and UID FETCH."""
    numbers = session.numbers(asked.numbers, uid=asked.uid)
    items = asked.items
    if asked.uid and Attribute.UID not in items:
        # RFC 9051 §6.4.9: UID FETCH tells the UID, asked or not.
        items = (Attribute.UID, *items)
    lost = 0
    for chunk in session.chunks(numbers, emails.CHUNK):
        # BODY is BODYSTRUCTURE without its extensions; few ask for it, so it is made when they do.
        if any(item not in _COLUMNS for item in items):
            lost += await _fetch_bodies(session, chunk, items)
        else:
            await session.learn_flags(chunk)
            await _send_values(session, await _read_known(session, chunk, items), items)
            await session.pause()
    if lost:
        raise Refused(f"The store has lost the content of {lost} messages", Code.CORRUPTION)
    await session.ok(command, "Those are the messages")


async def _fetch_bodies(session: Session, chunk: list[Entry], items: tuple[Item, ...]) -> int:
    """Messages with their octets, some at a time; how many the store has lost."""
    marks = any(isinstance(item, Section | Binary) and not item.peek for item in items) and not session.open.read_only
    lost = 0
    async for some in _portions(session, chunk):
        entries, told = some, items
        if marks:
            try:
                entries, told = await _mark_seen(session, some, items)
            except StoreUnavailable as error:
                # A full disk keeps nobody from reading: the flag waits for another time.
                observe.tell("imap.not_marked_seen", level=observe.WARNING, error=str(error))
        await session.learn_flags(entries)
        lost += await _send_bodies(session, await _read_known(session, entries, told), told)
        await session.pause()
    return lost


async def _portions(session: Session, chunk: list[Entry]) -> AsyncIterator[list[Entry]]:
    """As many at a time as may be in memory for one client, who may be slow."""
    if len(chunk) <= _FEW:
        yield chunk
        return
    rows = await session.read(emails.rows, [entry.email for entry in chunk])
    some: list[Entry] = []
    octets = 0
    for entry in chunk:
        row = rows.get(entry.email)
        size = 0 if row is None else row.size
        if some and octets + size > _PORTION:
            yield some
            some, octets = [], 0
        some.append(entry)
        octets += size
    yield some


async def _mark_seen(
    session: Session, chunk: Sequence[Entry], items: tuple[Item, ...]
) -> tuple[list[Entry], tuple[Item, ...]]:
    """Reading a body sets \\Seen (RFC 9051 §6.4.5); the answer then tells the flags."""
    unseen = [entry.uid for entry in chunk if not entry.flags & SEEN]
    if not unseen:
        return list(chunk), items
    mailbox, view = session.open.mailbox, session.open.view
    await session.write(emails.store_flags, mailbox, unseen, now=session.around.clock.now(), add=SEEN)
    await session.refresh()
    view.silence(unseen)
    entries = [found for entry in chunk for found in view.by_uid(entry.uid, entry.uid)]
    return entries, items if Attribute.FLAGS in items else (*items, Attribute.FLAGS)


async def _read_known(session: Session, entries: list[Entry], items: Sequence[Item]) -> Known:
    """The chunk with what its items need; a message that is gone for good is left out (RFC 9051 §7.5.1 allows it)."""
    rendered = any(item in _OF_RENDERING for item in items)
    of_row = rendered or any(item in _OF_ROW for item in items)
    opened = any(item not in _COLUMNS for item in items)
    if not of_row and not opened:
        return Known(entries, [], [], {})
    rows, renderings, contents = await session.read(_read, [e.email for e in entries], of_row, rendered, opened)
    found = rows if of_row else contents
    if len(found) < len(entries):
        entries = [entry for entry in entries if entry.email in found]
    known = [rows[entry.email] for entry in entries] if of_row else []
    return Known(entries, known, [renderings[row.message] for row in known] if rendered else [], contents)


def _read(
    tx: Tx, account: int, ids: Sequence[int], of_row: bool, rendered: bool, opened: bool
) -> tuple[dict[int, EmailRow], dict[int, Rendering], dict[int, Content]]:
    rows = emails.rows(tx, account, ids) if of_row else {}
    renderings = emails.renderings(tx, {row.message for row in rows.values()}) if rendered else {}
    return rows, renderings, emails.contents(tx, account, ids) if opened else {}


async def _send_values(session: Session, known: Known, items: Sequence[Item]) -> None:
    attributes = [item for item in items if isinstance(item, Attribute)]
    form = response.fetch_form([item.value for item in attributes])
    columns = [_COLUMNS[item](session, known) for item in attributes]
    rows = list(zip([entry.seq for entry in known.entries], *columns, strict=True))
    for start in range(0, len(rows), LINES):
        session.engine.send(response.fetch_lines(form, rows[start : start + LINES]))
        await session.flush()


async def _send_bodies(session: Session, known: Known, items: Sequence[Item]) -> int:
    """The messages one by one; how many the store has lost."""
    columns = {
        item: _COLUMNS[item](session, known) for item in items if isinstance(item, Attribute) and item in _COLUMNS
    }
    lost = unsent = 0
    for index, entry in enumerate(known.entries):
        values = {item: column[index] for item, column in columns.items()}
        found = known.contents[entry.email]
        try:
            message = Message(found, await session.around.blobs.load(found.blob))
        except BlobLost as error:
            observe.fault("imap.content_lost", error, account=session.owner, email=entry.email)
            lost += 1
            continue
        unsent += await _send_message(session, entry, message, values, items)
        if unsent > _SOON:
            await session.flush()
            unsent = 0
    return lost


async def _send_message(
    session: Session, entry: Entry, message: Message, values: dict[Attribute, bytes], items: Sequence[Item]
) -> int:
    """Queue one message, and send what is large of it; its octets, about."""
    engine = session.engine
    if len(message.blob) > _IN_THREAD and any(isinstance(item, Binary | BinarySize) for item in items):
        answers = await asyncio.to_thread(_answers, items, message, values)
    else:
        answers = _answers(items, message, values)
    engine.send(response.fetch_start(entry.seq))
    size = 0
    for number, pieces in enumerate(answers):
        if number:
            engine.send(b" ")
        for piece in pieces:
            engine.send(piece)
            size += len(piece)
            if len(piece) > _SOON:
                await session.flush()
    engine.send(response.FETCH_END)
    return size


def _answers(items: Sequence[Item], message: Message, values: dict[Attribute, bytes]) -> list[Iterable[Buffer]]:
    """Labels and octets of the items. Raises Refused: before the answer begins."""
    return [_answer(item, message, values) for item in items]


def _answer(item: Item, message: Message, values: dict[Attribute, bytes]) -> Iterable[Buffer]:
    if item is Attribute.BODY:
        return [b"BODY ", summary.body(message.blob, message.root)]
    if isinstance(item, Attribute):
        return [b"%b %b" % (item.value, values[item])]
    return content.answer(item, message)
