import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.clock import SetClock
from posthouse.directory.throttle import MOST_WAIT, SITE_FACTOR, GuessThrottle, network_of, site_of
from posthouse.written import Rate


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("/run/lmtp", "/run/lmtp"),
    ],
)
def test_network(peer: str, network: str) -> None:
    assert network_of(peer) == network


@given(st.text())
def test_any_text_is_some_network(peer: str) -> None:
    network_of(peer)
    site_of(peer)


@pytest.mark.parametrize(
    ("peer", "site"),
    [
        ("2001:db8:1:2::1", "2001:db8:1::/48"),
        ("2001:db8:1:ffff::1%eth0", "2001:db8:1::/48"),
        ("192.0.2.1", None),
        ("::ffff:192.0.2.1", None),
        ("/run/lmtp", None),
    ],
)
def test_site(peer: str, site: str | None) -> None:
    assert site_of(peer) == site


def test_whoever_has_a_network_for_each_guess_is_held_up_as_one_site() -> None:
    throttle = GuessThrottle(SetClock(), Rate(2, 600))
    waits = [throttle.admit(f"account{n}", f"2001:db8:0:{n:x}::1") for n in range(2 * SITE_FACTOR + 1)]
    assert waits[:-1] == [0.0] * 2 * SITE_FACTOR
    assert waits[-1] > 0
    assert throttle.admit("other", "2001:db8:1::1") == 0.0
    # Who has logged in from a network is not measured by his neighbours.
    throttle.succeeded("own", "2001:db8:0:ffff::1")
    assert throttle.admit("own", "2001:db8:0:ffff::1") == 0.0
    # Who guesses right is not held up, however many of them there are.
    for n in range(200):
        assert throttle.admit("right", f"2001:db8:2:{n:x}::1") == 0.0
        throttle.succeeded("right", f"2001:db8:2:{n:x}::1")


def test_each_guess_past_the_free_ones_waits_twice_as_long() -> None:
    clock = SetClock()
    throttle = GuessThrottle(clock, Rate(3, 1_000_000))
    assert [throttle.admit("a", "192.0.2.1") for _ in range(3)] == [0.0] * 3
    waits = []
    for _ in range(14):
        wait = throttle.admit("a", "192.0.2.1")
        waits.append(round(wait))
        clock.advance(wait + 0.001)
        assert throttle.admit("a", "192.0.2.1") == 0.0
    assert waits[:6] == [1, 2, 4, 8, 16, 32]
    assert max(waits) <= MOST_WAIT
    # All of the /64, not of the next one.
    throttle = GuessThrottle(clock, Rate(1, 600))
    assert throttle.admit("a", "2001:db8::1") == 0.0
    assert throttle.admit("b", "2001:db8::2") > 0
    assert throttle.admit("b", "2001:db8:0:1::1") == 0.0


def test_failures_fade() -> None:
    clock = SetClock()
    throttle = GuessThrottle(clock, Rate(2, 60))
    for _ in range(100):
        assert throttle.admit("a", "192.0.2.1") == 0.0
        clock.advance(31)


def test_right_guesses_do_not_count() -> None:
    throttle = GuessThrottle(SetClock(), Rate(2, 600))
    for _ in range(50):
        assert throttle.admit("a", "192.0.2.1") == 0.0
        throttle.succeeded("a", "192.0.2.1")
    for _ in range(50):
        assert throttle.admit("a", "192.0.2.1") == 0.0
        throttle.withdraw("a", "192.0.2.1")


def test_guesses_from_many_networks_hold_up_strangers_only() -> None:
    throttle = GuessThrottle(SetClock(), Rate(2, 600))
    throttle.admit("a", "192.0.2.1")
    throttle.succeeded("a", "192.0.2.1")
    for n in range(50):
        throttle.admit("a", f"198.51.100.{n}")
    assert throttle.admit("a", "203.0.113.1") > 0
    assert throttle.admit("b", "203.0.113.1") == 0.0
    assert throttle.admit("a", "192.0.2.1") == 0.0


class Witness:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def guessed_wrong(self, peer: str) -> None:
        self.told.append(f"wrong {peer}")

    def logged_in(self, peer: str) -> None:
        self.told.append(f"right {peer}")


def test_wrong_guesses_past_the_free_ones_are_told_of_once_each() -> None:
    clock, witness = SetClock(), Witness()
    throttle = GuessThrottle(clock, Rate(2, 1_000_000), witness)
    assert throttle.admit("a", "192.0.2.1") == 0.0
    throttle.failed("a", "192.0.2.1")
    assert witness.told == []
    assert throttle.admit("a", "192.0.2.1") == 0.0
    throttle.failed("a", "192.0.2.1")
    for _ in range(3):
        assert throttle.admit("a", "192.0.2.1") > 0
    assert witness.told == ["wrong 192.0.2.1"]
    clock.advance(2)
    assert throttle.admit("b", "192.0.2.1") == 0.0
    throttle.failed("b", "192.0.2.1")
    assert witness.told == ["wrong 192.0.2.1"] * 2


def test_right_guesses_are_told_of_and_never_as_wrong() -> None:
    witness = Witness()
    throttle = GuessThrottle(SetClock(), Rate(2, 1_000_000), witness)
    throttle.admit("a", "192.0.2.1")
    for _ in range(5):
        assert throttle.admit("b", "192.0.2.1") == 0.0
        throttle.succeeded("b", "192.0.2.1")
    assert witness.told == ["right 192.0.2.1"] * 5


def test_a_right_guess_among_wrong_ones_holds_up_nobody_and_is_not_told_of_as_wrong() -> None:
    clock, witness = SetClock(), Witness()
    throttle = GuessThrottle(clock, Rate(2, 1_000_000), witness)
    waits = []
    for _ in range(8):
        while wait := throttle.admit("old", "192.0.2.1"):
            waits.append(round(wait))
            clock.advance(wait + 0.001)
        throttle.failed("old", "192.0.2.1")
    clock.advance(MOST_WAIT)
    told = witness.told.count("wrong 192.0.2.1")
    for _ in range(5):
        assert throttle.admit("right", "192.0.2.1") == 0.0
        throttle.succeeded("right", "192.0.2.1")
    assert witness.told.count("wrong 192.0.2.1") == told
    # What the wrong ones made of it still stands.
    assert throttle.admit("old", "192.0.2.1") == 0.0
    assert throttle.admit("old", "192.0.2.1") > waits[-1]


def test_right_guesses_under_way_together_are_not_told_of_as_wrong() -> None:
    # An office, or a webmail, that comes back all at once after a restart.
    witness = Witness()
    throttle = GuessThrottle(SetClock(), Rate(2, 600), witness)
    waiting, under_way = [f"account{n}" for n in range(20)], list[str]()
    while waiting or under_way:
        while waiting and throttle.admit(waiting[0], "192.0.2.1") == 0.0:
            under_way.append(waiting.pop(0))
        throttle.succeeded(under_way.pop(0), "192.0.2.1")
    assert witness.told == ["right 192.0.2.1"] * 20
