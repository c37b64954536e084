"""Mail in by SMTP and out by SMTP: smtp-source on one side, smtp-sink on the other, posthouse against Postfix between.

Three loads. Through: messages are taken and handed on until the last has left. Drained: 10,000 messages wait until the
far end is let free. Hanging: the same as drained for twenty destinations, of which one accepts connections and says
nothing; what the other nineteen lose by it is the difference to all twenty answering.

Both servers send to the sink by a route of their configuration, without TLS, from their usual limits but for 20
connections to a destination, Postfix's default. CPU is that of all processes of the server.
"""

import contextlib
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from bench.peers import cpu
from bench.peers.postfix import PACKAGES, Postfix
from bench.peers.private_root import Daemon, PrivateRoot
from bench.peers.waiting import free_port, wait_for_port, wait_until
from bench.posthouse_server import PosthouseServer
from bench.report import Report, Row, median
from posthouse.cli.installation import Installation
from posthouse.queue import control
from posthouse.queue.queue import DOMAIN
from posthouse.store.database import Tx

ADDRESS: Final = "127.0.0.1"
HOME: Final = "bench.test"
SESSIONS: Final = 20
DESTINATIONS: Final = [f"d{n}.sink.test" for n in range(20)]
_SECONDS: Final = 600
# What Postfix takes to begin anew.
_RELOAD: Final = 1.0


class Target(Protocol):
    """A server between source and sink. `doors` are the ports that each destination's mail goes to."""

    name: str
    port: int

    def hold(self) -> None:
        """What comes from now on waits."""
        ...

    def prepare(self) -> None:
        """All of it waits by now: get ready to let it go."""
        ...

    def let_go(self) -> None:
        """All that waits goes now."""
        ...

    def try_again(self) -> None:
        """All that waits is tried now, whatever backs off."""
        ...

    def busy(self, left: int) -> bool:
        """More than so many messages are not yet handed on, or work behind those that are is not done."""
        ...

    def cpu(self) -> float:
        """CPU seconds used so far by the whole server."""
        ...

    def stop(self) -> None:
        """End it and remove what it wrote."""
        ...


_SETTINGS = """
[limits]
connections_per_address = 1000
connection_rate = "1000000/1m"
message_rate = "1000000/1m"
[relay]
trusted_networks = "127.0.0.1"
[queue]
concurrency = 400
concurrency_per_destination = 20
"""


class PosthouseTarget:
    name = "posthouse"

    def __init__(self, doors: dict[str, int]) -> None:
        routes = "".join(
            f'[[route]]\nname = "{domain}"\nto = "smtp://{ADDRESS}:{port}"\nrecipient = "{domain}"\n'
            for domain, port in doors.items()
        )
        self._doors = doors
        self._server = PosthouseServer(domain=HOME, users=["user"], settings=_SETTINGS + routes)
        self._installation = Installation(self._server.configuration)
        self._server.start()
        self.port = self._server.ports["smtp"]

    def hold(self) -> None:
        self._each(control.hold_destination)

    def prepare(self) -> None:
        return

    def let_go(self) -> None:
        self._each(control.release_destination)

    def try_again(self) -> None:
        self._each(lambda tx, destination, now: control.flush(tx, destination.removeprefix(DOMAIN), now))

    def _each(self, do: Callable[[Tx, str, int], object]) -> None:
        """What `posthouse queue hold` and `release` do, for all destinations in one process and one commit."""
        now = self._installation.clock.now()

        def all_of_them(tx: Tx) -> None:
            for domain in self._doors:
                do(tx, f"{DOMAIN}{domain}", now)

        self._installation.write(all_of_them)

    def busy(self, left: int) -> bool:
        with self._server.database() as database:
            (waiting,) = next(database.execute("SELECT count(*) FROM queued_recipient"))
            (unordered,) = next(database.execute("SELECT count(*) FROM journey_new"))
        return bool(waiting > left or unordered)

    def cpu(self) -> float:
        return cpu.seconds([self._server.process.pid])

    def stop(self) -> None:
        self._server.stop()


class PostfixTarget:
    name = "Postfix"

    def __init__(self, doors: dict[str, int]) -> None:
        self._postfix = Postfix(
            domain=HOME,
            users=["user"],
            address=ADDRESS,
            port=free_port(ADDRESS),
            settings={"transport_maps": "texthash:/peer/etc/transport", "defer_transports": ""},
        )
        routes = "".join(f"{domain} smtp:[{ADDRESS}]:{port}\n" for domain, port in doors.items())
        (self._postfix.root.peer / "etc" / "transport").write_text(routes)
        self._postfix.start()
        self.port = self._postfix.port

    def hold(self) -> None:
        self._defer("smtp")

    def prepare(self) -> None:
        self._defer("")

    def let_go(self) -> None:
        wait_until(self._flushed, 10, "Postfix to be there again after its reload", pause=0.1)

    def try_again(self) -> None:
        self.let_go()

    def _flushed(self) -> bool:
        try:
            self._postfix.command("postqueue", "-c", "/peer/etc", "-f")
        except subprocess.CalledProcessError:
            return False
        return True

    def _defer(self, transports: str) -> None:
        self._postfix.command("postconf", "-c", "/peer/etc", "-e", f"defer_transports={transports}")
        self._postfix.command("postfix", "-c", "/peer/etc", "reload")
        time.sleep(_RELOAD)

    def busy(self, left: int) -> bool:
        return self._postfix.queued(left + 1) > left

    def cpu(self) -> float:
        return cpu.seconds(self._postfix.daemon.pids())

    def stop(self) -> None:
        self._postfix.stop()


