"""THE TABLE of POP3: each command, its arguments, where it is legal, and where its answer leads (RFC 1939, 2449, 2595,
5034, 6856).

Promises: `parse` gives a request or raises Malformed; the state moves by TABLE and by nothing else; manual and tests
are made from it. A new command is a value, a parser and a row here.
Refuses: APOP, which needs passwords stored in the clear.
"""

import re
from binascii import a2b_base64
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

# requests -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Capa:
    """CAPA: RFC 2449 §5."""


@dataclass(frozen=True, slots=True)
class Stls:
    """STLS: RFC 2595 §4."""


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH: RFC 5034 §4. `initial` is decoded, None where there is none."""

    mechanism: str
    initial: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class User:
    """USER: RFC 1939 §7."""

    name: bytes


@dataclass(frozen=True, slots=True)
class Pass:
    """PASS: RFC 1939 §7; `name` is the one that USER gave. May hold spaces."""

    name: bytes
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stat:
    """STAT: RFC 1939 §5."""


@dataclass(frozen=True, slots=True)
class List:
    """LIST: RFC 1939 §5; `number` None asks for all, in a multi-line answer."""

    number: int | None


@dataclass(frozen=True, slots=True)
class Uidl:
    """UIDL: RFC 1939 §7; `number` None asks for all, in a multi-line answer."""

    number: int | None


@dataclass(frozen=True, slots=True)
class Retr:
    """RETR: RFC 1939 §5."""

    number: int


@dataclass(frozen=True, slots=True)
class Top:
    """TOP: RFC 1939 §7: the header and `lines` lines of the body."""

    number: int
    lines: int


@dataclass(frozen=True, slots=True)
class Dele:
    """DELE: RFC 1939 §5. Nothing is removed before QUIT."""

    number: int


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP: RFC 1939 §5."""


@dataclass(frozen=True, slots=True)
class Rset:
    """RSET: RFC 1939 §5: no message is marked as deleted any more."""


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT: RFC 1939 §4, §6. With `update` the marked messages are to be removed before it is answered."""

    update: bool


@dataclass(frozen=True, slots=True)
class Utf8:
    """UTF8: RFC 6856 §2.1: messages may come as they are, headers in UTF-8 too."""


@dataclass(frozen=True, slots=True)
class Lang:
    """LANG: RFC 6856 §3.2. `wanted` None asks which there are, in a multi-line answer; "*" is the server's own."""

    wanted: str | None


Request = Capa | Stls | Auth | User | Pass | Stat | List | Uidl | Retr | Top | Dele | Noop | Rset | Quit | Utf8 | Lang


# the table ------------------------------------------------------------------------------------------------------------


class State(Enum):
    """RFC 1939 §3. NAMED is AUTHORIZATION after a USER that was taken."""

    AUTHORIZATION = "AUTHORIZATION"
    NAMED = "AUTHORIZATION, user named"
    TRANSACTION = "TRANSACTION"
    UPDATE = "UPDATE"


# Which of so few it is a tuple tells sooner than a set.
_BEFORE: Final = (State.AUTHORIZATION, State.NAMED)
_AFTER: Final = (State.TRANSACTION,)
_ANY: Final = _BEFORE + _AFTER


class Situation(Protocol):
    """What a command may need to be understood: the state, and whom USER named."""

    @property
    def state(self) -> State: ...

    @property
    def name(self) -> bytes: ...


class Malformed(Exception):
    """The arguments are not what the command takes; the message says what it takes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One command: its arguments' parser, where it is legal, the states that +OK and -ERR lead to (None: no move).

    `multiline` says when its answer has many lines, in the manual's words.
    """

    name: bytes
    parse: Callable[[Situation, bytes | None], Request]
    states: tuple[State, ...]
    source: str
    multiline: str = ""
    success: State | None = None
    failure: State | None = None


def _plain(value: Request) -> Callable[[Situation, bytes | None], Request]:
    def parse(_: Situation, arguments: bytes | None) -> Request:
        if arguments is not None:
            raise Malformed("it takes no arguments")
        return value

    return parse


# RFC 1939 counts from 1. No maildrop has as many.
_MOST: Final = 10**10
_COUNT: Final = re.compile(rb"[0-9]{1,10}\Z")
_AUTH: Final = re.compile(rb"([A-Za-z0-9_-]{1,20})(?: (\S+))?\Z")
# RFC 4647 §2.1: a basic language range.
_LANGUAGE: Final = re.compile(rb"(?:\*|[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,8})\Z")
_BASE64: Final = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")


def _number(arguments: bytes | None) -> int:
    if arguments is None or not arguments.isdigit() or not 0 < (number := int(arguments)) < _MOST:
        raise Malformed("it takes the number of a message")
    return number


def _list(_: Situation, arguments: bytes | None) -> Request:
    return List(None if arguments is None else _number(arguments))


def _uidl(_: Situation, arguments: bytes | None) -> Request:
    return Uidl(None if arguments is None else _number(arguments))


