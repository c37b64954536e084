"""DEFLATE over a connection (RFC 1951), as a Stream uses it once both sides have agreed to (RFC 4978 §3).

Promises: each write reaches the peer whole, however much the compressor would like to wait for more. What one read
gives is bounded, whatever the peer packs into its octets: the rest stays packed until the next. What is remembered of
what we sent is let go while a session idles.
Refuses: to judge what is worth compressing.
"""

import zlib
from collections.abc import Iterable
from typing import Final

Octets = bytes | bytearray | memoryview

# What one read gives at most, and of what came in how much is unpacked at a time (zlib hands the rest back as a copy).
MOST: Final = 128 * 1024
_SLICE: Final = 16 * 1024

# Raw deflate, no zlib header (RFC 4978 §4). With its tables a window of 8 KB took 70 KB, one of 32 KB 220. Level 3 was
# one and a half to three times as fast as the usual 6; what it made was a tenth (text) to a fifth (FETCH) larger.
_LEVEL: Final = 3
_OUR_WINDOW: Final = -13
_OUR_MEMORY: Final = 6
# The peer may look back as far as deflate allows.
_THEIR_WINDOW: Final = -15


class Broken(ConnectionError):
    """What came is no deflate, or went on behind its end."""


class Deflate:
    """Both directions of one connection."""

    __slots__ = ("_came", "_inflater", "_more", "_packer")

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(_THEIR_WINDOW)
        self._packer: zlib._Compress | None = None
        # What has come and is still packed; whether zlib itself holds something back.
        self._came = memoryview(b"")
        self._more = False

    @property
    def pending(self) -> bool:
        """Something may be had without anything more arriving."""
        return self._more or (bool(self._came) and not self._inflater.eof)

    @property
    def ended(self) -> bool:
        """The peer has ended its stream: what it sends from here on is not packed."""
        return self._inflater.eof and not self._more

    def take(self, octets: bytes) -> None:
        """Octets have arrived. Only where nothing is pending."""
        self._came = memoryview(octets)

    def unpack(self) -> bytes:
        """At most MOST octets of what has come; b"": more must arrive first. Raises Broken."""
        found: list[bytes] = []
        size = 0
        while self.pending and size < MOST:
            piece, self._came = self._came[:_SLICE], self._came[_SLICE:]
            try:
                octets = self._inflater.decompress(piece, MOST - size)
            except zlib.error as error:
                raise Broken(f"this is no deflate: {error}") from error
            left = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            if left:
                self._came = memoryview(b"".join((left, self._came)))
            size += len(octets)
            self._more = size >= MOST and not self._inflater.eof
            found.append(octets)
        return b"".join(found)

    def rest(self) -> bytes:
        """What has come and was never packed, or was not looked at: given up here."""
        left, self._came = bytes(self._came), memoryview(b"")
        return left

    def pack(self, pieces: Iterable[Octets]) -> bytes:
        """These octets, packed so that the peer can unpack them all."""
        packer = self._packer
        if packer is None:
            packer = self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _OUR_WINDOW, _OUR_MEMORY)
        packed = [packer.compress(piece) for piece in pieces]
        packed.append(packer.flush(zlib.Z_SYNC_FLUSH))
        return b"".join(packed)

    def forget(self) -> None:
        """Let go of what was sent. What comes next refers to nothing before it, which a reader need not be told."""
        self._packer = None
