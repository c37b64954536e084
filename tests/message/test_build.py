import email
import email.policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message.build import (
    Attachment,
    address_field,
    compose,
    date_field,
    edit_header,
    field,
    media_type,
    message_id,
    message_id_field,
    protocol,
    received_field,
)
from posthouse.message.header import Header, Mailbox, decode_words, parse_addresses, unfold
from posthouse.message.mime import decode_body, scan
from posthouse.terms.address import Address

AT = 1_763_718_904_000
ONE_LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), max_size=200)


def value(octets: bytes) -> bytes:
    """What a field says, unfolded."""
    assert octets.endswith(b"\r\n")
    assert all(len(line) <= 998 for line in octets.split(b"\r\n"))
    header = Header.parse(octets + b"\r\n")
    assert len(header.fields) == 1
    return header.value(header.fields[0])


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "Grüße aus München",
        "日本語" * 30,
        "a" * 2000,
        "word " * 100 + "end",
        "=?utf-8?q?not encoded?=",
        "",
        "ä",
        "tab\there",
    ],
)
def test_fields_come_back(text: str) -> None:
    octets = field("Subject", text)
    assert octets.isascii()
    assert all(len(line) <= 78 for line in octets.split(b"\r\n"))
    assert decode_words(value(octets)) == text


@given(st.lists(ONE_LINE.filter(bool), max_size=6).map(" ".join))
def test_any_text_comes_back(text: str) -> None:
    assert decode_words(value(field("Subject", text))) == text


@given(st.text(max_size=100))
def test_no_value_ends_its_field(text: str) -> None:
    octets = field("Subject", text)
    assert octets.count(b"\r\n") == len(octets.splitlines())
    assert len(Header.parse(octets + b"\r\n").fields) == 1


def test_injected_lines_become_words() -> None:
    assert field("Subject", "a\r\nBcc: x@y.example") == b"Subject: a Bcc: x@y.example\r\n"
    assert address_field("To", [Mailbox("a\r\nBcc: b", "c", "d.example")]) == b'To: "a Bcc: b" <c@d.example>\r\n'


@given(st.lists(st.tuples(ONE_LINE, st.text("abcdefgh", min_size=1, max_size=9)), min_size=1, max_size=5))
def test_addresses_come_back(people: list[tuple[str, str]]) -> None:
    mailboxes = [Mailbox(name, local, "example.org") for name, local in people]
    assert parse_addresses(value(address_field("To", mailboxes))) == mailboxes


@pytest.mark.parametrize(
    ("mailbox", "written"),
    [
        (Mailbox("", "a", "b.example"), b"a@b.example"),
        (Mailbox("Alice L", "a", "b.example"), b"Alice L <a@b.example>"),
        (Mailbox("Liddell, A.", "a", "b.example"), b'"Liddell, A." <a@b.example>'),
        (Mailbox('say "x\\y"', "a", "b.example"), b'"say \\"x\\\\y\\"" <a@b.example>'),
        (Mailbox("Jörg", "a", "b.example"), b"=?utf-8?q?J=C3=B6rg?= <a@b.example>"),
        (Mailbox("", "john doe", "b.example"), b'"john doe"@b.example'),
        (Mailbox("", "jörg", "b.example"), "jörg@b.example".encode()),
    ],
)
def test_addresses_are_quoted_where_they_must(mailbox: Mailbox, written: bytes) -> None:
    assert value(address_field("To", [mailbox])) == written


def test_small_fields() -> None:
    assert date_field(AT) == b"Date: Fri, 21 Nov 2025 09:55:04 +0000\r\n"
    assert message_id("example.org", "abc") == "abc@example.org"
    assert message_id_field("abc@example.org") == b"Message-ID: <abc@example.org>\r\n"


# Received -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "wishes"),
    [
        ("SMTP", {"extended": False}),
        ("ESMTP", {}),
        ("ESMTPS", {"tls": True}),
        ("ESMTPA", {"auth": True}),
        ("ESMTPSA", {"tls": True, "auth": True}),
        ("UTF8SMTPSA", {"utf8": True, "tls": True, "auth": True}),
        ("LMTP", {"lmtp": True}),
        ("LMTPS", {"lmtp": True, "tls": True}),
        ("UTF8LMTP", {"lmtp": True, "utf8": True}),
    ],
)
def test_protocol_words(word: str, wishes: dict[str, bool]) -> None:
    assert protocol(**wishes) == word


def test_received() -> None:
    octets = received_field(
        helo="mail.example.org",
        peer="192.0.2.1",
        peer_name="out.example.org",
        by="mx.someschool.example",
        protocol="ESMTPS",
        id="7KQ2M",
        at=AT,
        tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
        recipient=Address("bob", "someschool.example"),
    )
    assert octets == (
        b"Received: from mail.example.org (out.example.org [192.0.2.1])\r\n"
        b"\tby mx.someschool.example (posthouse) with ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384) id 7KQ2M\r\n"
        b"\tfor <bob@someschool.example>;\r\n"
        b"\tFri, 21 Nov 2025 09:55:04 +0000\r\n"
    )


def test_received_holds_nothing_that_a_stranger_put_there() -> None:
    octets = received_field(
        helo="x\r\nSubject: (y)", peer="2001:db8::1", by="mx.example", protocol="SMTP", id="1", at=AT
    )
    assert octets.startswith(b"Received: from x??Subject:??y? ([IPv6:2001:db8::1])\r\n\tby mx.example")
    assert len(Header.parse(octets + b"\r\n").fields) == 1


