"""What is gathered for digests, and who takes which post in one."""

from pathlib import Path

from posthouse.directory import digests, lists, members
from posthouse.directory.digests import DIGEST, EACH, Bounds, Gathered
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from tests.directory.test_lists import on_store

TEAM = parse("team@home.example")
ROOMY = Bounds(10, 1000)


def made(tx: Tx) -> int:
    """A list with a member who takes digests and one who does not; its id."""
    id = lists.add(tx, TEAM, "", 1).id
    members.add(tx, id, parse("ann@far.example"), 1, delivery="digest")
    members.add(tx, id, parse("bob@far.example"), 1)
    return id


def gather(tx: Tx, list: int, size: int = 100, bounds: Bounds = ROOMY, now: int = 5) -> int:
    """Gather a post; the period that it belongs to."""
    digests.make_room(tx, list, size, bounds)
    period = digests.period(tx, list)
    digests.gather(tx, list, Gathered(1, 1, "Ann", "Hi"), size, bounds, now)
    return period


def test_posts_belong_to_one_period_until_it_is_full(tmp_path: Path) -> None:
    def work(tx: Tx) -> None:
        id = made(tx)
        assert not digests.gathering(tx, id)
        assert [gather(tx, id, bounds=Bounds(2, 1000)) for _ in range(5)] == [1, 1, 2, 2, 3]
        assert [gather(tx, id, size, Bounds(9, 350)) for size in (100, 200, 900, 350, 10)] == [3, 4, 5, 6, 7]
        assert [len(digests.posts(tx, id, period)) for period in range(1, 8)] == [2, 2, 2, 1, 1, 1, 1]
        assert sorted(digests.due(tx, 5)) == [(id, period) for period in range(1, 7)]

    on_store(tmp_path, work)


def test_a_digest_is_due_when_its_time_has_come_and_is_finished_once(tmp_path: Path) -> None:
    def work(tx: Tx) -> None:
        id = made(tx)
        assert digests.next_due(tx) is None
        gather(tx, id, now=5)
        lists.change(tx, TEAM, digest_every=7200)
        assert digests.next_due(tx) == 7_200_005
        assert digests.due(tx, 7_200_004) == []
        assert digests.due(tx, 7_200_005) == [(id, 1)]
        digests.seal(tx, id, 1)
        digests.seal(tx, id, 1)
        assert gather(tx, id) == 2
        assert digests.finish(tx, id, 1, 9)
        assert not digests.finish(tx, id, 1, 9)
        assert digests.posts(tx, id, 1) == []

    on_store(tmp_path, work)


def test_a_change_waits_for_what_is_gathered_and_only_for_that(tmp_path: Path) -> None:
    def work(tx: Tx) -> None:
        id = made(tx)
        ann, bob = (parse(f"{name}@far.example") for name in ("ann", "bob"))

        def takers(period: int, form: digests.Form) -> list[str]:
            return [one.address.local for one in members.between(tx, id, "", "~", form, period)]

        members.change(tx, id, bob, delivery="digest")
        assert digests.period(tx, id) == 2
        assert (takers(2, EACH), takers(2, DIGEST)) == ([], ["ann", "bob"])
        assert gather(tx, id) == 2
        members.change(tx, id, ann, delivery="each")
        members.change(tx, id, bob, delivery="none")
        assert (takers(2, DIGEST), takers(3, EACH), takers(3, DIGEST)) == (["ann"], ["ann"], [])
        assert digests.wanted(tx, id)
        digests.seal(tx, id, 2)
        digests.finish(tx, id, 2, 9)
        assert not digests.wanted(tx, id)

    on_store(tmp_path, work)
