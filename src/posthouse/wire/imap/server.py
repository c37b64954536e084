"""The server's half of IMAP without I/O: octets in, events out; answers in, octets out (RFC 9051, RFC 3501).

Promises: a command is framed whole, its literals with it, before any of it is parsed; synchronizing literals are asked
for meanwhile (RFC 9051 §4.3, §7.6). Messages of APPEND are not gathered: they pass as chunks, and may be refused before
the client is asked to send them. Whatever the splits of the octets, the events say the same. The state moves by the
table in `command.py` when an answer is given, and behind a command whose answer matters nothing is parsed before it.
Refuses: to go on where client and server might disagree on what is a command: a bare CR or LF, a line or a
non-synchronizing literal that is too long, octets sent ahead of TLS. Each ends the connection.

A door pulls: `next_event()` until it is None, then writes `outgoing()`, then reads and gives `receive(octets)`. Every
Command is answered once, by `ok`, `no` or `bad`; what stands before the answer is queued by `send`.
"""

import re
from binascii import b2a_base64
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from posthouse import limits
from posthouse.wire.imap import command as commands
from posthouse.wire.imap import response
from posthouse.wire.imap.appending import Announced, Arguments, announces_url, begins_catenate
from posthouse.wire.imap.command import Head, Row, State
from posthouse.wire.imap.event import (
    AuthResponse,
    Broken,
    Command,
    Ended,
    Event,
    IdleDone,
    LiteralChunk,
    LiteralEnd,
)
from posthouse.wire.imap.grammar import ParseError, Parser, decode_base64
from posthouse.wire.imap.request import AppendMessage, AppendText
from posthouse.wire.imap.response import Buffer, Code
from posthouse.wire.lines import BareLineEnding, Lines, LineTooLong, Octets

# literal = "{" number64 ["+"] "}" at the end of a line (RFC 9051 §9, RFC 7888 §8), and how far back it may begin.
_LITERAL_END = re.compile(rb"\{([0-9]{1,19})(\+?)\}\Z")
_LITERAL_REACH: Final = 23
# After ENABLE of either, mailbox names are UTF-8 (RFC 9051 §5.1, RFC 9755 §3).
_UTF8: Final = frozenset({b"IMAP4REV2", b"UTF8=ACCEPT"})


