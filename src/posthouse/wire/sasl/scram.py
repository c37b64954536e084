"""SCRAM-SHA-256 and -PLUS (RFC 5802, RFC 7677), both halves: each proves to the other that it knows the password.

Promises: comparisons of secrets take the same time whatever they find. The nonce is an argument: 18 or more random
octets in base64, fresh for each exchange.
Refuses: to act as somebody else (an authorization identity must be empty or the user's own name).
"""

import binascii
import hashlib
import hmac
import re
from typing import Final

from posthouse.wire.sasl.exchange import Challenge, ChannelBinding, Failure, NeedVerifier, Step, Success
from posthouse.wire.sasl.strings import SaslError, saslprep, text_of
from posthouse.wire.sasl.verifier import MAX_ITERATIONS, MIN_ITERATIONS, ScramVerifier, hmac_sha256, salted_password

_GS2: Final = re.compile(r"(n|y|p=([A-Za-z0-9.-]+)),(?:a=([^,]*))?,")
_CLIENT_FIRST: Final = re.compile(r"n=([^,]*),r=([!-+\--~]+)(?:,[A-Za-z]=[^,]*)*\Z")
_CLIENT_FINAL: Final = re.compile(r"(c=([A-Za-z0-9+/=]*),r=([!-+\--~]+)(?:,[A-Za-z]=[^,]*)*),p=([A-Za-z0-9+/=]*)\Z")
_SERVER_FIRST: Final = re.compile(r"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,9})(?:,[A-Za-z]=[^,]*)*\Z")


def _name_out(name: str) -> str:
    # RFC 5802 §5.1
    return name.replace("=", "=3D").replace(",", "=2C")


def _name_in(text: str) -> str:
    if re.search(r"=(?!2C|3D)", text):
        raise SaslError("a name is badly escaped")
    return text.replace("=2C", ",").replace("=3D", "=")


def _base64(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        raise SaslError("this is not base64") from None


def _to_base64(octets: bytes) -> str:
    return binascii.b2a_base64(octets, newline=False).decode()


class ScramServer:
    """RFC 5802 with SHA-256 (RFC 7677); with bindings, of which the client chooses, it is SCRAM-SHA-256-PLUS."""

    def __init__(self, nonce: str, *bindings: ChannelBinding, plus_offered: bool = False) -> None:
        self._nonce = nonce
        self._bindings = {binding.type: binding for binding in bindings}
        self._binding: ChannelBinding | None = None
        self._plus_offered = plus_offered or bool(bindings)
        self._username = ""
        self._gs2 = ""
        self._bare = ""
        self._first = ""
        self._verifiers: tuple[ScramVerifier, ...] = ()
        self._proved = False

    def start(self, initial: bytes | None) -> Step:
        """SCRAM begins with the client."""
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, octets: bytes) -> Step:
        """The client's first message, its final one, then nothing."""
        if self._proved:
            return Success(self._username) if not octets else Failure("something behind the end", malformed=True)
        try:
            text = text_of(octets)
            return self._client_final(text) if self._verifiers else self._client_first(text)
        except SaslError as error:
            return Failure(str(error), malformed=True)

    def _client_first(self, text: str) -> Step:
        header = _GS2.match(text)
        first = _CLIENT_FIRST.match(text, header.end()) if header else None
        if header is None or first is None:
            raise SaslError("the client's first message is malformed")
        self._check_binding(header[1], header[2])
        self._gs2 = header[0]
        self._bare = first[0]
        self._nonce = first[2] + self._nonce
        self._username = saslprep(_name_in(first[1]))
        # RFC 5802 §5.1: the authorization identity is escaped like the name.
        if header[3] and saslprep(_name_in(header[3])) != self._username:
            return Failure("acting as somebody else is not possible")
        if not self._username:
            raise SaslError("the name is empty")
        return NeedVerifier(self._username)

    def _check_binding(self, flag: str, type: str | None) -> None:
        """RFC 5802 §6: the flag must fit the mechanism, and "y" where we offered PLUS means somebody removed it."""
        if flag == "y" and self._plus_offered:
            raise SaslError("the offer of channel binding was removed on the way")
        self._binding = self._bindings.get(type or "")
        if bool(self._bindings) is not (flag[0] == "p") or (self._bindings and self._binding is None):
            raise SaslError("the channel binding does not fit the mechanism")

    def verifier(self, verifier: ScramVerifier, *others: ScramVerifier) -> Step:
        """The server's first message: the nonce, the salt, the iterations."""
        self._verifiers = (verifier, *others)
        self._first = f"r={self._nonce},s={_to_base64(verifier.salt)},i={verifier.iterations}"
        return Challenge(self._first.encode())

    def _client_final(self, text: str) -> Step:
        final = _CLIENT_FINAL.match(text)
        if final is None:
            raise SaslError("the client's final message is malformed")
        bound = self._gs2.encode() + (self._binding.octets if self._binding else b"")
        signed = f"{self._bare},{self._first},{final[1]}".encode()
        proven = self._proven(_base64(final[4]), signed)
        good = proven is not None
        good &= hmac.compare_digest(_base64(final[2]), bound)
        good &= hmac.compare_digest(final[3].encode(), self._nonce.encode())
        if not good or proven is None:
            return Failure("the password is wrong")
        self._proved = True
        return Challenge(b"v=" + _to_base64(hmac_sha256(proven.server_key, signed)).encode())

    def _proven(self, proof: bytes, signed: bytes) -> ScramVerifier | None:
        """The verifier that the proof belongs to. All are tried, whichever it is."""
        proven: ScramVerifier | None = None
        for verifier in self._verifiers:
            # RFC 5802 §3: ClientKey = ClientProof XOR ClientSignature, and StoredKey = H(ClientKey).
            signature = hmac_sha256(verifier.stored_key, signed)
            if len(proof) != len(signature):
                raise SaslError("the proof has the wrong length")
            key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
            if hmac.compare_digest(hashlib.sha256(key).digest(), verifier.stored_key):
                proven = verifier
        return proven

    def decide(self, good: bool) -> Step:
        """Never asked for."""
        raise RuntimeError("no password was asked about")


