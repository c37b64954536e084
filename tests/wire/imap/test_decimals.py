"""Numbers as octets."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.wire.imap import decimals
from posthouse.wire.imap.decimals import MOST, Marked, pieces, spaced


def plain(numbers: Sequence[int]) -> bytes:
    return b"".join([b" %d" % number for number in numbers])


@given(st.lists(st.one_of(st.integers(0, 9), st.integers(0, MOST + 9), st.integers(0, (1 << 32) - 1))))
def test_numbers_are_written_as_they_are(numbers: list[int]) -> None:
    assert spaced(numbers) == plain(numbers)


def test_at_the_ends_of_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decimals, "_written", [])
    for some in ([1, 4095], [4096], [5000, 4095, 4097], [MOST - 1], [MOST], [MOST - 1, MOST]):
        assert spaced(some) == plain(some)
    assert len(decimals._written) == MOST


@given(st.lists(st.booleans()), st.sampled_from([1, 7, MOST]))
def test_what_is_marked(marked: list[bool], first: int) -> None:
    numbers = range(first, first + len(marked))
    expected = [number for number, mark in zip(numbers, marked, strict=True) if mark]
    made = Marked(numbers, bytes(marked))
    assert len(made) == len(expected)
    assert bool(made) == bool(expected)
    assert spaced(made) == plain(expected)
    assert b"".join(pieces(made)) == b"".join(pieces(expected)) == plain(expected)
    assert list(made) == made.found() == made[:] == expected
    assert [made[index] for index in range(len(made))] == expected


def test_many_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decimals, "_written", [])
    marks = bytes([number % 3 == 0 for number in range(1, MOST + 5)])
    for some in (marks[:100], marks[: MOST - 1], marks[:MOST], marks):
        numbers = range(1, len(some) + 1)
        expected = plain([number for number in numbers if number % 3 == 0])
        assert spaced(Marked(numbers, some)) == b"".join(pieces(Marked(numbers, some))) == expected
    assert len(list(pieces(range(2 * decimals.PIECE + 1)))) == 3
