"""Who may do what in whose mailboxes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse import limits
from posthouse.mailbox import mailboxes, retention, shares
from posthouse.mailbox.model import BadName, NoSuchMailbox, TooManyShares
from posthouse.mailbox.shares import ALL, ANYONE, Shared
from posthouse.store.database import Topic
from tests.mailbox.support import ARCHIVE, INBOX, NOW, Db, make_account

ALICE, BOB = 1, 2


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with Db(tmp_path) as made:
        made.write(make_account)
        made.write(make_account, "bob@example.org")
        yield made


def test_what_is_granted_is_known_to_both(db: Db) -> None:
    db.write(shares.grant, ALICE, ARCHIVE, BOB, "wrll")
    assert db.read(shares.rights_of, ALICE, ARCHIVE, BOB) == "lrw"
    assert db.read(shares.rights_of, ALICE, INBOX, BOB) == ""
    assert db.read(shares.rights_of, BOB, ARCHIVE, ALICE) == ""
    assert db.read(shares.rights_of, ALICE, INBOX, ALICE) == ALL
    assert db.read(shares.granted, ALICE, ARCHIVE) == [("bob@example.org", "lrw")]
    assert db.read(shares.granted_by, ALICE) == [(ARCHIVE, "bob@example.org", "lrw")]
    db.write(shares.subscribe, ALICE, ARCHIVE, BOB, True)
    db.write(shares.grant, ALICE, ARCHIVE, BOB, "lr")
    assert db.read(shares.shared_with, BOB) == [Shared(ALICE, "alice@example.org", ARCHIVE, "lr", True)]
    assert db.read(shares.owner_named, "alice@example.org", BOB) == ALICE
    db.write(shares.grant, ALICE, ARCHIVE, BOB, "")
    assert db.read(shares.shared_with, BOB) == []
    with pytest.raises(NoSuchMailbox):
        db.read(shares.owner_named, "alice@example.org", BOB)
    with pytest.raises(NoSuchMailbox):
        db.write(shares.grant, ALICE, 99, BOB, "lr")


def test_anyone_is_everybody_else(db: Db) -> None:
    carol = db.write(make_account, "carol@example.org")
    db.write(shares.grant, ALICE, ARCHIVE, ANYONE, "lr")
    db.write(shares.grant, ALICE, ARCHIVE, BOB, "lw")
    assert [db.read(shares.rights_of, ALICE, ARCHIVE, one) for one in (ALICE, BOB, carol)] == [ALL, "lrw", "lr"]
    assert db.read(shares.shared_with, BOB) == [Shared(ALICE, "alice@example.org", ARCHIVE, "lrw", False)]
    assert db.read(shares.shared_with, ALICE) == []
    assert db.read(shares.granted, ALICE, ARCHIVE) == [("anyone", "lr"), ("bob@example.org", "lw")]
    assert db.read(shares.owner_named, "alice@example.org", carol) == ALICE
    with pytest.raises(NoSuchMailbox):
        db.read(shares.owner_named, "alice@example.org", ALICE)
    # What is denied is taken from what is granted, by whichever name.
    db.write(shares.grant, ALICE, ARCHIVE, BOB, "rx", denies=True)
    assert db.read(shares.rights_of, ALICE, ARCHIVE, BOB) == "lw"
    assert db.read(shares.held, ALICE, ARCHIVE, BOB) == ("lw", "rx")
    db.write(shares.grant, ALICE, ARCHIVE, ANYONE, "l", denies=True)
    assert [db.read(shares.rights_of, ALICE, ARCHIVE, one) for one in (ALICE, BOB, carol)] == [ALL, "w", "r"]
    assert db.read(shares.granted_by, ALICE) == [
        (ARCHIVE, "anyone", "lr"),
        (ARCHIVE, "-anyone", "l"),
        (ARCHIVE, "bob@example.org", "lw"),
        (ARCHIVE, "-bob@example.org", "rx"),
    ]
    below = db.write(mailboxes.create, ALICE, "Archive/below", NOW)
    assert db.read(shares.rights_of, ALICE, below, BOB) == "w"
    db.write(mailboxes.delete, ALICE, below, NOW)
    assert {share.mailbox for share in db.read(shares.shared_with, carol)} == {ARCHIVE}


def test_who_may_as_anyone_may_subscribes_for_itself(db: Db) -> None:
    db.write(shares.grant, ALICE, ARCHIVE, ANYONE, "lr")
    db.write(shares.subscribe, ALICE, ARCHIVE, BOB, True)
    assert db.read(shares.shared_with, BOB) == [Shared(ALICE, "alice@example.org", ARCHIVE, "lr", True)]
    assert db.read(shares.granted, ALICE, ARCHIVE) == [("anyone", "lr")]
    db.write(shares.subscribe, ALICE, ARCHIVE, BOB, False)
    assert not db.read(shares.shared_with, BOB)[0].subscribed
    db.write(shares.subscribe, ALICE, ARCHIVE, BOB, True)
    db.write(shares.grant, ALICE, ARCHIVE, ANYONE, "")
    db.write(shares.grant, ALICE, ARCHIVE, BOB, "lr")
    assert not db.read(shares.shared_with, BOB)[0].subscribed


def test_an_account_that_goes_is_granted_nothing_more(db: Db) -> None:
    db.write(shares.grant, ALICE, ARCHIVE, BOB, "lr")
    db.write(shares.grant, ALICE, ARCHIVE, ANYONE, "l")
    assert db.write(retention.empty_account, BOB, NOW) == 0
    assert db.read(shares.granted, ALICE, ARCHIVE) == [("anyone", "l")]


def test_both_hear_the_bell(db: Db) -> None:
    async def heard() -> None:
        ears = [db.store.listen(Topic.ACCOUNT, account) for account in (ALICE, BOB)]
        await db.store.write(shares.grant, ALICE, ARCHIVE, BOB, "lr")
        assert all(ear.rung for ear in ears)
        for ear in ears:
            ear.close()

    db.runner.run(heard())


def test_new_mailboxes_are_shared_as_those_above_them(db: Db) -> None:
    db.write(shares.grant, ALICE, ARCHIVE, BOB, "lr")
    deep = db.write(mailboxes.create, ALICE, "Archive/2026/May", NOW)
    year = db.read(mailboxes.find, ALICE, "Archive/2026")
    assert [db.read(shares.rights_of, ALICE, one, BOB) for one in (year, deep)] == ["lr", "lr"]
    db.write(mailboxes.rename, ALICE, deep, "May", NOW)
    assert db.read(shares.rights_of, ALICE, deep, BOB) == "lr"
    db.write(mailboxes.delete, ALICE, deep, NOW)
    assert {share.mailbox for share in db.read(shares.shared_with, BOB)} == {ARCHIVE, year}


def test_a_mailbox_is_shared_with_so_many(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHARES", 1)
    carol = db.write(make_account, "carol@example.org")
    db.write(shares.grant, ALICE, ARCHIVE, BOB, "lr")
    with pytest.raises(TooManyShares):
        db.write(shares.grant, ALICE, ARCHIVE, carol, "lr")
    db.write(shares.grant, ALICE, ARCHIVE, BOB, "l")
    assert db.read(shares.granted, ALICE, ARCHIVE) == [("bob@example.org", "l")]


def test_no_mailbox_is_called_like_the_place_of_others(db: Db) -> None:
    for name in ("Other Users", "Other Users/x"):
        with pytest.raises(BadName):
            db.write(mailboxes.create, ALICE, name, NOW)
    db.write(mailboxes.create, ALICE, "x/Other Users", NOW)
