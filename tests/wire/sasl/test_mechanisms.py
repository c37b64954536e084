"""Every mechanism: both halves against each other, which is taken, and strangers who send anything."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.wire.sasl import mechanisms
from posthouse.wire.sasl.exchange import (
    Challenge,
    Failure,
    NeedPassword,
    NeedVerifier,
    Success,
)
from posthouse.wire.sasl.passwords import LoginClient, PlainClient
from posthouse.wire.sasl.scram import ScramClient
from posthouse.wire.sasl.strings import SaslError, saslprep
from posthouse.wire.sasl.verifier import make_verifier
from tests.wire.sasl.exchanges import PROVEN, SERVER_FIRST, VERIFIER, check_password, converse


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
@pytest.mark.parametrize("initial", [True, False])
def test_each_mechanism_lets_the_right_one_in(mechanism: str, initial: bool) -> None:
    for password, good in (("pencil", True), ("pen", False)):
        client = mechanisms.client([mechanism], "user", password, "clientnonce")
        assert client is not None
        step = converse(client, mechanisms.server(mechanism, "servernonce"), initial=initial)
        assert (step == Success("user")) is good
        assert client.complete is (good or mechanism != "SCRAM-SHA-256")


def test_the_best_mechanism_is_taken() -> None:
    offered = ["LOGIN", "PLAIN", "SCRAM-SHA-256"]
    assert isinstance(mechanisms.client(offered, "u", "p", "n"), ScramClient)
    assert isinstance(mechanisms.client(offered[:2], "u", "p", "n"), PlainClient)
    assert isinstance(mechanisms.client(offered[:1], "u", "p", "n"), LoginClient)
    assert mechanisms.client(["GSSAPI"], "u", "p", "n") is None


def test_what_a_connection_proves_decides_what_is_offered() -> None:
    assert mechanisms.offered() == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert mechanisms.offered(PROVEN)[:3] == ("EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256")
    # RFC 5802 §6: who says that we made no offer where we did was lied to.
    assert isinstance(mechanisms.server("SCRAM-SHA-256", "m", PROVEN).start(b"y,,n=user,r=x"), Failure)


OCTETS = st.binary(max_size=40) | st.sampled_from(
    [
        b"n,,n=user,r=abc",
        b"c=biws,r=abcm,p=" + b"A" * 44,
        b"\0user\0pencil",
        b"",
        b"y,a=,n=,r=",
        b"c=,r=,p=",
        SERVER_FIRST,
    ]
)


@given(st.sampled_from(sorted(set(mechanisms.SERVERS) - {"EXTERNAL"})), st.lists(OCTETS, min_size=1, max_size=4))
def test_no_stranger_makes_the_server_raise_or_yield(mechanism: str, said: list[bytes]) -> None:
    server = mechanisms.server(mechanism, "m", PROVEN)
    step = server.start(said[0])
    for octets in said[1:]:
        while isinstance(step, NeedPassword | NeedVerifier):
            step = server.decide(False) if isinstance(step, NeedPassword) else server.verifier(VERIFIER)
        if not isinstance(step, Challenge):
            break
        step = server.respond(octets)
    assert not isinstance(step, Success)


@settings(max_examples=30)
@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20), st.sampled_from(mechanisms.offered()))
def test_both_halves_agree(username: str, password: str, mechanism: str) -> None:
    try:
        verifier = make_verifier(password, b"salt", 4096)
        client = mechanisms.client([mechanism], username, password, "nonce")
        prepared = saslprep(username)
    except (SaslError, UnicodeEncodeError):
        return
    assert client is not None
    server = mechanisms.server(mechanism, "m")
    step = server.start(client.initial())
    while not isinstance(step, Success | Failure):
        match step:
            case Challenge(octets):
                step = server.respond(client.respond(octets))
            case NeedPassword(_, given):
                step = server.decide(check_password(verifier, given))
            case NeedVerifier():
                step = server.verifier(verifier)
    assert step == Success(prepared) or not prepared
