"""What a FETCH needs of its messages, read some at a time, in columns.

Promises: no transaction outlives a portion. For a client, who may be slow, 512 KB of octets are in memory at most, or
one large message; of fields of headers these alone, which a reader finds in 1 MB of octets, or in as much less as there
are many items that ask for some. Content is found also of messages that others have expunged and this client has not
heard of; a message that is gone for good is left out (RFC 9051 §7.5.1 allows it), unless what is asked of it is kept.
Fields of headers, summaries and structures that were answered before are not read again.
Refuses: to say anything to the client, and to read ahead while it takes what was read: a reader needs the interpreter
for each row, and beside a loop that has it neither was done sooner.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from posthouse.imapd import fields, runs
from posthouse.imapd.runs import Run
from posthouse.imapd.session import Session
from posthouse.limits import KB
from posthouse.mailbox import emails, reading
from posthouse.mailbox.emails import Content
from posthouse.mailbox.reading import Preview, Renderings, Values, Wholes
from posthouse.mailbox.view import Entries
from posthouse.store.database import Row, Tx
from posthouse.wire.imap.fetch import Attribute, Item, Section, Text
from posthouse.wire.imap.sequence import Range

# Messages of which values are read at once: a millisecond of a reader, as much of the loop.
LOT: Final = 500
# Octets of messages that are read at once: small ones come with their rows.
_PORTION: Final = 512 * KB
# So few messages are read without looking at their sizes first.
_FEW: Final = 3
# Messages whose headers are looked for at once, in so many octets that each begins with; those whose header goes on are
# looked at again, some at a time.
_BEGINNINGS: Final = 128
_BEGINNING: Final = 8 * KB
_LONGER_BEGINNINGS: Final = 16
_LONGER_BEGINNING: Final = 32 * KB

# What the placement itself says.
OF_PLACEMENT: Final = frozenset({Attribute.UID, Attribute.FLAGS, Attribute.MODSEQ, Attribute.EMAILID})
# What items are read from that neither the placement says nor the octets.
_OF_ROW: Final = frozenset({Attribute.THREADID, Attribute.INTERNALDATE, Attribute.SIZE, Attribute.PREVIEW})
VALUES: Final = frozenset(Attribute) - {Attribute.BODY}


_NONE: Final = Entries((), (), (), (), ())
_NO_VALUES: Final = Values((), (), (), (), ())
_NO_RENDERINGS: Final = Renderings((), ())


# What the literal of each of these items holds, by email.
Literals = Mapping[Section, Mapping[int, bytes]]


class Known(NamedTuple):
    """A portion of messages and what the asked items need of each. `values`, `renderings` and `wholes` are of one
    length with the placements; contents, as what is kept, are by email, previews by message, save dates by uid. What
    nobody asked for is empty, and so are `values` and `renderings` where `runs` say by email what was asked. `long`:
    emails whose headers were not found in what was read."""

    placed: Entries
    values: Values = _NO_VALUES
    renderings: Renderings = _NO_RENDERINGS
    wholes: Wholes | None = None
    contents: Mapping[int, Content] = {}
    previews: Mapping[int, Preview] = {}
    saved: Mapping[int, int] = {}
    kept: Mapping[Section, Mapping[int, bytes]] = {}
    runs: Mapping[Run, Mapping[int, bytes]] = {}
    long: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class _Needs:
    """What has to be read for the items that were asked for. `whole`: of contents all octets, once, and nothing else;
    `fields`: those items, where nothing else is asked of contents. `runs`: those of fixed items, where
    the placement says all others."""

    values: bool
    renderings: bool
    contents: bool
    whole: bool
    previews: bool
    saved: bool
    fields: tuple[Section, ...]
    runs: tuple[Run, ...]


def _needs(items: Sequence[Item]) -> _Needs:
    opened = [item for item in items if item not in VALUES]
    rendered = not runs.RENDERED.isdisjoint(items)
    groups = list(runs.grouped([item for item in items if isinstance(item, Attribute)])) if rendered else []
    fixed = tuple([group for group in groups if isinstance(group, tuple)])
    others = OF_PLACEMENT.issuperset([group for group in groups if not isinstance(group, tuple)])
    of_header = all(map(fields.is_of_header, opened))
    return _Needs(
        values=rendered or not _OF_ROW.isdisjoint(items),
        renderings=rendered,
        contents=bool(opened),
        whole=len(opened) == 1 and is_whole(opened[0]),
        previews=Attribute.PREVIEW in items,
        saved=Attribute.SAVEDATE in items,
        fields=tuple([item for item in opened if isinstance(item, Section)]) if of_header else (),
        runs=fixed if others and not opened else (),
    )


def is_whole(item: Item) -> bool:
    """Is it all octets of a message?"""
    return isinstance(item, Section) and item.text is Text.WHOLE and not item.part and item.partial is None


def lots(session: Session, numbers: Sequence[Range], size: int = LOT) -> Iterator[Entries]:
    """The messages of these sequence numbers, a lot at a time, each lot as it is when it is asked for."""
    return session.open.view.lots(numbers, size)


def lots_from_last(session: Session, numbers: Sequence[Range], size: int = LOT) -> Iterator[Entries]:
    """The same from the last message to the first (RFC 9738 §3.1)."""
    view = session.open.view
    some: list[Entries] = []
    room = size
    for low, high in reversed(numbers):
        while low <= high:
            first = max(low, high + 1 - room)
            some.append(view.columns(first, high).backwards())
            room -= high + 1 - first
            high = first - 1
            if not room:
                yield Entries.join(some)
                some, room = [], size
    if some:
        yield Entries.join(some)


async def read(session: Session, chosen: Iterable[Entries], items: Sequence[Item]) -> AsyncGenerator[Known, None]:
    """These messages, in portions. Raises NoPermission, StoreUnavailable."""
    needs = _needs(items)
    for lot in chosen:
        if not lot.uids:
            await asyncio.sleep(0)
        elif needs.fields:
            async for known in _read_fields(session, lot, needs):
                yield known
        elif needs.contents:
            async for known in _read_contents(session, lot, needs, lot.emails, {}):
                yield known
        elif needs.runs and not session.away:
            yield await _read_runs(session, lot, needs)
        else:
            yield await _read_known(session, lot, needs, (), {})


async def _read_runs(session: Session, lot: Entries, needs: _Needs) -> Known:
    """Messages with runs of fixed items: what is not kept is read, and kept."""
    keeper, owner = session.around.fields, session.owner
    kept = {run: keeper.of(owner, runs.names_of(run)) for run in needs.runs}
    missing = {email for one in kept.values() for email in lot.emails if email not in one}
    if not missing:
        return Known(lot, runs=kept)
    known = await _read_known(session, lot.only(missing), needs, (), {})
    there = known.placed.emails
    told: dict[Run, Mapping[int, bytes]] = {}
    for run, before in kept.items():
        found = dict(zip(there, runs.join(run, known.values, known.renderings), strict=True))
        keeper.keep(owner, runs.names_of(run), found)
        told[run] = found if len(missing) == len(lot.emails) else {**before, **found}
    gone = missing.difference(there)
    return Known(lot.without(gone), runs=told)


async def _read_contents(
    session: Session, lot: Entries, needs: _Needs, opened: Sequence[int], kept: Literals
) -> AsyncGenerator[Known, None]:
    """Messages, those of `opened` with octets: as many at a time as may be in memory for one client."""
    if len(opened) <= _FEW:
        yield await _read_known(session, lot, needs, opened, kept)
        return
    sizes = await session.look(reading.sizes, opened)
    wanted = set(opened)
    for some in _portions(lot, sizes, wanted, _share(_PORTION, len(kept))):
        yield await _read_known(session, some, needs, [email for email in some.emails if email in wanted], kept)


async def _read_fields(session: Session, lot: Entries, needs: _Needs) -> AsyncGenerator[Known, None]:
    """Messages with fields of headers: what is not kept is read, as a rule from the octets that a message begins with,
    and kept."""
    kept = _kept(session, needs)
    unknown = {email for one in kept.values() for email in lot.emails if email not in one}
    for some in lot.lots(_share(_BEGINNINGS, len(needs.fields))) if unknown else [lot]:
        opened = [email for email in some.emails if email in unknown]
        known = await _read_known(session, some, needs, opened, kept)
        if known.long:
            whole = replace(needs, fields=())
            async for one in _read_contents(session, known.placed, whole, known.long, known.kept):
                yield one
        else:
            yield known


def _share(most: int, items: int) -> int:
    """How many messages, or octets, are enough where each of so many items may hold all of them. Most clients ask for
    two or three: for these no look more is worth it."""
    return max(1, most // max(1, items // 2))


def _kept(session: Session, needs: _Needs) -> dict[Section, Mapping[int, bytes]]:
    """What was answered to the same before. In another's mailbox nothing: there each look asks whether it may."""
    if session.away:
        return {item: {} for item in needs.fields}
    return {item: session.around.fields.of(session.owner, fields.names_of(item)) for item in needs.fields}


