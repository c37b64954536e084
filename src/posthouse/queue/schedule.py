"""Which lanes run now, with how many connections, who gives way, and when to look again. Pure: lanes in, decisions out.

Promises: no sender gets more of the connections than another that also waits; who waits behind long work is let
through; a destination never gets more than its cap, lanes of one site share that cap, and those of a site that is down
wait together. Slow or failing sites hold no more than their share of the connections, and some are left for sites that
are known to live. What is urgent goes first, and leaves something to the others. Delivery at home never waits for
connections to far places. Equal input gives equal decisions.
Refuses: to read a clock, roll a die or know what a courier does.
"""

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from posthouse.queue.sites import FIRST, Site

# Destinations that are delivered at home; what stands behind the colon is a mailbox' role, nothing for the Inbox.
LOCAL: Final = "local:"
# Destinations on other servers: by domain, or by a route of the configuration.
_FAR: Final = ("domain:", "route:")
# How long a lane works before it gives way to one that waits and has nothing.
TURN_MS: Final = 5000
# Lanes that others give way to in one decision.
_LET_THROUGH: Final = 20
# When to look again while somebody waits for room: connections become slow without a word.
_LOOK_AGAIN_MS: Final = 1000


def is_local(destination: str) -> bool:
    """Done at home: a delivery, or what a list does with a post. Not relay."""
    return not destination.startswith(_FAR)


