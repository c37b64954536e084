"""Tags of members in the addresses that mail comes back to."""

from hypothesis import given
from hypothesis import strategies as st

from posthouse.directory.verp import Verp

NUMBERS = st.integers(1, 1 << 40)
PURPOSES = st.sampled_from(["bounces", "leave"])


@given(PURPOSES, NUMBERS)
def test_a_tag_is_read_back_whatever_becomes_of_its_case(purpose: str, number: int) -> None:
    tag = Verp(b"one").tag(purpose, number)
    assert len(tag) <= 21
    for written in (tag, tag.upper()):
        assert Verp(b"one").member(purpose, written) == number
    assert Verp(b"two").member(purpose, tag) is None


@given(NUMBERS)
def test_a_tag_serves_one_purpose(number: int) -> None:
    assert Verp(b"one").member("leave", Verp(b"one").tag("bounces", number)) is None


@given(PURPOSES, NUMBERS, st.text(max_size=20))
def test_nothing_else_is_read(purpose: str, number: int, text: str) -> None:
    verp = Verp(b"one")
    tag = verp.tag(purpose, number)
    for wrong in (
        text,
        "a" * 10 + text,
        f"{tag[:10]}{number + 1:x}",
        f"{tag[:10]}0{tag[10:]}",
        f"{tag[:10]} {tag[10:]}",
    ):
        assert verp.member(purpose, wrong) is None
