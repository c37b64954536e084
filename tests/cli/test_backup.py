import asyncio
import errno
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from posthouse.cli.installation import Installation
from posthouse.store import backup, blobs
from posthouse.store.blob_files import BlobFiles
from posthouse.store.database import Tx
from posthouse.store.places import open_blobs
from posthouse.store.sqlite import SqliteStore
from tests.cli.support import Command

LARGE = bytes(range(256)) * 4000


def file_one(command: Command) -> int:
    """A message too large for a row; its blob."""

    async def file(store: SqliteStore) -> int:
        holder = opened(command)
        try:
            return await store.write(insert, await holder.stage(LARGE))
        finally:
            holder.close()

    return Installation(command.configuration).with_store(file)


def insert(tx: Tx, staged: blobs.Staged) -> int:
    return blobs.insert(tx, staged)


def opened(command: Command) -> blobs.Blobs:
    settings = Installation(command.configuration).config
    return open_blobs(settings.data, settings.store, settings.limits)


def test_a_backup_in_the_place_of_the_data_is_the_store_again(command: Command, tmp_path: Path) -> None:
    command("alias", "add", "team@example.org", "a@far.example")
    id = file_one(command)
    copy = tmp_path / "copy"
    shown = command("backup", str(copy))
    assert shown == f"{copy} holds the store: the database, and 1 large message beside it\n"
    command("alias", "remove", "team@example.org")

    data = Installation(command.configuration).config.data
    data.rename(tmp_path / "lost")
    copy.rename(data)
    assert command("alias", "list") == "team@example.org → a@far.example\n"

    async def read(store: SqliteStore) -> bytes:
        ref = await store.read(blobs.find, id)
        assert ref is not None
        holder = opened(command)
        try:
            return bytes(await holder.load(ref))
        finally:
            holder.close()

    assert Installation(command.configuration).with_store(read) == LARGE


def test_what_it_says(command: Command, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert command.json("backup", str(copy)) == {"directory": str(copy), "blobs": 0}
    assert command.error("backup", str(copy)) == f"{copy}: file exists"
    assert command.error("backup", str(tmp_path / "no" / "copy")) == f"{tmp_path}/no/copy: no such file or directory"
    assert not (tmp_path / "no").exists()


def test_a_copy_that_fails_leaves_nothing(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file_one(command)

    async def full(self: BlobFiles, names: Sequence[str], directory: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    there = tmp_path / "backups"
    there.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(BlobFiles, "copy", full)
        assert command.error("backup", str(there / "copy")) == f"{there}/copy: no space left on device"
    assert list(there.iterdir()) == []
    command("backup", str(there / "copy"))
    assert [path.name for path in there.iterdir()] == ["copy"]


def test_who_gives_it_up_finds_nothing_left(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread goes on though nobody waits for it: what it is at is done before the copy is removed."""
    file_one(command)
    there = tmp_path / "backups"
    there.mkdir()
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []
    copy, remove = BlobFiles._copy, shutil.rmtree

    def slow(self: BlobFiles, names: Sequence[str], directory: Path) -> None:
        begun.set()
        assert go_on.wait(60)
        copy(self, names, directory)
        done.append("copied")

    def removing(path: Path, **others: Any) -> None:
        if path.parent == there:
            done.append("removed")
        remove(path, **others)

    async def given_up(store: SqliteStore) -> None:
        holder = opened(command)
        copying = asyncio.create_task(backup.backup(store, holder, there / "copy"))
        try:
            assert await asyncio.to_thread(begun.wait, 60)
            copying.cancel()
            await asyncio.wait([copying], timeout=0.1)
            go_on.set()
            await asyncio.wait([copying])
        finally:
            holder.close()
        assert copying.cancelled()

    monkeypatch.setattr(BlobFiles, "_copy", slow)
    monkeypatch.setattr(shutil, "rmtree", removing)
    Installation(command.configuration).with_store(given_up)
    assert done == ["copied", "removed"]
    assert list(there.iterdir()) == []


def test_a_file_that_was_lost_before_keeps_nobody_from_a_backup_of_the_rest(command: Command, tmp_path: Path) -> None:
    """It ended there, without the others, and named the copy as what was not there."""
    for _ in range(3):
        file_one(command)
    data = Installation(command.configuration).config.data
    gone, *others = sorted(path.relative_to(data) for path in (data / "blobs").glob("??/?/*"))
    (data / gone).unlink()
    copy = tmp_path / "copy"
    error = f"{copy} holds the store, but of 1 large message the file was lost before: not to be found below {data}"
    assert command.error("backup", str(copy)) == error
    assert [(copy / name).read_bytes() for name in others] == [LARGE, LARGE]
    assert (copy / "posthouse.db").is_file()
