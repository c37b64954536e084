from posthouse.cli.installation import Installation
from posthouse.directory import accounts, suppression
from posthouse.store.database import Tx
from posthouse.terms.address import parse
from tests.cli.support import Command


def fill(tx: Tx) -> None:
    alice = accounts.create_account(tx, parse("alice@example.org"), now=1).id
    suppression.note(tx, alice, parse("gone@far.example"), "no such user", "550 5.1.1 no such user", 1_767_225_600_000)
    suppression.note(tx, alice, parse("full@far.example"), "full", "552 5.2.2 full", 1_767_225_600_000)


def test_the_list_is_read_and_cleared(command: Command) -> None:
    Installation(command.configuration).write(fill)
    assert command("suppression", "list", "alice@example.org").splitlines() == [
        "  full@far.example  full, 1×, last 2026-01-01T00:00:00Z",
        "    552 5.2.2 full",
        "! gone@far.example  no such user, 1×, last 2026-01-01T00:00:00Z",
        "    550 5.1.1 no such user",
    ]
    told = command.json("suppression", "list", "alice@example.org")
    assert [(one["address"], one["stops"]) for one in told] == [("full@far.example", False), ("gone@far.example", True)]
    assert "1 taken off" in command("suppression", "clear", "alice@example.org", "full@far.example")
    assert "1 taken off" in command("suppression", "clear", "alice@example.org", "--all")
    assert command.json("suppression", "list", "alice@example.org") == []


def test_errors_are_one_line(command: Command) -> None:
    Installation(command.configuration).write(fill)
    assert "not on the list" in command.error("suppression", "clear", "alice@example.org", "x@far.example")
    assert "no account" in command.error("suppression", "list", "bob@example.org")
    assert command.result("suppression", "clear", "alice@example.org").exit_code == 2
