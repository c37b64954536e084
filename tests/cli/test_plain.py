import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.cli.plain import length, printable


@given(st.text())
def test_what_is_printed_steers_no_terminal(text: str) -> None:
    assert printable(text).isprintable()


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [
        (-5, "0.0 ms"), (0.84, "0.8 ms"), (12, "12 ms"), (1499, "1.5 s"), (42_000, "42 s"), (150_000, "2 min"),
        (3 * 3_600_000, "3 h"), (49 * 3_600_000, "2 d"),
    ],
)  # fmt: skip
def test_lengths(milliseconds: float, said: str) -> None:
    assert length(milliseconds) == said
