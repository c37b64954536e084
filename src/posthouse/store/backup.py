"""A backup: a copy of the database, then of the files that it names.

Promises: what `backup` leaves is a store that opens, as it was at one moment during the call, and it is on the disk.
Mail goes on meanwhile. Files are copied after the database, with the sweep held, so that none it names is missing.
Refuses: a destination that is there already. (SQLite's online backup is not used: under writes it never ends.)
"""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Final

import apsw

from posthouse.store.blob_files import sync_directory
from posthouse.store.blobs import Blobs
from posthouse.store.database import StoreUnavailable
from posthouse.store.sqlite import SqliteStore
from posthouse.store.sweep import holding

BATCH: Final = 500
WAIT_SECONDS: Final = 0.5


async def backup(store: SqliteStore, blobs: Blobs, destination: Path) -> int:
    """Copy the store to the directory `destination`, which is made; how many files were copied beside the database.

    Raises FileExistsError, OSError, and StoreUnavailable where the database cannot be copied.
    """
    await asyncio.to_thread(destination.mkdir, mode=0o700)
    while True:
        with holding(blobs.files.directory, shared=True) as held:
            if held:
                database = destination / store.path.name
                await store.copy_to(database)
                return await asyncio.to_thread(_copy_files, database, blobs, destination / "blobs")
        await asyncio.sleep(WAIT_SECONDS)  # a sweep is running


def _copy_files(database: Path, blobs: Blobs, destination: Path) -> int:
    _sync(database)
    destination.mkdir(mode=0o700)
    copied = 0
    connection = apsw.Connection(str(database), apsw.SQLITE_OPEN_READONLY)
    try:
        for (name,) in connection.execute("SELECT file FROM blob WHERE file IS NOT NULL"):
            _copy_file(blobs.files.directory, destination, str(name))
            copied += 1
    except apsw.Error as error:
        raise StoreUnavailable(f"the copy of the database cannot be read: {error}") from error
    finally:
        connection.close(force=True)
    for directory, _, _ in os.walk(destination.parent):
        sync_directory(Path(directory))
    return copied


def _copy_file(source: Path, destination: Path, name: str) -> None:
    target = destination / name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(source / name, target)
    _sync(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
