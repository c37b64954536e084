"""PLAIN (RFC 4616) and LOGIN, both halves: the mechanisms that show the password.

Refuses: to act as somebody else (an authorization identity must be empty or the user's own name).
"""

from posthouse.wire.sasl.exchange import Challenge, Failure, NeedPassword, Step, Success
from posthouse.wire.sasl.strings import SaslError, saslprep, text_of
from posthouse.wire.sasl.verifier import ScramVerifier


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
            authzid, username, password = text_of(octets).split("\0")
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
            text = text_of(octets)
        except SaslError as error:
            return Failure(str(error), malformed=True)
        if self._given is None:
            self._given = text
            return Challenge(b"Password:")
        return self._need(self._given, text)


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
