"""How much, and how often: connections, commands, errors, messages, recipients.

Promises: each limit answers 4xx (421 where the connection ends), for patience may help, except where a message shows
that nobody meant it (a loop, a bounce to a crowd). Memory is bounded. A network is an IPv4 address or the /64 of an
IPv6 one. Peers in `unlimited` networks (loopback by default) are held by what one connection may do, not by how many
there are and how often they come.
Refuses: to know configuration files; the values come in by `Limits`.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

from posthouse.clock import Clock
from posthouse.directory.kept import Kept
from posthouse.directory.throttle import address_of, network_of
from posthouse.limits import RECEIVED_FIELDS, RECIPIENTS
from posthouse.policy.check import Check, Facts, RecipientFacts, Verdict, defer, refuse
from posthouse.written import Rate

CONNECTION_RATE: Final = Rate(300, 60)
MESSAGE_RATE: Final = Rate(3000, 3600)
KEYS: Final = 100_000
LOOPBACK: Final = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a stranger may do. Rates are of a network, the others of one connection or message."""

    connections: int = 10_000
    # A household behind one address; Postfix allows 50.
    connections_per_network: int = 50
    connection_rate: Rate = CONNECTION_RATE
    message_rate: Rate = MESSAGE_RATE
    recipients: int = RECIPIENTS
    # Postfix's smtpd_client_message_rate_limit has no default; a thousand in one connection shows that nobody waits.
    messages: int = 1000
    commands: int = 20_000
    # Postfix ends the connection at 20 errors (smtpd_hard_error_limit).
    errors: int = 20
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

    def give_back(self, key: str, amount: int = 1) -> None:
        """What was taken has not been used."""
        full_at = self._full_at.get(key)
        if full_at is not None:
            self._full_at.put(key, full_at - amount * self._interval)


class _Near:
    """Which peers are held by no counter of networks."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self.holds = lru_cache(maxsize=4096)(self._holds)

    def _holds(self, peer: str) -> bool:
        address = address_of(peer)
        return address is not None and any(address in network for network in self._networks)


class Connections(Check):
    """How many connections at once, in all and of one network, and how often.

    Whoever asked `connect` says `leave` in the end.
    """

    name: ClassVar[str] = "connections"
    exemptible: ClassVar[bool] = False

    def __init__(self, clock: Clock, limits: Limits, unlimited: Iterable[str] = LOOPBACK) -> None:
        self._clock = clock
        self._near = _Near(unlimited)
        self.limit(limits)
        self._open: dict[str, int] = {}
        self._total = 0
        self._busy = defer(self.name, 421, "4.3.2", "Too many connections; try again later", close=True)
        self._many = defer(self.name, 421, "4.7.0", "Too many connections from your network", close=True)
        self._often = defer(self.name, 421, "4.7.0", "Connections from your network come too often", close=True)

    def limit(self, limits: Limits) -> None:
        """From now on these hold; the connections there are stay counted."""
        self._limits = limits
        self._rate = Buckets(self._clock, limits.connection_rate)

    def connect(self, facts: Facts) -> Verdict | None:
        """Count the connection, whatever the verdict."""
        return self.arrive(facts.peer)

    def leave(self, facts: Facts) -> None:
        """The connection has ended."""
        self.depart(facts.peer)

    def arrive(self, peer: str) -> Verdict | None:
        """`connect`, for the doors that have no pipeline."""
        network = network_of(peer)
        self._total += 1
        self._open[network] = here = self._open.get(network, 0) + 1
        if self._total > self._limits.connections:
            return self._busy
        if self._near.holds(peer):
            return None
        if here > self._limits.connections_per_network:
            return self._many
        return self._often if self._rate.take(network) else None

    def depart(self, peer: str) -> None:
        """`leave`, likewise."""
        network = network_of(peer)
        self._total -= 1
        left = self._open[network] - 1
        if left:
            self._open[network] = left
        else:
            del self._open[network]


class Conversation(Check):
    """What one connection may do, and how often a network may send. The door tells of each command and error."""

    name: ClassVar[str] = "limits"
    exemptible: ClassVar[bool] = False

    def __init__(self, clock: Clock, limits: Limits, unlimited: Iterable[str] = LOOPBACK) -> None:
        self._limits = limits
        self._near = _Near(unlimited)
        self._rate = Buckets(clock, limits.message_rate)
        name = self.name
        self._enough = defer(name, 421, "4.7.0", "Enough messages in one connection; please connect again", close=True)
        self._often = defer(name, 450, "4.7.1", "Messages from your network come too often; try again later")
        # RFC 5321 §4.5.3.1.10: 452 where there are too many recipients.
        self._crowd = defer(name, 452, "4.5.3", "Too many recipients; send the others another copy")
        self._bounce = refuse(name, 550, "5.5.3", "A message from <> to so many recipients is not taken")
        self._commands = defer(name, 421, "4.7.0", "Too many commands in one connection", close=True)
        self._errors = defer(name, 421, "4.7.0", "Too many errors; goodbye", close=True)

    def mail(self, facts: Facts) -> Verdict | None:
        """Count a message."""
        facts.messages += 1
        if facts.messages > self._limits.messages:
            return self._enough
        if facts.account is not None or self._near.holds(facts.peer):
            return None
        return self._often if self._rate.take(network_of(facts.peer)) else None

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


class SubmissionRate(Check):
    """How many recipients an account may send to: a stolen password shall not be worth much."""

    name: ClassVar[str] = "submission-rate"
    exemptible: ClassVar[bool] = False

    def __init__(self, clock: Clock, rate: Rate) -> None:
        self._buckets = Buckets(clock, rate)
        self._often = defer(self.name, 450, "4.7.1", "You have sent to too many recipients; try again later")

    def rcpt(self, facts: Facts, recipient: RecipientFacts) -> Verdict | None:
        """Count a recipient of an account's."""
        if facts.account is None:
            return None
        return None if self.allow(facts.account.id) else self._often

    def allow(self, account: int, recipients: int = 1) -> bool:
        """May the account send to so many more? Counted where it may. For doors without RCPT."""
        return not self._buckets.take(str(account), recipients)


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
