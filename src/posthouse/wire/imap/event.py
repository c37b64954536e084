"""What happens on an IMAP connection, as the server's engine tells it (`server.py`); doors match upon these."""

from dataclasses import dataclass, field

from posthouse.wire.imap.command import Row
from posthouse.wire.imap.request import AppendMessage, AppendText, AppendUrl, CatenatedMessage, Request


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """A whole command, legal in its state. `row` says what its answer may do."""

    tag: bytes
    row: Row
    request: Request


@dataclass(frozen=True, slots=True)
class LiteralChunk:
    """Octets of the message, or the part of one, that was accepted last, as they came."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class LiteralEnd:
    """The octets that were accepted last are all there."""


@dataclass(frozen=True, slots=True)
class MessageEnd:
    """The message that is made of parts has all of them."""


@dataclass(frozen=True, slots=True)
class AppendEnd:
    """The APPEND command is all there: file its messages and answer it."""


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """What the client answered to `challenge`, base64 undone."""

    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class IdleDone:
    """The client said DONE: answer the IDLE."""


@dataclass(frozen=True, slots=True)
class Broken:
    """What followed `command` was not what it asks for, or the client gave it up; it has its answer already."""

    command: Command
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """No more will be read. Write what is outgoing and close; what was under way gets no answer."""

    reason: str


Event = (
    Command
    | AppendMessage
    | CatenatedMessage
    | AppendText
    | AppendUrl
    | LiteralChunk
    | LiteralEnd
    | MessageEnd
    | AppendEnd
    | AuthResponse
    | IdleDone
    | Broken
    | Ended
)
