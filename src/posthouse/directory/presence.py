"""Who is logged in at the doors of this process, so that whoever is disabled or removed is shown out at once.

Promises: a session that `enter` let in is told to end as soon as its account is disabled or removed, by whichever
process; also where that happened between the password and the entrance.
Refuses: to know what a session is; it is handed something to call.
"""

from collections.abc import Callable, Iterable
from typing import Final

from posthouse.mailbox import ranges
from posthouse.store.database import Store, Topic, Tx

ShowOut = Callable[[], None]

# Accounts asked about in one look.
_LOOK: Final = 5000


class Presence:
    """One a process; `follow` has to run as a task."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._present: dict[int, set[ShowOut]] = {}

    async def enter(self, account: int, show_out: ShowOut) -> bool:
        """A session begins; `show_out` is called once its account may not log in any more. False: it may not now.

        Raises StoreUnavailable. Whoever was let in says `leave`.
        """
        # First known, then asked about: a change is either seen here or rung for afterwards.
        self._present.setdefault(account, set()).add(show_out)
        welcome = False
        try:
            welcome = account in await self._store.read(_enabled, [account])
        finally:
            if not welcome:
                self.leave(account, show_out)
        return welcome

    def leave(self, account: int, show_out: ShowOut) -> None:
        """A session has ended."""
        sessions = self._present.get(account, set())
        sessions.discard(show_out)
        if not sessions:
            self._present.pop(account, None)

    async def follow(self) -> None:
        """Look each time the directory has changed. Runs until it is cancelled. Raises StoreUnavailable."""
        listener = self._store.listen(Topic.DIRECTORY)
        try:
            while True:
                await self._look()
                await listener.wait()
        finally:
            listener.close()

    async def _look(self) -> None:
        present = sorted(self._present)
        for start in range(0, len(present), _LOOK):
            asked = present[start : start + _LOOK]
            for account in set(asked) - await self._store.read(_enabled, asked):
                for show_out in tuple(self._present.get(account, ())):
                    show_out()


def _enabled(tx: Tx, accounts: Iterable[int]) -> set[int]:
    return {row[0] for row in tx.all("accounts_enabled", accounts=ranges.pack(accounts))}
