import base64
import email
import mmap
import quopri
import tracemalloc
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.limits import MIME_DEPTH, MIME_PARTS
from posthouse.message.mime import (
    Part,
    decode_body,
    decode_pieces,
    decoded_size,
    find,
    header_of,
    pack,
    scan,
    section,
    unpack,
    walk,
)
from tests.message.corpus import NAMES, load


def shape(part: Part) -> object:
    """Types as nested lists: what one sees at a glance."""
    if part.children:
        return [part.subtype, *map(shape, part.children)]
    if part.message is not None:
        return {part.subtype: shape(part.message)}
    return f"{part.type}/{part.subtype}"


def bodies(name: str) -> list[bytes]:
    octets = load(name)
    return [
        octets[part.body_start : part.end] for part in walk(scan(octets)) if not part.children and part.message is None
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain_ascii", "text/plain"),
        ("empty", "text/plain"),
        ("only_an_empty_line", "text/plain"),
        ("header_without_empty_line", "text/plain"),
        ("content_type_unreadable", "text/plain"),
        ("content_type_with_comments", "text/plain"),
        ("multipart_without_boundary", "text/plain"),
        ("multipart_boundary_never_appears", "text/plain"),
        ("bare_lf_line_endings", ["mixed", "text/plain", "text/html"]),
        ("boundary_is_prefix_of_another", ["mixed", ["alternative", "text/plain", "text/html"], "text/x-patch"]),
        ("multipart_without_closing_delimiter", ["mixed", "text/plain", "application/pdf"]),
        ("multipart_inner_not_closed", ["mixed", ["alternative", "text/plain"], "text/plain"]),
        ("multipart_nested_same_boundary", ["mixed", "text/plain", "text/plain"]),
        ("multipart_empty_parts", ["mixed", "text/plain", "text/plain", "text/plain", "text/plain"]),
        ("multipart_padded_delimiters", ["mixed", "text/plain", "text/plain"]),
        ("lookalike_delimiters", ["mixed", "text/plain"]),
        ("forwarded_plain_message", {"rfc822": "text/plain"}),
        (
            "forwarded_message_with_attachment",
            ["mixed", "text/plain", {"rfc822": ["mixed", "text/plain", "application/pdf"]}],
        ),
        ("digest_parts_are_messages", ["digest", {"rfc822": "text/plain"}, "text/plain"]),
        ("inline_image_related", ["related", "text/html", "image/png"]),
    ],
)
def test_shapes(name: str, expected: object) -> None:
    assert shape(scan(load(name))) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("boundary_is_prefix_of_another", [b"plain", b"<b>html</b>", b"--abcx is no delimiter"]),
        ("multipart_without_closing_delimiter", [b"first", b"SGVsbG8g\r\nd29ybGQ=\r\n"]),
        ("multipart_inner_not_closed", [b"plain", b"second"]),
        ("multipart_empty_parts", [b"", b"", b"", b""]),
        ("multipart_padded_delimiters", [b"one", b"two"]),
        ("bare_lf_line_endings", [b"one", b"<p>two</p>"]),
        ("multipart_nested_same_boundary", [b"", b"inner"]),
    ],
)
def test_the_line_ending_before_a_delimiter_belongs_to_it(name: str, expected: list[bytes]) -> None:
    assert bodies(name) == expected


def test_lines_are_those_that_end_in_the_body() -> None:
    assert scan(load("plain_ascii")).lines == 6
    root = scan(load("forwarded_message_with_attachment"))
    assert [part.lines for part in root.children] == [0, 18]


def test_what_a_part_says_of_itself() -> None:
    picture = scan(load("inline_image_related")).children[1]
    assert picture.id == b"<pic@x>"
    assert picture.location == b"http://example.org/pic.png"
    assert picture.language == b"en, de"
    assert picture.md5 == b"Q2hlY2sgSW50ZWdyaXR5IQ=="
    assert (picture.disposition, picture.is_attachment) == (b"inline", False)
    assert (picture.encoding, picture.filename) == (b"base64", "pic.png")
    assert scan(load("charset_iso_2022_jp")).charset == "ISO-2022-JP"


@pytest.mark.parametrize(
    ("name", "filename"),
    [
        ("rfc2231_continued_filename", "long-name.bin"),
        ("rfc2231_charset_filename", "€ rates.pdf"),
        ("rfc2047_in_filename", "übersicht.pdf"),
        ("filename_unquoted_with_spaces", "my own file.pdf"),
        ("plain_ascii", None),
    ],
)
def test_filenames(name: str, filename: str | None) -> None:
    assert scan(load(name)).filename == filename