def _keep(session: Session, placed: Entries, kept: Literals, found: Literals) -> dict[Section, Mapping[int, bytes]]:
    """What is told of these messages: what was kept, and what was found, which is kept from now on."""
    told: dict[Section, Mapping[int, bytes]] = {}
    for item, literals in found.items():
        if not session.away:
            session.around.fields.keep(session.owner, fields.names_of(item), literals)
        before = kept[item]
        told[item] = literals
        if len(literals) < len(placed.emails):
            told[item] = {**{email: before[email] for email in placed.emails if email in before}, **literals}
    return told


def _portions(lot: Entries, sizes: Mapping[int, int], wanted: Collection[int], portion: int) -> Iterator[Entries]:
    """Runs of these messages, those that are wanted being no larger than a portion together."""
    start = octets = 0
    for index, email in enumerate(lot.emails):
        size = sizes.get(email, 0) if email in wanted else 0
        if octets and octets + size > portion:
            yield Entries(*[column[start:index] for column in lot])
            start, octets = index, 0
        octets += size
    yield Entries(*[column[start:] for column in lot])


async def _read_known(session: Session, placed: Entries, needs: _Needs, opened: Sequence[int], kept: Literals) -> Known:
    """These messages; those of `opened` with their contents."""
    if not (opened or needs.values or needs.saved):
        return Known(placed, kept=kept)
    found = await session.look(_look, session.open.mailbox, placed, needs, opened)
    there: set[int] = set()
    if opened:
        there.update(found.contents if found.wholes is None else found.wholes.emails)
        there.update(found.long, *found.kept.values())
    gone = set(opened) - there
    if needs.values and len(found.values.emails) < len(placed.emails):
        gone |= set(placed.emails).difference(found.values.emails)
    if gone:
        # Read again without them, so that all columns have one length; it happens once in a life.
        placed, opened = placed.without(gone), [email for email in opened if email not in gone]
        return await _read_known(session, placed, needs, opened, kept) if placed.emails else Known(_NONE)
    told = _keep(session, placed, kept, found.kept) if found.kept else kept
    return found._replace(placed=placed, kept=told)


