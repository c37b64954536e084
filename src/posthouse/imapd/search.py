"""SEARCH: the client's keys as conditions of the model's, and the answer in the form that was asked for (RFC 9051
§6.4.4).
"""

from datetime import UTC, date, datetime
from typing import Final

from posthouse.imapd.session import DELETED_FLAG, Session
from posthouse.mailbox import emails, query
from posthouse.mailbox.query import Condition
from posthouse.store.database import Tx
from posthouse.terms.keywords import FROM_IMAP
from posthouse.wire.imap import request, response
from posthouse.wire.imap import search as keys
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.search import Return, Side
from posthouse.wire.imap.sequence import ranges_of

_DAY: Final = 86_400_000
_NOTHING: Final = query.Or(())
_ANYTHING: Final = query.And(())


async def search(session: Session, command: Command, asked: request.Search) -> None:
    """SEARCH and UID SEARCH."""
    known = await session.read(_keyword_bits)
    condition = _condition(session, asked.key, known)
    opened = session.open
    # What others have expunged meanwhile is not found; its numbers stay what they are.
    uids = [entry.uid for entry in opened.view.everything()]
    around = session.around
    found = await query.search(around.store, around.blobs, session.owner, opened.mailbox, condition, uids)
    numbers = found if asked.uid else [seq for uid in found if (seq := opened.view.seq(uid)) is not None]
    if asked.returns is None and not session.rev2:
        session.engine.send(response.search(numbers))
    else:
        returns = asked.returns or (Return.ALL,)
        if Return.SAVE in returns:
            opened.saved = _saved(found, returns)
        # RFC 5182 §2.1: SAVE alone answers nothing.
        if set(returns) != {Return.SAVE}:
            session.engine.send(_esearch(command.tag, asked.uid, returns, numbers))
    await session.ok(command, "That is what was found")


def _saved(found: list[int], returns: tuple[Return, ...]) -> tuple[int, ...]:
    """RFC 5182 §2.1: with MIN and MAX only those are saved, unless ALL or COUNT stand beside them."""
    if not found or Return.ALL in returns or Return.COUNT in returns:
        return tuple(found)
    ends = {found[0]} if Return.MIN in returns else set()
    ends |= {found[-1]} if Return.MAX in returns else set()
    return tuple(sorted(ends)) if ends else tuple(found)


def _esearch(tag: bytes, uid: bool, returns: tuple[Return, ...], numbers: list[int]) -> bytes:
    return response.esearch(
        tag,
        uid=uid,
        least=numbers[0] if numbers and Return.MIN in returns else None,
        most=numbers[-1] if numbers and Return.MAX in returns else None,
        count=len(numbers) if Return.COUNT in returns else None,
        found=numbers if Return.ALL in returns else (),
    )


def _keyword_bits(tx: Tx, account: int) -> dict[str, int]:
    return {name: bit for bit, name in emails.keyword_names(tx, account).items()}


def _condition(session: Session, key: keys.Key, known: dict[str, int]) -> Condition:
    match key:
        case keys.And(parts):
            return query.And(tuple(_condition(session, part, known) for part in parts))
        case keys.Or(left, right):
            return query.Or((_condition(session, left, known), _condition(session, right, known)))
        case keys.Not(part):
            return query.Not(_condition(session, part, known))
        case keys.Everything():
            return _ANYTHING
        case keys.Recent():
            # RFC 9051 Appendix E: nothing is recent here.
            return _NOTHING
        case keys.Flagged(name, present):
            return _flag(name, present, known)
        case keys.Numbers(numbers, uid):
            return query.Uids(tuple(ranges_of([entry.uid for entry in session.entries(numbers, uid=uid)])))
        case keys.Received(side, day):
            return query.Received(*_days(side, day))
        case keys.Sent(side, day):
            return query.Sent(*_days(side, day))
        case keys.Larger(octets):
            return query.Size(above=octets)
        case keys.Smaller(octets):
            return query.Size(below=octets)
        case keys.HasHeader(name, value):
            return query.Header(name, value)
        case keys.Contains(where, value):
            return _text(where, value)


def _flag(name: str, present: bool, known: dict[str, int]) -> Condition:
    lowered = name.lower()
    found: Condition
    if lowered == DELETED_FLAG:
        found = query.Deleted()
    else:
        bit = known.get(FROM_IMAP.get(lowered, lowered))
        found = query.Keywords(bit) if bit is not None else _NOTHING
    return found if present else query.Not(found)


def _days(side: Side, day: date) -> tuple[int | None, int | None]:
    """From and before, in UTC milliseconds: the time of day does not count (RFC 9051 §6.4.4)."""
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
    match side:
        case Side.BEFORE:
            return None, start
        case Side.ON:
            return start, start + _DAY
        case Side.SINCE:
            return start, None


def _text(where: keys.Where, value: str) -> Condition:
    match where:
        case keys.Where.SUBJECT:
            return query.Subject(value)
        case keys.Where.BODY:
            return query.Body(value)
        case keys.Where.TEXT:
            return query.Text(value)
        case keys.Where.FROM | keys.Where.TO | keys.Where.CC | keys.Where.BCC:
            return query.Address(where.value.lower(), value)
