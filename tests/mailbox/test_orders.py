"""Orders that are kept, against sorting afresh, while mail comes and goes."""

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailbox import orders, parted, placing, sorting
from posthouse.mailbox.columns import Columns
from posthouse.mailbox.scan import Sight
from posthouse.mailbox.snapshot import Snapshot
from posthouse.mailbox.sorting import By, Key
from tests.mailbox.support import INBOX, NOW, Looked, file

BYS = [by for by in By if by is not By.SCORE]


class Case(Looked):
    """A mailbox, and all that look at it: what they keep is one."""

    def file(self) -> None:
        random = self.random
        date = f"Date: Thu, {random.randint(1, 9):02} Jan 2026 09:00:00 +0000\r\n" if random.random() < 0.8 else ""
        octets = (
            f"From: {random.choice('abcä')} <{random.choice('xyz')}@example.org>\r\nTo: {random.choice('ab')}@x\r\n"
            f"Subject: {random.choice(['', 'Re: '])}{random.choice(['alpha', 'Beta', 'ä', ''])}\r\n{date}"
            f"\r\n{'x' * random.randint(0, 3)}"
        ).encode()
        self.db.write(file, self.account, octets, at=NOW + random.randint(0, 5) * 1000)

    def expunge(self, snapshot: Snapshot, count: int) -> None:
        if len(snapshot):
            gone = self.random.sample(list(snapshot.uids), min(count, len(snapshot)))
            self.db.write(placing.expunge, self.account, INBOX, sorted(gone), NOW)

    def check(self, snapshot: Snapshot, keys: list[Key], share: float) -> None:
        sight = Sight(snapshot, self.columns)
        known = self.random.randint(0, len(snapshot)) if self.random.random() < 0.2 else len(snapshot)
        marks = bytes([self.random.random() < share for _ in range(known)])
        uids = [uid for uid, mark in zip(snapshot.uids, marks, strict=False) if mark]
        expected = self.db.runner.run(sorting.sort(sight, uids, keys))
        order, places = self.db.runner.run(orders.sort(sight, uids, keys, marks))
        assert list(order) == expected
        if places is not None:
            assert [snapshot.uids[place - 1] for place in places] == expected


@pytest.mark.parametrize("seed", range(4))
def test_what_is_kept_is_what_would_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(orders, "_SHARE", 2)
    monkeypatch.setattr(orders, "_RUN", 3)
    monkeypatch.setattr(orders, "_SHARE_NEW", 2)
    if seed % 2:
        monkeypatch.setattr(sorting, "RUN", 5)
        monkeypatch.setattr(parted, "PART", 3)
    case = Case(tmp_path, seed)
    random = case.random
    programs = [[Key(random.choice(BYS), random.random() < 0.5) for _ in range(random.randint(1, 3))] for _ in range(3)]
    # Two sessions, of which the second is often behind.
    views = [case.snapshot(), case.snapshot()]
    for _ in range(60):
        match random.randint(0, 4):
            case 0 | 1:
                for _ in range(random.randint(1, 3)):
                    case.file()
            case 2:
                case.expunge(views[0], random.randint(1, 2))
            case 3:
                views[1] = case.snapshot()
        views[0] = case.snapshot()
        for view in random.sample(views, 2):
            case.check(view, random.choice(programs), random.choice([0.1, 0.9, 1]))
    assert 0 < len(case.columns.kept) <= 3
    case.db.close()


def test_an_order_is_kept_and_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "_SHARE_NEW", 1)
    case = Case(tmp_path, 1)
    for _ in range(6):
        case.file()
    sorted_: list[int] = []
    afresh = sorting.places

    async def listening(
        sight: Sight, uids: Sequence[int], keys: Sequence[Key], scores: Mapping[int, int] | None = None
    ) -> list[int]:
        sorted_.append(len(uids))
        return await afresh(sight, uids, keys, scores)

    monkeypatch.setattr(sorting, "places", listening)

    def look(*chosen: int) -> None:
        sorted_.clear()
        snapshot = case.snapshot()
        marks = bytes([uid in chosen for uid in snapshot.uids])
        case.db.runner.run(
            orders.sort(Sight(snapshot, case.columns), chosen, [Key(By.SUBJECT), Key(By.SENT, True)], marks)
        )

    look(1, 2, 3, 4, 5, 6)
    assert sorted_ == [6]
    look(1, 2, 3, 4, 5, 6)
    look(1, 2, 4, 5)
    assert sorted_ == []
    # One among many is not worth it.
    look(3)
    assert sorted_ == [1]
    case.file()
    sorted_.clear()
    look(1, 2, 3, 4, 5, 6, 7)
    assert sorted_ == [1]
    sorted_.clear()
    case.db.write(placing.expunge, case.account, INBOX, [2, 3], NOW)
    look(1, 4, 5, 6, 7)
    assert sorted_ == []
    case.db.close()


@pytest.mark.parametrize("by", BYS)
def test_an_order_outlives_its_columns(tmp_path: Path, by: By) -> None:
    """A column that is read anew has not what has gone meanwhile, of which a session has not heard."""
    case = Case(tmp_path, 1)
    for _ in range(20):
        case.file()

    def sorted_(view: Snapshot) -> list[int]:
        sight = Sight(view, case.columns)
        order, _ = case.db.runner.run(orders.sort(sight, view.uids, [Key(by)], b"\1" * len(view)))
        return list(order)

    assert len(sorted_(case.snapshot())) == 20
    kept, case.columns = case.columns.kept, Columns(case.db.store)
    case.columns.kept = kept
    case.file()
    view = case.snapshot()
    case.db.write(placing.expunge, case.account, INBOX, list(range(1, 21)), NOW)
    assert sorted_(view) == [21]
    case.db.close()


def test_orders_by_scores_and_of_too_much_are_not_kept(tmp_path: Path) -> None:
    case = Case(tmp_path, 1)
    for _ in range(6):
        case.file()
    sight = Sight(case.snapshot(), case.columns)
    uids = [1, 2, 3, 4, 5, 6]
    order, places = case.db.runner.run(orders.sort(sight, uids, [Key(By.SENT)], None))
    assert (sorted(order), places) == (uids, None)
    order, places = case.db.runner.run(orders.sort(sight, uids, [Key(By.SCORE)], b"\1" * 6))
    assert (order, places) == (uids, None)
    assert len(case.columns.kept) == 0
    case.db.close()


@given(st.sets(st.integers(1, 40)), st.sets(st.integers(1, 40)))
def test_what_is_gone(before: set[int], now: set[int]) -> None:
    old, new = array("I", sorted(before)), array("I", sorted(now))
    found = orders._gone(old, new)
    if now <= before:
        assert found is not None
        assert [old[place] for place in found] == sorted(before - now)
    else:
        assert found is None
