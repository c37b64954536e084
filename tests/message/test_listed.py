"""A message as a list's members get it."""

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.message.addresses import Mailbox
from posthouse.message.header import Header
from posthouse.message.listed import Edit, fields, for_members, list_id, way_out
from posthouse.terms.address import parse

TEAM = Edit(
    "The team", parse("team@home.example"), parse("team-owner@home.example"), parse("team-request@home.example")
)
OUT = parse("team-leave+abc@home.example")


def edit(subject_tag: str = "", footer: str = "") -> Edit:
    return Edit(TEAM.title, TEAM.post, TEAM.owner, TEAM.request, subject_tag=subject_tag, footer=footer)


def test_only_fields_of_lists_go() -> None:
    octets = (
        b"Received: x\r\n\ty\r\nList-Id: other\r\n <other.example>\r\n"
        b"DKIM-Signature: v=1;\r\n h=from\r\nfrom: A <a@x>\r\n"
        b"list-UNSUBSCRIBE : <mailto:x@y>,\r\n\t<https://z>\r\nPrecedence: bulk\r\nDelivered-To: t@x\r\n\r\n"
        b"List-Id: body\r\n"
    )
    left = b"Received: x\r\n\ty\r\nDKIM-Signature: v=1;\r\n h=from\r\nfrom: A <a@x>\r\nDelivered-To: t@x\r\n\r\n"
    assert for_members(octets, TEAM) == left + b"List-Id: body\r\n"


@given(st.binary(max_size=300))
def test_a_body_stays_octet_by_octet(body: bytes) -> None:
    octets = b"From: a@x.example\r\nSubject: x\r\n\r\n" + body
    assert for_members(octets, TEAM) == octets
    assert for_members(octets, edit(subject_tag="[t]")).endswith(b"\r\n\r\n" + body)


@given(st.binary(max_size=300), st.text("ab\r\n", max_size=10))
def test_never_raises(octets: bytes, footer: str) -> None:
    reply_to = (Mailbox("", "a", "x.example"),)
    author = Mailbox("A via T", "t", "x.example")
    changed = replace(edit("[t]", footer), author=author, reply_to=reply_to)
    assert Header.parse(for_members(octets, changed)).first(b"from") is not None


@pytest.mark.parametrize(
    ("content", "body", "footer", "added"),
    [
        (b"", b"Hi\r\n", "Bye", b"-- \r\nBye\r\n"),
        (b"", b"Hi", "Bye\nbye\n", b"\r\n-- \r\nBye\r\nbye\r\n"),
        (b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n", b"Hi\r\n", "\u00e9",
         b"-- \r\n\xc3\xa9\r\n"),
        # 8-bit text where 7 bits are promised, or in another charset, would make what is there unreadable.
        (b"Content-Type: text/plain; charset=utf-8\r\n", b"Hi\r\n", "\u00e9", b""),
        (b"", b"Hi\r\n", "\u00e9", b""),
        (b"Content-Type: text/plain; charset=koi8-r\r\n", b"Hi\r\n", "Bye", b""),
        (b"Content-Transfer-Encoding: base64\r\n", b"SGk=\r\n", "Bye", b""),
        (b"Content-Type: text/html\r\n", b"Hi\r\n", "Bye", b""),
    ],
)  # fmt: skip
def test_a_footer_goes_below_plain_text_only(content: bytes, body: bytes, footer: str, added: bytes) -> None:
    octets = b"From: a@x.example\r\n" + content + b"\r\n" + body
    assert for_members(octets, edit(footer=footer)) == octets + added


def test_a_header_that_nothing_ends_gets_no_footer() -> None:
    assert for_members(b"From: a@x.example\r\n", edit(footer="Bye")) == b"From: a@x.example\r\n"


def test_a_tag_stands_once() -> None:
    for subject, written in ((b"Lunch", b"[t] Lunch"), (b"Re: [T] Lunch", b"Re: [T] Lunch"), (b"", b"[t]")):
        found = Header.parse(for_members(b"Subject: " + subject + b"\r\n\r\n", edit(subject_tag="[t]")))
        assert found.all(b"subject") == [written]


def test_the_lists_own_fields() -> None:
    written = Header.parse(fields(TEAM) + way_out(OUT) + b"\r\n")
    told = {field.name.decode(): written.value(field).decode() for field in written.fields}
    assert told == {
        "list-id": '"The team" <team.home.example>',
        "list-post": "<mailto:team@home.example>",
        "list-help": "<mailto:team-request@home.example?subject=help>",
        "list-subscribe": "<mailto:team-request@home.example?subject=subscribe>",
        "list-unsubscribe": "<mailto:team-leave+abc@home.example>",
        "list-owner": "<mailto:team-owner@home.example>",
        "precedence": "list",
    }
    assert list_id(parse("Team@home.example")) == "team.home.example"


def test_one_click_and_lists_that_members_do_not_post_to() -> None:
    written = Header.parse(fields(TEAM, closed=True) + way_out(OUT, "https://home.example/l/abc") + b"\r\n")
    assert written.first(b"list-unsubscribe") == b"<https://home.example/l/abc>, <mailto:team-leave+abc@home.example>"
    assert written.first(b"list-unsubscribe-post") == b"List-Unsubscribe=One-Click"
    assert written.first(b"list-post") == b"NO"


@given(st.text(max_size=60))
@example("=?")
@example("=<==??")
def test_no_title_breaks_a_field(title: str) -> None:
    octets = fields(Edit(title, TEAM.post, TEAM.owner, TEAM.request))
    header = Header.parse(octets + b"\r\n")
    assert len(header.fields) == 6
    assert octets.isascii()
    assert re.search(rb"<team\.home\.example>\Z", header.first(b"list-id") or b"")


@pytest.mark.parametrize(
    ("wanted", "present", "touched"),
    [
        ({}, b"subject", b"list-id"),
        ({}, b"list-archive", b"list-archive"),
        ({"subject_tag": "[t]"}, b"", b"subject"),
    ],
)
def test_what_signatures_may_not_name(wanted: dict[str, str], present: bytes, touched: bytes) -> None:
    found = edit(**wanted).touches(frozenset({present}))
    assert touched in found
    assert (b"subject" in found) is bool(wanted)
    assert b"list-archive" in found or present != b"list-archive"
