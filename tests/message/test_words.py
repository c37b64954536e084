from email.header import Header as StandardHeader

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message.words import decode_words


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        (b"", ""),
        # RFC 2047 §8
        (b"=?ISO-8859-1?Q?a?= b", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=  =?ISO-8859-2?Q?_b?=", "a b"),
        (b"=?ISO-8859-1?Q?a_b?=", "a b"),
        (b"x =?utf-8?b?w6Q=?= y", "x ä y"),
        # lenient: a character cut in two, no padding, a language (RFC 2231 §5), a space inside, words that touch
        (b"=?utf-8?q?=C3?= =?UTF-8?b?pA==?=", "ä"),
        (b"=?utf-8?b?w6Q?=", "ä"),
        (b"=?utf-8*de?q?=C3=A4?=", "ä"),
        (b"=?utf-8?q?a b?=", "a b"),
        (b"=?utf-8?q?a?==?utf-8?q?b?=", "ab"),
        (b"x=?utf-8?q?=C3=A4?=y", "xäy"),
        (b"=?gb2312?b?xOO6ww==?=", "你好"),
        (b"=?ks_c_5601-1987?b?vsiz5w==?=", "안녕"),
        (b"=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本"),
        # what is no encoded-word stays
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
        (b"=?utf-8?q?open", "=?utf-8?q?open"),
        (b"2+2=?4", "2+2=?4"),
        # octets above 127: UTF-8, else windows-1252
        (b"\xc3\xa4 =?utf-8?q?a?= \xe4", "ä a ä"),
        (b"=?no-such-charset?q?=E4?=", "ä"),
        # one line, whatever was encoded
        (b"=?utf-8?q?a=0D=0ABcc:_x=00?=", "a Bcc: x "),
    ],
)
def test_words(raw: bytes, text: str) -> None:
    assert decode_words(raw) == text


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])))
def test_what_the_standard_library_encodes_is_read(text: str) -> None:
    encoded = StandardHeader(text, "utf-8", maxlinelen=76).encode().replace("\n", "")
    assert decode_words(encoded.encode()) == text


@given(
    st.lists(
        st.sampled_from(
            [b"=?", b"?=", b"?", b"utf-8", b"utf-7", b"utf-16", b"q", b"b", b"=", b"+2AA-", b"a", b" ", b"\xe4"]
        )
    )
)
def test_never_raises_and_can_be_stored(pieces: list[bytes]) -> None:
    decode_words(b"".join(pieces)).encode()
