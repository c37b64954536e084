"""From which networks people log in: whoever comes from one of them is not held up by others' guesses.

Promises: a network is familiar to a login for KEPT days after a right password, also across restarts. It is written
behind the login, once a day at most. Memory is bounded.
Refuses: to say that somebody may come in; it only says who need not wait for what strangers do.
"""

import asyncio
from typing import Final

from posthouse.clock import Clock
from posthouse.directory.kept import Kept
from posthouse.store.database import Store, Tx

_DAY: Final = 86_400_000
# Who was away for longer is measured by what others do, like a stranger.
KEPT: Final = 60
NETWORKS: Final = 100_000
# Written in one transaction; logins that come together are written together.
_BATCH: Final = 500
_GATHER_SECONDS: Final = 2.0

# Login and network.
Place = tuple[str, str]


class Familiar:
    """One a process. `follow` has to run as a task; without it nothing outlives the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # The day of the last login that is written, or is about to be.
        self._days: Kept[Place, int] = Kept(NETWORKS)
        self._unwritten: dict[Place, int] = {}
        self._wanted = asyncio.Event()

    def knows(self, login: str, network: str) -> bool:
        """Has this login succeeded from there?"""
        day = self._days.get((login, network))
        return day is not None and day >= self._clock.now() // _DAY - KEPT

    def met(self, login: str, network: str) -> None:
        """It has, just now."""
        place, today = (login, network), self._clock.now() // _DAY
        if self._days.get(place) != today and len(self._unwritten) < NETWORKS:
            self._days.put(place, today)
            self._unwritten[place] = today
            self._wanted.set()

    async def follow(self, store: Store) -> None:
        """Read what is known, then write what is new, for ever. Raises StoreUnavailable; what could not be written is
        tried again."""
        await self.recall(store)
        while True:
            await self._wanted.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            batch = list(self._unwritten.items())[:_BATCH]
            await store.write(_record, batch, self._clock.now() // _DAY - KEPT)
            for place, day in batch:
                if self._unwritten[place] == day:
                    del self._unwritten[place]
            if not self._unwritten:
                self._wanted.clear()

    async def recall(self, store: Store) -> None:
        """Read what is known. Raises StoreUnavailable."""
        oldest = self._clock.now() // _DAY - KEPT
        for login, network, day in await store.read(_recent, oldest):
            if not self.knows(login, network):
                self._days.put((login, network), day)


def _recent(tx: Tx, oldest: int) -> list[tuple[str, str, int]]:
    # The last ones come last: of too many those stay.
    found = tx.all("familiar_recent", oldest=oldest, limit=NETWORKS // 2)
    return [(login, network, day) for login, network, day in reversed(found)]


def _record(tx: Tx, places: list[tuple[Place, int]], oldest: int) -> None:
    tx.many("familiar_put", [{"login": login, "network": network, "day": day} for (login, network), day in places])
    tx.run("familiar_expire", oldest=oldest)
