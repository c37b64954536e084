"""SMTP and LMTP, the client's half (RFC 5321, RFC 2033), without I/O: commands in, octets out; octets in, answers out.

Promises: each command sent gets one Answered with the peer's Reply, in order; commands leave together where the peer
announced PIPELINING and one by one where not; what is queued behind a failure that makes it pointless is not sent; the
transcript holds every line that passed, without secrets. A message leaves by DATA, or by one BDAT (RFC 3030).
Refuses: replies that are no replies (wrong endings, too long, a code that changes from line to line), replies to
nothing, octets that would cross the beginning of TLS: each ends the conversation with Lost, as 421 does at any moment.
"""

import binascii
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from posthouse.terms.address import Address
from posthouse.terms.envelope import Envelope, Recipient, Wishes
from posthouse.terms.reply import Reply
from posthouse.terms.text import is_line
from posthouse.wire.lines import BareLineEnding, LineError, Lines, Octets, clean
from posthouse.wire.sasl.exchange import ClientExchange
from posthouse.wire.sasl.strings import SaslError
from posthouse.wire.smtp.data import Buffer, Stuffer, pieces
from posthouse.wire.smtp.parameters import encode_by, encode_orcpt, encode_xtext
from posthouse.wire.smtp.reply import REPLY, SHORT, read_line, read_lines

# RFC 5321 §4.5.3.1.5 says 512 a line; AUTH challenges may be longer (RFC 4954 §4), and some servers are chatty.
REPLY_LINE: Final = 12288
REPLY_LINES: Final = 256
REPLY_SIZE: Final = 32768
# RFC 2920 §3.1: a client must not fill both directions. So many commands may be unanswered at a time.
IN_FLIGHT: Final = 100

# RFC 9422 §3
_LIMIT: Final = re.compile(r"[1-9][0-9]{0,5}")

_CLOSED: Final = "the peer closed the service"


class _NoReply(Exception):
    """What the peer said is no reply (RFC 5321 §4.2)."""


class NotOffered(Exception):
    """The envelope needs an extension that the peer does not announce."""

    def __init__(self, extension: str) -> None:
        super().__init__(f"the peer does not offer {extension}")
        self.extension = extension


class Answered(NamedTuple):
    """The peer's reply to a command. `verb` is "" for the greeting, "." for the end of the message, also by BDAT.

    `recipient`: whom it is about, for RCPT, and for "." where the peer speaks LMTP.
    """

    verb: str
    reply: Reply
    recipient: Recipient | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """The conversation is over; commands without an answer will get none. `reply`: the peer's last word, if any.

    `silent`: nobody hung up; the caller has waited long enough.
    """

    why: str
    reply: Reply | None = None
    silent: bool = False


Event = Answered | Lost


class _Command(NamedTuple):
    """`group`: may be pipelined behind (RFC 2920 §3.1). `shown`: for the transcript. `chunk` follows the line."""

    verb: str
    line: str = ""
    shown: str = ""
    group: bool = False
    recipient: Recipient | None = None
    chunk: bytes = b""

    def check(self) -> None:
        """Raises ValueError."""
        if not is_line(self.line):
            raise ValueError(f"{self.verb} with what cannot stand in a line")


Commands = Sequence[_Command]
"""What is to be said together."""

_DATA: Final = _Command("DATA", "DATA")


