"""SEARCH and SORT: the answers to a search of the open mailbox (RFC 9051 §6.4.4, RFC 5256, RFC 5267 §3)."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, ParamSpec, TypeVar

from posthouse.imapd import context, finding
from posthouse.imapd.criteria import Program
from posthouse.imapd.finding import Found, Result
from posthouse.imapd.refusal import uid_required
from posthouse.imapd.session import Session
from posthouse.mailbox import orders, sorting
from posthouse.mailbox.sorting import By
from posthouse.wire.imap import decimals, request, response
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.finding import Return, Returns, SortBy

ALL: Final = Returns(frozenset({Return.ALL}))
DONE: Final = "That is what was found"
# Numbers that are gone through at once.
_MANY: Final = 30_000

P = ParamSpec("P")
T = TypeVar("T")


async def search(session: Session, command: Command, asked: request.Search) -> None:
    """SEARCH and UID SEARCH."""
    returns = asked.returns or ALL
    begin(session, command, returns, uid=asked.uid)
    found, program = await finding.look(
        session, command.tag, asked.key, scored=Return.RELEVANCY in returns, saves=Return.SAVE in returns
    )
    await _answer(session, command, asked, found, found.uids, program)


async def sort(session: Session, command: Command, asked: request.Sort) -> None:
    """SORT and UID SORT."""
    returns = asked.returns or ALL
    begin(session, command, returns, uid=asked.uid)
    scored = Return.RELEVANCY in returns or any(key.by is SortBy.RELEVANCY for key in asked.sorts)
    saves = Return.SAVE in returns
    found, program = await finding.look(session, command.tag, asked.key, scored=scored, saves=saves, whole=True)
    sorts = tuple([sorting.Key(_BY[key.by], key.reverse) for key in asked.sorts])
    if any(key.by is By.SCORE for key in sorts):
        order: Sequence[int] = await sorting.sort(found.sight, found.uids.found(), sorts, found.scores)
        places = None
    else:
        order, places = await orders.sort(found.sight, found.uids, sorts, found.marks)
    await _answer(session, command, asked, found, order, program, sorts, places)


async def _answer(
    session: Session,
    command: Command,
    asked: request.Search | request.Sort,
    found: Found,
    order: Sequence[int],
    program: Program,
    sorts: tuple[sorting.Key, ...] = (),
    places: Sequence[int] | None = None,
) -> None:
    """Tell the uids that were found, in this order, as it was asked for, and keep what is to be kept of them. `places`:
    where they stand in the mailbox, where that is known."""
    returns, ordered = asked.returns or ALL, isinstance(asked, request.Sort)
    if Return.SAVE in returns:
        await _apart(order, finding.save, session, order, returns)
    result = finding.result(session, found, order, uid=asked.uid, ordered=ordered, program=program, places=places)
    if asked.returns is None and (ordered or not session.rev2):
        if found.cut:
            # RFC 9738 §3.1: from the last to the first.
            result = replace(result, numbers=result.numbers[::-1])
        await _tell(session, result, b"SORT" if ordered else b"SEARCH")
    elif returns.answers:
        items = await _apart(order, result.items, returns)
        session.engine.send(response.esearch(command.tag, uid=asked.uid, items=items))
    if Return.UPDATE in returns:
        whole = None if found.cut else order
        context.watch(session, command.tag, asked.uid, program, sorts, whole, found.sight.snapshot, returns.items)
    # RFC 7162 §3.2.10.2: what went is not told by the UID forms either, where they ask by message numbers.
    await session.ok(command, DONE, expunge=not program.counts, cut=found.cut)


async def _tell(session: Session, result: Result, name: bytes) -> None:
    """The response of RFC 3501 and RFC 5256, in pieces: others have their turn between two."""
    modseq = 0
    if result.modseqs and result.numbers:
        modseq = await _apart(result.uids, result.highest, result.uids)
    session.engine.send(response.numbers_start(name))
    for number, piece in enumerate(decimals.pieces(result.numbers)):
        if number:
            await session.pause()
        session.engine.send(piece)
    session.engine.send(response.numbers_end(modseq))


async def _apart(numbers: Sequence[int], work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Work that goes through these numbers; in a thread where there are many."""
    if len(numbers) <= _MANY:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


_BY: Final[Mapping[SortBy, By]] = {
    SortBy.ARRIVAL: By.ARRIVAL,
    SortBy.CC: By.CC,
    SortBy.DATE: By.SENT,
    SortBy.FROM: By.FROM,
    SortBy.SIZE: By.SIZE,
    SortBy.SUBJECT: By.SUBJECT,
    SortBy.TO: By.TO,
    SortBy.DISPLAYFROM: By.SHOWN_FROM,
    SortBy.DISPLAYTO: By.SHOWN_TO,
    SortBy.RELEVANCY: By.SCORE,
}


def begin(session: Session, command: Command, returns: Returns, *, uid: bool) -> None:
    """Before the search: what it does to what others have left. Raises Senseless."""
    if session.uidonly and not uid:
        raise uid_required()
    if Return.UPDATE in returns:
        context.check(session, command.tag)
