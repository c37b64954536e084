"""The write-ahead log: used again, and bounded whatever readers do."""

import asyncio
import threading
from pathlib import Path

import pytest

from posthouse.store import sqlite_log
from posthouse.store.database import Tx
from tests.store.support import count, opened, put
from tests.support import run

KB = 1024


@pytest.fixture(autouse=True)
def small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_log, "LOG_OCTETS", 200 * KB)
    monkeypatch.setattr(sqlite_log, "MOST_OCTETS", 600 * KB)
    monkeypatch.setattr(sqlite_log, "PATIENCE_OCTETS", 100 * KB)
    monkeypatch.setattr(sqlite_log, "CARRY_AGAIN_OCTETS", 50 * KB)
    monkeypatch.setattr(sqlite_log, "HELD_MS", 10)


def log_size(directory: Path) -> int:
    return (directory / "posthouse.db-wal").stat().st_size


def test_the_log_is_used_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            for _ in range(200):
                await store.write(put, bytes(10 * KB))
            assert log_size(tmp_path) < 300 * KB
            assert await store.read(count) == 200

    run(main())


def test_readers_that_follow_each_other_do_not_make_it_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each of them ends, soon or late: the log waits for those under way.
    monkeypatch.setattr(sqlite_log, "HELD_MS", 30_000)

    async def main() -> None:
        async with opened(tmp_path) as store:
            stop = False

            async def always_one() -> None:
                while not stop:
                    await store.read(count)

            reading = [asyncio.ensure_future(always_one()) for _ in range(8)]
            for _ in range(200):
                await store.write(put, bytes(10 * KB))
            stop = True
            await asyncio.gather(*reading)
            assert log_size(tmp_path) < 800 * KB

    run(main())


def test_a_long_read_makes_it_grow_only_while_it_lasts(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            looked, go = threading.Event(), threading.Event()

            def endless(tx: Tx) -> tuple[int, int]:
                first = count(tx)
                looked.set()
                go.wait()
                return first, count(tx)

            reading = asyncio.ensure_future(store.read(endless))
            await asyncio.to_thread(looked.wait)
            for _ in range(150):
                await store.write(put, bytes(10 * KB))
            assert log_size(tmp_path) > 1000 * KB
            assert await store.read(count) == 150
            go.set()
            assert await reading == (0, 0)
            for _ in range(40):
                await store.write(put, bytes(10 * KB))
            assert log_size(tmp_path) < 800 * KB

    run(main())
