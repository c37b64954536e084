"""PLAIN: what its message may be."""

import pytest

from posthouse.wire.sasl import mechanisms
from posthouse.wire.sasl.exchange import (
    Failure,
    NeedPassword,
    Step,
)


@pytest.mark.parametrize(
    ("message", "step"),
    [
        (b"\0user\0pencil", NeedPassword("user", "pencil")),
        (b"user\0user\0pencil", NeedPassword("user", "pencil")),
        (b"root\0user\0pencil", Failure("acting as somebody else is not possible")),
        (b"user\0pencil", Failure("PLAIN wants three parts", malformed=True)),
        (b"\0user\0pen\0cil", Failure("PLAIN wants three parts", malformed=True)),
        (b"\0\0pencil", Failure("a name or password is empty", malformed=True)),
        (b"\0user\0", Failure("a name or password is empty", malformed=True)),
        (b"\0user\0\xff", Failure("a name or password is no UTF-8", malformed=True)),
        (b"\0user\0" + b"x" * 2000, Failure("a name or password is too long", malformed=True)),
    ],
)
def test_plain(message: bytes, step: Step) -> None:
    assert mechanisms.server("PLAIN", "").start(message) == step
