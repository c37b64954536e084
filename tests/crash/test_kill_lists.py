"""SIGKILL on the road of a mailing list, at each commit and at random: members at home get a post once, others at least
once, and nobody who should have it none."""

import contextlib
import random
import re
import signal
import smtplib
import socketserver
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from bench.peers.waiting import wait_until
from bench.posthouse_server import PosthouseServer
from tests.crash.dying import POINTS
from tests.interop.reading import clear_text_messages

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

HOME, DIGESTS_AT_HOME = 12, 3
# Several batches.
AWAY, DIGESTS_AWAY = 80, 10
POSTS_AT_RANDOM, KILLS_AT_RANDOM = 3, 3
NEVER = 1 << 30
# Two posts make a digest.
PER_DIGEST = 2
TEAM = "team@crash.test"
NUMBER = re.compile(rb"^Message-ID: <(\d+)@crash>\r$", re.MULTILINE)
SETTINGS = """
[queue]
schedule = ["1s"]
[limits]
connections_per_address = 1000
connection_rate = "1000000/1m"
message_rate = "1000000/1m"
[[route]]
name = "sink"
to = "smtp://127.0.0.1:{port}"
tls = "off"
"""


class Sink(socketserver.ThreadingTCPServer):
    """The members elsewhere: takes everything, and remembers who got which post."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.port = int(self.server_address[1])
        self.got: Counter[tuple[str, int]] = Counter()
        self.lock = threading.Lock()

    def take(self, recipients: list[str], octets: bytes) -> None:
        with self.lock:
            self.got.update((one, int(number)) for one in recipients for number in NUMBER.findall(octets))


class _Conversation(socketserver.StreamRequestHandler):
    server: Sink

    def handle(self) -> None:
        # Who is killed says no goodbye.
        with contextlib.suppress(ConnectionError):
            self._serve()

    def _serve(self) -> None:
        recipients: list[str] = []
        self._say(b"220 sink.test")
        for line in self.rfile:
            command = line[:4].upper()
            if command == b"EHLO":
                self._say(b"250-sink.test\r\n250-PIPELINING\r\n250 8BITMIME")
            elif command == b"DATA":
                self._say(b"354 go on")
                octets = self._message()
                if octets is None:
                    return  # killed before the dot: nobody has it
                self.server.take(recipients, octets)
                recipients = []
                self._say(b"250 taken")
            elif command == b"QUIT":
                self._say(b"221 bye")
                return
            else:
                if command == b"RCPT":
                    recipients.append(line.partition(b"<")[2].partition(b">")[0].decode())
                self._say(b"250 ok")

    def _message(self) -> bytes | None:
        lines: list[bytes] = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return None
            lines.append(line)
        return b"".join(lines)

    def _say(self, reply: bytes) -> None:
        self.wfile.write(reply + b"\r\n")


class DyingServer(PosthouseServer):
    """A server that can be started with a commit at which it dies."""

    point: tuple[str, ...] = ()

    def _argv(self, *argv: str) -> list[str]:
        if argv == ("serve",) and self.point:
            module = ["tests.crash.dying", *self.point]
            return [sys.executable, "-m", *module, "--config", str(self.configuration), *argv]
        return super()._argv(*argv)

    def start_to_die(self, point: str, when: str, count: int) -> None:
        """Start, and be killed there: at once, perhaps, at what waited since before."""
        self.point = (point, when, str(count))
        try:
            self.start()
        except AssertionError:
            if self.process.poll() != -signal.SIGKILL:
                raise
        finally:
            self.point = ()

    def waits(self) -> int:
        """Rows that somebody has yet to work on."""
        return self._count("SELECT (SELECT count(*) FROM queued_recipient) + total(sealed) FROM list_digest")

    def gathers(self) -> int:
        """Digests that wait for more."""
        return self._count("SELECT total(1 - sealed) FROM list_digest")

    def _count(self, query: str) -> int:
        with self.database() as database:
            ((rows,),) = database.execute(query)
        return int(rows)


class Poster:
    """Posts to the list, each post once, whatever becomes of it."""

    def __init__(self, server: PosthouseServer) -> None:
        self._server = server
        self.posted: set[int] = set()
        self.acknowledged: set[int] = set()

    def post(self) -> None:
        """Offer the next post."""
        number = len(self.posted)
        self.posted.add(number)
        message = f"From: ann@away.test\r\nSubject: post {number}\r\nMessage-ID: <{number}@crash>\r\n\r\nHi\r\n"
        try:
            with smtplib.SMTP(self._server.address, self._server.ports["smtp"], timeout=60) as client:
                client.sendmail("ann@away.test", [TEAM], message)
                self.acknowledged.add(number)
        except (OSError, smtplib.SMTPException):
            # Killed: nobody said that it is ours, and it is not offered again.
            return


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


@pytest.fixture
def server(sink: Sink) -> Iterator[DyingServer]:
    made = DyingServer(
        domain="crash.test", users=[f"user{n}" for n in range(HOME)], settings=SETTINGS.format(port=sink.port)
    )
    try:
        members = [f"user{n}@crash.test" for n in range(HOME)] + [f"m{n}@away{n % 5}.test" for n in range(AWAY)]
        made.command(
            *("list", "add", TEAM, "--owner", "olga@away0.test", "--posting", "anyone", "--rewrite-from", "never"),
            *("--digest-posts", str(PER_DIGEST)),
        )
        made.command("list", "member", "set", TEAM, "olga@away0.test", "--delivery", "none")
        made.command("list", "member", "add", TEAM, *members[DIGESTS_AT_HOME:-DIGESTS_AWAY])
        made.command(
            *("list", "member", "add", TEAM, "--delivery", "digest"),
            *(*members[:DIGESTS_AT_HOME], *members[-DIGESTS_AWAY:]),
        )
        yield made
    finally:
        made.stop()


def test_killed_at_each_commit_and_at_random_a_list_neither_loses_nor_doubles_a_post(
    server: DyingServer, sink: Sink
) -> None:
    poster = Poster(server)
    _die_at_each_commit(server, poster)
    _die_at_random(server, poster)
    _check(server, sink, poster)


def _die_at_each_commit(server: DyingServer, poster: Poster) -> None:
    for point in POINTS:
        for when in ("before", "behind"):
            # Of several batches the second one.
            server.start_to_die(point, when, 2 if point == "expanded" else 1)
            while server.process.poll() is None:
                poster.post()
                wait_until(lambda: server.process.poll() is not None or not server.waits(), 90, "it to die", pause=0.1)


def _die_at_random(server: DyingServer, poster: Poster) -> None:
    chance = random.Random()
    seed = chance.randrange(1 << 30)
    chance.seed(seed)
    print(f"seed {seed}")
    over = threading.Event()
    for _ in range(KILLS_AT_RANDOM):
        server.start_to_die("expanded", "before", NEVER)
        timer = threading.Timer(chance.random() * 0.6, server.process.kill)
        timer.start()
        for _ in range(POSTS_AT_RANDOM):
            poster.post()
            over.wait(chance.random() * 0.1)
        timer.join()
        server.process.wait(timeout=60)


def _check(server: DyingServer, sink: Sink, poster: Poster) -> None:
    """Let it finish, and count."""
    server.start()
    wait_until(lambda: not server.waits(), 120, "the queue to be empty", pause=0.1)
    while server.gathers():
        poster.post()
        wait_until(lambda: not server.waits(), 120, "the queue to be empty", pause=0.1)
    home = {f"user{n}@crash.test" for n in range(HOME)}
    got = Counter(
        (user, int(number))
        for user in home
        for octets in clear_text_messages(server, user)
        for number in NUMBER.findall(octets)
    )
    sent_out = {number for _, number in got}
    assert poster.acknowledged <= sent_out <= poster.posted
    assert got == Counter({(user, number): 1 for user in home for number in sent_out})
    away = {f"m{n}@away{n % 5}.test" for n in range(AWAY)}
    assert sink.got.keys() == {(one, number) for one in away for number in sent_out}
    # The kills did hit, or this shows nothing.
    assert poster.acknowledged < poster.posted
