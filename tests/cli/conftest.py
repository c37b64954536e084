"""An installation that serves example.org."""

from pathlib import Path

import pytest

from tests.cli.support import Command


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command, on an installation that `posthouse init` made."""
    command = Command(tmp_path)
    command("init", "--domain", "example.org", "--hostname", "mail.example.org")
    return command
