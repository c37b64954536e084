"""Does the recipient exist, and is there room for the message?

Promises: an unknown address is refused while its sender is still there to hear it, so that no bounce is needed
(RFC 5321 §6.2). A mailbox without room defers, for it may be emptied; a message that could never fit is refused.
Refuses: to be exact about room: it looks at totals some seconds old. The accepting transaction is exact.
"""

from collections.abc import Awaitable, Sequence
from typing import ClassVar, Final

from posthouse.clock import Clock
from posthouse.directory.addresses import Expansion, Standing
from posthouse.directory.kept import Kept
from posthouse.policy.check import Check, Facts, RecipientFacts, Verdict, defer, refuse
from posthouse.store.database import Row, Store, Tx

# Seconds that an account's totals are good for a look before the message.
FRESH: Final = 2.0
ACCOUNTS: Final = 20_000
# An alias of more accounts than this is taken without a look: the commit knows who of them has room.
MOST_LOOKED_AT: Final = 20


class RecipientExists(Check):
    """Refuses addresses of ours that lead to nobody."""

    name: ClassVar[str] = "recipient"
    exemptible: ClassVar[bool] = False

    def __init__(self) -> None:
        # RFC 3463 §3.2, §3.3, §3.5.
        self._answers: dict[Standing, Verdict | None] = {
            Standing.KNOWN: None,
            Standing.RELAY: None,
            Standing.UNKNOWN: self._refuse("5.1.1", "No such address here", Standing.UNKNOWN),
            Standing.DISABLED: self._refuse("5.2.1", "This mailbox is disabled", Standing.DISABLED),
            Standing.LOOP: self._refuse("5.4.6", "This address leads back to itself", Standing.LOOP),
            Standing.TOO_DEEP: self._refuse("5.2.4", "This address cannot be expanded", Standing.TOO_DEEP),
            Standing.TOO_MANY: self._refuse("5.2.4", "This address cannot be expanded", Standing.TOO_MANY),
        }

    def _refuse(self, enhanced: str, text: str, why: Standing) -> Verdict:
        return refuse(self.name, 550, enhanced, text, why.value)

    def rcpt(self, facts: Facts, recipient: RecipientFacts) -> Verdict | None:
        """By what the directory has found."""
        return self._answers[recipient.expansion.standing]


class Quota(Check):
    """Refuses or defers recipients whose every mailbox lacks room for the size that MAIL announced."""

    name: ClassVar[str] = "quota"
    exemptible: ClassVar[bool] = False

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._kept: Kept[int, tuple[Row, float]] = Kept(ACCOUNTS)
        self._too_large = refuse(self.name, 552, "5.2.2", "This message is larger than the mailbox may ever be")
        self._full = defer(self.name, 452, "4.2.2", "The mailbox is full; try again later")

    def rcpt(self, facts: Facts, recipient: RecipientFacts) -> Verdict | Awaitable[Verdict | None] | None:
        """Somebody with room is enough: the others are settled in the commit."""
        accounts = _limited(recipient.expansion)
        if not accounts:
            return None
        now = self._clock.monotonic()
        rows: list[Row] = []
        for account in accounts:
            kept = self._kept.get(account)
            if kept is None or kept[1] <= now:
                return self._look(accounts, facts.size)
            rows.append(kept[0])
        return self._judge(rows, facts.size)

    async def _look(self, accounts: Sequence[int], size: int) -> Verdict | None:
        rows = await self._store.read(_usages, accounts)
        until = self._clock.monotonic() + FRESH
        for account, row in rows.items():
            self._kept.put(account, (row, until))
        return self._judge(list(rows.values()), size)

    def _judge(self, rows: Sequence[Row], size: int) -> Verdict | None:
        worst: Verdict | None = None
        for used_octets, used_emails, octets, emails, used_by_domain, of_domain in rows:
            if (octets is not None and size > octets) or (of_domain is not None and size > of_domain):
                worst = worst or self._too_large
            elif (
                (octets is not None and used_octets + max(size, 1) > octets)
                or (emails is not None and used_emails >= emails)
                or (of_domain is not None and used_by_domain + max(size, 1) > of_domain)
            ):
                worst = self._full
            else:
                return None
        return worst


def _limited(expansion: Expansion) -> list[int]:
    """The accounts to look at: none where anybody that is reached has no limit."""
    if expansion.remote or not all(reached.limited for reached in expansion.local):
        return []
    if len(expansion.local) > MOST_LOOKED_AT:
        return []
    return [reached.account for reached in expansion.local]


def _usages(tx: Tx, accounts: Sequence[int]) -> dict[int, Row]:
    found = {account: tx.one("account_usage", account=account) for account in accounts}
    return {account: row for account, row in found.items() if row is not None}
