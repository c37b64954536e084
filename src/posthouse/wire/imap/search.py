"""What a SEARCH may ask for (RFC 9051 §6.4.4, §9 `search-key`; RFC 3501 §6.4.4): the keys, their table, their grammar.
SORT, THREAD and ESEARCH (`finding.py`) have the same keys.

Promises: text comes decoded from the charset the client named; nesting and number of keys are bounded. A new key is a
row in KEYS and, where it has arguments of a new shape, a small function. Refuses: to know how mail is searched.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Final, TypeVar

from posthouse import limits
from posthouse.wire.imap.grammar import MAX_NUMBER64, ParseError, Parser
from posthouse.wire.imap.sequence import LARGEST, SequenceSet

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
class Saved:
    """SAVEDBEFORE, SAVEDON, SAVEDSINCE: when it was put into the mailbox (RFC 8514 §4.3)."""

    side: Side
    day: date


@dataclass(frozen=True, slots=True)
class Within:
    """OLDER, and YOUNGER where `younger`: received so many seconds ago or longer, or not so long (RFC 5032 §3)."""

    seconds: int
    younger: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """MODSEQ: changed at this modseq or later (RFC 7162 §3.1.5). What it says of single flags is read past: they have
    none of their own here."""

    modseq: int


@dataclass(frozen=True, slots=True)
class HasId:
    """EMAILID, and THREADID where `thread` (RFC 8474 §7)."""

    id: str
    thread: bool


@dataclass(frozen=True, slots=True)
class Named:
    """FILTER: the search that is kept under this name (RFC 5466 §3.1)."""

    name: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In place of all keys: a search that is to be answered by NO with this text and response code."""

    text: str
    code: bytes


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """FUZZY: the key need not match exactly (RFC 6203 §3)."""

    key: "Key"


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
    Everything
    | Recent
    | Flagged
    | Contains
    | HasHeader
    | Received
    | Sent
    | Saved
    | Within
    | Larger
    | Smaller
    | Numbers
    | Changed
    | HasId
    | Named
    | Unreadable
    | Fuzzy
    | Not
    | Or
    | And
)

# Charsets a client may name, and Python's codec of each. RFC 9051 §6.4.4 asks for the first two.
CHARSETS: Final[dict[bytes, str]] = {
    b"US-ASCII": "ascii",
    b"UTF-8": "utf-8",
    **{b"ISO-8859-%d" % part: f"iso8859-{part}" for part in (*range(1, 12), *range(13, 17))},
    **{b"WINDOWS-%d" % page: f"cp{page}" for page in (874, *range(1250, 1259))},
    b"KOI8-R": "koi8-r",
    b"KOI8-U": "koi8-u",
    b"TIS-620": "tis-620",
    b"MACINTOSH": "mac-roman",
    b"ISO-2022-JP": "iso2022_jp",
    b"SHIFT_JIS": "shift_jis",
    b"WINDOWS-31J": "cp932",
    b"EUC-JP": "euc_jp",
    b"ISO-2022-KR": "iso2022_kr",
    b"EUC-KR": "euc_kr",
    b"KS_C_5601-1987": "cp949",
    b"GB2312": "gb2312",
    b"GBK": "gbk",
    b"GB18030": "gb18030",
    b"HZ-GB-2312": "hz",
    b"BIG5": "big5",
    b"BIG5-HKSCS": "big5hkscs",
    b"UTF-16": "utf-16",
    b"UTF-7": "utf-7",
}
_BADCHARSET: Final = b"BADCHARSET (" + b" ".join(CHARSETS) + b")"
_FILTERS_CODECS: Final = frozenset({"ascii", "utf-8"})


def parse_program(parser: Parser) -> Key:
    """SP ["CHARSET" SP charset SP] search-key *(SP search-key), to the end of the command."""
    codec = "utf-8"
    if parser.octets[parser.at : parser.at + 9].upper() == b" CHARSET ":
        if not parser.charset:
            # RFC 9755 §3
            raise ParseError("No CHARSET after ENABLE UTF8=ACCEPT")
        parser.at += 9
        codec = parse_charset(parser)
    return parse_keys(parser, codec)


def parse_keys(parser: Parser, codec: str) -> Key:
    """1*(SP search-key), to the end of the command, strings in Python's `codec`."""
    reader = _Reader(parser, codec)
    keys = parser.spaced(lambda _: reader.key(0))
    return keys[0] if len(keys) == 1 else And(keys)


def parse_criteria(octets: bytes) -> Key:
    """The search that a filter holds (RFC 5466 §3.2). Raises ParseError."""
    parser = Parser(b" " + octets)
    key = parse_program(parser)
    parser.end()
    return key


def every(key: Key) -> Iterator[Key]:
    """A key and all that are inside it."""
    yield key
    match key:
        case Not(inner) | Fuzzy(inner):
            yield from every(inner)
        case Or(left, right):
            yield from every(left)
            yield from every(right)
        case And(keys):
            for one in keys:
                yield from every(one)


def parse_charset(parser: Parser) -> str:
    """The name of a charset, as Python's codec of it."""
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
            found = parser.sequence_set()
            # What was saved is no number: "$" alone means the same as UID $, and goes where numbers do not.
            return Numbers(found, uid=not found.ranges)
        return parser.choice(KEYS, "a search key")(self, depth)

    def text(self) -> str:
        """SP astring, decoded."""
        self.parser.space()
        start = self.parser.at
        try:
            found = self.parser.astring().decode(self.codec)
            # Python's UTF-7 lets halves of surrogate pairs through, which are no text.
            found.encode()
        except UnicodeError:
            self.parser.at = start
            self.parser.fail(f"text in {self.codec}")
        if len(found) > limits.SEARCH_STRING:
            raise ParseError("The string to look for is too long", b"LIMIT", no=True)
        return found


