"""The clerk: takes down what couriers report, with what their senders are told, many in one commit.

Promises: when `settle` returns, the outcomes are written; it tries until the database takes them. What comes at once is
written at once. One entry that cannot be written takes nothing of the others' with it.
Refuses: to attempt and to schedule.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final, NamedTuple

from posthouse import observe
from posthouse.clock import Clock
from posthouse.observe import ERROR
from posthouse.queue import bounce, settling
from posthouse.queue.lanes import Cursor, Lease
from posthouse.queue.outcome import Report
from posthouse.queue.queue import Job
from posthouse.queue.settling import Entry, Mark, Marked, Rules, Settled, Settlement, Telling
from posthouse.store.blobs import Blobs, Staged
from posthouse.store.database import Store, StoreUnavailable

# How long a database that cannot commit is left alone before it is asked again.
_PAUSE: Final = 1.0
# Entries in one transaction: each costs the only writer some 30 µs, a bounce or a filed email more.
_MOST_TOGETHER: Final = 200

# Who hears what became of something that was written beside his work.
Then = Callable[[Settled | Exception], None]


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
        self._waiting: list[_Waiting] = []
        self._writing: set[asyncio.Task[None]] = set()

    # --- what couriers report

    async def mark(self, held: Lease, recipients: Sequence[int]) -> Marked:
        """Note, before the final dot is sent, that from now on these may have been taken. The dot must not be sent but
        where that was NOTED.

        Raises StoreUnavailable: nothing was noted.
        """
        marked: Marked = await self._enter(Mark(held, recipients))
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
        keep: bool = False,
    ) -> Settled:
        """Write the outcomes down, with what the sender is told of them; the other arguments are the Settlement's.

        Deferrals of mail whose time is up are made failures, but to `keep`."""
        now = self._clock.now()
        if now >= job.mail.expires_at and not keep:
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
                settled: Settled = await self._enter(settlement)
                break
            except StoreUnavailable as error:
                await self._pause(error)
        for step in settled.steps:
            observe.emit(step)
        return settled

    def settle_beside(self, held: Lease, job: Job, report: Report, then: Then) -> "asyncio.Future[Any]":
        """Have it written down that all of a job were relayed, where nobody is to be told of it and nothing claimed.

        `then` hears what was done, before whoever waits for what is returned; or why it can never be.
        """

        def written(answer: Settled | Exception) -> None:
            if isinstance(answer, Settled):
                for step in answer.steps:
                    observe.emit(step)
            then(answer)

        return self._enter(Settlement(held, job, report, self._clock.now(), 0.0), written)

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

    def _enter(self, entry: Entry, then: Then | None = None) -> "asyncio.Future[Any]":
        """Have it written, with whatever else comes while the loop goes once through what it has to do: what writing it
        answers, or raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._wait(_Waiting(entry, answer, then), loop)
        return answer

    def _wait(self, one: "_Waiting", loop: asyncio.AbstractEventLoop) -> None:
        self._waiting.append(one)
        if len(self._waiting) == 1:
            loop.call_soon(self._write_waiting)

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), _MOST_TOGETHER):
            self._spawn(self._write_batch(waiting[start : start + _MOST_TOGETHER]))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write_batch(self, batch: "Sequence[_Waiting]") -> None:
        try:
            answers = await self._store.write(settling.write_down, [one.entry for one in batch], self._terms.rules)
        except StoreUnavailable as error:
            # Whoever waits is told, and may try again; what is written beside his work is tried again here.
            for one in batch:
                if one.then is None:
                    one.tell(error)
            if beside := [one for one in batch if one.then is not None]:
                self._spawn(self._try_again(beside, error))
        except Exception as error:
            if len(batch) == 1:
                batch[0].tell(error)
                return
            # One of them cannot be written; the others can.
            for one in batch:
                await self._write_batch([one])
        else:
            for one, answer in zip(batch, answers, strict=True):
                one.tell(answer)

    async def _try_again(self, beside: "Sequence[_Waiting]", error: StoreUnavailable) -> None:
        await self._pause(error)
        for one in beside:
            # One that is done was given up, by a runner that ends.
            if not one.answer.done():
                self._wait(one, asyncio.get_running_loop())


class _Waiting(NamedTuple):
    """An entry to be written, and whose it is. With `then`, which hears it first, nobody waits for what it says."""

    entry: Entry
    answer: "asyncio.Future[Any]"
    then: Then | None

    def tell(self, answer: Any) -> None:
        """What writing it answered, or raised. Whoever went away abandoned the answer."""
        if self.then is not None:
            self.then(answer)
        if self.answer.done():
            return
        if isinstance(answer, Exception) and self.then is None:
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)
