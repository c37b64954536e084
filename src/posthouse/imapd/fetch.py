"""FETCH: what a client asks of messages (RFC 9051 §6.4.5), read in chunks and sent at its speed.

Promises: summaries and structures are copied from where they were rendered, never parsed. A body passes as buffers
and is never whole in memory where it is large. No transaction outlives a chunk. Content is found also of messages
that others have expunged and this client has not heard of.
Refuses: to change anything but \\Seen, and that only where the mailbox is open for writing.

A new item is a row in _VALUES; one with octets of its own a case in `_octets`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from posthouse.imapd.session import Session
from posthouse.mailbox import emails, summary
from posthouse.mailbox.emails import Content, EmailRow, Rendering
from posthouse.mailbox.snapshot import Entry
from posthouse.message import mime
from posthouse.message.header import Header
from posthouse.store.blobs import Buffer
from posthouse.store.database import Tx
from posthouse.terms.keywords import SEEN
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.fetch import Attribute, Binary, BinarySize, Item, Section, Text

# Bodies a chunk reads at once: small ones come with their octets.
_BODIES: Final = 50
# What is built before it is sent.
_LINES: Final = 500


class Known(NamedTuple):
    """What values are made from; None where nobody asked."""

    entry: Entry
    row: EmailRow | None
    rendering: Rendering | None


_ROW: Final = frozenset({Attribute.INTERNALDATE, Attribute.SIZE, Attribute.THREADID, Attribute.ENVELOPE})
_RENDERED: Final = frozenset({Attribute.ENVELOPE, Attribute.BODYSTRUCTURE})


def _of_row(value: Callable[[EmailRow], bytes]) -> Callable[[Session, Known], bytes]:
    def find(session: Session, known: Known) -> bytes:
        assert known.row is not None
        return value(known.row)

    return find


def _of_rendering(value: Callable[[Rendering], bytes]) -> Callable[[Session, Known], bytes]:
    def find(session: Session, known: Known) -> bytes:
        assert known.rendering is not None
        return value(known.rendering)

    return find


_VALUES: Final[dict[Attribute, Callable[[Session, Known], bytes]]] = {
    Attribute.UID: lambda session, known: b"%d" % known.entry.uid,
    Attribute.FLAGS: lambda session, known: session.flags(known.entry.flags),
    Attribute.MODSEQ: lambda session, known: b"(%d)" % known.entry.modseq,
    Attribute.EMAILID: lambda session, known: b"(M%d)" % known.entry.email,
    Attribute.THREADID: _of_row(lambda row: b"(T%d)" % row.thread),
    Attribute.INTERNALDATE: _of_row(lambda row: response.date_time(row.received_at)),
    Attribute.SIZE: _of_row(lambda row: b"%d" % row.size),
    Attribute.ENVELOPE: _of_rendering(lambda rendering: rendering.summary),
    Attribute.BODYSTRUCTURE: _of_rendering(lambda rendering: rendering.structure),
}


async def fetch(session: Session, command: Command, asked: request.Fetch) -> None:
    """FETCH and UID FETCH."""
    entries = session.entries(asked.numbers, uid=asked.uid)
    items = asked.items
    if asked.uid and Attribute.UID not in items:
        # RFC 9051 §6.4.9: UID FETCH tells the UID, asked or not.
        items = (Attribute.UID, *items)
    await session.learn_flags(entries)
    # BODY is BODYSTRUCTURE without its extensions; few ask for it, so it is made when they do.
    bodies = [item for item in items if not isinstance(item, Attribute) or item is Attribute.BODY]
    step = _BODIES if bodies else emails.CHUNK
    for start in range(0, len(entries), step):
        chunk = entries[start : start + step]
        if any(isinstance(item, Section | Binary) and not item.peek for item in bodies):
            chunk, items = await _mark_seen(session, chunk, items)
        if bodies:
            await _send_bodies(session, chunk, items)
        else:
            await _send_values(session, chunk, items)
    await session.ok(command, "Those are the messages")


async def _mark_seen(
    session: Session, chunk: Sequence[Entry], items: tuple[Item, ...]
) -> tuple[list[Entry], tuple[Item, ...]]:
    """Reading a body sets \\Seen (RFC 9051 §6.4.5); the answer then tells the flags."""
    unseen = [entry.uid for entry in chunk if not entry.flags & SEEN]
    if session.open.read_only or not unseen:
        return list(chunk), items
    opened = session.open
    await session.write(emails.store_flags, opened.mailbox, unseen, now=session.around.clock.now(), add=SEEN)
    await session.refresh()
    opened.view.silence(unseen)
    now = [found for entry in chunk for found in opened.view.by_uid(entry.uid, entry.uid)]
    return now, items if Attribute.FLAGS in items else (*items, Attribute.FLAGS)


# --- values -----------------------------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """What a chunk reads of the store, by email and by message."""

    rows: dict[int, EmailRow]
    renderings: dict[int, Rendering]


def _read(tx: Tx, account: int, ids: Sequence[int], rendered: bool) -> Rows:
    rows = emails.rows(tx, account, ids)
    return Rows(rows, emails.renderings(tx, {row.message for row in rows.values()}) if rendered else {})


async def _known(session: Session, chunk: Sequence[Entry], items: Sequence[Item]) -> list[Known]:
    """The chunk with what its items need; a message that is gone for good is left out (RFC 9051 §7.5.1 allows it)."""
    rendered = any(item in _RENDERED for item in items)
    if not rendered and not any(item in _ROW for item in items):
        return [Known(entry, None, None) for entry in chunk]
    rows, renderings = await session.read(_read, [entry.email for entry in chunk], rendered)
    return [
        Known(entry, row, renderings.get(row.message)) for entry in chunk if (row := rows.get(entry.email)) is not None
    ]


async def _send_values(session: Session, chunk: Sequence[Entry], items: Sequence[Item]) -> None:
    attributes = [item for item in items if isinstance(item, Attribute)]
    form = response.fetch_form([item.value for item in attributes])
    values = [_VALUES[item] for item in attributes]
    known = await _known(session, chunk, items)
    for start in range(0, len(known), _LINES):
        rows = [(one.entry.seq, *[value(session, one) for value in values]) for one in known[start : start + _LINES]]
        session.engine.send(response.fetch_lines(form, rows))
        await session.flush()


# --- bodies -----------------------------------------------------------------------------------------------------------


async def _send_bodies(session: Session, chunk: Sequence[Entry], items: Sequence[Item]) -> None:
    known = await _known(session, chunk, items)
    contents = await session.read(emails.contents, [one.entry.email for one in known])
    for one in known:
        content = contents.get(one.entry.email)
        if content is not None:
            message = Message(content, session.around.blobs.load(content.blob))
            session.engine.send(response.fetch_start(one.entry.seq))
            for index, item in enumerate(items):
                session.engine.send(*([b" "] if index else []))
                if item is Attribute.BODY:
                    session.engine.send(b"BODY " + summary.body(message.blob, message.root))
                elif isinstance(item, Attribute):
                    session.engine.send(b"%b %b" % (item.value, _VALUES[item](session, one)))
                else:
                    session.engine.send(*_answer(item, message))
            session.engine.send(response.FETCH_END)
            await session.flush()


class Message:
    """A message as it is read: the prologue, then the blob, whose parts are counted from its own beginning."""

    def __init__(self, content: Content, blob: Buffer) -> None:
        self.prologue = content.prologue
        self.blob = blob
        self.root = mime.unpack(content.parts)

    def header(self) -> bytes:
        """The whole header with its empty line."""
        return self.prologue + bytes(self.blob[self.root.header_start : self.root.body_start])


def _answer(item: Section | Binary | BinarySize, message: Message) -> Iterator[Buffer]:
    """An item's label and octets."""
    match item:
        case Section():
            pieces = _octets(item, message)
            if pieces is None:
                yield item.label + b" NIL"
                return
            pieces = _partial(pieces, item.partial)
            yield response.body_start(item.label, sum(map(len, pieces)))
            yield from pieces
        case Binary():
            part = mime.find(message.root, item.part)
            octets = mime.decode_body(message.blob, part) if part else b""
            if item.partial is not None:
                origin, count = item.partial
                octets = octets[origin : origin + count]
            yield response.binary_start(item.label, len(octets), nul=b"\0" in octets)
            yield octets
        case BinarySize():
            part = mime.find(message.root, item.part)
            yield b"%b %d" % (item.label, mime.decoded_size(message.blob, part) if part else 0)


