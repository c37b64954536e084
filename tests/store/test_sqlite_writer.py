"""The writer when the disk fails: nobody is told success wrongly, and nobody fails for another's trouble."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest

from posthouse.store import sqlite_tx, sqlite_writer
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.store.sqlite_writer import LOST_TRANSACTIONS
from tests.store.disk import Disk, disk
from tests.store.support import count, open_store, opened, put
from tests.support import run


@pytest.fixture(autouse=True)
def patient_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group is one, however long its functions take."""
    monkeypatch.setattr(sqlite_writer, "GROUP_SECONDS", 3600.0)


@asynccontextmanager
async def one_group(store: SqliteStore) -> AsyncIterator[None]:
    """What is handed to the writer inside becomes one group, behind a function that waits for the end of the block."""
    started, go = threading.Event(), threading.Event()

    def wait(tx: Tx) -> None:
        started.set()
        go.wait()

    waiting = asyncio.ensure_future(store.write(wait))
    await asyncio.to_thread(started.wait)
    try:
        yield
        await asyncio.sleep(0)
    finally:
        go.set()
        await asyncio.gather(waiting, return_exceptions=True)


def kept(tx: Tx) -> set[bytes]:
    return {row[0] for row in tx.query("SELECT octets FROM blob", ())}


async def offer(store: SqliteStore, octets: Sequence[bytes], how: Callable[[Tx, bytes], int] = put) -> set[bytes]:
    """Write all of them in one group; those whose caller was told that they stand."""
    async with one_group(store):
        answers = [asyncio.ensure_future(store.write(how, one)) for one in octets]
        await asyncio.sleep(0)
    told: set[bytes] = set()
    for one, answer in zip(octets, await asyncio.gather(*answers, return_exceptions=True), strict=True):
        if isinstance(answer, int):
            told.add(one)
        else:
            assert isinstance(answer, StoreUnavailable), answer
    return told


def names(number: int, size: int = 100) -> list[bytes]:
    return [b"%06d" % one + bytes(size) for one in range(number)]


def test_a_commit_that_finds_the_disk_full_tells_everyone(tmp_path: Path) -> None:
    def full(what: str, file: str, octets: int) -> None:
        if (what, file) == ("write", ".db-wal"):
            raise apsw.FullError

    async def main(broken: Disk) -> None:
        async with opened(tmp_path, vfs="full") as store:
            first = await store.write(put, b"before")
            works, broken.fail = broken.fail, full
            assert await offer(store, names(10)) == set()
            broken.fail = works
            assert await store.read(kept) == {b"before"}
            assert await offer(store, names(10)) == set(names(10))
            assert first == 1
        async with opened(tmp_path) as store:
            assert await store.read(kept) == {b"before", *names(10)}

    with disk("full") as broken:
        run(main(broken))


def test_a_sync_that_fails_tells_everyone(tmp_path: Path) -> None:
    def no_sync(what: str, file: str, octets: int) -> None:
        if what == "sync":
            raise apsw.IOError

    async def main(broken: Disk) -> None:
        async with opened(tmp_path, vfs="nosync") as store:
            works, broken.fail = broken.fail, no_sync
            assert await offer(store, names(5)) == set()
            broken.fail = works
            assert await store.read(count) == 0
            assert await offer(store, names(5)) == set(names(5))

    with disk("nosync") as broken:
        run(main(broken))


def test_who_fills_the_database_in_the_middle_of_a_group_fails_alone(tmp_path: Path) -> None:
    def bound(tx: Tx) -> None:
        pages = tx.query("PRAGMA page_count", ())[0][0]
        tx.query(f"PRAGMA max_page_count = {pages + 40}", ())

    async def main() -> None:
        async with opened(tmp_path) as store:
            await store.write(bound)
            small, large = names(9), b"large" + bytes(1_000_000)
            told = await offer(store, [*small[:5], large, *small[5:]])
            assert told == set(small) == await store.read(kept)

    run(main())


