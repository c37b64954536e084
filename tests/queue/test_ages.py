"""What has come to its time is found by a walk, whole, and no more often than the walk is worth."""

from pathlib import Path

from posthouse.clock import SetClock
from posthouse.queue import ages, control, lanes
from posthouse.queue.ages import Stretch
from posthouse.queue.control import Selection
from posthouse.queue.deadlines import Deadlines
from tests.queue.support import DAY, World
from tests.support import run

NOTICE = 4 * 3_600_000
LONGEST = 3_600_000


async def stretches(world: World, most: int) -> list[Stretch]:
    found = [await world.store.read(ages.walk, world.clock.now(), NOTICE, LONGEST, 0, most)]
    while not found[-1].last:
        found.append(await world.store.read(ages.walk, world.clock.now(), NOTICE, LONGEST, found[-1].upto, most))
    return found


async def in_backoff(world: World) -> None:
    """All lanes wait for an hour more."""
    until = world.clock.now() + 3_600_000
    await world.store.write(lambda tx: tx.query("UPDATE lane SET due_at = ?, failures = 1", (until,)))


def test_a_walk_goes_along_all_in_stretches(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        ids = [id for n in range(5) for id in await world.send(f"a{n}@x.example", f"b{n}@y.example")]
        found = await stretches(world, 4)
        assert [(one.after, one.upto) for one in found] == [(0, ids[3]), (ids[3], ids[7]), (ids[7], ids[9])]
        assert not any(one.expired or one.delayed for one in found)
        assert {one.next_at for one in found} == {world.clock.now() + NOTICE}
        # One that ends where the queue does is followed by one that is empty.
        assert [one.upto for one in await stretches(world, 5)] == [ids[4], ids[9], ids[9]]

    run(main())


def test_nothing_waits(tmp_path: Path) -> None:
    async def main() -> None:
        assert await stretches(World(tmp_path), 4) == [Stretch(0, 0, True, False, False, None)]

    run(main())


def test_those_whose_time_is_up_are_found_by_lane_and_the_next_time_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        early, other = await world.send("a@x.example", "b@y.example", expire=DAY)
        (late,) = await world.send("c@x.example", expire=2 * DAY)
        world.clock.advance(DAY)
        await in_backoff(world)
        now = world.clock.now()
        (found,) = await stretches(world, 10)
        assert (found.expired, found.next_at) == (True, now + int(DAY) * 1000)
        by_lane, after = await world.store.read(ages.expired, found, now, 0)
        assert (sorted(by_lane.values()), after) == ([[early], [other]], None)
        # Held ones do not expire; nor does who is about to be tried.
        await control.hold_each(world.store, Selection(id=other), now)
        assert (await world.store.read(ages.expired, found, now, 0))[0].popitem()[1] == [early]
        world.clock.advance(3600)
        assert await world.store.read(ages.expired, found, world.clock.now(), 0) == ({}, None)
        assert late > other

    run(main())


def test_whose_time_is_up_long_ago_hears_of_the_end_and_not_of_the_delay(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send("a@x.example", "b@x.example")
        world.clock.advance(6 * DAY)
        await in_backoff(world)
        clerk = world.clerk()
        deadlines = Deadlines(world.store, clerk, world.clock, NOTICE / 1000, LONGEST / 1000, 60)
        await deadlines.look(world.clock.now())
        # What is left is the report, one for both.
        rows = await world.select("SELECT address, sender FROM queued_recipient")
        assert rows == [("alice@home.example", None)]
        kinds = await world.select("SELECT count(*) FROM journey_steps WHERE instr(steps, 'bounce.sent') > 0")
        assert kinds == [(1,)]

    run(main())


class SlowClock(SetClock):
    """A tenth of a second passes at each look at it."""

    def monotonic(self) -> float:
        self.advance(0.1)
        return super().monotonic()


def test_a_walk_is_followed_by_a_rest_a_hundred_times_as_long(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send("a@x.example", expire=60)
        clock = SlowClock(world.clock.now())
        deadlines = Deadlines(world.store, world.clerk(), clock, NOTICE / 1000, LONGEST / 1000, 60)
        await deadlines.look(clock.now())
        ended = clock.now()
        deadlines.expect(ended)
        assert deadlines.due_at is not None
        assert 9_000 <= deadlines.due_at - ended <= 11_000
        assert not deadlines.due(ended + 8_999)
        assert deadlines.due(deadlines.due_at)

    run(main())


def test_what_has_little_time_is_known_without_a_walk(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        now = world.clock.now()
        await world.send("long@x.example", expire=3 * 3600)
        assert await world.store.read(lanes.next_deadline, now) is None
        await world.send("brief@y.example", expire=90)
        assert await world.store.read(lanes.next_deadline, now) == now + 90_000

    run(main())


def test_all_sites_that_nothing_waits_for_go_however_many_there_are(tmp_path: Path) -> None:
    """Answers to forged senders leave thousands of them a day."""

    async def main() -> None:
        world = World(tmp_path)
        names = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1200)"
        sql = f"{names} INSERT INTO site (name, failures, due_at) SELECT 'domain:' || n || '.example', 1, 1 FROM n"
        await world.store.write(lambda tx: tx.query(sql, ()))
        deadlines = Deadlines(world.store, world.clerk(), world.clock, 4 * 3600, 3600, 60)
        await deadlines.look(world.clock.now())
        assert await world.rows("site") == 0

    run(main())
