"""What became of one recipient in one attempt, and what a failure dooms beside it.

Promises: `classify` is the one function that knows what a reply, or the loss of a connection, at a stage of the
conversation means for the recipient, the message, the host and the destination. Every courier asks it.
Refuses: to retry, to route, to word a bounce. It sees a stage and a reply and no more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from posthouse.observe import Step
from posthouse.store.database import Tx
from posthouse.terms.reply import Reply


class Fate(Enum):
    """The four ends of an attempt; the first two and FAILED are final."""

    DELIVERED = "delivered"
    RELAYED = "relayed"
    DEFERRED = "deferred"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        return self is not Fate.DEFERRED


class Dooms(Enum):
    """How far a failure reaches.

    RECIPIENT: this forward-path. TRANSACTION: the others offered in this mail transaction, not the next one.
    MESSAGE: every recipient of it at this destination. HOST: this host now; the next of the route is tried.
    DESTINATION: every message of the lane, which then backs off as a whole.
    """

    RECIPIENT = "recipient"
    TRANSACTION = "transaction"
    MESSAGE = "message"
    HOST = "host"
    DESTINATION = "destination"


class Stage(Enum):
    """Where in the attempt something went wrong."""

    ROUTE = "route"
    CONNECT = "connect"
    GREETING = "greeting"
    HELLO = "hello"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One recipient's fate in one attempt.

    `recipient` is its id in the queue. `reply` holds the words of the peer `remote` verbatim, or ours where `remote`
    is None. A DEFERRED outcome that dooms the destination makes the lane back off; any other tells that the
    destination lives. `given_up`: FAILED because time was up; the attempt itself was a deferral, or there was none.
    `expanded`: DELIVERED to all that the address stands for. `dsn_carried`: whoever has it now tells the sender of
    success (RFC 3461). `by_carried`: and looks to the time by which it should arrive (RFC 2852).
    """

    recipient: int
    fate: Fate
    reply: Reply
    dooms: Dooms = Dooms.RECIPIENT
    remote: str | None = None
    given_up: bool = False
    expanded: bool = False
    dsn_carried: bool = False
    by_carried: bool = False

    @property
    def destination_down(self) -> bool:
        """The destination takes nothing now, whichever message it is offered."""
        return self.dooms is Dooms.DESTINATION and (self.fate is Fate.DEFERRED or self.given_up)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a bad reply means: `fate` is DEFERRED or FAILED, of all that `dooms` names."""

    fate: Fate
    dooms: Dooms


# The enhanced code "too many recipients" (RFC 3463 §3.6), whatever the first digit says.
_TOO_MANY = frozenset({"4.5.3", "5.5.3"})
_MAILBOX_FULL = frozenset({"4.2.2", "5.2.2"})
# Before MAIL a reply speaks of the host. Whether a permanent one ends the mail is known when all hosts have spoken.
_OF_THE_HOST = frozenset({Stage.CONNECT, Stage.GREETING, Stage.HELLO, Stage.TLS})


def classify(stage: Stage, reply: Reply, *, said: bool = True, accepted: int = 0) -> Trouble:
    """What the negative `reply` at `stage` dooms.

    `said` False: no peer said it; the connection was refused, lost or timed out, and `reply` is our wording of that.
    `accepted` is the number of recipients that the same mail transaction had accepted before (RCPT only).
    """
    fate = Fate.FAILED if reply.permanent else Fate.DEFERRED
    if stage is Stage.ROUTE:
        return Trouble(fate, Dooms.DESTINATION)
    if stage is Stage.DOT and not said:
        # RFC 1047: the peer may have taken it. Trying the next host at once would make the duplicate certain.
        return Trouble(Fate.DEFERRED, Dooms.MESSAGE)
    if reply.code == 421 or (not said and stage is not Stage.TLS):
        return Trouble(Fate.DEFERRED, Dooms.HOST)  # RFC 5321 §3.8, §4.2.2: the service is closing
    if stage in _OF_THE_HOST:
        return Trouble(fate, Dooms.HOST)
    if stage is Stage.AUTH:
        # Our credentials at a smarthost are the operator's to mend: mail waits for that, it does not bounce.
        return Trouble(Fate.DEFERRED, Dooms.HOST)
    if stage is Stage.RCPT:
        return _of_the_recipient(reply, fate, accepted)
    return Trouble(fate, Dooms.MESSAGE)


def _of_the_recipient(reply: Reply, fate: Fate, accepted: int) -> Trouble:
    """RFC 5321 §4.5.3.1.10: 452 after some were accepted means "send the rest in another transaction".

    Old servers say 552 for it, which must be read as 452; yet 552 also says that a mailbox is full.
    """
    too_many = reply.enhanced in _TOO_MANY or (reply.code in (452, 552) and reply.enhanced not in _MAILBOX_FULL)
    if accepted and too_many:
        return Trouble(Fate.DEFERRED, Dooms.TRANSACTION)
    if reply.enhanced in _TOO_MANY:
        return Trouble(Fate.DEFERRED, Dooms.RECIPIENT)
    return Trouble(fate, Dooms.RECIPIENT)


# RFC 3463 §3.4, §3.5: the system takes no messages now; it is congested.
_BUSY = frozenset({"4.3.2", "4.4.5"})


def pushes_back(reply: Reply) -> bool:
    """The peer says that this is too much for it now, whoever the mail is for (RFC 5321 §4.2.2: 421)."""
    return reply.code == 421 or (reply.transient and reply.enhanced in _BUSY)


def after_all_hosts(troubles: Sequence[tuple[Trouble, Reply]]) -> tuple[Trouble, Reply]:
    """What the destination's fate is when each of its hosts was doomed; `troubles` is not empty, best host first.

    RFC 5321 §4.2.1 and RFC 7504 §4: the mail fails for good only where every host refused for good ("554 no service
    here", "521 does not accept mail"). One that was merely out of reach may take it later.
    """
    for trouble, reply in troubles:
        if trouble.fate is Fate.DEFERRED:
            return Trouble(Fate.DEFERRED, Dooms.DESTINATION), reply
    return Trouble(Fate.FAILED, Dooms.DESTINATION), troubles[0][1]


@dataclass(frozen=True, slots=True)
class Filed:
    """What was done inside the settling transaction: outcomes, which are DELIVERED or DEFERRED, and their steps."""

    outcomes: tuple[Outcome, ...]
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What a courier has to say of one attempt: an outcome for each recipient of the job, and what happened on the way.

    `inside` is run in the transaction that settles the job, before anything else in it, and gives the outcomes of the
    recipients that `outcomes` leaves out: what it writes and the end of the recipients' rows are one commit. `site` is
    what the destination rolls up to, where the courier learnt it. `pushed_back`: a host said that this was too much for
    it now (`pushes_back`), whatever became of the recipients.
    """

    outcomes: tuple[Outcome, ...] = ()
    steps: tuple[Step, ...] = ()
    site: str | None = None
    inside: Callable[[Tx], Filed] | None = None
    pushed_back: bool = False
