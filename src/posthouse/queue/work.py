"""A lane at work: what the runner keeps in memory of a lease, and of the couriers under it.

Promises: values of this process alone; what they say that the database does not is forgotten with them, and nothing is
lost by that. Refuses: to act.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from posthouse.queue.lanes import Cursor, Lease
from posthouse.queue.queue import Job
from posthouse.queue.schedule import LaneState, pays

# An attempt that takes longer makes its connection a slow one. A peer in health answers all of it within seconds.
SLOW_MS: Final = 10_000


@dataclass(slots=True)
class Run:
    """A lane that this process holds: its lease, the jobs claimed and not begun, and the workers on it.

    `site` is what it counts for. `yields`: so many of its connections are to give way. Once `ending`, no job is begun.
    `claims_soon`: a worker's report that is about to be written down will ask for more of them.
    """

    lease: Lease
    site: str
    priority: int
    since: int
    pending: deque[Job]
    after: Cursor
    more: bool
    workers: "dict[asyncio.Task[None], Worker]" = field(default_factory=dict)
    claiming: asyncio.Lock = field(default_factory=asyncio.Lock)
    claims_soon: bool = False
    yields: int = 0
    ending: bool = False
    failed: bool = False
    doubtful: bool = False
    released: bool = False

    @property
    def runs_low(self) -> bool:
        """Time to claim: there is less than a job for each worker, and more to be had; or nothing at all."""
        return not self.pending or (self.more and len(self.pending) < len(self.workers))

    @property
    def staying(self) -> int:
        """Connections that do not end when they have done what they are at: neither given way already, nor to."""
        return sum(not worker.leaves for worker in self.workers.values()) - self.yields

    @property
    def job_waits(self) -> bool:
        """A job was claimed and not begun, or only its envelope was sent."""
        return bool(self.pending) or any(worker.ahead is not None for worker in self.workers.values())

    @property
    def tasks(self) -> "set[asyncio.Future[None]]":
        """The workers, and what writes down for them."""
        return {*self.workers, *(worker.settling for worker in self.workers.values() if worker.settling is not None)}

    def state(self, now: int) -> LaneState:
        """The lane as the schedule sees it."""
        slow = sum(worker.slow(now) for worker in self.workers.values())
        unclaimed = self.more and not self.claiming.locked()
        return LaneState(
            id=self.lease.lane,
            destination=self.lease.destination,
            sender=self.lease.sender,
            due_at=0,
            site=self.site,
            priority=self.priority,
            failures=self.lease.failures,
            running=len(self.workers),
            slow=slow,
            since=self.since,
            more=not self.ending and (unclaimed or pays(len(self.pending), len(self.workers), slow)),
        )


@dataclass(slots=True)
class Worker:
    """One courier at work. `committed`: it is past the dot, or has a report to settle, and must not be cancelled.
    `began_at`: when the attempt began; 0 between attempts. `settling`: the last job, which is being written down while
    the next one is offered. `ahead`: the job that it does next, because its courier has begun with it; `forgo` tells
    that it does not. `leaves`: it has given way, and begins nothing more."""

    committed: bool = False
    began_at: int = 0
    settling: "asyncio.Future[None] | None" = None
    ahead: Job | None = None
    forgo: Callable[[Job], None] | None = None
    leaves: bool = False

    def take_ahead(self) -> Job | None:
        """The job that was begun, to be done now."""
        job, self.ahead, self.forgo = self.ahead, None, None
        return job

    def slow(self, now: int) -> bool:
        return self.began_at > 0 and now - self.began_at > SLOW_MS
