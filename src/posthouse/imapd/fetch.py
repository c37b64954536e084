"""FETCH: what a client asks of messages (RFC 9051 §6.4.5), read in portions and sent at its speed.

Promises: summaries and structures are copied from where they were rendered, never parsed. A large body is never whole
in memory. No transaction outlives a portion, and the other sessions have a turn after each. Content is found also of
messages that others have expunged and this client has not heard of.
Refuses: to change anything but \\Seen, and that only where the mailbox is open for writing.

A new item is a row in _COLUMNS; one with octets of its own a case in content.py.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from itertools import compress
from typing import Any, Final

from posthouse import observe
from posthouse.imapd import content, fields, limit, portions, resync, runs
from posthouse.imapd.content import Message
from posthouse.imapd.portions import LOT, OF_PLACEMENT, VALUES, Known
from posthouse.imapd.refusal import Refused, Senseless
from posthouse.imapd.session import LINES, MANY_LINES, PARTLY, Session
from posthouse.limits import KB
from posthouse.mailbox import flagging, ranges, summary
from posthouse.mailbox.emails import Content
from posthouse.mailbox.model import NoPermission
from posthouse.mailbox.reading import Preview
from posthouse.mailbox.view import Entries, Entry
from posthouse.store.blobs import BlobLost, Buffer
from posthouse.store.database import StoreUnavailable
from posthouse.terms.keywords import SEEN
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.fetch import Attribute, Binary, BinarySize, Item, Section
from posthouse.wire.imap.finding import Partial
from posthouse.wire.imap.response import Code
from posthouse.wire.imap.sequence import Range

# Undoing the encoding of more than this takes longer than the loop should stand still.
_IN_THREAD: Final = 512 * KB
# Octets of messages that are gone through in a row, an item of theirs being so many at least: some milliseconds.
_TURN: Final = 1024 * KB
_ITEM: Final = 8 * KB
# What is copied of a message for all items together: so often its octets, and a little.
_TIMES: Final = 4
_LITTLE: Final = 1024 * KB
# Pieces as large as this together are sent before the next one is made.
_SOON: Final = 64 * KB

# Of an item the values, one a message: octets, or numbers where it is one of _NUMBERS.
Column = Iterable[Any]


def _ids(session: Session, letter: bytes, numbers: Iterable[int]) -> list[bytes]:
    form = b"(%b%b%%d)" % (letter, session.ids.encode())
    return [form % number for number in numbers]


_NUMBERS: Final = frozenset({Attribute.UID, Attribute.SIZE})
_COLUMNS: Final[dict[Attribute, Callable[[Session, Known], Column]]] = {
    Attribute.UID: lambda session, known: known.placed.uids,
    Attribute.FLAGS: lambda session, known: map(session.flags, known.placed.flags),
    Attribute.MODSEQ: lambda session, known: known.placed.modseqs,
    Attribute.EMAILID: lambda session, known: _ids(session, b"M", known.placed.emails),
    Attribute.THREADID: lambda session, known: _ids(session, b"T", known.values.threads),
    Attribute.INTERNALDATE: lambda session, known: map(response.date_time, known.values.received),
    Attribute.SIZE: lambda session, known: known.values.sizes,
    Attribute.ENVELOPE: lambda session, known: known.renderings.summaries,
    Attribute.BODYSTRUCTURE: lambda session, known: known.renderings.structures,
    Attribute.PREVIEW: lambda session, known: [_preview(known.previews[one]) for one in known.values.messages],
    Attribute.SAVEDATE: lambda session, known: [_save_date(known.saved.get(uid)) for uid in known.placed.uids],
}


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
        # RFC 9738 §3.1: the client has said which, and is given these or none.
        limit.require(session, ranges.count(numbers))
    lots, cut = await _chosen(session, asked, numbers)
    lost = await _send(session, lots, items)
    if lost:
        if cut:
            session.engine.send(response.no(PARTLY, cut))
        raise Refused(f"The store has lost the content of {lost} messages", Code.CORRUPTION)
    await session.ok(command, "Those are the messages", cut=cut)


async def _chosen(session: Session, asked: request.Fetch, numbers: Sequence[Range]) -> tuple[Iterable[Entries], bytes]:
    """The messages that are answered, and the code that says so where these are not all that were asked for."""
    if asked.changed_since is None:
        numbers, cut = limit.last(session, numbers)
        size = MANY_LINES if OF_PLACEMENT.issuperset(asked.items) else LOT
        return (portions.lots_from_last if cut else portions.lots)(session, numbers, size), cut
    # RFC 7162 §3.1.4.1: what has not changed is not among the messages that the command is about.
    lots = await _changed(session, asked, numbers, asked.changed_since)
    if not session.around.message_limit:
        return lots, b""
    some: list[Entries] = []
    for lot in lots:
        some.append(lot)
        await asyncio.sleep(0)
    found = Entries.join(some)
    uids, cut = limit.last_uids(session, found.uids)
    found = Entries(*[column[len(column) - len(uids) :] for column in found])
    return (found.backwards() if cut else found).lots(LOT), cut


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


async def _changed(session: Session, asked: request.Fetch, numbers: Sequence[Range], modseq: int) -> Iterator[Entries]:
    """What of it changed since; and first what is gone, where that is asked for (RFC 7162 §3.2.6)."""
    missed = await resync.look(session, modseq, gone=asked.vanished)
    if asked.vanished and (gone := resync.vanished(session.open.view, missed, resync.wanted(session, asked.numbers))):
        session.engine.send(response.vanished_earlier(gone))
    return resync.changed(session, missed, numbers, LOT)


async def tell(session: Session, chunk: list[Entry], items: tuple[Item, ...]) -> None:
    """New messages with what the client wants to know of such. In place of one with a part that cannot be decoded it
    hears why (RFC 3516 §4.3): there is no command that could fail."""
    decoded = any(isinstance(item, Binary | BinarySize) for item in items)
    for some in [[one] for one in chunk] if decoded else [chunk]:
        try:
            await _send(session, [Entries.of(some)], items)
        except Refused as refused:
            session.engine.send(response.no(refused.text, refused.code))
        except NoPermission:
            # The right to read was taken back just now; whoever looks next tells that.
            return


async def _send(session: Session, lots: Iterable[Entries], items: tuple[Item, ...]) -> int:
    if OF_PLACEMENT.issuperset(items):
        for number, lot in enumerate(lots):
            if number:
                await asyncio.sleep(0)
            await session.learn_flags(lot)
            await _send_values(session, Known(lot), items)
        return 0
    marks = any(isinstance(item, Section | Binary) and not item.peek for item in items) and not session.open.read_only
    # RFC 4314 §4: nothing is marked as seen by whoever may not.
    marks = marks and "s" in session.open.rights
    lost = 0
    between = False
    async with aclosing(portions.read(session, lots, items)) as reading:
        async for known in reading:
            if between:
                await asyncio.sleep(0)
            between, told = True, items
            if marks:
                try:
                    known, told = await _mark_seen(session, known, items)
                except NoPermission:
                    # The right was taken back just now; who may read reads on.
                    marks = False
                except StoreUnavailable as error:
                    # A full disk keeps nobody from reading: the flag waits for another time.
                    observe.tell("imap.not_marked_seen", level=observe.WARNING, error=str(error))
            await session.learn_flags(known.placed)
            lost += await _way(known, told)(session, known, told)
            # Before more is read the client has taken most of this.
            await session.flush()
    return lost


def _way(known: Known, items: Sequence[Item]) -> Callable[[Session, Known, Sequence[Item]], Awaitable[int]]:
    """How these are sent."""
    opened = [item for item in items if item not in VALUES]
    if not opened:
        return _send_values
    if all(map(fields.is_of_header, opened)):
        return _send_fields
    return _send_bodies if known.wholes is None else _send_wholes


async def _mark_seen(session: Session, known: Known, items: tuple[Item, ...]) -> tuple[Known, tuple[Item, ...]]:
    """Reading a body sets \\Seen (RFC 9051 §6.4.5); the answer then tells the flags."""
    unseen = [uid for uid, flags in zip(known.placed.uids, known.placed.flags, strict=True) if not flags & SEEN]
    if not unseen:
        return known, items
    mailbox, view = session.open.mailbox, session.open.view
    await session.change("s", flagging.store_flags, mailbox, unseen, now=session.around.clock.now(), add=SEEN)
    await session.refresh()
    view.silence(unseen)
    placed = Entries.of([found for uid in known.placed.uids for found in view.by_uid(uid, uid)])
    told: list[Item] = [Attribute.FLAGS]
    if session.condstore:
        # RFC 7162 §3.2.4: with UID and modseq, where it set the flag.
        told += [Attribute.MODSEQ] if session.uidonly else [Attribute.UID, Attribute.MODSEQ]
    return known._replace(placed=placed), (*items, *[item for item in told if item not in items])


def _preview(found: Preview) -> bytes:
    # RFC 8970 §3.2: nothing to show is an empty string, never NIL. RFC 9051 §4.3: no NUL in a string.
    return response.string(found.preview.replace("\0", " ").encode())


def _save_date(saved_at: int | None) -> bytes:
    # RFC 8514 §4.2. What others have expunged is in the mailbox no more.
    return b"NIL" if saved_at is None else response.date_time(saved_at)


def _form(item: Attribute) -> bytes:
    if item is Attribute.MODSEQ:
        return response.MODSEQ_FORM
    return response.number_form(item.value) if item in _NUMBERS else response.value_form(item.value)


def _word(session: Session) -> bytes:
    # RFC 9586 §3.3
    return response.UIDFETCH if session.uidonly else response.FETCH


def _numbers(session: Session, known: Known) -> Sequence[int]:
    """What each message is called."""
    return known.placed.uids if session.uidonly else known.placed.seqs


async def _send_values(session: Session, known: Known, items: Sequence[Item]) -> int:
    attributes = [item for item in items if isinstance(item, Attribute)]
    columns: list[list[Any]] = []
    forms: list[bytes] = []
    for one in runs.grouped(attributes) if known.runs else attributes:
        if isinstance(one, tuple):
            columns.append(list(map(known.runs[one].__getitem__, known.placed.emails)))
            forms.append(response.RENDERED_FORM)
        else:
            columns.append(list(_COLUMNS[one](session, known)))
            forms.append(_form(one))
    numbers, form = _numbers(session, known), response.fetch_form(forms, _word(session))
    size = session.lines if OF_PLACEMENT.issuperset(items) else LINES
    for start in range(0, len(numbers), size):
        place = slice(start, start + size)
        session.engine.send(response.fetch_columns(form, numbers[place], [column[place] for column in columns]))
        await session.flush()
    return 0


async def _send_lines(session: Session, lines: Sequence[tuple[Any, ...]], items: Sequence[bytes]) -> None:
    form = response.fetch_form(items, _word(session))
    for start in range(0, len(lines), LINES):
        session.engine.send(response.fetch_lines(form, lines[start : start + LINES]))
        await session.flush()


async def _send_fields(session: Session, known: Known, items: Sequence[Item]) -> int:
    """Messages of which nothing but values and fields of the header are asked: many lines at a time; how many the store
    has lost."""
    headers: dict[int, bytes] = {}
    lost: set[int] = set()
    for email, found in known.contents.items():
        message = await _load(session, found)
        if message is None:
            lost.add(email)
        else:
            headers[email] = message.header
    forms: list[bytes] = []
    columns: list[Column] = []
    turns, octets = _Turns(), sum(map(len, headers.values()))
    copies = _Copies(octets)
    for item in items:
        if isinstance(item, Attribute):
            forms.append(_form(item))
            columns.append(_COLUMNS[item](session, known))
        elif isinstance(item, Section):
            literals = _literals(session, known, item, headers)
            if headers:
                made = compress(literals, map(headers.__contains__, known.placed.emails))
                copies.add(sum(map(len, made)))
            forms.append(response.literal_form(item.label))
            columns += [map(len, literals), literals]
            if turns.over(octets):
                await asyncio.sleep(0)
    lines = list(zip(_numbers(session, known), *columns, strict=True))
    if lost:
        lines = list(compress(lines, [email not in lost for email in known.placed.emails]))
    await _send_lines(session, lines, forms)
    return len(lost)


def _literals(session: Session, known: Known, item: Section, headers: Mapping[int, bytes]) -> list[bytes]:
    """The fields of each message, from what is kept or from its header; where neither is there, nothing."""
    kept, names = known.kept.get(item, {}), fields.names_of(item)
    found = {email: fields.literal(header, names) for email, header in headers.items() if email not in kept}
    if not found:
        return [kept.get(email, b"") for email in known.placed.emails]
    literals = [found.get(email) or kept.get(email, b"") for email in known.placed.emails]
    if not session.away:
        session.around.fields.keep(session.owner, names, found)
    return literals


async def _load(session: Session, found: Content) -> Message | None:
    """The octets of a message; None where the store has lost them."""
    try:
        return Message(found, await session.around.blobs.load(found.blob))
    except BlobLost as error:
        observe.fault("imap.content_lost", error, account=session.open.account, email=found.email)
        return None


async def _send_wholes(session: Session, known: Known, items: Sequence[Item]) -> int:
    """Small messages whole, and values: all of a portion at once."""
    place = next(index for index, item in enumerate(items) if isinstance(item, Section))
    section = items[place]
    assert isinstance(section, Section)
    before, after = (
        [item for item in some if isinstance(item, Attribute)] for some in (items[:place], items[place + 1 :])
    )
    head, tail = response.fetch_halves(
        [*map(_form, before), response.literal_start_form(section.label)], map(_form, after), _word(session)
    )
    wholes = known.wholes
    assert wholes is not None, "only such portions go this way"
    starts = zip(_numbers(session, known), *[_COLUMNS[item](session, known) for item in before], strict=True)
    ends = zip(*[_COLUMNS[item](session, known) for item in after], strict=True) if after else [()] * len(wholes.octets)
    pieces: list[Buffer] = []
    ended = b""
    for start, prologue, octets, end in zip(starts, wholes.prologues, wholes.octets, ends, strict=True):
        if b"\0" in octets:
            octets = octets.replace(b"\0", fields.INSTEAD_OF_NUL)
        pieces += ended + head % (*start, len(prologue) + len(octets)) + prologue, octets
        ended = tail % end
    pieces.append(ended)
    session.engine.send(*pieces)
    return 0


async def _send_bodies(session: Session, known: Known, items: Sequence[Item]) -> int:
    """The messages one by one; how many the store has lost."""
    columns = {
        item: list(_COLUMNS[item](session, known)) for item in items if isinstance(item, Attribute) and item in VALUES
    }
    lost = unsent = 0
    turns = _Turns()
    for index, (number, email) in enumerate(zip(_numbers(session, known), known.placed.emails, strict=True)):
        values = {item: column[index] for item, column in columns.items()}
        message = await _load(session, known.contents[email])
        if message is None:
            lost += 1
            continue
        answers = await _answers(items, message, values, turns)
        unsent += await _send_message(session, number, message, items, answers, turns)
        if unsent > _SOON:
            await session.flush()
            unsent = 0
    return lost


class _Turns:
    """Counts the octets of messages that were gone through, until others are to have their turn."""

    def __init__(self) -> None:
        self._octets = 0

    def over(self, octets: int) -> bool:
        """An item of a message that has so many was made: is it others' turn now?"""
        self._octets += max(octets, _ITEM)
        if self._octets <= _TURN:
            return False
        self._octets = 0
        return True


