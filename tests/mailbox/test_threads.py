"""Which emails come together."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from posthouse.mailbox import append, placing, threads
from posthouse.mailbox.model import Change, lock_account
from posthouse.mailbox.summary import render
from posthouse.store.database import Tx
from tests.mailbox.support import INBOX, NOW, Db, file, make_account, message, staged


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with Db(tmp_path) as made:
        made.write(make_account)
        yield made


def thread(db: Db, subject: str, id: str | None = None, refs: Sequence[str] = ()) -> int:
    return db.write(file, 1, message(subject, message_id=id, references=refs)).thread


def test_a_reply_joins(db: Db) -> None:
    first = thread(db, "Tea", "1@x")
    assert thread(db, "Re: Tea", "2@x", ["1@x"]) == first
    assert thread(db, "RE: tea", "3@x", ["1@x", "2@x"]) == first
    assert thread(db, "Tea", "4@x") != first


def test_a_reply_that_comes_first_is_joined_by_what_it_answers(db: Db) -> None:
    assert thread(db, "Re: Tea", "2@x", ["1@x"]) == thread(db, "Tea", "1@x")


def test_two_answers_to_mail_not_yet_here_come_together(db: Db) -> None:
    assert thread(db, "Re: Tea", "2@x", ["1@x"]) == thread(db, "Re: Tea", "3@x", ["1@x"])


def test_a_new_subject_is_a_new_thread(db: Db) -> None:
    """RFC 8621 §3 recommends that subjects agree as well."""
    first = thread(db, "Tea", "1@x")
    assert thread(db, "Coffee", "2@x", ["1@x"]) != first


def test_threads_never_merge(db: Db) -> None:
    one, two = thread(db, "Tea", "1@x"), thread(db, "Tea", "2@x")
    assert thread(db, "Re: Tea", "3@x", ["1@x", "2@x"]) == two  # the nearest ancestor's
    assert thread(db, "Re: Tea", "4@x", ["1@x"]) == one


def test_without_message_ids_each_is_its_own(db: Db) -> None:
    assert thread(db, "Tea") != thread(db, "Tea")


def test_a_thread_keeps_its_id_when_its_mail_is_gone(db: Db) -> None:
    first = thread(db, "Tea", "1@x")
    db.write(placing.expunge, 1, INBOX, [1], NOW)
    assert thread(db, "Re: Tea", "2@x", ["1@x"]) == first


def test_accounts_have_threads_of_their_own(db: Db) -> None:
    bob = db.write(make_account, "bob@example.org")
    thread(db, "other", "0@x")
    assert thread(db, "Tea", "1@x") == 2
    assert db.write(file, bob, message("Tea", message_id="1@x")).thread == 1


def test_a_thread_that_has_many_takes_no_more(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes says what it belongs to, and filing looks at the whole thread: without a bound, 8,000 messages of
    one stranger would cost the only writer 10 ms each."""
    monkeypatch.setattr(threads, "MOST", 3)
    found = [thread(db, "Tea", f"{number}@x", ["0@x"]) for number in range(1, 8)]
    first, second, third = found[0], found[3], found[6]
    assert found == [first] * 3 + [second] * 3 + [third]
    assert len({first, second, third}) == 3
    # What names one of the first as well as the newest joins those that take more.
    assert thread(db, "Tea", "8@x", ["7@x", "1@x"]) == third
    assert db.rows("SELECT threads, unread_threads, emails FROM mailbox WHERE id = ?", INBOX) == [(3, 3, 8)]


def test_many_that_come_at_once_begin_another_thread_where_theirs_takes_no_more(
    db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "MOST", 2)
    old = [thread(db, "Tea", f"{number}@x", ["0@x"]) for number in (1, 2)]

    def append_two(tx: Tx) -> None:
        octets = [message("Tea", message_id=f"{number}@x", references=["0@x"]) for number in (3, 4)]
        new = [append.New(staged(one), render(one), NOW, 0, False) for one in octets]
        change = Change(tx, lock_account(tx, 1), NOW)
        append.file_emails(change, INBOX, new, thread_secret=b"secret" * 4)

    db.write(append_two)
    found = [row[0] for row in db.rows("SELECT thread FROM email WHERE account = 1 ORDER BY id")]
    assert found[:2] == old
    assert found[2] == found[3] != old[0]
    assert db.rows("SELECT threads, emails FROM mailbox WHERE id = ?", INBOX) == [(2, 4)]
