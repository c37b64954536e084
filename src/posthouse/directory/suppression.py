"""Addresses that an account's mail did not reach, and those that complained: bounces as data.

Promises: each address stands there once, with why, in the other side's words, how often and since when. The list can be
read and cleared, and hardly grows past MOST: the oldest go.
Refuses: to decide whether to write to an address all the same; `stops` says what would be of no use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from posthouse.message.cause import Cause
from posthouse.store.database import Tx
from posthouse.terms.address import Address

MOST: Final = 10_000
COMPLAINT: Final = "complaint"
# The oldest go so many at a time.
_SLACK: Final = 500
_LONGEST: Final = 500
_STOPPING: Final = frozenset({COMPLAINT, *(cause.value for cause in Cause if cause.of_address)})


@dataclass(frozen=True, slots=True)
class Suppressed:
    """One address. `cause` is a Cause's value, or COMPLAINT. Times are UTC milliseconds."""

    address: str
    cause: str
    words: str
    times: int
    first_at: int
    last_at: int

    @property
    def stops(self) -> bool:
        """Writing there again is of no use, or is not wanted."""
        return self.cause in _STOPPING


def note(tx: Tx, account: int, address: Address, cause: str, words: str, now: int) -> None:
    """Mail of this account for the address failed for good, or led to a complaint."""
    times = tx.value(
        "suppression_note",
        account=account,
        address=address.key,
        written=str(address),
        cause=cause,
        words=words[:_LONGEST],
        now=now,
    )
    if times == 1 and tx.value("suppression_count", account=account) > MOST + _SLACK:
        tx.put("suppression_trim", account=account, most=MOST)


def listed(tx: Tx, account: int, after: str = "", limit: int = 500) -> Sequence[Suppressed]:
    """The account's list in order of addresses, behind the key of `after`."""
    rows = tx.all("suppression_list", account=account, after=after, limit=limit)
    return [Suppressed(*row[:6]) for row in rows]


def clear(tx: Tx, account: int, address: Address | None = None) -> int:
    """Take one address off the list, or all; how many there were."""
    if address is None:
        return tx.run("suppression_clear_all", account=account)
    return tx.run("suppression_clear", account=account, address=address.key)
