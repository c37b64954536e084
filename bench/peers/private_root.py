"""A private root: a Debian of its own for a daemon that must not be installed on the host.

Promises: packages go into an overlay above `/` that only processes started here see (a mount namespace), the daemon
lives in a PID namespace that ends with it, and nothing of the host is changed. The network is the host's loopback.
Refuses: to run without root, or where overlays cannot be mounted; `unavailable()` says why.
"""

import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(
    os.environ.get("POSTHOUSE_PEERS", "/var/tmp/posthouse-peers")
)  # a cache between runs; the content is Debian's own

# `$1` is the root's directory; what follows is run in it. /proc is mounted anew because the PID namespace is new.
_ENTER = """
set -e
root=$1; shift
mount -t overlay overlay -o lowerdir=/,upperdir="$root/upper",workdir="$root/work" "$root/merged"
mount -t proc proc "$root/merged/proc"
mount --rbind /dev "$root/merged/dev"
mkdir -p "$root/merged/peer"
mount --bind "$root/peer" "$root/merged/peer"
exec chroot "$root/merged" "$@"
"""


@functools.cache
def unavailable() -> str | None:
    """Why private roots cannot be used here; None where they can."""
    if os.geteuid() != 0:
        return "private roots need root"
    if not shutil.which("apt-get") or not shutil.which("unshare"):
        return "private roots need Debian's apt-get and unshare"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        _make_parts(Path(scratch))
        trial = subprocess.run(_inside(Path(scratch), ["/bin/true"]), capture_output=True, text=True, check=False)
    return None if trial.returncode == 0 else f"overlays cannot be mounted here: {trial.stderr.strip()[-200:]}"


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
        installed = self._installed(packages)
        self._root = Path(tempfile.mkdtemp(prefix=f"posthouse-{name}-", dir="/var/tmp"))
        _make_parts(self._root)
        # Stacking the overlays would be cheaper, but the kernel refuses layers of which one lies inside another.
        subprocess.run(["cp", "-a", f"{installed}/upper/.", f"{self._root}/upper"], check=True)
        self.peer = self._root / "peer"
        self.peer.chmod(0o755)

    @staticmethod
    def _installed(packages: Sequence[str]) -> Path:
        """The overlay with the packages in it, made once and kept under CACHE."""
        CACHE.mkdir(parents=True, exist_ok=True)
        base = CACHE / hashlib.sha256(" ".join(packages).encode()).hexdigest()[:16]
        if (base / "complete").exists():
            return base
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
            raise RuntimeError(f"cannot install {packages}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        (base / "complete").touch()
        return base

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run to the end inside the root."""
        return subprocess.run(_inside(self._root, argv), capture_output=True, text=True, check=check)

    def start(self, *argv: str, log: Path) -> "Daemon":
        """Start a daemon that stays in the foreground; its output goes to `log`."""
        with log.open("ab") as out:
            process = subprocess.Popen(
                _inside(self._root, argv),
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
        """The processes of the daemon as the host numbers them, unshare itself left out."""
        found, seen = [self.process.pid], []
        while found:
            pid = found.pop()
            children = Path(f"/proc/{pid}/task/{pid}/children")
            if children.exists():
                found += [int(child) for child in children.read_text().split()]
            seen.append(pid)
        return seen[1:]

    def stop(self) -> None:
        """End it; the kernel ends the whole PID namespace with its first process."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=30)