def _octets(item: Section, message: Message) -> list[Buffer] | None:
    """The octets of a section, in the pieces they lie in; None where the message has no such part."""
    match item.text:
        case Text.FIELDS | Text.FIELDS_NOT:
            return _fields(item, message)
        case Text.WHOLE if not item.part:
            return [message.prologue, message.blob]
        case Text.HEADER if not item.part:
            return [message.header()]
    bounds = mime.section(message.root, item.part, item.text.value)
    return None if bounds is None else [_slice(message.blob, *bounds)]


def _fields(item: Section, message: Message) -> list[Buffer] | None:
    """HEADER.FIELDS: the fields of these names, or all others, and the empty line (RFC 9051 §6.4.5.1)."""
    if item.part:
        bounds = mime.section(message.root, item.part, "HEADER")
        if bounds is None:
            return None
        octets = bytes(_slice(message.blob, *bounds))
    else:
        octets = message.header()
    names = {name.lower() for name in item.fields}
    wanted = item.text is Text.FIELDS
    found = [
        octets[field.start : field.end] for field in Header.parse(octets).fields if (field.name in names) is wanted
    ]
    return [b"".join([*found, b"\r\n"])]


def _slice(buffer: Buffer, start: int, end: int) -> Buffer:
    """A piece of a buffer, uncopied where it is large."""
    return memoryview(buffer)[start:end]


def _partial(pieces: list[Buffer], partial: tuple[int, int] | None) -> list[Buffer]:
    """The octets from an origin on, at most so many (RFC 9051 §6.4.5.1); none where there are none."""
    if partial is None:
        return pieces
    origin, count = partial
    found: list[Buffer] = []
    for piece in pieces:
        size = len(piece)
        if origin < size and count > 0:
            cut = memoryview(piece)[origin : origin + count]
            found.append(cut)
            count -= len(cut)
        origin = max(0, origin - size)
    return found
