"""What mail servers in private roots have in common: mail goes in by SMTP, and comes to rest in Maildirs."""

import os
import re
import shutil
import smtplib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from bench.peers.private_root import Daemon, PrivateRoot
from bench.peers.waiting import wait_for_port, wait_until


class Mta(ABC):
    """A mail server for `domain` at `address`:`port`, in a root of its own. Raises Unavailable (private_root).

    `reports` is the type of what it tells senders; `echoes`: with the ENVID and ORCPT that they wrote.
    """

    reports = "multipart/report"
    echoes = True

    def __init__(self, name: str, packages: Sequence[str], *, domain: str, address: str, port: int) -> None:
        self.root = PrivateRoot(name, packages)
        self.domain, self.address, self.port = domain, address, port
        self.etc = self.root.peer / "etc"
        self.mail = self.root.peer / "mail"
        self._daemon: Daemon | None = None
        self.etc.mkdir()
        self.mail.mkdir()
        self.mail.chmod(0o777)

    @property
    @abstractmethod
    def log(self) -> Path:
        """Where it tells what it does."""

    @property
    @abstractmethod
    def spool(self) -> Path:
        """Where it keeps what waits."""

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it listens."""

    @abstractmethod
    def hurry(self) -> None:
        """Have it try now what waits."""

    def _start(self, *argv: str) -> None:
        self._daemon = self.root.start(*argv, log=self.root.peer / "daemon.log")
        wait_for_port(self.address, self.port, self._daemon.process)

    @property
    def daemon(self) -> Daemon:
        """The running daemon."""
        assert self._daemon is not None, "not started"
        return self._daemon

    def resolve_at(self, address: str) -> None:
        """Ask this name server, at port 53, and believe it when it says that it has verified; before start()."""
        lines = f"nameserver {address}\noptions timeout:2 attempts:2 trust-ad\n"
        (self.etc / "resolv.conf").write_text(lines)
        self.root.run("cp", "/peer/etc/resolv.conf", "/etc/resolv.conf")

    def copy_pair(self, certificate: Path, key: Path, name: str = "") -> None:
        """Copy a certificate and its key into the root: /peer/etc/{name}cert.pem and key.pem."""
        for source, what in ((certificate, "cert"), (key, "key")):
            shutil.copy(source, self.etc / f"{name}{what}.pem")

    def submit(
        self,
        sender: str,
        recipients: Sequence[str],
        message: bytes,
        options: Sequence[str] = (),
        recipient_options: Sequence[str] = (),
    ) -> None:
        """Hand it a message by SMTP on its own port, with parameters of MAIL and of RCPT."""
        with smtplib.SMTP(self.address, self.port, timeout=30) as client:
            client.sendmail(sender, recipients, message, options, recipient_options)

    def mailbox(self, user: str) -> list[bytes]:
        """The messages in a user's Maildir, oldest first."""
        new = self.mail / user / "new"
        return [path.read_bytes() for path in sorted(new.iterdir())] if new.is_dir() else []

    def holds(self, *wanted: bytes) -> bool:
        """Whether a message waits that has all this in it."""
        files = (Path(where, name) for where, _, names in os.walk(self.spool) for name in names)
        return any(all(one in octets for one in wanted) for octets in map(_octets, files))

    def wait_for_log(self, pattern: str, seconds: float = 60) -> None:
        """Wait until its log has this, which may be after what is told there was seen elsewhere."""

        def told() -> bool:
            return re.search(pattern, self.log.read_text(errors="replace")) is not None

        try:
            wait_until(told, seconds, f"{pattern!r} in the log")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text(errors='replace')[-3000:]}") from error

    def delivered(self) -> int:
        """How many messages lie in all Maildirs."""
        return sum(1 for path in self.mail.glob("*/new/*"))

    def halt(self) -> None:
        """End its processes, as loss of power would; what it holds is kept."""
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None

    def stop(self) -> None:
        """End it and remove its root."""
        self.halt()
        self.root.remove()


def _octets(path: Path) -> bytes:
    """What stands in a file; b"" where it is none, or none any more."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except FileNotFoundError:
        return b""
