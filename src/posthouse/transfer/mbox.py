"""mbox files, read and written: messages one after the other, each behind a line that begins with "From " (RFC 4155).

Promises: a file of any size is read as a stream. A line begins a message only where it stands first or behind an empty
line, looks as programs write it (a date in it) and a field of a header follows: an unquoted "From " in a text is text.
Quoting is undone as mboxrd does it (each ">From " loses one ">"), or mboxo (only ">From " does). What mail programs
note in the header (Status, X-Status, X-Keywords, X-Mozilla-Status) is read as flags and taken out; what we write is
mboxrd, and reads back octet by octet where lines ended in CRLF.
Refuses: Content-Length as the end of a message (mboxcl), which is wrong as soon as anybody edits the file.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import BinaryIO, Final, Literal

from posthouse.message.date import parse_date
from posthouse.message.header import Header
from posthouse.terms.keywords import FROM_IMAP, TO_IMAP
from posthouse.transfer.source import Flaw, Folder, Item, Known, Path, Seen, SourceError, with_crlf, with_lf

Quoting = Literal["mboxrd", "mboxo"]

_PIECE: Final = 64 * 1024
# A header past this is text: no flags are looked for in it.
_LONGEST_HEADER: Final = 1024 * 1024
_MONTH: Final = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
# "From bob@example.org Thu Jan  1 09:00:00 2026", with a zone in several places, or day before month.
_FROM: Final = re.compile(
    rb"From (?:.* )?(?=(?:\w{3},? )?(?:" + _MONTH + rb" +\d{1,2}|\d{1,2} +" + _MONTH + rb")\b)"
    rb"(.*\b\d{1,2}:\d\d(?::\d\d)?\b.*\d{4}.*)$"
)
_FIELD: Final = re.compile(rb"[!-9;-~]+[ \t]*:|>?From ")
_QUOTED: Final = {"mboxrd": re.compile(rb">+From "), "mboxo": re.compile(rb">From ")}
_TO_QUOTE: Final = re.compile(rb"^(?=>*From )", re.MULTILINE)
_NOTES: Final = re.compile(
    rb"^(?:status|x-status|x-keywords|x-uid|x-imapbase|x-mozilla-status2?|x-mozilla-keys)[ \t]*:", re.IGNORECASE
)
_LETTERS: Final = {"R": "$seen", "A": "$answered", "F": "$flagged", "T": "$draft"}
_FROM_MOZILLA: Final = {0x0001: "$seen", 0x0002: "$answered", 0x0004: "$flagged", 0x1000: "$forwarded"}
_MOZILLA_GONE: Final = 0x0008
# Thunderbird writes in front of all that was there. Behind what a server has put on, it is the sender's, who may not
# have his mail left out here.
_MOZILLA: Final = re.compile(rb"x-mozilla-", re.IGNORECASE)
_TRACE: Final = re.compile(rb"(?:return-path|received|delivered-to)[ \t]*:", re.IGNORECASE)
# What Pine and IMAP servers of its kind keep for themselves in the first message.
_INTERNAL: Final = re.compile(rb"x-imap[ \t]*:", re.IGNORECASE)
SUFFIX: Final = ".mbox"
_INBOXES: Final = ("inbox", "mbox", "mail")
_EMPTY: Final = (b"\n", b"\r\n")
_LONGEST_FROM: Final = 400


class _Lines:
    """The lines of a stream, long ones in pieces, with a look at the two that follow."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.position = 0
        self.ahead = stream.readline(_PIECE)
        self.second = stream.readline(_PIECE)

    def take(self) -> bytes:
        """The next line; b"" at the end."""
        line = self.ahead
        self.position += len(line)
        self.ahead = self.second
        self.second = self._stream.readline(_PIECE)
        return line

    @property
    def at_beginning(self) -> re.Match[bytes] | None:
        """Where a message begins next: its line is as programs write it, and a field follows."""
        begun = _FROM.match(self.ahead) if self.ahead[:5] == b"From " and len(self.ahead) < _LONGEST_FROM else None
        field = not self.second or self.second in _EMPTY or _FIELD.match(self.second)
        return begun if field else None


