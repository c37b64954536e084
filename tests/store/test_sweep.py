"""Sweeping, and the backup that it must not disturb."""

import os
from pathlib import Path

import pytest

from posthouse.clock import SetClock
from posthouse.store import blob_files, blobs, sweep
from posthouse.store.backup import backup
from posthouse.store.blobs import Blobs, Staged
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteStore
from tests.store.support import count, intact, open_store, opened, put
from tests.support import run

DAY = 24 * 3600.0
LARGE = bytes(20_000)


def files(directory: Path) -> set[str]:
    return {
        f"{Path(folder).relative_to(directory / 'blobs')}/{name}"
        for folder, _, names in os.walk(directory / "blobs")
        for name in names
        if name != "sweep.lock"
    }


def refer(tx: Tx, staged: Staged) -> int:
    """A blob that a queued message refers to."""
    blob = blobs.insert(tx, staged)
    tx.query(
        "INSERT INTO queued_recipient (id, message, lane, due_at, expires_at, attempts, address, original, journey,"
        " size, queued_at, body, smtputf8, requiretls, priority, by_told, prologue)"
        " VALUES (? << 24 | 7, 0, 1, 1, 1, 0, 'a@b', 'a@b', 1, 1, 1, '7BIT', 0, 0, 0, 1, x'')",
        [blob],
    )
    return blob


def unrefer(tx: Tx, blob: int, now: int) -> None:
    tx.query("DELETE FROM queued_recipient WHERE id >> 24 = ?", [blob])
    blobs.suspect(tx, [blob], now)


def age(directory: Path, clock: SetClock, seconds: float = 0) -> None:
    """Let every file be as old as the clock says."""
    for name in files(directory):
        os.utime(directory / "blobs" / name, times=(clock.now() / 1000 - seconds,) * 2)


def test_a_blob_without_reference_goes_and_its_file_a_day_later(tmp_path: Path) -> None:
    async def main() -> None:
        clock, holder = SetClock(), Blobs(tmp_path / "blobs", inline_limit=10_000)
        async with opened(tmp_path) as store:
            kept = await store.write(refer, await holder.stage(LARGE))
            suspect = await store.write(refer, await holder.stage(LARGE))
            gone = await store.write(refer, await holder.stage(LARGE))
            small = await store.write(refer, await holder.stage(b"small"))
            age(tmp_path, clock)
            ref = await store.read(blobs.find, gone)
            assert ref is not None
            for blob in (gone, small):
                await store.write(unrefer, blob, clock.now())
            await store.write(blobs.suspect, [suspect], clock.now())
            assert await sweep.sweep(store, holder, clock) == 2
            assert set(await store.read(blobs.find_many, [kept, suspect, gone, small])) == {kept, suspect}
            # Whoever found it before may still load it.
            assert bytes(await holder.load(ref)) == LARGE
            clock.advance(DAY - 1)
            assert await sweep.sweep(store, holder, clock) == 0
            assert len(files(tmp_path)) == 3
            clock.advance(2)
            assert await sweep.sweep(store, holder, clock) == 1
            assert len(files(tmp_path)) == 2
            assert await store.read(lambda tx: tx.query("SELECT * FROM blob_gone", ())) == []
            assert await store.read(lambda tx: tx.query("SELECT * FROM blob_suspect", ())) == []
        holder.close()

    run(main())


def test_a_file_without_a_row_waits_a_day(tmp_path: Path) -> None:
    async def main() -> None:
        clock, holder = SetClock(), Blobs(tmp_path / "blobs", inline_limit=10_000)
        async with opened(tmp_path) as store:
            named = await store.write(refer, await holder.stage(LARGE))
            await holder.stage(LARGE)
            age(tmp_path, clock, DAY - 1)
            assert await sweep.sweep(store, holder, clock) == 0
            age(tmp_path, clock, DAY + 1)
            assert await sweep.sweep(store, holder, clock) == 1
            ref = await store.read(blobs.find, named)
            assert ref is not None
            assert await intact(holder, ref)
            assert files(tmp_path) == {ref.name}
        holder.close()

    run(main())


def test_more_than_one_batch_is_swept(tmp_path: Path) -> None:
    async def main() -> None:
        clock, holder = SetClock(), Blobs(tmp_path / "blobs")
        async with opened(tmp_path) as store:
            rows = await store.write(lambda tx: [put(tx, b"y") for _ in range(503)])
            await store.write(blobs.suspect, rows, clock.now())
            assert await sweep.sweep(store, holder, clock) == 503
            assert await store.read(count) == 0
        holder.close()

    run(main())


