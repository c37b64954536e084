"""Clients and servers nobody here wrote. Where one is missing the test says so; in CI that is a failure.

docs/interop.md tells which of them were seen to work.
"""

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


@pytest.fixture(scope="module")
def server() -> Iterator[PosthouseServer]:
    """A posthouse for example.test with TLS everywhere and the accounts alice, bob and carol."""
    running = PosthouseServer(
        domain="example.test", users=["alice", "bob", "carol"], listeners=ENCRYPTED, settings=SETTINGS
    )
    try:
        running.start()
        yield running
        assert running.errors() == []
    finally:
        running.stop()
