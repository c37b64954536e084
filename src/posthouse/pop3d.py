"""The POP3 door (RFC 1939): the Inbox of an account as a numbered list.

Promises: the list is the Inbox when the client logged in, and every message of it stays readable until the session
ends, whatever others do meanwhile. Messages are removed in one transaction at QUIT; a connection that breaks removes
nothing. UIDL stays the same for as long as a message is in the Inbox. No password is taken in clear text, except
where the configuration allows it on loopback.
Refuses: to show what is marked \\Deleted elsewhere, and to mark anything as seen.
"""

import asyncio
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, cast

from posthouse import observe
from posthouse.clock import Clock
from posthouse.directory.credentials import Authenticator, LoginFailure, LoginRefused
from posthouse.directory.login import MECHANISMS, Answer, Ask, Login, Malformed
from posthouse.directory.model import Account
from posthouse.directory.presence import Presence
from posthouse.mailbox import emails, mailboxes
from posthouse.mailbox.model import MailboxError, NoSuchEmail
from posthouse.net.stream import Stopping, Stream, StreamTimeout
from posthouse.net.tls import Certificates, TlsFailed
from posthouse.store.blobs import BlobLost, Blobs
from posthouse.store.database import Store, StoreUnavailable, Tx
from posthouse.wire import multiline
from posthouse.wire.pop3 import command as pop3
from posthouse.wire.pop3.server import AuthResponse, Command, Ended, Event, Pop3Server

# RFC 2449 §8, RFC 3206 §4.
_REFUSED: Final = {
    LoginFailure.WRONG: ("Wrong login or password", "AUTH"),
    LoginFailure.DISABLED: ("This account is disabled", "AUTH"),
    LoginFailure.THROTTLED: ("Too many failed logins; try again later", "LOGIN-DELAY"),
    LoginFailure.BUSY: ("Too many logins at once; try again later", "SYS/TEMP"),
}
_NOT_THERE: Final = "There is no such message"
_STOPPING: Final = ("This server is stopping; try again soon", "SYS/TEMP")
# Events of one client in a row before the others have a turn: a few milliseconds.
_TURN: Final = 50


