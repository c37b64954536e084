"""The runner among far sides that fail, push back, hang or share a site; and what time brings to those who wait."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from posthouse.queue import ages, lanes
from posthouse.queue.attempt import BeforeDot
from posthouse.queue.outcome import Dooms, Fate, Outcome, Report
from posthouse.queue.queue import Job, NewRecipient
from posthouse.queue.schedule import LOCAL, Limits
from posthouse.queue.work import SLOW_MS
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from posthouse.terms.envelope import DeliverBy, Wishes
from posthouse.terms.reply import Reply
from tests.queue.support import DAY, NOT_NOW, OK, Script, World
from tests.support import run, until

GONE = Reply(421, "4.4.1", "No connection")


@dataclass
class Provider:
    """A courier for domains that all roll up to one site, unless `site` says otherwise."""

    answer: Callable[[Job], tuple[Fate, Reply, Dooms]] = lambda job: (Fate.RELAYED, OK, Dooms.RECIPIENT)
    site: Callable[[str], str] = lambda domain: "mx.provider.example"
    seen: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    pause: asyncio.Event | None = None

    async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
        self.seen.append(job.domain)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.pause:
                await self.pause.wait()
            else:
                await asyncio.sleep(0)
            fate, reply, dooms = self.answer(job)
            outcomes = tuple(Outcome(one.id, fate, reply, dooms, "mx") for one in job.recipients)
            return Report(outcomes, site=self.site(job.domain))
        finally:
            self.at_once -= 1

    def let_through(self) -> None:
        """Those who wait go on; who comes then waits."""
        assert self.pause
        self.pause.set()
        self.pause = asyncio.Event()


def down(job: Job) -> tuple[Fate, Reply, Dooms]:
    return Fate.DEFERRED, GONE, Dooms.DESTINATION


def up(job: Job) -> tuple[Fate, Reply, Dooms]:
    return Fate.RELAYED, OK, Dooms.RECIPIENT


def test_a_site_that_is_down_backs_off_all_of_its_lanes_without_an_attempt_of_each(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Provider()
        runner = world.runner(courier)
        # It learns where these domains lead.
        for n in range(30):
            await world.send(f"u@d{n}.example")
        await world.settle(runner)
        assert len(courier.seen) == 30
        courier.seen.clear()
        courier.answer = down
        for n in range(30):
            await world.send(f"u@d{n}.example")
        await world.settle(runner)
        # Those that were started together at most; the rest waits with the site.
        tried = len(courier.seen)
        assert 1 <= tried <= 20
        ((failures,),) = await world.select("SELECT failures FROM site")
        assert failures == 1
        assert await world.select("SELECT count(*) FROM lane WHERE due_at <= ?", world.clock.now()) == [(0,)]
        # Some were taken for one connection too many; all others wait as lanes, and know why.
        waiting = await world.select("SELECT count(*) FROM lane WHERE failures = 1 AND last_reply IS NOT NULL")
        assert waiting >= [(20,)]
        # At its time one asks for all.
        courier.seen.clear()
        await world.live(runner, 70)
        assert len(courier.seen) <= 2
        courier.answer = up
        await world.live(runner, 400)
        assert await world.rows() == 0
        assert await world.rows("lane") == 0
        await world.live(runner, 4000)
        assert await world.rows("site") == 0

    run(main())


def test_a_restart_remembers_that_a_site_is_down(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Provider(down)
        for n in range(8):
            await world.send(f"u@d{n}.example")
        await world.settle(world.runner(courier))
        courier.seen.clear()
        again = world.runner(courier)
        await world.store.write(lanes.abandon_leases)
        await world.settle(again)
        assert courier.seen == []
        await world.send("u@d0.example", account=9)
        await world.settle(again)
        # Another sender's lane has no site yet; the next failure says it all.
        assert courier.seen == ["d0.example"]

    run(main())


def test_a_site_that_answers_again_wakes_those_who_wait_for_it(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Provider(down)
        runner = world.runner(courier)
        await world.send("u@patient.example")
        # It fails again and again, and waits for an hour.
        await world.live(runner, 1800)
        ((failures,),) = await world.select("SELECT failures FROM lane")
        assert isinstance(failures, int)
        assert failures >= 4
        courier.answer = up
        courier.seen.clear()
        # Another sender's mail gets through: it has no site yet, and tries.
        await world.send("u@other.example", account=3)
        await world.settle(runner)
        assert courier.seen == ["other.example", "patient.example"]
        assert await world.rows() == 0

    run(main())


def test_a_domain_that_cannot_be_routed_takes_no_other_of_its_site_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Provider()
        runner = world.runner(courier)
        await world.send("u@a.example", "u@b.example")
        await world.settle(runner)

        class Unrouted(Provider):
            async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
                report = await super().attempt(job, before_dot)
                return Report(report.outcomes, site=None) if job.domain == "a.example" else report

        ill = Unrouted(lambda job: down(job) if job.domain == "a.example" else up(job))
        runner._couriers = {"domain": ill, "local": ill}
        await world.send("u@a.example")
        await world.store.write(lambda tx: tx.query("UPDATE lane SET site = 'mx.provider.example'", ()))
        await world.send("u@b.example")
        await world.settle(runner)
        assert sorted(ill.seen) == ["a.example", "b.example"]
        assert await world.select("SELECT destination, failures FROM lane") == [("domain:a.example", 1)]

    run(main())


def test_a_site_of_many_domains_is_one_destination(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Provider()
        runner = world.runner(courier, limits=Limits(remote=50, site=3))
        for n in range(40):
            await world.send(f"u@d{n}.example")
        await world.settle(runner)
        courier.most_at_once = 0
        for n in range(40):
            await world.send(f"u@d{n}.example")
        await world.settle(runner)
        assert courier.most_at_once == 3
        assert len(courier.seen) == 80

    run(main())


def test_connections_grow_with_success_and_shrink_when_the_peer_pushes_back(tmp_path: Path) -> None:
    """Couriers wait until as many are at work as the site may have; then they go on, and the next wait."""

    async def main() -> None:
        world, courier = World(tmp_path), Provider(pause=asyncio.Event())
        for n in range(150):
            await world.send(f"u{n}@d.example", journey=n + 1)
        runner = world.runner(courier, limits=Limits(remote=100, site=8))

        def connections() -> int:
            return runner._sites.find("mx.provider.example").connections

        def workers() -> int:
            return sum(len(run.workers) for run in runner._runs.values())

        async def look(at_work: int) -> None:
            """Look at the queue until so many are at work; messages go where that takes success."""
            while courier.at_once < at_work:
                if courier.at_once == connections():
                    courier.let_through()
                await runner.turn()
                await asyncio.sleep(0.001)

        for most in (5, 6, 7, 8):
            await look(most)
            assert courier.most_at_once == most
        for _ in range(4):
            # No more than the limit, whatever it takes.
            behind = len(courier.seen) + 8
            courier.let_through()
            while len(courier.seen) < behind:
                await runner.turn()
            await look(8)
        assert courier.most_at_once == connections() == 8
        refused: list[int] = []

        def busy(job: Job) -> tuple[Fate, Reply, Dooms]:
            refused.append(job.message.id)
            return Fate.DEFERRED, Reply(451, "4.3.2", "Not so fast"), Dooms.MESSAGE

        courier.answer = busy
        courier.let_through()
        await until(lambda: len(refused) == 8)
        courier.answer = up
        await until(lambda: workers() == courier.at_once == 4)
        for _ in range(5):
            await runner.turn()
            assert (workers(), connections()) == (4, 4)
        assert courier.pause
        courier.pause.set()
        await world.settle(runner)
        # Who was refused waits for his own time.
        assert await world.rows() == 8

    run(main())


def test_one_connection_too_many_is_no_outage(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Provider()
        runner = world.runner(courier, limits=Limits(remote=50, site=20))
        for n in range(9):
            await world.send(f"u{n}@d{n}.example")
        await world.settle(runner)
        courier.answer = lambda job: down(job) if courier.at_once > 5 else up(job)
        for n in range(100):
            await world.send(f"u{n}@d{n % 9}.example", journey=n + 1)
        await world.settle(runner)
        # Nothing backed off as a whole; who was refused comes again for himself.
        assert await world.select("SELECT count(*) FROM site WHERE failures > 0") == [(0,)]
        assert await world.select("SELECT count(*) FROM lane WHERE failures > 0") == [(0,)]
        await world.live(runner, 3600)
        assert await world.rows() == 0

    run(main())


def test_too_fast_even_alone_is_given_time_between_messages(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        at: list[int] = []

        def slowly(job: Job) -> tuple[Fate, Reply, Dooms]:
            last, now = at[-1] if at else 0, world.clock.now()
            at.append(now)
            if now - last < 900:
                return Fate.DEFERRED, Reply(421, "4.7.0", "Slow down"), Dooms.MESSAGE
            return up(job)

        courier = Provider(slowly)
        runner = world.runner(courier)
        for n in range(20):
            await world.send(f"u{n}@a.example", journey=n + 1)
        await world.live(runner, 2 * 3600, step=0.1)
        assert await world.rows() == 0
        assert len(at) < 60

    run(main())


def test_a_hanging_destination_leaves_the_connections_to_others(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        hang, done = asyncio.Event(), []

        class Mixed:
            async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
                if job.domain.startswith("hang"):
                    await hang.wait()
                done.append(job.domain)
                return Report(tuple(Outcome(one.id, Fate.RELAYED, OK) for one in job.recipients))

        runner = world.runner(Mixed(), limits=Limits(remote=10, site=5))
        for n in range(12):
            await world.send(f"u@hang{n}.example", account=n)
        await runner.turn()
        assert sum(len(run.workers) for run in runner._runs.values()) == 8
        await world.send("u@good.example", account=99)
        world.clock.advance(SLOW_MS / 1000 + 1)
        # They hang by now: others get their places beside them.
        for _ in range(3):
            await runner.turn()
            await asyncio.sleep(0.01)
        while "good.example" not in done:
            world.clock.advance(SLOW_MS / 1000 + 1)
            await runner.turn()
            await asyncio.sleep(0.005)
        hang.set()
        await world.settle(runner)
        assert len(done) == 13

    run(main())


def test_one_senders_long_lane_gives_way_to_another_sender_at_the_same_site(tmp_path: Path) -> None:
    async def main() -> None:
        world, courier = World(tmp_path), Provider(pause=asyncio.Event())
        assert courier.pause
        order: list[int | None] = []

        def remember(job: Job) -> tuple[Fate, Reply, Dooms]:
            order.append(job.mail.account)
            return up(job)

        courier.answer = remember
        for n in range(40):
            await world.send(f"u{n}@a.example", account=1, journey=n + 1)
        runner = world.runner(courier, limits=Limits(remote=50, site=2))
        running = asyncio.create_task(runner.run())
        await until(lambda: courier.at_once == 2)
        await world.send("late@a.example", account=2, journey=99)
        world.clock.advance(6)
        await until(lambda: any(run.yields for run in runner._runs.values()))
        # One message more of each connection; then the late one is at work, whatever waits of the long lane.
        courier.let_through()
        await until(lambda: courier.at_once == len(order) == 2)
        courier.let_through()
        await until(lambda: len(order) == 4)
        assert (order[:2], set(order[2:])) == ([1, 1], {1, 2})
        courier.pause.set()
        await until(lambda: len(order) == 41)
        await runner.stop()
        await running

    run(main())


def test_two_runners_share_a_store_and_a_site_belongs_to_one(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        mine, theirs = Provider(pause=asyncio.Event()), Provider()
        first = world.runner(mine, limits=Limits(remote=50, site=2))
        other = world.runner(theirs, limits=Limits(remote=50, site=2))
        other._holder = first._holder + 1
        for n in range(6):
            await world.send(f"u@d{n}.example")
        await world.store.write(lambda tx: tx.query("UPDATE lane SET site = 'mx.provider.example'", ()))
        await first.turn()
        while mine.at_once < 2:
            await asyncio.sleep(0.001)
        await world.settle(other)
        assert theirs.seen == []
        # A second process may take it when the first is gone for so long.
        world.clock.advance(61)
        await world.settle(other)
        assert len(theirs.seen) == 6
        assert mine.pause
        mine.pause.set()
        await first.idle()
        assert await world.rows() == 0

    run(main())


# --- time -------------------------------------------------------------------------------------------------------------


async def reports(world: World) -> list[tuple[str, str]]:
    """What senders were told: action and recipient, of the bounces that wait for alice."""
    rows = await world.select(
        "SELECT b.octets FROM queued_recipient r JOIN blob b ON b.id = r.id >> 24"
        " WHERE r.sender IS NULL AND r.address = 'alice@home.example' ORDER BY r.id"
    )
    told = []
    for (octets,) in rows:
        assert isinstance(octets, bytes)
        fields = dict(
            line.split(": ", 1) for line in octets.decode().splitlines() if line.startswith(("Action:", "Final-Rec"))
        )
        told.append((fields["Action"], fields["Final-Recipient"].partition(";")[2].strip()))
    return told


async def at_home(world: World) -> Script:
    """Make alice's domain ours, and its mailbox slow, so that what is written to her can be looked at."""
    await world.store.write(lambda tx: tx.run("domain_insert", name="home.example", catch_all=None, created_at=0))
    return Script(default=NOT_NOW)


