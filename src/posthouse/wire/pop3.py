"""The server's half of POP3 without I/O (RFC 1939, 2449, 2595, 5034): octets in, events out; answers in, octets out.

Promises: one command at a time, each answered before the next is parsed, so that pipelining (RFC 2449 §6.6) needs no
care. The state moves by TABLE when an answer is given, and by nothing else.
Refuses: APOP, which needs passwords stored in the clear; lines that are too long or end in anything but CRLF, and
octets sent ahead of TLS: each ends the connection.

A door pulls: `next_event()` until it is None, then writes `outgoing()`, then reads and gives `receive(octets)`. Every
Command is answered by `ok`, `ok_lines` or `err`; the message of RETR and TOP follows `ok` by `send` (`multiline.py`).
"""

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from posthouse import limits
from posthouse.wire.lines import BareLineEnding, Lines, LineTooLong, Octets

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


Request = Capa | Stls | Auth | User | Pass | Stat | List | Uidl | Retr | Top | Dele | Noop | Rset | Quit


# the table ------------------------------------------------------------------------------------------------------------


class State(Enum):
    """RFC 1939 §3. NAMED is AUTHORIZATION after a USER that was taken."""

    AUTHORIZATION = "AUTHORIZATION"
    NAMED = "AUTHORIZATION, user named"
    TRANSACTION = "TRANSACTION"
    UPDATE = "UPDATE"


_BEFORE: Final = frozenset({State.AUTHORIZATION, State.NAMED})
_AFTER: Final = frozenset({State.TRANSACTION})


class Malformed(Exception):
    """The arguments are not what the command takes; the message says what it takes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One command: its arguments' parser, where it is legal, the states that +OK and -ERR lead to (None: no move).

    `multiline` says when its answer has many lines, in the manual's words.
    """

    name: bytes
    parse: Callable[["Pop3Server", bytes | None], Request]
    states: frozenset[State]
    source: str
    multiline: str = ""
    success: State | None = None
    failure: State | None = None


def _plain(value: Request) -> Callable[["Pop3Server", bytes | None], Request]:
    def parse(_: "Pop3Server", arguments: bytes | None) -> Request:
        if arguments is not None:
            raise Malformed("it takes no arguments")
        return value

    return parse


_NUMBER: Final = re.compile(rb"0*[1-9][0-9]{0,9}\Z")
_COUNT: Final = re.compile(rb"[0-9]{1,10}\Z")
_AUTH: Final = re.compile(rb"([A-Za-z0-9_-]{1,20})(?: (\S+))?\Z")
_BASE64: Final = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")


def _number(arguments: bytes | None) -> int:
    if arguments is None or not _NUMBER.match(arguments):
        raise Malformed("it takes the number of a message")
    return int(arguments)


def _list(_: "Pop3Server", arguments: bytes | None) -> Request:
    return List(None if arguments is None else _number(arguments))


def _uidl(_: "Pop3Server", arguments: bytes | None) -> Request:
    return Uidl(None if arguments is None else _number(arguments))


def _retr(_: "Pop3Server", arguments: bytes | None) -> Request:
    return Retr(_number(arguments))


def _dele(_: "Pop3Server", arguments: bytes | None) -> Request:
    return Dele(_number(arguments))


def _top(_: "Pop3Server", arguments: bytes | None) -> Request:
    number, _space, lines = (arguments or b"").partition(b" ")
    if not _COUNT.match(lines):
        raise Malformed("it takes the number of a message and a count of lines")
    return Top(_number(number), int(lines))


def _user(_: "Pop3Server", arguments: bytes | None) -> Request:
    if not arguments:
        raise Malformed("it takes a name")
    return User(arguments)


def _pass(server: "Pop3Server", arguments: bytes | None) -> Request:
    # RFC 1939 §7: spaces are part of the password.
    if not arguments:
        raise Malformed("it takes a password")
    return Pass(server.name, arguments)


def _auth(_: "Pop3Server", arguments: bytes | None) -> Request:
    found = _AUTH.match(arguments or b"")
    if found is None:
        raise Malformed("it takes a mechanism")
    mechanism, initial = found.groups()
    # RFC 5034 §4: "=" is an initial response of no octets.
    octets = b"" if initial == b"=" else None if initial is None else _from_base64(initial)
    return Auth(mechanism.decode("ascii").upper(), octets)


def _quit(server: "Pop3Server", arguments: bytes | None) -> Request:
    if arguments is not None:
        raise Malformed("it takes no arguments")
    return Quit(update=server.state is State.TRANSACTION)


