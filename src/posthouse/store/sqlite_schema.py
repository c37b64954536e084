"""Opening the file: creating it, checking that it is ours, and bringing its schema up to date.

Promises: when `prepare` returns, the file exists, is a posthouse store of the version this program knows, and stays so.
Migrations are additive and numbered (`sql/migrations/0001.sql` …); those that are missing run in one transaction, so a
program killed half-way leaves the old version behind; two processes that start at once do it one after the other.
Refuses: a newer version, another program's database, a damaged file: StoreError, in one line.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import apsw

from posthouse.store.database import StoreError

# "post": tells our file from another program's SQLite database.
APPLICATION_ID: Final = 0x706F7374
# Measured (docs/store.md): with 2 KB messages 8192 and 16384 write 1.4 and 1.9 times the octets and cost 10 to 20 %
# more in small groups; with 50 KB they gain 13 and 17 %. Most commits are small, and 4096 is also the machine's page.
PAGE_SIZE: Final = 4096


@cache
def migrations() -> dict[int, str]:
    """The text of each migration by its number, in order."""
    folder = files("posthouse.store").joinpath("sql", "migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return {int(name.removesuffix(".sql")): folder.joinpath(name).read_text("utf-8") for name in names}


def prepare(path: Path, *, vfs: str | None = None, steps: dict[int, str] | None = None) -> None:
    """Create or migrate the database at `path`. Raises StoreError. In tests `steps` takes the migrations' place."""
    steps = migrations() if steps is None else steps
    try:
        with _alone(path.parent):
            connection = apsw.Connection(str(path), apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, vfs)
            try:
                _prepare(path, connection, steps)
            finally:
                connection.close(force=True)
    except (OSError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError) as error:
        raise StoreError(f"{path}: the store cannot be opened or written: {error}") from error
    except apsw.NotADBError as error:
        raise StoreError(f"{path}: this file is not a database") from error
    except apsw.CorruptError as error:
        raise StoreError(f"{path}: the database is damaged: {error}") from error
    except apsw.Error as error:
        raise StoreError(f"{path}: the store cannot be opened: {error}") from error


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the directory's lock: of processes that start at once, one creates or migrates."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _prepare(path: Path, connection: apsw.Connection, steps: dict[int, str]) -> None:
    connection.set_busy_timeout(30_000)
    version = int(connection.pragma("user_version"))
    known = max(steps)
    if version > known:
        raise StoreError(f"{path}: the store has version {version}, this program knows versions up to {known}")
    if version == 0:
        _begin_file(path, connection)
    elif connection.pragma("application_id") != APPLICATION_ID:
        raise StoreError(f"{path}: this database belongs to another program")
    # A backup comes back without it.
    if connection.pragma("journal_mode", "wal") != "wal":
        raise StoreError(f"{path}: this file system cannot share memory between processes, which the store needs")
    if version < known:
        _migrate(connection, steps)


def _begin_file(path: Path, connection: apsw.Connection) -> None:
    """What must be chosen before the first page is written."""
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchall() != [(0,)]:
        raise StoreError(f"{path}: this database belongs to another program")
    connection.pragma("page_size", PAGE_SIZE)
    connection.pragma("auto_vacuum", 2)  # INCREMENTAL


def _migrate(connection: apsw.Connection, steps: dict[int, str]) -> None:
    connection.pragma("synchronous", 2)  # FULL
    connection.execute("BEGIN EXCLUSIVE")
    version = int(connection.pragma("user_version"))
    for number in sorted(steps):
        if number > version:
            connection.execute(steps[number])
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", max(steps))
    # Made once and kept: what keyed hashes of this installation are keyed with.
    connection.execute("INSERT INTO meta (key, value) VALUES ('secret', ?) ON CONFLICT DO NOTHING", (os.urandom(32),))
    connection.execute("COMMIT")
