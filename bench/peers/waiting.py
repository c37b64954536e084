"""Waiting for what another process does, bounded."""

import socket
import subprocess
import time
from collections.abc import Callable


def free_port(address: str = "127.0.0.1") -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(true: Callable[[], bool], seconds: float, what: str, pause: float = 0.02) -> None:
    """Ask until it is true; AssertionError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(pause)


def wait_for_greeting(address: str, port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    """Wait until the server speaks first there: a bound port accepts connections long before anybody serves them.

    AssertionError if `process` ends before that.
    """
    wait_for_port(address, port, process, seconds)
    with socket.create_connection((address, port), timeout=1) as probe:

        def greets() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the process ended with status {process.returncode} before it greeted on {port}")
            try:
                return bool(probe.recv(1000))
            except TimeoutError:
                return False

        wait_until(greets, seconds, f"a greeting from {address}:{port}")


def wait_for_port(address: str, port: int, process: subprocess.Popen[bytes] | None = None, seconds: float = 30) -> None:
    """Wait until something accepts connections there; AssertionError if `process` ends first."""

    def answers() -> bool:
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the process ended with status {process.returncode} before it listened on {port}")
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((address, port)) == 0

    wait_until(answers, seconds, f"{address}:{port}")
