"""ESEARCH: a search of several mailboxes at once (RFC 7377).

Promises: each mailbox in which something is found has one answer, with its name and uidvalidity, by uid; one that is
named twice is searched once, one that is not there passed over. Others have their turn between two mailboxes.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from posthouse.imapd import context, criteria, finding, limit
from posthouse.imapd.criteria import Program
from posthouse.imapd.finding import Result
from posthouse.imapd.refusal import Refused, Senseless
from posthouse.imapd.session import Session
from posthouse.mailbox import mailboxes
from posthouse.mailbox.mailboxes import SEPARATOR
from posthouse.mailbox.model import Mailbox, NoSuchMailbox
from posthouse.terms.inbox import at_top
from posthouse.wire.imap import request, response
from posthouse.wire.imap import search as keys
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.finding import Mailboxes, Return, Returns, Source
from posthouse.wire.imap.response import Code

_ALL: Final = Returns(frozenset({Return.ALL}))


async def esearch(session: Session, command: Command, asked: request.MultiSearch) -> None:
    """ESEARCH: RFC 7377 §2.1."""
    returns = asked.returns or _ALL
    sources = asked.sources or (Mailboxes(Source.SELECTED),)
    alone = all(one.source is Source.SELECTED for one in sources)
    if session.selected is None and any(one.source is Source.SELECTED for one in sources):
        raise Senseless("No mailbox is open")
    if Return.SAVE in returns and not alone:
        # RFC 7377 §2.2: what is saved are messages of the open mailbox.
        raise Senseless("SAVE goes with the open mailbox only")
    if any(isinstance(one, keys.Numbers) and not (alone and one.uid) for one in keys.every(asked.key)):
        raise Senseless("Numbers and UIDs mean nothing in several mailboxes")
    if Return.UPDATE in returns and session.selected is not None:
        context.check(session, command.tag)
    tree = await session.read(mailboxes.list_mailboxes)
    cut = b""
    if alone:
        cut = await _in_open(session, command, asked, returns, tree)
    else:
        await _in_many(session, command, asked, returns, _chosen(session, sources, tree))
    await session.ok(command, "That is what was found", cut=cut)


async def _in_open(
    session: Session, command: Command, asked: request.MultiSearch, returns: Returns, tree: Sequence[Mailbox]
) -> bytes:
    found, program = await finding.look(
        session, command.tag, asked.key, scored=Return.RELEVANCY in returns, saves=Return.SAVE in returns
    )
    if Return.SAVE in returns:
        finding.save(session, found.uids, returns)
    result = finding.result(session, found, found.uids, uid=True, ordered=False, program=program)
    if returns.answers:
        own = next((one.path for one in tree if session.has_open(one.id)), session.open.path)
        _answer(session, command, own, result, returns)
    if Return.UPDATE in returns:
        whole = None if found.cut else found.uids
        context.watch(session, command.tag, True, program, (), whole, found.sight.snapshot, returns.items)
    return found.cut


async def _in_many(
    session: Session, command: Command, asked: request.MultiSearch, returns: Returns, chosen: Sequence[Mailbox]
) -> None:
    if session.away:
        # What is one's own has other keywords.
        raise Refused("Close the mailbox that another shares, to search in several of your own", Code.CANNOT)
    program = await criteria.understood(session, asked.key)
    if program.names_messages:
        raise Senseless("Numbers and UIDs mean nothing in several mailboxes")
    # A uid would not say how far it came: all or none, where RFC 9738 says nothing.
    limit.require(session, sum([mailbox.messages for mailbox in chosen]))
    if program.asks_modseqs:
        session.heed_modseqs()
    if Return.UPDATE in returns:
        # RFC 5267 §4.3.1: only what is open is watched.
        session.engine.send(response.no("These results are not watched", response.noupdate(command.tag)))
    progress = finding.Progress(session, command.tag)
    for number, mailbox in enumerate(chosen):
        await progress(number, len(chosen))
        try:
            result = await _result(session, command, mailbox, program, returns)
        except NoSuchMailbox:
            # It was deleted meanwhile.
            continue
        if result.uids and returns.answers:
            _answer(session, command, mailbox.path, result, returns)
        await session.pause()


async def _result(session: Session, command: Command, mailbox: Mailbox, program: Program, returns: Returns) -> Result:
    snapshot = await session.around.snapshots.current(session.owner, mailbox.id)
    condition = criteria.condition(session, program)
    uids = await finding.search(session, command.tag, snapshot, snapshot.uids, condition)
    scores: dict[int, int] = {}
    if Return.RELEVANCY in returns:
        exact = criteria.condition(session, program, exact=True)
        scores = finding.scores(uids, await finding.search(session, command.tag, snapshot, uids, exact))
    return Result(uids, uids, False, scores, snapshot, program.asks_modseqs)


def _answer(session: Session, command: Command, path: str, result: Result, returns: Returns) -> None:
    session.engine.send(
        response.esearch(
            command.tag,
            uid=True,
            items=result.items(returns),
            mailbox_name=response.mailbox(path, utf8=session.engine.utf8),
            validity=result.snapshot.uidvalidity,
        )
    )


def _chosen(session: Session, sources: Sequence[Mailboxes], tree: Sequence[Mailbox]) -> list[Mailbox]:
    """The mailboxes that are meant, each once, in the order of the tree."""
    # Each source is looked for once, whatever it is called with.
    names: dict[Source, set[str]] = {}
    for one in sources:
        names.setdefault(one.source, set()).update(map(_path, one.names))
    wanted = {mailbox.id for source, named in names.items() for mailbox in _of(session, source, named, tree)}
    return [mailbox for mailbox in tree if mailbox.id in wanted]


def _of(session: Session, source: Source, names: Collection[str], tree: Sequence[Mailbox]) -> Iterator[Mailbox]:
    for mailbox in tree:
        match source:
            case Source.PERSONAL | Source.INBOXES:
                # RFC 5465 §6.3, §6.4: mail may be delivered to any mailbox of one's own.
                yield mailbox
            case Source.SELECTED if session.has_open(mailbox.id):
                yield mailbox
            case Source.SUBSCRIBED if mailbox.subscribed:
                yield mailbox
            case Source.MAILBOXES if mailbox.path in names:
                yield mailbox
            case Source.SUBTREE if any(path in names for path in _above(mailbox.path)):
                yield mailbox
            case Source.SUBTREE_ONE if mailbox.path in names or mailbox.path.rpartition(SEPARATOR)[0] in names:
                yield mailbox


def _path(name: str) -> str:
    """RFC 9051 §5.1: the Inbox in any case of letters, as the first level of a longer name too."""
    first, separator, rest = name.partition(SEPARATOR)
    return f"{at_top(first)}{separator}{rest}"


def _above(path: str) -> Iterator[str]:
    """A path and those above it; "" is above all."""
    while path:
        yield path
        path = path.rpartition(SEPARATOR)[0]
    yield ""
