"""TLS: the certificates we show, how we look at those of others, and what was agreed.

Promises: encryption always works: where no certificate is configured, a private CA of this installation signs one
(ECDSA P-256) and renews it. A certificate that was renewed is shown from the next handshake on, without a restart.
At least TLS 1.2, with forward secrecy (RFC 9325 §3.1, §4.2). Private keys are readable by their owner only.
Refuses: to judge whom a peer may be: `client_context` verifies or does not, as it is told.
"""

import datetime
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from posthouse.clock import Clock

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

# RFC 9325 §4.2.1: ECDHE with AES-GCM; ChaCha20 for machines without AES in hardware. TLS 1.3 brings its own.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
# An MTA that finds no common cipher sends in clear text instead (RFC 7435): one that is only old is better than none.
_CIPHERS_OF_STRANGERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:AESGCM:AES:!aNULL:!eNULL:!SRP:!PSK"

_DAY: Final = 86_400_000
_CA_DAYS: Final = 3650
# Clients made by Apple refuse leaves of more than 825 days.
_LEAF_DAYS: Final = 397
_RENEW_DAYS: Final = 30


# How the ssl module's own certificates are asked for their octets.
_DER: Final = 2


class TlsFailed(Exception):
    """There is no TLS on this connection; it is of no further use. The message says why, for the log."""


class CertificateError(Exception):
    """A certificate or key cannot be used: one line, with the file's name, for the person who configured it."""


class _Object(ssl.SSLObject):
    """The TLS side of one connection, which remembers which certificate was shown."""

    end_point: bytes | None = None
    renewed: bool = False


@dataclass(frozen=True, slots=True)
class PeerTls:
    """What was agreed with a peer: version ("TLSv1.3"), cipher, bits; its certificate (DER)."""

    version: str
    cipher: str
    bits: int
    certificate: bytes | None

    @classmethod
    def of(cls, ssl_object: ssl.SSLObject) -> "PeerTls":
        """Read from the TLS side of a connection whose handshake is done."""
        cipher, _, bits = ssl_object.cipher() or ("unknown", "", 0)
        return cls(
            version=ssl_object.version() or "unknown",
            cipher=cipher,
            bits=bits,
            certificate=ssl_object.getpeercert(binary_form=True),
        )

    def __str__(self) -> str:
        """As a Received field tells it: "TLSv1.3 TLS_AES_256_GCM_SHA384"."""
        return f"{self.version} {self.cipher}"


def presented(ssl_object: ssl.SSLObject) -> tuple[bytes, ...]:
    """The certificates that the peer showed (DER), its own first, as they came and unverified."""
    connection: Any = ssl_object
    # Public from Python 3.13 on; before, the object inside has the same under the same name.
    if not hasattr(connection, "get_unverified_chain"):
        connection = connection._sslobj
    chain = connection.get_unverified_chain() or ()
    return tuple(one if isinstance(one, bytes) else one.public_bytes(_DER) for one in chain)


def end_point(ssl_object: ssl.SSLObject) -> bytes | None:
    """The binding tls-server-end-point of a server's side (RFC 5929 §4.1); None where it has no certificate of ours."""
    if not isinstance(ssl_object, _Object) or (ssl_object.renewed and ssl_object.session_reused):
        # Who resumes a session (RFC 8446 §2.2) goes by the certificate that he saw then: it may be the one before.
        return None
    return ssl_object.end_point


