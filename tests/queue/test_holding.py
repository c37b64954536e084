"""What a person was told to be held is not sent, whatever its lane is at just then."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from posthouse.queue import control
from posthouse.queue.attempt import BeforeDot, Courier, Held
from posthouse.queue.control import Holding, Selection
from posthouse.queue.outcome import Dooms, Fate, Filed, Outcome, Report
from posthouse.queue.queue import Job, NewRecipient
from posthouse.queue.runner import Runner
from posthouse.queue.settling import Marked
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from tests.queue.support import NOT_NOW, OK, Script, World, lease_only_lane
from tests.queue.test_going_on import Ahead
from tests.support import run, until

DESTINATION = "domain:x.example"


@dataclass
class Slow:
    """A courier that opens a connection before it sends, and waits for the reply behind that: `opened` and `sent`."""

    opened: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    before: asyncio.Event = field(default_factory=asyncio.Event)
    behind: asyncio.Event = field(default_factory=asyncio.Event)
    reply: Outcome | None = None

    async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
        names = [str(one.address) for one in job.recipients]
        self.opened += names
        await self.before.wait()
        await before_dot([one.id for one in job.recipients])
        self.sent += names
        await self.behind.wait()
        fate = self.reply.fate if self.reply else Fate.RELAYED
        return Report(tuple(Outcome(one.id, fate, OK, remote="mx") for one in job.recipients))


@dataclass
class AtHome:
    """A courier whose deed is done in the settling commit."""

    seen: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    pause: asyncio.Event = field(default_factory=asyncio.Event)

    async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
        names = [str(one.address) for one in job.recipients]
        self.seen += names
        await self.pause.wait()

        def inside(tx: Tx) -> Filed:
            self.done.extend(names)
            return Filed(tuple(Outcome(one.id, Fate.DELIVERED, OK) for one in job.recipients), ())

        return Report(inside=inside)


async def working(world: World, courier: Courier, count: int = 5, local: str | None = None) -> tuple[Runner, list[int]]:
    """A runner whose lane of so many messages is at work; the recipients' ids."""
    ids: list[int] = []
    for n in range(count):
        ids += await world.send(NewRecipient(parse(f"u{n}@x.example"), destination=local), journey=n + 1)
    runner = world.runner(courier)
    await runner.turn()
    return runner, ids


async def left(world: World) -> list[tuple[object, ...]]:
    return await world.select("SELECT address FROM queued_recipient ORDER BY id")