@dataclass(frozen=True, slots=True)
class LaneState:
    """A lane as the schedule sees it.

    `site` is what its destination rolls up to, None where that is itself. `priority` is RFC 6710's, -9 to 9. `failures`
    counts how often in a row it failed as a whole. `running` counts the connections it has now, since `since`; so many
    of them are `slow`: nothing was heard of them for some time. `more` says that a running lane has so much to do that
    another connection pays. A lane that does not run is due at `due_at`.
    """

    id: int
    destination: str
    sender: str
    due_at: int
    site: str | None = None
    priority: int = 0
    failures: int = 0
    running: int = 0
    slow: int = 0
    since: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Connections at once: in all, to one site at most, and couriers delivering at home.

    Of `remote`, `troubled` at most go to sites that fail or are slow, `reserved` are left to those known to live, and
    `beyond` it so many more are allowed as connections are slow.
    """

    remote: int = 200
    # Postfix allows 20 to a destination; large providers begin to complain at about that number.
    site: int = 20
    # One writer commits; more than a few only wait for it.
    local: int = 4

    @property
    def troubled(self) -> int:
        return max(1, self.remote // 2)

    @property
    def reserved(self) -> int:
        return self.remote // 5

    @property
    def beyond(self) -> int:
        return self.remote // 2


@dataclass(frozen=True, slots=True)
class Postpone:
    """This lane is due and its site is down: it waits with the site, until then."""

    lane: int
    site: str
    until: int


@dataclass(frozen=True, slots=True)
class Decisions:
    """What happens now. `start`: lanes that get one more connection, in order. `yields`: lanes of which one connection
    gives way when it has done what it is at; one may stand there several times. `postpone`: lanes that are due and not
    to be tried. `wake_at`: when something changes by itself; None: never."""

    start: tuple[int, ...]
    yields: tuple[int, ...]
    postpone: tuple[Postpone, ...]
    wake_at: int | None


def schedule(
    lanes: Sequence[LaneState], limits: Limits, now: int, sites: Mapping[str, Site] | None = None
) -> Decisions:
    """Share the free connections among the lanes that are due or have more to do than their connections carry.

    `sites` is what is known, by name; a site that is not in it is a stranger. Each connection goes to the sender that
    has the fewest; among its lanes to the one that waits longest. A lane that starts gets one; it gains another in a
    later decision when one has shown not to be enough.
    """
    known = sites or {}
    start: list[int] = []
    yields: list[int] = []
    wakes = [lane.due_at for lane in lanes if not lane.running and lane.due_at > now]
    postpone: list[Postpone] = []
    ready: dict[bool, list[LaneState]] = {True: [], False: []}
    for lane in lanes:
        site = known.get(_site(lane))
        if not _able(lane, now):
            continue
        if site is None or site.due_at <= now:
            ready[is_local(lane.destination)].append(lane)
        elif site.down and not lane.running:
            postpone.append(Postpone(lane.id, _site(lane), site.due_at))
        else:
            wakes.append(site.due_at)
    for local, able in ready.items():
        room = _Room([lane for lane in lanes if is_local(lane.destination) is local], local, limits, known, now)
        started, waiting = _share(able, room)
        start += started
        yields += _let_through(waiting, room, now)
        if waiting:
            wakes.append(now + _LOOK_AGAIN_MS)
    return Decisions(tuple(start), tuple(yields), tuple(postpone), min(wakes, default=None))


def _able(lane: LaneState, now: int) -> bool:
    return lane.more if lane.running else lane.due_at <= now


def _site(lane: LaneState) -> str:
    return lane.site or lane.destination


def _band(lane: LaneState) -> int:
    """Urgent, usual, or what may wait: each leaves something to the bands below it."""
    return (lane.priority > 0) - (lane.priority < 0)


# --- room -------------------------------------------------------------------------------------------------------------


class _Room:
    """The connections there are, at home or to far places, and who has them."""

    def __init__(
        self, lanes: Sequence[LaneState], local: bool, limits: Limits, sites: Mapping[str, Site], now: int
    ) -> None:
        self._local, self._limits, self._sites, self._now = local, limits, sites, now
        self.running = [lane for lane in lanes if lane.running]
        self.total = limits.local if local else limits.remote
        self.at_site: Counter[str] = Counter()
        self.of_sender: Counter[str] = Counter()
        self.of_band: Counter[int] = Counter()
        self._slow: Counter[str] = Counter()
        for lane in self.running:
            self.at_site[_site(lane)] += lane.running
            self.of_sender[lane.sender] += lane.running
            self.of_band[_band(lane)] += lane.running
            self._slow[_site(lane)] += lane.slow
        beyond = 0 if local else min(sum(self._slow.values()), limits.beyond)
        self.free = self.total + beyond - sum(self.at_site.values())
        self._troubled = sum(lane.running for lane in self.running if self._in_trouble(lane))
        self._living = sum(lane.running for lane in self.running if self._lives(lane))

    def take(self, lane: LaneState, kept: int) -> bool:
        """One connection for this lane, where it may have one and `kept` are left to others."""
        if not self.fits(lane, kept):
            return False
        self.free -= 1
        self.at_site[_site(lane)] += 1
        self.of_sender[lane.sender] += 1
        self.of_band[_band(lane)] += 1
        self._troubled += self._in_trouble(lane)
        self._living += self._lives(lane)
        return True

    def fits(self, lane: LaneState, kept: int = 0) -> bool:
        """The lane may have one connection more."""
        if self._local:
            return self.free > kept
        if self.full(lane) or (self._in_trouble(lane) and self._troubled >= self._limits.troubled):
            return False
        left = 0 if self._lives(lane) else max(0, self._limits.reserved - self._living)
        return self.free > kept + left

    def full(self, lane: LaneState) -> bool:
        """The lane's site has all that it may have, or most of what it has hangs."""
        return self.at_cap(lane) or self._hangs(_site(lane))

    def at_cap(self, lane: LaneState) -> bool:
        """The lane's site has all that it may have."""
        site = self._sites.get(_site(lane))
        return not self._local and self.at_site[_site(lane)] >= min(
            site.connections if site else FIRST, self._limits.site
        )

    def helped(self, lane: LaneState) -> bool:
        """Another connection's end would let this lane start."""
        if self._local or self.at_cap(lane):
            return True
        return not self._hangs(_site(lane)) and not self._in_trouble(lane)

    def _hangs(self, name: str) -> bool:
        return 0 < self.at_site[name] <= 2 * self._slow[name]

    def _in_trouble(self, lane: LaneState) -> bool:
        site = self._sites.get(_site(lane))
        return lane.failures > 0 or (site is not None and site.down) or self._hangs(_site(lane))

    def _lives(self, lane: LaneState) -> bool:
        site = self._sites.get(_site(lane))
        return site is not None and site.alive(self._now)


# --- sharing ----------------------------------------------------------------------------------------------------------


