"""A door in miniature: answers the server engine's events as the transcripts and properties need it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from posthouse.terms.envelope import Envelope
from posthouse.terms.reply import Reply
from posthouse.wire.sasl import mechanisms
from posthouse.wire.sasl.exchange import Challenge, Failure, NeedPassword, NeedVerifier, ServerExchange, Step, Success
from posthouse.wire.sasl.verifier import make_verifier
from posthouse.wire.smtp import command
from posthouse.wire.smtp.event import ChunkEnd, Closed, Connected, DataChunk, DataEnd, DataRefused, Event, Rejected
from posthouse.wire.smtp.server import SmtpServer
from posthouse.wire.smtp.table import Kind

ALL = {
    "PIPELINING": "",
    "SIZE": "100000",
    "8BITMIME": "",
    "SMTPUTF8": "",
    "ENHANCEDSTATUSCODES": "",
    "DSN": "",
    "AUTH": "PLAIN LOGIN SCRAM-SHA-256",
    "STARTTLS": "",
}
# What doors announce besides, for those transcripts that ask for it.
MORE = {
    "CHUNKING": "",
    "BINARYMIME": "",
    "DELIVERBY": "",
    "ETRN": "",
    "FUTURERELEASE": "2592000 2030-01-01T00:00:00Z",
    "MT-PRIORITY": "",
    "REQUIRETLS": "",
    "XCLIENT": "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT",
}
GREETING = Reply(220, None, "mx.example.org ESMTP posthouse")
GO_AHEAD = Reply(220, "2.0.0", "Go ahead")
PASSWORD = "pencil"
VERIFIER = make_verifier(PASSWORD, b"salt of the sea", 4096)


@dataclass
class Door:
    """Takes mail from everybody to everybody, except where a name says otherwise: `refused@`, `later@`, `gone@`.

    A message to `full@` is refused after its dot; LMTP refuses only that copy. `most`: octets that a message may have,
    asked at the end of each chunk of BDAT.
    """

    engine: SmtpServer
    greeting: Reply = GREETING
    hello: Reply | None = None
    tls: Reply = GO_AHEAD
    after_tls: Mapping[str, str] = field(default_factory=lambda: {"PIPELINING": "", "AUTH": "PLAIN"})
    events: list[Event] = field(default_factory=list)
    messages: list[tuple[Envelope, bytes]] = field(default_factory=list)
    envelope: Envelope | None = None
    received: bytearray = field(default_factory=bytearray)
    exchange: ServerExchange | None = None
    most: int = 100_000

    def run(self) -> None:
        """Answer events until the engine runs dry or has ended."""
        while (event := self.engine.next_event()) is not None:
            if not (self.events and isinstance(event, Closed) and event == self.events[-1]):
                self.events.append(event)
            if isinstance(event, Closed):
                return
            for reply in self.answers(event):
                self.engine.reply(reply)

    def answers(self, event: Event) -> list[Reply]:
        """The replies that an event gets."""
        match event:
            case Connected():
                return [self.greeting]
            case command.Hello():
                self.forget()
                return [self.hello or self.engine.hello_reply("mx.example.org greets you")]
            case command.Mail(envelope):
                return [self.judge("sender", envelope)]
            case command.Rcpt():
                return [self.judge("recipient", event)]
            case command.Data():
                self.received.clear()
                return [Reply(354, None, "Go on")]
            case command.Bdat():
                return []
            case DataChunk(octets):
                self.received += octets
                return []
            case ChunkEnd(size):
                if size > self.most:
                    self.forget()
                    return [Reply(552, "5.3.4", "That is too much")]
                return [Reply(250, "2.0.0", f"{size} octets so far")]
            case DataEnd():
                return self.deliver()
            case DataRefused():
                self.forget()
                return []
            case Rejected() | Closed():
                return []
            case command.Auth(mechanism, initial):
                self.exchange = mechanisms.server(mechanism, "servernonce0123456789")
                return [self.authenticate(self.exchange.start(initial))]
            case command.AuthResponse(octets):
                assert self.exchange is not None
                return [self.authenticate(self.exchange.respond(octets))]
            case _:
                return [self.plain(event)]

    def plain(
        self,
        event: command.StartTls
        | command.Rset
        | command.Noop
        | command.Vrfy
        | command.Expn
        | command.Etrn
        | command.Xclient
        | command.Help
        | command.Quit,
    ) -> Reply:
        """What commands get that change nothing here."""
        match event:
            case command.StartTls():
                return self.tls
            case command.Rset():
                self.forget()
                return Reply(250, "2.0.0", "Forgotten")
            case command.Noop():
                return Reply(250, "2.0.0", "Nothing done")
            case command.Vrfy():
                return Reply(252, "2.1.5", "Send it, and you will see")
            case command.Expn():
                return Reply(502, "5.7.0", "Lists are not expanded")
            case command.Etrn():
                return Reply(250, "2.0.0", "Queuing started")
            case command.Xclient():
                return self.greeting
            case command.Help(text):
                return Reply(214, "2.0.0", f"See RFC 5321 about {text}" if text else "See RFC 5321")
            case command.Quit():
                return Reply(221, "2.0.0", "Good bye")
            case _:
                assert_never(event)

    def judge(self, role: str, what: Envelope | command.Rcpt) -> Reply:
        """Take a sender or a recipient, or not, by its name."""
        address = what.sender if isinstance(what, Envelope) else what.recipient.address
        match address.local if address else "":
            case "refused":
                return Reply(550, "5.1.1", "No such user")
            case "later":
                return Reply(451, "4.3.0", "Not now")
            case "gone":
                return Reply(421, "4.3.2", "We are closing")
        if isinstance(what, Envelope):
            if (what.size or 0) > 100_000:
                return Reply(552, "5.3.4", "A message may have 100000 octets here")
            self.envelope = what
        else:
            assert self.envelope is not None
            self.envelope = self.envelope.with_recipient(what.recipient)
        return Reply(250, "2.1.0" if role == "sender" else "2.1.5", "Good")

    def deliver(self) -> list[Reply]:
        """Keep the message; one reply, or one a recipient."""
        assert self.envelope is not None
        full = [r.address.local == "full" for r in self.envelope.recipients]
        if self.engine.kind != "lmtp":
            full = [any(full)]
        if not all(full):
            self.messages.append((self.envelope, bytes(self.received)))
        self.forget()
        return [Reply(552, "5.2.2", "Mailbox full") if f else Reply(250, "2.0.0", "Taken") for f in full]

    def forget(self) -> None:
        """The transaction is over."""
        self.envelope = None
        self.received.clear()

    def authenticate(self, step: Step) -> Reply:
        """Carry an exchange on."""
        match step:
            case Challenge(octets):
                return command.challenge(octets)
            case NeedPassword(username, password):
                assert self.exchange is not None
                return self.authenticate(self.exchange.decide(username == "alice" and password == PASSWORD))
            case NeedVerifier():
                assert self.exchange is not None
                return self.authenticate(self.exchange.verifier(VERIFIER))
            case Success():
                return Reply(235, "2.7.0", "Welcome")
            case Failure(_, malformed):
                return Reply(501, "5.5.2", "That was malformed") if malformed else Reply(535, "5.7.8", "Wrong")
            case _:
                assert_never(step)


def server(kind: Kind = "mx", extensions: Mapping[str, str] | None = None) -> SmtpServer:
    """An engine that announces everything."""
    return SmtpServer(kind, ALL if extensions is None else extensions, home="example.org")
