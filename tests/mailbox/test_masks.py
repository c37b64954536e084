"""Bits of whole columns."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailbox import masks
from posthouse.mailbox.model import DELETED, KEYWORDS

_BITS = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.lists(_BITS), _BITS, _BITS)
def test_a_column_is_changed_as_each_of_its_numbers_would_be(numbers: list[int], keep: int, add: int) -> None:
    column = array("q", numbers)
    assert masks.changed(column, keep, add).tolist() == [number & keep | add for number in numbers]
    assert column.tolist() == numbers


def test_flags() -> None:
    found = masks.changed(array("q", [0, 1, DELETED | 1, KEYWORDS]), KEYWORDS & ~1 | DELETED, 4)
    assert found.tolist() == [4, 4, DELETED | 4, KEYWORDS & ~1]
