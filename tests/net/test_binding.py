"""Channel bindings: both ends of a session come to the same octets, and each session to its own."""

import hashlib
import ssl
import sys
from pathlib import Path

import pytest

from posthouse.clock import SystemClock
from posthouse.net.binding import bindings
from posthouse.net.tls import Certificates, client_context, private_pair
from tests.net.sides import handshake

HOST = "mail.example.org"


def of_version(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client's, who speaks none newer."""
    context = client_context(verify=False)
    context.maximum_version = version
    return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates([private_pair(tmp_path_factory.mktemp("tls"), HOST, SystemClock())])


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="asks OpenSSL through CPython's objects")
def test_both_ends_export_the_same_octets(certificates: Certificates) -> None:
    server, client = handshake(certificates.context, of_version(ssl.TLSVersion.TLSv1_3), HOST)
    ours, theirs = dict(bindings(server)), dict(bindings(client))
    assert len(ours["tls-exporter"]) == 32
    assert ours["tls-exporter"] == theirs["tls-exporter"]
    other, _ = handshake(certificates.context, of_version(ssl.TLSVersion.TLSv1_3), HOST)
    assert dict(bindings(other))["tls-exporter"] != ours["tls-exporter"]


def test_the_end_point_is_the_certificate_that_was_shown(certificates: Certificates) -> None:
    # RFC 5929 §4.1
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        server, client = handshake(certificates.context, of_version(version), HOST)
        shown = client.getpeercert(binary_form=True)
        assert shown is not None
        assert dict(bindings(server))["tls-server-end-point"] == hashlib.sha256(shown).digest()


def test_before_tls_1_3_nothing_is_exported(certificates: Certificates) -> None:
    # RFC 9266 §4.2
    server, _ = handshake(certificates.context, of_version(ssl.TLSVersion.TLSv1_2), HOST)
    assert [name for name, _ in bindings(server)] == ["tls-server-end-point"]


def test_a_resumed_session_has_no_end_point_once_the_certificate_is_another(tmp_path: Path) -> None:
    certificates = Certificates([private_pair(tmp_path, HOST, SystemClock())])
    ours, theirs = certificates.context, of_version(ssl.TLSVersion.TLSv1_2)
    server, client = handshake(ours, theirs, HOST)
    session = client.session
    server, client = handshake(ours, theirs, HOST, session)
    assert client.session_reused
    assert [name for name, _ in bindings(server)] == ["tls-server-end-point"]
    certificates.reload()
    server, client = handshake(ours, theirs, HOST, session)
    assert client.session_reused
    assert bindings(server) == ()
    server, client = handshake(ours, theirs, HOST)
    assert [name for name, _ in bindings(server)] == ["tls-server-end-point"]
