"""A page by HTTPS: responses read from octets, and the client against a server on loopback."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from posthouse.net.http import BadResponse, HttpClient, HttpError, Page, Reader
from posthouse.net.tls import client_context
from posthouse.written import Dial
from tests.relay.support import Names
from tests.support import run

OK = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Plain; charset=utf-8\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n6 ;x=y\r\n, you!\r\n0\r\nTrailer: 1\r\n\r\n"


def read(octets: bytes, *, most: int = 100, pieces: int = 1 << 20, closed: bool = True) -> Page | None:
    """The page that these octets are, given in pieces, and then the end."""
    reader = Reader(most)
    for start in range(0, len(octets), pieces):
        if reader.page is None:
            reader.receive(octets[start : start + pieces])
    if closed and reader.page is None:
        reader.receive(b"")
    return reader.page


@pytest.mark.parametrize("pieces", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("octets", "body"),
    [
        (OK + b"Content-Length: 5\r\n\r\nHello", b"Hello"),
        (OK + b"Content-Length: 0\r\n\r\n", b""),
        (OK + b"\r\nHello", b"Hello"),
        (CHUNKED, b"Hello, you!"),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nHello", b"Hello"),
        (b"HTTP/1.0 200 \r\n\r\nHello", b"Hello"),
    ],
)
def test_a_response_is_read_however_it_comes(octets: bytes, body: bytes, pieces: int) -> None:
    page = read(octets, pieces=pieces)
    assert page
    assert page.body == body
    assert page.media_type == ("" if octets.startswith(b"HTTP/1.0") else "text/plain")


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"220 mx.example.org ESMTP\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        OK + b"no field\r\n\r\n",
        OK + b" folded: field\r\n\r\n",
        OK + b"Content-Length: 6\r\n\r\nHello",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 1, 1\r\n\r\nH",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nHe",
        OK + b"Content-Length: 101\r\n\r\n",
        OK + b"\r\n" + b"x" * 101,
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        CHUNKED.replace(b"5\r\n", b"g\r\n"),
        CHUNKED.replace(b"5\r\n", b"4\r\n"),
        CHUNKED.replace(b"0\r\nTrailer: 1\r\n\r\n", b""),
        OK + b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 2000,
        OK + b"X: " + b"x" * 20_000 + b"\r\n\r\n",
        OK + b"X:" + b" " * 16_000 + b"\rx\r\n\r\n",
        OK + b"X : y\r\n\r\n",
        OK + b": y\r\n\r\n",
        b"HTTP/1.1 100 Wait\r\n\r\n" * 20_000,
        b"x" * 20_000,
    ],
)
@pytest.mark.parametrize("pieces", [1000, 1 << 20])
def test_what_is_no_response_is_refused(octets: bytes, pieces: int) -> None:
    with pytest.raises(BadResponse):
        read(octets, pieces=pieces)


@pytest.mark.parametrize("pieces", [1, 1000, 1 << 20])
def test_a_body_in_chunks_of_an_octet_is_read(pieces: int) -> None:
    """However a stranger cuts it, the loop is not held by it: 300 ms were lost to what was copied for each chunk."""
    octets = OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 40_000 + b"0\r\n\r\n"
    page = read(octets, most=40_000, pieces=pieces)
    assert page is not None
    assert page.body == b"x" * 40_000


@pytest.mark.parametrize("value", [b"x" + b" " * 16_000 + b"x", b" " * 16_000, b"\t x \t"])
def test_the_white_space_around_a_value_is_none_of_it(value: bytes) -> None:
    page = read(b"HTTP/1.1 200 OK\r\nContent-Type:" + value + b"\r\nContent-Length: 0\r\n\r\n")
    assert page is not None
    assert page.media_type == value.strip(b" \t").decode()


@given(st.lists(st.binary(max_size=20) | st.sampled_from([OK, CHUNKED, b"\r\n", b"Transfer-Encoding: chunked\r\n"])))
def test_whatever_is_sent_raises_nothing_but_its_own_error(pieces: list[bytes]) -> None:
    reader = Reader(50)
    try:
        for piece in [*filter(None, pieces), b""]:
            if reader.page is None:
                reader.receive(piece)
    except BadResponse:
        return
    assert reader.page is not None
    assert len(reader.page.body) <= 50


# --- the client -------------------------------------------------------------------------------------------------------

CA = trustme.CA()
HANG = b"(hang)"


@asynccontextmanager
async def serving(*answers: bytes, name: str = "pages.example") -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server of one answer a connection: its port, and what it was asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert(name).configure_cert(context)
    asked: list[bytes] = []
    waiting = iter(answers)
    tasks: list[asyncio.Task[None] | None] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        try:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            answer = next(waiting)
            if answer == HANG:
                await asyncio.sleep(3600)
            writer.write(answer)
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()
        for task in tasks:
            if task:
                task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)


def client(tmp_path: Path, port: int, hosts: Sequence[str] = ("127.0.0.1",)) -> HttpClient:
    authorities = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(str(authorities))
    names = Names({}, {"pages.example": hosts})
    return HttpClient(names, client_context(verify=True, authorities=authorities), Dial(None, port))


def fetch(tmp_path: Path, *answers: bytes, seconds: float = 30, name: str = "pages.example") -> Page | str | tuple[str]:
    """The page, or why there is none; in a tuple where the server was not the one asked for."""

    async def main() -> Page | str | tuple[str]:
        async with serving(*answers, name=name) as (port, _):
            try:
                return await client(tmp_path, port).get("pages.example", "/a", seconds=seconds, most=100)
            except HttpError as error:
                return (str(error),) if error.untrusted else str(error)

    return run(main())


def test_a_page_is_fetched(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(CHUNKED) as (port, asked):
            page = await client(tmp_path, port).get("pages.example", "/a", seconds=30, most=100)
            assert page == Page("text/plain", b"Hello, you!")
            assert asked[0].startswith(b"GET /a HTTP/1.1\r\nHost: pages.example\r\n")
            assert b"Connection: close\r\n" in asked[0]

    run(main())


def test_the_next_address_is_tried(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(OK + b"\r\nHello") as (port, _):
            one = client(tmp_path, port, ["127.0.0.99", "127.0.0.1"])
            assert (await one.get("pages.example", "/", seconds=30, most=100)).body == b"Hello"

    run(main())


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"404 Not Found", b"204 No Content", b"500 Oops"])
def test_redirects_and_all_but_200_are_no_page(tmp_path: Path, status: bytes) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\nLocation: https://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"
    assert fetch(tmp_path, answer) == f"pages.example answered with status {status[:3].decode()}"


def test_a_server_with_another_name_is_not_believed(tmp_path: Path) -> None:
    found = fetch(tmp_path, OK + b"\r\nHello", name="other.example")
    assert isinstance(found, tuple)
    assert "pages.example: certificate refused" in found[0]


def test_a_server_that_hangs_is_given_up(tmp_path: Path) -> None:
    assert fetch(tmp_path, HANG, seconds=0.2) == "no answer from pages.example within 0.2 seconds"


def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    assert fetch(tmp_path, OK + b"\r\n" + b"x" * 200) == "pages.example: a body that is too large"


def _answer_and_cut(listening: socket.socket, context: ssl.SSLContext, answer: bytes) -> None:
    """Answer one request, and end the connection as anybody on the way can: TLS is not told."""
    accepted, _ = listening.accept()
    accepted.settimeout(30)
    with context.wrap_socket(accepted, server_side=True) as one:
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            asked += one.recv(1000)
        one.sendall(answer)
        os.close(one.detach())


def test_a_body_that_goes_on_to_the_end_has_one_that_nobody_on_the_way_can_make(tmp_path: Path) -> None:
    """Cut in the right place, a policy for a week would be one for some seconds."""

    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        CA.issue_cert("pages.example").configure_cert(context)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.settimeout(30)
            port = listening.getsockname()[1]
            cutting = asyncio.create_task(
                asyncio.to_thread(_answer_and_cut, listening, context, OK + b"\r\nmax_age: 6")
            )
            with pytest.raises(HttpError, match="the connection broke off within the response"):
                await client(tmp_path, port).get("pages.example", "/", seconds=30, most=100)
            await cutting

    run(main())
    assert fetch(tmp_path, OK + b"\r\nmax_age: 604800") == Page("text/plain", b"max_age: 604800")


def test_nobody_there_and_no_address_are_told(tmp_path: Path) -> None:
    async def main() -> None:
        # Bound, so that nobody else gets the port, and not listening.
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            with pytest.raises(HttpError, match="refused"):
                await client(tmp_path, port).get("pages.example", "/", seconds=30, most=100)
        with pytest.raises(HttpError, match="no such domain"):
            await client(tmp_path, port, "nxdomain").get("pages.example", "/", seconds=30, most=100)

    run(main())


def test_the_name_is_not_looked_up_where_an_address_is_given(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(OK + b"\r\nHello") as (port, _):
            authorities = tmp_path / "ca.pem"
            CA.cert_pem.write_to_path(str(authorities))
            context = client_context(verify=True, authorities=authorities)
            names = Names()
            one = HttpClient(names, context, Dial("127.0.0.1", port))
            assert (await one.get("pages.example", "/", seconds=30, most=100)).body == b"Hello"
            assert names.asked == []

    run(main())
