"""A login by SASL (RFC 4422), as every door holds it: octets of the client in, challenges or an account out.

Promises: what the exchange asks for (a password judged, a verifier) is answered by the Authenticator, so that
throttling, memory and the silence about unknown users are the same at every door.
Refuses: to frame anything: each protocol has its own way to carry base64.
"""

from base64 import b64encode
from dataclasses import dataclass
from secrets import token_bytes
from typing import Final

from posthouse.directory import credentials
from posthouse.directory.credentials import Authenticator, LoginFailure, LoginRefused
from posthouse.directory.model import Account
from posthouse.net.stream import Stream
from posthouse.net.tls import emails_of
from posthouse.wire.sasl import exchange, mechanisms
from posthouse.wire.sasl.exchange import NOTHING, ChannelBinding, Evidence

_NONCE_OCTETS: Final = 18


def proven(stream: Stream, *, certificates: bool) -> Evidence:
    """What a TLS session proves: that it is this very one, and, where clients are asked for `certificates`, whom this
    one's is for."""
    tls = stream.tls
    if tls is None:
        return NOTHING
    named = emails_of(tls.certificate) if certificates and tls.certificate else ()
    return Evidence(tuple(ChannelBinding(*one) for one in stream.bindings), named)


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this to the client, and give its answer to `respond`."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Malformed:
    """What the client sent is no part of such an exchange; `why` is for the log."""

    why: str


Answer = Ask | Account | LoginRefused | Malformed


class Login:
    """One attempt of a client at `peer` (an IP address) to log in by `mechanism`, which `proven` must allow."""

    def __init__(self, authenticator: Authenticator, peer: str, mechanism: str, proven: Evidence = NOTHING) -> None:
        self._authenticator = authenticator
        self._peer = peer
        self._exchange = mechanisms.server(mechanism, b64encode(token_bytes(_NONCE_OCTETS)).decode(), proven)
        self._certified = mechanism == "EXTERNAL"
        self._challenge: credentials.Challenge | None = None
        self._account: Account | None = None

    async def start(self, initial: bytes | None) -> Answer:
        """Begin, with the initial response where there was one. Raises StoreUnavailable."""
        return await self._answer(self._exchange.start(initial))

    async def respond(self, octets: bytes) -> Answer:
        """Go on with the client's answer to what was asked. Raises StoreUnavailable."""
        return await self._answer(self._exchange.respond(octets))

    async def _answer(self, step: exchange.Step) -> Answer:
        """Follow the exchange's steps until the client is needed, or the end."""
        while True:
            match step:
                case exchange.Challenge(octets):
                    return Ask(octets)
                case exchange.NeedPassword(username, password):
                    judged = await self._authenticator.plain(username, password, self._peer)
                    if isinstance(judged, LoginRefused):
                        return judged
                    self._account = judged
                    step = self._exchange.decide(True)
                case exchange.NeedVerifier(username):
                    found = await self._authenticator.scram(username, self._peer)
                    if isinstance(found, LoginRefused):
                        return found
                    self._challenge = found
                    step = self._exchange.verifier(*found.verifiers)
                case exchange.Success(username):
                    if self._certified:
                        return await self._authenticator.certified(username)
                    return self._settled(True)
                case exchange.Failure(why, malformed):
                    if malformed:
                        return Malformed(why)
                    return self._settled(False)

    def _settled(self, right: bool) -> Account | LoginRefused:
        if self._challenge is not None:
            return self._authenticator.settle(self._challenge, right)
        if right and self._account is not None:
            return self._account
        return LoginRefused(LoginFailure.WRONG)
