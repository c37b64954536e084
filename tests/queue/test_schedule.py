"""Schedules from lists and integers."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.queue.schedule import LOCAL, Decisions, LaneState, Limits, Postpone, delay, pays, retry_at, schedule
from posthouse.queue.sites import Site

NOW = 1_000_000


def lane(id: int, destination: str = "", sender: str = "account:1", due_at: int = NOW, **more: object) -> LaneState:
    return LaneState(id, destination or f"domain:{id}.example", sender, due_at, **more)  # type: ignore[arg-type]


def started(
    lanes: list[LaneState], limits: Limits, now: int = NOW, sites: Mapping[str, Site] | None = None
) -> list[int]:
    return list(schedule(lanes, limits, now, sites).start)


def test_a_lane_that_is_due_starts_with_one_connection_and_a_later_one_is_waited_for() -> None:
    decisions = schedule([lane(1), lane(2, due_at=NOW + 500), lane(3, due_at=NOW + 300)], Limits(), NOW)
    assert decisions.start == (1,)
    assert decisions.wake_at == NOW + 300


def test_nothing_to_do_sleeps_until_the_bell() -> None:
    decisions = schedule([], Limits(), NOW)
    assert (decisions.start, decisions.wake_at) == ((), None)


def test_the_oldest_lane_of_a_sender_goes_first() -> None:
    assert started([lane(1, due_at=NOW), lane(2, due_at=NOW - 5)], Limits(remote=1)) == [2]


def test_senders_share_the_connections_evenly() -> None:
    crowd = [lane(id, sender="account:1", due_at=NOW - 1000) for id in range(100)]
    few = [lane(100 + id, sender="account:2") for id in range(5)]
    assert Counter(id >= 100 for id in started(crowd + few, Limits(remote=12))) == {True: 5, False: 5}


def test_connections_that_run_already_count_for_their_sender() -> None:
    busy = [lane(id, sender="account:1", running=1) for id in range(5)]
    waiting = [lane(10, sender="account:1", due_at=NOW - 100), lane(11, sender="account:2")]
    assert started(busy + waiting, Limits(remote=7)) == [11]


def test_a_destination_has_its_cap_whoever_sends() -> None:
    lanes = [lane(id, "domain:big.example", sender=f"account:{id}") for id in range(10)]
    assert len(started(lanes, Limits(site=4))) == 4


def test_lanes_of_one_site_share_its_cap() -> None:
    lanes = [lane(id, site="mx.provider.example") for id in range(10)]
    assert len(started(lanes, Limits(site=3))) == 3
    assert len(started(lanes, Limits(site=9), sites={"mx.provider.example": Site(cap=7)})) == 7


def test_a_full_destination_does_not_hold_its_sender_back_elsewhere() -> None:
    lanes = [lane(id, "domain:slow.example", running=1) for id in range(4)]
    lanes += [lane(10, "domain:slow.example", due_at=NOW - 100), lane(11, "domain:quick.example")]
    assert started(lanes, Limits(site=4)) == [11]


def test_a_running_lane_gains_a_connection_where_it_has_more_to_do() -> None:
    assert started([lane(1, running=1, more=True), lane(2, running=1)], Limits()) == [1]
    assert started([lane(1, running=4, more=True)], Limits(site=4)) == []


def test_who_waits_goes_before_who_wants_more() -> None:
    assert started([lane(1, running=1, more=True, due_at=0), lane(2)], Limits(remote=2)) == [2]


def test_delivery_at_home_does_not_wait_for_far_places() -> None:
    busy = [lane(id, running=1) for id in range(10)]
    home = [lane(100, LOCAL), lane(101, LOCAL + "junk"), lane(102, LOCAL, sender="account:2")]
    assert sorted(started(busy + home, Limits(remote=10, local=2))) in ([100, 102], [101, 102])


def decide(lanes: list[LaneState], limits: Limits, sites: Mapping[str, Site] | None = None) -> Decisions:
    return schedule(lanes, limits, NOW, sites)


ALIVE = Site(cap=50, alive_at=NOW)


def test_strangers_get_five_connections_and_a_known_site_what_it_has_shown_to_take() -> None:
    lanes = [lane(id, site="mx.p.example") for id in range(30)]
    assert len(started(lanes, Limits())) == 5
    assert len(started(lanes, Limits(), sites={"mx.p.example": Site(cap=12.7)})) == 12
    assert len(started(lanes, Limits(site=20), sites={"mx.p.example": ALIVE})) == 20


def test_lanes_of_a_site_that_is_down_wait_with_it() -> None:
    down = {"mx.p.example": Site(failures=2, due_at=NOW + 5000)}
    lanes = [lane(1, site="mx.p.example"), lane(2, site="mx.p.example"), lane(3)]
    decisions = decide(lanes, Limits(), down)
    assert decisions.start == (3,)
    assert decisions.postpone == tuple(Postpone(id, "mx.p.example", NOW + 5000) for id in (1, 2))
    # At its time one asks, for all of them.
    due = {"mx.p.example": Site(failures=2, due_at=NOW)}
    decisions = decide(lanes, Limits(), due)
    assert sorted(decisions.start) == [1, 3]
    assert decisions.postpone == ()


def test_a_site_with_a_pace_waits_for_its_time_without_being_put_off() -> None:
    paced = {"mx.p.example": Site(cap=1, pace=4000, due_at=NOW + 4000)}
    decisions = decide([lane(1, site="mx.p.example")], Limits(), paced)
    assert (decisions.start, decisions.postpone, decisions.wake_at) == ((), (), NOW + 4000)


def test_failing_and_hanging_sites_hold_half_of_the_connections_at_most() -> None:
    failing = [lane(id, failures=1) for id in range(50)]
    assert len(started(failing, Limits(remote=20))) == 10
    fresh = [lane(100 + id) for id in range(50)]
    assert len(started(failing + fresh, Limits(remote=20))) == 16


def test_some_connections_are_left_for_sites_that_are_known_to_live() -> None:
    strangers = [lane(id, running=1) for id in range(16)]
    waiting = [lane(50), lane(51, site="mx.alive.example")]
    assert started(strangers + waiting, Limits(remote=20), sites={"mx.alive.example": ALIVE}) == [51]
    living = [lane(id, site=f"mx{id}.example", running=1) for id in range(4)]
    known = {f"mx{id}.example": ALIVE for id in range(4)}
    # Those have theirs by now: what is free is for anybody.
    assert 50 in started([*living, lane(50)], Limits(remote=20), sites=known)


def test_connections_that_hang_make_room_for_others_up_to_half_as_many_again() -> None:
    hanging = [lane(id, running=1, slow=1) for id in range(16)]
    assert started([*hanging, lane(50)], Limits(remote=20)) == [50]
    crowd = [lane(id, running=1, slow=1) for id in range(26)]
    assert started([*crowd, lane(50)], Limits(remote=20)) == []
    assert started(
        [*crowd, lane(50, site="mx.alive.example")], Limits(remote=20), sites={"mx.alive.example": ALIVE}
    ) == [50]


def test_a_site_of_which_most_hangs_gets_nothing_more() -> None:
    running = [lane(id, site="mx.p.example", running=1, slow=id % 2) for id in range(2)]
    assert started([*running, lane(9, site="mx.p.example")], Limits()) == []
    lively = [lane(id, site="mx.p.example", running=1, slow=int(id == 0)) for id in range(4)]
    assert started([*lively, lane(9, site="mx.p.example")], Limits()) == [9]


def test_the_urgent_goes_first_and_leaves_something_to_the_others() -> None:
    lanes = [lane(id, priority=-3) for id in range(20)]
    lanes += [lane(100 + id) for id in range(20)]
    lanes += [lane(200 + id, priority=3) for id in range(20)]
    first = started(lanes, Limits(remote=20))
    assert first[0] >= 200
    assert Counter(id // 100 for id in first) == {2: 12, 1: 2, 0: 2}
    # Among the urgent the more urgent.
    assert started([lane(1, priority=2), lane(2, priority=9)], Limits(remote=1)) == [2]


def test_long_work_gives_way_to_who_has_nothing() -> None:
    old, young = NOW - 60_000, NOW - 100
    busy = [lane(id, sender="account:1", running=5, since=old) for id in range(4)]
    decisions = decide([*busy, lane(50, sender="account:2")], Limits(remote=20))
    assert len(decisions.yields) == 1
    assert decisions.yields[0] < 4
    # Of one sender, the lane that has worked for its time gives way, the one that has begun does not.
    mixed = [lane(1, running=10, since=old), lane(2, running=10, since=young)]
    assert decide([*mixed, lane(50)], Limits(remote=20)).yields == (1,)
    assert decide([lane(2, running=20, since=young), lane(50)], Limits(remote=20)).yields == ()
    # A sender who has more gets nothing of one who has less.
    few = [lane(1, sender="account:2", running=2, since=old), lane(2, running=18, since=young)]
    assert decide([*few, lane(50)], Limits(remote=20)).yields == ()
    assert decide([], Limits()).wake_at is None


def test_at_a_full_site_one_of_the_sites_own_gives_way() -> None:
    old = NOW - 60_000
    site, other = "mx.p.example", "mx.q.example"
    lanes = [lane(1, site=site, running=5, since=old), lane(2, site=other, running=5, since=old)]
    assert decide([*lanes, lane(9, site=site, sender="account:2")], Limits(remote=50)).yields == (1,)
    # Urgent mail does not wait for its turn.
    fresh = [lane(1, site=site, running=5, since=NOW)]
    assert decide([*fresh, lane(9, site=site, priority=4)], Limits(remote=50)).yields == (1,)
    # Where the site hangs, or fails, nobody's place would help.
    down = {site: Site(failures=1)}
    assert decide([lane(2, running=50, since=old), lane(9, failures=3)], Limits(remote=50), down).yields == ()


lane_lists = st.lists(
    st.builds(
        LaneState,
        id=st.integers(0, 10_000),
        destination=st.sampled_from([LOCAL, "domain:a.example", "domain:b.example", "domain:c.example"]),
        sender=st.sampled_from(["", "account:1", "account:2", "example.org"]),
        due_at=st.integers(NOW - 10, NOW + 10),
        site=st.sampled_from([None, "mx.a.example"]),
        priority=st.sampled_from([0, 0, 5, -5]),
        failures=st.sampled_from([0, 0, 0, 2]),
        running=st.integers(0, 3),
        since=st.integers(NOW - 20_000, NOW),
        more=st.booleans(),
    ),
    unique_by=lambda lane: lane.id,
    max_size=40,
)


SITES = st.fixed_dictionaries(
    {},
    optional={
        name: st.builds(
            Site,
            cap=st.floats(1, 8),
            pace=st.sampled_from([0, 1000]),
            due_at=st.sampled_from([0, NOW, NOW + 5000]),
            failures=st.sampled_from([0, 1]),
            alive_at=st.sampled_from([0, NOW]),
        )
        for name in ("domain:a.example", "mx.a.example")
    },
)


@given(lane_lists, st.integers(0, 20), st.integers(1, 5), st.integers(0, 5), SITES)
def test_no_decision_goes_past_a_limit(
    lanes: list[LaneState], remote: int, site: int, local: int, sites: dict[str, Site]
) -> None:
    decisions = schedule(lanes, Limits(remote=remote, site=site, local=local), NOW, sites)
    by_id = {one.id: one for one in lanes}
    starts = [by_id[id] for id in decisions.start]
    assert len({one.id for one in starts}) == len(starts)
    assert all(one.more if one.running else one.due_at <= NOW for one in starts)
    for home, most in ((True, local), (False, remote)):
        mine = [one for one in lanes if (one.destination == LOCAL) is home]
        gained = sum((one.destination == LOCAL) is home for one in starts)
        assert gained == 0 or gained + sum(one.running for one in mine) <= most
    for name in {one.site or one.destination for one in starts if one.destination != LOCAL}:
        assert gained_at(lanes, starts, name) <= site
        known = sites.get(name)
        assert known is None or (known.due_at <= NOW and gained_at(lanes, starts, name) <= known.connections)
    running = {one.id: one.running for one in lanes}
    assert all(count <= running[id] for id, count in Counter(decisions.yields).items())
    assert not {one.lane for one in decisions.postpone} & set(decisions.start)


def gained_at(lanes: list[LaneState], starts: list[LaneState], name: str) -> int:
    at = [one for one in lanes if (one.site or one.destination) == name and one.destination != LOCAL]
    return sum(one.running for one in at) + sum(one in starts for one in at)


def test_delays_are_taken_in_order_and_the_last_repeats() -> None:
    assert [delay((60, 300, 900), failures, 0.5) for failures in (1, 2, 3, 4, 50)] == [60, 300, 900, 900, 900]


@given(st.floats(0, 1, exclude_max=True))
def test_jitter_spreads_by_a_tenth(jitter: float) -> None:
    assert 89.9 <= delay((100,), 1, jitter) <= 110.1


def test_the_last_attempt_comes_when_time_is_up() -> None:
    assert retry_at((60,), 1, 0.5, NOW) == NOW + 60_000
    assert retry_at((60,), 1, 0.5, NOW, expires_at=NOW + 10_000) == NOW + 10_000
    assert retry_at((60,), 1, 0.5, NOW, expires_at=NOW) == NOW + 60_000


@pytest.mark.parametrize(
    ("waiting", "running", "slow", "worth"),
    [
        (0, 1, 1, False),
        (1, 1, 0, True),
        (1, 2, 0, False),
        # Whoever waits behind a connection that hangs does not wait for it.
        (1, 2, 1, True),
        (3, 4, 0, False),
        (4, 4, 0, True),
        (1, 5, 5, True),
    ],
)
def test_another_connection_pays_where_each_has_a_job_waiting(
    waiting: int, running: int, slow: int, worth: bool
) -> None:
    assert pays(waiting, running, slow) is worth
