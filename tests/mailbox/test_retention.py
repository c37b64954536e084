"""What is kept after expunging, for how long, and how it comes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse import housekeeping
from posthouse.clock import SetClock
from posthouse.config import values
from posthouse.mailbox import append, changes, emails, mailboxes, placing, retention
from posthouse.mailbox.model import NoSuchEmail, OverQuota
from posthouse.mailbox.summary import render
from posthouse.store.database import Tx
from posthouse.terms.keywords import FLAGGED
from tests.mailbox.support import ARCHIVE, INBOX, NOW, Db, every_uid, file, make_account, message, staged


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with Db(tmp_path) as made:
        made.write(make_account)
        yield made


def test_undelete_gives_new_ids(db: Db) -> None:
    made = db.write(mailboxes.create, 1, "a", NOW)
    kept = db.write(file, 1, message(), boxes=[ARCHIVE], keywords=FLAGGED, prologue=b"X: 1\r\n")
    lost = db.write(file, 1, message(), boxes=[made])
    db.write(placing.expunge, 1, ARCHIVE, [1], NOW + 1)
    db.write(mailboxes.delete, 1, made, NOW + 2)
    listed = db.read(retention.list_expunged, 1)
    assert [(row.email, row.mailbox, row.gone_at) for row in listed] == [(1, ARCHIVE, NOW + 1), (2, made, NOW + 2)]
    start = db.read(changes.states, 1).modseq
    assert db.read(retention.last_places, 1)[made] == ("a", False)
    fresh = db.write(retention.undelete, 1, [kept.email, lost.email, 99], NOW + 3)
    again = db.read(mailboxes.find, 1, "a")
    assert fresh == {1: (3, ARCHIVE), 2: (4, again)}
    assert again != made
    assert db.read(emails.placements, 1, 3) == [(ARCHIVE, 2, False)]
    assert db.read(emails.placements, 1, 4) == [(again, 1, False)]
    row = db.read(emails.rows, 1, [3])[3]
    assert (row.thread, row.keywords, row.received_at) == (kept.thread, FLAGGED, NOW)
    assert db.read(emails.content, 1, 3).prologue == b"X: 1\r\n"
    found = db.read(changes.since, 1, start)
    assert (found.emails.created, found.threads.created) == ({3, 4}, {kept.thread, lost.thread})
    assert db.read(retention.list_expunged, 1) == []


def test_what_was_in_a_mailbox_that_is_gone_comes_back_under_its_name(db: Db) -> None:
    below = db.write(mailboxes.create, 1, "INBOX/Work/Old", NOW)
    db.write(file, 1, message(), boxes=[below])
    db.write(file, 1, message(), boxes=[below])
    db.write(placing.expunge, 1, below, [1], NOW)  # before the mailbox went
    empty = db.write(mailboxes.create, 1, "Empty", NOW)
    for path in ("INBOX/Work/Old", "INBOX/Work", "Empty"):
        db.write(mailboxes.delete, 1, db.read(mailboxes.find, 1, path), NOW + 1)
    assert empty not in db.read(retention.last_places, 1)
    first = db.write(retention.undelete, 1, [1], NOW + 2)[1]
    assert db.read(mailboxes.path_of, 1, first.mailbox) == "INBOX/Work/Old"
    # What is there by that name meanwhile will do.
    assert db.write(retention.undelete, 1, [2], NOW + 3)[2].mailbox == first.mailbox
    assert db.rows("SELECT messages, emails FROM mailbox WHERE account = 1 AND id = " + str(first.mailbox)) == [(2, 2)]
    assert db.write(retention.drop_expunged, NOW + 1, NOW + 9) == 0
    assert below in db.read(retention.last_places, 1)
    assert db.write(retention.drop_expunged, NOW + 2, NOW + 9) == 0
    assert below not in db.read(retention.last_places, 1)


def test_where_no_mailbox_can_be_made_the_inbox_takes_what_comes_back(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = db.write(mailboxes.create, 1, "a/b", NOW)
    db.write(file, 1, message(), boxes=[lost])
    db.write(mailboxes.delete, 1, lost, NOW)
    monkeypatch.setattr(mailboxes, "MAX_MAILBOXES", 7)
    assert db.write(retention.undelete, 1, [1], NOW) == {1: (2, INBOX)}


def test_undelete_minds_the_quota(db: Db) -> None:
    small = db.write(make_account, "small@example.org", None, 1)
    db.write(file, small, message())
    db.write(placing.expunge, small, INBOX, [1], NOW)
    db.write(file, small, message())
    with pytest.raises(OverQuota):
        db.write(retention.undelete, small, [1], NOW)


def test_a_message_goes_with_its_last_email(db: Db) -> None:
    bob = db.write(make_account, "bob@example.org")

    def deliver(tx: Tx) -> None:
        rendered = render(message())
        stored = append.store_message(tx, staged(message()), rendered, 2)
        for account in (1, bob):
            append.file_email(
                tx, account, stored, rendered, mailboxes=[INBOX], received_at=NOW, thread_secret=bytes(32)
            )

    db.write(deliver)
    db.write(placing.expunge, 1, INBOX, [1], NOW)
    assert db.write(retention.drop_expunged, NOW, NOW) == 0  # not old enough
    assert db.write(retention.drop_expunged, NOW + 1, NOW + 1) == 1
    with pytest.raises(NoSuchEmail):
        db.read(emails.content, 1, 1)
    assert db.read(emails.content, bob, 1).blob.id == 1
    assert db.rows("SELECT count(*) FROM blob_suspect") == [(0,)]
    db.write(placing.expunge, bob, INBOX, [1], NOW)
    assert db.write(retention.drop_expunged, NOW + 1, NOW + 1) == 1
    assert db.rows("SELECT blob FROM blob_suspect") == [(1,)]
    assert db.rows("SELECT id FROM message UNION ALL SELECT message FROM message_text") == []


def test_an_account_is_emptied(db: Db) -> None:
    bob = db.write(make_account, "bob@example.org")
    for account in (1, bob):
        for _ in range(3):
            db.write(file, account, message(message_id="a@b"), boxes=[INBOX, ARCHIVE])
        db.write(placing.expunge, account, INBOX, [1], NOW)
        db.write(placing.expunge, account, ARCHIVE, [1], NOW)
    assert db.read(retention.accounts_after, 0) == [1, bob]
    rounds = [db.write(retention.empty_account, 1, NOW, 2) for _ in range(3)]
    assert rounds == [2, 1, 0]
    for table in ("email", "placement", "expunged", "thread_link", "change"):
        assert db.rows(f"SELECT count(*) FROM {table} WHERE account = 1") == [(0,)], table
    assert len(db.rows("SELECT * FROM blob_suspect")) == 3
    assert len(db.read(every_uid, bob, INBOX)) == 2


def test_housekeeping_forgets_all_changes_that_are_old(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not so many an hour: an account that sees more than that would keep them for ever."""
    monkeypatch.setattr(retention, "_CHANGES", 2)
    for _ in range(7):
        db.write(file, 1, message())
    later = SetClock(NOW + 100 * 86_400_000)
    db.runner.run(housekeeping.clean(db.store, db.blobs, later, values.Store()))
    assert db.rows("SELECT count(*) FROM change") == [(0,)]
