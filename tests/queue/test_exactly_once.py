"""However accepting, claiming, settling, holding and losing leases are mixed: each recipient ends exactly once."""

import asyncio
import tempfile
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from posthouse.queue import control, lanes
from posthouse.queue.control import Selection
from posthouse.queue.lanes import START, Cursor, Lease
from posthouse.queue.outcome import Dooms, Fate, Outcome, Report
from posthouse.queue.queue import Job
from posthouse.store.database import Store
from tests.queue.support import DELAYS, NO_SUCH, NOT_NOW, OK, World, due, settle

FATES = {Fate.RELAYED: OK, Fate.DEFERRED: NOT_NOW, Fate.FAILED: NO_SUCH}
LEASE_MS = 60_000


class Held:
    """What one holder of a lease believes: its lease, its cursor."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.after: Cursor = START

    @property
    def holder(self) -> tuple[int, int]:
        """Lane and token: who has something in hands."""
        return self.lease.lane, self.lease.token


class Queue(RuleBasedStateMachine):
    """The queue's rows, and beside them a plain book of who must still get mail and who has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.directory = tempfile.TemporaryDirectory()
        self.waiting: set[int] = set()
        self.ended: set[int] = set()
        # recipient → token of the lease that has it in hands
        self.in_hand: dict[int, tuple[int, int]] = {}
        self.held: list[Held] = []
        self.work: list[tuple[Held, Job]] = []

    @initialize()
    def open(self) -> None:
        async def make() -> World:
            return World(Path(self.directory.name))

        self.world = self.runner.run(make())
        for account in (1, 2):
            self.accept(3, "a.example", account)

    @property
    def store(self) -> Store:
        return self.world.store

    @rule(count=st.integers(1, 4), domain=st.sampled_from(["a.example", "b.example"]), account=st.integers(1, 2))
    def accept(self, count: int, domain: str, account: int) -> None:
        names = [f"u{n}@{domain}" for n in range(count)]
        self.waiting |= set(self.runner.run(self.world.send(*names, account=account)))

    @rule(which=st.integers(0, 5))
    def lease(self, which: int) -> None:
        now = self.world.clock.now()
        lanes_due = self.runner.run(self.store.read(due, now))
        if lanes_due:
            held = self.runner.run(
                self.store.write(lanes.lease, lanes_due[which % len(lanes_due)].id, now, now + LEASE_MS)
            )
            assert held is not None
            self.held.append(Held(held))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 5), renewed=st.booleans())
    def claim(self, which: int, renewed: bool) -> None:
        held = self.held[which % len(self.held)]
        if renewed:
            until = self.world.clock.now() + LEASE_MS
            self.runner.run(self.store.write(lanes.renew, [held.lease], until))
        claimed = self.runner.run(self.store.read(lanes.claim, held.lease, held.after, self.world.clock.now()))
        if claimed is None or not claimed.jobs:
            return
        # One job of the claim; the others are claimed again by the next.
        job = claimed.jobs[0]
        held.after = (job.recipients[-1].due_at, job.recipients[-1].id)
        for recipient in job.recipients:
            assert self.in_hand.get(recipient.id) != held.holder, "claimed twice under one lease"
            assert recipient.id in self.waiting
            self.in_hand[recipient.id] = held.holder
        self.work.append((held, job))

    @precondition(lambda self: self.work)
    @rule(which=st.integers(0, 5), fate=st.sampled_from(list(FATES)), down=st.booleans())
    def settle(self, which: int, fate: Fate, down: bool) -> None:
        held, job = self.work.pop(which % len(self.work))
        dooms = Dooms.DESTINATION if down else Dooms.RECIPIENT
        outcomes = tuple(Outcome(one.id, fate, FATES[fate], dooms) for one in job.recipients)
        now = self.world.clock.now()
        settled = self.runner.run(self.store.write(settle, held.lease, job, Report(outcomes), now, DELAYS, 0.5))
        for recipient in job.recipients:
            mine = self.in_hand.get(recipient.id) == held.holder
            # Whoever still has the lease is the only one who may end a recipient, and a dropped one is gone.
            assert mine or settled.lease is None or recipient.id not in self.waiting
            if mine:
                del self.in_hand[recipient.id]
            if settled.lease is not None and fate.final and recipient.id in self.waiting:
                self.waiting.remove(recipient.id)
                assert recipient.id not in self.ended
                self.ended.add(recipient.id)
        if settled.lease is not None:
            held.lease = settled.lease

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 5))
    def release(self, which: int) -> None:
        held = self.held[which % len(self.held)]
        if held.holder not in self.in_hand.values():
            self.held.remove(held)
            self.runner.run(self.store.write(lanes.release, held.lease))

    @rule(seconds=st.sampled_from([1, 59, 61, 400]))
    def wait(self, seconds: int) -> None:
        self.world.clock.advance(seconds)

    @rule(domain=st.sampled_from(["a.example", "b.example"]))
    def hold_and_release(self, domain: str) -> None:
        wanted, now = Selection(destination=f"domain:{domain}"), self.world.clock.now()
        self.runner.run(control.hold_each(self.store, wanted, now))
        self.runner.run(control.each(self.store, control.release, wanted, now))

    @precondition(lambda self: self.work)
    @rule(which=st.integers(0, 5))
    def another_takes_over(self, which: int) -> None:
        self.world.clock.advance(61)
        before = len(self.held)
        self.lease(which)
        if len(self.held) > before:
            self.claim(before, renewed=False)

    @rule()
    def retry(self) -> None:
        self.world.clock.advance(1)
        self.runner.run(control.each(self.store, control.retry, Selection(), self.world.clock.now()))

    @rule(which=st.integers(0, 5))
    @precondition(lambda self: self.waiting)
    def drop(self, which: int) -> None:
        id = sorted(self.waiting)[which % len(self.waiting)]
        if self.runner.run(control.each(self.store, control.drop, Selection(id=id), self.world.clock.now())):
            self.waiting.remove(id)
            self.in_hand.pop(id, None)

    @rule()
    def restart(self) -> None:
        self.runner.run(self.store.write(lanes.abandon_leases))

    @invariant()
    def the_queue_holds_exactly_who_waits(self) -> None:
        rows = self.runner.run(self.world.select("SELECT id FROM queued_recipient"))
        assert {row[0] for row in rows} == self.waiting
        orphans = self.runner.run(
            self.world.select(
                "SELECT id FROM queued_recipient WHERE id >> 24 NOT IN (SELECT id FROM blob)"
                " UNION ALL SELECT id FROM queued_recipient WHERE id >> 24 <> message >> 24"
                " UNION ALL SELECT lane FROM queued_recipient WHERE lane NOT IN (SELECT id FROM lane)"
            )
        )
        assert orphans == []

    def teardown(self) -> None:
        """At last everybody who waits can still be reached."""
        self.world.clock.advance(100_000)
        now = self.world.clock.now()
        leased = [one.id for one in self.runner.run(self.store.read(due, now))]
        reached: set[int] = set()
        for held, claimed in self.runner.run(self.store.write(lanes.start, leased, now, now + 1)):
            found: lanes.Claim | None = claimed
            while found is not None:
                reached |= {recipient.id for job in found.jobs for recipient in job.recipients}
                found = self.runner.run(self.store.read(lanes.claim, held, found.after, now)) if found.more else None
        assert reached == self.waiting
        self.runner.run(self.store.close())
        self.runner.close()
        self.directory.cleanup()


TestQueue = pytest.mark.timeout(400)(Queue.TestCase)
TestQueue.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
