"""Keys for signing in a domain's name, and the DNS records that publish them (RFC 6376 §3.6.1, RFC 8463).

Promises: only rsa-sha256 and ed25519-sha256 (RFC 8301 §3.1 ends the use of SHA-1); RSA keys of 1024 to 4096 bits can be
used, new ones have 2048. A private key never shows in a repr.
Refuses: to know where keys are kept, and to ask DNS.
"""

import base64
import binascii
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from posthouse.trust.tags import BadTags, parse_tags

# RFC 8301 §3.2: signers SHOULD use at least 2048 bits. More does not fit into a DNS answer of 512 octets and is slower.
_RSA_BITS: Final = 2048
# RFC 8301 §3.2: verifiers take nothing smaller, and need take nothing larger.
_LEAST_BITS, _MOST_BITS = 1024, 4096
_ED25519_OCTETS: Final = 32
_PADDING: Final = PKCS1v15()
_SHA256: Final = hashes.SHA256()


class Algorithm(StrEnum):
    """The kind of a key, as k= of its record names it."""

    RSA = "rsa"
    ED25519 = "ed25519"

    @property
    def signature(self) -> str:
        """What a= of a signature calls it."""
        return f"{self.value}-sha256"


class BadKey(ValueError):
    """The octets are no private key that can sign; the message says why, in one line."""


class BadRecord(ValueError):
    """A TXT record is no key record of DKIM; the message says why, in few words."""


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key to sign with. Make it once: reading it from its octets costs as much as a small signature."""

    algorithm: Algorithm
    public: bytes
    _key: RSAPrivateKey | Ed25519PrivateKey = field(repr=False)

    @classmethod
    def of(cls, octets: bytes, *, checked: bool = False) -> "PrivateKey":
        """Read PKCS#8 in DER, or PEM of any kind without a password. Raises BadKey.

        `checked` makes sure that the numbers of an RSA key are primes and belong together (40 ms): for keys from
        outside.
        """
        load = serialization.load_pem_private_key if b"-----BEGIN" in octets else serialization.load_der_private_key
        try:
            key = load(octets, None, unsafe_skip_rsa_key_validation=not checked)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise BadKey("this is no private key in PEM or PKCS#8, or it has a password") from error
        if isinstance(key, Ed25519PrivateKey):
            return cls(Algorithm.ED25519, key.public_key().public_bytes_raw(), key)
        if not isinstance(key, RSAPrivateKey):
            raise BadKey("DKIM signs with RSA and Ed25519 only")
        if not _LEAST_BITS <= key.key_size <= _MOST_BITS:
            raise BadKey(f"this RSA key has {key.key_size} bits; others take {_LEAST_BITS} to {_MOST_BITS}")
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(Algorithm.RSA, public, key)

    @classmethod
    def generate(cls, algorithm: Algorithm) -> "PrivateKey":
        """A new key. An RSA key takes 30 to 300 ms of CPU: not on the event loop."""
        if algorithm is Algorithm.ED25519:
            ed25519 = Ed25519PrivateKey.generate()
            return cls(algorithm, ed25519.public_key().public_bytes_raw(), ed25519)
        rsa = generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
        public = rsa.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(algorithm, public, rsa)

    def octets(self) -> bytes:
        """The private key itself, in PKCS#8 (DER), to be kept where nobody else reads it."""
        return self._key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def sign(self, data: bytes, digest: bytes) -> bytes:
        """The signature of `data`, whose SHA-256 is `digest`. 250 µs of CPU with RSA, 30 with Ed25519."""
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(data, _PADDING, _SHA256)
        # RFC 8463 §3: PureEdDSA over the hash, not over the data.
        return self._key.sign(digest)


# --- records ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What a domain publishes of a key. `public` is as PrivateKey.public, b"" where the key was revoked.

    `testing`: the domain asks to judge its mail as if it were not signed (RFC 6376 §3.6.1, t=y).
    """

    algorithm: Algorithm
    public: bytes
    testing: bool = False


def record_name(selector: str, domain: str) -> str:
    """Where the record of a key stands (RFC 6376 §3.6.2.1), without the last dot."""
    return f"{selector}._domainkey.{domain}"


def record_text(algorithm: Algorithm, public: bytes) -> str:
    """The TXT record that publishes a key."""
    return f"v=DKIM1; k={algorithm}; p={base64.b64encode(public).decode()}"


def read_record(text: bytes) -> KeyRecord:
    """What a TXT record says of a key (RFC 6376 §3.6.1). Raises BadRecord."""
    try:
        tags = parse_tags(text)
    except BadTags as error:
        raise BadRecord(str(error)) from error
    if "v" in tags and (tags["v"] != "DKIM1" or next(iter(tags)) != "v"):
        raise BadRecord("its version is not DKIM1, or does not come first")
    if "p" not in tags:
        raise BadRecord("it holds no key")
    try:
        algorithm = Algorithm(tags.get("k", "rsa"))
    except ValueError as error:
        raise BadRecord(f"keys of the kind {tags['k'][:40]!r} are not known") from error
    if "sha256" not in _words(tags.get("h", "sha256")):
        raise BadRecord("it allows no hash that is still in use")
    if not {"*", "email"} & _words(tags.get("s", "*")):
        raise BadRecord("it is not meant for mail")
    try:
        public = binascii.a2b_base64("".join(tags["p"].split()), strict_mode=True)
    except ValueError as error:
        raise BadRecord("its key is no Base64") from error
    if public and algorithm is Algorithm.ED25519 and len(public) != _ED25519_OCTETS:
        raise BadRecord(f"an Ed25519 key has {_ED25519_OCTETS} octets, this one {len(public)}")
    return KeyRecord(algorithm, public, "y" in _words(tags.get("t", "")))


def _words(value: str) -> set[str]:
    return {word.strip() for word in value.split(":")}
