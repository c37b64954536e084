"""Which lanes run now, with how many connections, and when to look again. Pure: lanes in, decisions out.

Promises: no sender gets more of the connections than another that also waits, a destination never gets more than its
cap, lanes of one site share that cap, and delivery at home never waits for connections to far places. Equal input gives
equal decisions. Refuses: to read a clock, roll a die or know what a courier does.
"""

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

# Destinations that are delivered at home; what stands behind the colon is a mailbox' role, nothing for the Inbox.
LOCAL: Final = "local:"


def is_local(destination: str) -> bool:
    """Delivery at home, not relay."""
    return destination.startswith(LOCAL)


@dataclass(frozen=True, slots=True)
class LaneState:
    """A lane as the schedule sees it.

    `running` counts the connections it has now; `more` says that a running lane has yet unclaimed recipients, so
    that another connection would have work. A lane that does not run is due at `due_at`.
    """

    id: int
    destination: str
    sender: str
    due_at: int
    site: str | None = None
    running: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Connections at once: in all, to one site, and couriers delivering at home."""

    remote: int = 200
    # Postfix allows 20 to a destination; large providers begin to complain at about that number.
    site: int = 20
    # One writer commits; more than a few only wait for it.
    local: int = 4
    # Caps of sites that differ from `site`, as learnt from a peer's answers.
    sites: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    """Give this lane one more connection; `connections` is how many it gains in this decision."""

    lane: int
    connections: int


@dataclass(frozen=True, slots=True)
class Decisions:
    """What to start, in order, and when the first lane that waits is due (None: none waits)."""

    start: tuple[Start, ...]
    wake_at: int | None


def schedule(lanes: Sequence[LaneState], limits: Limits, now: int) -> Decisions:
    """Share the free connections among the lanes that are due or have more to do than their connections carry.

    Each connection goes to the sender that has the fewest; among its lanes to the one that waits longest. A lane that
    starts gets one; it gains another in a later decision when one has shown not to be enough.
    """
    room = {True: limits.local, False: limits.remote}
    at_site: Counter[str] = Counter()
    of_sender: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for lane in lanes:
        local = is_local(lane.destination)
        room[local] -= lane.running
        at_site[_site(lane)] += lane.running
        of_sender[local][lane.sender] += lane.running
    start: list[Start] = []
    for local in (True, False):
        able = [lane for lane in lanes if is_local(lane.destination) is local and _able(lane, now)]
        cap = limits.local if local else limits.site
        start += _share(able, room[local], of_sender[local], at_site, cap, limits.sites)
    waiting = [lane.due_at for lane in lanes if not lane.running and lane.due_at > now]
    return Decisions(tuple(start), min(waiting, default=None))


def _able(lane: LaneState, now: int) -> bool:
    return lane.more if lane.running else lane.due_at <= now


def _site(lane: LaneState) -> str:
    return lane.site or lane.destination


def _share(
    lanes: Sequence[LaneState],
    room: int,
    of_sender: Mapping[str, int],
    at_site: Counter[str],
    cap: int,
    caps: Mapping[str, int],
) -> list[Start]:
    waiting: dict[str, deque[LaneState]] = defaultdict(deque)
    for lane in sorted(lanes, key=lambda lane: (lane.running, lane.due_at, lane.id)):
        waiting[lane.sender].append(lane)
    turns = [(of_sender.get(sender, 0), queue[0].due_at, sender) for sender, queue in waiting.items()]
    heapq.heapify(turns)
    start: list[Start] = []
    while turns and room > 0:
        held, _, sender = heapq.heappop(turns)
        queue = waiting[sender]
        while queue:
            lane = queue.popleft()
            site = _site(lane)
            if at_site[site] < caps.get(site, cap):
                at_site[site] += 1
                room -= 1
                start.append(Start(lane.id, 1))
                if queue:
                    heapq.heappush(turns, (held + 1, queue[0].due_at, sender))
                break
    return start


def delay(delays: Sequence[float], failures: int, jitter: float) -> float:
    """Seconds to wait after the `failures`-th failure in a row (1 is the first): `delays` in order, the last repeats.

    `jitter` in [0, 1) spreads the result by a tenth to either side, so that what failed together does not come back
    together.
    """
    return delays[min(max(failures, 1), len(delays)) - 1] * (0.9 + 0.2 * jitter)


def retry_at(delays: Sequence[float], failures: int, jitter: float, now: int, expires_at: int | None = None) -> int:
    """When to try again, in UTC milliseconds: after `delay`, but no later than `expires_at`, so that the last attempt
    comes when time is up and not hours after it."""
    due = now + int(delay(delays, failures, jitter) * 1000)
    return due if expires_at is None or expires_at <= now else min(due, expires_at)
