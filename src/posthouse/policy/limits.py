"""How much, and how often: connections, commands, errors, messages, recipients.

Promises: each limit answers 4xx (421 where the connection ends), for patience may help, except where a message shows
that nobody meant it (a loop, a bounce to a crowd). Memory is bounded. A network is an IPv4 address or the /64 of an
IPv6 one; its neighbours are the /24 or the /48, who together may do NEIGHBOURS times as often what one may. Peers in
`unlimited` networks (loopback by default) are held by what one connection may do, not by how many there are, how often
they come and how slow they are answered.
Refuses: to know configuration files; the values come in by `Limits`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from posthouse import observe
from posthouse.clock import Clock
from posthouse.directory.kept import Kept
from posthouse.directory.model import Account
from posthouse.directory.throttle import network_of
from posthouse.limits import RECEIVED_FIELDS, RECIPIENTS
from posthouse.policy.check import Check, Facts, RecipientFacts, Verdict, defer, refuse
from posthouse.policy.networks import LOOPBACK, Networks, neighbours_of
from posthouse.terms.address import Address
from posthouse.terms.reply import Reply
from posthouse.written import Rate, format_duration

CONNECTION_RATE: Final = Rate(300, 60)
MESSAGE_RATE: Final = Rate(3000, 3600)
# As with connections at once: a site of IPv6 has 65,536 networks to come from.
NEIGHBOURS: Final = 10
KEYS: Final = 100_000
# How much of its rate an account has used when it hears of it, and for how many seconds it then hears no more.
NEARLY: Final = 0.8
_QUIET: Final = 3600.0
# Rates that accounts were given of their own: a forgotten one begins anew.
_RATES: Final = 1000
# Seconds by which one answer is held back at most: more would cost us the connection longer than it costs the client.
LONGEST_PAUSE: Final = 5.0
_BUSY: Final = Reply(421, "4.3.2", "Too many connections; try again later")
_MANY: Final = Reply(421, "4.7.0", "Too many connections from your network; try again later")
_OFTEN: Final = Reply(421, "4.7.0", "Connections from your network come too often; try again later")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a stranger may do. Rates are of a network, the others of one connection or message."""

    connections: int = 10_000
    # A household behind one address; Postfix allows 50.
    connections_per_network: int = 50
    # A twentieth of them all; the largest providers send from a few hundred at once to the largest of sites.
    connections_per_neighbours: int = 500
    connection_rate: Rate = CONNECTION_RATE
    message_rate: Rate = MESSAGE_RATE
    recipients: int = RECIPIENTS
    # Postfix's smtpd_client_message_rate_limit has no default; a thousand in one connection shows that nobody waits.
    messages: int = 1000
    commands: int = 20_000
    # Postfix ends the connection at 20 errors (smtpd_hard_error_limit), and from the tenth answers each a second later.
    errors: int = 20
    free_errors: int = 5
    # Seconds by which each further one is answered later than the one before; 0: at once.
    tarpit: float = 1.0
    # RFC 5321 §6.1: a bounce goes to the one who sent. Some, whose aliases lead to several here, still mean it.
    null_sender_recipients: int = 10


class Buckets:
    """One token bucket a key: `rate.count` at once, refilled over `rate.seconds`.

    Bounded memory: the stalest keys are forgotten. Held as one number a key: the instant at which the bucket is full
    again (ITU-T I.371's GCRA).
    """

    __slots__ = ("_clock", "_full_at", "_interval", "_period")

    def __init__(self, clock: Clock, rate: Rate, keys: int = KEYS) -> None:
        self._clock = clock
        self._period = rate.seconds
        self._interval = rate.seconds / rate.count
        self._full_at: Kept[str, float] = Kept(keys)

    def take(self, key: str, amount: int = 1) -> float:
        """0.0: they are taken. Else nothing is, and so many seconds have to pass first; more than fit never do."""
        now = self._clock.monotonic()
        full_at = max(now, self._full_at.get(key) or now) + amount * self._interval
        # The tolerance is for what adding intervals rounds off.
        wait = full_at - now - self._period
        if wait > self._interval * 1e-6:
            return wait
        self._full_at.put(key, full_at)
        return 0.0

    def used(self, key: str) -> float:
        """How much of what may be taken at once is taken, in [0, 1]."""
        left = (self._full_at.get(key) or 0.0) - self._clock.monotonic()
        return min(max(left / self._period, 0.0), 1.0)

    def give_back(self, key: str) -> None:
        """One that was taken has not been used."""
        full_at = self._full_at.get(key)
        if full_at is not None:
            self._full_at.put(key, full_at - self._interval)


