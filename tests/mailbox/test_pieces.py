"""Columns in pieces behave as lists, share what has not changed, and never change."""

from array import array
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.mailbox.pieces import SIZE, Pieces

LENGTHS = st.sampled_from([0, 1, 7, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE, 3 * SIZE + 5])


def made(values: Sequence[int], cut: int = SIZE) -> Pieces:
    """Of arrays that are so long, whatever a piece's length is."""
    return Pieces([array("q", values[start : start + cut]) for start in range(0, len(values), cut)])


@settings(max_examples=50)
@given(
    length=LENGTHS, cut=st.sampled_from([SIZE, 1000, 4 * SIZE]), start=st.integers(-5, 9000), stop=st.integers(-5, 9000)
)
def test_they_read_as_a_list(length: int, cut: int, start: int, stop: int) -> None:
    values = list(range(length))
    column = made(values, cut)
    assert (len(column), list(column), column == made(values)) == (length, values, True)
    assert column[start:stop].tolist() == values[start:stop]
    assert column[start:stop:3].tolist() == values[start:stop:3]
    places = range(max(start, 0), min(max(stop, 0), length), 7)
    assert column.at(places) == [values[place] for place in places]
    if -length <= start < length:
        assert column[start] == values[start]
    else:
        with pytest.raises(IndexError):
            column[start]


@settings(max_examples=50)
@given(length=LENGTHS, data=st.data())
def test_changes_make_another(length: int, data: st.DataObject) -> None:
    values = list(range(length))
    places = data.draw(st.lists(st.integers(0, length - 1), unique=True, max_size=5)) if length else []
    more = [-number for number in range(data.draw(st.sampled_from([0, 1, SIZE, 2 * SIZE + 1])))]
    column = made(values)
    later = column.changed([(place, -5) for place in sorted(places)], more)
    expected = [-5 if place in places else value for place, value in enumerate(values)] + more
    assert (list(later), list(column)) == (expected, values)
    assert column.differing(later, length) == sorted(places)
    assert list(later.changed([], [9])) == [*expected, 9]


@settings(max_examples=50)
@given(length=LENGTHS, data=st.data())
def test_runs_are_what_is_left(length: int, data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.integers(0, length - 1), max_size=5)) if length else set()
    edges = [-1, *sorted(gone), length]
    runs = [(one + 1, other) for one, other in pairwise(edges) if other > one + 1]
    column = made(range(length))
    left = column.without(runs)
    assert list(left) == [value for value in range(length) if value not in gone]
    # What is made of it stands on pieces of the right length again.
    assert list(left.changed([], [1, 2])) == [*left, 1, 2]


def test_what_has_not_changed_is_shared() -> None:
    column = made(range(4 * SIZE))
    flag = column.changed([(SIZE + 1, -1)])
    assert [one is other for one, other in zip(column._pieces, flag._pieces, strict=True)] == [True, False, True, True]
    assert column.changed([], [1])._pieces[3] is column._pieces[3]
    shorter = column.without([(0, 2 * SIZE + 3), (2 * SIZE + 4, 4 * SIZE)])
    assert [one is other for one, other in zip(column._pieces, shorter._pieces, strict=True)] == [
        True,
        True,
        False,
        False,
    ]


@settings(max_examples=50)
@given(length=LENGTHS, start=st.integers(0, 4 * SIZE), count=st.integers(0, 3 * SIZE))
def test_values_are_put_in_the_place_of_others(length: int, start: int, count: int) -> None:
    start = min(start, length)
    values = array("q", range(-1, -1 - min(count, length - start), -1))
    column = made(range(length))
    later = column.put(start, values)
    expected = list(range(length))
    expected[start : start + len(values)] = values
    assert (list(later), list(column), len(later)) == (expected, list(range(length)), length)
    assert later == made(expected)
