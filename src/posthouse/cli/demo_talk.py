"""What the demo's mail clients say: SMTP, IMAP and POP3, line by line, so that the lines can be shown as they pass.

Promises: certificates are verified against the server's own CA; passwords are sent only inside TLS and never shown. An
answer other than the one expected, or none, raises CommandError.
"""

import re
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from posthouse.cli.demo_print import Teller
from posthouse.cli.installation import CommandError
from posthouse.written import Endpoint

_SECONDS: Final = 30.0
_HIDDEN: Final = "********"
_LITERAL: Final = re.compile(r"\{([0-9]+)\}\Z")


@dataclass(frozen=True, slots=True)
class User:
    """Who logs in."""

    address: str
    password: str


@dataclass(frozen=True, slots=True)
class Door:
    """Where a server speaks a protocol: what is dialled, the name its certificate must show, and the CA to believe."""

    endpoint: Endpoint
    hostname: str
    authority: Path


class Wire:
    """A connection, spoken line by line. Every line is told."""

    def __init__(self, door: Door, teller: Teller) -> None:
        self._door = door
        self._teller = teller
        self._received = bytearray()
        began = time.monotonic()
        try:
            self._socket: socket.socket = socket.create_connection(door.endpoint, timeout=_SECONDS)
        except OSError as error:
            raise CommandError(f"{door.hostname} cannot be reached at {door.endpoint}: {error}") from error
        teller.between(f"connected to {door.hostname}, {door.endpoint}", time.monotonic() - began)
        self._asked = time.monotonic()

    def start_tls(self) -> None:
        """Go on inside TLS, the certificate verified."""
        if self._received:
            raise CommandError("the server said something behind its answer to STARTTLS")
        began = time.monotonic()
        try:
            context = ssl.create_default_context(cafile=self._door.authority)
            inside = context.wrap_socket(self._socket, server_hostname=self._door.hostname)
        except OSError as error:
            raise CommandError(f"no TLS with {self._door.hostname}: {error}") from error
        self._socket = inside
        cipher = inside.cipher()
        told = f"{inside.version()}, {cipher[0] if cipher else 'no cipher'}"
        told += f"; the certificate of {self._door.hostname} is verified"
        self._teller.between(f"from here on everything is encrypted: {told}", time.monotonic() - began)
        self._asked = time.monotonic()

    def send(self, line: str, shown: str | None = None) -> None:
        """Say this line; `shown` is told in place of one that holds a secret."""
        self._teller.client(line if shown is None else shown)
        self.send_octets(f"{line}\r\n".encode())

    def send_octets(self, octets: bytes) -> None:
        """Say these octets, without telling."""
        self._asked = time.monotonic()
        try:
            self._socket.sendall(octets)
        except OSError as error:
            raise CommandError(f"{self._door.hostname} hung up: {error}") from error

    def hear(self, last: Callable[[str], bool] = lambda line: True) -> str:
        """The next line, without its CRLF; how long the answer took is told with the line that is its `last`."""
        line = self.hear_until(b"\r\n")[:-2].decode("utf-8", "replace")
        self._teller.server(line, time.monotonic() - self._asked if last(line) else None)
        return line

    def hear_octets(self, count: int) -> bytes:
        """The next so many octets, untold."""
        while len(self._received) < count:
            self._receive()
        octets = bytes(self._received[:count])
        del self._received[:count]
        return octets

    def hear_until(self, end: bytes) -> bytes:
        """What comes up to and with `end`, untold."""
        looked = 0
        while (at := self._received.find(end, looked)) < 0:
            looked = max(0, len(self._received) - len(end))
            self._receive()
        return self.hear_octets(at + len(end))

    def _receive(self) -> None:
        try:
            octets = self._socket.recv(1 << 20)
        except OSError as error:
            raise CommandError(f"{self._door.hostname} does not answer: {error}") from error
        if not octets:
            raise CommandError(f"{self._door.hostname} hung up")
        self._received += octets

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


# --- SMTP -------------------------------------------------------------------------------------------------------------


