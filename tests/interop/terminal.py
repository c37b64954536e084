"""A person at a terminal: presses keys, and reads what a program writes between the sequences that paint the screen."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from bench.peers.waiting import wait_until

_PAINT = re.compile(rb"\x1b(\[[0-9;?<>=!]*[ -/]*[@-~]|[()][0-9A-B]|[=>78MNOHDEc]|\][^\x07\x1b]*(\x07|\x1b\\))")
SECONDS = 90


class Terminal:
    """A program with a terminal of its own, 40 lines of 200 columns; as a context it is ended."""

    def __init__(self, argv: Sequence[str], directory: Path, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        try:
            self._process = subprocess.Popen(
                ["setsid", "--ctty", *argv],  # or the program could not open /dev/tty
                cwd=directory,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env={**os.environ, "TERM": "xterm", "HOME": str(directory), "LC_ALL": "C.UTF-8", **environment},
            )
        finally:
            os.close(theirs)
        self._written = b""

    def press(self, keys: str) -> None:
        """Press keys once the program waits: some throw away what comes before. What it has written is forgotten."""
        self.until(self._sleeps, "a program that waits")
        self._read(0)
        self._written = b""
        os.write(self._ours, keys.encode())

    def _sleeps(self) -> bool:
        """Neither running nor stopped (proc(5))."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] not in "RDTt"

    def shows(self, words: str) -> None:
        """Wait until the program writes this; AssertionError with what it wrote instead."""
        deadline = time.monotonic() + SECONDS
        while words not in self.text():
            assert time.monotonic() < deadline, f"waited in vain for {words!r}:\n{self.text()[-3000:]}"
            self._read(0.1)

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait until something is true outside, and read meanwhile, or the program might wait for that."""
        try:
            wait_until(true, SECONDS, what, pause=0.1, meanwhile=lambda: self._read(0))
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.text()[-3000:]}") from error

    def text(self) -> str:
        """What it has written since the last key, with a space for whatever moved the cursor."""
        return " ".join(_PAINT.sub(b" ", self._written).decode(errors="replace").split())

    def ends(self) -> int:
        """Wait until it ends by itself; its exit status."""
        deadline = time.monotonic() + SECONDS
        while (status := self._process.poll()) is None:
            assert time.monotonic() < deadline, f"it does not end:\n{self.text()[-3000:]}"
            self._read(0.1)
        return status

    def _read(self, seconds: float) -> None:
        while select.select([self._ours], [], [], seconds)[0]:
            try:
                octets = os.read(self._ours, 65536)
            except OSError:  # Linux's way to say that nobody has the other side any more
                return
            self._written += octets
            seconds = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(timeout=SECONDS)
        os.close(self._ours)
