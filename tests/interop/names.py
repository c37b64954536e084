"""A name server of our own for servers that nobody here wrote, and for ours beside them."""

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import uvloop

from posthouse.net.nameserver import Nameserver, Zone
from posthouse.written import Endpoint


@contextmanager
def nameserver(records: Mapping[str, Mapping[str, Sequence[str] | str]]) -> Iterator[Endpoint]:
    """Answer for these records on loopback, in a thread; where. {"example.org": {"MX": "10 mx.example.org."}}"""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="nameserver")
    thread.start()
    server = Nameserver(Zone.of(records))
    try:
        yield asyncio.run_coroutine_threadsafe(server.start(), loop).result(60)
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()
