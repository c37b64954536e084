"""Snapshots and views. That they follow every change, test_model.py shows."""

import asyncio
import gc
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from posthouse.mailbox import changes, flagging, mailboxes, placing, ranges, snapshot
from posthouse.mailbox.model import NoSuchMailbox
from posthouse.mailbox.newest import Snapshots
from posthouse.mailbox.view import Entries, Entry, View
from posthouse.terms.keywords import FLAGGED, SEEN
from tests.mailbox.support import ARCHIVE, INBOX, NOW, Db, file, filled, make_account, message, told


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with filled(tmp_path, 5) as made:
        yield made


def rows(entries: Entries) -> list[Entry]:
    return list(map(Entry._make, zip(*entries, strict=True)))


def open_view(db: Db, snapshots: Snapshots) -> View:
    return db.runner.run(snapshots.open(1, INBOX))


def test_an_unchanged_mailbox_is_not_read_again(db: Db) -> None:
    first = db.read(snapshot.load, 1, INBOX)
    db.write(file, 1, message(), boxes=[ARCHIVE])
    assert db.read(snapshot.load, 1, INBOX, first) is first


def test_sessions_share_and_follow(db: Db) -> None:
    snapshots = Snapshots(db.store)
    one, two = open_view(db, snapshots), open_view(db, snapshots)
    assert one.snapshot is two.snapshot
    db.write(placing.expunge, 1, INBOX, [2], NOW)
    db.runner.run(snapshots.refresh(one))
    # The sleeping session looks at the new snapshot too, and its client still counts five.
    assert one.snapshot is two.snapshot
    assert (len(two.snapshot), len(two), [entry.uid for entry in two.by_seq(1, 9)]) == (4, 5, [1, 2, 3, 4, 5])
    assert [entry.email for entry in two.by_uid(2, 2)] == [2]
    assert one.announce_expunged() == ([2], [2])
    assert (len(one), len(two)) == (4, 5)


def test_what_came_and_went_unheard_is_never_mentioned(db: Db) -> None:
    snapshots = Snapshots(db.store)
    view = open_view(db, snapshots)
    db.write(file, 1, message())
    db.runner.run(snapshots.refresh(view))
    db.write(placing.expunge, 1, INBOX, [6], NOW)
    db.runner.run(snapshots.refresh(view))
    assert not view.stale
    assert (view.announce_expunged(), view.announce_added(), len(view)) == (([], []), [], 5)


