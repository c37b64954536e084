import io
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from posthouse.cli.main import VERBS, main, posthouse
from tests.cli.manual import commands
from tests.cli.support import Command, make_newer

EVERY = [(name.split()[1:], command) for name, command in commands(posthouse, "posthouse")]


@pytest.mark.parametrize("path", [path for path, _ in EVERY], ids=" ".join)
def test_help_of_every_verb_is_worth_reading(path: list[str]) -> None:
    result = CliRunner().invoke(posthouse, [*path, "--help"])
    assert result.exit_code == 0
    usage, _, text = result.stdout.partition("\n")
    assert usage.startswith("Usage: ")
    first = text.strip().splitlines()[0]
    assert len(first) > 15, "a sentence that says what it does"
    assert first.startswith(" ") is False


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[" ".join(path) for path, _ in EVERY])
def test_every_option_says_what_it_does(path: list[str], command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert len(parameter.help or "") > 5, f"{' '.join(path)} {parameter.opts}"


def test_the_overview_names_every_verb() -> None:
    shown = CliRunner().invoke(posthouse, ["--help"], terminal_width=200, max_content_width=200).stdout
    for name, (_, _, line) in VERBS.items():
        assert f"  {name}" in shown
        assert line in shown


def test_an_unknown_verb_is_a_wrong_command_line() -> None:
    result = CliRunner().invoke(posthouse, ["deliver"])
    assert result.exit_code == 2
    assert "No such command" in result.stderr


def test_version() -> None:
    assert CliRunner().invoke(posthouse, ["--version"]).stdout.startswith("posthouse, version ")


def test_without_a_configuration_the_way_to_one_is_told(tmp_path: Path) -> None:
    error = Command(tmp_path).error("domain", "list")
    assert error == f"there is no configuration {tmp_path}/posthouse.toml; `posthouse init` writes one"


def test_a_broken_configuration_is_one_line_that_names_file_and_key(tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.configuration.write_text('hostname = "mail.example.org"\n[queue]\nexpiry = "5d"\n')
    assert command.error("queue", "list").startswith(f"{command.configuration}: queue.expiry: found an unknown setting")


def test_a_store_of_a_newer_version_is_one_line(command: Command) -> None:
    make_newer(command.configuration.parent / "data" / "posthouse.db")
    assert "newer" in command.error("domain", "list")


def test_a_store_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    command = Command(tmp_path)
    (tmp_path / "data").write_text("a file")
    command.configuration.write_text('hostname = "mail.example.org"\ndata = "data"\n')
    assert command.error("domain", "list") == f"{tmp_path}/data: file exists"


@pytest.mark.parametrize(
    "argv",
    [
        ("account", "add", "bob@example.org", "--password", "long enough for us", "--name", "B\udcfcb"),
        ("block", "add", "192.0.2.1", "--reason", "\udcff"),
        ("queue", "list", "--sender", "\udcff"),
    ],
)
def test_octets_that_are_no_text_are_one_line(command: Command, argv: tuple[str, ...]) -> None:
    """PEP 383: so they reach us."""
    assert command.error(*argv) == "something in this command is not UTF-8 text"


@pytest.mark.parametrize(
    "argv",
    [
        ("account", "quota", "alice@example.org", "--emails", "9" * 20),
        ("account", "set", "alice@example.org", "--submission-recipients", "9" * 20),
        ("queue", "list", "--limit", "9" * 20),
        ("list", "held", "show", "team@example.org", "9" * 20),
        ("list", "held", "approve", "team@example.org", "9" * 20),
        ("list", "held", "refuse", "team@example.org", "9" * 20),
    ],
)
def test_numbers_that_the_store_cannot_hold_are_a_wrong_command_line(command: Command, argv: tuple[str, ...]) -> None:
    result = command.result(*argv)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is not in the range" in result.stderr


def test_what_the_terminal_has_no_letter_for_is_spelled_out(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command("account", "add", "alice@example.org", "--password", "long enough for us")
    command("alias", "add", "info@example.org", "alice@example.org")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    monkeypatch.setattr(sys, "argv", ["posthouse", "-c", str(command.configuration), "alias", "list"])
    with pytest.raises(SystemExit) as ended:
        main()
    sys.stdout.flush()
    assert (ended.value.code, written.getvalue()) == (0, b"info@example.org \\u2192 alice@example.org\n")
