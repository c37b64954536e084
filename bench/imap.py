"""IMAP and POP3 beside Dovecot over its two stores, Maildir and sdbox, on mail made by seed (bench/corpus.py).

Each run has a mailbox of its own, filled by the same commands in all three servers and opened by nobody; the servers
take turns. By the clock and in the server's CPU: the row is what the command took. A target holds against both stores,
so against the better one. Then what an idle connection costs, in clear text and with TLS; and against aims of ours
what very large accounts and long commands do to others (bench/imap_large.py).

Rows for extensions that one of the servers does not announce are left out, and named.
"""

import contextlib
import resource
from collections.abc import Iterator, Sequence
from typing import Final

from bench import corpus, imap_large
from bench.imap_client import Client
from bench.imap_run import HASHED, Run, Taken, capabilities, load, log_in
from bench.imap_servers import ADDRESS, DovecotServer, Posthouse, Server, unverified
from bench.report import Report, Row, median

_STORES: Final = ("sdbox", "maildir")
_NOT_SLOWER: Final = 0.95
# How many times faster than Dovecot; whatever is not named must not be slower.
TARGETS: Final = {
    "FETCH summaries, first time ever": 4,
    "FETCH summaries, warm": 4,
    "FETCH all bodies": 4,
    "SEARCH BODY, a rare word": 15,
    "SEARCH BODY, a common word": 15,
    "COPY of all": 10,
    "MOVE of all": 10,
    "APPEND one by one": 1.7,
    "MULTIAPPEND of 500": 1.7,
    "login and logout": 5,
    "login and logout, 8 at once": 5,
}
# Shown, because it is the price of the hash and not of the server.
_NO_TARGET: Final = (HASHED,)
_OPTIONAL: Final = {
    "SORT": "SORT",
    "THREAD=REFERENCES": "THREAD",
    "CONDSTORE": "what has changed (CONDSTORE)",
    "QRESYNC": "resynchronising (QRESYNC)",
}
# KB of an idle connection in clear text.
_IDLE_AIM: Final = 40.0


def measure(quick: bool) -> Report:
    """All rows; a quick run has a twentieth of the messages and is done once."""
    runs, samples = (1, corpus.make(1000)) if quick else (3, corpus.make(20_000))
    idle = 100 if quick else 2000
    _want_descriptors(idle + 200)
    users = [f"user{number}" for number in range(runs)]
    new = [f"newcomer{number}" for number in range(16 if quick else 40)]
    with contextlib.ExitStack() as running:
        ours = Posthouse([*users, *new])
        running.callback(ours.stop)
        peers = []
        for store in _STORES:
            peers.append(DovecotServer(store, users, new))
            running.callback(peers[-1].stop)
        settings = f"{peers[0].version}, mail_fsync=optimized (its default); bench/peers/dovecot.py"
        report = Report("imap", {f"Dovecot {store}": settings for store in _STORES} | {"limit": "aims of ours"})
        servers: list[Server] = [ours, *peers]
        report.rows += _compare(servers, users, new, samples, report)
        report.rows += _idle(servers, users[0], idle, len(samples))
    report.rows += imap_large.rows(quick, samples)
    return report


def _compare(
    servers: Sequence[Server],
    users: Sequence[str],
    new: Sequence[str],
    samples: Sequence[corpus.Sample],
    report: Report,
) -> Iterator[Row]:
    announced = {server.name: capabilities(server, users[0]) for server in servers}
    can = frozenset.intersection(*announced.values())
    for name, row in _OPTIONAL.items():
        missing = [server for server, capability in announced.items() if name not in capability]
        report.skipped += [f"{row}: not announced by {', '.join(missing)}"] if missing else []
    taken: dict[str, list[dict[str, Taken]]] = {server.name: [] for server in servers}
    for user in users:
        for server in servers:
            load(server, user, samples)
        for server in servers:
            taken[server.name].append(Run(server, user, samples, can).rows())
    for server in servers:
        # The hash is paid once an account: so is this row.
        found = log_in(server, users[0], new, 100 if len(users) == 1 else 1000)
        for run in taken[server.name]:
            run.update(found)
    ours, *peers = servers
    for row in taken[ours.name][0]:
        mine = [run[row] for run in taken[ours.name]]
        for peer in peers:
            yield from _rows(row, mine, peer.name, [run[row] for run in taken[peer.name]])


def _rows(row: str, mine: Sequence[Taken], peer: str, theirs: Sequence[Taken]) -> Iterator[Row]:
    target = None if row in _NO_TARGET else TARGETS.get(row, _NOT_SLOWER)
    walls, cpus = (
        [1000 * median([getattr(one, what) for one in runs]) for runs in (mine, theirs)] for what in ("wall", "cpu")
    )
    yield Row(row, "ms", walls[0], walls[1], peer, target, lower_is_better=True)
    yield Row(f"{row}: CPU", "ms", cpus[0], cpus[1], peer, None, lower_is_better=True)


# --- idle -------------------------------------------------------------------------------------------------------------


def _idle(servers: Sequence[Server], user: str, connections: int, messages: int) -> Iterator[Row]:
    """What an idle connection costs, on a mailbox with all messages."""
    for tls in (False, True):
        costs = [_idle_cost(server, user, connections, tls) for server in servers]
        how = "with TLS" if tls else "in clear text"
        name = f"{connections} idle on {messages:,} messages, {how}: memory of each"
        yield Row(name, "KB", costs[0], _IDLE_AIM, "limit", None if tls else 1, lower_is_better=True)
        for server, cost in zip(servers[1:], costs[1:], strict=True):
            yield Row(name, "KB", costs[0], cost, server.name, None, lower_is_better=True)


def _idle_cost(server: Server, user: str, connections: int, tls: bool) -> float:
    """KB for each of so many connections, which log in, open the mailbox and idle."""
    server.restart()
    context = unverified() if tls else None
    with contextlib.ExitStack() as opened:

        def one() -> None:
            client = opened.enter_context(Client(ADDRESS, server.imaps if tls else server.imap, tls=context))
            client.log_in(*server.person(user)).command(b"SELECT Copies")
            client.idle()

        one()
        before = server.memory()
        for _ in range(connections):
            one()
        return (server.memory() - before) / connections


def _want_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
