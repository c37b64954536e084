from pathlib import Path

from tests.cli.support import Command


def test_records_of_every_domain(command: Command) -> None:
    command("domain", "add", "someschool.example")
    found = command.json("dns")
    mx = [(one["name"], one["value"]) for one in found if one["type"] == "MX"]
    assert mx == [("example.org.", "10 mail.example.org."), ("someschool.example.", "10 mail.example.org.")]
    assert "_imaps._tcp.someschool.example." in command("dns")


def test_records_of_one_domain_served_or_not(command: Command) -> None:
    shown = command("dns", "New.example.")
    assert "new.example.                    IN MX   10 mail.example.org." in shown
    assert "\nexample.org." not in shown


def test_a_name_that_is_none(command: Command) -> None:
    assert command.error("dns", "not a name").startswith("not a name: ")


def test_no_domain_yet(tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.configuration.write_text('hostname = "mail.example.org"\ndata = "data"\n')
    assert command("dns") == "no domain is served yet; `posthouse domain add NAME`\n"
    assert command.json("dns") == []
