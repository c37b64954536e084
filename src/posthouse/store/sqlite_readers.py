"""The readers: threads with connections of their own, that run read functions on a snapshot each.

Promises: a function sees everything that was committed before it was handed over, and its snapshot is released when it
returns. While the gate is held no snapshot is open, so that the write-ahead log can be emptied.
Refuses: to write (the connections are query_only).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Final

import apsw

from posthouse.store.sqlite_tx import UNAVAILABLE, SqliteTx, as_unavailable
from posthouse.store.sqlite_writer import Job

# Functions a reader takes at once: their callers are woken together, and another reader is left some.
HOP_FUNCTIONS: Final = 16


class Gate:
    """Lets readers through until the writer, who is the only one to do so, holds it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._inside = 0
        self._held = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Be inside; waits while the gate is held."""
        with self._condition:
            self._condition.wait_for(lambda: not self._held)
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                self._condition.notify_all()

    @contextmanager
    def held(self, seconds: float) -> Iterator[bool]:
        """Let nobody in, and wait that long for those inside to leave. False where somebody has not."""
        with self._condition:
            self._held = True
            empty = self._condition.wait_for(lambda: not self._inside, seconds)
        try:
            yield empty
        finally:
            with self._condition:
                self._held = False
                self._condition.notify_all()


class Readers:
    """The threads and their queue. `connect` is called in each thread; `wake` likewise, with what has been answered."""

    def __init__(
        self, count: int, connect: Callable[[], SqliteTx], gate: Gate, wake: Callable[[Sequence[Job]], None]
    ) -> None:
        self._connect = connect
        self._gate = gate
        self._wake = wake
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"store-reader-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, job: Job) -> None:
        """Hand a function over."""
        self._queue.put(job)

    def close(self) -> None:
        """Finish what was handed over; returns when the threads have ended."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        tx: SqliteTx | None = None
        while (job := self._queue.get()) is not None:
            jobs = [job, *self._share()]
            with self._gate.passing():
                for job in jobs:
                    try:
                        tx = tx or self._connect()
                    except apsw.Error as error:
                        job.error = as_unavailable(error)
                    else:
                        tx = tx if _run_one(tx, job) else None
            self._wake(jobs)
        if tx:
            tx.close()

    def _share(self) -> Iterator[Job]:
        """What else waits, as far as it is this reader's share."""
        for _ in range(min(self._queue.qsize() // len(self._threads), HOP_FUNCTIONS)):
            try:
                job = self._queue.get_nowait()
            except Empty:
                return
            if job is None:
                self._queue.put(None)
                return
            yield job


def _run_one(tx: SqliteTx, job: Job) -> bool:
    """Run one function on a snapshot of its own. False: the connection is of no use any more, and is closed."""
    tx.begin_function()
    try:
        tx.control("BEGIN")
        job.result = job.function(tx, *job.args, **job.kwargs)
        tx.end_function()
    except BaseException as error:
        job.error = as_unavailable(error) if isinstance(error, UNAVAILABLE) else error
    try:
        if tx.connection.in_transaction:
            tx.control("ROLLBACK")
    except apsw.Error:
        tx.close()
        return False
    return True
