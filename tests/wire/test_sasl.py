"""SASL: the RFCs' own examples, both halves against each other, and strangers who send anything."""

import binascii

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.wire import sasl
from posthouse.wire.sasl import (
    Challenge,
    ChannelBinding,
    ClientExchange,
    Evidence,
    Failure,
    LoginClient,
    NeedPassword,
    NeedVerifier,
    PlainClient,
    SaslError,
    ScramClient,
    ScramServer,
    ScramVerifier,
    ServerExchange,
    Step,
    Success,
    make_verifier,
    saslprep,
)

VERIFIER = make_verifier("pencil", b"salt", 4096)


def check_password(verifier: ScramVerifier, password: str) -> bool:
    """What a door asks where the password itself came."""
    return make_verifier(password, verifier.salt, verifier.iterations) == verifier


def converse(client: ClientExchange, server: ServerExchange, *, initial: bool = True, name: str = "user") -> Step:
    """Run an exchange to its end; the one account is `name` with the password "pencil"."""
    step = server.start(client.initial() if initial else None)
    while True:
        match step:
            case Challenge(octets):
                step = server.respond(client.respond(octets))
            case NeedPassword(username, password):
                step = server.decide(username == name and password == "pencil")
            case NeedVerifier(username):
                step = server.verifier(VERIFIER if username == name else make_verifier("none", b"salt", 4096))
            case Success() | Failure():
                return step


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
@pytest.mark.parametrize("initial", [True, False])
def test_each_mechanism_lets_the_right_one_in(mechanism: str, initial: bool) -> None:
    for password, good in (("pencil", True), ("pen", False)):
        client = sasl.client([mechanism], "user", password, "clientnonce")
        assert client is not None
        step = converse(client, sasl.server(mechanism, "servernonce"), initial=initial)
        assert (step == Success("user")) is good
        assert client.complete is (good or mechanism != "SCRAM-SHA-256")


def test_the_best_mechanism_is_taken() -> None:
    offered = ["LOGIN", "PLAIN", "SCRAM-SHA-256"]
    assert isinstance(sasl.client(offered, "u", "p", "n"), ScramClient)
    assert isinstance(sasl.client(offered[:2], "u", "p", "n"), PlainClient)
    assert isinstance(sasl.client(offered[:1], "u", "p", "n"), LoginClient)
    assert sasl.client(["GSSAPI"], "u", "p", "n") is None


# RFC 7677 §3
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
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


def test_what_a_connection_proves_decides_what_is_offered() -> None:
    assert sasl.offered() == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert sasl.offered(PROVEN)[:3] == ("EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256")
    # RFC 5802 §6: who says that we made no offer where we did was lied to.
    assert isinstance(sasl.server("SCRAM-SHA-256", "m", PROVEN).start(b"y,,n=user,r=x"), Failure)


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
    server = sasl.server("EXTERNAL", "", PROVEN)
    assert server.start(None) == Challenge(b"")
    assert server.respond(named) == sasl.server("EXTERNAL", "", PROVEN).start(named) == step


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
    assert sasl.server("PLAIN", "").start(message) == step


def test_scram_names_are_escaped_and_prepared() -> None:
    server = ScramServer("m")
    assert server.start(b"n,,n=a=2Cb=3Dc,r=x") == NeedVerifier("a,b=c")
    assert isinstance(ScramServer("m").start(b"n,,n=a=2cb,r=x"), Failure)
    assert ScramServer("m").start(b"n,a=u=2C,n=u=2C,r=x") == NeedVerifier("u,")
    assert isinstance(ScramServer("m").start(b"n,a=other,n=user,r=x"), Failure)
    assert converse(ScramClient("a,b=c", "pencil", "n"), ScramServer("m"), name="a,b=c") == Success("a,b=c")


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


def test_check_password() -> None:
    assert check_password(VERIFIER, "pencil")
    assert not check_password(VERIFIER, "Pencil")
    assert check_password(make_verifier("\u2168", b"s", 4096), "IX")


def test_secrets_are_not_shown() -> None:
    shown = repr([VERIFIER, NeedPassword("user", "pencil"), ChannelBinding("tls-exporter", b"secret")])
    assert "pencil" not in shown
    assert "secret" not in shown
    assert repr(VERIFIER.stored_key) not in shown


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


PROVEN = Evidence((ChannelBinding("tls-exporter", b"one"),), ("alice@example.org", "a@example.org"))


@given(st.sampled_from(sorted(set(sasl.SERVERS) - {"EXTERNAL"})), st.lists(OCTETS, min_size=1, max_size=4))
def test_no_stranger_makes_the_server_raise_or_yield(mechanism: str, said: list[bytes]) -> None:
    server = sasl.server(mechanism, "m", PROVEN)
    step = server.start(said[0])
    for octets in said[1:]:
        while isinstance(step, NeedPassword | NeedVerifier):
            step = server.decide(False) if isinstance(step, NeedPassword) else server.verifier(VERIFIER)
        if not isinstance(step, Challenge):
            break
        step = server.respond(octets)
    assert not isinstance(step, Success)


@settings(max_examples=30)
@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20), st.sampled_from(sasl.offered()))
def test_both_halves_agree(username: str, password: str, mechanism: str) -> None:
    try:
        verifier = make_verifier(password, b"salt", 4096)
        client = sasl.client([mechanism], username, password, "nonce")
        prepared = saslprep(username)
    except (SaslError, UnicodeEncodeError):
        return
    assert client is not None
    server = sasl.server(mechanism, "m")
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
