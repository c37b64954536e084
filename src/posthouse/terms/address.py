"""An address: `local-part@domain` (RFC 5321 §2.3.11 calls it Mailbox), parsed strictly, printed so that it parses
again.

Promises: a domain is held in lower-case A-labels (RFC 5890), so equal domains compare equal; a local part is held
unquoted and exactly as written (RFC 5321 §2.4: only its own host may interpret it). Address literals (RFC 5321
§4.1.3) are held as `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
Refuses: source routes, comments, white space of ASCII, what cannot stand in a line (text.py), and non-ASCII unless the
caller allows it (RFC 6531).
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

import idna

from posthouse.terms.text import is_line

# Octets. RFC 5321 §4.5.3.1.1 asks for 64 at least; the reverse-paths of forwarders and bulk senders are longer.
MAX_LOCAL = 256
MAX_DOMAIN = 255
# Characters: each one of the local part quoted. What is printed must parse again, or a row of the queue cannot be read.
_LONGEST = 2 * MAX_LOCAL + 2 + 1 + MAX_DOMAIN

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_DOT_STRING = re.compile(rf"[{_ATEXT}\u0080-\U0010ffff]+(?:\.[{_ATEXT}\u0080-\U0010ffff]+)*\Z")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z|_[a-z0-9_-]{0,62}\Z")
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])*)"\Z')


class BadAddress(ValueError):
    """The text is no address; the message says why, in words fit for a reply."""


@dataclass(frozen=True, slots=True)
class Address:
    """`local` is unquoted and as written; `domain` is normal: lower-case A-labels, or a literal in brackets."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{quoted_local(self.local)}@{self.domain}"

    @property
    def key(self) -> str:
        """What this address is looked up by: local parts of ours are compared without regard to case."""
        return f"{self.local.casefold()}@{self.domain}"

    @property
    def ascii(self) -> bool:
        """True where the address can travel without SMTPUTF8 (RFC 6531)."""
        return self.local.isascii()


@lru_cache(maxsize=8192)
def parse(text: str, *, utf8: bool = True) -> Address:
    """The address that `text` spells, without angle brackets.

    Raises BadAddress. `utf8` False refuses non-ASCII in the local part (RFC 6531 §3.3).
    """
    if len(text) > _LONGEST:
        raise BadAddress("address is too long")
    if not is_line(text):
        raise BadAddress("address holds a control character")
    local, at, domain = text.rpartition("@")
    if not at:
        raise BadAddress("address lacks a domain")
    if local.startswith('"'):
        match = _QUOTED.match(local)
        if not match:
            raise BadAddress("quoted local part is malformed")
        local = re.sub(r"\\(.)", r"\1", match.group(1))
    elif not _DOT_STRING.match(local):
        raise BadAddress("local part is malformed")
    if not utf8 and not local.isascii():
        raise BadAddress("local part is not ASCII")
    if not local or len(local.encode()) > MAX_LOCAL:
        raise BadAddress("local part is empty or too long")
    return Address(local, parse_domain(domain))


@lru_cache(maxsize=8192)
def parse_domain(text: str) -> str:
    """The normal form of a domain or address literal. Raises BadAddress."""
    if text.startswith("["):
        return _parse_literal(text)
    lowered = text.lower()
    if not lowered.isascii():
        try:
            lowered = idna.encode(text, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise BadAddress("domain is malformed") from error
    if not lowered or len(lowered) > MAX_DOMAIN or not all(_LABEL.match(label) for label in lowered.split(".")):
        raise BadAddress("domain is malformed")
    return lowered


@lru_cache(maxsize=1024)  # every session asks for its own end's, of which a server has a few
def literal_of(host: str) -> str | None:
    """The address literal of an IP address (RFC 5321 §4.1.3); None for other text."""
    plain = host.partition("%")[0]
    try:
        return _parse_literal(f"[IPv6:{plain}]" if ":" in plain else f"[{plain}]")
    except BadAddress:
        return None


def _parse_literal(text: str) -> str:
    inner = text[1:-1]
    try:
        # Python takes a scope ("%eth0") behind an IPv6 address; RFC 5321 §4.1.3 does not.
        if not text.endswith("]") or "%" in text:
            raise ValueError
        if inner[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError as error:
        raise BadAddress("address literal is malformed") from error


@lru_cache(maxsize=8192)
def quoted_local(local: str) -> str:
    """The local part as it is written in a path: quoted only where it must be (RFC 5321 §4.1.2)."""
    if _DOT_STRING.match(local):
        return local
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
