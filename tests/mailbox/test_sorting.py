"""Sorting by columns, by example and against Python's own order."""

from pathlib import Path
from random import Random

import pytest

from posthouse.mailbox import columns, parted, placing, sorting
from posthouse.mailbox.columns import Columns
from posthouse.mailbox.scan import Sight
from posthouse.mailbox.snapshot import load
from posthouse.mailbox.sorting import By, Key, sort
from tests.mailbox.support import INBOX, NOW, Db, file, make_account

MAIL = [
    b"From: Carol <x@example.org>\r\nSubject: Re: beta\r\nDate: Thu, 01 Jan 2026 09:00:00 +0000\r\n"
    b"To: b@x\r\nCc: z@x\r\n\r\n1",
    b"From: bob <y@example.org>\r\nSubject: alpha\r\nDate: Thu, 01 Jan 2026 09:00:00 -0500\r\nTo: Ann <c@x>\r\n\r\n22",
    b"From: a@example.org\r\nSubject: [list] Beta\r\nTo: a@x\r\nCc: y@x\r\n\r\n333",
    b"Subject: gamma\r\nDate: Wed, 31 Dec 2025 09:00:00 +0000\r\n\r\n4",
    b"From: =?utf-8?q?=C3=84nne?= <x@example.org>\r\nSubject: =?utf-8?q?=C3=84?=\r\n\r\n55555",
]


class Case:
    def __init__(self, directory: Path) -> None:
        self.db = Db(directory)
        self.account = self.db.write(make_account)
        for number, octets in enumerate(MAIL):
            self.db.write(file, self.account, octets, at=NOW + (number * 7 % 5) * 1000)
        self.columns = Columns(self.db.store)

    def __call__(self, *keys: Key, uids: list[int] | None = None, scores: dict[int, int] | None = None) -> list[int]:
        sight = Sight(self.db.read(load, self.account, INBOX), self.columns)
        return self.db.runner.run(sort(sight, uids or [1, 2, 3, 4, 5], keys, scores))


def test_by_each_key(tmp_path: Path) -> None:
    case = Case(tmp_path)
    assert case(Key(By.ARRIVAL)) == [1, 4, 2, 5, 3]
    assert case(Key(By.ARRIVAL, reverse=True)) == [3, 5, 2, 4, 1]
    # RFC 5256 §2.2: in UTC, and by arrival where there is no date. §2.1: by base subject.
    assert case(Key(By.SENT)) == [4, 5, 3, 1, 2]
    # i;unicode-casemap takes letters apart: Ä stands behind A, before B.
    assert case(Key(By.SUBJECT)) == [2, 5, 1, 3, 4]
    assert case(Key(By.FROM)) == [4, 3, 1, 5, 2]
    assert case(Key(By.TO)) == [4, 5, 3, 1, 2]
    assert case(Key(By.CC)) == [2, 4, 5, 3, 1]
    assert case(Key(By.SHOWN_FROM)) == [4, 3, 5, 2, 1]
    assert case(Key(By.SHOWN_TO)) == [4, 5, 3, 2, 1]
    assert case(Key(By.SIZE)) == sorted([1, 2, 3, 4, 5], key=lambda uid: len(MAIL[uid - 1]))
    assert case(Key(By.SCORE), scores={2: 100, 3: 50}) == [2, 3, 1, 4, 5]
    case.db.close()


def test_equals_keep_their_order_reversed_or_not(tmp_path: Path) -> None:
    case = Case(tmp_path)
    # RFC 5256 §3: REVERSE is of one key; what is alike goes by number.
    assert case(Key(By.SUBJECT), Key(By.ARRIVAL, reverse=True)) == [2, 5, 3, 1, 4]
    assert case(Key(By.SUBJECT, reverse=True)) == [4, 1, 3, 5, 2]
    assert case(Key(By.CC, reverse=True), uids=[1, 2, 4]) == [1, 2, 4]
    assert case() == [1, 2, 3, 4, 5]
    case.db.close()


def test_what_is_gone_is_left_out(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.db.write(placing.expunge, case.account, INBOX, [2], NOW)
    assert case(Key(By.SUBJECT)) == [5, 1, 3, 4]
    assert case(Key(By.SENT)) == [4, 5, 3, 1]
    case.db.close()


@pytest.mark.parametrize("run", [1, 2, 100])
def test_any_keys_are_what_python_makes_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: int) -> None:
    monkeypatch.setattr(sorting, "RUN", run)
    monkeypatch.setattr(parted, "PART", run)
    monkeypatch.setattr(parted, "SAMPLES", run)
    monkeypatch.setattr(columns, "_MANY", run)
    case = Case(tmp_path)
    random = Random(3)
    ranks: dict[By, dict[int, int]] = {}
    for by in By:
        if by is not By.SCORE:
            ranks[by] = {uid: place for place, uid in enumerate(case(Key(by)))}
    alike: dict[tuple[By, int], int] = {
        (By.SUBJECT, 3): 1,
        (By.SENT, 5): 5,
        (By.FROM, 5): 1,
        (By.CC, 4): 2,
        (By.CC, 5): 2,
        (By.TO, 5): 4,
        (By.SHOWN_TO, 5): 4,
    }

    def rank(key: Key, uid: int) -> int:
        return (-1 if key.reverse else 1) * ranks[key.by][alike.get((key.by, uid), uid)]

    for _ in range(50):
        keys = [Key(random.choice(list(ranks)), random.random() < 0.5) for _ in range(random.randint(1, 3))]
        expected = sorted([1, 2, 3, 4, 5], key=lambda uid: [*[rank(key, uid) for key in keys], uid])
        assert case(*keys) == expected, keys
    case.db.close()
