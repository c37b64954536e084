"""A real Postfix on loopback sends to posthouse and receives from it, with STARTTLS both ways, and each understands the
other's bounces (RFC 3464)."""

import email
import email.message
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.peers.postfix import Postfix
from bench.peers.private_root import unavailable
from bench.peers.waiting import free_port, wait_until
from bench.posthouse_server import ENCRYPTED, PASSWORD, PosthouseServer
from tests.interop.conftest import SETTINGS, missing
from tests.interop.reading import messages, wait_for_message
from tests.support import Nameserver

pytestmark = pytest.mark.interop

OURS, THEIRS = "ours.test", "theirs.test"
OUR_ADDRESS, THEIR_ADDRESS = "127.0.0.1", "127.0.0.3"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PosthouseServer, Postfix]]:
    """posthouse for ours.test and Postfix for theirs.test; a name server tells posthouse where Postfix is."""
    if why := unavailable():
        missing(why)
    port = free_port()  # both listen on the same port of different addresses: an MX record has no port
    with Nameserver({THEIRS: [("MX", f"10 mail.{THEIRS}")], f"mail.{THEIRS}": [("A", THEIR_ADDRESS)]}) as dns:
        settings = (
            f'{SETTINGS}\n[dns]\nresolver = "127.0.0.1:{dns.port}"\n[relay]\nport = {port}\n'
            '[queue]\nschedule = ["1s"]\n'
        )
        ours = PosthouseServer(
            domain=OURS,
            users=["alice"],
            listeners=ENCRYPTED,
            settings=settings,
            address=OUR_ADDRESS,
            ports={"smtp": port},
        )
        theirs = Postfix(
            domain=THEIRS,
            users=["bob"],
            address=THEIR_ADDRESS,
            port=port,
            settings={
                "relayhost": f"[{OUR_ADDRESS}]:{port}",
                "smtp_tls_security_level": "encrypt",
                "smtp_tls_loglevel": "1",
                "smtpd_tls_received_header": "yes",
                "smtputf8_enable": "yes",
            },
        )
        theirs.set(theirs.certificate(*certificate(tmp_path_factory.mktemp("certificate"))))
        try:
            ours.start()
            theirs.start()
            yield ours, theirs
        finally:
            theirs.stop()
            ours.stop()


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for Postfix."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "7",
            ),
            *("-subj", f"/CN=mail.{THEIRS}", "-out", str(certificate), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def submit(server: PosthouseServer, recipient: str, subject: str, body: str = "Hello\r\n") -> None:
    """Alice hands a message in, by the standard library."""
    import smtplib

    context = ssl.create_default_context(cafile=str(server.certificates))
    context.check_hostname = False
    with smtplib.SMTP_SSL(server.address, server.ports["submissions"], context=context, timeout=30) as client:
        client.login(f"alice@{OURS}", PASSWORD)
        octets = f"From: alice@{OURS}\r\nTo: {recipient}\r\nSubject: {subject}\r\n\r\n{body}".encode()
        client.sendmail(f"alice@{OURS}", [recipient], octets, mail_options=["BODY=8BITMIME"])


def report_of(octets: bytes) -> tuple[email.message.Message, email.message.Message]:
    """The per-message and the first per-recipient fields of a delivery status, as the standard library reads them."""
    bounce = email.message_from_bytes(octets)
    assert bounce.get_content_type() == "multipart/report"
    assert bounce.get_param("report-type") == "delivery-status"
    (status,) = [part for part in bounce.walk() if part.get_content_type() == "message/delivery-status"]
    fields = status.get_payload()
    assert isinstance(fields, list)
    first, second = fields[0], fields[1]
    assert isinstance(first, email.message.Message)
    assert isinstance(second, email.message.Message)
    return first, second


def test_postfix_sends_to_posthouse_over_tls(pair: tuple[PosthouseServer, Postfix]) -> None:
    ours, theirs = pair
    theirs.submit(
        f"bob@{THEIRS}",
        f"alice@{OURS}",
        b"Subject: from Postfix\r\nFrom: bob@theirs.test\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n.\r\n",
    )
    found = wait_for_message(ours, f"alice@{OURS}", "from Postfix")
    assert b"Gr\xc3\xbc\xc3\x9fe\r\n.\r\n" in found
    assert b"TLSv1.3" in found.partition(b"\r\n\r\n")[0]


def test_posthouse_sends_to_postfix_over_tls(pair: tuple[PosthouseServer, Postfix]) -> None:
    ours, theirs = pair
    submit(ours, f"bob@{THEIRS}", "from posthouse", body="Füße\r\n.\r\n..\r\n")
    wait_until(lambda: any(b"from posthouse" in m for m in theirs.mailbox("bob")), 30, "the message at Postfix")
    (found,) = [octets for octets in theirs.mailbox("bob") if b"from posthouse" in octets]
    assert found.endswith("Füße\n.\n..\n".encode())
    assert b"using TLSv1.3" in found


def test_a_bounce_of_posthouse_is_read_at_postfix(pair: tuple[PosthouseServer, Postfix]) -> None:
    """Postfix hands us mail that we accept and that then fails: an alias of ours to an unknown user of theirs."""
    ours, theirs = pair
    ours.command("alias", "add", f"astray@{OURS}", f"nobody-here@{THEIRS}")
    theirs.submit(f"bob@{THEIRS}", f"astray@{OURS}", b"Subject: astray\r\n\r\nHello\r\n")
    wait_until(lambda: any(b"multipart/report" in m for m in theirs.mailbox("bob")), 30, "a bounce at Postfix")
    (bounce,) = [octets for octets in theirs.mailbox("bob") if b"multipart/report" in octets]
    message_fields, recipient_fields = report_of(bounce)
    assert message_fields["Reporting-MTA"] == f"dns; mail.{OURS}"
    assert recipient_fields["Action"] == "failed"
    assert str(recipient_fields["Status"]).startswith("5.1.1")
    assert recipient_fields["Final-Recipient"].endswith(f"nobody-here@{THEIRS}")
    assert "550" in recipient_fields["Diagnostic-Code"]


def test_a_bounce_of_postfix_is_filed_at_posthouse(pair: tuple[PosthouseServer, Postfix]) -> None:
    """Alice's mail is accepted by Postfix, which then cannot deliver it, because we refuse an unknown user of ours."""
    ours, theirs = pair
    theirs.submit(f"alice@{OURS}", f"unknown@{OURS}", b"Subject: nobody there\r\n\r\nHello\r\n")
    login = f"alice@{OURS}"
    wait_until(
        lambda: any(b"multipart/report" in m for m in messages(ours, login)), 30, "Postfix's bounce at posthouse"
    )
    (bounce,) = [octets for octets in messages(ours, login) if b"multipart/report" in octets]
    _, recipient_fields = report_of(bounce)
    assert recipient_fields["Action"] == "failed"
    assert recipient_fields["Status"].startswith("5.1.1")
    assert recipient_fields["Final-Recipient"].endswith(f"unknown@{OURS}")
    assert f"unknown@{OURS}" in recipient_fields["Diagnostic-Code"] or "550" in recipient_fields["Diagnostic-Code"]
    assert bounce.startswith(b"Return-Path: <>\r\n")


def test_posthouse_bounces_what_postfix_refuses_at_rcpt(pair: tuple[PosthouseServer, Postfix]) -> None:
    ours, _ = pair
    submit(ours, f"no-such-user@{THEIRS}", "to nobody")
    login = f"alice@{OURS}"

    def bounced() -> bool:
        return any(f"no-such-user@{THEIRS}".encode() in octets for octets in messages(ours, login))

    wait_until(bounced, 30, "our own bounce in Alice's INBOX")
    (bounce,) = [octets for octets in messages(ours, login) if f"no-such-user@{THEIRS}".encode() in octets]
    _, recipient_fields = report_of(bounce)
    assert recipient_fields["Action"] == "failed"
    assert recipient_fields["Status"].startswith("5.1.1")
