import email
from dataclasses import replace
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message.addresses import Mailbox
from posthouse.message.convert import convert
from posthouse.message.mime import decode_body, scan
from posthouse.message.report import Action, RecipientReport, Report, delivery_report, parse_report
from tests.message.corpus import load

AT = 1_763_718_904_000
FAILED = RecipientReport(
    final="nobody@someschool.example",
    action="failed",
    status="5.1.1",
    original="rfc822;no.body@example.org",
    remote_mta="mx.someschool.example",
    diagnostic="550-5.1.1 There is nobody of this name\n550 5.1.1 Sorry",
    last_attempt_at=AT,
)
ORIGINAL = (
    b"From: alice@example.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Message-ID: <1@example.org>\r\n\r\nthe body\r\n"
)


def written(
    *recipients: RecipientReport,
    original: bytes = ORIGINAL,
    full: bool = False,
    deliver_by: int | None = None,
    envid: str | None = "QQ314159",
) -> bytes:
    return delivery_report(
        reporting_mta="mx.example.org",
        sender=Mailbox("Mail server mx.example.org", "postmaster", "example.org"),
        to=Mailbox("", "alice", "example.org"),
        at=AT,
        message_id="dsn.1@example.org",
        recipients=recipients,
        original=original,
        full=full,
        arrived_at=AT - 60_000,
        deliver_by=deliver_by,
        envid=envid,
    )


def blocks(octets: bytes) -> list[Message]:
    """The groups of fields of the delivery-status, as the standard library reads them."""
    message = email.message_from_bytes(octets)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    status = message.get_payload(1)
    assert isinstance(status, Message)
    assert status.get_content_type() == "message/delivery-status"
    groups = status.get_payload()
    assert isinstance(groups, list)
    return [group for group in groups if isinstance(group, Message) and group.keys()]


def test_a_report_says_when_the_message_should_have_arrived() -> None:
    assert blocks(written(FAILED))[0]["Deliver-By-Date"] is None
    about, recipient = blocks(written(FAILED, deliver_by=AT + 3_600_000))
    assert about["Deliver-By-Date"] == "Fri, 21 Nov 2025 10:55:04 +0000"
    assert recipient["Deliver-By-Date"] is None


def test_the_standard_library_reads_a_report() -> None:
    about, recipient = blocks(written(FAILED))
    assert about["Reporting-MTA"] == "dns; mx.example.org"
    assert about["Original-Envelope-Id"] == "QQ314159"
    assert about["Arrival-Date"] == "Fri, 21 Nov 2025 09:54:04 +0000"
    assert recipient["Original-Recipient"] == "rfc822; no.body@example.org"
    assert recipient["Final-Recipient"] == "rfc822; nobody@someschool.example"
    assert recipient["Action"] == "failed"
    assert recipient["Status"] == "5.1.1"
    assert recipient["Remote-MTA"] == "dns; mx.someschool.example"
    assert recipient["Diagnostic-Code"] == "smtp; 550-5.1.1 There is nobody of this name 550 5.1.1 Sorry"
    assert recipient["Last-Attempt-Date"] == "Fri, 21 Nov 2025 09:55:04 +0000"


def test_the_first_part_is_for_a_person() -> None:
    later = RecipientReport("slow@example.net", "delayed", "4.4.1", will_retry_until=AT + 86_400_000)
    message = email.message_from_bytes(written(FAILED, later))
    part = message.get_payload(0)
    assert isinstance(part, Message)
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes)
    text = octets.decode()
    assert "did not reach" in text
    assert "nobody@someschool.example" in text
    assert "mx.someschool.example said:" in text
    assert "550 5.1.1 Sorry" in text
    assert "keep trying" in text
    assert "until Sat, 22 Nov 2025" in text
    assert "Grüße" in text


def test_a_report_is_answered_by_nobody_and_belongs_to_its_message() -> None:
    message = email.message_from_bytes(written(FAILED))
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == message["References"] == "<1@example.org>"
    assert message["To"] == "alice@example.org"
    assert "Return-Path" not in message


@pytest.mark.parametrize("id", ["ä@x", "\x7f@x", "a" * 980 + "@x"])
def test_an_id_that_cannot_travel_binds_nothing(id: str) -> None:
    octets = written(FAILED, original=f"Message-ID: <{id}>\r\n\r\n".encode())
    assert octets.isascii()
    assert b"In-Reply-To" not in octets
    assert b"References" not in octets


SEALED = (
    "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nä\r\n"
    "--b\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n"
).encode()


@pytest.mark.parametrize(
    "original", [ORIGINAL + "ä\r\n".encode(), "Subject: ä\r\n\r\nä\r\n".encode(), SEALED, b"To: a@b\r\n" + SEALED]
)
def test_a_report_can_always_become_seven_bit(original: bytes) -> None:
    """It has no sender who could be told that it went nowhere. What it returns is the same afterwards."""
    octets = b"".join(convert(written(FAILED, original=original, full=True)))
    assert octets.isascii()
    returned = scan(octets).children[2]
    if returned.subtype == "global":
        assert decode_body(octets, returned) == original
    else:
        assert (returned.type, returned.subtype) == ("message", "rfc822")


