"""A posthouse in this process: the real app on a real store, served on loopback at ports that the system chooses.

async with house(tmp_path) as home:
    await home.people("bob@home.example")
    client = await home.connect("smtp")
    assert (await client.send("eve@far.example", ["bob@home.example"], MESSAGE)).startswith("250")
    assert len(await home.mail("bob@home.example")) == 1
"""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import uvloop

from posthouse import journey, observe
from posthouse.app import App
from posthouse.clock import Clock, SystemClock
from posthouse.config import reading
from posthouse.config.values import Config
from posthouse.directory import accounts, aliases, domains
from posthouse.directory.credentials import verifier_of
from posthouse.journey import Journey
from posthouse.mailbox import emails
from posthouse.net import listen
from posthouse.observe import Step
from posthouse.store.blobs import BlobRef
from posthouse.store.database import Row, Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import parse
from posthouse.written import Endpoint
from tests.store.support import open_store

T = TypeVar("T")

HOSTNAME = "mail.home.example"
PASSWORD = "secret of nobody"
# As few rounds as RFC 7677 allows; the door burns the rest, so that a login costs what it costs.
_VERIFIER = verifier_of(PASSWORD, iterations=4096)
# Everything in clear text and with STARTTLS; RFC 8314's ports with TLS from the first octet.
LISTENERS: Mapping[str, str] = {"smtp": "starttls", "lmtp": "none", "submission": "starttls", "submissions": "implicit"}
MESSAGE = (
    b"From: <eve@far.example>\r\nTo: <bob@home.example>\r\nSubject: Hello\r\nMessage-ID: <1@far.example>\r\n\r\nHi\r\n"
)


class House:
    """The app, its store, and what a test wants to do to it or know of it."""

    def __init__(self, app: App, store: SqliteStore, settings: Config, clock: Clock, directory: Path) -> None:
        self.app = app
        self.store = store
        self.settings = settings
        self.clock = clock
        self._blobs = directory / "blobs"
        self.ports: dict[str, int] = {}
        self.steps: list[Step] = []
        self._clients: list[Client] = []

    async def people(self, *names: str, octets: int | None = None, emails: int | None = None) -> list[int]:
        """Accounts of these addresses, with PASSWORD, and the domains they need; their ids."""

        def create(tx: Tx) -> list[int]:
            made = []
            for address in map(parse, names):
                if tx.one("domain_find", name=address.domain) is None:
                    domains.add(tx, address.domain, self.clock.now())
                made.append(
                    accounts.create_account(
                        tx,
                        address,
                        now=self.clock.now(),
                        verifier=_VERIFIER,
                        quota_octets=octets,
                        quota_emails=emails,
                    ).id
                )
            return made

        return await self.changed(create)

    async def alias(self, name: str, *targets: str) -> None:
        """Let an address stand for others."""
        await self.changed(lambda tx: aliases.add_alias(tx, parse(name), [parse(one) for one in targets]))

    async def changed(self, function: Callable[[Tx], T]) -> T:
        """Change the directory, and let the doors hear of it."""
        answer = await self.store.write(function)
        await asyncio.sleep(0.01)
        return answer

    async def mail(self, name: str, role: str = "inbox") -> list[bytes]:
        """What stands in a mailbox of the account of that address, whole, in the order of arrival."""

        def read(tx: Tx) -> list[bytes]:
            rows = tx.query(
                "SELECT p.account, p.email FROM placement p"
                " JOIN mailbox m ON m.account = p.account AND m.id = p.mailbox"
                " JOIN address a ON a.account = p.account WHERE a.key = ? AND m.role = ? ORDER BY p.uid",
                (parse(name).key, role),
            )
            contents = [emails.content(tx, account, id) for account, id in rows]
            return [one.prologue + self._octets(one.blob) for one in contents]

        return await self.store.read(read)

    def _octets(self, blob: BlobRef) -> bytes:
        return blob.octets if blob.name is None and blob.octets else (self._blobs / str(blob.name)).read_bytes()

    async def queued(self) -> list[tuple[str, str]]:
        """Address and destination of what waits in the queue, in order."""
        rows = await self.query(
            "SELECT r.address, l.destination FROM queued_recipient r JOIN lane l ON l.id = r.lane ORDER BY r.id"
        )
        return [(address, destination) for address, destination in rows]

    async def query(self, sql: str, *parameters: Any) -> list[Row]:
        """Rows of the store."""
        return await self.store.read(lambda tx: tx.query(sql, parameters))

    async def journeys(self, text: str) -> list[Journey]:
        """The journeys of a Message-ID, a code or an address, once those of refused mail are written."""
        for _ in range(1500):
            found = await self.store.read(journey.find, text, self.store.secret)
            if found:
                return found
            await asyncio.sleep(0.02)
        return []

    async def connect(self, protocol: str, *, tls: bool = False) -> "Client":
        """A connection to a door of ours, greeted; with `tls`, in TLS from the first octet."""
        client = await self.call(protocol, tls=tls)
        await client.reply()
        return client

    async def call(self, protocol: str, *, tls: bool = False) -> "Client":
        """The same, before the greeting was read. Closed when the house is."""
        client = await Client.open(self.ports[protocol], client_tls() if tls else None)
        self._clients.append(client)
        return client

    def end_clients(self) -> None:
        """End those that are still there."""
        for client in self._clients:
            client.hang_up()

    def unfinished(self) -> list[Path]:
        """Files of messages that are not stored yet, or were forgotten."""
        return [path for path in (self._blobs / "tmp").rglob("*") if path.is_file()]

    def kept_files(self) -> list[Path]:
        """Files of messages that are stored, or were to be."""
        return list(self._blobs.glob("??/?/*"))