class Mbox:
    """An mbox file as a source. `size`: of the file in octets, 0 where nobody knows; `shown`: its name for people,
    where there are several."""

    def __init__(
        self, stream: BinaryIO, path: Path, size: int = 0, quoting: Quoting = "mboxrd", *, shown: str = ""
    ) -> None:
        self._stream = stream
        self._folder = Folder(path, size)
        self._quoting = _QUOTED[quoting]
        self._shown = shown

    def folders(self) -> list[Folder]:
        """The one that it is."""
        return [self._folder]

    def items(self, folder: Folder, known: Known) -> Iterator[Item | Seen | Flaw]:
        """Its messages, once. A file that begins with anything else has none."""
        lines = _Lines(self._stream)
        while lines.ahead in _EMPTY:
            lines.take()
        if lines.ahead and not lines.at_beginning:
            yield Flaw(
                self._shown or "the file", "it is no mbox: it does not begin with a line From, an address and a date"
            )
            return
        number = 0
        while lines.ahead:
            number += 1
            yield from self._message(lines, number)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _message(self, lines: _Lines, number: int) -> Iterator[Item | Seen | Flaw]:
        start, begun = lines.position, lines.at_beginning
        lines.take()
        rest = self._body(lines)
        head, more = _header(rest)
        notes = _Notes(head)
        if notes.gone or (notes.internal and number == 1):
            for _ in more:
                pass
            yield Seen(0, lines.position - start)
            return
        date = Header.parse(head).first(b"date")
        received_at = parse_date(begun[1]) if begun else None
        if received_at is None and date is not None:
            received_at = parse_date(date)
        pieces = with_crlf(_joined(notes.header, more))
        name = f"{self._shown}, message {number}" if self._shown else f"message {number}"
        yield Item(name, None, frozenset(notes.keywords), notes.deleted, received_at, pieces, 0)
        for _ in more:
            pass  # what the taker left
        yield Seen(0, lines.position - start)

    def _body(self, lines: _Lines) -> Iterator[bytes]:
        """The lines of a message, unquoted, without the empty line that parts it from the next."""
        empty = b""
        begins = True  # of a line: a long one comes in pieces
        while lines.ahead:
            line = lines.take()
            ends = line.endswith(b"\n")
            if begins and line in _EMPTY:
                if empty:
                    yield empty
                empty = line
                if lines.at_beginning:
                    return
                continue
            if empty:
                yield empty
                empty = b""
            yield line[1:] if begins and line[:1] == b">" and self._quoting.match(line) else line
            begins = ends


class MboxTree:
    """A directory of mbox files, one a mailbox: "Work/Old.mbox". Others in it, and links, are passed by."""

    def __init__(self, root: FilePath, quoting: Quoting = "mboxrd") -> None:
        self._root = root
        self._quoting: Quoting = quoting
        self._files: dict[Path, list[FilePath]] = {}

    def folders(self) -> list[Folder]:
        """By their paths. Raises SourceError."""
        self._files = {}
        found = sorted(file for file in self._root.rglob(f"*{SUFFIX}") if file.is_file() and not file.is_symlink())
        paths = [self._path(file) for file in found]
        names = {path[0].lower() for path in paths if len(path) == 1}
        # The others of these beside it are folders that are called so.
        inbox = next((name for name in _INBOXES if name in names), "")
        for path, file in zip(paths, found, strict=True):
            top = len(path) == 1 and path[0].lower() in ("", inbox)
            self._files.setdefault(() if top else path, []).append(file)
        if not self._files:
            raise SourceError(f"{self._root}: neither a Maildir nor a directory of files NAME{SUFFIX}")
        return [Folder(path, sum(file.stat().st_size for file in some)) for path, some in sorted(self._files.items())]

    def items(self, folder: Folder, known: Known) -> Iterator[Item | Seen | Flaw]:
        """The messages of a file, or of several that are one folder."""
        for file in self._files[folder.path]:
            try:
                stream = file.open("rb")
            except OSError as error:
                yield Flaw(str(file), (error.strerror or str(error)).lower(), 0)
                continue
            with stream:
                source = Mbox(stream, folder.path, folder.size, self._quoting, shown=str(file))
                yield from source.items(folder, known)

    def _path(self, file: FilePath) -> Path:
        levels = file.relative_to(self._root).parts
        return (*map(level_of, levels[:-1]), _stem(levels[-1]))

    def close(self) -> None:
        """Nothing is held."""


def folder_of(file_name: str) -> Path:
    """The folder that an mbox file of this name is: the Inbox has several that are usual."""
    name = _stem(file_name)
    return () if not name or name.lower() in _INBOXES else (name,)


def _stem(file_name: str) -> str:
    return level_of(file_name.removesuffix(SUFFIX))


def file_of(root: FilePath, path: str) -> FilePath:
    """Where a mailbox's file lies: a directory a level. What would be hidden, no name, or taken for a file, is written
    with %2E."""
    levels = [_file_name(level) for level in path.split("/")]
    above = [level.removesuffix(SUFFIX) + "%2Embox" if level.endswith(SUFFIX) else level for level in levels[:-1]]
    return root.joinpath(*above, levels[-1] + SUFFIX)


