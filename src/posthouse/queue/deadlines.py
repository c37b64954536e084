"""What happens because time passed: whoever waited to the end is given up, senders hear of mail that waits for long.

Promises: what is found is worked through some hundred at a time, and what waited while nobody ran is tried before it is
given up or told of. What was told is noted in the commit that queues the report. Refuses: to attempt anything.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from posthouse.clock import Clock
from posthouse.queue import bounce, lanes, settling
from posthouse.queue.clerk import Clerk
from posthouse.queue.lanes import START, Cursor
from posthouse.queue.outcome import Report
from posthouse.store.database import Store

# How soon those are looked for again whose time is up, or who wait for long, and who are about to be tried.
_AGAIN_MS: Final = 60_000
# And where nothing has a time.
_FAR_MS: Final = 3_600_000
# Rounds of expired recipients under one lease, so that it does not run out under a very long lane.
_ROUNDS: Final = 20


class Deadlines:
    """Looks after the times of what waits. `notice`: seconds after which a sender hears that his mail waits."""

    def __init__(self, store: Store, clerk: Clerk, clock: Clock, notice: float, lease_seconds: float) -> None:
        self._store = store
        self._clerk = clerk
        self._clock = clock
        self._notice = int(notice * 1000)
        # What is taken in behind a look shall not have waited for longer than `notice` at the next.
        self._again_ms, self._far_ms = min(_AGAIN_MS, self._notice), min(_FAR_MS, self._notice)
        self._lease_ms = int(lease_seconds * 1000)
        self._due_at = 0
        self._looking = False
        self._stopped = False

    def expect(self, at: int | None) -> None:
        """Something has this time, which may have come since the last look."""
        if at is not None:
            self._due_at = min(self._due_at, at)

    def stop(self) -> None:
        """A look under way ends with what it is at."""
        self._stopped = True

    def due(self, now: int) -> bool:
        """It is time for a look, and none is under way."""
        return self._due_at <= now and not self._looking

    @property
    def due_at(self) -> int | None:
        """When the next look is due; None while one is under way."""
        return None if self._looking else self._due_at

    async def look(self, now: int) -> None:
        """Do what is due. Raises StoreUnavailable."""
        self._looking = True
        # Whatever goes wrong, it is not tried again at once.
        self._due_at = now + _AGAIN_MS
        try:
            left = await self._give_up_expired(now)
            left |= await self._tell_of_delays(now)
            await self._tell_of_overdue(now)
            await self._store.write(lanes.forget_sites, now)
            next_time = await self._store.read(lanes.next_time, now, self._notice)
            times = [now + (self._again_ms if left else self._far_ms), next_time]
            self._due_at = min(time for time in times if time is not None)
        finally:
            self._looking = False

    async def _give_up_expired(self, now: int) -> bool:
        """Fail the recipients of waiting lanes whose time is up, without another attempt. True: some are left."""
        after: Cursor | None = START
        left = False
        while after is not None and not self._stopped:
            found = await self._store.read(lanes.expired, now, after)
            left = left or bool(found.messages)
            for lane in found.lanes:
                if not self._stopped:
                    await self._give_up(lane, found.messages, now)
            after = found.after
        return left

    async def _give_up(self, lane: int, messages: Sequence[int], now: int) -> None:
        held = await self._store.write(lanes.lease, lane, now, self._clock.now() + self._lease_ms)
        if held is None:
            return
        try:
            for _ in range(_ROUNDS):
                jobs = await self._store.read(lanes.claim_of, held, messages)
                if not jobs:
                    break
                reports = [(job, Report(bounce.too_late(job, now) or bounce.time_is_up(job))) for job in jobs]
                await asyncio.gather(*[self._clerk.settle(held, job, report) for job, report in reports])
        finally:
            await self._store.write(lanes.release, held)

    async def _tell_of_delays(self, now: int) -> bool:
        """Tell senders that mail waits, where they want to hear it. True: some are left, who are tried first."""
        after: Cursor | None = START
        left = False
        while after is not None and not self._stopped:
            found = await self._store.read(settling.delayed, now, self._notice, after)
            for job in found.jobs:
                await self._clerk.tell_of_delay(job)
            after, left = found.after, left or found.left
        return left

    async def _tell_of_overdue(self, now: int) -> None:
        """RFC 2852 §4.1.4: in mode N the sender hears that the time has passed, and the message travels on."""
        while not self._stopped:
            messages, jobs = await self._store.read(settling.overdue, now)
            if not messages:
                return
            for job in jobs:
                await self._clerk.tell_of_delay(job)
            await self._store.write(settling.overdue_told, messages)
