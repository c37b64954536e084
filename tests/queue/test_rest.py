"""Whatever happens to a queue, its runner comes to rest: it starts what is due, and then nothing until more is."""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from posthouse.queue import control
from posthouse.queue.attempt import BeforeDot
from posthouse.queue.control import Selection
from posthouse.queue.outcome import Dooms, Fate, Outcome, Report
from posthouse.queue.queue import DOMAIN, Job, NewRecipient
from posthouse.queue.runner import Runner
from posthouse.terms.address import parse
from posthouse.terms.reply import Reply
from tests.queue.support import DAY, NO_SUCH, NOT_NOW, OK, Script, World
from tests.support import run

GONE = Reply(421, "4.4.1", "No connection")
DOWN = Outcome(0, Fate.DEFERRED, GONE, Dooms.DESTINATION)
# Turns at one time; some dozen are wanted where a site lives again and wakes its lanes.
MANY = 100


async def rest(runner: Runner) -> None:
    """Turn until the runner has nothing to do at this time."""
    for _ in range(MANY):
        await runner.turn()
        if not runner.busy:
            return
        await runner.idle()
    pytest.fail("the runner starts lanes without end")


async def backed_off(world: World, runner: Runner, *recipients: str) -> None:
    """Have these wait for a destination that is down."""
    await world.send(*recipients)
    await rest(runner)


def test_a_lane_that_backs_off_and_of_which_all_are_held_is_not_started_again(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script({"x.example": (DOWN,)})
        runner = world.runner(courier)
        await backed_off(world, runner, "a@x.example")
        await control.hold_each(world.store, Selection(), world.clock.now())
        world.clock.advance(3600)
        await rest(runner)
        # What comes then is tried at once, and what was held when it is released.
        await world.send("b@x.example")
        await rest(runner)
        assert [names for _, names in courier.seen] == [["a@x.example"], ["b@x.example"]]
        await control.each(world.store, control.release, Selection(recipient="a@x.example"), world.clock.now())
        await rest(runner)
        assert len(courier.seen) > 2

    run(main())


def test_a_lane_that_backs_off_for_nobody_but_who_is_to_leave_later_waits_for_him(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Script({"x.example": (DOWN, OK)})
        runner = world.runner(courier)
        later = world.clock.now() + 36_000_000
        await world.send(NewRecipient(parse("later@x.example"), due_at=later))
        await backed_off(world, runner, "b@x.example")
        await control.each(world.store, control.drop, Selection(recipient="b@x.example"), world.clock.now())
        world.clock.advance(3600)
        await rest(runner)
        assert await world.select("SELECT failures, due_at FROM lane") == [(0, later)]

    run(main())


@dataclass
class Moody:
    """A courier to far sides of changing mood: from 0, which takes everything, to 1. Two of them are one site."""

    random: Random
    moods: dict[str, float] = field(default_factory=dict)

    async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
        mood = self.moods.get(job.domain, 0.3)
        site = "big.example" if job.domain in ("a.example", "b.example") else job.domain
        ids = [one.id for one in job.recipients]
        if self.random.random() < mood / 2:
            return Report(tuple(Outcome(id, Fate.DEFERRED, GONE, Dooms.DESTINATION) for id in ids), site=site)
        await before_dot(ids)
        return Report(tuple(self._one(id, mood) for id in ids), site=site)

    def _one(self, id: int, mood: float) -> Outcome:
        luck = self.random.random()
        fate = Fate.RELAYED if luck > mood else Fate.DEFERRED if luck > mood / 5 else Fate.FAILED
        replies = {Fate.RELAYED: OK, Fate.DEFERRED: NOT_NOW, Fate.FAILED: NO_SUCH}
        return Outcome(id, fate, replies[fate], remote="mx")


@dataclass
class Life:
    """What happens to a queue: mail, moods of far sides, operators, new processes, clocks that are set."""

    world: World
    random: Random

    def __post_init__(self) -> None:
        self.courier = Moody(self.random)
        self.runner = self.world.runner(self.courier)
        self.sent = 0

    async def step(self) -> None:
        """Something happens."""
        deeds = (self._mail, self._mood, self._one, self._destination, self._process, self._clock)
        (deed,) = self.random.choices(deeds, (16, 4, 12, 8, 2, 1))
        await deed()

    def _domain(self) -> str:
        return f"{self.random.choice('abcd')}.example"

    async def _mail(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            self.sent += 1
            wait = self.random.choice((0, 0, 0, 0, 60, 3600, 20_000))
            due_at = self.world.clock.now() + wait * 1000 if wait else None
            names = [f"u{self.sent}.{n}@{self._domain()}" for n in range(self.random.choice((1, 1, 3)))]
            recipients = [NewRecipient(parse(name), due_at=due_at) for name in names]
            sender = self.random.choice(("x@home.example", "y@else.example"))
            await self.world.send(*recipients, journey=self.sent, sender=sender)

    async def _mood(self) -> None:
        self.courier.moods[self._domain()] = self.random.choice((0, 0.3, 0.9, 1))

    async def _one(self) -> None:
        now = self.world.clock.now()
        if listed := await self.world.store.read(control.list_recipients, Selection(), now):
            deeds = (None, None, control.release, control.retry, control.drop, control.reroute(None))
            wanted, deed = Selection(id=self.random.choice(listed).id), self.random.choice(deeds)
            if deed is None:
                await control.hold_each(self.world.store, wanted, now)
            else:
                await control.each(self.world.store, deed, wanted, now)

    async def _destination(self) -> None:
        deed = self.random.choice((control.hold_destination, control.release_destination, None))
        domain, now = self._domain(), self.world.clock.now()
        if deed is None:
            await self.world.store.write(control.flush, domain, now)
        else:
            await self.world.store.write(deed, DOMAIN + domain, now)

    async def _process(self) -> None:
        await self.runner.stop(0)
        self.runner = self.world.runner(self.courier)

    async def _clock(self) -> None:
        """It is set back, by minutes or by days."""
        self.world.clock.advance(-self.random.choice((200, 20_000, 2 * DAY)))

    async def left_lying(self) -> list[tuple[object, ...]]:
        """Recipients that are due and not held, in lanes that neither are nor back off, and that nobody tries."""
        now = self.world.clock.now()
        return await self.world.select(
            "SELECT r.address FROM queued_recipient AS r JOIN lane AS l ON l.id = r.lane WHERE r.held = 0"
            " AND l.held = 0 AND r.due_at <= ? AND l.failures = 0 AND l.due_at > ?", now, now,
        )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_the_runner_comes_to_rest_and_nothing_is_left_lying(tmp_path: Path, seed: int) -> None:
    async def main() -> None:
        random = Random(seed)
        life = Life(World(tmp_path, expire=random.choice((7200, DAY))), random)
        for _ in range(100):
            await life.step()
            await rest(life.runner)
            assert await life.left_lying() == []
            life.world.clock.advance(random.choice((1, 30, 300, 3000)))
        await life.runner.stop(0)

    run(main())
