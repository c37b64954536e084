"""A disk that tells what was done to it, and fails when asked: an SQLite VFS over the real one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import apsw

Event = tuple[str, str]


class Disk(apsw.VFS):
    """Records writes and syncs by the end of the file's name (".db-wal", ".db"); `fail` may raise for any of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[Event] = []
        self.lock = threading.Lock()
        self.fail: Callable[[str, str, int], None] = lambda what, file, octets: None
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "DiskFile":
        return DiskFile(self, name, flags)

    def note(self, what: str, file: str, octets: int = 0) -> None:
        """Record it, or fail it."""
        self.fail(what, file, octets)
        with self.lock:
            self.events.append((what, file))

    def excepthook(self, *_: Any) -> bool:
        """What is made to fail is no news."""
        return True


class DiskFile(apsw.VFSFile):
    """A file of that disk."""

    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        self.disk = disk
        self.kind = path.rpartition("posthouse")[2]
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        self.disk.note("write", self.kind, len(data))
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self.disk.note("sync", self.kind)
        super().xSync(flags)

    def excepthook(self, *_: Any) -> bool:
        """What is made to fail is no news."""
        return True


@contextmanager
def disk(name: str) -> Iterator[Disk]:
    """A disk under this name, to be given as `vfs`."""
    made = Disk(name)
    try:
        yield made
    finally:
        made.unregister()
