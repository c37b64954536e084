"""The queue's loop, with couriers that follow a script and a clock that is moved by hand: weeks in seconds."""

import asyncio
from pathlib import Path

import pytest

from posthouse import observe
from posthouse.queue import clerk, control, lanes
from posthouse.queue.attempt import BeforeDot
from posthouse.queue.control import Selection
from posthouse.queue.outcome import Dooms, Fate, Filed, Outcome, Report
from posthouse.queue.queue import Job, NewRecipient
from posthouse.queue.schedule import LOCAL, Limits
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.terms.address import parse
from posthouse.terms.reply import Reply
from tests.queue.support import DAY, NO_SUCH, NOT_NOW, OK, Script, World
from tests.support import run, until

DOWN = Outcome(0, Fate.DEFERRED, Reply(421, "4.4.1", "No connection"), Dooms.DESTINATION)
EMPTY = [0, 0]


async def left(world: World) -> list[int]:
    return [await world.rows(table) for table in ("queued_recipient", "lane")]


async def past_dot(world: World, count: int = 1) -> None:
    """Wait until it is written down that so many may have been taken."""
    while await world.rows("past_dot") < count:
        await asyncio.sleep(0.001)


def test_mail_goes_out_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script()
        await world.send("a@x.example", "b@x.example", "c@y.example")
        await world.settle(world.runner(courier))
        assert sorted(courier.seen) == [(1, ["a@x.example", "b@x.example"]), (1, ["c@y.example"])]
        assert await left(world) == EMPTY

    run(main())


