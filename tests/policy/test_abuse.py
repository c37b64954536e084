import asyncio
from pathlib import Path

import pytest

from posthouse import observe
from posthouse.clock import SetClock
from posthouse.policy import abuse, blocks
from posthouse.policy.abuse import Abuse, Offence, Settings
from posthouse.store.sqlite import SqliteStore
from tests.directory.support import with_store
from tests.support import until

STRANGER = "192.0.2.9"


def harvest(judge: Abuse, peer: str, count: int) -> None:
    for _ in range(count):
        judge.mark(peer, Offence.RECIPIENT)


def test_marks_add_up_and_fade(tmp_path: Path) -> None:
    async def test(store: SqliteStore, clock: SetClock) -> None:
        judge = Abuse(store, clock, Settings())
        harvest(judge, STRANGER, 49)
        assert judge.refusal(STRANGER) is None
        clock.advance(abuse.FADES / 2)
        harvest(judge, STRANGER, 25)
        assert judge.refusal(STRANGER) is None
        harvest(judge, STRANGER, 1)
        refusal = judge.refusal(STRANGER)
        assert refusal is not None
        assert (refusal.code, refusal.enhanced) == (421, "4.7.0")
        assert judge.refusal("192.0.2.10") is None

    with_store(tmp_path, test)


def test_each_offence_leads_to_a_block(tmp_path: Path) -> None:
    async def test(store: SqliteStore, clock: SetClock) -> None:
        needed = {}
        for number, offence in enumerate(Offence):
            judge, peer = Abuse(store, clock, Settings()), f"192.0.2.{number}"
            needed[offence.name] = 0
            while judge.refusal(peer) is None:
                judge.mark(peer, offence)
                needed[offence.name] += 1
        assert needed == {
            "LOGIN": 5, "RELAY": 10, "RECIPIENT": 50, "ERRORS": 4, "EARLY": 4, "WEB": 4, "INJECTION": 2,
        }  # fmt: skip

    with_store(tmp_path, test)


def test_a_block_ends_and_the_next_lasts_twice_as_long_up_to_the_longest(tmp_path: Path) -> None:
    async def test(store: SqliteStore, clock: SetClock) -> None:
        judge = Abuse(store, clock, Settings(first=60, longest=150))
        lasted = []
        for _ in range(3):
            harvest(judge, "2001:db8::1", 50)
            seconds = 0
            while judge.refusal("2001:db8::ffff") is not None:
                # What he does meanwhile, on connections that he has, makes it no longer.
                harvest(judge, "2001:db8::1", 50)
                clock.advance(10)
                seconds += 10
            lasted.append(seconds)
        assert lasted == [60, 120, 150]

    with_store(tmp_path, test)


def test_who_is_never_blocked(tmp_path: Path) -> None:
    async def test(store: SqliteStore, clock: SetClock) -> None:
        judge = Abuse(store, clock, Settings(never=("192.0.2.0/24",)))
        for peer in ("127.0.0.1", "127.8.8.8", "::1", "192.0.2.9", "*"):
            harvest(judge, peer, 500)
            assert judge.refusal(peer) is None
            assert judge.is_near(peer)
        await store.write(blocks.add, "0.0.0.0/0", 0, None, "everybody")
        following = asyncio.create_task(judge.follow())
        while judge.refusal("203.0.113.1") is None:
            await asyncio.sleep(0.01)
        assert judge.refusal("127.0.0.1") is None
        assert judge.refusal("192.0.2.1") is None
        following.cancel()
        off = Abuse(store, clock, Settings(on=False))
        harvest(off, STRANGER, 500)
        assert off.refusal(STRANGER) is None

    with_store(tmp_path, test)


def test_a_site_that_comes_from_another_network_each_time_is_blocked_as_a_whole(tmp_path: Path) -> None:
    async def test(store: SqliteStore, clock: SetClock) -> None:
        judge = Abuse(store, clock, Settings(never=("2001:db8:0:ffff::/64",)))
        for number in range(499):
            judge.mark(f"2001:db8:0:{number:x}::1", Offence.RECIPIENT)
        assert judge.refusal("2001:db8:0:aaaa::1") is None
        judge.mark("2001:db8:0:bbbb::1", Offence.RECIPIENT)
        assert judge.refusal("2001:db8:0:aaaa::1") is not None
        assert judge.refusal("2001:db8:0:ffff::1") is None
        assert judge.refusal("2001:db8:1::1") is None
        # Each of them has what one network has besides; and neighbours of IPv4 have nothing to do with each other.
        harvest(judge, "2001:db8:1::1", 50)
        assert judge.refusal("2001:db8:1::2") is not None
        assert judge.refusal("2001:db8:1:1::1") is None
        for number in range(250):
            harvest(judge, f"192.0.2.{number}", 40)
        assert judge.refusal("192.0.2.251") is None

    with_store(tmp_path, test)


