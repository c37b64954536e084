"""SASL (RFC 4422): the exchanges PLAIN, LOGIN, SCRAM-SHA-256 and -PLUS, both halves, without I/O; SCRAM's stored
verifier; and EXTERNAL, the server's half.

Promises: the server's half knows no password and no user: it asks by a step (NeedPassword, NeedVerifier) and is told.
Comparisons of secrets take the same time whatever they find. Whatever the peer sends, nothing but SaslError is raised
by the client's half and nothing at all by the server's, which answers Failure. The nonce is an argument: 18 or more
random octets in base64, fresh for each exchange.
Refuses: to act as somebody else (an authorization identity must be empty or the user's own name).

A new mechanism is a class for each half and a row in SERVERS and in `client`. The caller frames and encodes (base64).
"""

import binascii
import hashlib
import hmac
import re
import stringprep
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

# RFC 7677 §4 asks for 4096 at least; an upper bound, since the server makes the client compute them.
MIN_ITERATIONS: Final = 4096
MAX_ITERATIONS: Final = 2_000_000
# What a stranger may give as a name or a password, in octets.
MAX_TEXT: Final = 1024


class SaslError(Exception):
    """The exchange cannot go on; the message says why."""


# Strings --------------------------------------------------------------------------------------------------------------

_PROHIBITED: Final = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str, *, stored: bool = False) -> str:
    """`text` prepared by RFC 4013. `stored` also refuses code points that Unicode 3.2 did not assign (RFC 3454 §7),
    whose preparation is not settled. Raises SaslError."""
    if text.isascii():
        if not text.isprintable():
            raise SaslError("a control character in a name or password")
        return text
    # RFC 4013 §2.1: other spaces become a space, what is commonly mapped to nothing goes; §2.2: NFKC.
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    # §2.3, §2.5
    if any(prohibited(character) for character in prepared for prohibited in _PROHIBITED):
        raise SaslError("a character that may not stand in a name or password")
    if stored and any(map(stringprep.in_table_a1, prepared)):
        raise SaslError("a character too new for a password")
    _check_directions(prepared)
    return prepared


def _check_directions(text: str) -> None:
    """RFC 3454 §6: text with right-to-left characters begins and ends with one and has no left-to-right ones."""
    rightward = [stringprep.in_table_d1(character) for character in text]
    if any(rightward) and (
        any(stringprep.in_table_d2(character) for character in text) or not (rightward[0] and rightward[-1])
    ):
        raise SaslError("right-to-left and left-to-right characters mixed")


# The verifier ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScramVerifier:
    """What is stored in a password's stead (RFC 5802 §3): enough to check it, not to know it."""

    iterations: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def _hmac(key: bytes, octets: bytes) -> bytes:
    return hmac.digest(key, octets, "sha256")


def _salted(prepared: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", prepared.encode(), salt, iterations)


def make_verifier(password: str, salt: bytes, iterations: int) -> ScramVerifier:
    """The verifier of `password`. Costs `iterations` of HMAC: call it in a thread. Raises SaslError by SASLprep."""
    salted = _salted(saslprep(password, stored=True), salt, iterations)
    stored_key = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    return ScramVerifier(iterations, salt, stored_key, _hmac(salted, b"Server Key"))


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


# The server's half ----------------------------------------------------------------------------------------------------


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


def _text(octets: bytes) -> str:
    if len(octets) > MAX_TEXT:
        raise SaslError("a name or password is too long")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise SaslError("a name or password is no UTF-8") from None


class _PasswordServer:
    """What PLAIN and LOGIN share: the question whether the password is right."""

    def __init__(self) -> None:
        self._username = ""

    def _need(self, username: str, password: str) -> Step:
        try:
            self._username = saslprep(username)
        except SaslError as error:
            return Failure(str(error))
        if not self._username or not password:
            return Failure("a name or password is empty", malformed=True)
        return NeedPassword(self._username, password)

    def decide(self, good: bool) -> Step:
        """The caller's answer to NeedPassword."""
        return Success(self._username) if good else Failure("the password is wrong")

    def verifier(self, verifier: ScramVerifier, *others: ScramVerifier) -> Step:
        """Never asked for."""
        raise RuntimeError("no verifier was asked for")


class PlainServer(_PasswordServer):
    """RFC 4616."""

    def start(self, initial: bytes | None) -> Step:
        """PLAIN begins with the client; without an initial response an empty challenge asks for it (RFC 4616 §2)."""
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, octets: bytes) -> Step:
        """authzid NUL authcid NUL password."""
        try:
            authzid, username, password = _text(octets).split("\0")
        except ValueError:
            return Failure("PLAIN wants three parts", malformed=True)
        except SaslError as error:
            return Failure(str(error), malformed=True)
        if authzid not in ("", username):
            return Failure("acting as somebody else is not possible")
        return self._need(username, password)


