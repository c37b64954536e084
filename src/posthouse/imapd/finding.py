"""Finding messages for a client, and answering with them in the form that was asked for: what SEARCH, SORT and ESEARCH
have in common (RFC 9051 §6.4.4, RFC 4731, RFC 5182, RFC 5267, RFC 6203, RFC 7162 §3.1.5, RFC 9394, RFC 9585).

Promises: what others have expunged meanwhile is not found; message numbers stay what they are. What has come is told
before the search, and found. Whoever waits long hears how far it is.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Final

from posthouse.imapd import criteria, limit
from posthouse.imapd.criteria import Program
from posthouse.imapd.refusal import Refused
from posthouse.imapd.session import Session
from posthouse.mailbox import conditions, query
from posthouse.mailbox.conditions import Condition
from posthouse.mailbox.scan import Sight
from posthouse.mailbox.snapshot import Snapshot
from posthouse.mailbox.view import View
from posthouse.wire.imap import response, sequence
from posthouse.wire.imap import search as keys
from posthouse.wire.imap.decimals import Marked
from posthouse.wire.imap.finding import Return, Returns
from posthouse.wire.imap.sequence import ranges_of

# Between two words about a search that takes long (RFC 9585 §3: not more often than every 10 seconds).
TELL_SECONDS: Final = 10.0

# RFC 6203 §4: of what would be found without FUZZY too, and of the rest.
_RELEVANT: Final = 100
_LESS_RELEVANT: Final = 50


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found: uids in mailbox order, by which sight of the mailbox, and (RFC 6203 §4) how relevant
    each is, where that is asked for. `marks`: an octet for each message that the client knows, 1 for what was found;
    None where it knows some that are gone. `cut`: the code that says which were looked through, where not all were."""

    uids: Marked
    sight: Sight
    scores: Mapping[int, int]
    marks: bytes | None
    cut: bytes = b""

    def seqs(self, view: View) -> Sequence[int]:
        """The client's message numbers for these."""
        if self.marks is None:
            return view.seqs(self.uids.found())
        return Marked(range(1, len(self.marks) + 1), self.marks)


async def look(
    session: Session, tag: bytes, key: keys.Key, *, scored: bool = False, saves: bool = False, whole: bool = False
) -> tuple[Found, Program]:
    """Search the open mailbox; what was saved for `$` is dropped where the search `saves` anew. Raises Refused, also
    where it is to be looked through `whole` and there is too much of it; Senseless, StoreUnavailable."""
    try:
        program = await criteria.understood(session, key)
    except Refused:
        if saves:
            # RFC 5182 §2.1: empty where the search fails.
            session.open.saved = ()
        raise
    if program.asks_modseqs:
        session.heed_modseqs()
    # RFC 9051 §6.4.4 leaves open whether what came meanwhile is found; a client that hears of it beside the answer
    # believes it to be searched, so it is told before, as Cyrus does.
    await session.tell_arrivals()
    view = session.open.view
    # Taken together: while this waits, the view may be brought to a later snapshot.
    snapshot, uids = view.snapshot, view.live_uids()
    condition = criteria.condition(session, program)
    exact = criteria.condition(session, program, exact=True) if scored else condition
    if saves:
        session.open.saved = ()
    first, cut = limit.last_searched(session, condition, uids)
    if cut and whole:
        # RFC 9738 §3.3
        raise limit.too_many(cut)
    # Numbers stay what they are until this is answered; what goes meanwhile is still counted.
    counted = not view.ghosts
    found_at = bytes(first) + await marks(session, tag, snapshot, uids[first:] if first else uids, condition)
    found = Marked(uids, found_at)
    relevance: dict[int, int] = {}
    if scored:
        relevance = scores(found, await search(session, tag, snapshot, found.found(), exact))
    sight = Sight(snapshot, session.around.columns)
    return Found(found, sight, relevance, found_at if counted else None, cut), program


def scores(found: Sequence[int], certain: Iterable[int]) -> dict[int, int]:
    """How relevant each message is, of which those are found without FUZZY too."""
    known = set(certain)
    return {uid: _RELEVANT if uid in known else _LESS_RELEVANT for uid in found}


async def search(
    session: Session, tag: bytes, snapshot: Snapshot, uids: Sequence[int], condition: Condition
) -> list[int]:
    """Those of these uids of a mailbox for which the condition holds, in order. Raises StoreUnavailable."""
    return list(compress(uids, await marks(session, tag, snapshot, uids, condition)))


