"""Python's aioimaplib, on which Home Assistant's mail sensor stands: it searches, fetches, moves and waits by IDLE."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bench.posthouse_server import PASSWORD, PosthouseServer
from tests.interop.packages import python_package
from tests.interop.reading import empty, fill, flags, messages, trusting
from tests.support import run

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]

ALICE = "alice@example.test"
REQUIREMENT = "aioimaplib==2.0.3 --hash=sha256:799273d22cd1b57d8d2fba18376dc4a861ca5b90c548ffb53a003f2506ff64bc"


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The package."""
    return python_package("aioimaplib", REQUIREMENT, tmp_path_factory.mktemp("aioimaplib"))


def with_inbox(server: PosthouseServer, module: Any, act: Callable[[Any], Awaitable[None]]) -> None:
    """Do something in Alice's INBOX."""

    async def acting() -> None:
        gone = asyncio.Event()
        port = server.ports["imaps"]
        client = module.IMAP4_SSL(server.address, port, timeout=60, ssl_context=trusting(server))
        client.protocol.conn_lost_cb = lambda _: gone.set()
        await client.wait_hello_from_server()
        assert (await client.login(ALICE, PASSWORD)).result == "OK"
        assert (await client.select("INBOX")).result == "OK"
        await act(client)
        assert (await client.logout()).result == "OK"
        await asyncio.wait_for(gone.wait(), 60)

    run(acting(), 300)


def letter(subject: str) -> bytes:
    """A message with 8-bit octets."""
    return f"From: a@elsewhere.test\r\nTo: {ALICE}\r\nSubject: {subject} ä\r\n\r\nKörper\r\n.\r\n".encode()


def test_it_searches_fetches_marks_and_moves(server: PosthouseServer, module: Any) -> None:
    first, second = sent = [letter("first"), letter("second")]
    empty(server, ALICE)
    fill(server, ALICE, sent)

    async def act(client: Any) -> None:
        (found, _) = (await client.uid_search("SUBJECT second")).lines
        shown = await client.uid("fetch", found.decode(), "(FLAGS BODY.PEEK[])")
        assert [line for line in shown.lines if isinstance(line, bytearray)] == [second]
        assert (await client.uid("store", found.decode(), r"+FLAGS (\Flagged)")).result == "OK"
        (other, _) = (await client.uid_search("UNFLAGGED")).lines
        assert (await client.uid("move", other.decode(), "Archive")).result == "OK"
        assert (await client.append(first, "INBOX", r"\Seen")).result == "OK"

    with_inbox(server, module, act)
    assert flags(server, ALICE) == {first: {rb"\Seen"}, second: {rb"\Flagged"}}


def test_it_hears_of_news_while_idling(server: PosthouseServer, module: Any) -> None:
    empty(server, ALICE)

    async def act(client: Any) -> None:
        idle = await client.idle_start(timeout=120)
        await asyncio.to_thread(fill, server, ALICE, [letter("news")])
        assert b"1 EXISTS" in await client.wait_server_push(timeout=60)
        client.idle_done()
        await asyncio.wait_for(idle, 60)
        assert (await client.search("SUBJECT news")).lines[0] == b"1"

    with_inbox(server, module, act)
    assert messages(server, ALICE) == [letter("news")]
