from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from posthouse.cli.main import VERBS, posthouse
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
