"""SIGKILL at random moments while mail arrives: what got 250 is there exactly once, everything else at most once."""

import random
import re
import socket
import threading
from collections import Counter

import pytest

from bench.peers.waiting import wait_until
from bench.posthouse_server import PosthouseServer
from tests.interop.reading import clear_text_messages

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

MESSAGES, KILLS, CLIENTS, USERS = 5000, 20, 10, 5
SETTINGS = '[limits]\nconnections_per_address = 1000\nconnection_rate = "1000000/1m"\nmessage_rate = "1000000/1m"\n'


class Offers:
    """Numbers handed out once each, and those that were acknowledged."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._left = iter(range(count))
        self.acknowledged: set[int] = set()
        self.offered: set[int] = set()

    def take(self) -> int | None:
        with self._lock:
            return next(self._left, None)

    def offer(self, number: int) -> None:
        with self._lock:
            self.offered.add(number)

    def wait_for(self, count: float) -> None:
        """Until so many have been offered."""
        wait_until(lambda: len(self.offered) >= count, 120, f"{count:.0f} messages to be offered", pause=0.001)

    def acknowledge(self, number: int) -> None:
        with self._lock:
            self.acknowledged.add(number)


class Client:
    """A sender that offers each message once, whatever happens to it."""

    def __init__(self, server: PosthouseServer, offers: Offers, over: threading.Event) -> None:
        self._server, self._offers, self._over = server, offers, over
        self._socket: socket.socket | None = None

    def run(self) -> None:
        """Offer until all are offered."""
        number = self._offers.take()
        while number is not None and not self._over.is_set():
            try:
                self._connect()
                self._say(b"MAIL FROM:<sender@elsewhere.test>", b"250")
                self._say(b"RCPT TO:<user%d@crash.test>" % (number % USERS), b"250")
                self._say(b"DATA", b"354")
            except OSError:
                # Nothing of the message has been said yet: it may be offered later.
                self._drop()
                self._over.wait(0.05)
                continue
            self._offers.offer(number)
            try:
                self._say(
                    b"Subject: number %d\r\nMessage-ID: <%d@crash>\r\n\r\n%s\r\n." % (number, number, b"x" * 800),
                    b"250",
                )
                self._offers.acknowledge(number)
            except OSError:
                self._drop()
            number = self._offers.take()
        self._drop()

    def _connect(self) -> None:
        if self._socket is None:
            self._socket = socket.create_connection((self._server.address, self._server.ports["smtp"]), timeout=60)
            self._expect(b"220")
            self._say(b"EHLO client.test", b"250")

    def _say(self, line: bytes, expected: bytes) -> None:
        assert self._socket is not None
        self._socket.sendall(line + b"\r\n")
        self._expect(expected)

    def _expect(self, expected: bytes) -> None:
        assert self._socket is not None
        reply = b""
        while not re.search(rb"(?:^|\n)\d{3} [^\n]*\n\Z", reply):
            octets = self._socket.recv(65536)
            if not octets:
                raise ConnectionResetError
            reply += octets
        if not reply.startswith(expected):
            raise ConnectionAbortedError(reply.decode())

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def test_killed_at_twenty_random_moments_it_loses_and_doubles_nothing() -> None:
    chance = random.Random()
    seed = chance.randrange(1 << 30)
    chance.seed(seed)
    server = PosthouseServer(domain="crash.test", users=[f"user{n}" for n in range(USERS)], settings=SETTINGS)
    offers, over = Offers(MESSAGES), threading.Event()
    threads = [threading.Thread(target=Client(server, offers, over).run, daemon=True) for _ in range(CLIENTS)]
    try:
        server.start()
        for thread in threads:
            thread.start()
        for kill in range(KILLS):
            offers.wait_for((kill + chance.random()) * MESSAGES / (KILLS + 1))
            server.kill()
            server.start()
        for thread in threads:
            thread.join(timeout=120)
            assert not thread.is_alive(), f"a client hangs; seed {seed}"
        found = Counter(
            int(match.group(1))
            for n in range(USERS)
            for octets in clear_text_messages(server, f"user{n}@crash.test")
            if (match := re.search(rb"^Subject: number (\d+)\r$", octets, re.MULTILINE))
        )
    finally:
        over.set()
        server.stop()
    assert len(offers.offered) == MESSAGES
    lost = offers.acknowledged - found.keys()
    doubled = [number for number, times in found.items() if times > 1]
    assert not lost, f"acknowledged and lost: {sorted(lost)[:20]}; seed {seed}"
    assert not doubled, f"filed more than once: {doubled[:20]}; seed {seed}"
    assert found.keys() <= offers.offered
    # The kills did hit messages under way, or this shows nothing.
    assert len(offers.acknowledged) < MESSAGES, f"no message was interrupted; seed {seed}"