# --- the two ends -----------------------------------------------------------------------------------------------------


class Sinks:
    """smtp-sink at each of these ports, which takes all and stores nothing. `kept`: but in files here, for checking."""

    def __init__(self, root: PrivateRoot, ports: Sequence[int], kept: str = "") -> None:
        dump = f"-d /peer/{kept}/%M." if kept else ""
        script = "".join(f"smtp-sink -u nobody -m 1000 {dump} {ADDRESS}:{port} 1000 & " for port in ports)
        self._daemon: Daemon = root.start("sh", "-c", script + "wait", log=root.peer / "sink.log")
        for port in ports:
            wait_for_port(ADDRESS, port, self._daemon.process)

    def stop(self) -> None:
        """End them."""
        self._daemon.stop()


@contextlib.contextmanager
def hanging(port: int) -> Iterator[None]:
    """A door behind which nobody says anything."""
    with socket.create_server((ADDRESS, port), backlog=500):
        yield


def inject(source: PrivateRoot, target: Target, domains: Sequence[str], size: int, count: int) -> int:
    """Send about `count` messages from 20 sessions, spread evenly over the domains; how many it were."""
    each = max(count // SESSIONS, 1)
    script = "".join(
        f"smtp-source -s 1 -d -m {each} -l {size} -f sender{n}@elsewhere.test -t user@{domains[n % len(domains)]}"
        f" {ADDRESS}:{target.port} & "
        for n in range(SESSIONS)
    )
    done = source.run("sh", "-c", script + "wait")
    assert not done.stderr, done.stderr[:1000]
    return each * SESSIONS


# --- the loads --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """One run: messages a second, and CPU milliseconds a message."""

    rate: float
    cpu: float


class Stage:
    """The private roots that both ends live in, and the ports of the twenty destinations."""

    def __init__(self) -> None:
        self.source = PrivateRoot("source", PACKAGES)
        self.root = PrivateRoot("sink", PACKAGES)
        self.doors = {domain: free_port(ADDRESS) for domain in DESTINATIONS}

    def through(self, target: Target, size: int, count: int) -> Run:
        """Messages for one destination, in and out, until the last has left."""
        return self._timed(target, DESTINATIONS[:1], size, count, wait=False)

    def drained(self, target: Target, size: int, count: int) -> Run:
        """The same, but all wait when the time begins."""
        return self._timed(target, DESTINATIONS[:1], size, count, wait=True)

    def many(self, target: Target, count: int, *, one_hangs: bool) -> Run:
        """Messages that wait for twenty destinations; counted are those of the nineteen that always answer."""
        if not one_hangs:
            return self._timed(target, DESTINATIONS, 2048, count, wait=True)
        with hanging(self.doors[DESTINATIONS[-1]]):
            found = self._timed(target, DESTINATIONS, 2048, count, wait=True, one_hangs=True)
        self._empty(target)
        return found

    def _empty(self, target: Target) -> None:
        """What a hanging destination has left behind goes, so that the next run begins like this one.

        Connections that break when it stops hanging make the destination back off, some of them behind the first time
        that it is let go.
        """
        sinks = Sinks(self.root, [self.doors[DESTINATIONS[-1]]])
        while target.busy(0):
            target.try_again()
            time.sleep(_RELOAD)
        sinks.stop()

    def _timed(
        self, target: Target, domains: Sequence[str], size: int, count: int, *, wait: bool, one_hangs: bool = False
    ) -> Run:
        each = max(count // SESSIONS, 1) * SESSIONS // len(domains)
        answering = domains[:-1] if one_hangs else domains
        with contextlib.ExitStack() as running:
            sinks = Sinks(self.root, [self.doors[domain] for domain in answering])
            running.callback(sinks.stop)
            if wait:
                target.hold()
                inject(self.source, target, domains, size, count)
                target.prepare()
            used, started = target.cpu(), time.monotonic()
            if wait:
                target.let_go()
            else:
                inject(self.source, target, domains, size, count)
            left = each if one_hangs else 0
            wait_until(lambda: not target.busy(left), _SECONDS, f"{target.name} to hand all on", pause=0.05)
            handed_on = each * len(answering)
            return Run(handed_on / (time.monotonic() - started), (target.cpu() - used) / handed_on * 1000)

    def verify(self, target: Target) -> None:
        """100 messages arrive whole: smtp-source's body is numbered lines of X."""
        kept = self.root.peer / target.name
        kept.mkdir()
        kept.chmod(0o777)
        sinks = Sinks(self.root, [self.doors[DESTINATIONS[0]]], target.name)
        inject(self.source, target, DESTINATIONS[:1], 2048, 100)
        wait_until(lambda: not target.busy(0), _SECONDS, f"{target.name} to hand on 100 messages")
        sinks.stop()
        files = list(kept.iterdir())
        assert len(files) == 100, f"{target.name}: {len(files)} messages arrived of 100"
        for path in random.sample(files, len(files)):
            _check(target.name, path)
        shutil.rmtree(kept)

    def stop(self) -> None:
        """Remove what it wrote."""
        self.source.remove()
        self.root.remove()


def _check(name: str, path: Path) -> None:
    body = path.read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")[2].strip(b"\n")
    assert set(body) <= set(b"0123456789X\n"), f"{name}: a message that is not what was sent"
    octets = len(body) + body.count(b"\n")
    assert abs(octets - 2048) < 100, f"{name}: a body of {octets} octets"


@dataclass(frozen=True, slots=True)
class Load:
    """One comparison."""

    name: str
    run: Callable[[Stage, Target], Run]
    target: float | None = None


def loads(quick: bool) -> list[Load]:
    """What is compared; a quick run sends less."""
    factor = 1 if quick else 5
    waiting = 2000 if quick else 10_000
    return [
        Load("2 KB, in and out", lambda stage, target: stage.through(target, 2048, 600 * factor), 2),
        Load("50 KB, in and out", lambda stage, target: stage.through(target, 51200, 200 * factor), 2),
        Load(f"{waiting:,} waiting, drained", lambda stage, target: stage.drained(target, 2048, waiting), 2),
    ]


def hanging_loads(quick: bool) -> list[Load]:
    """Twenty destinations that answer, and the same with one that does not. Even a quick run sends enough that its
    beginning and end, which are the same for any number of messages, are not what is measured."""
    waiting = 4000 if quick else 10_000
    return [
        Load(f"{waiting:,} for 20 destinations", lambda stage, target: stage.many(target, waiting, one_hangs=False)),
        Load("the same, one of them hanging", lambda stage, target: stage.many(target, waiting, one_hangs=True)),
    ]


def measure(quick: bool) -> Report:
    """All rows: each load alternates between both servers, three times (once when quick); the two of which the
    difference counts with each other too, five times (twice)."""
    with contextlib.ExitStack() as running:
        stage = Stage()
        running.callback(stage.stop)
        shown = stage.source.run("postconf", "-h", "mail_version").stdout.strip()
        report = Report("relay", {"Postfix": f"{shown}, smtp(8) by transport_maps; bench/peers/postfix.py"})
        ours: Target = PosthouseTarget(stage.doors)
        running.callback(ours.stop)
        peer: Target = PostfixTarget(stage.doors)
        running.callback(peer.stop)
        for load in loads(quick):
            found = _alternating(stage, [load], (ours, peer), 1 if quick else 3)
            report.rows += list(_rows(*found[0]))
        free, hung = _alternating(stage, hanging_loads(quick), (ours, peer), 2 if quick else 5)
        report.rows += [*_rows(*free), *_rows(*hung), _kept_beside_hanging(free, hung)]
        for target in (ours, peer):
            stage.verify(target)
        return report


_Result = tuple[Load, list[Run], list[Run]]


def _alternating(stage: Stage, together: Sequence[Load], targets: tuple[Target, Target], times: int) -> list[_Result]:
    """Each of these loads so many times on each server, in turn. Where loads are compared with each other, the first
    is run once before: what a server learns of destinations would else be a difference between them."""
    if len(together) > 1:
        for target in targets:
            together[0].run(stage, target)
    ours, peer = targets
    results: list[_Result] = [(load, [], []) for load in together]
    for _ in range(times):
        for load, mine, theirs in results:
            mine.append(load.run(stage, ours))
            theirs.append(load.run(stage, peer))
    return results


def _rows(load: Load, mine: Sequence[Run], theirs: Sequence[Run]) -> Iterator[Row]:
    yield Row(
        load.name,
        "messages/s",
        median([run.rate for run in mine]),
        median([run.rate for run in theirs]),
        "Postfix",
        load.target,
    )
    yield Row(
        f"{load.name}: CPU a message",
        "ms",
        median([run.cpu for run in mine]),
        median([run.cpu for run in theirs]),
        "Postfix",
        None,
        lower_is_better=True,
    )


def _kept_beside_hanging(free: _Result, hung: _Result) -> Row:
    """What the nineteen keep of their rate, in percent; less than 95 is too little."""

    def kept(without: Sequence[Run], with_one: Sequence[Run]) -> float:
        return 100 * median([run.rate for run in with_one]) / median([run.rate for run in without])

    name = "what the others keep beside one that hangs"
    return Row(name, "%", kept(free[1], hung[1]), kept(free[2], hung[2]), "Postfix", None)
