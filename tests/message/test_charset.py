import codecs
import email.charset
import encodings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message import charset
from posthouse.message.charset import codec, decode

ALL = sorted(set(charset._CODECS.values()))


@pytest.mark.parametrize(
    ("name", "python"),
    [
        ("utf-8", "utf_8"),
        ("UTF8", "utf_8"),
        ('"utf-8"', "utf_8"),
        ("US-ASCII", "ascii"),
        ("ANSI_X3.4-1968", "ascii"),
        ("ISO-8859-1", "cp1252"),
        ("latin1", "cp1252"),
        ("iso-8859-15", "iso8859_15"),
        ("ISO_8859-2", "iso8859_2"),
        ("Windows-1251", "cp1251"),
        ("cp1251", "cp1251"),
        ("gb2312", "gb18030"),
        ("GBK", "gb18030"),
        ("big5", "big5hkscs"),
        ("Shift_JIS", "cp932"),
        ("x-sjis", "cp932"),
        ("ks_c_5601-1987", "cp949"),
        ("euc-kr", "cp949"),
        ("koi8-r", "koi8_r"),
        ("iso-2022-jp", "iso2022_jp_ext"),
        ("tis-620", "cp874"),
        ("unknown-8bit", None),
        ("rot13", None),
        ("zlib", None),
        ("unicode_escape", None),
        ("idna", None),
        ("punycode", None),
        ("", None),
    ],
)
def test_names(name: str, python: str | None) -> None:
    assert codec(name) == python


def test_every_charset_that_the_standard_library_mails_with_is_known() -> None:
    assert [name for name in email.charset.CHARSETS if codec(name) is None] == ["viscii"]


def test_a_stranger_s_name_never_reaches_the_codec_registry() -> None:
    decode(b"x", "no-such-charset-at-all")
    assert "no_such_charset_at_all" not in encodings._cache  # what would grow for ever


@pytest.mark.parametrize("name", ALL)
def test_every_charset_in_the_table_is_python_s(name: str) -> None:
    assert codecs.lookup(name)


@given(st.binary(), st.sampled_from(ALL))
def test_whatever_the_octets_the_text_can_be_stored(octets: bytes, name: str) -> None:
    decode(octets, name).encode()


@given(st.text(max_size=20))
def test_any_name_is_answered(name: str) -> None:
    assert decode(b"abc", name)


def test_undeclared() -> None:
    assert decode("ä".encode()) == "ä"
    assert decode(b"\xe4\x80") == "ä€"
    assert decode("ä".encode(), "us-ascii") == "ä"


def test_utf7_lets_no_surrogate_through() -> None:
    assert decode(b"a+2AA-b", "utf-7") == "a\ufffdb"
    assert decode(b"+2D3cAA-", "utf-7") == "\U0001f400"
