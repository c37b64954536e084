"""Before login: CAPABILITY, STARTTLS, LOGIN, AUTHENTICATE (RFC 9051 §6.1.1, §6.2).

Promises: no password is taken in clear text, except where the configuration allows it on loopback. Who is disabled or
removed does not come in, whatever a password says.
"""

from typing import Final

from posthouse import observe
from posthouse.directory.credentials import LoginFailure, LoginRefused
from posthouse.directory.login import Answer, Ask, Login, Malformed, proven
from posthouse.directory.model import Account
from posthouse.imapd.refusal import Refused, Senseless
from posthouse.imapd.session import Session
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import AuthResponse, Command, Event
from posthouse.wire.imap.response import Code
from posthouse.wire.sasl import mechanisms
from posthouse.wire.sasl.exchange import Evidence

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
    *(b"CONDSTORE", b"QRESYNC", b"UIDONLY", b"PARTIAL", b"NOTIFY"),
    *(b"LIST-EXTENDED", b"LIST-STATUS", b"ESEARCH", b"SEARCHRES", b"STATUS=SIZE", b"MULTIAPPEND", b"BINARY"),
    *(b"SORT", b"SORT=DISPLAY", b"ESORT", b"THREAD=ORDEREDSUBJECT", b"THREAD=REFERENCES", b"THREAD=REFS"),
    *(b"I18NLEVEL=1", b"WITHIN", b"SEARCH=FUZZY", b"CONTEXT=SEARCH", b"CONTEXT=SORT", b"MULTISEARCH", b"INPROGRESS"),
    *(b"OBJECTID", b"SAVEDATE", b"PREVIEW", b"CATENATE", b"REPLACE", b"UTF8=ACCEPT"),
    *(b"QUOTA", b"QUOTA=RES-STORAGE", b"QUOTA=RES-MESSAGE", b"METADATA", b"LIST-METADATA"),
    *(b"FILTERS", b"ACL", b"RIGHTS=texk", b"LIST-MYRIGHTS"),
)
_NOT_YET: Final = "Log in over TLS: say STARTTLS first"


def capabilities(session: Session) -> list[bytes]:
    """What the server can do, as this client may know now."""
    if session.account is not None:
        again = (b"UNAUTHENTICATE",) if session.entrance.unauthenticate else ()
        smaller = () if session.stream.compressed else (b"COMPRESS=DEFLATE",)
        around = session.around
        # RFC 9738 §3. SAVELIMIT is for who limits COPY and APPEND alone.
        limited = (b"MESSAGELIMIT=%d" % around.message_limit,) if around.message_limit else ()
        return [*_ALWAYS, *_INSIDE, *again, *smaller, *limited, b"APPENDLIMIT=%d" % around.append_limit]
    found = list(_ALWAYS)
    if session.entrance.starttls and session.stream.tls is None:
        found.append(b"STARTTLS")
    if _may_log_in(session):
        return [*found, *[b"AUTH=" + name.encode() for name in mechanisms.offered(_proven(session))]]
    return [*found, b"LOGINDISABLED"]


def _may_log_in(session: Session) -> bool:
    return session.entrance.clear_text_login or session.stream.tls is not None


def _proven(session: Session) -> Evidence:
    return proven(session.stream, certificates=session.entrance.certificates)


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
        await stream.start_tls(session.around.certificates.asking, server_side=True)
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
    evidence = _proven(session)
    if asked.mechanism not in mechanisms.offered(evidence):
        raise Refused("This mechanism is not offered", Code.CANNOT)
    exchange = Login(session.around.authenticator, session.stream.peer.host, asked.mechanism, evidence)
    answer = await exchange.start(asked.initial)
    if isinstance(answer, Ask):
        session.ongoing = _Exchange(session, command, exchange)
    await _settle(session, command, answer)


async def unauthenticate(session: Session, command: Command, asked: request.Unauthenticate) -> None:
    """UNAUTHENTICATE: RFC 8437 §3. All that was enabled, opened or asked for goes with it; TLS stays."""
    if not session.entrance.unauthenticate:
        raise Senseless("This connection is for one login")
    await session.leave()
    session.engine.ok(command, "Somebody else may log in")
    if session.stream.compressed:
        # RFC 8437 §4.1: behind the answer.
        session.stream.write(session.engine.outgoing())
        session.stream.stop_compress()


async def compress(session: Session, command: Command, asked: request.Compress) -> None:
    """COMPRESS: RFC 4978 §3. What stands behind the answer is compressed."""
    engine, stream = session.engine, session.stream
    if asked.algorithm != "DEFLATE":
        raise Senseless("Only DEFLATE is known here")
    if stream.compressed:
        raise Refused("DEFLATE is active already", Code.COMPRESSIONACTIVE)
    await session.ok(command, "DEFLATE from here on")
    if not engine.ended:
        stream.write(engine.outgoing())
        stream.compress()


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
