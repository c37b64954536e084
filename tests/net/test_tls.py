"""Certificates: the private CA, reload, the choice by name, and what is refused."""

import os
import ssl
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from posthouse.clock import SetClock, SystemClock
from posthouse.net import tls
from posthouse.net.tls import CertificateError, Certificates, PeerTls
from tests.net.sides import handshake

DAY = 86400
NOW = SystemClock().now()


def pair(directory: Path, ca: trustme.CA, *names: str) -> tuple[Path, Path]:
    leaf = ca.issue_cert(*names)
    chain, key = directory / f"{names[0]}.pem", directory / f"{names[0]}.key"
    leaf.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    return chain, key


def shown(certificates: Certificates, client: ssl.SSLContext, name: str) -> str:
    """The first name of the certificate that a client is shown."""
    _, theirs = handshake(certificates.context, client, name)
    certificate = theirs.getpeercert()
    assert certificate is not None
    return str(certificate["subjectAltName"][0][1])


def test_the_private_ca_signs_for_the_host_and_its_keys_are_our_own(tmp_path: Path) -> None:
    chain, key = tls.private_pair(tmp_path / "tls", "mx.example.org", SystemClock())
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "tls").iterdir()} == {
        "ca.pem": 0o644,
        "ca.key": 0o600,
        "server.pem": 0o644,
        "server.key": 0o600,
    }
    trusting = tls.client_context(verify=True, authorities=tmp_path / "tls" / "ca.pem")
    ours, theirs = handshake(Certificates([(chain, key)]).context, trusting, "mx.example.org")
    assert str(PeerTls.of(ours)) == "TLSv1.3 TLS_AES_256_GCM_SHA384"
    assert PeerTls.of(theirs).certificate
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(Certificates([(chain, key)]).context, trusting, "mx.example.com")


def test_the_host_is_also_the_common_name(tmp_path: Path) -> None:
    """fetchmail 6 says "Server name not specified in certificate!" otherwise, whatever the alternative names are."""
    chain, _ = tls.private_pair(tmp_path, "mx.example.org", SystemClock())
    trusting = tls.client_context(verify=True, authorities=tmp_path / "ca.pem")
    _, theirs = handshake(Certificates([(chain, tmp_path / "server.key")]).context, trusting, "mx.example.org")
    certificate = theirs.getpeercert()
    assert certificate is not None
    assert certificate["subject"] == ((("commonName", "mx.example.org"),),)


def test_a_certificate_is_kept_until_it_is_due(tmp_path: Path) -> None:
    clock = SetClock(NOW)
    chain, _ = tls.private_pair(tmp_path, "mx.example.org", clock)
    first, ca = chain.read_bytes(), (tmp_path / "ca.pem").read_bytes()
    clock.advance(300 * DAY)
    tls.private_pair(tmp_path, "mx.example.org", clock)
    assert chain.read_bytes() == first
    clock.advance(80 * DAY)
    tls.private_pair(tmp_path, "mx.example.org", clock)
    second = chain.read_bytes()
    assert second != first
    tls.private_pair(tmp_path, "mail.example.org", clock)
    assert chain.read_bytes() != second
    assert (tmp_path / "ca.pem").read_bytes() == ca
    clock.advance(3000 * DAY)
    tls.private_pair(tmp_path, "mail.example.org", clock)
    assert (tmp_path / "ca.pem").read_bytes() != ca


def test_a_long_host_name_gets_its_certificate(tmp_path: Path) -> None:
    name = ".".join(["a" * 60] * 4)
    certificates = Certificates([tls.private_pair(tmp_path, name, SystemClock())])
    assert certificates.names == (name,)
    trusting = tls.client_context(verify=True, authorities=tmp_path / "ca.pem")
    assert shown(certificates, trusting, name) == name


def test_files_of_the_private_ca_that_are_damaged_are_named(tmp_path: Path) -> None:
    tls.private_pair(tmp_path, "mx.example.org", SystemClock())
    (tmp_path / "ca.key").write_text("no key")
    with pytest.raises(CertificateError, match="holds a certificate or key that cannot be read"):
        tls.private_pair(tmp_path, "mx.example.org", SystemClock())


def test_each_name_is_shown_its_certificate(tmp_path: Path) -> None:
    ca = trustme.CA()
    certificates = Certificates(
        [
            pair(tmp_path, ca, "mx.example.org", "mail.example.org"),
            pair(tmp_path, ca, "mx.example.com"),
            pair(tmp_path, ca, "*.example.net"),
        ]
    )
    careless = tls.client_context(verify=False)
    trusting = tls.client_context(verify=False)
    trusting.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(trusting)
    assert shown(certificates, trusting, "mail.example.org") == "mx.example.org"
    assert shown(certificates, trusting, "MX.example.com") == "mx.example.com"
    assert shown(certificates, trusting, "any.example.net") == "*.example.net"
    # Whoever asks for what we do not know is shown the first, as is who asks for nothing.
    assert shown(certificates, trusting, "one.any.example.net") == "mx.example.org"
    assert shown(certificates, trusting, "nobody.example") == "mx.example.org"
    handshake(certificates.context, careless, None)


