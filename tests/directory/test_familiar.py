"""Familiar networks: what outlives the process, and what is written for it."""

import asyncio
from pathlib import Path

import pytest

from posthouse.clock import SetClock
from posthouse.directory import familiar
from posthouse.directory.familiar import KEPT, Familiar
from posthouse.store.database import Store, StoreUnavailable
from tests.store.support import opened
from tests.support import run

HOME = ("alice@example.org", "192.0.2.1")
DAY_SECONDS = 86_400.0


async def written(known: Familiar, store: Store, count: int) -> list[tuple[str, str, int]]:
    """Let it write until the store has so many rows."""
    task = asyncio.create_task(known.follow(store))
    try:
        while True:
            # Asked before it is read: what was read while something was unwritten is older than that.
            unwritten = bool(known._unwritten)
            rows = await store.read(familiar._recent, 0)
            if len(rows) >= count and not unwritten:
                break
            await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return rows


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(familiar, "_GATHER_SECONDS", 0.0)


def test_a_login_is_known_from_where_it_succeeded(tmp_path: Path) -> None:
    known = Familiar(SetClock())
    assert not known.knows(*HOME)
    known.met(*HOME)
    assert known.knows(*HOME)
    assert not known.knows("alice@example.org", "192.0.2.2")
    assert not known.knows("bob@example.org", "192.0.2.1")


def test_who_was_away_for_long_is_a_stranger_also_to_a_process_that_goes_on() -> None:
    clock = SetClock()
    known = Familiar(clock)
    known.met(*HOME)
    clock.advance(KEPT * DAY_SECONDS)
    assert known.knows(*HOME)
    clock.advance(DAY_SECONDS)
    assert not known.knows(*HOME)


def test_it_outlives_the_process_for_a_while(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SetClock()
        async with opened(tmp_path) as store:
            before = Familiar(clock)
            before.met(*HOME)
            await written(before, store, 1)
            for days, kept in ((KEPT, True), (1, False)):
                clock.advance(days * DAY_SECONDS)
                after = Familiar(clock)
                await after.recall(store)
                assert after.knows(*HOME) is kept

    run(main())


def test_it_is_written_once_a_day(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SetClock()
        async with opened(tmp_path) as store:
            known = Familiar(clock)
            known.met(*HOME)
            (first,) = await written(known, store, 1)
            known.met(*HOME)
            assert not known._unwritten
            clock.advance(DAY_SECONDS)
            known.met(*HOME)
            (second,) = await written(known, store, 1)
            assert second == (*HOME, first[2] + 1)
            # What is too old goes when something else is written.
            clock.advance((KEPT + 1) * DAY_SECONDS)
            known.met("bob@example.org", "192.0.2.1")
            await written(known, store, 1)
            assert [row[0] for row in await store.read(familiar._recent, 0)] == ["bob@example.org"]

    run(main())


def test_what_could_not_be_written_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            known = Familiar(SetClock())
            known.met(*HOME)

            async def fails(*_: object) -> None:
                raise StoreUnavailable("the disk is full")

            with monkeypatch.context() as patch:
                patch.setattr(store, "write", fails)
                with pytest.raises(StoreUnavailable):
                    await known.follow(store)
            assert len(await written(known, store, 1)) == 1

    run(main())
