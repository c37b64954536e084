"""Before login: CAPABILITY, STARTTLS, LOGIN, AUTHENTICATE (RFC 9051 §6.1.1, §6.2).

Promises: no password is taken in clear text, except where the configuration allows it on loopback. Who is disabled or
removed does not come in, whatever a password says.
"""

from typing import Final

from posthouse import observe
from posthouse.directory.credentials import LoginFailure, LoginRefused
from posthouse.directory.login import MECHANISMS, Answer, Ask, Login, Malformed
from posthouse.directory.model import Account
from posthouse.imapd.session import Refused, Senseless, Session
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import AuthResponse, Command, Event
from posthouse.wire.imap.response import Code

# RFC 5530 §3.
_REFUSED: Final = {
    LoginFailure.WRONG: ("Wrong login or password", Code.AUTHENTICATIONFAILED),
    LoginFailure.DISABLED: ("This account is disabled", Code.AUTHORIZATIONFAILED),
    LoginFailure.THROTTLED: ("Too many failed logins; try again later", Code.UNAVAILABLE),
    LoginFailure.BUSY: ("Too many logins at once; try again later", Code.UNAVAILABLE),
}
_ALWAYS: Final = (b"IMAP4rev2", b"IMAP4rev1", b"LITERAL+", b"SASL-IR", b"ID", b"ENABLE")
_INSIDE: Final = (
    *(b"IDLE", b"NAMESPACE", b"UIDPLUS", b"MOVE", b"UNSELECT", b"CHILDREN", b"SPECIAL-USE", b"CREATE-SPECIAL-USE"),
    *(b"LIST-EXTENDED", b"LIST-STATUS", b"ESEARCH", b"SEARCHRES", b"STATUS=SIZE", b"MULTIAPPEND", b"BINARY"),
)
_NOT_YET: Final = "Log in over TLS: say STARTTLS first"


def capabilities(session: Session) -> list[bytes]:
    """What the server can do, as this client may know now."""
    if session.account is not None:
        return [*_ALWAYS, *_INSIDE, b"APPENDLIMIT=%d" % session.around.append_limit]
    found = list(_ALWAYS)
    if session.entrance.starttls and session.stream.tls is None:
        found.append(b"STARTTLS")
    if _may_log_in(session):
        return [*found, *[b"AUTH=" + name.encode() for name in MECHANISMS]]
    return [*found, b"LOGINDISABLED"]


def _may_log_in(session: Session) -> bool:
    return session.entrance.clear_text_login or session.stream.tls is not None


def guard(session: Session) -> None:
    """Let LOGIN be refused before its password is sent, where the connection is in clear text."""
    session.engine.login_disabled = None if _may_log_in(session) else _NOT_YET


async def capability(session: Session, command: Command, asked: request.Capability) -> None:
    """CAPABILITY."""
    session.engine.send(response.capability(capabilities(session)))
    await session.ok(command, "That is what this server can do")


async def starttls(session: Session, command: Command, asked: request.StartTls) -> None:
    """STARTTLS: RFC 9051 §6.2.1."""
    engine, stream = session.engine, session.stream
    if not session.entrance.starttls or stream.tls is not None:
        raise Senseless("TLS cannot be started")
    engine.ok(command, "Begin TLS")
    if not engine.ended:
        stream.write(engine.outgoing())
        await stream.start_tls(session.around.certificates.context, server_side=True)
        engine.tls_started()
        guard(session)


async def login(session: Session, command: Command, asked: request.Login) -> None:
    """LOGIN: RFC 9051 §6.2.3. In clear text the engine has refused it already."""
    try:
        name, password = asked.user.decode(), asked.password.decode()
    except UnicodeDecodeError as error:
        raise Refused("A name or password is no UTF-8", Code.AUTHENTICATIONFAILED) from error
    answer = await session.around.authenticator.plain(name, password, session.stream.peer.host)
    await _settle(session, command, answer)


async def authenticate(session: Session, command: Command, asked: request.Authenticate) -> None:
    """AUTHENTICATE: RFC 9051 §6.2.2."""
    if not _may_log_in(session):
        raise Refused(_NOT_YET, Code.PRIVACYREQUIRED)
    if asked.mechanism not in MECHANISMS:
        raise Refused("This mechanism is not offered", Code.CANNOT)
    exchange = Login(session.around.authenticator, session.stream.peer.host, asked.mechanism)
    answer = await exchange.start(asked.initial)
    if isinstance(answer, Ask):
        session.ongoing = _Exchange(session, command, exchange)
    await _settle(session, command, answer)


class _Exchange:
    """An AUTHENTICATE that waits for the client."""

    def __init__(self, session: Session, command: Command, login: Login) -> None:
        self.command = command
        self._session = session
        self._login = login

    async def take(self, event: Event) -> None:
        """Its answer to a challenge."""
        assert isinstance(event, AuthResponse), "a response follows a challenge"
        answer = await self._login.respond(event.octets)
        if not isinstance(answer, Ask):
            await self._session.drop()
        await _settle(self._session, self.command, answer)

    async def drop(self) -> None:
        """Nothing is held."""


async def _settle(session: Session, command: Command, answer: Answer) -> None:
    """Say what came of a login, or ask on."""
    peer = session.stream.peer.host
    match answer:
        case Ask(octets):
            session.engine.challenge(octets)
        case Account():
            if not await session.enter(answer):
                raise Refused(*_REFUSED[LoginFailure.DISABLED])
            observe.tell("login", level=observe.DEBUG, account=answer.name, peer=peer, door="imap")
            session.engine.ok(command, "Welcome", response.capability_code(capabilities(session)))
        case Malformed(why):
            observe.tell("login.malformed", level=observe.DEBUG, peer=peer, door="imap", why=why)
            raise Senseless("This is no such exchange")
        case LoginRefused(why):
            observe.tell("login.refused", peer=peer, door="imap", why=why.value)
            raise Refused(*_REFUSED[why])
