"""What is made of a mailbox' columns and takes longer to make than to keep: orders and conversations.

Promises: within a budget of octets, of which an account has half at most; what was not asked for the longest goes
first, of an account that has too much its own. Refuses: to know whether what is kept is still good: who keeps it says
of which messages it is made, and looks.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final

from posthouse.limits import MB

# Octets of all that is kept.
BUDGET: Final = 32 * MB
# What an entry takes beside what is in it.
_EACH: Final = 500


class Kept:
    """The things of this process, each by account, mailbox, uidvalidity and what it is."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._entries: OrderedDict[tuple[int, Hashable], tuple[Any, int]] = OrderedDict()
        self._octets: dict[int, int] = {}
        self._whole = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def octets(self) -> int:
        """What all of it takes of memory, about."""
        return self._whole

    def get(self, account: int, key: Hashable) -> Any:
        """What was put there last, or None."""
        entry = self._entries.get((account, key))
        if entry is None:
            return None
        self._entries.move_to_end((account, key))
        return entry[0]

    def put(self, account: int, key: Hashable, value: Any, octets: int) -> None:
        """Keep it in place of what was there. What takes more than half of an account's share is not kept."""
        self._remove((account, key))
        octets += _EACH
        share = self._budget // 2
        if octets > share:
            return
        self._entries[account, key] = value, octets
        self._weigh(account, octets)
        while self._octets[account] > share:
            self._remove(next(own for own in self._entries if own[0] == account))
        while self._whole > self._budget:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: tuple[int, Hashable]) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._weigh(key[0], -entry[1])

    def _weigh(self, account: int, octets: int) -> None:
        self._whole += octets
        self._octets[account] = self._octets.get(account, 0) + octets
        if not self._octets[account]:
            del self._octets[account]
