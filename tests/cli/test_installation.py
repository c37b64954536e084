import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent.parent / "src"


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory that every user can enter."""
    path = Path(tempfile.mkdtemp(prefix="posthouse-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def posthouse(directory: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "posthouse", "-c", str(directory / "posthouse.toml"), *argv],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_root_becomes_the_stores_owner(shared: Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    data = shared / "data"
    data.mkdir()
    os.chown(data, nobody, -1)
    (shared / "posthouse.toml").write_text('hostname = "mail.example.org"\ndata = "data"\n')
    done = posthouse(shared, "domain", "add", "example.org")
    if done.returncode:
        # Where Python itself lies in root's own directory.
        assert "cannot be read by user" in done.stderr
        assert done.stderr.count("\n") == 1
    else:
        assert {path.stat().st_uid for path in data.iterdir()} == {nobody}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_user_that_does_not_exist_is_one_line(shared: Path) -> None:
    (shared / "posthouse.toml").write_text('hostname = "mail.example.org"\ndata = "data"\nuser = "nobody-at-all"\n')
    done = posthouse(shared, "domain", "add", "example.org")
    assert done.returncode == 1
    assert done.stderr == "posthouse: user or group: getpwnam(): name not found: 'nobody-at-all'\n"


def test_it_runs_as_a_module_and_prints_nothing_but_json(shared: Path) -> None:
    (shared / "posthouse.toml").write_text('hostname = "mail.example.org"\ndata = "data"\n')
    done = posthouse(shared, "domain", "list", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_nobody_else_reads_the_store(shared: Path) -> None:
    """Its directory was made by others, who let everybody in; the database was readable for everybody then."""
    data = shared / "data"
    data.mkdir()
    data.chmod(0o755)
    (shared / "posthouse.toml").write_text('hostname = "mail.example.org"\ndata = "data"\n')
    for domain in ("example.org", "example.com"):
        assert posthouse(shared, "domain", "add", domain).returncode == 0
        assert not [path for path in data.iterdir() if stat.S_IMODE(path.stat().st_mode) & 0o077]
        # As it was made before.
        (data / "posthouse.db").chmod(0o644)
    assert posthouse(shared, "backup", str(shared / "copy")).returncode == 0
    made = [shared / "copy", *(shared / "copy").rglob("*")]
    assert not [path for path in made if stat.S_IMODE(path.stat().st_mode) & 0o077]
