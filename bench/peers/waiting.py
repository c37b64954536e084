"""Ports for other processes, and waiting for what they do, bounded."""

import errno
import random
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

# Below, browsers refuse some ports, and many programs have their places.
_LEAST = 11_000
_BLOCK = 100
# Whoever seeds the common one would ask for the same ports again.
_random = random.SystemRandom()
_left: list[int] = []


def free_port(*addresses: str) -> int:
    """A port that nobody has at these addresses, at 127.0.0.1 where none is named; it is given out once.

    Nobody takes it before a server does, or while that is down: the system gives no such port out by itself, where it
    leaves any, and other processes that ask here get others for as long as this one runs.
    """
    while True:
        if not _left:
            _left.extend(_block())
        port = _left.pop()
        if all(_is_free(address, port) for address in addresses or ("127.0.0.1",)):
            return port


def _block() -> range:
    """Ports that are this process's: it keeps a name for them among the abstract sockets, which ends with it."""
    lowest_of_system = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    end = lowest_of_system if lowest_of_system >= _LEAST + 50 * _BLOCK else 65_536
    while True:
        first = _random.randrange(_LEAST, end - _BLOCK + 1, _BLOCK)
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            name.bind(f"\0posthouse-ports-{first}")
        except OSError:
            name.close()
            continue
        name.detach()
        return range(first, first + _BLOCK)


def _is_free(address: str, port: int) -> bool:
    """For streams and for datagrams."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ExitStack() as stack:
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                stack.enter_context(socket.socket(family, kind)).bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


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


def wait_for_greeting(address: str, port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
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


def wait_for_port(address: str, port: int, process: subprocess.Popen[bytes] | None = None, seconds: float = 60) -> None:
    """Wait until something accepts connections there; AssertionError if `process` ends first."""

    def answers() -> bool:
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the process ended with status {process.returncode} before it listened on {port}")
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((address, port)) == 0

    wait_until(answers, seconds, f"{address}:{port}")
