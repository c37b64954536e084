"""How an exchange goes: the server's half by steps, the client's by octets in and octets out.

Promises: the server's half knows no password and no user: it asks by a step (NeedPassword, NeedVerifier) and is told.
Whatever the peer sends, nothing but SaslError is raised by the client's half and nothing at all by the server's, which
answers Failure. The caller frames and encodes (base64).
"""

from dataclasses import dataclass, field
from typing import Final, Protocol

from posthouse.wire.sasl.verifier import ScramVerifier


@dataclass(frozen=True, slots=True)
class ChannelBinding:
    """RFC 5056: a type ("tls-exporter", RFC 9266) and the octets that only the two ends of this TLS session know."""

    type: str
    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a connection itself proves: the bindings of its TLS session, and who its client's certificate says it is."""

    bindings: tuple[ChannelBinding, ...] = ()
    identities: tuple[str, ...] = ()


NOTHING: Final = Evidence()


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send this to the client and give its answer to `respond`."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class NeedPassword:
    """Is this the user's password? Say so by `decide`."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NeedVerifier:
    """Give the user's verifiers to `verifier`; for a user who does not exist a made-up one with the usual iterations
    and a salt that stays the same for the name, so that nobody can tell."""

    username: str


@dataclass(frozen=True, slots=True)
class Success:
    """The client is this user."""

    username: str


@dataclass(frozen=True, slots=True)
class Failure:
    """It is not, or the exchange was malformed; `why` is for the log."""

    why: str
    malformed: bool = False


Step = Challenge | NeedPassword | NeedVerifier | Success | Failure


class ServerExchange(Protocol):
    """One attempt of a client. Each method gives the next step; Success and Failure are the last."""

    def start(self, initial: bytes | None) -> Step:
        """Begin, with the client's initial response where there was one."""
        ...

    def respond(self, octets: bytes) -> Step:
        """The client's answer to the last Challenge."""
        ...

    def decide(self, good: bool) -> Step:
        """The answer to NeedPassword."""
        ...

    def verifier(self, verifier: ScramVerifier, *others: ScramVerifier) -> Step:
        """The answer to NeedVerifier: of one password, or of several, any of which will do.

        All have the salt and the iterations of the first, for the client is shown only one.
        """
        ...


class ClientExchange(Protocol):
    """One attempt at a server."""

    mechanism: str

    def initial(self) -> bytes | None:
        """The initial response; None where the server speaks first."""
        ...

    def respond(self, octets: bytes) -> bytes:
        """The answer to a challenge. Raises SaslError where the exchange must be cancelled."""
        ...

    @property
    def complete(self) -> bool:
        """True once the server's word that we are in may be believed."""
        ...
