"""Chains of certificates as servers show them, good ones and others."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

DER = Encoding.DER
# The instant of tests: a certificate is good from a day before it to thirty after.
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
NOW_MS = int(NOW.timestamp() * 1000)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@cache
def key(number: int) -> ec.EllipticCurvePrivateKey:
    """A key for each number, the same for the whole run."""
    return ec.generate_private_key(ec.SECP256R1())


def issue(
    subject: str,
    number: int,
    by: Issued | None = None,
    *,
    ca: bool = False,
    names: Sequence[str] = (),
    now: datetime.datetime = NOW,
    days: tuple[int, int] = (-1, 30),
) -> Issued:
    """A certificate for the key of this number, signed by another, or by itself."""

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    own = key(number)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(by.certificate.subject if by else name(subject))
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days[0]))
        .not_valid_after(now + datetime.timedelta(days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
        builder = builder.add_extension(alternatives, critical=False)
    return Issued(builder.sign(by.key if by else own, hashes.SHA256()), own)
