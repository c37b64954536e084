"""Bits that are given to many numbers at once, and taken from them: a column's octets are gone through in their eight
places, in place of its numbers one by one.

Refuses: to know what the bits mean.
"""

import sys
from array import array
from functools import lru_cache
from typing import Final

_ALL: Final = (1 << 64) - 1


def changed(column: "array[int]", keep: int, add: int) -> "array[int]":
    """`number & keep | add` of each number of a column of 64 bits (typecode q)."""
    octets = bytearray(column.tobytes())
    for place, (kept, added) in enumerate(zip(_octets(keep), _octets(add), strict=True)):
        if (kept, added) != (255, 0):
            octets[place::8] = octets[place::8].translate(_table(kept, added))
    made = array("q")
    made.frombytes(octets)
    return made


def _octets(number: int) -> bytes:
    """As they stand in a column."""
    return (number & _ALL).to_bytes(8, sys.byteorder)


@lru_cache(maxsize=256)
def _table(kept: int, added: int) -> bytes:
    """What becomes of each octet."""
    return bytes([octet & kept | added for octet in range(256)])
