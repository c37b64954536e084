"""What both doors of SMTP share: the mail transaction from greeting to the final dot, judged stage by stage.

Promises: the stages connect, helo, mail and rcpt of the pipeline are run here, data in reception; what they answer is
said with their own words. A refused command leaves the conversation as it was. After the dot the reply says who is
responsible.
Refuses: to decide anything about a message.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, cast

from posthouse import observe
from posthouse.clock import Clock
from posthouse.config import Limits
from posthouse.directory.cache import Directory
from posthouse.net.stream import Stream
from posthouse.net.tls import Certificates
from posthouse.policy.check import Action, Door, Facts, RecipientFacts, Verdict
from posthouse.policy.limits import Connections, Conversation
from posthouse.policy.pipeline import Pipeline
from posthouse.reception import Intake
from posthouse.store.database import StoreUnavailable
from posthouse.terms.envelope import Envelope
from posthouse.terms.reply import Refusal, Reply
from posthouse.wire.smtp.command import (
    Auth,
    AuthResponse,
    Data,
    Expn,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
)
from posthouse.wire.smtp.server import Closed, Connected, DataChunk, DataEnd, DataRefused, Event, Rejected, SmtpServer
from posthouse.wire.smtp.table import Kind, State

_UNAVAILABLE: Final = Reply(451, "4.3.0", "The mail store cannot be reached; try again later")
_GO_AHEAD: Final = Reply(354, None, "Send the message; a dot on a line of its own ends it")
_HELP: Final = (
    "Commands: EHLO HELO MAIL RCPT DATA RSET NOOP VRFY EXPN HELP QUIT STARTTLS AUTH\nRFC 5321 tells what they do"
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every SMTP session works with."""

    hostname: str
    clock: Clock
    limits: Limits
    certificates: Certificates
    directory: Directory
    pipeline: Pipeline
    connections: Connections
    conversation: Conversation


class Role(Protocol):
    """What the two doors do differently."""

    kind: Kind
    door: Door
    greeting: str

    def extensions(self, secured: bool) -> Mapping[str, str]:
        """What EHLO announces, in clear text or behind TLS."""
        ...

    def mail(self, session: "MailSession", mail: Mail) -> Awaitable[None] | None:
        """May this session send as that? Raises Refusal."""
        ...

    def begin(self, session: "MailSession") -> Intake:
        """Take a message for the session's envelope. Raises Refusal."""
        ...

    def authenticate(self, session: "MailSession", event: Auth | AuthResponse) -> Awaitable[None]:
        """A step of AUTH, which the session's engine is told the answer of."""
        ...


