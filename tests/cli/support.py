"""Running the command as people and scripts do, on an installation of the test's own."""

import json
from pathlib import Path
from typing import Any

import apsw
from click.testing import CliRunner, Result

from posthouse.cli.main import posthouse


class Command:
    """`posthouse -c <directory>/posthouse.toml …`, in this process."""

    def __init__(self, directory: Path) -> None:
        self.configuration = directory / "posthouse.toml"

    def result(self, *argv: str, stdin: str | bytes | None = None) -> Result:
        """Run it, however it ends; what it raises, other than how commands end, is raised here."""
        result = CliRunner().invoke(posthouse, ["-c", str(self.configuration), *argv], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def __call__(self, *argv: str, stdin: str | bytes | None = None) -> str:
        """Standard output of a command that succeeds."""
        result = self.result(*argv, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def error(self, *argv: str, stdin: str | None = None) -> str:
        """The one line on standard error of a command that fails with status 1."""
        result = self.result(*argv, stdin=stdin)
        assert result.exit_code == 1, result.output
        assert result.stdout == ""
        assert result.stderr.startswith("posthouse: ")
        assert result.stderr.count("\n") == 1, result.stderr
        return result.stderr.removeprefix("posthouse: ").rstrip("\n")

    def json(self, *argv: str) -> Any:
        """What it prints with --json."""
        return json.loads(self(*argv, "--json"))


def make_newer(database: Path) -> None:
    """Make a store look as if a later posthouse had opened it."""
    connection = apsw.Connection(str(database))
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
