"""What senders hear of mail that waits, and mail that has waited to its end: told once, of what is so."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse.queue import ages, lanes, queue, settling
from posthouse.queue.deadlines import Deadlines
from posthouse.queue.queue import NewRecipient
from posthouse.store import blobs
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from posthouse.terms.envelope import DeliverBy, Wishes
from tests.queue.support import DAY, MESSAGE, World
from tests.support import run

NOTICE = 4 * 3600


async def waiting(world: World, count: int, recipients: int = 1) -> None:
    """So many messages wait for long, and are not tried for hours."""
    for n in range(count):
        await world.send(*[f"u{n}.{one}@x.example" for one in range(recipients)], journey=n + 1)
    world.clock.advance(NOTICE + 1)
    await in_backoff(world)


async def in_backoff(world: World) -> None:
    until = world.clock.now() + 6 * 3_600_000
    await world.store.write(lambda tx: tx.query("UPDATE lane SET due_at = ?, failures = 9", (until,)))


def deadlines(world: World) -> Deadlines:
    return Deadlines(world.store, world.clerk(), world.clock, NOTICE, 12 * 3600, 60)


async def told(world: World) -> list[bytes]:
    """The reports to alice, oldest first."""
    rows = await world.select(
        "SELECT b.octets FROM queued_recipient r JOIN blob b ON b.id = r.id >> 24 WHERE r.sender IS NULL ORDER BY r.id"
    )
    return [octets for (octets,) in rows if isinstance(octets, bytes)]


def before(world: World, wanted: Callable[..., Any], first: Callable[[], Awaitable[None]]) -> None:
    """Something happens before this is written for the second time."""
    real, calls = world.store.write, 0

    async def write(function: Callable[..., Any], *args: Any) -> Any:
        nonlocal calls
        calls += function is wanted
        if function is wanted and calls == 2:
            await first()
        return await real(function, *args)

    world.store.write = write  # type: ignore[method-assign, assignment]


def test_delays_are_told_page_by_page_without_octets_in_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(ages, "_MOST_DELAYED", 3)
        world = World(tmp_path)
        await waiting(world, 7)
        together: list[int] = []
        write = world.store.write

        async def telling(function: Callable[..., Any], *args: Any) -> Any:
            if function is settling.tell_of_delay:
                together.append(0)
            return await write(function, *args)

        world.store.write = telling  # type: ignore[method-assign, assignment]
        real = blobs.find_many

        def counted(tx: Tx, ids: list[int]) -> Any:
            together.append(len(ids))
            return real(tx, ids)

        monkeypatch.setattr(blobs, "find_many", counted)
        now = world.clock.now()
        found = await world.store.read(ages.walk, now, NOTICE * 1000, 12 * 3_600_000)
        page = await world.store.read(ages.delayed, found, now, NOTICE * 1000, 0)
        assert (len(page.messages), page.left, page.after, together) == (3, False, page.messages[-1], [])
        await deadlines(world).look(now)
        assert together == [1, 0] * 7
        assert len(await told(world)) == 7

    run(main())


def test_nobody_hears_of_a_delay_of_what_has_left(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await waiting(world, 4)

        async def away() -> None:
            gone = "DELETE FROM queued_recipient WHERE sender IS NOT NULL AND delayed_at IS NULL"
            await world.store.write(lambda tx: tx.query(gone, ()))

        before(world, settling.tell_of_delay, away)
        await deadlines(world).look(world.clock.now())
        assert len(await told(world)) == 1

    run(main())


def test_of_several_recipients_those_are_told_of_who_still_wait(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await waiting(world, 2, recipients=3)

        async def away() -> None:
            await world.store.write(
                lambda tx: tx.query("DELETE FROM queued_recipient WHERE address = 'u1.0@x.example'", ())
            )

        before(world, settling.tell_of_delay, away)
        await deadlines(world).look(world.clock.now())
        _, second = await told(world)
        assert b"u1.0@x.example" not in second
        assert second.count(b"Action: delayed") == 2

    run(main())


def test_a_stop_ends_the_telling(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await waiting(world, 6)
        stopped = deadlines(world)

        async def stop() -> None:
            stopped.stop()

        before(world, settling.tell_of_delay, stop)
        await stopped.look(world.clock.now())
        assert len(await told(world)) == 2
        # The others are told by whoever comes.
        await deadlines(world).look(world.clock.now())
        assert len(await told(world)) == 6

    run(main())


def test_a_stop_ends_the_telling_of_what_is_late_and_nobody_hears_twice(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        by = DeliverBy(world.clock.now() + 60_000, returned=False)
        for n in range(4):
            await world.send(f"u{n}@x.example", wishes=Wishes(deliver_by=by), journey=n + 1)
        world.clock.advance(61)
        await in_backoff(world)
        stopped = deadlines(world)

        async def stop() -> None:
            stopped.stop()

        before(world, settling.tell_of_delay, stop)
        await stopped.look(world.clock.now())
        assert len(await told(world)) == 2
        await deadlines(world).look(world.clock.now())
        assert len(await told(world)) == 4
        assert await world.store.read(lanes.next_deadline, 0) is None

    run(main())


def test_two_who_look_at_once_tell_once(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        await waiting(world, 10)
        await asyncio.gather(*[deadlines(world).look(world.clock.now()) for _ in range(2)])
        assert len(await told(world)) == 10

    run(main())


def test_a_message_told_to_be_late_is_not_told_again_when_it_is_expanded(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        by = DeliverBy(world.clock.now() + 60_000, returned=False)
        (alias,) = await world.send("alias@home.example", wishes=Wishes(deliver_by=by))
        (early,) = await world.send("early@home.example", wishes=Wishes(deliver_by=by), journey=2)

        def expand(tx: Tx, recipient: int) -> None:
            message = queue.find_message(tx, recipient)
            assert message is not None
            more = [NewRecipient(parse(f"m{n}@far.example")) for n in range(3)]
            queue.add(tx, message, more, world.clock.now())

        # Expanded before its time, it is told of with the others, once.
        await world.store.write(expand, early)
        world.clock.advance(61)
        await in_backoff(world)
        await deadlines(world).look(world.clock.now())
        assert len(await told(world)) == 2
        await world.store.write(expand, alias)
        await in_backoff(world)
        world.clock.advance(61)
        await deadlines(world).look(world.clock.now())
        assert len(await told(world)) == 2
        assert await world.select("SELECT DISTINCT by_told FROM queued_recipient WHERE sender IS NOT NULL") == [(1,)]

    run(main())


def test_large_mail_whose_time_is_up_goes_back_in_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        # Each message fills a claim, as one of 256 KB does.
        monkeypatch.setattr(lanes, "CLAIM_OCTETS", len(MESSAGE))
        world = World(tmp_path)
        for n in range(30):
            await world.send(f"u{n}@x.example", sender=None, expire=DAY, journey=n + 1)
        world.clock.advance(DAY + 1)
        await in_backoff(world)
        await deadlines(world).look(world.clock.now())
        assert await world.rows() == 0

    run(main())


def test_a_lease_is_kept_for_as_long_as_it_takes_to_give_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(lanes, "CLAIM_OCTETS", len(MESSAGE))
        world = World(tmp_path)
        for n in range(8):
            await world.send(f"u{n}@x.example", sender=None, expire=DAY, journey=n + 1)
        world.clock.advance(DAY + 1)
        await in_backoff(world)
        left: list[int] = []
        real = world.store.write

        async def slow(function: Callable[..., Any], *args: Any) -> Any:
            answer = await real(function, *args)
            if function is settling.write_down:
                world.clock.advance(25)
                ((until,),) = await world.select("SELECT lease_until FROM lane")
                left.append(int(str(until)) - world.clock.now())
            return answer

        world.store.write = slow  # type: ignore[method-assign, assignment]
        await deadlines(world).look(world.clock.now())
        assert len(left) == 8
        assert min(left) > 0

    run(main())
