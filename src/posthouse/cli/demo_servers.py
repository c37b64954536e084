"""What the demo sets up: two real servers with their own stores, and a DNS server that tells each where the other is.

Promises: everything lies below one directory and listens on loopback only; no root is needed. Only processes that were
started here are ended, and all of them are.
Each server has the usual ports with a number of thousands added, the same for both where the machine has more than one
loopback address (Linux has 127.0.0.0/8; elsewhere both are at 127.0.0.1, at different ports).
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import posthouse
from posthouse import observe
from posthouse.cli.demo_talk import Door, User
from posthouse.cli.dns import dkim_record
from posthouse.cli.domain import new_keys, serve
from posthouse.cli.installation import CommandError, Installation
from posthouse.directory import accounts, credentials, signing
from posthouse.directory.signing import DomainKey
from posthouse.net.nameserver import Nameserver, Zone
from posthouse.observe import Level, Step
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from posthouse.trust.keys import PrivateKey
from posthouse.wire.sasl.verifier import ScramVerifier
from posthouse.written import Endpoint

PORTS: Final[dict[str, int]] = {
    "smtp": 25, "submission": 587, "submissions": 465, "imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995,
}  # fmt: skip
_DNS_PORT: Final = 53
# Below the ports that systems choose for outgoing connections (Linux: from 32768).
_SHIFTS: Final = range(10_000, 32_000, 2_000)
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.01

Last = Callable[[Step], bool]
"""Is this the step that was waited for?"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is: `shift` is what its ports have in addition to the usual ones."""

    domain: str
    address: str
    shift: int

    @property
    def hostname(self) -> str:
        """The server's name in DNS."""
        return f"mail.{self.domain}"

    def endpoint(self, protocol: str) -> Endpoint:
        """Where it speaks a protocol."""
        return Endpoint(self.address, PORTS[protocol] + self.shift)


@dataclass(frozen=True, slots=True)
class Person:
    """Who has an account."""

    name: str
    user: User

    @property
    def address(self) -> str:
        """The person's address."""
        return self.user.address


# --- DNS --------------------------------------------------------------------------------------------------------------


def zone_text(places: tuple[Place, ...], more: Sequence[str] = ()) -> str:
    """The records by which servers find each other, and `more`."""
    lines: list[str] = []
    for place in places:
        lines += [
            f"{place.domain} MX 10 {place.hostname}.",
            f'{place.domain} TXT "v=spf1 mx -all"',
            f"{place.hostname} A {place.address}",
        ]
    return "\n".join([*lines, *more])


class Names:
    """The DNS server, in a thread of its own."""

    def __init__(self, shift: int) -> None:
        """Listen; raises OSError where the port is taken."""
        self._server = Nameserver(Zone())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="dns", daemon=True)
        self._thread.start()
        try:
            wanted = Endpoint("127.0.0.1", _DNS_PORT + shift)
            self.endpoint = asyncio.run_coroutine_threadsafe(self._server.start(wanted), self._loop).result()
        except OSError:
            self._end_thread()
            raise

    def tell(self, places: tuple[Place, ...], more: Sequence[str] = ()) -> None:
        """Answer for these, and with these records."""
        self._server.zone = Zone.parse(zone_text(places, more))

    def asked(self) -> list[str]:
        """What was asked since the last time, such as "MX of example.org", each once."""
        queries, self._server.queries = self._server.queries, []
        return list(dict.fromkeys(f"{kind} of {name}" for name, kind in queries))

    def stop(self) -> None:
        """Listen no more."""
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result()
        self._end_thread()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def claim(*named: str) -> tuple[Names, tuple[Place, ...]]:
    """Places for servers of these domains, and the running DNS server, whose port keeps other demos off them.

    Raises CommandError where no ports are free.
    """
    apart = _has_address("127.0.0.3")
    for shift in _SHIFTS:
        places = tuple(
            Place(domain, f"127.0.0.{2 + n}" if apart else "127.0.0.1", shift if apart else shift + 1000 * n)
            for n, domain in enumerate(named)
        )
        try:
            names = Names(shift)
        except OSError:
            continue
        if all(_is_free(place.endpoint(protocol)) for place in places for protocol in PORTS):
            names.tell(places)
            return names, places
        names.stop()
    raise CommandError(f"no free ports: {_DNS_PORT + _SHIFTS[0]}, {_DNS_PORT + _SHIFTS[1]} and so on are all in use")


