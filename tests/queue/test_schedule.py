"""Schedules from lists and integers."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from posthouse.queue.schedule import LOCAL, LaneState, Limits, delay, retry_at, schedule

NOW = 1_000_000


def lane(id: int, destination: str = "", sender: str = "account:1", due_at: int = NOW, **more: object) -> LaneState:
    return LaneState(id, destination or f"domain:{id}.example", sender, due_at, **more)  # type: ignore[arg-type]


def started(lanes: list[LaneState], limits: Limits, now: int = NOW) -> list[int]:
    return [start.lane for start in schedule(lanes, limits, now).start]


def test_a_lane_that_is_due_starts_with_one_connection_and_a_later_one_is_waited_for() -> None:
    decisions = schedule([lane(1), lane(2, due_at=NOW + 500), lane(3, due_at=NOW + 300)], Limits(), NOW)
    assert [(start.lane, start.connections) for start in decisions.start] == [(1, 1)]
    assert decisions.wake_at == NOW + 300


def test_nothing_to_do_sleeps_until_the_bell() -> None:
    decisions = schedule([], Limits(), NOW)
    assert (decisions.start, decisions.wake_at) == ((), None)


def test_the_oldest_lane_of_a_sender_goes_first() -> None:
    assert started([lane(1, due_at=NOW), lane(2, due_at=NOW - 5)], Limits(remote=1)) == [2]


def test_senders_share_the_connections_evenly() -> None:
    crowd = [lane(id, sender="account:1", due_at=NOW - 1000) for id in range(100)]
    few = [lane(100 + id, sender="account:2") for id in range(5)]
    assert Counter(id >= 100 for id in started(crowd + few, Limits(remote=10))) == {True: 5, False: 5}


def test_connections_that_run_already_count_for_their_sender() -> None:
    busy = [lane(id, sender="account:1", running=1) for id in range(5)]
    waiting = [lane(10, sender="account:1", due_at=NOW - 100), lane(11, sender="account:2")]
    assert started(busy + waiting, Limits(remote=6)) == [11]


def test_a_destination_has_its_cap_whoever_sends() -> None:
    lanes = [lane(id, "domain:big.example", sender=f"account:{id}") for id in range(10)]
    assert len(started(lanes, Limits(site=4))) == 4


def test_lanes_of_one_site_share_its_cap() -> None:
    lanes = [lane(id, site="mx.provider.example") for id in range(10)]
    assert len(started(lanes, Limits(site=3))) == 3
    assert len(started(lanes, Limits(site=3, sites={"mx.provider.example": 7}))) == 7


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


lane_lists = st.lists(
    st.builds(
        LaneState,
        id=st.integers(0, 10_000),
        destination=st.sampled_from([LOCAL, "domain:a.example", "domain:b.example", "domain:c.example"]),
        sender=st.sampled_from(["", "account:1", "account:2", "example.org"]),
        due_at=st.integers(NOW - 10, NOW + 10),
        site=st.sampled_from([None, "mx.a.example"]),
        running=st.integers(0, 3),
        more=st.booleans(),
    ),
    unique_by=lambda lane: lane.id,
    max_size=40,
)


@given(lane_lists, st.integers(0, 20), st.integers(1, 5), st.integers(0, 5))
def test_no_decision_goes_past_a_limit(lanes: list[LaneState], remote: int, site: int, local: int) -> None:
    decisions = schedule(lanes, Limits(remote=remote, site=site, local=local), NOW)
    by_id = {one.id: one for one in lanes}
    starts = [by_id[start.lane] for start in decisions.start]
    assert len({one.id for one in starts}) == len(starts)
    assert all(one.more if one.running else one.due_at <= NOW for one in starts)
    for home, most in ((True, local), (False, remote)):
        mine = [one for one in lanes if (one.destination == LOCAL) is home]
        gained = sum((one.destination == LOCAL) is home for one in starts)
        assert gained == 0 or gained + sum(one.running for one in mine) <= most
    for name in {one.site or one.destination for one in starts if one.destination != LOCAL}:
        at = [one for one in lanes if (one.site or one.destination) == name]
        assert sum(one.running for one in at) + sum(one in starts for one in at) <= site


def test_delays_are_taken_in_order_and_the_last_repeats() -> None:
    assert [delay((60, 300, 900), failures, 0.5) for failures in (1, 2, 3, 4, 50)] == [60, 300, 900, 900, 900]


@given(st.floats(0, 1, exclude_max=True))
def test_jitter_spreads_by_a_tenth(jitter: float) -> None:
    assert 89.9 <= delay((100,), 1, jitter) <= 110.1


def test_the_last_attempt_comes_when_time_is_up() -> None:
    assert retry_at((60,), 1, 0.5, NOW) == NOW + 60_000
    assert retry_at((60,), 1, 0.5, NOW, expires_at=NOW + 10_000) == NOW + 10_000
    assert retry_at((60,), 1, 0.5, NOW, expires_at=NOW) == NOW + 60_000
