import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.limits import SEARCH_TEXT, TEXT_IN_PLACE
from posthouse.message.addresses import split_addresses
from posthouse.message.header import Header, decode_words
from posthouse.message.mime import Part, scan
from posthouse.message.text import (
    CUT,
    PREVIEW,
    address_text,
    body_text,
    fold,
    from_html,
    head_text,
    preview,
    preview_in_place,
    text_in_place,
    words,
)
from tests.message.corpus import NAMES, load


def search_text(octets: bytes, root: Part) -> tuple[str, str]:
    """What of a message is searched: its head, and its body."""
    header = Header.parse(octets, root.header_start, root.body_start)
    names = (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")
    split = {name: [item for raw in header.all(name) for item in split_addresses(raw)] for name in names}
    fields = {name: address_text(items) for name, items in split.items()}
    return head_text(header, decode_words(header.first(b"subject") or b""), fields), body_text(words(octets, root))


def body(name: str) -> str:
    octets = load(name)
    return search_text(octets, scan(octets))[1]


def shown(octets: bytes) -> str:
    return preview(octets, scan(octets))


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Hello  World\r\n\tagain ", "hello world again"),
        ("STRASSE Straße", "strasse strasse"),
        ("ＦＵＬＬ\u3000width", "full width"),
        ("e\u0301", "é"),
        ("a\0b", "ab"),
        # Compatibility forms of capitals.
        ("\U0001d407\U0001d41e\U0001d425\U0001d425\U0001d428 ㎒ ™", "hello mhz tm"),
        ("\u03d3 ſ \u212a", "\u03cd s k"),
        ("non\u00a0breaking", "non breaking"),
        ("", ""),
    ],
)
def test_folding(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_marks_without_end_take_linear_time() -> None:
    """Nothing is timed: normalising so many of them at once would take hours."""
    for marks in ("\u0315\u0300", "\u0f73\u0345", "a\u0315\u0300\u0344"):
        assert len(fold(f"e{marks * 500_000}x")) > 2
    assert fold("e" + "\u0301" * 10) == "\u00e9" + "\u0301" * 9


@given(st.text())
def test_what_was_folded_is_found_by_what_is_folded(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert fold(text.upper()) == fold(text.upper())
    assert "\n" not in fold(text)


def check_in_place(octets: bytes) -> int | None:
    root = scan(octets)
    at = text_in_place(octets, root)
    if at is not None:
        assert fold(octets[at:].decode("ascii")) == body_text(words(octets, root))
        assert preview_in_place(octets, root, at) == preview(octets, root)
    return at


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_in_place_is_what_would_be_taken_out(name: str) -> None:
    check_in_place(load(name))


@given(
    st.sampled_from(["", "; charset=utf-8", "; charset=iso-2022-jp", "; charset=utf-7", "; charset=nonsense"]),
    st.sampled_from(["", "7bit", "8bit", "base64", "quoted-printable", "x-other"]),
    st.binary(max_size=200).map(lambda octets: bytes(octet & 127 for octet in octets)) | st.binary(max_size=50),
)
def test_so_it_is_whatever_the_header_says(parameters: str, encoding: str, body: bytes) -> None:
    header = f"Content-Type: text/plain{parameters}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    check_in_place(header.encode() + body)


def test_what_does_not_stand_in_place() -> None:
    assert check_in_place(b"Subject: x\r\n\r\nHello\r\n") == 14
    for header in (
        "Content-Type: text/html",
        "Content-Type: text/plain; charset=us-ascii; name=a.txt",
        "Content-Disposition: attachment; filename=a.txt",
        "Content-Transfer-Encoding: base64",
        "Content-Type: text/plain; charset=utf-7",
    ):
        assert check_in_place(header.encode() + b"\r\n\r\nHello\r\n") is None, header
    for body in (b"a\0b", "Grüße".encode(), b"x" * TEXT_IN_PLACE):
        assert check_in_place(b"Subject: x\r\n\r\n" + body) is None


def test_head_has_subject_addresses_and_names() -> None:
    octets = load("addresses_groups_and_comments")
    head, _ = search_text(octets, scan(octets))
    assert [line.split("\t") for line in head.split("\n")] == [
        ["groups"],
        ['alice "al" q. alice@example.org'],
        ["ed jones joe@where.test", "joe@where.test", "john jdoe@one.test", "a group", "undisclosed-recipients"],
        [""],
        ["pete pete@silly.test"],
        ["hidden recipients"],
        [""],
        ["bob (the) builder bob@example.org"],
    ]


def test_a_head_has_no_lines_behind_its_last_field() -> None:
    octets = b"From: a@example.org\r\nMessage-ID: <One@Example.org>\r\n\r\nx"
    assert search_text(octets, scan(octets))[0] == "\na@example.org\n\n<one@example.org>"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain_ascii", "hello bob, all is well. -- alice"),
        ("charset_iso_2022_jp", "日本語のテキスト"),
        ("charset_undeclared_8bit", "schöne grüsse aus köln, bis übermorgen"),
        ("charset_unknown_name", "grüsse"),
        ("charset_declared_latin1_is_windows", "„quoted“ – 5 €"),
        ("charset_utf7_with_surrogate", "hi \ufffd é"),
        ("base64_without_padding", "hello world"),
        ("boundary_is_prefix_of_another", "plain\nhtml\nfix.patch\n--abcx is no delimiter"),
        ("forwarded_message_with_attachment", "see below.\noriginal.eml\nthe report\ngrüsse\nreport.pdf"),
        ("inline_image_related", "look:\npic.png"),
        ("rfc2231_charset_filename", "€ rates.pdf"),
        ("multipart_boundary_never_appears", "only this text is here."),
        ("empty", ""),
    ],
)
def test_bodies(name: str, expected: str) -> None:
    assert body(name) == expected


