"""Sequence sets: read, resolved, written."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.wire.imap import sequence
from posthouse.wire.imap.sequence import STAR, SequenceSet

NUMBERS = st.lists(st.integers(1, 300), unique=True).map(sorted)
SETS = st.lists(
    st.tuples(st.integers(1, 50) | st.just(STAR), st.integers(1, 50) | st.just(STAR)).map(
        lambda pair: tuple(sorted(pair))
    ),
    min_size=1,
).map(lambda ranges: SequenceSet(tuple((low, high) for low, high in ranges)))


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        (b"1", ((1, 1),)),
        (b"2,4:7,9,12:*", ((2, 2), (4, 7), (9, 9), (12, STAR))),  # RFC 9051 §9
        (b"*:4,5:7", ((4, STAR), (5, 7))),
        (b"7:5", ((5, 7),)),
        (b"*", ((STAR, STAR),)),
        (b"4294967295", ((4294967295, 4294967295),)),
    ],
)
def test_parse(text: bytes, ranges: tuple[sequence.Range, ...]) -> None:
    assert sequence.parse(text) == SequenceSet(ranges)


def test_saved_result() -> None:
    assert sequence.parse(b"$") == SequenceSet((), saved=True)
    assert sequence.parse(b"1,$").octets() == b"1,$"


@pytest.mark.parametrize(
    "text", [b"", b"0", b"01", b"1:", b":1", b"1,,2", b"1,", b"4294967296", b"1:2:3", b"a", b"-1", b"1 ", b"**"]
)
def test_what_is_no_sequence_set(text: bytes) -> None:
    with pytest.raises(ValueError):
        sequence.parse(text)


@given(st.binary(max_size=20) | st.text("0123456789:*,$", max_size=20).map(str.encode))
def test_nothing_but_value_error(text: bytes) -> None:
    try:
        parsed = sequence.parse(text)
    except ValueError:
        return
    assert sequence.parse(parsed.octets()).ranges == parsed.ranges


@pytest.mark.parametrize(
    ("text", "largest", "expected"),
    [
        (b"1:*", 10, ((1, 10),)),
        (b"1:*", 0, ()),
        (b"559:*", 300, ((300, 300),)),  # RFC 9051 §9: always includes *
        (b"*", 7, ((7, 7),)),
        (b"*", 0, ()),
        (b"5,4,1:2,3", 10, ((1, 5),)),
        (b"5:100", 10, ((5, 10),)),
        (b"20:30", 10, ()),
        (b"*:4", 10, ((4, 10),)),
    ],
)
def test_resolve(text: bytes, largest: int, expected: tuple[sequence.Range, ...]) -> None:
    assert sequence.parse(text).resolve(largest) == expected


@given(SETS, st.integers(0, 60))
def test_resolve_is_the_set_it_says(numbers: SequenceSet, largest: int) -> None:
    wanted: set[int] = set()
    for low, high in numbers.ranges:
        ends = [largest if end == STAR else end for end in (low, high)]
        wanted |= set(range(min(ends), max(ends) + 1))
    resolved = numbers.resolve(largest)
    assert {n for low, high in resolved for n in range(low, high + 1)} == {n for n in wanted if 1 <= n <= largest}
    assert all(a[1] + 1 < b[0] for a, b in pairwise(resolved))


@given(NUMBERS)
def test_compress_is_read_as_it_was_meant(numbers: list[int]) -> None:
    written = sequence.compress(numbers)
    assert (sequence.parse(written).resolve(1000) if written else ()) == tuple(sequence.ranges_of(numbers))
    assert [n for low, high in sequence.ranges_of(numbers) for n in range(low, high + 1)] == numbers


@given(SETS)
def test_a_set_survives(numbers: SequenceSet) -> None:
    assert sequence.parse(numbers.octets()) == numbers


def test_compress_of_a_run() -> None:
    assert sequence.compress(range(1, 100_001)) == b"1:100000"
    assert sequence.compress([]) == b""
    assert sequence.compress([7]) == b"7"
