"""The door for people of ours: submission on 587 and 465 (RFC 6409, RFC 8314).

Promises: nobody sends without a login, and nobody logs in in clear text, except where the configuration allows it on
loopback. Who logged in sends as one of his own addresses; what his message lacks is completed before it is stored.
"""

from collections.abc import Mapping

from posthouse import observe
from posthouse.directory.credentials import Authenticator, LoginFailure
from posthouse.directory.login import MECHANISMS, Answer, Ask, Login, Malformed
from posthouse.directory.model import Account
from posthouse.net.stream import Stream
from posthouse.policy.check import Door
from posthouse.reception.intake import HeaderEdit
from posthouse.smtpd.mx import announced
from posthouse.smtpd.server import converse
from posthouse.smtpd.session import MailSession, Surroundings
from posthouse.submission import Submission
from posthouse.terms.reply import Refusal, Reply
from posthouse.wire.smtp.command import Auth, AuthResponse, Mail, challenge
from posthouse.wire.smtp.table import Kind

# RFC 4954 §6, RFC 3463 §3.8.
_REFUSED = {
    LoginFailure.WRONG: Reply(535, "5.7.8", "Wrong login or password"),
    LoginFailure.DISABLED: Reply(535, "5.7.8", "This account is disabled"),
    LoginFailure.THROTTLED: Reply(454, "4.7.0", "Too many failed logins; try again later"),
    LoginFailure.BUSY: Reply(454, "4.7.0", "Too many logins at once; try again later"),
}


class Msa:
    """One listener for submission. `clear_text_login`: on loopback people may log in without TLS."""

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
    ) -> None:
        self.greeting = f"{around.hostname} ESMTP posthouse submission"
        self._around = around
        self._authenticator = authenticator
        self._submission = submission
        self._starttls = starttls
        self._clear_text_login = clear_text_login
        self._logins: dict[MailSession, Login] = {}

    async def serve(self, stream: Stream) -> None:
        """Hold one conversation."""
        stream.timeout = self._around.limits.login_timeout
        session = MailSession(stream, self, self._around)
        try:
            await converse(stream, session.engine, session)
        finally:
            self._logins.pop(session, None)

    def extensions(self, secured: bool) -> Mapping[str, str]:
        """What EHLO announces: AUTH only where a password may travel."""
        found = announced(self._around.limits, starttls=self._starttls and not secured)
        if secured or self._clear_text_login:
            found["AUTH"] = " ".join(MECHANISMS)
        return found

    async def mail(self, session: MailSession, mail: Mail) -> None:
        """May this session send as that? Raises Refusal."""
        account = session.facts.account
        if account is None:
            if "AUTH" not in self.extensions(session.facts.tls is not None):
                # RFC 3207 §4: must issue STARTTLS first.
                raise Refusal(530, "5.7.0", "Say STARTTLS first, then log in")
            raise Refusal(530, "5.7.0", "Log in first")  # RFC 4954 §6
        now = await self._around.directory.account(account.id)
        if now is None or not now.enabled:
            raise Refusal(550, "5.2.1", "Your account has been disabled")
        await self._submission.check_sender(now, mail.envelope.sender)

    def header_edit(self, session: MailSession) -> HeaderEdit:
        """What completes and checks the header of the account's message."""
        account, envelope = session.facts.account, session.envelope
        assert account is not None, "MAIL was refused without a login"
        assert envelope is not None, "the table lets no DATA come before MAIL"
        return self._submission.header_edit(account, envelope)

    # --- AUTH

    async def authenticate(self, session: MailSession, event: Auth | AuthResponse) -> Reply:
        """The answer to one step of the exchange. Raises StoreUnavailable."""
        if isinstance(event, Auth):
            login = self._logins[session] = Login(self._authenticator, session.facts.peer, event.mechanism)
            return self._reply(session, await login.start(event.initial))
        return self._reply(session, await self._logins[session].respond(event.octets))

    def _reply(self, session: MailSession, answer: Answer) -> Reply:
        match answer:
            case Ask(octets):
                return challenge(octets)
            case Account():
                session.facts.account = answer
                session.stream.timeout = self._around.limits.smtp_timeout
                observe.tell("login", level=observe.DEBUG, account=answer.name, peer=session.facts.peer, door=self.door)
                return Reply(235, "2.7.0", "Welcome")
            case Malformed(why):
                observe.tell("login.malformed", level=observe.DEBUG, peer=session.facts.peer, why=why)
                return Reply(501, "5.5.2", "This is no such exchange")
            case _:
                observe.tell("login.refused", peer=session.facts.peer, door=self.door, why=answer.why.value)
                return _REFUSED[answer.why]