@pytest.mark.parametrize(
    ("markup", "words"),
    [
        ("<p>one</p><p>two</p>", "one two"),
        ("one<br>two<td>three", "one two three"),
        ("H<b>el</b>l<span style='a:b'>o</span>", "Hello"),
        ("a &amp; b &lt;c&gt; &#228;&eacute;", "a & b <c> äé"),
        ("<style>p{}</style>a<SCRIPT>if (1 < 2) x()</SCRIPT>b<!-- c -->d", "a b d"),
        ("a<style>never closed", "a"),
        ("<img alt='a > b'>after", "after"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("<title>not this</title>this", "this"),
        ("&#99999999999999999999;x&#xffffffffffffffffff;", "x"),
        ("<p", ""),
        ("", ""),
    ],
)
def test_html(markup: str, words: str) -> None:
    assert from_html(markup).split() == words.split()


@given(
    st.lists(
        st.sampled_from(
            ["<", ">", "/", "p", "b", " ", '"', "'", "<!--", "-->", "<style>", "</style>", "&", "#", "9", ";", "\ud800"]
        )
    )
)
def test_html_never_raises(pieces: list[str]) -> None:
    from_html("".join(pieces)).encode()


@pytest.mark.parametrize(
    "markup", ["<div>", "<a '", '<a "', "<a x=", "<", "&#", "<!--", "<style>", "<b ", "&abcdefghij", "<a \"'"]
)
def test_made_html_takes_linear_time(markup: str) -> None:
    """Nothing is timed: quadratic time over a megabyte would not end before the suite's time limit."""
    from_html(markup * (1_000_000 // len(markup)))


# preview --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain_ascii", "Hello Bob, all is well."),
        ("quoted_reply", "Good to hear."),
        ("html_only_newsletter", "Preheader One Two Tom & Jérôme here"),
        ("multipart_signed_pgp", "Signed text."),
        ("multipart_nested_same_boundary", "inner"),
        ("rfc2231_charset_filename", ""),
        ("empty", ""),
    ],
)
def test_previews(name: str, expected: str) -> None:
    assert shown(load(name)) == expected


def test_a_preview_is_short() -> None:
    text = shown(b"\r\n" + b"word " * 200)
    assert len(text) == PREVIEW
    assert text.endswith("…")


def test_a_message_of_nothing_but_quotation_shows_it() -> None:
    assert shown(b"\r\n> only\r\n> this\r\n") == "> only > this"


def test_letters_that_turn_the_text_around_are_left_out() -> None:
    assert shown(b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + "a\u202egpj.exe\x07b".encode()) == "agpj.exeb"


def test_plain_text_is_shown_before_html() -> None:
    octets = (
        b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>html</p>\r\n"
        b"--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n--b--\r\n"
    )
    assert shown(octets) == "plain"


# bounds ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [b"7bit", b"base64", b"quoted-printable"])
@pytest.mark.parametrize("kind", [b"plain", b"html"])
def test_text_is_bounded(encoding: bytes, kind: bytes) -> None:
    part = b"Content-Type: text/%b; charset=utf-8\r\nContent-Transfer-Encoding: %b\r\n\r\n" % (kind, encoding)
    octets = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    for letter in b"abc":
        octets += b"--b\r\n" + part + bytes([letter]) * 4 * SEARCH_TEXT + b"\r\n"
    head, text = search_text(octets, scan(octets))
    assert head == ""
    assert len(text) <= SEARCH_TEXT
    assert text.endswith(CUT)


@pytest.mark.parametrize("line", [b"a  b\r\n", b"word\r\n\r\n", b"<p>\r\n", b"\xc3\xa4\r\n"])
@pytest.mark.parametrize("kind", [b"plain", b"html"])
def test_text_that_was_cut_says_so_however_short_it_became(line: bytes, kind: bytes) -> None:
    part = b"Content-Type: text/%b; charset=utf-8\r\n\r\n" % kind
    for lines in (SEARCH_TEXT // len(line) + 1, SEARCH_TEXT // len(line) - 1):
        octets = part + line * lines
        assert search_text(octets, scan(octets))[1].endswith(CUT) is (lines * len(line) > SEARCH_TEXT)


def test_a_character_cut_by_the_limit_does_not_change_the_charset() -> None:
    octets = b"\r\n" + "ä".encode() * SEARCH_TEXT
    assert set(search_text(octets, scan(octets))[1]) == {"ä", CUT}
    octets = b"\r\n" + b"x" + "ä".encode() * SEARCH_TEXT
    assert set(search_text(octets, scan(octets))[1]) == {"x", "ä", CUT}


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("cp1251", "привет, как дела сегодня? завтра будет хорошая погода."),
        ("koi8_r", "привет, как дела сегодня? завтра будет хорошая погода."),
        ("cp932", "日本語のテキスト、こんにちは。今日はいい天気です。"),
        ("cp1252", "größe"),
        ("cp1253", "καλημέρα κόσμε, τι κάνεις; όλα καλά."),
    ],
)
def test_undeclared_text_is_guessed(charset: str, text: str) -> None:
    octets = b"\r\n" + text.encode(charset)
    assert search_text(octets, scan(octets))[1] == text.casefold()


