"""The steps of an envelope that is not accepted yet, and the journeys of those that never are.

Promises: what is refused of an envelope (its sender, a recipient, the message) is told of at once and gathered in its
Trail. Where the message is accepted, the trail becomes the beginning of its journey; where it is not, it is a journey
of its own, found by sender, recipient or Message-ID. That one is written behind the reply, in batches.
Refuses: to keep trails without a refusal: a peer that only said goodbye has no journey.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from posthouse import journey, observe
from posthouse.clock import Clock
from posthouse.journey import Refused
from posthouse.message.header import Header, decode_words, message_ids
from posthouse.observe import Fact, Step
from posthouse.policy.check import Facts
from posthouse.terms.address import Address
from posthouse.terms.reply import Reply

# Enough to see what the peer is after; the log has them all.
_MOST_STEPS: Final = 50
MOST_TOLD: Final = 20


class Recorder(Protocol):
    """What writes the journeys of refused mail, later."""

    def add(self, refused: Refused) -> None:
        """Take it; never waits, never raises."""
        ...


@dataclass(slots=True)
class Trail:
    """What happened to one envelope so far. `recipients` are those who were refused; `header` as soon as it is here."""

    id: int
    sender: Address | None
    steps: list[Step] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    header: Header | None = None


class Refusals:
    """Begins the trails of envelopes and ends them. One a process."""

    def __init__(self, recorder: Recorder, clock: Clock, random: Random) -> None:
        self._recorder = recorder
        self._clock = clock
        self._random = random

    def begin(self, sender: Address | None) -> Trail:
        """A new envelope."""
        return Trail(journey.new_id(self._clock.now(), self._random.getrandbits(journey.RANDOM_BITS)), sender)

    def refuse(
        self, trail: Trail, facts: Facts, reply: Reply, reasons: Sequence[str] = (), recipient: Address | None = None
    ) -> None:
        """Tell that the envelope, or one recipient of it, was answered with this reply, and note it."""
        if len(trail.steps) == _MOST_STEPS:
            # A thousand refusals of one envelope tell no more than the first of them, and would fill the log.
            observe.count("refusals_untold")
            return
        told = (str(recipient),) if recipient is not None else recipients_of(facts)
        step = Step("mail.refused", self._clock.now(), trail.id, _facts(trail, facts, told, reply, reasons))
        observe.emit(step)
        trail.steps.append(step)
        if recipient is not None:
            trail.recipients.append(str(recipient))

    def end(self, trail: Trail, facts: Facts) -> None:
        """The envelope is forgotten, and its message was not accepted."""
        if not trail.steps:
            return
        header = trail.header
        ids = message_ids(header.first(b"message-id") or b"") if header else []
        self._recorder.add(
            Refused(
                trail.id,
                tuple(trail.steps),
                ids[0] if ids else None,
                str(trail.sender) if trail.sender else None,
                (*trail.recipients, *(str(one.recipient.address) for one in facts.recipients)),
                decode_words(header.first(b"subject") or b"") if header else None,
            )
        )
        trail.steps = []


def recipients_of(facts: Facts) -> tuple[str, ...]:
    """The recipients that were taken, the first few of them, for a step."""
    return tuple([str(one.recipient.address) for one in facts.recipients[:MOST_TOLD]])


def _facts(
    trail: Trail, facts: Facts, recipients: tuple[str, ...], reply: Reply, reasons: Sequence[str]
) -> dict[str, Fact]:
    return {
        "door": facts.door,
        "peer": facts.peer,
        "helo": facts.helo or "",
        "login": facts.account.name if facts.account else "",
        "sender": str(trail.sender or ""),
        "recipients": recipients,
        "reply": str(reply),
        "reasons": tuple(dict.fromkeys(reasons)),
    }
