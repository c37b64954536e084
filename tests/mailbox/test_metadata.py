"""Annotations: whose they are, what goes with them, how many there may be."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse import limits
from posthouse.mailbox import mailboxes, metadata
from posthouse.mailbox.metadata import OF_ACCOUNT
from posthouse.mailbox.model import AnnotationTooLong, NoSuchAccount, NoSuchMailbox, TooManyAnnotations
from tests.mailbox.support import ARCHIVE, INBOX, NOW, Db, make_account

A, B = "/private/a", "/private/b"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with Db(tmp_path) as made:
        made.write(make_account)
        yield made


def test_what_is_kept_belongs_to_one_mailbox_of_one_account(db: Db) -> None:
    other = db.write(make_account, "bob@example.org")
    db.write(metadata.put, 1, INBOX, [(A, b"1"), (B, b"2")], NOW)
    db.write(metadata.put, 1, OF_ACCOUNT, [(A, b"3")], NOW)
    db.write(metadata.put, other, INBOX, [(A, b"4")], NOW)
    db.write(metadata.put, 1, INBOX, [(A, b"5"), (B, None)], NOW)
    assert db.read(metadata.get, 1, INBOX, A) == b"5"
    assert db.read(metadata.get, 1, INBOX, B) is None
    assert db.read(metadata.entries, 1, OF_ACCOUNT) == {A: b"3"}
    assert db.read(metadata.every_entry, 1) == {OF_ACCOUNT: {A: b"3"}, INBOX: {A: b"5"}}
    assert db.read(metadata.every_entry, other) == {INBOX: {A: b"4"}}


def test_what_is_not_there_keeps_nothing(db: Db) -> None:
    with pytest.raises(NoSuchMailbox):
        db.write(metadata.put, 1, 99, [(A, b"1")], NOW)
    with pytest.raises(NoSuchAccount):
        db.write(metadata.put, 99, OF_ACCOUNT, [(A, b"1")], NOW)


def test_a_mailbox_that_goes_takes_them_along(db: Db) -> None:
    box = db.write(mailboxes.create, 1, "box", NOW)
    for mailbox in (box, ARCHIVE):
        db.write(metadata.put, 1, mailbox, [(A, b"1")], NOW)
    db.write(mailboxes.rename, 1, box, "other", NOW)
    assert db.read(metadata.get, 1, box, A) == b"1"
    db.write(mailboxes.delete, 1, box, NOW)
    assert db.read(metadata.every_entry, 1) == {ARCHIVE: {A: b"1"}}


def test_the_inbox_keeps_them_when_it_is_renamed(db: Db) -> None:
    db.write(metadata.put, 1, INBOX, [(A, b"1")], NOW)
    db.write(mailboxes.rename, 1, INBOX, "old", NOW)
    old = db.read(mailboxes.find, 1, "old")
    assert db.read(metadata.every_entry, 1) == {INBOX: {A: b"1"}, old: {A: b"1"}}


def test_too_many_or_too_long_and_none_is_kept(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "METADATA_ENTRIES", 2)
    monkeypatch.setattr(limits, "METADATA_VALUE", 10)
    monkeypatch.setattr(limits, "METADATA_OCTETS", 60)
    with pytest.raises(AnnotationTooLong):
        db.write(metadata.put, 1, INBOX, [(A, b"1"), (B, bytes(11))], NOW)
    with pytest.raises(TooManyAnnotations):
        db.write(metadata.put, 1, INBOX, [(A, b"1"), (B, b"2"), ("/private/c", b"3")], NOW)
    assert db.read(metadata.every_entry, 1) == {}
    db.write(metadata.put, 1, INBOX, [(A, bytes(10)), (B, bytes(10))], NOW)
    # Names count too: 20 octets each, and 60 in all.
    db.write(metadata.put, 1, ARCHIVE, [(A, bytes(10))], NOW)
    with pytest.raises(TooManyAnnotations):
        db.write(metadata.put, 1, ARCHIVE, [(B, b"")], NOW)
    # Whoever is at the limit can still change and forget.
    db.write(metadata.put, 1, INBOX, [(A, b"x")], NOW)
    db.write(metadata.put, 1, INBOX, [(A, None), (B, None)], NOW)
    assert db.read(metadata.every_entry, 1) == {ARCHIVE: {A: bytes(10)}}


@pytest.mark.parametrize(
    ("entry", "depth", "found"),
    [
        ("/a", 0, ["/a"]),
        ("/a", 1, ["/a", "/a/b"]),
        ("/a", None, ["/a", "/a/b", "/a/b/c"]),
        ("/a/b", 0, ["/a/b"]),
        ("/x", 1, ["/x/y"]),
        ("/x", 0, []),
        ("/z", None, []),
    ],
)
def test_below(entry: str, depth: int | None, found: list[str]) -> None:
    """RFC 5464 §4.2.2."""
    held = dict.fromkeys(["/ab", "/x/y", "/x/y/z/w", "/a/b/c", "/a/b", "/a"], b"")
    assert metadata.below(held, entry, depth) == found
