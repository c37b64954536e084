"""The Inbox as POP3 numbers it: which of its messages are sent otherwise than they are stored."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.mailbox import maildrop, placing, retention
from posthouse.mailbox.maildrop import Sizes
from tests.mailbox.support import INBOX, NOW, Db, file, make_account, message


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with Db(tmp_path) as made:
        made.write(make_account)
        yield made


def test_what_is_sent_otherwise_is_known_without_a_look(db: Db) -> None:
    db.write(file, 1, message())
    db.write(file, 1, b"Subject: a\n\nb\r\n")
    db.write(file, 1, message(), prologue="Return-Path: <jürgen@example.org>\r\n".encode())
    db.write(file, 1, message(), prologue=b"Return-Path: <bob@example.org>\r\n")
    db.write(file, 1, "Subject: ü\r\n\r\nb\r\n".encode())
    db.write(file, 1, "Subject: u\r\n\r\nü\r\n".encode())
    db.write(file, 1, b"Subject: a\r\n\r\nno end")
    drop = db.read(maildrop.look, 1)
    assert sorted(drop.mended) == [1, 2, 4, 6]
    drop.settle(1, 99)
    assert (sorted(drop.mended), drop.sizes[1]) == ([2, 4, 6], 99)


def test_what_was_noted_goes_with_the_message(db: Db) -> None:
    db.write(file, 1, b"Subject: a\n\nb\n")
    assert len(db.rows("SELECT message FROM message_mended")) == 1
    db.write(placing.expunge, 1, INBOX, [1], NOW)
    assert db.write(retention.drop_expunged, NOW + 1, NOW + 1) == 1
    assert db.rows("SELECT message FROM message_mended") == []


def test_so_many_sizes_are_remembered() -> None:
    sizes = Sizes(kept=2)
    for email in (1, 2, 3):
        sizes.keep(7, email, email * 10, utf8=False)
    assert [sizes.find(7, email, utf8=False) for email in (1, 2, 3)] == [None, 20, 30]
    assert sizes.find(7, 3, utf8=True) is None
    assert len(sizes) == 2
