"""What a check is, what it knows and what it answers.

A check has one method a stage of the SMTP conversation: connect, helo, mail, rcpt, data. It reads and fills Facts and
answers with a Verdict, or None where it has nothing to say. Our own checks and the user's are the same kind of object.
A method that must wait (DNS, the store) answers with an awaitable; one that need not is a plain function, which costs
no more than its call.

Promises: verdicts combine to the strongest (refuse, defer, junk, accept) and keep the reasons of all, in words a person
can read. Refuses: to know how a verdict is said to the peer beyond its Reply, or what happens to junk.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Literal, Protocol

from posthouse.directory.addresses import Expansion
from posthouse.directory.model import Account
from posthouse.message.header import Header
from posthouse.terms.address import Address
from posthouse.terms.envelope import Recipient
from posthouse.terms.reply import Reply

Stage = Literal["connect", "helo", "mail", "rcpt", "data"]
Door = Literal["mx", "lmtp", "submission"]


class Action(IntEnum):
    """What should happen; the greater beats the lesser."""

    ACCEPT = 0
    JUNK = 1
    DEFER = 2
    REFUSE = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What should happen to one recipient's copy, or to a command.

    `reply` is there where it is refused or deferred. `close`: the connection ends after it (RFC 5321 §3.8: 421).
    `reasons` are for the log and the journey; the first word of each is the name of the check.
    """

    action: Action
    reply: Reply | None = None
    reasons: tuple[str, ...] = ()
    close: bool = False


ACCEPT = Verdict(Action.ACCEPT)


def refuse(check: str, code: int, enhanced: str, text: str, reason: str = "", *, close: bool = False) -> Verdict:
    """No, for good: `text` is what the peer hears, `reason` what we know beyond it."""
    return Verdict(Action.REFUSE, Reply(code, enhanced, text), (f"{check}: {reason or text}",), close)


def defer(check: str, code: int, enhanced: str, text: str, reason: str = "", *, close: bool = False) -> Verdict:
    """Not now."""
    return Verdict(Action.DEFER, Reply(code, enhanced, text), (f"{check}: {reason or text}",), close)


def junk(check: str, reason: str) -> Verdict:
    """Take it, and file it in Junk."""
    return Verdict(Action.JUNK, None, (f"{check}: {reason}",))


def combine(first: Verdict, second: Verdict) -> Verdict:
    """The stronger of both, the first where they are equal, with the reasons of both."""
    if second is ACCEPT:
        return first
    if first is ACCEPT:
        return second
    stronger = second if second.action > first.action else first
    reasons = first.reasons + second.reasons
    return Verdict(stronger.action, stronger.reply, reasons, stronger.close)


@dataclass(slots=True, eq=False)
class RecipientFacts:
    """One recipient: what RCPT said, what the address leads to, and the verdict of the stage rcpt.

    `exempt`: names of checks that shall not judge this recipient's copy.
    """

    recipient: Recipient
    expansion: Expansion
    verdict: Verdict = ACCEPT
    exempt: frozenset[str] = frozenset()


@dataclass(slots=True, eq=False)
class Facts:
    """What is known of a session, its envelope and its message, filled stage by stage.

    Session: `peer` is the IP address, `peer_name` what DNS says of it (None: not looked up, "": nothing), `tls` the
    protocol and cipher in words, `trusted` that the peer may relay without login, `exempt` as with recipients, for all.
    Envelope: from mail on. Message: from data on; `header` is the header as received, `received` its Received fields.
    `notes` is where a check leaves what a later one may want, under the check's name.
    """

    door: Door
    peer: str
    peer_name: str | None = None
    tls: str | None = None
    helo: str | None = None
    esmtp: bool = False
    account: Account | None = None
    trusted: bool = False
    exempt: frozenset[str] = frozenset()
    connect_verdict: Verdict = ACCEPT
    helo_verdict: Verdict = ACCEPT
    commands: int = 0
    errors: int = 0
    messages: int = 0

    sender: Address | None = None
    size: int = 0
    recipients: list[RecipientFacts] = field(default_factory=list)
    mail_verdict: Verdict = ACCEPT
    envelope_exempt: frozenset[str] = frozenset()

    header: Header | None = None
    received: int = 0
    notes: dict[str, object] = field(default_factory=dict)

    def begin(self, sender: Address | None, size: int = 0) -> None:
        """A new envelope: what belonged to the one before is forgotten. `size` as announced, 0 where it was not."""
        self.sender = sender
        self.size = size
        self.recipients = []
        self.mail_verdict = ACCEPT
        self.envelope_exempt = frozenset()
        self.header = None
        self.received = 0
        self.notes = {}


Answer = Verdict | None | Awaitable[Verdict | None]
# At data: one verdict for every recipient, or some by their index in `facts.recipients`.
DataAnswer = Verdict | Mapping[int, Verdict] | None
WaitingDataAnswer = DataAnswer | Awaitable[DataAnswer]


class Check(Protocol):
    """Subclass it, name it, and write the stages that it judges; the others cost nothing.

    `exemptible` False: no allow list passes it by (relaying, limits).
    """

    name: ClassVar[str]
    exemptible: ClassVar[bool] = True

    def connect(self, facts: Facts) -> Answer:
        """Somebody has connected; known: peer."""
        return None

    def helo(self, facts: Facts) -> Answer:
        """HELO, EHLO or LHLO was said."""
        return None

    def mail(self, facts: Facts) -> Answer:
        """MAIL was said: sender, announced size."""
        return None

    def rcpt(self, facts: Facts, recipient: RecipientFacts) -> Answer:
        """RCPT was said; `facts.recipients` holds those taken before."""
        return None

    def data(self, facts: Facts) -> WaitingDataAnswer:
        """The message is here, and not yet answered for."""
        return None
