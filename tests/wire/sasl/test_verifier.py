"""What is stored in a password's stead."""

from posthouse.wire.sasl.exchange import (
    ChannelBinding,
    NeedPassword,
)
from posthouse.wire.sasl.verifier import make_verifier
from tests.wire.sasl.exchanges import VERIFIER, check_password


def test_check_password() -> None:
    assert check_password(VERIFIER, "pencil")
    assert not check_password(VERIFIER, "Pencil")
    assert check_password(make_verifier("\u2168", b"s", 4096), "IX")


def test_secrets_are_not_shown() -> None:
    shown = repr([VERIFIER, NeedPassword("user", "pencil"), ChannelBinding("tls-exporter", b"secret")])
    assert "pencil" not in shown
    assert "secret" not in shown
    assert repr(VERIFIER.stored_key) not in shown
