"""COMPRESS=DEFLATE (RFC 4978): a conversation goes on compressed, and can be ended so."""

import ssl
import zlib
from contextlib import suppress
from pathlib import Path

from tests.doors.house import ALICE, BOB, PASSWORD, House, ImapClient, in_house, message


class Packed:
    """The other side's half: lines go in and come out, packed in between."""

    def __init__(self, client: ImapClient) -> None:
        self._client = client
        self._packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        self._reader = zlib.decompressobj(-15)
        self._came = b""

    async def send(self, octets: bytes) -> None:
        """Say this."""
        await self._client.send(self._packer.compress(octets) + self._packer.flush(zlib.Z_SYNC_FLUSH))

    async def end(self, octets: bytes) -> None:
        """Say this as the last that is packed."""
        await self._client.send(self._packer.compress(octets) + self._packer.flush(zlib.Z_FINISH))

    async def until(self, start: bytes) -> list[bytes]:
        """Lines up to one that begins so; with b"" all until the server hangs up."""
        found: list[bytes] = []
        while True:
            line, end, rest = self._came.partition(b"\r\n")
            if end:
                self._came = rest
                found.append(line)
                if start and line.startswith(start):
                    return found
                continue
            try:
                octets = await self._client.reader.read(1 << 16)
            except ConnectionError:
                return found
            if not octets:
                return found
            self._came += self._reader.decompress(octets)


async def compressed(house: House, *, mailbox: str | None = "INBOX") -> tuple[ImapClient, Packed]:
    client = await house.imap(mailbox=mailbox)
    await client.ok("COMPRESS DEFLATE")
    return client, Packed(client)


def test_a_conversation_goes_on_compressed(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        for number in range(1, 301):
            await house.file(message(number, body="It leaves at nine. " * 20))
        _, packed = await compressed(house)
        await packed.send(b"1 FETCH 1:* (FLAGS ENVELOPE)\r\n2 FETCH 1:* BODY.PEEK[TEXT]\r\n")
        assert len(await packed.until(b"1 OK")) == 301
        lines = await packed.until(b"2 OK")
        assert sum(b"It leaves at nine." in line for line in lines) == 300
        await packed.send(b"3 APPEND INBOX {22}\r\n")
        assert (await packed.until(b"+"))[-1] == b"+ send the message"
        await packed.send(b"Subject: hi\r\n\r\nHello\r\n\r\n")
        assert (await packed.until(b"3 OK"))[-2] == b"* 301 EXISTS"
        await packed.send(b"4 LOGOUT\r\n")
        assert [line[:5] for line in await packed.until(b"")] == [b"* BYE", b"4 OK "]

    in_house(tmp_path, test)


def test_it_is_offered_once(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client = await house.imap(mailbox=None)
        assert b"COMPRESS=DEFLATE" in (await client.ok("CAPABILITY"))[0]
        await client.ok("COMPRESS DEFLATE")
        packed = Packed(client)
        await packed.send(b"1 CAPABILITY\r\n2 COMPRESS DEFLATE\r\n")
        assert b"COMPRESS" not in (await packed.until(b"1 OK"))[0]
        assert await packed.until(b"2 ") == [b"2 NO [COMPRESSIONACTIVE] DEFLATE is active already"]

    in_house(tmp_path, test)


def test_what_is_said_ahead_of_the_answer_ends_the_connection(tmp_path: Path) -> None:
    # RFC 4978 §3: a client waits for the answer.
    async def test(house: House) -> None:
        client = await house.imap(mailbox=None)
        await client.send(b"1 COMPRESS DEFLATE\r\n2 NOOP\r\n")
        assert (await client.line()).startswith(b"* BYE")
        assert await client.closed()

    in_house(tmp_path, test)


def test_news_come_compressed_while_it_idles(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        _, packed = await compressed(house)
        await packed.send(b"1 IDLE\r\n")
        assert await packed.until(b"+") == [b"+ idling"]
        for number in (1, 2):
            await house.file(message(number))
            assert await packed.until(b"* ") == [b"* %d EXISTS" % number]
        await packed.send(b"DONE\r\n2 NOOP\r\n")
        assert (await packed.until(b"2 "))[-1] == b"2 OK Still here"

    in_house(tmp_path, test)


def test_compressed_inside_tls(tmp_path: Path) -> None:
    # RFC 4978 §3: first compressed, then encrypted.
    async def test(house: House) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = await house.imap(None)
        await client.ok("STARTTLS")
        await client.writer.start_tls(context)
        await client.ok(f'LOGIN {ALICE} "{PASSWORD}"')
        await client.ok("COMPRESS DEFLATE")
        packed = Packed(client)
        await packed.send(b"1 STATUS INBOX (MESSAGES)\r\n")
        assert (await packed.until(b"1 "))[0] == b'* STATUS "INBOX" (MESSAGES 0)'

    in_house(tmp_path, test)


def test_a_bomb_is_unpacked_bit_by_bit(tmp_path: Path) -> None:
    """Of 100 MB that lie in 100 KB no more is unpacked than the first line that is too long. (Its end is a reset where
    the server has not read all; then the BYE may be lost.)"""

    async def test(house: House) -> None:
        _, packed = await compressed(house)
        with suppress(ConnectionError):
            await packed.send(b"x" * 100_000_000)
        assert [line[:14] for line in await packed.until(b"")] in ([], [b"* BYE [TOOBIG]"])
        assert (await house.imap()).greeting.startswith(b"* OK")

    in_house(tmp_path, test)


def test_what_is_no_deflate_ends_the_connection(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client, packed = await compressed(house)
        await client.send(b"1 NOOP\r\n" * 10)
        assert await packed.until(b"") == []

    in_house(tmp_path, test)


def test_unauthenticate_ends_compression(tmp_path: Path) -> None:
    # RFC 8437 §4.1: behind its line, and behind the answer.
    async def test(house: House) -> None:
        for ends in (True, False):
            client, packed = await compressed(house)
            line = b"1 UNAUTHENTICATE\r\n"
            await (packed.end(line) if ends else packed.send(line))
            assert (await packed.until(b"1 "))[-1].startswith(b"1 OK")
            await client.ok(f'LOGIN {BOB} "{PASSWORD}"')
            assert b"COMPRESS=DEFLATE" in (await client.ok("CAPABILITY"))[0]
            await client.ok("COMPRESS DEFLATE")
            again = Packed(client)
            await again.send(b"2 NOOP\r\n")
            assert await again.until(b"2 ") == [b"2 OK Still here"]

    in_house(tmp_path, test)


def test_a_client_that_hangs_up(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        client, packed = await compressed(house)
        await packed.send(b"1 FETCH 1:* ")
        await client.close()
        await house.left()

    in_house(tmp_path, test)
