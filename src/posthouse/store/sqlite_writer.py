"""The one writer: a thread that takes all waiting functions into one transaction and commits once (group commit).

Promises: a caller is woken after the COMMIT that holds its function has returned, and never before; a function that
raises takes nothing of the others' with it; an error that rolls back the whole transaction (disk full, I/O error)
fails the function that met it, and the others run again in a new transaction.
Refuses: to be interrupted, and to forget a function once handed over.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final

import apsw

from posthouse.clock import Clock
from posthouse.store.database import StoreUnavailable, Topic
from posthouse.store.sqlite_tx import UNAVAILABLE, SqliteTx, as_unavailable

# A group is bounded, so that the first caller in it does not wait for a crowd.
GROUP_FUNCTIONS: Final = 256
GROUP_SECONDS: Final = 0.05
# A group whose transaction was lost this often meets trouble that running again does not cure.
LOST_TRANSACTIONS: Final = 4

Rings = set[tuple[Topic, int]]
log = logging.getLogger(__name__)


class Job:
    """A function handed over, whoever waits for it, and what became of it."""

    __slots__ = ("args", "error", "function", "future", "kwargs", "result", "rings")

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], future: asyncio.Future[Any]
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None
        self.rings: Rings = set()

    def settle(self) -> None:
        """Give the caller its answer; on the loop. One that went away abandoned the answer, not the commit."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        elif isinstance(self.error, StopIteration):
            # A future cannot carry it (PEP 479).
            self.future.set_exception(RuntimeError(f"the function raised {self.error!r}"))
        else:
            self.future.set_exception(self.error)


class Writer:
    """The thread, and the functions that wait for it. `wake` is called in the thread with each settled group, and
    whether the thread now waits for `start`: it begins a group when it is told to, so that one gathers meanwhile.
    """

    def __init__(
        self,
        tx: SqliteTx,
        clock: Clock,
        wake: Callable[[Sequence[Job], bool], None],
        after_commit: Callable[[], None],
    ) -> None:
        self._tx = tx
        self._clock = clock
        self._wake = wake
        self._after_commit = after_commit
        self._waiting: deque[Job] = deque()
        self._starts: SimpleQueue[bool] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def waited_for(self) -> bool:
        """Functions wait."""
        return bool(self._waiting)

    def put(self, job: Job) -> None:
        """Hand a function over. Once the writer is started it runs, whatever its caller does."""
        self._waiting.append(job)

    def start(self) -> None:
        """Run what waits, and then wait again."""
        self._starts.put(True)

    def close(self) -> None:
        """Finish what was handed over; returns when the thread has ended."""
        self._starts.put(False)
        self._thread.join()

    def _run(self) -> None:
        go_on = True
        while go_on:
            go_on = self._starts.get()
            jobs: list[Job] = []
            self._gather(jobs)
            if not jobs:
                self._tell([], True)
            while jobs:
                jobs = self._commit_group(jobs)
                if not go_on:
                    self._gather(jobs)
        self._tx.close()

    def _gather(self, jobs: list[Job]) -> None:
        """Add to the group what waits, up to its bound."""
        while self._waiting and len(jobs) < GROUP_FUNCTIONS:
            jobs.append(self._waiting.popleft())

    def _commit_group(self, jobs: list[Job]) -> list[Job]:
        """Run what the group's time allows, commit, wake the callers; the functions left for the next group."""
        failed: list[Job] = []
        ran = 0
        try:
            for _ in range(LOST_TRANSACTIONS):
                ran, culprit = self._attempt(jobs)
                if culprit is None:
                    self._tx.control("COMMIT")
                    break
                # The whole transaction is gone, and with it what the functions before this one wrote: they run again.
                failed.append(culprit)
                jobs.remove(culprit)
            else:
                ran = self._fail_all(jobs, failed[-1].error)
        except BaseException as error:
            ran = self._fail_all(jobs, error)
            if not isinstance(error, apsw.Error):
                log.exception("the store's writer met an error of its own")
        # The instant of responsibility: until here what these functions wrote was their callers' to keep; from here on
        # it is the database's, and only now is anybody told.
        self._tell([*jobs[:ran], *failed], ran >= len(jobs))
        return jobs[ran:]

    def _tell(self, jobs: list[Job], done: bool) -> None:
        """Wake the callers and look after the log. Whatever happens here, the thread goes on: mail waits for it."""
        try:
            self._wake(jobs, done)
            self._tx.between_transactions()
            self._after_commit()
        except Exception:
            log.exception("the store's writer met an error behind a commit")

    def _attempt(self, jobs: list[Job]) -> tuple[int, Job | None]:
        """Begin and run functions in order: how many ran, and the one that cost us the transaction, if one did."""
        self._clear()
        self._tx.control("BEGIN IMMEDIATE")
        deadline = self._clock.monotonic() + GROUP_SECONDS
        for count, job in enumerate(jobs, 1):
            if not self._run_one(job):
                return 0, job
            if self._clock.monotonic() > deadline:
                return count, None
            if count == len(jobs):
                # Those who were handed over meanwhile ride along: a commit costs the same with them.
                self._gather(jobs)
        return len(jobs), None

    def _run_one(self, job: Job) -> bool:
        """Run one function in its savepoint. False: the transaction does not stand any more, and the job has failed."""
        tx = self._tx
        job.error = None
        job.rings = tx.begin_function()
        try:
            tx.control("SAVEPOINT f")
            job.result = job.function(tx, *job.args, **job.kwargs)
            tx.end_function()
            tx.control("RELEASE f")
        except BaseException as error:
            job.error = as_unavailable(error) if isinstance(error, UNAVAILABLE) else error
            job.rings = set()
            return self._undo_one()
        return True

    def _undo_one(self) -> bool:
        """Roll back to the savepoint. False where that cannot be, because an error has rolled back everything."""
        self._tx.rolled_back()
        try:
            self._tx.control("ROLLBACK TO f")
            self._tx.control("RELEASE f")
        except apsw.Error:
            return False
        return self._tx.connection.in_transaction

    def _fail_all(self, jobs: list[Job], cause: BaseException | None) -> int:
        """Nothing of this group stands, and everyone in it is told so. How many that are."""
        self._clear()
        self._tx.rolled_back()
        for job in jobs:
            job.rings = set()
            job.error = StoreUnavailable(f"the store cannot commit now: {cause}")
            job.error.__cause__ = cause
        return len(jobs)

    def _clear(self) -> None:
        """Make sure that no transaction stands."""
        if self._tx.connection.in_transaction:
            self._tx.rolled_back()
            self._tx.control("ROLLBACK")
