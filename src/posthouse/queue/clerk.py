"""The clerk: takes down what couriers report, with what their senders are told, many in one commit.

Promises: when `settle` returns, the outcomes are written; it tries until the database takes them. What comes at once is
written at once. One entry that cannot be written takes nothing of the others' with it.
Refuses: to attempt and to schedule.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from posthouse import observe
from posthouse.clock import Clock
from posthouse.observe import ERROR
from posthouse.queue import bounce, settling
from posthouse.queue.lanes import Cursor, Lease
from posthouse.queue.outcome import Report
from posthouse.queue.queue import Job
from posthouse.queue.settling import Entry, Mark, Rules, Settled, Settlement, Telling
from posthouse.store.blobs import Blobs, Staged
from posthouse.store.database import Store, StoreUnavailable

# How long a database that cannot commit is left alone before it is asked again.
_PAUSE: Final = 1.0
# Entries in one transaction: each costs the only writer some 30 µs, a bounce or a filed email more.
_MOST_TOGETHER: Final = 200


@dataclass(frozen=True, slots=True)
class Terms:
    """`hostname` signs what senders are told; `expire`: seconds that such a report is tried for. `rules` as settling
    wants them."""

    hostname: str
    rules: Rules
    expire: float


class Clerk:
    """Writes for the couriers of one process."""

    def __init__(self, store: Store, blobs: Blobs, terms: Terms, clock: Clock, random: Random) -> None:
        self._store = store
        self._blobs = blobs
        self._terms = terms
        self._clock = clock
        self._random = random
        self._waiting: list[tuple[Entry, asyncio.Future[Any]]] = []
        self._writing: set[asyncio.Task[None]] = set()

    # --- what couriers report

    async def mark(self, held: Lease, recipients: Sequence[int]) -> bool:
        """Note, before the final dot is sent, that from now on these may have been taken. False: the lease was lost.

        Raises StoreUnavailable: nothing was noted, and the dot must not be sent.
        """
        marked: bool = await self._write(Mark(held, recipients))
        return marked

    async def settle(
        self,
        held: Lease,
        job: Job,
        report: Report,
        *,
        site_down: bool = False,
        after: Cursor | None = None,
        last: bool = False,
    ) -> Settled:
        """Write the outcomes down, with what the sender is told of them; the other arguments are the Settlement's."""
        now = self._clock.now()
        if now >= job.mail.expires_at:
            report = replace(report, outcomes=bounce.give_up(job, report.outcomes, now))
        told = bounce.reportable(job, report.outcomes)
        if not told and (silence := bounce.silence(job, report.outcomes, now)):
            report = replace(report, steps=(*report.steps, *silence))
        telling = Telling(
            await self._prepare(job, told, now) if told else None,
            await self._draft(job, now) if report.inside and bounce.wants_success(job) else None,
        )
        # Only what is tried again needs a die, which costs a system call.
        over = not report.inside and all(outcome.fate.final for outcome in report.outcomes)
        jitter = 0.0 if over else self._random.random()
        settlement = Settlement(held, job, report, now, jitter, telling, site_down, after, last)
        while True:
            try:
                settled: Settled = await self._write(settlement)
                break
            except StoreUnavailable as error:
                await self._pause(error)
        for step in settled.steps:
            observe.emit(step)
        return settled

    async def tell_of_delay(self, job: Job) -> None:
        """Tell the sender that these recipients wait, where he wants to hear of it (RFC 3461 §4.1). Raises
        StoreUnavailable."""
        now = self._clock.now()
        told = bounce.delayed(job)
        prepared = await self._prepare(job, told, now) if told else None
        for step in await self._store.write(settling.tell_of_delay, job, prepared, now, self._terms.rules.secret):
            observe.emit(step)

    async def _prepare(self, job: Job, told: Sequence[bounce.Told], now: int) -> bounce.Bounce:
        draft = await self._draft(job, now, failed=any(one.action == "failed" for one in told))
        return bounce.Bounce(draft, await self._stage(bounce.compose(draft, told)))

    async def _draft(self, job: Job, now: int, *, failed: bool = False) -> bounce.Draft:
        expires_at = now + int(self._terms.expire * 1000)
        return await bounce.draft(self._blobs, job, self._terms.hostname, now, expires_at, self._random, failed=failed)

    async def _stage(self, octets: bytes) -> Staged:
        while True:
            try:
                return await self._blobs.stage(octets)
            except StoreUnavailable as error:
                await self._pause(error)

    async def _pause(self, error: StoreUnavailable) -> None:
        observe.tell("queue.cannot_settle", level=ERROR, error=str(error))
        await asyncio.sleep(_PAUSE)

    # --- writing

    async def _write(self, entry: Entry) -> Any:
        """Have it written, with whatever else comes while the loop goes once through what it has to do. Raises what
        writing it raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((entry, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._write_waiting)
        return await future

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), _MOST_TOGETHER):
            task = asyncio.create_task(self._write_batch(waiting[start : start + _MOST_TOGETHER]))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _write_batch(self, batch: Sequence[tuple[Entry, asyncio.Future[Any]]]) -> None:
        try:
            answers = await self._store.write(settling.write_down, [entry for entry, _ in batch], self._terms.rules)
        except StoreUnavailable as error:
            for _, future in batch:
                _raise(future, error)
        except Exception as error:
            if len(batch) == 1:
                _raise(batch[0][1], error)
                return
            # One of them cannot be written; the others can.
            for one in batch:
                await self._write_batch([one])
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


def _raise(future: "asyncio.Future[Any]", error: Exception) -> None:
    """Whoever went away abandoned the answer."""
    if not future.done():
        future.set_exception(error)
