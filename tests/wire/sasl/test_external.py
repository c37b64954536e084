"""EXTERNAL: whom a certificate lets in."""

import pytest

from posthouse.wire.sasl import mechanisms
from posthouse.wire.sasl.exchange import (
    Challenge,
    Failure,
    Success,
)
from tests.wire.sasl.exchanges import PROVEN


@pytest.mark.parametrize(
    ("named", "step"),
    [
        (b"", Success("alice@example.org")),
        (b"A@example.org", Success("a@example.org")),
        (b"bob@example.org", Failure("the certificate is for somebody else")),
        (b"\xff", Failure("a name or password is no UTF-8", malformed=True)),
    ],
)
def test_a_certificate_logs_in_whom_it_names(named: bytes, step: Success | Failure) -> None:
    # RFC 4422 appendix A
    server = mechanisms.server("EXTERNAL", "", PROVEN)
    assert server.start(None) == Challenge(b"")
    assert server.respond(named) == mechanisms.server("EXTERNAL", "", PROVEN).start(named) == step
