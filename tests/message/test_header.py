import itertools
import mmap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.limits import HEADER_FIELDS, HEADER_SIZE
from posthouse.message.header import (
    Header,
    message_ids,
    parameter,
    parse_parameters,
    unfold,
)
from tests.message.corpus import NAMES, load

MESSAGE = b"Subject: one\r\n two\r\nTO : a\r\nX:\r\nto:b\r\n\r\nbody: no field\r\n"


def test_fields_have_their_exact_octets() -> None:
    header = Header.parse(MESSAGE)
    assert [field.name for field in header.fields] == [b"subject", b"to", b"x", b"to"]
    assert [header.octets(field) for field in header.fields] == [
        b"Subject: one\r\n two\r\n",
        b"TO : a\r\n",
        b"X:\r\n",
        b"to:b\r\n",
    ]
    assert MESSAGE[header.end :] == b"body: no field\r\n"
    assert MESSAGE[header.fields[1].value : header.fields[1].end] == b" a\r\n"


def test_values_are_unfolded_and_found_by_name() -> None:
    header = Header.parse(MESSAGE)
    assert header.first(b"subject") == b"one two"
    assert header.first(b"to") == b"a"
    assert header.all(b"to") == [b"a", b"b"]
    assert header.first(b"x") == b""
    assert header.first(b"cc") is None
    assert header.all(b"cc") == []
    assert (header.count(b"to"), header.count(b"cc")) == (2, 0)


def test_offsets_count_from_the_buffer() -> None:
    header = Header.parse(b"junk\r\n" + MESSAGE, 6)
    assert header.start == 6
    assert header.fields[0].start == 6
    assert header.first(b"subject") == b"one two"
    assert header.end == 6 + MESSAGE.index(b"body")


@pytest.mark.parametrize(
    ("octets", "end", "names"),
    [
        (b"", 0, []),
        (b"\r\n", 2, []),
        (b"\n", 1, []),
        (b"\r\nbody", 2, []),
        (b"A: b", 4, [b"a"]),
        (b"A: b\r\n", 6, [b"a"]),
        (b"A: b\n\nbody", 6, [b"a"]),
        (b"A: b\n\r\nbody\r\n\r\n", 7, [b"a"]),
        (b"A: b\r\n\nbody", 7, [b"a"]),
        (b" folded first\r\nA: b\r\n\r\n", 23, [b"a"]),
        (b"no colon\r\nA: b\r\n\r\n", 18, [b"", b"a"]),
    ],
)
def test_where_a_header_ends(octets: bytes, end: int, names: list[bytes]) -> None:
    header = Header.parse(octets)
    assert header.end == end
    assert [field.name for field in header.fields] == names


def test_a_part_s_header_does_not_reach_past_its_part() -> None:
    octets = b"A: b\r\n--boundary\r\n\r\n"
    assert Header.parse(octets, 0, 6).end == 6


def test_a_line_of_an_mbox_file_is_no_field() -> None:
    header = Header.parse(load("mbox_from_line"))
    assert [field.name for field in header.fields] == [b"", b"from", b"", b"subject"]
    assert header.first(b"subject") == b"after junk"


def test_more_fields_than_the_limit_are_not_known() -> None:
    octets = load("header_bomb_many_fields")
    header = Header.parse(octets)
    assert len(header.fields) == HEADER_FIELDS
    assert header.first(b"subject") is None
    assert header.octets(header.fields[-1]) == b"X-1999: 1999\r\n"
    assert octets[header.end :] == b"body\r\n"


def test_a_header_larger_than_the_limit_still_ends_where_it_ends() -> None:
    octets = b"A: " + b"x" * HEADER_SIZE + b"\r\nSubject: s\r\n\r\nbody"
    header = Header.parse(octets)
    assert octets[header.end :] == b"body"
    assert header.first(b"subject") is None


def test_continuation_lines_are_bounded_too() -> None:
    octets = b"A: b\r\n" + b" \r\n" * 50_000 + b"Subject: s\r\n\r\nbody"
    header = Header.parse(octets)
    assert octets[header.end :] == b"body"
    assert header.first(b"subject") is None


def test_a_mapped_file_and_a_view_read_alike(tmp_path: Path) -> None:
    file = tmp_path / "message"
    file.write_bytes(MESSAGE)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert Header.parse(mapped).fields == Header.parse(MESSAGE).fields
    assert Header.parse(memoryview(MESSAGE)).fields == Header.parse(MESSAGE).fields
    assert Header.parse(memoryview(b"xx" + MESSAGE)[2:]).fields == Header.parse(MESSAGE).fields


