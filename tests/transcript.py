"""Plays transcripts: conversations written down, one behaviour a file, whole and one octet at a time.

    # RFC 5321 §4.5.2: the sentence that the file is about.
    @ kind msa                      a setting, for whoever builds the conversation; before the first line
    S: 220 mx.example.org ready     a line that the server says, with its CRLF
    C: NOOP                         a line that the client says, with its CRLF
    C> half a line\\n               octets without CRLF; also S>
    C* 1000 the same                a line that the client says so many times
    C!                              the client hangs up
    A: something                    the application does, or checks, something: `Conversation.act("something")`
    S!                              the conversation has ended

In what is said, `\\r \\n \\0 \\t \\\\ \\xHH` mean what they mean in Python, and `…` in what we say stands for anything.
One side is ours, an engine and what drives it, handed in as a Conversation; the other is the file. What it says in a
row arrives as one piece, line by line, or octet by octet; what ours says must be the same each time.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

TRANSCRIPTS = Path(__file__).parent / "transcripts"
PIECES = ("whole", "line", "octet")
Pieces = Literal["whole", "line", "octet"]


class Conversation(Protocol):
    """Our side: an engine, and the application that answers its events."""

    def receive(self, octets: bytes) -> None:
        """Octets from the other side, b"" when it hangs up. All that follows from them is done before this returns."""
        ...

    def outgoing(self) -> bytes:
        """What is to be sent to the other side."""
        ...

    def act(self, what: str) -> None:
        """Do, or assert, what an `A:` line says."""
        ...

    @property
    def closed(self) -> bool:
        """True where our side has ended the conversation."""
        ...


class Engine(Protocol):
    """What every engine of ours has in common."""

    def receive(self, octets: bytes) -> None:
        """Octets arrive."""
        ...

    def outgoing(self) -> bytes:
        """Octets leave."""
        ...


class Driven:
    """A Conversation made of an engine and a function that answers all its events until it runs dry.

    `acts` carries out the `A:` lines; `ended` tells whether the engine has closed.
    """

    def __init__(
        self,
        engine: Engine,
        app: Callable[[], None],
        *,
        ended: Callable[[], bool] = lambda: False,
        acts: Callable[[str], None] | None = None,
    ) -> None:
        self._engine = engine
        self._app = app
        self._ended = ended
        self._acts = acts
        app()

    def receive(self, octets: bytes) -> None:
        """Octets arrive, and the application answers."""
        self._engine.receive(octets)
        self._app()

    def outgoing(self) -> bytes:
        """Octets leave."""
        return self._engine.outgoing()

    def act(self, what: str) -> None:
        """Whatever the test made of `A:` lines."""
        assert self._acts is not None, f"nobody knows how to {what}"
        self._acts(what)
        self._app()

    @property
    def closed(self) -> bool:
        """Whether the engine has ended."""
        return self._ended()


@dataclass(frozen=True)
class Line:
    """One line of a script: who ("C", "S", "A"), what, and where it stands."""

    who: str
    what: bytes
    number: int
    ends: bool = False


@dataclass(frozen=True)
class Script:
    """A transcript, read."""

    path: Path
    about: str
    settings: dict[str, str] = field(default_factory=dict)
    lines: tuple[Line, ...] = ()


def scripts(room: str) -> list[Path]:
    """The transcripts of `tests/transcripts/<room>`."""
    return sorted((TRANSCRIPTS / room).glob("*.txt"))


def read(path: Path) -> Script:
    """The script in a file. It must say at its top what it is about."""
    about, settings, lines = [], {}, []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if text.startswith("#"):
            about.append(text[1:].strip())
        elif text.startswith("@"):
            name, _, value = text[1:].strip().partition(" ")
            settings[name] = value
        elif text.strip():
            lines.append(_line(text, number, path))
    assert about, f"{path.name} does not say what it is about"
    return Script(path, " ".join(about), settings, tuple(lines))


def _line(text: str, number: int, path: Path) -> Line:
    match = re.fullmatch(r"([CSA])(?:(!)|([:>*]) ?(.*))", text)
    assert match, f"{path.name}:{number}: not a line of a transcript: {text}"
    if match[2]:
        return Line(match[1], b"", number, ends=True)
    if match[1] == "A":
        return Line("A", match[4].encode(), number)
    octets = unescape(match[4])
    if match[3] == "*":
        times, _, line = octets.partition(b" ")
        return Line(match[1], int(times) * (line + b"\r\n"), number)
    return Line(match[1], octets + b"\r\n" if match[3] == ":" else octets, number)


_ESCAPES = {"r": b"\r", "n": b"\n", "0": b"\0", "t": b"\t", "\\": b"\\"}


def unescape(text: str) -> bytes:
    """The octets that a text of a transcript spells."""

    def pieces() -> Iterator[bytes]:
        for plain, hexadecimal, letter in re.findall(r"([^\\]+)|\\x([0-9A-Fa-f]{2})|\\(.)", text):
            yield plain.encode() if plain else bytes.fromhex(hexadecimal) if hexadecimal else _ESCAPES[letter]

    return b"".join(pieces())


def play(
    script: Script, conversation: Conversation, *, ours: Literal["C", "S"] = "S", pieces: Pieces = "whole"
) -> None:
    """Play the whole script; AssertionError where our side says something else."""
    theirs = "C" if ours == "S" else "S"
    pending: list[Line] = []
    expected: list[Line] = []

    def meet() -> None:
        for octets in _cut([line.what for line in pending], pieces):
            conversation.receive(octets)
        _compare(script, expected, conversation.outgoing())
        pending.clear()
        expected.clear()

    for line in script.lines:
        if line.who == theirs and not line.ends:
            if expected:
                meet()
            pending.append(line)
        elif line.who == ours and not line.ends:
            expected.append(line)
        else:
            meet()
            if line.who == "A":
                conversation.act(line.what.decode())
            elif line.who == theirs:
                conversation.receive(b"")
            else:
                assert conversation.closed, f"{script.path.name}:{line.number}: the conversation goes on"
    meet()


def _cut(said: list[bytes], pieces: Pieces) -> list[bytes]:
    if pieces == "line":
        return said
    whole = b"".join(said)
    if pieces == "octet":
        return [whole[at : at + 1] for at in range(len(whole))]
    return [whole] if whole else []


def _compare(script: Script, expected: list[Line], got: bytes) -> None:
    pattern = b"".join(rb"[^\r\n]*".join(map(re.escape, line.what.split("…".encode()))) for line in expected)
    where = f"{script.path.name}:{expected[0].number if expected else '?'}"
    wanted = b"".join(line.what for line in expected)
    assert re.fullmatch(pattern, got), f"{where}: expected\n{wanted!r}\ngot\n{got!r}\n({script.about})"
