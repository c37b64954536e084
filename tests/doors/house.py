"""A house with its reading doors open on loopback: a real store with accounts in it, and plain clients to talk with."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from unittest import mock

from posthouse.clock import Clock, SystemClock
from posthouse.directory import accounts, domains
from posthouse.directory.credentials import Authenticator
from posthouse.directory.model import Account
from posthouse.directory.presence import Presence
from posthouse.directory.throttle import GuessThrottle
from posthouse.imapd import around as imap
from posthouse.imapd.server import ImapDoor
from posthouse.mailbox import append, mailboxes
from posthouse.mailbox.columns import Columns
from posthouse.mailbox.maildrop import Drops
from posthouse.mailbox.newest import Snapshots
from posthouse.mailbox.summary import render
from posthouse.net.server import Gate, Handler, Server
from posthouse.net.tls import Certificates, private_pair
from posthouse.policy.limits import Connections, Limits
from posthouse.pop3d import Pop3Door
from posthouse.pop3d import Surroundings as Pop3Surroundings
from posthouse.store.blobs import Blobs, Staged
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import parse
from posthouse.wire.sasl.verifier import make_verifier
from posthouse.written import Rate
from tests.support import run

ALICE, BOB, PASSWORD = "alice@example.org", "bob@example.org", "correct horse"
_ITERATIONS = 4096
_VERIFIER = make_verifier(PASSWORD, b"salt" * 4, _ITERATIONS)

MESSAGE = (
    b"From: Bob <bob@example.org>\r\nTo: alice@example.org\r\nSubject: The coach\r\n"
    b"Date: Thu, 01 Jan 2026 09:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nIt leaves at nine.\r\n"
)


def message(number: int, body: str = "It leaves at nine.") -> bytes:
    """A message that differs from others by its number."""
    return (
        f"From: Bob <bob@example.org>\r\nTo: alice@example.org\r\nSubject: Coach {number}\r\n"
        f"Date: Thu, 01 Jan 2026 09:00:00 +0000\r\nMessage-ID: <{number}@example.org>\r\n\r\n{body}\r\n"
    ).encode()


@dataclass
class House:
    """What stands behind the doors. `alice` and `bob` are accounts, with PASSWORD."""

    store: SqliteStore
    blobs: Blobs
    snapshots: Snapshots
    certificates: Certificates
    alice: Account
    bob: Account
    imap_port: int = 0
    imaps_port: int = 0
    pop3_port: int = 0
    pop3s_port: int = 0
    servers: list[Server] = field(default_factory=list)
    clients: list["_Client"] = field(default_factory=list)

    async def file(
        self,
        octets: bytes = MESSAGE,
        *,
        mailbox: str = "INBOX",
        prologue: bytes = b"",
        store: SqliteStore | None = None,
        account: Account | None = None,
        received_at: int = 1_767_258_000_000,
    ) -> int:
        """Put a message into a mailbox, as a delivery does; its uid."""
        return await (store or self.store).write(
            _file, (account or self.alice).id, octets, mailbox, prologue, received_at
        )

    async def left(self, connections: int = 0) -> None:
        """Wait until there are no more than so many: what the others said is done, and they are forgotten."""
        await until(lambda: sum(server.connections for server in self.servers) <= connections)

    async def imap(self, login: str | None = ALICE, mailbox: str | None = "INBOX") -> "ImapClient":
        """A client, logged in (unless `login` is None), with a mailbox open (unless it is None)."""
        client = await ImapClient.connect(self.imap_port)
        self.clients.append(client)
        if login is not None:
            await client.ok(f'LOGIN {login} "{PASSWORD}"')
            if mailbox is not None:
                await client.ok(f"SELECT {mailbox}")
        return client

    @contextmanager
    def unwritable(self) -> Iterator[None]:
        """While it lasts, the store can be read and not written: as with a full disk."""
        with mock.patch.object(self.store, "write", side_effect=StoreUnavailable("the disk is full")):
            yield

    async def pop3(self, login: str | None = ALICE) -> "Pop3Client":
        """A client, logged in unless `login` is None."""
        client = await Pop3Client.connect(self.pop3_port)
        self.clients.append(client)
        if login is not None:
            assert (await client.say(f"USER {login}")).startswith(b"+OK")
            assert (await client.say(f"PASS {PASSWORD}")).startswith(b"+OK")
        return client


def _file(tx: Tx, account: int, octets: bytes, mailbox: str, prologue: bytes, received_at: int) -> int:
    rendered = render(octets)
    stored = append.store_message(tx, Staged(len(octets), bytes(32), octets, None), rendered)
    place = mailboxes.find(tx, account, mailbox)
    filed = append.file_email(
        tx,
        account,
        stored,
        rendered,
        mailboxes=(place,),
        received_at=received_at,
        thread_secret=bytes(32),
        prologue=prologue,
    )
    return filed.uids[place]


def _people(tx: Tx, now: int) -> list[Account]:
    if tx.one("domain_find", name="example.org") is None:
        domains.add(tx, "example.org", now)
        for name in (ALICE, BOB):
            accounts.create_account(tx, parse(name), now=now, verifier=_VERIFIER)
    return [accounts.by_address(tx, name) for name in (ALICE, BOB)]


@asynccontextmanager
async def opened(
    directory: Path,
    *,
    clock: Clock | None = None,
    clear_text_login: bool = True,
    unauthenticate: bool = True,
    limits: Limits | None = None,
    append_limit: int = 50 * 1024 * 1024,
    raw_headers: bool = False,
    message_limit: int = 0,
    login_timeout: float = 60.0,
    idle_timeout: float = 60.0,
    failures: Rate | None = None,
    blobs: Blobs | None = None,
    drops: Drops | None = None,
    authorities: Path | None = None,
) -> AsyncIterator[House]:
    """A house in `directory`, opened again where it stood before. `authorities` sign the certificates of clients."""
    clock = clock or SystemClock()
    store = SqliteStore.open(directory / "posthouse.db", clock=clock)
    alice, bob = await store.write(_people, clock.now())
    certificates = Certificates([private_pair(directory / "tls", "mail.example.org", clock)], clients=authorities)
    house = House(store, blobs or Blobs(directory / "blobs"), Snapshots(store), certificates, alice, bob)
    throttle = GuessThrottle(clock, failures or Rate(20, 600))
    authenticator = Authenticator(store, clock, throttle, secret=store.secret, iterations=_ITERATIONS)
    presence = Presence(store)
    connections = Connections(clock, limits or Limits())
    imap_around = imap.Surroundings(
        "mail.example.org", clock, store, store.secret, house.blobs, house.snapshots, Columns(store), authenticator,
        presence, certificates, append_limit, login_timeout, idle_timeout, raw_headers=raw_headers,
        message_limit=message_limit,
    )  # fmt: skip
    pop3_around = Pop3Surroundings(
        "mail.example.org", clock, store, house.blobs, authenticator, presence, certificates,
        login_timeout, idle_timeout, drops or Drops(),
    )  # fmt: skip
    tasks = [asyncio.create_task(presence.follow()), asyncio.create_task(authenticator.follow())]
    asks = authorities is not None
    imap_door = ImapDoor(
        imap_around,
        starttls=True,
        clear_text_login=clear_text_login,
        unauthenticate=unauthenticate,
        certificates=asks,
    )
    pop3_door = Pop3Door(pop3_around, starttls=True, clear_text_login=clear_text_login, certificates=asks)
    for name, handler, tls in (
        ("imap_port", imap_door.serve, False),
        ("imaps_port", imap_door.serve, True),
        ("pop3_port", pop3_door.serve, False),
        ("pop3s_port", pop3_door.serve, True),
    ):
        server, port = await _listen(handler, certificates.asking if tls else None, connections)
        house.servers.append(server)
        setattr(house, name, port)
    try:
        yield house
    finally:
        for client in house.clients:
            await client.close()
        await asyncio.gather(*(server.stop(0.2) for server in house.servers))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        authenticator.close()
        await store.close()
        house.blobs.close()


async def _listen(handler: Handler, tls: ssl.SSLContext | None, gate: Gate) -> tuple[Server, int]:
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    server = Server(handler, tls, gate)
    await server.start([bound])
    return server, server.endpoints[0].port


async def until(holds: Callable[[], object]) -> None:
    """Wait for what has to come about; `run` bounds it."""
    while not holds():
        await asyncio.sleep(0.005)


def in_house(directory: Path, test: Callable[[House], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a test in a fresh house."""

    async def main() -> None:
        async with opened(directory, **settings) as house:
            await test(house)

    run(main())


