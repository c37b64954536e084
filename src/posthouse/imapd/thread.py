"""THREAD: the messages of a search put together (RFC 5256 §4, §5).

Promises: what the conversations of a mailbox were is kept, and told again as long as the same messages are found: what
a message says of itself never changes. Where a few have come or gone, only those are put together anew that are linked
to these; what is told is what would be made afresh.
"""

import asyncio
import gc
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from posthouse.imapd import finding
from posthouse.imapd.forest import Forest, Trees, mended, packed
from posthouse.imapd.search import ALL, DONE, begin
from posthouse.imapd.session import Session
from posthouse.mailbox import collation, columns, conversations, sorting
from posthouse.mailbox.columns import Lists, Texts
from posthouse.mailbox.conversations import Member, Room
from posthouse.mailbox.kin import Kin
from posthouse.mailbox.scan import Sight
from posthouse.wire.imap import request, response
from posthouse.wire.imap.decimals import Marked
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.finding import Algorithm

# Octets that a forest takes for a message: three numbers, what stands around one in the answer, and a tree's part.
_OCTETS: Final = 32
# Messages that came and went, up to which a forest is mended.
_FEW: Final = 50
# More messages than these are much.
_MUCH: Final = 30_000
# Messages that are looked at in one step of C.
_STEP: Final = 16_384


async def thread(session: Session, command: Command, asked: request.Thread) -> None:
    """THREAD and UID THREAD."""
    begin(session, command, ALL, uid=asked.uid)
    found, program = await finding.look(session, command.tag, asked.key, whole=True)
    numbers = found.uids if asked.uid else found.seqs(session.open.view)
    uids = _numbers(found.uids)
    forest = await grown(found.sight, uids if isinstance(uids, array) else array("I", uids), asked.algorithm)
    if len(forest.uids) < len(found.uids):
        # Without what is gone meanwhile.
        known = dict(zip(found.uids, numbers, strict=True))
        numbers = [known[uid] for uid in forest.uids]
    session.engine.send(response.numbers_start(b"THREAD"))
    space = b" "
    for piece in forest.pieces(_numbers(numbers)):
        session.engine.send(space, piece)
        space = b""
        await session.pause()
    session.engine.send(response.numbers_end())
    await session.ok(command, DONE, expunge=not program.counts)


def _numbers(found: Sequence[int]) -> Sequence[int]:
    """The same, soon to be looked up; of all that there are, as they lie there."""
    if not isinstance(found, Marked):
        return found
    return found.numbers if len(found) == len(found.numbers) else found.found()


async def grown(sight: Sight, uids: "array[int]", algorithm: Algorithm) -> Forest:
    """The conversations of these messages of a mailbox, which ascend; of those that are gone meanwhile without them.
    Raises StoreUnavailable."""
    snapshot, kept = sight.snapshot, sight.columns.kept
    # What is asked of all, and what of some, are different questions.
    name = snapshot.mailbox, snapshot.uidvalidity, algorithm, len(uids) == len(snapshot)
    before: Forest | None = kept.get(snapshot.account, name)
    if before is not None and before.uids == uids:
        return before
    forest = None if before is None else await _mended(sight, uids, before)
    if forest is None:
        said = await _Said.of(sight, uids)
        # In a thread: much mail is put together in a tenth of a second.
        with _collecting_less(len(uids)):
            forest = await asyncio.to_thread(_made, algorithm, said)
    if len(forest.uids) == len(uids):
        kept.put(snapshot.account, name, forest, _OCTETS * len(uids))
    return forest


@contextmanager
def _collecting_less(count: int) -> Iterator[None]:
    """Where there is much, the collector of garbage would go through all of it again and again, and hold everybody up
    for a second each time. There is none to find."""
    if count <= _MUCH:
        yield
        return
    _large.append(count)
    gc.disable()
    try:
        yield
    finally:
        _large.remove(count)
        if not _large:
            gc.enable()


# The large ones under way.
_large: Final[list[int]] = []


class _Said:
    """What some messages say of themselves."""

    def __init__(
        self, uids: Sequence[int], sent: Sequence[int | None], links: Sequence[Any], subjects: Sequence[Any]
    ) -> None:
        self._columns = uids, sent, links, subjects

    @classmethod
    async def of(cls, sight: Sight, uids: Sequence[int]) -> "_Said":
        """Of these messages. Raises StoreUnavailable."""
        links, subjects = [await columns.values(await sight.column(kind), uids) for kind in (columns.LINKS, _SUBJECTS)]
        return cls(uids, await sorting.sent_dates(sight, uids), links, subjects)

    def members(self) -> Iterator[tuple[int, Member]]:
        """As what they are put together, and their uids. Those that are gone are not among them."""
        for uid, sent, links, subject in zip(*self._columns, strict=True):
            if sent is not None and links is not None and subject is not None:
                yield uid, Member(uid, sent, subject, *collation.read_links(links))


