"""What a FETCH needs of its messages, read some at a time, in columns.

Promises: no transaction outlives a portion. For a client, who may be slow, 512 KB of octets are in memory at most, or
one large message. Content is found also of messages that others have expunged and this client has not heard
of; a message that is gone for good is left out (RFC 9051 §7.5.1 allows it). Fields of headers that were answered before
are not read again.
Refuses: to say anything to the client, and to read ahead while it takes what was read: a reader needs the interpreter
for each row, and beside a loop that has it both took twice as long.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Final, NamedTuple

from posthouse.imapd import fields
from posthouse.imapd.session import Session
from posthouse.limits import KB
from posthouse.mailbox import emails, reading
from posthouse.mailbox.emails import Content
from posthouse.mailbox.reading import Preview, Renderings, Values, Wholes
from posthouse.mailbox.view import Entry
from posthouse.store.database import Tx
from posthouse.wire.imap.fetch import Attribute, Item, Section, Text

# Messages of which values are read at once: a millisecond of a reader, as much of the loop.
LOT: Final = 500
# Octets of messages that are read at once: small ones come with their rows.
_PORTION: Final = 512 * KB
# So few messages are read without looking at their sizes first.
_FEW: Final = 3

# What items are read from that neither the placement says nor the octets.
_OF_ROW: Final = frozenset({Attribute.THREADID, Attribute.INTERNALDATE, Attribute.SIZE, Attribute.PREVIEW})
_OF_RENDERING: Final = frozenset({Attribute.ENVELOPE, Attribute.BODYSTRUCTURE})
VALUES: Final = frozenset(Attribute) - {Attribute.BODY}


class Placed(NamedTuple):
    """Placements, as `Entry` has them, in columns."""

    seqs: Sequence[int]
    uids: Sequence[int]
    emails: Sequence[int]
    flags: Sequence[int]
    modseqs: Sequence[int]

    @staticmethod
    def of(entries: Sequence[Entry]) -> "Placed":
        """The columns of these."""
        return Placed(*zip(*entries, strict=True)) if entries else _NONE

    def without(self, gone: Collection[int]) -> "Placed":
        """All but those of these emails."""
        chosen = [email not in gone for email in self.emails]
        return Placed(*[tuple(compress(column, chosen)) for column in self])


_NONE: Final = Placed((), (), (), (), ())
_NO_VALUES: Final = Values((), (), (), (), ())
_NO_RENDERINGS: Final = Renderings((), ())


class Known(NamedTuple):
    """A portion of messages and what the asked items need of each. `values`, `renderings` and `wholes` are of one
    length with the placements; contents, as what is kept, are by email, previews by message, save dates by uid. What
    nobody asked for is empty."""

    placed: Placed
    values: Values = _NO_VALUES
    renderings: Renderings = _NO_RENDERINGS
    wholes: Wholes | None = None
    contents: Mapping[int, Content] = {}
    previews: Mapping[int, Preview] = {}
    saved: Mapping[int, int] = {}
    kept: Mapping[Item, Mapping[int, bytes]] = {}


@dataclass(frozen=True, slots=True)
class _Needs:
    """What has to be read for the items that were asked for. `whole`: of contents all octets and
    nothing else; `fields`: nothing but fields of headers."""

    values: bool
    renderings: bool
    contents: bool
    whole: bool
    previews: bool
    saved: bool
    fields: tuple[Section, ...]


def _needs(items: Sequence[Item]) -> _Needs:
    opened = [item for item in items if item not in VALUES]
    rendered = not _OF_RENDERING.isdisjoint(items)
    return _Needs(
        values=rendered or not _OF_ROW.isdisjoint(items),
        renderings=rendered,
        contents=bool(opened),
        whole=len(opened) == 1 and is_whole(opened[0]),
        previews=Attribute.PREVIEW in items,
        saved=Attribute.SAVEDATE in items,
        fields=tuple([item for item in opened if isinstance(item, Section)])
        if all(map(fields.is_of_header, opened))
        else (),
    )


def is_whole(item: Item) -> bool:
    """Is it all octets of a message?"""
    return isinstance(item, Section) and item.text is Text.WHOLE and not item.part and item.partial is None


async def read(session: Session, chunks: Iterable[list[Entry]], items: Sequence[Item]) -> AsyncGenerator[Known, None]:
    """The messages of these chunks, in portions. Raises NoPermission, StoreUnavailable."""
    needs = _needs(items)
    for chunk in chunks:
        if not chunk:
            await asyncio.sleep(0)
        elif needs.contents:
            async for known in _read_contents(session, Placed.of(chunk), needs):
                yield known
        else:
            yield await _read_known(session, Placed.of(chunk), needs, (), {})


async def _read_contents(session: Session, chunk: Placed, needs: _Needs) -> AsyncGenerator[Known, None]:
    """Messages with octets: as many at a time as may be in memory for one client."""
    kept = _kept(session, needs)
    if kept:
        lists = list(kept.values())
        unknown = [email for email in chunk.emails if not all(email in one for one in lists)]
    else:
        unknown = list(chunk.emails)
    if len(unknown) <= _FEW:
        yield await _read_known(session, chunk, needs, unknown, kept)
        return
    sizes = await session.look(reading.sizes, unknown)
    wanted = set(unknown)
    for some in _portions(chunk, sizes, wanted):
        yield await _read_known(session, some, needs, [email for email in some.emails if email in wanted], kept)


def _kept(session: Session, needs: _Needs) -> dict[Item, Mapping[int, bytes]]:
    """What was answered to the same before. In another's mailbox nothing: there each look asks whether it may."""
    if session.away:
        return {}
    return {item: session.around.fields.of(session.owner, fields.names_of(item)) for item in needs.fields}


