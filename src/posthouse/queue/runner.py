"""The queue's loop: look which lanes are due, start couriers, settle what they report, write bounces, sleep.

Promises: nothing leaves the queue but by a commit that holds its outcome, and the bounce where one is due stands in the
same commit. A courier that raises defers its recipients. What a courier did is written down even where the database
cannot take it at once: the runner tries until it can, or is stopped.
Refuses: to know how mail travels (couriers do), and who goes first (schedule.py). It keeps nothing a restart needs.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final, Protocol

from posthouse import observe
from posthouse.clock import Clock
from posthouse.observe import ERROR, WARNING
from posthouse.queue import bounce, lanes
from posthouse.queue.lanes import Claim, Cursor, Lease, Settled
from posthouse.queue.outcome import Fate, Outcome, Report
from posthouse.queue.queue import Job
from posthouse.queue.schedule import LaneState, Limits, schedule
from posthouse.store.blobs import Blobs, Staged
from posthouse.store.database import Listener, Store, StoreUnavailable, Topic, Tx
from posthouse.terms.reply import Reply

# Called before the final dot with the recipients that may be taken by it. Raises LeaseLost: do not send it.
BeforeDot = Callable[[Sequence[int]], Awaitable[None]]

# Couriers past the dot wait up to ten minutes for the reply (RFC 5321 §4.5.3.2.6); a stop does not wait as long.
GRACE: Final = 60.0
# How long a database that cannot commit is left alone before it is asked again.
_PAUSE: Final = 1.0
# How long a lane is left alone that met an error of ours.
_AVOIDED_MS: Final = 60_000
# Rounds of expired recipients under one lease, so that it does not run out under a very long lane.
_EXPIRY_ROUNDS: Final = 20
_OUR_FAULT: Final = Reply(451, "4.3.0", "An error of this server's; it will try again")


class LeaseLost(Exception):
    """The lane has another holder by now: whatever has not been done must not be done."""


class Courier(Protocol):
    """What attempts the jobs of one kind of destination."""

    async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
        """Attempt the job once and report an outcome for each of its recipients.

        May be cancelled at any point before `before_dot` was called; nothing has then happened. Lets LeaseLost pass.
        """
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """`hostname` signs bounces. `delays` are seconds between attempts, the last repeats. `expire`: a bounce's own time.
    `secret` keys what journeys are found by. `lease_seconds`: how soon another process may take over what we held."""

    hostname: str
    secret: bytes
    delays: tuple[float, ...]
    expire: float = 5 * 86400
    limits: Limits = field(default_factory=Limits)
    lease_seconds: float = 60


@dataclass(slots=True)
class _Run:
    """A lane that this process holds: its lease, the jobs claimed and not begun, and the workers on it."""

    lease: Lease
    pending: deque[Job]
    after: Cursor
    more: bool
    workers: "dict[asyncio.Task[None], _Worker]" = field(default_factory=dict)
    claiming: asyncio.Lock = field(default_factory=asyncio.Lock)
    ending: bool = False
    failed: bool = False

    def state(self) -> LaneState:
        """The lane as the schedule sees it."""
        return LaneState(
            id=self.lease.lane,
            destination=self.lease.destination,
            sender=self.lease.sender,
            due_at=0,
            site=self.lease.site,
            running=len(self.workers),
            more=not self.ending and bool(self.pending or self.more),
        )


@dataclass(slots=True)
class _Worker:
    """One courier at work. `committed`: it is past the dot, or has a report to settle, and must not be cancelled."""

    committed: bool = False


class Runner:
    """Runs the queue of one process until stopped. `couriers` by kind of destination: what stands before the colon."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        couriers: Mapping[str, Courier],
        settings: Settings,
        *,
        clock: Clock,
        random: Random,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._couriers = couriers
        self._settings = settings
        self._clock = clock
        self._random = random
        self._runs: dict[int, _Run] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._stopping = False
        self._renewed_at = 0
        self._avoided: dict[int, int] = {}

    # --- the loop

    async def run(self) -> None:
        """Run the queue until `stop`. Cancelling it is a stop without grace for whoever is not past the dot."""
        ear = self._store.listen(Topic.QUEUE)
        hearing = asyncio.create_task(self._hear(ear))
        try:
            while not self._stopping:
                self._changed.clear()
                try:
                    wake_at = await self.turn()
                except StoreUnavailable as error:
                    observe.tell("queue.waits", level=WARNING, error=str(error))
                    await asyncio.sleep(_PAUSE)
                    continue
                await self._sleep_until(wake_at)
        finally:
            hearing.cancel()
            ear.close()

    async def _hear(self, ear: Listener) -> None:
        while True:
            await ear.wait()
            self._changed.set()

    async def _sleep_until(self, wake_at: int | None) -> None:
        """Until something changes, the time comes, or the leases want renewing."""
        seconds = self._settings.lease_seconds / 3
        if wake_at is not None:
            seconds = min(seconds, max(wake_at - self._clock.now(), 0) / 1000)
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def turn(self) -> int | None:
        """Look once, and start what may start. When to look again at the latest; None: when the bell rings.

        Raises StoreUnavailable.
        """
        now = self._clock.now()
        await self._renew(now)
        waiting, expired, wake_at = await self._store.read(lanes.look, now)
        if self._stopping:
            return None
        for lane in expired:
            if self._avoided.get(lane, 0) <= now:
                self._spawn(self._give_up(lane))
        # A run without workers is being given back: neither at work nor to be started.
        states = [run.state() for run in self._runs.values() if run.workers]
        states += [lane for lane in waiting if lane.id not in self._runs and self._avoided.get(lane.id, 0) <= now]
        decisions = schedule(states, self._settings.limits, now)
        fresh: list[int] = []
        for begin in decisions.start:
            run = self._runs.get(begin.lane)
            if run is None:
                fresh.append(begin.lane)
            else:
                self._add_worker(run)
        if fresh:
            for held, claim in await self._start(fresh, now):
                self._begin(held, claim)
        return wake_at

    async def _start(self, fresh: Sequence[int], now: int) -> list[tuple[Lease, Claim]]:
        """Take these lanes; one whose rows cannot be read is left alone, and holds up no other."""
        until = now + int(self._settings.lease_seconds * 1000)
        try:
            started = await self._store.write(lanes.start, fresh, now, until)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(fresh) > 1:
                return [one for lane in fresh for one in await self._start([lane], now)]
            observe.fault("queue.lane_unreadable", error, lane=fresh[0])
            self._avoided[fresh[0]] = now + _AVOIDED_MS
            return []
        for lane in fresh:
            self._avoided.pop(lane, None)
        return started

    @property
    def busy(self) -> bool:
        """True while a courier is at work, or something is being settled."""
        return bool(self._tasks())

    async def idle(self) -> None:
        """Wait until no courier is at work and nothing is being settled. For tests and simulations."""
        while tasks := self._tasks():
            await asyncio.wait(tasks)

    async def stop(self, grace: float = GRACE) -> None:
        """Start nothing more; end couriers that are not past the dot at once, and the others after `grace` seconds."""
        self._stopping = True
        self._changed.set()
        for run in self._runs.values():
            for task, worker in run.workers.items():
                if not worker.committed:
                    task.cancel()
        try:
            async with asyncio.timeout(grace):
                await self.idle()
        except TimeoutError:
            for task in self._tasks():
                task.cancel()
            await self.idle()

    def _tasks(self) -> set[asyncio.Task[None]]:
        return {task for run in self._runs.values() for task in run.workers} | self._chores

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chore_ended)

    def _chore_ended(self, task: asyncio.Task[None]) -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()):
            observe.fault("queue.chore_failed", error)
        self._changed.set()

    # --- leases

    async def _renew(self, now: int) -> None:
        if not self._runs or now - self._renewed_at < self._settings.lease_seconds * 1000 / 3:
            return
        held = [run.lease for run in self._runs.values()]
        lost = await self._store.write(lanes.renew, held, now + int(self._settings.lease_seconds * 1000))
        self._renewed_at = now
        for lane in lost:
            if run := self._runs.get(lane):
                self._lose(run)

    def _lose(self, run: _Run) -> None:
        """Another process has the lane: whoever is not past the dot stops; the others' reports will come too late."""
        observe.tell("queue.lease_lost", level=WARNING, destination=run.lease.destination)
        run.ending = True
        for task, worker in run.workers.items():
            if not worker.committed:
                task.cancel()

    def _begin(self, held: Lease, claim: Claim) -> None:
        run = _Run(held, deque(claim.jobs), claim.after, claim.more)
        self._runs[held.lane] = run
        self._add_worker(run)

    # --- workers

    def _add_worker(self, run: _Run) -> None:
        worker = _Worker()
        task = asyncio.create_task(self._work(run, worker))
        run.workers[task] = worker
        task.add_done_callback(lambda done: self._worker_ended(run, done))

    def _worker_ended(self, run: _Run, task: asyncio.Task[None]) -> None:
        del run.workers[task]
        if not task.cancelled() and (error := task.exception()):
            observe.fault("queue.worker_failed", error, destination=run.lease.destination)
            run.ending = run.failed = True
        if not run.workers:
            run.ending = True
            self._spawn(self._release(run))
        self._changed.set()

    async def _release(self, run: _Run) -> None:
        """Nobody works on the lane any more: give it back."""
        try:
            # What failed by a mistake of ours would fail again at once, and again.
            not_before = self._clock.now() + _AVOIDED_MS if run.failed else 0
            await self._store.write(lanes.release, run.lease, not_before)
        except StoreUnavailable as error:
            # The lease runs out by itself.
            observe.tell("queue.cannot_release", level=WARNING, error=str(error))
        finally:
            del self._runs[run.lease.lane]

    async def _work(self, run: _Run, worker: _Worker) -> None:
        """Job after job on this lane, until none is left."""
        while not (self._stopping or run.ending):
            job = await self._next_job(run)
            if job is None:
                break
            await self._attempt(run, worker, job)

    async def _next_job(self, run: _Run) -> Job | None:
        async with run.claiming:
            if not run.pending and not run.ending:
                claim = await self._store.read(lanes.claim, run.lease, run.after, self._clock.now())
                if claim is None:
                    self._lose(run)
                    return None
                run.pending.extend(claim.jobs)
                run.after, run.more = claim.after, claim.more
                if len(run.pending) > 1:
                    self._changed.set()
            return run.pending.popleft() if run.pending else None

    async def _attempt(self, run: _Run, worker: _Worker, job: Job) -> None:
        async def before_dot(recipients: Sequence[int]) -> None:
            worker.committed = True
            if not await self._store.write(lanes.mark_past_dot, run.lease, recipients):
                raise LeaseLost

        try:
            report = await self._courier(job).attempt(job, before_dot)
        except LeaseLost:
            self._lose(run)
            return
        except Exception as error:
            observe.fault("courier.failed", error, journey=job.mail.journey, destination=job.destination)
            report = Report(tuple(Outcome(one.id, Fate.DEFERRED, _OUR_FAULT) for one in job.recipients))
        worker.committed = True
        settled = await self._settle(run.lease, job, report)
        worker.committed = False
        if settled.lease is None:
            self._lose(run)
        else:
            run.lease = settled.lease
            run.ending = run.ending or settled.doomed

    def _courier(self, job: Job) -> Courier:
        return self._couriers[job.destination.partition(":")[0]]

    # --- settling

    async def _settle(self, held: Lease, job: Job, report: Report) -> Settled:
        """Write the outcomes down, with the bounce that they call for."""
        now = self._clock.now()
        report = replace(report, outcomes=bounce.give_up(job, report.outcomes, now))
        told = bounce.reportable(job, report.outcomes)
        if not told:
            report = replace(report, steps=(*report.steps, *bounce.silence(job, report.outcomes, now)))
        telling = _Telling(
            await self._prepare_bounce(job, told, now) if told else None,
            self._draft(job, now) if report.inside and bounce.wants_success(job) else None,
            self._settings.secret,
        )
        settled = await self._write_down(held, job, report, telling, now)
        for step in settled.steps:
            observe.emit(step)
        return settled

    async def _prepare_bounce(self, job: Job, told: Sequence[bounce.Told], now: int) -> bounce.Bounce:
        draft = self._draft(job, now, failed=any(one.action == "failed" for one in told))
        return bounce.Bounce(draft, await self._stage(bounce.compose(draft, told)))

    def _draft(self, job: Job, now: int, *, failed: bool = False) -> bounce.Draft:
        settings = self._settings
        expires_at = now + int(settings.expire * 1000)
        return bounce.draft(self._blobs, job, settings.hostname, now, expires_at, self._random, failed=failed)

    async def _stage(self, octets: bytes) -> Staged:
        while True:
            try:
                return await self._blobs.stage(octets)
            except StoreUnavailable as error:
                await self._pause(error)

    async def _write_down(self, held: Lease, job: Job, report: Report, telling: "_Telling", now: int) -> Settled:
        """What couriers did has happened, and must be written down: try until the database takes it."""
        jitter = self._random.random()
        while True:
            try:
                return await self._store.write(_settle, held, job, report, telling, now, self._settings.delays, jitter)
            except StoreUnavailable as error:
                await self._pause(error)

    async def _pause(self, error: StoreUnavailable) -> None:
        observe.tell("queue.cannot_settle", level=ERROR, error=str(error))
        await asyncio.sleep(_PAUSE)

    # --- time is up

    async def _give_up(self, lane: int) -> None:
        """Fail the recipients of a waiting lane whose time is up, without another attempt."""
        now = self._clock.now()
        self._avoided[lane] = now + _AVOIDED_MS
        held = await self._store.write(lanes.lease, lane, now, now + int(self._settings.lease_seconds * 1000))
        if held is None:
            self._avoided.pop(lane, None)
            return
        try:
            for _ in range(_EXPIRY_ROUNDS):
                jobs = await self._store.read(lanes.claim_expired, held, now)
                if not jobs or self._stopping:
                    break
                for job in jobs:
                    await self._settle(held, job, Report(bounce.time_is_up(job)))
            self._avoided.pop(lane, None)
        finally:
            await self._store.write(lanes.release, held)


@dataclass(frozen=True, slots=True)
class _Telling:
    """What the sender is told: of outcomes that are known, and of those that come out in the settling commit."""

    prepared: bounce.Bounce | None
    draft: bounce.Draft | None
    secret: bytes


def _settle(
    tx: Tx,
    held: Lease,
    job: Job,
    report: Report,
    telling: _Telling,
    now: int,
    delays: Sequence[float],
    jitter: float,
) -> Settled:
    """The one commit that ends an attempt: outcomes, and what the sender is told."""
    settled = lanes.settle(tx, held, job, report, now, delays, jitter)
    if settled.lease is None:
        return settled
    steps = list(settled.steps)
    if telling.prepared is not None:
        steps += bounce.queue(tx, telling.prepared, telling.secret)
    if telling.draft is not None:
        steps += bounce.write(tx, telling.draft, bounce.reportable(job, settled.inside), telling.secret)
    return replace(settled, steps=tuple(steps))
