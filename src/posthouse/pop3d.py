"""The POP3 door (RFC 1939): the Inbox of an account as a numbered list.

Promises: the list is the Inbox when the client logged in, and every message of it stays readable until the session
ends, whatever others do meanwhile. Sizes are those of the octets that RETR sends. Messages are removed in one
transaction at QUIT; a connection that breaks removes nothing. UIDL stays the same for as long as the account has the
message. No password is taken in clear text, except where the configuration allows it on loopback.
Refuses: to show what is marked \\Deleted elsewhere, and to mark anything as seen.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from posthouse import observe
from posthouse.clock import Clock
from posthouse.directory.credentials import Authenticator, LoginFailure, LoginRefused
from posthouse.directory.login import Answer, Ask, Login, Malformed, proven
from posthouse.directory.model import Account
from posthouse.directory.presence import Presence
from posthouse.limits import KB
from posthouse.mailbox import maildrop
from posthouse.mailbox.ahead import Ahead
from posthouse.mailbox.emails import Content
from posthouse.mailbox.maildrop import Drop, Drops, Found, Sizes
from posthouse.mailbox.model import MailboxError, NoSuchEmail
from posthouse.message.downgrade import for_ascii
from posthouse.message.octets import Buffer
from posthouse.net.stream import Stopping, Stream, StreamTimeout
from posthouse.net.tls import Certificates, TlsFailed
from posthouse.store.blobs import BlobLost, Blobs
from posthouse.store.database import Store, StoreUnavailable
from posthouse.wire import multiline
from posthouse.wire.pop3 import command as pop3
from posthouse.wire.pop3.server import AuthResponse, Command, Ended, Event, Pop3Server
from posthouse.wire.sasl import mechanisms
from posthouse.wire.sasl.exchange import Evidence

# RFC 2449 §8, RFC 3206 §4.
_REFUSED: Final = {
    LoginFailure.WRONG: ("Wrong login or password", "AUTH"),
    LoginFailure.DISABLED: ("This account is disabled", "AUTH"),
    LoginFailure.THROTTLED: ("Too many failed logins; try again later", "LOGIN-DELAY"),
    LoginFailure.BUSY: ("Too many logins at once; try again later", "SYS/TEMP"),
}
# RFC 6856 §3.2: what answers are written in; the first is spoken unless another is asked for (RFC 2277 §4.5).
_LANGUAGES: Final = (("i-default", "Default language"), ("en", "English"))
_NOT_THERE: Final = "There is no such message"
_STOPPING: Final = ("This server is stopping; try again soon", "SYS/TEMP")
# Events of one client in a row before the others have a turn: a few milliseconds.
_TURN: Final = 50
# Going through a list as long as this is a turn of its own.
_LONG: Final = 1000
# Messages that are asked for together leave together, up to so many octets.
_SOON: Final = 128 * KB
# Messages whose sizes are found out at once; one larger than so many octets by itself, in a thread.
_MEASURED: Final = 20
_LARGE: Final = 1024 * KB


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
    drops: Drops = field(default_factory=Drops)
    sizes: Sizes = field(default_factory=Sizes)


@dataclass(frozen=True, slots=True)
class Entrance:
    """How one listener lets clients in."""

    starttls: bool
    clear_text_login: bool
    certificates: bool


class Pop3Door:
    """One listener of POP3. `certificates`: clients are asked for theirs, which log them in (EXTERNAL)."""

    def __init__(
        self, around: Surroundings, *, starttls: bool, clear_text_login: bool, certificates: bool = False
    ) -> None:
        self._around = around
        self._entrance = Entrance(starttls, clear_text_login, certificates)

    async def serve(self, stream: Stream) -> None:
        """Hold one conversation."""
        session = _Session(stream, self._around, self._entrance)
        if stream.unwelcome is None:
            await session.hold()
        else:
            # RFC 3206 §4.
            code = "SYS/TEMP" if stream.unwelcome.transient else "SYS/PERM"
            stream.write(f"-ERR [{code}] {stream.unwelcome.text}\r\n".encode())


class _Session:
    """One client."""

    def __init__(self, stream: Stream, around: Surroundings, entrance: Entrance) -> None:
        self._stream = stream
        self._around = around
        self._entrance = entrance
        self._engine = Pop3Server()
        self._login: Login | None = None
        self._drop: Drop | None = None
        self._ahead: Ahead[Found] = Ahead(self._read)
        # Octets of messages that are made ready; those of several leave together.
        self._unsent = 0
        # A long list was gone through: the others have their turn now.
        self._slow = False
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
                self._around.drops.give_back(self._drop.account)
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
                unsent = self._unsent
                waiting = self._begin(event)
                if waiting is not None:
                    await self._finish(waiting)
                if not unsent < self._unsent <= _SOON:
                    await self._flush()
                if self._parting is not None:
                    raise Stopping
                turn += 1
                if turn % _TURN == 0 or self._slow:
                    self._slow = False
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
        self._unsent = 0
        outgoing = self._engine.outgoing()
        if outgoing:
            self._stream.write(outgoing)
        if self._stream.blocked:
            await self._stream.drain()

    def _begin(self, event: Event) -> Awaitable[None] | None:
        """Do what the event asks for, or begin it: what is returned has to be finished."""
        if isinstance(event, Command):
            return _HANDLERS[type(event.request)](self, event.request)
        return self._respond(event) if isinstance(event, AuthResponse) else None

    async def _finish(self, waiting: Awaitable[None]) -> None:
        try:
            await waiting
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
        return self._entrance.clear_text_login or self._stream.tls is not None

    @property
    def _proven(self) -> Evidence:
        return proven(self._stream, certificates=self._entrance.certificates)

    def _capa(self, request: pop3.Capa) -> None:
        # RFC 2449 §6, RFC 3206 §5, RFC 2595 §4.
        lines = [b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"EXPIRE NEVER"]
        # RFC 6856 §2, §3.1: names and passwords are read as UTF-8.
        lines += [b"UTF8 USER", b"LANG"]
        if self._may_log_in:
            lines += [b"USER", b"SASL " + " ".join(mechanisms.offered(self._proven)).encode()]
        if self._entrance.starttls and self._stream.tls is None:
            lines.append(b"STLS")
        self._engine.ok_lines("What this server can do", [*lines, b"IMPLEMENTATION posthouse"])

    async def _stls(self, request: pop3.Stls) -> None:
        if not self._entrance.starttls or self._stream.tls is not None:
            self._engine.err("TLS cannot be started")
            return
        self._engine.ok("Begin TLS")
        if self._engine.ended:
            return
        self._stream.write(self._engine.outgoing())
        await self._stream.start_tls(self._around.certificates.asking, server_side=True)
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
        evidence = self._proven
        if not self._may_log_in:
            self._engine.err("Say STLS first")
        elif request.mechanism not in mechanisms.offered(evidence):
            self._engine.err("This mechanism is not offered")
        else:
            self._login = Login(self._around.authenticator, self._stream.peer.host, request.mechanism, evidence)
            await self._say(await self._login.start(request.initial))

    async def _respond(self, event: AuthResponse) -> None:
        assert self._login is not None, "a response follows a challenge"
        await self._say(await self._login.respond(event.octets))

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
        if not self._around.drops.take(account.id):
            # RFC 2449 §8.1.2.
            self._engine.err("Another session has this maildrop open", "IN-USE")
            return
        try:
            drop = await self._around.store.read(maildrop.look, account.id)
            if await self._around.presence.enter(account.id, self._show_out):
                self._drop = drop
        finally:
            if self._drop is None:
                self._around.drops.give_back(account.id)
        if self._drop is None:
            self._engine.err(*_REFUSED[LoginFailure.DISABLED])
            return
        self._stream.timeout = self._around.idle_timeout
        observe.tell("login", level=observe.DEBUG, account=account.name, peer=self._stream.peer.host, door="pop3")
        self._engine.ok(f"{len(drop.emails)} messages")

    # --- the maildrop

    @property
    def _open_drop(self) -> Drop:
        assert self._drop is not None, "the table lets this come after a login only"
        return self._drop

    async def _stat(self, request: pop3.Stat) -> None:
        drop = self._open_drop
        left = drop.left()
        self._slow = len(drop.emails) > _LONG
        await self._settle(left)
        self._engine.ok(f"{len(left)} {sum(drop.sizes[index] for index in left)}")

    async def _list(self, request: pop3.List) -> None:
        drop = self._open_drop
        await self._settle(drop.left() if request.number is None else [request.number - 1])
        self._tell(request.number, lambda index: b"%d" % drop.sizes[index])

    def _uidl(self, request: pop3.Uidl) -> None:
        self._tell(request.number, self._open_drop.unique_id)

    def _tell(self, number: int | None, fact: Callable[[int], bytes]) -> None:
        """One fact of one message, or of all."""
        drop = self._open_drop
        if number is None:
            self._slow = len(drop.emails) > _LONG
            self._engine.ok_lines("", [b"%d %b" % (index + 1, fact(index)) for index in drop.left()])
        elif (index := drop.number(number)) is None:
            self._engine.err(_NOT_THERE)
        else:
            self._engine.ok(f"{number} {fact(index).decode()}")

    async def _settle(self, indexes: Sequence[int]) -> None:
        """RFC 1939 §11: sizes are those of what is sent. Of these messages, those that are sent otherwise than they are
        stored are looked at, unless somebody has done so before."""
        drop, sizes, utf8 = self._open_drop, self._around.sizes, self._engine.utf8
        asked = [index for index in indexes if index in drop.mended]
        for index in asked:
            if (size := sizes.find(drop.account, drop.emails[index], utf8=utf8)) is not None:
                drop.settle(index, size)
        asked = [index for index in asked if index in drop.mended]
        for start in range(0, len(asked), _MEASURED):
            some = asked[start : start + _MEASURED]
            found = await self._read([drop.emails[index] for index in some])
            for index in some:
                if (content := found.get(drop.emails[index])) is not None:
                    try:
                        await self._measure(index, await self._buffers(content))
                    except BlobLost:
                        # It is told of where the message is asked for.
                        drop.mended.discard(index)
            await asyncio.sleep(0)

    async def _measure(self, index: int, buffers: Sequence[Buffer]) -> None:
        drop = self._open_drop
        large = drop.sizes[index] > _LARGE
        size = await asyncio.to_thread(multiline.size, buffers) if large else multiline.size(buffers)
        drop.settle(index, size)
        self._around.sizes.keep(drop.account, drop.emails[index], size, utf8=self._engine.utf8)

    async def _buffers(self, found: Found) -> tuple[Buffer, ...]:
        """What is sent of a message. Raises BlobLost."""
        stored = await self._stored(found)
        # RFC 6856 §2.1, RFC 6858: who has not said UTF8 gets no header in UTF-8.
        return stored if self._engine.utf8 else for_ascii(*stored)

    async def _stored(self, found: Found) -> tuple[bytes, Buffer]:
        if isinstance(found, Content):
            return found.prologue, await self._around.blobs.load(found.blob)
        return found

    def _index(self, number: int) -> int | None:
        """The index of a message; where it is not there, the client hears of it."""
        index = self._open_drop.number(number)
        if index is None:
            self._engine.err(_NOT_THERE)
        return index

    def _retr(self, request: pop3.Retr) -> Awaitable[None] | None:
        drop = self._open_drop
        if (index := self._index(request.number)) is None:
            return None
        found = self._ahead.waiting(drop.emails, index)
        size = drop.sizes[index]
        if found is None or isinstance(found, Content) or size > multiline.SMALL or index in drop.altered:
            return self._send(index, None, found)
        prologue, octets = found
        if prologue and multiline.is_dotted(prologue):
            return self._send(index, None, found)
        # Most are small and sent as they are stored: without a wait, and without a look through them.
        self._engine.ok(f"{size} octets")
        self._engine.send(prologue, octets, multiline.END)
        self._unsent += size
        return None

    def _top(self, request: pop3.Top) -> Awaitable[None] | None:
        if (index := self._index(request.number)) is None:
            return None
        return self._send(index, request.lines, self._ahead.waiting(self._open_drop.emails, index))

    async def _read(self, wanted: Sequence[int]) -> Mapping[int, Found]:
        return await self._around.store.read(maildrop.octets, self._open_drop.account, wanted)

    async def _send(self, index: int, lines: int | None, found: Found | None) -> None:
        """A message, at the client's speed and never whole in memory where it is large."""
        drop = self._open_drop
        try:
            if found is None:
                # What is ready leaves, at the client's speed, before this is looked for.
                await self._flush()
                found = await self._ahead.find(drop.emails, drop.sizes, index)
            kept = lines is None and index not in drop.otherwise
            buffers = await self._stored(found) if kept else await self._buffers(found)
        except NoSuchEmail:
            self._engine.err("This message is gone", "SYS/PERM")
            return
        except BlobLost as error:
            observe.fault("pop3.content_lost", error, account=drop.account, email=drop.emails[index])
            self._engine.err("The store has lost this message", "SYS/PERM")
            return
        if index in drop.mended:
            await self._measure(index, buffers)
        self._engine.ok(f"{drop.sizes[index]} octets")
        if lines is not None:
            pieces = multiline.top(buffers, lines)
        else:
            pieces = multiline.whole_kept(*buffers) if kept else multiline.whole(buffers)
        for piece in pieces:
            self._engine.send(piece)
            self._unsent += len(piece)
            if self._unsent > _SOON:
                await self._flush()

    def _dele(self, request: pop3.Dele) -> None:
        if (index := self._index(request.number)) is None:
            return
        self._open_drop.removed.add(index)
        self._engine.ok("It will be removed at QUIT")

    def _utf8(self, request: pop3.Utf8) -> None:
        self._engine.ok("Headers may come in UTF-8")

    def _lang(self, request: pop3.Lang) -> None:
        # RFC 6856 §3.2, with RFC 4647 §3.4's lookup: "en-GB" finds "en".
        if request.wanted is None:
            self._engine.ok_lines("Language listing follows", [f"{tag} {name}".encode() for tag, name in _LANGUAGES])
            return
        wanted = request.wanted.lower()
        found = next((tag for tag, _ in _LANGUAGES if wanted in ("*", tag) or wanted.startswith(f"{tag}-")), None)
        if found is None:
            self._engine.err("This language is not spoken here")
        else:
            self._engine.ok(f"{found} It is spoken here")

    def _noop(self, request: pop3.Noop) -> None:
        self._engine.ok("Still here")

    def _rset(self, request: pop3.Rset) -> None:
        self._open_drop.removed.clear()
        self._engine.ok("Nothing will be removed")

    async def _quit(self, request: pop3.Quit) -> None:
        if request.update and self._open_drop.removed:
            drop = self._open_drop
            chosen = [drop.emails[index] for index in drop.removed]
            # The instant at which the client may forget them: once it reads +OK they are gone.
            await self._around.store.write(
                maildrop.remove, drop.account, drop.mailbox, chosen, self._around.clock.now()
            )
        self._engine.ok("Goodbye")


_Handler = Callable[[_Session, pop3.Request], Awaitable[None] | None]
_HANDLERS: Final = cast(
    "dict[type, _Handler]",
    {
        pop3.Capa: _Session._capa,
        pop3.Stls: _Session._stls,
        pop3.User: _Session._user,
        pop3.Pass: _Session._pass,
        pop3.Auth: _Session._auth,
        pop3.Utf8: _Session._utf8,
        pop3.Lang: _Session._lang,
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