def test_many_changes_are_found_by_modseq(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.mailbox.view._MANY", 2)
    snapshots = Snapshots(db.store)
    view = open_view(db, snapshots)
    db.write(flagging.store_flags, 1, INBOX, [1, 2, 3, 5], now=NOW, add=SEEN)
    db.write(placing.expunge, 1, INBOX, [2], NOW)
    db.runner.run(snapshots.refresh(view))
    assert [(entry.seq, entry.uid, entry.flags) for entry in told(view.announce_changed())] == [
        (1, 1, SEEN),
        (3, 3, SEEN),
        (5, 5, SEEN),
    ]
    assert told(view.changed()) == []
    db.write(flagging.store_flags, 1, INBOX, [1, 3, 4, 5], now=NOW, add=FLAGGED)
    db.runner.run(snapshots.refresh(view))
    view.silence([1, 3, 4])
    assert [entry.uid for entry in told(view.announce_changed())] == [5]
    view.announce_expunged()
    assert not view.stale


def test_sequence_numbers_out_of_range(db: Db) -> None:
    view = open_view(db, Snapshots(db.store))
    assert view.by_seq(6, 9) == view.by_uid(6, 9) == view.by_seq(3, 2) == []
    assert view.seq(6) is None
    with pytest.raises(IndexError):
        view.uid(6)


def test_a_mailbox_that_is_gone(db: Db) -> None:
    snapshots = Snapshots(db.store)
    made = db.write(mailboxes.create, 1, "a", NOW)
    view = db.runner.run(snapshots.open(1, made))
    db.write(mailboxes.delete, 1, made, NOW)
    with pytest.raises(NoSuchMailbox):
        db.runner.run(snapshots.refresh(view))


def test_the_cache_is_bounded_and_views_keep_theirs(db: Db) -> None:
    snapshots = Snapshots(db.store, budget=1000)
    view = open_view(db, snapshots)
    for mailbox in (ARCHIVE, 2, 3, 4):
        db.runner.run(snapshots.current(1, mailbox))
    db.write(file, 1, message())
    db.runner.run(snapshots.refresh(view))
    assert len(view.announce_added()) == 1


def test_a_session_costs_little_whatever_the_mailbox(db: Db) -> None:
    snapshots = Snapshots(db.store)
    views = [open_view(db, snapshots) for _ in range(2)]
    assert len({id(view.snapshot) for view in views}) == 1
    own = sum(
        sys.getsizeof(getattr(views[0], name)) for name in View.__slots__ if name not in ("snapshot", "__weakref__")
    )
    assert sys.getsizeof(views[0]) + own < 2000


def test_many_who_ask_at_once_are_answered_by_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Db(tmp_path) as db:
        account = db.write(make_account)
        looks: list[int] = []

        async def main() -> list[int]:
            snapshots = Snapshots(db.store)
            view = await snapshots.open(account, INBOX)
            read = db.store.read

            async def count(*args: Any, **kwargs: Any) -> Any:
                looks.append(1)
                return await read(*args, **kwargs)

            monkeypatch.setattr(db.store, "read", count)
            first = asyncio.create_task(snapshots.refresh(view))
            await asyncio.sleep(0)
            await db.store.write(file, account, message())
            # The look under way may have begun before that write: it is not believed.
            await asyncio.gather(first, *(snapshots.refresh(view) for _ in range(50)))
            return view.live_uids().tolist() + [entry.uid for entry in view.announce_added()]

        assert db.runner.run(main()) == [1]
        assert len(looks) <= 3


def test_spans_and_numbers_of_uids(tmp_path: Path) -> None:
    """Also where some that the client knows are gone."""
    with Db(tmp_path) as db:
        account = db.write(make_account)
        for number in range(1, 41):
            db.write(file, account, message(f"{number}"))
        snapshots = Snapshots(db.store)
        view = db.runner.run(snapshots.open(account, INBOX))
        db.write(placing.expunge, account, INBOX, [3, 10], NOW)
        db.write(file, account, message("new"))
        db.runner.run(snapshots.refresh(view))
        assert view.span(1, 100) == (1, 40)
        assert view.span(10, 10) == (10, 10)
        assert view.span(41, 99) == (41, 40)
        assert view.live_uids().tolist() == [uid for uid in range(1, 41) if uid not in (3, 10)]
        assert view.seqs([2, 11]) == [2, 11]
        assert view.seqs(list(range(1, 42))) == list(range(1, 41))
        view.announce_expunged()
        assert view.span(10, 12) == (9, 10)
        assert view.seqs([2, 11]) == [2, 9]
        assert set(view.having(array("I", [3, 4]), array("q", [0, 0]))) == {4}
        assert not view.having(array("I", [3, 4]), array("q", [0, SEEN]))
        assert set(view.having(array("I", [4, 5]), array("q", [0, 0]))) == {4, 5}


def test_what_the_feed_says_is_what_comparing_finds(db: Db) -> None:
    first = db.read(snapshot.load, 1, INBOX)
    db.write(flagging.store_flags, 1, INBOX, [1, 4], now=NOW, add=SEEN)
    db.write(placing.expunge, 1, INBOX, [4, 2], NOW)
    for _ in range(3):
        db.write(file, 1, message())
    db.write(placing.expunge, 1, INBOX, [7], NOW)
    db.write(flagging.store_flags, 1, INBOX, [8], now=NOW, add=FLAGGED)
    later, news, _, happened = db.read(snapshot.follow, 1, INBOX, first)
    assert happened == db.read(changes.uids_since, 1, INBOX, first.modseq)
    assert news == snapshot.diff(first, later)
    assert news == snapshot.Diff([*news.expunged], [1], [6, 8])
    assert [place.uid for place in news.expunged] == [2, 4]


def test_what_is_absent_is_neither_there_nor_unheard_of(db: Db) -> None:
    snapshots = Snapshots(db.store)
    db.write(placing.expunge, 1, INBOX, [2], NOW)
    view = open_view(db, snapshots)
    assert view.absent([(1, 9)]) == [(2, 2), (6, 9)]
    db.write(placing.expunge, 1, INBOX, [3, 4], NOW)
    db.write(file, 1, message())
    db.runner.run(snapshots.refresh(view))
    # Those that the client has not heard of are none of it, and what it has not heard to have come is there.
    assert view.absent([(1, 1), (2, 5), (6, 8)]) == [(2, 2), (7, 8)]
    view.announce_expunged()
    assert view.absent([(1, 9)]) == [(2, 4), (7, 9)]
    assert view.absent([]) == []


def test_what_changed_after_a_modseq_is_looked_through(db: Db) -> None:
    snapshots = Snapshots(db.store)
    view = open_view(db, snapshots)
    before = view.modseq
    db.write(flagging.store_flags, 1, INBOX, [2, 4], now=NOW, add=SEEN)
    db.runner.run(snapshots.refresh(view))
    assert [(entry.seq, entry.uid) for entry in rows(view.changed_after(before, 1, 99))] == [(2, 2), (4, 4)]
    assert rows(view.changed_after(before, 3, 4)) == view.by_seq(4, 4)
    assert rows(view.changed_after(before, 3, 3)) == []
    db.write(placing.expunge, 1, INBOX, [1, 4], NOW)
    db.runner.run(snapshots.refresh(view))
    assert [(entry.seq, entry.uid) for entry in rows(view.changed_after(before, 0, 5))] == [(2, 2), (4, 4)]


@pytest.mark.parametrize("ghosts", [[], [2, 9, 10], [1]])
def test_placements_are_found_at_ranges_of_uids(db: Db, ghosts: list[int]) -> None:
    """Whatever is missing among them, and in whatever order they are asked for."""
    snapshots = Snapshots(db.store)
    for _ in range(15):
        db.write(file, 1, message())
    db.write(placing.expunge, 1, INBOX, [3, 7, 8, 12, 20], NOW)
    view = open_view(db, snapshots)
    db.write(file, 1, message())
    if ghosts:
        db.write(placing.expunge, 1, INBOX, ghosts, NOW)
    db.runner.run(snapshots.refresh(view))
    numbers = {entry.uid: entry.seq for entry in view.everything()}
    assert max(numbers) == 19, "the client has not heard of the last one"
    random = Random(1)
    for _ in range(300):
        asked = [(low, low + random.choice([0, 0, 0, 1, 3, 99])) for low in random.choices(range(1, 24), k=6)]
        found = [[numbers[uid] for uid in range(low, high + 1) if uid in numbers] for low, high in asked]
        assert view.spans(asked) == [(some[0], some[-1]) for some in found if some]
        spans = view.spans(ranges.join(asked))
        for size in (1, 4, 500):
            lots = [rows(lot) for lot in view.lots(spans, size)]
            assert lots == list(view.chunks(spans, size))


def test_a_mailbox_that_nobody_looks_at_any_more_is_forgotten(db: Db) -> None:
    snapshots = Snapshots(db.store)
    views = [open_view(db, snapshots) for _ in range(2)]
    assert len(snapshots) == 1
    views.pop()
    gc.collect()
    assert len(snapshots) == 1
    views.pop()
    gc.collect()
    assert len(snapshots) == 0


def test_what_is_not_the_next_change_leads_nowhere(db: Db) -> None:
    snapshots = Snapshots(db.store)
    view = open_view(db, snapshots)
    before = view.snapshot
    snapshots.flagged(1, INBOX, before.modseq - 1, before.modseq + 1, [(1, 5)], -1, SEEN)
    snapshots.flagged(1, ARCHIVE, before.modseq, before.modseq + 1, [(1, 5)], -1, SEEN)
    assert view.snapshot is before
    snapshots.flagged(1, INBOX, before.modseq, before.modseq + 1, [(2, 3), (5, 9)], -1, SEEN)
    assert list(view.snapshot.flags) == [0, SEEN, SEEN, 0, SEEN]
    assert (view.unheard([1, 2, 4, 5]), view.unheard([]), view.unheard([4])) == ([2, 5], [], [])