def test_what_was_claimed_and_not_begun_is_not_sent(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Slow()
        runner, _ = await working(world, courier)
        await until(lambda: bool(courier.opened))
        wanted = Selection(recipient="u4@x.example")
        assert await control.hold_each(world.store, wanted, world.clock.now()) == Holding(1, 0)
        courier.before.set()
        courier.behind.set()
        await world.settle(runner)
        assert courier.sent == [f"u{n}@x.example" for n in range(4)]
        assert await left(world) == [("u4@x.example",)]
        await control.each(world.store, control.release, wanted, world.clock.now())
        await world.settle(runner)
        assert await left(world) == []
        assert sorted(courier.sent) == [f"u{n}@x.example" for n in range(5)]

    run(main())


def test_what_is_offered_and_not_yet_sent_is_given_back_as_if_never_attempted(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Slow()
        runner, (first, *_) = await working(world, courier)
        await until(lambda: bool(courier.opened))
        assert await control.hold_each(world.store, Selection(id=first), world.clock.now()) == Holding(1, 0)
        courier.before.set()
        courier.behind.set()
        await world.settle(runner)
        assert courier.sent == [f"u{n}@x.example" for n in range(1, 5)]
        assert await world.select("SELECT id, held, attempts FROM queued_recipient") == [(first, 1, 0)]
        assert await world.rows("past_dot") == 0

    run(main())


def test_what_is_being_sent_is_told_of_and_held_where_it_is_not_taken(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Slow(reply=Outcome(0, Fate.DEFERRED, NOT_NOW))
        courier.before.set()
        runner, _ = await working(world, courier, 2)
        await until(lambda: bool(courier.sent))
        assert await control.hold_each(world.store, Selection(), world.clock.now()) == Holding(1, 1)
        courier.behind.set()
        await world.live(runner, 7200)
        assert courier.sent == ["u0@x.example"]
        assert len(await left(world)) == 2

    run(main())


def test_what_was_being_sent_when_its_process_died_is_no_longer_under_way(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Slow()
        courier.before.set()
        runner, _ = await working(world, courier, 1)
        await until(lambda: bool(courier.sent))
        await runner.stop(0)
        assert await world.rows("past_dot") == 1
        assert await control.hold_each(world.store, Selection(), world.clock.now()) == Holding(1, 0)
        assert await world.store.write(control.hold_destination, DESTINATION, world.clock.now()) == 0
        await world.settle(world.runner(courier))
        assert len(courier.sent) == 1

    run(main())


def test_a_held_destination_sends_no_more_than_it_says_to_be_under_way(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Slow()
        courier.before.set()
        runner, _ = await working(world, courier)
        await until(lambda: bool(courier.sent))
        assert await world.store.write(control.hold_destination, DESTINATION, world.clock.now()) == 1
        courier.behind.set()
        await world.settle(runner)
        assert courier.sent == ["u0@x.example"]
        assert len(await left(world)) == 4
        await world.store.write(control.release_destination, DESTINATION, world.clock.now())
        await world.settle(runner)
        assert await left(world) == []

    run(main())


def test_what_was_begun_behind_another_message_is_not_sent(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Ahead()
        courier.waits = asyncio.Event()
        runner, _ = await working(world, courier, 3)
        await until(lambda: len(courier.known) == 1)
        assert courier.known[0] is not None
        assert await control.hold_each(world.store, Selection(recipient="u1@x.example"), 0) == Holding(1, 0)
        courier.waits.set()
        await world.settle(runner)
        assert [names for _, names in courier.seen] == [["u0@x.example"], ["u2@x.example"]]
        assert await left(world) == [("u1@x.example",)]

    run(main())


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_done_at_home_is_not_done_for_who_is_held(tmp_path: Path, whole: bool) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), AtHome()
        runner, _ = await working(world, courier, 2, local="local:")
        await until(lambda: bool(courier.seen))
        now = world.clock.now()
        if whole:
            await world.store.write(control.hold_destination, "local:", now)
        else:
            assert await control.hold_each(world.store, Selection(recipient="u0@x.example"), now) == Holding(1, 0)
        courier.pause.set()
        await world.settle(runner)
        assert courier.done == ([] if whole else ["u1@x.example"])
        assert len(await left(world)) == 2 - len(courier.done)

    run(main())


class InTwo(Script):
    """A courier that offers half of a job, and then the other half; what was answered for the first stands."""

    between: Callable[[], Awaitable[object]]

    async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
        half = len(job.recipients) // 2
        done: list[Outcome] = []
        for some in (job.recipients[:half], job.recipients[half:]):
            try:
                await before_dot([one.id for one in some])
            except Held:
                break
            self.seen.append((job.mail.blob, [str(one.address) for one in some]))
            done += [Outcome(one.id, Fate.RELAYED, OK, Dooms.RECIPIENT, "mx") for one in some]
            if len(self.seen) == 1:
                await self.between()
        if not done:
            raise Held
        return Report(tuple(done))


def test_what_was_taken_before_somebody_was_held_is_never_sent_again(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), InTwo()
        await world.send(*[f"u{n}@x.example" for n in range(4)])
        wanted = Selection(recipient="u3@x.example")
        courier.between = lambda: control.hold_each(world.store, wanted, world.clock.now())
        await world.settle(world.runner(courier))
        assert sorted(name for _, names in courier.seen for name in names) == [f"u{n}@x.example" for n in range(3)]
        assert await world.select("SELECT address, attempts FROM queued_recipient") == [("u3@x.example", 0)]
        assert await world.rows("past_dot") == 0

    run(main())


def test_a_mark_is_for_all_of_its_recipients_or_for_none_and_others_beside_it_stand(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        first, second = await world.send("a@x.example", "b@x.example")
        (third,) = await world.send("c@x.example")
        held = await lease_only_lane(world)
        await control.hold_each(world.store, Selection(id=second), world.clock.now())
        clerk = world.clerk()
        marked = tuple(await asyncio.gather(clerk.mark(held, [first, second]), clerk.mark(held, [third])))
        assert marked == (Marked.HELD, Marked.NOTED)
        assert await world.select("SELECT recipient FROM past_dot") == [(third,)]
        # A second transaction of the same attempt.
        assert await clerk.mark(held, [third]) is Marked.NOTED
        assert await control.hold_each(world.store, Selection(id=third), world.clock.now()) == Holding(0, 1)
        assert await clerk.mark(held, [third]) is Marked.HELD

    run(main())