class Client:
    """The other end of a conversation, that says what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, tls: ssl.SSLContext | None = None) -> "Client":
        """Connect, and wait for nothing."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=1 << 20))

    async def reply(self) -> str:
        """The next reply, its lines parted by LF; "" where the connection has ended."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            line = await self.reader.readline()
            if not line:
                return ""
            lines.append(line.decode().removesuffix("\r\n"))
        return "\n".join(lines)

    def write(self, octets: bytes) -> None:
        """Send octets and wait for nothing."""
        self.writer.write(octets)

    async def say(self, *lines: str) -> str:
        """Say these lines in one go; the reply to the last of them."""
        self.write("".join(f"{line}\r\n" for line in lines).encode())
        reply = ""
        for _ in lines:
            reply = await self.reply()
        return reply

    async def envelope(self, sender: str, recipients: Sequence[str], *, hello: str = "EHLO far.example") -> str:
        """EHLO, MAIL and RCPTs; the last reply."""
        return await self.say(hello, f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in recipients))

    async def data(self, message: bytes) -> str:
        """DATA and the message, which needs no stuffing; the reply behind the dot."""
        assert (await self.say("DATA")).startswith("354")
        self.write(message + b".\r\n")
        await self.writer.drain()
        return await self.reply()

    async def send(self, sender: str, recipients: Sequence[str], message: bytes = MESSAGE) -> str:
        """A whole transaction; the reply behind the dot."""
        taken = await self.envelope(sender, recipients)
        assert taken.startswith("250"), taken
        return await self.data(message)

    async def start_tls(self) -> None:
        """STARTTLS, and go on in TLS."""
        assert (await self.say("STARTTLS")).startswith("220")
        await self.writer.start_tls(client_tls())

    async def ended(self) -> bool:
        """Wait until the server has hung up."""
        return await self.reader.read() == b""

    def hang_up(self) -> None:
        """Close at once, with a reset: nobody will read the answer."""
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close."""
        self.writer.close()
        await asyncio.wait({asyncio.ensure_future(self.writer.wait_closed())}, timeout=1)


def client_tls() -> ssl.SSLContext:
    """Whoever answers will do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def configured(
    directory: Path, listeners: Mapping[str, str] = LISTENERS, settings: str = "", each_listener: str = ""
) -> Config:
    """A configuration for this directory; `settings` is TOML in front of the listeners, `each_listener` in each."""
    # Nobody answers there, so what is queued for elsewhere waits.
    dns = "" if "dns" in settings else 'dns.resolver = "127.0.0.1:1"\n'
    text = f'hostname = "{HOSTNAME}"\ndata = "{directory}"\n{dns}{settings}\n'
    for number, (protocol, tls) in enumerate(listeners.items(), 1):
        text += (
            f'[[listener]]\nprotocol = "{protocol}"\naddress = "127.0.0.1:{number}"\ntls = "{tls}"\n{each_listener}\n'
        )
        if protocol not in ("smtp", "lmtp") and tls != "implicit":
            text += "clear_text_login = true\n"
    return reading.parse(text)


@asynccontextmanager
async def house(
    directory: Path,
    *,
    listeners: Mapping[str, str] = LISTENERS,
    settings: str = "",
    each_listener: str = "",
    clock: Clock | None = None,
    vfs: str | None = None,
    unix: Mapping[str, Path] | None = None,
) -> AsyncIterator[House]:
    """A posthouse that serves, stopped at the end. A directory that has been one goes on where it stopped.

    `unix`: by protocol, a socket where that is spoken, too.
    """
    clock = clock or SystemClock()
    store = open_store(directory, clock, vfs=vfs)
    parsed = configured(directory, listeners, settings, each_listener)
    home = House(App(parsed, store, clock, Random()), store, parsed, clock, directory)
    forget = observe.subscribe(home.steps.append)
    try:
        bound = [(one, listen.bind(Endpoint("127.0.0.1", 0))) for one in parsed.listeners]
        home.ports = {listener.protocol: sockets[0].getsockname()[1] for listener, sockets in bound}
        for listener, sockets in bound:
            if unix and listener.protocol in unix:
                sockets += listen.bind(Endpoint(str(unix[listener.protocol]), 0))
        await home.app.start(bound)
        yield home
    finally:
        home.end_clients()
        await home.app.stop()
        await store.close()
        forget()


class Running:
    """A house on a loop of its own, in a thread, for tests that speak to it by blocking sockets."""

    def __init__(self, home: House, loop: asyncio.AbstractEventLoop) -> None:
        self.home = home
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


@contextmanager
def running(directory: Path, *, listeners: Mapping[str, str] = LISTENERS, settings: str = "") -> Iterator[Running]:
    """A house that serves in a thread until the end."""
    ready = threading.Event()
    made: list[tuple[House, asyncio.AbstractEventLoop, asyncio.Event]] = []
    failed: list[BaseException] = []

    async def serve() -> None:
        async with house(directory, listeners=listeners, settings=settings) as home:
            over = asyncio.Event()
            made.append((home, asyncio.get_running_loop(), over))
            ready.set()
            await over.wait()

    def main() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=main)
    thread.start()
    ready.wait()
    try:
        if failed:
            raise failed[0]
        home, loop, _ = made[0]
        yield Running(home, loop)
    finally:
        if made and not made[0][1].is_closed():
            made[0][1].call_soon_threadsafe(made[0][2].set)
        thread.join()
