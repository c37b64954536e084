"""What every Place promises, and that a row's number chooses among several. A new place is a line in `PLACES`."""

import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import apsw
import pytest

from posthouse.clock import SetClock
from posthouse.store import blobs
from posthouse.store.backup import backup
from posthouse.store.blob_files import BlobFiles, Workshop
from posthouse.store.blobs import BlobLost, Blobs, Buffer, Place, Staged
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.store.sweep import sweep
from tests.store.support import open_store, opened
from tests.support import run

LARGE = bytes(range(256)) * 100
LATER = 1000 * 3600


class Shelf:
    """A place in memory, with names of its own; a backup lays it into one file."""

    number = 7

    def __init__(self, directory: Path) -> None:
        saved = directory / "shelf.json"
        held = json.loads(saved.read_text()) if saved.exists() else {}
        self.held: dict[str, tuple[bytes, float]] = {
            name: (octets.encode("latin-1"), 0) for name, octets in held.items()
        }

    async def stage(self, unfinished: Path, descriptor: int) -> str:
        octets = os.pread(descriptor, unfinished.stat().st_size, 0)
        name = f"{len(self.held)}.{hashlib.sha256(octets).hexdigest()}"
        self.held[name] = octets, time.time()
        return name

    async def load(self, name: str) -> Buffer:
        if name not in self.held:
            raise FileNotFoundError(name)
        return self.held[name][0]

    async def remove(self, names: Sequence[str]) -> None:
        for name in names:
            self.held.pop(name, None)

    async def older_than(self, milliseconds: int) -> AsyncIterator[Sequence[str]]:
        for name in [name for name, (_, at) in self.held.items() if at * 1000 < milliseconds]:
            yield [name]

    async def copy(self, names: Sequence[str], directory: Path) -> None:
        if lost := [name for name in names if name not in self.held]:
            raise FileNotFoundError(lost)
        copies = {name: self.held[name][0].decode("latin-1") for name in names}
        (directory / "shelf.json").write_text(json.dumps(copies))

    def close(self) -> None: ...


PLACES: list[Callable[[Path], Place]] = [BlobFiles, Shelf]


@pytest.fixture(params=PLACES)
def kind(request: pytest.FixtureRequest) -> Callable[[Path], Place]:
    opener: Callable[[Path], Place] = request.param
    return opener


async def stage(place: Place, workshop: Workshop, octets: bytes) -> str:
    path, descriptor = workshop.begin()
    os.write(descriptor, octets)
    name = await place.stage(path, descriptor)
    os.close(descriptor)
    path.unlink(missing_ok=True)
    return name


async def older(place: Place, milliseconds: int) -> list[str]:
    return sorted([name async for batch in place.older_than(milliseconds) for name in batch])


def test_what_a_place_promises(tmp_path: Path, kind: Callable[[Path], Place]) -> None:
    async def main() -> None:
        now = int(time.time() * 1000)
        workshop = Workshop(tmp_path / "blobs")
        place = kind(tmp_path / "blobs")
        names = [await stage(place, workshop, octets) for octets in (b"one", b"two", b"two", LARGE)]
        assert len(set(names)) == 4, "equal octets have names of their own"
        assert [bytes(await place.load(name)) for name in names] == [b"one", b"two", b"two", LARGE]
        assert await older(place, now + LATER) == sorted(names)
        assert await older(place, now - LATER) == []

        (tmp_path / "copy").mkdir()
        await place.copy(names[2:], tmp_path / "copy")
        copied = kind(tmp_path / "copy")
        assert [bytes(await copied.load(name)) for name in names[2:]] == [b"two", LARGE]

        await place.remove([names[0], names[3]])
        await place.remove([names[0]])
        assert await older(place, now + LATER) == sorted(names[1:3])
        with pytest.raises(FileNotFoundError):
            await place.load(names[0])
        with pytest.raises(FileNotFoundError):
            await place.copy(names[:1], tmp_path / "copy")
        for one in (place, copied):
            one.close()
            one.close()
        workshop.close()

    run(main())


