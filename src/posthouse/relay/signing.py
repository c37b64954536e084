"""Who signs mail that leaves, and with which keys (DKIM, RFC 6376).

Promises: mail that was written here is signed with all keys of its author's domain, else of its sender's, so that
DMARC finds the domain that people see in From (RFC 7489 §3.1.1). Large messages are signed in a thread.
Refuses: to vouch for what strangers wrote. Mail that we merely pass on (an alias that leads elsewhere, a redirect) is
not signed, whatever its From says: anybody could have his forgery signed by sending it to such an alias. A list's
mail is signed with the list's domain, for the list answers for what it lets through.
"""

import asyncio
import re
from collections.abc import Iterator
from typing import Final

from posthouse.clock import Clock
from posthouse.directory.cache import Directory
from posthouse.message.octets import Buffer
from posthouse.message.people import people
from posthouse.terms.address import Address, BadAddress, parse_domain
from posthouse.trust.dkim import Parts, sign, take_apart

# Octets. Up to here a signature holds the loop for less than a millisecond, most of which is RSA's.
_INLINE: Final = 64 * 1024
# Authors of one message: each may be of another domain, and each domain is looked up.
_MOST_DOMAINS: Final = 5
# The Received field that the door of ours wrote (message/build.py). An A at the end of its protocol says that somebody
# logged in (RFC 3848 §2); in front of it nothing of a stranger's has a space.
_LOGGED_IN: Final = re.compile(
    rb"(?:from \S+ \([^()]*\)\s+)?by \S+ \(posthouse\) with (?:UTF8|E)?[SL]MTPS?A(?![A-Z0-9])"
)


class DkimSigner:
    """What the relay asks for signatures, when the octets are final. Serves one event loop."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock

    async def sign(self, sender: Address | None, prologue: bytes, octets: Buffer) -> bytes:
        """Header lines to be put in front of everything; b"" where nobody signs.

        `sender` is the reverse-path; `prologue` and `octets` are the message as it will be sent. Raises
        StoreUnavailable.
        """
        parts = take_apart(prologue, octets)
        for domain in _signatories(sender, len(prologue), parts):
            found = await self._directory.signatory(domain)
            if not found.keys:
                continue
            now = self._clock.now()
            if len(octets) <= _INLINE:
                return sign(parts, found.domain, found.keys, now)
            return await asyncio.to_thread(sign, parts, found.domain, found.keys, now)
        return b""


def _signatories(sender: Address | None, prologue: int, parts: Parts) -> Iterator[str]:
    """The domains that may sign it, the best first. `prologue`: how many octets of its header were added by us."""
    header = parts.header
    if not header.complete or header.count(b"from") != 1:
        # RFC 5322 §3.6 knows one From. With more of them, or with some unread, the domain signs for it knows not whom.
        return
    if _written_here(prologue, parts):
        yield from _authors(header.first(b"from") or b"")
    elif not any(field.name == b"list-id" and field.start < prologue for field in header.fields):
        return
    if sender is not None:
        yield sender.domain


def _written_here(prologue: int, parts: Parts) -> bool:
    """Whether it was written by an account of ours, or by this server itself, which gives its reports no Received."""
    for field in parts.header.fields:
        if field.name == b"received" and field.start >= prologue:
            return _LOGGED_IN.match(parts.header.value(field)) is not None
    return True


def _authors(value: bytes) -> Iterator[str]:
    """The domains of From, each once, in order."""
    for domain in list(dict.fromkeys(person.domain for person in people(value)))[:_MOST_DOMAINS]:
        try:
            yield parse_domain(domain)
        except BadAddress:
            continue