class Neighbourly:
    """A rate of each network, and NEIGHBOURS times that of its neighbours together."""

    __slots__ = ("_beside", "_here")

    def __init__(self, clock: Clock, rate: Rate) -> None:
        self._here = Buckets(clock, rate)
        self._beside = Buckets(clock, Rate(rate.count * NEIGHBOURS, rate.seconds))

    def take(self, peer: str) -> float:
        """0.0: one was taken. Else seconds to wait."""
        network = network_of(peer)
        wait = self._here.take(network)
        if not wait and (wait := self._beside.take(neighbours_of(peer))):
            self._here.give_back(network)
        return wait


class Connections:
    """How many connections at once, in all, of one network and of its neighbours, and how often. The doors' Gate.

    `blocked` says of a peer why nobody is to be served from there.
    """

    def __init__(
        self,
        clock: Clock,
        limits: Limits,
        unlimited: Iterable[str] = LOOPBACK,
        blocked: Callable[[str], Reply | None] = lambda peer: None,
    ) -> None:
        self._clock = clock
        self._near = Networks(unlimited, machine=True)
        self._blocked = blocked
        self.limit(limits)
        self._here: Counter[str] = Counter()
        self._beside: Counter[str] = Counter()
        self._total = 0

    def limit(self, limits: Limits) -> None:
        """From now on these hold; the connections there are stay counted."""
        self._limits = limits
        self._rate = Neighbourly(self._clock, limits.connection_rate)

    def arrive(self, peer: str) -> Reply | None:
        """Count a connection in, whatever the answer; None: welcome. Whoever asked says `depart` in the end."""
        network, neighbours = network_of(peer), neighbours_of(peer)
        self._total += 1
        self._here[network] += 1
        self._beside[neighbours] += 1
        blocked = self._blocked(peer)
        # Whoever is blocked is told so while there are few of him: the rest shall not take up room until they say QUIT.
        refusal = self._crowded(peer, network, neighbours) or blocked
        if refusal is not None:
            level: observe.Level = observe.INFO if blocked is None else observe.DEBUG
            observe.tell("connection.refused", level=level, peer=peer, reply=str(refusal))
        return refusal

    def _crowded(self, peer: str, network: str, neighbours: str) -> Reply | None:
        limits = self._limits
        if self._total > limits.connections:
            return _BUSY
        if self._near.hold(peer):
            return None
        if self._here[network] > limits.connections_per_network:
            return _MANY
        if self._beside[neighbours] > limits.connections_per_neighbours:
            return _MANY
        return _OFTEN if self._rate.take(peer) else None

    def depart(self, peer: str) -> None:
        """The connection has ended."""
        self._total -= 1
        for counts, key in ((self._here, network_of(peer)), (self._beside, neighbours_of(peer))):
            counts[key] -= 1
            if not counts[key]:
                del counts[key]