_SUBJECTS: Final = columns.SORTING[collation.SUBJECT]


def _made(algorithm: Algorithm, said: _Said) -> Forest:
    uids = array("I")
    trees, room = _together(algorithm, said, uids)
    return Forest.of(uids, trees, room)


def _together(algorithm: Algorithm, said: _Said, uids: "array[int]") -> tuple[Trees, Room | None]:
    """The trees; and the uids of all that are there."""

    def members() -> Iterator[Member]:
        for uid, member in said.members():
            uids.append(uid)
            yield member

    room: Room | None = None
    match algorithm:
        case Algorithm.ORDEREDSUBJECT:
            roots = conversations.by_subject(members())
        case Algorithm.REFS:
            roots = conversations.by_ancestors(members())
        case Algorithm.REFERENCES:
            roots, room = conversations.references(members())
    trees = packed(roots)
    # Nothing that goes in a circle is left for the collector.
    conversations.part(roots)
    return trees, room if room is not None and room.wide else None


async def _mended(sight: Sight, uids: "array[int]", before: Forest) -> Forest | None:
    """The forest of these messages, made of one that has most of them; None where it is to be made afresh."""
    if before.room is None or abs(len(uids) - len(before.uids)) > _FEW:
        return None
    links = await sight.column(columns.LINKS)
    subjects = await sight.column(_SUBJECTS)
    assert isinstance(links, Lists)
    assert isinstance(subjects, Texts)
    change = await asyncio.to_thread(_changed, before.uids, uids, links, subjects)
    if change is None:
        return None
    return await asyncio.to_thread(_mend, before, uids, change, await _Said.of(sight, change.left))


class _Change(NamedTuple):
    """What has come, how many went; all that are linked to these, and which of them are still there."""

    come: set[int]
    gone: int
    touched: set[int]
    left: list[int]


def _changed(before: "array[int]", uids: "array[int]", links: Lists, subjects: Texts) -> _Change | None:
    """What leads from some messages to others; None: too much."""
    apart = _apart(before, uids)
    if apart is None:
        return None
    come, gone = apart
    every = before[:]
    for uid in come:
        every.insert(bisect_left(every, uid), uid)
    linked: list[bytes] = []
    # In steps: in C each is done at once, and others have a turn between two.
    for start in range(0, len(every), _STEP):
        some = links.of(every[start : start + _STEP])
        linked += [one for one in some if one is not None]
    if len(linked) < len(every):
        return None
    places = [bisect_left(every, uid) for uid in [*come, *gone]]
    found = Kin(every, linked, subjects).of(places)
    if found is None:
        return None
    touched = {every[place] for place in found}
    return _Change(come, len(gone), touched, sorted(touched - gone))


def _apart(before: "array[int]", now: "array[int]") -> tuple[set[int], set[int]] | None:
    """What stands only in the second of two columns that ascend, and only in the first; None: too much."""
    come, gone = set[int](), set[int]()
    at = there = 0
    while at < len(before) or there < len(now):
        same = _same(before, at, now, there)
        at, there = at + same, there + same
        if at < len(before) and (there == len(now) or before[at] < now[there]):
            gone.add(before[at])
            at += 1
        elif there < len(now):
            come.add(now[there])
            there += 1
        if len(come) + len(gone) > _FEW:
            return None
    return come, gone


def _same(one: "array[int]", at: int, other: "array[int]", there: int) -> int:
    """How many numbers are the same in two columns, from these places on."""
    same, most = 0, min(len(one) - at, len(other) - there)
    step = _STEP
    while step and same < most:
        if one[at + same : at + same + step] == other[there + same : there + same + step]:
            same += step
        else:
            step //= 2
    return min(same, most)


def _mend(before: Forest, uids: "array[int]", change: _Change, said: _Said) -> Forest | None:
    there = array("I")
    trees, part = _together(Algorithm.REFERENCES, said, there)
    named = sum([len(member.ancestors) for uid, member in said.members() if uid in change.come])
    if len(there) != len(change.left) or part is None or before.room is None:
        return None
    room = before.room.after(part, change.gone, named)
    if not room.wide:
        return None
    return Forest.of(uids, mended(before.trees, before.trees.without(change.touched), trees), room)