class _Copies:
    """Counts the octets that are copied of messages, which have so many, for all items together."""

    def __init__(self, octets: int) -> None:
        self._left = _TIMES * octets + _LITTLE

    def add(self, octets: int) -> None:
        """So many more. Raises Refused."""
        self._left -= octets
        if self._left < 0:
            raise Refused("That is too much of one message at once", Code.LIMIT)


async def _answers(
    items: Sequence[Item], message: Message, values: dict[Attribute, Any], turns: _Turns
) -> list[Iterable[Buffer]]:
    """Labels and octets of the items. Raises Refused: before the answer begins."""
    answers: list[Iterable[Buffer]] = []
    copies = _Copies(len(message.blob))
    for item in items:
        if _is_long(item, message):
            answers.append(await asyncio.to_thread(_answer, item, message, values))
            continue
        answer = _answer(item, message, values)
        answers.append(answer)
        if isinstance(answer, list):
            # What lies in the message itself is a view, or all of it.
            copies.add(sum([len(one) for one in answer if isinstance(one, bytes) and one is not message.blob]))
        if not isinstance(item, Attribute) and turns.over(len(message.blob)):
            await asyncio.sleep(0)
    return answers


def _is_long(item: Item, message: Message) -> bool:
    """Does it take so long to make this that it has to be in a thread?"""
    return isinstance(item, Binary | BinarySize) and len(message.blob) > _IN_THREAD


