"""What the server's engine tells besides the commands of command.py."""

from dataclasses import dataclass
from typing import Literal

from posthouse.terms.reply import Reply
from posthouse.wire.smtp.command import AuthResponse, Command

Why = Literal["quit", "gone", "ended", "injected", "web"]


@dataclass(frozen=True, slots=True)
class Connected:
    """Somebody is there and wants a greeting: 220, or 554 to turn him away (RFC 5321 §3.1)."""


@dataclass(frozen=True, slots=True)
class DataChunk:
    """Octets of the message as its writer had them. Wants no reply."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """A chunk of BDAT that is not the last has ended, and is sound; the chunks had `size` octets so far."""

    size: int


@dataclass(frozen=True, slots=True)
class DataEnd:
    """The message is complete and sound: `size` octets. LMTP wants one reply a recipient taken, in their order."""

    size: int


@dataclass(frozen=True, slots=True)
class DataRefused:
    """The message has ended and had a flaw that nobody may overlook; `reply` has been said. Drop what came of it."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that was answered here, by `reply`. `verb` is "" where the line was none of ours."""

    verb: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class Closed:
    """The conversation is over: send what is left in `outgoing` and hang up.

    `why`: "quit"; "gone" (the client hung up); "ended" (we ended it, by 421 or 521); "injected" (octets that would have
    crossed the beginning of TLS); "web" (a browser's request).
    """

    why: Why


Event = Command | AuthResponse | Connected | DataChunk | ChunkEnd | DataEnd | DataRefused | Rejected | Closed
