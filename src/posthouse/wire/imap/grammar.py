"""The formal grammar of IMAP (RFC 9051 §9, RFC 3501 §9): its words, read off one whole command by a cursor.

Promises: a production takes exactly what the grammar says, or raises ParseError; nothing else is ever raised, whatever
the octets. The command is whole, literals and all (`{3}\\r\\nfoo`), when the cursor is set upon it: framing is the
server's. Cost is linear in the length.
Refuses: to know commands (`command.py`), FETCH items (`fetch.py`) and search keys (`search.py`), built of these.
"""

import re
from binascii import Error as BadBase64
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final, NoReturn, TypeVar

from posthouse.wire.imap import names, sequence
from posthouse.wire.imap.sequence import SequenceSet

T = TypeVar("T")

MAX_NUMBER: Final = (1 << 32) - 1
MAX_NUMBER64: Final = (1 << 63) - 1

# RFC 9051 §9. atom-specials: ( ) { SP CTL % * " \ ]; an astring may hold ], a list-mailbox also % and *.
_ATOM = re.compile(rb"[!#$&'+-\[^-z|}~]+")
_ASTRING = re.compile(rb"[!#$&'+-\[\]-z|}~]+")
_LIST_MAILBOX = re.compile(rb"[!#$%&'*-\[\]-z|}~]+")
_QUOTED_PLAIN = re.compile(rb'"([^"\\\r\n\x00]*)"')
_QUOTED = re.compile(rb'"((?:[^"\\\r\n\x00]|\\["\\])*)"')
_ESCAPED = re.compile(rb'\\(["\\])')
_LITERAL = re.compile(rb"\{([0-9]{1,20})\+?\}\r\n")
_NUMBER = re.compile(rb"[0-9]{1,19}")
_SEQUENCE = re.compile(rb"[0-9:,*$]+")
_FLAG = re.compile(rb"\\?[!#$&'+-\[^-z|}~]+")
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")
_DATE = re.compile(rb'("?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1')
_DATE_TIME = re.compile(
    rb'"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)

MONTHS: Final = {
    name: number
    for number, name in enumerate(
        (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"), 1
    )
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ParseError(Exception):
    """The octets are no command. `text` is fit for the answer, `code` a response code or b"", and `no` says that the
    grammar is in order but what it asks for is not to be had (a charset): NO, where the rest is BAD."""

    def __init__(self, text: str, code: bytes = b"", *, no: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.no = no


class Parser:
    """A cursor over one whole command. `utf8` True: mailbox names are UTF-8 (after ENABLE), else modified UTF-7.
    `charset` False: SEARCH may name none.
    """

    __slots__ = ("at", "charset", "octets", "utf8")

    def __init__(self, octets: bytes, at: int = 0, *, utf8: bool = False, charset: bool = True) -> None:
        self.octets = octets
        self.at = at
        self.utf8 = utf8
        self.charset = charset

    # the cursor ---------------------------------------------------------------------------------------------------

    def fail(self, expected: str) -> NoReturn:
        """Raise ParseError: this was expected here."""
        raise ParseError(f"Expected {expected} at octet {self.at + 1}")

    def accept(self, token: bytes) -> bool:
        """Step over `token` if it stands here."""
        if self.octets.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def expect(self, token: bytes, what: str) -> None:
        """Step over `token`, which must stand here."""
        if not self.octets.startswith(token, self.at):
            self.fail(what)
        self.at += len(token)

    def space(self) -> None:
        """Exactly one space: the grammar knows no other white space."""
        if not self.octets.startswith(b" ", self.at):
            self.fail("a space")
        self.at += 1

    def sees(self, token: bytes) -> bool:
        """Does `token` stand here?"""
        return self.octets.startswith(token, self.at)

    def end(self) -> None:
        """Nothing more may follow."""
        if self.at != len(self.octets):
            self.fail("the end of the command")

    def match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        """Step over what `pattern` takes here."""
        found = pattern.match(self.octets, self.at)
        if found is None:
            self.fail(what)
        self.at = found.end()
        return found

    # words ----------------------------------------------------------------------------------------------------------

    def atom(self) -> bytes:
        """RFC 9051 §9 atom."""
        return self.match(_ATOM, "an atom").group()

    def keyword(self) -> bytes:
        """An atom in upper case: names of the protocol are the same in any case (RFC 9051 §9, note 1)."""
        return self.match(_ATOM, "a word").group().upper()

    def choice(self, table: Mapping[bytes, T], what: str) -> T:
        """The row of `table` that the keyword here names."""
        start = self.at
        found = table.get(self.keyword())
        if found is None:
            self.at = start
            self.fail(what)
        return found

    def number(self, largest: int = MAX_NUMBER) -> int:
        """An unsigned number up to `largest`."""
        start = self.at
        value = int(self.match(_NUMBER, "a number").group())
        if value > largest:
            self.at = start
            self.fail("a smaller number")
        return value

    def nz_number(self, largest: int = MAX_NUMBER) -> int:
        """A number that is not 0."""
        start = self.at
        value = self.number(largest)
        if not value:
            self.at = start
            self.fail("a number above 0")
        return value

    # strings --------------------------------------------------------------------------------------------------------

    def string(self) -> bytes:
        """quoted / literal."""
        start = self.at
        found = _QUOTED_PLAIN.match(self.octets, start)
        if found is None:
            if self.sees(b"{"):
                return self._literal()
            found = self.match(_QUOTED, "a string")
        self.at = found.end()
        octets = found.group(1)
        if self.utf8 and not octets.isascii() and not _is_utf8(octets):
            # RFC 9755 §3, RFC 9051 §4.3: what is quoted is UTF-8.
            self.at = start
            self.fail("UTF-8")
        return _ESCAPED.sub(rb"\1", octets) if b"\\" in octets else octets

    def astring(self) -> bytes:
        """1*ASTRING-CHAR / string."""
        found = _ASTRING.match(self.octets, self.at)
        if found is None:
            return self.string()
        self.at = found.end()
        return found.group()

    def nstring(self) -> bytes | None:
        """string / nil."""
        if self.octets[self.at : self.at + 3].upper() == b"NIL":
            self.at += 3
            return None
        return self.string()

    def _literal(self) -> bytes:
        start = self.at
        size = int(self.match(_LITERAL, "a literal").group(1))
        octets = self.octets[self.at : self.at + size]
        # RFC 9051 §9: CHAR8 is any octet but NUL.
        if len(octets) != size or b"\0" in octets:
            self.at = start
            self.fail("a literal of text")
        self.at += size
        return octets

    def initial_response(self) -> bytes:
        """base64 / "=", decoded (RFC 9051 §9, initial-resp)."""
        if self.accept(b"="):
            return b""
        start = self.at
        self.at = len(self.octets)
        try:
            return decode_base64(self.octets[start:])
        except ValueError:
            self.at = start
            self.fail("base64")

    # lists ----------------------------------------------------------------------------------------------------------

    def listed(self, one: "Callable[[Parser], T]", *, empty: bool = False, padded: bool = False) -> tuple[T, ...]:
        """ "(" one *(SP one) ")"; `empty` allows "()", `padded` a space behind the first parenthesis."""
        self.expect(b"(", "a parenthesis")
        if padded:
            self.accept(b" ")
        if empty and self.accept(b")"):
            return ()
        found = [one(self)]
        while self.accept(b" "):
            found.append(one(self))
        self.expect(b")", "a closing parenthesis")
        return tuple(found)

    def spaced(self, one: "Callable[[Parser], T]") -> tuple[T, ...]:
        """1*(SP one), to the end of the command."""
        found = []
        while self.at < len(self.octets):
            self.space()
            found.append(one(self))
        if not found:
            self.fail("a space")
        return tuple(found)

    # what IMAP speaks of ---------------------------------------------------------------------------------------------

    def mailbox(self) -> str:
        """A mailbox name, decoded; any spelling of INBOX is "INBOX"."""
        start = self.at
        return self._name(self.astring(), start)

    def list_mailbox(self) -> str:
        """A mailbox name with wildcards (RFC 9051 §9, list-mailbox)."""
        start = self.at
        found = _LIST_MAILBOX.match(self.octets, start)
        if found is None:
            return self._name(self.string(), start)
        self.at = found.end()
        return self._name(found.group(), start)

    def _name(self, octets: bytes, start: int) -> str:
        try:
            return names.decode(octets, utf8=self.utf8)
        except ValueError:
            self.at = start
            self.fail("a mailbox name in UTF-8" if self.utf8 else "a mailbox name in modified UTF-7")

    def sequence_set(self) -> SequenceSet:
        """Message numbers or UIDs."""
        start = self.at
        text = self.match(_SEQUENCE, "a sequence set").group()
        try:
            return sequence.parse(text)
        except ValueError:
            self.at = start
            self.fail("a sequence set")

    def flag(self) -> str:
        """A flag or keyword as written: "\\Seen", "$Junk"."""
        return self.match(_FLAG, "a flag").group().decode("ascii")

    def flag_list(self) -> tuple[str, ...]:
        """ "(" [flag *(SP flag)] ")".

        Dovecot's IMAP client (imapc, 2.3) writes `( keyword)` where it appends a message with keywords and no flags.
        """
        return self.listed(Parser.flag, empty=True, padded=True)

    def date(self) -> date:
        """A day, quoted or not: `1-Feb-1994`."""
        start = self.at
        found = self.match(_DATE, "a date")
        try:
            return date(int(found.group(4)), MONTHS.get(found.group(3).lower(), 0), int(found.group(2)))
        except ValueError:
            self.at = start
            self.fail("a date")

    def date_time(self) -> int:
        """A point in time, `"17-Jul-1996 02:44:25 -0700"`, as UTC milliseconds since 1970."""
        start = self.at
        day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = self.match(
            _DATE_TIME, "a date with time"
        ).groups()
        offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
        try:
            # RFC 9051 §9: time's second may be 60 by RFC 3339's leave; it is the last of its minute here.
            local = datetime(
                int(year),
                MONTHS.get(month.lower(), 0),
                int(day),
                int(hour),
                int(minute),
                min(int(second), 59),
                tzinfo=UTC,
            )
        except ValueError:
            self.at = start
            self.fail("a date with time")
        since = (local - _EPOCH) - (offset if sign == b"+" else -offset)
        return (since.days * 86_400 + since.seconds) * 1000


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode_base64(octets: bytes) -> bytes:
    """Strict base64 with its padding (RFC 4648 §4). Raises ValueError."""
    if not _BASE64.match(octets):
        raise ValueError("not base64")
    try:
        return a2b_base64(octets)
    except BadBase64 as error:
        raise ValueError("not base64") from error
