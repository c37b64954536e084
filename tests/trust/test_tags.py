from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.trust.tags import BadTags, parse_tags


def test_names_and_values_without_the_space_around_them() -> None:
    assert parse_tags(b"v=1; a = rsa-sha256 ;\r\n\th=From : To; b=ab=\r\n cd==;") == {
        "v": "1",
        "a": "rsa-sha256",
        "h": "From : To",
        "b": "ab=\r\n cd==",
    }
    assert parse_tags(b"p=") == {"p": ""}
    assert parse_tags(b"") == {}


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"v=1; v=1", "the tag v stands twice"),  # RFC 6376 §3.2
        (b"v=1;; a=b", "is no tag"),
        (b"just words", "is no tag"),
        (b"1a=b", "is no tag"),
        (b"v=\xff", "neither ASCII nor UTF-8"),
        (b"v=" + b"x" * (64 * 1024), "too long"),
    ],
)
def test_what_is_no_list(octets: bytes, why: str) -> None:
    with pytest.raises(BadTags, match=why):
        parse_tags(octets)


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=";"), max_size=10)


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_what_is_written_is_read(tags: dict[str, str]) -> None:
    assert parse_tags("; ".join(f"{name}={value}" for name, value in tags.items()).encode()) == tags


@given(st.binary(max_size=60) | st.text("ab=; \t\r\n\u00e9", max_size=30).map(str.encode))
def test_nothing_but_its_own_error(octets: bytes) -> None:
    with suppress(BadTags):
        parse_tags(octets)