class _Client:
    """Octets and lines over one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.greeting = b""

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def line(self) -> bytes:
        """One line without its end; b"" where the server has hung up."""
        octets = await self.reader.readline()
        return octets.removesuffix(b"\r\n")

    async def closed(self) -> bool:
        """True once the server has hung up without another word."""
        return await self.reader.read() == b""

    async def close(self) -> None:
        """Hang up. Safe to call twice."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return

    async def flood(self, words: bytes, pause: float = 0.0) -> None:
        """Say the same, with such pauses, until the server has ended the connection. What it said at the end may be
        lost: its end is a reset where it has not read all."""

        async def pour() -> None:
            while True:
                self.writer.write(words)
                await self.writer.drain()
                await asyncio.sleep(pause)

        pouring = asyncio.create_task(pour())
        with suppress(ConnectionError):
            while await self.reader.read(1 << 16):
                pass
        pouring.cancel()
        await asyncio.gather(pouring, return_exceptions=True)


_LITERAL = re.compile(rb"\{([0-9]+)\}\r\n\Z")


class ImapClient(_Client):
    """A client that says lines and reads responses, literals and all."""

    tags = 0

    @classmethod
    async def connect(cls, port: int, tls: ssl.SSLContext | None = None) -> Self:
        client = cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 24, ssl=tls))
        client.greeting = await client.response()
        return client

    async def response(self) -> bytes:
        """One response, without its last CRLF."""
        whole = await self.reader.readline()
        while found := _LITERAL.search(whole, max(0, len(whole) - 24)):
            whole += await self.reader.readexactly(int(found[1])) + await self.reader.readline()
        return whole.removesuffix(b"\r\n")

    async def until(self, start: bytes) -> list[bytes]:
        """Responses up to the one that begins so, itself included."""
        found: list[bytes] = []
        while True:
            response = await self.response()
            assert response, f"hung up; before that: {found}"
            found.append(response)
            if response.startswith(start):
                return found

    async def say(self, text: str | bytes, *literals: bytes) -> list[bytes]:
        """A command and all responses to it, the tagged one last and without its tag. `literals` follow at its "+"."""
        self.tags += 1
        tag = b"t%d" % self.tags
        text = text.encode() if isinstance(text, str) else text
        await self.send(tag + b" " + text + b"\r\n")
        before: list[bytes] = []
        for literal in literals:
            before += (await self.until(b"+"))[:-1]
            await self.send(literal)
        found = before + await self.until(tag + b" ")
        return [*found[:-1], found[-1][len(tag) + 1 :]]

    async def ok(self, text: str | bytes, *literals: bytes) -> list[bytes]:
        """A command that must succeed: the untagged responses."""
        *untagged, tagged = await self.say(text, *literals)
        assert tagged.startswith(b"OK"), (text, tagged)
        return untagged

    async def tagged(self, text: str | bytes, *literals: bytes) -> bytes:
        """The tagged answer of a command."""
        return (await self.say(text, *literals))[-1]

    async def append(self, octets: bytes, mailbox: str = "INBOX", flags: str = "") -> bytes:
        """APPEND a message; the tagged answer."""
        head = f"APPEND {mailbox} {flags and f'({flags}) '}{{{len(octets)}}}"
        return await self.tagged(head, octets + b"\r\n")

    async def idle(self) -> list[bytes]:
        """Begin to IDLE; what was said before the "+"."""
        self.tags += 1
        await self.send(b"t%d IDLE\r\n" % self.tags)
        return (await self.until(b"+"))[:-1]

    async def done(self) -> list[bytes]:
        """End it: the untagged responses."""
        await self.send(b"DONE\r\n")
        *untagged, tagged = await self.until(b"t%d " % self.tags)
        assert b" OK " in tagged
        return untagged


class Pop3Client(_Client):
    """A client that says lines and reads answers."""

    @classmethod
    async def connect(cls, port: int, tls: ssl.SSLContext | None = None) -> "Pop3Client":
        client = cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 24, ssl=tls))
        client.greeting = await client.line()
        return client

    async def say(self, text: str) -> bytes:
        """A command and the first line of its answer."""
        await self.send(text.encode() + b"\r\n")
        return await self.line()

    async def lines(self, text: str) -> list[bytes]:
        """A command with many lines in answer: those behind the first, dots undone."""
        first = await self.say(text)
        assert first.startswith(b"+OK"), first
        found: list[bytes] = []
        while (line := await self.line()) != b".":
            found.append(line.removeprefix(b".") if line.startswith(b".") else line)
        return found


def having(responses: Sequence[bytes], text: bytes) -> list[bytes]:
    """Those of the responses that hold this."""
    return [response for response in responses if text in response]
