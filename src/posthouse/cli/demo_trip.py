"""The demo's story, first half: how a message travels from Alice's client to Bob's mailbox.

Promises: everything that is told happens at that moment between real programs: what the clients and servers say is
printed as it passes, what a server does by itself is read from its own log.
"""

import time
from dataclasses import dataclass
from typing import Final

from posthouse import journey, timeline
from posthouse.cli import demo_talk
from posthouse.cli.demo_print import Teller
from posthouse.cli.demo_servers import Names, Server
from posthouse.cli.installation import CommandError, Installation
from posthouse.cli.plain import length
from posthouse.cli.queue_print import table
from posthouse.message import build
from posthouse.message.addresses import Mailbox
from posthouse.message.build import Attachment
from posthouse.observe import Step
from posthouse.queue import control

# In all this much for each wait; the slowest thing is a retry after two seconds.
PATIENCE: Final = 60.0
_PATIENCE_IN_ALL: Final = 90.0
_TRIES_BEFORE_BOB_STARTS: Final = 2
_FINAL: Final = ("recipient.relayed", "recipient.delivered", "recipient.failed")

_TEXT: Final = """\
Dear Bob,

shall we have lunch on Friday? There is a new place behind the old post house.

Alice
"""

# What each step of a server means, told before it happens for the first time.
_EXPLAINED: Final[dict[str, str]] = {
    "mail.received": """
        From the 250 on the message is the server's responsibility: it was on the disk before that was said, so that no
        loss of power can lose it. The server keeps a record of everything that happens to a message, its journey:""",
    "relay.route": """
        Which server takes mail for someschool.example? The domain's owner says so in DNS, the Internet's directory,
        in a record of type MX (mail exchanger). One of type A tells the address of the server found there.""",
    "relay.connected": """
        Servers talk to each other in the same language, SMTP. They encrypt when both can, but nobody asks for a
        password: anybody may bring mail for Bob.""",
    "relay.signed": """
        Anybody can write any name into From. So her server has signed the message, and whoever gets it can look up the
        key in DNS: someone at example.org has sent it, and nobody has changed it.""",
    "relay.said": "Their conversation, word for word. Alice's server is C, the client, this time; Bob's is S.",
    "relay.failed": "Nobody answers there. That is no reason to give up: it is tried again later, for days if need be.",
    "recipient.relayed": "With that 250 the message is the other server's, and is forgotten here.",
    "recipient.failed": "A code that begins with 5 is final: trying again is useless. Somebody has to tell Alice.",
    "delivery.filed": "The message is in the mailbox.",
}  # fmt: skip


@dataclass(slots=True)
class Trip:
    """What is sent, by whom and to whom, and what has been told so far."""

    teller: Teller
    names: Names
    alice: Server
    bob: Server
    # Set when Alice has written it.
    unknown: str | None = None
    attachment: Attachment | None = None
    message: bytes = b""
    message_id: str = ""
    _last_at: int = 0

    def write(self, unknown: str | None, attachment: Attachment | None) -> None:
        """Alice writes to Bob, and perhaps to an address of his domain that does not exist."""
        self.unknown, self.attachment = unknown, attachment
        self.message_id = build.message_id(self.alice.place.domain, f"demo.{time.time_ns():x}")
        self.message = build.compose(
            sender=_mailbox(self.alice),
            to=[_mailbox(self.bob), *([Mailbox("", *_split(self.unknown))] if self.unknown else [])],
            subject="Lunch on Friday?",
            text=_TEXT,
            at=time.time_ns() // 1_000_000,
            message_id=self.message_id,
            attachments=[self.attachment] if self.attachment else (),
        )

    def tell(self, server: Server, step: Step) -> None:
        """A step of a server, explained where it comes for the first time."""
        if explanation := _EXPLAINED.get(step.kind):
            self.teller.say(explanation)
        took = max(0, step.at - self._last_at) if self._last_at else None
        self._last_at = max(step.at, self._last_at)
        self.teller.did(server.place.hostname, timeline.describe(step), took)
        self.teller.verbatim(conversation(step))

    @property
    def recipients(self) -> list[str]:
        """Who shall get it."""
        return [self.bob.person.address, *([self.unknown] if self.unknown else [])]


