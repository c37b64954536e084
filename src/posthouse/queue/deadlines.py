"""What happens because time passed: whoever waited to the end is given up, senders hear of mail that waits for long,
and what waits for a time that cannot be true, because the clock was set back since, is called back.

Promises: what is found is worked through some hundred at a time, and what waited while nobody ran is tried before it is
given up or told of. What was told is noted in the commit that queues the report. Walks along what waits (ages.py) take
a hundredth of the time: with 200,000 waiting, who is to be given up may wait half a minute longer.
Refuses: to attempt anything.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from posthouse import observe
from posthouse.clock import Clock
from posthouse.queue import ages, bounce, lanes
from posthouse.queue.ages import Stretch
from posthouse.queue.clerk import Clerk
from posthouse.queue.lanes import Lease
from posthouse.queue.outcome import Report
from posthouse.queue.queue import Job
from posthouse.store.database import Store, StoreUnavailable

# How soon those are looked for again whose time is up, or who wait for long, and who are about to be tried.
_AGAIN_MS: Final = 60_000
# And where nothing has a time. What is queued behind a walk with less than two hours is found without one.
_FAR_MS: Final = 3_600_000
# A walk takes one part in so many of the time.
_WALK_PART: Final = 100


class Deadlines:
    """Looks after the times of what waits. `notice`: seconds after which a sender hears that his mail waits. `longest`:
    seconds that may pass between two attempts."""

    def __init__(
        self, store: Store, clerk: Clerk, clock: Clock, notice: float, longest: float, lease_seconds: float
    ) -> None:
        self._store = store
        self._clerk = clerk
        self._clock = clock
        self._notice, self._longest = int(notice * 1000), int(longest * 1000)
        # What is taken in behind a look shall not have waited for longer than `notice` at the next.
        self._again_ms, self._far_ms = min(_AGAIN_MS, self._notice), min(_FAR_MS, self._notice)
        self._lease_ms = int(lease_seconds * 1000)
        self._due_at = 0
        # No walk before this.
        self._rests_until = 0
        self._looking = False
        self._stopped = False

    def expect(self, at: int | None) -> None:
        """Something has this time, which may have come since the last look."""
        if at is not None:
            self._due_at = min(self._due_at, at)

    def clock_set_back(self) -> None:
        """It is time for a look, whatever the clock said before."""
        self._due_at = self._rests_until = 0

    def stop(self) -> None:
        """A look under way ends with what it is at."""
        self._stopped = True

    def due(self, now: int) -> bool:
        """It is time for a look, and none is under way."""
        return not self._looking and max(self._due_at, self._rests_until) <= now

    @property
    def due_at(self) -> int | None:
        """When the next look is due; None while one is under way."""
        return None if self._looking else max(self._due_at, self._rests_until)

    async def look(self, now: int) -> None:
        """Do what is due. Raises StoreUnavailable."""
        self._looking = True
        # Whatever goes wrong, it is not tried again at once.
        self._due_at = now + _AGAIN_MS
        try:
            left, next_at = await self._walk(now)
            await self._tell_of_overdue(now)
            await self._store.write(ages.call_back_lanes, now, self._longest)
            while await self._store.write(lanes.forget_sites, now):
                pass
            soon = await self._store.read(lanes.next_deadline, now)
            again = now + (self._again_ms if left else self._far_ms)
            self._due_at = lanes.first(again, next_at, soon) or again
        finally:
            self._looking = False
            if self._clock.now() < now:
                # By its times it would rest for as long as the clock was ahead.
                self.clock_set_back()

    async def _walk(self, now: int) -> tuple[bool, int | None]:
        """Along all that waits: give up whose time is up, tell of who waits for long. Whether some of these are left,
        who are tried first; and when the next one comes to his time."""
        found = Stretch(0, 0, False, False, False, None)
        left, next_at, took = False, None, 0.0
        while not (found.last or self._stopped):
            began = self._clock.monotonic()
            found = await self._store.read(ages.walk, now, self._notice, self._longest, found.upto)
            took += self._clock.monotonic() - began
            next_at = lanes.first(next_at, found.next_at)
            if found.astray:
                await self._store.write(ages.call_back, found, now, self._longest)
            if found.expired:
                left = True
                await self._give_up_expired(found, now)
            if found.delayed:
                left |= await self._tell_of_delays(found, now)
        self._rests_until = self._clock.now() + int(took * 1000) * _WALK_PART
        return left, next_at

    async def _give_up_expired(self, found: Stretch, now: int) -> None:
        """Fail the recipients of waiting lanes whose time is up, without another attempt."""
        after: int | None = found.after
        while after is not None and not self._stopped:
            by_lane, after = await self._store.read(ages.expired, found, now, after)
            for lane, recipients in by_lane.items():
                if not self._stopped:
                    await self._give_up(lane, recipients, now)

    async def _give_up(self, lane: int, recipients: Sequence[int], now: int) -> None:
        leased_at = self._clock.now()
        held = await self._store.write(lanes.lease, lane, now, leased_at + self._lease_ms)
        if held is None:
            return
        try:
            # Each round ends its jobs; of large messages it is one.
            wanted = set(recipients)
            while not self._stopped and (jobs := await self._store.read(lanes.claim_of, held, sorted(wanted))):
                if (at := self._clock.now()) - leased_at >= self._lease_ms // 3:
                    await self._store.write(lanes.renew, [held], at + self._lease_ms)
                    leased_at = at
                for ended in await asyncio.gather(*[self._end(held, job, now) for job in jobs]):
                    wanted.difference_update(ended)
        finally:
            await self._store.write(lanes.release, held)

    async def _end(self, held: Lease, job: Job, now: int) -> list[int]:
        """Fail all of the job: nobody looks at them again under this lease, though it could not be written down."""
        try:
            await self._clerk.settle(held, job, Report(bounce.too_late(job, now) or bounce.time_is_up(job)))
        except Exception as error:
            observe.fault("queue.cannot_give_up", error, journey=job.mail.journey, destination=held.destination)
        return [one.id for one in job.recipients]

    async def _tell_of_delays(self, found: Stretch, now: int) -> bool:
        """Tell senders that mail waits, where they want to hear it. True: some are left, who are tried first."""
        after: int | None = found.after
        left = False
        while after is not None and not self._stopped:
            page = await self._store.read(ages.delayed, found, now, self._notice, after)
            await self._tell_of(page.messages)
            left, after = left or page.left, page.after
        return left

    async def _tell_of(self, messages: Sequence[int]) -> None:
        """Each as it stands when its turn comes: who has left meanwhile is not told of."""
        for message in messages:
            if self._stopped:
                return
            for job in await self._store.read(lanes.jobs_that_wait, message):
                if not self._stopped:
                    await self._tell(job)

    async def _tell(self, job: Job) -> None:
        try:
            await self._clerk.tell_of_delay(job)
        except StoreUnavailable:
            raise
        except Exception as error:
            observe.fault("queue.cannot_tell", error, journey=job.mail.journey)

    async def _tell_of_overdue(self, now: int) -> None:
        """RFC 2852 §4.1.4: in mode N the sender hears that the time has passed, and the message travels on."""
        while not self._stopped:
            messages = await self._store.read(ages.overdue, now)
            await self._tell_of(messages)
            if not messages or self._stopped:
                # Who was told is not told again.
                return
            await self._store.write(ages.overdue_told, messages)
