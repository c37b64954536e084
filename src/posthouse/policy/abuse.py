"""Those who abuse us are turned away for a while: marks that fade, and blocks that double.

Promises: what a stranger does that honest software does not gives his network (an IPv4 address or an IPv6 /64) marks;
at THRESHOLD it is blocked, each time twice as long as before, up to `longest`. A site of IPv6 (a /48) is measured as
one too, with SITE_FACTOR times the patience: it has 65,536 networks to come from. A block holds at once in this process
and, once written, in all others and after a restart. Nobody in `never` is blocked or marked. A network that good mail
or a login came from lately has GOOD_NAME times the patience. Memory is bounded.
Refuses: to judge messages, and to lift what a person has blocked by hand.
"""

import asyncio
import ipaddress
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final

from posthouse import observe
from posthouse.clock import Clock
from posthouse.directory.kept import Kept
from posthouse.directory.throttle import SITE_FACTOR, address_of, network_of, site_of
from posthouse.policy import blocks
from posthouse.policy.blocks import Block, Table
from posthouse.policy.networks import LOOPBACK, Networks
from posthouse.store.database import Store, Topic
from posthouse.terms.reply import Reply

THRESHOLD: Final = 100.0
# Seconds in which a full measure of marks fades.
FADES: Final = 1800.0
GOOD_NAME: Final = 3.0
# Seconds that a network is known for: those who pass once in a month are strangers again.
_DAY: Final = 86400.0
KNOWN: Final = 30 * _DAY
NETWORKS: Final = 100_000
# A wave of blocks is written together.
_GATHER_SECONDS: Final = 2.0

# Mail waits at its sender until a block that nobody decided on has ended; what a person decided is final.
_FOR_A_WHILE: Final = Reply(421, "4.7.0", "Your network has misbehaved and is turned away for a while")
_BY_HAND: Final = Reply(554, "5.7.1", "Your network is blocked here")


class Offence(Enum):
    """What is marked: in words, and how much it weighs. Fifty wrong addresses, ten tries to relay, or four browsers."""

    LOGIN = ("guesses of passwords", 20.0)
    RELAY = ("attempts to relay", 10.0)
    RECIPIENT = ("addresses that do not exist", 2.0)
    ERRORS = ("too many errors", 25.0)
    EARLY = ("speaking before the greeting", 25.0)
    WEB = ("speaking HTTP", 25.0)
    INJECTION = ("commands smuggled in front of TLS", 50.0)

    def __init__(self, words: str, weight: float) -> None:
        self.words = words
        self.weight = weight


@dataclass(frozen=True, slots=True)
class Settings:
    """`on`: block at all. `first` and `longest` in seconds: how long the first block lasts, and any."""

    on: bool = True
    first: float = 600.0
    longest: float = 86400.0
    never: tuple[str, ...] = ()


class Abuse:
    """One a process. `follow` and `write` have to run as tasks; without them it blocks in this process alone."""

    def __init__(self, store: Store, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self.set(settings)
        self._marks: Kept[str, tuple[float, float]] = Kept(NETWORKS)  # how many, and as of when
        self._known: Kept[str, float] = Kept(NETWORKS)  # until when
        self._table = Table([])
        self._unwritten: list[Block] = []
        self._wanted = asyncio.Event()

    def set(self, settings: Settings) -> None:
        """From now on these hold."""
        self._settings = settings
        self._never = Networks((*LOOPBACK, *settings.never), machine=True)

    # --- at the gate

    def refusal(self, peer: str) -> Reply | None:
        """Why nobody is served from there; None: everybody is."""
        block = self._table.find(peer, self._clock.now())
        if block is None or self._never.hold(peer):
            return None
        return _BY_HAND if block.by_hand else _FOR_A_WHILE

    def is_near(self, peer: str) -> bool:
        """Is this somebody whom nothing here is meant for: on this machine, or in a network that is never blocked?"""
        return self._never.hold(peer)

    def is_known(self, peer: str) -> bool:
        """Has good mail, or a login, come from there lately?"""
        return self._has_good_name(network_of(peer))

    def _has_good_name(self, network: str) -> bool:
        until = self._known.get(network)
        return until is not None and until > self._clock.monotonic()

    # --- what was seen

    def mark(self, peer: str, offence: Offence) -> None:
        """Somebody has done this."""
        observe.count("abuse_marks", offence=offence.name.lower())
        if not self._settings.on or self._never.hold(peer) or self.refusal(peer) is not None:
            return
        now = self._clock.monotonic()
        for network, share in _measured(peer):
            marks = self._left(network, now) + offence.weight * share
            if marks < THRESHOLD * (GOOD_NAME if self._has_good_name(network) else 1.0):
                self._marks.put(network, (marks, now))
            else:
                self._marks.drop(network)
                self._block(network, offence)

    def guessed_wrong(self, peer: str) -> None:
        """A wrong password beyond those that are free (directory/throttle.py)."""
        self.mark(peer, Offence.LOGIN)

    def logged_in(self, peer: str) -> None:
        """A right one."""
        self.welcome(peer)

    def welcome(self, peer: str) -> None:
        """A message was taken, or somebody has logged in: the network has a good name, and a mark less of each kind."""
        now = self._clock.monotonic()
        for network, share in _measured(peer):
            known = self._known.get(network)
            if known is None or known < now + KNOWN - _DAY:
                self._known.put(network, now + KNOWN)
            if marks := self._left(network, now):
                self._marks.put(network, (max(0.0, marks - Offence.RECIPIENT.weight * share), now))

    def _left(self, network: str, now: float) -> float:
        kept = self._marks.get(network)
        return 0.0 if kept is None else max(0.0, kept[0] - (now - kept[1]) * THRESHOLD / FADES)

    def _block(self, network: str, offence: Offence) -> None:
        now = self._clock.now()
        address = address_of(network)
        canonical = str(ipaddress.ip_network(network if address is None else str(address)))
        times = self._table.times(canonical) + 1
        seconds = min(self._settings.longest, self._settings.first * 2.0 ** min(times - 1, 20))
        block = Block(canonical, now, now + int(seconds * 1000), offence.words, times)
        self._table.put(block)
        self._unwritten.append(block)
        # Where the store is away for long, those that end first are let go.
        del self._unwritten[: -blocks.MOST]
        self._wanted.set()
        observe.tell("abuse.blocked", network=block.shown, reason=block.reason, seconds=round(seconds), times=times)

    # --- the store

    async def follow(self) -> None:
        """Read what is blocked, at once and whenever that has changed. Raises StoreUnavailable."""
        listener = self._store.listen(Topic.BLOCKS)
        try:
            while True:
                table = await self._store.read(blocks.table)
                for block in self._unwritten:
                    table.put(block)
                self._table = table
                await listener.wait()
        finally:
            listener.close()

    async def write(self) -> None:
        """Write each block that is made here. Raises StoreUnavailable; what could not be written is tried again."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._wanted.clear()
            batch = list(self._unwritten)
            try:
                await self._store.write(blocks.record, batch)
            except BaseException:
                self._wanted.set()
                raise
            written = frozenset(batch)
            self._unwritten = [block for block in self._unwritten if block not in written]


@lru_cache(maxsize=16_384)
def _measured(peer: str) -> tuple[tuple[str, float], ...]:
    """What a peer's deeds are counted for, and how much of each: his network, and his site."""
    network, site = (network_of(peer), 1.0), site_of(peer)
    return (network,) if site is None else (network, (site, 1.0 / SITE_FACTOR))
