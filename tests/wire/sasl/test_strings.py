"""SASLprep: the RFC's own examples."""

import pytest

from posthouse.wire.sasl.strings import SaslError, saslprep
from posthouse.wire.sasl.verifier import make_verifier


# RFC 4013 §3
@pytest.mark.parametrize(
    ("text", "prepared"),
    [("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX"), ("a\u3000b", "a b")],
)
def test_saslprep(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u0627\u0031", "\ue000", "a\u0627b", "\ufffd", "\u200e"])
def test_saslprep_prohibits(text: str) -> None:
    with pytest.raises(SaslError):
        saslprep(text)


def test_what_unicode_had_not_assigned_is_not_stored() -> None:
    assert saslprep("\U0001f511") == "\U0001f511"
    with pytest.raises(SaslError):
        make_verifier("\U0001f511", b"salt", 4096)
