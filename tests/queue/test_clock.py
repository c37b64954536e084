"""A clock that is set back leaves nothing lying: no time is believed that no schedule can have said."""

from pathlib import Path

import pytest

from posthouse.queue import control, lanes
from posthouse.queue.control import Selection
from posthouse.queue.outcome import Dooms, Fate, Outcome
from posthouse.queue.queue import NewRecipient
from posthouse.terms.address import parse
from posthouse.terms.reply import Reply
from tests.queue.support import DAY, NOT_NOW, OK, Script, World
from tests.support import run

DOWN = Outcome(0, Fate.DEFERRED, Reply(421, "4.4.1", "No connection"), Dooms.DESTINATION)
AHEAD = 30 * DAY


def test_what_was_deferred_by_a_clock_that_was_ahead_is_tried_when_it_is_right(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script(answers={"a@x.example": (NOT_NOW, OK)})
        world.clock.advance(AHEAD)
        await world.send("a@x.example")
        runner = world.runner(courier)
        await world.settle(runner)
        world.clock.advance(-AHEAD)
        await world.send("b@x.example")
        await world.settle(runner)
        assert [names for _, names in courier.seen] == [["a@x.example"], ["b@x.example"], ["a@x.example"]]
        assert await world.rows() == 0

    run(main())


@pytest.mark.parametrize("again", [False, True])
def test_a_destination_that_was_down_by_such_a_clock_is_tried_by_who_runs_and_by_who_comes(
    tmp_path: Path, again: bool
) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script(answers={"x.example": (DOWN, OK)})
        world.clock.advance(AHEAD)
        await world.send("a@x.example")
        runner = world.runner(courier)
        await world.settle(runner)
        world.clock.advance(-AHEAD)
        if again:
            await runner.stop()
            runner = world.runner(courier)
        await world.send("b@x.example")
        await world.send("c@x.example", sender="other@else.example")
        await world.live(runner, 3600)
        assert await world.rows() == 0

    run(main())


def test_what_is_to_leave_later_leaves_later_whatever_clock_it_was_taken_by(tmp_path: Path) -> None:
    """RFC 4865: by the hour that was said."""

    async def main() -> None:
        world, courier = World(tmp_path), Script()
        later = world.clock.now() + int((AHEAD + 3 * DAY) * 1000)
        world.clock.advance(AHEAD)
        await world.send(NewRecipient(parse("later@x.example"), due_at=later), expire=10 * DAY)
        runner = world.runner(courier)
        await world.settle(runner)
        world.clock.advance(-AHEAD)
        await world.live(runner, AHEAD + 2 * DAY, step=6 * 3600)
        assert courier.seen == []
        await world.live(runner, 2 * DAY, step=6 * 3600)
        assert len(courier.seen) == 1

    run(main())


def test_what_was_never_tried_by_such_a_clock_and_a_lane_that_was_given_back_are_tried(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script()
        await world.send("before@x.example")
        world.clock.advance(AHEAD)
        await world.send("taken@y.example")
        now = world.clock.now()
        for (lane,) in await world.select("SELECT id FROM lane"):
            held = await world.store.write(lanes.lease, int(str(lane)), now, now + 60_000)
            assert held is not None
            await world.store.write(lanes.release, held, now + 60_000)
        world.clock.advance(-AHEAD)
        await world.live(world.runner(courier), 60)
        assert sorted(names for _, names in courier.seen) == [["before@x.example"], ["taken@y.example"]]

    run(main())


def test_a_clock_that_is_set_back_during_a_look_is_not_rested_by(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script(answers={"x.example": (NOT_NOW, OK)})
        world.clock.advance(AHEAD)
        await world.send("a@x.example")
        runner = world.runner(courier)
        await world.settle(runner)
        world.clock.advance(3600)
        await control.hold_each(world.store, Selection(), world.clock.now())
        # A look at what time brings begins.
        await runner.turn()
        assert runner.busy
        world.clock.advance(-AHEAD)
        await runner.turn()
        await control.each(world.store, control.release, Selection(), world.clock.now() + int(AHEAD * 1000))
        await world.live(runner, 3600)
        assert await world.rows() == 0

    run(main())


def test_what_is_held_stays_so_and_usual_waits_are_kept(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script(answers={"x.example": (NOT_NOW,), "y.example": (DOWN,)})
        await world.send("a@x.example", "b@x.example", "c@y.example")
        runner = world.runner(courier)
        await world.live(runner, 7 * 3600)
        await control.hold_each(world.store, Selection(recipient="b@x.example"), world.clock.now())
        before = await world.select("SELECT id, due_at, held FROM queued_recipient ORDER BY id")
        world.clock.advance(-120)
        seen = len(courier.seen)
        await world.settle(runner)
        assert await world.select("SELECT id, due_at, held FROM queued_recipient ORDER BY id") == before
        assert len(courier.seen) == seen

    run(main())
