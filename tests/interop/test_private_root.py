"""What runs in a private root leaves nothing behind."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.peers.postfix import PACKAGES
from bench.peers.private_root import Daemon, PrivateRoot, Unavailable
from bench.peers.waiting import wait_until
from tests.interop.clients import missing

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]


@pytest.fixture
def root() -> Iterator[PrivateRoot]:
    try:
        root = PrivateRoot("trial", PACKAGES)
    except Unavailable as why:
        missing(str(why))
    yield root
    root.remove()


def stopped(daemon: Daemon) -> None:
    daemon.stop()


def killed_with_unshare(daemon: Daemon) -> None:
    daemon.process.kill()
    daemon.process.wait(timeout=30)


@pytest.mark.parametrize("end", [stopped, killed_with_unshare])
def test_a_daemon_that_changed_its_user_ends_with_its_root(root: PrivateRoot, end: Callable[[Daemon], None]) -> None:
    daemon = root.start(*("setpriv", "--reuid=65534", "--clear-groups", "sleep", "600"), log=root.peer / "log")
    wait_until(lambda: any(name(pid) == "sleep" for pid in daemon.pids()), 60, "the daemon")
    pids = daemon.pids()
    end(daemon)
    wait_until(lambda: not any(name(pid) for pid in pids), 60, "the end of all its processes")


def name(pid: int) -> str:
    """What runs under this number; "" where nothing does, or what did has ended and waits for its parent."""
    try:
        before, _, behind = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if behind.split()[0] in "ZX" else before.partition("(")[2]


def test_what_is_written_inside_is_not_seen_outside(root: PrivateRoot) -> None:
    root.run("touch", "/etc/written-inside")
    assert not Path("/etc/written-inside").exists()
    assert root.run("test", "-e", "/etc/written-inside", check=False).returncode == 0
