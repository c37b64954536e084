"""A worker goes on with its next job while the last one is written down: nothing is lost by it, nothing goes twice."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from posthouse.queue import control
from posthouse.queue.attempt import AtWork, BeforeDot
from posthouse.queue.outcome import Report
from posthouse.queue.queue import Job, NewRecipient
from posthouse.queue.settling import Entry, Mark, Settlement, write_down
from posthouse.store.database import StoreUnavailable
from posthouse.terms.address import parse
from posthouse.terms.envelope import DeliverBy, Wishes
from tests.queue.support import NO_SUCH, Script, World
from tests.support import run, until


class Desk:
    """Stands before the store: sees what is written down together, and can keep or spoil it."""

    def __init__(self, world: World) -> None:
        self.batches: list[Sequence[Entry]] = []
        self.spoil: Callable[[Sequence[Entry]], None] = lambda entries: None
        self.open = asyncio.Event()
        self.open.set()
        self._write: Callable[..., Any] = world.store.write
        world.store.write = self.write  # type: ignore[method-assign]

    async def write(self, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        if function is write_down:
            self.batches.append(args[0])
            if any(isinstance(entry, Settlement) for entry in args[0]):
                await self.open.wait()
            self.spoil(args[0])
        return await self._write(function, *args, **named)


class SecondWaits(Script):
    """A courier that waits at its second job, before the dot."""

    async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
        if len(self.seen) == 1:
            self.seen.append((job.mail.blob, [str(one.address) for one in job.recipients]))
            await asyncio.Event().wait()
        return await super().attempt(job, before_dot)


class Ahead:
    """A courier that asks for the job behind each one; `waits` is where it waits in its first."""

    def __init__(self, **answers: Any) -> None:
        self.script = Script(**answers)
        self.seen = self.script.seen
        self.known: list[Job | None] = []
        self.forgone: list[Job] = []
        self.waits: asyncio.Event | None = None

    async def attempt(self, job: Job, before_dot: AtWork) -> Report:
        await before_dot([one.id for one in job.recipients])
        self.known.append(before_dot.ahead(self.forgone.append))
        if self.waits and len(self.known) == 1:
            await self.waits.wait()
        return await self.script.attempt(job, before_dot)


async def lane_of(world: World, count: int, notify: frozenset[str] | None = None) -> None:
    for n in range(count):
        await world.send(NewRecipient(parse(f"u{n}@x.example"), notify=notify), journey=n + 1)


def test_what_became_of_one_message_shares_a_commit_with_the_mark_of_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script(past_dot=True)
        desk = Desk(world)
        await lane_of(world, 5)
        runner = world.runner(courier)
        await runner.turn()
        await runner.idle()
        kinds = [{type(entry) for entry in batch} for batch in desk.batches]
        assert kinds == [{Mark}, *[{Mark, Settlement}] * 4, {Settlement}]
        assert [await world.rows(table) for table in ("queued_recipient", "past_dot", "lane")] == [0, 0, 0]

    run(main())


def test_nothing_is_begun_while_somebody_is_told_or_where_all_is_not_well(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        desk = Desk(world)
        refusing = Script(default=NO_SUCH, past_dot=True)
        for courier, notify in ((Script(past_dot=True), frozenset({"SUCCESS"})), (refusing, None)):
            desk.batches.clear()
            await lane_of(world, 2, notify)
            runner = world.runner(courier)
            await runner.turn()
            await runner.idle()
            kinds = [type(entry) for batch in desk.batches for entry in batch]
            assert kinds == [Mark, Settlement, Mark, Settlement]
            assert len(desk.batches) == 4
            await world.settle(world.runner(Script()))

    run(main())


def test_the_next_message_is_offered_meanwhile_and_the_lane_is_kept_until_all_is_written(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script()
        desk = Desk(world)
        await lane_of(world, 2)
        runner = world.runner(courier)
        desk.open.clear()
        await runner.turn()
        await until(lambda: len(courier.seen) == 2)
        for _ in range(10):
            await asyncio.sleep(0)
        # The second waits for the first: at most one job of a worker is open.
        assert [len(batch) for batch in desk.batches] == [1]
        assert await world.rows() == 2
        desk.open.set()
        await runner.idle()
        assert [await world.rows(table) for table in ("queued_recipient", "lane")] == [0, 0]

    run(main())


def test_a_stop_ends_the_attempt_and_waits_for_what_is_written(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), SecondWaits(past_dot=True)
        desk = Desk(world)
        await lane_of(world, 2)
        runner = world.runner(courier)
        desk.open.clear()
        await runner.turn()
        await until(lambda: len(courier.seen) == 2)
        stopping = asyncio.create_task(runner.stop(grace=60))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not stopping.done()
        desk.open.set()
        await stopping
        assert await world.select("SELECT address FROM queued_recipient") == [("u1@x.example",)]
        assert await world.select("SELECT lease_until FROM lane") == [(0,)]
        assert await world.rows("past_dot") == 0

    run(main())


def test_a_stop_does_not_wait_for_ever_and_what_was_not_written_is_known(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), SecondWaits(past_dot=True)
        desk = Desk(world)

        def full(entries: Sequence[Entry]) -> None:
            if any(isinstance(entry, Settlement) for entry in entries):
                raise StoreUnavailable("no room on the disk")

        await lane_of(world, 2)
        runner = world.runner(courier)
        desk.spoil = full
        await runner.turn()
        await until(lambda: len(courier.seen) == 2)
        await runner.stop(grace=0.05)
        assert not runner.busy
        assert await world.select("SELECT lease_until FROM lane") == [(1,)]
        assert await world.select("SELECT recipient >> 24 FROM past_dot") == [(1,)]
        # Whoever takes the lane next tells the journey of the first, and offers both.
        desk.spoil = lambda entries: None
        again = Script()
        await world.settle(world.runner(again))
        assert [names for _, names in again.seen] == [["u0@x.example"], ["u1@x.example"]]
        told = await world.select(
            "SELECT journey FROM journey_steps WHERE instr(steps, 'recipient.possible_duplicate') > 0"
        )
        assert told == [(1,)]

    run(main())


def test_one_that_cannot_be_written_ends_the_work_on_its_lane_and_not_the_next_ones_outcome(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script(past_dot=True)
        desk = Desk(world)

        def wrong(entries: Sequence[Entry]) -> None:
            if any(isinstance(entry, Settlement) and entry.job.mail.blob == 1 for entry in entries):
                raise ValueError("a mistake of ours")

        await lane_of(world, 3)
        runner = world.runner(courier)
        desk.spoil = wrong
        await runner.turn()
        await runner.idle()
        assert [names for _, names in courier.seen] == [["u0@x.example"], ["u1@x.example"]]
        left = await world.select("SELECT address FROM queued_recipient")
        assert left == [("u0@x.example",), ("u2@x.example",)]

    run(main())


def test_a_courier_is_told_which_job_comes_next_and_gets_it(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Ahead()
        desk = Desk(world)
        await lane_of(world, 7)
        runner = world.runner(courier)
        await world.settle(runner)
        announced = {at: job.mail.blob for at, job in enumerate(courier.known, 1) if job is not None}
        attempted = [id for id, _ in courier.seen]
        # Seven messages, each once; whatever was announced came next, and the lane was kept for it.
        assert sorted(attempted) == attempted
        assert len(attempted) == 7
        assert len(announced) > 3
        assert all(attempted[at] == id for at, id in announced.items())
        assert courier.forgone == []
        assert [await world.rows(table) for table in ("queued_recipient", "past_dot", "lane")] == [0, 0, 0]
        assert all(len(batch) <= 2 for batch in desk.batches)

    run(main())


def test_the_next_one_is_attempted_though_the_first_was_refused(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Ahead(answers={"u0@x.example": (NO_SUCH,)})
        await lane_of(world, 3)
        await world.settle(world.runner(courier))
        assert [to for _, (to,) in courier.seen if to.endswith("@x.example")] == [f"u{n}@x.example" for n in range(3)]
        assert await world.rows() == 0

    run(main())


def test_a_stop_lets_the_next_one_go(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Ahead()
        courier.waits = asyncio.Event()
        await lane_of(world, 2)
        runner = world.runner(courier)
        await runner.turn()
        await until(lambda: len(courier.known) == 1)
        stopping = asyncio.create_task(runner.stop(grace=60))
        await asyncio.sleep(0)
        courier.waits.set()
        await stopping
        assert courier.forgone == [courier.known[0]]
        assert await world.select("SELECT address FROM queued_recipient") == [("u1@x.example",)]
        assert await world.select("SELECT lease_until FROM lane") == [(0,)]
        again = Script()
        await world.settle(world.runner(again))
        assert [to for _, to in again.seen] == [["u1@x.example"]]

    run(main())


def test_what_must_arrive_in_time_is_not_announced(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Ahead()
        by = DeliverBy(world.clock.now() + 60_000, returned=False, trace=False)
        await lane_of(world, 1)
        await world.send("u1@x.example", wishes=Wishes(deliver_by=by), journey=2)
        await world.settle(world.runner(courier))
        assert courier.known[:2] == [None, None]

    run(main())


class Steady:
    """A courier for a lane that never runs dry: behind each job a sender queues another."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: list[str] = []
        self.then: Callable[[], Awaitable[None]] | None = None

    async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
        self.seen += [str(one.address) for one in job.recipients]
        self.world.clock.advance(1)
        if len(self.seen) < 300 and "late@x.example" not in self.seen:
            await self.world.send(f"u{len(self.seen) + 5}@x.example", journey=len(self.seen) + 5)
        if self.then is not None:
            then, self.then = self.then, None
            await then()
        return await Script().attempt(job, before_dot)


def test_what_stands_behind_the_cursor_has_its_turn_in_a_lane_that_never_runs_dry(tmp_path: Path) -> None:
    """Whose commit came later than others' who were taken in later; or who was held, and was let go."""

    async def main() -> None:
        world = World(tmp_path)
        courier = Steady(world)
        (late,) = await world.send("late@x.example")
        await world.store.write(lambda tx: tx.run("queue_hold_recipient", id=late))
        world.clock.advance(1)
        for n in range(5):
            await world.send(f"u{n}@x.example", journey=n + 1)

        async def let_go() -> None:
            chosen = control.Selection(id=late)
            assert await control.each(world.store, control.release, chosen, world.clock.now()) == 1

        courier.then = let_go
        await world.settle(world.runner(courier))
        assert "late@x.example" in courier.seen[:100]

    run(main())
