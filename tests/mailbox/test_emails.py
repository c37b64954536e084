"""Flags, copies, moves and expunging, where the random test of the model does not look."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.mailbox import changes, emails, flagging, mailboxes, placing, ranges, reading
from posthouse.mailbox.model import (
    KEYWORDS,
    BadKeyword,
    NoSuchEmail,
    NoSuchMailbox,
    TooManyKeywords,
)
from posthouse.terms.keywords import FLAGGED, SEEN
from tests.mailbox.support import ARCHIVE, INBOX, NOW, SENT, Db, every_uid, filled


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with filled(tmp_path, 3) as made:
        yield made


def keywords(db: Db) -> list[int]:
    return [row[0] for row in db.rows("SELECT keywords FROM email ORDER BY id")]


def test_keywords_are_set_cleared_and_replaced(db: Db) -> None:
    stored = db.write(flagging.store_flags, 1, INBOX, [1, 2, 77], now=NOW, add=SEEN | FLAGGED)
    assert (ranges.count(stored.uids), keywords(db)) == (2, [SEEN | FLAGGED, SEEN | FLAGGED, 0])
    db.write(flagging.store_flags, 1, INBOX, [1], now=NOW, remove=SEEN)
    db.write(flagging.store_flags, 1, INBOX, [2, 3], now=NOW, add=1 << 61, remove=KEYWORDS)
    assert keywords(db) == [FLAGGED, 1 << 61, 1 << 61]


def test_what_makes_no_difference_is_no_change(db: Db) -> None:
    before = db.read(changes.states, 1)
    for values in ({"remove": SEEN}, {"add": 0}, {"deleted": False}):
        stored = db.write(flagging.store_flags, 1, INBOX, [1, 2, 3], now=NOW, **values)
        assert (stored.modseq, ranges.count(stored.uids)) == (None, 0)
    assert db.write(placing.expunge, 1, INBOX, [9], NOW) == []
    assert db.write(placing.copy, 1, INBOX, [], SENT, NOW) == []
    assert db.read(changes.states, 1) == before


def test_unchanged_since(db: Db) -> None:
    """RFC 7162 §3.1.3: those that changed since are named and left alone."""
    modseq = db.read(changes.states, 1).modseq
    db.write(flagging.store_flags, 1, INBOX, [2], now=NOW, add=SEEN)
    stored = db.write(flagging.store_flags, 1, INBOX, [1, 2, 3], now=NOW, add=FLAGGED, unchanged_since=modseq)
    assert (stored.modified, ranges.count(stored.uids), keywords(db)) == ([2], 2, [FLAGGED, SEEN, FLAGGED])


def test_keywords_belong_to_the_email_wherever_it_is(db: Db) -> None:
    assert db.write(placing.copy, 1, INBOX, [2], ARCHIVE, NOW) == [(2, 1)]
    stored = db.write(flagging.store_flags, 1, ARCHIVE, [1], now=NOW, add=SEEN)
    for mailbox, uid in ((INBOX, 2), (ARCHIVE, 1)):
        placed = db.read(changes.placements, 1, mailbox, [(1, 9)])
        assert [place.uid for place in placed if place.modseq == stored.modseq] == [uid]
    assert [db.read(mailboxes.get, 1, mailbox).unseen for mailbox in (INBOX, ARCHIVE)] == [2, 0]
    assert stored.modseq == db.read(mailboxes.get, 1, INBOX).highest_modseq


def test_deleted_belongs_to_the_placement_and_hides_it(db: Db) -> None:
    db.write(placing.copy, 1, INBOX, [1], ARCHIVE, NOW)
    start = db.read(changes.states, 1).modseq
    db.write(flagging.store_flags, 1, INBOX, [1], now=NOW, deleted=True)
    inbox, archive = db.read(mailboxes.get, 1, INBOX), db.read(mailboxes.get, 1, ARCHIVE)
    assert (inbox.messages, inbox.deleted, inbox.emails, archive.deleted, archive.emails) == (3, 1, 2, 0, 1)
    assert db.read(changes.since, 1, start).emails.updated == {1}
    db.write(flagging.store_flags, 1, ARCHIVE, [1], now=NOW, deleted=True)
    found = db.read(changes.since, 1, start)
    assert (found.emails.destroyed, found.threads.destroyed) == ({1}, {1})
    hidden = db.read(changes.states, 1).modseq
    db.write(flagging.store_flags, 1, ARCHIVE, [1], now=NOW, deleted=False)
    found = db.read(changes.since, 1, hidden)
    assert (found.emails.created, found.threads.created) == ({1}, {1})
    found = db.read(changes.since, 1, start)
    assert (found.emails.created, found.emails.updated, found.emails.destroyed) == (set(), {1}, set())


def test_expunged_content_lives(db: Db) -> None:
    def read() -> tuple[object, ...]:
        rows = db.read(emails.rows, 1, [1, 2])
        return db.read(emails.content, 1, 1), rows, db.read(reading.values, 1, [1, 2])

    before = read()
    assert db.write(placing.expunge, 1, INBOX, [1, 3], NOW) == [1, 3]
    assert read() == before
    with pytest.raises(NoSuchEmail):
        db.read(emails.content, 1, 99)


def test_only_what_is_marked_now_is_expunged(db: Db) -> None:
    db.write(flagging.store_flags, 1, INBOX, [1, 3], now=NOW, deleted=True)
    assert db.read(emails.deleted_uids, 1, INBOX) == [1, 3]
    assert db.write(placing.expunge_deleted, 1, INBOX, NOW, [2, 3]) == [3]
    assert db.write(placing.expunge_deleted, 1, INBOX, NOW) == [1]
    assert db.read(every_uid, 1, INBOX) == [2]


def test_moving_gives_new_uids_and_keeps_the_email(db: Db) -> None:
    db.write(flagging.store_flags, 1, INBOX, [3], now=NOW, add=FLAGGED, deleted=True)
    start = db.read(changes.states, 1).modseq
    assert db.write(placing.move, 1, INBOX, [3, 2], ARCHIVE, NOW) == [(2, 1), (3, 2)]
    assert db.read(emails.placements, 1, 3) == [(ARCHIVE, 2, True)]
    found = db.read(changes.since, 1, start)
    assert (found.emails.updated, found.emails.destroyed, found.placements[INBOX].gone) == ({2}, set(), {2, 3})
    assert db.write(placing.move, 1, ARCHIVE, [1], ARCHIVE, NOW) == [(1, 3)]
    for change in (placing.copy, placing.move):
        for uids in ([1], [9]):
            with pytest.raises(NoSuchMailbox):
                db.write(change, 1, INBOX, uids, 99, NOW)
    assert db.read(every_uid, 1, INBOX) == [1]


def test_an_accounts_own_keywords(db: Db) -> None:
    bits = db.write(emails.learn_keywords, 1, ["$Seen", "Project", "todo"])
    assert bits & SEEN
    assert db.write(emails.learn_keywords, 1, ["TODO", "project", "$seen"]) == bits
    names = db.read(emails.keyword_names, 1)
    assert sorted(name for bit, name in names.items() if bit & bits) == ["$seen", "project", "todo"]
    assert db.read(emails.known_keywords, 1, ["Todo", "unheard"]) == db.write(emails.learn_keywords, 1, ["todo"])
    # As it was first written, and no other way since.
    spellings = db.read(emails.keyword_spellings, 1)
    assert spellings[db.read(emails.known_keywords, 1, ["PROJECT"])] == "Project"
    assert spellings.keys() == names.keys()
    for bad in ("", "a b", "a(", 'a"', "a\\b", "é", "x" * 101, "a\x7f"):
        with pytest.raises(BadKeyword):
            db.write(emails.learn_keywords, 1, [bad])
    db.write(emails.learn_keywords, 1, [f"k{number}" for number in range(44)])
    with pytest.raises(TooManyKeywords):
        db.write(emails.learn_keywords, 1, ["one-more"])
    db.write(flagging.store_flags, 1, INBOX, [1], now=NOW, add=KEYWORDS)
    assert keywords(db)[0] == KEYWORDS
