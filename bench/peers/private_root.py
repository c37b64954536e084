"""A private root: a Debian of its own for a daemon that must not be installed on the host.

Promises: packages go into an overlay above `/` that only processes started here see (a mount namespace), the daemon
lives in a PID namespace that ends with it, and nothing of the host is changed. The network is the host's loopback.
Refuses: to run without root, or where overlays cannot be mounted or nothing can be installed: Unavailable says why.
"""

import fcntl
import functools
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

# Kept between runs; the content is Debian's own.
CACHE = Path(os.environ.get("POSTHOUSE_PEERS", "/var/tmp/posthouse-peers"))

# `$1` is the root's directory; what follows is run in it. /proc is mounted anew because the PID namespace is new.
# The shell stays as the namespace's first process: when it ends, the kernel ends all others. It ends with unshare,
# which a daemon that changes its user, as Postfix does, would survive (prctl(2), PR_SET_PDEATHSIG).
_ENTER = """
set -e
root=$1; shift
mount -t overlay overlay -o lowerdir=/,upperdir="$root/upper",workdir="$root/work" "$root/merged"
mount -t proc proc "$root/merged/proc"
mount --rbind /dev "$root/merged/dev"
mkdir -p "$root/merged/peer"
mount --bind "$root/peer" "$root/merged/peer"
chroot "$root/merged" "$@" || exit $?
"""


class Unavailable(Exception):
    """There can be no private roots here; the message says why."""


@functools.cache
def _check() -> None:
    """Try one. Raises Unavailable."""
    if os.geteuid() != 0:
        raise Unavailable("private roots need root")
    if not shutil.which("apt-get") or not shutil.which("unshare"):
        raise Unavailable("private roots need Debian's apt-get and unshare")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        _make_parts(Path(scratch))
        trial = subprocess.run(_inside(Path(scratch), ["/bin/true"]), capture_output=True, text=True, check=False)
    if trial.returncode:
        raise Unavailable(f"overlays cannot be mounted here: {trial.stderr.strip()[-200:]}")


def _make_parts(root: Path) -> None:
    for part in ("upper", "work", "merged", "peer"):
        (root / part).mkdir(parents=True)


def _inside(root: Path, argv: Sequence[str]) -> list[str]:
    return [
        *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"),
        *("sh", "-c", _ENTER, "enter", str(root), *argv),
    ]


class PrivateRoot:
    """A root with `packages` installed. `peer` is a directory of the host that the root sees as /peer."""

    def __init__(self, name: str, packages: Sequence[str]) -> None:
        """Raises Unavailable."""
        _check()
        installed = self._installed(packages)
        self._root = Path(tempfile.mkdtemp(prefix=f"posthouse-{name}-", dir="/var/tmp"))
        _make_parts(self._root)
        # Stacking the overlays would be cheaper, but the kernel refuses layers of which one lies inside another.
        subprocess.run(["cp", "-a", f"{installed}/upper/.", f"{self._root}/upper"], check=True)
        self.peer = self._root / "peer"
        self.peer.chmod(0o755)

    @property
    def written(self) -> Path:
        """What was written in the root, seen from the host."""
        return self._root / "upper"

    @staticmethod
    def _installed(packages: Sequence[str]) -> Path:
        """The overlay with the packages in it, made once and kept under CACHE. Raises Unavailable."""
        CACHE.mkdir(parents=True, exist_ok=True)
        base = CACHE / hashlib.sha256(" ".join(packages).encode()).hexdigest()[:16]
        with (CACHE / "lock").open("w") as lock:
            # Another process may be at it.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (base / "complete").exists():
                PrivateRoot._install(packages, base)
        return base

    @staticmethod
    def _install(packages: Sequence[str], base: Path) -> None:
        shutil.rmtree(base, ignore_errors=True)
        _make_parts(base)
        # invoke-rc.d asks policy-rc.d: 101 means that no daemon is started by its installation.
        script = (
            "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d && "
            "export DEBIAN_FRONTEND=noninteractive && (apt-get update -q || true) && "
            f"apt-get install -y -q --no-install-recommends {' '.join(map(shlex.quote, packages))}"
        )
        done = subprocess.run(_inside(base, ["sh", "-c", script]), capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"cannot install {packages}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        (base / "complete").touch()

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run to the end inside the root."""
        return subprocess.run(_inside(self._root, argv), capture_output=True, text=True, check=check)

    def start(self, *argv: str, log: Path) -> "Daemon":
        """Start a daemon that stays in the foreground; its output goes to `log`."""
        with log.open("ab") as out:
            process = subprocess.Popen(
                # unshare ends with us, should we be killed.
                ["setpriv", "--pdeathsig", "KILL", *_inside(self._root, argv)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        return Daemon(process)

    def remove(self) -> None:
        """Delete everything the root wrote."""
        shutil.rmtree(self._root, ignore_errors=True)


class Daemon:
    """A running daemon and everything it started."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def pids(self) -> list[int]:
        """The processes in the daemon's namespace as the host numbers them, with the shell that reaps its orphans."""
        return self._tree()[1:]

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run to the end beside the daemon, where its sockets and processes are: what its own control program needs."""
        # The shell's first child is the daemon; those behind it are orphans, which may end any moment.
        _, shell = self._tree()[:2]
        daemon = _children(shell)[0]
        namespaces = ["nsenter", "--target", str(daemon), "--mount", "--pid", "--root", "--wd"]
        return subprocess.run([*namespaces, *argv], capture_output=True, text=True, check=check)

    def _tree(self) -> list[int]:
        found, seen = [self.process.pid], []
        while found:
            pid = found.pop()
            found += _children(pid)
            seen.append(pid)
        return seen

    def stop(self) -> None:
        """End the namespace's first process: unshare ends when all the others have."""
        if self.process.poll() is None:
            unshare_or_shell = self._tree()[:2][-1]
            os.kill(unshare_or_shell, signal.SIGKILL)
        self.process.wait(timeout=60)


def _children(pid: int) -> list[int]:
    """The oldest first; none where the process has ended."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