def _has_address(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True


def _is_free(endpoint: Endpoint) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(endpoint)
        except OSError:
            return False
        return True


# --- a server ---------------------------------------------------------------------------------------------------------

_CONFIGURATION: Final = """\
hostname = "{hostname}"
data = "data"

[dns]
resolver = "{resolver}"

[relay]
port = {port}
source = "{address}"

[queue]
schedule = ["1s", "2s"]

[log]
format = "json"
level = "debug"
"""
_LISTENER: Final = """
[[listener]]
protocol = "{protocol}"
address = "{endpoint}"
"""


class Server:
    """One posthouse, with an account for one person, below `directory`."""

    def __init__(self, directory: Path, place: Place, other: Place, resolver: Endpoint, person: Person) -> None:
        """Write the configuration and make the store."""
        self.place = place
        self.person = person
        self._directory = directory / place.domain
        self._directory.mkdir(mode=0o700)
        self.configuration = self._directory / "posthouse.toml"
        port = other.endpoint("smtp").port
        settings = _CONFIGURATION.format(
            hostname=place.hostname, resolver=resolver, port=port, address=place.address
        ) + "".join(_LISTENER.format(protocol=one, endpoint=place.endpoint(one)) for one in PORTS)
        self.configuration.write_text(settings)
        verifier = credentials.verifier_of(person.user.password)
        keys = Installation(self.configuration).write(_people, place.domain, person, verifier, new_keys())
        # What publishes the keys that sign the domain's mail.
        self.records = [f"{one.name[:-1]} {one.type} {one.value}" for one in map(dkim_record, keys)]
        self._log = Log(self._directory / "log")
        self._pending: deque[Step] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        # A signal comes to the main thread: in one of its own, the process is made and noted, or not made.
        self._starting = threading.Thread(target=self._spawn, name=place.hostname)

    @property
    def authority(self) -> Path:
        """The certificate of the server's own CA, which its clients trust. There once the server was started."""
        return self._directory / "data" / "tls" / "ca.pem"

    def door(self, protocol: str) -> Door:
        """Where a client connects."""
        return Door(self.place.endpoint(protocol), self.place.hostname, self.authority)

    def start(self) -> float:
        """Run `posthouse serve`; seconds until it was ready. Raises CommandError."""
        began = time.monotonic()
        self._starting.start()
        self._starting.join()
        for _ in self.follow(_START_SECONDS, lambda step: step.kind == "server.ready"):
            continue
        return time.monotonic() - began

    def _spawn(self) -> None:
        argv = [sys.executable, "-P", "-m", "posthouse", "-c", str(self.configuration), "serve"]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment())

    def stop(self) -> None:
        """End it, if it runs."""
        if self._starting.is_alive():
            self._starting.join()
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def step(self) -> Step | None:
        """What it did next, from its log; None: nothing yet. Raises CommandError when it has ended by itself."""
        if not self._pending:
            ended = self._process.poll() if self._process is not None else None
            self._pending.extend(self._log.read())
            if ended is not None and not self._pending:
                raise CommandError(f"{self.place.hostname} ended with status {ended}: {self._log.last_words}")
        return self._pending.popleft() if self._pending else None

    def follow(self, seconds: float, last: Last) -> Iterator[Step]:
        """What it does, as it happens, up to and with the step that is the `last`.

        Raises CommandError where that never comes.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            step = self.step()
            if step is None:
                time.sleep(_LOOK_SECONDS)
                continue
            yield step
            if last(step):
                return
        raise CommandError(f"waited {seconds:g} s in vain for {self.place.hostname}: {self._log.last_words}")


def _people(
    tx: Tx, domain: str, person: Person, verifier: ScramVerifier, keys: Sequence[PrivateKey]
) -> list[DomainKey]:
    now = time.time_ns() // 1_000_000
    serve(tx, domain, keys, now)
    accounts.create_account(tx, parse(person.address), now=now, verifier=verifier, full_name=person.name)
    return signing.keys(tx, domain)


def _environment() -> Mapping[str, str]:
    """The child finds the posthouse that we are."""
    above = str(Path(posthouse.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (above, os.environ.get("PYTHONPATH"))))}


# --- its log ----------------------------------------------------------------------------------------------------------


class Log:
    """A server's log, read while it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.last_words = "it said nothing"

    def read(self) -> Iterator[Step]:
        """The steps since the last time."""
        if not self._path.exists():
            return
        with self._path.open("rb") as log:
            log.seek(self._at)
            octets = log.read()
        whole = octets[: octets.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.splitlines():
            self.last_words = line.decode("utf-8", "replace")
            # What a program that dies writes is no JSON, and stays as its last words.
            if line.startswith(b'{"time"'):
                yield _step(json.loads(line))


_LEVELS: Final[dict[str, Level]] = {"debug": observe.DEBUG, "info": observe.INFO, "warning": observe.WARNING}


def _step(told: dict[str, Any]) -> Step:
    """A line of the log as the step that it was made of, facts and all."""
    at = round(datetime.fromisoformat(told.pop("time")).timestamp() * 1000)
    kind, code = told.pop("kind"), told.pop("journey", None)
    level = _LEVELS.get(told.pop("level"), observe.ERROR)
    facts = {key: tuple(fact) if isinstance(fact, list) else fact for key, fact in told.items()}
    return Step(kind, at, observe.parse_code(code) if code else None, facts, level)