def test_received_without_a_peer() -> None:
    octets = received_field(helo=None, peer=None, by="mx.example", protocol="ESMTPA", id="1", at=AT)
    assert octets.startswith(b"Received: by mx.example (posthouse) with ESMTPA id 1;\r\n")
    octets = received_field(helo="", peer="192.0.2.1", by="mx.example", protocol="SMTP", id="1", at=AT)
    assert octets.startswith(b"Received: from [192.0.2.1] ([192.0.2.1])\r\n")


# editing --------------------------------------------------------------------------------------------------------------

HEADER = b"From: a\r\nBCC : x,\r\n\ty\r\nBcc-Not: z\r\nResent-Bcc: q\r\nSubject: s\r\n\r\n"


def test_fields_are_taken_out_with_their_continuations() -> None:
    edited = edit_header(HEADER, remove=[b"bcc", b"resent-bcc"])
    assert edited == b"From: a\r\nBcc-Not: z\r\nSubject: s\r\n\r\n"


def test_fields_are_added_at_the_end() -> None:
    assert edit_header(b"A: b\r\n\r\n", add=[b"C: d\r\n", b"E: f\r\n"]) == b"A: b\r\nC: d\r\nE: f\r\n\r\n"
    assert edit_header(b"\r\n", add=[b"C: d\r\n"]) == b"C: d\r\n\r\n"
    assert edit_header(b"", add=[b"C: d\r\n"]) == b"C: d\r\n"
    assert edit_header(b"A: b", add=[b"C: d\r\n"]) == b"A: b\r\nC: d\r\n"
    assert edit_header(b"A: b\n\n", add=[b"C: d\r\n"]) == b"A: b\nC: d\r\n\n"


def test_a_field_past_the_limits_is_taken_out_too() -> None:
    header = b"X: y\r\n" * 5000 + b"Bcc: secret\r\n\r\n"
    assert edit_header(header, remove=[b"bcc"]) == b"X: y\r\n" * 5000 + b"\r\n"


def test_nothing_to_do_changes_nothing() -> None:
    assert edit_header(HEADER) is HEADER


@given(st.lists(st.sampled_from([b"Bcc: a\r\n", b"bcc:\r\n", b" x\r\n", b"To: b\r\n", b"BCC\t: c\r\n\td\r\n"])))
def test_what_is_removed_is_gone_and_the_rest_is_not(fields: list[bytes]) -> None:
    header = b"".join([b"First: 1\r\n", *fields, b"\r\n"])
    before, after = Header.parse(header), Header.parse(edit_header(header, remove=[b"bcc"]))
    assert after.count(b"bcc") == 0
    assert after.all(b"to") == before.all(b"to")
    assert after.all(b"first") == before.all(b"first")


# whole messages -------------------------------------------------------------------------------------------------------


def composed(text: str, attachments: list[Attachment]) -> bytes:
    return compose(
        sender=Mailbox("Jörg Müller", "joerg", "example.org"),
        to=[Mailbox("", "bob", "someschool.example")],
        subject="Grüße aus München, und noch ein paar Wörter mehr, damit die Zeile lang wird",
        text=text,
        at=AT,
        message_id="1@example.org",
        fields=[b"X-Test: yes\r\n"],
        attachments=attachments,
    )


def parsed(octets: bytes) -> EmailMessage:
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


@pytest.mark.parametrize(
    "text", ["plain\nlines\n", "Ümläute\r\nund mehr\r\n", "日本語\n" * 20, "x" * 2000, "", "trailing \n.\nFrom x\n"]
)
def test_composed_text_is_what_the_standard_library_reads(text: str) -> None:
    octets = composed(text, [])
    message = parsed(octets)
    assert octets.isascii()
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert all(len(line) <= 998 for line in octets.split(b"\r\n"))
    expected = text.replace("\r\n", "\n")
    assert message.get_content().replace("\r\n", "\n") == (expected if expected.endswith("\n") else expected + "\n")
    assert message["Subject"].startswith("Grüße aus München, und")
    assert message["From"].addresses[0].display_name == "Jörg Müller"
    assert message["Message-ID"] == "<1@example.org>"
    assert message["X-Test"] == "yes"


@given(
    st.binary(max_size=300),
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=120),
)
def test_attachments_come_back(content: bytes, name: str) -> None:
    octets = composed("see the file", [Attachment(name, content)])
    root = scan(octets)
    assert [part.type for part in root.children] == ["text", root.children[1].type]
    assert decode_body(octets, root.children[1]) == content
    assert root.children[1].filename == name
    assert root.children[1].is_attachment


def test_the_standard_library_reads_attachments() -> None:
    message = parsed(
        composed("x", [Attachment("Übersicht 2025.pdf", b"%PDF"), Attachment("a.txt", b"text", "text/plain")])
    )
    files = list(message.iter_attachments())
    assert [(file.get_filename(), file.get_content_type()) for file in files] == [
        ("Übersicht 2025.pdf", "application/pdf"),
        ("a.txt", "text/plain"),
    ]
    assert files[0].get_content() == b"%PDF"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.pdf", "application/pdf"),
        ("a.png", "image/png"),
        ("a.tar.gz", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_types_by_name(name: str, kind: str) -> None:
    assert media_type(name) == kind


def test_a_text_that_holds_the_boundary_is_encoded() -> None:
    octets = composed("hello", [Attachment("a", b"x")])
    boundary = scan(octets).parameters[0][1].decode()
    again = composed(f"--{boundary}\nhello", [Attachment("a", b"x")])
    assert len(scan(again).children) == 2


def test_unfolding_gives_the_value_back() -> None:
    text = "one  two   " + "three " * 30 + "end"
    assert unfold(field("X", text)[2:]) == text.encode()