def test_depth_is_bounded() -> None:
    for name in ("deep_nesting_multipart", "deep_nesting_messages"):
        parts = list(walk(scan(load(name))))
        assert len(parts) == MIME_DEPTH + 1
        assert (parts[-1].type, parts[-1].subtype) == ("application", "octet-stream")


def test_the_number_of_parts_is_bounded() -> None:
    assert len(list(walk(scan(load("many_parts"))))) == MIME_PARTS


def test_work_is_bounded() -> None:
    """Lines that look like delimiters end the search, not the server's patience: what is left is one part."""
    octets = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + b"--bx\n" * 200_000 + b"--b\r\n\r\nlast\r\n"
    )
    root = scan(octets)
    assert len(root.children) == 1
    assert root.children[0].end == len(octets)


@pytest.mark.parametrize("name", NAMES)
def test_packing_gives_the_same_tree(name: str) -> None:
    root = scan(load(name))
    assert unpack(pack(root)) == root
    assert header_of(pack(root)) == slice(root.header_start, root.body_start)


# sections -------------------------------------------------------------------------------------------------------------

FORWARDED = "forwarded_message_with_attachment"


def text_of(name: str, path: list[int], what: str) -> bytes | None:
    octets = load(name)
    found = section(scan(octets), path, what)
    return None if found is None else octets[found[0] : found[1]]


def test_sections_of_a_nested_message() -> None:
    """RFC 9051 §6.4.5.1"""
    whole = load(FORWARDED)
    header, _, body = whole.partition(b"\r\n\r\n")
    assert text_of(FORWARDED, [], "") == whole
    assert text_of(FORWARDED, [], "HEADER") == header + b"\r\n\r\n"
    assert text_of(FORWARDED, [], "TEXT") == body
    assert text_of(FORWARDED, [1], "") == b"See below."
    assert text_of(FORWARDED, [1], "MIME") == b"\r\n"
    assert text_of(FORWARDED, [1], "HEADER") is None
    inner_header = text_of(FORWARDED, [2], "HEADER")
    inner_text = text_of(FORWARDED, [2], "TEXT")
    assert inner_header is not None
    assert inner_text is not None
    assert inner_header.startswith(b"From: Carol")
    assert inner_text.startswith(b"--in\r\n")
    assert text_of(FORWARDED, [2], "") == inner_header + inner_text
    assert text_of(FORWARDED, [2, 1], "") == b"Gr=C3=BC=C3=9Fe"
    assert text_of(FORWARDED, [2, 2], "") == b"JVBERi0xLjQK"
    mime = text_of(FORWARDED, [2, 2], "MIME")
    assert mime is not None
    assert mime.startswith(b"Content-Type: application/pdf")
    for path in ([0], [3], [1, 1], [2, 3], [2, 1, 1]):
        assert text_of(FORWARDED, path, "") is None
    assert text_of(FORWARDED, [], "MIME") is None


def test_sections_of_messages_without_multipart() -> None:
    assert text_of("plain_ascii", [1], "") == text_of("plain_ascii", [], "TEXT")
    assert text_of("plain_ascii", [1], "MIME") == text_of("plain_ascii", [], "HEADER")
    assert text_of("plain_ascii", [2], "") is None
    assert text_of("plain_ascii", [1, 1], "") is None
    assert text_of("forwarded_plain_message", [1], "HEADER") == b"From: b@example.org\r\nSubject: inner\r\n\r\n"
    assert text_of("forwarded_plain_message", [1, 1], "") == b"inner text\r\n"
    assert text_of("forwarded_plain_message", [1, 2], "") is None


def test_a_nested_multipart_is_a_part_too() -> None:
    root = scan(load("boundary_is_prefix_of_another"))
    assert find(root, [1]) is root.children[0]
    assert find(root, [1, 2]) is root.children[0].children[1]
    assert find(root, [2]) is root.children[1]
    assert find(root, []) is root


# decoding -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base64_without_padding", b"Hello world"),
        ("base64_with_trailing_text", b"Hello"),
        ("quoted_printable_broken", "a=b =zz ä soft line = end".encode()),
        ("rfc2047_in_filename", b"x"),
    ],
)
def test_bodies_are_decoded_as_far_as_they_go(name: str, expected: bytes) -> None:
    octets = load(name)
    root = scan(octets)
    assert decode_body(octets, root) == expected
    assert decoded_size(octets, root) == len(expected)


# against the standard library -----------------------------------------------------------------------------------------


