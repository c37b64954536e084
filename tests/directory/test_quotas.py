"""What a domain's accounts may hold together, and what is told of once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.directory import accounts, domains, identities, quotas
from posthouse.directory.model import NoSuchDomain
from posthouse.directory.quotas import Fullness
from posthouse.mailbox import placing
from posthouse.mailbox.model import OverQuota
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from tests.mailbox.support import INBOX, NOW, Db, file, message

SIZE = len(message())


def _people(tx: Tx) -> None:
    for domain in ("a.example", "b.example"):
        domains.add(tx, domain, NOW)
    for name in ("alice@a.example", "anna@a.example", "bob@b.example"):
        accounts.create_account(tx, parse(name), now=NOW)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with Db(tmp_path) as made:
        made.write(_people)
        yield made


ALICE, ANNA, BOB = 1, 2, 3


def kept(db: Db) -> dict[str, int]:
    """The totals that are kept, each compared with what it is a total of."""
    rows = db.rows("SELECT name, used_octets FROM domain WHERE quota_octets IS NOT NULL")
    counted = "SELECT coalesce(sum(s.used_octets), 0) FROM account a JOIN account_state s ON s.account = a.id"
    for name, used in rows:
        assert db.rows(f"{counted} WHERE a.name LIKE '%@{name}'") == [(used,)]
        assert db.rows(f"{counted} WHERE a.quota_domain = '{name}'") == [(used,)]
    return dict(rows)


def test_the_total_follows_whatever_happens(db: Db) -> None:
    db.write(file, ALICE, message())
    assert db.read(quotas.usage, "a.example") == (SIZE, None)
    db.write(quotas.set_quota, "A.example", 10 * SIZE)
    assert kept(db) == {"a.example": SIZE}
    assert db.read(quotas.usage, "a.example") == (SIZE, 10 * SIZE)
    db.write(file, ANNA, message())
    db.write(file, BOB, message())
    db.write(file, ALICE, message())
    db.write(placing.expunge, ALICE, INBOX, [1], NOW)
    assert kept(db) == {"a.example": 2 * SIZE}
    db.write(quotas.set_quota, "b.example", 5 * SIZE)
    # Accounts come, go, and are named anew.
    db.write(lambda tx: accounts.create_account(tx, parse("new@a.example"), now=NOW))
    db.write(file, 4, message())
    assert kept(db) == {"a.example": 3 * SIZE, "b.example": SIZE}
    db.write(lambda tx: identities.add(tx, ANNA, parse("anna@b.example")))
    assert kept(db) == {"a.example": 3 * SIZE, "b.example": SIZE}
    db.write(accounts.set_name, ANNA, parse("anna@b.example"))
    assert kept(db) == {"a.example": 2 * SIZE, "b.example": 2 * SIZE}
    db.write(accounts.remove, 4, NOW)
    assert kept(db) == {"a.example": SIZE, "b.example": 2 * SIZE}
    while db.write(accounts.sweep_removed, NOW):
        pass
    db.write(domains.rename, "b.example", "c.example")
    db.write(file, BOB, message())
    assert kept(db) == {"a.example": SIZE, "c.example": 3 * SIZE}
    db.write(quotas.set_quota, "c.example", None)
    assert kept(db) == {"a.example": SIZE}
    db.write(file, BOB, message())
    assert db.rows("SELECT used_octets FROM domain WHERE name = 'c.example'") == [(0,)]
    with pytest.raises(NoSuchDomain):
        db.write(quotas.set_quota, "nowhere.example", 1)


def test_a_full_domain_takes_no_more(db: Db) -> None:
    db.write(quotas.set_quota, "a.example", 2 * SIZE)
    db.write(file, ALICE, message())
    db.write(file, ALICE, message())
    for account in (ALICE, ANNA):
        with pytest.raises(OverQuota):
            db.write(file, account, message())
    db.write(file, BOB, message())
    db.write(placing.expunge, ALICE, INBOX, [1], NOW)
    db.write(file, ANNA, message())


@pytest.mark.parametrize(
    ("octets", "told", "level"),
    [
        (0, 0, 0), (79, 0, 0), (80, 0, 80), (94, 80, 80), (95, 0, 95), (95, 80, 95), (300, 95, 95),
        # Below a threshold it is remembered for a while, and then not.
        (94, 95, 95), (90, 95, 95), (89, 95, 80), (75, 95, 80), (75, 80, 80), (74, 80, 0), (74, 95, 0),
    ],
)  # fmt: skip
def test_levels(octets: int, told: int, level: int) -> None:
    assert Fullness(1, "", octets, 100, 0, None, told).level == level
    assert Fullness(1, "", 0, None, octets, 100, told).level == level
    assert Fullness(1, "", octets, 100, 1, 1000, told).level == level
    assert Fullness(1, "", octets, None, octets, None, told).level == 0


def test_what_is_noted_is_noted_once(db: Db) -> None:
    db.write(accounts.set_quota, ALICE, None, 10)
    for _ in range(8):
        db.write(file, ALICE, message())
    assert [one.id for one in db.read(quotas.full_accounts, None)] == [ALICE]
    assert db.read(quotas.full_accounts, [ANNA, BOB]) == []
    assert db.read(quotas.full_accounts, None, ALICE) == []
    first = db.write(quotas.note_account, ALICE, 80)
    assert first is not None
    assert (first.told, first.level, first.emails) == (0, 80, 8)
    assert db.write(quotas.note_account, ALICE, 80) is None
    # What was seen is not any more.
    assert db.write(quotas.note_account, ALICE, 95) is None
    assert db.write(quotas.note_account, 99, 80) is None
    db.write(quotas.set_quota, "a.example", 8 * SIZE)
    assert db.write(quotas.note_domain, "b.example", 95) is None
    assert db.write(quotas.note_domain, "a.example", 95) is not None
    assert db.write(quotas.note_domain, "a.example", 95) is None
    # Who is allowed more is told again when that is used.
    db.write(quotas.set_quota, "a.example", 100 * SIZE)
    assert db.write(quotas.note_domain, "a.example", 0) is not None
