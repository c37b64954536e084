"""A real Postfix on loopback sends to posthouse and receives from it, with STARTTLS both ways, and each understands the
other's bounces (RFC 3464)."""

import email
import email.message
import smtplib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from bench.peers.postfix import Postfix
from bench.peers.private_root import Unavailable
from bench.peers.waiting import free_port, wait_until
from bench.posthouse_server import ENCRYPTED, PASSWORD, PosthouseServer
from posthouse.clock import SystemClock
from posthouse.net.tls import private_pair
from posthouse.written import Endpoint
from tests.interop.clients import missing
from tests.interop.conftest import SETTINGS
from tests.interop.names import nameserver
from tests.interop.reading import messages, trusting, wait_for_message

# The first run on a machine installs the packages.
pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

OURS, THEIRS = "ours.test", "theirs.test"
# Postfix listens only at addresses that an interface has; posthouse at any of loopback.
OUR_ADDRESS, THEIR_ADDRESS = "127.0.0.3", "127.0.0.1"
ALICE, BOB = f"alice@{OURS}", f"bob@{THEIRS}"


class Pair(NamedTuple):
    """posthouse for ours.test and Postfix for theirs.test."""

    ours: PosthouseServer
    theirs: Postfix


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both, running. A name server tells posthouse where Postfix is; Postfix sends everything else to posthouse."""
    port = free_port(OUR_ADDRESS, THEIR_ADDRESS)  # one for both: an MX record has no port
    zone = {THEIRS: {"MX": f"10 mail.{THEIRS}."}, f"mail.{THEIRS}": {"A": THEIR_ADDRESS}}
    with ExitStack() as stack:
        ours = posthouse(port, stack.enter_context(nameserver(zone)))
        stack.callback(ours.stop)
        try:
            theirs = postfix(port, ours)
        except Unavailable as why:
            missing(str(why))
        stack.callback(theirs.stop)
        theirs.set(theirs.certificate(*private_pair(tmp_path_factory.mktemp("tls"), f"mail.{THEIRS}", SystemClock())))
        ours.start()
        theirs.start()
        yield Pair(ours, theirs)
        assert ours.errors() == []


def posthouse(port: int, resolver: Endpoint) -> PosthouseServer:
    """Our side, which encrypts with whoever offers it, as everybody does. Its domain local.test is fed by LMTP."""
    settings = f'[dns]\nresolver = "{resolver}"\n[relay]\nport = {port}\n[queue]\nschedule = ["1s"]\n'
    server = PosthouseServer(
        domain=OURS,
        users=["alice"],
        listeners={**ENCRYPTED, "lmtp": "none"},
        settings=f"{SETTINGS}\n{settings}",
        address=OUR_ADDRESS,
        ports={"smtp": port},
    )
    server.command("domain", "add", "local.test")
    server.command("alias", "add", "crew@local.test", ALICE)
    server.command("alias", "add", f"驿站@{OURS}", ALICE)
    server.command("alias", "add", f"astray@{OURS}", f"nobody-here@{THEIRS}")
    return server


def postfix(port: int, ours: PosthouseServer) -> Postfix:
    """Their side, which sends no mail to other hosts without TLS, and is impatient."""
    settings = {
        "relayhost": f"[{OUR_ADDRESS}]:{port}",
        "transport_maps": f"inline:{{local.test=lmtp:inet:{OUR_ADDRESS}:{ours.ports['lmtp']}}}",
        "smtp_tls_security_level": "encrypt",
        "smtpd_tls_received_header": "yes",
        "smtputf8_enable": "yes",
        **dict.fromkeys(("minimal_backoff_time", "maximal_backoff_time", "queue_run_delay"), "1s"),
    }
    return Postfix(domain=THEIRS, users=["bob", "böb"], address=THEIR_ADDRESS, port=port, settings=settings)


def submit(server: PosthouseServer, recipient: str, subject: str, body: str = "Hello\r\n") -> None:
    """Alice hands a message in, by the standard library."""
    options = ["BODY=8BITMIME"] if recipient.isascii() else ["BODY=8BITMIME", "SMTPUTF8"]
    octets = f"From: {ALICE}\r\nTo: {recipient}\r\nSubject: {subject}\r\n\r\n{body}".encode()
    with smtplib.SMTP_SSL(server.address, server.ports["submissions"], context=trusting(server), timeout=30) as client:
        client.login(ALICE, PASSWORD)
        client.sendmail(ALICE, [recipient], octets, options)


def wait_at_postfix(postfix: Postfix, *wanted: bytes, user: str = "bob") -> bytes:
    """The one message in a user's Maildir that has all this in it, as soon as it is there."""
    found: list[bytes] = []

    def arrived() -> bool:
        found[:] = [octets for octets in postfix.mailbox(user) if all(one in octets for one in wanted)]
        return bool(found)

    wait_until(arrived, 30, f"a message with {wanted} at Postfix")
    assert len(found) == 1, f"{len(found)} messages with {wanted!r}"
    return found[0]