class ScramClient:
    """RFC 5802 with SHA-256 (RFC 7677); with a binding it is SCRAM-SHA-256-PLUS. `respond` may compute for long."""

    def __init__(self, username: str, password: str, nonce: str, binding: ChannelBinding | None = None) -> None:
        self.mechanism = "SCRAM-SHA-256-PLUS" if binding else "SCRAM-SHA-256"
        self._password = password
        self._nonce = nonce
        self._gs2 = f"p={binding.type},," if binding else "n,,"
        self._bound = self._gs2.encode() + (binding.octets if binding else b"")
        self._bare = f"n={_name_out(saslprep(username))},r={nonce}"
        self._expected: bytes | None = None
        self.complete = False

    def initial(self) -> bytes | None:
        """The client's first message."""
        return (self._gs2 + self._bare).encode()

    def respond(self, octets: bytes) -> bytes:
        """The final message; and then nothing, if the server has proved that it knows the verifier."""
        if self.complete:
            raise SaslError("the server goes on behind the end")
        text = text_of(octets)
        if self._expected is not None:
            return self._check_server(text, self._expected)
        if not text:
            return (self._gs2 + self._bare).encode()
        return self._client_final(text)

    def _client_final(self, text: str) -> bytes:
        first = _SERVER_FIRST.match(text)
        if first is None or not first[1].startswith(self._nonce) or len(first[1]) <= len(self._nonce):
            raise SaslError("the server's first message is malformed")
        iterations = int(first[3])
        # RFC 7677 §4
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise SaslError(f"the server wants {iterations} iterations")
        salted = salted_password(saslprep(self._password), _base64(first[2]), iterations)
        final = f"c={_to_base64(self._bound)},r={first[1]}"
        signed = f"{self._bare},{text},{final}".encode()
        key = hmac_sha256(salted, b"Client Key")
        signature = hmac_sha256(hashlib.sha256(key).digest(), signed)
        self._expected = b"v=" + _to_base64(hmac_sha256(hmac_sha256(salted, b"Server Key"), signed)).encode()
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        return f"{final},p={_to_base64(proof)}".encode()

    def _check_server(self, text: str, expected: bytes) -> bytes:
        if not hmac.compare_digest(text.partition(",")[0].encode(), expected):
            raise SaslError("the server does not know the password")
        self.complete = True
        return b""
