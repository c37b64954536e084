"""FETCH: what a client asks of messages (RFC 9051 §6.4.5), read in chunks and sent at its speed.

Promises: summaries and structures are copied from where they were rendered, never parsed. A large body is never whole
in memory. No transaction outlives a chunk, and the other sessions have a turn after each. Content is found also of
messages that others have expunged and this client has not heard of.
Refuses: to change anything but \\Seen, and that only where the mailbox is open for writing.

A new item is a row in _COLUMNS; one with octets of its own a case in content.py.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import compress
from operator import attrgetter
from typing import Any, Final, NamedTuple

from posthouse import observe
from posthouse.imapd import content, resync
from posthouse.imapd.content import Message
from posthouse.imapd.refusal import Refused, Senseless
from posthouse.imapd.session import LINES, Session
from posthouse.limits import KB
from posthouse.mailbox import emails, ranges, summary
from posthouse.mailbox.emails import Content, EmailRow, Preview, Rendering
from posthouse.mailbox.snapshot import Entry
from posthouse.store.blobs import BlobLost, Buffer
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.terms.keywords import SEEN
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.fetch import Attribute, Binary, BinarySize, Item, Section
from posthouse.wire.imap.finding import Partial
from posthouse.wire.imap.response import Code
from posthouse.wire.imap.sequence import Range

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
    previews: dict[int, Preview]
    saved: dict[int, int]


Column = Callable[[Session, Known], list[bytes]]


def _ids(session: Session, letter: bytes, numbers: Sequence[int]) -> list[bytes]:
    form = b"(%b%b%%d)" % (letter, session.ids.encode())
    return [form % number for number in numbers]


_COLUMNS: Final[dict[Attribute, Column]] = {
    Attribute.UID: lambda session, known: [b"%d" % entry.uid for entry in known.entries],
    Attribute.FLAGS: lambda session, known: [session.flags(entry.flags) for entry in known.entries],
    Attribute.MODSEQ: lambda session, known: [b"(%d)" % entry.modseq for entry in known.entries],
    Attribute.EMAILID: lambda session, known: _ids(session, b"M", [entry.email for entry in known.entries]),
    Attribute.THREADID: lambda session, known: _ids(session, b"T", [row.thread for row in known.rows]),
    Attribute.INTERNALDATE: lambda session, known: [response.date_time(row.received_at) for row in known.rows],
    Attribute.SIZE: lambda session, known: [b"%d" % row.size for row in known.rows],
    Attribute.ENVELOPE: lambda session, known: [rendering.summary for rendering in known.renderings],
    Attribute.BODYSTRUCTURE: lambda session, known: [rendering.structure for rendering in known.renderings],
    Attribute.PREVIEW: lambda session, known: [_preview(known.previews[row.message]) for row in known.rows],
    Attribute.SAVEDATE: lambda session, known: [_save_date(known.saved.get(entry.uid)) for entry in known.entries],
}
_SEQ: Final = attrgetter("seq")
_UID: Final = attrgetter("uid")
_OF_ROW: Final = frozenset({Attribute.THREADID, Attribute.INTERNALDATE, Attribute.SIZE, Attribute.PREVIEW})
_OF_RENDERING: Final = frozenset({Attribute.ENVELOPE, Attribute.BODYSTRUCTURE})


async def fetch(session: Session, command: Command, asked: request.Fetch) -> None:
    """FETCH and UID FETCH."""
    if asked.vanished and not session.qresync:
        raise Senseless("Say ENABLE QRESYNC first")
    numbers = session.numbers(asked.numbers, uid=asked.uid)
    items = asked.items
    if asked.uid and Attribute.UID not in items and not session.uidonly:
        # RFC 9051 §6.4.9: UID FETCH tells the UID, asked or not. RFC 9586 §3.3: a UIDFETCH begins with it.
        items = (Attribute.UID, *items)
    if asked.changed_since is not None and Attribute.MODSEQ not in items:
        items = (*items, Attribute.MODSEQ)
    if Attribute.MODSEQ in items:
        session.heed_modseqs()
    if asked.partial is not None:
        numbers = _part_of(numbers, asked.partial)
    if asked.changed_since is None:
        chunks = session.chunks(numbers, emails.CHUNK)
    else:
        chunks = await _changed(session, asked, numbers, asked.changed_since)
    lost = 0
    for number, chunk in enumerate(chunks):
        if number:
            await session.pause()
        lost += await send(session, chunk, items)
    if lost:
        raise Refused(f"The store has lost the content of {lost} messages", Code.CORRUPTION)
    await session.ok(command, "Those are the messages")


def _part_of(numbers: Sequence[Range], partial: Partial) -> list[Range]:
    """The messages at these places among those of the ranges (RFC 9394 §3.3)."""
    places = range(ranges.count(numbers))
    first, last = sorted((partial.first, partial.last))
    chosen = (
        places[first - 1 : last] if first > 0 else places[max(len(places) + first, 0) : max(len(places) + last + 1, 0)]
    )
    found: list[Range] = []
    before = 0
    for low, high in numbers:
        start, stop = max(chosen.start - before, 0), min(chosen.stop - before, high - low + 1)
        if start < stop:
            found.append((low + start, low + stop - 1))
        before += high - low + 1
    return found


async def _changed(
    session: Session, asked: request.Fetch, numbers: Sequence[Range], modseq: int
) -> Iterator[list[Entry]]:
    """What of it changed since; and first what is gone, where that is asked for (RFC 7162 §3.2.6)."""
    missed = await resync.look(session, modseq, gone=asked.vanished)
    if asked.vanished and (gone := resync.vanished(session.open.view, missed, resync.wanted(session, asked.numbers))):
        session.engine.send(response.vanished_earlier(gone))
    return resync.changed(session, missed, numbers, emails.CHUNK)


async def send(session: Session, chunk: list[Entry], items: tuple[Item, ...]) -> int:
    """The messages with what is asked of them; how many the store has lost."""
    if not chunk:
        return 0
    # BODY is BODYSTRUCTURE without its extensions; few ask for it, so it is made when they do.
    if any(item not in _COLUMNS for item in items):
        return await _fetch_bodies(session, chunk, items)
    await session.learn_flags(chunk)
    await _send_values(session, await _read_known(session, chunk, items), items)
    return 0


async def _fetch_bodies(session: Session, chunk: list[Entry], items: tuple[Item, ...]) -> int:
    """Messages with their octets, some at a time; how many the store has lost."""
    marks = any(isinstance(item, Section | Binary) and not item.peek for item in items) and not session.open.read_only
    # RFC 4314 §4: nothing is marked as seen by whoever may not.
    marks = marks and "s" in session.open.rights
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
        known = await _read_known(session, entries, told)
        if all(item in _COLUMNS or content.is_of_header(item) for item in told):
            lost += await _send_fields(session, known, told)
        else:
            lost += await _send_bodies(session, known, told)
        await session.pause()
    return lost


async def _portions(session: Session, chunk: list[Entry]) -> AsyncIterator[list[Entry]]:
    """As many at a time as may be in memory for one client, who may be slow."""
    if len(chunk) <= _FEW:
        yield chunk
        return
    rows = await session.look(emails.rows, [entry.email for entry in chunk])
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
    await session.change("s", emails.store_flags, mailbox, unseen, now=session.around.clock.now(), add=SEEN)
    await session.refresh()
    view.silence(unseen)
    entries = [found for entry in chunk for found in view.by_uid(entry.uid, entry.uid)]
    told: list[Item] = [Attribute.FLAGS]
    if session.condstore:
        # RFC 7162 §3.2.4: with UID and modseq, where it set the flag.
        told += [Attribute.MODSEQ] if session.uidonly else [Attribute.UID, Attribute.MODSEQ]
    return entries, (*items, *[item for item in told if item not in items])


async def _read_known(session: Session, entries: list[Entry], items: Sequence[Item]) -> Known:
    """The chunk with what its items need; a message that is gone for good is left out (RFC 9051 §7.5.1 allows it)."""
    rendered = any(item in _OF_RENDERING for item in items)
    of_row = rendered or any(item in _OF_ROW for item in items)
    opened = any(item not in _COLUMNS for item in items)
    saved = Attribute.SAVEDATE in items
    if not (of_row or opened or saved):
        return Known(entries, [], [], {}, {}, {})
    needs = _Needs(of_row, rendered, opened, Attribute.PREVIEW in items, saved)
    read = await session.look(_read, session.open.mailbox, entries, needs)
    found = read.rows if of_row else read.contents
    if (of_row or opened) and len(found) < len(entries):
        entries = [entry for entry in entries if entry.email in found]
    known = [read.rows[entry.email] for entry in entries] if of_row else []
    renderings = [read.renderings[row.message] for row in known] if rendered else []
    return Known(entries, known, renderings, read.contents, read.previews, read.saved)


class _Needs(NamedTuple):
    """What has to be read for the items that were asked for."""

    rows: bool
    renderings: bool
    contents: bool
    previews: bool
    saved: bool


class _Read(NamedTuple):
    """And what was found: by email, by message, by message, by email, and by uid."""

    rows: dict[int, EmailRow]
    renderings: dict[int, Rendering]
    previews: dict[int, Preview]
    contents: dict[int, Content]
    saved: dict[int, int]


def _read(tx: Tx, account: int, mailbox: int, entries: Sequence[Entry], needs: _Needs) -> _Read:
    ids = [entry.email for entry in entries]
    rows = emails.rows(tx, account, ids) if needs.rows else {}
    messages = {row.message for row in rows.values()}
    return _Read(
        rows,
        emails.renderings(tx, messages) if needs.renderings else {},
        emails.previews(tx, messages) if needs.previews else {},
        emails.contents(tx, account, ids) if needs.contents else {},
        emails.save_dates(tx, account, mailbox, [entry.uid for entry in entries]) if needs.saved else {},
    )


def _preview(found: Preview) -> bytes:
    # RFC 8970 §3.2: nothing to show is an empty string, never NIL. RFC 9051 §4.3: no NUL in a string.
    return response.string(found.preview.replace("\0", " ").encode())


def _save_date(saved_at: int | None) -> bytes:
    # RFC 8514 §4.2. What others have expunged is in the mailbox no more.
    return b"NIL" if saved_at is None else response.date_time(saved_at)


async def _send_values(session: Session, known: Known, items: Sequence[Item]) -> None:
    attributes = [item for item in items if isinstance(item, Attribute)]
    columns = [_COLUMNS[item](session, known) for item in attributes]
    await _send_lines(session, _lines(session, known, columns), [item.value for item in attributes])


def _lines(session: Session, known: Known, columns: Sequence[list[bytes]]) -> list[tuple[Any, ...]]:
    """What each message is called, and its values."""
    # RFC 9586 §3.3
    return list(zip(map(_UID if session.uidonly else _SEQ, known.entries), *columns, strict=True))


async def _send_lines(session: Session, lines: Sequence[tuple[Any, ...]], labels: Sequence[bytes]) -> None:
    form = response.fetch_form(labels, response.UIDFETCH if session.uidonly else response.FETCH)
    for start in range(0, len(lines), LINES):
        session.engine.send(response.fetch_lines(form, lines[start : start + LINES]))
        await session.flush()


async def _send_fields(session: Session, known: Known, items: Sequence[Item]) -> int:
    """Messages of which nothing but values and fields of the header are asked: many lines at a time; how many the store
    has lost."""
    headers: list[bytes] = []
    there: list[bool] = []
    for entry in known.entries:
        message = await _load(session, entry, known)
        there.append(message is not None)
        headers.append(b"" if message is None else message.header)
    columns = [
        _COLUMNS[item](session, known) if isinstance(item, Attribute) else content.fields_of_headers(item, headers)
        for item in items
        if isinstance(item, Attribute | Section)
    ]
    labels = [item.value if isinstance(item, Attribute) else b"" for item in items]
    await _send_lines(session, list(compress(_lines(session, known, columns), there)), labels)
    return there.count(False)


async def _load(session: Session, entry: Entry, known: Known) -> Message | None:
    """The octets of a message; None where the store has lost them."""
    found = known.contents[entry.email]
    try:
        return Message(found, await session.around.blobs.load(found.blob))
    except BlobLost as error:
        observe.fault("imap.content_lost", error, account=session.open.account, email=entry.email)
        return None


async def _send_bodies(session: Session, known: Known, items: Sequence[Item]) -> int:
    """The messages one by one; how many the store has lost."""
    columns = {
        item: _COLUMNS[item](session, known) for item in items if isinstance(item, Attribute) and item in _COLUMNS
    }
    lost = unsent = 0
    for index, entry in enumerate(known.entries):
        values = {item: column[index] for item, column in columns.items()}
        message = await _load(session, entry, known)
        if message is None:
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
    if session.uidonly:
        engine.send(response.fetch_start(entry.uid, response.UIDFETCH))
    else:
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
