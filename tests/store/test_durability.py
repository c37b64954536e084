"""Nobody is told before the disk has it: the order of writes and syncs, and what a killed process leaves."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from posthouse.store import blobs
from posthouse.store.blobs import Blobs
from posthouse.store.database import Tx
from posthouse.store.sqlite_writer import Job
from tests.store.disk import disk
from tests.store.support import intact, open_store, opened, put
from tests.support import run


def test_no_caller_is_woken_before_the_sync_that_follows_its_frames(tmp_path: Path) -> None:
    async def main() -> None:
        with disk("recorded") as recorded:
            store = open_store(tmp_path, vfs="recorded")
            wake = store._writer._wake

            def tell(jobs: Sequence[Job], done: bool) -> None:
                recorded.note("tell", ".db-wal", len(jobs))
                wake(jobs, done)

            store._writer._wake = tell
            recorded.events.clear()
            for _ in range(5):
                await asyncio.gather(*[store.write(put, bytes(3000)) for _ in range(20)])
            log = [what for what, file in recorded.events if file == ".db-wal"]
            await store.close()
        assert log.count("tell") >= 5
        before = "".join({"write": "w", "sync": "s", "tell": "t"}[what] for what in log).split("t")[:-1]
        # Each telling comes behind frames, and those behind them a sync.
        assert all("w" in one and one.endswith("s") for one in before)

    run(main())


def test_a_file_its_name_and_its_directories_are_synced_before_stage_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    real_fsync, real_rename, real_token = os.fsync, os.rename, secrets.token_hex
    names = iter(["a" * 32, "b" * 32, "b" * 31 + "c", "bbc" + "b" * 29])

    def token(size: int) -> str:
        return next(names) if size == 16 else real_token(size)

    def fsync(descriptor: int) -> None:
        done.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        real_fsync(descriptor)

    def rename(source: Path, target: Path) -> None:
        done.append(("rename", str(target)))
        real_rename(source, target)

    async def main() -> None:
        holder = Blobs(tmp_path / "blobs", inline_limit=10)
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "rename", rename)
        monkeypatch.setattr(secrets, "token_hex", token)
        # Of the two directories that lead to a file both are new, or both, or none, or the lower one.
        for new in (True, True, False, True):
            done.clear()
            staged = await holder.stage(b"x" * 11)
            assert staged.name is not None
            final = tmp_path / "blobs" / staged.name
            steps = [*done]
            (_, temporary), named = steps[0], steps.index(("rename", str(final)))
            assert f"{tmp_path}/blobs/tmp/" in temporary
            assert ("sync", str(final.parent)) in steps[named:]
            # The names of new directories are synced before anything is in them.
            directories = {("sync", str(tmp_path / "blobs")), ("sync", str(final.parent.parent))}
            assert directories <= set(steps[:named]) or not new
        holder.close()

    run(main())


WRITER = """
import asyncio, sys
from pathlib import Path
from posthouse.store import blobs
from posthouse.store.blobs import Blobs
from tests.store.support import open_store

async def main(directory, first):
    store, holder = open_store(directory), Blobs(directory / "blobs", inline_limit=20_000)
    async def write(number):
        while True:
            staged = await holder.stage(b"%08d" % number * (10 if number % 7 else 3_000))
            await store.write(blobs.insert, staged)
            sys.stdout.write(f"{number}\\n")
            sys.stdout.flush()
            number += 8
    await asyncio.gather(*[write(first + task) for task in range(8)])

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


def test_whoever_was_told_before_the_kill_is_there_after_it(tmp_path: Path) -> None:
    told: list[int] = []
    for turn, wanted in enumerate((1, 5, 20, 60)):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(turn * 1_000_000)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        # In the midst of what it does: it goes on while these are read.
        lines = [process.stdout.readline() for _ in range(wanted)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        told += [int(line) for line in lines if line.endswith(b"\n")]
        process.wait()
        process.stdout.close()

    def all_blobs(tx: Tx) -> list[blobs.BlobRef]:
        ids = [row[0] for row in tx.query("SELECT id FROM blob", ())]
        return list(blobs.find_many(tx, ids).values())

    async def main() -> None:
        holder = Blobs(tmp_path / "blobs")
        async with opened(tmp_path) as store:
            found = await store.read(all_blobs)
            assert all([await intact(holder, blob) for blob in found])
            numbers = [int(bytes((await holder.load(blob))[:8])) for blob in found]
            assert set(told) <= set(numbers)
            assert len(numbers) == len(set(numbers))
            assert await store.read(lambda tx: tx.query("PRAGMA integrity_check", ())) == [("ok",)]
        holder.close()
        # What the killed ones left unfinished is gone, and so are their bells.
        assert list((tmp_path / "blobs" / "tmp").iterdir()) == []
        assert list((tmp_path / "bell").iterdir()) == []

    assert len(told) >= 86
    run(main())