def conversation(step: Step) -> tuple[str, ...]:
    """The lines that passed, where the step is a conversation."""
    lines = step.facts.get("lines")
    return lines if isinstance(lines, tuple) else ()


def _mailbox(server: Server) -> Mailbox:
    return Mailbox(server.person.name, *_split(server.person.address))


def _split(address: str) -> tuple[str, str]:
    local, _, domain = address.rpartition("@")
    return local, domain


def send(trip: Trip, *, outage: bool) -> list[Step]:
    """From Alice's client to Bob's server; where there is an `outage`, that is only started meanwhile.

    Returns what her server did. Raises CommandError where something does not answer.
    """
    return _relay(trip, _submit(trip), outage=outage)


def _submit(trip: Trip) -> str:
    """Alice hands it over; the code of its journey."""
    teller, alice = trip.teller, trip.alice
    teller.part("Alice's mail program hands her message to her own server (SMTP, submission)")
    teller.say(
        f"""Alice has written to {" and ".join(trip.recipients)} and presses Send. Her program talks to her provider's
        server, {alice.place.hostname}. C: is what the client says, S: what the server answers; the time behind an
        answer is how long it took."""
    )
    taken = demo_talk.submit(alice.door("submission"), teller, alice.person.user, trip.recipients, trip.message)
    code = taken.split()[-1]
    for step in alice.follow(PATIENCE, lambda step: concerns(step, code, "mail.queued")):
        if concerns(step, code):
            trip.tell(alice, step)
    return code


def _relay(trip: Trip, code: str, *, outage: bool) -> list[Step]:
    """Her server looks for Bob's, until each recipient has met its fate; the steps."""
    trip.teller.part("Her server looks for Bob's server and hands the message on (DNS, SMTP relay)")
    waiting, deferred, started = set(trip.recipients), 0, not outage
    found: list[Step] = []
    deadline = time.monotonic() + _PATIENCE_IN_ALL
    while waiting:
        if time.monotonic() > deadline:
            raise CommandError(f"{trip.alice.place.hostname} cannot hand it on: {timeline.describe(found[-1])}")
        for step in trip.alice.follow(PATIENCE, lambda step: concerns(step, code, "recipient.")):
            if concerns(step, code):
                found.append(step)
                trip.tell(trip.alice, step)
                if step.kind == "relay.route" and (asked := trip.names.asked()):
                    trip.teller.between(f"DNS was asked for {', '.join(asked)}")
        deferred += found[-1].kind == "recipient.deferred"
        if found[-1].kind in _FINAL:
            waiting.discard(str(found[-1].facts["recipient"]))
        if not started and deferred >= _TRIES_BEFORE_BOB_STARTS * len(trip.recipients):
            _show_queue(trip)
            _start_bob(trip)
            started = True
    return found


def concerns(step: Step, code: str, kind: str = "") -> bool:
    """It is a step of that journey, and of that kind or one below it."""
    return step.journey is not None and journey.code(step.journey) == code and step.kind.startswith(kind)


def _show_queue(trip: Trip) -> None:
    """What waits, as its postmaster would see it."""
    installation = Installation(trip.alice.configuration)
    now = installation.clock.now()
    waiting = installation.read(control.list_recipients, control.Selection(), now)
    trip.teller.say("It waits in the queue of Alice's server. This is what `posthouse queue list` shows there now:")
    for line in table(waiting, now).splitlines():
        trip.teller.fact(line)


def _start_bob(trip: Trip) -> None:
    trip.teller.say("Now Bob's server is started. Nobody has to do anything else: the next try finds it.")
    trip.teller.did(trip.bob.place.hostname, f"ready after {length(trip.bob.start() * 1000)}")


def file(trip: Trip, relayed: Step) -> None:
    """Bob's server, which has taken it, tells what it did with it. Raises CommandError where it never files it."""
    trip.teller.part("Bob's server files the message in his Inbox")
    code = str(relayed.facts["reply"]).split()[-1]
    for step in trip.bob.follow(PATIENCE, lambda step: concerns(step, code, "delivery.filed")):
        if concerns(step, code):
            trip.tell(trip.bob, step)
