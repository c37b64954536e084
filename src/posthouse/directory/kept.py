"""A bounded memory of answers: the one kind of cache this floor and the ones above it use.

Promises: never more than `capacity` entries; what was asked for lately is still there, what nobody asked for goes
first; a look costs one or two dictionary lookups and moves nothing while the answer is young.
Refuses: to know when an answer went wrong; whoever keeps it says `clear` or `drop`.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from posthouse.store.database import Store, Topic

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Two generations: when the young one is half of `capacity` it becomes the old one, and the old one goes."""

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, capacity: int) -> None:
        self._half = max(1, capacity // 2)
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """What is kept under this key."""
        found = self._young.get(key)
        if found is None and self._old:
            found = self._old.pop(key, None)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        """Keep this from now on."""
        if len(self._young) >= self._half and key not in self._young:
            self._old, self._young = self._young, {}
        self._young[key] = value
        if self._old:
            self._old.pop(key, None)

    def drop(self, key: K) -> None:
        """Forget this one."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._young.clear()
        self._old.clear()

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


async def forget_when_changed(store: Store, forget: Callable[[], None]) -> None:
    """Call `forget`, now and each time the directory has changed. Runs until it is cancelled."""
    listener = store.listen(Topic.DIRECTORY)
    try:
        while True:
            forget()
            await listener.wait()
    finally:
        listener.close()