def _retr(_: Situation, arguments: bytes | None) -> Request:
    return Retr(_number(arguments))


def _dele(_: Situation, arguments: bytes | None) -> Request:
    return Dele(_number(arguments))


def _top(_: Situation, arguments: bytes | None) -> Request:
    number, _space, lines = (arguments or b"").partition(b" ")
    if not _COUNT.match(lines):
        raise Malformed("it takes the number of a message and a count of lines")
    return Top(_number(number), int(lines))


def _user(_: Situation, arguments: bytes | None) -> Request:
    if not arguments:
        raise Malformed("it takes a name")
    return User(arguments)


def _pass(now: Situation, arguments: bytes | None) -> Request:
    # RFC 1939 §7: spaces are part of the password.
    if not arguments:
        raise Malformed("it takes a password")
    return Pass(now.name, arguments)


def _auth(_: Situation, arguments: bytes | None) -> Request:
    found = _AUTH.match(arguments or b"")
    if found is None:
        raise Malformed("it takes a mechanism")
    mechanism, initial = found.groups()
    # RFC 5034 §4: "=" is an initial response of no octets.
    octets = b"" if initial == b"=" else None if initial is None else from_base64(initial)
    return Auth(mechanism.decode("ascii").upper(), octets)


def _lang(_: Situation, arguments: bytes | None) -> Request:
    if arguments is None:
        return Lang(None)
    if not _LANGUAGE.match(arguments):
        raise Malformed("it takes a language tag")
    return Lang(arguments.decode("ascii"))


def _quit(now: Situation, arguments: bytes | None) -> Request:
    if arguments is not None:
        raise Malformed("it takes no arguments")
    return Quit(update=now.state is State.TRANSACTION)


def from_base64(octets: bytes) -> bytes:
    """Octets of a response of AUTH. Raises Malformed."""
    if not _BASE64.match(octets):
        raise Malformed("the response is not base64")
    return a2b_base64(octets)


TABLE: Final[dict[bytes, Row]] = {
    row.name: row
    for row in (
        Row(b"CAPA", _plain(Capa()), _ANY, "RFC 2449 §5", "always"),
        # RFC 2595 §4: what was known before TLS is forgotten.
        Row(b"STLS", _plain(Stls()), _BEFORE, "RFC 2595 §4", success=State.AUTHORIZATION),
        # RFC 6856 §2.1: before login only; §3.2: at any time.
        Row(b"UTF8", _plain(Utf8()), _BEFORE, "RFC 6856 §2.1"),
        Row(b"LANG", _lang, _ANY, "RFC 6856 §3.2", "without argument"),
        Row(
            b"AUTH", _auth, _BEFORE, "RFC 5034 §4",
            success=State.TRANSACTION, failure=State.AUTHORIZATION,
        ),
        Row(b"USER", _user, _BEFORE, "RFC 1939 §7", success=State.NAMED, failure=State.AUTHORIZATION),
        Row(
            b"PASS", _pass, (State.NAMED,), "RFC 1939 §7",
            success=State.TRANSACTION, failure=State.AUTHORIZATION,
        ),
        Row(b"STAT", _plain(Stat()), _AFTER, "RFC 1939 §5"),
        Row(b"LIST", _list, _AFTER, "RFC 1939 §5", "without argument"),
        Row(b"UIDL", _uidl, _AFTER, "RFC 1939 §7", "without argument"),
        Row(b"RETR", _retr, _AFTER, "RFC 1939 §5", "always"),
        Row(b"TOP", _top, _AFTER, "RFC 1939 §7", "always"),
        Row(b"DELE", _dele, _AFTER, "RFC 1939 §5"),
        Row(b"NOOP", _plain(Noop()), _AFTER, "RFC 1939 §5"),
        Row(b"RSET", _plain(Rset()), _AFTER, "RFC 1939 §5"),
        # RFC 1939 §6: whatever became of the removal, the session is over.
        Row(
            b"QUIT", _quit, _ANY, "RFC 1939 §4, §6",
            success=State.UPDATE, failure=State.UPDATE,
        ),
    )
}  # fmt: skip


def split(line: bytes) -> tuple[Row | None, bytes | None]:
    """The row of the command in a line (None: there is no such command), and what stands behind it (None: nothing)."""
    name, space, arguments = line.partition(b" ")
    row = TABLE.get(name.upper())
    if row is None or not space:
        return row, None
    # RFC 1939 §3 has no place for the trailing spaces that some clients send; but a password may end in them.
    return row, arguments if row.name == b"PASS" else arguments.rstrip(b" ") or None


def markdown() -> str:
    """The table as the manual shows it."""
    lines = [
        "| command | legal when | after +OK | after -ERR | many lines | source |",
        "|---|---|---|---|---|---|",
    ]
    for row in TABLE.values():
        cells = (
            row.name.decode(),
            "; ".join(state.value for state in State if state in row.states),
            row.success.value if row.success else "",
            row.failure.value if row.failure else "",
            row.multiline,
            row.source,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
