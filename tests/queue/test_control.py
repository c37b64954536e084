"""What a person does with the queue, on a real store."""

from pathlib import Path

from posthouse.queue import control, lanes
from posthouse.queue.control import Selection
from posthouse.queue.outcome import Fate, Outcome, Report
from tests.queue.support import DELAYS, NOT_NOW, OK, World, claim, lease_only_lane
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
        assert await control.each(world.store, control.hold, Selection(id=first), now) == 1
        held = await lease_only_lane(world)
        (job,) = (await claim(world, held)).jobs
        assert [one.address.local for one in job.recipients] == ["b"]
        done = Report((Outcome(job.recipients[0].id, Fate.RELAYED, OK),))
        await world.store.write(lanes.settle, held, job, done, now, DELAYS, 0.5)
        await world.store.write(lanes.release, held)
        assert await world.store.read(lanes.due, now) == []
        assert await world.store.read(lanes.next_due, now) == now + int(world.expire * 1000)
        assert await control.each(world.store, control.release, Selection(id=first), now) == 1
        assert len(await world.store.read(lanes.due, now)) == 1

    run(main())


def test_a_held_destination_holds_what_comes_later_too(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send("a@x.example", account=1)
        await world.store.write(control.hold_destination, "domain:x.example", world.clock.now())
        await world.send("b@x.example", account=2)
        assert await world.store.read(lanes.due, world.clock.now()) == []
        assert await world.store.write(control.release_destination, "domain:x.example", world.clock.now()) == 3
        assert len(await world.store.read(lanes.due, world.clock.now())) == 2
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
        await world.store.write(lanes.settle, held, job, report, now, DELAYS, 0.5)
        await world.store.write(lanes.release, held)
        assert await control.each(world.store, control.retry, Selection(recipient="a@x.example"), now) == 1
        assert len(await world.store.read(lanes.due, now)) == 1
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
        assert [await world.rows(table) for table in ("queued_message", "lane")] == [1, 1]

    run(main())


def test_operations_go_through_any_number(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send(*[f"u{n}@x.example" for n in range(1234)])
        assert await control.each(world.store, control.drop, Selection(), world.clock.now()) == 1234
        assert [await world.rows(table) for table in ("queued_message", "queued_recipient", "lane")] == [0, 0, 0]

    run(main())