def _portions(chunk: Placed, sizes: Mapping[int, int], wanted: Collection[int]) -> Iterator[Placed]:
    """Runs of these messages, those that are wanted being no larger than a portion together."""
    start = octets = 0
    for index, email in enumerate(chunk.emails):
        size = sizes.get(email, 0) if email in wanted else 0
        if octets and octets + size > _PORTION:
            yield Placed(*[column[start:index] for column in chunk])
            start, octets = index, 0
        octets += size
    yield Placed(*[column[start:] for column in chunk])


async def _read_known(
    session: Session, placed: Placed, needs: _Needs, opened: Sequence[int], kept: Mapping[Item, Mapping[int, bytes]]
) -> Known:
    """These messages; those of `opened` with their contents."""
    if not (opened or needs.values or needs.saved):
        return Known(placed, kept=kept)
    found = await session.look(_look, session.open.mailbox, placed, needs, opened)
    there: set[int] = set()
    if opened:
        there.update(found.contents if found.wholes is None else found.wholes.emails)
    gone = set(opened) - there
    if needs.values and len(found.values.emails) < len(placed.emails):
        gone |= set(placed.emails).difference(found.values.emails)
    if gone:
        # Read again without them, so that all columns have one length; it happens once in a life.
        placed, opened = placed.without(gone), [email for email in opened if email not in gone]
        return await _read_known(session, placed, needs, opened, kept) if placed.emails else Known(_NONE)
    return found._replace(placed=placed, kept=kept)


def _look(tx: Tx, account: int, mailbox: int, placed: Placed, needs: _Needs, opened: Sequence[int]) -> Known:
    """What has been found, in one look."""
    values = reading.values(tx, account, placed.emails) if needs.values else _NO_VALUES
    wholes = reading.wholes(tx, account, opened) if needs.whole else None
    return Known(
        placed,
        values,
        reading.renderings(tx, values.messages) if needs.renderings else _NO_RENDERINGS,
        wholes,
        emails.contents(tx, account, opened) if opened and wholes is None else {},
        reading.previews(tx, values.messages) if needs.previews else {},
        reading.save_dates(tx, account, mailbox, placed.uids) if needs.saved else {},
    )
