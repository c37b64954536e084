"""Results of a search that are kept up to date (RFC 5267 §4.3): UPDATE and CANCELUPDATE.

Promises: what leaves a result because it is expunged is told before EXPUNGE, what comes into one behind EXISTS, so that
message numbers are good (§4.3.3, §4.3.4). A change costs a look at what has changed, not at the mailbox. A result is
held as packed uids: 4 octets a message.
Refuses: to follow the clock: what OLDER and YOUNGER mean is settled when the search is asked. To follow searches that
count messages ("*", message numbers, "$"): they get NOUPDATE.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from posthouse.imapd import criteria, fetch, finding
from posthouse.imapd.around import Selected
from posthouse.imapd.criteria import Program
from posthouse.imapd.refusal import Refused, Senseless
from posthouse.imapd.session import Session
from posthouse.limits import IMAP_CONTEXT_MESSAGES, IMAP_CONTEXTS
from posthouse.mailbox import sorting
from posthouse.mailbox.scan import Sight
from posthouse.mailbox.snapshot import Snapshot
from posthouse.mailbox.view import View
from posthouse.wire.imap import request, response, sequence
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.fetch import Item

# More changes than these to an ordered result are told as a new one.
_MANY: Final = 200
# Up to one in so many are looked up one by one.
_FEW: Final = 10

# What is told: a name, a position (0: wherever they are) and uids in order.
_Update = tuple[bytes, int, Sequence[int]]


def check(session: Session, tag: bytes) -> None:
    """Raises Senseless: a tag names one result (RFC 5267 §4.3)."""
    watched = session.open.watched
    if isinstance(watched, Watched) and watched.knows(tag):
        raise Senseless("This tag is in use for results that are watched")


def watch(
    session: Session,
    tag: bytes,
    uid: bool,
    program: Program,
    sorts: Sequence[sorting.Key],
    found: Sequence[int] | None,
    snapshot: Snapshot,
    items: tuple[Item, ...],
) -> None:
    """Keep a result up to date from now on, or say that it is not: as where not all of it was `found`. `items`: what to
    tell of new messages in it."""
    opened = session.open
    if not isinstance(opened.watched, Watched):
        opened.watched = Watched(session, opened)
    # A score is of the search that was asked, and not kept.
    lasting = program.lasting and all(key.by is not sorting.By.SCORE for key in sorts)
    kept = False
    if found is not None and lasting:
        result = _Result(tag, uid, program, tuple(sorts), array("I", found), snapshot.modseq, items)
        kept = opened.watched.watch(result)
    if not kept:
        session.engine.send(response.no("These results are not watched", response.noupdate(tag)))


async def cancel(session: Session, command: Command, asked: request.CancelUpdate) -> None:
    """CANCELUPDATE: RFC 5267 §4.3.5."""
    watched = session.open.watched
    if not isinstance(watched, Watched) or not all(watched.knows(tag) for tag in asked.tags):
        raise Refused("No results are watched under this tag")
    watched.cancel(asked.tags)
    await session.ok(command, "No longer watched")


@dataclass(slots=True)
class _Result:
    """One result: what was asked, and what the client has been told of: uids in order of `sorts`, or ascending. Of
    changes up to `heard`, and of uids below `upto`."""

    tag: bytes
    uid: bool
    program: Program
    sorts: tuple[sorting.Key, ...]
    told: "array[int]"
    heard: int
    items: tuple[Item, ...]
    upto: int = 0

    def members(self) -> "array[int]":
        """The uids in ascending order."""
        return array("I", sorted(self.told)) if self.sorts else self.told


class Watched:
    """The watched results of an open mailbox."""

    def __init__(self, session: Session, opened: Selected) -> None:
        self._session = session
        self._opened = opened
        self._results: dict[bytes, _Result] = {}
        self._seen: tuple[Snapshot, int] | None = None

    def knows(self, tag: bytes) -> bool:
        """Is a result watched under this tag?"""
        return tag in self._results

    def watch(self, result: _Result) -> bool:
        """Watch one more; False where there are too many, or too many messages in them."""
        messages = len(result.told) + sum([len(other.told) for other in self._results.values()])
        if len(self._results) >= IMAP_CONTEXTS or messages > IMAP_CONTEXT_MESSAGES:
            return False
        result.upto = self._opened.view.known
        self._results[result.tag] = result
        self._seen = None
        return True

    def cancel(self, tags: Iterable[bytes]) -> None:
        """Watch these no longer."""
        for tag in tags:
            self._results.pop(tag, None)

    def leave(self, uids: Sequence[int]) -> bool:
        """These are about to be told as gone (RFC 5267 §4.3.4): tell of one result what leaves it. False where none has
        any of them."""
        gone = set(uids)
        for result in self._results.values() if gone else ():
            if not gone.isdisjoint(result.told):
                self._tell(result, list(_removals(result, gone)))
                result.told = array("I", [uid for uid in result.told if uid not in gone])
                return True
        return False

    async def settle(self) -> None:
        """Tell what has come and gone. Raises StoreUnavailable."""
        view = self._opened.view
        seen = view.snapshot, view.known
        if not self._results or self._seen == seen:
            return
        # Taken together: the view may be brought on while this waits.
        uids = view.live_uids()
        snapshot, known = seen
        for result in list(self._results.values()):
            await self._settle(result, snapshot, uids)
            result.heard, result.upto = snapshot.modseq, known
        self._seen = seen

    async def _settle(self, result: _Result, snapshot: Snapshot, uids: "array[int]") -> None:
        heard, upto = result.heard, result.upto
        looked = [
            uid
            for uid, modseq in zip(uids, snapshot.modseqs[: len(uids)], strict=True)
            if modseq > heard or uid >= upto
        ]
        if not looked:
            return
        # There may be keywords now that were none, and uids that were above the last.
        result.program = await criteria.renewed(self._session, result.program)
        condition = criteria.condition(self._session, result.program)
        holds = await finding.search(self._session, result.tag, snapshot, looked, condition)
        members = result.members()
        were = _common(looked, members)
        come, gone = set(holds).difference(were), set(were).difference(holds)
        if not come and not gone:
            return
        if result.items:
            # RFC 5465 §7: behind EXISTS, in front of ESEARCH.
            new = [entry for uid in sorted(come) if uid >= upto for entry in self._opened.view.by_uid(uid, uid)]
            await fetch.tell(self._session, new, result.items)
        if result.sorts:
            kept = _common([uid for uid in members if uid not in gone], uids)
            order = await sorting.sort(
                Sight(snapshot, self._session.around.columns), sorted([*kept, *come]), result.sorts
            )
            self._reorder(result, order, come, gone)
        else:
            self._tell(result, [*_removals(result, gone), *([(b"ADDTO", 0, sorted(come))] if come else [])])
            result.told = array("I", sorted(set(members).difference(gone).union(come)))

    def _reorder(self, result: _Result, order: Sequence[int], come: set[int], gone: set[int]) -> None:
        if len(come) + len(gone) > _MANY:
            updates: list[_Update] = [(b"REMOVEFROM", 1, result.told.tolist())] if result.told else []
            self._tell(result, [*updates, *([(b"ADDTO", 1, order)] if order else [])])
            result.told = array("I", order)
            return
        updates = list(_removals(result, gone))
        left = [uid for uid in result.told if uid not in gone]
        now: list[int] = []
        at = 0
        for uid in order:
            if uid in come:
                updates.append((b"ADDTO", len(now) + 1, [uid]))
            else:
                # What the client still knows, though it is gone, keeps its place.
                while left[at] != uid:
                    now.append(left[at])
                    at += 1
                at += 1
            now.append(uid)
        self._tell(result, updates)
        result.told = array("I", [*now, *left[at:]])

    def _tell(self, result: _Result, updates: Sequence[_Update]) -> None:
        view = self._opened.view
        # RFC 9586 §3: once UIDONLY is enabled, nothing is told by number.
        by_uid = result.uid or self._session.uidonly
        items: list[tuple[bytes, bytes]] = []
        for name, position, uids in updates:
            numbers = uids if by_uid else _numbers(view, uids)
            items.append((name, b"(%d %b)" % (position, sequence.in_order(numbers))))
        if items:
            self._session.engine.send(response.esearch(result.tag, uid=by_uid, items=items))


def _removals(result: _Result, gone: set[int]) -> Iterator[_Update]:
    """What is to be told of uids that leave a result: of an ordered one by their places, the last ones first, so that
    none moves another."""
    if not result.sorts:
        left = [uid for uid in result.told if uid in gone]
        if left:
            yield b"REMOVEFROM", 0, left
        return
    stop = 0
    for place in range(len(result.told), -1, -1):
        if place and result.told[place - 1] in gone:
            stop = stop or place
        elif stop:
            yield b"REMOVEFROM", place + 1, result.told[place:stop]
            stop = 0


def _numbers(view: View, uids: Sequence[int]) -> list[int]:
    """By what numbers the client knows these."""
    ordered = sorted(uids)
    places = dict(zip(ordered, view.seqs(ordered), strict=True))
    return [places[uid] for uid in uids]


def _common(uids: Sequence[int], members: "array[int]") -> list[int]:
    """Those of these uids that are among the others, which ascend."""
    if len(uids) * _FEW < len(members):
        places = [(uid, bisect_left(members, uid)) for uid in uids]
        return [uid for uid, place in places if place < len(members) and members[place] == uid]
    known = set(members)
    return [uid for uid in uids if uid in known]