def _from_base64(octets: bytes) -> bytes:
    if not _BASE64.match(octets):
        raise Malformed("the response is not base64")
    return a2b_base64(octets)


TABLE: Final[dict[bytes, Row]] = {
    row.name: row
    for row in (
        Row(b"CAPA", _plain(Capa()), _BEFORE | _AFTER, "RFC 2449 §5", "always"),
        # RFC 2595 §4: what was known before TLS is forgotten.
        Row(b"STLS", _plain(Stls()), _BEFORE, "RFC 2595 §4", success=State.AUTHORIZATION),
        Row(
            b"AUTH", _auth, _BEFORE, "RFC 5034 §4",
            success=State.TRANSACTION, failure=State.AUTHORIZATION,
        ),
        Row(b"USER", _user, _BEFORE, "RFC 1939 §7", success=State.NAMED, failure=State.AUTHORIZATION),
        Row(
            b"PASS", _pass, frozenset({State.NAMED}), "RFC 1939 §7",
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
            b"QUIT", _quit, _BEFORE | _AFTER, "RFC 1939 §4, §6",
            success=State.UPDATE, failure=State.UPDATE,
        ),
    )
}  # fmt: skip


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


# events ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """A whole command, legal in its state."""

    row: Row
    request: Request


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """What the client answered to `challenge`, base64 undone."""

    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Broken:
    """The client gave up its AUTH, or answered no base64; it has been told -ERR already."""

    command: Command
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """No more will be read. Write what is outgoing and close."""

    reason: str


Event = Command | AuthResponse | Broken | Ended


# the engine -----------------------------------------------------------------------------------------------------------

_COMMAND: Final = re.compile(rb"([A-Za-z0-9]{3,4})(?: (.*))?\Z", re.DOTALL)
_BREAKS: Final = re.compile(r"[\x00-\x1f\x7f]+")
END: Final = b".\r\n"