def _share(able: Sequence[LaneState], room: _Room) -> tuple[list[int], list[LaneState]]:
    """Lanes that get a connection, in order; and those without any that get none."""
    start: list[int] = []
    for band in (1, 0, -1):
        # An eighth is left to each band below that waits, less what it has.
        below = {_band(lane) for lane in able if _band(lane) < band}
        kept = sum(max(0, max(1, room.total // 8) - room.of_band[other]) for other in below)
        start += _share_band([lane for lane in able if _band(lane) == band], room, max(0, min(kept, room.total - 1)))
    started = set(start)
    return start, [lane for lane in able if not lane.running and lane.id not in started]


def _share_band(able: Sequence[LaneState], room: _Room, kept: int) -> list[int]:
    waiting: dict[str, deque[LaneState]] = defaultdict(deque)
    for lane in sorted(able, key=lambda lane: (-lane.priority, lane.running, lane.due_at, lane.id)):
        waiting[lane.sender].append(lane)
    turns = [(room.of_sender[sender], queue[0].due_at, sender) for sender, queue in waiting.items()]
    heapq.heapify(turns)
    start: list[int] = []
    while turns and room.free > kept:
        _, _, sender = heapq.heappop(turns)
        queue = waiting[sender]
        while queue:
            lane = queue.popleft()
            if room.take(lane, kept):
                start.append(lane.id)
                if queue:
                    heapq.heappush(turns, (room.of_sender[sender], queue[0].due_at, sender))
                break
    return start


def _let_through(waiting: Sequence[LaneState], room: _Room, now: int) -> list[int]:
    """Lanes that give a connection to one that has none: where the site is full one of the site's, else any."""
    yields: list[int] = []
    left = {lane.id: lane.running for lane in room.running}
    held = Counter(room.of_sender)
    helped = [lane for lane in waiting if room.helped(lane)]
    for lane in sorted(helped, key=lambda one: (-one.priority, one.due_at, one.id))[:_LET_THROUGH]:
        able = [one for one in room.running if left[one.id] and _gives_way(one, lane, room, held, now)]
        if able:
            chosen = max(able, key=lambda one: (held[one.sender], left[one.id], -one.since, one.id))
            yields.append(chosen.id)
            left[chosen.id] -= 1
            held[chosen.sender] -= 1
    return yields


def _gives_way(one: LaneState, to: LaneState, room: _Room, held: Mapping[str, int], now: int) -> bool:
    """A lane that has worked for its time, or one of less weight, gives way: never to a sender who has more."""
    if room.at_cap(to) and _site(one) != _site(to):
        return False
    if one.priority != to.priority:
        return one.priority < to.priority
    if one.sender == to.sender:
        return now - one.since >= TURN_MS
    return held[one.sender] > held[to.sender] and (now - one.since >= TURN_MS or held[one.sender] > held[to.sender] + 1)


def pays(waiting: int, running: int, slow: int) -> bool:
    """Whether another connection is worth its greeting, for so many jobs that wait behind the lane's connections: one
    waits for each that is not slow, which would go through more than one after the other."""
    return waiting > 0 and waiting >= running - slow


# --- when again -------------------------------------------------------------------------------------------------------


def delay(delays: Sequence[float], failures: int, jitter: float) -> float:
    """Seconds to wait after the `failures`-th failure in a row (1 is the first): `delays` in order, the last repeats.

    `jitter` in [0, 1) spreads the result by a tenth to either side, so that what failed together does not come back
    together.
    """
    return delays[min(max(failures, 1), len(delays)) - 1] * (0.9 + 0.2 * jitter)


def longest_delay(delays: Sequence[float]) -> float:
    """Seconds: no `delay` is longer."""
    return max(delays) * 1.1


def retry_at(delays: Sequence[float], failures: int, jitter: float, now: int, expires_at: int | None = None) -> int:
    """When to try again, in UTC milliseconds: after `delay`, but no later than `expires_at`, so that the last attempt
    comes when time is up and not hours after it."""
    due = now + int(delay(delays, failures, jitter) * 1000)
    return due if expires_at is None or expires_at <= now else min(due, expires_at)
