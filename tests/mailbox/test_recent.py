"""What is remembered of a mailbox that was followed is what the feed tells, and no more than is known."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from posthouse.mailbox import changes, flagging, mailboxes, placing, recent
from posthouse.mailbox.newest import Snapshots
from posthouse.mailbox.recent import Recent
from posthouse.mailbox.snapshot import follow
from posthouse.mailbox.view import View
from posthouse.terms.keywords import ANSWERED, FLAGGED, SEEN
from tests.mailbox.support import ARCHIVE, INBOX, NOW, Db, file, filled, message


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with filled(tmp_path, 5) as made:
        yield made


def change(db: Db, random: Random, uids: list[int]) -> None:
    """Something that happens in the Inbox, or beside it; some of these messages may be gone."""
    match random.randrange(6):
        case 0 | 1:
            db.write(file, 1, message())
        case 2 if uids:
            db.write(placing.expunge, 1, INBOX, random.sample(uids, min(len(uids), 2)), NOW)
        case 3:
            db.write(mailboxes.create, 1, f"Another {random.random()}", NOW)
        case _:
            some = random.sample(uids, min(len(uids), random.randint(1, 4)))
            db.write(flagging.store_flags, 1, INBOX, some, now=NOW, add=random.choice([SEEN, FLAGGED]))


def store_flag(db: Db, snapshots: Snapshots, view: View, uid: int) -> None:
    """As a session of this process does: the next snapshot is made without a look."""
    before = view.snapshot.modseq
    stored = db.write(flagging.store_flags, 1, INBOX, [uid], now=NOW, add=ANSWERED)
    if stored.modseq is not None:
        snapshots.flagged(1, INBOX, before, stored.modseq, stored.uids, ~ANSWERED, ANSWERED)
        assert view.snapshot.modseq == stored.modseq


@pytest.mark.parametrize("most", [1000, 12])
@pytest.mark.parametrize("seed", range(3))
def test_it_tells_what_the_feed_tells(db: Db, monkeypatch: pytest.MonkeyPatch, seed: int, most: int) -> None:
    monkeypatch.setattr(recent, "_MOST", most)
    random, snapshots = Random(seed), Snapshots(db.store)
    view = db.runner.run(snapshots.open(1, INBOX))
    seen, told = [view.snapshot.modseq], 0
    for _ in range(30):
        uids = view.snapshot.uids.tolist()
        if uids and random.random() < 0.5:
            store_flag(db, snapshots, view, random.choice(uids))
        else:
            for _ in range(random.randint(1, 3)):
                change(db, random, uids)
            db.runner.run(snapshots.refresh(view))
        until = view.snapshot.modseq
        known = {modseq: snapshots.since(view.snapshot, modseq) for modseq in range(until + 1)}
        for modseq, happened in known.items():
            if happened is not None:
                assert modseq == until or modseq in seen
                assert happened == db.read(changes.uids_since, 1, INBOX, modseq, until)
                told += 1
        if most == 1000:
            assert all(known[modseq] is not None for modseq in seen), "all was followed"
        seen.append(until)
    assert told > 60


def test_what_happened_first_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "_MOST", 8)
    one = Recent(10)
    for modseq in range(11, 60):
        one.add(modseq, ([(modseq, modseq)], ()))
        assert len(one) <= 8
        assert one.since(modseq - 1, modseq) == ([(modseq, modseq)], [])
    assert (one.since(10, 59), one.since(56, 59), one.since(56, 58)) == (None, ([(57, 59)], []), ([(57, 58)], []))
    one.add(60, ([(uid, uid) for uid in range(1, 20, 2)], ()))
    assert (one.since(59, 60), one.since(60, 60)) == (None, ([], []))
    one.add(63, ((), [(4, 6), (1, 2)]))
    assert one.since(60, 63) == ([], [(1, 2), (4, 6)])
    # It was not seen in between, nor is it known what comes.
    assert (one.since(61, 63), one.since(60, 64)) == (None, None)


def test_what_it_takes_counts_and_goes_with_the_snapshot(db: Db) -> None:
    snapshots = Snapshots(db.store)
    view = db.runner.run(snapshots.open(1, INBOX))
    before, octets = view.snapshot.modseq, snapshots._octets
    db.write(file, 1, message())
    db.runner.run(snapshots.refresh(view))
    assert snapshots.since(view.snapshot, before) == ([(6, 6)], [])
    assert snapshots._octets > octets + 24
    snapshots._budget = 0
    db.runner.run(snapshots.current(1, ARCHIVE))
    assert snapshots.since(view.snapshot, before) is None
    archive = snapshots.newest(1, ARCHIVE)
    assert archive is not None
    assert snapshots._octets == archive.octets


def test_a_look_that_came_late_leads_from_nowhere(db: Db) -> None:
    """It began before another session's change was there, and ended after it: what it tells begins at another place."""
    snapshots = Snapshots(db.store)
    view = db.runner.run(snapshots.open(1, INBOX))
    first = view.snapshot
    store_flag(db, snapshots, view, 2)
    db.write(file, 1, message())
    found, news, _, happened = db.read(follow, 1, INBOX, first)
    snapshots._keep(found, first, news, happened)
    assert view.snapshot is found
    assert snapshots.since(found, first.modseq) is None
    db.write(file, 1, message())
    db.runner.run(snapshots.refresh(view))
    assert snapshots.since(view.snapshot, found.modseq) == ([(7, 7)], [])
