"""The Inbox as POP3 numbers it: which of its messages are sent otherwise than they are stored."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.mailbox import maildrop, placing, retention
from posthouse.mailbox.emails import Content
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
    db.write(file, 1, b"Subject: a\r\n\r\n.\r\n")
    db.write(file, 1, b".Subject: a\r\n\r\nb\r\n")
    db.write(file, 1, b"Subject: a\n\n.\n")
    db.write(file, 1, b"Subject: a\r\n\r\n.\r\n", prologue="Return-Path: <jürgen@example.org>\r\n".encode())
    db.write(file, 1, b"Subject: a.\r\n\r\na .\r\n")
    drop = db.read(maildrop.look, 1)
    assert drop.mended == drop.otherwise
    assert sorted(drop.altered - drop.otherwise) == [7, 8]
    assert sorted(drop.mended) == [1, 2, 4, 6, 9, 10]
    drop.settle(1, 99)
    assert (sorted(drop.mended), drop.sizes[1]) == ([2, 4, 6, 9, 10], 99)


def test_what_is_found_of_emails(db: Db) -> None:
    """Octets where they lie in rows, else where they are; expunged ones too, and none that is not there."""
    octets = {number: message(subject=f"number {number}") for number in range(1, 6)}
    for number, one in octets.items():
        assert db.write(file, 1, one, prologue=b"X-Way: %d\r\n" % number).email == number
    db.write(placing.expunge, 1, INBOX, [2, 3], NOW)
    db.write(lambda tx: tx.query("UPDATE blob SET place = 1, octets = NULL, name = 'x' || id WHERE id IN (3, 4)", ()))
    found = db.read(maildrop.octets, 1, [5, 4, 3, 2, 1, 99])
    assert sorted(found) == [1, 2, 3, 4, 5]
    assert {email: found[email] for email in (1, 2, 5)} == {
        email: (b"X-Way: %d\r\n" % email, octets[email]) for email in (1, 2, 5)
    }
    for email in (3, 4):
        where = found[email]
        assert isinstance(where, Content)
        assert (where.prologue, where.blob.octets) == (b"X-Way: %d\r\n" % email, None)
        assert (where.blob.name, where.blob.size) == (f"x{email}", len(octets[email]))
    assert db.read(maildrop.octets, 2, [1, 2, 3]) == {}


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
