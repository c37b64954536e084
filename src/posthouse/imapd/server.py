"""The IMAP door (RFC 9051, RFC 3501): one connection's conversation, its login, and what selects and leaves a mailbox.

Promises: commands are answered in their order. A client that stops reading stops its own session and no other. While
it idles, a client costs a waiting task and hears of news as they come, also those of other processes. No password is
taken in clear text, except where the configuration allows it on loopback.
Refuses: to know how mail is stored; each command is a function in the files beside, found by the table at the end.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from posthouse import __version__, observe
from posthouse.directory.credentials import LoginFailure, LoginRefused
from posthouse.directory.login import MECHANISMS, Answer, Ask, Login, Malformed
from posthouse.directory.model import Account
from posthouse.imapd import fetch, mailboxes, messages, search
from posthouse.imapd.messages import Appending
from posthouse.imapd.session import Selected, Session, Surroundings
from posthouse.mailbox import mailboxes as model
from posthouse.mailbox.model import Mailbox, MailboxError, NoSuchMailbox
from posthouse.net.stream import Stopping, Stream, StreamTimeout
from posthouse.store.database import StoreUnavailable, Topic, Tx
from posthouse.terms.keywords import SEEN
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import (
    AppendEnd,
    AuthResponse,
    Broken,
    Command,
    Ended,
    Event,
    IdleDone,
    LiteralChunk,
    LiteralEnd,
)
from posthouse.wire.imap.request import AppendMessage
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
    *(b"LIST-EXTENDED", b"LIST-STATUS", b"ESEARCH", b"SEARCHRES", b"STATUS=SIZE"),
)
_CAN_ENABLE: Final = (b"IMAP4REV2",)
_NOT_YET: Final = "Log in over TLS: say STARTTLS first"


class ImapDoor:
    """One listener of IMAP."""

    def __init__(self, around: Surroundings, *, starttls: bool, clear_text_login: bool) -> None:
        self._around = around
        self._starttls = starttls
        self._clear_text_login = clear_text_login

    async def serve(self, stream: Stream) -> None:
        """Hold one conversation."""
        stream.timeout = self._around.login_timeout
        session = Session(stream, self._around)
        await _Conversation(session, starttls=self._starttls, clear_text_login=self._clear_text_login).hold()


class _Conversation:
    """What is under way in one session: a login, an APPEND, an IDLE."""

    def __init__(self, session: Session, *, starttls: bool, clear_text_login: bool) -> None:
        self.session = session
        self._starttls = starttls
        self._clear_text_login = clear_text_login
        self._login: tuple[Command, Login] | None = None
        self._appending: Appending | None = None
        self._idle: tuple[Command, asyncio.Task[None]] | None = None

    async def hold(self) -> None:
        """Answer until the client leaves."""
        engine = self.session.engine
        engine.greet(f"{self.session.around.hostname} posthouse", self.capabilities())
        try:
            await self._converse()
        except StreamTimeout:
            # RFC 9051 §5.4
            engine.bye("You said nothing for too long")
        except Stopping:
            engine.bye("This server is stopping; try again soon", Code.UNAVAILABLE)
        except NoSuchMailbox:
            engine.bye("The open mailbox was deleted")
        finally:
            await self._drop()
            self.session.stream.write(engine.outgoing())

    async def _converse(self) -> None:
        session = self.session
        engine, stream = session.engine, session.stream
        while True:
            event = engine.next_event()
            if event is None:
                await session.flush()
                octets = await stream.read()
                if not octets:
                    return
                engine.receive(octets)
            elif isinstance(event, Ended):
                return
            else:
                await self._handle(event)

    async def _handle(self, event: Event) -> None:
        match event:
            case Command():
                await self._command(event)
            case LiteralChunk(octets):
                assert self._appending is not None, "chunks follow an APPEND"
                self._appending.write(octets)
            case LiteralEnd() | Ended():
                return
            case AppendMessage():
                assert self._appending is not None, "a message follows an APPEND"
                if not await self._appending.begin(event):
                    await self._drop()
            case AppendEnd():
                assert self._appending is not None, "the end follows an APPEND"
                await self._appending.end()
                await self._drop()
            case AuthResponse(octets):
                assert self._login is not None, "a response follows a challenge"
                command, login = self._login
                await self._say(command, await login.respond(octets))
            case IdleDone():
                assert self._idle is not None, "DONE follows IDLE"
                command, _ = self._idle
                await self._drop()
                await self.session.ok(command, "No longer idle")
            case Broken():
                await self._drop()

    async def _command(self, command: Command) -> None:
        try:
            own = _OWN.get(type(command.request))
            if own is not None:
                await own(self, command, command.request)
            else:
                await _COMMANDS[type(command.request)](self.session, command, command.request)
        except NoSuchMailbox as error:
            if isinstance(command.request, request.Copy | request.Move):
                # RFC 9051 §6.4.7: the client may make it and try again.
                self.session.engine.no(command, "There is no such mailbox", Code.TRYCREATE)
            else:
                self.session.fail(command, error)
        except (MailboxError, StoreUnavailable) as error:
            self.session.fail(command, error)

    async def _drop(self) -> None:
        """Let go of what was under way."""
        if self._appending is not None:
            self._appending.discard()
            self._appending = None
        if self._idle is not None:
            _, task = self._idle
            self._idle = None
            task.cancel()
            await asyncio.wait([task])

    # --- before login

    def capabilities(self) -> list[bytes]:
        """What CAPABILITY tells now."""
        found = list(_ALWAYS)
        if self.session.account is not None:
            return [*found, *_INSIDE, b"APPENDLIMIT=%d" % self.session.around.append_limit]
        if self._starttls and self.session.stream.tls is None:
            found.append(b"STARTTLS")
        if self._may_log_in:
            return [*found, *[b"AUTH=" + name.encode() for name in MECHANISMS]]
        return [*found, b"LOGINDISABLED"]

    @property
    def _may_log_in(self) -> bool:
        return self._clear_text_login or self.session.stream.tls is not None

    async def capability(self, command: Command, asked: request.Capability) -> None:
        self.session.engine.send(response.capability(self.capabilities()))
        await self.session.ok(command, "That is what this server can do")

    async def starttls(self, command: Command, asked: request.StartTls) -> None:
        engine, stream = self.session.engine, self.session.stream
        if not self._starttls or stream.tls is not None:
            engine.bad(command, "TLS cannot be started")
            return
        engine.ok(command, "Begin TLS")
        if engine.ended:
            return
        stream.write(engine.outgoing())
        await stream.start_tls(self.session.around.certificates.context, server_side=True)
        engine.tls_started()

    async def login(self, command: Command, asked: request.Login) -> None:
        engine = self.session.engine
        if not self._may_log_in:
            engine.no(command, _NOT_YET, Code.PRIVACYREQUIRED)
            return
        try:
            name, password = asked.user.decode(), asked.password.decode()
        except UnicodeDecodeError:
            engine.no(command, "A name or password is no UTF-8", Code.AUTHENTICATIONFAILED)
            return
        authenticator = self.session.around.authenticator
        await self._say(command, await authenticator.plain(name, password, self.session.stream.peer.host))

    async def authenticate(self, command: Command, asked: request.Authenticate) -> None:
        if not self._may_log_in:
            self.session.engine.no(command, _NOT_YET, Code.PRIVACYREQUIRED)
        elif asked.mechanism not in MECHANISMS:
            self.session.engine.no(command, "This mechanism is not offered", Code.CANNOT)
        else:
            login = Login(self.session.around.authenticator, self.session.stream.peer.host, asked.mechanism)
            self._login = command, login
            await self._say(command, await login.start(asked.initial))

    async def _say(self, command: Command, answer: Answer) -> None:
        session = self.session
        match answer:
            case Ask(octets):
                session.engine.challenge(octets)
            case Account():
                session.account = answer
                session.stream.timeout = session.around.idle_timeout
                observe.tell(
                    "login", level=observe.DEBUG, account=answer.name, peer=session.stream.peer.host, door="imap"
                )
                session.engine.ok(command, "Welcome", response.capability_code(self.capabilities()))
            case Malformed(why):
                observe.tell("login.malformed", level=observe.DEBUG, peer=session.stream.peer.host, why=why)
                session.engine.bad(command, "This is no such exchange")
            case LoginRefused(why):
                observe.tell("login.refused", peer=session.stream.peer.host, door="imap", why=why.value)
                session.engine.no(command, *_REFUSED[why])

    # --- any time

    async def noop(self, command: Command, asked: request.Noop | request.Check) -> None:
        await self.session.refresh()
        await self.session.ok(command, "Still here")

    async def logout(self, command: Command, asked: request.Logout) -> None:
        self.session.engine.ok(command, "Goodbye")

    async def id_(self, command: Command, asked: request.Id) -> None:
        self.session.engine.send(response.identity({"name": "posthouse", "version": __version__}))
        await self.session.ok(command, "Pleased to meet you")

    async def enable(self, command: Command, asked: request.Enable) -> None:
        on = [name for name in asked.capabilities if name.upper() in _CAN_ENABLE]
        self.session.rev2 = self.session.rev2 or bool(on)
        self.session.engine.enable(on)
        await self.session.ok(command, "Enabled")

    # --- the open mailbox

    async def select(self, command: Command, asked: request.Select) -> None:
        session, engine = self.session, self.session.engine
        if session.selected is not None:
            session.selected = None
            engine.send(response.ok("The mailbox that was open is closed", Code.CLOSED))
        mailbox = await session.read(_by_path, asked.mailbox)
        view = await session.around.snapshots.open(session.owner, mailbox.id)
        session.selected = Selected(mailbox.id, mailbox.path, view, asked.read_only)
        await session.learn_flags(())
        flags = session.all_flags()
        engine.send(response.flags(flags), response.exists(len(view)))
        if not session.rev2:
            engine.send(response.recent(0))
            unseen = next((n for n, bits in enumerate(view.snapshot.flags, 1) if not bits & SEEN), None)
            if unseen is not None:
                engine.send(response.ok("The first unseen one", response.unseen(unseen)))
        permanent = [] if asked.read_only else [*flags, b"\\*"]
        engine.send(
            response.ok("Flags that stay", response.permanent_flags(permanent)),
            response.ok("UIDs are good as long as this", response.uidvalidity(view.snapshot.uidvalidity)),
            response.ok("The next UID", response.uidnext(view.snapshot.uidnext)),
        )
        if session.rev2:
            # RFC 9051 §6.3.2: the name as the server has it.
            engine.send(response.listed(mailbox.path, (), utf8=engine.utf8))
        engine.ok(command, "It is open", Code.READ_ONLY if asked.read_only else Code.READ_WRITE)

    async def close(self, command: Command, asked: request.Close) -> None:
        session = self.session
        if asked.expunge and not session.open.read_only:
            # RFC 9051 §6.4.1: nothing is told of what is expunged here.
            await messages.remove_deleted(session, session.open)
        session.selected = None
        session.engine.ok(command, "Closed")

    async def append(self, command: Command, asked: request.Append) -> None:
        self._appending = Appending(self.session, command, asked)

    async def idle(self, command: Command, asked: request.Idle) -> None:
        """RFC 9051 §6.3.13: news are told as they come, until DONE."""
        await self.session.refresh()
        self.session.engine.idle()
        await self.session.tell_news(expunge=True)
        self._idle = command, asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        session = self.session
        ear = session.around.store.listen(Topic.ACCOUNT, session.owner)
        try:
            while True:
                await ear.wait()
                await session.refresh()
                await session.tell_news(expunge=True)
                await session.flush()
        except (MailboxError, StoreUnavailable, ConnectionError) as error:
            # The session itself finds out at its next command; a client that idles is let go.
            observe.tell("imap.idle_ended", level=observe.DEBUG, error=str(error))
            session.stream.abort()
        finally:
            ear.close()


def _by_path(tx: Tx, account: int, path: str) -> Mailbox:
    return model.get(tx, account, model.find(tx, account, path))


# --- who answers what -------------------------------------------------------------------------------------------------

_OWN: Final[dict[type, Callable[[_Conversation, Command, Any], Awaitable[None]]]] = {
    request.Capability: _Conversation.capability,
    request.Noop: _Conversation.noop,
    request.Check: _Conversation.noop,
    request.Logout: _Conversation.logout,
    request.Id: _Conversation.id_,
    request.StartTls: _Conversation.starttls,
    request.Login: _Conversation.login,
    request.Authenticate: _Conversation.authenticate,
    request.Enable: _Conversation.enable,
    request.Select: _Conversation.select,
    request.Close: _Conversation.close,
    request.Append: _Conversation.append,
    request.Idle: _Conversation.idle,
}
_COMMANDS: Final[dict[type, Callable[[Session, Command, Any], Awaitable[None]]]] = {
    request.List: mailboxes.list_,
    request.Lsub: mailboxes.lsub,
    request.Namespace: mailboxes.namespace,
    request.Status: mailboxes.status,
    request.Create: mailboxes.create,
    request.Delete: mailboxes.delete,
    request.Rename: mailboxes.rename,
    request.Subscribe: mailboxes.subscribe,
    request.Search: search.search,
    request.Fetch: fetch.fetch,
    request.Store: messages.store,
    request.Copy: messages.copy,
    request.Move: messages.move,
    request.Expunge: messages.expunge,
}
