"""What is learnt of the far sides: how many connections a site takes, how fast, and whether it is down.

Promises: a site gains connections while it takes mail, loses half of them when it pushes back (421, 4xx before MAIL),
and where one is still too many it is given time between messages. Equal input gives equal values. What is learnt is
bounded in memory; forgotten, it is learnt again. Refuses: to read a clock and to know what runs; schedule.py obeys it.

A site is what destinations roll up to once they were routed: the MX host of a provider with a thousand domains. A
destination that was not routed yet stands for itself.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

V = TypeVar("V")

# Postfix' initial_destination_concurrency.
FIRST: Final = 5
# Answers that come at once to several connections are one push: so long nothing more is taken for it.
_ONE_PUSH_MS: Final = 1000
# Time between messages, where one connection is still too many: at first, and at most.
_FIRST_PACE_MS: Final = 1000
_SLOWEST_PACE_MS: Final = 60_000
# Less than this is none.
_QUICK_PACE_MS: Final = 200
# A site that took mail within this time is known to live.
_ALIVE_MS: Final = 3_600_000
# Sites and destinations remembered; each costs some 300 octets.
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Site:
    """What is known of one site.

    `cap`: connections it may have; its whole part counts. `pace`: milliseconds between messages. Nothing is started
    before `due_at`, because of the pace or because the site is down: it then failed `failures` times in a row. It took
    mail last at `alive_at`, pushed back at `pushed_at`; 0: never. Since it took mail, it `refused` so many connections.
    """

    cap: float = FIRST
    pace: int = 0
    due_at: int = 0
    failures: int = 0
    alive_at: int = 0
    pushed_at: int = 0
    refused: int = 0

    @property
    def down(self) -> bool:
        """It failed as a whole: until it lives again, one connection asks now and then."""
        return self.failures > 0

    @property
    def connections(self) -> int:
        """How many it may have now."""
        return 1 if self.down or self.pace else int(self.cap)

    def crowded(self, now: int) -> bool:
        """A connection that is refused now is one too many, and no outage: the site lives, and refused few so far."""
        return self.alive(now) and 2 * self.refused < self.connections

    def alive(self, now: int) -> bool:
        """It took mail not long ago, and nothing has spoken against it since."""
        return not self.down and self.alive_at > 0 and now - self.alive_at <= _ALIVE_MS


def lived(site: Site, most: int, now: int) -> Site:
    """It took a message, or refused it for a reason of the message's: one connection more for as many of these as it
    has connections, up to `most`."""
    if site.cap >= most and not (site.pace or site.failures or site.refused) and now - site.alive_at < _ONE_PUSH_MS:
        return site
    pace = site.pace // 2 if site.pace >= _QUICK_PACE_MS else 0
    cap = site.cap if site.pace else min(float(most), site.cap + 1 / max(site.cap, 1.0))
    return replace(site, cap=cap, pace=pace, due_at=now + pace if pace else 0, failures=0, alive_at=now, refused=0)


def pushed_back(site: Site, now: int) -> Site:
    """It said that this was too much: half of the connections; or where that is one, time between messages."""
    if site.pushed_at and now - site.pushed_at < _ONE_PUSH_MS:
        return site
    if site.cap >= 2:
        return replace(site, cap=site.cap / 2, pushed_at=now)
    pace = min(max(_FIRST_PACE_MS, 2 * site.pace), _SLOWEST_PACE_MS)
    return replace(site, cap=1.0, pace=pace, due_at=now + pace, pushed_at=now)


def went_down(site: Site, failures: int, due_at: int) -> Site:
    """It takes nothing at all, until `due_at`."""
    return replace(site, cap=1.0, pace=0, failures=failures, due_at=due_at)


class Sites(Mapping[str, Site]):
    """What this process has learnt, by name: of sites, and of destinations that stand for themselves."""

    def __init__(self, most: int) -> None:
        """`most`: connections that a site may have at all."""
        self._most = most
        self._known: OrderedDict[str, Site] = OrderedDict()
        self._of: OrderedDict[str, str] = OrderedDict()

    def __getitem__(self, name: str) -> Site:
        return self._known[name]

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def find(self, name: str) -> Site:
        """What is known of it, or what is thought of strangers."""
        return self._known.get(name) or Site(cap=min(FIRST, self._most))

    def name(self, destination: str, site: str | None) -> str:
        """What the destination rolls up to: what its lane says, what was learnt, or itself."""
        return site or self._of.get(destination, destination)

    def routed(self, destination: str, site: str) -> None:
        """The destination rolls up to this site."""
        _remember(self._of, destination, site)

    def lived(self, name: str, now: int) -> None:
        """It took a message."""
        site = self.find(name)
        if site.down:
            # What it takes after an outage is learnt anew.
            site = replace(site, cap=min(FIRST, self._most))
        _remember(self._known, name, lived(site, self._most, now))

    def pushed_back(self, name: str, now: int) -> None:
        """It said that this was too much."""
        _remember(self._known, name, pushed_back(self.find(name), now))

    def refused(self, name: str) -> None:
        """It did not take a connection."""
        site = self.find(name)
        _remember(self._known, name, replace(site, refused=site.refused + 1))

    def backs_off(self, name: str, failures: int, due_at: int) -> None:
        """It is down until then, as the database says; no failures: it is not."""
        site = self.find(name)
        if failures:
            _remember(self._known, name, went_down(site, failures, due_at))
        elif site.down:
            _remember(self._known, name, replace(site, failures=0, due_at=0))


def _remember(known: OrderedDict[str, V], name: str, value: V) -> None:
    known[name] = value
    known.move_to_end(name)
    while len(known) > _REMEMBERED:
        known.popitem(last=False)