# RFC 7162 §7: entry-name = entry-flag-name
_ENTRY = re.compile(rb"/flags/\\?[!#$&'+-\[^-z|}~]+", re.IGNORECASE)
_ENTRY_TYPES: Final = {b"PRIV": 0, b"SHARED": 0, b"ALL": 0}
# RFC 8474 §7: objectid = 1*255(ALPHA / DIGIT / "_" / "-")
_OBJECTID = re.compile(rb"[A-Za-z0-9_-]{1,255}")
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


def _saved(side: Side) -> _Reads:
    return lambda reader, _depth: Saved(side, _argument(reader.parser, Parser.date))


def _within(younger: bool) -> _Reads:
    return lambda reader, _depth: Within(_argument(reader.parser, Parser.nz_number), younger)


def _modseq(reader: _Reader, _depth: int) -> Key:
    # RFC 7162 §7: [SP entry-name SP entry-type-req] SP mod-sequence-valzer
    parser = reader.parser
    parser.space()
    if parser.sees(b'"'):
        start = parser.at
        if not _ENTRY.fullmatch(parser.string()):
            parser.at = start
            parser.fail("/flags/ and the name of a flag")
        parser.space()
        parser.choice(_ENTRY_TYPES, "priv, shared or all")
        parser.space()
    return Changed(parser.number(MAX_NUMBER64))


def _id(thread: bool) -> _Reads:
    return lambda reader, _depth: HasId(_argument(reader.parser, _objectid), thread)


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


def _uid_after(reader: _Reader, _depth: int) -> Key:
    # RFC 9738 §3.2: above it, also where that is above the last; so it ends in no "*".
    uid = _argument(reader.parser, Parser.nz_number)
    return Numbers(SequenceSet(((uid + 1, LARGEST),) if uid < LARGEST else ()), uid=True)


def _uid_before(reader: _Reader, _depth: int) -> Key:
    uid = _argument(reader.parser, Parser.nz_number)
    return Numbers(SequenceSet(((1, uid - 1),) if uid > 1 else ()), uid=True)


def _not(reader: _Reader, depth: int) -> Key:
    reader.parser.space()
    return Not(reader.key(depth + 1))


def _or(reader: _Reader, depth: int) -> Key:
    reader.parser.space()
    left = reader.key(depth + 1)
    reader.parser.space()
    return Or(left, reader.key(depth + 1))


def _fuzzy(reader: _Reader, depth: int) -> Key:
    reader.parser.space()
    return Fuzzy(reader.key(depth + 1))


def _filter(reader: _Reader, _depth: int) -> Key:
    # RFC 5466 §3.1: what it holds is UTF-8, and so must be what stands beside it.
    if reader.codec not in _FILTERS_CODECS:
        raise ParseError("FILTER goes with UTF-8 only", b"BADCHARSET (UTF-8 US-ASCII)")
    return Named(_argument(reader.parser, _filter_name))


def _filter_name(parser: Parser) -> str:
    start = parser.at
    name = parser.atom()
    if b"/" in name:
        parser.at = start
        parser.fail("the name of a filter")
    return name.decode("ascii")


def _objectid(parser: Parser) -> str:
    return parser.match(_OBJECTID, "an object id").group().decode("ascii")


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
    b"EMAILID": _id(thread=False),
    b"FILTER": _filter,
    b"FLAGGED": _is(Flagged("\\Flagged", True)),
    b"FROM": _contains(Where.FROM),
    b"FUZZY": _fuzzy,
    b"HEADER": _header,
    b"KEYWORD": _keyword(True),
    b"LARGER": _larger,
    b"MODSEQ": _modseq,
    # RFC 3501 §6.4.4; RFC 9051 Appendix E took NEW, OLD and RECENT out.
    b"NEW": _is(And((Recent(), Flagged("\\Seen", False)))),
    b"NOT": _not,
    b"OLD": _is(Not(Recent())),
    b"OLDER": _within(younger=False),
    b"ON": _received(Side.ON),
    b"OR": _or,
    b"RECENT": _is(Recent()),
    b"SAVEDBEFORE": _saved(Side.BEFORE),
    # RFC 8514 §4.3: whether the mailbox knows when its messages were saved. All of ours do.
    b"SAVEDATESUPPORTED": _is(Everything()),
    b"SAVEDON": _saved(Side.ON),
    b"SAVEDSINCE": _saved(Side.SINCE),
    b"SEEN": _is(Flagged("\\Seen", True)),
    b"SENTBEFORE": _sent(Side.BEFORE),
    b"SENTON": _sent(Side.ON),
    b"SENTSINCE": _sent(Side.SINCE),
    b"SINCE": _received(Side.SINCE),
    b"SMALLER": _smaller,
    b"SUBJECT": _contains(Where.SUBJECT),
    b"TEXT": _contains(Where.TEXT),
    b"THREADID": _id(thread=True),
    b"TO": _contains(Where.TO),
    b"UID": _uid,
    b"UIDAFTER": _uid_after,
    b"UIDBEFORE": _uid_before,
    b"UNANSWERED": _is(Flagged("\\Answered", False)),
    b"UNDELETED": _is(Flagged("\\Deleted", False)),
    b"UNDRAFT": _is(Flagged("\\Draft", False)),
    b"UNFLAGGED": _is(Flagged("\\Flagged", False)),
    b"UNKEYWORD": _keyword(False),
    b"UNSEEN": _is(Flagged("\\Seen", False)),
    b"YOUNGER": _within(younger=True),
}
