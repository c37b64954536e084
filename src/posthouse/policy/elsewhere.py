"""Does the domain that an account writes to take mail? Asked of DNS while its user is still there to mend a slip.

Promises: a domain that does not exist, or says that it takes no mail (RFC 7505), is refused at RCPT instead of coming
back as a bounce. Where DNS has no answer in time, nothing is refused: the queue will see.
Refuses: to look at what strangers send; their recipients are ours.
"""

import asyncio
from collections.abc import Awaitable
from typing import ClassVar, Final

from posthouse.directory.addresses import Standing
from posthouse.net.dns import DnsError, NoSuchDomain, Resolver
from posthouse.policy.check import Check, Facts, RecipientFacts, Verdict, refuse

# A person waits: answers come in milliseconds, or from a server that is far or ill.
_PATIENCE: Final = 2.0


class TakesMail(Check):
    """Refuses recipients of other domains that take no mail."""

    name: ClassVar[str] = "domain"

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def rcpt(self, facts: Facts, recipient: RecipientFacts) -> Awaitable[Verdict | None] | None:
        """Only what an account sends elsewhere."""
        domain = recipient.recipient.address.domain
        if facts.account is None or recipient.expansion.standing is not Standing.RELAY or domain[0] == "[":
            return None
        return self._ask(domain)

    async def _ask(self, domain: str) -> Verdict | None:
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await self._resolver.mx(domain)
        except NoSuchDomain:
            return refuse(self.name, 550, "5.1.2", f"Domain {domain} does not exist")  # RFC 3463 §3.2
        except (DnsError, TimeoutError):
            return None
        if all(record.host == "" for record in found.records):
            return refuse(self.name, 556, "5.1.10", f"Domain {domain} takes no mail")  # RFC 7504 §4, RFC 7505 §3
        return None
