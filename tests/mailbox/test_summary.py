"""What `render` gives, and that it is well-formed IMAP: read back by a small parser of IMAP's values."""

import mmap
import re
import tracemalloc
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.limits import REFERENCES
from posthouse.mailbox import summary
from posthouse.mailbox.summary import Rendered, base_subject, body, render
from posthouse.message.header import Header
from posthouse.message.mime import scan, unpack
from tests.message.corpus import NAMES, load

Value: TypeAlias = "bytes | int | list[Value] | None"

TOKEN = re.compile(rb'\(|\)| |NIL|(\d+)|"((?:[\x01-\x09\x0b\x0c\x0e-!#-\[\]-\x7f]|\\["\\])*)"|\{(\d+)\}\r\n')


def read(octets: bytes) -> Value:
    """The value that these octets are, all of them (RFC 9051 §9). Spaces are checked as far as envelopes need them."""
    stack: list[list[Value]] = [[]]
    at = 0
    while at < len(octets):
        match = TOKEN.match(octets, at)
        assert match is not None, octets[at : at + 40]
        at = match.end()
        if match[0] == b"(":
            stack.append([])
        elif match[0] == b")":
            done = stack.pop()
            assert done, "an empty list"
            stack[-1].append(done)
        elif match[0] == b"NIL":
            stack[-1].append(None)
        elif match[1] is not None:
            stack[-1].append(int(match[1]))
        elif match[2] is not None:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", match[2]))
        elif match[3] is not None:
            literal = octets[at : at + int(match[3])]
            assert b"\0" not in literal
            stack[-1].append(literal)
            at += len(literal)
    assert len(stack) == 1
    assert len(stack[0]) == 1
    return stack[0][0]


def as_list(value: Value) -> list[Value]:
    assert isinstance(value, list)
    return value


def check_string(value: Value, *, nil: bool = False) -> None:
    assert isinstance(value, bytes) or (nil and value is None)


def check_envelope(value: Value) -> None:
    """RFC 9051 §9: envelope."""
    fields = as_list(value)
    assert len(fields) == 10
    for index in (0, 1, 8, 9):
        check_string(fields[index], nil=True)
    for addresses in fields[2:8]:
        for address in as_list(addresses) if addresses is not None else []:
            assert len(as_list(address)) == 4
            for part in as_list(address):
                check_string(part, nil=True)


def check_parameters(value: Value) -> None:
    if value is not None:
        assert len(as_list(value)) % 2 == 0
        for item in as_list(value):
            check_string(item)


def check_extension(values: list[Value]) -> None:
    disposition, language, location = values
    if disposition is not None:
        kind, parameters = as_list(disposition)
        check_string(kind)
        check_parameters(parameters)
    for tag in language if isinstance(language, list) else []:
        check_string(tag)
    assert not isinstance(language, int)
    check_string(location, nil=True)


def check_structure(value: Value, *, extended: bool) -> None:
    """RFC 9051 §9: body."""
    fields = as_list(value)
    if isinstance(fields[0], list):
        parts = [field for field in fields if isinstance(field, list)]
        count = next(index for index, field in enumerate(fields) if not isinstance(field, list))
        for part in parts[:count]:
            check_structure(part, extended=extended)
        check_string(fields[count])
        if extended:
            check_parameters(fields[count + 1])
            check_extension(fields[count + 2 :])
        else:
            assert len(fields) == count + 1
        return
    kind, subtype, parameters, id, description, encoding, size, *rest = fields
    for item in (kind, subtype, encoding):
        check_string(item)
    check_parameters(parameters)
    check_string(id, nil=True)
    check_string(description, nil=True)
    assert isinstance(size, int)
    if (kind, subtype) in ((b"message", b"rfc822"), (b"message", b"global")):
        envelope, inner, *rest = rest
        check_envelope(envelope)
        check_structure(inner, extended=extended)
    if kind == b"text" or (kind == b"message" and subtype in (b"rfc822", b"global")):
        lines, *rest = rest
        assert isinstance(lines, int)
    if extended:
        md5, *rest = rest
        check_string(md5, nil=True)
        check_extension(rest)
    else:
        assert rest == []


def check(octets: bytes) -> None:
    rendered = render(octets)
    check_envelope(read(rendered.summary))
    check_structure(read(rendered.structure), extended=True)
    root = unpack(rendered.parts)
    assert root == scan(octets)
    check_structure(read(body(octets, root)), extended=False)
    assert rendered.size == len(octets)
    assert len(rendered.preview) <= 256
    for text in (rendered.preview, rendered.head, rendered.body, rendered.subject, rendered.base_subject):
        assert "\0" not in text
        text.encode()


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus_renders_well_formed(name: str) -> None:
    check(load(name))


PIECES = [
    b"From: ",
    b"To: ",
    b"Subject: ",
    b"References: <a@b> <c",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Type: ",
    b"Content-Disposition: ",
    b"Content-Language: a, ,b",
    b"attachment; filename*0*=utf-8''%41; x",
    b'"',
    b"\\",
    b"(",
    b"<a@b>",
    b"group:;",
    b",",
    b"\r\n",
    b"\r\n\r\n",
    b"--b\r\n",
    b"--b--",
    b"\0",
    b"\r",
    b"\xff",
    b"=?utf-8?b?w6Q=?=",
    b"x" * 1000,
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join) | st.binary())
def test_whatever_comes_renders_well_formed(octets: bytes) -> None:
    check(octets)


