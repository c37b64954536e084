"""What both doors of SMTP share: the mail transaction from greeting to the final dot, judged stage by stage.

Promises: the stages connect, helo, mail and rcpt of the pipeline are run here, data in reception; what they answer is
said with their own words. A refused command leaves the conversation as it was. After the dot, or the last chunk, the
reply says who is responsible. What was refused of an envelope has a journey. However a session ends, nothing unfinished
is left of it. Times that a client says relative to now are absolute from here on.
What a stranger does that honest software does not is told to policy/abuse.py.
Refuses: to decide anything about a message.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, cast

from posthouse import observe
from posthouse.directory.addresses import Standing
from posthouse.limits import RECIPIENT_MEMORY, RECIPIENTS_FREE
from posthouse.net.stream import Stream
from posthouse.policy.abuse import Offence
from posthouse.policy.check import Action, Facts, RecipientFacts, Verdict
from posthouse.reception.answer import STORE_DOWN
from posthouse.reception.intake import NO_ROOM, Intake, owner_of
from posthouse.reception.refusals import Trail
from posthouse.smtpd import help
from posthouse.smtpd.introduction import ATTRIBUTES, introduced, local_told, told
from posthouse.smtpd.pace import Pace
from posthouse.smtpd.role import Role, Surroundings
from posthouse.smtpd.wishes import SENDER_OK, need_settling, settled
from posthouse.store.blobs import Reserve
from posthouse.store.database import StoreUnavailable
from posthouse.terms.address import Address, literal_of
from posthouse.terms.envelope import Envelope, Recipient, Wishes
from posthouse.terms.reply import Refusal, Reply
from posthouse.wire.smtp.command import (
    Auth,
    AuthResponse,
    Bdat,
    Data,
    Etrn,
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
    Xclient,
)
from posthouse.wire.smtp.event import ChunkEnd, Closed, Connected, DataChunk, DataEnd, DataRefused, Event, Rejected
from posthouse.wire.smtp.server import SmtpServer
from posthouse.wire.smtp.table import State

_RECIPIENT_OK: Final = Reply(250, "2.1.5", "Recipient ok")
_GO_AHEAD: Final = Reply(354, None, "Send the message; a dot on a line of its own ends it")
_LOGIN_FIRST: Final = 530
# RFC 5321 §3.1: the greeting is what a conversation begins with.
_TOO_EARLY: Final = Reply(554, "5.5.1", "You spoke before the greeting; goodbye")
# How long whoever is turned away may take to say QUIT (RFC 5321 §3.1).
_PARTING_SECONDS: Final = 30.0
_OFFENCES: Final = {Standing.RELAY: Offence.RELAY, Standing.UNKNOWN: Offence.RECIPIENT}
_CLOSINGS: Final = {"web": Offence.WEB, "injected": Offence.INJECTION}


class MailSession:
    """One client's conversation at one of the doors."""

    def __init__(self, stream: Stream, role: Role, around: Surroundings) -> None:
        tls = stream.tls
        self.around = around
        self.stream = stream
        self.role = role
        self.engine = SmtpServer(role.kind, self._extensions(), home=around.hostname)
        self.facts = Facts(role.door, stream.peer.host, tls=str(tls) if tls else None)
        self.envelope: Envelope | None = None
        self.pause = 0.0
        limits = around.limits
        session = limits.login_timeout if role.door == "submission" else limits.session_timeout
        self.pace = Pace(around.clock, line=limits.smtp_timeout, rate=limits.data_rate, session=session)
        # The address of ours that the client has connected to, where it is not the stream's.
        self._local: str | None = None
        self._trail: Trail | None = None
        self._intake: Intake | None = None
        # The memory that many recipients take.
        self._reserve: Reserve | None = None
        # Why the message that BDAT began is not taken: said at the end of the chunk.
        self._unwanted: Reply | None = None

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
        if event.why in _CLOSINGS:
            self.around.abuse.mark(self.facts.peer, _CLOSINGS[event.why])
        observe.tell("smtp.closed", level=observe.DEBUG, peer=self.facts.peer, why=event.why)

    # Greeting

    async def _connected(self, event: Connected) -> None:
        if self.stream.unwelcome is not None:
            self._turn_away(self.stream.unwelcome)
        elif not self._refused(await self.around.pipeline.connect(self.facts)) and not await self._is_early():
            self.engine.reply(self.role.greeting)

    def _turn_away(self, reply: Reply) -> None:
        self.stream.timeout = _PARTING_SECONDS
        self.engine.reply(reply)

    async def _is_early(self) -> bool:
        """Has the client spoken before the greeting, and was it told so? Strangers at port 25 wait for it a while."""
        facts, stream, around = self.facts, self.stream, self.around
        if self.role.kind != "mx":
            return False
        near = around.abuse.is_near(facts.peer)
        if not near and around.limits.greeting_delay and not around.abuse.is_known(facts.peer):
            await stream.hush(around.limits.greeting_delay)
        if not stream.waiting:
            return False
        around.abuse.mark(facts.peer, Offence.EARLY)
        observe.tell("session.early", level=observe.DEBUG, peer=facts.peer)
        if near or around.limits.early_talkers == "note":
            return False
        self._note(_TOO_EARLY, (), None)
        self.engine.end(_TOO_EARLY)
        return True

    def _extensions(self) -> dict[str, str]:
        found = dict(self.role.extensions(self.stream))
        if self.role.believes(self.stream.peer.host):
            found["XCLIENT"] = ATTRIBUTES
        return found

    async def _xclient(self, event: Xclient) -> None:
        """Begin anew with the client of our client (Postfix's XCLIENT_README)."""
        try:
            facts, local = introduced(self.facts, event), local_told(event)
            login = told(event, "LOGIN")
            facts.account = None if login is None else await self.role.named(login)
        except StoreUnavailable:
            self._refuse(STORE_DOWN)
            return
        except ValueError:
            self._refuse(Reply(501, "5.5.4", "An attribute has a value that is none"))
            return
        self._drop()
        self.facts = facts
        self._local = local or self._local
        refusal = self.around.abuse.refusal(facts.peer)
        if refusal is not None:
            self.engine.end(refusal)
            return
        # Whoever is refused here must not go on, as one who was refused a command may.
        verdict = replace(await self.around.pipeline.connect(facts), close=True)
        if not self._refused(verdict):
            self.engine.reply(self.role.greeting)

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
        await self.stream.start_tls(self.role.context, server_side=True)
        # RFC 3207 §4.2: what the client said in the clear is forgotten, a login too.
        self._drop()
        self.facts.tls = str(self.stream.tls)
        self.facts.helo, self.facts.esmtp, self.facts.account = None, False, None
        self.engine.secured(self._extensions())

    # The envelope

    async def _mail(self, event: Mail) -> None:
        envelope, done = event.envelope, SENDER_OK
        self._trail = self.around.refusals.begin(envelope.sender)
        self.facts.begin(envelope.sender, envelope.size or 0)
        try:
            waiting = self.role.mail(self, event)
            if waiting is not None and (sender := await waiting) != envelope.sender:
                self.facts.sender = self._trail.sender = sender
                envelope = replace(envelope, sender=sender)
            self.around.reception.check_size(self.facts.size, owner_of(self.facts))
            if need_settling(event):
                wishes, done = self._settle(event)
                envelope = replace(envelope, wishes=wishes)
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
            self.engine.reply(done)

    def _settle(self, event: Mail) -> tuple[Wishes, Reply]:
        """The wishes as they hold here, and what is said of them. Raises Refusal."""
        facts, around = self.facts, self.around
        if event.envelope.wishes.body == "BINARYMIME":
            around.reception.check_conversion(facts.size, owner_of(facts))
        known = facts.account is not None or facts.trusted or self.role.kind == "lmtp"
        return settled(event, around.clock.now(), around.limits.hold, known=known)

    async def _rcpt(self, event: Rcpt) -> None:
        assert self.envelope is not None, "the table lets no RCPT come before MAIL"
        wanted = self._at_home(event.recipient)
        address = wanted.address
        count = len(self.facts.recipients)
        if count and count % RECIPIENTS_FREE == 0 and not self._pays_for_more(count):
            self._refuse(NO_ROOM, recipient=address)
            return
        try:
            expansion = await self.around.directory.recipient(address)
        except StoreUnavailable:
            self._refuse(STORE_DOWN, recipient=address)
            return
        recipient = RecipientFacts(wanted, expansion)
        verdict = await self.around.pipeline.rcpt(self.facts, recipient)
        if self._refused(verdict, address):
            if verdict.action is Action.REFUSE and expansion.standing in _OFFENCES and self.facts.account is None:
                self.around.abuse.mark(self.facts.peer, _OFFENCES[expansion.standing])
            return
        self.facts.recipients.append(recipient)
        self.envelope = self.envelope.with_recipient(wanted)
        self.engine.reply(_RECIPIENT_OK)

    def _pays_for_more(self, count: int) -> bool:
        """Is there memory for so many recipients and RECIPIENTS_FREE more?"""
        if self._reserve is None:
            self._reserve = self.around.reception.reserve(self.facts)
        wanted = count * RECIPIENT_MEMORY
        return self._reserve.taken >= wanted or self._reserve.take(wanted - self._reserve.taken)

    def _at_home(self, recipient: Recipient) -> Recipient:
        """RFC 5321 §4.1.3, §4.5.1: an address literal of ours is a name of this host."""
        address = recipient.address
        if not address.domain.startswith("[") or address.domain != literal_of(self._local or self.stream.local.host):
            return recipient
        return replace(recipient, address=Address(address.local, self.around.hostname))

    # The message

    def _data(self, event: Data) -> None:
        try:
            self._intake = self._begin()
        except Refusal as refusal:
            self._refuse(refusal.reply)
            return
        self.engine.reply(_GO_AHEAD)

    def _begin(self) -> Intake:
        """A place for the message. Raises Refusal."""
        assert self.envelope is not None, "the table lets no DATA come before MAIL"
        assert self._trail is not None, "MAIL began it"
        edit = self.role.header_edit(self)
        return self.around.reception.begin(self.facts, self.envelope, self._trail, self.protocol(), edit)

    def _bdat(self, event: Bdat) -> None:
        """The chunk follows, whatever is thought of it (RFC 3030 §2)."""
        if self._intake is None:
            try:
                self._intake = self._begin()
            except Refusal as refusal:
                self._unwanted = refusal.reply

    def _chunk(self, event: DataChunk) -> None:
        if self._intake is not None:
            self._intake.write(event.octets)

    def _end_of_chunk(self, event: ChunkEnd) -> None:
        unwanted = self._unwanted or (self._intake.refusal if self._intake is not None else None)
        if unwanted is None:
            self.engine.reply(Reply(250, "2.0.0", f"{event.size} octets taken"))
        else:
            self._refuse_message(unwanted)

    def _refuse_message(self, reply: Reply) -> None:
        """Answer so, to all who were to get it (LMTP), and forget the envelope."""
        assert self._trail is not None, "MAIL began it"
        self.around.refusals.refuse(self._trail, self.facts, reply)
        while self.engine.asked:
            self.engine.reply(reply)
        self._drop()
        if reply.permanent:
            self._erred()

    async def _end_of_data(self, event: DataEnd) -> None:
        if self._intake is None:
            assert self._unwanted is not None, "a message that has no place was refused one"
            self._refuse_message(self._unwanted)
            return
        replies = await self.around.reception.finish(self._intake, self._still_there, each=self.role.kind == "lmtp")
        for reply in replies:
            if self.engine.state is not State.CLOSED:  # by a 421
                self.engine.reply(reply)
        self._drop()
        self.pace.allow(self.around.limits.session_timeout)
        if replies[0].positive:
            self.around.abuse.welcome(self.facts.peer)
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
        self._unwanted = None
        if self._intake is not None:
            self._intake.discard()
            self._intake = None
        if self._trail is not None:
            self.around.refusals.end(self._trail, self.facts)
            self._trail = None
        if self._reserve is not None:
            self.facts.recipients = []
            self._reserve.discard()
            self._reserve = None

    # The others

    def _rset(self, event: Rset) -> None:
        self._drop()
        self.engine.reply(Reply(250, "2.0.0", "Forgotten"))

    def _noop(self, event: Noop) -> None:
        self.engine.reply(Reply(250, "2.0.0", "Still here"))

    async def _look_up(self, event: Vrfy | Expn) -> None:
        try:
            reply = await self.role.look_up(self, event)
        except StoreUnavailable:
            reply = STORE_DOWN
        self.engine.reply(reply)
        if reply.permanent:
            self._erred()

    async def _etrn(self, event: Etrn) -> None:
        try:
            reply = await self.role.turn(self, event)
        except StoreUnavailable:
            reply = Reply(458, "4.3.0", f"Unable to queue messages for {event.node}")  # RFC 1985
        self.engine.reply(reply)

    def _help(self, event: Help) -> None:
        reply = help.answer(event.text, self.engine.verbs)
        self.engine.reply(reply)
        if reply.permanent:
            self._erred()

    def _quit(self, event: Quit) -> None:
        self.engine.reply(self.role.farewell)

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
        conversation, facts = self.around.conversation, self.facts
        verdict = conversation.error(facts)
        self.pause = max(self.pause, conversation.pause(facts))
        if verdict is not None:
            if facts.account is None:
                self.around.abuse.mark(facts.peer, Offence.ERRORS)
            self._hang_up(verdict)

    def _hang_up(self, verdict: Verdict) -> None:
        assert verdict.reply is not None, "whoever closes says why"
        self.engine.end(verdict.reply)


_Handler = Callable[[MailSession, Event], Awaitable[None] | None]
# Events that are no line of the client's.
_NO_COMMANDS: Final = frozenset({Connected, DataChunk, ChunkEnd, DataEnd, DataRefused})
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
        Bdat: MailSession._bdat,
        DataChunk: MailSession._chunk,
        ChunkEnd: MailSession._end_of_chunk,
        DataEnd: MailSession._end_of_data,
        DataRefused: MailSession._data_refused,
        Rset: MailSession._rset,
        Noop: MailSession._noop,
        Vrfy: MailSession._look_up,
        Expn: MailSession._look_up,
        Etrn: MailSession._etrn,
        Help: MailSession._help,
        Quit: MailSession._quit,
        Xclient: MailSession._xclient,
        Rejected: MailSession._rejected,
    },
)
