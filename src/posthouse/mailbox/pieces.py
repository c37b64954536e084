"""A column of numbers in pieces that later columns share: who changes one number of a million copies one piece.

Promises: a column never changes; an index and a slice of it cost what those of an array cost, about. Refuses: to take
numbers out of its middle other than by being made anew from there on.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, overload

# Numbers of a piece: 16 KB.
_BITS: Final = 11
SIZE: Final = 1 << _BITS
_WITHIN: Final = SIZE - 1


class Pieces(Sequence[int]):
    """Numbers of 64 bits with a sign, given in arrays that nobody else changes. A slice is an array of its own."""

    __slots__ = ("_length", "_pieces")

    def __init__(self, parts: "Sequence[array[int]]") -> None:
        self._length = sum(map(len, parts))
        if [len(part) for part in parts] != [min(SIZE, self._length - start) for start in range(0, self._length, SIZE)]:
            whole = array("q", b"".join(parts))
            parts = [whole[start : start + SIZE] for start in range(0, len(whole), SIZE)]
        self._pieces = tuple(parts)

    @classmethod
    def _of(cls, pieces: "tuple[array[int], ...]", length: int) -> "Pieces":
        made = cls.__new__(cls)
        made._pieces, made._length = pieces, length
        return made

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> "array[int]": ...

    def __getitem__(self, index: int | slice) -> "int | array[int]":
        if isinstance(index, slice):
            start, stop, step = index.indices(self._length)
            return self._slice(start, stop) if step == 1 else self._slice(0, self._length)[index]
        if index < 0:
            index += self._length
        # Only the last piece is short: beyond it there is no piece, or nothing in it.
        if index < 0:
            raise IndexError("before the first number")
        return self._pieces[index >> _BITS][index & _WITHIN]

    def at(self, indices: Iterable[int]) -> list[int]:
        """The numbers at these indices, none of which is below zero or beyond the last."""
        pieces = self._pieces
        return [pieces[index >> _BITS][index & _WITHIN] for index in indices]

    def _slice(self, start: int, stop: int) -> "array[int]":
        if start >= stop:
            return array("q")
        first, last = start >> _BITS, (stop - 1) >> _BITS
        if first == last:
            return self._pieces[first][start & _WITHIN : ((stop - 1) & _WITHIN) + 1]
        found = self._pieces[first][start & _WITHIN :]
        for piece in self._pieces[first + 1 : last]:
            found += piece
        found += self._pieces[last][: ((stop - 1) & _WITHIN) + 1]
        return found

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._pieces)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pieces) and self._pieces == other._pieces

    def changed(self, changes: Sequence[tuple[int, int]], more: Sequence[int] = ()) -> "Pieces":
        """The column with these values at these indices, which ascend, and `more` behind it."""
        pieces = list(self._pieces)
        mine = -1
        for index, value in changes:
            number = index >> _BITS
            if number != mine:
                pieces[number], mine = pieces[number][:], number
            pieces[number][index & _WITHIN] = value
        length = self._length
        if more:
            tail = pieces.pop()[:] if length & _WITHIN else array("q")
            tail.extend(more)
            pieces += [tail[start : start + SIZE] for start in range(0, len(tail), SIZE)]
            length += len(more)
        return self._of(tuple(pieces), length)

    def put(self, start: int, values: "array[int]") -> "Pieces":
        """The column with these values, one behind the other, from an index on; none lies beyond its end."""
        if not values:
            return self
        stop = start + len(values)
        first, last = start >> _BITS, (stop - 1) >> _BITS
        whole = self._pieces[first][: start & _WITHIN] + values + self._pieces[last][((stop - 1) & _WITHIN) + 1 :]
        new = [whole[at : at + SIZE] for at in range(0, len(whole), SIZE)]
        return self._of((*self._pieces[:first], *new, *self._pieces[last + 1 :]), self._length)

    def without(self, runs: Sequence[tuple[int, int]]) -> "Pieces":
        """What stands in these ranges of indices (from, up to), which ascend and do not touch: pieces that nothing in
        front of them is missing from are shared."""
        shared = min(runs[0][1] if runs and not runs[0][0] else 0, self._length) >> _BITS
        rest = array("q")
        for start, stop in runs:
            rest += self._slice(max(start, shared << _BITS), stop)
        made = Pieces([rest])
        return self._of((*self._pieces[:shared], *made._pieces), (shared << _BITS) + len(rest))

    def differing(self, other: "Pieces", upto: int) -> list[int]:
        """The indices below `upto` where another column has another number."""
        found: list[int] = []
        for number, (mine, theirs) in enumerate(zip(self._pieces, other._pieces, strict=False)):
            if mine is theirs or mine == theirs:
                continue
            start = number << _BITS
            if start >= upto:
                break
            found += [index for index, (one, two) in enumerate(zip(mine, theirs, strict=False), start) if one != two]
        return found[: bisect_left(found, upto)]