async def _send_message(
    session: Session,
    number: int,
    message: Message,
    items: Sequence[Item],
    answers: Sequence[Iterable[Buffer]],
    turns: _Turns,
) -> int:
    """Queue one message, and send what is large of it; how many octets are queued still, about."""
    engine = session.engine
    engine.send(response.fetch_start(number, _word(session)))
    unsent = 0
    for place, (item, answer) in enumerate(zip(items, answers, strict=True)):
        if place:
            engine.send(b" ")
        pieces, long = iter(answer), _is_long(item, message)
        # What is decoded is decoded again, piece by piece, as it leaves.
        while (piece := await asyncio.to_thread(next, pieces, None) if long else next(pieces, None)) is not None:
            engine.send(piece)
            unsent += len(piece)
            if unsent > _SOON:
                await session.flush()
                unsent = 0
        if not isinstance(item, Attribute) and turns.over(len(message.blob)):
            await asyncio.sleep(0)
    engine.send(response.FETCH_END)
    return unsent


def _answer(item: Item, message: Message, values: dict[Attribute, Any]) -> Iterable[Buffer]:
    if item is Attribute.BODY:
        return [b"BODY ", summary.body(message.blob, message.root)]
    if isinstance(item, Attribute):
        return [_form(item) % values[item]]
    return content.answer(item, message)
