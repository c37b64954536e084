"""What a person does with the queue, on a real store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse.queue import control, lanes
from posthouse.queue.control import Holding, Selection
from posthouse.queue.outcome import Dooms, Fate, Outcome, Report
from posthouse.queue.queue import NewRecipient
from posthouse.terms.address import parse
from tests.queue.support import DELAYS, NOT_NOW, OK, Script, World, claim, due, lease_only_lane, settle
from tests.support import run


def test_recipients_are_listed_by_what_they_are(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        ids = await world.send("A@x.example", "b@y.example", journey=5)
        others = await world.send("c@x.example", sender=None, journey=6)

        async def found(**wanted: int | str) -> list[int]:
            listed = await world.store.read(control.list_recipients, Selection(**wanted), world.clock.now())  # type: ignore[arg-type]
            return [one.id for one in listed]

        assert await found() == ids + others
        assert await found(recipient="a@X.example") == ids[:1]
        assert await found(sender="ALICE@home.example") == ids
        assert await found(sender="") == others
        assert await found(destination="domain:x.example") == [ids[0], others[0]]
        assert await found(journey=6) == others
        assert await found(id=ids[1]) == [ids[1]]
        assert await found(id=ids[1], journey=6) == []
        (lane, *_) = await world.store.read(control.list_lanes, world.clock.now())
        assert (lane.destination, lane.recipients) == ("domain:x.example", 1)

    run(main())


def test_what_is_held_is_not_claimed_until_released(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        first, _ = await world.send("a@x.example", "b@x.example")
        now = world.clock.now()
        assert await control.hold_each(world.store, Selection(id=first), now) == Holding(1, 0)
        held = await lease_only_lane(world)
        (job,) = (await claim(world, held)).jobs
        assert [one.address.local for one in job.recipients] == ["b"]
        done = Report((Outcome(job.recipients[0].id, Fate.RELAYED, OK),))
        await world.store.write(settle, held, job, done, now, DELAYS, 0.5)
        await world.store.write(lanes.release, held)
        assert await world.store.read(due, now) == []
        assert await world.store.read(lanes.next_due, now) is None
        assert await control.each(world.store, control.release, Selection(id=first), now) == 1
        assert len(await world.store.read(due, now)) == 1

    run(main())


def test_a_held_destination_holds_what_comes_later_too(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send("a@x.example", account=1)
        await world.store.write(control.hold_destination, "domain:x.example", world.clock.now())
        await world.send("b@x.example", account=2)
        assert await world.store.read(due, world.clock.now()) == []
        assert await world.store.write(control.release_destination, "domain:x.example", world.clock.now()) == 3
        assert len(await world.store.read(due, world.clock.now())) == 2
        assert await world.rows("lane") == 2

    run(main())


def test_retry_makes_due_what_waits(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        (id,) = await world.send("a@x.example")
        held = await lease_only_lane(world)
        (job,) = (await claim(world, held)).jobs
        now = world.clock.now()
        # In flight: nothing is due twice.
        assert await control.each(world.store, control.retry, Selection(), now) == 0
        report = Report((Outcome(id, Fate.DEFERRED, NOT_NOW),))
        await world.store.write(settle, held, job, report, now, DELAYS, 0.5)
        await world.store.write(lanes.release, held)
        assert await control.each(world.store, control.retry, Selection(recipient="a@x.example"), now) == 1
        assert len(await world.store.read(due, now)) == 1
        assert len((await claim(world, await lease_only_lane(world))).jobs) == 1

    run(main())


def test_drop_removes_without_a_word_but_not_what_is_in_flight(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send("a@x.example", "b@y.example")
        now = world.clock.now()
        ((lane,),) = await world.select("SELECT id FROM lane WHERE destination = 'domain:y.example'")
        assert await world.store.write(lanes.lease, int(str(lane)), now, now + 60_000)
        assert await control.each(world.store, control.drop, Selection(), now) == 1
        assert await world.select("SELECT address FROM queued_recipient") == [("b@y.example",)]
        assert [await world.rows(table) for table in ("queued_recipient", "lane")] == [1, 1]

    run(main())


def test_operations_go_through_any_number(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send(*[f"u{n}@x.example" for n in range(1234)])
        assert await control.each(world.store, control.drop, Selection(), world.clock.now()) == 1234
        assert [await world.rows(table) for table in ("queued_recipient", "lane")] == [0, 0]

    run(main())


# --- by hand ----------------------------------------------------------------------------------------------------------


async def one_down(world: World, *recipients: str, site: str = "mx.x.example") -> None:
    """Have these wait for a destination that is down, as after an attempt."""
    await world.send(*recipients)
    held = await lease_only_lane(world)
    (job, *_) = (await claim(world, held)).jobs
    down = Outcome(job.recipients[0].id, Fate.DEFERRED, NOT_NOW, Dooms.DESTINATION)
    settled = await world.store.write(settle, held, job, Report((down,), site=site), world.clock.now())
    assert settled.doomed
    await world.store.write(lanes.release, held)


def test_a_count_says_how_many_fit(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send(*[f"u{n}@x.example" for n in range(20)])
        (id,) = await world.send("a@y.example", sender=None)
        for wanted, expected in (
            (Selection(), 21),
            (Selection(destination="domain:x.example"), 20),
            (Selection(sender=""), 1),
            (Selection(recipient="U3@x.example"), 1),
            (Selection(journey=77), 0),
            (Selection(id=id), 1),
        ):
            assert await world.store.read(control.count, wanted) == expected
        assert await world.store.read(control.count, Selection(), most=5) == 5

    run(main())


def test_a_retry_by_hand_does_not_wait_for_a_site_that_is_down(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script()
        await one_down(world, "a@x.example")
        runner = world.runner(courier)
        await world.settle(runner)
        assert courier.seen == []
        assert await control.each(world.store, control.retry, Selection(), world.clock.now()) == 1
        assert await world.select("SELECT failures, due_at FROM site") == [(0, 0)]
        await world.settle(runner)
        assert len(courier.seen) == 1
        assert await world.rows() == 0

    run(main())


GONE = Outcome(0, Fate.DEFERRED, NOT_NOW, Dooms.DESTINATION)


def test_who_is_released_is_tried_at_once_though_the_site_is_known_to_be_down(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script({"x.example": (GONE, GONE, OK)})
        runner = world.runner(courier)
        await world.send("a@x.example")
        await world.settle(runner)
        now = world.clock.now()
        await world.store.write(control.hold_destination, "domain:x.example", now)
        # Of another sender: its lane does not know its site.
        await world.send("b@x.example", account=2)
        await world.settle(runner)
        assert len(courier.seen) == 1
        await world.store.write(control.release_destination, "domain:x.example", now)
        await world.settle(runner)
        assert 2 <= len(courier.seen) <= 3
        courier.answers = {}
        for wanted in (Selection(recipient="b@x.example"), Selection(destination="domain:x.example")):
            await control.each(world.store, control.retry, wanted, now)
            await world.settle(runner)
        assert await world.rows() == 0

    run(main())


def test_a_retry_reaches_a_lane_that_was_not_looked_at_yet(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script({"x.example": (GONE, OK)})
        runner = world.runner(courier)
        await world.send("a@x.example")
        await world.settle(runner)
        await world.send("b@x.example", account=2)
        wanted = Selection(recipient="b@x.example")
        courier.answers = {}
        assert await control.each(world.store, control.retry, wanted, world.clock.now()) == 1
        await world.settle(runner)
        assert await world.select("SELECT address FROM queued_recipient") == [("a@x.example",)]

    run(main())


def test_what_was_deferred_and_held_goes_when_it_is_released(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script({"a@x.example": (NOT_NOW, OK), "b@y.example": (NOT_NOW, OK)})
        runner = world.runner(courier)
        await world.send("a@x.example", "b@y.example")
        await world.settle(runner)
        now = world.clock.now()
        await control.hold_each(world.store, Selection(recipient="a@x.example"), now)
        await world.store.write(control.hold_destination, "domain:y.example", now)
        await control.each(world.store, control.release, Selection(recipient="a@x.example"), now)
        await world.store.write(control.release_destination, "domain:y.example", now)
        await world.settle(runner)
        assert await world.rows() == 0

    run(main())


def test_mail_that_is_to_leave_later_is_listed_so_and_let_go_by_release_alone(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script()
        runner = world.runner(courier)
        later = world.clock.now() + 7_200_000
        await world.send(NewRecipient(parse("a@x.example"), due_at=later))
        (one,) = await world.store.read(control.list_recipients, Selection(), world.clock.now())
        assert (one.scheduled, one.due_at, one.held) == (True, later, False)
        await world.settle(runner)
        now = world.clock.now()
        await control.each(world.store, control.retry, Selection(), now)
        await world.settle(runner)
        await control.hold_each(world.store, Selection(), now)
        await world.settle(runner)
        assert courier.seen == []
        await control.each(world.store, control.release, Selection(), now)
        await world.settle(runner)
        assert len(courier.seen) == 1

    run(main())


def test_a_flush_tries_a_domain_now_and_leaves_what_is_held_or_to_leave_later(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        courier = Script(default=NOT_NOW)
        runner = world.runner(courier)
        await world.send("a@x.example", "b@x.example", "c@y.example")
        await world.settle(runner)
        now = world.clock.now()
        await world.send(NewRecipient(parse("later@x.example"), due_at=now + 7_200_000))
        await control.hold_each(world.store, Selection(recipient="b@x.example"), now)
        courier.seen.clear()
        assert await world.store.write(control.flush, "x.example", now) == 3
        await world.settle(runner)
        assert courier.seen == [(1, ["a@x.example"])]
        assert await world.store.write(control.flush, "nobody.example", now) == 0

    run(main())


def test_a_flush_ends_the_backoff_of_the_domain(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script()
        await one_down(world, "a@x.example")
        runner = world.runner(courier)
        await world.settle(runner)
        assert courier.seen == []
        assert await world.store.write(control.flush, "x.example", world.clock.now()) == 1
        await world.settle(runner)
        assert await world.rows() == 0

    run(main())


def test_rerouted_mail_goes_another_way_and_can_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await one_down(world, "a@x.example", "b@x.example")
        await world.send("c@y.example", account=4)
        now = world.clock.now()
        assert await control.each(world.store, control.reroute("domain:backup.example"), Selection(), now) == 3
        assert await world.select("SELECT destination, sender FROM lane ORDER BY id") == [
            ("domain:backup.example", "home.example"), ("domain:backup.example", "account:4"),
        ]  # fmt: skip
        assert len(await world.store.read(due, now)) == 2
        back = Selection(recipient="b@x.example")
        assert await control.each(world.store, control.reroute(None), back, now) == 1
        assert await world.select(
            "SELECT r.address, l.destination FROM queued_recipient r JOIN lane l ON l.id = r.lane ORDER BY r.id"
        ) == [
            ("a@x.example", "domain:backup.example"),
            ("b@x.example", "domain:x.example"),
            ("c@y.example", "domain:backup.example"),
        ]
        courier = Script()
        await world.settle(world.runner(courier))
        assert await world.rows() == await world.rows("lane") == 0

    run(main())


def test_what_is_in_flight_is_not_rerouted(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send("a@x.example")
        await lease_only_lane(world)
        now = world.clock.now()
        assert await control.each(world.store, control.reroute("domain:other.example"), Selection(), now) == 0
        assert await world.rows("lane") == 1

    run(main())


def test_given_up_by_hand_it_goes_back_with_a_report_held_or_not(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script()
        await world.send(*[f"u{n}@x.example" for n in range(120)], journey=5)
        await world.send("null@x.example", sender=None)
        await world.send("flying@z.example")
        now = world.clock.now()
        seen: list[int] = []
        ((lane,),) = await world.select("SELECT id FROM lane WHERE destination = 'domain:z.example'")
        assert await world.store.write(lanes.lease, int(str(lane)), now, now + 60_000)
        await world.store.write(control.hold_destination, "domain:x.example", now)
        clerk = world.clerk()
        assert await control.give_up(world.store, clerk, world.clock, Selection(), seen.append) == 121
        assert seen == [122]
        left = await world.select("SELECT address FROM queued_recipient ORDER BY id")
        assert left == [("flying@z.example",), ("alice@home.example",)]
        runner = world.runner(courier)
        await world.settle(runner)
        assert [names for _, names in courier.seen] == [["alice@home.example"]]

    run(main())


@pytest.mark.parametrize("how", ["drop", "give up"])
def test_what_comes_meanwhile_is_not_meant_whatever_numbers_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Another process has taken a block of numbers, and its mail is ahead of what this one queues later."""

    async def main() -> None:
        world, goes_on = World(tmp_path), [True]
        await world.send("old@x.example")
        other = World(tmp_path, clock=world.clock)
        await other.send("ahead@y.example")
        monkeypatch.setattr(control, "_CHUNK", 1)
        real = world.store.read

        async def read(function: Callable[..., Any], *args: Any) -> Any:
            answer = await real(function, *args)
            if function is control.list_recipients and goes_on:
                goes_on.pop()
                world.clock.advance(1)
                await world.send("new@x.example")
            return answer

        world.store.read = read  # type: ignore[method-assign, assignment]
        if how == "drop":
            done = await control.each(world.store, control.drop, Selection(), world.clock.now())
        else:
            done = await control.give_up(world.store, world.clerk(), world.clock, Selection())
        assert done == 2
        left = await world.select("SELECT address FROM queued_recipient WHERE sender IS NOT NULL")
        assert left == [("new@x.example",)]

    run(main())


def test_no_more_is_taken_than_was_looked_at_where_some_left_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        world, goes_on = World(tmp_path), [True]
        first, *_ = await world.send(*[f"u{n}@x.example" for n in range(3)])
        real = world.store.write

        async def write(function: Callable[..., Any], *args: Any) -> Any:
            if goes_on:
                goes_on.pop()
                await real(lambda tx: tx.query("DELETE FROM queued_recipient WHERE id = ?", (first,)))
                await world.send("new@x.example")
            return await real(function, *args)

        world.store.write = write  # type: ignore[method-assign, assignment]
        assert await control.each(world.store, control.drop, Selection(), world.clock.now()) == 2
        assert await world.select("SELECT address FROM queued_recipient") == [("new@x.example",)]

    run(main())


def test_what_was_queued_by_a_clock_that_was_ahead_is_meant_too(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        world.clock.advance(3600)
        await world.send("a@x.example")
        world.clock.advance(-3600)
        assert await control.each(world.store, control.drop, Selection(), world.clock.now()) == 1

    run(main())
