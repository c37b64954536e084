"""A backup: a copy of the database, then of what it names in other places.

Promises: what `backup` leaves is a store that opens, as it was at one moment during the call, and it is on the disk.
Mail goes on meanwhile. Places are copied after the database, with the sweep held, so that nothing it names is missing;
what was lost before is told of when all the rest has been copied. Until all is there it is called otherwise, beside
`destination`; what a copy that failed had made is removed again.
Refuses: a destination that is there already. (SQLite's online backup is not used: under writes it never ends.)
"""

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from posthouse.store.blob_files import sync, sync_directory
from posthouse.store.blobs import Blobs, Place
from posthouse.store.database import StoreUnavailable
from posthouse.store.sqlite import SqliteStore
from posthouse.store.sweep import holding

BATCH: Final = 500
WAIT_SECONDS: Final = 0.5
_NAMES: Final = "SELECT name FROM blob WHERE place = ? AND name > ? ORDER BY name LIMIT ?"


class LostBefore(Exception):
    """The backup is made, but for the octets of so many blobs, which their places have lost."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} blobs are lost")
        self.count = count


async def backup(store: SqliteStore, blobs: Blobs, destination: Path) -> int:
    """Copy the store to the directory `destination`, which is made; how many blobs were copied beside the database.

    Raises FileExistsError, OSError, StoreUnavailable where the database cannot be copied, and in the end LostBefore.
    """
    if await asyncio.to_thread(os.path.lexists, destination):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(destination))
    unfinished = Path(
        await asyncio.to_thread(tempfile.mkdtemp, ".unfinished", f"{destination.name}-", destination.parent)
    )
    try:
        copied, lost = await _copy_store(store, blobs, unfinished)
        # The instant from which there is a backup of this name.
        await asyncio.to_thread(unfinished.rename, destination)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, unfinished)
        raise
    await asyncio.to_thread(sync_directory, destination.parent)
    if lost:
        raise LostBefore(lost)
    return copied


async def _copy_store(store: SqliteStore, blobs: Blobs, destination: Path) -> tuple[int, int]:
    """How many blobs were copied beside the database, and how many are lost."""
    while True:
        with holding(blobs.directory, shared=True) as held:
            if held:
                database = destination / store.path.name
                await _to_its_end(store.copy_to(database))
                return await _copy_places(database, blobs, destination / "blobs")
        await asyncio.sleep(WAIT_SECONDS)  # a sweep is running


async def _copy_places(database: Path, blobs: Blobs, destination: Path) -> tuple[int, int]:
    await asyncio.to_thread(database.chmod, 0o600)
    await asyncio.to_thread(sync, database)
    await asyncio.to_thread(destination.mkdir, mode=0o700)
    places = {place.number: place for place in blobs.places}
    copied = lost = 0
    for (number,) in await asyncio.to_thread(rows, database, "SELECT DISTINCT place FROM blob WHERE name IS NOT NULL"):
        if number not in places:
            raise StoreUnavailable(f"blobs lie in place {number}, which is not open")
        after = ""
        while found := await asyncio.to_thread(rows, database, _NAMES, number, after, BATCH):
            names = [name for (name,) in found]
            missing = await _copy(places[number], names, destination)
            copied, lost, after = copied + len(names) - missing, lost + missing, names[-1]
    await asyncio.to_thread(_sync_directories, destination.parent)
    return copied, lost


async def _copy(place: Place, names: Sequence[str], destination: Path) -> int:
    """Copy these; how many of them are not there."""
    try:
        await _to_its_end(place.copy(names, destination))
    except FileNotFoundError:
        if len(names) == 1:
            return 1
        middle = len(names) // 2
        return sum([await _copy(place, some, destination) for some in (names[:middle], names[middle:])])
    return 0


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do this. Whoever is cancelled meanwhile hears of it behind it: a thread goes on all the same, and would make anew
    what is removed."""
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.shield(doing)
    finally:
        await asyncio.wait([doing])


def rows(database: Path, sql: str, *parameters: int | str) -> list[tuple[Any, ...]]:
    """What this finds in the database of a backup. Blocks. Raises StoreUnavailable."""
    connection = apsw.Connection(str(database), apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute(sql, parameters).fetchall()
    except apsw.Error as error:
        raise StoreUnavailable(f"the copy of the database cannot be read: {error}") from error
    finally:
        connection.close(force=True)


def _sync_directories(top: Path) -> None:
    for directory, _, _ in os.walk(top):
        sync_directory(Path(directory))
