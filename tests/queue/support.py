"""A queue on a real store, and mail to put in it."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from posthouse.clock import SetClock
from posthouse.queue import lanes, queue, settling
from posthouse.queue.attempt import BeforeDot, Courier
from posthouse.queue.clerk import Clerk, Terms
from posthouse.queue.lanes import START, Claim, Lease
from posthouse.queue.outcome import Fate, Outcome, Report
from posthouse.queue.queue import Job, NewRecipient, QueuedMail
from posthouse.queue.runner import Runner, Settings
from posthouse.queue.schedule import LaneState, Limits
from posthouse.queue.settling import Mark, Marked, Rules, Settled, Settlement
from posthouse.store import blobs
from posthouse.store.blobs import Blobs
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import Address, parse
from posthouse.terms.envelope import Wishes
from posthouse.terms.reply import Reply
from tests.store.support import open_store

MESSAGE = b"From: <alice@home.example>\r\nMessage-ID: <m1@home.example>\r\nSubject: Hello\r\n\r\nHello.\r\n"
OK = Reply(250, "2.0.0", "Taken")
NOT_NOW = Reply(451, "4.3.0", "Not now")
DELAYS = (60.0, 300.0)
NO_SUCH = Reply(550, "5.1.1", "No such user")
DAY = 86_400.0
_opened: list[tuple[SqliteStore, Blobs]] = []


@pytest.fixture(autouse=True)
def closed_stores() -> Iterator[None]:
    """What a test's worlds have opened is closed behind it: a thousand of them would use up what a process may have."""
    yield
    while _opened:
        store, stored = _opened.pop()
        asyncio.run(store.close())
        stored.close()


@dataclass
class World:
    """A store, a clock that is moved by hand, and a way to put mail in and count what is left."""

    directory: Path
    clock: SetClock = field(default_factory=SetClock)
    expire: float = 5 * DAY

    def __post_init__(self) -> None:
        self.store: SqliteStore = open_store(self.directory, self.clock)
        self.blobs = Blobs(self.directory / "blobs")
        _opened.append((self.store, self.blobs))

    async def send(
        self,
        *recipients: str | NewRecipient,
        sender: str | None = "alice@home.example",
        account: int | None = None,
        octets: bytes = MESSAGE,
        journey: int = 1,
        smtputf8: bool = False,
        wishes: Wishes | None = None,
        expire: float | None = None,
    ) -> list[int]:
        """Queue a message, as an accepting transaction does; the recipients' ids."""
        staged = await self.blobs.stage(octets)
        wanted = [NewRecipient(parse(one)) if isinstance(one, str) else one for one in recipients]
        now = self.clock.now()

        def accept(tx: Tx) -> list[int]:
            mail = QueuedMail(
                journey=journey,
                blob=blobs.insert(tx, staged),
                size=len(octets),
                sender=parse(sender) if sender else None,
                queued_at=now,
                expires_at=now + int((self.expire if expire is None else expire) * 1000),
                account=account,
                wishes=wishes or Wishes(smtputf8=smtputf8),
            )
            return queue.accept(tx, mail, wanted)

        return await self.store.write(accept)

    async def rows(self, table: str = "queued_recipient") -> int:
        """How many rows are left."""
        counted = await self.store.read(lambda tx: tx.query(f"SELECT count(*) FROM {table}", ()))
        return int(counted[0][0])

    async def select(self, sql: str, *parameters: int | str) -> list[tuple[object, ...]]:
        """Rows of a query."""
        return await self.store.read(lambda tx: tx.query(sql, parameters))

    def runner(
        self, courier: Courier, local: Courier | None = None, limits: Limits | None = None, notice: float = 4 * 3600
    ) -> Runner:
        """A runner with this courier for all that is relayed. `notice`: seconds before senders hear of a delay."""
        settings = Settings(
            hostname="mx.home.example",
            secret=self.store.secret,
            delays=(60.0, 300.0, 900.0, 3600.0),
            expire=self.expire,
            limits=limits or Limits(),
            delay_notice=notice,
        )
        couriers = {"domain": courier, "local": local or courier, **self.further_couriers()}
        return Runner(self.store, self.blobs, couriers, settings, clock=self.clock, random=Random(7))

    def further_couriers(self) -> dict[str, Courier]:
        """What attempts other destinations."""
        return {}

    def clerk(self) -> Clerk:
        """A clerk, as a runner has one."""
        terms = Terms("mx.home.example", Rules(DELAYS, self.store.secret), self.expire)
        return Clerk(self.store, self.blobs, terms, self.clock, Random(7))

    async def live(self, runner: Runner, seconds: float, step: float = 1.0) -> None:
        """Let `seconds` pass for the runner, jumping from one time it wants to be woken at to the next."""
        end = self.clock.now() + int(seconds * 1000)
        while True:
            wake_at = await self.settle(runner)
            now = self.clock.now()
            if now >= end:
                return
            nearest = end if wake_at is None else min(max(wake_at, now + int(step * 1000)), end)
            self.clock.advance((nearest - now) / 1000)

    async def settle(self, runner: Runner) -> int | None:
        """Turn until nothing happens any more at this time; when to wake next."""
        while True:
            wake_at = await runner.turn()
            if not runner.busy:
                return wake_at
            await runner.idle()


