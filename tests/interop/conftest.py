"""Clients and servers nobody here wrote. Where one is missing the test says so; in CI that is a failure."""

import os
import shutil
from collections.abc import Iterator

import pytest

from bench.posthouse_server import ENCRYPTED, PosthouseServer

# Loopback ports are free to use, and one machine plays many clients.
SETTINGS = """
[limits]
connections_per_address = 500
connection_rate = "100000/1m"
message_rate = "100000/1m"
submission_rate = "100000/1m"
"""


def require(program: str) -> str:
    """The path of a client; the test is not run, or fails in CI, where it is not installed."""
    path = shutil.which(program)
    if path is None:
        missing(f"{program} is not installed (apt-get install {program})")
    assert path is not None
    return path


def missing(why: str) -> None:
    """Say that the test was not run, and why; in CI that is a failure."""
    if os.environ.get("POSTHOUSE_REQUIRE_INTEROP"):
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="module")
def server() -> Iterator[PosthouseServer]:
    """A posthouse for example.test with TLS everywhere and the accounts alice and bob."""
    running = PosthouseServer(
        domain="example.test", users=["alice", "bob", "carol"], listeners=ENCRYPTED, settings=SETTINGS
    )
    try:
        running.start()
        yield running
    finally:
        running.stop()
