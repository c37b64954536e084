"""A reception without doors: what a test hands it, it answers."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import ClassVar, TypeVar

from posthouse.clock import SetClock
from posthouse.directory import accounts, aliases, domains
from posthouse.directory.addresses import Rules
from posthouse.directory.cache import Directory
from posthouse.journey import Refused
from posthouse.limits import MB
from posthouse.mailbox import emails
from posthouse.mailbox.emails import Content
from posthouse.policy.check import ACCEPT, Check, Facts, RecipientFacts, Verdict
from posthouse.policy.pipeline import Pipeline
from posthouse.reception.answer import Reception, Settings
from posthouse.reception.intake import HeaderEdit, Intake
from posthouse.reception.refusals import Refusals
from posthouse.store.blobs import Blobs
from posthouse.store.database import Row, Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import Address, parse
from posthouse.terms.envelope import Envelope, Recipient
from posthouse.terms.reply import Reply
from tests.store.support import open_store

T = TypeVar("T")

NOW = 1_767_225_600_000
MESSAGE = b"From: <eve@far.example>\r\nSubject: Hello\r\nMessage-ID: <1@far.example>\r\n\r\nHi\r\n"


class Judge(Check):
    """Answers at data as it is told: by the local part of a recipient; and does what it is told before that."""

    name: ClassVar[str] = "judge"

    def __init__(self) -> None:
        self.verdicts: dict[str, Verdict] = {}

    async def before(self, facts: Facts) -> None:
        """What happens while the message is judged."""

    async def data(self, facts: Facts) -> Mapping[int, Verdict]:
        """For each by name."""
        await self.before(facts)
        names = enumerate(one.recipient.address.local for one in facts.recipients)
        return {index: self.verdicts.get(name, ACCEPT) for index, name in names}


@dataclass
class Written:
    """Takes the journeys of what was refused."""

    journeys: list[Refused] = field(default_factory=list)

    def add(self, refused: Refused) -> None:
        """Take it."""
        self.journeys.append(refused)


@dataclass
class Desk:
    """A reception with its store, and what it is judged by."""

    store: SqliteStore
    blobs: Blobs
    directory: Directory
    judge: Judge
    written: Written
    reception: Reception
    refusals: Refusals

    async def people(self, *names: str, octets: int | None = None, emails: int | None = None) -> list[int]:
        """Accounts at home.example; their ids."""

        def create(tx: Tx) -> list[int]:
            if tx.one("domain_find", name="home.example") is None:
                domains.add(tx, "home.example", NOW)
            made = [
                accounts.create_account(tx, home(name), now=NOW, quota_octets=octets, quota_emails=emails)
                for name in names
            ]
            return [one.id for one in made]

        return await self.changed(create)

    async def alias(self, name: str, *targets: str) -> None:
        """An alias at home.example."""
        await self.changed(lambda tx: aliases.add_alias(tx, home(name), [home(one) for one in targets]))

    async def changed(self, function: Callable[[Tx], T]) -> T:
        """Change the directory, and forget what was known of it."""
        answer = await self.store.write(function)
        self.directory.forget()
        return answer

    async def begin(
        self,
        *recipients: str,
        sender: str | None = "eve@far.example",
        edit: HeaderEdit | None = None,
        notify: frozenset[str] | None = None,
        peer: str = "192.0.2.7",
    ) -> Intake:
        """A message for these, who were taken at RCPT."""
        facts = Facts("mx", peer, helo="far.example", esmtp=True)
        envelope = Envelope(parse(sender) if sender else None)
        facts.begin(envelope.sender)
        for wanted in [Recipient(home(name), notify) for name in recipients]:
            facts.recipients.append(RecipientFacts(wanted, await self.directory.recipient(wanted.address)))
            envelope = envelope.with_recipient(wanted)
        return self.reception.begin(facts, envelope, self.refusals.begin(envelope.sender), "ESMTP", edit)

    async def finish(self, intake: Intake, *, each: bool = False, there: bool = True) -> list[Reply]:
        """The answers, and what the door does behind them."""
        with intake:
            replies = await self.reception.finish(intake, lambda: there, each=each)
            self.refusals.end(intake.trail, intake.facts)
        return replies

    async def take(
        self,
        *recipients: str,
        message: bytes = MESSAGE,
        each: bool = False,
        there: bool = True,
        notify: frozenset[str] | None = None,
    ) -> list[int]:
        """A whole message; the codes that were answered."""
        intake = await self.begin(*recipients, notify=notify)
        intake.write(message)
        return [reply.code for reply in await self.finish(intake, each=each, there=there)]

    async def mail(self, name: str, role: str = "inbox") -> list[bytes]:
        """What stands in a mailbox, whole."""

        def read(tx: Tx) -> list[Content]:
            rows = tx.query(
                "SELECT p.account, p.email FROM placement p"
                " JOIN mailbox m ON m.account = p.account AND m.id = p.mailbox"
                " JOIN address a ON a.account = p.account WHERE a.key = ? AND m.role = ? ORDER BY p.uid",
                (home(name).key, role),
            )
            return [emails.content(tx, account, id) for account, id in rows]

        contents = await self.store.read(read)
        return [one.prologue + bytes(await self.blobs.load(one.blob)) for one in contents]

    async def queued(self) -> list[tuple[str, str]]:
        """Address and destination of what waits in the queue."""
        rows = await self.query(
            "SELECT r.address, l.destination FROM queued_recipient r JOIN lane l ON l.id = r.lane ORDER BY r.id"
        )
        return [(address, destination) for address, destination in rows]

    async def query(self, sql: str) -> list[Row]:
        """Rows of the store."""
        return await self.store.read(lambda tx: tx.query(sql, ()))

    async def count(self, table: str) -> int:
        """How many rows there are."""
        (row,) = await self.query(f"SELECT count(*) FROM {table}")
        return int(row[0])


def home(name: str) -> Address:
    """An address at home.example, where it names no other domain."""
    return parse(name if "@" in name else f"{name}@home.example")


@asynccontextmanager
async def desk(
    directory: Path,
    *,
    memory: int = 64 * MB,
    disk: int = 64 * MB,
    message_size: int = 10 * MB,
    timeout: float = 60.0,
    inline: int = 1 * MB,
    vfs: str | None = None,
) -> AsyncIterator[Desk]:
    """A reception on a store in this directory."""
    clock = SetClock(NOW)
    store = open_store(directory, clock, vfs=vfs)
    blobs = Blobs(directory / "blobs", memory_budget=memory, disk_budget=disk, inline_limit=inline)
    known = Directory(store, clock, Rules())
    judge, written = Judge(), Written()
    refusals = Refusals(written, clock, Random(1))
    settings = Settings("mail.home.example", message_size, timeout, 86_400.0, store.secret)
    reception = Reception(store, blobs, known, Pipeline([judge]), refusals, settings, clock)
    try:
        yield Desk(store, blobs, known, judge, written, reception, refusals)
    finally:
        blobs.close()
        await store.close()
