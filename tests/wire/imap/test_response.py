"""What a server says: strings that nothing breaks out of, and octets as the RFCs show them."""

import email.utils
from array import array
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.wire.imap import response
from posthouse.wire.imap.grammar import Parser
from posthouse.wire.imap.response import Code

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        (b"", b'""'),
        (b"a b", b'"a b"'),
        (b'a"b\\', b'"a\\"b\\\\"'),
        (b"a\r\nb", b"{4}\r\na\r\nb"),
        (b"\xff", b"{1}\r\n\xff"),
        (b"x" * 1000, b"{1000}\r\n" + b"x" * 1000),
    ],
)
def test_string(value: bytes, octets: bytes) -> None:
    assert response.string(value) == octets


def test_nstring_and_astring() -> None:
    assert response.nstring(None) == b"NIL"
    assert response.nstring(b"NIL") == b'"NIL"'
    assert response.astring(b"INBOX") == b"INBOX"
    assert response.astring(b"nil") == b'"nil"'
    assert response.astring(b"a b") == b'"a b"'
    assert response.astring(b"") == b'""'


@given(st.binary(max_size=40).filter(lambda octets: b"\0" not in octets))
def test_a_string_is_read_as_it_was_written(value: bytes) -> None:
    for written in (response.string(value), response.astring(value), response.nstring(value)):
        parser = Parser(written)
        assert parser.astring() == value
        parser.end()


@given(NAMES, st.booleans())
def test_a_mailbox_is_read_as_it_was_written(name: str, utf8: bool) -> None:
    parser = Parser(response.mailbox(name, utf8=utf8), utf8=utf8)
    assert parser.mailbox() == ("INBOX" if len(name) == 5 and name.upper() == "INBOX" else name)
    parser.end()


@given(st.text(), st.sampled_from([b"", b"ALERT"]))
def test_a_status_line_is_one_line(text: str, code: bytes) -> None:
    line = response.status_line(b"a1", b"NO", text, code)
    assert line.endswith(b"\r\n")
    assert line.count(b"\n") == line.count(b"\r") == 1
    assert line.isascii()


def test_status_lines() -> None:
    assert response.ok("Searched", Code.CLOSED) == b"* OK [CLOSED] Searched\r\n"
    assert response.no("careful") == b"* NO careful\r\n"
    assert response.bye("") == b"* BYE -\r\n"
    assert response.status_line(b"7", b"OK", "done", response.uidnext(4392)) == b"7 OK [UIDNEXT 4392] done\r\n"


def test_codes_with_arguments() -> None:
    assert response.capability_code([b"IMAP4rev2", b"IDLE"]) == b"CAPABILITY IMAP4rev2 IDLE"
    assert response.permanent_flags([b"\\Seen", b"\\*"]) == b"PERMANENTFLAGS (\\Seen \\*)"
    assert response.uidvalidity(3857529045) == b"UIDVALIDITY 3857529045"
    assert response.unseen(12) == b"UNSEEN 12"
    assert response.appenduid(38505, [3955]) == b"APPENDUID 38505 3955"
    # RFC 4315 §4's example.
    assert response.copyuid(38505, [304, 319, 320], [3956, 3957, 3958]) == b"COPYUID 38505 304,319:320 3956:3958"


def test_untagged_data() -> None:
    assert response.capability([b"IMAP4rev2"]) == b"* CAPABILITY IMAP4rev2\r\n"
    assert response.enabled([]) == b"* ENABLED\r\n"
    assert response.enabled([b"IMAP4rev2"]) == b"* ENABLED IMAP4rev2\r\n"
    assert response.exists(23) == b"* 23 EXISTS\r\n"
    assert response.recent(5) == b"* 5 RECENT\r\n"
    assert response.expunge(44) == b"* 44 EXPUNGE\r\n"
    assert response.expunges([3, 4, 7]) == b"* 7 EXPUNGE\r\n* 4 EXPUNGE\r\n* 3 EXPUNGE\r\n"
    assert response.flags([b"\\Answered", b"\\Seen"]) == b"* FLAGS (\\Answered \\Seen)\r\n"
    assert response.identity({"name": "posthouse", "version": None}) == b'* ID ("name" "posthouse" "version" NIL)\r\n'
    assert response.identity({}) == b"* ID NIL\r\n"
    assert response.numbers_start(b"SEARCH") + response.numbers_end() == b"* SEARCH\r\n"


