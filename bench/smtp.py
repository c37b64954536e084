"""Mail from the network into mailboxes: smtp-source against posthouse, Postfix and Dovecot.

20 sessions, each sending to a mailbox of its own. A run counts from the first connection until the last message lies in
its mailbox and every worker behind the commit has caught up; CPU is that of all processes of the server, over the same
time. Afterwards 100 random messages of each server are read back.

posthouse walks its full road (parse, thread, summary, search index, journey; an fsync before each 250).
"""

import contextlib
import imaplib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from bench.peers import cpu
from bench.peers.dovecot import Dovecot
from bench.peers.postfix import PACKAGES, Postfix
from bench.peers.private_root import PrivateRoot
from bench.peers.waiting import free_port, wait_until
from bench.posthouse_server import PASSWORD, PosthouseServer
from bench.report import Report, Row, median

DOMAIN = "bench.test"
SESSIONS = 20
USERS = [f"user{n}" for n in range(SESSIONS)]
ADDRESS = "127.0.0.1"


class Target(Protocol):
    """A server under load."""

    name: str
    port: int
    lmtp: bool

    def delivered(self) -> int:
        """Messages that lie in their mailboxes, all work on them done."""
        ...

    def cpu(self) -> float:
        """CPU seconds used so far by the whole server."""
        ...

    def sample(self, count: int) -> list[bytes]:
        """Random messages from its mailboxes."""
        ...

    def stop(self) -> None:
        """End it and remove what it wrote."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """What smtp-source is told."""

    name: str
    size: int
    kept: bool
    messages: int


class PosthouseTarget:
    name, lmtp = "posthouse", False

    def __init__(self) -> None:
        self._server = PosthouseServer(domain=DOMAIN, users=USERS, settings=_GENEROUS)
        self._server.start()
        self.port = self._server.ports["smtp"]

    def delivered(self) -> int:
        return self._server.delivered()

    def cpu(self) -> float:
        return cpu.seconds([self._server.process.pid])

    def sample(self, count: int) -> list[bytes]:
        found: list[bytes] = []
        for _ in range(count):
            with imaplib.IMAP4(ADDRESS, self._server.ports["imap"], timeout=30) as client:
                client.login(f"{random.choice(USERS)}@{DOMAIN}", PASSWORD)
                number = int(client.select("INBOX", readonly=True)[1][0] or b"0")
                part = client.fetch(str(random.randint(1, number)), "(BODY.PEEK[])")[1][0]
                assert isinstance(part, tuple), part
                found.append(part[1])
        return found

    def stop(self) -> None:
        self._server.stop()


# One machine plays twenty: the limits on one address are not what is measured.
_GENEROUS = """
[limits]
connections_per_address = 1000
connection_rate = "1000000/1m"
message_rate = "1000000/1m"
"""


class PostfixTarget:
    """Postfix, into Maildirs by its virtual(8), or through LMTP to Dovecot."""

    lmtp = False

    def __init__(self, through_dovecot: bool) -> None:
        self.name = "Postfix → Dovecot LMTP" if through_dovecot else "Postfix → Maildir"
        self._dovecot = _dovecot("maildir") if through_dovecot else None
        settings = {}
        if self._dovecot is not None:
            settings["virtual_transport"] = f"lmtp:inet:{ADDRESS}:{self._dovecot.lmtp}"
        self._postfix = Postfix(domain=DOMAIN, users=USERS, address=ADDRESS, port=free_port(ADDRESS), settings=settings)
        self._postfix.start()
        self.port = self._postfix.port

    def delivered(self) -> int:
        return (self._dovecot or self._postfix).delivered()

    def cpu(self) -> float:
        pids = self._postfix.daemon.pids() + (self._dovecot.daemon.pids() if self._dovecot else [])
        return cpu.seconds(pids)

    def sample(self, count: int) -> list[bytes]:
        paths = list((self._dovecot or self._postfix).mail.glob("*/new/*"))
        return [random.choice(paths).read_bytes() for _ in range(count)]

    def stop(self) -> None:
        self._postfix.stop()
        if self._dovecot is not None:
            self._dovecot.stop()


class DovecotTarget:
    """Dovecot's LMTP alone, into sdbox: the fastest durable peer that was found."""

    name, lmtp = "Dovecot LMTP → sdbox", True

    def __init__(self) -> None:
        self._dovecot = _dovecot("sdbox")
        self.port = self._dovecot.lmtp

    def delivered(self) -> int:
        return self._dovecot.delivered()

    def cpu(self) -> float:
        return cpu.seconds(self._dovecot.daemon.pids())

    def sample(self, count: int) -> list[bytes]:
        found: list[bytes] = []
        for _ in range(count):
            with imaplib.IMAP4(ADDRESS, self._dovecot.imap, timeout=30) as client:
                client.login(random.choice(USERS), "secret")
                number = int(client.select("INBOX", readonly=True)[1][0] or b"0")
                part = client.fetch(str(random.randint(1, number)), "(BODY.PEEK[])")[1][0]
                assert isinstance(part, tuple), part
                found.append(part[1])
        return found

    def stop(self) -> None:
        self._dovecot.stop()