def test_a_deferred_recipient_is_tried_again_by_the_schedule(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        courier = Script({"a@x.example": (NOT_NOW, NOT_NOW, OK)})
        await world.send("a@x.example", "b@x.example")
        runner = world.runner(courier)
        await world.live(runner, 30)
        assert len(courier.seen) == 1
        await world.live(runner, 60)
        assert courier.seen[1:] == [(1, ["a@x.example"])]
        await world.live(runner, 400)
        assert len(courier.seen) == 3
        assert await left(world) == EMPTY

    run(main())


def test_one_recipient_is_tried_while_a_destination_is_down(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        courier = Script({"x.example": (DOWN,)})
        for n in range(30):
            await world.send(f"u{n}@x.example")
        runner = world.runner(courier)
        await world.settle(runner)
        assert len(courier.seen) == 1
        await world.live(runner, 70)
        assert len(courier.seen) == 2
        courier.answers = {}
        await world.live(runner, 400)
        assert len(courier.seen) == 2 + 30
        assert await left(world) == EMPTY

    run(main())


def test_a_slow_destination_does_not_hold_up_another(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        slow, seen = asyncio.Event(), []

        class Mixed:
            async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
                if job.domain == "slow.example":
                    await slow.wait()
                seen.append(job.domain)
                return Report(tuple(Outcome(one.id, Fate.RELAYED, OK) for one in job.recipients))

        runner = world.runner(Mixed(), limits=Limits(remote=10, site=2))
        for n in range(5):
            await world.send(f"u{n}@slow.example", account=n)
        await world.send("a@quick.example", account=1)
        await runner.turn()
        while seen != ["quick.example"]:
            await asyncio.sleep(0.001)
        slow.set()
        await world.settle(runner)
        assert seen.count("slow.example") == 5

    run(main())


def test_a_long_lane_gains_connections_up_to_the_sites_cap(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script(pause=asyncio.Event())
        assert courier.pause
        for n in range(30):
            await world.send(f"u{n}@x.example", journey=n)
        runner = world.runner(courier, limits=Limits(remote=50, site=3))
        for _ in range(10):
            await runner.turn()
            await asyncio.sleep(0.01)
        assert courier.at_once == 3
        courier.pause.set()
        await world.settle(runner)
        assert len(courier.seen) == 30
        assert len({message for message, _ in courier.seen}) == 30
        assert await left(world) == EMPTY

    run(main())


def test_a_courier_that_raises_defers(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        calls = []

        class Broken:
            async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
                calls.append(job)
                raise ValueError("a mistake of ours")

        await world.send("a@x.example")
        runner = world.runner(Broken())
        await world.live(runner, 100)
        assert len(calls) == 2
        ((reply, attempts),) = await world.select("SELECT last_reply, attempts FROM queued_recipient")
        assert (str(reply)[:9], attempts) == ("451 4.3.0", 2)

    run(main())


def test_a_row_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script()
        for name in ("a", "bad", "c"):
            await world.send(f"u@{name}.example")

        def write(tx: Tx, address: str) -> None:
            tx.query("UPDATE queued_recipient SET address = ? WHERE address LIKE '%bad%'", (address,))

        await world.store.write(write, "bad")
        runner = world.runner(courier)
        await world.settle(runner)
        assert sorted(courier.seen) == [(1, ["u@a.example"]), (3, ["u@c.example"])]
        await world.send("d@a.example")
        await world.settle(runner)
        assert len(courier.seen) == 3
        await world.store.write(write, "mended@bad.example")
        await world.live(runner, 70)
        assert await left(world) == EMPTY

    run(main())


def test_weeks_of_an_outage_end_in_bounces(tmp_path: Path) -> None:
    async def main() -> None:
        world, mailbox = World(tmp_path), Script()
        await world.store.write(lambda tx: tx.run("domain_insert", name="home.example", catch_all=None, created_at=0))
        courier = Script({"x.example": (DOWN,), "slow.example": (NOT_NOW,)})
        await world.send(*[f"u{n}@x.example" for n in range(250)])
        await world.send("a@slow.example")
        runner = world.runner(courier, mailbox)
        await world.live(runner, 4.9 * DAY)
        assert (await left(world))[0] == 251
        # The sender was told after four hours that they wait: once for each message.
        assert [names for _, names in mailbox.seen] == [["alice@home.example"]] * 2
        mailbox.seen.clear()
        await world.live(runner, 0.3 * DAY)
        assert await left(world) == EMPTY
        # 251 failures in bounces of at most a hundred recipients each, to the sender at home.
        assert [names for _, names in mailbox.seen] == [["alice@home.example"]] * 4

    run(main())


def test_what_expired_while_nobody_ran_is_tried_once_before_it_is_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script()
        await world.send("a@x.example")
        world.clock.advance(6 * DAY)
        await world.settle(world.runner(courier))
        assert len(courier.seen) == 1
        assert await left(world) == EMPTY

    run(main())


def test_outcomes_that_are_made_in_the_settling_commit_stand_or_fall_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clerk, "_PAUSE", 0.001)

    async def main() -> None:
        world = World(tmp_path)
        attempts, settled = [], []

        class Filing:
            async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
                attempts.append(job)

                def inside(tx: Tx) -> Filed:
                    settled.append(job)
                    tx.run("domain_insert", name=f"filed{len(settled)}.example", catch_all=None, created_at=0)
                    if len(settled) == 1:
                        raise StoreUnavailable("disk full")
                    return Filed(tuple(Outcome(one.id, Fate.DELIVERED, OK) for one in job.recipients))

                return Report(inside=inside)

        await world.send(NewRecipient(parse("bob@home.example"), LOCAL))
        await world.settle(world.runner(Filing()))
        assert (len(attempts), len(settled)) == (1, 2)
        assert await world.select("SELECT name FROM domain") == [("filed2.example",)]
        assert await left(world) == EMPTY

    run(main())


def test_a_stop_ends_at_once_who_is_not_past_the_dot_and_waits_for_who_is(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        answer = asyncio.Event()
        past, before = Script(pause=answer, past_dot=True), Script(pause=asyncio.Event())

        class Both:
            async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
                return await (past if job.domain == "past.example" else before).attempt(job, before_dot)

        await world.send("a@past.example", "b@before.example")
        runner = world.runner(Both())
        running = asyncio.create_task(runner.run())
        while not (past.at_once and before.at_once):
            await asyncio.sleep(0.001)
        stopping = asyncio.create_task(runner.stop(grace=60))
        while before.at_once:
            await asyncio.sleep(0.001)
        assert past.at_once == 1
        answer.set()
        await stopping
        await running
        assert await world.select("SELECT address FROM queued_recipient") == [("b@before.example",)]
        assert await world.select("SELECT lease_until FROM lane") == [(0,)]

    run(main())


def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script(pause=asyncio.Event(), past_dot=True)
        await world.send("a@x.example")
        runner = world.runner(courier)
        await runner.turn()
        await past_dot(world)
        await runner.stop(grace=0.05)
        assert await world.select("SELECT count(*) FROM past_dot") == [(1,)]
        # Whoever takes the lane next tells the journey.
        await world.settle(world.runner(Script()))
        told = await world.select(
            "SELECT instr(steps, 'recipient.possible_duplicate') > 0 FROM journey_steps ORDER BY id"
        )
        assert told[0] == (1,)

    run(main())


def test_a_restart_goes_on_where_the_last_process_was_killed(tmp_path: Path) -> None:
    async def main() -> None:
        killed, courier = World(tmp_path), Script(pause=asyncio.Event(), past_dot=True)
        await killed.send("a@x.example", "b@y.example")
        first = killed.runner(courier)
        await first.turn()
        await past_dot(killed, 2)
        # The process is gone: nothing of it settles or releases any more.
        world, courier = World(tmp_path, killed.clock), Script()
        runner = world.runner(courier)
        await world.settle(runner)
        assert courier.seen == []
        assert await world.store.write(lanes.abandon_leases) == 2
        await world.settle(runner)
        assert sorted(names for _, names in courier.seen) == [["a@x.example"], ["b@y.example"]]
        assert await left(world) == EMPTY
        # What is left of it ends before the loop does.
        await first.stop(0)

    run(main())


def test_another_process_takes_over_a_lease_that_ran_out_and_the_first_settles_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        world, slow, quick = World(tmp_path), Script(pause=asyncio.Event(), past_dot=True), Script()
        await world.send("a@x.example")
        frozen = world.runner(slow)
        await frozen.turn()
        await past_dot(world)
        world.clock.advance(61)
        other = world.runner(quick)
        await world.settle(other)
        assert len(quick.seen) == 1
        assert slow.pause
        slow.pause.set()
        await frozen.idle()
        assert await left(world) == EMPTY

    run(main())


def test_leases_are_renewed_while_couriers_run(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script(pause=asyncio.Event())
        await world.send("a@x.example")
        runner, other = world.runner(courier), Script()
        await runner.turn()
        for _ in range(10):
            world.clock.advance(25)
            await runner.turn()
        await world.settle(world.runner(other))
        assert other.seen == []
        assert courier.pause
        courier.pause.set()
        await runner.idle()
        assert await left(world) == EMPTY

    run(main())


def test_the_loop_wakes_by_the_bell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script()
        runner = world.runner(courier)
        sleeps: list[int | None] = []

        async def until_told(wake_at: int | None) -> None:
            """It sleeps, and no time that comes wakes it."""
            sleeps.append(wake_at)
            await runner._changed.wait()

        monkeypatch.setattr(runner, "_sleep_until", until_told)
        running = asyncio.create_task(runner.run())
        await until(lambda: sleeps and not (runner.busy or runner._changed.is_set()))
        await world.send("a@x.example")
        while (await left(world)) != EMPTY:
            await asyncio.sleep(0.001)
        await runner.stop()
        await running

    run(main())


def test_mail_that_comes_while_its_lane_is_at_work_goes_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script(pause=asyncio.Event())
        assert courier.pause
        await world.send("a@x.example")
        runner = world.runner(courier)
        await runner.turn()
        while not courier.at_once:
            await asyncio.sleep(0.001)
        await world.send("b@x.example")
        courier.pause.set()
        await runner.idle()
        assert [names for _, names in courier.seen] == [["a@x.example"], ["b@x.example"]]

    run(main())


def test_a_destination_held_by_hand_is_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script()
        await world.send("a@x.example")
        now = world.clock.now()
        await world.store.write(control.hold_destination, "domain:x.example", now)
        runner = world.runner(courier)
        await world.live(runner, 10 * DAY, step=3600)
        # The sender heard that it waits.
        assert [names for _, names in courier.seen] == [["alice@home.example"]]
        await world.store.write(control.release_destination, "domain:x.example", world.clock.now())
        await world.settle(runner)
        assert [names for _, names in courier.seen][1:] == [["a@x.example"]]

    run(main())


def test_a_permanent_failure_of_a_destination_does_not_stop_its_lane(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        none = Outcome(0, Fate.FAILED, Reply(550, "5.1.2", "No such domain"), Dooms.DESTINATION)
        courier = Script({"x.example": (none,)})
        for n in range(3):
            await world.send(f"u{n}@x.example", sender=None)
        await world.settle(world.runner(courier))
        assert len(courier.seen) == 3
        assert await left(world) == EMPTY

    run(main())


def test_a_failure_with_nobody_to_tell_ends_in_silence(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        courier = Script(default=NO_SUCH)
        await world.send("a@x.example", sender=None)
        await world.send(NewRecipient(parse("b@x.example"), notify=frozenset({"NEVER"})))
        await world.send(NewRecipient(parse("c@x.example"), notify=frozenset({"SUCCESS", "DELAY"})))
        await world.settle(world.runner(courier))
        assert await left(world) == EMPTY

    run(main())


def test_selections_reach_a_runner(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script({"a@x.example": (NOT_NOW, OK)})
        await world.send("a@x.example")
        runner = world.runner(courier)
        await world.settle(runner)
        assert await control.each(world.store, control.retry, Selection(), world.clock.now()) == 1
        await world.settle(runner)
        assert await left(world) == EMPTY

    run(main())


def test_a_turn_leaves_alone_what_is_being_given_back(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script()
        for n in range(200):
            await world.send(f"u@d{n % 20}.example", account=n % 3)
        runner = world.runner(courier)
        running = asyncio.create_task(runner.run())
        while await left(world) != EMPTY:
            await runner.turn()
            await asyncio.sleep(0)
        assert len(courier.seen) == 200
        await runner.stop()
        await running

    faults = []
    forget = observe.subscribe(lambda step: faults.append(step) if step.level == observe.ERROR else None)
    try:
        run(main())
    finally:
        forget()
    assert faults == []