def test_namespace() -> None:
    assert response.namespace([("", "/")], utf8=False) == b'* NAMESPACE (("" "/")) NIL NIL\r\n'
    others = response.namespace([("", "/")], [("Other Users/", "/")], utf8=False)
    assert others == b'* NAMESPACE (("" "/")) (("Other Users/" "/")) NIL\r\n'
    assert response.namespace([], utf8=False) == b"* NAMESPACE NIL NIL NIL\r\n"


def test_list() -> None:
    assert response.listed("Sent", [b"\\Sent", b"\\HasNoChildren"], utf8=False) == (
        b'* LIST (\\Sent \\HasNoChildren) "/" "Sent"\r\n'
    )
    assert response.listed("日本語", [], utf8=False) == b'* LIST () "/" "&ZeVnLIqe-"\r\n'
    assert response.listed("日本語", [], utf8=True) == '* LIST () "/" "日本語"\r\n'.encode()
    assert response.listed("", [b"\\Noselect"], utf8=False, delimiter=None, command=b"LSUB") == (
        b'* LSUB (\\Noselect) NIL ""\r\n'
    )
    # RFC 9051 §6.3.9.8's examples.
    assert response.listed("Fruit", [], utf8=True, childinfo=[b"SUBSCRIBED"]) == (
        b'* LIST () "/" "Fruit" ("CHILDINFO" ("SUBSCRIBED"))\r\n'
    )
    assert response.listed("new", [], utf8=True, oldname="old") == b'* LIST () "/" "new" ("OLDNAME" ("old"))\r\n'


def test_a_url_that_leads_nowhere() -> None:
    # RFC 4469 §5: url-resp-text holds no "]".
    assert response.bad_url(b"/a b];\xff\r\n%5D") == b"BADURL /a b%5D;%FF%0D%0A%5D"
    assert len(response.bad_url(b"x" * 100_000)) < 600


def test_status() -> None:
    assert response.status("blurdybloop", [(b"MESSAGES", b"231"), (b"MAILBOXID", b"(F1)")], utf8=False) == (
        b'* STATUS "blurdybloop" (MESSAGES 231 MAILBOXID (F1))\r\n'
    )


def test_esearch() -> None:
    items = [(b"MIN", b"2"), (b"COUNT", b"3")]
    assert response.esearch(b"A282", uid=False, items=items) == b'* ESEARCH (TAG "A282") MIN 2 COUNT 3\r\n'
    assert (
        response.esearch(b"A283", uid=True, items=[(b"ALL", b"2,10:11")])
        == b'* ESEARCH (TAG "A283") UID ALL 2,10:11\r\n'
    )
    assert response.esearch(b"A285", uid=False, items=[]) == b'* ESEARCH (TAG "A285")\r\n'
    assert response.esearch(b"A286", uid=True, items=items[:1], mailbox_name=b"INBOX", validity=7) == (
        b'* ESEARCH (TAG "A286" MAILBOX INBOX UIDVALIDITY 7) UID MIN 2\r\n'
    )


def test_codes_of_searches() -> None:
    assert response.noupdate(b"A1") == b'NOUPDATE "A1"'
    assert response.inprogress(b"A1", 5, 10) == b'INPROGRESS ("A1" 5 10)'
    # RFC 9585 §4: a tag with a bracket is not told.
    assert response.inprogress(b"A]1", 5, 10) == b"INPROGRESS (NIL 5 10)"
    assert response.undefined_filter("old") == b"UNDEFINED-FILTER old"
    assert response.numbers_start(b"SORT") + b" 5 2" + response.numbers_end(17) == b"* SORT 5 2 (MODSEQ 17)\r\n"


