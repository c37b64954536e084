"""Very large accounts, and what others notice of long commands: against aims of ours.

A mailbox of 1,000,000 emails and an account of 5,000 mailboxes are filled behind the server's back, 20,000 emails a
transaction, by the functions that file any email (mailbox/append.py, mailbox/model.py): only the messages are shared, a
thousand emails each, no threads are looked for, and the search index passes these emails over.

While one client copies, moves and marks 20,000 emails, a second says NOOP every 2 ms, a third delivers by SMTP every 10
ms, each to an account of his own, and a fourth says NOOP who has the same mailbox open: the longest that each waited.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from bench.corpus import Sample
from bench.imap_client import Client
from bench.imap_servers import ADDRESS, DOMAIN, GENEROUS, LISTENERS
from bench.peers.waiting import wait_until
from bench.posthouse_server import PASSWORD, PosthouseServer
from bench.report import Row, median
from posthouse.cli.installation import Installation
from posthouse.directory import accounts
from posthouse.mailbox import append, mailboxes, threads
from posthouse.mailbox.model import Change, lock_account
from posthouse.mailbox.summary import render
from posthouse.store import blobs
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.keywords import SEEN

_BATCH: Final = 20_000
_DISTINCT: Final = 1000
_BUSY: Final = 20_000
# Seconds.
_AIM_OPEN: Final = 1.0
_AIM_LIST: Final = 1.0
# Milliseconds.
_AIM_FLAG: Final = 20.0
_AIM_NOOP: Final = 20.0
_AIM_DELIVERY: Final = 100.0
_LIST: Final = b'LIST "" "*" RETURN (STATUS (MESSAGES UNSEEN UIDNEXT UIDVALIDITY))'


def rows(quick: bool, samples: Sequence[Sample]) -> Iterator[Row]:
    """All of them. Quick: a twentieth of the emails, a tenth of the mailboxes."""
    emails, folders = (50_000, 500) if quick else (1_000_000, 5_000)
    users = ["giant", "folders", "busy", "other", "third"]
    server = PosthouseServer(domain=DOMAIN, users=users, settings=GENEROUS, listeners=LISTENERS)
    try:
        filler = _Filler(server, samples[:_DISTINCT])
        filler.run(emails, folders)
        server.start()
        wait_until(server.packed, 60, "packing", pause=0.1)
        server.terminate()
        server.start()
        yield from _giant(server, emails)
        yield from _folders(server, folders)
        yield from _waits(server, 1 if quick else 3)
        errors = server.errors()
    finally:
        server.stop()
    assert not errors, errors[:3]


def _client(server: PosthouseServer, user: str) -> Client:
    return Client(ADDRESS, server.ports["imap"]).log_in(f"{user}@{DOMAIN}", PASSWORD)


# --- filling ----------------------------------------------------------------------------------------------------------


class _Filler:
    def __init__(self, server: PosthouseServer, samples: Sequence[Sample]) -> None:
        self._installation = Installation(server.configuration)
        self._samples = samples
        self._now = self._installation.clock.now()
        self._messages: list[tuple[int, int]] = []

    def run(self, emails: int, folders: int) -> None:
        """Fill the accounts."""
        asyncio.run(self._run(emails, folders))

    async def _run(self, emails: int, folders: int) -> None:
        store = self._installation.open_store()
        try:
            each = (emails + _BUSY + folders) // len(self._samples) + 1
            self._messages = await store.write(self._store_messages, each)
            await self._fill(store, "giant", emails)
            await self._fill(store, "busy", _BUSY)
            for start in range(0, folders, 100):
                await store.write(self._make_folders, range(start, min(start + 100, folders)))
        finally:
            await store.close()

    def _store_messages(self, tx: Tx, emails: int) -> list[tuple[int, int]]:
        """Each for so many emails: ids and sizes."""
        staged = [(blobs.in_row(one.octets), render(one.octets)) for one in self._samples]
        return [(append.store_message(tx, one, rendered, emails), one.size) for one, rendered in staged]

    async def _fill(self, store: SqliteStore, user: str, emails: int) -> None:
        for start in range(0, emails, _BATCH):
            await store.write(self._file_batch, user, range(start, min(start + _BATCH, emails)))

    def _file_batch(self, tx: Tx, user: str, numbers: range) -> None:
        account = _account(tx, user)
        self._file(tx, account, mailboxes.by_role(tx, account, "inbox"), numbers)

    def _file(self, tx: Tx, account: int, mailbox: int, numbers: range) -> None:
        """New emails of the messages in turn, in one change."""
        change = Change(tx, lock_account(tx, account), self._now)
        for number in numbers:
            message, size = self._messages[number % len(self._messages)]
            email = change.new_email()
            keywords = SEEN if number % 3 else 0
            change.threads_begun.add(email)
            tx.put(
                "email_insert",
                account=account,
                id=email,
                message=message,
                thread=email,
                received_at=self._now + number,
                size=size,
                keywords=keywords,
                mailbox=mailbox,
                uid=change.next_uid(mailbox),
                prologue=b"",
            )
            thread = threads.Thread(email, False)
            append.add_email(change, email, thread, (mailbox,), keywords=keywords, size=size, deleted=False)
        change.finish()
        tx.put("search_mark", account=account, mark=change.next_email - 1)

    def _make_folders(self, tx: Tx, numbers: range) -> None:
        """Fifty below each of the top ones, with an email in each."""
        account = _account(tx, "folders")
        for number in numbers:
            path = f"Year {number // 50}/Folder {number}"
            self._file(tx, account, mailboxes.create(tx, account, path, self._now), range(number, number + 1))


def _account(tx: Tx, user: str) -> int:
    return accounts.by_address(tx, f"{user}@{DOMAIN}").id


# --- large ------------------------------------------------------------------------------------------------------------


def _seconds(work: Callable[[], object], times: int = 1) -> float:
    walls = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        walls.append(time.perf_counter() - began)
    return median(walls)


def _aim(name: str, unit: str, value: float, aim: float | None) -> Row:
    """Against an aim, or none: then it stands beside itself."""
    return Row(name, unit, value, value if aim is None else aim, "limit", aim and 1, lower_is_better=True)


def _giant(server: PosthouseServer, emails: int) -> Iterator[Row]:
    name = f"a mailbox of {emails:,}"
    with _client(server, "giant") as client:
        yield _aim(f"{name}: SELECT, cold", "s", _seconds(partial(client.command, b"SELECT INBOX")), _AIM_OPEN)
    with _client(server, "giant") as client:
        yield _aim(f"{name}: SELECT, warm", "s", _seconds(partial(client.command, b"SELECT INBOX"), 5), _AIM_OPEN)

        def flag() -> None:
            client.command(b"STORE %d +FLAGS (\\Flagged)" % (emails // 2))
            client.command(b"STORE %d -FLAGS (\\Flagged)" % (emails // 2))

        flag()
        yield _aim(f"{name}: a flag changed", "ms", 500 * _seconds(flag, 20), _AIM_FLAG)


def _folders(server: PosthouseServer, folders: int) -> Iterator[Row]:
    name = f"an account of {folders:,} mailboxes: LIST-STATUS"
    with _client(server, "folders") as client:
        yield _aim(f"{name}, first", "s", _seconds(partial(client.command, _LIST)), _AIM_LIST)
        yield _aim(f"{name}, warm", "s", _seconds(partial(client.command, _LIST), 5), _AIM_LIST)
        answer = client.ask(_LIST)
        assert answer.count(b"* STATUS ") > folders, answer[-500:]


# --- long commands ----------------------------------------------------------------------------------------------------


class _Watch:
    """Does something again and again beside others, and keeps the longest that it took, in ms."""

    def __init__(self, work: Callable[[], object], pause: float) -> None:
        self.longest = 0.0
        self._work, self._pause = work, pause
        self._over = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._over.wait(self._pause):
                self.longest = max(self.longest, 1000 * _seconds(self._work))
        except BaseException as error:
            self._failed = error

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed


class _Sender:
    """Delivers a small message at a time over one SMTP connection."""

    def __init__(self, server: PosthouseServer, user: str) -> None:
        self._socket = socket.create_connection((ADDRESS, server.ports["smtp"]), timeout=60)
        self._replies = self._socket.makefile("rb")
        self._recipient = f"{user}@{DOMAIN}"
        self._number = 0
        self._say("", b"220")
        self._say("EHLO sender.test\r\n", b"250")

    def deliver(self) -> None:
        """From MAIL to the 250 behind the dot. A connection takes no more than a thousand."""
        self._number += 1
        self._say("MAIL FROM:<a@elsewhere.test>\r\n", b"250")
        self._say(f"RCPT TO:<{self._recipient}>\r\n", b"250")
        self._say("DATA\r\n", b"354")
        head = f"From: <a@elsewhere.test>\r\nSubject: {self._number}\r\nMessage-ID: <{self._number}@elsewhere.test>\r\n"
        self._say(f"{head}\r\nHello\r\n.\r\n", b"250")

    def _say(self, text: str, code: bytes) -> None:
        self._socket.sendall(text.encode())
        line = b"   -"
        while line[3:4] == b"-":
            line = self._replies.readline()
        assert line.startswith(code), line

    def close(self) -> None:
        self._replies.close()
        self._socket.close()


def _waits(server: PosthouseServer, times: int) -> Iterator[Row]:
    """The longest waits of others beside each command, of all times that it is done."""
    with _client(server, "busy") as client:
        for mailbox in (b"Copies", b"Moved"):
            client.command(b"CREATE " + mailbox)
        client.command(b"SELECT INBOX")
        marks: list[tuple[bytes, ...]] = [(b"STORE 1:* +FLAGS (\\Flagged)",), (b"STORE 1:* -FLAGS (\\Flagged)",)]
        # There and back again, so that the mailbox is full each time.
        moves: list[tuple[bytes, ...]] = [(b"MOVE 1:* Moved",), (b"SELECT Moved", b"MOVE 1:* INBOX", b"SELECT INBOX")]
        yield from _waits_beside(server, "nothing", lambda: time.sleep(2))
        for name, commands in (("COPY", [(b"COPY 1:* Copies",)]), ("STORE", marks), ("MOVE", moves)):
            script = [command for some in commands * times for command in some]
            yield from _waits_beside(server, f"{name} of {_BUSY:,}", partial(_play, client, script))


def _play(client: Client, script: Sequence[bytes]) -> None:
    for command in script:
        client.command(command)


def _waits_beside(server: PosthouseServer, name: str, work: Callable[[], object]) -> Iterator[Row]:
    with contextlib.ExitStack() as stack:
        other, same = stack.enter_context(_client(server, "other")), stack.enter_context(_client(server, "busy"))
        other.command(b"SELECT INBOX")
        same.command(b"SELECT INBOX")
        sender = _Sender(server, "third")
        stack.callback(sender.close)
        noop = stack.enter_context(_Watch(partial(other.command, b"NOOP"), 0.002))
        beside = stack.enter_context(_Watch(partial(same.command, b"NOOP"), 0.02))
        delivery = stack.enter_context(_Watch(sender.deliver, 0.01))
        took = 1000 * _seconds(work)
    yield _aim(f"beside {name} ({took:.0f} ms): longest NOOP of another", "ms", noop.longest, _AIM_NOOP)
    yield _aim(f"beside {name}: longest delivery to a third", "ms", delivery.longest, _AIM_DELIVERY)
    yield _aim(f"beside {name}: longest NOOP in the same mailbox", "ms", beside.longest, None)
