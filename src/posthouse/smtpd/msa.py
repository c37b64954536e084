"""The door for people of ours: submission on 587 and 465 (RFC 6409, RFC 8314).

Promises: nobody sends without a login, and nobody logs in in clear text, except where the configuration allows it on
loopback. Who logged in sends as one of his own addresses, or as one he was granted; what his message lacks is completed
before it is stored. VRFY and EXPN tell him what strangers are not told.
"""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from posthouse import observe
from posthouse.directory.addresses import Expansion, Standing
from posthouse.directory.credentials import Authenticator, LoginFailure
from posthouse.directory.login import Answer, Ask, Login, Malformed, proven
from posthouse.directory.model import Account, MembersHidden
from posthouse.net.stream import Stream
from posthouse.policy.check import Door
from posthouse.reception.intake import HeaderEdit
from posthouse.smtpd.mx import UNTOLD, announced, farewell
from posthouse.smtpd.role import Surroundings, Talk
from posthouse.smtpd.server import converse
from posthouse.smtpd.session import MailSession
from posthouse.submission import Submission
from posthouse.terms.address import Address, BadAddress, parse
from posthouse.terms.reply import Refusal, Reply
from posthouse.wire.sasl import mechanisms
from posthouse.wire.sasl.exchange import Evidence
from posthouse.wire.smtp.command import Auth, AuthResponse, Etrn, Expn, Mail, Vrfy, challenge
from posthouse.wire.smtp.table import Kind

# RFC 4954 §6, RFC 3463 §3.8.
_REFUSED = {
    LoginFailure.WRONG: Reply(535, "5.7.8", "Wrong login or password"),
    LoginFailure.DISABLED: Reply(535, "5.7.8", "This account is disabled"),
    LoginFailure.THROTTLED: Reply(454, "4.7.0", "Too many failed logins; try again later"),
    LoginFailure.BUSY: Reply(454, "4.7.0", "Too many logins at once; try again later"),
}


# RFC 4865 §4: nine digits.
_LONGEST_HOLD: Final = 999_999_999
_LOG_IN_FIRST: Final = Reply(252, "2.0.0", "Log in, and you will be told")
_HIDDEN: Final = Reply(252, "2.0.0", "Who is on that list is not told")
# RFC 6531 §3.7.4.2
_UTF8_ONLY: Final = Reply(252, "2.6.8", "The answer is beyond ASCII; ask again with SMTPUTF8")


