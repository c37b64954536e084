"""msmtp, curl and mutt hand in mail: 587 with STARTTLS and 465 with TLS from the first octet."""

import base64
import email
import email.policy
import random
from pathlib import Path

import pytest

from bench.posthouse_server import PASSWORD, PosthouseServer
from tests.interop.clients import require, run
from tests.interop.reading import wait_for_message

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

ALICE, BOB = "alice@example.test", "bob@example.test"
HOST = "mail.example.test"


def message(subject: str, body: str = "Hello Bob\r\n") -> bytes:
    """A message as a user agent would make it."""
    return (
        f"From: Alice <{ALICE}>\r\nTo: Bob <{BOB}>\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{body}"
    ).encode()


# --- msmtp


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
@pytest.mark.parametrize("protocol", ["submission", "submissions"])
def test_msmtp_submits(server: PosthouseServer, protocol: str, mechanism: str, tmp_path: Path) -> None:
    subject = f"msmtp {protocol} {mechanism} größer"
    starttls = "on" if protocol == "submission" else "off"
    configuration = tmp_path / "msmtprc"
    configuration.write_text(
        f"defaults\ntimeout off\ntls on\ntls_starttls {starttls}\ntls_trust_file {server.certificates}\n"
        f"tls_host_override {HOST}\naccount default\nhost {server.address}\nport {server.ports[protocol]}\n"
        f'from {ALICE}\nauth {mechanism}\nuser {ALICE}\npassword "{PASSWORD}"\n'
    )
    configuration.chmod(0o600)
    run([require("msmtp"), "-C", str(configuration), BOB], octets=message(subject).replace(b"\r\n", b"\n"))
    assert b"Hello Bob" in wait_for_message(server, BOB, subject)


# --- curl


def curl(server: PosthouseServer, url: str, upload: Path, *options: str) -> None:
    """Hand in a file by curl, which verifies the server's certificate."""
    port = url.rpartition(":")[2]
    argv = [
        *(require("curl"), "--disable", "--noproxy", "*", "--silent", "--show-error"),
        *("--ssl-reqd", "--cacert", str(server.certificates)),
        *("--resolve", f"{HOST}:{port}:{server.address}", "--url", url, "--user", f"{ALICE}:{PASSWORD}"),
        *("--mail-from", ALICE, "--mail-rcpt", BOB, "--upload-file", str(upload), *options),
    ]
    run(argv)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(("protocol", "scheme"), [("submission", "smtp"), ("submissions", "smtps")])
def test_curl_submits(server: PosthouseServer, protocol: str, scheme: str, mechanism: str, tmp_path: Path) -> None:
    subject = f"curl {protocol} {mechanism}"
    path = tmp_path / "message"
    path.write_bytes(message(subject))
    url = f"{scheme}://{HOST}:{server.ports[protocol]}"
    curl(server, url, path, "--login-options", f"AUTH={mechanism}")
    assert b"Hello Bob" in wait_for_message(server, BOB, subject)


def test_an_attachment_of_20_mb_arrives_whole(server: PosthouseServer, tmp_path: Path) -> None:
    attachment = random.Random(20).randbytes(20_000_000)
    head = (
        f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: twenty megabytes\r\nMIME-Version: 1.0\r\n"
        "Content-Type: application/octet-stream; name=big.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    ).encode()
    path = tmp_path / "message"
    path.write_bytes(head + base64.encodebytes(attachment).replace(b"\n", b"\r\n"))
    curl(server, f"smtps://{HOST}:{server.ports['submissions']}", path)
    found = wait_for_message(server, BOB, "twenty megabytes", seconds=60)
    assert email.message_from_bytes(found).get_payload(decode=True) == attachment


@pytest.mark.parametrize("subject", ["Grüße aus Köln", "邮件 驿站 你好", "=?utf-8?B?w6TDtsO8?="])
def test_8_bit_and_utf8_subjects_arrive_as_sent(server: PosthouseServer, tmp_path: Path, subject: str) -> None:
    path = tmp_path / "message"
    path.write_bytes(message(subject, body="Füße, 中文\r\n"))
    curl(server, f"smtps://{HOST}:{server.ports['submissions']}", path)
    found = wait_for_message(server, BOB, subject)
    assert found.endswith("\r\n\r\nFüße, 中文\r\n".encode())


def test_curl_writes_to_an_address_in_utf8(server: PosthouseServer, tmp_path: Path) -> None:
    """RFC 6531: an alias in Chinese, which curl names with SMTPUTF8."""
    server.command("alias", "add", "驿站@example.test", BOB)
    path = tmp_path / "message"
    path.write_bytes(message("to an address in utf8"))
    curl(server, f"smtp://{HOST}:{server.ports['submission']}", path, "--mail-rcpt", "驿站@example.test")
    wait_for_message(server, BOB, "to an address in utf8")


# --- mutt


def test_mutt_submits_an_attachment(server: PosthouseServer, tmp_path: Path) -> None:
    configuration, attachment = tmp_path / "muttrc", tmp_path / "bild.bin"
    attachment.write_bytes(bytes(range(256)) * 4)
    url = f"smtps://{ALICE}@{server.address}:{server.ports['submissions']}/"
    configuration.write_text(
        f'set smtp_url="{url}"\nset smtp_pass="{PASSWORD}"\nset smtp_authenticators="scram-sha-256"\n'
        f'set from="{ALICE}"\nset ssl_verify_host=no\nset certificate_file="{server.certificates}"\n'
        'set charset="utf-8"\nset copy=no\nset hostname="example.test"\n'
    )
    mutt = [require("mutt"), "-n", "-F", str(configuration), "-s", "mutt submits", "-a", str(attachment), "--", BOB]
    run(mutt, octets="Grüße\n".encode(), HOME=str(tmp_path), LC_ALL="C.UTF-8")
    found = email.message_from_bytes(wait_for_message(server, BOB, "mutt submits"), policy=email.policy.default)
    text, file = found.iter_parts()
    assert text.get_content() == "Grüße\r\n"
    assert (file.get_filename(), file.get_payload(decode=True)) == ("bild.bin", attachment.read_bytes())
