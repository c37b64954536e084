"""The server's half of POP3 without I/O (RFC 1939, 2449, 2595, 5034): octets in, events out; answers in, octets out.

Promises: one command at a time, each answered before the next is parsed, so that pipelining (RFC 2449 §6.6) needs no
care. The state moves by TABLE when an answer is given, and by nothing else.
Refuses: lines that are too long or end in anything but CRLF, and octets sent ahead of TLS: each ends the connection.

A door pulls: `next_event()` until it is None, then writes `outgoing()`, then reads and gives `receive(octets)`. Every
Command is answered by `ok`, `ok_lines` or `err`; the message of RETR and TOP follows `ok` by `send` (`multiline.py`).
"""

import re
from binascii import b2a_base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from posthouse import limits
from posthouse.wire.lines import BareLineEnding, Lines, LineTooLong, Octets
from posthouse.wire.pop3.command import Malformed, Request, Row, State, User, Utf8, from_base64, split

# events ---------------------------------------------------------------------------------------------------------------


class Command(NamedTuple):
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

_BREAKS: Final = re.compile(r"[\x00-\x1f\x7f]+")
END: Final = b".\r\n"


class Pop3Server:
    """One connection's conversation. `state`, `name` (what USER said), `utf8` (it takes headers in UTF-8) and `ended`
    are to be read, never set."""

    __slots__ = ("_command", "_lines", "_out", "_reason", "_step", "ended", "mistakes", "name", "state", "utf8")

    def __init__(self) -> None:
        self.state = State.AUTHORIZATION
        self.name = b""
        self.utf8 = False
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
        row, request = self._answered()
        starts_tls = row.name == b"STLS"
        if starts_tls and len(self._lines):
            # CVE-2011-0411: octets that came in clear text are never read as if TLS had protected them.
            self._end("octets were sent ahead of TLS", "Nothing may follow STLS before TLS begins")
            return
        self._answer(_line("+OK", text))
        self.mistakes = 0
        if isinstance(request, User):
            self.name = request.name
        elif isinstance(request, Utf8):
            self.utf8 = True
        self._move(row.success)
        if starts_tls:
            # RFC 2595 §4: what the client said before is forgotten.
            self.utf8 = False
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
        if state is None:
            return
        self.state = state
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
        row, arguments = split(line)
        if row is None:
            self._mistake("There is no such command")
        elif self.state not in row.states:
            self._mistake(f"{row.name.decode()} is not for now")
        else:
            try:
                return Command(row, row.parse(self, arguments))
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
            return self._break("Authentication was given up") if line == b"*" else AuthResponse(from_base64(line))
        except Malformed as error:
            return self._break(str(error))

    def _break(self, text: str) -> Event:
        command = self._command
        assert command is not None
        self.err(text)
        return Broken(command, text)


def _line(status: str, text: str, code: str = "") -> bytes:
    words = f"{status} [{code}] {text}" if code else f"{status} {text}"
    # Which is most of them: to look costs a fifth of replacing nothing.
    if not (words.isascii() and words.isprintable()):
        words = _BREAKS.sub(" ", words)
    return words.encode("ascii", "replace") + b"\r\n"
