"""Sorting in parts, against Python's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailbox import parted


@given(st.lists(st.tuples(st.integers(0, 9), st.integers())), st.booleans(), st.integers(1, 9), st.integers(1, 3))
def test_the_order_is_that_of_sorted(items: list[tuple[int, int]], reverse: bool, part: int, samples: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parted, "PART", part)
        patch.setattr(parted, "SAMPLES", samples)
        found = list(parted.parted(items, lambda item: item[0], reverse=reverse))
    assert [item for some in found for item in some] == sorted(items, key=lambda item: item[0], reverse=reverse)


def test_parts_are_small() -> None:
    found = list(parted.parted(range(100_000), lambda item: item * 7919 % 100_003))
    assert len(found) > 20
    assert max(map(len, found)) < 3 * parted.PART
