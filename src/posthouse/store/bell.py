"""The bell: "look at account 7", "look at the queue". It carries no news; losing or doubling a ring costs nothing.

Promises: a ring reaches every listener of its topic in this process when the commit it belongs to has returned.
Refuses: to say what changed; that is a row, written in the transaction that rang.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

from posthouse.store.database import Topic


class Ear:
    """One listener. Several rings while nobody waited are heard as one."""

    def __init__(self, bell: "Bell", key: tuple[Topic, int]) -> None:
        self._bell = bell
        self._key = key
        self._heard: set[int] = set()
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self) -> set[int]:
        """Wait until it rings; the ids that rang since the last wait."""
        while not self._heard:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        heard, self._heard = self._heard, set()
        return heard

    def close(self) -> None:
        """Hear no more."""
        self._bell.forget(self, self._key)

    def hear(self, id: int) -> None:
        """It rings; on the loop."""
        self._heard.add(id)
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def __aiter__(self) -> AsyncIterator[set[int]]:
        while True:
            yield await self.wait()


class Bell:
    """All listeners of a process. Everything here runs on the loop."""

    def __init__(self) -> None:
        self._ears: dict[tuple[Topic, int], set[Ear]] = {}

    def listen(self, topic: Topic, id: int) -> Ear:
        """A new ear; `id` 0 hears every id of the topic."""
        ear = Ear(self, (topic, id))
        self._ears.setdefault((topic, id), set()).add(ear)
        return ear

    def forget(self, ear: Ear, key: tuple[Topic, int]) -> None:
        """This ear hears no more."""
        ears = self._ears.get(key, set())
        ears.discard(ear)
        if not ears:
            self._ears.pop(key, None)

    def ring(self, rings: Iterable[tuple[Topic, int]]) -> None:
        """Tell the listeners of this process."""
        for topic, id in rings:
            for ear in self._ears.get((topic, id), ()):
                ear.hear(id)
            if id:
                for ear in self._ears.get((topic, 0), ()):
                    ear.hear(id)
            else:
                self._ring_all(topic)

    def _ring_all(self, topic: Topic) -> None:
        for (other, id), ears in self._ears.items():
            if other is topic and id:
                for ear in ears:
                    ear.hear(0)