class LoginServer(_PasswordServer):
    """LOGIN, which no RFC defines and old clients speak: a name, then a password."""

    def __init__(self) -> None:
        super().__init__()
        self._given: str | None = None

    def start(self, initial: bytes | None) -> Step:
        """Some clients send the name at once."""
        return Challenge(b"Username:") if initial is None else self.respond(initial)

    def respond(self, octets: bytes) -> Step:
        """The name, then the password."""
        try:
            text = _text(octets)
        except SaslError as error:
            return Failure(str(error), malformed=True)
        if self._given is None:
            self._given = text
            return Challenge(b"Password:")
        return self._need(self._given, text)


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


class ExternalServer:
    """EXTERNAL (RFC 4422 appendix A): the client is who its certificate says; of several, whom it names."""

    def __init__(self, identities: tuple[str, ...]) -> None:
        self._identities = identities

    def start(self, initial: bytes | None) -> Step:
        """The client speaks first; without an initial response an empty challenge asks for it."""
        return Challenge(b"") if initial is None else self.respond(initial)

    def respond(self, octets: bytes) -> Step:
        """The name to act as; nothing: whoever the certificate is for."""
        try:
            wanted = saslprep(_text(octets))
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
            text = _text(octets)
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
        return Challenge(b"v=" + _to_base64(_hmac(proven.server_key, signed)).encode())

    def _proven(self, proof: bytes, signed: bytes) -> ScramVerifier | None:
        """The verifier that the proof belongs to. All are tried, whichever it is."""
        proven: ScramVerifier | None = None
        for verifier in self._verifiers:
            # RFC 5802 §3: ClientKey = ClientProof XOR ClientSignature, and StoredKey = H(ClientKey).
            signature = _hmac(verifier.stored_key, signed)
            if len(proof) != len(signature):
                raise SaslError("the proof has the wrong length")
            key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
            if hmac.compare_digest(hashlib.sha256(key).digest(), verifier.stored_key):
                proven = verifier
        return proven

    def decide(self, good: bool) -> Step:
        """Never asked for."""
        raise RuntimeError("no password was asked about")


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


# The client's half ----------------------------------------------------------------------------------------------------


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


class PlainClient:
    """RFC 4616."""

    mechanism = "PLAIN"

    def __init__(self, username: str, password: str) -> None:
        if "\0" in username + password:
            raise SaslError("a NUL in a name or password")
        self._response = f"\0{username}\0{password}".encode()
        self.complete = False

    def initial(self) -> bytes | None:
        """All there is to say."""
        self.complete = True
        return self._response

    def respond(self, octets: bytes) -> bytes:
        """A server that takes no initial response asks with an empty challenge."""
        if octets:
            raise SaslError("PLAIN has no challenges")
        self.complete = True
        return self._response


class LoginClient:
    """LOGIN: the name at the first question, the password at the second."""

    mechanism = "LOGIN"

    def __init__(self, username: str, password: str) -> None:
        self._answers = [password.encode(), username.encode()]

    def initial(self) -> bytes | None:
        """The server speaks first."""
        return None

    def respond(self, octets: bytes) -> bytes:
        """What the server asks is not read: everybody words it differently."""
        if not self._answers:
            raise SaslError("LOGIN has two questions")
        return self._answers.pop()

    @property
    def complete(self) -> bool:
        """Both have been answered."""
        return not self._answers


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
        text = _text(octets)
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
        salted = _salted(saslprep(self._password), _base64(first[2]), iterations)
        final = f"c={_to_base64(self._bound)},r={first[1]}"
        signed = f"{self._bare},{text},{final}".encode()
        key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(key).digest(), signed)
        self._expected = b"v=" + _to_base64(_hmac(_hmac(salted, b"Server Key"), signed)).encode()
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        return f"{final},p={_to_base64(proof)}".encode()

    def _check_server(self, text: str, expected: bytes) -> bytes:
        if not hmac.compare_digest(text.partition(",")[0].encode(), expected):
            raise SaslError("the server does not know the password")
        self.complete = True
        return b""


def client(offered: Collection[str], username: str, password: str, nonce: str) -> ClientExchange | None:
    """The client's half of the best mechanism offered (names in upper case); None where we know none of them."""
    if "SCRAM-SHA-256" in offered:
        return ScramClient(username, password, nonce)
    if "PLAIN" in offered:
        return PlainClient(username, password)
    if "LOGIN" in offered:
        return LoginClient(username, password)
    return None