def test_blocks_that_cannot_be_written_are_not_gathered_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MOST", 3)

    async def test(store: SqliteStore, clock: SetClock) -> None:
        judge = Abuse(store, clock, Settings())
        for number in range(10):
            harvest(judge, f"192.0.2.{number}", 50)
        assert [block.network for block in judge._unwritten] == ["192.0.2.7/32", "192.0.2.8/32", "192.0.2.9/32"]

    with_store(tmp_path, test)


def test_a_good_name_gives_patience_and_is_lost(tmp_path: Path) -> None:
    async def test(store: SqliteStore, clock: SetClock) -> None:
        judge = Abuse(store, clock, Settings())
        assert not judge.is_known("2001:db8::1")
        judge.welcome("2001:db8::1")
        assert judge.is_known("2001:db8::2")
        harvest(judge, "2001:db8::2", 149)
        assert judge.refusal("2001:db8::1") is None
        # A message that is taken makes up for an address that was wrong.
        judge.welcome("2001:db8::1")
        harvest(judge, "2001:db8::2", 1)
        assert judge.refusal("2001:db8::1") is None
        harvest(judge, "2001:db8::2", 1)
        assert judge.refusal("2001:db8::1") is not None
        clock.advance(abuse.KNOWN + 1)
        assert not judge.is_known("2001:db8::1")

    with_store(tmp_path, test)


def test_a_block_is_written_heard_of_by_others_and_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abuse, "_GATHER_SECONDS", 0.01)
    steps: list[observe.Step] = []
    forget = observe.subscribe(steps.append)

    async def test(store: SqliteStore, clock: SetClock) -> None:
        here, there = Abuse(store, clock, Settings()), Abuse(store, clock, Settings())
        tasks = [asyncio.create_task(work()) for work in (here.follow, here.write, there.follow, there.write)]
        harvest(here, STRANGER, 50)
        await until(lambda: there.refusal(STRANGER) is not None)
        assert here.refusal(STRANGER) is not None
        await store.write(blocks.add, "198.51.100.0/24", clock.now(), None, "known for it")
        await until(lambda: here.refusal("198.51.100.77") is not None)
        by_hand = here.refusal("198.51.100.77")
        assert by_hand is not None
        assert (by_hand.code, by_hand.enhanced) == (554, "5.7.1")
        await store.write(blocks.remove, f"{STRANGER}/32")
        await until(lambda: here.refusal(STRANGER) is None and there.refusal(STRANGER) is None)
        # Forgotten, too: the next one is a first one.
        harvest(there, STRANGER, 50)
        await until(lambda: here.refusal(STRANGER) is not None)
        for task in tasks:
            task.cancel()
        (kept,) = [one for one in await store.read(blocks.listed) if one.shown == STRANGER]
        assert (kept.times, kept.reason, (kept.until or 0) - kept.since) == (1, "addresses that do not exist", 600_000)

    with_store(tmp_path, test)
    forget()
    assert [(step.facts["network"], step.facts["times"]) for step in steps if step.kind == "abuse.blocked"] == [
        (STRANGER, 1),
        (STRANGER, 1),
    ]


def test_a_block_that_could_not_be_written_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abuse, "_GATHER_SECONDS", 0.0)

    class Broken(Exception):
        pass

    async def broken(*_: object) -> None:
        raise Broken

    async def test(store: SqliteStore, clock: SetClock) -> None:
        judge = Abuse(store, clock, Settings())
        harvest(judge, STRANGER, 50)
        with monkeypatch.context() as patch:
            patch.setattr(store, "write", broken)
            with pytest.raises(Broken):
                await judge.write()
        # What has been read since knows nothing of it; it holds all the same.
        before = judge._table
        following = asyncio.create_task(judge.follow())
        await until(lambda: judge._table is not before)
        assert judge.refusal(STRANGER) is not None
        writing = asyncio.create_task(judge.write())
        async with asyncio.timeout(30):
            while not await store.read(blocks.listed):
                await asyncio.sleep(0.01)
        writing.cancel()
        following.cancel()

    with_store(tmp_path, test)
