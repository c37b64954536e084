"""How a search is to be answered, and in what order: return options (RFC 9051 §6.4.4, RFC 5267, RFC 9394), the keys of
SORT and the algorithms of THREAD (RFC 5256), the mailboxes of ESEARCH (RFC 7377).

Promises: what may not stand together is refused here. A new option is a member of Return, a sort key one of SortBy, an
algorithm one of Algorithm. Refuses: to know search keys (`search.py`).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from posthouse import limits
from posthouse.wire.imap import fetch, search
from posthouse.wire.imap.grammar import MAX_NUMBER, ParseError, Parser


class Return(Enum):
    """What an extended search answers with, or does beside (RFC 9051 §6.4.4, RFC 4731; SAVE is RFC 5182's, CONTEXT and
    UPDATE RFC 5267's, PARTIAL RFC 9394's, RELEVANCY RFC 6203's)."""

    MIN = b"MIN"
    MAX = b"MAX"
    ALL = b"ALL"
    COUNT = b"COUNT"
    SAVE = b"SAVE"
    CONTEXT = b"CONTEXT"
    UPDATE = b"UPDATE"
    PARTIAL = b"PARTIAL"
    RELEVANCY = b"RELEVANCY"


@dataclass(frozen=True, slots=True)
class Partial:
    """The results from `first` to `last`, counted from 1: from the last one backwards where they are negative. `asked`
    is how the client wrote it."""

    first: int
    last: int
    asked: bytes

    def of(self, found: Sequence[int]) -> list[int]:
        """Those of these results, in their order."""
        low, high = sorted((self.first, self.last))
        if low > 0:
            return list(found[low - 1 : high])
        return list(found[max(len(found) + low, 0) : max(len(found) + high + 1, 0)])


@dataclass(frozen=True, slots=True)
class Returns:
    """The return options of a command: no ALL among them where `partial` says which part is wanted. `items`: what
    UPDATE asks to be told of a new message that comes into the results (RFC 5465 §7)."""

    options: frozenset[Return]
    partial: Partial | None = None
    items: tuple[fetch.Item, ...] = field(default=(), kw_only=True)

    def __contains__(self, option: Return) -> bool:
        return option in self.options

    @property
    def answers(self) -> bool:
        """False where nothing is to be said but that it is done (RFC 5182 §2.1)."""
        return not self.options <= _SILENT


# RFC 5267 §4.2, §4.3: hints and wishes, which ask for no answer by themselves.
_WISHES: Final = frozenset({Return.CONTEXT, Return.UPDATE})
_SILENT: Final = _WISHES | {Return.SAVE}


class SortBy(Enum):
    """What SORT compares (RFC 5256 §3; DISPLAYFROM and DISPLAYTO are RFC 5957's, RELEVANCY RFC 6203's)."""

    ARRIVAL = b"ARRIVAL"
    CC = b"CC"
    DATE = b"DATE"
    FROM = b"FROM"
    SIZE = b"SIZE"
    SUBJECT = b"SUBJECT"
    TO = b"TO"
    DISPLAYFROM = b"DISPLAYFROM"
    DISPLAYTO = b"DISPLAYTO"
    RELEVANCY = b"RELEVANCY"


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of a SORT; `reverse`: the largest first."""

    by: SortBy
    reverse: bool


class Algorithm(Enum):
    """How THREAD puts messages together (RFC 5256 §3; REFS is a draft's that Dovecot speaks)."""

    ORDEREDSUBJECT = b"ORDEREDSUBJECT"
    REFERENCES = b"REFERENCES"
    REFS = b"REFS"


class Source(Enum):
    """Which mailboxes an ESEARCH looks through (RFC 7377 §2.2, RFC 5465 §6)."""

    SELECTED = b"SELECTED"
    INBOXES = b"INBOXES"
    PERSONAL = b"PERSONAL"
    SUBSCRIBED = b"SUBSCRIBED"
    SUBTREE = b"SUBTREE"
    SUBTREE_ONE = b"SUBTREE-ONE"
    MAILBOXES = b"MAILBOXES"


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """A source, and the mailboxes that it names."""

    source: Source
    names: tuple[str, ...] = ()


RETURNS: Final[dict[bytes, Return]] = {option.value: option for option in Return}
SORTS: Final[dict[bytes, SortBy]] = {key.value: key for key in SortBy}
ALGORITHMS: Final[dict[bytes, Algorithm]] = {algorithm.value: algorithm for algorithm in Algorithm}
SOURCES: Final[dict[bytes, Source]] = {source.value: source for source in Source}
_NAMING: Final = frozenset({Source.SUBTREE, Source.SUBTREE_ONE, Source.MAILBOXES})
_PARTIAL = re.compile(rb"(-?)([1-9][0-9]{0,9}):(-?)([1-9][0-9]{0,9})")


# return options -------------------------------------------------------------------------------------------------------


def parse_returns(parser: Parser) -> Returns | None:
    """[SP "RETURN" SP "(" ... ")"]; None where it is absent. `RETURN ()` means ALL (RFC 9051 §6.4.4)."""
    if not _accept(parser, b" RETURN "):
        return None
    options: list[Return] = []
    partial: list[Partial] = []
    items: list[fetch.Item] = []
    parser.listed(lambda parser: options.append(_return(parser, partial, items)), empty=True)
    # RFC 5267 §4.4, RFC 9394 §3.1: one PARTIAL, or one ALL, or neither.
    if options.count(Return.PARTIAL) > 1 or (partial and Return.ALL in options):
        raise ParseError("Only one of PARTIAL and ALL can be asked for")
    if len(items) > limits.NOTIFY_ITEMS:
        raise ParseError("There are too many items to be fetched", b"LIMIT", no=True)
    # RFC 5267 §4.1: these do not count where a client asks for nothing.
    if not set(options) - _WISHES:
        options.append(Return.ALL)
    return Returns(frozenset(options), partial[0] if partial else None, items=tuple(items))


def _return(parser: Parser, partial: list[Partial], items: list[fetch.Item]) -> Return:
    found = parser.choice(RETURNS, "a search return option")
    if found is Return.PARTIAL:
        parser.space()
        partial.append(parse_partial(parser))
    elif found is Return.UPDATE:
        # RFC 5465 §8 has no space there, and its examples have one.
        if parser.sees(b" ("):
            parser.space()
        if parser.sees(b"("):
            items += parser.listed(fetch.parse_item)
    return found


def parse_partial(parser: Parser) -> Partial:
    """partial-range (RFC 9394 §4), also of a UID FETCH."""
    start = parser.at
    found = parser.match(_PARTIAL, "a range of results")
    sign, low, other, high = found.groups()
    first, last = int(sign + low), int(other + high)
    if sign != other or max(abs(first), abs(last)) > MAX_NUMBER:
        parser.at = start
        parser.fail("a range of results")
    return Partial(first, last, found.group())


def parse_saving(parser: Parser, returns: Returns | None, parse: Callable[[Parser], search.Key]) -> search.Key:
    """The keys, to the end of the command. Where they are refused by NO, a search that would SAVE is one all the same:
    it empties what was saved (RFC 5182 §2.1)."""
    try:
        return parse(parser)
    except ParseError as error:
        if not error.no or returns is None or Return.SAVE not in returns:
            raise
        parser.at = len(parser.octets)
        return search.Unreadable(error.text, error.code)


def require_fuzzy(returns: Returns | None, sorts: Sequence[SortKey], key: search.Key) -> None:
    """RFC 6203 §4: RELEVANCY goes with FUZZY only. Raises ParseError."""
    asked = (returns is not None and Return.RELEVANCY in returns) or any(one.by is SortBy.RELEVANCY for one in sorts)
    if asked and not any(isinstance(one, search.Fuzzy | search.Unreadable) for one in search.every(key)):
        raise ParseError("RELEVANCY goes with FUZZY only")


# SORT and THREAD ------------------------------------------------------------------------------------------------------


def parse_sort_keys(parser: Parser) -> tuple[SortKey, ...]:
    """SP "(" sort-key *(SP sort-key) ")"."""
    parser.space()
    found = parser.listed(_sort_key)
    if len(found) > limits.IMAP_SORT_KEYS:
        raise ParseError("There are too many keys to sort by", b"LIMIT", no=True)
    return found


def _sort_key(parser: Parser) -> SortKey:
    reverse = _accept(parser, b"REVERSE ")
    return SortKey(parser.choice(SORTS, "a key to sort by"), reverse)


def parse_algorithm(parser: Parser) -> Algorithm:
    """SP thread-alg."""
    parser.space()
    return parser.choice(ALGORITHMS, "an algorithm that puts threads together")


def parse_charset_and_keys(parser: Parser) -> search.Key:
    """SP charset 1*(SP search-key): SORT and THREAD always name the charset (RFC 5256 §5)."""
    parser.space()
    return search.parse_keys(parser, search.parse_charset(parser))


# ESEARCH --------------------------------------------------------------------------------------------------------------


def parse_sources(parser: Parser) -> tuple[Mailboxes, ...]:
    """[SP "IN" SP "(" source *(SP source) ")"]; () where it is absent."""
    if not _accept(parser, b" IN "):
        return ()
    # RFC 7377 §2.2: none of the scope options that may follow them is defined.
    found = parser.listed(_mailboxes)
    if sum([len(one.names) for one in found]) > limits.IMAP_SEARCHED_NAMES:
        raise ParseError("There are too many mailboxes", b"LIMIT", no=True)
    return found


def _mailboxes(parser: Parser) -> Mailboxes:
    source = parser.choice(SOURCES, "which mailboxes to search")
    if source not in _NAMING:
        return Mailboxes(source)
    parser.space()
    names = parser.listed(Parser.mailbox) if parser.sees(b"(") else (parser.mailbox(),)
    return Mailboxes(source, names)


def parse_tags(parser: Parser) -> tuple[bytes, ...]:
    """1*(SP quoted): RFC 5267 §5."""
    return parser.spaced(_quoted)


def _quoted(parser: Parser) -> bytes:
    if not parser.sees(b'"'):
        parser.fail("a quoted tag")
    return parser.string()


def _accept(parser: Parser, word: bytes) -> bool:
    """Step over a word, in any case of letters, if it stands here."""
    there = parser.octets[parser.at : parser.at + len(word)].upper() == word
    parser.at += len(word) if there else 0
    return there
