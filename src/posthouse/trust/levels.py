"""How well sessions with a domain were protected before, so that a sudden fall is noticed.

An attacker who strips STARTTLS from a conversation looks like a server that never had it; only memory tells them apart.
A domain counts as one that encrypts once it did so for a day without exception. If it then does not, that is a
downgrade for a day; after that it is how things are.
Promises: the judgement is a plain function; a domain that is known costs no look at the store, and its row is written
twice a day at most.
Refuses: to say what a downgrade means for the mail. (What a policy promises is in the policy; this is for the others.)
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from posthouse.clock import Clock
from posthouse.store.database import Store, Tx

DAY: Final = 86_400_000
# Encrypted sessions for so long, and none without: it is a habit.
HABIT: Final = DAY
# A downgrade that lasts so long is no attack, or one that nobody will notice any more.
PATIENCE: Final = DAY
FORGOTTEN: Final = 90 * DAY
_MOST_KNOWN: Final = 10_000


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one domain, in UTC milliseconds: the first and the last encrypted session; the first in clear text since."""

    since: int
    until: int
    clear_since: int | None = None


def met_clear(memory: Memory | None, now: int) -> tuple[Memory | None, bool]:
    """What is remembered after a session in clear text, and whether that was a downgrade."""
    if memory is None or memory.until - memory.since < HABIT:
        return None, False
    if memory.clear_since is None:
        return replace(memory, clear_since=now), True
    if now - memory.clear_since < PATIENCE:
        return memory, True
    return None, False


def met_encrypted(memory: Memory | None, now: int) -> Memory:
    """What is remembered after an encrypted session."""
    return Memory(memory.since if memory else now, now)


class Levels:
    """What is remembered of all domains: in the store, and what changed in memory until it is written."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: OrderedDict[str, Memory | None] = OrderedDict()
        self._changed: dict[str, Memory | None] = {}

    async def met(self, domain: str, *, encrypted: bool) -> bool:
        """Note a session with the domain. True: it was not encrypted, which is a downgrade. Raises StoreUnavailable."""
        memory = await self._recall(domain)
        now = self._clock.now()
        downgrade = False
        if not encrypted:
            after, downgrade = met_clear(memory, now)
        elif memory and memory.clear_since is None and now - memory.until < HABIT // 2:
            # Nothing new: it is written twice a day.
            return False
        else:
            after = met_encrypted(memory, now)
        if after != memory:
            self._known[domain] = self._changed[domain] = after
        return downgrade

    async def _recall(self, domain: str) -> Memory | None:
        if domain not in self._known:
            read = await self._store.read(_read, domain)
            # What somebody changed while the store was asked is newer.
            self._known.setdefault(domain, self._changed.get(domain, read))
        self._known.move_to_end(domain)
        memory = self._known[domain]
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return memory

    def take(self) -> Mapping[str, Memory | None]:
        """What is to be written; from now on it waits no more."""
        changed, self._changed = self._changed, {}
        return changed

    def give_back(self, changed: Mapping[str, Memory | None]) -> None:
        """It could not be written: let it wait for the next time."""
        self._changed = {**changed, **self._changed}


def _read(tx: Tx, domain: str) -> Memory | None:
    row = tx.one("tls_level", domain=domain)
    return Memory(*row) if row else None


def write(tx: Tx, changed: Mapping[str, Memory | None]) -> None:
    """Write what `take` gave."""
    for domain, memory in changed.items():
        if memory is None:
            tx.put("tls_level_forget", domain=domain)
        else:
            tx.put(
                "tls_level_put",
                domain=domain,
                since_at=memory.since,
                until_at=memory.until,
                clear_at=memory.clear_since,
            )


def expire(tx: Tx, now: int) -> None:
    """Forget domains that nothing was sent to for long."""
    tx.run("tls_level_expire", before=now - FORGOTTEN)
