"""A queue of 200,000, of which 180,000 wait for one dead domain: what the other 20,000 and the postmaster notice of it.

The queue is filled behind the server's back, a thousand messages a commit. Then: how long the server takes to greet,
and the first page of `queue list` to be read; at last the other mail is let go, to twenty destinations that answer,
beside the same mail in a server that has nothing else. The dead domain refuses connections and is tried by the usual
schedule.

There is no peer: aims stand in its place, and the server without the crowd.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from bench.peers.postfix import PACKAGES
from bench.peers.private_root import PrivateRoot
from bench.peers.waiting import free_port, wait_until
from bench.posthouse_server import PosthouseServer
from bench.relay import ADDRESS, HOME, Sinks
from bench.report import Report, Row, median
from posthouse import journey
from posthouse.cli.installation import Installation
from posthouse.queue import control, queue
from posthouse.queue.control import Selection
from posthouse.queue.queue import DOMAIN, NewRecipient, QueuedMail
from posthouse.store import blobs
from posthouse.store.blobs import Staged
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import parse

LIVE: Final = [f"d{n}.sink.test" for n in range(20)]
DEAD: Final = "dead.sink.test"
_COMMIT: Final = 1000
_SECONDS: Final = 300
_AIM_START: Final = 3.0
_AIM_PAGE: Final = 0.2
# What a drain may lose by the crowd: nothing but noise.
_UNCHANGED: Final = 0.95

_SETTINGS = """
[queue]
concurrency = 100
concurrency_per_destination = 20
"""
_MESSAGE = (
    b"From: <sender@elsewhere.test>\r\nMessage-ID: <%d@elsewhere.test>\r\nSubject: Waiting\r\n\r\n"
    + b"X" * 300
    + b"\r\n"
)


class Crowded:
    """A server whose queue holds `live` messages for destinations that answer, held until let go, and `dead` others."""

    def __init__(self, doors: dict[str, int], live: int, dead: int) -> None:
        routes = "".join(
            f'[[route]]\nname = "{domain}"\nto = "smtp://{ADDRESS}:{port}"\nrecipient = "{domain}"\n'
            for domain, port in doors.items()
        )
        self.server = PosthouseServer(domain=HOME, users=["user"], settings=_SETTINGS + routes)
        self.installation = Installation(self.server.configuration)
        self._live = [domain for domain in doors if domain != DEAD]
        self.count = live // len(self._live) * len(self._live)
        asyncio.run(self._fill([*self._named(self._live, self.count), *self._named([DEAD], dead)]))

    @staticmethod
    def _named(domains: Sequence[str], count: int) -> Iterator[str]:
        return (domains[n % len(domains)] for n in range(count))

    async def _fill(self, domains: Sequence[str]) -> None:
        store = self.installation.open_store()
        try:
            now = self.installation.clock.now()
            for domain in self._live:
                await store.write(control.hold_destination, f"{DOMAIN}{domain}", now)
            mixed = list(domains)
            Random(1).shuffle(mixed)
            for start in range(0, len(mixed), _COMMIT):
                await self._accept(store, start, mixed[start : start + _COMMIT])
        finally:
            await store.close()

    async def _accept(self, store: SqliteStore, start: int, domains: Sequence[str]) -> None:
        now = self.installation.clock.now()
        staged = [blobs.in_row(_MESSAGE % n) for n in range(start, start + len(domains))]

        def accept(tx: Tx) -> None:
            for n, (domain, one) in enumerate(zip(domains, staged, strict=True), start):
                queue.accept(tx, _mail(tx, one, n, now), [NewRecipient(parse(f"user{n}@{domain}"))])

        await store.write(accept)

    def start(self) -> float:
        """Start it; seconds until it greets."""
        began = time.monotonic()
        self.server.start()
        return time.monotonic() - began

    def page(self) -> float:
        """Seconds that the first page of `queue list` takes to be read."""
        began = time.monotonic()
        found = self.installation.read(control.list_recipients, Selection(), self.installation.clock.now())
        assert len(found) == 100, f"{len(found)} of 100 recipients on the first page"
        return time.monotonic() - began

    def drain(self, root: PrivateRoot, doors: dict[str, int]) -> float:
        """Let the other mail go, until the last of it has left: messages a second."""
        sinks = Sinks(root, [doors[domain] for domain in self._live])
        try:
            began, now = time.monotonic(), self.installation.clock.now()
            self.installation.write(
                lambda tx: [control.release_destination(tx, f"{DOMAIN}{domain}", now) for domain in self._live]
            )
            wait_until(lambda: not self._waiting(), _SECONDS, "the other mail to leave", pause=0.02)
            return self.count / (time.monotonic() - began)
        finally:
            sinks.stop()

    def _waiting(self) -> bool:
        with self.server.database() as database:
            sql = "SELECT EXISTS (SELECT 1 FROM lane WHERE destination <> ?)"
            return bool(next(database.execute(sql, (f"{DOMAIN}{DEAD}",)))[0])


def _mail(tx: Tx, staged: Staged, n: int, now: int) -> QueuedMail:
    return QueuedMail(
        journey=journey.new_id(now, n),
        blob=blobs.insert(tx, staged),
        size=staged.size,
        sender=parse(f"sender{n % 20}@elsewhere{n % 20}.test"),
        queued_at=now,
        expires_at=now + 5 * 86_400_000,
    )


@dataclass(frozen=True, slots=True)
class Run:
    """One run: seconds to greet, seconds for a page, messages a second."""

    start: float
    page: float
    rate: float


def run(root: PrivateRoot, live: int, dead: int) -> Run:
    """Fill a server, start it, look, and let the mail go."""
    doors = {domain: free_port(ADDRESS) for domain in [*LIVE, DEAD]}
    crowded = Crowded(doors, live, dead)
    try:
        start = crowded.start()
        page = median([crowded.page() for _ in range(5)])
        return Run(start, page, crowded.drain(root, doors))
    finally:
        crowded.server.stop()


def measure(quick: bool) -> Report:
    """All rows; a quick run has a fifth of the queue and is done once."""
    live, dead = (4000, 36_000) if quick else (20_000, 180_000)
    report = Report(
        "queue",
        {
            "aim": "what a postmaster should not have to wait longer for",
            "alone": "posthouse without the dead domain's mail",
        },
    )
    with contextlib.ExitStack() as running:
        root = PrivateRoot("sink", PACKAGES)
        running.callback(root.remove)
        crowded: list[Run] = []
        alone: list[Run] = []
        for _ in range(1 if quick else 3):
            crowded.append(run(root, live, dead))
            alone.append(run(root, live, 0))
    name = f"{live + dead:,} waiting, {dead:,} for a dead domain"
    starts, pages = median([one.start for one in crowded]), median([one.page for one in crowded])
    report.rows += [
        Row(f"{name}: start", "s", starts, _AIM_START, "aim", 1, lower_is_better=True),
        Row(f"{name}: first page of the list", "s", pages, _AIM_PAGE, "aim", 1, lower_is_better=True),
        Row(
            f"{name}: the others drained",
            "messages/s",
            median([one.rate for one in crowded]),
            median([one.rate for one in alone]),
            "alone",
            _UNCHANGED,
        ),
    ]
    return report
