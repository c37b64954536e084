"""A backup put in the place of a store: its files copied beside the place, and moved into it when all is ready.

Promises: what is moved into place is whole and on the disk; until then there is no store there, and a copy that was
broken off is begun anew, also where it was between the two moves at its end. Refuses: a place that holds a store, or
blobs, a source that is none or is in use, and one whose files are not all there, unless told to.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from posthouse.store.backup import BATCH, rows
from posthouse.store.blob_files import sync, sync_directory
from posthouse.store.sweep import LOCK

_BLOBS: Final = "blobs"
_STAGING: Final = "restoring"
_NAMED: Final = "SELECT id, name, size FROM blob WHERE name IS NOT NULL AND id > ? ORDER BY id LIMIT ?"


class CannotRestore(Exception):
    """There, or from there, nothing can be restored; in words for the person who asked."""


def missing(source: Path, database: str) -> int:
    """Of how many messages that lie in files the backup lacks octets. Blocks. Raises StoreUnavailable."""
    return sum(_size(source / _BLOBS / name) != size for name, size in _files(source / database))


def _files(database: Path) -> Iterator[tuple[str, int]]:
    after = 0
    while found := rows(database, _NAMED, after, BATCH):
        yield from [(name, size) for _, name, size in found]
        after = found[-1][0]


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return None


def stage(
    source: Path, data: Path, database: str, told: Callable[[int, int], None], *, incomplete: bool = False
) -> Path:
    """Copy the backup `source` into a directory below `data`: that directory. Blocks.

    `told` hears how many files of how many are copied; `incomplete`: also where files are missing. Raises
    CannotRestore, StoreUnavailable, OSError.
    """
    _check(source, data, database)
    if not incomplete and (count := missing(source, database)):
        raise CannotRestore(
            f"{source} is not whole: of {count} large message{'s' * (count > 1)} the "
            f"file{'s are' if count > 1 else ' is'} missing or cut short; "
            "look for another copy of it, or restore what there is with --incomplete"
        )
    staging = data / _STAGING
    _discard(staging, data, database)
    (staging / _BLOBS).mkdir(mode=0o700, parents=True)
    staging.chmod(0o700)
    names = [Path(database), *(path.relative_to(source) for path in sorted((source / _BLOBS).rglob("*")))]
    for number, name in enumerate(names, 1):
        if (source / name).is_dir():
            (staging / name).mkdir(mode=0o700)
        else:
            shutil.copyfile(source / name, staging / name)
            (staging / name).chmod(0o600)
            sync(staging / name)
        told(number, len(names))
    return staging


def _check(source: Path, data: Path, database: str) -> None:
    if (data / database).exists():
        raise CannotRestore(f"{data} holds a store already; move it away first")
    for end in ("-wal", "-journal", "-shm"):
        # SQLite would take the log of another database for this one's, and destroy what was restored.
        if (data / f"{database}{end}").exists():
            raise CannotRestore(f"{data / database}{end} is of the store that was there; move it away first, too")
    if not _is_half_moved(data, database) and any(map(_is_somebodys, (data / _BLOBS).rglob("*"))):
        raise CannotRestore(f"{data / _BLOBS} holds messages already; move it away first")
    if not (source / database).is_file():
        raise CannotRestore(f"{source} is no backup: there is no {database} in it")
    if any((source / f"{database}{end}").exists() for end in ("-wal", "-journal")):
        raise CannotRestore(f"{source} is no backup but a store, which may be in use; make one with `posthouse backup`")


def _is_somebodys(path: Path) -> bool:
    """A file that the sweep's lock is not."""
    return path.is_file() and path.name != LOCK


def _is_half_moved(data: Path, database: str) -> bool:
    """A restore moved its files to blobs/ and was broken off before its database followed: nothing else lies there."""
    staging = data / _STAGING
    if not (staging / database).is_file() or (staging / _BLOBS).exists():
        return False
    moved = {name for name, _ in _files(staging / database)}
    blobs = data / _BLOBS
    return all(str(path.relative_to(blobs)) in moved for path in blobs.rglob("*") if _is_somebodys(path))


def _discard(staging: Path, data: Path, database: str) -> None:
    """Remove what a restore that was broken off has left."""
    if not staging.exists():
        return
    if _is_half_moved(data, database) and (data / _BLOBS).exists():
        (data / _BLOBS).rename(staging / _BLOBS)
        sync_directory(data)
    # First, for with it but without its files it would look half moved.
    (staging / database).unlink(missing_ok=True)
    sync_directory(staging)
    shutil.rmtree(staging)


def finish(staging: Path, data: Path, database: str) -> None:
    """Move what was staged into place, the database last. Blocks. Raises CannotRestore, OSError."""
    if (staging / f"{database}-wal").exists():
        raise CannotRestore(f"{staging / database} was not closed as it should be; try again")
    for directory, _, _ in os.walk(staging):
        sync_directory(Path(directory))
    if (data / _BLOBS).exists():
        shutil.rmtree(data / _BLOBS)
    (staging / _BLOBS).rename(data / _BLOBS)
    sync_directory(data)
    # The instant of the restore: before it there is no store here, after it there is all of it.
    (staging / database).rename(data / database)
    sync_directory(data)
    shutil.rmtree(staging)
