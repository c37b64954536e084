import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.limits import HEADER_ADDRESSES
from posthouse.message.addresses import Group, Mailbox, RawGroup, RawMailbox, parse_addresses, split_addresses


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a@b.example", [("", "a@b.example")]),
        ("<a@b.example>", [("", "a@b.example")]),
        ("Alice Liddell <a@b.example>", [("Alice Liddell", "a@b.example")]),
        ('"Liddell, Alice" <a@b.example>, c@d.example', [("Liddell, Alice", "a@b.example"), ("", "c@d.example")]),
        ("a@b.example,c@d.example,", [("", "a@b.example"), ("", "c@d.example")]),
        ("=?utf-8?q?J=C3=B6rg?= <a@b.example>", [("Jörg", "a@b.example")]),
        ('"=?utf-8?q?J=C3=B6rg?=" <a@b.example>', [("Jörg", "a@b.example")]),
        ("Jörg <jörg@münchen.example>", [("Jörg", "jörg@münchen.example")]),
        # RFC 5322 appendix A.1.2, A.5, A.6
        ('"Joe Q. Public" <john.q.public@example.com>', [("Joe Q. Public", "john.q.public@example.com")]),
        ("Who? <one@y.test>", [("Who?", "one@y.test")]),
        ('"Giant; \\"Big\\" Box" <sysservices@example.net>', [('Giant; "Big" Box', "sysservices@example.net")]),
        ("Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", [("Pete", "pete@silly.test")]),
        ("Joe Q. Public <john.q.public@example.com>", [("Joe Q. Public", "john.q.public@example.com")]),
        ("jdoe@test   . example", [("", "jdoe@test.example")]),
        ("Mary Smith <@node.test,@other.test:mary@example.net>", [("Mary Smith", "mary@example.net")]),
        (", , a@b.example, ,", [("", "a@b.example")]),
        ('"john doe"@b.example', [("", "john doe@b.example")]),
        ("a@[192.0.2.1]", [("", "a@[192.0.2.1]")]),
        # names in comments, and what broken mail makes
        ("a@b.example (Alice (Al) L.)", [("Alice (Al) L.", "a@b.example")]),
        ("John Smith john@example.org", [("John Smith", "john@example.org")]),
        ("root", [("", "root")]),
        ("Alice Liddell", [("Alice Liddell", "")]),
        ("Alice <a@b.example", [("Alice", "a@b.example")]),
        ("Alice <<a@b.example>>", [("Alice", "a@b.example")]),
        ("", []),
    ],
)
def test_mailboxes(raw: str, expected: list[tuple[str, str]]) -> None:
    found = parse_addresses(raw.encode())
    assert all(isinstance(item, Mailbox) for item in found)
    assert [(item.name, item.address) for item in found if isinstance(item, Mailbox)] == expected


def test_groups() -> None:
    raw = b"A Group:Ed Jones <joe@where.test>,john@one.test;, x@y.test, undisclosed-recipients:;"
    assert parse_addresses(raw) == [
        Group("A Group", (Mailbox("Ed Jones", "joe", "where.test"), Mailbox("", "john", "one.test"))),
        Mailbox("", "x", "y.test"),
        Group("undisclosed-recipients", ()),
    ]


def test_a_group_that_is_not_closed_ends_with_the_field() -> None:
    assert split_addresses(b"G: a@b, c@d") == [
        RawGroup(b"G", [RawMailbox(None, None, b"a", b"b"), RawMailbox(None, None, b"c", b"d")])
    ]


def test_the_route_is_kept_apart() -> None:
    assert split_addresses(b"<@one.test,@two.test:a@b.test>") == [
        RawMailbox(None, b"@one.test,@two.test", b"a", b"b.test")
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b"a@b.example," + b" " * 65_536 + b"x",
        b"a@" + b"()" * 32_768 + b"x",
        b"<" + b"a " * 16_384 + b"@" + b"," * 32_768,
        b"a " * 16_384 + b"@" + b":" * 32_768,
    ],
    ids=["white space", "comments", "commas", "colons"],
)
def test_made_fields_take_linear_time(raw: bytes) -> None:
    # 64 KB each; where a token costs what came before it, one of them takes a minute.
    assert split_addresses(raw)


def test_the_number_is_bounded() -> None:
    assert len(split_addresses(b"a@b," * (HEADER_ADDRESSES + 10))) == HEADER_ADDRESSES
    assert len(split_addresses(b"a@b(x)," * (HEADER_ADDRESSES + 10))) == HEADER_ADDRESSES


PIECES = [
    b"a",
    b"@",
    b"<",
    b">",
    b"(",
    b")",
    b'"',
    b"\\",
    b",",
    b";",
    b":",
    b".",
    b" ",
    b"[",
    b"]",
    b"\xff",
    b"=?utf-8?q?x?=",
]


@given(st.lists(st.sampled_from(PIECES)).map(b"".join) | st.binary())
def test_never_raises(raw: bytes) -> None:
    for item in parse_addresses(raw):
        for mailbox in item.members if isinstance(item, Group) else [item]:
            f"{mailbox.name}{mailbox.address}".encode()


NAME = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters='"\\=?'), max_size=20)
ATOM = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-", min_size=1, max_size=10)


@given(st.lists(st.tuples(NAME, ATOM, ATOM), max_size=4))
def test_quoted_names_come_back(people: list[tuple[str, str, str]]) -> None:
    raw = ", ".join(f'"{name}" <{local}@{domain}>' for name, local, domain in people).encode()
    assert parse_addresses(raw) == [Mailbox(name, local, domain) for name, local, domain in people]
