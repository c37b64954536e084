from posthouse.cli.installation import Installation
from posthouse.directory import aliases
from posthouse.store.database import Tx
from posthouse.terms.address import Address, parse
from tests.cli.support import Command


def test_add_set_list_remove(command: Command) -> None:
    shown = command("alias", "add", "team@example.org", "a@far.example", "b@far.example")
    assert shown == "team@example.org stands for a@far.example, b@far.example\n"
    assert command("alias", "list") == "team@example.org → a@far.example, b@far.example\n"
    command("alias", "set", "team@example.org", "c@far.example")
    assert command.json("alias", "list") == [{"address": "team@example.org", "targets": ["c@far.example"]}]
    assert command("alias", "remove", "team@example.org") == "team@example.org is no alias any more\n"
    assert command("alias", "list") == ""


def test_more_aliases_than_a_batch_are_all_listed(command: Command) -> None:
    def add_many(tx: Tx) -> None:
        for number in range(1200):
            aliases.add_alias(tx, Address(f"A{number}", "example.org"), [parse("x@far.example")])

    Installation(command.configuration).write(add_many)
    assert len(command.json("alias", "list")) == 1200


def test_errors_are_one_line(command: Command) -> None:
    assert command.error("alias", "remove", "x@example.org") == "there is no alias x@example.org"
    assert command.error("alias", "add", "x@far.example", "a@b.example") == "domain far.example is not served here"
    command("alias", "add", "team@example.org", "a@far.example")
    assert "taken" in command.error("alias", "add", "team@example.org", "b@far.example")
    assert command.result("alias", "add", "team@example.org").exit_code == 2
    assert command.result("alias", "add", "team", "a@far.example").exit_code == 2