def reason(error: OSError | ssl.SSLError) -> str:
    """Why a handshake failed, in few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return "the handshake took too long"
    return str(error) or "the peer closed the connection"


# --- what we show -----------------------------------------------------------------------------------------------------


class Certificates:
    """The certificates of this server, and the contexts that doors hand to `serve` and `start_tls`."""

    def __init__(self, pairs: Sequence[tuple[Path, Path]], *, clients: Path | None = None) -> None:
        """`pairs` of (certificate with chain, key) in PEM; the first is shown to those who ask for no name we know.

        `clients`: the file of authorities that sign certificates of clients, who are asked for theirs; None: nobody is.
        Raises CertificateError.
        """
        self._pairs = tuple(pairs)
        self._clients = clients
        self.context = self._front(None)
        # Asks clients for their certificate, where there are authorities that sign them.
        self.asking = self._front(clients) if clients is not None else self.context
        self._first, self._by_name = self._load()

    def _front(self, clients: Path | None) -> "_Context":
        """What doors hand around; which certificate is shown is chosen in each handshake."""
        context = _server_context(clients)
        context.sni_callback = self._choose  # type: ignore[assignment]  # typeshed wants SSLSocket; it is our object
        return context

    def reload(self) -> None:
        """Read the files again; handshakes from now on show what they hold.

        Raises CertificateError, and goes on with the old ones. Connections and session tickets stay valid.
        """
        self._first, self._by_name = self._load(renewed=True)

    @property
    def names(self) -> tuple[str, ...]:
        """The host names that the certificates are for, wildcards as written."""
        return tuple(sorted(self._by_name))

    def _load(self, *, renewed: bool = False) -> "tuple[_Context, dict[str, _Context]]":
        contexts = []
        by_name: dict[str, _Context] = {}
        for chain, key in self._pairs:
            context = _server_context(self._clients)
            names = _load_pair(context, chain, key)
            contexts.append(context)
            context.end_point = _hash_of(chain)
            context.renewed = renewed
            for name in names:
                by_name.setdefault(name, context)
        # Whoever names no host gets the first; OpenSSL wants one in the context that is handed around, too.
        for front in {self.context, self.asking}:
            _load_pair(front, *self._pairs[0])
        return contexts[0], by_name

    def _choose(self, connection: _Object, name: str | None, _: ssl.SSLContext) -> None:
        """Called in each handshake with the name that the client asks for (RFC 6066 §3), or None."""
        chosen = self._first
        if name is not None:
            lowered = name.lower()
            chosen = (
                self._by_name.get(lowered)
                # RFC 6125 §6.4.3: a wildcard stands for one whole label, the leftmost.
                or self._by_name.get("*." + lowered.partition(".")[2])
                or chosen
            )
        connection.context = chosen
        connection.end_point = chosen.end_point
        connection.renewed = chosen.renewed


class _Context(ssl.SSLContext):
    """What is shown by one certificate: its hash for tls-server-end-point; whether it came in another's place."""

    end_point: bytes | None = None
    renewed: bool = False


def _server_context(clients: Path | None) -> _Context:
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.sslobject_class = _Object
    if clients is not None:
        _trust(context, clients)
        # Whoever shows none logs in by password; one that these authorities did not sign ends the handshake.
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _trust(context: ssl.SSLContext, authorities: Path) -> None:
    try:
        context.load_verify_locations(authorities)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(f"{authorities}: {(error.strerror or str(error)).lower()}") from error


def _load_pair(context: ssl.SSLContext, chain: Path, key: Path) -> list[str]:
    """Load both into the context; the names that the certificate is for."""
    for path in (chain, key):
        try:
            path.read_bytes()
        except OSError as error:
            raise CertificateError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    try:
        # A password prompt at start would wait for ever where nobody sits.
        context.load_cert_chain(chain, key, password=b"")
    except (ssl.SSLError, OSError) as error:
        why = error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)
        raise CertificateError(f"{chain} with key {key}: {why.lower().replace('_', ' ')}") from error
    return _names_of(chain)


def _hash_of(chain: Path) -> bytes | None:
    """RFC 5929 §4.1: by the hash of the certificate's signature, SHA-256 where that is too old; None: it has none."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    try:
        certificate = x509.load_pem_x509_certificate(chain.read_bytes())
    except (ValueError, OSError) as error:
        raise CertificateError(f"{chain}: {error}") from error
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None:
        return None
    return certificate.fingerprint(hashes.SHA256() if isinstance(algorithm, hashes.MD5 | hashes.SHA1) else algorithm)


def emails_of(certificate: bytes) -> tuple[str, ...]:
    """The e-mail addresses that a certificate (DER) is for (RFC 5280 §4.2.1.6), as written."""
    from cryptography import x509

    try:
        loaded = x509.load_der_x509_certificate(certificate)
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(names.value.get_values_for_type(x509.RFC822Name))


def _names_of(chain: Path) -> list[str]:
    """The DNS names of the first certificate of a file, in lower case."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(chain.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    except (ValueError, OSError) as error:
        raise CertificateError(f"{chain}: {error}") from error
    return [name.lower() for name in names.value.get_values_for_type(x509.DNSName)]


# --- how we look at others --------------------------------------------------------------------------------------------


