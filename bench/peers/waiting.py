"""Waiting for what another process does, bounded."""

import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack


def free_port(*addresses: str) -> int:
    """A port that was free a moment ago, at all these addresses; where none is named, at 127.0.0.1."""
    first, *others = addresses or ("127.0.0.1",)
    while True:
        with ExitStack() as stack:
            port: int = stack.enter_context(_bound(first, 0)).getsockname()[1]
            try:
                for other in others:
                    stack.enter_context(_bound(other, port))
            except OSError:
                continue
            return port


def _bound(address: str, port: int) -> socket.socket:
    probe = socket.socket()
    try:
        probe.bind((address, port))
    except OSError:
        probe.close()
        raise
    return probe


def wait_until(
    true: Callable[[], bool],
    seconds: float,
    what: str,
    pause: float = 0.02,
    meanwhile: Callable[[], None] | None = None,
) -> None:
    """Ask until it is true, doing something `meanwhile` each time; AssertionError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        if meanwhile is not None:
            meanwhile()
        time.sleep(pause)


def wait_for_greeting(address: str, port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    """Wait until the server speaks first there: a bound port accepts connections long before anybody serves them.

    AssertionError if `process` ends before that.
    """

    def greets() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the process ended with status {process.returncode} before it greeted on {port}")
        try:
            with socket.create_connection((address, port), timeout=1) as probe:
                return bool(probe.recv(1000))
        except OSError:
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