def test_a_sender_hears_once_that_mail_waits_for_four_hours(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        runner = world.runner(Script(default=NOT_NOW), await at_home(world))
        await world.send("a@x.example")
        await world.send(NewRecipient(parse("never@x.example"), notify=frozenset({"NEVER"})))
        await world.send(NewRecipient(parse("failure@x.example"), notify=frozenset({"FAILURE"})))
        await world.send(NewRecipient(parse("delay@x.example"), notify=frozenset({"DELAY"})))
        await world.send("null@x.example", sender=None)
        await world.live(runner, 3.9 * 3600)
        assert await reports(world) == []
        await world.live(runner, 3600)
        assert await reports(world) == [("delayed", "a@x.example"), ("delayed", "delay@x.example")]
        told = await world.select("SELECT address FROM queued_recipient WHERE delayed_at IS NOT NULL ORDER BY id")
        assert told == [("a@x.example",), ("delay@x.example",)]
        await world.live(runner, 2 * DAY)
        assert len(await reports(world)) == 2

    run(main())


def test_a_short_notice_is_kept_for_what_comes_behind_a_look(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        runner = world.runner(Script(default=NOT_NOW), await at_home(world), notice=90)
        await world.settle(runner)
        await world.send("a@x.example")
        await world.live(runner, 80)
        assert await reports(world) == []
        await world.live(runner, 100)
        assert await reports(world) == [("delayed", "a@x.example")]

    run(main())


def test_what_waited_while_nobody_ran_is_tried_before_anybody_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        mailbox = await at_home(world)
        await world.send("good@x.example", "bad@y.example")
        world.clock.advance(6 * 3600)
        runner = world.runner(Script({"y.example": (NOT_NOW,)}), mailbox)
        await world.settle(runner)
        await world.live(runner, 300)
        assert await reports(world) == [("delayed", "bad@y.example")]

    run(main())


def test_mail_with_a_time_goes_back_when_that_has_passed_and_is_not_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        courier = Script(default=NOT_NOW)
        runner = world.runner(courier, await at_home(world))
        now = world.clock.now()
        await send_by(world, "a@x.example", DeliverBy(now + 600_000, returned=True))
        await world.live(runner, 590)
        assert await reports(world) == []
        tried = len(courier.seen)
        await world.live(runner, 100)
        assert await reports(world) == [("failed", "a@x.example")]
        assert len(courier.seen) <= tried + 1
        # One that comes when its time has passed is not tried at all.
        courier.seen.clear()
        await send_by(world, "b@y.example", DeliverBy(world.clock.now() - 1, returned=True))
        await world.settle(runner)
        assert courier.seen == []
        ((octets,),) = await world.select("SELECT octets FROM blob ORDER BY id DESC LIMIT 1")
        assert isinstance(octets, bytes)
        assert b"Status: 5.4.7" in octets

    run(main())


def test_mail_with_a_time_that_wants_a_word_travels_on(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        courier = Script(default=NOT_NOW)
        runner = world.runner(courier, await at_home(world))
        await send_by(world, "a@x.example", DeliverBy(world.clock.now() + 600_000, returned=False))
        await world.live(runner, 700)
        assert await reports(world) == [("delayed", "a@x.example")]
        courier.default = OK
        await world.live(runner, 7200)
        assert await world.select("SELECT address FROM queued_recipient WHERE address LIKE '%x.example'") == []
        # RFC 2852 §4.1.4.2: to a server that looks to no time.
        assert await reports(world) == [("delayed", "a@x.example"), ("relayed", "a@x.example")]

    run(main())


async def send_by(world: World, recipient: str, by: DeliverBy) -> None:
    """Queue mail that is to arrive by a time, as reception does."""
    await world.send(
        recipient, wishes=Wishes(deliver_by=by), expire=(by.at - world.clock.now()) / 1000 if by.returned else None
    )


def test_urgent_mail_has_a_lane_of_its_own_and_goes_first(tmp_path: Path) -> None:
    async def main() -> None:
        world, order = World(tmp_path), []

        class Remember:
            async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
                order.append(job.mail.wishes.priority)
                return Report(tuple(Outcome(one.id, Fate.RELAYED, OK) for one in job.recipients))

        for priority in (0, -4, 0, 6, 2):
            await world.send("u@x.example", wishes=Wishes(priority=priority), journey=priority + 10)
        assert await world.rows("lane") == 4
        await world.settle(world.runner(Remember(), limits=Limits(remote=1)))
        assert order == [6, 2, 0, 0, -4]

    run(main())


def test_expired_mail_of_a_long_lane_goes_in_rounds(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path, expire=3600)
        runner = world.runner(Provider(down))
        for n in range(250):
            await world.send(f"u{n}@x.example", sender=None, journey=n + 1)
        await world.send(NewRecipient(parse("home@home.example"), LOCAL), sender=None)
        await world.live(runner, 3 * 3600)
        assert [await world.rows(table) for table in ("queued_recipient", "lane")] == [0, 0]

    run(main())


def test_what_is_held_neither_expires_nor_is_walked_along_at_each_look(tmp_path: Path) -> None:
    async def main() -> None:
        world, looks = World(tmp_path, expire=600), []
        await world.send(*[f"u{n}@x.example" for n in range(150)])

        def hold(tx: Tx) -> None:
            tx.query("UPDATE queued_recipient SET held = 1", ())

        await world.store.write(hold)
        runner = world.runner(Script())
        real = ages.walk

        def counted(*args: object) -> object:
            looks.append(args)
            return real(*args)  # type: ignore[arg-type]

        ages.walk = counted  # type: ignore[assignment]
        try:
            await world.live(runner, 1200)
        finally:
            ages.walk = real
        assert await world.rows() == 150
        assert 1 <= len(looks) <= 15

    run(main())