class MailSession:
    """One client's conversation at one of the doors."""

    def __init__(self, stream: Stream, role: Role, around: Surroundings) -> None:
        tls = stream.tls
        self.around = around
        self.stream = stream
        self.role = role
        self.engine = SmtpServer(role.kind, role.extensions(tls is not None), home=around.hostname)
        self.facts = Facts(role.door, stream.peer.host, tls=str(tls) if tls else None)
        self.envelope: Envelope | None = None
        self.helo = ""
        self._intake: Intake | None = None
        self._counted = False

    def handle(self, event: Event) -> Awaitable[None] | None:
        """Answer one event."""
        return _HANDLERS[type(event)](self, event)

    def closed(self, event: Closed) -> None:
        """Nothing unfinished is kept: before the 250 the client is responsible for it."""
        self._drop()
        if self._counted:
            self.around.connections.leave(self.facts)
        observe.tell("smtp.closed", level=observe.DEBUG, peer=self.facts.peer, why=event.why)

    # Greeting

    async def _connected(self, event: Connected) -> None:
        self._counted = True
        verdict = await self.around.pipeline.connect(self.facts)
        if not self._refused(verdict):
            self.engine.reply(Reply(220, None, self.role.greeting))

    async def _hello(self, event: Hello) -> None:
        self.facts.helo, self.facts.esmtp = event.name, event.extended
        if self._refused(await self.around.pipeline.helo(self.facts)):
            return
        self._drop()
        self.engine.extended = event.extended
        self.engine.reply(self.engine.hello_reply(f"{self.around.hostname} greets {event.name}"))

    async def _starttls(self, event: StartTls) -> None:
        self.engine.reply(Reply(220, "2.0.0", "Begin TLS"))
        if self.engine.state is not State.TLS:
            return
        self.stream.write(self.engine.outgoing())
        await self.stream.start_tls(self.around.certificates.context, server_side=True)
        self._drop()
        self.facts.tls = str(self.stream.tls)
        self.facts.helo = None
        self.engine.secured(self.role.extensions(True))

    # The envelope

    async def _mail(self, event: Mail) -> None:
        try:
            self._check_size(event.envelope.size)
            waiting = self.role.mail(self, event)
            if waiting is not None:
                await waiting
        except Refusal as refusal:
            self.engine.reply(refusal.reply)
            return
        except StoreUnavailable:
            self.engine.reply(_UNAVAILABLE)
            return
        self.facts.begin(event.envelope.sender, event.envelope.size or 0)
        if not self._refused(await self.around.pipeline.mail(self.facts)):
            self.envelope = event.envelope
            self.engine.reply(Reply(250, "2.1.0", "Sender ok"))

    def _check_size(self, size: int | None) -> None:
        # RFC 1870 §6.1
        if size is not None and size > self.around.limits.message_size:
            raise Refusal(552, "5.3.4", f"A message may have {self.around.limits.message_size} octets here")

    async def _rcpt(self, event: Rcpt) -> None:
        assert self.envelope is not None, "the table lets no RCPT come before MAIL"
        try:
            expansion = await self.around.directory.recipient(event.recipient.address)
        except StoreUnavailable:
            self.engine.reply(_UNAVAILABLE)
            return
        recipient = RecipientFacts(event.recipient, expansion)
        if self._refused(await self.around.pipeline.rcpt(self.facts, recipient)):
            return
        self.facts.recipients.append(recipient)
        self.envelope = self.envelope.with_recipient(event.recipient)
        self.engine.reply(Reply(250, "2.1.5", "Recipient ok"))

    # The message

    def _data(self, event: Data) -> None:
        try:
            self._intake = self.role.begin(self)
        except Refusal as refusal:
            self.engine.reply(refusal.reply)
            return
        self.engine.reply(_GO_AHEAD)

    def _chunk(self, event: DataChunk) -> None:
        assert self._intake is not None, "the table lets no data come before DATA"
        self._intake.write(event.octets)

    async def _end_of_data(self, event: DataEnd) -> None:
        assert self._intake is not None, "the table lets no data come before DATA"
        intake, self._intake = self._intake, None
        with intake:
            replies = await intake.finish(lambda: not self.stream.gone, each=self.role.kind == "lmtp")
        for reply in replies:
            self.engine.reply(reply)
        self._drop()

    def _data_refused(self, event: DataRefused) -> None:
        observe.tell("mail.refused", peer=self.facts.peer, reply=str(event.reply))
        self._drop()

    def _drop(self) -> None:
        """Forget the envelope and what came of its message."""
        self.envelope = None
        if self._intake is not None:
            self._intake.discard()
            self._intake = None

    # The others

    def _rset(self, event: Rset) -> None:
        self._drop()
        self.engine.reply(Reply(250, "2.0.0", "Forgotten"))

    def _noop(self, event: Noop) -> None:
        self.engine.reply(Reply(250, "2.0.0", "Still here"))

    def _vrfy(self, event: Vrfy) -> None:
        # RFC 5321 §7.3: whether an address exists is not told to those who only ask.
        self.engine.reply(Reply(252, "2.5.2", "Send mail to it, and you will see"))

    def _expn(self, event: Expn) -> None:
        self.engine.reply(Reply(252, "2.5.2", "Members of lists are not told"))

    def _help(self, event: Help) -> None:
        self.engine.reply(Reply(214, "2.0.0", _HELP))

    def _quit(self, event: Quit) -> None:
        self.engine.reply(Reply(221, "2.0.0", f"{self.around.hostname} says goodbye"))

    def _auth(self, event: Auth | AuthResponse) -> Awaitable[None]:
        return self.role.authenticate(self, event)

    def _rejected(self, event: Rejected) -> None:
        self._erred()

    def _refused(self, verdict: Verdict) -> bool:
        """Say what a stage has refused or deferred; True where it has."""
        if verdict.action < Action.DEFER or verdict.reply is None:
            return False
        observe.tell("mail.refused", peer=self.facts.peer, reply=str(verdict.reply), why=verdict.reasons)
        if verdict.close:
            self.engine.end(verdict.reply)
        else:
            self.engine.reply(verdict.reply)
            self._erred()
        return True

    def _erred(self) -> None:
        """A command was answered by 4xx or 5xx: end the conversation where that is one too many."""
        verdict = self.around.conversation.error(self.facts)
        if verdict is not None and verdict.reply is not None:
            self.engine.end(verdict.reply)


_Handler = Callable[[MailSession, Event], Awaitable[None] | None]
_HANDLERS: Final = cast(
    "dict[type, _Handler]",
    {
        Connected: MailSession._connected,
        Hello: MailSession._hello,
        StartTls: MailSession._starttls,
        Auth: MailSession._auth,
        AuthResponse: MailSession._auth,
        Mail: MailSession._mail,
        Rcpt: MailSession._rcpt,
        Data: MailSession._data,
        DataChunk: MailSession._chunk,
        DataEnd: MailSession._end_of_data,
        DataRefused: MailSession._data_refused,
        Rset: MailSession._rset,
        Noop: MailSession._noop,
        Vrfy: MailSession._vrfy,
        Expn: MailSession._expn,
        Help: MailSession._help,
        Quit: MailSession._quit,
        Rejected: MailSession._rejected,
    },
)
