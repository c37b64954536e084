"""Files that hold octets: made in a directory of this process's own, then given their final name, durably.

Promises: when `keep` returns, the octets, the name and the directories that lead to it survive loss of power. A name is
128 random bits and is never used twice. What a process that died left unfinished is removed by the next that starts.
Refuses: to know what a blob is.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

WORKSHOP: Final = "tmp"


class BlobFiles:
    """The directory `blobs/` of a store. Unfinished files are in `tmp/<token>/`, which this process holds a lock on."""

    def __init__(self, directory: Path) -> None:
        """Make the directory where it is not there. Raises OSError."""
        self.directory = directory
        workshops = directory / WORKSHOP
        workshops.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(directory.parent)
        _clear_abandoned(workshops)
        self._workshop = workshops / secrets.token_hex(8)
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

    def keep(self, path: Path, descriptor: int) -> str:
        """Give an unfinished file a final name, and return that when all of it is on the disk. Blocks."""
        os.fsync(descriptor)
        token = secrets.token_hex(16)
        # 256 × 16 directories: few enough to exist soon, so that making one is no cost of every file.
        upper, lower = self.directory / token[:2], self.directory / token[:2] / token[2]
        name = f"{token[:2]}/{token[2]}/{token[3:]}"
        if not lower.is_dir():
            lower.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(self.directory)
            sync_directory(upper)
        os.rename(path, self.directory / name)
        sync_directory(lower)
        return name

    def open(self, name: str) -> int:
        """A descriptor to read by. Raises OSError."""
        return os.open(self.directory / name, os.O_RDONLY | os.O_CLOEXEC)

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is removed already."""
        (self.directory / name).unlink(missing_ok=True)

    def older_than(self, seconds_since_1970: float) -> Iterator[str]:
        """The names of finished files last written before that."""
        for upper in _directories(self.directory):
            for lower in _directories(Path(upper.path)) if upper.name != WORKSHOP else ():
                for name in _older_in(Path(lower.path), seconds_since_1970):
                    yield f"{upper.name}/{lower.name}/{name}"


def _older_in(directory: Path, seconds_since_1970: float) -> list[str]:
    with os.scandir(directory) as files:
        return [file.name for file in files if file.stat(follow_symlinks=False).st_mtime < seconds_since_1970]


def _directories(directory: Path) -> list["os.DirEntry[str]"]:
    with os.scandir(directory) as entries:
        return sorted((entry for entry in entries if entry.is_dir(follow_symlinks=False)), key=lambda entry: entry.name)


def _make_locked(directory: Path) -> int:
    directory.mkdir(mode=0o700)
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _clear_abandoned(workshops: Path) -> None:
    """Remove the unfinished files of processes that are gone: nobody holds their lock."""
    for entry in _directories(workshops):
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


def sync_directory(directory: Path) -> None:
    """Bring the names in a directory to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
