"""DANE for SMTP (RFC 7672): which TLSA records can be used, and whether a server that shows this chain is the one
meant.

Promises: `usable` keeps what RFC 7672 §3.1 lets a client use; `verify` raises NotVerified, with RFC 8460's name for the
failure, and nothing else, whatever the peer presented.
Refuses: to ask for records, and to know whether they were secure: both are the caller's.
A trust anchor of which DNS holds only the bare key (2 1 0) must be in the chain, as all others but 2 0 0 must.
"""

import datetime
from collections.abc import Sequence
from hashlib import sha256, sha512
from typing import Final

from cryptography import x509
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from posthouse.net.answer import Tlsa
from posthouse.trust.tlsrpt import Failure

TRUST_ANCHOR: Final = 2
END_ENTITY: Final = 3
_USAGES: Final = (TRUST_ANCHOR, END_ENTITY)
_CERTIFICATE, _PUBLIC_KEY = 0, 1
_FULL, _SHA256, _SHA512 = 0, 1, 2
_LENGTHS: Final = {_SHA256: 32, _SHA512: 64}
_SEQUENCE: Final = 0x30
# Certificates looked at in one chain, and records in one answer; honest ones hold four.
_MOST: Final = 20


class NotVerified(Exception):
    """The chain is not the one that the records speak of; `failure` is what RFC 8460 §4.3 calls it."""

    def __init__(self, failure: Failure, text: str) -> None:
        super().__init__(text)
        self.failure = failure


class _Malformed(ValueError):
    """The octets are no certificate."""


def name_of(port: int, host: str) -> str:
    """Where the TLSA records of a host stand (RFC 6698 §3)."""
    return f"_{port}._tcp.{host}"


def usable(records: Sequence[Tlsa]) -> tuple[Tlsa, ...]:
    """Those that a client of SMTP can use, in a steady order; none of them where there are none.

    RFC 7672 §3.1.3: usages 0 and 1 are not for SMTP. RFC 7671 §9: of several digests of one thing the strongest counts.
    """
    well = [record for record in records[:_MOST] if record.usage in _USAGES and _well_formed(record)]
    strong = {(one.usage, one.selector) for one in well if one.matching == _SHA512}
    kept = {one for one in well if one.matching != _SHA256 or (one.usage, one.selector) not in strong}
    return tuple(sorted(kept))


def _well_formed(record: Tlsa) -> bool:
    if record.selector not in (_CERTIFICATE, _PUBLIC_KEY):
        return False
    if record.matching == _FULL:
        return record.data[:1] == bytes((_SEQUENCE,))
    return len(record.data) == _LENGTHS.get(record.matching, -1)


def verify(records: Sequence[Tlsa], chain: Sequence[bytes], names: Sequence[str], now: int) -> None:
    """Raise NotVerified unless the chain (DER, the server's own certificate first) is one that these usable records
    speak of.

    `names`: what the certificate below a trust anchor may be for; `now` in UTC milliseconds.
    RFC 7672 §3.1.1: for DANE-EE neither names nor dates matter.
    """
    if not chain:
        raise NotVerified("validation-failure", "the peer showed no certificate")
    if any(record.usage == END_ENTITY and _matches(record, chain[0]) for record in records):
        return
    anchors = _anchors([record for record in records if record.usage == TRUST_ANCHOR], chain[:_MOST])
    if not anchors:
        raise NotVerified("validation-failure", "no TLSA record matches a certificate of the peer's")
    _verify_below(anchors, chain[:_MOST], names, now)


def _matches(record: Tlsa, certificate: bytes) -> bool:
    """RFC 6698 §2.1: what the selector picks of the certificate is what the record holds, whole or as a digest."""
    try:
        picked = certificate if record.selector == _CERTIFICATE else public_key_of(certificate)
    except _Malformed:
        return False
    if record.matching == _SHA256:
        picked = sha256(picked).digest()
    elif record.matching == _SHA512:
        picked = sha512(picked).digest()
    return picked == record.data


def _anchors(records: Sequence[Tlsa], chain: Sequence[bytes]) -> list[bytes]:
    """Certificates above the server's own that a record vouches for. One that stands whole in its record (2 0 0) need
    not be in the chain (RFC 7672 §3.1.2)."""
    found = [one for one in chain[1:] if any(_matches(record, one) for record in records)]
    return found + [one.data for one in records if (one.selector, one.matching) == (_CERTIFICATE, _FULL)]


def _verify_below(anchors: Sequence[bytes], chain: Sequence[bytes], names: Sequence[str], now: int) -> None:
    """RFC 7672 §3.1.2: from an anchor down to the server's certificate, whose dates and name count."""
    try:
        leaf, *others = [x509.load_der_x509_certificate(one) for one in chain]
        roots = Store([x509.load_der_x509_certificate(one) for one in anchors])
        known = _names_in(leaf)
        expires = leaf.not_valid_after_utc
    except (ValueError, x509.InvalidVersion, x509.UnsupportedGeneralNameType) as error:
        raise NotVerified("validation-failure", "a certificate that cannot be read") from error
    when = datetime.datetime.fromtimestamp(now / 1000, datetime.UTC)
    if expires < when:
        raise NotVerified("certificate-expired", f"the certificate expired on {expires:%Y-%m-%d}")
    wanted = [name for name in names if _named(name, known)]
    if not wanted:
        raise NotVerified("certificate-host-mismatch", f"the certificate is not for {' or '.join(names)}")
    authorities = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    servers = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    builder = PolicyBuilder().store(roots).time(when)
    builder = builder.extension_policies(ca_policy=authorities, ee_policy=servers)
    try:
        builder.build_server_verifier(x509.DNSName(wanted[0])).verify(leaf, others)
    except (VerificationError, ValueError) as error:
        raise NotVerified("certificate-not-trusted", "no chain leads to the trust anchor of the TLSA record") from error


def _names_in(certificate: x509.Certificate) -> list[str]:
    """RFC 9525 §2: the names a certificate is for stand in its subjectAltName, and only there. Raises ValueError."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, x509.DuplicateExtension):
        return []
    return [name.lower() for name in names.value.get_values_for_type(x509.DNSName)]


def _named(name: str, known: Sequence[str]) -> bool:
    """RFC 9525 §6.3: a wildcard stands for one whole label, the leftmost."""
    return name in known or "*." + name.partition(".")[2] in known


def public_key_of(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate, octet by octet as it stands there (RFC 5280 §4.1). Raises ValueError.

    A library would write it anew, and refuses keys that it does not know.
    """
    _, at, _ = _element(certificate, 0)
    _, at, _ = _element(certificate, at)
    tag, _, end = _element(certificate, at)
    # version, where there is one; then serial number, signature, issuer, validity, subject
    for _ in range(6 if tag == 0xA0 else 5):
        _, _, at = _element(certificate, at)
    tag, _, end = _element(certificate, at)
    if tag != _SEQUENCE:
        raise _Malformed("no public key where one should be")
    return certificate[at:end]


def _element(octets: bytes, at: int) -> tuple[int, int, int]:
    """Tag, begin and end of the content of the DER element at this place. Raises _Malformed."""
    if at + 2 > len(octets):
        raise _Malformed("an element beyond the end")
    tag, length, begin = octets[at], octets[at + 1], at + 2
    if length >= 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4:
            raise _Malformed("a length that no certificate has")
        length = int.from_bytes(octets[begin : begin + count])
        begin += count
    if begin + length > len(octets):
        raise _Malformed("an element beyond the end")
    return tag, begin, begin + length