@pytest.mark.parametrize(
    ("original", "full", "kind", "seven"),
    [
        (ORIGINAL, False, "text/rfc822-headers", True),
        (ORIGINAL, True, "message/rfc822", True),
        (ORIGINAL + "ä\r\n".encode(), True, "message/rfc822", False),
        (ORIGINAL + "ä\r\n".encode(), False, "text/rfc822-headers", True),
        ("Subject: ä\r\n\r\nx\r\n".encode(), True, "message/global", False),
        ("Subject: ä\r\n\r\nx\r\n".encode(), False, "text/rfc822-headers", True),
        (b"", False, "text/rfc822-headers", True),
    ],
)
def test_what_is_returned(original: bytes, full: bool, kind: str, seven: bool) -> None:
    octets = written(FAILED, original=original, full=full)
    returned = scan(octets).children[2]
    assert f"{returned.type}/{returned.subtype}" == kind
    assert octets.isascii() == seven
    assert (b"the body" in octets) == (full and original.startswith(ORIGINAL))


@pytest.mark.parametrize("kind", ["utf-8", "rfc822"])
def test_addresses_in_utf8_are_written_in_ascii(kind: str) -> None:
    """RFC 6533 §3: utf-8-addr-xtext."""
    report = replace(FAILED, final="jörg@someschool.example", original=f"{kind};jörg@example.org")
    octets = written(report)
    _, recipient = blocks(octets)
    assert recipient["Final-Recipient"] == "utf-8; j\\x{F6}rg@someschool.example"
    assert recipient["Original-Recipient"] == "utf-8; j\\x{F6}rg@example.org"
    back = parse_report(octets)
    assert back is not None
    assert back.recipients[0].final == "jörg@someschool.example"
    assert back.recipients[0].original == "utf-8; jörg@example.org"


def test_a_stranger_s_reply_adds_no_field() -> None:
    report = replace(FAILED, diagnostic="550 no\r\nAction: delivered\r\n\r\nStatus: 2.0.0", remote_mta="mx\r\nX: y")
    _, recipient = blocks(written(report))
    assert recipient.get_all("Action") == ["failed"]
    assert recipient["X"] is None


@pytest.mark.parametrize(
    ("action", "status"),
    [("failed", "5.0.0"), ("delayed", "4.0.0"), ("delivered", "2.0.0"), ("relayed", "2.0.0"), ("expanded", "2.0.0")],
)
def test_reports_of_every_kind_come_back(action: Action, status: str) -> None:
    report = RecipientReport("a@b.example", action, status, diagnostic="quota exceeded")
    octets = written(report, envid=None)
    assert parse_report(octets) == Report("mx.example.org", (report,), None, AT - 60_000, "1@example.org")


def test_reports_of_others_are_read() -> None:
    report = parse_report(load("delivery_report_of_another_mta"))
    assert report == Report(
        reporting_mta="mx.example.net",
        recipients=(
            RecipientReport(
                final="nobody@someschool.example",
                action="failed",
                status="5.1.1",
                original="rfc822;nobody@someschool.example",
                remote_mta="mx.someschool.example",
                diagnostic="550 5.1.1 <nobody@someschool.example>: unknown    user",
            ),
        ),
        arrived_at=AT,
        message_id="gone@example.org",
    )


@pytest.mark.parametrize("name", ["plain_ascii", "empty", "forwarded_message_with_attachment", "multipart_signed_pgp"])
def test_what_is_no_report(name: str) -> None:
    assert parse_report(load(name)) is None


FIELDS = [
    b"Action: failed\r\n",
    b"Status: 5\r\n",
    b"Final-Recipient: rfc822; a@b\r\n",
    b"Final-Recipient: \\x{110000}\r\n",
    b"\r\n",
    b"x",
    b";",
]


@given(st.lists(st.sampled_from(FIELDS)).map(b"".join))
def test_never_raises(status: bytes) -> None:
    head = b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
    parse_report(head + status + b"\r\n--b--\r\n")


TEXT = st.text(max_size=40)


@given(TEXT.filter(str.strip), TEXT, TEXT, st.none() | TEXT, st.binary(max_size=60))
def test_whatever_it_is_given_it_writes_one_report(
    final: str, remote: str, diagnostic: str, envid: str | None, original: bytes
) -> None:
    report = RecipientReport(final, "failed", "5.0.0", remote_mta=remote, diagnostic=diagnostic)
    octets = written(report, original=original, envid=envid)
    root = scan(octets)
    assert root.subtype == "report"
    assert [f"{part.type}/{part.subtype}" for part in root.children[:2]] == ["text/plain", "message/delivery-status"]
    _, recipient = blocks(octets)
    assert recipient.get_all("Action") == ["failed"]
