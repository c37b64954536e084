"""EXTERNAL (RFC 4422 appendix A), the server's half: TLS has proved who the client is."""

from posthouse.wire.sasl.exchange import Challenge, Failure, Step, Success
from posthouse.wire.sasl.strings import SaslError, saslprep, text_of
from posthouse.wire.sasl.verifier import ScramVerifier


class ExternalServer:
    """The client is who its certificate says; of several, whom it names."""

    def __init__(self, identities: tuple[str, ...]) -> None:
        self._identities = identities

    def start(self, initial: bytes | None) -> Step:
        """The client speaks first; without an initial response an empty challenge asks for it."""
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, octets: bytes) -> Step:
        """The name to act as; nothing: whoever the certificate is for."""
        try:
            wanted = saslprep(text_of(octets))
        except SaslError as error:
            return Failure(str(error), malformed=True)
        named = {identity.casefold(): identity for identity in self._identities}
        found = named.get(wanted.casefold()) if wanted else next(iter(self._identities), None)
        return Failure("the certificate is for somebody else") if found is None else Success(found)

    def decide(self, good: bool) -> Step:
        """Never asked for."""
        raise RuntimeError("no password was asked about")

    def verifier(self, verifier: ScramVerifier, *others: ScramVerifier) -> Step:
        """Never asked for."""
        raise RuntimeError("no verifier was asked for")
