"""Exchanges from end to end, with the one account that there is."""

from posthouse.wire.sasl.exchange import (
    Challenge,
    ChannelBinding,
    ClientExchange,
    Evidence,
    Failure,
    NeedPassword,
    NeedVerifier,
    ServerExchange,
    Step,
    Success,
)
from posthouse.wire.sasl.verifier import ScramVerifier, make_verifier

VERIFIER = make_verifier("pencil", b"salt", 4096)
PROVEN = Evidence((ChannelBinding("tls-exporter", b"one"),), ("alice@example.org", "a@example.org"))
# RFC 7677 §3
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"


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
