"""No open relay: mail for other domains is taken from those who logged in, and from networks that are trusted.

Promises: whatever else is configured, a stranger's recipient is of a domain of ours, or of one that we relay for (as
its backup MX), or is refused (RFC 5321 §7.9). No allow list exempts from this. An address inside an address (`a%b@c`,
`b!a@c`, `"a@b"@c`), which the next server might unwrap, is not relayed for strangers. Where nothing was ever served,
nobody is refused for good: the store is new, or made because the disk with the other one is not there.
Refuses: to look anything up; `facts.trusted` is settled when the peer connects.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import ClassVar, Final

from posthouse.directory.addresses import Standing
from posthouse.directory.model import NEW
from posthouse.directory.throttle import address_of
from posthouse.policy.check import Check, Facts, RecipientFacts, Verdict, defer, refuse

# What has parted the parts of a route inside a local part (RFC 5321 §F.2 and §F.3; UUCP).
_INSIDE: Final = re.compile(r"[@%!]")


class Relaying(Check):
    """Refuses recipients of other domains. `trusted` networks may relay without login; by default none may.

    `domains` are those that mail is relayed for, whoever sends it.
    """

    name: ClassVar[str] = "relaying"
    exemptible: ClassVar[bool] = False

    def __init__(self, trusted: Iterable[str] = (), domains: Iterable[str] = ()) -> None:
        self._trusted = [ipaddress.ip_network(network) for network in trusted]
        self._domains = frozenset(domains)
        self._wrapped = refuse(self.name, 550, "5.7.1", "An address inside an address is not relayed")
        self._new = defer(self.name, 451, "4.3.5", "This server serves no domain yet; try again later")
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
        address = recipient.recipient.address
        if address.domain in self._domains:
            return self._wrapped if _INSIDE.search(address.local) else None
        if recipient.expansion.version == NEW and not self._domains and not self._trusted:
            return self._new
        if facts.door == "lmtp":
            # RFC 5321 §3.4; LMTP delivers, and relays nothing (RFC 2033 §3).
            return refuse(self.name, 551, "5.7.1", f"User not local; send it by SMTP to <{address}>")
        return self._denied
