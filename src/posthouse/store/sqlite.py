"""The store on SQLite: the embedded default. One file in WAL mode, one writer thread, a few readers.

Promises what `database.Store` promises. More than one process may have the file open; each has a writer, and they take
turns by the file's own lock.
Refuses: a newer schema, another program's database, a damaged file (StoreError at `open`).
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import apsw

from posthouse.clock import Clock
from posthouse.store import sqlite_schema
from posthouse.store.bell import Bell, Ring
from posthouse.store.database import Listener, StoreError, StoreUnavailable, Topic, Tx
from posthouse.store.sqlite_log import Log
from posthouse.store.sqlite_readers import Gate, Readers
from posthouse.store.sqlite_tx import SqliteTx, connect
from posthouse.store.sqlite_writer import Job, Writer

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

READERS: Final = 2
WRITER_CACHE_KB: Final = 16 * 1024
READER_CACHE_KB: Final = 4 * 1024

# Every step of SQLite lets the interpreter's lock go, and a loop that is busy keeps it for this long each time. Beside
# a loop that never rests, 20 writers got 41 functions a second with the default of 5 ms, and 2,000 with 0.02 ms. But
# each handover costs: with mail coming in from 20 senders a message took a fifth more CPU with 0.02 ms than with 0.5
# ms, and there 5 ms gained no more than the noise.
SWITCH_INTERVAL: Final = 0.0005

# How often a process looks whether another wrote; and for how many looks it is content with having heard something.
LOOK_SECONDS: Final = 5.0
BELIEVE_LOOKS: Final = 12

# Pages given back in one write: a few milliseconds.
SHRINK_PAGES: Final = 500


class SqliteStore:
    """A Store over one SQLite file. Made by `open`; serves one event loop at a time."""

    def __init__(self, path: Path, clock: Clock, vfs: str | None) -> None:
        self.path = path
        self._clock = clock
        self._vfs = vfs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look: asyncio.TimerHandle | None = None
        self._heard_since_look = False
        self._looks_believed = 0
        self._closing: asyncio.Future[None] | None = None
        connection = connect(path, writer=True, cache_kb=WRITER_CACHE_KB, vfs=vfs)
        secret: Any = connection.execute("SELECT value FROM meta WHERE key = 'secret'").fetchall()[0][0]
        self.secret: bytes = secret
        tx = SqliteTx(connection)
        self._data_version = _data_version(tx)
        self._bell = Bell(path.parent / "bell")
        self._gate = Gate()
        self._log = Log(connection, self._gate)
        self._writer = Writer(tx, clock, self._wake_writers, self._log.look)
        self._writing = False
        self._readers = Readers(READERS, self._connect_reader, self._gate, self._wake)

    @classmethod
    def open(cls, path: Path, *, clock: Clock, vfs: str | None = None) -> "SqliteStore":
        """Open the store whose database file is `path`, creating or migrating it. Blocks. Raises StoreError.

        `vfs` names the SQLite VFS to go through; tests record or fail what the disk does there.
        """
        sqlite_schema.prepare(path, vfs=vfs)
        if sys.getswitchinterval() > SWITCH_INTERVAL:
            sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            return cls(path, clock, vfs)
        except (apsw.Error, OSError) as error:
            raise StoreError(f"{path}: the store cannot be opened: {error}") from error

    async def read(self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` on a consistent snapshot that is released when it returns."""
        job = self._job(function, args, kwargs)
        self._readers.put(job)
        answer: T = await job.future
        return answer

    async def write(self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` and commit, together with all others that wait. Raises StoreUnavailable."""
        job = self._job(function, args, kwargs)
        self._write(job)
        answer: T = await job.future
        return answer

    def listen(self, topic: Topic, id: int = 0) -> Listener:
        """Hear the bell of this topic; `id` 0 hears every id."""
        loop = self._here()
        if self._look is None:
            self._look = loop.call_later(LOOK_SECONDS, self._look_for_writes)
        return self._bell.listen(topic, id)

    async def copy_to(self, path: Path) -> None:
        """Write a copy of the database, as it is now, to a file that is not there yet. Raises StoreUnavailable."""
        await asyncio.to_thread(self._copy_to, path)

    async def shrink(self) -> int:
        """Give free pages back to the file system, a few in each write, but for a reserve; how many."""
        given = 0
        while pages := await self.write(_shrink):
            given += pages
        return given

    async def close(self) -> None:
        """Finish what was handed over, then close. Safe to call twice."""
        loop = self._here()
        if self._closing is None:
            self._closing = loop.create_future()
            if self._look:
                self._look.cancel()
            loop.remove_reader(self._bell.wire.fileno())
            await asyncio.to_thread(self._close_threads)
            self._bell.wire.close()
            self._closing.set_result(None)
        await asyncio.shield(self._closing)

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
            self._look = None
            self._writing = False
            if self._closing is None:
                loop.add_reader(self._bell.wire.fileno(), self._hear_others)
                self._hear_others()
        return loop

    def _write(self, job: Job) -> None:
        """Hand it to the writer. A group begins when the loop has gone once through what it has to do: what comes of
        that shares a commit, and the writer is not woken in the midst of it, to quarrel over the interpreter's lock.
        """
        self._writer.put(job)
        if not self._writing:
            self._start_writer()

    def _start_writer(self) -> None:
        self._writing = True
        self._here().call_soon(self._writer.start)

    def _wake_writers(self, jobs: Sequence[Job], done: bool) -> None:
        self._wake(jobs, self._written if done else None)

    def _written(self) -> None:
        """The writer waits."""
        self._writing = False
        if self._writer.waited_for:
            self._start_writer()

    def _wake(self, jobs: Sequence[Job], then: Callable[[], None] | None = None) -> None:
        """Tell the other processes, then the loop what became of these; called in the store's threads."""
        rings: set[Ring] = set().union(*[job.rings for job in jobs if job.rings])
        if rings:
            # First: who hears that it is written, and asks another process for it, is told no less than here.
            self._bell.wire.send(rings)
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._settle, jobs, rings, then)
            except RuntimeError:
                log.debug("the loop was closed before %d answers of the store", len(jobs))

    def _settle(self, jobs: Sequence[Job], rings: set[Ring], then: Callable[[], None] | None) -> None:
        if then is not None:
            then()
        for job in jobs:
            job.settle()
        self._bell.ring(rings)

    def hear(self) -> None:
        """Hear now what other processes have rung, before what is known is believed."""
        self._hear_others()

    def _hear_others(self) -> None:
        if self._bell.receive():
            self._heard_since_look = True

    def _look_for_writes(self) -> None:
        """Ask the writer's connection whether another process wrote since the last look."""
        loop = self._here()
        self._look = loop.call_later(LOOK_SECONDS, self._look_for_writes)
        self._bell.wire.look_around()
        job = Job(_data_version, (), {}, loop.create_future())
        job.future.add_done_callback(self._looked)
        self._write(job)

    def _looked(self, answer: "asyncio.Future[int]") -> None:
        if answer.cancelled() or answer.exception():
            return
        wrote, self._data_version = answer.result() != self._data_version, answer.result()
        heard, self._heard_since_look = self._heard_since_look, False
        # Another process that writes and is heard is believed while it goes on, for a time; one of its rings, or
        # another's, may have been lost all the same, so in the end everybody looks.
        if wrote and heard and self._looks_believed < BELIEVE_LOOKS:
            self._looks_believed += 1
        elif wrote or self._looks_believed:
            self._looks_believed = 0
            self._bell.ring_all()

    def _connect_reader(self) -> SqliteTx:
        return SqliteTx(connect(self.path, writer=False, cache_kb=READER_CACHE_KB, vfs=self._vfs))

    def _copy_to(self, path: Path) -> None:
        try:
            connection = connect(self.path, writer=True, cache_kb=READER_CACHE_KB, vfs=self._vfs)
            try:
                connection.execute("VACUUM INTO ?", (str(path),))
            finally:
                connection.close(force=True)
        except apsw.Error as error:
            raise StoreUnavailable(f"the database could not be copied: {error}") from error


def _shrink(tx: Tx) -> int:
    """Give some free pages back; how many. Up to a tenth of the file stays free, for the mail that comes."""
    (pages,), (free,) = tx.query("PRAGMA page_count", ())[0], tx.query("PRAGMA freelist_count", ())[0]
    wanted: int = min(free - pages // 10, SHRINK_PAGES)
    if wanted <= 0:
        return 0
    tx.query(f"PRAGMA incremental_vacuum({wanted})", ())
    left: int = tx.query("PRAGMA freelist_count", ())[0][0]
    return int(free - left)


def _data_version(tx: Tx) -> int:
    """A number that changes when another connection has written, and not when this one has."""
    version: int = tx.query("PRAGMA data_version", ())[0][0]
    return version