def refer(tx: Tx, staged: Staged) -> int:
    """A blob that stays: a queued message refers to it."""
    blob = blobs.insert(tx, staged)
    tx.query(
        "INSERT INTO queued_recipient (id, message, lane, due_at, expires_at, attempts, address, original, journey,"
        " size, queued_at, body, smtputf8, requiretls, priority, by_told, prologue)"
        " VALUES (? << 24 | 7, 0, 1, 1, 1, 0, 'a@b', 'a@b', 1, 1, 1, '7BIT', 0, 0, 0, 1, x'')",
        [blob],
    )
    return blob


def test_the_row_says_in_which_place_a_blob_lies(tmp_path: Path) -> None:
    """A store that had files gets another place: new blobs go there, the old ones stay where they are."""
    live, copy = tmp_path / "live", tmp_path / "copy"
    live.mkdir()
    directory = live / "blobs"

    async def main() -> None:
        clock = SetClock(int(time.time() * 1000))
        async with opened(live) as store:
            before = Blobs(directory, inline_limit=10_000)
            old = await store.write(refer, await before.stage(LARGE))
            before.close()

            shelf = Shelf(directory)
            both = Blobs(directory, [shelf, BlobFiles(directory)], inline_limit=10_000)
            staged = [await both.stage(octets) for octets in (b"small", LARGE[::-1], LARGE, LARGE)]
            small, new, gone = [await store.write(refer, one) for one in staged[:3]]
            found = await store.read(blobs.find_many, [old, small, new, gone])
            assert [found[id].place for id in (old, small, new, gone)] == [1, 0, 7, 7]
            assert [bytes(await both.load(found[id])) for id in (old, small, new)] == [LARGE, b"small", LARGE[::-1]]

            # Swept are both, each by its own day: what lost its row, and what never had one.
            await store.write(lambda tx: tx.query("DELETE FROM queued_recipient WHERE id >> 24 = ?", [gone]))
            await store.write(blobs.suspect, [gone], clock.now())
            assert await sweep(store, both, clock) == 1
            assert len(shelf.held) == 3
            # What has no row is as old as its file says, which was made a moment after our clock was set.
            clock.advance(24 * 3600 + LATER / 1000)
            assert await sweep(store, both, clock) == 2
            assert list(shelf.held) == [found[new].name]
            assert bytes(await both.load(found[old])) == LARGE

            assert await backup(store, both, copy) == 2
            copied = Blobs(copy / "blobs", [BlobFiles(copy / "blobs"), Shelf(copy / "blobs")])
            assert [bytes(await copied.load(found[id])) for id in (old, new)] == [LARGE, LARGE[::-1]]
            restored = open_store(copy)
            assert await restored.read(blobs.find_many, [old, new]) == {id: found[id] for id in (old, new)}
            await restored.close()

            # Without the place nothing in it can be had, removed or copied; all else can.
            without = Blobs(directory)
            with pytest.raises(BlobLost, match="not open"):
                await without.load(found[new])
            assert bytes(await without.load(found[old])) == LARGE
            assert await sweep(store, without, clock) == 0
            with pytest.raises(StoreUnavailable, match="place 7"):
                await backup(store, without, tmp_path / "half")
            for one in (both, copied, without):
                one.close()

    run(main())


def test_what_is_abandoned_goes_from_the_place_it_was_staged_in(tmp_path: Path) -> None:
    async def main() -> None:
        shelf = Shelf(tmp_path)
        holder = Blobs(tmp_path / "blobs", [shelf], inline_limit=10)
        staged = await holder.stage(LARGE)
        assert len(shelf.held) == 1
        await holder.abandon(staged)
        assert not shelf.held
        # What the place did not move away is not left behind either.
        with holder.spool() as spool:
            spool.write(LARGE * 20)
            await holder.stage(spool)
            assert bytes(spool.buffer()) == LARGE * 20
        assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
        holder.close()

    run(main())


def test_two_rows_never_name_the_same_octets(tmp_path: Path) -> None:
    """The sweep of one would take the other's."""

    async def main() -> None:
        holder = Blobs(tmp_path / "blobs", inline_limit=10)
        async with opened(tmp_path) as store:
            staged = await holder.stage(LARGE)
            await store.write(blobs.insert, staged)
            with pytest.raises(apsw.ConstraintError, match=r"UNIQUE.*blob\.name"):
                await store.write(blobs.insert, staged)
        holder.close()

    run(main())
