"""What a domain wants done with mail in its name that fails DMARC (RFC 7489 §6.6.3): asked before a list resends it.

Promises: the answer errs towards strict, for a From that was rewritten needlessly still arrives. Refuses: to judge.
"""

from typing import Final

from posthouse.net.dns import DnsError, NoRecords, NoSuchDomain, Resolver
from posthouse.trust.tags import BadTags, parse_tags

# The policy of what is above holds where the domain has none of its own: of names above it, those of so many labels at
# most are asked, so that nobody makes us ask a hundred.
_MOST_LABELS: Final = 5


class DmarcPolicies:
    """Looks policies up; the resolver keeps answers."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def strict(self, domain: str) -> bool:
        """p=reject or p=quarantine; True also where DNS does not answer. Raises nothing."""
        if domain.startswith("["):
            return False  # a host without a name has no policy
        labels = domain.split(".")
        for cut in (0, *range(max(1, len(labels) - _MOST_LABELS), len(labels) - 1)):
            try:
                policy = await self._policy(".".join(labels[cut:]), above=cut > 0)
            except DnsError:
                return True
            if policy is not None:
                return policy in ("reject", "quarantine")
        return False

    async def _policy(self, domain: str, *, above: bool) -> str | None:
        try:
            answer = await self._resolver.txt(f"_dmarc.{domain}")
        except (NoSuchDomain, NoRecords):
            return None
        for text in answer.records:
            if not text.startswith(b"v=DMARC1"):
                continue
            try:
                tags = parse_tags(text)
            except BadTags:
                continue
            wanted = tags.get("p", "none")
            return (tags.get("sp", wanted) if above else wanted).strip().lower()
        return None
