"""What both doors of SMTP share: the mail transaction from greeting to the final dot, judged stage by stage.

Promises: the stages connect, helo, mail and rcpt of the pipeline are run here, data in reception; what they answer is
said with their own words. A refused command leaves the conversation as it was. After the dot the reply says who is
responsible. What was refused of an envelope has a journey. However a session ends, nothing unfinished is left of it.
Refuses: to decide anything about a message.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from posthouse.reception.answer import STORE_DOWN, Reception
from posthouse.reception.intake import HeaderEdit, Intake
from posthouse.reception.refusals import Refusals, Trail
from posthouse.store.database import StoreUnavailable
from posthouse.terms.address import Address
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
from posthouse.wire.smtp.table import VERBS, Kind, State

_GO_AHEAD: Final = Reply(354, None, "Send the message; a dot on a line of its own ends it")
_LOGIN_FIRST: Final = 530


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
    reception: Reception
    refusals: Refusals


class Role(Protocol):
    """What the two doors do differently."""

    kind: Kind
    door: Door
    greeting: str

    def extensions(self, secured: bool) -> Mapping[str, str]:
        """What EHLO announces, in clear text or behind TLS."""
        ...

    def mail(self, session: "MailSession", mail: Mail) -> Awaitable[None] | None:
        """May this session send as that? Raises Refusal, StoreUnavailable."""
        ...

    def header_edit(self, session: "MailSession") -> HeaderEdit | None:
        """What makes the header of the session's next message right. Raises Refusal."""
        ...

    def authenticate(self, session: "MailSession", event: Auth | AuthResponse) -> Awaitable[Reply]:
        """The answer to a step of AUTH."""
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
        self._trail: Trail | None = None
        self._intake: Intake | None = None
        self._counted = False

    def handle(self, event: Event) -> Awaitable[None] | None:
        """Answer one event."""
        kind = type(event)
        if kind not in _NO_COMMANDS:
            verdict = self.around.conversation.command(self.facts)
            if verdict is not None:
                self._hang_up(verdict)
                return None
        return _HANDLERS[kind](self, event)

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
        # RFC 3207 §4.2: what the client said in the clear is forgotten, a login too.
        self._drop()
        self.facts.tls = str(self.stream.tls)
        self.facts.helo, self.facts.esmtp, self.facts.account = None, False, None
        self.engine.secured(self.role.extensions(True))

    # The envelope

    async def _mail(self, event: Mail) -> None:
        envelope = event.envelope
        self._trail = self.around.refusals.begin(envelope.sender)
        self.facts.begin(envelope.sender, envelope.size or 0)
        try:
            waiting = self.role.mail(self, event)
            if waiting is not None:
                await waiting
            self.around.reception.check_size(self.facts.size)
        except Refusal as refusal:
            if refusal.reply.code == _LOGIN_FIRST:
                # Nobody has a message yet: those who guess passwords leave no journeys.
                self._trail = None
            self._refuse(refusal.reply)
            return
        except StoreUnavailable:
            self._refuse(STORE_DOWN)
            return
        if not self._refused(await self.around.pipeline.mail(self.facts)):
            self.envelope = envelope
            self.engine.reply(Reply(250, "2.1.0", "Sender ok"))

    async def _rcpt(self, event: Rcpt) -> None:
        assert self.envelope is not None, "the table lets no RCPT come before MAIL"
        address = event.recipient.address
        try:
            expansion = await self.around.directory.recipient(address)
        except StoreUnavailable:
            self._refuse(STORE_DOWN, recipient=address)
            return
        recipient = RecipientFacts(event.recipient, expansion)
        if self._refused(await self.around.pipeline.rcpt(self.facts, recipient), address):
            return
        self.facts.recipients.append(recipient)
        self.envelope = self.envelope.with_recipient(event.recipient)
        self.engine.reply(Reply(250, "2.1.5", "Recipient ok"))

    # The message

    def _data(self, event: Data) -> None:
        assert self.envelope is not None, "the table lets no DATA come before MAIL"
        assert self._trail is not None, "MAIL began it"
        try:
            edit = self.role.header_edit(self)
            self._intake = self.around.reception.begin(self.facts, self.envelope, self._trail, self.protocol(), edit)
        except Refusal as refusal:
            self._refuse(refusal.reply)
            return
        self.engine.reply(_GO_AHEAD)

    def _chunk(self, event: DataChunk) -> None:
        assert self._intake is not None, "the table lets no data come before DATA"
        self._intake.write(event.octets)

    async def _end_of_data(self, event: DataEnd) -> None:
        assert self._intake is not None, "the table lets no data come before DATA"
        replies = await self.around.reception.finish(self._intake, self._still_there, each=self.role.kind == "lmtp")
        for reply in replies:
            if self.engine.state is not State.CLOSED:  # by a 421
                self.engine.reply(reply)
        self._drop()
        if replies[0].permanent:
            self._erred()

    def _still_there(self) -> bool:
        """Does somebody wait for the answer? Whoever sends nothing more, not even QUIT, has hung up."""
        stream = self.stream
        return not stream.gone and (not stream.ended or stream.waiting or self.engine.waiting)

    def _data_refused(self, event: DataRefused) -> None:
        assert self._trail is not None, "MAIL began it"
        self.around.refusals.refuse(self._trail, self.facts, event.reply)
        self._drop()
        self._erred()

    def protocol(self) -> str:
        """What a Received field says the message came with: RFC 3848, and RFC 6531 §4.3 for UTF8."""
        if not self.facts.esmtp:
            return "SMTP"
        utf8 = self.envelope is not None and self.envelope.wishes.smtputf8
        secured = "S" if self.facts.tls else ""
        login = "A" if self.facts.account else ""
        if self.role.kind == "lmtp":
            return f"{'UTF8' if utf8 else ''}LMTP{secured}{login}"
        return f"{'UTF8' if utf8 else 'E'}SMTP{secured}{login}"

    def _drop(self) -> None:
        """Forget the envelope and what came of its message; what was refused of it is written down."""
        self.envelope = None
        if self._intake is not None:
            self._intake.discard()
            self._intake = None
        if self._trail is not None:
            self.around.refusals.end(self._trail, self.facts)
            self._trail = None

    # The others

    def _rset(self, event: Rset) -> None:
        self._drop()
        self.engine.reply(Reply(250, "2.0.0", "Forgotten"))

    def _noop(self, event: Noop) -> None:
        self.engine.reply(Reply(250, "2.0.0", "Still here"))

    def _vrfy(self, event: Vrfy) -> None:
        # RFC 5321 §7.3: whether an address exists is not told to those who only ask; 252 says neither yes nor no.
        self.engine.reply(Reply(252, "2.0.0", "Send mail to it, and you will see"))

    def _expn(self, event: Expn) -> None:
        self.engine.reply(Reply(252, "2.0.0", "Members of lists are not told"))

    def _help(self, event: Help) -> None:
        verbs = " ".join(VERBS[self.role.kind])
        self.engine.reply(Reply(214, "2.0.0", f"Commands: {verbs}\nRFC 5321 tells what they do"))

    def _quit(self, event: Quit) -> None:
        self.engine.reply(Reply(221, "2.0.0", f"{self.around.hostname} says goodbye"))

    async def _auth(self, event: Auth | AuthResponse) -> None:
        try:
            reply = await self.role.authenticate(self, event)
        except StoreUnavailable:
            # RFC 4954 §4.
            reply = Reply(454, "4.7.0", "Logins cannot be checked now; try again later")
        self.engine.reply(reply)
        if reply.permanent:
            self._erred()

    def _rejected(self, event: Rejected) -> None:
        self._erred()

    # Saying no

    def _refused(self, verdict: Verdict, recipient: Address | None = None) -> bool:
        """Say what a stage has refused or deferred; True where it has."""
        if verdict.action < Action.DEFER or verdict.reply is None:
            return False
        if verdict.close:
            self._note(verdict.reply, verdict.reasons, recipient)
            self._hang_up(verdict)
        else:
            self._refuse(verdict.reply, verdict.reasons, recipient)
        return True

    def _refuse(self, reply: Reply, reasons: Sequence[str] = (), recipient: Address | None = None) -> None:
        """Answer so. A 4xx is no error of the client's: it may have more to say (RFC 5321 §4.5.3.1.10)."""
        self._note(reply, reasons, recipient)
        self.engine.reply(reply)
        if self.envelope is None and self._trail is not None:
            self.around.refusals.end(self._trail, self.facts)
            self._trail = None
        if reply.permanent:
            self._erred()

    def _note(self, reply: Reply, reasons: Sequence[str], recipient: Address | None) -> None:
        if self._trail is not None:
            self.around.refusals.refuse(self._trail, self.facts, reply, reasons, recipient)
        else:
            observe.tell("session.refused", peer=self.facts.peer, reply=str(reply), reasons=tuple(reasons))

    def _erred(self) -> None:
        """A command was answered by 5xx: end the conversation where that is one too many."""
        verdict = self.around.conversation.error(self.facts)
        if verdict is not None:
            self._hang_up(verdict)

    def _hang_up(self, verdict: Verdict) -> None:
        assert verdict.reply is not None, "whoever closes says why"
        self.engine.end(verdict.reply)


_Handler = Callable[[MailSession, Event], Awaitable[None] | None]
# Events that are no line of the client's.
_NO_COMMANDS: Final = frozenset({Connected, DataChunk, DataEnd, DataRefused})
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