def client_context(*, verify: bool, authorities: Path | None = None) -> ssl.SSLContext:
    """For connections that we open. `verify` False encrypts with whoever answers (opportunistic, RFC 7435).

    `verify` True wants a chain to the system's authorities, or to those in the file `authorities`, and the name that
    `server_hostname` says. Raises CertificateError where that file cannot be read. Make it once, use it for many.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslobject_class = _Object
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers(_CIPHERS_OF_STRANGERS)
        return context
    context.set_ciphers(_CIPHERS)
    # RFC 9525 §2: names stand in subjectAltName and nowhere else.
    context.hostname_checks_common_name = False
    if authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    _trust(context, authorities)
    return context


def has_authorities() -> bool:
    """Whether this machine has certificate authorities to verify others by."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile and Path(paths.cafile).stat().st_size:
        return True
    return bool(paths.capath) and any(Path(paths.capath).iterdir())


# --- the private CA of an installation --------------------------------------------------------------------------------


def private_pair(directory: Path, hostname: str, clock: Clock) -> tuple[Path, Path]:
    """Certificate (with the CA's behind it) and key for this host name, signed by the installation's own CA.

    Everything lies below `directory`, is made where it is missing, and the certificate is made anew 30 days before it
    expires, or when the host name has changed. `directory / "ca.pem"` is what a client may be told to trust.
    Raises CertificateError.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        chain, key = directory / "server.pem", directory / "server.key"
        ca, ca_key = _authority(directory, clock.now())
        if not _still_good(chain, key, ca, hostname, clock.now()):
            _sign(ca, ca_key, chain, key, hostname, clock.now())
    except OSError as error:
        raise CertificateError(f"{directory}: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:
        raise CertificateError(f"{directory} holds a certificate or key that cannot be read: {error}") from error
    return chain, key


def _authority(directory: Path, now: int) -> "tuple[x509.Certificate, ec.EllipticCurvePrivateKey]":
    """The CA of this directory; made where there is none, or where it will not outlive the next leaf."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    chain, key = directory / "ca.pem", directory / "ca.key"
    if chain.exists() and key.exists():
        ca = x509.load_pem_x509_certificate(chain.read_bytes())
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.public_key() != ca.public_key():
            raise ValueError("ca.key does not belong to ca.pem")
        if _milliseconds(ca.not_valid_after_utc) > now + (_LEAF_DAYS + 1) * _DAY:
            return ca, loaded
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "posthouse private CA")])
    certificate = (
        _dated(x509.CertificateBuilder(), now, _CA_DAYS)
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    _write(key, _key_octets(private))
    _write(chain, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
    return certificate, private


def _still_good(chain: Path, key: Path, ca: "x509.Certificate", hostname: str, now: int) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    if not (chain.exists() and key.exists()):
        return False
    leaf = x509.load_pem_x509_certificate(chain.read_bytes())
    try:
        leaf.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError):
        return False
    return _names_of(chain) == [hostname.lower()] and _milliseconds(leaf.not_valid_after_utc) > now + _RENEW_DAYS * _DAY


def _sign(
    ca: "x509.Certificate",
    ca_key: "ec.EllipticCurvePrivateKey",
    chain: Path,
    key: Path,
    hostname: str,
    now: int,
) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    subject = _subject(hostname)
    private = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        _dated(x509.CertificateBuilder(), now, _LEAF_DAYS)
        .subject_name(subject)
        .issuer_name(ca.subject)
        .public_key(private.public_key())
        # RFC 5280 §4.2.1.6: critical where, and only where, the subject is empty.
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname.lower())]), critical=not subject.rdns)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    _write(key, _key_octets(private))
    _write(chain, leaf.public_bytes(pem) + ca.public_bytes(pem), mode=0o644)


def _subject(hostname: str) -> "x509.Name":
    """The host's common name: RFC 9525 §2 has no use for it, but fetchmail 6 refuses certificates that lack one.

    Empty where the name is too long for it (RFC 5280 appendix A.1, ub-common-name-length).
    """
    from cryptography import x509

    if len(hostname) > 64:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hostname.lower())])


def _dated(builder: "x509.CertificateBuilder", now: int, days: int) -> "x509.CertificateBuilder":
    """Valid from yesterday, for clients whose clock is behind."""
    from cryptography import x509

    start = datetime.datetime.fromtimestamp((now - _DAY) // 1000, datetime.UTC)
    end = start + datetime.timedelta(days=days)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)


def _usage(*, signs_certificates: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_octets(private: "ec.EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives import serialization

    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _milliseconds(when: datetime.datetime) -> int:
    return int(when.timestamp() * 1000)


def _write(path: Path, octets: bytes, *, mode: int = 0o600) -> None:
    """Put the file in place whole, or not at all; nobody else could read it in between."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(descriptor, mode)
        os.write(descriptor, octets)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.replace(path)