def _look(tx: Tx, account: int, mailbox: int, placed: Entries, needs: _Needs, opened: Sequence[int]) -> Known:
    """What has been found, in one look."""
    values = reading.values(tx, account, placed.emails) if needs.values else _NO_VALUES
    wholes = reading.wholes(tx, account, opened) if needs.whole else None
    kept: dict[Section, dict[int, bytes]] = {}
    if needs.fields and opened:
        kept, opened = _look_for_fields(tx, account, opened, needs.fields)
    long = opened if kept and len(opened) > _FEW else ()
    return Known(
        placed,
        values,
        reading.renderings(tx, values.messages) if needs.renderings else _NO_RENDERINGS,
        wholes,
        emails.contents(tx, account, opened) if opened and wholes is None and not long else {},
        reading.previews(tx, values.messages) if needs.previews else {},
        reading.save_dates(tx, account, mailbox, placed.uids) if needs.saved else {},
        kept,
        long=long,
    )


def _look_for_fields(
    tx: Tx, account: int, opened: Sequence[int], items: Sequence[Section]
) -> tuple[dict[Section, dict[int, bytes]], list[int]]:
    """The fields of each of these messages whose header is in the octets that it begins with; and the others."""
    rows = reading.beginnings(tx, account, opened, _BEGINNING)
    found: dict[Section, dict[int, bytes]] = {item: _fields_of(rows, item) for item in items}
    told = found[items[0]]
    left = [row for row in rows if row[0] not in told]
    longer = [email for email, _, octets in left if octets is not None]
    most = _share(_LONGER_BEGINNINGS, len(items))
    for start in range(0, len(longer), most):
        rows = reading.beginnings(tx, account, longer[start : start + most], _LONGER_BEGINNING)
        for item in items:
            found[item].update(_fields_of(rows, item))
        if sum(map(len, told.values())) > _share(_PORTION, len(items)):
            break
    return found, [row[0] for row in left if row[0] not in told]


def _fields_of(rows: Iterable[Row], item: Section) -> dict[int, bytes]:
    """Of the messages that begin so, what is told of each whose header ends in that."""
    names = fields.names_of(item)
    return {
        email: literal
        for email, prologue, octets in rows
        if octets is not None and (literal := fields.literal_of_beginning(prologue, octets, names)) is not None
    }
