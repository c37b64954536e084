import click

from posthouse.cli.main import posthouse
from tests.cli.manual import PAGE, commands, render


def test_the_manual_is_what_the_command_says() -> None:
    assert PAGE.read_text() == render(), "make it anew: python -m tests.cli.manual"


def test_every_verb_and_option_has_its_heading() -> None:
    headings = [line.lstrip("# ") for line in PAGE.read_text().splitlines() if line.startswith("#")]
    for name, command in commands(posthouse, "posthouse"):
        assert name in headings
        own = headings[headings.index(name) + 1 :]
        for option in command.params:
            if isinstance(option, click.Option):
                assert any(heading.startswith(option.opts[0]) for heading in own), f"{name} {option.opts[0]}"