def submit(door: Door, teller: Teller, user: User, recipients: Sequence[str], message: bytes) -> str:
    """Hand a message over as a mail program does (RFC 6409); the reply that took it. Raises CommandError."""
    wire = Wire(door, teller)
    try:
        _reply(wire, 220)
        teller.say("The client says hello. The server tells what it can do; no login yet, for nothing is encrypted.")
        _ask(wire, "EHLO laptop.example.org", 250)
        teller.say("So the client asks for encryption first.")
        _ask(wire, "STARTTLS", 220)
        wire.start_tls()
        teller.say("What was said in the open counts for nothing any more. Hello again; now a login (AUTH) is offered.")
        _ask(wire, "EHLO laptop.example.org", 250)
        secret = b64encode(f"\0{user.address}\0{user.password}".encode()).decode()
        _ask(wire, f"AUTH PLAIN {secret}", 235, f"AUTH PLAIN {_HIDDEN}  (name and password)")
        teller.say("Now the envelope: who sends, and for whom. Only this decides where the message goes.")
        _ask(wire, f"MAIL FROM:<{user.address}> SIZE={len(message)}", 250)
        for recipient in recipients:
            _ask(wire, f"RCPT TO:<{recipient}>", 250)
        teller.say(
            """Then the letter itself: fields such as Subject, an empty line, the text. A line with nothing but a dot
            ends it."""
        )
        _ask(wire, "DATA", 354)
        teller.message("C:", message)
        teller.client(".")
        # RFC 5321 §4.5.2: a dot at the beginning of a line is doubled.
        wire.send_octets((b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
        taken = _reply(wire, 250)
        _ask(wire, "QUIT", 221)
        return taken
    finally:
        wire.close()


def _ask(wire: Wire, line: str, expected: int, shown: str | None = None) -> str:
    wire.send(line, shown)
    return _reply(wire, expected)


def _reply(wire: Wire, expected: int) -> str:
    """The last line of a reply, which has the expected code."""
    while _goes_on(line := wire.hear(lambda line: not _goes_on(line))):
        continue
    if not line.startswith(str(expected)):
        raise CommandError(f"the server answered {line!r} where {expected} was expected")
    return line


def _goes_on(line: str) -> bool:
    """RFC 5321 §4.2.1: a hyphen behind the code says that more lines follow."""
    return line[3:4] == "-"


# --- IMAP -------------------------------------------------------------------------------------------------------------


def read_by_imap(door: Door, teller: Teller, user: User) -> bytes:
    """The newest message of the Inbox (RFC 9051). Raises CommandError."""
    wire = Wire(door, teller)
    imap = _Imap(wire, teller)
    try:
        wire.start_tls()
        wire.hear()
        teller.say("Every command begins with a tag, which its answer repeats. Log in, then open the Inbox.")
        imap.ask(f'LOGIN {user.address} "{user.password}"', f"LOGIN {user.address} {_HIDDEN}")
        newest = imap.select()
        if newest == 0:
            raise CommandError(f"the Inbox of {user.address} is empty")
        teller.say("First what a list of messages shows; the message itself stays on the server.")
        imap.ask(f"FETCH {newest} (FLAGS RFC822.SIZE ENVELOPE)")
        teller.say("Then the whole message.")
        message = imap.ask(f"FETCH {newest} BODY[]")
        imap.ask("LOGOUT")
        return message
    finally:
        wire.close()


class _Imap:
    """Commands and their answers."""

    def __init__(self, wire: Wire, teller: Teller) -> None:
        self._wire = wire
        self._teller = teller
        self._count = 0
        self._exists = 0

    def select(self) -> int:
        """Open the Inbox; how many messages there are."""
        self.ask("SELECT INBOX")
        return self._exists

    def ask(self, command: str, shown: str | None = None) -> bytes:
        """Say the command, hear the answer; the octets of the last literal in it."""
        self._count += 1
        tag = f"a{self._count}"
        self._wire.send(f"{tag} {command}", None if shown is None else f"{tag} {shown}")
        literal = b""
        while True:
            line = self._wire.hear(lambda line: line.startswith(f"{tag} "))
            if found := _LITERAL.search(line):
                # RFC 9051 §4.3: so many octets follow, whatever they are.
                literal = self._wire.hear_octets(int(found[1]))
                self._teller.message("S:", literal)
            elif line.startswith("* ") and line.endswith(" EXISTS"):
                self._exists = int(line.split()[1])
            elif line.startswith(f"{tag} "):
                if not line.startswith(f"{tag} OK"):
                    raise CommandError(f"the server answered {line!r} to {shown or command}")
                return literal


# --- POP3 -------------------------------------------------------------------------------------------------------------


def read_by_pop3(door: Door, teller: Teller, user: User) -> bytes:
    """The newest message (RFC 1939). Raises CommandError."""
    wire = Wire(door, teller)
    try:
        wire.start_tls()
        _pop3_answer(wire)
        _pop3_ask(wire, f"USER {user.address}")
        _pop3_ask(wire, f"PASS {user.password}", f"PASS {_HIDDEN}")
        teller.say("How many messages are there, and how many octets? Then the newest, up to a line with a dot.")
        newest = _pop3_ask(wire, "STAT").split()[1]
        _pop3_ask(wire, f"RETR {newest}")
        message = wire.hear_until(b"\r\n.\r\n")[:-3]
        # RFC 1939 §3: a dot at the beginning of a line was doubled.
        message = (b"\r\n" + message).replace(b"\r\n..", b"\r\n.")[2:]
        teller.message("S:", message)
        teller.server(".")
        _pop3_ask(wire, "QUIT")
        return message
    finally:
        wire.close()


def _pop3_ask(wire: Wire, line: str, shown: str | None = None) -> str:
    wire.send(line, shown)
    return _pop3_answer(wire)


def _pop3_answer(wire: Wire) -> str:
    line = wire.hear()
    if not line.startswith("+OK"):
        raise CommandError(f"the server answered {line!r} where +OK was expected")
    return line
