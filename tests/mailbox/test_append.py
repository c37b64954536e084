"""Filing: what is written, quotas, several mailboxes and accounts, and what is raised."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

from posthouse.mailbox import append, changes, emails, mailboxes, placing, reading, threads
from posthouse.mailbox.model import Change, NoSuchAccount, NoSuchMailbox, OverQuota, lock_account
from posthouse.mailbox.summary import render
from posthouse.store import blobs
from posthouse.store.database import Tx
from posthouse.terms.keywords import DRAFT, SEEN
from tests.mailbox.support import DRAFTS, INBOX, JUNK, NOW, Db, file, make_account, message, staged

SECRET = bytes(32)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with Db(tmp_path) as made:
        made.write(make_account)
        yield made


def test_an_email_is_there_with_its_octets(db: Db) -> None:
    octets = message(message_id="a@b")
    filed = db.write(file, 1, octets, prologue=b"Return-Path: <>\r\n", keywords=SEEN)
    assert (filed.email, filed.uids) == (1, {INBOX: 1})
    row = db.read(emails.rows, 1, [filed.email])[filed.email]
    rendering = db.read(reading.renderings, [row.message])
    assert (row.size, row.keywords, row.received_at, row.thread) == (len(octets) + 17, SEEN, NOW, filed.thread)
    assert rendering.summaries[0].endswith(b'"<a@b>")')
    content = db.read(emails.content, 1, filed.email)
    assert content.prologue + bytes(db.runner.run(db.blobs.load(content.blob))) == b"Return-Path: <>\r\n" + octets
    assert content.size == row.size
    assert db.read(reading.previews, [row.message])[row.message].preview.startswith("Dear Bob")
    inbox = db.read(mailboxes.get, 1, INBOX)
    assert (inbox.messages, inbox.unseen, inbox.octets, inbox.emails, inbox.uidnext) == (1, 0, row.size, 1, 2)
    assert inbox.highest_modseq == filed.modseq == db.read(changes.states, 1).modseq


def test_one_email_in_two_mailboxes(db: Db) -> None:
    filed = db.write(file, 1, message(), boxes=[INBOX, JUNK], keywords=DRAFT)
    assert filed.uids == {INBOX: 1, JUNK: 1}
    assert db.read(emails.placements, 1, filed.email) == [(INBOX, 1, False), (JUNK, 1, False)]
    assert db.rows("SELECT used_emails FROM account_state") == [(1,)]
    inbox = db.read(mailboxes.get, 1, INBOX)
    assert (inbox.unseen, inbox.unread, inbox.unread_threads) == (1, 0, 0)  # RFC 8621 §2: drafts are not unread


def test_quotas_hold_in_the_commit_that_files(db: Db) -> None:
    size = len(message())
    small = db.write(make_account, "small@example.org", 2 * size)
    few = db.write(make_account, "few@example.org", None, 1)
    db.write(file, small, message())
    db.write(file, small, message(), boxes=[INBOX, DRAFTS])
    db.write(file, few, message())
    for account in (small, few):
        with pytest.raises(OverQuota) as refused:
            db.write(file, account, message())
        assert refused.value.account == account
    db.write(placing.expunge, few, INBOX, [1], NOW)
    db.write(file, few, message())


def test_what_is_not_there(db: Db) -> None:
    with pytest.raises(NoSuchAccount):
        db.write(file, 9, message())
    with pytest.raises(NoSuchMailbox):
        db.write(file, 1, message(), boxes=[INBOX, 99])
    assert db.rows("SELECT count(*) FROM email") == [(0,)]
    assert db.read(mailboxes.get, 1, INBOX).uidnext == 1


def test_a_blob_that_is_there_already_is_one_message(db: Db) -> None:
    """The queue keeps a message in a blob; filing it, at once and again later, stores no octets again."""

    def deliver(tx: Tx, content: int) -> None:
        rendered = render(message())
        stored = append.store_message(tx, content, rendered)
        append.file_email(tx, 1, stored, rendered, mailboxes=[INBOX], received_at=NOW, thread_secret=SECRET)

    blob = db.write(blobs.insert, staged(message()))
    db.write(deliver, blob)
    db.write(deliver, blob)
    assert db.rows("SELECT count(*) FROM blob") == [(1,)]
    assert db.rows("SELECT id, emails FROM message") == [(blob, 2)]


def test_links_are_keyed_and_count_the_subject() -> None:
    one = render(message("Re: Tea", message_id="a@x", references=["b@x", "c@x"]))
    two = render(message("Tea", message_id="c@x"))
    other = render(message("Coffee", message_id="c@x"))
    assert len(threads.links(one, SECRET)) == 3
    assert threads.links(two, SECRET) == threads.links(one, SECRET)[:1]
    assert threads.links(other, SECRET) != threads.links(two, SECRET)
    assert threads.links(two, b"k" * 32) != threads.links(two, SECRET)
    assert threads.links(render(b"\r\nno header"), SECRET) == []


def store_new(tx: Tx, octets: bytes, keywords: int = 0, deleted: bool = False) -> append.New:
    """Every other one in a blob that is there already, as the queue's."""
    content = staged(octets)
    return append.New(blobs.insert(tx, content) if keywords else content, render(octets), NOW, keywords, deleted)


