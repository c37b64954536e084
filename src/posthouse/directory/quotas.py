"""What all accounts of a domain may hold together, and whom to warn that it gets tight.

Promises: a domain with a quota has a kept total of the accounts that are named in it, right in the commit of whatever
changes it; others have none, and cost nothing. A crossing of a threshold is told of once: again only after what is held
has fallen well below it.
Refuses: to count the number of emails of a domain, and to write to anybody (delivery/fullness.py).
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from posthouse.directory import domains
from posthouse.directory.model import changed
from posthouse.mailbox import ranges
from posthouse.store.database import Tx

# Parts of a quota, in percent, that are told of when what is held reaches them; the highest one first.
THRESHOLDS: Final = (95, 80)
# So far below one, in percent of the quota, it is forgotten that it was told of: who hovers there hears it once.
SLACK: Final = 5
BATCH: Final = 1000


class Fullness(NamedTuple):
    """What an account or domain holds, what it may, and the threshold last told of (0: none). None: no limit."""

    id: int
    name: str
    octets: int
    quota_octets: int | None
    emails: int
    quota_emails: int | None
    told: int

    @property
    def part(self) -> float:
        """In percent, of whichever quota is nearer."""
        parts = [0.0]
        if self.quota_octets is not None:
            parts.append(100 * self.octets / max(self.quota_octets, 1))
        if self.quota_emails is not None:
            parts.append(100 * self.emails / max(self.quota_emails, 1))
        return max(parts)

    @property
    def level(self) -> int:
        """The threshold that is to be noted now: higher than `told` where a letter is due, lower where it is past."""
        reached = next((one for one in THRESHOLDS if self.part >= one), 0)
        left = next((one for one in THRESHOLDS if self.part >= one - SLACK), 0)
        return max(reached, min(self.told, left))


def set_quota(tx: Tx, name: str, octets: int | None) -> None:
    """What all accounts named in the domain may hold; None: no limit. What they hold already stays.

    Raises NoSuchDomain, BadAddress.
    """
    domain = domains.find(tx, name).name
    tx.run("quota_domain_forget", domain=domain)
    tx.run("quota_domain_set", domain=domain, octets=octets)
    if octets is not None:
        tx.run("quota_domain_members", domain=domain)
        tx.run("quota_domain_count", domain=domain)
    changed(tx)


def usage(tx: Tx, name: str) -> tuple[int, int | None]:
    """What the accounts named in a domain hold, in octets, and may hold. Raises NoSuchDomain, BadAddress."""
    row = tx.one("quota_domain_usage", domain=domains.find(tx, name).name)
    assert row is not None, "the domain was found"
    return row[0], row[1]


def full_accounts(tx: Tx, accounts: Collection[int] | None, after: int = 0) -> list[Fullness]:
    """Of these accounts (None: of all, the next BATCH behind `after`) those with a quota, by id."""
    if accounts is None:
        rows = tx.all("quota_accounts_after", after=after, limit=BATCH)
    else:
        rows = tx.all("quota_accounts", accounts=ranges.pack(accounts))
    return [Fullness._make(row) for row in rows]


def full_domains(tx: Tx) -> list[Fullness]:
    """Every domain with a quota. Their ids are all 0."""
    return [Fullness._make(row) for row in tx.all("quota_domains")]


def note_account(tx: Tx, account: int, level: int) -> Fullness | None:
    """Note that this threshold is the one; None where the account is gone or that was noted already."""
    now = next(iter(full_accounts(tx, [account])), None)
    if now is None or now.told == level or now.level != level:
        return None
    tx.run("quota_account_note", account=account, level=level)
    return now


def note_domain(tx: Tx, name: str, level: int) -> Fullness | None:
    """The same for a domain."""
    now = next((one for one in full_domains(tx) if one.name == name), None)
    if now is None or now.told == level or now.level != level:
        return None
    tx.run("quota_domain_note", domain=name, level=level)
    return now
