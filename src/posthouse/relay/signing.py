"""Who signs mail that leaves, and with which keys (DKIM, RFC 6376).

Promises: mail that was written here is signed with all keys of its author's domain, else of its sender's, so that
DMARC finds the domain that people see in From (RFC 7489 §3.1.1). Large messages are signed in a thread.
Mail that a host in a trusted network sends away is signed by its author's domain, too, where it has been through no
other hands. Refuses: to vouch for what strangers wrote. Mail that we merely pass on (an alias that leads elsewhere, a
redirect) is not signed, whatever its From says: anybody could have his forgery signed by sending it to such an alias. A
list's mail is signed with the list's domain, for the list answers for what it lets through.
"""

import asyncio
import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from posthouse.clock import Clock
from posthouse.directory.cache import Directory
from posthouse.directory.throttle import address_of
from posthouse.message.header import unfold
from posthouse.message.octets import Buffer
from posthouse.message.people import people
from posthouse.terms.address import Address, BadAddress, parse_domain
from posthouse.trust.dkim import Parts, sign, take_apart

# Octets. Up to here a signature holds the loop for less than a millisecond, most of which is RSA's.
_INLINE: Final = 64 * 1024
# Where the header of nearly all mail ends.
_NEAR: Final = 16 * 1024
# From fields in a header that begins with a line ending: where `Header` sees one, this does. It may see more.
_FROM: Final = re.compile(rb"\n[Ff][Rr][Oo][Mm][ \t]*:([^\n]*(?:\n[\x00-\x09\x0b-\x20][^\n]*)*)")
# Authors of one message: each may be of another domain, and each domain is looked up.
_MOST_DOMAINS: Final = 5
# Octets of a From that is remembered, and how many are: most people write again.
_LONGEST_KNOWN: Final = 500
_KNOWN: Final = 1000
# An IPv6 address that ends like one of IPv4.
_LONGEST_ADDRESS: Final = 45
# The Received field that the door of ours wrote (message/build.py). An A at the end of its protocol says that somebody
# logged in (RFC 3848 §2); in front of it nothing of a stranger's has a space.
_LOGGED_IN: Final = re.compile(
    rb"(?:from \S+ \([^()]*\)\s+)?by \S+ \(posthouse\) with (?:UTF8|E)?[SL]MTPS?A(?![A-Z0-9])"
)