class SmtpClient:
    """One conversation: call what you want said, send `outgoing`, give what comes to `receive`, read `next_event`,
    until `idle`.

    `extensions`: what the last EHLO announced, keyword (upper case) → parameters. `accepted`: the recipients taken in
    the transaction that is open. `ready_for_content`: 354 has been heard, or BDAT said; `content` is expected now.
    `size_limit`: the largest message the peer takes, in octets, None where it has not said (RFC 1870 §4). `limits`:
    what it announced by LIMITS (RFC 9422): RCPTMAX, MAILMAX, RCPTDOMAINMAX, each 1 or more.
    """

    __slots__ = (
        "_awaited", "_content", "_eof", "_exchange", "_expected", "_handshake", "_lines", "_lost", "_name", "_out",
        "_partial", "_pipelining", "_queue", "_transcript", "accepted", "extensions", "limits", "lmtp",
        "ready_for_content", "size_limit",
    )  # fmt: skip

    def __init__(self, *, lmtp: bool = False) -> None:
        self.lmtp = lmtp
        self.extensions: dict[str, str] = {}
        self._pipelining = False
        self.size_limit: int | None = None
        self.limits: dict[str, int] = {}
        self.accepted: list[Recipient] = []
        self.ready_for_content = False
        self._lines = Lines()
        self._out: list[bytes] = []
        self._queue: deque[_Command] = deque()
        self._expected: deque[_Command] = deque([_Command("")])
        self._partial: list[bytes] = []
        self._transcript: list[tuple[str, str]] = []
        self._exchange: ClientExchange | None = None
        self._content = False
        self._awaited: int | None = None
        self._lost: Lost | None = None
        self._handshake = False
        self._eof = False
        self._name = ""

    # Octets

    def receive(self, octets: Octets) -> None:
        """What arrived; b"" when the peer has hung up. A buffer that will be used again is copied."""
        if not octets:
            self._eof = True
        elif self._handshake:
            # RFC 3207 §5, CVE-2011-0411: what was said in the clear must not be heard behind the handshake.
            self._lose("octets between STARTTLS and the handshake")
        elif self._lost is None:
            self._lines.receive(octets)

    def outgoing(self) -> bytes:
        """Everything to be sent, once."""
        if not self._out:
            return b""
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    @property
    def idle(self) -> bool:
        """True where no answer is awaited: the conversation may go on with another command, or is over."""
        return not self._expected and not self._queue

    @property
    def mechanisms(self) -> list[str]:
        """The SASL mechanisms that the peer announced, in upper case."""
        return self.extensions.get("AUTH", "").upper().split()

    def take_transcript(self) -> list[tuple[str, str]]:
        """The lines that passed since the last call: ("C", what we said) and ("S", what the peer said)."""
        taken, self._transcript = self._transcript, []
        return taken

    # What the caller may want said

    def hello(self, name: str) -> None:
        """EHLO, and HELO where that is not understood (RFC 5321 §3.2); LHLO to an LMTP server."""
        self._name = name
        verb = "LHLO" if self.lmtp else "EHLO"
        self._say(_Command(verb, f"{verb} {name}"))

    def starttls(self) -> None:
        """STARTTLS. After a 220 and the handshake call `secured`, then `hello` again."""
        self._say(_Command("STARTTLS", "STARTTLS"))

    def secured(self) -> None:
        """The handshake is done; what the peer announced before is forgotten (RFC 3207 §4.2)."""
        if not self._handshake:
            raise RuntimeError("no handshake was promised")
        self._handshake = False
        self._offered({})

    def authenticate(self, exchange: ClientExchange) -> None:
        """AUTH by this exchange; the Answered with verb AUTH tells how it ended (RFC 4954)."""
        self._exchange = exchange
        line = f"AUTH {exchange.mechanism}"
        initial = exchange.initial()
        if initial is None:
            self._say(_Command("AUTH", line))
        else:
            # RFC 4954 §4: an empty initial response is written "=".
            self._say(_Command("AUTH", f"{line} {_to_base64(initial) or '='}", shown=f"{line} ****"))

    def mail(self, envelope: Envelope, now: int = 0) -> None:
        """MAIL with what the envelope needs and the peer offers. Raises NotOffered where it needs more.

        `now`, in UTC milliseconds, is what DELIVERBY counts from.
        """
        self._say(self._mail(envelope, now))

    def _mail(self, envelope: Envelope, now: int) -> _Command:
        wishes, offered = envelope.wishes, self.extensions
        if wishes.smtputf8 or wishes.requiretls:
            self._check_needs(wishes)
        words = [f"MAIL FROM:<{self._path(envelope.sender, wishes.smtputf8) if envelope.sender else ''}>"]
        if envelope.size is not None and "SIZE" in offered:
            words.append(f"SIZE={envelope.size}")
        if wishes.body != "7BIT":
            self._check_body(wishes.body)
            words.append(f"BODY={wishes.body}")
        if wishes.smtputf8:
            words.append("SMTPUTF8")
        if wishes.requiretls:
            words.append("REQUIRETLS")
        if wishes.priority and "MT-PRIORITY" in offered:
            # RFC 6710 §4: where the peer does not know priorities, the message goes without.
            words.append(f"MT-PRIORITY={wishes.priority}")
        if wishes.deliver_by and "DELIVERBY" in offered:
            words.append(encode_by(wishes.deliver_by, now))
        if wishes.ret and "DSN" in offered:
            words.append(f"RET={wishes.ret}")
        if wishes.envid and "DSN" in offered:
            words.append(f"ENVID={encode_xtext(wishes.envid)}")
        return _Command("MAIL", " ".join(words), group=True)

    def _check_needs(self, wishes: Wishes) -> None:
        for needed, extension in ((wishes.smtputf8, "SMTPUTF8"), (wishes.requiretls, "REQUIRETLS")):
            if needed and extension not in self.extensions:
                raise NotOffered(extension)

    def _check_body(self, body: str) -> None:
        # RFC 3030 §3: BINARYMIME is nothing without CHUNKING.
        for extension in ("BINARYMIME", "CHUNKING") if body == "BINARYMIME" else ("8BITMIME",):
            if extension not in self.extensions:
                raise NotOffered(extension)

    def rcpt(self, recipient: Recipient, *, smtputf8: bool = False) -> None:
        """RCPT, with RFC 3461's wishes where the peer takes them. Raises NotOffered as `mail` does."""
        self._say(self._rcpt(recipient, smtputf8))

    def _rcpt(self, recipient: Recipient, smtputf8: bool) -> _Command:
        line = f"RCPT TO:<{self._path(recipient.address, smtputf8)}>"
        if recipient.notify and "DSN" in self.extensions:
            line += f" NOTIFY={','.join(sorted(recipient.notify))}"
        if recipient.orcpt and "DSN" in self.extensions:
            line += f" ORCPT={encode_orcpt(recipient.orcpt)}"
        return _Command("RCPT", line, group=True, recipient=recipient)

    def data(self) -> None:
        """DATA. When `ready_for_content` has become true, send what `content` gives."""
        self._say(_DATA)

    def chunk(self, size: int) -> None:
        """BDAT, for a message of `size` octets that `content` gives next: all of it in one chunk (RFC 3030 §2)."""
        if self._queue or self._expected:
            raise RuntimeError("BDAT while answers are awaited")
        self._put(f"BDAT {size} LAST", f"BDAT {size} LAST")
        self._awaited = size
        self.ready_for_content = True

    def transaction(self, envelope: Envelope, *, chunk: bytes | None = None, now: int = 0, data: bool = True) -> None:
        """MAIL, RCPT for each recipient, DATA: in one packet where the peer allows (RFC 2920).

        With `chunk` the message itself leaves with them, as one BDAT (RFC 3030 §4.2): it may have been taken from then
        on. Without `data` what follows the answers is the caller's: `chunk` or `rset`. Raises as `written` does.
        """
        self.say(self.written(envelope, chunk=chunk, now=now, data=data))

    def written(self, envelope: Envelope, *, chunk: bytes | None = None, now: int = 0, data: bool = True) -> Commands:
        """What `transaction` would say, to be given to `say` when its time has come. Nothing changes by it.

        Raises NotOffered, and ValueError for what cannot be said in a line.
        """
        commands = [self._mail(envelope, now)]
        commands += [self._rcpt(recipient, envelope.wishes.smtputf8) for recipient in envelope.recipients]
        if chunk is not None:
            if self.lmtp:
                raise RuntimeError("how many answers an LMTP server will give is not known yet")
            commands.append(_Command(".", f"BDAT {len(chunk)} LAST", chunk=chunk))
        elif data:
            commands.append(_DATA)
        for command in commands:
            command.check()
        return commands

    def say(self, commands: Commands) -> None:
        """What was `written` before."""
        if self.ready_for_content or self._handshake:
            raise RuntimeError(f"{commands[0].verb} in the middle of something else")
        self._queue.extend(commands)
        self._pump()

    def content(self, *buffers: Buffer, binary: bool = False) -> Iterator[bytes]:
        """The message that `buffers` make together, as octets to send at once, in pieces of about 64 KB.

        Raises BareLineEnding where the message has a bare CR or LF, which only a `binary` one behind BDAT may: hang up
        then, the end has not been sent. The iterator must be run to its end, else the conversation cannot go on.
        """
        if not self.ready_for_content or self._content:
            raise RuntimeError("the peer does not wait for a message")
        self._content = True
        return self._stuffed(buffers) if self._awaited is None else self._raw(buffers, self._awaited, binary)

    def _stuffed(self, buffers: Iterable[Buffer]) -> Iterator[bytes]:
        stuffer, said = Stuffer(), 0
        for buffer in buffers:
            for piece in pieces(buffer):
                octets = stuffer.send(piece)
                said += len(octets)
                yield octets
        end = stuffer.end()
        self._end_content(said)
        yield end

    def _raw(self, buffers: Iterable[Buffer], left: int, binary: bool) -> Iterator[bytes]:
        """The octets as they are; the last piece is held back until all of them have been seen to be right."""
        held, size = b"", left
        for buffer in buffers:
            for piece in pieces(buffer):
                if not binary and not clean(piece):
                    raise BareLineEnding("LF" if piece.count(b"\n") > piece.count(b"\r\n") else "CR")
                if held:
                    yield held
                left -= len(piece)
                held = piece
        if left:
            raise RuntimeError(f"the message differs by {left} octets from what BDAT said")
        self._end_content(size)
        yield held

    def interrupted(self) -> Lost | None:
        """What the peer said before the end of the message was sent, if anything: no answer to it, but the end of the
        conversation. To be asked when `content` has run to its end."""
        if not self._lines and not self._partial:
            return None
        self._expected.clear()
        event = self.next_event()
        return event if isinstance(event, Lost) else self._lose("the peer spoke out of turn")

    def rset(self) -> None:
        """RSET: forget the transaction."""
        self._say(_Command("RSET", "RSET", group=True))

    def quit(self) -> None:
        """QUIT."""
        self._say(_Command("QUIT", "QUIT"))

    # Sending

    def _path(self, address: Address, smtputf8: bool) -> str:
        if not address.ascii and not (smtputf8 and "SMTPUTF8" in self.extensions):
            raise NotOffered("SMTPUTF8")
        return str(address)

    def _say(self, command: _Command) -> None:
        command.check()
        self.say((command,))

    def _pump(self) -> None:
        """Send of the queue what may be sent now."""
        while self._queue and self._lost is None:
            if self._expected and not self._may_follow(self._expected[-1]):
                return
            if not self._expected and (self._lines or self._partial):
                # Taking what was said before for the answer to what is said now would put each answer one place wrong.
                return
            command = self._queue.popleft()
            self._put(command.line, command.shown or command.line)
            if command.chunk:
                self._out.append(command.chunk)
                self._transcript.append(("C", f"(the message: {len(command.chunk)} octets)"))
            self._expected.append(command)

    def _may_follow(self, before: _Command) -> bool:
        return before.group and self._pipelining and len(self._expected) < IN_FLIGHT

    def _put(self, line: str, shown: str) -> None:
        self._out.append(line.encode() + b"\r\n")
        self._transcript.append(("C", shown))

    def _end_content(self, said: int = 0) -> None:
        """`said`: octets of the message, with dots doubled and without its end."""
        if self._lost is not None:
            return
        self._transcript.append(("C", f"(the message: {said} octets)"))
        self._content = False
        self._awaited = None
        self.ready_for_content = False
        if self.lmtp:
            # RFC 2033 §4.2: a reply for each recipient taken, in their order.
            self._expected.extend(_Command(".", recipient=recipient) for recipient in self.accepted)
        else:
            # RFC 2920 §3.1: what begins the next transaction may leave in one group with the end of this message.
            self._expected.append(_Command(".", group=True))

    # Hearing

    def next_event(self) -> Event | None:
        """The next answer, or None: more octets are needed."""
        while self._lost is None:
            try:
                reply = self._read_reply()
            except (LineError, _NoReply) as error:
                return self._lose(f"no reply: {error}")
            if reply is None:
                return self._lose("the peer hung up") if self._eof else None
            if not self._expected:
                return self._lose(_CLOSED if reply.code == 421 else "the peer spoke out of turn", reply)
            if self._expected[0].verb == "AUTH" and reply.code == 334 and self._answer_challenge(reply):
                continue
            return self._answered(self._expected.popleft(), reply)
        return self._lost

    def _answered(self, command: _Command, reply: Reply) -> Event:
        after = _AFTER.get(command.verb)
        if after is not None:
            after(self, command, reply)
        if reply.code == 421:
            # RFC 5321 §3.8: at any moment, and then it hangs up.
            self._lose(_CLOSED, reply)
        if self._queue:
            self._pump()
        return Answered(command.verb, reply, command.recipient)

    def _lose(self, why: str, reply: Reply | None = None) -> Lost:
        if self._lost is None:
            self._lost = Lost(why, reply)
            self._queue.clear()
            self._expected.clear()
            self._handshake = self.ready_for_content = False
        return self._lost

    def _read_reply(self) -> Reply | None:
        while (line := self._lines.line(REPLY_LINE)) is not None:
            short = len(line) <= SHORT and not self._partial and self._exchange is None
            if short and (read := read_line(line)) is not None:
                self._transcript.append(("S", read[0]))
                return read[1]
            match = REPLY.match(line)
            if match is None:
                raise _NoReply("the line does not begin with a code")
            self._partial.append(line)
            if line[:3] != self._partial[0][:3]:
                raise _NoReply("the code changes from line to line")
            if match[2] != b"-":
                partial, self._partial = self._partial, []
                return self._reply(partial)
            if len(self._partial) >= REPLY_LINES or sum(map(len, self._partial)) > REPLY_SIZE:
                raise _NoReply("it is too long")
        return None

    def _reply(self, lines: list[bytes]) -> Reply:
        shown, reply = read_lines(lines)
        secret = reply.code == 334 and self._exchange is not None
        self._transcript += [("S", "334 ****" if secret else line) for line in shown]
        return reply

    def _answer_challenge(self, reply: Reply) -> bool:
        """Go on with AUTH; False where no exchange is under way."""
        if self._exchange is None:
            return False
        try:
            answer = _to_base64(self._exchange.respond(binascii.a2b_base64(reply.text, strict_mode=True)))
        except (SaslError, ValueError) as error:
            # RFC 4954 §4: "*" cancels; the peer answers 501.
            self._transcript.append(("C", f"(cancelled: {error})"))
            self._exchange = None
            self._put("*", "*")
        else:
            self._put(answer, "****")
        return True

    # What answers bring with them

    def _offered(self, extensions: dict[str, str]) -> None:
        self.extensions = extensions
        self._pipelining = "PIPELINING" in extensions
        size = extensions.get("SIZE", "")
        self.size_limit = int(size) or None if size.isascii() and size.isdigit() and len(size) <= 20 else None
        pairs = [word.partition("=") for word in extensions.get("LIMITS", "").upper().split()]
        # RFC 9422 §3: at most six digits, and what is malformed is as good as not said.
        self.limits = {name: int(number) for name, _, number in pairs if _LIMIT.fullmatch(number)}

    def _after_hello(self, command: _Command, reply: Reply) -> None:
        if reply.code == 250:
            extensions: dict[str, str] = {}
            for line in reply.text.split("\n")[1:] if command.verb != "HELO" else ():
                keyword, _, parameters = line.partition(" ")
                if keyword[:5].upper() == "AUTH=":
                    # How servers of the last century spelled it.
                    keyword, parameters = "AUTH", f"{keyword[5:]} {parameters}"
                extensions[keyword.upper()] = parameters.strip()
            self._offered(extensions)
        elif command.verb == "EHLO" and reply.code in (500, 501, 502, 504):
            # RFC 5321 §3.2
            self._queue.appendleft(_Command("HELO", f"HELO {self._name}"))

    def _after_starttls(self, command: _Command, reply: Reply) -> None:
        if reply.code == 220:
            self._handshake = True
            if self._lines:
                self._lose("octets between STARTTLS and the handshake")

    def _after_auth(self, command: _Command, reply: Reply) -> None:
        exchange, self._exchange = self._exchange, None
        if reply.code // 100 == 2 and (exchange is None or not exchange.complete):
            self._lose("the peer says that we are in, and has not proved that it knows us", reply)

    def _after_mail(self, command: _Command, reply: Reply) -> None:
        self.accepted = []
        if not reply.positive:
            self._drop("RCPT", "DATA", ".")

    def _after_rcpt(self, command: _Command, reply: Reply) -> None:
        if reply.positive and command.recipient is not None:
            self.accepted.append(command.recipient)
        elif not self.accepted and self._queue and self._queue[0].verb in ("DATA", "."):
            self._drop("DATA", ".")

    def _drop(self, *verbs: str) -> None:
        """Take from the head of the queue what has become pointless."""
        while self._queue and self._queue[0].verb in verbs:
            self._queue.popleft()

    def _after_data(self, command: _Command, reply: Reply) -> None:
        if reply.code != 354:
            return
        self.ready_for_content = True
        if not self.accepted:
            # RFC 2920 §3.1: though every RCPT was refused, the peer may wait for a message. It gets an empty one.
            self._out.append(Stuffer().end())
            self._end_content()

    def _after_end(self, command: _Command, reply: Reply) -> None:
        if not self._expected or self._expected[0].verb != ".":
            self.accepted = []

    def _after_rset(self, command: _Command, reply: Reply) -> None:
        self.accepted = []


_AFTER: Final[dict[str, Callable[[SmtpClient, _Command, Reply], None]]] = {
    "EHLO": SmtpClient._after_hello,
    "LHLO": SmtpClient._after_hello,
    "HELO": SmtpClient._after_hello,
    "STARTTLS": SmtpClient._after_starttls,
    "AUTH": SmtpClient._after_auth,
    "MAIL": SmtpClient._after_mail,
    "RCPT": SmtpClient._after_rcpt,
    "DATA": SmtpClient._after_data,
    ".": SmtpClient._after_end,
    "RSET": SmtpClient._after_rset,
}


def _to_base64(octets: bytes) -> str:
    return binascii.b2a_base64(octets, newline=False).decode()
