"""A store with an account in it, called without await, and messages to file."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import uvloop

from posthouse.clock import SetClock
from posthouse.mailbox import append, mailboxes
from posthouse.mailbox.append import Filed
from posthouse.mailbox.columns import Columns
from posthouse.mailbox.snapshot import Snapshot, load
from posthouse.mailbox.summary import render
from posthouse.mailbox.view import Entries, Entry
from posthouse.store.blobs import Blobs, Staged
from posthouse.store.database import Tx
from tests.store.support import open_store

P = ParamSpec("P")
T = TypeVar("T")

NOW = 1_767_225_600_000
INBOX, DRAFTS, SENT, JUNK, TRASH, ARCHIVE = 1, 2, 3, 4, 5, 6


class Db:
    """A store on a loop of its own."""

    def __init__(self, directory: Path) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.store = open_store(directory, SetClock(NOW))
        self.blobs = Blobs(directory / "blobs", inline_limit=64 * 1024)

    def write(self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self.runner.run(self.store.write(function, *args, **kwargs))

    def read(self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self.runner.run(self.store.read(function, *args, **kwargs))

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.read(lambda tx: tx.query(sql, parameters))

    def close(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()
        self.blobs.close()

    def __enter__(self) -> "Db":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def filled(directory: Path, count: int) -> Iterator[Db]:
    """A store with account 1, and so many messages in its Inbox."""
    with Db(directory) as made:
        made.write(make_account)
        for _ in range(count):
            made.write(file, 1, message())
        yield made


def make_account(tx: Tx, name: str = "alice@example.org", octets: int | None = None, emails: int | None = None) -> int:
    """An account with its standard mailboxes: Inbox 1, Drafts 2, Sent 3, Junk 4, Trash 5, Archive 6."""
    rows = tx.query(
        "INSERT INTO account (name, quota_octets, quota_emails, created_at) VALUES (?, ?, ?, ?) RETURNING id",
        (name, octets, emails, NOW),
    )
    account: int = rows[0][0]
    tx.query(
        "INSERT INTO account_state (account, epoch, modseq, next_email, next_mailbox, used_octets,"
        " used_emails, tombstone_floor, mailbox_modseq, email_modseq, thread_modseq)"
        " VALUES (?, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0)",
        (account,),
    )
    mailboxes.create_account_mailboxes(tx, account, NOW)
    return account


def message(
    subject: str = "Hello",
    body: str = "Dear Bob,\r\n\r\nthe coach leaves at nine.\r\n",
    *,
    message_id: str | None = None,
    references: Sequence[str] = (),
    fields: str = "",
) -> bytes:
    """A plain message."""
    lines = ["From: Alice Liddell <alice@example.org>", "To: Bob <bob@someschool.example>", f"Subject: {subject}"]
    lines.append("Date: Thu, 01 Jan 2026 09:00:00 +0000")
    if message_id:
        lines.append(f"Message-ID: <{message_id}>")
    if references:
        lines.append(f"References: {' '.join([f'<{id}>' for id in references])}")
    lines.append("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit")
    return ("\r\n".join(lines) + "\r\n" + fields + "\r\n" + body).encode()


class Looked:
    """A mailbox, and what is kept of it by all that look at it."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.db = Db(directory)
        self.account = self.db.write(make_account)
        self.columns = Columns(self.db.store)
        self.random = Random(seed)

    def snapshot(self) -> Snapshot:
        """The mailbox as it is now."""
        return self.db.read(load, self.account, INBOX)


def every_uid(tx: Tx, account: int, mailbox: int) -> list[int]:
    """All uids of a mailbox, in order."""
    return [row[0] for row in tx.all("placements_uids", account=account, mailbox=mailbox, after=0, limit=-1)]


def file(
    tx: Tx,
    account: int,
    octets: bytes,
    *,
    boxes: Sequence[int] = (INBOX,),
    keywords: int = 0,
    deleted: bool = False,
    prologue: bytes = b"",
    at: int = NOW,
) -> Filed:
    """Store and file a message."""
    rendered = render(octets)
    stored = append.store_message(tx, staged(octets), rendered)
    return append.file_email(
        tx,
        account,
        stored,
        rendered,
        mailboxes=boxes,
        received_at=at,
        thread_secret=b"secret" * 4,
        keywords=keywords,
        deleted=deleted,
        prologue=prologue,
    )


def staged(octets: bytes) -> Staged:
    """Octets as they are staged when they are small."""
    return Staged(len(octets), bytes(32), octets, None)


def told(lots: Iterable[Entries]) -> list[Entry]:
    """What a view gives in lots of columns, one by one."""
    return [Entry(*row) for lot in lots for row in zip(*lot, strict=True)]