def test_a_backup_opens_and_holds_what_was_there(tmp_path: Path) -> None:
    live, copy = tmp_path / "live", tmp_path / "copy"
    live.mkdir()

    async def main() -> None:
        clock, holder = SetClock(), Blobs(live / "blobs", inline_limit=10_000)
        async with opened(live) as store:
            large = await store.write(refer, await holder.stage(LARGE))
            small = await store.write(refer, await holder.stage(b"small"))
            assert await backup(store, holder, copy) == 1
            await store.write(put, b"later")
            with pytest.raises(FileExistsError):
                await backup(store, holder, copy)
            secret = store.secret
        holder.close()
        restored: SqliteStore = open_store(copy)
        assert restored.secret == secret
        assert await restored.read(count) == 2
        found = await restored.read(blobs.find_many, [large, small])
        copied = Blobs(copy / "blobs")
        assert all([await intact(copied, ref) for ref in found.values()])
        assert await restored.write(put, b"new") > small
        assert await restored.read(lambda tx: tx.query("PRAGMA journal_mode", ())) == [("wal",)]
        assert await sweep.sweep(restored, copied, clock) == 0
        copied.close()
        await restored.close()

    run(main())


def test_nothing_is_swept_while_a_backup_holds_the_sweep(tmp_path: Path) -> None:
    async def main() -> None:
        clock, holder = SetClock(), Blobs(tmp_path / "blobs")
        async with opened(tmp_path) as store:
            await store.write(blobs.suspect, [await store.write(put, b"x")], clock.now())
            with sweep.holding(holder.directory, shared=True) as one:
                with sweep.holding(holder.directory, shared=True) as other:
                    assert one
                    assert other
                assert await sweep.sweep(store, holder, clock) == 0
            assert await sweep.sweep(store, holder, clock) == 1
        holder.close()

    run(main())


def test_pages_that_became_free_are_given_back(tmp_path: Path) -> None:
    async def main() -> None:
        clock, holder = SetClock(), Blobs(tmp_path / "blobs")
        async with opened(tmp_path) as store:
            rows = await store.write(lambda tx: [put(tx, bytes(100_000)) for _ in range(100)])
            await store.write(blobs.suspect, rows, clock.now())
            assert await sweep.sweep(store, holder, clock) == 100
            assert await store.shrink() > 2000
            assert await store.shrink() == 0
        holder.close()
        assert (tmp_path / "posthouse.db").stat().st_size < 2_000_000

    run(main())


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    """A disk of its own for the blobs has a lost+found, whose directories the sweep went through like its own."""

    async def main() -> None:
        clock, holder = SetClock(), Blobs(tmp_path / "blobs", inline_limit=10_000)
        async with opened(tmp_path) as store:
            await holder.stage(LARGE)
            strange = {"lost+found/#12/mail", "ab/c/notes.txt", "ab/old/0123456789abcdef0123456789abc"}
            for name in strange:
                file = tmp_path / "blobs" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"precious")
            (tmp_path / "blobs" / "tmp" / "lost+found").mkdir()
            age(tmp_path, clock)
            clock.advance(2 * DAY)
            assert await sweep.sweep(store, holder, clock) == 1
            Blobs(tmp_path / "blobs").close()
            assert files(tmp_path) == strange
            assert (tmp_path / "blobs" / "tmp" / "lost+found").is_dir()
        holder.close()

    run(main())


def test_a_file_that_goes_meanwhile_does_not_end_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A door abandons what it had staged while the sweep looks at the same directory."""

    async def main() -> None:
        clock, holder = SetClock(), Blobs(tmp_path / "blobs", inline_limit=10_000)
        async with opened(tmp_path) as store:
            going, staying = [await holder.stage(LARGE) for _ in range(2)]
            age(tmp_path, clock)
            clock.advance(2 * DAY)
            (tmp_path / "blobs" / str(staying.name)).rename((tmp_path / "blobs" / str(going.name)).with_name("0" * 29))
            looked = blob_files._is_older

            def removed_first(file: "os.DirEntry[str]", since: float) -> bool:
                if file.path.endswith(str(going.name)):
                    os.unlink(file.path)
                return looked(file, since)

            monkeypatch.setattr(blob_files, "_is_older", removed_first)
            assert await sweep.sweep(store, holder, clock) == 1
        holder.close()

    run(main())