# The same field where nobody logged in, by SMTP: it ends with the address of who brought the message.
_BROUGHT: Final = re.compile(
    rb"from \S+ \((?:\S+ )?\[(?:IPv6:)?([0-9A-Fa-f:.]+)\]\)\s+by \S+ \(posthouse\) with (?:UTF8|E)?SMTPS?(?![A-Z0-9])"
)
# Of another server's field: the clause that says whom it had the message from (RFC 5321 §4.4), and addresses in it.
_FROM_CLAUSE: Final = re.compile(rb"from\s(.*?)(?:\sby\s|\Z)", re.IGNORECASE | re.DOTALL)
_LITERAL: Final = re.compile(rb"\[(?:IPv6:)?([0-9A-Fa-f:.]+)\]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Signed:
    """Header lines to be put in front of everything, and by whom they are: a domain, and its keys' selectors."""

    fields: bytes = b""
    domain: str = ""
    selectors: tuple[str, ...] = ()


UNSIGNED: Final = Signed()


class DkimSigner:
    """What the relay asks for signatures, when the octets are final. Serves one event loop."""

    def __init__(self, directory: Directory, clock: Clock, trusted: Iterable[str] = ()) -> None:
        """`trusted` networks may relay without a login."""
        self._directory = directory
        self._clock = clock
        self._trusted = tuple(ipaddress.ip_network(network) for network in trusted)
        self._known = lru_cache(maxsize=_KNOWN)(self._is_trusted)

    async def sign(self, sender: Address | None, prologue: bytes, octets: Buffer) -> Signed:
        """Header lines to be put in front of everything, or UNSIGNED.

        `sender` is the reverse-path; `prologue` and `octets` are the message as it will be sent. Raises
        StoreUnavailable.
        """
        if not await self._directory.signs() or self._nobody_can(sender, prologue, octets):
            return UNSIGNED
        parts = take_apart(prologue, octets)
        for domain in self._signatories(sender, len(prologue), parts):
            found = await self._directory.signatory(domain)
            if not found.keys:
                continue
            now = self._clock.now()
            if len(octets) <= _INLINE:
                fields = sign(parts, found.domain, found.keys, now)
            else:
                fields = await asyncio.to_thread(sign, parts, found.domain, found.keys, now)
            return Signed(fields, found.domain, tuple(key.selector for key in found.keys))
        return UNSIGNED

    def _nobody_can(self, sender: Address | None, prologue: bytes, octets: Buffer) -> bool:
        """Whether memory knows that none of the domains which may be asked for has keys. Nothing else need be read of
        mail that is only passed on."""
        domains = _may_be_asked(sender, prologue, octets)
        known = map(self._directory.known_signatory, domains)
        return bool(domains) and all(one is not None and not one.keys for one in known)

    def _signatories(self, sender: Address | None, prologue: int, parts: Parts) -> Iterator[str]:
        """The domains that may sign it, the best first. `prologue`: how many octets of its header were added by us."""
        header = parts.header
        if not header.complete or header.count(b"from") != 1:
            # RFC 5322 §3.6 knows one From. With more of them, or with some unread, the domain signs for it knows not
            # whom.
            return
        if _written_here(prologue, parts):
            yield from _authors(header.first(b"from") or b"")
        elif self._trusted and not prologue and self._written_nearby(parts):
            # Not by the reverse-path: a host that forwards for its people may put its own there.
            yield from _authors(header.first(b"from") or b"")
            return
        elif not any(field.name == b"list-id" and field.start < prologue for field in header.fields):
            return
        if sender is not None:
            yield sender.domain

    def _written_nearby(self, parts: Parts) -> bool:
        """Whether a host in a trusted network brought it, and before that it was on such hosts alone.

        Each server that it passed put its field on top (RFC 5321 §4.4), so a stranger's address stands in one of them,
        however many he wrote himself.
        """
        received = [parts.header.value(field) for field in parts.header.fields if field.name == b"received"]
        brought = _BROUGHT.match(received[0]) if received else None
        if brought is None or not self._trusts(brought[1], loopback=False):
            return False
        for value in received[1:]:
            clause = _FROM_CLAUSE.match(value)
            if clause is None:
                continue  # it was written on that host
            literals = _LITERAL.findall(clause[1])
            if not literals or not all(self._trusts(literal, loopback=True) for literal in literals):
                return False
        return True

    def _trusts(self, literal: bytes, *, loopback: bool) -> bool:
        return len(literal) <= _LONGEST_ADDRESS and self._known(literal, loopback=loopback)

    def _is_trusted(self, literal: bytes, *, loopback: bool) -> bool:
        address = address_of(literal.decode("ascii"))
        if address is None:
            return False
        return (loopback and address.is_loopback) or any(address in network for network in self._trusted)


def _may_be_asked(sender: Address | None, prologue: bytes, octets: Buffer) -> set[str]:
    """All domains that may sign such a message, and perhaps more; none where that cannot be said so quickly."""
    if not isinstance(octets, bytes) or (end := octets.find(b"\n\r\n", 0, _NEAR)) < 0:
        return set()
    head = b"\n" + prologue + octets[:end]
    domains = {domain for value in _FROM.findall(head) for domain in _authors(unfold(value))}
    if sender is not None:
        domains.add(sender.domain)
    return domains


def _written_here(prologue: int, parts: Parts) -> bool:
    """Whether it was written by an account of ours, or by this server itself, which gives its reports no Received."""
    for field in parts.header.fields:
        if field.name == b"received" and field.start >= prologue:
            return _LOGGED_IN.match(parts.header.value(field)) is not None
    return True


def _authors(value: bytes) -> Sequence[str]:
    """The domains of From, each once, in order."""
    return _known_authors(value) if len(value) <= _LONGEST_KNOWN else _domains(value)


def _domains(value: bytes) -> Sequence[str]:
    found: list[str] = []
    for domain in list(dict.fromkeys(person.domain for person in people(value)))[:_MOST_DOMAINS]:
        try:
            found.append(parse_domain(domain))
        except BadAddress:
            continue
    return tuple(found)


_known_authors = lru_cache(maxsize=_KNOWN)(_domains)
