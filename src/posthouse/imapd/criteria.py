"""A client's search keys as conditions of the model's.

Promises: message numbers are turned into uids by what the client knows; dates into milliseconds; a filter into the
search that it holds. Refuses: to search.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final

from posthouse.imapd.flags import DELETED_FLAG
from posthouse.imapd.refusal import Refused
from posthouse.imapd.session import Session
from posthouse.limits import SEARCH_KEYS
from posthouse.mailbox import conditions, filters
from posthouse.mailbox.conditions import Condition
from posthouse.terms.keywords import FROM_IMAP
from posthouse.wire.imap import response
from posthouse.wire.imap import search as keys
from posthouse.wire.imap.grammar import ParseError
from posthouse.wire.imap.response import Code
from posthouse.wire.imap.search import Side
from posthouse.wire.imap.sequence import STAR

_DAY: Final = 86_400_000
# How often filters are put in the place of their names. RFC 5466 §3.1 asks for 3.
_PASSES: Final = 3
_WORD: Final = re.compile(r"\w+")
# What the ends of English words are, longest first; what is left must be this long. (Nothing is lost: what FUZZY finds
# is more than what it asks for.)
_ENDINGS: Final = ("ing", "ed", "es", "s")
_STEM: Final = 4


@dataclass(frozen=True, slots=True)
class Program:
    """A client's search, with what is needed to understand it: the account's keywords, the time, named searches."""

    key: keys.Key
    bits: Mapping[str, int]
    now: int
    named: Mapping[str, keys.Key]

    @property
    def asks_modseqs(self) -> bool:
        """The answer tells a modseq (RFC 7162 §3.1.5)."""
        return any(isinstance(one, keys.Changed) for one in _all(self))

    @property
    def names_messages(self) -> bool:
        """It asks for messages by their numbers or uids, be it in a filter."""
        return any(isinstance(one, keys.Numbers) for one in _all(self))

    @property
    def counts(self) -> bool:
        """It asks for messages by their numbers."""
        return any(isinstance(one, keys.Numbers) and not one.uid for one in _all(self))

    @property
    def lasting(self) -> bool:
        """False where it means something else once mail has come: where it counts messages."""
        sets = [one.numbers for one in _all(self) if isinstance(one, keys.Numbers)]
        return not self.counts and not any(one.saved or any(high == STAR for _, high in one.ranges) for one in sets)


def _all(program: Program) -> list[keys.Key]:
    found = list(keys.every(program.key))
    return found + [one for key in program.named.values() for one in keys.every(key)]


async def understood(session: Session, key: keys.Key) -> Program:
    """A search, ready to be made a condition. Raises Refused: a filter that is not there (RFC 5466 §3.1), or more to
    look for than one command may ask; StoreUnavailable."""
    if isinstance(key, keys.Unreadable):
        raise Refused(key.text, key.code)
    named = await _filters(session, key)
    if _weight(key, named, False, {}) > SEARCH_KEYS:
        raise _too_many()
    return await renewed(session, Program(key, {}, session.around.clock.now(), named))


async def renewed(session: Session, program: Program) -> Program:
    """The same by the keywords that there are now. Raises StoreUnavailable."""
    flags = {_keyword(one.name) for one in _all(program) if isinstance(one, keys.Flagged)} - {DELETED_FLAG}
    if not session.names.bits().keys() >= flags:
        await session.learn_names()
    return replace(program, bits=session.names.bits())


async def _filters(session: Session, key: keys.Key) -> dict[str, keys.Key]:
    """The searches that this one refers to, and those that they refer to."""
    named: dict[str, keys.Key] = {}
    asked = _names(key)
    for _ in range(_PASSES):
        if len(named.keys() | asked) > SEARCH_KEYS:
            raise _too_many()
        for name in asked - named.keys():
            named[name] = await _filter(session, name)
        asked = {inner for name in asked for inner in _names(named[name])}
    if asked:
        # RFC 5466 §3.1: as if it were not there.
        raise Refused("Filters refer to others too often", response.undefined_filter(min(asked)))
    return named


def _names(key: keys.Key) -> set[str]:
    return {one.name for one in keys.every(key) if isinstance(one, keys.Named)}


def _too_many() -> Refused:
    return Refused("The search has too many keys", Code.LIMIT)


async def _filter(session: Session, name: str) -> keys.Key:
    held = await session.read(filters.get, name)
    if held is None:
        raise Refused("There is no such filter", response.undefined_filter(name))
    try:
        return keys.parse_criteria(held)
    except ParseError as error:
        raise Refused("What this filter holds is no search", response.undefined_filter(name)) from error


def _weight(key: keys.Key, named: Mapping[str, keys.Key], fuzzy: bool, known: dict[tuple[str, bool], int]) -> int:
    """How many keys it is, each filter and each word of what is fuzzy counted. `known`: of filters that were met."""
    match key:
        case keys.And(parts):
            return sum([_weight(part, named, fuzzy, known) for part in parts])
        case keys.Or(left, right):
            return _weight(left, named, fuzzy, known) + _weight(right, named, fuzzy, known)
        case keys.Not(part):
            return _weight(part, named, fuzzy, known)
        case keys.Fuzzy(part):
            return _weight(part, named, True, known)
        case keys.Named(name):
            if (name, fuzzy) not in known:
                known[name, fuzzy] = _weight(named[name], named, fuzzy, known)
            return known[name, fuzzy]
        case keys.Contains(_, text) | keys.HasHeader(_, text):
            return len(_words(text)) if fuzzy else 1
        case _:
            return 1


def condition(session: Session, program: Program, *, exact: bool = False) -> Condition:
    """The search as a condition; with `exact` what is fuzzy in it is not. Raises Senseless."""
    return _Reader(session, program, exact).condition(program.key, False)


class _Reader:
    def __init__(self, session: Session, program: Program, exact: bool) -> None:
        self._session = session
        self._program = program
        self._exact = exact

    def condition(self, key: keys.Key, fuzzy: bool) -> Condition:
        match key:
            case keys.And(parts):
                return conditions.And(tuple([self.condition(part, fuzzy) for part in parts]))
            case keys.Or(left, right):
                return conditions.Or((self.condition(left, fuzzy), self.condition(right, fuzzy)))
            case keys.Not(part):
                return conditions.Not(self.condition(part, fuzzy))
            case keys.Fuzzy(part):
                return self.condition(part, not self._exact)
            case keys.Named(name):
                return self.condition(self._program.named[name], fuzzy)
            case keys.HasHeader(name, value) if fuzzy:
                return conditions.And(tuple([conditions.Header(name, word) for word in _words(value)]))
            case keys.Contains(where, value) if fuzzy:
                return conditions.And(tuple([_text(where, word) for word in _words(value)]))
            case keys.Contains(where, value):
                return _text(where, value)
            case keys.HasHeader(name, value):
                return conditions.Header(name, value)
            case keys.Numbers(numbers, uid):
                return conditions.Uids(self._session.uid_ranges(numbers, uid=uid))
            case _:
                return self._plain(key)

    def _plain(self, key: keys.Key) -> Condition:
        """Of keys that are about one thing each."""
        match key:
            case keys.Recent():
                # RFC 9051 Appendix E: nothing is recent here.
                return conditions.NOTHING
            case keys.Flagged(name, present):
                return _flagged(name, present, self._program.bits)
            case keys.Received(side, day):
                return conditions.Received(*_days(side, day))
            case keys.Sent(side, day):
                return conditions.Sent(*_days(side, day))
            case keys.Saved(side, day):
                return conditions.Saved(*_days(side, day))
            case keys.Within(seconds, younger):
                # RFC 5032 §3: the time of day counts.
                edge = self._program.now - seconds * 1000
                return conditions.Received(since=edge) if younger else conditions.Received(before=edge + 1)
            case keys.Larger(octets):
                return conditions.Size(above=octets)
            case keys.Smaller(octets):
                return conditions.Size(below=octets)
            case keys.Changed(modseq):
                return conditions.Modseq(modseq)
            case keys.HasId(id, thread):
                return _of_id(id, thread, self._session.ids)
            case _:
                return conditions.EVERYTHING


def _keyword(name: str) -> str:
    lowered = name.lower()
    return FROM_IMAP.get(lowered, lowered)


def _flagged(name: str, present: bool, bits: Mapping[str, int]) -> Condition:
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


def _of_id(id: str, thread: bool, before: str) -> Condition:
    """RFC 8474 §7. Ids are compared as they are written; fetch.py says how that is."""
    start = ("T" if thread else "M") + before
    digits = id.removeprefix(start)
    if not id.startswith(start) or not digits.isdigit() or digits[0] == "0" or len(digits) > 18:
        return conditions.NOTHING
    return conditions.OfThread(int(digits)) if thread else conditions.OfEmail(int(digits))


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


def _words(text: str) -> Sequence[str]:
    """What a fuzzy search looks for: the words in any order, without their endings."""
    return list(dict.fromkeys([_stem(word) for word in _WORD.findall(text)])) or [text]


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.lower().endswith(ending) and len(word) - len(ending) >= _STEM:
            return word[: -len(ending)]
    return word