def file_all(tx: Tx, account: int, new: Sequence[append.New], mailbox: int = INBOX) -> list[int]:
    change = Change(tx, lock_account(tx, account), NOW)
    return list(append.file_emails(change, mailbox, new, thread_secret=b"secret" * 4))


CONVERSATION = [
    message("Plan", message_id="1@x"),
    message("Re: Plan", message_id="2@x", references=["1@x"]),
    message("Other", message_id="3@x"),
    message("Re: Plan", message_id="4@x", references=["2@x", "1@x"]),
]
FLAGS = [(SEEN, False), (0, False), (0, True), (0, True)]


def test_many_by_one_change_are_as_one_after_the_other(db: Db) -> None:
    """But for the modseq, which they share."""

    def together(tx: Tx, account: int) -> list[int]:
        new = [store_new(tx, octets, *flags) for octets, flags in zip(CONVERSATION, FLAGS, strict=True)]
        return file_all(tx, account, new)

    other = db.write(make_account, "other@example.org")
    for account in (1, other):
        db.write(file, account, CONVERSATION[0])
    before = db.read(changes.states, 1).modseq
    assert db.write(together, 1) == [2, 3, 4, 5]
    for octets, (keywords, deleted) in zip(CONVERSATION, FLAGS, strict=True):
        db.write(file, other, octets, keywords=keywords, deleted=deleted)
    assert db.read(changes.states, 1).modseq == before + 1
    inbox, compared = db.read(mailboxes.get, 1, INBOX), db.read(mailboxes.get, other, INBOX)
    names = ("messages", "unseen", "octets", "deleted", "emails", "unread", "threads", "unread_threads", "uidnext")
    assert [getattr(inbox, name) for name in names] == [getattr(compared, name) for name in names]
    same = "SELECT id, thread, keywords, uid FROM email WHERE account = ? ORDER BY id"
    assert db.rows(same, 1) == db.rows(same, other)
    assert db.rows("SELECT used_emails FROM account_state") == [(5,), (5,)]


TOTALS = "messages, unseen, octets, deleted, deleted_octets, emails, unread, threads, unread_threads, uidnext"


def test_more_than_are_carried_out_at_once_join_threads_that_stand_elsewhere(db: Db) -> None:
    """A thread may be seen in this mailbox, in another, or nowhere any more, and begin among what comes."""
    other = db.write(make_account, "other@example.org")
    random = Random(5)
    for account in (1, other):
        db.write(file, account, message("Here", message_id="h@x"), keywords=SEEN)
        db.write(file, account, message("Elsewhere", message_id="e@x"), boxes=[JUNK])
        db.write(file, account, message("Both", message_id="b@x"), boxes=[JUNK, INBOX])
        db.write(file, account, message("Hidden", message_id="d@x"), deleted=True)
        gone = db.write(file, account, message("Gone", message_id="g@x")).uids[INBOX]
        db.write(placing.expunge, account, INBOX, [gone], NOW)
    subjects = ["Here", "Elsewhere", "Both", "Hidden", "Gone", "New", "Newer"]
    new = []
    for number in range(60):
        subject = random.choice(subjects)
        refs = random.sample([f"{name}@x" for name in "hebdgnm"], k=random.randint(0, 3))
        octets = message(f"Re: {subject}", message_id=random.choice([None, f"{number}@x"]), references=refs)
        new.append((octets, random.choice([0, SEEN]), random.random() < 0.2))
    db.write(lambda tx: file_all(tx, 1, [store_new(tx, *one) for one in new]))
    for octets, keywords, deleted in new:
        db.write(file, other, octets, keywords=keywords, deleted=deleted)
    same = f"SELECT {TOTALS} FROM mailbox WHERE account = ? AND id = 1"
    assert db.rows(same, 1) == db.rows(same, other)
    threads = "SELECT id, thread, keywords, mailbox, uid FROM email WHERE account = ? ORDER BY id"
    assert db.rows(threads, 1) == db.rows(threads, other)
    told = "SELECT threads_created, threads_updated FROM change WHERE account = 1 ORDER BY modseq DESC LIMIT 1"
    ((created, updated),) = db.rows(told)
    before = {row[0] for row in db.rows("SELECT thread FROM email WHERE account = 1 AND id IN (1, 2, 3)")}
    assert before == set(_numbers(updated))
    assert before.isdisjoint(_numbers(created))


def _numbers(told: str) -> list[int]:
    found = json.loads(told)
    return [found] if isinstance(found, int) else [one for low, high in found for one in range(low, high + 1)]


def test_all_of_them_or_none(db: Db) -> None:
    account = db.write(make_account, "small@example.org", None, 2)

    def three(tx: Tx) -> None:
        file_all(tx, account, [store_new(tx, message()) for _ in range(3)])

    with pytest.raises(OverQuota):
        db.write(three)
    assert db.rows("SELECT count(*) FROM message") == [(0,)]