def _file_name(level: str) -> str:
    escaped = level.replace("%", "%25")
    return f"%2E{escaped[1:]}" if escaped.startswith(".") else escaped


def level_of(file_name: str) -> str:
    """The name of a mailbox that a file or directory name stands for."""
    return file_name.replace("%2E", ".").replace("%25", "%")


def _header(lines: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The header with its empty line, and the rest."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if line in _EMPTY or size > _LONGEST_HEADER:
            break
    return b"".join(held), lines


def _joined(head: bytes, more: Iterator[bytes]) -> Iterator[bytes]:
    """Lines gathered to pieces."""
    held = [head]
    size = len(head)
    for line in more:
        held.append(line)
        size += len(line)
        if size >= _PIECE:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


class _Notes:
    """What mail programs noted in a header, and the header without it."""

    def __init__(self, head: bytes) -> None:
        self.keywords: set[str] = set()
        self.deleted = False
        self.gone = False
        self.internal = False
        kept: list[bytes] = []
        name = b""  # of the note that we are in
        carried = False
        for line in head.splitlines(keepends=True):
            value = line
            if line[:1] not in b" \t" or not line.strip():
                self.internal = self.internal or bool(_INTERNAL.match(line))
                carried = carried or bool(_TRACE.match(line))
                note = _NOTES.match(line) and not (carried and _MOZILLA.match(line))
                name, _, value = line.partition(b":") if note else (b"", b"", b"")
            if name:
                self._read(name.strip().lower(), value.strip().decode("ascii", "replace"))
            else:
                kept.append(line)
        self.header = b"".join(kept)

    def _read(self, name: bytes, value: str) -> None:
        if name in (b"status", b"x-status"):
            self.keywords.update(_LETTERS[letter] for letter in value if letter in _LETTERS)
            self.deleted = self.deleted or "D" in value
        elif name in (b"x-keywords", b"x-mozilla-keys"):
            self.keywords.update(FROM_IMAP.get(word.lower(), word) for word in value.split())
        elif name == b"x-mozilla-status" and re.fullmatch(r"[0-9A-Fa-f]{1,8}", value):
            bits = int(value, 16)
            self.keywords.update(word for bit, word in _FROM_MOZILLA.items() if bits & bit)
            self.gone = self.gone or bool(bits & _MOZILLA_GONE)


# writing --------------------------------------------------------------------------------------------------------------


def begin(sender: str | None, received_at: int) -> bytes:
    """The line in front of a message (RFC 4155, Appendix A): the reverse-path as far as it is one word, UTC."""
    at = datetime.fromtimestamp(received_at / 1000, UTC)
    word = sender if sender and sender.isascii() and sender.isprintable() and " " not in sender else "MAILER-DAEMON"
    return f"From {word} {at.replace(microsecond=0, tzinfo=None).ctime()}\n".encode()


def notes(keywords: Iterable[str], *, deleted: bool) -> bytes:
    """The fields by which flags travel. `keywords` in JMAP's spelling."""
    names = sorted(keywords)
    status = "R" if "$seen" in names else ""
    further = "".join(letter for letter, word in _LETTERS.items() if letter != "R" and word in names)
    further += "D" if deleted else ""
    others = [TO_IMAP.get(name, name) for name in names if name not in _LETTERS.values()]
    lines = [f"Status: {status}O\n"]
    if further:
        lines.append(f"X-Status: {further}\n")
    if others:
        lines.append(f"X-Keywords: {' '.join(others)}\n")
    return "".join(lines).encode()


def quoted(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A text as it stands in the file: lines that end in LF, quoted, an empty line behind it."""
    begins = True  # of a line
    for block in _blocks(with_lf(iter(pieces))):
        if b"From " in block:
            first, end, rest = (b"", b"", block) if begins else block.partition(b"\n")
            yield first + end + _TO_QUOTE.sub(b">", rest)
        else:
            yield block
        begins = block.endswith(b"\n")
    yield b"\n" if begins else b"\n\n"


def without_notes(header: bytes) -> bytes:
    """A header without what programs may have noted in it."""
    return _Notes(header).header


def _blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks of whole lines, but where a line is longer than a piece."""
    held = b""
    for piece in pieces:
        block, end, rest = (held + piece).rpartition(b"\n")
        if end:
            yield block + end
        held = rest
        if len(held) > _PIECE:
            yield held
            held = b""
    if held:
        yield held
