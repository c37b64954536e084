"""DEFLATE over a connection: what is packed comes out, in bounded pieces, whatever the splits."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.net.compression import MOST, Broken, Deflate


def packed(octets: bytes, *, ends: bool = False) -> bytes:
    """As a client sends it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(octets) + packer.flush(zlib.Z_FINISH if ends else zlib.Z_SYNC_FLUSH)


def unpacked(deflate: Deflate) -> bytes:
    """All that can be had of what has come."""
    found = []
    while octets := deflate.unpack():
        found.append(octets)
    return b"".join(found)


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 50))
def test_what_arrives_comes_out(pieces: list[bytes], size: int) -> None:
    came, deflate, found = packed(b"".join(pieces)), Deflate(), b""
    for start in range(0, len(came), size):
        deflate.take(came[start : start + size])
        found += unpacked(deflate)
    assert found == b"".join(pieces)


@given(st.lists(st.lists(st.binary(max_size=200), max_size=4), max_size=6), st.lists(st.booleans(), min_size=6))
def test_each_write_can_be_read_at_once(writes: list[list[bytes]], forgets: list[bool]) -> None:
    deflate, reader = Deflate(), zlib.decompressobj(-15)
    for pieces, forget in zip(writes, forgets, strict=False):
        assert reader.decompress(deflate.pack(pieces)) == b"".join(pieces)
        if forget:
            deflate.forget()


@given(st.binary(max_size=100))
def test_nothing_but_its_own_error(octets: bytes) -> None:
    deflate = Deflate()
    deflate.take(octets)
    try:
        unpacked(deflate)
    except Broken:
        return


@pytest.mark.parametrize("size", [MOST - 1, MOST, MOST + 1, 3 * MOST, 50_000_000])
def test_a_read_gives_no_more_than_so_much(size: int) -> None:
    deflate = Deflate()
    deflate.take(packed(bytes(size)))
    found = 0
    while octets := deflate.unpack():
        assert len(octets) <= MOST
        found += len(octets)
    assert found == size
    assert not deflate.pending


def test_what_repeats_itself_becomes_small() -> None:
    deflate = Deflate()
    lines = [b"* %d FETCH (UID %d FLAGS (\\Seen))\r\n" % (n, n + 7) for n in range(2000)]
    assert len(deflate.pack(lines)) < len(b"".join(lines)) / 4


def test_the_end_of_what_was_packed() -> None:
    deflate = Deflate()
    deflate.take(packed(b"bye", ends=True) + b"plain")
    assert deflate.unpack() == b"bye"
    assert deflate.ended
    assert deflate.unpack() == b""
    assert deflate.rest() == b"plain"
    assert deflate.rest() == b""