class ImapServer:
    """One connection's conversation. `append_limit`: octets of the largest message that APPEND may bring.

    `state`, `utf8` (mailbox names are written in UTF-8) and `ended` are to be read, never set. `login_disabled` is the
    door's to set: while it holds a text, LOGIN is answered with it, and no password in a literal is asked for.
    """

    __slots__ = (
        "_announced", "_append_limit", "_arguments", "_charset", "_first", "_gathered", "_lines", "_literals",
        "_missing", "_out", "_pending", "_pieces", "_reason", "_step", "_unread", "_waits", "ended", "login_disabled",
        "mistakes", "state", "utf8",
    )  # fmt: skip

    def __init__(self, *, append_limit: int = limits.MESSAGE_SIZE) -> None:
        self.state = State.NOT_AUTHENTICATED
        self.utf8 = False
        self.ended = False
        self.mistakes = 0
        self.login_disabled: str | None = None
        self._append_limit = append_limit
        self._charset = True
        self._lines = Lines()
        self._out: list[Buffer] = []
        self._step: Callable[[ImapServer], Event | None] = ImapServer._read_command
        self._reason = ""
        # Commands without an answer yet, and the one of them that holds back what comes behind.
        self._pending: list[Command] = []
        self._first: Command | None = None
        # The command being gathered: its octets, how many they will be, how many literals.
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._literals = 0
        # Octets of a literal that have not come yet.
        self._missing = 0
        # APPEND and REPLACE: what reads their arguments, what these announce and the door has yet to hear, whether the
        # octets that are announced last wait for "+", and whether the rest of the command is still to come.
        self._arguments = Arguments(several=False)
        self._announced: deque[Announced] = deque()
        self._waits = False
        self._unread = False

    # octets in and out ------------------------------------------------------------------------------------------------

    def receive(self, octets: Octets) -> None:
        """Take what arrived; `octets` may be overwritten afterwards."""
        if not self.ended:
            self._lines.receive(octets)

    def next_event(self) -> Event | None:
        """The next event, or None: an answer or more octets are needed first."""
        return self._step(self)

    def outgoing(self) -> list[Buffer]:
        """What is to be sent, in order; it is forgotten here."""
        out = self._out
        self._out = []
        return out

    def send(self, *buffers: Buffer) -> None:
        """Queue whole responses (`response.py`); one may come in several buffers."""
        self._out += buffers

    @property
    def waiting(self) -> int:
        """Octets received and not read yet. A door that sees many of them stops reading from its socket."""
        return len(self._lines)

    @property
    def midway(self) -> bool:
        """A command has come in part, up to one of its literals or beyond."""
        return self._unread or self._literals > 0

    # answers ----------------------------------------------------------------------------------------------------------

    def greet(self, text: str, capabilities: Iterable[bytes]) -> None:
        """The greeting (RFC 9051 §7.1.1)."""
        self._out.append(response.ok(text, response.capability_code(capabilities)))

    def ok(self, command: Command, text: str, code: bytes = b"") -> None:
        """`command` is done: its row moves the state."""
        row = command.row
        if row.name == b"STARTTLS" and len(self._lines):
            # CVE-2011-0411: octets that came in clear text are never read as if TLS had protected them.
            self._end("octets were sent ahead of TLS", "Nothing may follow STARTTLS before TLS begins")
            return
        if row.name == b"COMPRESS" and len(self._lines):
            # RFC 4978 §3: a client waits for the answer, for what it sends next depends on it.
            self._end("octets were sent ahead of compression", "Nothing may follow COMPRESS before its answer")
            return
        if row.success is State.LOGOUT and not self.ended:
            # RFC 9051 §6.1.3: BYE stands before the answer.
            self._out.append(response.bye("Logging out"))
        self.mistakes = 0
        self._answer(command, b"OK", text, code)
        self.state = row.success or self.state
        if row.success is State.NOT_AUTHENTICATED:
            # RFC 8437 §4.1: what ENABLE turned on is off again.
            self.utf8 = False
            self._charset = True
        if self.state is State.LOGOUT:
            self._stop("logged out")
        elif row.name == b"STARTTLS":
            self._step = ImapServer._expect_tls

    def no(self, command: Command, text: str, code: bytes = b"") -> None:
        """`command` failed: its row moves the state. What is unread of an APPEND is never asked for, or skipped."""
        self._answer(command, b"NO", text, code)
        self.state = command.row.failure or self.state

    def bad(self, command: Command, text: str, code: bytes = b"") -> None:
        """`command` makes no sense; a mistake of the client's."""
        self._answer(command, b"BAD", text, code)
        self._mistake()

    def enable(self, capabilities: Iterable[bytes]) -> None:
        """Say which capabilities an ENABLE has turned on; mailbox names are written accordingly. `ok` comes after."""
        on = tuple(capabilities)
        self._out.append(response.enabled(on))
        self.utf8 = self.utf8 or any(capability.upper() in _UTF8 for capability in on)
        # RFC 9755 §3: strings are UTF-8 then, and a charset would say otherwise.
        self._charset = self._charset and not any(capability.upper() == b"UTF8=ACCEPT" for capability in on)

    def challenge(self, octets: bytes) -> None:
        """Ask the client of an AUTHENTICATE for a response; AuthResponse or Broken follows."""
        self._out.append(response.continuation(b2a_base64(octets, newline=False)))
        self._step = ImapServer._read_response

    def idle(self) -> None:
        """Begin an IDLE; IdleDone or Broken follows, and untagged responses may be sent meanwhile."""
        self._out.append(response.continuation(b"idling"))
        self._step = ImapServer._read_done

    def accept(self) -> None:
        """Take the octets announced last: LiteralChunks follow, then LiteralEnd."""
        if self._waits:
            self._out.append(response.continuation(b"send the message"))
            self._waits = False
        self._step = ImapServer._read_octets

    def tls_started(self) -> None:
        """TLS is up: what is received from now on came through it."""
        if self._step is ImapServer._expect_tls and not len(self._lines):
            self._step = ImapServer._read_command

    def bye(self, text: str, code: bytes = b"") -> None:
        """End the connection for a reason of ours (RFC 9051 §7.1.5): idle too long, shutting down."""
        self._end(text, text, code)

    def unselect(self, text: str) -> None:
        """The open mailbox is there no more (RFC 9051 §3, figure 1: an unsolicited CLOSED ends the selected state)."""
        self._out.append(response.ok(text, Code.CLOSED))
        if self.state is State.SELECTED:
            self.state = State.AUTHENTICATED

    def _answer(self, command: Command, status: bytes, text: str, code: bytes) -> None:
        self._pending.remove(command)
        if self.ended:
            return
        self._out.append(response.status_line(command.tag, status, text, code))
        if command is self._first:
            self._first = None
            # A message that waits for "+" is never sent; all else of an APPEND is on its way.
            self._unread = self._unread and not self._waits
            self._missing = self._missing if self._unread else 0
            self._waits = False
            self._step = ImapServer._skip if self._unread else ImapServer._read_command

    def _mistake(self) -> None:
        self.mistakes += 1
        if self.mistakes >= limits.READING_MISTAKES:
            self._end("too many mistakes", "Too many lines that are no commands")

    def _end(self, reason: str, text: str, code: bytes = b"") -> None:
        if not self.ended:
            self._out.append(response.bye(text, code))
            self._stop(reason)

    def _stop(self, reason: str) -> None:
        self.ended = True
        self._reason = reason
        self._step = ImapServer._tell_end

    def _tell_end(self) -> Event | None:
        self._step = ImapServer._tell_nothing
        return Ended(self._reason)

    def _tell_nothing(self) -> Event | None:
        return None

    def _expect_tls(self) -> Event | None:
        if not len(self._lines):
            return None
        self._end("octets were sent ahead of TLS", "Nothing may follow STARTTLS before TLS begins")
        return self._step(self)

    # commands ---------------------------------------------------------------------------------------------------------

    def _read_command(self) -> Event | None:
        if self._first is not None:
            return None
        while self._step is ImapServer._read_command:
            if self._missing and not self._take_literal():
                return None
            line = self._line(limits.IMAP_LINE)
            if line is None:
                break
            if line.endswith(b"}") and (found := _LITERAL_END.search(line, max(0, len(line) - _LITERAL_REACH))):
                event = self._meet_literal(line, int(found.group(1)), waits=not found.group(2))
            else:
                event = self._parse(self._whole(line) if self._pieces else line)
            if event is not None:
                return event
        return None if self._step is ImapServer._read_command else self._step(self)

    def _line(self, limit: int) -> bytes | None:
        try:
            return self._lines.line(limit)
        except LineTooLong:
            self._end("a line was too long", "The line is too long", Code.TOOBIG)
        except BareLineEnding as error:
            self._end(f"a bare {error.octet}", "Only CR LF ends a line")
        return None

    def _whole(self, line: bytes) -> bytes:
        whole = b"".join([*self._pieces, line])
        self._drop()
        return whole

    def _drop(self) -> None:
        self._pieces.clear()
        self._gathered = self._literals = 0

    def _parse(self, octets: bytes) -> Event | None:
        head = commands.head(octets)
        row = head.row if head else None
        if head is None or row is None or self._unwelcome(row):
            self._refuse_head(head)
            return None
        if row.streams:
            return self._meet_messages(head, row, octets, None)
        try:
            request = commands.parse(row, octets, head.arguments, utf8=self.utf8, charset=self._charset)
        except ParseError as error:
            self._refuse(head.tag, b"NO" if error.no else b"BAD", error.text, error.code)
            return None
        return self._begin(Command(head.tag, row, request))

    def _begin(self, command: Command) -> Command:
        self._pending.append(command)
        if command.row.first:
            self._first = command
        return command

    def _unwelcome(self, row: Row) -> bool:
        """Whatever its arguments are, this command is refused now."""
        # RFC 9051 §6.2.3: under LOGINDISABLED.
        return self.state not in row.states or (row.name == b"LOGIN" and self.login_disabled is not None)

    def _refuse_head(self, head: Head | None) -> None:
        if head is None:
            self._refuse(b"*", b"BAD", "A command begins with a tag")
        elif head.row is None:
            self._refuse(head.tag, b"BAD", "There is no such command")
        elif self.state not in head.row.states:
            self._refuse(head.tag, b"BAD", f"Not while {self.state.value}")
        else:
            self._refuse(head.tag, b"NO", self.login_disabled or "", Code.PRIVACYREQUIRED)

    def _refuse(self, tag: bytes, status: bytes, text: str, code: bytes = b"") -> None:
        self._out.append(response.status_line(tag, status, text, code))
        if status == b"BAD":
            self._mistake()

    # literals ---------------------------------------------------------------------------------------------------------

    def _meet_literal(self, line: bytes, size: int, *, waits: bool) -> Event | None:
        """A line announces a literal: gather it, refuse the command before it is sent, or (APPEND) stream it."""
        self._pieces.append(line)
        head = commands.head(self._pieces[0])
        row = head.row if head else None
        if head is None or row is None or self._unwelcome(row):
            # A client that waits for "+" hears it now. What another has sent already is read first, and refused then.
            if waits:
                self._drop()
                self._refuse_head(head)
                return None
        elif row.streams and not self._is_argument(line, head, row):
            return self._meet_messages(head, row, self._whole(b""), _LITERAL_END.search(line))
        self._gather(head, len(line), size, waits=waits)
        return None

    def _is_argument(self, line: bytes, head: Head, row: Row) -> bool:
        """Is the literal at the end of this line the mailbox or a URL, and no octets of a message?"""
        if announces_url(line) and begins_catenate(b"".join(self._pieces)):
            return True
        return not self._literals and line.count(b" ", head.arguments) == row.streams

    def _gather(self, head: Head | None, line: int, size: int, *, waits: bool) -> None:
        self._pieces.append(b"\r\n")
        self._literals += 1
        self._gathered += line + size
        most = limits.IMAP_COMMAND_BEFORE_LOGIN if self.state is State.NOT_AUTHENTICATED else limits.IMAP_COMMAND
        if self._gathered > most or self._literals > limits.IMAP_LITERALS:
            self._drop()
            self._too_big(head.tag if head else b"*", waits=waits)
            return
        if waits:
            self._out.append(response.continuation(b"go on"))
        self._missing = size

    def _too_big(self, tag: bytes, *, waits: bool) -> None:
        self._out.append(response.status_line(tag, b"NO", "That is too big", Code.TOOBIG))
        if not waits:
            # RFC 7888 §4: what comes unasked must be read, or the connection closed.
            self._end("a literal was too big", "The literal is too big to read", Code.TOOBIG)

    def _take_literal(self) -> bool:
        octets = self._lines.take(self._missing)
        self._pieces.append(octets)
        self._missing -= len(octets)
        return not self._missing

    # APPEND and REPLACE -----------------------------------------------------------------------------------------------

    def _meet_messages(self, head: Head, row: Row, octets: bytes, literal: re.Match[bytes] | None) -> Event | None:
        """All is there that stands before the first octets of a message, which `literal` announces."""
        parser = Parser(octets, head.arguments, utf8=self.utf8)
        arguments = Arguments(several=row.name == b"APPEND")
        try:
            request = row.parse(parser)
            announced = arguments.read(parser)
        except ParseError as error:
            self._refuse(head.tag, b"NO" if error.no else b"BAD", error.text, error.code)
            self._follow(literal)
            if self._unread and not self.ended:
                self._step = ImapServer._skip
            return None
        if _size_of(announced[-1]) > self._append_limit:
            self._too_big(head.tag, waits=literal is not None and not literal.group(2))
            return None
        self._arguments = arguments
        self._announce(announced, literal)
        return self._begin(Command(head.tag, row, request))

    def _announce(self, announced: list[Announced], literal: re.Match[bytes] | None) -> None:
        self._announced = deque(announced)
        self._missing = _size_of(announced[-1])
        self._unread = literal is not None
        self._waits = literal is not None and not literal.group(2)
        self._step = ImapServer._tell_announced

    def _tell_announced(self) -> Event | None:
        event = self._announced.popleft()
        if not self._announced:
            self._step = ImapServer._read_command  # which waits, for the command has no answer yet
        return event

    def _read_octets(self) -> Event | None:
        if self._missing:
            octets = self._lines.take(self._missing)
            self._missing -= len(octets)
            return LiteralChunk(octets) if octets else None
        self._step = ImapServer._read_rest
        return LiteralEnd()

    def _read_rest(self) -> Event | None:
        """Behind the octets of a message: the end of the command, another part, or another message (RFC 3502)."""
        while True:
            if self._missing and not self._take_literal():
                return None
            line = self._line(limits.IMAP_LINE)
            if line is None:
                return self._step(self) if self.ended else None
            self._pieces.append(line)
            literal = _LITERAL_END.search(line)
            catenating = self._arguments.catenating or begins_catenate(b"".join(self._pieces))
            if literal is None or not announces_url(line) or not catenating:
                return self._read_arguments(literal)
            if not self._gather_url(line, literal):
                return self._break("That is too big", literal, b"NO", Code.TOOBIG)

    def _read_arguments(self, literal: re.Match[bytes] | None) -> Event | None:
        self._unread = False
        try:
            announced = self._arguments.read(Parser(self._whole(b""), utf8=self.utf8))
        except ParseError as error:
            return self._break(error.text, literal)
        if _size_of(announced[-1]) > self._append_limit:
            return self._break("That is too big", literal, b"NO", Code.TOOBIG)
        self._announce(announced, literal)
        return self._tell_announced()

    def _gather_url(self, line: bytes, literal: re.Match[bytes]) -> bool:
        """Ask for the octets of a URL; False where the arguments would become too long."""
        self._missing = int(literal.group(1))
        self._pieces.append(b"\r\n")
        self._literals += 1
        self._gathered += len(line) + self._missing
        if self._gathered > limits.IMAP_COMMAND or self._literals > limits.IMAP_LITERALS:
            self._drop()
            return False
        if not literal.group(2):
            self._out.append(response.continuation(b"go on"))
        return True

    def _break(
        self, text: str, literal: re.Match[bytes] | None = None, status: bytes = b"BAD", code: bytes = b""
    ) -> Event:
        """What follows a command is not what it asks for: answer it here, and read past the literal that may come."""
        command = self._first
        assert command is not None
        self._follow(literal)
        self._answer(command, status, text, code)
        if status == b"BAD":
            self._mistake()
        return Broken(command, text)

    def _follow(self, literal: re.Match[bytes] | None) -> None:
        """A line ends the interest in its command; a literal that it announces comes all the same, unless it waits."""
        comes = literal is not None and bool(literal.group(2))
        self._unread = comes
        self._missing = int(literal.group(1)) if literal and comes else 0
        if self._missing > self._append_limit:
            self._end("a literal was too big", "The literal is too big to read", Code.TOOBIG)

    def _skip(self) -> Event | None:
        """Read past the rest of a command that has its answer."""
        while self._unread:
            self._missing -= len(self._lines.take(self._missing))
            line = None if self._missing else self._line(limits.IMAP_LINE)
            if line is None:
                return self._step(self) if self.ended else None
            self._follow(_LITERAL_END.search(line))
        self._step = ImapServer._tell_end if self.ended else ImapServer._read_command
        return self._step(self)

    # AUTHENTICATE and IDLE --------------------------------------------------------------------------------------------

    def _read_response(self) -> Event | None:
        line = self._line(limits.AUTH_LINE)
        if line is None:
            return self._step(self) if self.ended else None
        self._step = ImapServer._read_command  # which waits for the answer, or the next challenge
        # RFC 9051 §6.2.2: "*" cancels, and like broken base64 is answered with BAD.
        if line == b"*":
            return self._break("Authentication was given up")
        try:
            return AuthResponse(decode_base64(line))
        except ValueError:
            return self._break("The response is not base64")

    def _read_done(self) -> Event | None:
        line = self._line(limits.COMMAND_LINE)
        if line is None:
            return self._step(self) if self.ended else None
        self._step = ImapServer._read_command  # which waits for the answer
        # RFC 9051 §6.3.13: only DONE may follow.
        return IdleDone() if line.upper() == b"DONE" else self._break("Only DONE ends IDLE")


def _size_of(announced: Announced) -> int:
    """How many octets are to follow."""
    return announced.size if isinstance(announced, AppendMessage | AppendText) else 0
