"""The queue's loop: look which lanes are due, start couriers, settle what they report, write bounces, sleep.

Promises: nothing leaves the queue but by a commit that holds its outcome, and the bounce where one is due stands in the
same commit. A courier that raises defers its recipients, and so does a report that can never be settled. What a courier
did is written down even where the database cannot take it at once: the runner tries until it can, or is stopped.
Refuses: to know how mail travels (couriers do), who goes first (schedule.py), what is learnt of peers (learning.py),
what time brings (deadlines.py) and how it is written down (clerk.py, settling.py). It keeps nothing a restart needs.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Final

from posthouse import observe
from posthouse.clock import Clock
from posthouse.observe import WARNING
from posthouse.queue import bounce, lanes, learning
from posthouse.queue.attempt import AtWork, Courier, Forgo, Held, LeaseLost, our_fault
from posthouse.queue.clerk import Clerk, Terms
from posthouse.queue.deadlines import Deadlines
from posthouse.queue.lanes import Claim, Cursor, Lease, Look
from posthouse.queue.outcome import Fate, Report, pushes_back
from posthouse.queue.queue import Job
from posthouse.queue.schedule import Decisions, LaneState, Limits, longest_delay, schedule
from posthouse.queue.settling import Marked, Rules, Settled
from posthouse.queue.sites import Sites
from posthouse.queue.work import Run, Worker
from posthouse.store.blobs import Blobs
from posthouse.store.database import Listener, Store, StoreUnavailable, Topic

# Couriers past the dot wait up to ten minutes for the reply (RFC 5321 §4.5.3.2.6); a stop does not wait as long.
GRACE: Final = 60.0
# How long a database that cannot commit is left alone before it is asked again.
_PAUSE: Final = 1.0
# How long a lane is left alone that met an error of ours.
_AVOIDED_MS: Final = 60_000
# A clock that goes back by less is believed: nothing waits for longer by it.
_SET_BACK_MS: Final = 60_000
# Looks at the queue take no more than a part of the time: so many times what one takes passes until the next, and at
# least so long. What came meanwhile is seen together.
_LOOK_PART: Final = 5
_LOOK_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
# So long a lane's claims go on behind each other; then it is given back and begins anew, for what has come to stand
# behind its cursor: whose commit took longer than others', or who was held and was let go.
_ANEW_MS: Final = 60_000
# Lanes started in one transaction: each costs the only writer some 0.3 ms.
_STARTED_TOGETHER: Final = 20


@dataclass(frozen=True, slots=True)
class Settings:
    """`hostname` signs bounces. `delays` are seconds between attempts, the last repeats. `expire`: a bounce's own time.
    `secret` keys what journeys are found by. `lease_seconds`: how soon another process may take over what we held.
    `delay_notice`: seconds after which a sender hears that his mail waits."""

    hostname: str
    secret: bytes
    delays: tuple[float, ...]
    expire: float = 5 * 86400
    limits: Limits = field(default_factory=Limits)
    lease_seconds: float = 60
    delay_notice: float = 4 * 3600


@dataclass(frozen=True, slots=True)
class _AtWork:
    """AtWork for the attempts of one worker."""

    runner: "Runner"
    run: Run
    worker: Worker

    async def __call__(self, recipients: Sequence[int]) -> None:
        await self.runner.note_dot(self.run, self.worker, recipients)

    def ahead(self, forgo: Forgo) -> Job | None:
        return self.runner.go_ahead(self.run, self.worker, forgo)


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
        self._couriers = couriers
        self._settings = settings
        self._clock = clock
        terms = Terms(settings.hostname, Rules(settings.delays, settings.secret), settings.expire)
        self._clerk = Clerk(store, blobs, terms, clock, random)
        self._sites = Sites(settings.limits.site)
        # Whose leases of sites are ours.
        self._holder = random.getrandbits(62) + 1
        self._leased_sites: set[str] = set()
        self._runs: dict[int, Run] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._stopping = False
        self._renewed_at = 0
        self._look_took = 0.0
        self._avoided: dict[int, int] = {}
        self._latest_seen = 0
        longest = longest_delay(settings.delays) + _SET_BACK_MS / 1000
        self._deadlines = Deadlines(store, self._clerk, clock, settings.delay_notice, longest, settings.lease_seconds)

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
                if not self._stopping:
                    await asyncio.sleep(min(max(_LOOK_PART * self._look_took, _LOOK_PAUSE), _LONGEST_PAUSE))
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
        if now < self._latest_seen - _SET_BACK_MS:
            self._clock_set_back(now)
        self._latest_seen = max(self._latest_seen, now)
        await self._renew(now)
        began = self._clock.monotonic()
        look = await self._store.read(lanes.look, now, self._holder, self._full_sites())
        self._look_took = self._clock.monotonic() - began
        if self._stopping:
            return None
        for name, (failures, due_at) in look.sites.items():
            self._sites.backs_off(name, failures, due_at)
        decisions = schedule(self._states(look, now), self._settings.limits, now, self._sites)
        await self._carry_out(decisions, look, now)
        self._deadlines.expect(look.deadline)
        if self._deadlines.due(now):
            self._spawn(self._deadlines.look(now))
        wakes = [look.wake_at, decisions.wake_at, self._deadlines.due_at]
        return min((at for at in wakes if at is not None and at > now), default=None)

    def _clock_set_back(self, now: int) -> None:
        """What was learnt by times that are to come again is forgotten."""
        observe.tell("queue.clock_set_back", level=WARNING, seconds=(self._latest_seen - now) // 1000)
        self._latest_seen, self._renewed_at = now, 0
        self._avoided.clear()
        self._sites = Sites(self._settings.limits.site)
        for run in self._runs.values():
            run.since = now
            for worker in run.workers.values():
                worker.began_at = min(worker.began_at, now)
        self._deadlines.clock_set_back()

    def _full_sites(self) -> list[str]:
        """Sites that have all the connections they may have."""
        running: Counter[str] = Counter()
        for run in self._runs.values():
            running[run.site] += len(run.workers)
        most = self._settings.limits.site
        return [name for name, count in running.items() if count >= min(self._sites.find(name).connections, most)]

    def _states(self, look: Look, now: int) -> list[LaneState]:
        """Lanes at work, and lanes that are due. A run without workers is being given back, and is neither."""
        states = [run.state(now) for run in self._runs.values() if run.workers]
        for lane in look.lanes:
            if lane.id in self._runs or self._avoided.get(lane.id, 0) > now:
                continue
            site = self._sites.name(lane.destination, lane.site)
            states.append(lane if site == lane.site else replace(lane, site=site))
        return states

    async def _carry_out(self, decisions: Decisions, look: Look, now: int) -> None:
        for lane in decisions.yields:
            self._runs[lane].yields += 1
        fresh: list[int] = []
        for lane in decisions.start:
            run = self._runs.get(lane)
            if run is None:
                fresh.append(lane)
            elif run.workers:
                self._add_worker(run)
        if decisions.postpone:
            await self._store.write(lanes.postpone, decisions.postpone, now)
        if fresh:
            states = {lane.id: lane for lane in look.lanes}
            for at in range(0, len(fresh), _STARTED_TOGETHER):
                some = [states[lane] for lane in fresh[at : at + _STARTED_TOGETHER]]
                for held, claim in await self._start(some, now):
                    self._begin(held, claim, states[held.lane].priority, now)

    async def _start(self, fresh: Sequence[LaneState], now: int) -> list[tuple[Lease, Claim]]:
        """Take these lanes; one whose rows cannot be read is left alone, and holds up no other."""
        until = now + int(self._settings.lease_seconds * 1000)
        sites = {lane.id: lane.site for lane in fresh if lane.site and lane.site not in self._leased_sites}
        try:
            started = await self._store.write(lanes.start, [lane.id for lane in fresh], now, until, self._holder, sites)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(fresh) > 1:
                return [one for lane in fresh for one in await self._start([lane], now)]
            observe.fault("queue.lane_unreadable", error, lane=fresh[0].id)
            self._avoided[fresh[0].id] = now + _AVOIDED_MS
            return []
        self._leased_sites |= {sites[held.lane] for held, _ in started if held.lane in sites}
        for lane in fresh:
            self._avoided.pop(lane.id, None)
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
        self._deadlines.stop()
        self._changed.set()
        for run in self._runs.values():
            self._cancel_uncommitted(run)
        try:
            async with asyncio.timeout(grace):
                await self.idle()
        except TimeoutError:
            for run in self._runs.values():
                run.doubtful = run.doubtful or any(worker.committed for worker in run.workers.values())
            for task in self._tasks():
                task.cancel()
            await self.idle()

    def _tasks(self) -> set[asyncio.Future[None]]:
        return {*self._chores}.union(*[run.tasks for run in self._runs.values()])

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chore_ended)

    def _chore_ended(self, task: asyncio.Task[None]) -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()):
            if isinstance(error, StoreUnavailable):
                observe.tell("queue.waits", level=WARNING, error=str(error))
            else:
                observe.fault("queue.chore_failed", error)
        self._changed.set()

    # --- leases

    async def _renew(self, now: int) -> None:
        if now - self._renewed_at < self._settings.lease_seconds * 1000 / 3:
            return
        if self._runs or self._leased_sites:
            until = now + int(self._settings.lease_seconds * 1000)
            held = [run.lease for run in self._runs.values()]
            for lane in await self._store.write(lanes.renew, held, until):
                if run := self._runs.get(lane):
                    self._lose(run)
            await self._renew_sites(until)
        self._renewed_at = now

    async def _renew_sites(self, until: int) -> None:
        """Keep the sites that we work for, let the others go."""
        used = {run.site for run in self._runs.values()}
        idle = self._leased_sites - used
        kept = self._leased_sites & used
        lost = await self._store.write(lanes.renew_sites, sorted(kept), sorted(idle), self._holder, until)
        self._leased_sites = kept - lost
        for run in self._runs.values():
            if run.site in lost:
                self._lose(run)

    def _lose(self, run: Run) -> None:
        """Another process has the lane: whoever is not past the dot stops; the others' reports will come too late."""
        observe.tell("queue.lease_lost", level=WARNING, destination=run.lease.destination)
        run.ending = True
        self._cancel_uncommitted(run)

    @staticmethod
    def _cancel_uncommitted(run: Run) -> None:
        for task, worker in run.workers.items():
            if not worker.committed:
                task.cancel()

    def _begin(self, held: Lease, claim: Claim, priority: int, now: int) -> None:
        site = self._sites.name(held.destination, held.site)
        run = Run(held, site, priority, now, deque(claim.jobs), claim.after, claim.more)
        self._runs[held.lane] = run
        self._add_worker(run)

    # --- workers

    def _add_worker(self, run: Run) -> None:
        worker = Worker()
        task = asyncio.create_task(self._work(run, worker))
        run.workers[task] = worker
        task.add_done_callback(lambda done: self._worker_ended(run, done))

    def _worker_ended(self, run: Run, task: asyncio.Task[None]) -> None:
        del run.workers[task]
        if not task.cancelled() and (error := task.exception()):
            self._worker_failed(run, error)
        if not run.workers:
            run.ending = True
            if run.released:
                del self._runs[run.lease.lane]
            else:
                self._spawn(self._release(run))
        self._changed.set()

    @staticmethod
    def _worker_failed(run: Run, error: BaseException) -> None:
        observe.fault("queue.worker_failed", error, destination=run.lease.destination)
        run.ending = run.failed = True

    async def _release(self, run: Run) -> None:
        """Nobody works on the lane any more: give it back."""
        now = self._clock.now()
        try:
            if run.doubtful:
                await self._store.write(lanes.abandon, run.lease)
            else:
                # What failed by a mistake of ours would fail again at once, and again; one that gave way waits for its
                # turn behind the others.
                not_before = now + _AVOIDED_MS if run.failed else now
                await self._store.write(lanes.release, run.lease, not_before)
        except StoreUnavailable as error:
            # The lease runs out by itself.
            observe.tell("queue.cannot_release", level=WARNING, error=str(error))
        finally:
            del self._runs[run.lease.lane]

    async def _work(self, run: Run, worker: Worker) -> None:
        """Job after job on this lane, until none is left or others are to have their turn."""
        go_on, at_work = True, _AtWork(self, run, worker)
        try:
            while go_on and not (self._stopping or run.ending or self._gives_way(run, worker)):
                job = worker.take_ahead() or await self._next_job(run)
                go_on = job is not None and await self._attempt(run, worker, at_work, job)
        finally:
            worker.committed = True
            self._forgo(run, worker)
            await self._settled_before(worker)

    def _gives_way(self, run: Run, worker: Worker) -> bool:
        if run.yields:
            run.yields -= 1
            worker.leaves = True
        # Where even one connection was too many, the schedule says when the next message may go.
        return worker.leaves or self._sites.find(run.site).due_at > self._clock.now()

    @staticmethod
    def _forgo(run: Run, worker: Worker) -> None:
        """What this worker has begun with is for whoever comes."""
        forgo, job = worker.forgo, worker.take_ahead()
        if forgo is not None and job is not None:
            forgo(job)
            run.pending.appendleft(job)

    async def _next_job(self, run: Run) -> Job | None:
        if run.pending:
            return run.pending.popleft()
        async with run.claiming:
            if not run.pending and not run.ending:
                claim = await self._store.read(lanes.claim, run.lease, run.after, self._clock.now())
                if claim is None:
                    self._lose(run)
                    return None
                self._take(run, claim)
            return run.pending.popleft() if run.pending else None

    def _take(self, run: Run, claim: Claim) -> None:
        run.pending.extend(claim.jobs)
        run.after, run.more = claim.after, claim.more
        run.ending = run.ending or self._clock.now() - run.since >= _ANEW_MS
        if len(run.pending) > 1 and len(run.workers) < self._settings.limits.site:
            # It may have another connection.
            self._changed.set()

    async def _attempt(self, run: Run, worker: Worker, at_work: AtWork, job: Job) -> bool:
        """Attempt a job and have it written down. False: nothing more is to be done here."""
        now = worker.began_at = self._clock.now()
        try:
            if (late := bounce.too_late(job, now)) is not None:
                report = Report(late)
            else:
                report = await self._courier(job).attempt(job, at_work)
        except LeaseLost:
            self._lose(run)
            return False
        except Held:
            return False
        except Exception as error:
            observe.fault("courier.failed", error, journey=job.mail.journey, destination=job.destination)
            report = our_fault(job)
        worker.committed, worker.began_at = True, 0
        go_on = await self._hand_in(run, worker, job, report)
        worker.committed = False
        return go_on

    async def note_dot(self, run: Run, worker: Worker, recipients: Sequence[int]) -> None:
        """Note that a courier is about to send its final dot. Raises LeaseLost, Held, StoreUnavailable."""
        worker.committed = True
        marked = await self._clerk.mark(run.lease, recipients)
        if marked is Marked.LOST:
            raise LeaseLost
        if marked is Marked.HELD:
            # The others that were claimed may be held as well: the next claim tells.
            run.ending = True
            raise Held

    def go_ahead(self, run: Run, worker: Worker, forgo: Forgo) -> Job | None:
        """The job that this worker will do next, where all goes well on the lane and nothing is asked of its time."""
        site = self._sites.find(run.site)
        if self._stopping or run.ending or run.yields or site.down or site.pace or worker.ahead or not run.pending:
            return None
        if run.pending[0].mail.wishes.deliver_by:
            return None
        worker.ahead, worker.forgo = run.pending.popleft(), forgo
        return worker.ahead

    def _courier(self, job: Job) -> Courier:
        return self._couriers[job.destination.partition(":")[0]]

    # --- settling

    async def _hand_in(self, run: Run, worker: Worker, job: Job, report: Report) -> bool:
        """Settle, behind the job before: beside the next one where there is one and all went well, else here and now.
        False: nothing more is to be done here."""
        await self._settled_before(worker)
        if (worker.ahead or run.pending) and self._goes_well(run, job, report):
            if run.runs_low and not (run.claims_soon or run.claiming.locked()):
                run.claims_soon = True
                worker.settling = asyncio.create_task(self._settle_beside(run, job, report))
            else:
                then = partial(self._settled, run, worker, job, report)
                worker.settling = self._clerk.settle_beside(run.lease, job, report, then)
            return True
        return await self._settle(run, job, report)

    @staticmethod
    async def _settled_before(worker: Worker) -> None:
        """The worker's last job is written down, deferred where it could not be as it was reported."""
        while (settling := worker.settling) is not None:
            await settling
            if worker.settling is settling:
                worker.settling = None

    def _goes_well(self, run: Run, job: Job, report: Report) -> bool:
        """Nothing in the report can end or slow down the work on its lane, and nobody is to be told of it."""
        site = self._sites.find(run.site)
        if site.down or site.pace or report.pushed_back or report.inside or report.site not in (None, run.site):
            return False
        if job.mail.wishes.deliver_by or bounce.wants_success(job):
            return False
        return all(outcome.fate is Fate.RELAYED for outcome in report.outcomes)

    def _go_by(self, run: Run, report: Report, settled: Settled) -> bool:
        """Learn from a report, and do as it was settled. False: the lane was lost."""
        learning.learn(self._sites, self._runs.values(), run, report, settled, self._clock.now())
        run.released = settled.released
        if settled.lease is None:
            self._lose(run)
            return False
        run.lease = settled.lease
        run.ending = run.ending or settled.doomed or settled.released or settled.held
        return True

    async def _settle_beside(self, run: Run, job: Job, report: Report) -> None:
        """Settle, and claim, while the worker goes on with its next job."""
        run.claims_soon = False
        try:
            await self._settle(run, job, report, beside=True)
        except Exception as error:
            self._worker_failed(run, error)

    async def _defer_beside(self, run: Run, job: Job, report: Report, error: Exception) -> None:
        """Defer what can never be settled as it was reported, while the worker is at its next job."""
        try:
            deferred = self._deferred(job, report, error)
            self._go_by(run, deferred, await self._clerk.settle(run.lease, job, deferred, keep=True))
        except Exception as failed:
            self._worker_failed(run, failed)

    def _settled(self, run: Run, worker: Worker, job: Job, report: Report, answer: Settled | Exception) -> None:
        """The report was written down beside the worker's next job, or cannot be."""
        if isinstance(answer, Exception):
            if not any(one is worker for one in run.workers.values()):
                # The runner ends, and waits for nothing more.
                self._worker_failed(run, answer)
                return
            worker.settling = asyncio.create_task(self._defer_beside(run, job, report, answer))
            return
        try:
            self._go_by(run, report, answer)
        except Exception as error:
            self._worker_failed(run, error)

    async def _settle(self, run: Run, job: Job, report: Report, *, beside: bool = False) -> bool:
        """Write the report down and learn from it; the next jobs are claimed, or the lane given back, in the same
        commit. `beside`: the worker is at its next job meanwhile. False: nothing more is to be done here."""
        if not report.pushed_back and any(one.remote and pushes_back(one.reply) for one in report.outcomes):
            report = replace(report, pushed_back=True)
        report, crowded = learning.soften(self._sites, run, report, self._clock.now())
        down = self._sites.find(run.site).down or (report.site is not None and self._sites.find(report.site).down)
        if run.claiming.locked() or not run.runs_low:
            report, settled = await self._write_down(run, job, report, site_down=down)
        else:
            async with run.claiming:
                last = len(run.workers) == 1 and not run.job_waits and not beside
                report, settled = await self._write_down(run, job, report, site_down=down, after=run.after, last=last)
                if settled.claim is not None:
                    self._take(run, settled.claim)
        stands = self._go_by(run, report, settled)
        return stands and not crowded and (settled.claim is None or run.job_waits)

    async def _write_down(
        self,
        run: Run,
        job: Job,
        report: Report,
        *,
        site_down: bool,
        after: Cursor | None = None,
        last: bool = False,
    ) -> tuple[Report, Settled]:
        """Settle; the report as it was written down. Where that can never be, all of the job are deferred: it would be
        first again, and the others behind it would wait for ever."""
        try:
            return report, await self._clerk.settle(run.lease, job, report, site_down=site_down, after=after, last=last)
        except Exception as error:
            deferred = self._deferred(job, report, error)
        # It may be what its sender is to be told that cannot be written; not so where that is known in the commit only.
        keep = report.inside is None
        return deferred, await self._clerk.settle(run.lease, job, deferred, site_down=site_down, keep=keep)

    def _deferred(self, job: Job, report: Report, error: Exception) -> Report:
        """What is written instead of a report that cannot be: all are tried again, who was taken already too."""
        observe.fault("queue.cannot_settle_so", error, journey=job.mail.journey, destination=job.destination)
        now = self._clock.now()
        taken = {outcome.recipient for outcome in report.outcomes if outcome.fate is Fate.RELAYED}
        twice = [str(one.address) for one in job.recipients if one.id in taken]
        steps = tuple(lanes.possible_duplicate(job.mail.journey, address, now) for address in twice)
        return replace(our_fault(job), steps=steps)
