"""Files that hold octets: made in a directory of this process's own, then given their final name, durably.

Promises: when `BlobFiles.stage` returns, the octets, the name and the directories that lead to it survive loss of
power. A name is 128 random bits and is never used twice. What a process that died left unfinished is removed by the
next that starts.
Refuses: to know what a blob is.
"""

import asyncio
import fcntl
import mmap
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

WORKSHOP: Final = "tmp"
# What `stage` calls its directories and files; whatever else lies there is somebody else's ("lost+found").
_UPPER: Final = re.compile(r"[0-9a-f]{2}\Z")
_LOWER: Final = re.compile(r"[0-9a-f]\Z")
_FILE: Final = re.compile(r"[0-9a-f]{29}\Z")
_TOKEN: Final = re.compile(r"[0-9a-f]{16}\Z")
BATCH: Final = 200


class Workshop:
    """Unfinished files: in `tmp/<token>/` of a store's directory `blobs/`, which this process holds a lock on."""

    def __init__(self, directory: Path) -> None:
        """Make `blobs/` where it is not there. Raises OSError."""
        workshops = directory / WORKSHOP
        workshops.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(directory.parent)
        self._workshop = workshops / secrets.token_hex(8)
        with _alone(workshops):
            _clear_abandoned(workshops)
            self._lock = _make_locked(self._workshop)

    def close(self) -> None:
        """Remove what is unfinished."""
        if self._lock >= 0:
            shutil.rmtree(self._workshop, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def begin(self) -> tuple[Path, int]:
        """A new unfinished file: its path and a descriptor to write and read by."""
        path = self._workshop / secrets.token_hex(8)
        return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


class BlobFiles:
    """A Place: the files of the directory `blobs/`, which a Workshop has made. What is staged is moved from there."""

    number: Final = 1

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def stage(self, unfinished: Path, descriptor: int) -> str:
        """Give the file its final name, and return that when all of it is on the disk. Raises OSError."""
        return await asyncio.to_thread(self._keep, unfinished, descriptor)

    async def load(self, name: str) -> mmap.mmap | bytes:
        """A map of the file. Raises OSError."""
        descriptor = os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            return mmap.mmap(descriptor, size, prot=mmap.PROT_READ) if size else b""
        finally:
            os.close(descriptor)

    async def remove(self, names: Sequence[str]) -> None:
        """Remove these files; one that is not there is removed already. Raises OSError."""
        await asyncio.to_thread(self._remove, names)

    async def older_than(self, milliseconds: int) -> AsyncIterator[Sequence[str]]:
        """In batches, the names of finished files last written before that moment."""
        names = self._older_than(milliseconds / 1000)
        while batch := await asyncio.to_thread(lambda: list(islice(names, BATCH))):
            yield batch

    async def copy(self, names: Sequence[str], directory: Path) -> None:
        """Copy these into another `blobs/`; the files are synced then, the directories are left to who made it."""
        await asyncio.to_thread(self._copy, names, directory)

    def close(self) -> None:
        """Nothing is held."""

    def _keep(self, path: Path, descriptor: int) -> str:
        os.fsync(descriptor)
        token = secrets.token_hex(16)
        # 256 × 16 directories: few enough to exist soon, so that making one is no cost of every file.
        upper, lower = self._directory / token[:2], self._directory / token[:2] / token[2]
        name = f"{token[:2]}/{token[2]}/{token[3:]}"
        if not lower.is_dir():
            lower.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(self._directory)
            sync_directory(upper)
        os.rename(path, self._directory / name)
        sync_directory(lower)
        return name

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            (self._directory / name).unlink(missing_ok=True)

    def _older_than(self, seconds_since_1970: float) -> Iterator[str]:
        for upper in _directories(self._directory, _UPPER):
            for lower in _directories(Path(upper.path), _LOWER):
                for name in _older_in(Path(lower.path), seconds_since_1970):
                    yield f"{upper.name}/{lower.name}/{name}"

    def _copy(self, names: Sequence[str], directory: Path) -> None:
        for name in names:
            target = directory / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(self._directory / name, target)
            sync(target)


def _older_in(directory: Path, seconds_since_1970: float) -> list[str]:
    with os.scandir(directory) as files:
        return [file.name for file in files if _FILE.match(file.name) and _is_older(file, seconds_since_1970)]


def _is_older(file: "os.DirEntry[str]", seconds_since_1970: float) -> bool:
    try:
        return file.stat(follow_symlinks=False).st_mtime < seconds_since_1970
    except FileNotFoundError:
        return False  # abandoned since the directory was read


def _directories(directory: Path, named: re.Pattern[str]) -> list["os.DirEntry[str]"]:
    with os.scandir(directory) as entries:
        found = [entry for entry in entries if named.match(entry.name) and entry.is_dir(follow_symlinks=False)]
    return sorted(found, key=lambda entry: entry.name)


@contextmanager
def _alone(workshops: Path) -> Iterator[None]:
    """Of processes that start at once one clears and makes: a new directory is not locked at once."""
    descriptor = os.open(workshops, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make_locked(directory: Path) -> int:
    directory.mkdir(mode=0o700)
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _clear_abandoned(workshops: Path) -> None:
    """Remove the unfinished files of processes that are gone: nobody holds their lock."""
    for entry in _directories(workshops, _TOKEN):
        try:
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry.path, ignore_errors=True)
        except BlockingIOError:
            pass  # its process lives
        finally:
            os.close(descriptor)


def sync(file: Path) -> None:
    """Bring a file's octets to the disk."""
    _sync(file, os.O_RDWR)


def sync_directory(directory: Path) -> None:
    """Bring the names in a directory to the disk."""
    _sync(directory, os.O_RDONLY)


def _sync(path: Path, access: int) -> None:
    descriptor = os.open(path, access | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