class Pop3Server:
    """One connection's conversation. `state`, `name` (what USER said) and `ended` are to be read, never set."""

    __slots__ = ("_command", "_lines", "_out", "_reason", "_step", "ended", "mistakes", "name", "state")

    def __init__(self) -> None:
        self.state = State.AUTHORIZATION
        self.name = b""
        self.ended = False
        self.mistakes = 0
        self._lines = Lines()
        self._out: list[bytes] = []
        self._command: Command | None = None
        self._step: Callable[[Pop3Server], Event | None] = Pop3Server._read_command
        self._reason = ""

    # octets in and out ------------------------------------------------------------------------------------------------

    def receive(self, octets: Octets) -> None:
        """Take what arrived; `octets` may be overwritten afterwards."""
        if not self.ended:
            self._lines.receive(octets)

    def next_event(self) -> Event | None:
        """The next event, or None: an answer or more octets are needed first."""
        return self._step(self)

    def outgoing(self) -> list[bytes]:
        """What is to be sent, in order; it is forgotten here."""
        out = self._out
        self._out = []
        return out

    def send(self, *octets: bytes) -> None:
        """Queue octets as they are: the lines of a multi-line answer, whose first line `ok` wrote."""
        self._out += octets

    @property
    def waiting(self) -> int:
        """Octets received and not read yet. A door that sees many of them stops reading from its socket."""
        return len(self._lines)

    # answers ----------------------------------------------------------------------------------------------------------

    def greet(self, text: str) -> None:
        """The greeting (RFC 1939 §4). Without a time stamp, which would offer APOP."""
        self._out.append(_line("+OK", text))

    def ok(self, text: str) -> None:
        """The command is done: its row moves the state."""
        command = self._answered()
        if command.row.name == b"STLS" and len(self._lines):
            # CVE-2011-0411: octets that came in clear text are never read as if TLS had protected them.
            self._end("octets were sent ahead of TLS", "Nothing may follow STLS before TLS begins")
            return
        self._answer(_line("+OK", text))
        self.mistakes = 0
        if isinstance(command.request, User):
            self.name = command.request.name
        self._move(command.row.success)
        if command.row.name == b"STLS":
            self._step = Pop3Server._expect_tls

    def ok_lines(self, text: str, lines: Iterable[bytes]) -> None:
        """The command is done, in many lines (without CRLF, all short): CAPA, LIST, UIDL."""
        self.ok(text)
        # RFC 1939 §3: a line that begins with a dot gets another.
        self._out.append(
            b"".join([b".%b\r\n" % line if line[:1] == b"." else b"%b\r\n" % line for line in lines]) + END
        )

    def err(self, text: str, code: str = "") -> None:
        """The command failed: its row moves the state. `code` is a response code (RFC 2449 §8, RFC 3206): "IN-USE"."""
        command = self._answered()
        self._answer(_line("-ERR", text, code))
        self._move(command.row.failure)

    def challenge(self, octets: bytes) -> None:
        """Ask the client of an AUTH for a response; AuthResponse or Broken follows."""
        self._out.append(b"+ %b\r\n" % b2a_base64(octets, newline=False))
        self._step = Pop3Server._read_response

    def tls_started(self) -> None:
        """TLS is up: what is received from now on came through it."""
        if self._step is Pop3Server._expect_tls and not len(self._lines):
            self._step = Pop3Server._read_command

    def bye(self, text: str, code: str = "") -> None:
        """End the connection for a reason of ours: idle too long, shutting down. Nothing is removed (RFC 1939 §6)."""
        self._end(text, text, code)

    def _answered(self) -> Command:
        command = self._command
        assert command is not None, "there is no command to answer"
        self._command = None
        return command

    def _answer(self, line: bytes) -> None:
        if not self.ended:
            self._out.append(line)
            self._step = Pop3Server._read_command

    def _move(self, state: State | None) -> None:
        self.state = state or self.state
        if state is State.UPDATE and not self.ended:
            self._stop("the client took its leave")

    def _mistake(self, text: str) -> None:
        self._out.append(_line("-ERR", text))
        self.mistakes += 1
        if self.mistakes >= limits.READING_MISTAKES:
            self._end("too many mistakes", "Too many lines that are no commands")

    def _end(self, reason: str, text: str, code: str = "") -> None:
        if not self.ended:
            self._out.append(_line("-ERR", text, code))
            self._stop(reason)

    def _stop(self, reason: str) -> None:
        self.ended = True
        self._reason = reason
        self._step = Pop3Server._tell_end

    # reading ----------------------------------------------------------------------------------------------------------

    def _tell_end(self) -> Event | None:
        self._step = Pop3Server._tell_nothing
        return Ended(self._reason)

    def _tell_nothing(self) -> Event | None:
        return None

    def _expect_tls(self) -> Event | None:
        if not len(self._lines):
            return None
        self._end("octets were sent ahead of TLS", "Nothing may follow STLS before TLS begins")
        return self._step(self)

    def _line(self, limit: int) -> bytes | None:
        try:
            return self._lines.line(limit)
        except LineTooLong:
            self._end("a line was too long", "The line is too long")
        except BareLineEnding as error:
            self._end(f"a bare {error.octet}", "Only CR LF ends a line")
        return None

    def _read_command(self) -> Event | None:
        if self._command is not None:
            return None
        while not self.ended:
            # RFC 2449 §4 asks for 255 octets; an initial response of AUTH may need more.
            line = self._line(limits.COMMAND_LINE)
            if line is None:
                break
            command = self._parse(line)
            if command is not None:
                self._command = command
                return command
        return self._step(self) if self.ended else None

    def _parse(self, line: bytes) -> Command | None:
        found = _COMMAND.match(line)
        row = TABLE.get(found.group(1).upper()) if found else None
        if found is None or row is None:
            self._mistake("There is no such command")
        elif self.state not in row.states:
            self._mistake(f"{row.name.decode()} is not for now")
        else:
            try:
                return Command(row, row.parse(self, found.group(2)))
            except Malformed as error:
                self._mistake(f"{row.name.decode()}: {error}")
        return None

    def _read_response(self) -> Event | None:
        line = self._line(limits.AUTH_LINE)
        if line is None:
            return self._step(self) if self.ended else None
        self._step = Pop3Server._read_command  # which waits for the answer, or the next challenge
        try:
            # RFC 5034 §4: "*" cancels, and is answered with -ERR.
            return self._break("Authentication was given up") if line == b"*" else AuthResponse(_from_base64(line))
        except Malformed as error:
            return self._break(str(error))

    def _break(self, text: str) -> Event:
        command = self._command
        assert command is not None
        self.err(text)
        return Broken(command, text)


def _line(status: str, text: str, code: str = "") -> bytes:
    words = _BREAKS.sub(" ", f"{status} [{code}] {text}" if code else f"{status} {text}")
    return words.encode("ascii", "replace") + b"\r\n"
