"""Leases, claims and settlements on a real store."""

from dataclasses import replace
from pathlib import Path

from posthouse.queue import lanes
from posthouse.queue.lanes import START
from posthouse.queue.outcome import Dooms, Fate, Outcome, Report
from posthouse.queue.queue import NewRecipient
from posthouse.terms.address import parse
from tests.queue.support import DELAYS, NOT_NOW, OK, World, claim, due, lease_only_lane, mark, settle
from tests.support import run


def test_a_claim_groups_recipients_of_one_message_and_goes_on_behind_them(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send(*[f"u{n}@x.example" for n in range(130)])
        await world.send("last@x.example")
        held = await lease_only_lane(world)
        first = await claim(world, held)
        assert [len(job.recipients) for job in first.jobs] == [100]
        second = await claim(world, held, first.after)
        assert [len(job.recipients) for job in second.jobs] == [30, 1]
        assert not second.more
        assert (await claim(world, held, second.after)).jobs == ()

    run(main())


def test_recipients_with_prologues_of_their_own_travel_apart(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        some = [NewRecipient(parse(f"{n}@x.example"), prologue=n[0].encode()) for n in ("a1", "a2", "b1")]
        await world.send(*some)
        jobs = (await claim(world, await lease_only_lane(world))).jobs
        assert [(job.prologue, len(job.recipients)) for job in jobs] == [(b"a", 2), (b"b", 1)]

    run(main())


def test_a_lane_is_leased_once_until_the_lease_runs_out(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send("a@x.example")
        first = await lease_only_lane(world)
        now = world.clock.now()
        assert await world.store.write(lanes.lease, first.lane, now, now + 60_000) is None
        assert await world.store.read(due, now) == []
        world.clock.advance(61)
        second = await lease_only_lane(world)
        assert second.token > first.token
        assert await world.store.read(lanes.claim, first, START, world.clock.now()) is None
        assert await world.store.write(lanes.renew, [first, second], world.clock.now() + 60_000) == {first.lane}

    run(main())


def test_a_settlement_without_the_lease_writes_nothing_but_the_journey(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        (id,) = await world.send("a@x.example")
        stale = await lease_only_lane(world)
        (job,) = (await claim(world, stale)).jobs
        world.clock.advance(61)
        fresh = await lease_only_lane(world)
        report = Report((Outcome(id, Fate.RELAYED, OK),))
        late = await world.store.write(settle, stale, job, report, world.clock.now(), DELAYS, 0.5)
        assert late.lease is None
        assert [step.kind for step in late.steps] == ["recipient.relayed", "recipient.possible_duplicate"]
        assert await world.rows() == 1
        settled = await world.store.write(settle, fresh, job, report, world.clock.now(), DELAYS, 0.5)
        assert settled.lease == fresh
        assert await world.rows() == 0

    run(main())


def test_an_attempt_cut_off_past_the_dot_is_known_to_the_next_holder(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        sent, _ = await world.send("a@x.example", "b@x.example", journey=77)
        held = await lease_only_lane(world)
        assert await world.store.write(mark, held, [sent])
        await world.store.write(lanes.abandon_leases)
        await lease_only_lane(world)
        assert await world.select("SELECT count(*) FROM past_dot") == [(0,)]
        (told,) = await world.select(
            "SELECT journey, instr(steps, 'recipient.possible_duplicate') > 0 FROM journey_steps"
        )
        assert told == (77, 1)
        assert not await world.store.write(mark, held, [sent])

    run(main())


def test_a_deferred_recipient_waits_for_its_own_time_and_the_lane_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        (id,) = await world.send("a@x.example")
        held = await lease_only_lane(world)
        (job,) = (await claim(world, held)).jobs
        now = world.clock.now()
        report = Report((Outcome(id, Fate.DEFERRED, NOT_NOW, remote="mx.x.example"),))
        settled = await world.store.write(settle, held, job, report, now, DELAYS, 0.5)
        assert not settled.doomed
        await world.store.write(lanes.release, held)
        assert await world.select("SELECT due_at, failures FROM lane") == [(now + 60_000, 0)]
        assert await world.store.read(lanes.next_due, now) == now + 60_000
        # Later mail on the same lane does not wait for it.
        await world.send("b@x.example")
        assert len(await world.store.read(due, now)) == 1

    run(main())


def test_a_destination_that_is_down_backs_off_as_a_lane(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send("a@x.example", "b@x.example")
        now = world.clock.now()
        for attempt, seconds in ((1, 60), (2, 300), (3, 300)):
            now = world.clock.now()
            held = await lease_only_lane(world)
            (job, *_) = (await claim(world, held)).jobs
            down = Outcome(job.recipients[0].id, Fate.DEFERRED, NOT_NOW, Dooms.DESTINATION)
            settled = await world.store.write(settle, held, job, Report((down,)), now, DELAYS, 0.5)
            assert settled.doomed
            await world.store.write(lanes.release, held)
            assert await world.select("SELECT failures, due_at FROM lane") == [(attempt, now + seconds * 1000)]
            # New mail waits with the rest.
            await world.send(f"new{attempt}@x.example")
            assert await world.store.read(due, now) == []
            world.clock.advance(seconds)

        held = await lease_only_lane(world)
        (job, *_) = (await claim(world, held)).jobs
        good = Report((Outcome(job.recipients[0].id, Fate.RELAYED, OK),))
        settled = await world.store.write(settle, held, job, good, world.clock.now(), DELAYS, 0.5)
        assert settled.lease == replace(held, failures=0)
        await world.store.write(lanes.release, held)
        assert (await world.select("SELECT failures FROM lane"))[0] == (0,)

    run(main())


def test_a_claim_walks_along_the_index_of_its_lane(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        plan = await world.select(
            "EXPLAIN QUERY PLAN SELECT id FROM queued_recipient WHERE lane = ? AND held = 0 AND due_at <= ?"
            " AND (due_at, id) > (?, ?) ORDER BY due_at, id LIMIT ?", 1, 2, 3, 4, 5,
        )  # fmt: skip
        (row,) = plan
        assert "queued_recipient_lane (lane=? AND held=? AND" in str(row[-1])

    run(main())


def test_a_crowd_for_a_dead_domain_does_not_stand_in_the_way(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        for _ in range(5):
            await world.send(*[f"u{n}@dead.example" for n in range(1000)], account=1)
        await world.send("a@live.example", account=2)
        lanes_due = await world.store.read(due, world.clock.now())
        assert sorted(one.destination for one in lanes_due) == ["domain:dead.example", "domain:live.example"]
        lane = next(one.id for one in lanes_due if one.destination == "domain:live.example")
        ((held, first),) = await world.store.write(lanes.start, [lane], world.clock.now(), world.clock.now() + 60_000)
        assert [len(job.recipients) for job in first.jobs] == [1]
        assert held.destination == "domain:live.example"

    run(main())


def test_recipients_of_one_message_go_together_however_few_messages_are_wanted(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        for n in range(40):
            await world.send(*[f"u{m}@x.example" for m in range(40 if n in (3, 30) else 1)], journey=n + 1)
        held = await lease_only_lane(world)
        found = await world.store.read(lanes.claim, held, START, world.clock.now(), 5)
        assert found is not None
        assert [len(job.recipients) for job in found.jobs] == [1, 1, 1, 40, 1]
        sizes = [len(job.recipients) for job in found.jobs]
        while found.more:
            found = await claim(world, held, found.after)
            sizes += [len(job.recipients) for job in found.jobs]
        assert sizes == [40 if n in (3, 30) else 1 for n in range(40)]

    run(main())


def test_a_lane_starts_with_a_few_messages_and_the_next_claims_bring_the_others_once(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        for n in range(40):
            await world.send(f"u{n}@x.example")
        now = world.clock.now()
        (lane,) = await world.store.read(due, now)
        ((held, found),) = await world.store.write(lanes.start, [lane.id], now, now + 60_000)
        sizes, addresses = [], []
        while True:
            sizes.append(len(found.jobs))
            addresses += [str(one.address) for job in found.jobs for one in job.recipients]
            if not found.more:
                break
            found = await claim(world, held, found.after)
        assert sizes == [lanes.FIRST_MESSAGES, lanes.CLAIM_MESSAGES, 40 - lanes.FIRST_MESSAGES - lanes.CLAIM_MESSAGES]
        assert addresses == [f"u{n}@x.example" for n in range(40)]

    run(main())


def test_one_senders_thousand_lanes_do_not_hide_anothers(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await world.send(*[f"u@d{n}.example" for n in range(200)], account=1)
        world.clock.advance(1)
        await world.send("b@z.example", account=2)
        lanes_due = await world.store.read(due, world.clock.now(), limit=50)
        assert {one.sender for one in lanes_due} == {"account:1", "account:2"}

    run(main())
