"""Tags of a list's members: who mail is about, written into the address that it comes to.

    team-bounces+h4shh4shh47f@home.example  the reverse-path of one member's copies (VERP)
    team-leave+4shhh4shh47f@home.example    his way off the list

Promises: only what we wrote is read back, and only for the purpose that it was written for: who sees a reverse-path
cannot take its member off the list. A tag names nobody, outlives no membership, fits a local part (64 octets,
RFC 5321 §4.5.3.1.1), and may lose its letter case on the way. Refuses: to know lists.
"""

import base64
import hashlib
import hmac
import re
from typing import Final

# Enough that nobody guesses one: each guess costs a message.
_HASH_LETTERS: Final = 10
_NUMBER: Final = re.compile(r"[0-9a-f]{1,15}\Z")


class Verp:
    """Writes and reads the tags of one installation; `secret` keys the hashes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def tag(self, purpose: str, member: int) -> str:
        """What stands behind the plus sign for the member of this number (directory/members.py)."""
        return f"{self._hash(purpose, member)}{member:x}"

    def member(self, purpose: str, tag: str) -> int | None:
        """Whose tag it is; None where we did not write it for that purpose."""
        text = tag.lower()[_HASH_LETTERS:]
        if not _NUMBER.match(text):
            return None
        number = int(text, 16)
        return number if hmac.compare_digest(self.tag(purpose, number).encode(), tag.lower().encode()) else None

    def _hash(self, purpose: str, member: int) -> str:
        digest = hmac.new(self._secret, f"verp:{purpose}:{member}".encode(), hashlib.sha256).digest()
        return base64.b32encode(digest[:10]).decode().lower()[:_HASH_LETTERS]
