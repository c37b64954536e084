"""A client that speaks compressed (COMPRESS=DEFLATE, RFC 4978): what it says is packed, what it hears unpacked, and all
that a client can do it does."""

import asyncio
import zlib

from tests.doors.house import ImapClient


class PackedClient(ImapClient):
    """`compress` once it is logged in; until then it is as any."""

    _packer: "zlib._Compress | None" = None
    _unpacking: asyncio.Task[None] | None = None

    async def compress(self) -> None:
        """From here on nothing is said in the open."""
        await self.ok("COMPRESS DEFLATE")
        self._packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        plain, self.reader = self.reader, asyncio.StreamReader(limit=1 << 24)
        self._unpacking = asyncio.create_task(_unpack(plain, self.reader))

    async def send(self, octets: bytes) -> None:
        """Packed, to the last octet of it."""
        packer = self._packer
        await super().send(octets if packer is None else packer.compress(octets) + packer.flush(zlib.Z_SYNC_FLUSH))

    async def close(self) -> None:
        """Hang up. Safe to call twice."""
        if self._unpacking is not None:
            self._unpacking.cancel()
            await asyncio.wait([self._unpacking])
        await super().close()


async def _unpack(plain: asyncio.StreamReader, into: asyncio.StreamReader) -> None:
    unpacker = zlib.decompressobj(-15)
    while octets := await plain.read(1 << 16):
        into.feed_data(unpacker.decompress(octets))
    into.feed_eof()