class Conversation(Check):
    """What one connection may do, and how often a network may send. The door tells of each command and error."""

    name: ClassVar[str] = "limits"
    exemptible: ClassVar[bool] = False

    def __init__(self, clock: Clock, limits: Limits, unlimited: Iterable[str] = LOOPBACK) -> None:
        self._limits = limits
        self._near = Networks(unlimited, machine=True)
        self._rate = Neighbourly(clock, limits.message_rate)
        name = self.name
        self._enough = defer(name, 421, "4.7.0", "Enough messages in one connection; please connect again", close=True)
        self._often = defer(name, 450, "4.7.1", "Messages from your network come too often; try again later")
        # RFC 5321 §4.5.3.1.10: 452 where there are too many recipients.
        self._crowd = defer(name, 452, "4.5.3", "Too many recipients; send the others another copy")
        self._bounce = refuse(name, 550, "5.5.3", "A message from <> to so many recipients is not taken")
        self._commands = defer(name, 421, "4.7.0", "Too many commands in one connection", close=True)
        self._errors = defer(name, 421, "4.7.0", "Too many errors; goodbye", close=True)

    @property
    def most(self) -> tuple[int, int]:
        """Recipients of one message, messages of one connection."""
        return self._limits.recipients, self._limits.messages

    def mail(self, facts: Facts) -> Verdict | None:
        """Count a message."""
        facts.messages += 1
        if facts.messages > self._limits.messages:
            return self._enough
        if facts.account is not None or self._near.hold(facts.peer):
            return None
        return self._often if self._rate.take(facts.peer) else None

    def rcpt(self, facts: Facts, recipient: RecipientFacts) -> Verdict | None:
        """Count a recipient."""
        taken = len(facts.recipients)
        if taken >= self._limits.recipients:
            return self._crowd
        if facts.sender is None and taken >= self._limits.null_sender_recipients:
            return self._bounce
        return None

    def command(self, facts: Facts) -> Verdict | None:
        """The door has read a command."""
        facts.commands += 1
        return self._commands if facts.commands > self._limits.commands else None

    def error(self, facts: Facts) -> Verdict | None:
        """The door has answered 5xx: say this, too, where it is one too many."""
        facts.errors += 1
        return self._errors if facts.errors > self._limits.errors else None

    def pause(self, facts: Facts) -> float:
        """Seconds to wait before an error is answered: those who guess and probe shall not be quick about it."""
        late = facts.errors - self._limits.free_errors
        if late <= 0 or facts.account is not None or self._near.hold(facts.peer):
            return 0.0
        return min(late * self._limits.tarpit, LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class Notice:
    """What an account is to be told of its `rate`: that `used` recipients of it are used, and where it has stopped the
    account, for how many seconds (`wait`; else 0).
    """

    rate: Rate
    used: int
    wait: float = 0.0


# What an account hears of its rate goes here; it does not wait.
Warn = Callable[[Account, Notice], None]


class SubmissionRate(Check):
    """How many recipients an account may send to: a stolen password shall not be worth much.

    The reply, which mail programs show, says how many these are and when it goes on. What an account is given of its
    own goes before what is configured.
    """

    name: ClassVar[str] = "submission-rate"
    exemptible: ClassVar[bool] = False

    def __init__(
        self, clock: Clock, rate: Rate, most: int = RECIPIENTS, warn: Warn = lambda account, notice: None
    ) -> None:
        """`most`: recipients of one message. `warn` is called when NEARLY all is used, and when an account is stopped;
        not again of the same within a period, or an hour where that is longer.
        """
        self._clock = clock
        self._rate = rate
        self._most = most
        self._warn = warn
        self._usual = Buckets(clock, rate)
        # Accounts that were given the same rate share it; few rates are given.
        self._given: Kept[Rate, Buckets] = Kept(_RATES)
        self._quiet_until: Kept[tuple[int, bool], float] = Kept(KEYS)

    def rcpt(self, facts: Facts, recipient: RecipientFacts) -> Verdict | None:
        """Count a recipient of an account's."""
        account = facts.account
        if account is None:
            return None
        most = self._most if account.submission_recipients is None else account.submission_recipients
        if len(facts.recipients) >= most:
            text = f"A message of yours may have {most} recipients; send the others another copy"
            return defer(self.name, 452, "4.5.3", text)
        wait = self._take(account, 1)
        if not wait:
            return None
        rate = account.submission_rate or self._rate
        allowed = f"{rate.count} recipients in {format_duration(rate.seconds)}"
        text = f"You may send to {allowed}; try again in {max(1, round(wait / 60))} minutes"
        return defer(self.name, 450, "4.7.1", text)

    def allow(self, account: Account, recipients: int = 1) -> bool:
        """May the account send to so many more? Counted where it may. For doors without RCPT."""
        return not self._take(account, recipients)

    def _take(self, account: Account, recipients: int) -> float:
        """0.0: counted. Else seconds to wait. The account is warned where there is reason to."""
        given = account.submission_rate
        rate, buckets = (self._rate, self._usual) if given is None else (given, self._buckets_of(given))
        key = str(account.id)
        wait = buckets.take(key, recipients)
        # In whole recipients: some of the time for the next one has always passed.
        used = round(buckets.used(key) * rate.count)
        if wait or used >= NEARLY * rate.count:
            self._tell(account, Notice(rate, used, wait))
        return wait

    def _buckets_of(self, rate: Rate) -> Buckets:
        buckets = self._given.get(rate)
        if buckets is None:
            buckets = Buckets(self._clock, rate)
            self._given.put(rate, buckets)
        return buckets

    def _tell(self, account: Account, notice: Notice) -> None:
        key, now = (account.id, notice.wait > 0), self._clock.monotonic()
        if now >= (self._quiet_until.get(key) or 0.0):
            self._quiet_until.put(key, now + max(notice.rate.seconds, _QUIET))
            self._warn(account, notice)


@dataclass(frozen=True, slots=True)
class DomainRates:
    """How many messages may come from senders of a domain, and how many recipients in it be named; None: any number."""

    sender: Rate | None = None
    recipient: Rate | None = None


class DomainRate(Check):
    """How often senders of a domain, and recipients in it, may be named; by domain, "*" for each that is not."""

    name: ClassVar[str] = "domain-rate"
    exemptible: ClassVar[bool] = False

    def __init__(self, clock: Clock, rates: Mapping[str, DomainRates]) -> None:
        self._senders = {name: _buckets(clock, rate.sender) for name, rate in rates.items()}
        self._recipients = {name: _buckets(clock, rate.recipient) for name, rate in rates.items()}
        self._sent = defer(self.name, 450, "4.7.1", "Mail from this domain comes too often; try again later")
        self._received = defer(self.name, 450, "4.7.1", "Mail to this domain comes too often; try again later")

    def mail(self, facts: Facts) -> Verdict | None:
        """Count a message."""
        return self._sent if _is_too_often(self._senders, facts.sender) else None

    def rcpt(self, facts: Facts, recipient: RecipientFacts) -> Verdict | None:
        """Count a recipient."""
        return self._received if _is_too_often(self._recipients, recipient.recipient.address) else None


def _buckets(clock: Clock, rate: Rate | None) -> Buckets | None:
    return None if rate is None else Buckets(clock, rate)


def _is_too_often(rates: Mapping[str, Buckets | None], address: Address | None) -> bool:
    if not rates or address is None:
        return False
    # A domain that is named has what it is given, and nothing of "*".
    buckets = rates.get(address.domain if address.domain in rates else "*")
    return buckets is not None and buckets.take(address.domain) > 0


class HeloRequired(Check):
    """RFC 5321 §4.1.4: a session that carries mail begins with EHLO or HELO."""

    name: ClassVar[str] = "helo"

    def mail(self, facts: Facts) -> Verdict | None:
        """Refuse MAIL where nobody introduced himself."""
        if facts.helo:
            return None
        return refuse(self.name, 503, "5.5.1", "Say EHLO first")


class Loops(Check):
    """RFC 5321 §6.3: a message that has passed a hundred servers goes round in a circle."""

    name: ClassVar[str] = "loop"
    exemptible: ClassVar[bool] = False

    def __init__(self, most: int = RECEIVED_FIELDS) -> None:
        self._most = most

    def data(self, facts: Facts) -> Verdict | None:
        """Count Received fields."""
        if facts.received <= self._most:
            return None
        text = "This message goes round in a circle: too many Received fields"
        return refuse(self.name, 554, "5.4.6", text, f"{facts.received} Received fields")
