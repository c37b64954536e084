"""Channel bindings: both ends of a session come to the same octets, and each session to its own."""

import hashlib
import ssl
import sys
from pathlib import Path

import pytest

from posthouse.clock import SystemClock
from posthouse.net.binding import bindings
from posthouse.net.tls import Certificates, client_context, private_pair


def handshake(certificates: Certificates, version: ssl.TLSVersion) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a session, ours first."""
    context = client_context(verify=False)
    context.maximum_version = version
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificates.context.wrap_bio(to_server, to_client, server_side=True)
    client = context.wrap_bio(to_client, to_server, server_hostname="mail.example.org")
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return server, client


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates([private_pair(tmp_path_factory.mktemp("tls"), "mail.example.org", SystemClock())])


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="asks OpenSSL through CPython's objects")
def test_both_ends_export_the_same_octets(certificates: Certificates) -> None:
    server, client = handshake(certificates, ssl.TLSVersion.TLSv1_3)
    ours, theirs = dict(bindings(server)), dict(bindings(client))
    assert len(ours["tls-exporter"]) == 32
    assert ours["tls-exporter"] == theirs["tls-exporter"]
    other, _ = handshake(certificates, ssl.TLSVersion.TLSv1_3)
    assert dict(bindings(other))["tls-exporter"] != ours["tls-exporter"]


def test_the_end_point_is_the_certificate_that_was_shown(certificates: Certificates) -> None:
    # RFC 5929 §4.1
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        server, client = handshake(certificates, version)
        shown = client.getpeercert(binary_form=True)
        assert shown is not None
        assert dict(bindings(server))["tls-server-end-point"] == hashlib.sha256(shown).digest()


def test_before_tls_1_3_nothing_is_exported(certificates: Certificates) -> None:
    # RFC 9266 §4.2
    server, _ = handshake(certificates, ssl.TLSVersion.TLSv1_2)
    assert [name for name, _ in bindings(server)] == ["tls-server-end-point"]


def test_a_resumed_session_has_no_end_point_once_the_certificate_is_another(tmp_path: Path) -> None:
    certificates = Certificates([private_pair(tmp_path, "mail.example.org", SystemClock())])
    context = client_context(verify=False)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def talk(session: ssl.SSLSession | None) -> tuple[ssl.SSLObject, ssl.SSLObject]:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = certificates.context.wrap_bio(to_server, to_client, server_side=True)
        client = context.wrap_bio(to_client, to_server, server_hostname="mail.example.org", session=session)
        for _ in range(4):
            for side in (client, server):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        return server, client

    server, client = talk(None)
    session = client.session
    server, client = talk(session)
    assert client.session_reused
    assert [name for name, _ in bindings(server)] == ["tls-server-end-point"]
    certificates.reload()
    server, client = talk(session)
    assert client.session_reused
    assert bindings(server) == ()
    server, client = talk(None)
    assert [name for name, _ in bindings(server)] == ["tls-server-end-point"]
