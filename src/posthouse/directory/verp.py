"""Variable envelope return paths: who a bounce is about, written into the address that it comes to.

    team-bounces+h4sh=dave=far.example@home.example

Promises: only what we wrote is read back. Refuses: to know whose list or campaign it is.
"""

import base64
import hashlib
import hmac
from typing import Final

from posthouse.terms.address import Address, BadAddress, parse

_HASH_LETTERS: Final = 8
_LONGEST: Final = 300


class Verp:
    """Writes and reads the tags of one installation; `secret` keys the hashes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def tag(self, address: Address) -> str:
        """What stands behind the plus sign for this address. Letter case may be lost on the way."""
        held = f"{address.local}={address.domain}".lower()
        return f"{self._hash(held)}={held}"

    def address(self, tag: str) -> Address | None:
        """Whom a tag is about; None where we did not write it."""
        hash, _, held = tag.lower().partition("=")
        local, _, domain = held.rpartition("=")
        if len(tag) > _LONGEST or not hmac.compare_digest(hash.encode(), self._hash(held).encode()):
            return None
        try:
            return parse(str(Address(local, domain)))
        except BadAddress:
            return None

    def _hash(self, held: str) -> str:
        digest = hmac.new(self._secret, b"verp:" + held.encode(), hashlib.sha256).digest()
        return base64.b32encode(digest[:10]).decode().lower()[:_HASH_LETTERS]