def test_fetch_lines() -> None:
    number, value, literal = response.number_form, response.value_form, response.literal_form
    form = response.fetch_form([number(b"UID"), value(b"FLAGS"), literal(b"BODY[HEADER.FIELDS (%d)]")])
    rows = [(1, 7, b"(\\Seen)", 3, b"a\r\n"), (2, 9, b"()", 0, b"")]
    assert response.fetch_lines(form, rows) == (
        b"* 1 FETCH (UID 7 FLAGS (\\Seen) BODY[HEADER.FIELDS (%d)] {3}\r\na\r\n)\r\n"
        b"* 2 FETCH (UID 9 FLAGS () BODY[HEADER.FIELDS (%d)] {0}\r\n)\r\n"
    )
    assert response.fetch_lines(form, []) == b""
    assert response.fetch_lines(response.fetch_form([value(b"100%")], response.UIDFETCH), [(3, b"x")]) == (
        b"* 3 UIDFETCH (100% x)\r\n"
    )
    assert response.fetch(12, b"FLAGS ()") == b"* 12 FETCH (FLAGS ())\r\n"


@given(
    st.one_of(
        st.builds(lambda start, count: range(start, start + count), st.integers(1, 12_000), st.integers(0, 2300)),
        st.builds(lambda last, count: range(last, last - count, -1), st.integers(3000, 12_000), st.integers(0, 2300)),
        st.lists(st.integers(1, 1 << 32), max_size=5),
        st.just(array("I", range(1500, 1700))),
    ),
    st.sampled_from([response.FETCH, response.UIDFETCH]),
)
@example(range(1000, 3500), response.FETCH)
@example(range(950, 1150), response.FETCH)
@example(range(3000, 1500, -1), response.FETCH)
def test_fetch_lines_of_columns(numbers: Sequence[int], word: bytes) -> None:
    """Numbers that follow each other are written otherwise, and come to the same."""
    form = response.fetch_form([response.number_form(b"UID"), response.value_form(b"100%d")], word)
    uids, texts = [7 * number for number in numbers], [b"(%d)" % (number % 3) for number in numbers]
    rows = zip(numbers, uids, texts, strict=True)
    lines = [b"* %d %b (UID %d 100%%d %b)\r\n" % (number, word, uid, text) for number, uid, text in rows]
    assert response.fetch_columns(form, numbers, [uids, iter(texts)]) == b"".join(lines)


@pytest.mark.parametrize("count", [1, 99, 150])
def test_columns_of_unequal_length_are_refused(count: int) -> None:
    form = response.fetch_form([response.number_form(b"UID"), response.number_form(b"RFC822.SIZE")])
    for uids in (range(count - 1), range(count + 1)):
        with pytest.raises(ValueError, match="assign sequence"):
            response.fetch_columns(form, range(1000, 1000 + count), [uids, range(count)])


def test_a_line_around_a_large_literal() -> None:
    before = [response.number_form(b"UID"), response.literal_start_form(b"BODY[]")]
    head, tail = response.fetch_halves(before, [response.value_form(b"FLAGS")])
    assert head % (1, 7, 500) == b"* 1 FETCH (UID 7 BODY[] {500}\r\n"
    assert tail % (b"()",) == b" FLAGS ())\r\n"
    assert response.fetch_halves(before, [], response.UIDFETCH)[1] == b")\r\n"


def test_a_body_is_not_copied() -> None:
    octets = memoryview(b"Subject: x\r\n\r\n" * 1000)
    pieces = [response.fetch_start(3), *response.body(b"BODY[]", octets), response.FETCH_END]
    assert pieces[2] is octets
    assert b"".join(pieces) == b"* 3 FETCH (BODY[] {14000}\r\n" + bytes(octets) + b")\r\n"
    assert response.binary_start(b"BINARY[1]", 3, nul=True) == b"BINARY[1] ~{3}\r\n"
    assert response.binary_start(b"BINARY[1]", 3, nul=False) == b"BINARY[1] {3}\r\n"


@given(st.integers(0, 253402300799))
def test_date_time(seconds: int) -> None:
    written = response.date_time(seconds * 1000 + 999)
    expected = datetime.fromtimestamp(seconds, UTC)
    assert len(written) == 28
    assert Parser(written).date_time() == seconds * 1000
    assert email.utils.parsedate_to_datetime(written.decode().strip('"').replace("-", " ")) == expected
