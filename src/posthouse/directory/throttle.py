"""Guesses of passwords, counted in one place for all doors.

Promises: from one network, from one site of IPv6, and at one account, only so many wrong guesses are free; then each
further one makes the next wait twice as long, up to MOST_WAIT, and with time all is forgotten. A guess counts from the
moment it is made, so that guesses in parallel do not get more. Memory is bounded.
Refuses: to lock people out of their account because others guess at it: who has logged in to it from a network before
is measured only by what that network does.
"""

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from posthouse.clock import Clock
from posthouse.directory.familiar import Familiar
from posthouse.directory.kept import Kept
from posthouse.written import Rate

# Seconds. Long enough to make guessing hopeless, short enough that a person who mistyped comes back the same hour.
MOST_WAIT: Final = 900.0
# An account's own count is larger than a network's: many networks may hold a client with an old password.
ACCOUNT_FACTOR: Final = 5
# A site of IPv6 is mostly one customer's, and may be a whole company.
SITE_FACTOR: Final = 10
NETWORKS: Final = 100_000
ACCOUNTS: Final = 100_000


def address_of(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address of a peer, an IPv4 one where it is mapped into IPv6; None for other text (a socket's path)."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


@lru_cache(maxsize=16_384)
def site_of(peer: str) -> str | None:
    """The /48 of an IPv6 address, which one customer may hold (RFC 6177 §2), with 65,536 networks in it; else None."""
    address = address_of(peer)
    return str(ipaddress.IPv6Network((int(address) >> 80 << 80, 48))) if address and address.version == 6 else None


@lru_cache(maxsize=16_384)
def network_of(peer: str) -> str:
    """What a stranger holds as one: an IPv4 address, or the /64 of an IPv6 address. Other text stands for itself."""
    address = address_of(peer)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return peer if address is None else str(address)


@dataclass(slots=True)
class _Guesses:
    """`failures` as of `at`, of which `free` cost nothing; they fade with time. No guess before `closed_until`."""

    free: int
    failures: float
    at: float
    closed_until: float


class Witness(Protocol):
    """Who is told what came of guesses, with the peer's address."""

    def guessed_wrong(self, peer: str) -> None:
        """One more wrong guess than are free to a network."""
        ...

    def logged_in(self, peer: str) -> None:
        """A guess that was right."""
        ...


class GuessThrottle:
    """Whoever checks a password asks `admit` first and says afterwards what it was: `succeeded` or `failed`."""

    def __init__(
        self, clock: Clock, free: Rate, witness: Witness | None = None, familiar: Familiar | None = None
    ) -> None:
        self._clock = clock
        self._free = free
        self._witness = witness
        self._networks: Kept[str, _Guesses] = Kept(NETWORKS)
        self._accounts: Kept[str, _Guesses] = Kept(ACCOUNTS)
        self._familiar = familiar or Familiar(clock)

    def admit(self, login: str, peer: str) -> float:
        """0.0: guess, it is counted as wrong until you say otherwise. Else seconds to wait; nothing was counted."""
        now = self._clock.monotonic()
        guesses = self._counts(login, peer)
        wait = max(self._wait(kept.get(key), now) for kept, key, _ in guesses)
        if wait > 0:
            return wait
        for kept, key, factor in guesses:
            self._count(kept, key, factor, now)
        return 0.0

    def succeeded(self, login: str, peer: str) -> None:
        """The guess that was admitted was right: it does not count, and this network is familiar to the account."""
        if self._witness is not None:
            self._witness.logged_in(peer)
        self.withdraw(login, peer)
        self._familiar.met(login, network_of(peer))

    def failed(self, login: str, peer: str) -> None:
        """The guess that was admitted was wrong; past the free ones that is told of.

        One that nobody has judged (broken off, or still under way) counts, and is not told of: it may be right.
        """
        counts = [kept.get(key) for kept, key, _ in self._counts(login, peer) if kept is self._networks]
        if self._witness is not None and any(one is not None and one.failures >= one.free for one in counts):
            self._witness.guessed_wrong(peer)

    def withdraw(self, login: str, peer: str) -> None:
        """The guess that was admitted was never judged (the store was away): it does not count."""
        for kept, key, _ in self._counts(login, peer):
            self._forgive(kept.get(key))

    def _counts(self, login: str, peer: str) -> list[tuple[Kept[str, _Guesses], str, int]]:
        """Where a guess is counted, and how many times as much as of one network is free there."""
        network, site = network_of(peer), site_of(peer)
        counts = [(self._networks, network, 1)]
        if not self._familiar.knows(login, network):
            counts.append((self._accounts, login, ACCOUNT_FACTOR))
            if site is not None:
                counts.append((self._networks, site, SITE_FACTOR))
        return counts

    def _wait(self, guesses: _Guesses | None, now: float) -> float:
        return 0.0 if guesses is None else max(0.0, guesses.closed_until - now)

    def _count(self, kept: Kept[str, _Guesses], key: str, factor: int, now: float) -> None:
        free = self._free.count * factor
        guesses = kept.get(key)
        if guesses is None:
            guesses = _Guesses(free, 0.0, now, 0.0)
            kept.put(key, guesses)
        faded = (now - guesses.at) * free / self._free.seconds
        guesses.failures = max(0.0, guesses.failures - faded) + 1
        guesses.at = now
        if guesses.failures >= free:
            # The exponent is bounded before it is raised; 2 ** 10 s is past MOST_WAIT.
            guesses.closed_until = now + min(MOST_WAIT, 2.0 ** min(10.0, guesses.failures - free))

    def _forgive(self, guesses: _Guesses | None) -> None:
        if guesses is not None:
            guesses.failures = max(0.0, guesses.failures - 1)
            # It was admitted, so what the wrong ones before it had closed was open again.
            guesses.closed_until = 0.0
