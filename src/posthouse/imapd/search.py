"""SEARCH, SORT and THREAD: the answers to a search of the open mailbox (RFC 9051 §6.4.4, RFC 5256, RFC 5267 §3)."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from posthouse.imapd import context, finding
from posthouse.imapd.criteria import Program
from posthouse.imapd.finding import Found, Result
from posthouse.imapd.refusal import uid_required
from posthouse.imapd.session import Session
from posthouse.mailbox import collation, columns, conversations, sorting
from posthouse.mailbox.conversations import Member, Node
from posthouse.mailbox.sorting import By
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.finding import Algorithm, Return, Returns, SortBy

_ALL: Final = Returns(frozenset({Return.ALL}))
_DONE: Final = "That is what was found"


async def search(session: Session, command: Command, asked: request.Search) -> None:
    """SEARCH and UID SEARCH."""
    returns = asked.returns or _ALL
    _begin(session, command, returns, uid=asked.uid)
    found, program = await finding.look(
        session, command.tag, asked.key, scored=Return.RELEVANCY in returns, saves=Return.SAVE in returns
    )
    await _answer(session, command, asked, found, found.uids, program)


async def sort(session: Session, command: Command, asked: request.Sort) -> None:
    """SORT and UID SORT."""
    returns = asked.returns or _ALL
    _begin(session, command, returns, uid=asked.uid)
    scored = Return.RELEVANCY in returns or any(key.by is SortBy.RELEVANCY for key in asked.sorts)
    found, program = await finding.look(session, command.tag, asked.key, scored=scored, saves=Return.SAVE in returns)
    sorts = tuple([sorting.Key(_BY[key.by], key.reverse) for key in asked.sorts])
    order = await sorting.sort(found.sight, found.uids, sorts, found.scores)
    await _answer(session, command, asked, found, order, program, sorts)


async def _answer(
    session: Session,
    command: Command,
    asked: request.Search | request.Sort,
    found: Found,
    order: Sequence[int],
    program: Program,
    sorts: tuple[sorting.Key, ...] = (),
) -> None:
    """Tell the uids that were found, in this order, as it was asked for, and keep what is to be kept of them."""
    returns, ordered = asked.returns or _ALL, isinstance(asked, request.Sort)
    if Return.SAVE in returns:
        finding.save(session, order, returns)
    result = finding.result(session, found, order, uid=asked.uid, ordered=ordered, program=program)
    if asked.returns is None and (ordered or not session.rev2):
        session.engine.send(_untagged(result, b"SORT" if ordered else b"SEARCH"))
    elif returns.answers:
        session.engine.send(response.esearch(command.tag, uid=asked.uid, items=result.items(returns)))
    if Return.UPDATE in returns:
        context.watch(session, command.tag, asked.uid, program, sorts, order, found.sight.snapshot, returns.items)
    # RFC 7162 §3.2.10.2: what went is not told by the UID forms either, where they ask by message numbers.
    await session.ok(command, _DONE, expunge=not program.counts)


def _untagged(result: Result, name: bytes) -> bytes:
    """The response of RFC 3501 and RFC 5256."""
    if result.modseqs and result.numbers:
        return response.search_modseq(result.numbers, result.highest(result.uids), command=name)
    return response.sort(result.numbers) if name == b"SORT" else response.search(result.numbers)


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


def _begin(session: Session, command: Command, returns: Returns, *, uid: bool) -> None:
    """Before the search: what it does to what others have left. Raises Senseless."""
    if session.uidonly and not uid:
        raise uid_required()
    if Return.UPDATE in returns:
        context.check(session, command.tag)


async def thread(session: Session, command: Command, asked: request.Thread) -> None:
    """THREAD and UID THREAD."""
    _begin(session, command, _ALL, uid=asked.uid)
    found, program = await finding.look(session, command.tag, asked.key)
    numbers = found.uids if asked.uid else session.open.view.seqs(found.uids)
    read = [await _column(found, kind) for kind in (columns.LINKS, columns.SORTING[collation.SUBJECT])]
    sent = await sorting.sent_dates(found.sight, found.uids)
    # In a thread: much mail is put together in a tenth of a second.
    session.engine.send(response.thread(await asyncio.to_thread(_threads, asked.algorithm, numbers, sent, *read)))
    await session.ok(command, _DONE, expunge=not program.counts)


async def _column(found: Found, kind: columns.Kind) -> list[Any]:
    return await columns.values(await found.sight.column(kind), found.uids)


def _threads(
    algorithm: Algorithm,
    numbers: Sequence[int],
    sent: Sequence[int | None],
    links: Sequence[Any],
    subjects: Sequence[Any],
) -> bytes:
    members = (
        Member(number, date, subject, *collation.read_links(linked))
        for number, date, linked, subject in zip(numbers, sent, links, subjects, strict=True)
        if date is not None and linked is not None and subject is not None
    )
    return written(_ALGORITHMS[algorithm](members))


_ALGORITHMS: Final = {
    Algorithm.ORDEREDSUBJECT: conversations.by_subject,
    Algorithm.REFERENCES: conversations.by_references,
    Algorithm.REFS: conversations.by_ancestors,
}


def written(roots: Sequence[Node]) -> bytes:
    """Threads as the response has them (RFC 5256 §5, thread-list): a reply behind what it answers, several replies in
    parentheses each."""
    pieces: list[bytes] = []
    waiting: list[Node | bytes] = list(reversed(roots))
    while waiting:
        node = waiting.pop()
        if isinstance(node, bytes):
            pieces.append(node)
            continue
        if node.number and not node.children:
            pieces.append(b"(%d)" % node.number)
            continue
        pieces.append(b"(")
        space = b""
        while node.number:
            pieces.append(b"%b%d" % (space, node.number))
            space = b" "
            if len(node.children) != 1:
                break
            (node,) = node.children
        if node.children:
            pieces.append(space)
        waiting.append(b")")
        waiting.extend(list(node.children)[::-1])
    return b"".join(pieces)
