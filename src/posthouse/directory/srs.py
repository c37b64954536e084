"""The sender rewriting scheme: a reverse-path of our own for mail that is forwarded, and the way back.

Forwarded under its writer's reverse-path, mail fails SPF at the next hop, whose record does not name us (RFC 7208
§10.3). So the reverse-path becomes an address in the domain that forwards, which holds the old one, a day and a keyed
hash; a bounce to it comes to us and goes on to whoever wrote.

    alice@far.example     → SRS0=h4sh=dd=far.example=alice@home.example
    SRS0=x=y=b.example=c@d.example (another forwarder's) → SRS1=h4sh=d.example==x=y=b.example=c@home.example
    one that is too long to be held in 64 octets         → SRS0=h4sh=dd=ticket@home.example

Promises: `reverse` gives back what `forward` was given, for DAYS days; or there is a `ticket`, and whoever forwards
keeps what stands behind it (delivery/forward.py). What nobody was given leads nowhere, so that nobody can relay through
us. Letter case may be lost on the way. Refuses: to know who forwards.
"""

import base64
import hashlib
import hmac
from typing import Final

from posthouse.clock import Clock
from posthouse.terms.address import Address, BadAddress, parse

# Bounces come within a week or two (RFC 5321 §4.5.4.1: four to five days, at each hop).
DAYS: Final = 21
_DAY_MS: Final = 86_400_000
_CYCLE: Final = 1024
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_HASH_LETTERS: Final = 8
_TICKET_LETTERS: Final = 16
# RFC 5321 §4.5.3.1.1: octets of a local part that everybody takes.
_LONGEST: Final = 64
# What may stand behind the tag; ours is the first.
_SEPARATORS: Final = ("=", "+", "-")


class Srs:
    """Rewrites for one installation; `secret` keys the hashes."""

    def __init__(self, secret: bytes, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock

    def forward(self, sender: Address, domain: str) -> Address:
        """The reverse-path under which mail of `sender` is forwarded by an address of `domain`.

        The same one where it cannot be rewritten, for its host has no name.
        """
        if sender.domain.startswith("["):
            return sender
        kind, rest = sender.local[:5].casefold(), sender.local[5:]
        if kind in ("srs0=", "srs0+", "srs0-"):
            # The sign that others put behind the tag may be their separator of addresses: it stays.
            held = f"{sender.domain}={sender.local[4:]}"
            local = f"SRS1={self._hash(held)}={held}"
        elif kind in ("srs1=", "srs1+", "srs1-") and "=" in rest:
            # The second forwarder's name falls away: the first one's is all that the way back needs.
            held = rest.partition("=")[2]
            local = f"SRS1={self._hash(held)}={held}"
        else:
            held = f"{self._day()}={sender.domain}={sender.local}"
            local = f"SRS0={self._hash(held)}={held}"
        if len(local.encode()) > _LONGEST:
            held = f"{self._day()}={self._ticket(sender)}"
            local = f"SRS0={self._hash(held)}={held}"
        return Address(local, domain)

    def ticket(self, address: Address) -> str | None:
        """What the sender behind such an address of ours is kept by; None where it holds him itself, or is none."""
        held = self._held(address, "srs0=")
        day, _, ticket = (held or "").casefold().partition("=")
        return ticket if len(ticket) == _TICKET_LETTERS and "=" not in ticket and self._fresh(day) else None

    def reverse(self, address: Address) -> Address | None:
        """Whom mail to such an address of ours is for; None where it is none, is forged or too old."""
        if (held := self._held(address, "srs0=")) is not None:
            return self._original(held)
        held = self._held(address, "srs1=")
        return None if held is None else _first_forwarder(held)

    def _held(self, address: Address, kind: str) -> str | None:
        """What stands behind the hash of an address of this kind that we wrote."""
        if address.local[:5].casefold() != kind:
            return None
        hash, _, held = address.local[5:].partition("=")
        return held if hmac.compare_digest(hash.casefold().encode(), self._hash(held).encode()) else None

    def _original(self, held: str) -> Address | None:
        day, _, rest = held.partition("=")
        domain, found, local = rest.partition("=")
        return _parse(local, domain) if found and self._fresh(day.casefold()) else None

    def _hash(self, held: str) -> str:
        # Case may be lost on the way, so it counts for nothing.
        digest = hmac.new(self._secret, b"srs:" + held.casefold().encode(), hashlib.sha256).digest()
        return base64.b32encode(digest[:10]).decode().lower()[:_HASH_LETTERS]

    def _ticket(self, sender: Address) -> str:
        digest = hmac.new(self._secret, f"srs-ticket:{sender}".encode(), hashlib.sha256).digest()
        return base64.b32encode(digest[:10]).decode().lower()[:_TICKET_LETTERS]

    def _today(self) -> int:
        return self._clock.now() // _DAY_MS % _CYCLE

    def _day(self) -> str:
        today = self._today()
        return _ALPHABET[today >> 5] + _ALPHABET[today & 31]

    def _fresh(self, day: str) -> bool:
        if len(day) != 2 or not all(letter in _ALPHABET for letter in day):
            return False
        written = _ALPHABET.index(day[0]) << 5 | _ALPHABET.index(day[1])
        return (self._today() - written) % _CYCLE <= DAYS


def _first_forwarder(held: str) -> Address | None:
    domain, _, rest = held.partition("=")
    return _parse(f"SRS0{rest}", domain) if rest[:1] in _SEPARATORS else None


def _parse(local: str, domain: str) -> Address | None:
    try:
        return parse(str(Address(local, domain)))
    except BadAddress:
        return None