# ENVELOPE -------------------------------------------------------------------------------------------------------------


def test_a_summary() -> None:
    octets = (
        b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n"
        b"From: Terry Gray <gray@cac.washington.edu>\r\n"
        b"Subject: IMAP4rev2 WG mtg summary and minutes\r\n"
        b"To: imap@cac.washington.edu\r\n"
        b"cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n"
        b"Message-Id: <B27397-0100000@cac.washington.ed>\r\n"
        b"\r\n"
    )
    # The example of RFC 9051 §7.5.2.
    assert render(octets).summary == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev2 WG mtg summary and minutes" '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) (("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) ((NIL NIL "imap" "cac.washington.edu")) '
        b'((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL '
        b'"<B27397-0100000@cac.washington.ed>")'
    )


def envelope(header: bytes) -> list[Value]:
    return as_list(read(render(header + b"\r\n\r\n").summary))


def test_what_is_absent_is_nil_and_what_is_empty_is_an_empty_string() -> None:
    assert envelope(b"Subject:") == [None, b"", None, None, None, None, None, None, None, None]
    assert envelope(b"X: y") == [None] * 10
    assert envelope(b"To:")[5] is None


def test_sender_and_reply_to_default_to_from() -> None:
    fields = envelope(b"From: a@b\r\nReply-To:\r\nSender: c@d")
    assert fields[2] == [[None, None, b"a", b"b"]]
    assert fields[3] == [[None, None, b"c", b"d"]]
    assert fields[4] == fields[2]


def test_groups_are_opened_and_closed() -> None:
    assert envelope(b"To: Friends: a@b, c@d;, e@f")[5] == [
        [None, None, b"Friends", None],
        [None, None, b"a", b"b"],
        [None, None, b"c", b"d"],
        [None, None, None, None],
        [None, None, b"e", b"f"],
    ]


def test_encoded_words_stay_and_octets_above_127_are_literals() -> None:
    fields = envelope(b"Subject: =?utf-8?q?=C3=A4?=\r\nFrom: \xc3\xa4 <a@b>")
    assert fields[1] == b"=?utf-8?q?=C3=A4?="
    assert fields[2] == [["ä".encode(), None, b"a", b"b"]]
    assert b"{2}\r\n" in render(b"From: \xc3\xa4 <a@b>\r\n\r\n").summary


def test_a_field_that_stands_there_twice_is_one_list() -> None:
    assert envelope(b"To: a@b\r\nTo: c@d")[5] == [[None, None, b"a", b"b"], [None, None, b"c", b"d"]]


def test_addresses_without_a_domain_are_no_groups() -> None:
    assert envelope(b"From: root")[2] == [[None, None, b"root", b"MISSING_DOMAIN"]]
    assert envelope(b"From: Only A Name")[2] == [[b"Only A Name", None, b"MISSING_MAILBOX", b"MISSING_DOMAIN"]]


def test_a_route_is_shown_apart() -> None:
    assert envelope(b"To: <@x.test:a@b>")[5] == [[None, b"@x.test", b"a", b"b"]]


# BODYSTRUCTURE --------------------------------------------------------------------------------------------------------


def test_structures() -> None:
    assert render(load("plain_ascii")).structure == (
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 42 6 NIL NIL NIL NIL)'
    )
    assert render(load("inline_image_related")).structure == (
        b'(("text" "html" ("charset" "utf-8") NIL NIL "7bit" 135 0 NIL NIL NIL NIL)'
        b'("image" "png" ("name" "pic.png") "<pic@x>" NIL "base64" 12 "Q2hlY2sgSW50ZWdyaXR5IQ==" ("inline" NIL) '
        b'("en" "de") "http://example.org/pic.png") '
        b'"related" ("boundary" "r" "type" "text/html") NIL NIL NIL)'
    )
    assert render(load("forwarded_plain_message")).structure == (
        b'("message" "rfc822" NIL NIL NIL "7bit" 51 (NIL "inner" ((NIL NIL "b" "example.org")) '
        b'((NIL NIL "b" "example.org")) ((NIL NIL "b" "example.org")) NIL NIL NIL NIL NIL) '
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 12 1 NIL NIL NIL NIL) 4 NIL NIL NIL NIL)'
    )


def test_body_lacks_what_extends_it() -> None:
    octets = load("inline_image_related")
    assert body(octets, scan(octets)) == (
        b'(("text" "html" ("charset" "utf-8") NIL NIL "7bit" 135 0)'
        b'("image" "png" ("name" "pic.png") "<pic@x>" NIL "base64" 12) "related")'
    )


def test_continued_parameters_are_joined_and_charset_parameters_kept() -> None:
    assert b'("filename" "long-name.bin" "size" "5")' in render(load("rfc2231_continued_filename")).structure
    assert b'"filename*" "utf-8\'\'%e2%82%ac%20rates.pdf"' in render(load("rfc2231_charset_filename")).structure


