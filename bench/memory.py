"""What the server needs of memory, and how soon it is ready, against limits of ours: no peer has the same work.

Anonymous memory is what counts (RssAnon of /proc/PID/status): pages of files go when others need the room. It is looked
at every two milliseconds, so a peak that lasts is seen.
"""

import os
import random
import socket
import threading
import time
from base64 import encodebytes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.waiting import wait_until
from bench.posthouse_server import PosthouseServer
from bench.report import Report, Row, median

DOMAIN = "bench.test"
USERS = [f"user{n}" for n in range(20)]
ADDRESS = "127.0.0.1"
MB = 1024 * 1024
SETTINGS = """
[limits]
connections_per_address = 1000
connection_rate = "1000000/1m"
message_rate = "1000000/1m"
"""
# The budget of unfinished mail as it is by default, and 32 KB for each connection.
_SLOW_LIMIT = 64 + 500 * 32 / 1024
HEADER = (
    b"From: <sender@elsewhere.test>\r\nSubject: memory\r\nMessage-ID: <%d.%d@elsewhere.test>\r\nMIME-Version: 1.0\r\n"
)


def measure(*, quick: bool) -> Report:
    """All rows. Not quick: 1.5 GB of mail, some minutes."""
    report = Report("memory", {"limit": "issue 3: what must be seen, and the aims"})
    starts = [_start() for _ in range(3)]
    report.rows += [
        _row("from start to ready", "s", median([seconds for seconds, _ in starts]), 1.5),
        _row("idle, resident", "MB", median([resident for _, resident in starts]), 90),
    ]
    with _server() as server:
        _send(server, 0, 200, 2_000)
        report.rows.append(_row("one message of 25 MB, rise", "MB", _large(server), 5))
    with _server() as server:
        report.rows.append(_row("500 slow clients half-way through 400 KB, rise", "MB", _slow(server), _SLOW_LIMIT))
    name, messages = ("75 MB", 1_500) if quick else ("1.5 GB", 30_000)
    with _server() as server:
        report.rows.append(_row(f"{name} of 50 KB messages, growth", "MB", _many(server, messages), 8))
    return report


def _row(name: str, unit: str, value: float, limit: float) -> Row:
    # What falls below the noise of the allocator is no rise.
    return Row(name, unit, max(value, 0.01), limit, "limit", 1.0, lower_is_better=True)


@contextmanager
def _server() -> Iterator[PosthouseServer]:
    server = PosthouseServer(domain=DOMAIN, users=USERS, settings=SETTINGS)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _start() -> tuple[float, float]:
    """Seconds from the command to the greeting, and MB resident once it is idle."""
    server = PosthouseServer(domain=DOMAIN, users=USERS, settings=SETTINGS)
    try:
        began = time.perf_counter()
        server.start()
        seconds = time.perf_counter() - began
        time.sleep(1)
        return seconds, _status(server.process.pid, "VmRSS")
    finally:
        server.stop()


def _status(pid: int, field: str) -> float:
    """A field of /proc/PID/status, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"/proc/{pid}/status has no {field}")


class _Peak:
    """The most anonymous memory that a process had while this was open, above what it began with, in MB."""

    def __init__(self, server: PosthouseServer) -> None:
        self._pid = server.process.pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = self.most = 0.0

    def __enter__(self) -> "_Peak":
        self.before = self.most = _status(self._pid, "RssAnon")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self.most = max(self.most, _status(self._pid, "RssAnon"))

    @property
    def rise(self) -> float:
        return self.most - self.before


# --- clients ----------------------------------------------------------------------------------------------------------


class _Client:
    """One connection that sends mail."""

    def __init__(self, server: PosthouseServer) -> None:
        self._socket = socket.create_connection((ADDRESS, server.ports["smtp"]), timeout=120)
        self._replies = self._socket.makefile("rb")
        self._expect(b"220")
        self._socket.sendall(b"EHLO bench\r\n")
        self._expect(b"250")

    def begin(self, user: str) -> None:
        """As far as the go-ahead."""
        lines = f"MAIL FROM:<sender@elsewhere.test>\r\nRCPT TO:<{user}@{DOMAIN}>\r\nDATA\r\n"
        self._socket.sendall(lines.encode())
        for code in (b"250", b"250", b"354"):
            self._expect(code)

    def write(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def end(self) -> None:
        """The dot, and the 250 behind it."""
        self._socket.sendall(b".\r\n")
        self._expect(b"250")

    def close(self) -> None:
        self._replies.close()
        self._socket.close()

    def _expect(self, code: bytes) -> None:
        line = b"   -"
        while line[3:4] == b"-":
            line = self._replies.readline()
        assert line.startswith(code), line


def _send(server: PosthouseServer, first: int, count: int, size: int, clients: int = 10) -> None:
    """Send messages by several clients, and wait until all work on them is done."""
    failed: list[BaseException] = []

    def run(share: range) -> None:
        try:
            for start in range(0, len(share), 500):  # a connection carries no more than 1000
                client = _Client(server)
                for number in share[start : start + 500]:
                    client.begin(USERS[number % len(USERS)])
                    client.write(_message(number, size))
                    client.end()
                client.close()
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=run, args=(range(first + one, first + count, clients),)) for one in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    wait_until(lambda: server.delivered() >= first + count, 300, "the last message", pause=0.2)


_WORDS = [bytes(random.Random(word).choices(b"abcdefghijklmnopqrstuvwxyz", k=3 + word % 8)) for word in range(4000)]


def _message(number: int, size: int) -> bytes:
    """Text that is like no other, for a search index to work on."""
    words = random.Random(number)
    head = HEADER % (number, os.getpid())
    lines = [b" ".join(words.choices(_WORDS, k=10)) for _ in range(max(1, size // 75))]
    return b"".join([head, b"\r\n", b"\r\n".join(lines), b"\r\n"])


# --- rows -------------------------------------------------------------------------------------------------------------


def _large(server: PosthouseServer) -> float:
    """The rise while one message of 25 MB is taken, a file of random octets in base64."""
    boundary = b"--=_b\r\n"
    octets = encodebytes(random.Random(1).randbytes(19 * MB)).replace(b"\n", b"\r\n")
    head = HEADER % (1, 0) + b'Content-Type: multipart/mixed; boundary="=_b"\r\n\r\n'
    file = b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    whole = b"".join([head, boundary, b"\r\nSee the file.\r\n", boundary, file, octets, b"--=_b--\r\n"])
    assert len(whole) > 25 * MB
    client = _Client(server)
    client.begin(USERS[0])
    with _Peak(server) as peak:
        client.write(whole)
        client.end()
        time.sleep(1)
    client.close()
    return peak.rise


def _slow(server: PosthouseServer) -> float:
    """The rise while 500 clients stop in the middle of a message each."""
    lines = (b"y" * 98 + b"\r\n") * 20
    with _Peak(server) as peak:
        clients = [_Client(server) for _ in range(500)]
        for number, client in enumerate(clients):
            client.begin(USERS[number % len(USERS)])
            client.write(HEADER % (number, 0) + b"\r\n")
        for _ in range(100):
            for client in clients:
                client.write(lines)
            time.sleep(0.03)  # they are slow: the server has read what was sent before more comes
        time.sleep(1)
    for client in clients:
        client.close()
    return peak.rise


def _many(server: PosthouseServer, messages: int) -> float:
    """How much more it has after all of them than after the first tenth."""
    tenth = messages // 10
    _send(server, 0, tenth, 50_000)
    before = _status(server.process.pid, "RssAnon")
    _send(server, tenth, messages - tenth, 50_000)
    return _status(server.process.pid, "RssAnon") - before
