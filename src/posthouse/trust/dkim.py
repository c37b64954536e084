"""DKIM signatures (RFC 6376): a domain takes responsibility for a message, in a way that every reader of it can check.

Promises: the body is read once, in pieces, however many keys sign; header and body are hashed in their relaxed form,
whole (no l=). Of the fields that people see and programs obey one more is signed than there are, so that nobody can
add another unnoticed. A signature is valid for LIFETIME and no longer.
Refuses: to decide who signs what (relay/signing.py), and to change a message: what it gives goes in front of it. A
verifier will share `canonical.py`, `keys.py` and `tags.py` with it.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from posthouse.limits import HEADER_SIZE
from posthouse.message.header import Field, Header
from posthouse.message.octets import Buffer, Octets, searchable, windows
from posthouse.trust import canonical
from posthouse.trust.keys import PrivateKey

# x=, in seconds behind t=. Who has caught one signed message can send it to the world in the domain's name until then
# (RFC 6376 §8.6). Gmail chose seven days, mox three; a backup MX may keep mail for five.
LIFETIME: Final = 7 * 86_400

# Signed once more than they occur (RFC 6376 §8.15): what people see of a message, and what decides how it is shown.
_SEALED: Final = (
    "From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "In-Reply-To", "References",
    "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
)  # fmt: skip
# Signed where they are there; whoever comes later may add his own, as lists do. RFC 8058 §4 wants the two of one-click
# unsubscription signed, Gmail's feedback loop Feedback-ID.
_SIGNED: Final = (
    "Sender", "Resent-Date", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Message-ID",
    "List-Id", "List-Help", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Subscribe", "List-Post", "List-Owner",
    "List-Archive", "Content-ID", "Content-Description", "Content-Disposition", "Auto-Submitted", "Feedback-ID",
)  # fmt: skip
_NAMES: Final = tuple((name.lower().encode(), name, name in _SEALED) for name in (*_SEALED, *_SIGNED))
_INTERESTING: Final = frozenset(key for key, _, _ in _NAMES)
# RFC 5322 §2.1.1: a line should have no more than 78 characters.
_WIDTH: Final = 76
# Where the header of nearly all mail ends: so much is looked at first.
_NEAR: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, and the selector that its record stands under."""

    selector: str
    key: PrivateKey


@dataclass(frozen=True, slots=True)
class Parts:
    """A message as it will be sent: its header, and where in `octets` its body begins (at their end: there is none)."""

    header: Header
    octets: Octets
    body: int


def take_apart(prologue: bytes, octets: Buffer) -> Parts:
    """The message that `prologue` (whole header lines, or none) in front of `octets` makes."""
    source = searchable(octets)
    near = prologue + source[:_NEAR]
    header = Header.parse(near)
    if header.end == len(near) and len(source) > _NEAR:
        # No empty line so near. Beyond HEADER_SIZE the header counts as incomplete.
        near = prologue + source[: HEADER_SIZE + _NEAR]
        header = Header.parse(near)
    return Parts(header, source, header.end - len(prologue))


def sign(parts: Parts, domain: str, keys: Sequence[SigningKey], now: int) -> bytes:
    """DKIM-Signature fields, one a key in their order, folded and with CRLF, to be put in front of the message.

    `domain` in A-labels; `now` in milliseconds. The header must be complete (`parts.header.complete`). Takes 7 ms of
    CPU for each MB of the body: large messages belong in a thread.
    """
    octets = parts.octets
    body_hash = canonical.body_hash(windows(octets, parts.body, len(octets)), relaxed=True)
    names, fields = _signed(parts.header)
    at = now // 1000
    shared = _folded("h=", names, ":") + f";\r\n\tbh={_base64(body_hash)};\r\n\tb="
    made: list[bytes] = []
    for one in keys:
        unsigned = (
            f"DKIM-Signature: v=1; a={one.key.algorithm.signature}; c=relaxed/relaxed;\r\n"
            f"\td={domain}; s={one.selector};\r\n\tt={at}; x={at + LIFETIME};\r\n\t{shared}"
        ).encode()
        # RFC 6376 §3.7: the field itself comes last, with b= empty and without its line ending.
        data = fields + canonical.header_field(unsigned, relaxed=True).removesuffix(b"\r\n")
        signature = one.key.sign(data, hashlib.sha256(data).digest())
        made.append(unsigned + _in_lines(_base64(signature)) + b"\r\n")
    return b"".join(made)


def _signed(header: Header) -> tuple[list[str], bytes]:
    """The names for h=, and the fields that they stand for in canonical form."""
    found: dict[bytes, list[Field]] = {}
    for field in header.fields:
        if field.name in _INTERESTING:
            found.setdefault(field.name, []).append(field)
    names: list[str] = []
    fields: list[bytes] = []
    for key, name, sealed in _NAMES:
        # RFC 6376 §5.4.2: of several the last one first.
        for field in reversed(found.get(key, ())):
            names.append(name)
            fields.append(canonical.header_field(header.octets(field), relaxed=True))
        if sealed:
            names.append(name)
    return names, b"".join(fields)


def _folded(start: str, words: Sequence[str], separator: str) -> str:
    """The words behind `start`, in lines of a readable length (RFC 6376 §3.5 lets h= be folded behind a colon)."""
    lines: list[str] = []
    line = start
    for place, word in enumerate(words):
        piece = word if place == len(words) - 1 else word + separator
        if len(line) + len(piece) > _WIDTH and line != start:
            lines.append(line)
            line = ""
        line += piece
    return "\r\n\t ".join([*lines, line])


def _in_lines(text: str) -> bytes:
    """A long Base64 text, folded."""
    return "\r\n\t ".join(text[at : at + _WIDTH - 4] for at in range(0, len(text), _WIDTH - 4)).encode()


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