def test_an_error_in_the_middle_of_a_group_costs_nobody_else(tmp_path: Path) -> None:
    failures = 1
    ran: list[bytes] = []

    def noted(tx: Tx, octets: bytes) -> int:
        ran.append(octets)
        return put(tx, octets)

    def spill(what: str, file: str, octets: int) -> None:
        nonlocal failures
        if (what, file) == ("write", ".db-wal") and failures:
            failures -= 1
            raise apsw.IOError

    async def main(broken: Disk) -> None:
        async with opened(tmp_path, vfs="ioerr") as store:
            await store.write(lambda tx: tx.query("PRAGMA cache_size = 20", ()))
            works, broken.fail = broken.fail, spill
            many = [*names(5), b"large" + bytes(400_000), *names(10)[5:]]
            told = await offer(store, many, noted)
            broken.fail = works
            assert len(told) == len(many) - 1
            assert await store.read(kept) == told
            # The error rolled back the whole transaction: what had run before it ran again.
            assert ran[: len(names(5))] == ran[len(ran) - len(told) :][: len(names(5))] == names(5)

    with disk("ioerr") as broken:
        run(main(broken))


def test_running_again_has_an_end(tmp_path: Path) -> None:
    ran = 0

    def lose(tx: Tx, octets: bytes) -> int:
        nonlocal ran
        ran += 1
        tx.query("ROLLBACK", ())
        raise StoreUnavailable("lost")

    async def main() -> None:
        async with opened(tmp_path) as store:
            assert await offer(store, names(100), lose) == set()
            assert ran == LOST_TRANSACTIONS
            assert await store.write(put, b"next") == 1

    run(main())


def test_sql_behind_a_caught_error_does_not_get_through(tmp_path: Path) -> None:
    def catch(tx: Tx) -> str:
        put(tx, b"before")
        tx.query("PRAGMA max_page_count = 1", ())
        try:
            put(tx, bytes(1_000_000))
        except StoreUnavailable:
            tx.query("PRAGMA max_page_count = 1000000", ())
            put(tx, b"after")
        return "done"

    async def main() -> None:
        async with opened(tmp_path) as store:
            with pytest.raises(StoreUnavailable):
                await store.write(catch)
            await store.write(lambda tx: tx.query("PRAGMA max_page_count = 1000000", ()))
            assert await store.read(count) == 0

    run(main())


def test_a_locked_file_is_unavailable_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_tx, "BUSY_MS", 20)

    async def main() -> None:
        async with opened(tmp_path) as store:
            other = apsw.Connection(str(tmp_path / "posthouse.db"))
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await store.write(put, b"x")
            assert await store.read(count) == 0
            other.execute("ROLLBACK")
            other.close()
            assert await store.write(put, b"x") == 1

    run(main())


@pytest.mark.parametrize("seed", range(8))
def test_whatever_fails_whoever_was_told_stands_and_nobody_else(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    broken_now = False

    def sometimes(what: str, file: str, octets: int) -> None:
        if broken_now and chance.random() < 0.002:
            raise chance.choice([apsw.FullError, apsw.IOError])

    def writes(tx: Tx, octets: bytes) -> int:
        if chance.random() < 0.1:
            raise StoreUnavailable("its own trouble")
        return put(tx, octets + bytes(chance.choice([10, 5_000, 100_000])))

    async def main(broken: Disk) -> None:
        nonlocal broken_now
        name, told = 0, set()
        async with opened(tmp_path, vfs=broken.name) as store:
            await store.write(lambda tx: tx.query("PRAGMA cache_size = 30", ()))
            broken.fail = sometimes
            broken_now = True
            for _ in range(12):
                offered = [b"%06d" % (name + one) for one in range(20)]
                name += 20
                told |= await offer(store, offered, writes)
            broken_now = False
        assert told
        async with opened(tmp_path) as store:
            rows = await store.read(lambda tx: tx.query("SELECT substr(octets, 1, 6) FROM blob", ()))
            assert {row[0] for row in rows} == told
            assert len(rows) == len(told)
            assert await store.read(lambda tx: tx.query("PRAGMA integrity_check", ())) == [("ok",)]

    with disk(f"chance{seed}") as broken:
        run(main(broken))


def test_the_loop_that_asked_may_be_gone(tmp_path: Path) -> None:
    store = open_store(tmp_path)

    async def ask_and_leave() -> None:
        asked = asyncio.ensure_future(store.write(put, b"x"))
        await asyncio.sleep(0)
        assert not asked.done()

    run(ask_and_leave())
    run(store.write(put, b"y"))
    assert run(store.read(kept)) == {b"x", b"y"}
    run(store.close())
