"""A page by HTTPS: one GET on a connection of its own, for the few documents that mail needs (RFC 9110, RFC 9112).

Promises: the certificate was verified, for the host's name; neither time nor size pass what the caller allows; whatever
the server sends, nothing is raised but HttpError.
Refuses: redirects, caches, cookies, compression, clear text.
"""

import asyncio
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from posthouse.net.dns import DnsError, Resolver
from posthouse.net.stream import ConnectionLost, DialError, Stream, StreamTimeout, connect
from posthouse.net.tls import TlsFailed
from posthouse.written import Dial, Endpoint

HTTPS_PORT: Final = 443
_LARGEST_HEAD: Final = 16 * 1024
_MOST_ADDRESSES: Final = 4
_CONNECT_SECONDS: Final = 10.0
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_LENGTH: Final = re.compile(rb"[0-9]{1,12}")
_LONGEST_CHUNK_LINE: Final = 1024
# RFC 9110 §15.2 sets no limit to responses before the response; one, "103 Early Hints", is in use.
_MOST_INTERIM: Final = 10


class HttpError(Exception):
    """There is no page; `untrusted`: because the server could not show that it is the one asked for."""

    def __init__(self, text: str, *, untrusted: bool = False) -> None:
        super().__init__(text)
        self.untrusted = untrusted


class BadResponse(ValueError):
    """The octets are no response that can be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a 200 brought; `media_type` in lower case without parameters, "" where none was given."""

    media_type: str
    body: bytes


@dataclass(slots=True)
class Reader:
    """A response, from octets as they come; no I/O. `most` is how many octets its body may have.

    `page` is there once the response is complete. `status` is 0 until the head has come. The time is linear in the
    octets, whatever they are: they are read on the event loop.
    """

    most: int
    status: int = 0
    page: Page | None = None
    _left: bytearray = field(default_factory=bytearray)
    _interim: int = 0
    _media_type: str = ""
    _body: bytearray = field(default_factory=bytearray)
    # Octets that the body still has; None: it is chunked, or goes on to the end of the connection.
    _length: int | None = None
    _chunked: bool = False

    def receive(self, octets: bytes) -> None:
        """Take what arrived; b"" is the end of the connection. Raises BadResponse."""
        self._left += octets
        while self.status == 0:
            end = self._left.find(b"\r\n\r\n", 0, _LARGEST_HEAD + 4)
            if end < 0 and len(self._left) >= _LARGEST_HEAD + 4:
                raise BadResponse("a head that is too large")
            if end < 0:
                return _await_more(octets)
            head = bytes(self._left[:end])
            del self._left[: end + 4]
            self._read_head(head)
        if self._chunked:
            return self._read_chunks(octets)
        return self._read_plain(octets)

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.split(b"\r\n")
        status = _STATUS.fullmatch(first)
        if status is None:
            raise BadResponse("no response of HTTP/1.1")
        fields: dict[bytes, list[bytes]] = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not _NAME.fullmatch(name) or b"\r" in value or b"\n" in value:
                raise BadResponse("a line that is no field")
            fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
        code = int(status[1])
        if code < 200:
            # RFC 9110 §15.2: what comes before the response.
            self._interim += 1
            if self._interim > _MOST_INTERIM:
                raise BadResponse("no response behind many that only announce one")
            return
        self.status = code
        types = fields.get(b"content-type", [b""])
        self._media_type = types[0].partition(b";")[0].strip().lower().decode("latin-1")
        self._frame(fields)

    def _frame(self, fields: dict[bytes, list[bytes]]) -> None:
        """Where the body ends (RFC 9112 §6.3)."""
        codings, lengths = fields.get(b"transfer-encoding"), set(fields.get(b"content-length", ()))
        if codings is not None:
            if [one.lower() for one in codings] != [b"chunked"] or lengths:
                raise BadResponse("a transfer coding that nobody asked for")
            self._chunked = True
        elif lengths:
            length = lengths.pop()
            if lengths or not _LENGTH.fullmatch(length):
                raise BadResponse("a length that is none")
            self._length = int(length)
            if self._length > self.most:
                raise BadResponse("a body that is too large")

    def _read_plain(self, octets: bytes) -> None:
        if self._length is None:
            if len(self._left) > self.most:
                raise BadResponse("a body that is too large")
            if not octets:
                self.page = Page(self._media_type, bytes(self._left))
        elif len(self._left) >= self._length:
            self.page = Page(self._media_type, bytes(self._left[: self._length]))
        else:
            _await_more(octets)

    def _read_chunks(self, octets: bytes) -> None:
        """RFC 9112 §7.1; what stands behind the last chunk is of no interest."""
        at = 0
        while self.page is None and (after := self._read_chunk(at)) is not None:
            at = after
        del self._left[:at]
        if self.page is None:
            _await_more(octets)

    def _read_chunk(self, at: int) -> int | None:
        """Where the chunk that begins there ends; None: it is not here yet."""
        end = self._left.find(b"\r\n", at, at + _LONGEST_CHUNK_LINE + 2)
        if end < 0 and len(self._left) - at > _LONGEST_CHUNK_LINE:
            raise BadResponse("a line between chunks that is too long")
        if end < 0:
            return None
        match = _CHUNK_SIZE.fullmatch(self._left, at, end)
        if match is None:
            raise BadResponse("a chunk without a size")
        size, begin = int(match[1], 16), end + 2
        if size == 0:
            self.page = Page(self._media_type, bytes(self._body))
            return begin
        if len(self._body) + size > self.most:
            raise BadResponse("a body that is too large")
        if len(self._left) < begin + size + 2:
            return None
        if self._left[begin + size : begin + size + 2] != b"\r\n":
            raise BadResponse("a chunk that does not end where it says")
        self._body += self._left[begin : begin + size]
        return begin + size + 2


