"""SCRAM's stored verifier (RFC 5802 §3, RFC 7677): what is kept in a password's stead."""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final

from posthouse.wire.sasl.strings import saslprep

# RFC 7677 §4 asks for 4096 at least; an upper bound, since the server makes the client compute them.
MIN_ITERATIONS: Final = 4096
MAX_ITERATIONS: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class ScramVerifier:
    """What is stored in a password's stead (RFC 5802 §3): enough to check it, not to know it."""

    iterations: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def hmac_sha256(key: bytes, octets: bytes) -> bytes:
    """RFC 5802 §2.2's HMAC."""
    return hmac.digest(key, octets, "sha256")


def salted_password(prepared: str, salt: bytes, iterations: int) -> bytes:
    """RFC 5802 §2.2's Hi, of a password by SASLprep."""
    return hashlib.pbkdf2_hmac("sha256", prepared.encode(), salt, iterations)


def make_verifier(password: str, salt: bytes, iterations: int) -> ScramVerifier:
    """The verifier of `password`. Costs `iterations` of HMAC: call it in a thread. Raises SaslError by SASLprep."""
    salted = salted_password(saslprep(password, stored=True), salt, iterations)
    stored_key = hashlib.sha256(hmac_sha256(salted, b"Client Key")).digest()
    return ScramVerifier(iterations, salt, stored_key, hmac_sha256(salted, b"Server Key"))
