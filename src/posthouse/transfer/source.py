"""What mail is read from: folders of messages, one message at a time.

Promises: a source is an iterator that a thread may run: it blocks, and holds no more of a message in memory than a
piece. A message that cannot be read is a Flaw in its place, and the next one follows.
Refuses: to know an account, or the store.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

# A path of names, from the top; () is the Inbox.
Path = tuple[str, ...]
# Of these keys, those whose messages were brought before.
Known = Callable[[Collection[bytes]], set[bytes]]


class SourceError(Exception):
    """Nothing more can be read from here; the message says why, for people."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder. `role`: what it is for there ("sent"…), where that is known; `size`: of its content, in the source's
    own unit of progress."""

    path: Path
    size: int
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A message: `pieces` are to be taken before the next one is asked for, and raise OSError or SourceError.

    `key` names it for ever among those of its folder; None: its octets do. `keywords` are in JMAP's spelling;
    `received_at` is UTC milliseconds. `name` is for people; `size`: how far one has come with it.
    """

    name: str
    key: bytes | None
    keywords: frozenset[str]
    deleted: bool
    received_at: int | None
    pieces: Iterator[bytes]
    size: int = 1


@dataclass(frozen=True, slots=True)
class Seen:
    """Messages that were brought before, of this size together."""

    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Flaw:
    """A message that cannot be read, and why."""

    name: str
    why: str
    size: int = 1


class Source(Protocol):
    """Something that mail is read from."""

    def folders(self) -> Sequence[Folder]:
        """All that hold mail. Raises SourceError."""
        ...

    def items(self, folder: Folder, known: Known) -> Iterator["Item | Seen | Flaw"]:
        """The messages of a folder. Those whose keys are known may be passed over. Raises SourceError."""
        ...

    def close(self) -> None:
        """Let go of it. Safe to call twice."""
        ...


def key_of(*parts: str | bytes) -> bytes:
    """A key of what these say together."""
    made = blake2b(digest_size=16)
    for part in parts:
        octets = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        made.update(b"%d:" % len(octets))
        made.update(octets)
    return made.digest()


def with_crlf(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces with each LF that stands alone made CRLF: files of Unix hold lines that end in LF."""
    before = b""
    for piece in pieces:
        joined = before + piece
        before = joined[-1:] if joined.endswith(b"\r") else b""
        joined = joined[: len(joined) - len(before)]
        if joined:
            yield joined.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if before:
        yield before


def with_lf(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces with each CRLF made LF."""
    before = b""
    for piece in pieces:
        joined = before + piece
        before = joined[-1:] if joined.endswith(b"\r") else b""
        joined = joined[: len(joined) - len(before)]
        if joined:
            yield joined.replace(b"\r\n", b"\n")
    if before:
        yield before
