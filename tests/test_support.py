"""A test that fails ends, whatever it has left open."""

import asyncio
from pathlib import Path

import pytest

from posthouse.net.nameserver import Nameserver, Zone
from tests.support import run


def test_a_failure_with_servers_left_open_ends(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        server = Nameserver(Zone())
        await server.start()
        left = await asyncio.start_server(answer, "127.0.0.1", 0)
        talking = await asyncio.open_connection(*left.sockets[0].getsockname())
        apart = await asyncio.start_unix_server(answer, tmp_path / "socket")
        await asyncio.sleep(0.01)
        raise LookupError((server, left, talking, apart))

    with pytest.raises(LookupError):
        run(main(), seconds=10)
