"""Which mechanisms there are, and which fit a connection.

A new one is a file with a class for each half, and a row in SERVERS and in `client`.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from posthouse.wire.sasl.exchange import NOTHING, ClientExchange, Evidence, ServerExchange
from posthouse.wire.sasl.external import ExternalServer
from posthouse.wire.sasl.passwords import LoginClient, LoginServer, PlainClient, PlainServer
from posthouse.wire.sasl.scram import ScramClient, ScramServer

# In the order that clients should prefer.
SERVERS: Final[Mapping[str, Callable[[str, Evidence], ServerExchange]]] = {
    "EXTERNAL": lambda nonce, proven: ExternalServer(proven.identities),
    "SCRAM-SHA-256-PLUS": lambda nonce, proven: ScramServer(nonce, *proven.bindings),
    "SCRAM-SHA-256": lambda nonce, proven: ScramServer(nonce, plus_offered=bool(proven.bindings)),
    "PLAIN": lambda nonce, proven: PlainServer(),
    "LOGIN": lambda nonce, proven: LoginServer(),
}


def offered(proven: Evidence = NOTHING) -> tuple[str, ...]:
    """The mechanisms that can be had on a connection that proves so much, in the order of SERVERS."""
    lacking = set() if proven.identities else {"EXTERNAL"}
    if not proven.bindings:
        lacking.add("SCRAM-SHA-256-PLUS")
    return tuple(name for name in SERVERS if name not in lacking)


def server(mechanism: str, nonce: str, proven: Evidence = NOTHING) -> ServerExchange:
    """The server's half of `mechanism`, one of those `offered`, in upper case."""
    return SERVERS[mechanism](nonce, proven)


def client(offered: Collection[str], username: str, password: str, nonce: str) -> ClientExchange | None:
    """The client's half of the best mechanism offered (names in upper case); None where we know none of them."""
    if "SCRAM-SHA-256" in offered:
        return ScramClient(username, password, nonce)
    if "PLAIN" in offered:
        return PlainClient(username, password)
    if "LOGIN" in offered:
        return LoginClient(username, password)
    return None
