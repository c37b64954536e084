"""What limits an account's mail, and how much of it is used: the totals that `append.check_quota` goes by.

Promises: kept totals, never counted. Refuses: to set limits; the directory does.
"""

from dataclasses import dataclass

from posthouse.mailbox.model import NoSuchAccount
from posthouse.store.database import Tx


@dataclass(frozen=True, slots=True)
class Limit:
    """What the account, or all accounts of its `domain`, may hold and does hold: of octets, else of emails."""

    domain: str | None
    octets: bool
    used: int
    limit: int


def limits(tx: Tx, account: int) -> list[Limit]:
    """What there are, the account's own first. Raises NoSuchAccount."""
    row = tx.one("quota_limits", account=account)
    if row is None:
        raise NoSuchAccount(f"account {account} has no mail store")
    used_octets, used_emails, octets, emails, domain, domain_used, domain_octets = row
    found = [
        (None, True, used_octets, octets),
        (None, False, used_emails, emails),
        (domain, True, domain_used, domain_octets),
    ]
    return [Limit(owner, kind, used or 0, limit) for owner, kind, used, limit in found if limit is not None]