def test_a_renewed_certificate_is_shown_from_the_next_handshake_on(tmp_path: Path) -> None:
    ca = trustme.CA()
    chain, key = pair(tmp_path, ca, "mx.example.org")
    certificates = Certificates([(chain, key)])
    trusting = tls.client_context(verify=True)
    ca.configure_trust(trusting)
    assert shown(certificates, trusting, "mx.example.org") == "mx.example.org"
    new_chain, new_key = pair(tmp_path, ca, "new.example.org", "mx.example.org")
    os.replace(new_chain, chain)
    os.replace(new_key, key)
    certificates.reload()
    assert shown(certificates, trusting, "mx.example.org") == "new.example.org"
    # A bad file is refused, and the old one stays in use.
    chain.write_text("nothing")
    with pytest.raises(CertificateError):
        certificates.reload()
    assert shown(certificates, trusting, "mx.example.org") == "new.example.org"


def test_sessions_are_resumed_also_after_a_reload(tmp_path: Path) -> None:
    chain, key = tls.private_pair(tmp_path, "mx.example.org", SystemClock())
    certificates = Certificates([(chain, key)])
    client = tls.client_context(verify=True, authorities=tmp_path / "ca.pem")
    _, theirs = handshake(certificates.context, client, "mx.example.org")
    session = theirs.session
    assert session is not None
    assert session.has_ticket
    certificates.reload()
    ours, _ = handshake(certificates.context, client, "mx.example.org", session)
    assert ours.session_reused


def test_old_versions_are_refused(tmp_path: Path) -> None:
    certificates = Certificates([tls.private_pair(tmp_path, "mx.example.org", SystemClock())])
    assert certificates.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls.client_context(verify=False).minimum_version == ssl.TLSVersion.TLSv1_2
    old = tls.client_context(verify=False)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    ours, _ = handshake(certificates.context, old, "mx.example.org")
    assert PeerTls.of(ours).version == "TLSv1.2"
    assert PeerTls.of(ours).cipher.startswith("ECDHE")


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    ca = trustme.CA()
    chain, key = pair(tmp_path, ca, "mx.example.org")
    _, other = pair(tmp_path, ca, "mx.example.com")
    with pytest.raises(CertificateError, match=r"none\.pem: no such file or directory"):
        Certificates([(tmp_path / "none.pem", key)])
    with pytest.raises(CertificateError, match="key values mismatch"):
        Certificates([(chain, other)])
    with pytest.raises(CertificateError, match=r"mx\.example\.org\.key with key"):
        Certificates([(key, key)])
    with pytest.raises(CertificateError, match=r"none\.pem: no such file"):
        tls.client_context(verify=True, authorities=tmp_path / "none.pem")


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    chain, key = pair(tmp_path, trustme.CA(), "mx.example.org")
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(CertificateError, match=r"mx\.example\.org\.pem with key"):
        Certificates([(chain, key)])


# --- looking at others ------------------------------------------------------------------------------------------------


@pytest.fixture
def stranger(tmp_path: Path) -> tuple[ssl.SSLContext, Path, list[bytes]]:
    """A server with a private CA's certificate for mail.example.org; the CA's file; and what the server shows (DER)."""
    chain, key = tls.private_pair(tmp_path, "mail.example.org", SystemClock())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    pems = chain.read_text().split("-----BEGIN CERTIFICATE-----")[1:]
    return context, tmp_path / "ca.pem", [ssl.PEM_cert_to_DER_cert("-----BEGIN CERTIFICATE-----" + one) for one in pems]


def test_the_chain_that_a_peer_shows_is_seen_whether_verified_or_not(
    stranger: tuple[ssl.SSLContext, Path, list[bytes]],
) -> None:
    server, authority, certificates = stranger
    for client in (tls.client_context(verify=False), tls.client_context(verify=True, authorities=authority)):
        assert list(tls.presented(handshake(server, client, "mail.example.org")[1])) == certificates


def test_who_verifies_wants_the_name(stranger: tuple[ssl.SSLContext, Path, list[bytes]]) -> None:
    server, authority, _ = stranger
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, tls.client_context(verify=True, authorities=authority), "other.example.org")


def test_authorities_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="no such file"):
        tls.client_context(verify=True, authorities=tmp_path / "nowhere.pem")


def test_whether_a_machine_has_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def have(cafile: Path | None, capath: Path | None) -> bool:
        found = SimpleNamespace(cafile=cafile and str(cafile), capath=capath and str(capath))
        with monkeypatch.context() as machine:
            machine.setattr(ssl, "get_default_verify_paths", lambda: found)
            return tls.has_authorities()

    file, folder = tmp_path / "certificates.pem", tmp_path / "certificates"
    folder.mkdir()
    file.touch()
    assert not have(None, None)
    assert not have(file, folder)
    (folder / "one.pem").touch()
    assert have(file, folder)
    file.write_text("one")
    assert have(file, None)
