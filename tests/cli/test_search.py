"""`posthouse search`, on a store with mail."""

from posthouse.cli.installation import Installation
from posthouse.directory import accounts
from posthouse.mailbox import search as words
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from tests.cli.support import Command
from tests.mailbox.support import file, message

MARKS = "SELECT a.name, s.search_mark FROM account AS a JOIN account_state AS s ON s.account = a.id ORDER BY a.name"
COUNT = "SELECT count(*) FROM email_words WHERE email_words MATCH 'coach'"


def fill(tx: Tx) -> None:
    for name, count in (("alice@example.org", 3), ("bob@example.org", 2)):
        account = accounts.create_account(tx, parse(name), now=1).id
        for number in range(count):
            file(tx, account, message(f"Coach {number}"))


def spoil(tx: Tx) -> None:
    """An index that has lost everything, and says that it has it."""
    while words.index_pending(tx).full:
        pass
    tx.query("DELETE FROM email_words", ())


def test_an_account_is_indexed_anew(command: Command) -> None:
    installation = Installation(command.configuration)
    installation.write(fill)
    installation.write(spoil)
    assert installation.read(lambda tx: tx.query(COUNT, ())) == [(0,)]
    assert command("search", "reindex", "bob@example.org") == "bob@example.org: 2 emails indexed\n"
    assert installation.read(lambda tx: tx.query(COUNT, ())) == [(2,)]


def test_every_account_is_indexed_anew(command: Command) -> None:
    installation = Installation(command.configuration)
    installation.write(fill)
    installation.write(spoil)
    assert command.json("search", "reindex") == [
        {"account": "alice@example.org", "emails": 3},
        {"account": "bob@example.org", "emails": 2},
    ]
    assert installation.read(lambda tx: tx.query(COUNT, ())) == [(5,)]
    assert installation.read(lambda tx: tx.query(MARKS, ())) == [("alice@example.org", 3), ("bob@example.org", 2)]


def test_an_account_that_is_not_there(command: Command) -> None:
    Installation(command.configuration).write(fill)
    assert "no account" in command.error("search", "reindex", "carol@example.org")