def wait_for_bounce(server: PosthouseServer, *wanted: bytes) -> bytes:
    """The one bounce in Alice's INBOX that has all this in it, as soon as it is there."""
    found: list[bytes] = []

    def arrived() -> bool:
        found[:] = [
            octets
            for octets in messages(server, ALICE)
            if b"multipart/report" in octets and all(one in octets for one in wanted)
        ]
        return bool(found)

    wait_until(arrived, 30, f"a bounce with {wanted} at posthouse", pause=0.1)
    assert len(found) == 1, f"{len(found)} bounces with {wanted!r}"
    return found[0]


def delivery_status(octets: bytes) -> tuple[email.message.Message, email.message.Message]:
    """The fields of the message and of the first recipient in a bounce, as the standard library reads them."""
    bounce = email.message_from_bytes(octets)
    assert bounce.get_content_type() == "multipart/report"
    assert bounce.get_param("report-type") == "delivery-status"
    (status,) = [part for part in bounce.walk() if part.get_content_type() == "message/delivery-status"]
    fields = status.get_payload()
    assert isinstance(fields, list)
    first, second = fields
    assert isinstance(first, email.message.Message)
    assert isinstance(second, email.message.Message)
    return first, second


# --- mail


def test_postfix_sends_to_posthouse_over_tls(pair: Pair) -> None:
    sent = b"Subject: from Postfix\r\nFrom: bob@theirs.test\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n.\r\n"
    pair.theirs.submit(BOB, [ALICE], sent)
    found = wait_for_message(pair.ours, ALICE, "from Postfix")
    assert found.endswith(b"Gr\xc3\xbc\xc3\x9fe\r\n.\r\n")
    assert b"TLSv1.3" in found.partition(b"\r\nReceived: ")[2].partition(b"\r\nReceived: ")[0]


def test_posthouse_sends_to_postfix_over_tls(pair: Pair) -> None:
    submit(pair.ours, BOB, "from posthouse", body="Füße\r\n.\r\n..\r\n")
    found = wait_at_postfix(pair.theirs, b"Subject: from posthouse")
    assert found.endswith("Füße\n.\n..\n".encode())
    assert b"using TLSv1.3" in found.partition(b"\n\n")[0]
    # The journey tells what Postfix said.
    assert "250 2.0.0 Ok: queued as" in pair.ours.command("journey", BOB)


def test_addresses_in_utf8_go_both_ways(pair: Pair) -> None:
    """RFC 6531."""
    sent = "Subject: an die 驿站\r\n\r\nHallo\r\n".encode()
    pair.theirs.submit(f"böb@{THEIRS}", [f"驿站@{OURS}"], sent, ["SMTPUTF8", "BODY=8BITMIME"])
    assert f"Return-Path: <böb@{THEIRS}>\r\n".encode() in wait_for_message(pair.ours, ALICE, "an die 驿站")
    submit(pair.ours, f"böb@{THEIRS}", "für Böb")
    wait_at_postfix(pair.theirs, "Subject: für Böb".encode(), user="böb")


