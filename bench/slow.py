"""How an honest client is served while two thousand slow ones are there: each says a little now and then, and stops at
another place (in the greeting, a command, an envelope, a message, a handshake). Against limits of ours; no peer does
the same work.
"""

import asyncio
import resource
import socket
import time

from bench.posthouse_server import PosthouseServer
from bench.report import Report, Row, median

DOMAIN = "bench.test"
USER = f"user0@{DOMAIN}"
ADDRESS = "127.0.0.1"
SETTINGS = """
[limits]
connections_per_address = 10000
connections_per_neighbourhood = 10000
connection_rate = "1000000/1m"
message_rate = "1000000/1m"
"""
LISTENERS = {"smtp": "starttls", "submissions": "implicit", "imap": "starttls"}
_MESSAGE = (
    b"From: <sender@elsewhere.test>\r\nSubject: honest\r\nMessage-ID: <%d@elsewhere.test>\r\n\r\n" + b"y" * 70 + b"\r\n"
)
_PAUSE = 0.5
# What a slow client has said, whole, before it begins to dribble; and what it dribbles.
_ENVELOPE = f"EHLO slow\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<{USER}>\r\n".encode()
_PLACES: tuple[tuple[str, bytes, bytes], ...] = (
    ("smtp", b"", b"E"),
    ("smtp", b"EHLO slow\r\nMAIL FROM:<", b"x"),
    ("smtp", _ENVELOPE, b"NOOP\r\n"),
    ("smtp", _ENVELOPE + b"DATA\r\nSubject: slow\r\n", b"X: y\r\n"),
    ("smtp", _ENVELOPE + b"DATA\r\nSubject: slow\r\n\r\n", b"y" * 70 + b"\r\n"),
    ("smtp", b"EHLO slow\r\nSTARTTLS\r\n", b""),
    ("submissions", b"\x16\x03\x01", b"\x02"),
    ("imap", b"a LOGIN {10}\r\n", b"x"),
)


def measure(*, quick: bool) -> Report:
    """All rows. Not quick: 2,000 slow clients instead of 400."""
    many = 400 if quick else 2_000
    _want_descriptors(many + 200)
    report = Report("slow", {"limit": "an aim of ours: served within a second"})
    server = PosthouseServer(domain=DOMAIN, users=["user0"], settings=SETTINGS, listeners=LISTENERS)
    try:
        server.start()
        alone, served = asyncio.run(_compare(server, many, 20 if quick else 60))
        errors = server.errors()
    finally:
        server.stop()
    assert not errors, errors[:3]
    report.rows += [
        _row("an honest client alone, median", median(alone)),
        _row(f"beside {many} slow ones, median", median(served)),
        _row(f"beside {many} slow ones, worst", max(served)),
    ]
    return report


def _row(name: str, seconds: float) -> Row:
    return Row(name, "s", seconds, 1.0, "limit", 1.0, lower_is_better=True)


def _want_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


async def _compare(server: PosthouseServer, many: int, times: int) -> tuple[list[float], list[float]]:
    alone = [await _served(server, number) for number in range(times)]
    slow = [asyncio.create_task(_dribble(server, number)) for number in range(many)]
    await asyncio.sleep(2)
    beside = [await _served(server, times + number) for number in range(times)]
    alive = sum(not one.done() for one in slow)
    assert alive == many, f"{many - alive} of the slow clients are gone"
    for one in slow:
        one.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    return alone, beside


async def _served(server: PosthouseServer, number: int) -> float:
    """From the connection to the 250 of a message."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(ADDRESS, server.ports["smtp"])
    await _reply(reader, b"220")
    for line in (b"EHLO honest", b"MAIL FROM:<sender@elsewhere.test>", f"RCPT TO:<{USER}>".encode()):
        writer.write(line + b"\r\n")
        await _reply(reader, b"250")
    writer.write(b"DATA\r\n")
    await _reply(reader, b"354")
    writer.write(_MESSAGE % number + b".\r\n")
    await _reply(reader, b"250")
    took = time.perf_counter() - began
    writer.close()
    return took


async def _reply(reader: asyncio.StreamReader, code: bytes) -> None:
    line = b"   -"
    while line[3:4] == b"-":
        line = await reader.readline()
    assert line.startswith(code), line


async def _dribble(server: PosthouseServer, number: int) -> None:
    """One slow client, until it is cancelled."""
    port, first, then = _PLACES[number % len(_PLACES)]
    loop = asyncio.get_running_loop()
    await asyncio.sleep(number % 100 / 100)
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, (ADDRESS, server.ports[port]))
        if port == "smtp":
            await loop.sock_recv(connection, 4096)
        await loop.sock_sendall(connection, first)
        while True:
            await asyncio.sleep(_PAUSE)
            await loop.sock_sendall(connection, then)