@dataclass
class Script:
    """A courier that answers by the recipient's address, and remembers what it was asked: blob and recipients."""

    answers: dict[str, Sequence[Outcome | Reply]] = field(default_factory=dict)
    default: Reply = OK
    seen: list[tuple[int, list[str]]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    pause: asyncio.Event | None = None
    past_dot: bool = False

    async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.seen.append((job.mail.blob, [str(one.address) for one in job.recipients]))
            if self.past_dot:
                await before_dot([one.id for one in job.recipients])
            if self.pause:
                await self.pause.wait()
            return Report(tuple(self.outcome(one.id, one.address, one.attempts) for one in job.recipients))
        finally:
            self.at_once -= 1

    def outcome(self, id: int, address: Address, attempts: int) -> Outcome:
        """The answer for the attempt of this number; the last one repeats."""
        answers = self.answers.get(str(address)) or self.answers.get(address.domain) or (self.default,)
        answer = answers[min(attempts, len(answers) - 1)]
        if isinstance(answer, Outcome):
            return Outcome(id, answer.fate, answer.reply, answer.dooms, answer.remote)
        fate = Fate.RELAYED if answer.positive else Fate.DEFERRED if answer.transient else Fate.FAILED
        return Outcome(id, fate, answer, remote="mx.there.example")


async def lease_only_lane(world: World) -> Lease:
    ((lane,),) = await world.select("SELECT id FROM lane")
    held = await world.store.write(lanes.lease, int(str(lane)), world.clock.now(), world.clock.now() + 60_000)
    assert held is not None
    return held


async def claim(world: World, held: Lease, after: tuple[int, int] = START) -> Claim:
    claimed = await world.store.read(lanes.claim, held, after, world.clock.now())
    assert claimed is not None
    return claimed


def settle(
    tx: Tx,
    held: Lease,
    job: Job,
    report: Report,
    now: int,
    delays: Sequence[float] = DELAYS,
    jitter: float = 0.5,
) -> Settled:
    """One settlement in a transaction of its own."""
    settlement = Settlement(held, job, report, now, jitter)
    (settled,) = settling.write_down(tx, [settlement], Rules(delays, b"s" * 32))
    assert isinstance(settled, Settled)
    return settled


def mark(tx: Tx, held: Lease, recipients: Sequence[int]) -> bool:
    """One mark in a transaction of its own."""
    (marked,) = settling.write_down(tx, [Mark(held, recipients)], Rules(DELAYS, b"s" * 32))
    assert isinstance(marked, Marked)
    return marked is Marked.NOTED


def due(tx: Tx, now: int, limit: int = 500) -> list[LaneState]:
    """Lanes that are due."""
    return list(lanes.look(tx, now, limit=limit).lanes)