async def marks(session: Session, tag: bytes, snapshot: Snapshot, uids: Sequence[int], condition: Condition) -> bytes:
    """The same: an octet for each of these uids, 1 where it holds. Raises StoreUnavailable."""
    if condition == conditions.EVERYTHING:
        return b"\1" * len(uids)
    around = session.around
    sight = Sight(snapshot, around.columns)
    return await query.search(around.store, around.blobs, sight, condition, uids, progress=Progress(session, tag))


class Progress:
    """Tells a client that waits how far its command is (RFC 9585)."""

    def __init__(self, session: Session, tag: bytes, doing: str = "Searching") -> None:
        self._session = session
        self._tag = tag
        self._doing = doing
        self._next = asyncio.get_running_loop().time() + TELL_SECONDS

    async def __call__(self, done: int, goal: int) -> None:
        """So many of so many messages are done."""
        now = asyncio.get_running_loop().time()
        if now < self._next or done >= goal:
            return
        self._next = now + TELL_SECONDS
        self._session.engine.send(response.ok(self._doing, response.inprogress(self._tag, done, goal)))
        await self._session.flush()


def save(session: Session, found: Sequence[int], returns: Returns) -> None:
    """Keep what `$` is to be (RFC 5182 §2.1): with MIN, MAX and PARTIAL only those, unless ALL or COUNT stand beside
    them."""
    kept = list(found)
    narrower = returns.options & {Return.MIN, Return.MAX, Return.PARTIAL}
    if found and narrower and not returns.options & {Return.ALL, Return.COUNT}:
        kept = returns.partial.of(found) if returns.partial is not None else []
        kept += [found[0]] if Return.MIN in returns else []
        kept += [found[-1]] if Return.MAX in returns else []
    session.open.saved = ranges_of(sorted(set(kept)))


@dataclass(frozen=True, slots=True)
class Result:
    """What is to be told: uids in the order that was asked for, numbers as the client counts, in the same order."""

    uids: Sequence[int]
    numbers: Sequence[int]
    ordered: bool
    scores: Mapping[int, int]
    snapshot: Snapshot
    modseqs: bool

    def items(self, returns: Returns) -> list[tuple[bytes, bytes]]:
        """The data of an ESEARCH response."""
        numbers = self.numbers
        items: list[tuple[bytes, bytes]] = []
        if numbers and Return.MIN in returns:
            items.append((b"MIN", b"%d" % numbers[0]))
        if numbers and Return.MAX in returns:
            items.append((b"MAX", b"%d" % numbers[-1]))
        if Return.COUNT in returns:
            items.append((b"COUNT", b"%d" % len(numbers)))
        if numbers and Return.ALL in returns:
            items.append((b"ALL", self._set(numbers)))
        if returns.partial is not None:
            some = returns.partial.of(numbers)
            items.append((b"PARTIAL", b"(%b %b)" % (returns.partial.asked, self._set(some) if some else b"NIL")))
        if numbers and Return.RELEVANCY in returns:
            uids = self.uids if returns.partial is None else returns.partial.of(self.uids)
            items.append((b"RELEVANCY", b"(%b)" % b" ".join([b"%d" % self.scores[uid] for uid in uids])))
        if numbers and self.modseqs:
            items.append((b"MODSEQ", b"%d" % self._highest(returns)))
        return items

    def _set(self, numbers: Sequence[int]) -> bytes:
        some = numbers.found() if isinstance(numbers, Marked) else numbers
        return sequence.in_order(some) if self.ordered else sequence.compress(some)

    def _highest(self, returns: Returns) -> int:
        """RFC 7162 §3.1.5: where only MIN and MAX are asked for, of those; else of all that was found."""
        if returns.options <= {Return.MIN, Return.MAX, Return.SAVE}:
            ends = [self.uids[0]] if Return.MIN in returns else []
            ends += [self.uids[-1]] if Return.MAX in returns else []
            return self.highest(ends or self.uids)
        return self.highest(self.uids)

    def highest(self, uids: Sequence[int]) -> int:
        """The highest modseq of these."""
        places = [self.snapshot.find(uid) for uid in uids]
        return max(self.snapshot.modseqs[place] for place in places if place is not None)


def result(
    session: Session,
    found: Found,
    order: Sequence[int],
    *,
    uid: bool,
    ordered: bool,
    program: Program,
    places: Sequence[int] | None = None,
) -> Result:
    """What was found, in the order that it is to be told. `places`: at which places in the snapshot they stand, in the
    same order, where these are the client's numbers."""
    view = session.open.view
    if uid:
        numbers: Sequence[int] = order
    elif places is not None:
        numbers = places
    elif ordered:
        known = dict(zip(found.uids, found.seqs(view), strict=True))
        numbers = [known[one] for one in order]
    else:
        numbers = found.seqs(view)
    return Result(order, numbers, ordered, found.scores, found.sight.snapshot, program.asks_modseqs)