def _dovecot(store: str) -> Dovecot:
    dovecot = Dovecot(users=USERS, address=ADDRESS, lmtp=free_port(ADDRESS), imap=free_port(ADDRESS), store=store)
    dovecot.start()
    return dovecot


@dataclass(frozen=True, slots=True)
class Run:
    """One run: messages a second, and CPU milliseconds a message."""

    rate: float
    cpu: float


def run(target: Target, source: PrivateRoot, load: Load) -> Run:
    """Send the load, wait until all of it has arrived."""
    before, started, used = target.delivered(), time.monotonic(), target.cpu()
    each = load.messages // SESSIONS
    options = f"-s 1 -m {each} -l {load.size} -f sender@elsewhere.test {'-d' if load.kept else ''}"
    options += " -L" if target.lmtp else ""
    script = "".join(f"smtp-source {options} -t {user}@{DOMAIN} {ADDRESS}:{target.port} & " for user in USERS) + "wait"
    done = source.run("sh", "-c", script)
    assert not done.stderr, done.stderr[:1000]
    expected = before + each * SESSIONS
    wait_until(lambda: target.delivered() >= expected, 120, f"{expected} messages at {target.name}", pause=0.05)
    took = time.monotonic() - started
    return Run(each * SESSIONS / took, (target.cpu() - used) / (each * SESSIONS) * 1000)


def verify(target: Target, sizes: set[int]) -> None:
    """100 random messages are whole: smtp-source's body is numbered lines of X, as many octets as were asked for."""
    for message in target.sample(100):
        body = message.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
        assert body, f"{target.name}: a message without a body"
        assert set(body) <= set(b"0123456789X\n"), f"{target.name}: a message that is not what was sent"
        octets = len(body) + body.count(b"\n")
        assert any(abs(octets - size) < 100 for size in sizes), f"{target.name}: a body of {octets} octets"


def loads(quick: bool) -> list[Load]:
    """The three loads; a quick run sends less."""
    factor = 1 if quick else 5
    return [
        Load("2 KB, a connection a message", 2048, False, 600 * factor),
        Load("2 KB, kept connections", 2048, True, 600 * factor),
        Load("50 KB, a connection a message", 51200, False, 300 * factor),
    ]


# The target of a row: how many times the peer's rate posthouse must reach, or the peer's CPU must be ours.
TARGETS: dict[tuple[str, str], float] = {
    ("2 KB, a connection a message", "Postfix → Dovecot LMTP"): 5,
    ("2 KB, a connection a message", "Postfix → Maildir"): 3.5,
    ("2 KB, a connection a message", "Dovecot LMTP → sdbox"): 2.4,
    ("2 KB, kept connections", "Dovecot LMTP → sdbox"): 2.9,
    ("50 KB, a connection a message", "Dovecot LMTP → sdbox"): 2.4,
}
CPU_TARGETS: dict[tuple[str, str], float] = {("2 KB, a connection a message", "Postfix → Maildir"): 7}

STARTERS: list[Callable[[], Target]] = [
    lambda: PostfixTarget(through_dovecot=False),
    lambda: PostfixTarget(through_dovecot=True),
    DovecotTarget,
]


def measure(quick: bool) -> Report:
    """All rows: each peer alternates with posthouse, three times (once when quick)."""
    source = PrivateRoot("source", PACKAGES)
    try:
        versions = source.run("sh", "-c", "postconf -h mail_version; dovecot --version").stdout.split("\n")
        report = Report(
            "smtp",
            {
                "Postfix": f"{versions[0]}, virtual(8) or lmtp(8), durable as always; bench/peers/postfix.py",
                "Dovecot": f"{versions[1]}, LMTP, mail_fsync=optimized (its default); bench/peers/dovecot.py",
            },
        )
        for starter in STARTERS:
            report.rows += list(_compare(starter, source, quick))
    finally:
        source.remove()
    return report


def _compare(starter: Callable[[], Target], source: PrivateRoot, quick: bool) -> Iterator[Row]:
    """The rows of one peer beside posthouse."""
    with contextlib.ExitStack() as running:
        ours: Target = PosthouseTarget()
        running.callback(ours.stop)
        peer = starter()
        running.callback(peer.stop)
        for load in loads(quick):
            mine: list[Run] = []
            theirs: list[Run] = []
            for _ in range(1 if quick else 3):
                mine.append(run(ours, source, load))
                theirs.append(run(peer, source, load))
            yield from _rows(load, peer.name, mine, theirs)
        for target in (ours, peer):
            verify(target, {load.size for load in loads(quick)})


def _rows(load: Load, peer: str, mine: list[Run], theirs: list[Run]) -> Iterator[Row]:
    yield Row(
        load.name,
        "messages/s",
        median([run.rate for run in mine]),
        median([run.rate for run in theirs]),
        peer,
        TARGETS.get((load.name, peer)),
    )
    yield Row(
        f"{load.name}: CPU a message",
        "ms",
        median([run.cpu for run in mine]),
        median([run.cpu for run in theirs]),
        peer,
        CPU_TARGETS.get((load.name, peer)),
        lower_is_better=True,
    )