@given(
    st.lists(st.sampled_from([b"a", b":", b" ", b"\t", b"\r\n", b"\n", b"\r", b"A: b\r\n", b"\0", b"\xff"])).map(
        b"".join
    )
)
def test_fields_follow_each_other_without_gap(octets: bytes) -> None:
    header = Header.parse(octets)
    fields = header.fields
    assert all(left.end == right.start for left, right in itertools.pairwise(fields))
    assert all(field.start <= field.value <= field.end <= header.end for field in fields)
    assert header.end <= len(octets)
    for field in fields:
        assert header.octets(field) == octets[field.start : field.end]


@given(st.binary())
def test_a_header_never_raises(octets: bytes) -> None:
    header = Header.parse(octets)
    for field in header.fields:
        header.value(field)


def test_unfolding() -> None:
    assert unfold(b" a\r\n\tb\n c \r\n") == b"a\tb c"


# parameters -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "value", "parameters"),
    [
        (b"text/plain", b"text/plain", ()),
        (b"text/plain; charset=utf-8", b"text/plain", ((b"charset", b"utf-8"),)),
        (b'text/plain; Charset="utf-8" ;name = x', b"text/plain", ((b"charset", b"utf-8"), (b"name", b"x"))),
        (b'a; b="c;d\\"e\\\\"', b"a", ((b"b", b'c;d"e\\'),)),
        (b'a; b="unclosed; c=d', b"a", ((b"b", b"unclosed; c=d"),)),
        (b"a; b=my file.pdf; c=d", b"a", ((b"b", b"my file.pdf"), (b"c", b"d"))),
        (b'a (x; y=z); b="(no comment)"; c=d(e)', b"a", ((b"b", b"(no comment)"), (b"c", b"d"))),
        (b"a;;; b; =c; d=", b"a", ((b"d", b""),)),
        (b"", b"", ()),
    ],
)
def test_parameters(raw: bytes, value: bytes, parameters: tuple[tuple[bytes, bytes], ...]) -> None:
    assert parse_parameters(raw) == (value, parameters)


@pytest.mark.parametrize(
    ("raw", "name", "text"),
    [
        # RFC 2231 §3 and §4.1, its own examples
        (b'm/e; url*0="ftp://"; url*1="cs.utk.edu/pub"', b"url", "ftp://cs.utk.edu/pub"),
        (b"a/x; title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A", b"title", "This is ***fun***"),
        (
            b"a/x; title*0*=us-ascii'en'This%20is%20even%20more%20; title*1*=%2A%2A%2Afun%2A%2A%2A%20;"
            b' title*2="isn\'t it!"',
            b"title",
            "This is even more ***fun*** isn't it!",
        ),
        (b"a/x; f*1=b; f*0=a; f*2=c", b"f", "abc"),
        (b"a/x; f*0*=utf-8''100%25; f*1=%; f*2*=%c3%a4", b"f", "100%%ä"),
        (b"a/x; f=plain; f*=utf-8''%c3%a4", b"f", "ä"),
        (b"a/x; f*=no-quotes%41", b"f", "no-quotesA"),
        (b'a/x; f="=?utf-8?q?=C3=A4?="', b"f", "ä"),
        (b"a/x; f=\xc3\xa4", b"f", "ä"),
        (b"a/x; f=first; f=second", b"f", "first"),
        (b"a/x", b"f", None),
    ],
)
def test_decoded_parameters(raw: bytes, name: bytes, text: str | None) -> None:
    assert parameter(parse_parameters(raw)[1], name) == text


@given(
    st.lists(st.sampled_from([b";", b"*", b"=", b'"', b"'", b"\\", b"a", b"0", b"1", b"%", b"%41", b"(", b")", b" "]))
)
def test_parameters_never_raise(pieces: list[bytes]) -> None:
    _, parameters = parse_parameters(b"x;" + b"".join(pieces))
    for name, _ in parameters:
        parameter(parameters, name)
        parameter(parameters, name.rstrip(b"*"))


# message-ids ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "ids"),
    [
        (b"<a@b>", ["a@b"]),
        (b"<a@b> (comment) <c@d>\t<e@f>", ["a@b", "c@d", "e@f"]),
        (b"a@b", ["a@b"]),
        (b'Your message of "Monday" <a@b>', ["a@b"]),
        (b"Your message of Monday", []),
        (b"Your message to me@example.org", []),
        (b"<no space allowed@x>", []),
        (b"", []),
    ],
)
def test_message_ids(raw: bytes, ids: list[str]) -> None:
    assert message_ids(raw) == ids


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus_has_headers(name: str) -> None:
    octets = load(name)
    header = Header.parse(octets)
    assert 0 <= header.end <= len(octets)
