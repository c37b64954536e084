"""What was read of accounts and still holds, because their bells have not rung since: it need not be read again.

Promises: what is found here was true when the account's bell rang last, and nothing has happened there since that this
process has heard of. One ring, and all that is known of the account is forgotten. What is known is bounded.
Refuses: to read; and to hold anything large.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Final

from posthouse.store.database import Listener, Store, Topic

_ACCOUNTS: Final = 1000
_EACH: Final = 30


@dataclass(slots=True)
class Known:
    """What is known of one account. Whoever reads takes this before, and tells what was found afterwards: if the bell
    has rung meanwhile, nobody asks this one any more."""

    ear: Listener
    _facts: dict[Hashable, Any] = field(default_factory=dict)

    def get(self, key: Hashable) -> Any:
        """What is known under this name; None: nothing."""
        return self._facts.get(key)

    def tell(self, key: Hashable, fact: object) -> None:
        """This was read, and is small."""
        if len(self._facts) >= _EACH:
            self._facts.clear()
        self._facts[key] = fact


class Accounts:
    """What this process knows of accounts, the one that nobody asked for longest first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[int, Known] = OrderedDict()

    def of(self, account: int) -> Known:
        """What is known of an account now."""
        self._store.hear()
        known = self._known.get(account)
        if known is not None and not known.ear.rung:
            self._known.move_to_end(account)
            return known
        if known is not None:
            known.ear.close()
        elif len(self._known) >= _ACCOUNTS:
            _, oldest = self._known.popitem(last=False)
            oldest.ear.close()
        known = self._known[account] = Known(self._store.listen(Topic.ACCOUNT, account))
        self._known.move_to_end(account)
        return known
