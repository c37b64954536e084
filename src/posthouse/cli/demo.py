"""`posthouse demo`: two real servers on this machine, and a message that travels from one to the other.

Promises: needs no root and no network but loopback, leaves nothing behind (unless --keep), and ends the processes that
it started whichever way it ends. With --once the status is 0 only if the message arrived octet for octet.
"""

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_hex
from types import FrameType
from typing import Final, NoReturn

import click

from posthouse import journey, timeline
from posthouse.cli.demo_arrival import read, read_bounce
from posthouse.cli.demo_print import Teller, shown
from posthouse.cli.demo_servers import Names, Person, Place, Server, claim, zone_text
from posthouse.cli.demo_talk import User
from posthouse.cli.demo_trip import Trip, conversation, file, send
from posthouse.cli.installation import CommandError
from posthouse.cli.plain import length
from posthouse.limits import MESSAGE_SIZE
from posthouse.message.build import Attachment
from posthouse.written import rough_size

_ALICE: Final = "example.org"
_BOB: Final = "someschool.example"
_NOBODY: Final = f"bop@{_BOB}"
# Base64 makes four octets of three, and line ends come on top (RFC 2045 §6.8).
_LARGEST_FILE: Final = MESSAGE_SIZE * 7 // 10
_LOOK_SECONDS: Final = 0.2
_WIDEST_RECORD: Final = 100


@click.command("demo")
@click.option("--once", is_flag=True, help="End after the trip; status 0 only if the message arrived intact.")
@click.option("--outage", is_flag=True, help="Bob's server is down at first: watch the queue try again.")
@click.option("--unknown-user", is_flag=True, help="Alice mistypes a second address: watch the 550 and the bounce.")
@click.option(
    "--attach",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    metavar="FILE",
    help="Send a file along.",
)
@click.option("--keep", is_flag=True, help="Keep the servers' directories, and say where they are.")
def demo(once: bool, outage: bool, unknown_user: bool, attach: Path | None, keep: bool) -> None:
    """Watch a message travel between two mail servers, all of it real.

    Two servers are started on this machine, one for example.org, where Alice has an account, one for
    someschool.example, where Bob has. A DNS server tells each where the other is. Alice's message is submitted, finds
    its way by DNS, is handed over by SMTP and read by IMAP and POP3; every step is shown as it happens, with what the
    programs say and how long it took.

    Afterwards both servers stay up for your own mail program, until Ctrl-C. Nothing needs root or leaves this machine,
    and nothing is left behind.
    """
    attachment = _attachment(attach) if attach else None
    teller = Teller()
    with _ending_well(), ExitStack() as stack:
        directory = stack.enter_context(_directory(keep, teller))
        trip = _set_up(stack, directory, teller, outage=outage)
        trip.write(_NOBODY if unknown_user else None, attachment)
        good = _travel(trip, outage=outage)
        if not once:
            _stay(trip, directory)
    if not good:
        sys.exit(1)


def _attachment(path: Path) -> Attachment:
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    if len(octets) > _LARGEST_FILE:
        raise CommandError(
            f"{path}: {rough_size(len(octets))} is too much for one message; up to {rough_size(_LARGEST_FILE)} is not"
        )
    return Attachment(path.name, octets)


@contextmanager
def _ending_well() -> Iterator[None]:
    """SIGTERM and a closed terminal end us as Ctrl-C does, so that everything is cleaned up."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        # Once: what comes while we clean up is too late.
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _directory(keep: bool, teller: Teller) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="posthouse-demo-"))
    try:
        yield path
    finally:
        if keep:
            teller.say("Everything is kept:")
            teller.fact(str(path))
        else:
            shutil.rmtree(path)


# --- the trip ---------------------------------------------------------------------------------------------------------


def _set_up(stack: ExitStack, directory: Path, teller: Teller, *, outage: bool) -> Trip:
    """Everything runs, except Bob's server where there is an outage."""
    teller.title("posthouse demo: a message from Alice to Bob, all of it real")
    teller.part("Two mail servers and a DNS server are set up on this machine")
    names, places = claim(_ALICE, _BOB)
    stack.callback(names.stop)
    teller.say(f"The DNS server listens on {names.endpoint}. It knows this, as the Internet's DNS would:")
    alice = _server(directory, places[0], places[1], names, "Alice")
    bob = _server(directory, places[1], places[0], names, "Bob")
    keys = [*alice.records, *bob.records]
    names.tell(places, keys)
    for record in zone_text(places, keys).splitlines():
        # Of a key the beginning shows enough.
        teller.fact(record if len(record) <= _WIDEST_RECORD else f"{record[: _WIDEST_RECORD - 1]}…")
    teller.gap()
    for server in (alice, bob):
        stack.callback(server.stop)
        if server is alice or not outage:
            teller.did(server.place.hostname, f"at {server.place.address}, ready after {length(server.start() * 1000)}")
    if outage:
        teller.did(bob.place.hostname, "is down")
    return Trip(teller, names, alice, bob)


