"""SEARCH: the client's keys as conditions of the model's, and the answer in the form that was asked for (RFC 9051
§6.4.4).
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Final

from posthouse.imapd.session import DELETED_FLAG, Session
from posthouse.mailbox import conditions, query
from posthouse.mailbox.conditions import Condition
from posthouse.terms.keywords import FROM_IMAP
from posthouse.wire.imap import request, response
from posthouse.wire.imap import search as keys
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.search import Return, Side
from posthouse.wire.imap.sequence import ranges_of

_DAY: Final = 86_400_000


async def search(session: Session, command: Command, asked: request.Search) -> None:
    """SEARCH and UID SEARCH."""
    opened, around = session.open, session.around
    returns = asked.returns or (Return.ALL,)
    if not session.bits().keys() >= set(_keywords(asked.key)):
        await session.learn_names()
    condition = _condition(session, asked.key, session.bits())
    if Return.SAVE in returns:
        # RFC 5182 §2.1: empty, should the search fail.
        opened.saved = ()
    # What others have expunged meanwhile is not found; the numbers stay what they are.
    uids = opened.view.live_uids()
    if condition == conditions.EVERYTHING:
        found = uids.tolist()
    else:
        found = await query.search(around.store, around.blobs, session.owner, opened.mailbox, condition, uids)
    if Return.SAVE in returns:
        opened.saved = ranges_of(_to_save(found, returns))
    numbers = found if asked.uid else opened.view.seqs(found)
    if asked.returns is None and not session.rev2:
        session.engine.send(response.search(numbers))
    elif set(returns) != {Return.SAVE}:
        # RFC 5182 §2.1: SAVE alone answers nothing.
        session.engine.send(_esearch(command.tag, asked.uid, returns, numbers))
    await session.ok(command, "That is what was found")


def _to_save(found: list[int], returns: tuple[Return, ...]) -> list[int]:
    """RFC 5182 §2.1: with MIN and MAX only those are saved, unless ALL or COUNT stand beside them."""
    if not found or Return.ALL in returns or Return.COUNT in returns:
        return found
    ends = {found[0]} if Return.MIN in returns else set()
    ends |= {found[-1]} if Return.MAX in returns else set()
    return sorted(ends) or found


def _esearch(tag: bytes, uid: bool, returns: tuple[Return, ...], numbers: list[int]) -> bytes:
    return response.esearch(
        tag,
        uid=uid,
        least=numbers[0] if numbers and Return.MIN in returns else None,
        most=numbers[-1] if numbers and Return.MAX in returns else None,
        count=len(numbers) if Return.COUNT in returns else None,
        found=numbers if Return.ALL in returns else (),
    )


# --- keys -------------------------------------------------------------------------------------------------------------


def _keywords(key: keys.Key) -> Iterator[str]:
    """The names of all keywords that are asked for."""
    match key:
        case keys.And(parts):
            for part in parts:
                yield from _keywords(part)
        case keys.Or(left, right):
            yield from _keywords(left)
            yield from _keywords(right)
        case keys.Not(part):
            yield from _keywords(part)
        case keys.Flagged(name) if name.lower() != DELETED_FLAG:
            yield _keyword(name)


def _keyword(name: str) -> str:
    lowered = name.lower()
    return FROM_IMAP.get(lowered, lowered)


def _condition(session: Session, key: keys.Key, bits: dict[str, int]) -> Condition:
    match key:
        case keys.And(parts):
            return conditions.And(tuple(_condition(session, part, bits) for part in parts))
        case keys.Or(left, right):
            return conditions.Or((_condition(session, left, bits), _condition(session, right, bits)))
        case keys.Not(part):
            return conditions.Not(_condition(session, part, bits))
        case keys.Everything():
            return conditions.EVERYTHING
        case keys.Recent():
            # RFC 9051 Appendix E: nothing is recent here.
            return conditions.NOTHING
        case keys.Flagged(name, present):
            return _flagged(name, present, bits)
        case keys.Numbers(numbers, uid):
            return conditions.Uids(session.uid_ranges(numbers, uid=uid))
        case keys.Received(side, day):
            return conditions.Received(*_days(side, day))
        case keys.Sent(side, day):
            return conditions.Sent(*_days(side, day))
        case keys.Larger(octets):
            return conditions.Size(above=octets)
        case keys.Smaller(octets):
            return conditions.Size(below=octets)
        case keys.HasHeader(name, value):
            return conditions.Header(name, value)
        case keys.Contains(where, value):
            return _text(where, value)


def _flagged(name: str, present: bool, bits: dict[str, int]) -> Condition:
    found: Condition
    if name.lower() == DELETED_FLAG:
        found = conditions.Deleted()
    else:
        bit = bits.get(_keyword(name))
        found = conditions.NOTHING if bit is None else conditions.Keywords(bit)
    return found if present else conditions.Not(found)


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
            return conditions.Subject(value)
        case keys.Where.BODY:
            return conditions.Body(value)
        case keys.Where.TEXT:
            return conditions.Text(value)
        case keys.Where.FROM | keys.Where.TO | keys.Where.CC | keys.Where.BCC:
            return conditions.Address(where.value.lower(), value)
