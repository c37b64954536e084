"""What is learnt of peers, from times and answers."""

from hypothesis import given
from hypothesis import strategies as st

from posthouse.queue.sites import FIRST, Site, Sites, lived, pushed_back, went_down

NOW = 1_000_000_000


def test_a_site_gains_a_connection_for_each_round_of_messages_up_to_its_most() -> None:
    site, seen = Site(), set()
    for n in range(500):
        site = lived(site, 20, NOW + n)
        seen.add(site.connections)
    assert seen == set(range(5, 21))
    site = Site()
    for _ in range(6):
        site = lived(site, 20, NOW)
    assert site.connections == 6


def test_a_push_halves_the_connections_and_several_at_once_are_one() -> None:
    site = pushed_back(Site(cap=16), NOW)
    assert site.connections == 8
    assert pushed_back(site, NOW + 999) == site
    assert pushed_back(site, NOW + 1000).connections == 4


def test_where_one_connection_is_too_many_messages_take_their_time() -> None:
    site, paces = Site(cap=1), []
    for n in range(10):
        at = NOW + n * 100_000
        site = pushed_back(site, at)
        assert (site.connections, site.due_at) == (1, at + site.pace)
        paces.append(site.pace)
    assert paces == [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000, 60_000]
    rounds = 0
    while site.pace:
        site = lived(site, 20, NOW)
        rounds += 1
    assert rounds == 10
    assert lived(site, 20, NOW + 5000).due_at == 0


def test_a_site_that_is_down_has_one_connection_until_it_lives() -> None:
    sites = Sites(20)
    for n in range(100):
        sites.lived("mx.x.example", NOW + n)
    assert sites["mx.x.example"].connections > 10
    sites.backs_off("mx.x.example", 3, NOW + 60_000)
    down = sites["mx.x.example"]
    assert (down.down, down.connections, down.due_at, down.alive(NOW)) == (True, 1, NOW + 60_000, False)
    sites.lived("mx.x.example", NOW + 60_000)
    assert (sites["mx.x.example"].down, sites["mx.x.example"].connections) == (False, FIRST)
    sites.backs_off("mx.x.example", 2, NOW + 99_000)
    # Somebody had the database forget it: by hand, or another process.
    sites.backs_off("mx.x.example", 0, 0)
    assert (sites["mx.x.example"].down, sites["mx.x.example"].due_at) == (False, 0)


def test_what_took_mail_within_the_hour_is_known_to_live() -> None:
    site = lived(Site(), 20, NOW)
    assert site.alive(NOW + 3_600_000)
    assert not site.alive(NOW + 3_600_001)
    assert not Site().alive(NOW)


def test_a_destination_stands_for_itself_until_it_was_routed() -> None:
    sites = Sites(3)
    assert sites.name("domain:a.example", None) == "domain:a.example"
    sites.routed("domain:a.example", "mx.p.example")
    assert sites.name("domain:a.example", None) == "mx.p.example"
    assert sites.name("domain:a.example", "mx.q.example") == "mx.q.example"
    assert sites.find("mx.p.example").connections == 3


def test_memory_is_bounded_and_the_oldest_goes() -> None:
    sites = Sites(20)
    for n in range(10_050):
        sites.lived(f"mx{n}.example", NOW)
        sites.routed(f"domain:d{n}.example", f"mx{n}.example")
    assert len(sites) == len(list(sites)) == 10_000
    assert "mx49.example" not in sites
    assert "mx50.example" in sites
    assert sites.name("domain:d0.example", None) == "domain:d0.example"


ANSWERS = st.lists(st.tuples(st.sampled_from(["lived", "pushed", "down"]), st.integers(0, 100_000)), max_size=60)


@given(ANSWERS, st.integers(1, 40))
def test_whatever_it_answers_it_keeps_a_connection_and_never_more_than_its_most(
    answers: list[tuple[str, int]], most: int
) -> None:
    site, now = Site(cap=min(FIRST, most)), NOW
    for answer, passed in answers:
        now += passed
        if answer == "lived":
            site = lived(site, most, now)
        elif answer == "pushed":
            site = pushed_back(site, now)
        else:
            site = went_down(site, site.failures + 1, now + 60_000)
        assert 1 <= site.connections <= most
        assert 0 <= site.pace <= 60_000