def test_ten_megabytes_go_both_ways(pair: Pair) -> None:
    body = ("." + "0123456789" * 7 + "\r\n") * (10_000_000 // 73)
    submit(pair.ours, BOB, "ten megabytes out", body=body)
    assert wait_at_postfix(pair.theirs, b"ten megabytes out").endswith(body.replace("\r\n", "\n").encode())
    pair.theirs.submit(BOB, [ALICE], b"From: a@b.test\r\nSubject: ten megabytes in\r\n\r\n" + body.encode())
    assert wait_for_message(pair.ours, ALICE, "ten megabytes in").endswith(body.encode())


def test_postfix_delivers_by_lmtp_and_each_recipient_has_its_answer(pair: Pair) -> None:
    recipients = ["crew@local.test", "stranger@local.test"]
    pair.theirs.submit(BOB, recipients, b"From: bob@theirs.test\r\nSubject: by LMTP\r\n\r\nHello\r\n")
    assert b"with LMTP" in wait_for_message(pair.ours, ALICE, "by LMTP")
    bounce = wait_at_postfix(pair.theirs, b"multipart/report", b"stranger@local.test")
    _, of_recipient = delivery_status(bounce)
    assert of_recipient["Final-Recipient"] == "rfc822; stranger@local.test"


def test_each_waits_for_the_other(pair: Pair) -> None:
    pair.theirs.halt()
    submit(pair.ours, BOB, "you were away")
    wait_until(lambda: "refused" in pair.ours.command("queue", "list"), 20, "a first attempt in vain")
    pair.theirs.start()
    wait_at_postfix(pair.theirs, b"Subject: you were away")
    pair.ours.terminate()
    pair.theirs.submit(BOB, [ALICE], b"From: bob@theirs.test\r\nSubject: so were you\r\n\r\nHello\r\n")
    pair.ours.start()
    wait_for_message(pair.ours, ALICE, "so were you")


# --- bounces


def test_a_bounce_of_posthouse_is_filed_at_postfix(pair: Pair) -> None:
    """Postfix hands us mail that we accept and that then fails: an alias of ours to an unknown user of theirs."""
    pair.theirs.submit(BOB, [f"astray@{OURS}"], b"Subject: astray\r\n\r\nHello\r\n")
    of_message, of_recipient = delivery_status(wait_at_postfix(pair.theirs, b"multipart/report", b"astray"))
    assert of_message["Reporting-MTA"] == f"dns; mail.{OURS}"
    assert of_recipient["Action"] == "failed"
    assert of_recipient["Status"] == "5.1.1"
    assert of_recipient["Final-Recipient"] == f"rfc822; nobody-here@{THEIRS}"
    assert of_recipient["Remote-MTA"] == f"dns; mail.{THEIRS}"
    assert of_recipient["Diagnostic-Code"].startswith("smtp; 550 5.1.1 ")


def test_a_bounce_of_postfix_is_filed_at_posthouse(pair: Pair) -> None:
    """Postfix takes mail in Alice's name for somebody whom we then refuse."""
    pair.theirs.submit(ALICE, [f"unknown@{OURS}"], b"Subject: nobody there\r\n\r\nHello\r\n")
    bounce = wait_for_bounce(pair.ours, f"unknown@{OURS}".encode())
    assert bounce.startswith(b"Return-Path: <>\r\n")
    of_message, of_recipient = delivery_status(bounce)
    assert of_message["Reporting-MTA"] == f"dns; mail.{THEIRS}"
    assert of_recipient["Action"] == "failed"
    assert of_recipient["Status"] == "5.1.1"
    assert of_recipient["Final-Recipient"] == f"rfc822; unknown@{OURS}"
    assert "550 5.1.1" in of_recipient["Diagnostic-Code"]


def test_posthouse_bounces_what_postfix_refuses(pair: Pair) -> None:
    submit(pair.ours, f"no-such-user@{THEIRS}", "to nobody")
    bounce = wait_for_bounce(pair.ours, f"no-such-user@{THEIRS}".encode())
    _, of_recipient = delivery_status(bounce)
    assert of_recipient["Action"] == "failed"
    assert of_recipient["Status"] == "5.1.1"
    assert of_recipient["Final-Recipient"] == f"rfc822; no-such-user@{THEIRS}"
