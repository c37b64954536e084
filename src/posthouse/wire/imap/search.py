"""What a SEARCH may ask for (RFC 9051 §6.4.4, §9 `search-key`; RFC 3501 §6.4.4): the keys, their table, their grammar.

Promises: text comes decoded from the charset the client named; nesting and number of keys are bounded. A new key is a
row in KEYS and, where it has arguments of a new shape, a small function. Refuses: to know how mail is searched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Final, TypeVar

from posthouse import limits
from posthouse.wire.imap.grammar import MAX_NUMBER64, ParseError, Parser
from posthouse.wire.imap.sequence import SequenceSet

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Everything:
    """ALL."""


@dataclass(frozen=True, slots=True)
class Recent:
    """RECENT (RFC 3501 §2.3.2)."""


@dataclass(frozen=True, slots=True)
class Flagged:
    """SEEN, UNSEEN, KEYWORD x …: the flag `name` is set, or is not. Names as in a FLAGS answer: "\\Seen", "$Junk"."""

    name: str
    present: bool


class Where(Enum):
    """Which text a Contains looks in."""

    BCC = "BCC"
    BODY = "BODY"
    CC = "CC"
    FROM = "FROM"
    SUBJECT = "SUBJECT"
    TEXT = "TEXT"
    TO = "TO"


@dataclass(frozen=True, slots=True)
class Contains:
    """The text holds `value`, in any case."""

    where: Where
    value: str


@dataclass(frozen=True, slots=True)
class HasHeader:
    """HEADER: a field `name` is there and holds `value`, which may be empty."""

    name: str
    value: str


class Side(Enum):
    """Where a day lies to the one asked for. SINCE contains the day itself."""

    BEFORE = "BEFORE"
    ON = "ON"
    SINCE = "SINCE"


@dataclass(frozen=True, slots=True)
class Received:
    """BEFORE, ON, SINCE: the internal date, its time and zone disregarded."""

    side: Side
    day: date


@dataclass(frozen=True, slots=True)
class Sent:
    """SENTBEFORE, SENTON, SENTSINCE: the Date field, its time and zone disregarded."""

    side: Side
    day: date


@dataclass(frozen=True, slots=True)
class Larger:
    """LARGER: more octets than `octets`."""

    octets: int


@dataclass(frozen=True, slots=True)
class Smaller:
    """SMALLER: fewer octets than `octets`."""

    octets: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """Messages by sequence number or, where `uid`, by UID."""

    numbers: SequenceSet
    uid: bool


@dataclass(frozen=True, slots=True)
class Not:
    """The key does not match."""

    key: "Key"


@dataclass(frozen=True, slots=True)
class Or:
    """Either matches."""

    left: "Key"
    right: "Key"


@dataclass(frozen=True, slots=True)
class And:
    """All match."""

    keys: "tuple[Key, ...]"


Key = (
    Everything | Recent | Flagged | Contains | HasHeader | Received | Sent | Larger | Smaller | Numbers | Not | Or | And
)


class Return(Enum):
    """What an extended search answers with (RFC 9051 §6.4.4, RFC 4731; SAVE is RFC 5182's)."""

    MIN = b"MIN"
    MAX = b"MAX"
    ALL = b"ALL"
    COUNT = b"COUNT"
    SAVE = b"SAVE"


RETURNS: Final[dict[bytes, Return]] = {option.value: option for option in Return}

# Charsets a client may name, and Python's codec of each. RFC 9051 §6.4.4 asks for the first two.
CHARSETS: Final[dict[bytes, str]] = {
    b"US-ASCII": "ascii",
    b"UTF-8": "utf-8",
    b"ISO-8859-1": "iso8859-1",
    b"ISO-8859-2": "iso8859-2",
    b"ISO-8859-15": "iso8859-15",
    b"WINDOWS-1251": "cp1251",
    b"WINDOWS-1252": "cp1252",
    b"KOI8-R": "koi8-r",
    b"ISO-2022-JP": "iso2022_jp",
    b"SHIFT_JIS": "shift_jis",
    b"EUC-JP": "euc_jp",
    b"EUC-KR": "euc_kr",
    b"GB2312": "gb2312",
    b"GB18030": "gb18030",
    b"BIG5": "big5",
}
_BADCHARSET: Final = b"BADCHARSET (" + b" ".join(CHARSETS) + b")"


def parse_returns(parser: Parser) -> tuple[Return, ...] | None:
    """[SP "RETURN" SP "(" ... ")"]; None where it is absent. `RETURN ()` means ALL (RFC 9051 §6.4.4)."""
    if parser.octets[parser.at : parser.at + 8].upper() != b" RETURN ":
        return None
    parser.at += 8
    return parser.listed(_return, empty=True) or (Return.ALL,)


def _return(parser: Parser) -> Return:
    return parser.choice(RETURNS, "a search return option")


def parse_program(parser: Parser) -> Key:
    """SP ["CHARSET" SP charset SP] search-key *(SP search-key), to the end of the command."""
    codec = "utf-8"
    if parser.octets[parser.at : parser.at + 9].upper() == b" CHARSET ":
        parser.at += 9
        codec = _charset(parser)
    reader = _Reader(parser, codec)
    keys = parser.spaced(lambda _: reader.key(0))
    return keys[0] if len(keys) == 1 else And(keys)


def _charset(parser: Parser) -> str:
    codec = CHARSETS.get(parser.astring().upper())
    if codec is None:
        # RFC 9051 §6.4.4: NO with BADCHARSET and what is to be had.
        raise ParseError("That charset is not known here", _BADCHARSET, no=True)
    return codec


class _Reader:
    """One search program being read: the charset and the count of keys go with it."""

    __slots__ = ("codec", "count", "parser")

    def __init__(self, parser: Parser, codec: str) -> None:
        self.parser = parser
        self.codec = codec
        self.count = 0

    def key(self, depth: int) -> Key:
        """One search-key, `depth` others around it."""
        parser = self.parser
        self.count += 1
        if depth > limits.SEARCH_DEPTH or self.count > limits.SEARCH_KEYS:
            raise ParseError("The search is nested too deeply or has too many keys", b"LIMIT", no=True)
        if parser.sees(b"("):
            keys = parser.listed(lambda _: self.key(depth + 1))
            return keys[0] if len(keys) == 1 else And(keys)
        if parser.octets[parser.at : parser.at + 1] in _NUMBER_STARTS:
            return Numbers(parser.sequence_set(), uid=False)
        return parser.choice(KEYS, "a search key")(self, depth)

    def text(self) -> str:
        """SP astring, decoded."""
        self.parser.space()
        start = self.parser.at
        try:
            found = self.parser.astring().decode(self.codec)
        except UnicodeDecodeError:
            self.parser.at = start
            self.parser.fail(f"text in {self.codec}")
        if len(found) > limits.SEARCH_STRING:
            raise ParseError("The string to look for is too long", b"LIMIT", no=True)
        return found


_NUMBER_STARTS = frozenset(b"%c" % octet for octet in b"0123456789*$")
_Reads = Callable[[_Reader, int], Key]


def _is(key: Key) -> _Reads:
    return lambda _reader, _depth: key


def _contains(where: Where) -> _Reads:
    return lambda reader, _depth: Contains(where, reader.text())


def _received(side: Side) -> _Reads:
    return lambda reader, _depth: Received(side, _argument(reader.parser, Parser.date))


def _sent(side: Side) -> _Reads:
    return lambda reader, _depth: Sent(side, _argument(reader.parser, Parser.date))


def _keyword(present: bool) -> _Reads:
    return lambda reader, _depth: Flagged(_argument(reader.parser, Parser.atom).decode("ascii"), present)


def _header(reader: _Reader, _depth: int) -> Key:
    name = reader.text()
    return HasHeader(name, reader.text())


def _larger(reader: _Reader, _depth: int) -> Key:
    return Larger(_argument(reader.parser, _size))


def _smaller(reader: _Reader, _depth: int) -> Key:
    return Smaller(_argument(reader.parser, _size))


def _uid(reader: _Reader, _depth: int) -> Key:
    return Numbers(_argument(reader.parser, Parser.sequence_set), uid=True)


def _not(reader: _Reader, depth: int) -> Key:
    reader.parser.space()
    return Not(reader.key(depth + 1))


def _or(reader: _Reader, depth: int) -> Key:
    reader.parser.space()
    left = reader.key(depth + 1)
    reader.parser.space()
    return Or(left, reader.key(depth + 1))


def _argument(parser: Parser, read: Callable[[Parser], T]) -> T:
    parser.space()
    return read(parser)


def _size(parser: Parser) -> int:
    return parser.number(MAX_NUMBER64)


KEYS: Final[dict[bytes, _Reads]] = {
    b"ALL": _is(Everything()),
    b"ANSWERED": _is(Flagged("\\Answered", True)),
    b"BCC": _contains(Where.BCC),
    b"BEFORE": _received(Side.BEFORE),
    b"BODY": _contains(Where.BODY),
    b"CC": _contains(Where.CC),
    b"DELETED": _is(Flagged("\\Deleted", True)),
    b"DRAFT": _is(Flagged("\\Draft", True)),
    b"FLAGGED": _is(Flagged("\\Flagged", True)),
    b"FROM": _contains(Where.FROM),
    b"HEADER": _header,
    b"KEYWORD": _keyword(True),
    b"LARGER": _larger,
    # RFC 3501 §6.4.4; RFC 9051 Appendix E took NEW, OLD and RECENT out.
    b"NEW": _is(And((Recent(), Flagged("\\Seen", False)))),
    b"NOT": _not,
    b"OLD": _is(Not(Recent())),
    b"ON": _received(Side.ON),
    b"OR": _or,
    b"RECENT": _is(Recent()),
    b"SEEN": _is(Flagged("\\Seen", True)),
    b"SENTBEFORE": _sent(Side.BEFORE),
    b"SENTON": _sent(Side.ON),
    b"SENTSINCE": _sent(Side.SINCE),
    b"SINCE": _received(Side.SINCE),
    b"SMALLER": _smaller,
    b"SUBJECT": _contains(Where.SUBJECT),
    b"TEXT": _contains(Where.TEXT),
    b"TO": _contains(Where.TO),
    b"UID": _uid,
    b"UNANSWERED": _is(Flagged("\\Answered", False)),
    b"UNDELETED": _is(Flagged("\\Deleted", False)),
    b"UNDRAFT": _is(Flagged("\\Draft", False)),
    b"UNFLAGGED": _is(Flagged("\\Flagged", False)),
    b"UNKEYWORD": _keyword(False),
    b"UNSEEN": _is(Flagged("\\Seen", False)),
}
