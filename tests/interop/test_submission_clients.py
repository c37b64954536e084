"""swaks, msmtp and curl hand in mail: 587 with STARTTLS and 465 with TLS from the first octet."""

import subprocess
from pathlib import Path

import pytest

from bench.posthouse_server import PASSWORD, PosthouseServer
from tests.interop.conftest import require
from tests.interop.reading import wait_for_message

pytestmark = pytest.mark.interop

ALICE, BOB = "alice@example.test", "bob@example.test"


def message(subject: str, body: str = "Hello Bob\r\n") -> bytes:
    """A message as a user agent would make it."""
    return (
        f"From: Alice <{ALICE}>\r\nTo: Bob <{BOB}>\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{body}"
    ).encode()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(("protocol", "tls"), [("submission", "--tls"), ("submissions", "--tls-on-connect")])
def test_swaks_submits(server: PosthouseServer, protocol: str, tls: str, mechanism: str) -> None:
    subject = f"swaks {protocol} {mechanism}"
    done = subprocess.run(
        [
            *(require("swaks"), "--server", server.address, "--port", str(server.ports[protocol]), tls),
            *("--tls-verify", "--tls-ca-path", str(server.certificates), "--tls-sni", "mail.example.test"),
            *("--auth", mechanism, "--auth-user", ALICE, "--auth-password", PASSWORD),
            *("--from", ALICE, "--to", BOB, "--header", f"Subject: {subject}", "--body", "Grüße"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Grüße".encode() in wait_for_message(server, BOB, subject)


def test_swaks_with_a_wrong_password_is_refused(server: PosthouseServer) -> None:
    done = subprocess.run(
        [
            *(require("swaks"), "--server", server.address, "--port", str(server.ports["submission"]), "--tls"),
            *("--auth", "PLAIN", "--auth-user", ALICE, "--auth-password", "wrong", "--from", ALICE, "--to", BOB),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 28, done.stdout
    assert "535" in done.stdout


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
@pytest.mark.parametrize("protocol", ["submission", "submissions"])
def test_msmtp_submits(server: PosthouseServer, protocol: str, mechanism: str, tmp_path: Path) -> None:
    subject = f"msmtp {protocol} {mechanism} größer"
    starttls = "on" if protocol == "submission" else "off"
    configuration = tmp_path / "msmtprc"
    configuration.write_text(
        f"defaults\ntls on\ntls_starttls {starttls}\ntls_trust_file {server.certificates}\n"
        f"tls_host_override mail.example.test\naccount default\nhost {server.address}\nport {server.ports[protocol]}\n"
        f'from {ALICE}\nauth {mechanism}\nuser {ALICE}\npassword "{PASSWORD}"\n'
    )
    configuration.chmod(0o600)
    done = subprocess.run(
        [require("msmtp"), "-C", str(configuration), BOB],
        input=message(subject).replace(b"\r\n", b"\n"),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"Hello Bob" in wait_for_message(server, BOB, subject)


@pytest.mark.parametrize(("protocol", "scheme"), [("submission", "smtp"), ("submissions", "smtps")])
def test_curl_submits(server: PosthouseServer, protocol: str, scheme: str, tmp_path: Path) -> None:
    subject = f"curl {protocol}"
    path = tmp_path / "message"
    path.write_bytes(message(subject))
    curl(server, f"{scheme}://mail.example.test:{server.ports[protocol]}", upload=path)
    assert b"Hello Bob" in wait_for_message(server, BOB, subject)


def curl(server: PosthouseServer, url: str, upload: Path) -> None:
    """Hand in a file with curl, verified TLS; fails with curl's own words."""
    port = url.rpartition(":")[2]
    done = subprocess.run(
        [
            *(require("curl"), "--silent", "--show-error", "--ssl-reqd", "--cacert", str(server.certificates)),
            *("--resolve", f"mail.example.test:{port}:{server.address}", "--url", url),
            *("--user", f"{ALICE}:{PASSWORD}", "--mail-from", ALICE, "--mail-rcpt", BOB, "--upload-file", str(upload)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_attachment_of_20_mb_arrives_whole(server: PosthouseServer, tmp_path: Path) -> None:
    line = b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY3ODkwYWJjZGVmZ2hpamtsbW5vcHFyc3R1dg==\r\n"
    body = line * (20 * 1024 * 1024 // len(line))
    subject = "twenty megabytes"
    octets = (
        f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
        "Content-Type: application/octet-stream; name=big.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    ).encode() + body
    path = tmp_path / "message"
    path.write_bytes(octets)
    curl(server, f"smtps://mail.example.test:{server.ports['submissions']}", upload=path)
    assert wait_for_message(server, BOB, subject, seconds=60).endswith(body)


def test_8_bit_and_utf8_subjects_arrive_as_sent(server: PosthouseServer, tmp_path: Path) -> None:
    for subject in ("Grüße aus Köln", "邮件 驿站 你好", "=?utf-8?B?w6TDtsO8?="):
        path = tmp_path / "message"
        path.write_bytes(message(subject, body="Füße, 中文\r\n"))
        curl(server, f"smtps://mail.example.test:{server.ports['submissions']}", upload=path)
        found = wait_for_message(server, BOB, subject)
        assert f"Subject: {subject}\r\n".encode() in found
        assert "Füße, 中文\r\n".encode() in found