# the rest -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain_ascii", False),
        ("inline_image_related", False),
        ("multipart_signed_pgp", False),
        ("html_only_newsletter", False),
        ("delivery_report_of_another_mta", False),
        ("forwarded_message_with_attachment", True),
        ("boundary_is_prefix_of_another", True),
        ("rfc2047_in_filename", True),
        ("multipart_without_closing_delimiter", True),
    ],
)
def test_attachments(name: str, expected: bool) -> None:
    assert render(load(name)).has_attachment == expected


def test_ids_dates_and_subjects() -> None:
    rendered = render(load("references_obsolete_phrases"))
    assert rendered.message_id == "no-brackets@example.org"
    assert rendered.references == ("b@example.org", "a@example.org")
    assert rendered.subject == "Re: [list] Fwd: Re[2]: topic (fwd)"
    assert rendered.base_subject == "topic"
    assert rendered.sent_at is None
    assert render(load("plain_ascii")).sent_at == 1_763_718_904_000
    assert render(load("encoded_words_split_character")).subject == "日本Grüße and a bäx"


def test_references_are_bounded_to_the_first_and_the_nearest() -> None:
    octets = (
        b"References: " + b" ".join(b"<%d@x>" % number for number in range(500)) + b"\r\nIn-Reply-To: <new@x>\r\n\r\n"
    )
    references = render(octets).references
    assert len(references) == REFERENCES
    assert (references[0], references[-2], references[-1]) == ("0@x", "499@x", "new@x")


@pytest.mark.parametrize(
    ("subject", "base"),
    [
        ("topic", "topic"),
        ("Re: topic", "topic"),
        ("RE : Fwd: FW:topic", "topic"),
        ("[list] topic", "topic"),
        ("Re: [list] topic", "topic"),
        ("[list] [other] Re[3]: topic", "topic"),
        ("[only a blob]", "[only a blob]"),
        ("Re: [only a blob]", "[only a blob]"),
        ("topic (fwd)", "topic"),
        ("topic (FWD) (fwd)", "topic"),
        ("[fwd: topic]", "topic"),
        ("[Fwd: Re: topic (fwd)]", "topic"),
        ("Re:", ""),
        ("  a \t b  ", "a b"),
        ("Reply: topic", "Reply: topic"),
        ("forward: topic", "forward: topic"),
        ("", ""),
    ],
)
def test_base_subjects(subject: str, base: str) -> None:
    assert base_subject(subject)[0] == base


@given(st.lists(st.sampled_from(["re", "fwd", "FW", ":", "[", "]", " ", "(fwd)", "x", "[fwd:"])).map("".join))
def test_a_base_subject_is_its_own_base(subject: str) -> None:
    base, _ = base_subject(subject)
    assert base_subject(base) == (base, False)


def test_subjects_made_to_take_long_do_not() -> None:
    for piece in ("re:", "[", "[a]", "[fwd:", "(fwd)", "re[", "[a] "):
        base_subject(piece * 100_000)


def test_a_large_mapped_message_costs_little_memory(tmp_path: Path) -> None:
    """25 MB in a file, with a long text in front: peak memory stays below 5 MB (tracemalloc sees every copy)."""
    line = b"A line of text that goes on and on, and is followed by others.\r\n"
    head = b"From: a@example.org\r\nSubject: big\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
    file = tmp_path / "large"
    with file.open("wb") as written:
        written.write(head + line * 50_000)
        written.write(b"--b\r\nContent-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n")
        for _ in range(22):
            written.write((b"A" * 76 + b"\r\n") * 13_443)
        written.write(b"--b--\r\n")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        tracemalloc.start()
        rendered = render(mapped)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert Header.parse(mapped).first(b"subject") == b"big"
    assert rendered.size > 25_000_000
    assert rendered.body.startswith("a line of text")
    assert peak < 5_000_000


def test_what_is_kept_of_people_and_text_is_short_and_told_again_alike() -> None:
    def rendered(sender: str, charset: str) -> Rendered:
        header = f"From: {sender}\r\nTo: Bob <bob@example.org>\r\nContent-Type: text/plain; charset={charset}\r\n"
        return render(f"{header}\r\nText\r\n".encode())

    once = rendered("Eve Twice <eve@twice.example>", "x-twice")
    before = summary._known.cache_info(), summary._text_kind.cache_info()
    assert rendered("Eve Twice <eve@twice.example>", "x-twice") == once
    after = summary._known.cache_info(), summary._text_kind.cache_info()
    assert [new.hits - old.hits for old, new in zip(before, after, strict=True)] == [2, 1]
    long = "x" * summary._KNOWN_LENGTH
    found = rendered(f"{long} <eve@twice.example>", long)
    assert long.encode() in found.summary
    assert long.encode() in found.structure
    # Neither was looked for: what is long is not kept.
    after = summary._known.cache_info(), summary._text_kind.cache_info()
    assert [new.misses - old.misses for old, new in zip(before, after, strict=True)] == [0, 0]