def test_the_octets_read_are_bounded_in_all() -> None:
    part = b"--b\r\nContent-Type: text/html\r\n\r\n" + b"<p class=long>" * 20_000 + b"\r\n"
    octets = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 8 + b"--b\r\n\r\nlast\r\n--b--\r\n"
    root = scan(octets)
    assert len(root.children) == 9
    assert "last" not in search_text(octets, root)[1]


@pytest.mark.parametrize("name", NAMES)
def test_all_text_can_be_stored(name: str) -> None:
    octets = load(name)
    root = scan(octets)
    head, text = search_text(octets, root)
    assert "\0" not in head + text
    (head + text + preview(octets, root)).encode()


@given(st.binary())
def test_never_raises(octets: bytes) -> None:
    root = scan(octets)
    search_text(octets, root)
    preview(octets, root)


@given(st.binary(), st.sampled_from([b"utf-8", b"utf-7", b"iso-2022-jp", b"utf-16", b"x-none", b"hz"]), st.booleans())
def test_never_raises_whatever_the_charset(content: bytes, charset: bytes, html: bool) -> None:
    octets = b"Content-Type: text/%b; charset=%b\r\n\r\n%b" % (b"html" if html else b"plain", charset, content)
    root = scan(octets)
    head, text = search_text(octets, root)
    (head + text + preview(octets, root)).encode()
