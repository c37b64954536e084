"""What is written together, and what cannot be."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse.queue import settling
from posthouse.queue.outcome import Fate, Filed, Outcome, Report
from posthouse.queue.queue import Job
from posthouse.queue.settling import Marked, Settled
from posthouse.store.database import StoreUnavailable, Tx
from tests.queue.support import OK, World, claim, lease_only_lane
from tests.support import run


def test_what_is_reported_at_once_is_written_in_one_transaction(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        written: list[object] = []
        for n in range(20):
            await world.send(f"u{n}@x.example", journey=n + 1)
        held = await lease_only_lane(world)
        jobs = (await claim(world, held)).jobs
        real = world.store.write

        async def counted(function: Callable[..., Any], *args: Any) -> Any:
            written.append(function)
            return await real(function, *args)

        world.store.write = counted  # type: ignore[method-assign, assignment]
        clerk = world.clerk()
        marked = await asyncio.gather(*[clerk.mark(held, [one.id for one in job.recipients]) for job in jobs])
        assert marked == [Marked.NOTED] * 20
        reports = [(job, Report((Outcome(job.recipients[0].id, Fate.RELAYED, OK),))) for job in jobs]
        settled = await asyncio.gather(*[clerk.settle(held, job, report) for job, report in reports])
        assert [one.lease for one in settled] == [held] * 20
        assert len(written) == 2
        assert [await world.rows(table) for table in ("queued_recipient", "past_dot")] == [0, 0]

    run(main())


def test_one_that_cannot_be_written_takes_nothing_of_the_others_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        for n in range(3):
            await world.send(f"u{n}@x.example", journey=n + 1)
        held = await lease_only_lane(world)
        jobs = (await claim(world, held)).jobs

        def wrong(tx: Tx) -> Filed:
            raise ValueError("a mistake of ours")

        reports = [Report((Outcome(job.recipients[0].id, Fate.RELAYED, OK),)) for job in jobs]
        reports[1] = Report(inside=wrong)
        clerk = world.clerk()
        settled = await asyncio.gather(
            *[clerk.settle(held, job, report) for job, report in zip(jobs, reports, strict=True)],
            return_exceptions=True,
        )
        assert [isinstance(one, ValueError) for one in settled] == [False, True, False]
        assert await world.select("SELECT address FROM queued_recipient") == [("u1@x.example",)]

    run(main())


def no_room(world: World, times: int) -> list[int]:
    """So many writes fail from now on; how many are still to."""
    left, real = [times], world.store.write

    async def failing(function: Callable[..., Any], *args: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise StoreUnavailable("no room on the disk")
        return await real(function, *args)

    world.store.write = failing  # type: ignore[method-assign, assignment]
    return left


def test_a_mark_that_cannot_be_written_is_said_and_a_settlement_waits(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send("u@x.example")
        held = await lease_only_lane(world)
        (job,) = (await claim(world, held)).jobs
        failures = no_room(world, 2)
        clerk = world.clerk()
        with pytest.raises(StoreUnavailable):
            await clerk.mark(held, [job.recipients[0].id])
        settled = await clerk.settle(held, job, Report((Outcome(job.recipients[0].id, Fate.RELAYED, OK),)))
        assert settled.lease == held
        assert failures == [0]
        assert await world.rows() == 0

    run(main())


def test_what_is_written_beside_waits_for_the_database_and_is_heard_of_once(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send("u@x.example")
        held = await lease_only_lane(world)
        (job,) = (await claim(world, held)).jobs
        failures = no_room(world, 1)
        heard: list[Settled | Exception] = []
        report = Report((Outcome(job.recipients[0].id, Fate.RELAYED, OK),))
        written = world.clerk().settle_beside(held, job, report, heard.append)
        assert heard == []
        await written
        assert [type(one) for one in heard] == [Settled]
        assert (failures, await world.rows()) == ([0], 0)

    run(main())


def test_what_can_never_be_written_beside_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        world = World(tmp_path)
        for n in range(2):
            await world.send(f"u{n}@x.example", journey=n + 1)
        held = await lease_only_lane(world)
        jobs = (await claim(world, held)).jobs
        step = settling.outcome_step

        def failing(job: Job, *args: Any) -> Any:
            if job is jobs[0]:
                raise ValueError("a mistake of ours")
            return step(job, *args)

        monkeypatch.setattr(settling, "outcome_step", failing)
        clerk = world.clerk()
        heard: list[list[Settled | Exception]] = [[], []]
        reports = [Report((Outcome(job.recipients[0].id, Fate.RELAYED, OK),)) for job in jobs]
        written = [clerk.settle_beside(held, job, reports[n], heard[n].append) for n, job in enumerate(jobs)]
        await asyncio.gather(*written)
        assert [[type(one) for one in of_one] for of_one in heard] == [[ValueError], [Settled]]
        assert await world.select("SELECT address FROM queued_recipient") == [("u0@x.example",)]

    run(main())
