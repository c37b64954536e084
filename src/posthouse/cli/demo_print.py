"""How the demo speaks: numbered parts, explanations, protocol lines, what the servers did, and how long each took.

Promises: everything is printed the moment it is told. Colours stand only on a terminal, and NO_COLOR turns them off.
"""

import os
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any, Final

import click

from posthouse.cli.plain import length, printable

_MOST_WIDTH: Final = 100
_INDENT: Final = "   "
# Of a message that passes: this many of its lines from the start, and from the end.
_FIRST_LINES: Final = 28
_LAST_LINES: Final = 3
_HANGING: Final = "      "
_LONGEST_LINE: Final = 600
_COLOURS: Final = {"C:": "cyan", "S:": "green", "--": "magenta"}


class Teller:
    """Tells the story on standard output."""

    def __init__(self) -> None:
        self._part = 0
        self._empty = True
        self._said: set[str] = set()
        self._width = min(shutil.get_terminal_size((_MOST_WIDTH, 24)).columns, _MOST_WIDTH)
        self._color = False if os.environ.get("NO_COLOR") else None

    def title(self, text: str) -> None:
        """What this is about, at the very beginning."""
        self._echo(click.style(text, bold=True))

    def part(self, text: str) -> None:
        """A new part of the story."""
        self._part += 1
        self.gap()
        self._echo(click.style(f"━━ {self._part}. {text}", bold=True))
        self.gap()

    def say(self, text: str) -> None:
        """An explanation, for somebody who has never seen this; each once."""
        if text in self._said:
            return
        self._said.add(text)
        self.gap()
        width = self._width - len(_INDENT)
        for line in textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False):
            self._echo(_INDENT + line)
        self.gap()

    def gap(self) -> None:
        """An empty line, one at most."""
        if not self._empty:
            self._echo("")

    def client(self, line: str) -> None:
        """A line that a client said."""
        self._line("C:", line)

    def server(self, line: str, took: float | None = None) -> None:
        """A line that a server answered; `took`: seconds since it was asked."""
        self._line("S:", line, _took(took))

    def between(self, text: str, took: float | None = None) -> None:
        """What happened on a connection besides lines, such as TLS."""
        self._line("--", text, _took(took))

    def message(self, who: str, octets: bytes) -> None:
        """A whole message that passes; the middle of a long one is left out."""
        lines = octets.decode("utf-8", "replace").removesuffix("\r\n").split("\r\n")
        left_out = len(lines) - _FIRST_LINES - _LAST_LINES
        if left_out <= 1:
            self.verbatim([f"{who} {line}" for line in lines])
            return
        self.verbatim([f"{who} {line}" for line in lines[:_FIRST_LINES]])
        self.between(f"({left_out:,} lines are not shown)")
        self.verbatim([f"{who} {line}" for line in lines[-_LAST_LINES:]])

    def verbatim(self, lines: Sequence[str]) -> None:
        """A conversation: "C: …" and "S: …"."""
        for line in lines:
            who, _, text = line.partition(" ")
            self._line(who, text)

    def did(self, server: str, text: str, took: int | None = None) -> None:
        """A step that a server took by itself; `took`: milliseconds since the step before it."""
        since = "" if took is None else f"+{length(took)}" if took >= 10 else f"+{took} ms"
        self._wrapped(click.style(f"[{server}]", fg="yellow"), len(server) + 2, text, since)

    def quote(self, text: str) -> None:
        """A long line that is somebody else's."""
        self._wrapped(click.style("·", dim=True), 1, text, "")

    def fact(self, text: str) -> None:
        """Something to look at or to copy, as it is."""
        self._echo(f"{_INDENT}{text}" if text else "")

    def verdict(self, good: bool, text: str) -> None:
        """How something came out."""
        mark = click.style("✓", fg="green", bold=True) if good else click.style("✗", fg="red", bold=True)
        self._echo(f"{_INDENT}{mark} {text}")

    def _line(self, who: str, text: str, took: str = "") -> None:
        self._wrapped(click.style(who, fg=_COLOURS.get(who)), len(who), text, took, _COLOURS.get(who))

    def _wrapped(self, mark: str, mark_width: int, text: str, took: str, colour: str | None = None) -> None:
        """Behind its mark, in as many lines as it needs."""
        text = printable(text.replace("\t", "    "))
        if len(text) > _LONGEST_LINE:
            text = f"{text[:_LONGEST_LINE]}…"
        room = self._width - len(_INDENT) - 1
        lines = [text]
        if mark_width + len(text) > room:
            before = "·" * mark_width
            wrapper = textwrap.TextWrapper(room, initial_indent=before, subsequent_indent=_HANGING)
            wrapper.break_on_hyphens = False
            lines = wrapper.wrap(text)
            lines[0] = lines[0].removeprefix(before)
        shown = [click.style(line, fg=colour) for line in lines]
        if took:
            shown[-1] += click.style(f"   ({took})", dim=True)
        self._echo(f"{_INDENT}{mark} " + f"\n{_INDENT}".join(shown))

    def _echo(self, text: str) -> None:
        self._empty = not text
        click.echo(text, color=self._color)


def _took(seconds: float | None) -> str:
    return "" if seconds is None else length(seconds * 1000)


def shown(table: Sequence[tuple[str, Any]]) -> list[str]:
    """Pairs as lines, the second column aligned."""
    width = max(len(name) for name, _ in table)
    return [f"{name:{width}}  {value}" for name, value in table]
