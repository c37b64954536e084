import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.terms.address import MAX_LOCAL, Address, BadAddress, parse, quoted_local
from posthouse.terms.text import is_line


@pytest.mark.parametrize("letter", ["a", '"', "\\", " ", "é"])
def test_the_longest_address_that_is_taken_can_be_read_again(letter: str) -> None:
    """A queue that cannot read one row back stands still."""
    local = quoted_local(letter * (MAX_LOCAL // len(letter.encode())))
    label = "".join(chr(0x4E00 + 101 * number) for number in range(14))
    longest = parse(f"{local}@{'.'.join([label] * 6)}")
    assert len(longest.domain) > 230
    assert parse(str(longest)) == longest


@given(st.text(max_size=80), st.sampled_from(["example.org", "[192.0.2.1]", "[IPv6:2001:db8::1]", "münchen.example"]))
def test_what_is_printed_parses_to_the_same(local: str, domain: str) -> None:
    for written in (local, quoted_local(local)):
        try:
            address = parse(f"{written}@{domain}")
        except BadAddress:
            continue
        assert parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "@",
        "@example.org",
        "a@",
        "a@.example.org",
        "a@example..org",
        "a@example.org.",
        "a b@example.org",
        "a@[127.0.0.1",
        "a@[127.1]",
        "a@[IPv6:fe80::1%eth0]",
        '"a@example.org',
        '"a"b@example.org',
        '"a\r\nb"@example.org',
        "a\0@example.org",
        "<a@example.org>",
        "a@example.org\n",
        "a\x80b@example.org",
        "a\x9fb@example.org",
        '"a\x7fb"@example.org',
        '"a\u2028b"@example.org',
        "a\u2029b@example.org",
        "a\ud800b@example.org",
        '"a\udcffb"@example.org',
        "@one.example:a@example.org",
        "a" * (MAX_LOCAL + 1) + "@example.org",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadAddress):
        parse(text)


@pytest.mark.parametrize("letter", ["\u200c", "\u200d", "\u200b", "\u3000", "\xa0", "\xad", "\U000e0041", "\ue000"])
def test_letters_that_nobody_sees_are_letters(letter: str) -> None:
    """RFC 6531 §3.3 takes all of UTF-8 beyond ASCII; Persian words hold U+200C."""
    assert parse(f"a{letter}b@example.org").local == f"a{letter}b"


@given(st.text(max_size=20))
def test_a_line_holds_what_utf8_can_write_in_one(text: str) -> None:
    controls = set(map(chr, [*range(32), *range(127, 160), 0x2028, 0x2029, *range(0xD800, 0xE000)]))
    assert is_line(text) == controls.isdisjoint(text)
    if is_line(text):
        assert text.encode().decode() == text
        assert len(text.splitlines()) <= 1


def test_quotes_that_say_nothing_are_taken_off() -> None:
    assert parse('"a.b"@Example.ORG') == Address("a.b", "example.org") == parse("a.b@example.org")
    assert parse('"a@b"@example.org') == Address("a@b", "example.org")
