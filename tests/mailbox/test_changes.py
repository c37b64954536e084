"""The feed: limits, the floor, and what one mailbox' sessions read of it. That it leads to now, test_model.py shows."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailbox import changes, flagging, mailboxes, metadata, placing, ranges, retention
from posthouse.mailbox.changes import Delta
from posthouse.mailbox.metadata import OF_ACCOUNT
from posthouse.mailbox.model import DELETED, CannotCalculateChanges, NoSuchAccount
from posthouse.terms.keywords import FLAGGED
from tests.mailbox.support import ARCHIVE, INBOX, NOW, Db, file, make_account, message


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with Db(tmp_path) as made:
        made.write(make_account)
        yield made


def test_limited_steps_lead_to_the_same(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "PAGE", 1)
    start = db.read(changes.states, 1).modseq
    for _ in range(5):
        db.write(file, 1, message(), boxes=[INBOX, ARCHIVE])
    db.write(placing.expunge, 1, INBOX, [2], NOW)
    db.write(placing.expunge, 1, ARCHIVE, [2], NOW)
    whole = db.read(changes.since, 1, start)
    assert (whole.emails.created, whole.mailboxes.updated, whole.counted) == (
        {1, 3, 4, 5},
        {INBOX, ARCHIVE},
        {INBOX, ARCHIVE},
    )
    steps, modseq, seen = 0, start, Delta()
    while True:
        step = db.read(changes.since, 1, modseq, 4)
        seen.add(step.emails.created, step.emails.updated, step.emails.destroyed)
        steps, modseq = steps + 1, step.until
        if not step.more:
            break
    assert (seen, modseq, steps) == (whole.emails, whole.until, 6)


def test_states_tell_which_kinds_changed(db: Db) -> None:
    db.write(file, 1, message())
    filed = db.read(changes.states, 1)
    assert filed.mailboxes == filed.emails == filed.threads == filed.modseq
    db.write(flagging.store_flags, 1, INBOX, [1], now=NOW, add=FLAGGED)
    flagged = db.read(changes.states, 1)
    assert (flagged.emails, flagged.threads) == (flagged.modseq, filed.threads)
    db.write(mailboxes.create, 1, "a", NOW)
    created = db.read(changes.states, 1)
    assert (created.mailboxes, created.emails) == (created.modseq, flagged.emails)


def test_what_is_not_known_is_refused(db: Db) -> None:
    for _ in range(3):
        db.write(file, 1, message())
    db.write(file, 1, message(), at=NOW + 10)
    now = db.read(changes.states, 1).modseq
    with pytest.raises(CannotCalculateChanges):
        db.read(changes.since, 1, now + 1)
    assert db.write(retention.expire_changes, 1, NOW + 10) == now - 1
    assert db.write(retention.expire_changes, 1, NOW + 10) == 0
    assert db.read(changes.since, 1, now - 1).emails.created == {4}
    with pytest.raises(CannotCalculateChanges):
        db.read(changes.since, 1, now - 2)
    with pytest.raises(CannotCalculateChanges):
        db.read(changes.uids_since, 1, INBOX, now - 2)
    with pytest.raises(NoSuchAccount):
        db.read(changes.since, 9, 0)


def test_what_a_session_reads(db: Db) -> None:
    for _ in range(3):
        db.write(file, 1, message())
    start = db.read(changes.states, 1).modseq
    db.write(flagging.store_flags, 1, INBOX, [1], now=NOW, add=FLAGGED, deleted=True)
    db.write(file, 1, message())
    db.write(file, 1, message())
    db.write(placing.expunge, 1, INBOX, [3, 5], NOW)
    changed, gone = db.read(changes.uids_since, 1, INBOX, start)
    found = db.read(changes.placements, 1, INBOX, changed)
    assert [(place.uid, place.email, place.flags) for place in found] == [(1, 1, FLAGGED | DELETED), (4, 4, 0)]
    assert ranges.expand(gone) == [3, 5]
    assert db.read(changes.uids_since, 1, ARCHIVE, start) == ([], [])


NUMBERS = st.sets(st.integers(1, 60))


@given(st.lists(NUMBERS, max_size=4))
def test_ranges_hold_the_numbers(sets: list[set[int]]) -> None:
    assert [ranges.union([ranges.pack(numbers)]) for numbers in sets] == [ranges.spans(numbers) for numbers in sets]
    texts = [ranges.told(numbers) for numbers in sets]
    for text, numbers in zip(texts, sets, strict=True):
        assert ranges.numbers(text) == sorted(numbers)
    union = ranges.union(texts)
    assert ranges.expand(union) == sorted(set().union(*sets))
    assert ranges.count(union) == len(set().union(*sets))
    assert ranges.pack_ranges(union) == ranges.pack(set().union(*sets))
    assert all(high + 1 < low for (_, high), (low, _) in pairwise(union))


def _numbers(found: Sequence[tuple[int, int]]) -> set[int]:
    return set(ranges.expand(found))


@given(st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)))
def test_ranges_intersect_and_differ_as_sets_do(left: set[int], right: set[int]) -> None:
    assert ranges.without(ranges.spans(left), ranges.spans(right)) == ranges.spans(left - right)
    found = ranges.intersect(ranges.spans(left), ranges.spans(right))
    assert _numbers(found) == left & right
    assert all(low <= high for low, high in found)
    assert all(before[1] < after[0] for before, after in pairwise(found))


@given(st.integers(1, 9), st.integers(0, 6), st.sets(st.integers(1, 15)))
def test_one_range_intersects_as_many_do(low: int, more: int, right: set[int]) -> None:
    found = ranges.intersect([(low, low + more)], ranges.spans(right))
    assert found == ranges.spans({number for number in right if low <= number <= low + more})


@given(st.sets(st.integers(1, 30)), st.integers(1, 12))
def test_ranges_come_some_numbers_at_a_time(some: set[int], size: int) -> None:
    parts = list(ranges.parts(ranges.spans(some), size))
    assert [number for part in parts for number in ranges.expand(part)] == sorted(some)
    assert [ranges.count(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert all(0 < ranges.count(part) <= size for part in parts)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 5))))
def test_ranges_join_as_sets_do(some: list[tuple[int, int]]) -> None:
    given_ranges = [(low, low + more) for low, more in some]
    found = ranges.join(given_ranges)
    assert _numbers(found) == _numbers(given_ranges)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(found))


def test_changes_of_a_mailbox_end_where_they_are_asked_to(db: Db) -> None:
    start = db.read(changes.states, 1).modseq
    for _ in range(3):
        db.write(file, 1, message())
    db.write(placing.expunge, 1, INBOX, [1], NOW)
    assert db.read(changes.uids_since, 1, INBOX, start) == ([(1, 3)], [(1, 1)])
    assert db.read(changes.uids_since, 1, INBOX, start, start + 2) == ([(1, 2)], [])


def test_annotations_are_told_by_name(db: Db) -> None:
    """What is set to what it was, and removed where it was not, is no change; to mail nothing has happened."""
    start = db.read(changes.states, 1)
    db.write(metadata.put, 1, INBOX, [("/private/b", b"1"), ("/private/a", b"1")], NOW)
    db.write(metadata.put, 1, OF_ACCOUNT, [("/private/c", b"1")], NOW)
    mid = db.read(changes.states, 1).modseq
    db.write(metadata.put, 1, INBOX, [("/private/b", b"1"), ("/private/d", None)], NOW)
    assert db.read(changes.states, 1).modseq == mid
    db.write(metadata.put, 1, INBOX, [("/private/b", None), ("/private/a", b"1")], NOW)
    db.write(mailboxes.set_role, 1, ARCHIVE, None, NOW)
    heard = db.read(changes.heard, 1, start.modseq, mid)
    assert (heard.annotated, heard.mailboxes, heard.renamed) == (True, set(), False)
    found = db.read(changes.annotated, 1, start.modseq)
    assert found.entries == {
        INBOX: ["/private/a", "/private/b"],
        OF_ACCOUNT: ["/private/c"],
        ARCHIVE: ["/private/specialuse"],
    }
    later = db.read(changes.annotated, 1, mid, own=((mid + 2, mid + 2),))
    assert later.entries == {INBOX: ["/private/b"]}
    assert db.read(changes.annotated, 1, start.modseq, mid, limit=1).more
    assert not db.read(changes.heard, 1, mid, own=((mid + 1, mid + 2),)).annotated
    since = db.read(changes.since, 1, start.modseq)
    assert (since.placements, since.emails, since.mailboxes) == ({}, Delta(), Delta(updated={ARCHIVE}))
    with pytest.raises(CannotCalculateChanges):
        db.read(changes.annotated, 1, later.until + 1)


def test_a_listener_hears_where_and_not_what(db: Db) -> None:
    start = db.read(changes.states, 1).modseq
    db.write(file, 1, message())
    made = db.write(mailboxes.create, 1, "a", NOW)
    db.write(placing.expunge, 1, INBOX, [1], NOW)
    db.write(mailboxes.subscribe, 1, ARCHIVE, False, NOW)
    found = db.read(changes.heard, 1, start)
    assert (found.mailboxes, found.changed, found.gone) == ({INBOX}, {INBOX}, {INBOX})
    assert (found.named, found.renamed, found.more) == ({made, ARCHIVE}, True, False)
    own = db.read(changes.heard, 1, start, own=((start + 1, start + 2),))
    assert (own.mailboxes, own.changed, own.gone, own.named) == ({INBOX}, set(), {INBOX}, {ARCHIVE})
    early = db.read(changes.heard, 1, start, start + 1)
    assert (early.until, early.gone, early.renamed) == (start + 1, set(), False)
    assert db.read(changes.heard, 1, start, limit=3).more
    with pytest.raises(CannotCalculateChanges):
        db.read(changes.heard, 1, found.until + 1)
