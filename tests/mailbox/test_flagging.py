"""Keywords of emails that came together, and of those among them that did not: each is changed once, and told where it
stands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.mailbox import changes, flagging, placing, snapshot
from posthouse.mailbox.flagging import Stored
from posthouse.mailbox.model import DELETED
from posthouse.terms.keywords import FLAGGED
from tests.mailbox.support import ARCHIVE, INBOX, NOW, TRASH, Db, file, make_account, message


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with Db(tmp_path) as db:
        db.write(make_account)
        yield db


def fill(db: Db, count: int = 5, box: int = INBOX) -> None:
    for _ in range(count):
        db.write(file, 1, message(), boxes=[box])


def flag(db: Db, uids: range, add: int = FLAGGED) -> Stored:
    return db.write(flagging.store_flags, 1, INBOX, uids, now=NOW, add=add)


def flagged(db: Db, box: int = INBOX) -> list[int]:
    found = db.read(snapshot.load, 1, box)
    return [uid for uid, flags in zip(found.uids, found.flags, strict=True) if flags & FLAGGED]


def test_all_of_a_mailbox(db: Db) -> None:
    fill(db)
    before = db.read(changes.states, 1).modseq
    stored = flag(db, range(1, 6))
    assert (stored.uids, stored.only, stored.modseq) == ([(1, 5)], True, before + 1)
    assert flagged(db) == [1, 2, 3, 4, 5]
    assert list(db.read(snapshot.load, 1, INBOX).modseqs) == [before + 1] * 5
    assert db.read(changes.since, 1, before).emails.updated == {1, 2, 3, 4, 5}
    assert flag(db, range(1, 6)) == Stored(None, (), True, [])
    assert db.read(changes.states, 1).modseq == before + 1


def test_what_is_flagged_already_is_not_changed(db: Db) -> None:
    fill(db)
    flag(db, range(3, 4))
    before = db.read(changes.states, 1).modseq
    assert flag(db, range(1, 6)).uids == [(1, 2), (4, 5)]
    assert flagged(db) == [1, 2, 3, 4, 5]
    assert list(db.read(snapshot.load, 1, INBOX).modseqs) == [before + 1, before + 1, before, before + 1, before + 1]
    assert db.read(changes.since, 1, before).emails.updated == {1, 2, 4, 5}


def test_what_has_left_from_among_them_is_not_changed(db: Db) -> None:
    """Its id lies between theirs."""
    fill(db)
    db.write(placing.move, 1, INBOX, [3], ARCHIVE, NOW)
    before = db.read(changes.states, 1).modseq
    assert flag(db, range(1, 6)).uids == [(1, 2), (4, 5)]
    assert flagged(db) == [1, 2, 4, 5]
    assert flagged(db, ARCHIVE) == []
    assert db.read(changes.since, 1, before).emails.updated == {1, 2, 4, 5}


def test_another_that_has_come_among_them_is_changed_with_them(db: Db) -> None:
    """Its id does not lie between theirs."""
    fill(db, 3, TRASH)
    fill(db, 1)
    fill(db, 1, ARCHIVE)
    db.write(placing.move, 1, TRASH, [1], INBOX, NOW)
    fill(db, 1)
    assert list(db.read(snapshot.load, 1, INBOX).emails) == [4, 1, 6]
    stored = flag(db, range(1, 4))
    assert (sorted(stored.uids), stored.only) == ([(1, 3)], True)
    assert flagged(db) == [1, 2, 3]
    assert flagged(db, ARCHIVE) == []


@pytest.mark.parametrize("box", [ARCHIVE, INBOX])
def test_copies_change_with_them(db: Db, box: int) -> None:
    fill(db)
    ((_, copied),) = db.write(placing.copy, 1, INBOX, [3], box, NOW)
    stored = flag(db, range(1, 6))
    assert (stored.uids, stored.only) == ([(1, 5)], box == ARCHIVE)
    assert copied in flagged(db, box)
    found = db.read(snapshot.load, 1, box)
    assert (found.modseq, found.modseqs[-1]) == (stored.modseq, stored.modseq)


def test_a_copy_whose_home_it_has_left(db: Db) -> None:
    """What stands where it was placed first is not there any more: nothing is said of that place."""
    fill(db)
    db.write(placing.copy, 1, INBOX, [3], ARCHIVE, NOW)
    db.write(placing.expunge, 1, INBOX, [3], NOW)
    assert flag(db, range(1, 6)).uids == [(1, 2), (4, 5)]
    assert flagged(db, ARCHIVE) == []


def test_what_is_hidden_is_changed_and_not_told(db: Db) -> None:
    """RFC 8621 §4.1.1 knows nothing of emails that are marked as deleted."""
    fill(db)
    hidden = db.write(flagging.store_flags, 1, INBOX, [2], now=NOW, deleted=True)
    before = db.read(changes.states, 1).modseq
    assert hidden.modseq == before
    assert flag(db, range(1, 6)).uids == [(1, 5)]
    assert db.read(snapshot.load, 1, INBOX).flags[1] == FLAGGED | DELETED
    assert db.read(changes.since, 1, before).emails.updated == {1, 3, 4, 5}


def test_many_gaps(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flagging, "_FEW_RANGES", 2)
    fill(db, 9)
    for uids in ([1, 2, 4, 5], [1, 3, 6, 9], [1, 3, 5, 7, 8, 9]):
        stored = db.write(flagging.store_flags, 1, INBOX, uids, now=NOW, add=FLAGGED)
        assert stored.modseq is not None
    assert flagged(db) == list(range(1, 10))
