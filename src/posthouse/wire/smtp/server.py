"""SMTP and LMTP, the server's half (RFC 5321, RFC 2033), without I/O: the engine that obeys table.py.

Promises: `next_event` gives one event at a time and parses nothing behind it before `reply` has answered it; the reply
moves the state as the table says and nothing else does; bare CR and LF never end a message and never pass; replies
gather in `outgoing` until they must leave.
Refuses: octets that arrive between STARTTLS and the handshake (CVE-2011-0411), commands out of order, out of grammar
or not announced: the engine answers these itself, hands out a Rejected, and counts it in `errors`.

A chunk of BDAT is read before anybody is asked, so what is refused is consumed like what is taken (RFC 3030 §2).

A new command is a row in table.py and a parser in command.py. Octets that are no lines, like DATA's, have a State and
a reader here.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from posthouse import limits
from posthouse.terms.reply import Refusal, Reply
from posthouse.terms.text import is_line
from posthouse.wire.lines import BareLineEnding, Lines, LineTooLong, Octets
from posthouse.wire.smtp import command
from posthouse.wire.smtp.command import Bdat, Hello, Mail
from posthouse.wire.smtp.data import Chunks, Flaw, Unstuffer
from posthouse.wire.smtp.event import (
    ChunkEnd,
    Closed,
    Connected,
    DataChunk,
    DataEnd,
    DataRefused,
    Event,
    Rejected,
    Why,
)
from posthouse.wire.smtp.parameters import Situation
from posthouse.wire.smtp.table import (
    AUTH_RESPONSE,
    CONNECTION,
    END_OF_CHUNK,
    END_OF_DATA,
    END_OF_LAST_CHUNK,
    VERBS,
    Kind,
    Row,
    State,
)

# Known from RFCs and not done here: 502 (RFC 5321 §4.2.4), where a word nobody ever heard is a 500.
_NOT_DONE: Final = frozenset({"SEND", "SOML", "SAML", "TURN", "ETRN", "ATRN", "BURL"})
# What a browser that was lured to this port says first. Going on would let a web page speak SMTP in its request's body.
_WEB: Final = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH"})
# RFC 5321 §3.8, RFC 7504 §3: after these the server hangs up.
_FAREWELLS: Final = frozenset({421, 521})
_NEXT: Final = {
    State.TURNED_AWAY: "No mail is taken from you; only QUIT is left",
    State.GREETED: "Say hello first",
    State.READY: "Say MAIL first",
    State.MAIL: "A transaction is open; RSET ends it",
    State.RCPT: "A transaction is open; RSET ends it",
    State.CHUNKS: "The message has begun; BDAT with LAST ends it, or RSET",
}
_NO_RECIPIENT: Final = Refusal(503, "5.5.1", "No recipient was taken; say RCPT first")
# Mechanisms that show the password to whoever listens.
_OPEN: Final = frozenset({"PLAIN", "LOGIN"})


# The engine -----------------------------------------------------------------------------------------------------------


class SmtpServer:
    """One conversation: `receive` octets, take events by `next_event`, `reply` to them, send what `outgoing` gives.

    `extensions` is what EHLO announces, keyword → parameters ("" for none); ENHANCEDSTATUSCODES and the like included.
    `home` is the domain to which `<Postmaster>` belongs.
    `state`, `errors` and `recipients` (how many RCPTs were taken) may be read at any time. `must_flush`: the replies
    gathered must leave now, though commands may be waiting (RFC 2920 §3.2); when `next_event` gives None, in any case.
    """

    __slots__ = (
        "_asked", "_binary", "_chunks", "_data", "_ended", "_eof", "_granted", "_last", "_left", "_lines",
        "_longest", "_out", "_refusal", "_resume", "_situation", "_verbs", "_wanted", "_why", "errors",
        "extended", "kind", "must_flush", "recipients", "state",
    )  # fmt: skip

    # Each from its first octet on.
    _data: Unstuffer
    _chunks: Chunks

    def __init__(self, kind: Kind, extensions: Mapping[str, str], *, home: str) -> None:
        self.kind = kind
        self.state = State.CONNECTED
        self.errors = 0
        self.recipients = 0
        self.extended = False
        self._verbs = VERBS[kind]
        self._situation = Situation(extensions, home)
        self._longest = _longest_line(extensions)
        self._lines = Lines()
        # Of BDAT: what the chunk still lacks, whether it is the last; why it is thrown away, what then.
        self._left = 0
        self._last = False
        self._refusal: Refusal | None = None
        self._resume = State.READY
        self._binary = False
        self._out: list[bytes] = []
        self._asked: Row | None = None
        self._wanted = 0
        self.must_flush = False
        self._eof = False
        self._ended = False
        self._granted: frozenset[str] = frozenset()
        self._why: Why = "gone"

    # Octets

    def receive(self, octets: Octets) -> None:
        """What arrived; b"" when the client has hung up. A buffer that will be used again is copied."""
        if not octets:
            self._eof = True
        elif self.state is State.TLS:
            # RFC 3207 §4.2: nothing of before the handshake may be taken for something behind it.
            self._close("injected")
        elif self.state is not State.CLOSED:
            self._lines.receive(octets)

    def outgoing(self) -> bytes:
        """Everything to be sent, once."""
        self.must_flush = False
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    @property
    def verbs(self) -> tuple[str, ...]:
        """The commands that this conversation offers now."""
        return tuple(verb for verb, row in self._verbs.items() if self._knows(row))

    @property
    def asked(self) -> bool:
        """True while the last event wants a reply, or another one."""
        return self._asked is not None

    @property
    def waiting(self) -> bool:
        """True where octets have arrived that no event was made of yet."""
        return len(self._lines) > 0

    # Events

    def next_event(self) -> Event | None:
        """The next event, or None: more octets are needed. The event before must have been answered."""
        if self._asked is not None:
            raise RuntimeError(f"{self._asked.verb} has not been answered")
        return _READERS[self.state](self)

    def reply(self, reply: Reply) -> None:
        """Answer the last event. LMTP's DataEnd wants one call a recipient taken."""
        row = self._asked
        if row is None:
            raise RuntimeError("nothing has been asked")
        after = self._after(row, reply.code)
        self._out.append(reply.octets())
        self._wanted -= 1
        if self._wanted and reply.code not in _FAREWELLS:
            return
        self._asked = None
        if row.last:
            self.must_flush = True
        self._enter(row, after, reply.code)

    def end(self, reply: Reply) -> None:
        """Say this now, whatever was asked, and end it all: a timeout, a limit, a shutdown (RFC 5321 §3.8)."""
        if self.state is not State.CLOSED:
            self._out.append(reply.octets())
            self._close("ended")

    def hello_reply(self, greeting: str) -> Reply:
        """The 250 to the Hello just heard: `greeting` begins with our name; behind it, for EHLO, what is announced."""
        if not self.extended:
            return Reply(250, None, greeting)
        announced = [f"{key} {value}" if value else key for key, value in self._situation.extensions.items()]
        return Reply(250, None, "\n".join([greeting, *announced]))

    def secured(self, extensions: Mapping[str, str]) -> None:
        """The handshake is done: what was before is forgotten (RFC 3207 §4.2), and `extensions` is announced now."""
        if self.state is not State.TLS:
            raise RuntimeError("no handshake was promised")
        self.state = State.GREETED
        self._granted = frozenset({"tls"})
        self._situation = Situation(extensions, self._situation.home)
        self._longest = _longest_line(extensions)

    # How a reply moves the state

    def _after(self, row: Row, code: int) -> State:
        """The state to which the table leads. ValueError for a reply that this command cannot have."""
        after: State | None
        if code in _FAREWELLS:
            return State.CLOSED
        if code >= 400:
            return self.state if row.failed is None else row.failed
        after = row.more if code >= 300 else row.done[self.state]
        if after is None:
            raise ValueError(f"{code} is no answer to {row.verb}")
        return after

    def _enter(self, row: Row, after: State, code: int) -> None:
        """Move, and carry out what entering a state brings with it."""
        self.state = after
        if row.grants and code < 300:
            self._granted |= {row.grants}
        if after is State.RCPT:
            self.recipients += row.verb == "RCPT" and code < 300
        elif after is State.READY:
            self.recipients = 0
        elif after is State.DATA:
            self._data = Unstuffer()
            self._ended = False
        elif after is State.TLS:
            if len(self._lines):
                self._close("injected")
        elif after is State.CLOSED:
            self._close("ended" if code in _FAREWELLS else "quit")

    def _close(self, why: Why) -> None:
        self.state = State.CLOSED
        self._why = why
        self._asked = None
        self.must_flush = True
        self._lines = Lines()

    # Readers, one a state

    def _read_connection(self) -> Event | None:
        return self._ask(CONNECTION, Connected())

    def _read_command(self) -> Event | None:
        try:
            line = self._lines.line(self._longest)
        except LineTooLong:
            return self._reject("", _TOO_LONG)
        except BareLineEnding:
            return self._hang_up("ended", Reply(521, "5.5.2", "CR LF ends a line here, and neither may come alone"))
        if line is None:
            return self._dry() if self._eof else None
        # RFC 4954 §4: only AUTH, with its initial response, may be longer than others.
        if len(line) > limits.COMMAND_LINE - 2 and line[:5].upper() != b"AUTH ":
            return self._reject("", _TOO_LONG)
        text = _text(line)
        if text is None:
            return self._reject("", Reply(500, "5.5.2", "This line holds octets that are no text"))
        verb, _, argument = text.partition(" ")
        row = self._verbs.get(verb)
        if row is None:
            # RFC 5321 §2.4: in any case, and in ASCII. Python's upper makes an I of a dotless one.
            word = verb.upper() if verb.isascii() else ""
            row = self._verbs.get(word)
            if row is None:
                return self._unknown(word)
        argument = argument.rstrip(" ")
        try:
            if row.silent:
                return self._chunk(row, command.parse_bdat(argument, self._situation))
            return self._command(row, argument)
        except Refusal as refusal:
            if refusal.reply.code in _FAREWELLS:
                return self._hang_up("ended", refusal.reply)
            return self._reject(row.verb, refusal.reply)

    def _command(self, row: Row, argument: str) -> Event:
        """The event of a known command. Raises Refusal."""
        if self.state not in row.done or (row.extension and not self._knows(row)):
            raise self._illegal(row, argument)
        if row.grants in self._granted:
            raise Refusal(503, "5.5.1", "That has been done already")
        assert row.parse is not None
        event = row.parse(argument, self._situation)
        if isinstance(event, Mail):
            wishes = event.envelope.wishes
            self._binary = wishes.body == "BINARYMIME"
            if wishes.smtputf8 is not self._situation.smtputf8:
                self._situation = replace(self._situation, smtputf8=wishes.smtputf8)
        elif isinstance(event, Hello):
            self.extended = event.extended
        elif self._binary and row.more is State.DATA:
            raise Refusal(503, "5.5.1", "BODY=BINARYMIME needs BDAT")  # RFC 3030 §3
        self._asked, self._wanted = row, 1
        return event

    def _knows(self, row: Row) -> bool:
        """Whether the command is one that this conversation offers."""
        return row.extension is None or row.extension in self._situation.extensions

    def _illegal(self, row: Row, argument: str) -> Refusal:
        """Why this command cannot be had: because of where it stands, or at all."""
        if not self._knows(row):
            return self._not_announced(row, argument)
        if self.state is State.MAIL and row.verb in ("DATA", "BDAT"):
            return _NO_RECIPIENT
        return Refusal(503, "5.5.1", _NEXT[self.state])

    def _not_announced(self, row: Row, argument: str) -> Refusal:
        if row.grants in self._granted:
            return Refusal(503, "5.5.1", "That has been done already")
        if row.verb == "AUTH" and "STARTTLS" in self._situation.extensions:
            # RFC 4954 §6, RFC 5248: the mechanism itself needs TLS, or only we do.
            if argument.partition(" ")[0].upper() in _OPEN:
                return Refusal(538, "5.7.11", "No passwords in the clear; say STARTTLS first")
            return Refusal(523, "5.7.10", "No logins without encryption; say STARTTLS first")
        return Refusal(502, "5.5.1", "This command is not offered here")

    def _chunk(self, row: Row, event: Bdat) -> Event | None:
        """The chunk that the line tells of follows, whatever is thought of it."""
        self._left, self._last, self._refusal = event.size, event.last, None
        if self.state not in row.done or not self._knows(row):
            self._refusal, self._resume = self._illegal(row, ""), self.state
            self.state = State.CHUNK
            return self._read_chunk()
        if self.state is State.RCPT:
            self._chunks = Chunks(binary=self._binary)
        self.state = State.CHUNK
        return event

    def _unknown(self, verb: str) -> Event:
        if verb in _WEB:
            return self._hang_up("web", Reply(521, "5.5.1", "This is a mail server; it does not speak HTTP"))
        if verb in _NOT_DONE:
            return self._reject(verb, Reply(502, "5.5.1", "This command is not offered here"))
        return self._reject("", Reply(500, "5.5.1", "This command is not known"))

    def _read_auth(self) -> Event | None:
        try:
            line = self._lines.line(limits.AUTH_LINE)
        except LineTooLong:
            # RFC 4954 §4.
            return self._reject_auth(Reply(500, "5.5.6", "This line is too long"))
        except BareLineEnding:
            return self._hang_up("ended", Reply(521, "5.5.2", "CR LF ends a line here, and neither may come alone"))
        if line is None:
            return self._dry()
        try:
            event = command.parse_auth_response(line)
        except Refusal as refusal:
            return self._reject_auth(refusal.reply)
        return self._ask(AUTH_RESPONSE, event)

    def _read_data(self) -> Event | None:
        while not self._ended:
            octets = self._lines.take()
            if not octets:
                return self._dry()
            message, behind = self._data.receive(octets)
            if behind is not None:
                self._ended = True
                self._lines.receive(behind)
            if message:
                return DataChunk(message)
        return self._end_data()

    def _end_data(self) -> Event:
        return self._end(END_OF_DATA, self._data)

    def _read_chunk(self) -> Event | None:
        while self._left:
            octets = self._lines.take(self._left)
            if not octets:
                return self._dry()
            self._left -= len(octets)
            message = b"" if self._refusal else self._chunks.receive(octets)
            if message:
                return DataChunk(message)
        return self._end_chunk()

    def _end_chunk(self) -> Event:
        if self._refusal is not None:
            self.state = self._resume
            return self._reject("BDAT", self._refusal.reply)
        if self._last:
            if rest := self._chunks.end():
                return DataChunk(rest)
            return self._end(END_OF_LAST_CHUNK, self._chunks)
        if self._chunks.flaw is None:
            return self._ask(END_OF_CHUNK, ChunkEnd(self._chunks.arrived))
        return self._refuse_data(END_OF_CHUNK, self._chunks.flaw, 1)

    def _end(self, row: Row, message: Unstuffer | Chunks) -> Event:
        """The message is complete. One reply, or in LMTP one for each recipient taken (RFC 2033 §4.2, §4.3)."""
        wanted = self.recipients if self.kind == "lmtp" else 1
        if message.flaw is not None:
            return self._refuse_data(row, message.flaw, wanted)
        event = self._ask(row, DataEnd(message.size))
        self._wanted = wanted
        return event

    def _refuse_data(self, row: Row, flaw: Flaw, times: int) -> Event:
        """RFC 5321 §2.3.8: CR and LF appear only together. Not the door's to decide: whoever lets such a message pass
        hands his neighbours a second one inside it."""
        reply = _FLAWS[flaw]
        self.errors += 1
        self._out.append(reply.octets() * times)
        self._enter(row, self._after(row, reply.code), reply.code)
        return DataRefused(reply)

    def _read_nothing(self) -> Event | None:
        return self._dry()

    def _read_end(self) -> Event | None:
        return Closed(self._why)

    # What readers share

    def _ask(self, row: Row, event: Event) -> Event:
        self._asked, self._wanted = row, 1
        return event

    def _dry(self) -> Event | None:
        if not self._eof:
            return None
        self._close("gone")
        return Closed(self._why)

    def _reject(self, verb: str, reply: Reply) -> Rejected:
        self.errors += 1
        self._out.append(reply.octets())
        return Rejected(verb, reply)

    def _reject_auth(self, reply: Reply) -> Rejected:
        self._enter(AUTH_RESPONSE, self._after(AUTH_RESPONSE, reply.code), reply.code)
        self.must_flush = True
        return self._reject("AUTH", reply)

    def _hang_up(self, why: Why, reply: Reply) -> Rejected:
        self._close(why)
        return self._reject("", reply)


