"""SCRAM: the RFC's own examples, channel binding, names."""

import binascii

import pytest

from posthouse.wire.sasl.exchange import Challenge, ChannelBinding, Failure, NeedVerifier, Success
from posthouse.wire.sasl.scram import ScramClient, ScramServer
from posthouse.wire.sasl.strings import SaslError
from posthouse.wire.sasl.verifier import make_verifier
from tests.wire.sasl.exchanges import SERVER_FIRST, converse

# RFC 7677 §3
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
SALT = binascii.a2b_base64("W22ZaJ0SNY7soEsUEjb6gQ==")


def test_scram_client_as_in_rfc_7677() -> None:
    client = ScramClient("user", "pencil", "rOprNGfwEbeRWgbNEkqO")
    assert client.initial() == CLIENT_FIRST
    assert client.respond(SERVER_FIRST) == CLIENT_FINAL
    assert not client.complete
    assert client.respond(SERVER_FINAL) == b""
    assert client.complete


def test_scram_server_as_in_rfc_7677() -> None:
    server = ScramServer("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    assert server.start(CLIENT_FIRST) == NeedVerifier("user")
    assert server.verifier(make_verifier("pencil", SALT, 4096)) == Challenge(SERVER_FIRST)
    assert server.respond(CLIENT_FINAL) == Challenge(SERVER_FINAL)
    assert server.respond(b"") == Success("user")


def test_any_of_several_passwords_that_share_a_salt_will_do() -> None:
    shared = [make_verifier(password, SALT, 4096) for password in ("pencil", "of the phone", "of the tablet")]
    for password, right in (("pencil", True), ("of the tablet", True), ("none of them", False)):
        client, server = ScramClient("user", password, "c" * 24), ScramServer("s" * 24)
        assert isinstance(server.start(client.initial()), NeedVerifier)
        first = server.verifier(*shared)
        assert isinstance(first, Challenge)
        last = server.respond(client.respond(first.octets))
        assert isinstance(last, Challenge) is right
        if isinstance(last, Challenge):
            # The proof of the server is made with the same one.
            assert client.respond(last.octets) == b""
            assert server.respond(b"") == Success("user")


def test_a_server_without_the_verifier_is_found_out() -> None:
    client = ScramClient("user", "pencil", "rOprNGfwEbeRWgbNEkqO")
    client.initial()
    client.respond(SERVER_FIRST)
    with pytest.raises(SaslError, match="does not know"):
        client.respond(b"v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert not client.complete


@pytest.mark.parametrize(
    "first",
    [
        b"r=other,s=AAAA,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096",  # adds nothing of its own
        SERVER_FIRST.replace(b"4096", b"1"),
        SERVER_FIRST.replace(b"4096", b"999999999"),
        b"m=ext," + SERVER_FIRST,
        b"\xff",
    ],
)
def test_the_client_refuses_a_bad_server_first_message(first: bytes) -> None:
    client = ScramClient("user", "pencil", "rOprNGfwEbeRWgbNEkqO")
    client.initial()
    with pytest.raises(SaslError):
        client.respond(first)


def test_channel_binding_ties_the_exchange_to_the_connection() -> None:
    ours, other = ChannelBinding("tls-exporter", b"one"), ChannelBinding("tls-exporter", b"two")
    assert converse(ScramClient("user", "pencil", "n", ours), ScramServer("m", ours)) == Success("user")
    assert isinstance(converse(ScramClient("user", "pencil", "n", other), ScramServer("m", ours)), Failure)
    assert isinstance(ScramServer("m", ours).start(b"n,,n=user,r=x"), Failure)
    assert isinstance(ScramServer("m").start(b"p=tls-exporter,,n=user,r=x"), Failure)
    # RFC 5802 §6: "y" says that the client saw no offer; where we made one, somebody took it out.
    assert isinstance(ScramServer("m").start(b"y,,n=user,r=x"), NeedVerifier)
    assert isinstance(ScramServer("m", plus_offered=True).start(b"y,,n=user,r=x"), Failure)


def test_the_client_chooses_the_channel_binding() -> None:
    one, two = ChannelBinding("tls-exporter", b"one"), ChannelBinding("tls-server-end-point", b"two")
    for binding in (one, two):
        assert converse(ScramClient("user", "pencil", "n", binding), ScramServer("m", one, two)) == Success("user")
    assert isinstance(ScramServer("m", one, two).start(b"p=tls-unique,,n=user,r=x"), Failure)


def test_scram_names_are_escaped_and_prepared() -> None:
    server = ScramServer("m")
    assert server.start(b"n,,n=a=2Cb=3Dc,r=x") == NeedVerifier("a,b=c")
    assert isinstance(ScramServer("m").start(b"n,,n=a=2cb,r=x"), Failure)
    assert ScramServer("m").start(b"n,a=u=2C,n=u=2C,r=x") == NeedVerifier("u,")
    assert isinstance(ScramServer("m").start(b"n,a=other,n=user,r=x"), Failure)
    assert converse(ScramClient("a,b=c", "pencil", "n"), ScramServer("m"), name="a,b=c") == Success("a,b=c")