def _await_more(octets: bytes) -> None:
    """More must come; after b"" nothing does."""
    if not octets:
        raise BadResponse("the connection ended within the response")


class HttpClient:
    """Fetches pages. `dial` replaces address, port or both of every server: for tests and closed networks."""

    def __init__(self, resolver: Resolver, context: ssl.SSLContext, dial: Dial | None = None) -> None:
        """`context` must verify (`client_context(verify=True)`)."""
        self._resolver = resolver
        self._context = context
        self._dial = dial

    async def get(self, host: str, path: str, *, seconds: float, most: int) -> Page:
        """The page, of at most `most` octets, within `seconds` in all. Raises HttpError."""
        try:
            async with asyncio.timeout(seconds):
                stream = await self._connect(host)
                try:
                    return await self._ask(stream, host, path, most)
                finally:
                    stream.abort()
        except TimeoutError as error:
            raise HttpError(f"no answer from {host} within {seconds:g} seconds") from error
        except (ConnectionLost, BadResponse) as error:
            raise HttpError(f"{host}: {error}") from error

    async def _ask(self, stream: Stream, host: str, path: str, most: int) -> Page:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: posthouse\r\nConnection: close\r\n\r\n"
        stream.write(request.encode("ascii"))
        reader = Reader(most)
        while reader.page is None:
            octets = await stream.read()
            if not octets and not stream.finished:
                # RFC 9112 §9.8: anybody on the way can cut the connection, and a body may go on to its end.
                raise BadResponse("the connection broke off within the response")
            reader.receive(octets)
            if reader.status not in (0, 200):
                raise HttpError(f"{host} answered with status {reader.status}")
        return reader.page

    async def _connect(self, host: str) -> Stream:
        """A connection to the first address that answers, verified."""
        failure = HttpError(f"{host} has no address")
        for address in (await self._addresses(host))[:_MOST_ADDRESSES]:
            try:
                return await connect(address, seconds=_CONNECT_SECONDS, tls=self._context, server_hostname=host)
            except TlsFailed as error:
                untrusted = isinstance(error.__cause__, ssl.SSLCertVerificationError)
                failure = HttpError(f"{host}: {error}", untrusted=untrusted)
            except (DialError, StreamTimeout) as error:
                failure = HttpError(f"{host}: {error}")
        raise failure

    async def _addresses(self, host: str) -> Sequence[Endpoint]:
        port = self._dial.port if self._dial and self._dial.port else HTTPS_PORT
        if self._dial and self._dial.host:
            return [Endpoint(self._dial.host, port)]
        try:
            answer = await self._resolver.addresses(host)
        except DnsError as error:
            raise HttpError(str(error)) from error
        return [Endpoint(address, port) for address in answer.records]
