"""Spooling, staging, loading."""

import asyncio
import errno
import hashlib
import mmap
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthouse import limits, observe
from posthouse.store import blobs
from posthouse.store.blob_files import Workshop
from posthouse.store.blobs import BlobLost, Blobs, Spool, SpoolFull
from posthouse.store.database import StoreUnavailable
from tests.store.support import intact, opened
from tests.support import run

KB = 1024


@pytest.fixture
def holder(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs", memory_budget=1000 * KB, disk_budget=4000 * KB, inline_limit=100 * KB)


def fill(spool: Spool, octets: int, piece: int = 64 * KB) -> bytes:
    """Write so many octets; what they were."""
    whole = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(octets // 32 + 1))[:octets]
    for start in range(0, octets, piece):
        spool.write(memoryview(whole)[start : start + piece])
    return whole


def unfinished(directory: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(directory / "blobs" / "tmp"))


@pytest.mark.parametrize("size", [0, 1, 2 * KB, 100 * KB, 100 * KB + 1, 256 * KB, 256 * KB + 1, 1000 * KB])
@pytest.mark.parametrize("spooled", [True, False])
def test_octets_come_back_as_they_went(tmp_path: Path, holder: Blobs, size: int, spooled: bool) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            with holder.spool() as spool:
                whole = fill(spool, size)
                assert spool.size == size
                assert bytes(spool.buffer()) == whole
                staged = await holder.stage(spool if spooled else whole)
                assert bytes(spool.buffer()) == whole
            assert (staged.octets is None) == (size > 100 * KB)
            blob = await store.write(blobs.insert, staged)
            ref = await store.read(blobs.find, blob)
            assert ref is not None
            assert (ref.size, ref.sha256) == (size, hashlib.sha256(whole).digest())
            assert bytes(await holder.load(ref)) == bytes(await holder.load(staged)) == whole
            assert await intact(holder, ref)
            assert await store.read(blobs.find_many, [blob, 99]) == {blob: ref}
            assert await store.read(blobs.find, 99) is None
        assert unfinished(tmp_path) == 0

    run(main())


def test_one_piece_is_not_copied_again(holder: Blobs) -> None:
    octets = bytes(2 * KB)
    with holder.spool() as spool:
        spool.write(octets)
        assert spool.buffer() is octets


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=50)
@given(pieces=st.lists(st.binary(max_size=200 * KB), max_size=6))
def test_however_it_comes_in_pieces(holder: Blobs, pieces: list[bytes]) -> None:
    with holder.spool() as spool:
        for piece in pieces:
            spool.write(piece)
        whole = b"".join(pieces)
        assert bytes(spool.buffer()) == whole
        assert spool.sha256() == hashlib.sha256(whole).digest()


def test_a_large_message_is_on_disk_and_mapped(tmp_path: Path, holder: Blobs) -> None:
    with holder.spool() as spool:
        fill(spool, limits.SPOOL_MEMORY)
        assert unfinished(tmp_path) == 0
        spool.write(b"x")
        assert unfinished(tmp_path) == 1
        assert isinstance(spool.buffer(), mmap.mmap)
    assert unfinished(tmp_path) == 0


def test_where_memory_is_short_small_ones_go_to_disk_and_where_both_are_it_is_said(
    tmp_path: Path, holder: Blobs
) -> None:
    spools = [holder.spool() for _ in range(6)]
    for spool in spools[:5]:
        fill(spool, 200 * KB)
    assert unfinished(tmp_path) == 0
    whole = fill(spools[5], 200 * KB)
    assert unfinished(tmp_path) == 1
    assert bytes(spools[5].buffer()) == whole
    with pytest.raises(SpoolFull):
        fill(spools[5], 4000 * KB)
    # What is left may be used up, then nothing begins any more.
    with pytest.raises(SpoolFull):
        fill(spools[5], 300 * KB, piece=16)
    with pytest.raises(SpoolFull):
        holder.spool()
    for spool in spools:
        spool.discard()
        spool.discard()
    assert unfinished(tmp_path) == 0
    with holder.spool() as spool:
        fill(spool, 3000 * KB)


def test_one_owner_leaves_room_for_the_others(holder: Blobs) -> None:
    # Of 1 MB of memory and 4 MB of disk one owner has a quarter.
    assert holder.has_room(900 * KB, "192.0.2.1")
    assert not holder.has_room(1100 * KB, "192.0.2.1")
    assert holder.has_room(1100 * KB)
    spools = [holder.spool("192.0.2.1") for _ in range(2)]
    fill(spools[0], 200 * KB)
    fill(spools[1], 1000 * KB)
    with pytest.raises(SpoolFull):
        fill(spools[1], 100 * KB)
    assert not holder.has_room(100 * KB, "192.0.2.1")
    assert holder.has_room(900 * KB, "192.0.2.2")
    with holder.spool("192.0.2.2") as other, holder.spool() as nobodys:
        fill(other, 1000 * KB)
        fill(nobodys, 1500 * KB)
        with pytest.raises(SpoolFull):
            fill(nobodys, 1000 * KB)
    for spool in spools:
        spool.discard()
    assert holder.has_room(900 * KB, "192.0.2.1")
    del spools, spool, other, nobodys
    assert len(holder._purses) == 0
    with holder.spool() as whole:
        fill(whole, 3500 * KB)


def test_an_owner_whose_share_is_used_up_cannot_begin(holder: Blobs) -> None:
    spools = [holder.spool("192.0.2.1") for _ in range(2)]
    with pytest.raises(SpoolFull):
        fill(spools[0], 1100 * KB, piece=1 * KB)
    fill(spools[1], 250 * KB, piece=1 * KB)
    with pytest.raises(SpoolFull):
        holder.spool("192.0.2.1")
    holder.spool("192.0.2.2").discard()
    for spool in spools:
        spool.discard()


def test_a_disk_that_is_full_is_said(tmp_path: Path, holder: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with holder.spool() as spool:
        fill(spool, 300 * KB)
        monkeypatch.setattr(os, "write", no_room)
        with pytest.raises(SpoolFull):
            fill(spool, 300 * KB)

    async def main() -> None:
        with pytest.raises(StoreUnavailable, match="No space left"):
            await holder.stage(bytes(200 * KB))

    asyncio.run(main())
    assert unfinished(tmp_path) == 0
    monkeypatch.undo()

    monkeypatch.setattr(os, "fsync", no_room)

    async def sync() -> None:
        with holder.spool() as spool:
            fill(spool, 300 * KB)
            with pytest.raises(StoreUnavailable, match="No space left"):
                await holder.stage(spool)

    asyncio.run(sync())
    assert unfinished(tmp_path) == 0


def test_what_is_abandoned_is_gone(tmp_path: Path, holder: Blobs) -> None:
    async def main() -> None:
        staged = await holder.stage(bytes(200 * KB))
        assert staged.name
        assert (tmp_path / "blobs" / staged.name).exists()
        await holder.abandon(staged)
        assert not (tmp_path / "blobs" / staged.name).exists()
        await holder.abandon(staged)
        await holder.abandon(await holder.stage(b"small"))

    run(main())


def test_a_file_that_is_lost_or_cut_short_is_said(tmp_path: Path, holder: Blobs) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            staged = await holder.stage(bytes(200 * KB))
            ref = await store.read(blobs.find, await store.write(blobs.insert, staged))
        assert ref is not None
        assert ref.name is not None
        path = tmp_path / "blobs" / ref.name
        path.write_bytes(b"x" * 200 * KB)
        assert not await intact(holder, ref)
        path.write_bytes(b"short")
        with pytest.raises(BlobLost, match="lost octets"):
            await holder.load(ref)
        path.unlink()
        with pytest.raises(BlobLost, match="is not in place 1"):
            await holder.load(ref)
        assert not await intact(holder, ref)
        path.write_bytes(b"")
        with pytest.raises(BlobLost, match="lost octets"):
            await holder.load(ref)
        # Not lost: it cannot be had now.
        path.unlink()
        path.symlink_to(path.name)
        with pytest.raises(StoreUnavailable, match="cannot be opened"):
            await holder.load(ref)

    run(main())


def test_what_cannot_be_removed_is_told_and_left_to_the_sweep(holder: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    unsubscribe = observe.subscribe(lambda step: told.append(step.kind))

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def main() -> None:
        staged = await holder.stage(bytes(200 * KB))
        monkeypatch.setattr(Path, "unlink", broken)
        await holder.abandon(staged)
        monkeypatch.undo()
        assert await holder.load(staged)

    run(main())
    unsubscribe()
    assert told == ["store.not_removed"]


def test_what_a_dead_process_left_unfinished_is_cleared_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    living, dead = Blobs(tmp_path / "blobs"), Blobs(tmp_path / "blobs")
    for holder in (living, dead):
        fill(holder.spool(), 300 * KB)
    assert unfinished(tmp_path) == 2
    os.close(dead._workshop._lock)  # as when its process ends
    next_one = Blobs(tmp_path / "blobs")
    assert unfinished(tmp_path) == 1
    living.close()
    living.close()
    next_one.close()
    assert list((tmp_path / "blobs" / "tmp").iterdir()) == []


def test_a_caller_that_is_cancelled_while_its_file_is_kept_leaves_no_harm(tmp_path: Path, holder: Blobs) -> None:
    async def main() -> None:
        for _ in range(20):
            with holder.spool() as spool:
                fill(spool, 300 * KB)
                staging = asyncio.ensure_future(holder.stage(spool))
                await asyncio.sleep(0)
                staging.cancel()
        await asyncio.gather(staging, return_exceptions=True)

    asyncio.run(main())
    assert unfinished(tmp_path) == 0
    with holder.spool() as spool:
        fill(spool, 4000 * KB)


def test_who_starts_beside_another_does_not_take_its_workshop_for_one_that_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the making of the directory and the lock on it: all that is large would find no room for ever."""
    (tmp_path / "blobs" / "tmp").mkdir(parents=True)
    started: list[threading.Thread] = []
    mkdir = Path.mkdir

    def make(path: Path, *args: Any, **named: Any) -> None:
        mkdir(path, *args, **named)
        if path.parent.name == "tmp" and not started:
            started.append(threading.Thread(target=lambda: others.append(Workshop(tmp_path / "blobs"))))
            started[0].start()
            started[0].join(0.5)

    others: list[Workshop] = []
    monkeypatch.setattr(Path, "mkdir", make)
    workshop = Workshop(tmp_path / "blobs")
    _, descriptor = workshop.begin()
    os.close(descriptor)
    started[0].join()
    for one in (workshop, *others):
        one.close()
