"""The store on SQLite: the embedded default. One file in WAL mode, one writer thread, a few readers.

Promises what `database.Store` promises. More than one process may have the file open; each has a writer, and they take
turns by the file's own lock.
Refuses: a newer schema, another program's database, a damaged file (StoreError at `open`).
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import apsw

from posthouse.clock import Clock
from posthouse.store import sqlite_schema
from posthouse.store.bell import Bell
from posthouse.store.database import Listener, StoreError, StoreUnavailable, Topic, Tx
from posthouse.store.sqlite_readers import Gate, Readers
from posthouse.store.sqlite_tx import SqliteTx, connect
from posthouse.store.sqlite_writer import Job, Writer

P = ParamSpec("P")
T = TypeVar("T")

READERS: Final = 2
WRITER_CACHE_KB: Final = 16 * 1024
READER_CACHE_KB: Final = 4 * 1024


class SqliteStore:
    """A Store over one SQLite file. Made by `open`; serves one event loop at a time."""

    def __init__(self, path: Path, secret: bytes, clock: Clock, vfs: str | None) -> None:
        self.path = path
        self.secret = secret
        self._vfs = vfs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell = Bell()
        self._gate = Gate()
        self._closing = False
        self._writer = Writer(
            SqliteTx(connect(path, writer=True, cache_kb=WRITER_CACHE_KB, vfs=vfs)),
            clock,
            self._wake,
            self._after_commit,
        )
        self._readers = Readers(READERS, self._connect_reader, self._gate, self._wake)

    @classmethod
    def open(cls, path: Path, *, clock: Clock, vfs: str | None = None) -> "SqliteStore":
        """Open the store whose database file is `path`, creating or migrating it. Blocks. Raises StoreError."""
        sqlite_schema.prepare(path, vfs=vfs)
        try:
            connection = connect(path, writer=False, cache_kb=100, vfs=vfs)
            secret: Any = connection.execute("SELECT value FROM meta WHERE key = 'secret'").fetchall()[0][0]
            connection.close()
        except apsw.Error as error:
            raise StoreError(f"{path}: the store cannot be read: {error}") from error
        return cls(path, secret, clock, vfs)

    async def read(self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` on a consistent snapshot that is released when it returns."""
        job = self._job(function, args, kwargs)
        self._readers.put(job)
        answer: T = await job.future
        return answer

    async def write(self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` and commit, together with all others that wait. Raises StoreUnavailable."""
        job = self._job(function, args, kwargs)
        self._writer.put(job)
        answer: T = await job.future
        return answer

    def listen(self, topic: Topic, id: int = 0) -> Listener:
        """Hear the bell of this topic; `id` 0 hears every id."""
        self._here()
        return self._bell.listen(topic, id)

    async def close(self) -> None:
        """Finish what was handed over, then close."""
        if not self._closing:
            self._closing = True
            await asyncio.to_thread(self._close_threads)

    def _close_threads(self) -> None:
        self._readers.close()
        self._writer.close()

    def _job(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        if self._closing:
            raise StoreUnavailable("the store is closed")
        return Job(function, args, kwargs, self._here().create_future())

    def _here(self) -> asyncio.AbstractEventLoop:
        """The loop that is served. One that was closed gives way to the next."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError("a store serves one event loop at a time")
            self._loop = loop
        return loop

    def _wake(self, jobs: Sequence[Job]) -> None:
        """Tell the loop what became of these; called in the store's threads."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        loop.call_soon_threadsafe(self._settle, jobs)

    def _settle(self, jobs: Sequence[Job]) -> None:
        rings = set().union(*[job.rings for job in jobs])
        for job in jobs:
            job.settle()
        if rings:
            self._bell.ring(rings)

    def _connect_reader(self) -> SqliteTx:
        return SqliteTx(connect(self.path, writer=False, cache_kb=READER_CACHE_KB, vfs=self._vfs))

    def _after_commit(self) -> None:
        pass
