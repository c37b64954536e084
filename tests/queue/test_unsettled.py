"""A report that can never be settled: its job is deferred, and the others of its lane go on."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from posthouse.queue import bounce, lanes
from posthouse.queue.attempt import BeforeDot
from posthouse.queue.deadlines import Deadlines
from posthouse.queue.outcome import Fate, Filed, Outcome, Report
from posthouse.queue.queue import Job
from posthouse.queue.settling import Entry, Settlement
from posthouse.store.database import Tx
from tests.queue.support import DAY, NO_SUCH, NOT_NOW, OK, Script, World
from tests.queue.test_going_on import Desk, lane_of
from tests.support import run


class AtHome:
    """Files in the settling transaction; what is for u0 raises there, each time."""

    def __init__(self) -> None:
        self.attempts = 0

    async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
        def inside(tx: Tx) -> Filed:
            if any(one.address.local == "u0" for one in job.recipients):
                raise ValueError("a mistake of ours")
            return Filed(tuple(Outcome(one.id, Fate.DELIVERED, OK) for one in job.recipients))

        self.attempts += job.recipients[0].address.local == "u0"
        return Report(inside=inside)


def test_one_that_cannot_be_settled_is_deferred_and_holds_up_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), AtHome()
        await lane_of(world, 20)
        runner = world.runner(courier)
        await world.settle(runner)
        ((address, attempts, reply),) = await world.select("SELECT address, attempts, last_reply FROM queued_recipient")
        assert (address, attempts) == ("u0@x.example", 1)
        assert str(reply).startswith("451 4.3.0")
        # It is tried by the schedule, until its time is up; its sender hears of the delay, and of the end.
        await world.live(runner, 7200)
        assert 3 <= courier.attempts <= 6
        await world.live(runner, 6 * DAY, step=600)
        assert await world.select("SELECT address FROM queued_recipient WHERE sender IS NOT NULL") == []
        heard = await world.select("SELECT count(*) FROM journey_steps WHERE instr(steps, 'bounce.sent') > 0")
        assert heard == [(2,)]

    run(main())


def unwritable(world: World, only: Fate) -> None:
    """What became so of u0 cannot be written."""

    def spoil(entries: Sequence[Entry]) -> None:
        for entry in entries:
            if not isinstance(entry, Settlement) or entry.job.recipients[0].address.local != "u0":
                continue
            if any(outcome.fate is only for outcome in entry.report.outcomes):
                raise ValueError("a mistake of ours")

    Desk(world).spoil = spoil


@pytest.mark.parametrize("count", [1, 6])
def test_what_was_taken_and_cannot_be_written_may_go_twice_and_its_journey_says_so(tmp_path: Path, count: int) -> None:
    """Alone, or with others behind it, beside whose attempts it would be written."""

    async def main() -> None:
        world, courier = World(tmp_path), Script(past_dot=True)
        await lane_of(world, count)
        unwritable(world, Fate.RELAYED)
        runner = world.runner(courier)
        await world.settle(runner)
        assert len(courier.seen) == count
        assert await world.select("SELECT address, attempts FROM queued_recipient") == [("u0@x.example", 1)]
        assert await world.rows("past_dot") == 0
        twice = await world.select("SELECT count(*) FROM journey_steps WHERE instr(steps, 'possible_duplicate') > 0")
        assert twice == [(1,)]
        # The lane is not at work any more, and is due when he is.
        ((due_at, lease),) = await world.select("SELECT due_at, lease_until FROM lane")
        assert (int(str(due_at)) > world.clock.now(), lease) == (True, 0)

    run(main())


def test_what_was_refused_and_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        courier = Script(answers={"u0@x.example": (NO_SUCH, NOT_NOW, OK)})
        await lane_of(world, 3)
        unwritable(world, Fate.FAILED)
        runner = world.runner(courier)
        await world.settle(runner)
        assert await world.select("SELECT address FROM queued_recipient") == [("u0@x.example",)]
        await world.live(runner, 3600)
        assert await world.rows() == 0

    run(main())


def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """What became of u0 cannot be told."""
    compose = bounce.compose

    def failing(draft: bounce.Draft, told: Sequence[bounce.Told]) -> bytes:
        if any(one.recipient.address.local == "u0" for one in told):
            raise ValueError("a mistake of ours")
        return compose(draft, told)

    monkeypatch.setattr(bounce, "compose", failing)


def test_one_whose_end_cannot_be_told_waits_on_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on its lane, nor where all is looked for whose time is up, or who waits for long."""

    async def main() -> None:
        world, courier = World(tmp_path, expire=DAY), Script(default=NOT_NOW)
        untold(monkeypatch)
        await lane_of(world, 5)
        runner = world.runner(courier)
        await world.live(runner, 8 * 3600, step=600)
        told = "SELECT count(*) FROM queued_recipient WHERE address LIKE '%x.example' AND delayed_at IS NOT NULL"
        assert await world.select(told) == [(4,)]
        await world.live(runner, DAY, step=600)
        left = await world.select("SELECT address FROM queued_recipient WHERE address LIKE '%x.example'")
        assert left == [("u0@x.example",)]
        # What comes later goes.
        courier.default = OK
        await world.send("new@x.example", journey=9)
        await world.live(runner, 3600)
        assert "new@x.example" in [name for _, names in courier.seen for name in names]

    run(main())


def test_so_it_is_where_its_time_is_up_when_it_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script(default=NO_SUCH)
        untold(monkeypatch)
        await lane_of(world, 10)
        world.clock.advance(6 * DAY)
        await world.settle(world.runner(courier))
        left = await world.select("SELECT address, attempts FROM queued_recipient WHERE address LIKE '%x.example'")
        assert left == [("u0@x.example", 1)]

    run(main())


def test_what_cannot_be_filed_goes_back_when_its_time_is_up(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), AtHome()
        await lane_of(world, 3)
        world.clock.advance(6 * DAY)
        runner = world.runner(courier)
        await runner.turn()
        await runner.idle()
        assert await world.select("SELECT address FROM queued_recipient") == [("alice@home.example",)]
        assert courier.attempts == 1

    run(main())


def test_one_that_cannot_be_given_up_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(lanes, "CLAIM_OCTETS", 1)
        world = World(tmp_path)
        untold(monkeypatch)
        await lane_of(world, 5)
        world.clock.advance(6 * DAY)
        until = world.clock.now() + 3_600_000
        await world.store.write(lambda tx: tx.query("UPDATE lane SET due_at = ?, failures = 1", (until,)))
        await Deadlines(world.store, world.clerk(), world.clock, 4 * 3600, DAY, 60).look(world.clock.now())
        left = await world.select("SELECT address FROM queued_recipient WHERE address LIKE '%x.example'")
        assert left == [("u0@x.example",)]

    run(main())