def _server(directory: Path, place: Place, other: Place, names: Names, name: str) -> Server:
    person = Person(name, User(f"{name.lower()}@{place.domain}", token_hex(5)))
    return Server(directory, place, other, names.endpoint, person)


def _travel(trip: Trip, *, outage: bool) -> bool:
    """The whole way; True if everything came out as it should. Raises CommandError where something does not answer."""
    began = time.monotonic()
    steps = send(trip, outage=outage)
    relayed = next((step for step in steps if step.kind == "recipient.relayed"), None)
    if relayed is None:
        trip.teller.verdict(False, f"{trip.bob.place.hostname} did not take the message")
        return False
    file(trip, relayed)
    good = read(trip)
    if trip.unknown:
        good = read_bounce(trip, steps) and good
    trip.teller.gap()
    took = length((time.monotonic() - began) * 1000)
    trip.teller.verdict(
        good, f"{'Everything arrived as it should' if good else 'Not everything is right'}, after {took}."
    )
    return good


# --- afterwards -------------------------------------------------------------------------------------------------------


def _stay(trip: Trip, directory: Path) -> None:
    """Leave the servers up, and tell what they do, until Ctrl-C."""
    teller = trip.teller
    teller.part("Now try it yourself")
    for server in (trip.alice, trip.bob):
        _introduce(teller, server)
    bob = trip.bob
    door, login = bob.door("imaps"), f"{bob.person.address}:{bob.person.user.password}"
    name = f"{door.hostname}:{door.endpoint.port}"
    teller.say("For example, each in one line:")
    for line in (
        f"curl --cacert {door.authority} --resolve {name}:{door.endpoint.host} -u {login} 'imaps://{name}/INBOX;MAILINDEX=1'",
        f"{_command()} -c {trip.alice.configuration} journey '<{trip.message_id}>'",
        f"dig @{trip.names.endpoint.host} -p {trip.names.endpoint.port} {bob.place.domain} MX +short",
    ):
        teller.fact(line)
    try:
        teller.say("Both servers stay up, and what happens to messages is told here. Ctrl-C ends it all.")
        _watch(trip)
    except KeyboardInterrupt:
        teller.say("Both servers are stopped.")


def _command() -> str:
    """How this command was called, where it was called by its name."""
    return sys.argv[0] if Path(sys.argv[0]).name == "posthouse" else "posthouse"


def _introduce(teller: Teller, server: Server) -> None:
    """Everything that a mail program asks for."""
    person, place = server.person, server.place
    ports = place.endpoint
    teller.gap()
    for line in shown(
        [
            (person.name, f"{person.address}   password {person.user.password}"),
            ("  server", f"{place.address} (its certificate says {place.hostname})"),
            ("  IMAP", f"port {ports('imaps').port} with TLS, {ports('imap').port} with STARTTLS"),
            ("  POP3", f"port {ports('pop3s').port} with TLS, {ports('pop3').port} with STARTTLS"),
            ("  sending", f"port {ports('submissions').port} with TLS, {ports('submission').port} with STARTTLS"),
            ("  SMTP", f"port {ports('smtp').port}, for other servers"),
            ("  its CA", server.authority),
        ]
    ):
        teller.fact(line)


def _watch(trip: Trip) -> NoReturn:
    """Tell what happens to messages from now on."""
    while True:
        new = [(step.at, server, step) for server in (trip.alice, trip.bob) for step in iter(server.step, None)]
        for _, server, step in sorted(new, key=lambda one: one[0]):
            if step.journey is not None:
                trip.teller.did(server.place.hostname, f"{journey.code(step.journey)} {timeline.describe(step)}")
                trip.teller.verbatim(conversation(step))
        time.sleep(_LOOK_SECONDS)
