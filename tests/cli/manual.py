"""The manual of the command, made from the commands themselves: `python -m tests.cli.manual` writes docs/cli.md."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from posthouse.cli.main import posthouse

PAGE = Path(__file__).parent.parent.parent / "docs" / "cli.md"
_HEAD = """\
# cli: the posthouse command

This page is made from the command itself by `python -m tests.cli.manual`; a test compares the two.

## What it promises

- An error that a person can mend is one line on standard error and status 1; a wrong command line is status 2.
- What scripts read is asked for with `--json` and goes to standard output alone. Times are RFC 3339 in UTC there.
- Every verb works on the store of a running server, which notices the change at once; no verb needs the server to run.
- Run as root, the command becomes the store's owner before it opens the store.
- What strangers wrote (addresses, subjects, replies) is printed so that it cannot steer the terminal.

## How it is laid out

`main.py` knows the verbs by name and imports the one that is called. `installation.py` is what every verb works on: the
configuration and the store. Each verb is a file; `queue_print.py` is how the queue reads; the demo has `docs/demo.md`.
A verb holds no mail's logic: it calls functions of the rooms below over a transaction, and prints.

**A new verb** is a file in `cli/` with a click command, a line in `VERBS` of `main.py`, a test in `tests/cli/`, and
this page made anew. **A new option** is a decorator with its help, and this page made anew.

## posthouse
"""


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every verb, and every verb of a verb, with its whole name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def render() -> str:
    """The whole page."""
    lines = [_HEAD, *_body("posthouse", posthouse)]
    for name, command in commands(posthouse, "posthouse"):
        lines += [f"{'#' * (1 + min(name.count(' '), 2))} {name}", "", *_body(name, command)]
    return "\n".join(lines).rstrip() + "\n"


def _body(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    yield f"    {name} {' '.join(command.collect_usage_pieces(context))}"
    yield ""
    yield from _prose(command.help or "")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield from _option(parameter, context)


def _prose(text: str) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            # click's mark for lines that stay as they are.
            yield from (f"    {line}" for line in paragraph.split("\n")[1:])
        else:
            yield paragraph
        yield ""


def _option(option: click.Option, context: click.Context) -> Iterator[str]:
    record = option.get_help_record(context)
    if record is not None:
        spelled, told = record
        yield f"#### {spelled}"
        yield ""
        yield told
        yield ""


if __name__ == "__main__":
    PAGE.write_text(render())
