"""No open relay: mail for other domains is taken from those who logged in, and from networks that are trusted.

Promises: whatever else is configured, a stranger's recipient is of a domain of ours, or is refused (RFC 5321 §7.9). No
allow list exempts from this. Refuses: to look anything up; `facts.trusted` is settled when the peer connects.
"""

import ipaddress
from collections.abc import Iterable
from typing import ClassVar

from posthouse.directory.addresses import Standing
from posthouse.directory.throttle import address_of
from posthouse.policy.check import Check, Facts, RecipientFacts, Verdict, refuse


class Relaying(Check):
    """Refuses recipients of other domains. `trusted` networks may relay without login; by default none may."""

    name: ClassVar[str] = "relaying"
    exemptible: ClassVar[bool] = False

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._trusted = [ipaddress.ip_network(network) for network in trusted]
        self._denied = refuse(
            self.name,
            550,
            "5.7.1",
            "Relaying denied: this server takes mail for its own domains; log in to send elsewhere",
        )

    def connect(self, facts: Facts) -> None:
        """Settle whether the peer is trusted."""
        address = address_of(facts.peer) if self._trusted else None
        if address is not None and any(address in network for network in self._trusted):
            facts.trusted = True

    def rcpt(self, facts: Facts, recipient: RecipientFacts) -> Verdict | None:
        """The address that RCPT named counts, not where an alias of ours leads."""
        if recipient.expansion.standing is not Standing.RELAY or facts.account is not None or facts.trusted:
            return None
        return self._denied
