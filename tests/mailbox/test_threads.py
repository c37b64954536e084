"""Which emails come together."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from posthouse.mailbox import placing
from tests.mailbox.support import INBOX, NOW, Db, file, make_account, message


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
