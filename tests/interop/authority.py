"""A certificate authority for hosts of the tests, and what DANE publishes of its certificates."""

import datetime
import hashlib
import ssl
from itertools import count
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.trust.certificates import Issued, issue

_numbers = count(1000)  # of keys that no other test has


class Pair(NamedTuple):
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path
    issued: Issued

    def tlsa(self) -> str:
        """The record that says "this very key" (RFC 7671 §5.1): DANE-EE, SPKI, SHA-256."""
        public = self.issued.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"3 1 1 {hashlib.sha256(public).hexdigest()}"

    def context(self) -> ssl.SSLContext:
        """For a server that shows this one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


class Authority:
    """Signs certificates; `certificate` is what those who shall believe it are told to trust."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._root = issue("Authority of the tests", next(_numbers), ca=True, now=_now())
        self.certificate = directory / "authority.pem"
        self.certificate.write_bytes(self._root.pem)

    def pair(self, host: str, *others: str) -> Pair:
        """A certificate for this host, and others."""
        issued = issue(host, next(_numbers), self._root, names=[host, *others], now=_now())
        certificate, key = self._directory / f"{host}.pem", self._directory / f"{host}.key"
        certificate.write_bytes(issued.pem)
        key.write_bytes(issued.key_pem)
        key.chmod(0o600)
        return Pair(certificate, key, issued)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