def _text(line: bytes) -> str | None:
    """A command line as text; None where it holds control octets (NUL among them) or is no UTF-8.

    A tab is a space, as some programs put it between parameters; not where it might stand inside quotes.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return None
    if is_line(text):
        return text
    text = text if '"' in text else text.replace("\t", " ")
    return text if is_line(text) else None


def _longest_line(extensions: Mapping[str, str]) -> int:
    """RFC 5321 §4.5.3.1.4; RFC 4954 §4 lets AUTH carry its initial response."""
    return limits.AUTH_LINE if "AUTH" in extensions else limits.COMMAND_LINE


# RFC 5321 §4.5.3.1.9
_TOO_LONG: Final = Reply(500, "5.5.2", "This line is too long")
_FLAWS: Final = {
    "bare": Reply(554, "5.6.0", "The message holds a CR or LF alone; only both together end a line"),
    "long": Reply(554, "5.6.0", "The message holds a line that is too long"),
}

_READERS: Final[dict[State, Callable[[SmtpServer], Event | None]]] = {
    State.CONNECTED: SmtpServer._read_connection,
    State.TURNED_AWAY: SmtpServer._read_command,
    State.GREETED: SmtpServer._read_command,
    State.READY: SmtpServer._read_command,
    State.MAIL: SmtpServer._read_command,
    State.RCPT: SmtpServer._read_command,
    State.DATA: SmtpServer._read_data,
    State.CHUNKS: SmtpServer._read_command,
    State.CHUNK: SmtpServer._read_chunk,
    State.AUTH: SmtpServer._read_auth,
    State.TLS: SmtpServer._read_nothing,
    State.CLOSED: SmtpServer._read_end,
}