@dataclass(slots=True)
class Drop:
    """The maildrop of a session: message n is at n - 1. `uidvalidity` and uid make its UIDL."""

    account: int
    mailbox: int
    uidvalidity: int
    uids: "array[int]"
    emails: "array[int]"
    sizes: "array[int]"
    removed: set[int]

    def number(self, number: int) -> int | None:
        """The index of a message that is there and not removed."""
        index = number - 1
        return index if 0 <= index < len(self.uids) and index not in self.removed else None

    def left(self) -> list[int]:
        """The indexes of those that are not removed, in order."""
        return [index for index in range(len(self.uids)) if index not in self.removed]

    def uidl(self, index: int) -> bytes:
        """RFC 1939 §7: 1 to 70 printable characters, unique in the maildrop and over time."""
        return b"%d.%d" % (self.uidvalidity, self.uids[index])


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every POP3 session works with. Timeouts in seconds: until a client has logged in, and of its silence
    afterwards."""

    hostname: str
    clock: Clock
    store: Store
    blobs: Blobs
    authenticator: Authenticator
    presence: Presence
    certificates: Certificates
    login_timeout: float
    idle_timeout: float


class Pop3Door:
    """One listener of POP3."""

    def __init__(self, around: Surroundings, *, starttls: bool, clear_text_login: bool) -> None:
        self._around = around
        self._starttls = starttls
        self._clear_text_login = clear_text_login

    async def serve(self, stream: Stream) -> None:
        """Hold one conversation."""
        session = _Session(stream, self._around, starttls=self._starttls, clear_text_login=self._clear_text_login)
        if stream.unwelcome is None:
            await session.hold()
        else:
            # RFC 3206 §4.
            code = "SYS/TEMP" if stream.unwelcome.transient else "SYS/PERM"
            stream.write(f"-ERR [{code}] {stream.unwelcome.text}\r\n".encode())


class _Session:
    """One client."""

    def __init__(self, stream: Stream, around: Surroundings, *, starttls: bool, clear_text_login: bool) -> None:
        self._stream = stream
        self._around = around
        self._starttls = starttls
        self._clear_text_login = clear_text_login
        self._engine = Pop3Server()
        self._login: Login | None = None
        self._drop: Drop | None = None
        # Why the connection ends, once it is to.
        self._parting: tuple[str, str] | None = None

    # --- the conversation

    async def hold(self) -> None:
        """Answer until the client leaves, or has to."""
        engine = self._engine
        engine.greet(f"{self._around.hostname} POP3 posthouse")
        try:
            await self._converse()
        except StreamTimeout:
            # RFC 1939 §3: without entering UPDATE.
            engine.bye("You took too long")
        except Stopping:
            engine.bye(*(self._parting or _STOPPING))
        except (ConnectionError, TlsFailed):
            raise
        except Exception:
            engine.bye("Something is wrong here; the people who run this server can read what", "SYS/PERM")
            raise
        finally:
            if self._drop is not None:
                self._around.presence.leave(self._drop.account, self._show_out)
            self._stream.write(engine.outgoing())

    async def _converse(self) -> None:
        engine, stream = self._engine, self._stream
        loop = asyncio.get_running_loop()
        patience = loop.time() + self._around.login_timeout
        turn = 0
        while True:
            if self._drop is None and loop.time() >= patience:
                # Who does not log in buys no time with a word now and then, nor with so many that no read has to wait.
                raise StreamTimeout
            event = engine.next_event()
            if isinstance(event, Ended):
                return
            if event is not None:
                await self._handle(event)
                await self._flush()
                if self._parting is not None:
                    raise Stopping
                turn += 1
                if turn % _TURN == 0:
                    await asyncio.sleep(0)
                continue
            await self._flush()
            if self._drop is None:
                stream.timeout = max(patience - loop.time(), 0.001)
            octets = await stream.read()
            if not octets:
                return
            engine.receive(octets)

    async def _flush(self) -> None:
        """Send what is outgoing, at the client's speed."""
        outgoing = self._engine.outgoing()
        if outgoing:
            self._stream.write(outgoing)
        if self._stream.blocked:
            await self._stream.drain()

    async def _handle(self, event: Event) -> None:
        try:
            if isinstance(event, Command):
                waiting = _HANDLERS[type(event.request)](self, event.request)
                if waiting is not None:
                    await waiting
            elif isinstance(event, AuthResponse):
                assert self._login is not None, "a response follows a challenge"
                await self._say(await self._login.respond(event.octets))
        except StoreUnavailable as error:
            observe.tell("pop3.unavailable", level=observe.ERROR, error=str(error))
            self._engine.err("The mail store cannot be reached; try again later", "SYS/TEMP")
        except MailboxError as error:
            observe.tell("pop3.refused", level=observe.WARNING, error=str(error))
            self._engine.err("The mailbox is not there", "SYS/PERM")

    def _show_out(self) -> None:
        self._parting = "This account is closed", "SYS/PERM"
        self._stream.stop()

    # --- before login

    @property
    def _may_log_in(self) -> bool:
        return self._clear_text_login or self._stream.tls is not None

    def _capa(self, request: pop3.Capa) -> None:
        # RFC 2449 §6, RFC 3206 §5, RFC 2595 §4.
        lines = [b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"EXPIRE NEVER"]
        if self._may_log_in:
            lines += [b"USER", b"SASL " + " ".join(MECHANISMS).encode()]
        if self._starttls and self._stream.tls is None:
            lines.append(b"STLS")
        self._engine.ok_lines("What this server can do", [*lines, b"IMPLEMENTATION posthouse"])

    async def _stls(self, request: pop3.Stls) -> None:
        if not self._starttls or self._stream.tls is not None:
            self._engine.err("TLS cannot be started")
            return
        self._engine.ok("Begin TLS")
        if self._engine.ended:
            return
        self._stream.write(self._engine.outgoing())
        await self._stream.start_tls(self._around.certificates.context, server_side=True)
        self._engine.tls_started()

    def _user(self, request: pop3.User) -> None:
        if not self._may_log_in:
            self._engine.err("Say STLS first")
            return
        # RFC 1939 §7: whether the name exists is not told here.
        self._engine.ok("Now the password")

    async def _pass(self, request: pop3.Pass) -> None:
        try:
            name, password = request.name.decode(), request.password.decode()
        except UnicodeDecodeError:
            self._engine.err("A name or password is no UTF-8", "AUTH")
            return
        await self._say(await self._around.authenticator.plain(name, password, self._stream.peer.host))

    async def _auth(self, request: pop3.Auth) -> None:
        if not self._may_log_in:
            self._engine.err("Say STLS first")
        elif request.mechanism not in MECHANISMS:
            self._engine.err("This mechanism is not offered")
        else:
            self._login = Login(self._around.authenticator, self._stream.peer.host, request.mechanism)
            await self._say(await self._login.start(request.initial))

    async def _say(self, answer: Answer) -> None:
        match answer:
            case Ask(octets):
                self._engine.challenge(octets)
            case Account():
                await self._open(answer)
            case Malformed(why):
                observe.tell("login.malformed", level=observe.DEBUG, peer=self._stream.peer.host, why=why)
                self._engine.err("This is no such exchange")
            case LoginRefused(why):
                observe.tell("login.refused", peer=self._stream.peer.host, door="pop3", why=why.value)
                self._engine.err(*_REFUSED[why])

    async def _open(self, account: Account) -> None:
        self._login = None
        drop = await self._around.store.read(_open, account.id)
        if not await self._around.presence.enter(account.id, self._show_out):
            self._engine.err(*_REFUSED[LoginFailure.DISABLED])
            return
        self._drop = drop
        self._stream.timeout = self._around.idle_timeout
        observe.tell("login", level=observe.DEBUG, account=account.name, peer=self._stream.peer.host, door="pop3")
        self._engine.ok(f"{len(drop.uids)} messages")

    # --- the maildrop

    @property
    def _open_drop(self) -> Drop:
        assert self._drop is not None, "the table lets this come after a login only"
        return self._drop

    def _stat(self, request: pop3.Stat) -> None:
        drop = self._open_drop
        left = drop.left()
        self._engine.ok(f"{len(left)} {sum(drop.sizes[index] for index in left)}")

    def _list(self, request: pop3.List) -> None:
        drop = self._open_drop
        self._tell(request.number, lambda index: b"%d" % drop.sizes[index])

    def _uidl(self, request: pop3.Uidl) -> None:
        self._tell(request.number, self._open_drop.uidl)

    def _tell(self, number: int | None, fact: Callable[[int], bytes]) -> None:
        """One fact of one message, or of all."""
        drop = self._open_drop
        if number is None:
            self._engine.ok_lines("", [b"%d %b" % (index + 1, fact(index)) for index in drop.left()])
        elif (index := drop.number(number)) is None:
            self._engine.err(_NOT_THERE)
        else:
            self._engine.ok(f"{number} {fact(index).decode()}")

    async def _retr(self, request: pop3.Retr) -> None:
        await self._send(request.number, None)

    async def _top(self, request: pop3.Top) -> None:
        await self._send(request.number, request.lines)

    async def _send(self, number: int, lines: int | None) -> None:
        """A message, at the client's speed and never whole in memory where it is large."""
        drop = self._open_drop
        index = drop.number(number)
        if index is None:
            self._engine.err(_NOT_THERE)
            return
        try:
            content = await self._around.store.read(emails.content, drop.account, drop.emails[index])
            buffers = (content.prologue, await self._around.blobs.load(content.blob))
        except NoSuchEmail:
            self._engine.err("This message is gone", "SYS/PERM")
            return
        except BlobLost as error:
            observe.fault("pop3.content_lost", error, account=drop.account, email=drop.emails[index])
            self._engine.err("The store has lost this message", "SYS/PERM")
            return
        self._engine.ok(f"{drop.sizes[index]} octets")
        for octets in multiline.whole(buffers) if lines is None else multiline.top(buffers, lines):
            self._engine.send(octets)
            await self._flush()

    def _dele(self, request: pop3.Dele) -> None:
        drop = self._open_drop
        index = drop.number(request.number)
        if index is None:
            self._engine.err(_NOT_THERE)
            return
        drop.removed.add(index)
        self._engine.ok("It will be removed at QUIT")

    def _noop(self, request: pop3.Noop) -> None:
        self._engine.ok("Still here")

    def _rset(self, request: pop3.Rset) -> None:
        self._open_drop.removed.clear()
        self._engine.ok("Nothing will be removed")

    async def _quit(self, request: pop3.Quit) -> None:
        if request.update and self._open_drop.removed:
            drop = self._open_drop
            uids = sorted(drop.uids[index] for index in drop.removed)
            # The instant at which the client may forget them: once it reads +OK they are gone.
            await self._around.store.write(emails.expunge, drop.account, drop.mailbox, uids, self._around.clock.now())
        self._engine.ok("Goodbye")


def _open(tx: Tx, account: int) -> Drop:
    """The Inbox as it is now."""
    inbox = mailboxes.by_role(tx, account, "inbox")
    rows = tx.all("pop3_maildrop", account=account, mailbox=inbox)
    uids, ids, sizes = zip(*rows, strict=True) if rows else ((), (), ())
    uidvalidity = mailboxes.get(tx, account, inbox).uidvalidity
    return Drop(account, inbox, uidvalidity, array("I", uids), array("I", ids), array("q", sizes), set())


_Handler = Callable[[_Session, pop3.Request], Awaitable[None] | None]
_HANDLERS: Final = cast(
    "dict[type, _Handler]",
    {
        pop3.Capa: _Session._capa,
        pop3.Stls: _Session._stls,
        pop3.User: _Session._user,
        pop3.Pass: _Session._pass,
        pop3.Auth: _Session._auth,
        pop3.Stat: _Session._stat,
        pop3.List: _Session._list,
        pop3.Uidl: _Session._uidl,
        pop3.Retr: _Session._retr,
        pop3.Top: _Session._top,
        pop3.Dele: _Session._dele,
        pop3.Noop: _Session._noop,
        pop3.Rset: _Session._rset,
        pop3.Quit: _Session._quit,
    },
)