@dataclass
class Made:
    """A well-formed part that a test wrote."""

    type: str
    encoding: str = "7bit"
    content: bytes = b""
    parts: list["Made"] = field(default_factory=list)

    def octets(self, name: str, version: bytes = b"") -> bytes:
        if self.type.startswith("multipart/"):
            boundary = f"=_{name}"
            head = f'Content-Type: {self.type};\r\n boundary="{boundary}"\r\n'.encode() + version + b"\r\n"
            delimiter = b"--" + boundary.encode()
            inner = b"".join(
                delimiter + b"\r\n" + part.octets(f"{name}.{number}") + b"\r\n"
                for number, part in enumerate(self.parts)
            )
            return head + inner + delimiter + b"--\r\n"
        if self.type == "message/rfc822":
            return (
                b"Content-Type: message/rfc822\r\n"
                + version
                + b"\r\n"
                + self.parts[0].octets(name, b"MIME-Version: 1.0\r\n")
            )
        coded = {"base64": base64.encodebytes, "quoted-printable": quopri.encodestring}.get(self.encoding, bytes)(
            self.content
        )
        if self.encoding in ("base64", "quoted-printable"):
            coded = coded.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        head = f"Content-Type: {self.type}\r\nContent-Transfer-Encoding: {self.encoding}\r\n".encode()
        return head + version + b"\r\n" + coded


LINES = st.lists(st.text("abc -=.", max_size=20).map(str.encode), max_size=5).map(b"\r\n".join)
LEAVES = st.one_of(
    st.builds(Made, st.sampled_from(["text/plain", "text/html", "text/x-odd"]), st.just("7bit"), LINES),
    st.builds(
        Made,
        st.sampled_from(["application/pdf", "image/png", "text/plain"]),
        st.just("base64"),
        st.binary(max_size=200),
    ),
    st.builds(Made, st.just("text/plain"), st.just("quoted-printable"), LINES),
)


def grow(children: st.SearchStrategy[Made]) -> st.SearchStrategy[Made]:
    kinds = st.sampled_from(["multipart/mixed", "multipart/alternative", "multipart/related", "multipart/x-own"])
    return st.one_of(
        st.builds(lambda kind, parts: Made(kind, parts=parts), kinds, st.lists(children, min_size=1, max_size=4)),
        st.builds(lambda inner: Made("message/rfc822", parts=[inner]), children),
    )


def assert_same(octets: bytes, part: Part, message: Message) -> None:
    assert f"{part.type}/{part.subtype}" == message.get_content_type()
    if part.children:
        assert message.is_multipart()
        inner = message.get_payload()
        assert isinstance(inner, list)
        assert len(inner) == len(part.children)
        for child, other in zip(part.children, inner, strict=True):
            assert isinstance(other, Message)
            assert_same(octets, child, other)
    elif part.message is not None:
        other = message.get_payload(0)
        assert isinstance(other, Message)
        assert_same(octets, part.message, other)
    else:
        assert decode_body(octets, part) == message.get_payload(decode=True)


@settings(max_examples=150)
@given(st.recursive(LEAVES, grow, max_leaves=12))
def test_well_formed_mail_reads_as_the_standard_library_reads_it(made: Made) -> None:
    octets = b"Subject: made\r\n" + made.octets("b", b"MIME-Version: 1.0\r\n")
    assert_same(octets, scan(octets), email.message_from_bytes(octets))


PIECES = [
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"Content-Type: multipart/digest; boundary=bb\r\n",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"\r\n",
    b"\n",
    b"--b\r\n",
    b"--b--\r\n",
    b"--bb\n",
    b"--bb--",
    b"--",
    b"text",
    b"\r",
    b"\0",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join))
def test_parts_lie_in_order_inside_what_holds_them(octets: bytes) -> None:
    root = scan(octets)
    assert (root.header_start, root.end) == (0, len(octets))
    for part in walk(root):
        assert part.header_start <= part.body_start <= part.end
        at = part.body_start
        for child in part.children:
            assert child.header_start >= at
            at = child.end
        assert at <= part.end
        if part.message is not None:
            assert (part.message.header_start, part.message.end) == (part.body_start, part.end)
        decode_body(octets, part)


# large ones -----------------------------------------------------------------------------------------------------------


def test_a_large_mapped_message_costs_little_memory(tmp_path: Path) -> None:
    head = b"Subject: big\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsmall\r\n--b\r\n"
    head += b"Content-Type: video/mp4\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    file = tmp_path / "large"
    with file.open("wb") as written:
        written.write(head)
        for _ in range(25):
            written.write((b"A" * 76 + b"\r\n") * 13_443)
        written.write(b"\r\n--b--\r\n")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        tracemalloc.start()
        root = scan(mapped)
        size = sum(len(piece) for piece in decode_pieces(mapped, root.children[1]))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert root.end > 25_000_000
    assert shape(root) == ["mixed", "text/plain", "video/mp4"]
    assert size == 25 * 13_443 * 57
    assert peak < 2_000_000
