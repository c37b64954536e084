"""Columns of many emails for a FETCH: in the order asked for, whatever has become of the emails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.mailbox import emails, placing, reading, retention
from posthouse.mailbox.summary import render
from tests.mailbox.support import ARCHIVE, INBOX, NOW, Db, file, make_account, message

OCTETS = {number: message(subject=f"number {number}", body=f"text {number}\r\n" * number) for number in range(1, 7)}
PROLOGUES = {number: b"X-Way: %d\r\n" % number if number % 2 else b"" for number in OCTETS}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    """Emails 1 to 6, of which 2 and 5 are expunged."""
    with Db(tmp_path) as made:
        made.write(make_account)
        for number, octets in OCTETS.items():
            assert made.write(file, 1, octets, prologue=PROLOGUES[number], at=NOW + number).email == number
        made.write(placing.expunge, 1, INBOX, [2, 5], NOW)
        yield made


@pytest.mark.parametrize(
    "asked", [[1, 3, 4], [1, 2, 3, 4, 5, 6], [6, 5, 1], [3, 3, 2, 3], [2, 5], [1, 99, 2], [99], [], (1, 3, 4), (4, 1)]
)
def test_columns_are_in_the_order_asked_for(db: Db, asked: list[int]) -> None:
    there = [email for email in asked if email in OCTETS]
    octets = [OCTETS[email] for email in there]
    values = db.read(reading.values, 1, asked)
    assert list(values.emails) == there
    assert list(values.received) == [NOW + email for email in there]
    assert list(values.sizes) == [len(PROLOGUES[email] + OCTETS[email]) for email in there]
    assert len(values.messages) == len(values.threads) == len(there)
    renderings = db.read(reading.renderings, values.messages)
    assert list(renderings.summaries) == [render(one).summary for one in octets]
    assert list(renderings.structures) == [render(one).structure for one in octets]
    wholes = db.read(reading.wholes, 1, asked)
    assert wholes is not None
    assert list(wholes.emails) == there
    assert list(wholes.octets) == octets
    assert list(wholes.prologues) == [PROLOGUES[email] for email in there]
    assert db.read(reading.sizes, 1, asked) == dict(zip(there, values.sizes, strict=True))


def test_what_does_not_lie_in_a_row_is_not_read(db: Db) -> None:
    large = db.write(file, 1, message(body="x" * 100)).email
    db.write(lambda tx: tx.query("UPDATE blob SET place = 1, octets = NULL, name = 'x' WHERE id = ?", (large,)))
    assert db.read(reading.wholes, 1, [1, large]) is None
    assert db.read(reading.wholes, 1, [1, 3]) is not None


def test_beginnings_are_of_all_that_are_kept(db: Db) -> None:
    """Expunged or not; where the octets do not lie in a row there are none."""
    large = db.write(file, 1, message(body="x" * 100)).email
    db.write(lambda tx: tx.query("UPDATE blob SET place = 1, octets = NULL, name = 'x' WHERE id = ?", (large,)))
    expected = [(email, PROLOGUES[email], OCTETS[email][:50]) for email in (1, 2, 5, 6)]
    assert sorted(db.read(reading.beginnings, 1, [5, 6, 1, 2, 1, 99], 50)) == expected
    assert db.read(reading.beginnings, 1, [large], 50) == [(large, b"", None)]
    assert db.read(reading.beginnings, 1, [3], 100_000) == [(3, PROLOGUES[3], OCTETS[3])]
    assert db.read(reading.beginnings, 2, [1, 2], 50) == []


def test_contents_without_the_tree(db: Db) -> None:
    found = db.read(emails.contents, 1, [1, 2], parts=False)
    assert {email: one._replace(parts=b"") for email, one in db.read(emails.contents, 1, [1, 2]).items()} == found


def test_save_dates_are_of_placements(db: Db) -> None:
    db.write(placing.copy, 1, INBOX, [1], ARCHIVE, NOW + 5000)
    assert db.read(reading.save_dates, 1, ARCHIVE, [1, 2]) == {1: NOW + 5000}


def test_another_accounts_mail_is_not_found(db: Db) -> None:
    assert db.read(reading.values, 2, [1, 2]).emails == ()
    assert db.read(reading.sizes, 2, [1, 2]) == {}
    found = db.read(reading.wholes, 2, [1, 2])
    assert found is not None
    assert list(found.octets) == []


def test_what_retention_dropped_is_gone(db: Db) -> None:
    assert db.write(retention.drop_expunged, NOW + 1, NOW) == 2
    assert list(db.read(reading.values, 1, [1, 2, 3, 5]).emails) == [1, 3]
    assert db.read(reading.sizes, 1, [2, 5]) == {}
