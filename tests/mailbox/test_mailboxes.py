"""Mailboxes: standard ones, names, the tree, what renaming and deleting do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailbox import emails, mailboxes
from posthouse.mailbox.model import (
    BadName,
    HasChildren,
    MailboxExists,
    NoSuchMailbox,
    ReservedMailbox,
    TooManyMailboxes,
)
from posthouse.store.database import Topic
from tests.mailbox.support import ARCHIVE, INBOX, NOW, SENT, Db, file, make_account, message


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with Db(tmp_path) as made:
        made.write(make_account)
        yield made


def paths(db: Db) -> list[str]:
    return [mailbox.path for mailbox in db.read(mailboxes.list_mailboxes, 1)]


def test_an_account_begins_with_the_standard_mailboxes(db: Db) -> None:
    listed = db.read(mailboxes.list_mailboxes, 1)
    assert [(mailbox.path, mailbox.role) for mailbox in listed] == [
        ("INBOX", "inbox"),
        ("Archive", "archive"),
        ("Drafts", "drafts"),
        ("Junk", "junk"),
        ("Sent", "sent"),
        ("Trash", "trash"),
    ]
    assert all(mailbox.subscribed and mailbox.uidnext == 1 and mailbox.messages == 0 for mailbox in listed)
    assert len({mailbox.uidvalidity for mailbox in listed}) == 6
    assert db.read(mailboxes.by_role, 1, "sent") == SENT
    assert db.read(mailboxes.get, 1, SENT) == next(mailbox for mailbox in listed if mailbox.id == SENT)


def test_paths_lead_to_mailboxes_and_back(db: Db) -> None:
    made = db.write(mailboxes.create, 1, "Work/2026/Café", NOW)
    assert paths(db)[-3:] == ["Work", "Work/2026", "Work/2026/Café"]
    assert db.read(mailboxes.find, 1, "Work/2026/Cafe\u0301") == made  # the same name, decomposed
    assert db.read(mailboxes.path_of, 1, made) == "Work/2026/Café"
    for path in ("inbox", "InBoX"):
        assert db.read(mailboxes.find, 1, path) == INBOX
    below = db.write(mailboxes.create, 1, "Inbox/later", NOW)
    assert db.read(mailboxes.path_of, 1, below) == "INBOX/later"
    assert db.read(mailboxes.find, 1, "INBOX/later") == below
    # Unicode's capital of a dotless i is an I; the name of a mailbox is another all the same.
    other = db.write(mailboxes.create, 1, "ınbox", NOW)
    assert db.read(mailboxes.path_of, 1, other) == "ınbox"
    for path in ("work", "Work/2027", "Nowhere"):
        with pytest.raises(NoSuchMailbox):
            db.read(mailboxes.find, 1, path)


@pytest.mark.parametrize(
    "path", ["", "a//b", "/a", "a/", "a\x00b", "a\r\nb", "\ud800", " ", "#news", "x" * 256, "a/" * 20 + "a"]
)
def test_bad_names(db: Db, path: str) -> None:
    with pytest.raises(BadName):
        db.write(mailboxes.create, 1, path, NOW)


@given(st.text(max_size=300))
def test_a_name_is_checked_and_normal_or_refused(name: str) -> None:
    try:
        normal = mailboxes.check_name(name)
    except BadName:
        return
    assert mailboxes.check_name(normal) == normal
    assert 0 < len(normal.encode()) <= mailboxes.MAX_NAME


def test_what_is_there_is_not_made_again(db: Db) -> None:
    for path in ("Sent", "inbox"):
        with pytest.raises(MailboxExists):
            db.write(mailboxes.create, 1, path, NOW)
        with pytest.raises(MailboxExists):
            db.write(mailboxes.rename, 1, ARCHIVE, path, NOW)
    with pytest.raises(MailboxExists):
        db.write(mailboxes.create, 1, "Dispatched", NOW, role="sent")
    assert "Dispatched" not in paths(db)


def test_a_uidvalidity_is_never_given_again(db: Db) -> None:
    given: list[int] = []
    for _ in range(3):
        made = db.write(mailboxes.create, 1, "Again", NOW)
        given.append(db.read(mailboxes.get, 1, made).uidvalidity)
        db.write(mailboxes.delete, 1, made, NOW)
    assert given == sorted(set(given))
    assert 0 < given[0] < given[-1] < 2**32


def test_renaming_takes_what_is_below_along(db: Db) -> None:
    top = db.write(mailboxes.create, 1, "a/b/c", NOW)
    a = db.read(mailboxes.find, 1, "a")
    before = db.read(mailboxes.get, 1, top)
    db.write(mailboxes.rename, 1, a, "x/y", NOW)
    assert [path for path in paths(db) if path[0] in "ax"] == ["x", "x/y", "x/y/b", "x/y/b/c"]
    after = db.read(mailboxes.get, 1, top)
    assert (after.id, after.uidvalidity, after.uidnext) == (before.id, before.uidvalidity, before.uidnext)
    with pytest.raises(BadName):
        db.write(mailboxes.rename, 1, a, "x/y/b/deeper", NOW)
    with pytest.raises(NoSuchMailbox):
        db.write(mailboxes.rename, 1, 999, "z", NOW)


def test_renaming_the_inbox_moves_its_mail(db: Db) -> None:
    """RFC 9051 §6.3.6: all messages move to the new name, INBOX is left empty; inferior names stay."""
    below = db.write(mailboxes.create, 1, "INBOX/below", NOW)
    filed = db.write(file, 1, message())
    inbox = db.read(mailboxes.get, 1, INBOX)
    db.write(mailboxes.rename, 1, INBOX, "Old/mail", NOW)
    moved = db.read(mailboxes.get, 1, db.read(mailboxes.find, 1, "Old/mail"))
    assert (moved.messages, moved.role) == (1, None)
    assert db.read(emails.placements, 1, filed.email) == [(moved.id, 1, False)]
    now = db.read(mailboxes.get, 1, INBOX)
    assert (now.messages, now.uidnext, now.uidvalidity) == (0, inbox.uidnext, inbox.uidvalidity)
    assert db.read(mailboxes.path_of, 1, below) == "INBOX/below"
    with pytest.raises(MailboxExists):
        db.write(mailboxes.rename, 1, INBOX, "inbox", NOW)


def test_deleting(db: Db) -> None:
    made = db.write(mailboxes.create, 1, "a/b", NOW)
    a = db.read(mailboxes.find, 1, "a")
    filed = db.write(file, 1, message(), boxes=[made])
    with pytest.raises(HasChildren):
        db.write(mailboxes.delete, 1, a, NOW)
    with pytest.raises(ReservedMailbox):
        db.write(mailboxes.delete, 1, INBOX, NOW)
    db.write(mailboxes.delete, 1, made, NOW)
    with pytest.raises(NoSuchMailbox):
        db.write(mailboxes.delete, 1, made, NOW)
    assert db.read(emails.content, 1, filed.email).size == filed_size(db, filed.email)
    with pytest.raises(NoSuchMailbox):
        db.write(file, 1, message(), boxes=[made])
    db.write(mailboxes.delete, 1, a, NOW)
    assert len(paths(db)) == 6


def filed_size(db: Db, email: int) -> int:
    size: int = db.rows("SELECT size FROM expunged WHERE email = ?", email)[0][0]
    return size


def test_subscription_role_and_order(db: Db) -> None:
    db.write(mailboxes.subscribe, 1, SENT, False, NOW)
    db.write(mailboxes.set_role, 1, SENT, None, NOW)
    made = db.write(mailboxes.create, 1, "Dispatched", NOW, role="sent")
    db.write(mailboxes.set_sort_order, 1, made, 7, NOW)
    assert db.read(mailboxes.by_role, 1, "sent") == made
    assert not db.read(mailboxes.get, 1, SENT).subscribed
    assert db.read(mailboxes.get, 1, made).sort_order == 7
    with pytest.raises(MailboxExists):
        db.write(mailboxes.set_role, 1, SENT, "sent", NOW)
    with pytest.raises(BadName):
        db.write(mailboxes.set_role, 1, SENT, "spam", NOW)
    for mailbox, role in ((INBOX, None), (SENT, "inbox")):
        with pytest.raises(ReservedMailbox):
            db.write(mailboxes.set_role, 1, mailbox, role, NOW)
    with pytest.raises(NoSuchMailbox):
        db.write(mailboxes.subscribe, 1, 999, True, NOW)


def test_an_account_has_so_many_mailboxes(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "MAX_MAILBOXES", 8)
    db.write(mailboxes.create, 1, "a/b", NOW)
    with pytest.raises(TooManyMailboxes):
        db.write(mailboxes.create, 1, "c", NOW)


def test_every_change_rings_the_accounts_bell(db: Db) -> None:
    async def main() -> set[int]:
        ear = db.store.listen(Topic.ACCOUNT, 1)
        await db.store.write(mailboxes.create, 1, "a", NOW)
        rung = await ear.wait()
        ear.close()
        return rung

    assert db.runner.run(main()) == {1}
