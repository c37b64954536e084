"""What is known of accounts until their bells ring."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.mailbox import known
from posthouse.mailbox.known import Accounts
from posthouse.mailbox.newest import Snapshots
from posthouse.store.database import Topic, Tx
from tests.mailbox.support import ARCHIVE, INBOX, NOW, Db, file, make_account, message


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with Db(tmp_path) as made:
        made.write(make_account)
        made.write(file, 1, message())
        yield made


def ring(db: Db, account: int) -> None:
    def only_ring(tx: Tx) -> None:
        tx.ring(Topic.ACCOUNT, account)

    db.write(only_ring)


def of(db: Db, accounts: Accounts, account: int) -> known.Known:
    async def ask() -> known.Known:
        return accounts.of(account)

    return db.runner.run(ask())


def test_it_is_forgotten_when_the_bell_rings(db: Db) -> None:
    accounts = Accounts(db.store)
    of(db, accounts, 1).tell("a", 7)
    of(db, accounts, 2).tell("a", 8)
    ring(db, 1)
    assert (of(db, accounts, 1).get("a"), of(db, accounts, 2).get("a")) == (None, 8)
    # 0 means: look at all.
    ring(db, 0)
    assert of(db, accounts, 2).get("a") is None


def test_what_was_read_before_a_ring_is_not_believed_after_it(db: Db) -> None:
    accounts = Accounts(db.store)
    before = of(db, accounts, 1)
    ring(db, 1)
    before.tell("a", 7)
    assert of(db, accounts, 1).get("a") is None


def test_it_is_bounded(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_ACCOUNTS", 2)
    monkeypatch.setattr(known, "_EACH", 3)
    accounts = Accounts(db.store)
    for account in (1, 2, 1, 3):
        of(db, accounts, account).tell("a", account)
    # The one that nobody asked for longest went.
    assert [of(db, accounts, account).get("a") for account in (1, 3, 2)] == [1, 3, None]
    one = of(db, accounts, 3)
    for fact in range(50):
        one.tell(fact, fact)
    assert sum(one.get(fact) is not None for fact in range(50)) <= 3


def test_a_mailbox_is_not_looked_at_while_nothing_happens(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Any] = []
    read = db.store.read

    async def count(*args: Any, **kwargs: Any) -> Any:
        looks.append(args)
        return await read(*args, **kwargs)

    monkeypatch.setattr(db.store, "read", count)
    snapshots = Snapshots(db.store)
    view = db.runner.run(snapshots.open(1, INBOX))
    assert db.runner.run(snapshots.open(1, INBOX)).snapshot is view.snapshot
    assert len(looks) == 1
    # Something has: it may be here.
    db.write(file, 1, message(), boxes=[ARCHIVE])
    assert db.runner.run(snapshots.current(1, INBOX)) is view.snapshot
    assert len(looks) == 2
    db.write(file, 1, message())
    assert len(db.runner.run(snapshots.current(1, INBOX))) == 2
    db.runner.run(snapshots.refresh(view))
    assert len(looks) == 3


def test_it_hears_other_processes(db: Db, tmp_path: Path) -> None:
    with Db(tmp_path) as other:
        snapshots = Snapshots(db.store)
        assert len(db.runner.run(snapshots.current(1, INBOX))) == 1
        other.write(file, 1, message(), at=NOW)

        async def heard() -> int:
            ear = db.store.listen(Topic.ACCOUNT, 1)
            if snapshots.accounts.of(1).get(INBOX) is not None:
                await ear.wait()
            ear.close()
            return len(await snapshots.current(1, INBOX))

        assert db.runner.run(heard()) == 2
