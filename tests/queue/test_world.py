"""Weeks of mail to a world of sites that fail, push back and hang, by seed and in seconds: nobody starves, caps hold,
and every recipient ends exactly once.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from posthouse.queue.attempt import BeforeDot
from posthouse.queue.outcome import Dooms, Fate, Outcome, Report
from posthouse.queue.queue import Job
from posthouse.queue.runner import Runner
from posthouse.queue.schedule import Limits
from posthouse.terms.envelope import Wishes
from posthouse.terms.reply import Reply
from tests.queue.support import DAY, NO_SUCH, OK, World
from tests.support import run

GONE = Reply(421, "4.4.1", "No connection")
GREY = Reply(451, "4.7.1", "Greylisted")
BUSY = Reply(421, "4.7.0", "Too much")
LIMITS = Limits(remote=20, site=6)


@dataclass
class Site:
    """A far side with habits: `most` connections at once, dead during `outages` (days from, to), or for ever."""

    most: int
    outages: tuple[tuple[float, float], ...] = ()
    greylists: bool = False
    refuses: float = 0.0
    open: int = 0
    most_open: int = 0
    known: set[str] = field(default_factory=set)


@dataclass
class Universe:
    """All far sides, and the book of what they took."""

    world: World
    random: Random
    sites: list[Site]
    began: int
    taken: Counter[str] = field(default_factory=Counter)
    refused: set[str] = field(default_factory=set)
    open: int = 0
    most_open: int = 0

    def site(self, domain: str) -> Site:
        return self.sites[int(domain[1:].split(".")[0]) % len(self.sites)]

    async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
        site = self.site(job.domain)
        site.open += 1
        self.open += 1
        site.most_open, self.most_open = max(site.most_open, site.open), max(self.most_open, self.open)
        try:
            for _ in range(self.random.randrange(4)):
                await asyncio.sleep(0)
            outcomes = await self._answer(site, job, before_dot)
            return Report(outcomes, site=f"mx{self.sites.index(site)}.example")
        finally:
            site.open -= 1
            self.open -= 1

    async def _answer(self, site: Site, job: Job, before_dot: BeforeDot) -> tuple[Outcome, ...]:
        day = (self.world.clock.now() - self.began) / 1000 / DAY
        ids = [one.id for one in job.recipients]
        if any(start <= day < end for start, end in site.outages):
            return tuple(Outcome(id, Fate.DEFERRED, GONE, Dooms.DESTINATION) for id in ids)
        if site.open > site.most:
            return tuple(Outcome(id, Fate.DEFERRED, BUSY, Dooms.DESTINATION, "mx") for id in ids)
        if self.random.random() < 0.02:
            raise RuntimeError("a mistake of ours")
        await before_dot(ids)
        return tuple(self._one(site, str(one.address), one.id) for one in job.recipients)

    def _one(self, site: Site, address: str, id: int) -> Outcome:
        if site.greylists and address not in site.known:
            site.known.add(address)
            return Outcome(id, Fate.DEFERRED, GREY, remote="mx")
        if self.random.random() < site.refuses:
            self.refused.add(address)
            return Outcome(id, Fate.FAILED, NO_SUCH, remote="mx")
        self.taken[address] += 1
        return Outcome(id, Fate.RELAYED, OK, remote="mx")


def sites(random: Random) -> list[Site]:
    """Ten far sides: sound, greylisting, picky, narrow, out for hours or days, dead."""
    return [
        Site(50),
        Site(50, greylists=True),
        Site(50, refuses=0.3),
        Site(2),
        Site(50, ((0.0, random.uniform(0.1, 1)), (1.5, 1.6))),
        Site(50, ((random.uniform(0, 1), random.uniform(2, 4)),)),
        Site(50, ((0.0, 99.0),)),
        Site(1, greylists=True),
        Site(3, ((0.2, 0.3),), refuses=0.1),
        Site(50),
    ]


async def mail(universe: Universe, sent: set[str], day: int) -> None:
    """A day's mail from five senders of different appetite."""
    random = universe.random
    for account, count in enumerate((3, 3, 3, 10, 60), 1):
        for n in range(count):
            domain = f"d{random.randrange(40)}.example"
            names = [f"u{day}-{account}-{n}-{k}@{domain}" for k in range(random.randrange(1, 4))]
            wishes = Wishes(priority=random.choice((0, 0, 0, 5, -5)))
            await universe.world.send(
                *names, account=account, sender=None, wishes=wishes, journey=day * 10_000 + account * 1000 + n
            )
            sent.update(names)


def leases(runner: Runner) -> int:
    return len(runner._runs)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(3))
def test_everything_ends_exactly_once_and_nobody_starves(tmp_path: Path, seed: int) -> None:
    async def main() -> None:
        random = Random(seed)
        world = World(tmp_path)
        universe = Universe(world, random, sites(random), world.clock.now())
        runner = world.runner(universe, limits=LIMITS)
        sent: set[str] = set()
        for day in range(3):
            await mail(universe, sent, day)
            await world.live(runner, DAY / 2, step=30)
            await soundly_served(universe, sent)
            if day == 1:
                # A new process goes on.
                runner = world.runner(universe, limits=LIMITS)
            await world.live(runner, DAY / 2, step=30)
        await world.live(runner, 6 * DAY, step=600)
        assert [await world.rows(table) for table in ("queued_recipient", "lane")] == [0, 0]
        assert leases(runner) == 0
        # Exactly once: taken, refused, or given up for a site that never came back; and never two of these.
        assert set(universe.taken.values()) <= {1}
        lost = sent - set(universe.taken) - universe.refused
        assert not set(universe.taken) & universe.refused
        assert {universe.sites.index(universe.site(address.partition("@")[2])) for address in lost} == {6}
        assert universe.most_open <= LIMITS.remote + LIMITS.beyond

    run(main(), seconds=360)


async def soundly_served(universe: Universe, sent: set[str]) -> None:
    """Half a day after it was sent, mail for sites that are sound has left, whatever others do."""
    for address in sent:
        site = universe.site(address.partition("@")[2])
        if not site.outages:
            assert address in universe.taken or address in universe.refused, address


def test_a_site_never_has_more_connections_than_it_may(tmp_path: Path) -> None:
    async def main() -> None:
        random = Random(5)
        world = World(tmp_path)
        universe = Universe(world, random, [Site(3), Site(50)], world.clock.now())
        runner = world.runner(universe, limits=LIMITS)
        sent: set[str] = set()
        # Where its domains lead is learnt first.
        for n in range(40):
            await world.send(f"first@d{n}.example", sender=None)
        await world.live(runner, 3600, step=10)
        for site in universe.sites:
            site.most_open = 0
        for day in range(3):
            await mail(universe, sent, day)
            await world.live(runner, DAY / 3, step=30)
        assert max(site.most_open for site in universe.sites) <= LIMITS.site
        assert set(universe.taken.values()) == {1}

    run(main())