class Msa:
    """One listener for submission. `clear_text_login`: on loopback people may log in without TLS.

    `certificates`: clients are asked for theirs, which log in the account of the address that they are for (EXTERNAL).
    """

    kind: Kind = "msa"
    door: Door = "submission"

    def __init__(
        self,
        around: Surroundings,
        authenticator: Authenticator,
        submission: Submission,
        *,
        starttls: bool,
        clear_text_login: bool,
        certificates: bool = False,
    ) -> None:
        self.greeting = Reply(220, None, f"{around.hostname} ESMTP posthouse submission")
        self.farewell = farewell(around)
        self._around = around
        self._authenticator = authenticator
        self._submission = submission
        self._starttls = starttls
        self._clear_text_login = clear_text_login
        self._certificates = certificates
        self._logins: dict[Talk, Login] = {}

    @property
    def context(self) -> ssl.SSLContext:
        """What STARTTLS begins with."""
        return self._around.certificates.asking

    async def serve(self, stream: Stream) -> None:
        """Hold one conversation."""
        stream.timeout = self._around.limits.login_timeout
        session = MailSession(stream, self, self._around)
        try:
            await converse(stream, session.engine, session)
        finally:
            self._logins.pop(session, None)

    def extensions(self, stream: Stream) -> Mapping[str, str]:
        """What EHLO announces: AUTH only where a password may travel."""
        secured, limits = stream.tls is not None, self._around.limits
        recipients, messages = self._around.conversation.most
        longest = min(int(limits.hold), _LONGEST_HOLD)
        latest = datetime.fromtimestamp(self._around.clock.now() // 1000 + longest, UTC)
        more: dict[str, str | None] = {
            "AUTH": " ".join(mechanisms.offered(self._proven(stream))) if secured or self._clear_text_login else None,
            # RFC 4865 §4: the longest time, and the last moment.
            "FUTURERELEASE": f"{longest} {latest:%Y-%m-%dT%H:%M:%SZ}",
            "LIMITS": f"RCPTMAX={min(recipients, limits.submission_recipients)} MAILMAX={messages}",
        }
        return announced(self._around, self.kind, more, starttls=self._starttls, secured=secured)

    def _proven(self, stream: Stream) -> Evidence:
        return proven(stream, certificates=self._certificates)

    def believes(self, peer: str) -> bool:
        """Nobody: here people prove who they are."""
        return False

    async def named(self, login: str) -> Account | None:
        """Nobody is believed, so nobody is named."""
        return None

    async def mail(self, session: Talk, mail: Mail) -> Address | None:
        """May this session send as that? The sender, perhaps another. Raises Refusal."""
        account = session.facts.account
        if account is None:
            if not (session.facts.tls or self._clear_text_login):
                # RFC 3207 §4: must issue STARTTLS first.
                raise Refusal(530, "5.7.0", "Say STARTTLS first, then log in")
            raise Refusal(530, "5.7.0", "Log in first")  # RFC 4954 §6
        now = await self._around.directory.account(account.id)
        if now is None or not now.enabled:
            raise Refusal(550, "5.2.1", "Your account has been disabled")
        session.facts.account = now
        return await self._submission.check_sender(now, mail.envelope.sender)

    def header_edit(self, session: Talk) -> HeaderEdit:
        """What completes and checks the header of the account's message."""
        account, envelope = session.facts.account, session.envelope
        assert account is not None, "MAIL was refused without a login"
        assert envelope is not None, "the table lets no DATA come before MAIL"
        return self._submission.header_edit(account, envelope)

    # --- AUTH

    async def authenticate(self, session: Talk, event: Auth | AuthResponse) -> Reply:
        """The answer to one step of the exchange. Raises StoreUnavailable."""
        if isinstance(event, Auth):
            proven = self._proven(session.stream)
            login = self._logins[session] = Login(self._authenticator, session.facts.peer, event.mechanism, proven)
            return self._reply(session, await login.start(event.initial))
        return self._reply(session, await self._logins[session].respond(event.octets))

    def _reply(self, session: Talk, answer: Answer) -> Reply:
        match answer:
            case Ask(octets):
                return challenge(octets)
            case Account():
                session.facts.account = answer
                session.stream.timeout = self._around.limits.smtp_timeout
                session.pace.allow(self._around.limits.session_timeout)
                observe.tell("login", level=observe.DEBUG, account=answer.name, peer=session.facts.peer, door=self.door)
                return Reply(235, "2.7.0", "Welcome")
            case Malformed(why):
                observe.tell("login.malformed", level=observe.DEBUG, peer=session.facts.peer, why=why)
                return Reply(501, "5.5.2", "This is no such exchange")
            case _:
                observe.tell("login.refused", peer=session.facts.peer, door=self.door, why=answer.why.value)
                return _REFUSED[answer.why]

    # --- VRFY, EXPN

    async def look_up(self, session: Talk, event: Vrfy | Expn) -> Reply:
        """RFC 5321 §3.5, for people of ours: who is that address, who is on that list? Raises StoreUnavailable."""
        account = session.facts.account
        if account is None:
            return _LOG_IN_FIRST
        reply = await self._look_up(account, event)
        return reply if event.utf8 or reply.text.isascii() else _UTF8_ONLY

    async def _look_up(self, account: Account, event: Vrfy | Expn) -> Reply:
        try:
            address = _address_of(event.text, account)
        except BadAddress as error:
            return Reply(501, "5.1.3", f"Bad address: {error}")
        if isinstance(event, Vrfy):
            return await self._verify(address, await self._around.directory.recipient(address))
        try:
            members = await self._around.directory.members(address, account.id)
        except MembersHidden:
            return _HIDDEN
        if members is None:
            return Reply(550, "5.1.1", "There is no such list")
        return Reply(250, "2.1.5", "\n".join(f"<{member}>" for member in members))

    async def _verify(self, address: Address, found: Expansion) -> Reply:
        if found.standing is Standing.RELAY:
            return UNTOLD
        if found.standing is not Standing.KNOWN:
            return Reply(550, "5.1.1", f"That leads nowhere: {found.standing.value}")
        if not found.local and not found.lists:
            # RFC 5321 §3.4
            return Reply(251, "2.1.5", f"User not local; will forward to <{found.remote[0]}>")
        name = ""
        if len(found.local) == 1 and not found.remote and not found.lists:
            account = await self._around.directory.account(found.local[0].account)
            name = account.full_name if account is not None else ""
        shown = f"{name} " if name.isascii() and name.isprintable() and name else ""
        return Reply(250, "2.1.5", f"{shown}<{address}>")

    async def turn(self, session: Talk, event: Etrn) -> Reply:
        """ETRN is not announced here, so the engine never hands it out."""
        raise AssertionError("ETRN at a door that does not announce it")


def _address_of(text: str, account: Account) -> Address:
    """What somebody has written who is asked for an address: brackets or none, his own domain where none stands."""
    written = text.strip().removeprefix("<").removesuffix(">")
    return parse(written if "@" in written else f"{written}@{account.name.rpartition('@')[2]}")
