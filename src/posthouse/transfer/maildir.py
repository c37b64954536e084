"""Maildir, read and written: a file a message, flags in its name; folders as Maildir++ has them (".Work.Old"), or as
directories.

Promises: flags, Dovecot's keywords file, and the time of the file as the date of arrival are kept. A file that vanishes
or cannot be read is a Flaw. What is written appears under its name only when it is whole; written again, nothing is
doubled and flags follow. Refuses: links, wherever they lead, so that nobody's Maildir lets another's files in.
"""

import os
import stat
import string
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path as FilePath
from typing import Final

from posthouse.terms.keywords import FROM_IMAP, TO_IMAP
from posthouse.transfer.source import Flaw, Folder, Item, Known, Path, Seen, SourceError, key_of, with_crlf, with_lf
from posthouse.wire.imap import names

_PIECE: Final = 256 * 1024
_LETTERS: Final = {"S": "$seen", "R": "$answered", "F": "$flagged", "D": "$draft", "P": "$forwarded"}
_FLAGS: Final = frozenset(_LETTERS.values())
_KEYWORDS: Final = "dovecot-keywords"
# Files whose keys are looked up together.
_LOOK: Final = 500
_DEEPEST: Final = 20


def is_maildir(directory: FilePath) -> bool:
    """It has what makes one, itself: a link may lead to somebody else's."""
    return all((directory / which).is_dir() and not (directory / which).is_symlink() for which in ("cur", "new"))


class Maildir:
    """A Maildir as a source."""

    def __init__(self, root: FilePath) -> None:
        self._root = root
        self._places: dict[Path, list[FilePath]] = {}

    def folders(self) -> list[Folder]:
        """The Inbox, and those below. Raises SourceError."""
        self._places = {}
        try:
            self._gather(self._root, ())
        except OSError as error:
            raise SourceError(f"{error.filename}: {(error.strerror or str(error)).lower()}") from error
        return [Folder(path, sum(map(_count, places))) for path, places in sorted(self._places.items())]

    def items(self, folder: Folder, known: Known) -> Iterator[Item | Seen | Flaw]:
        """The messages, in the order of their names, which begin with the time."""
        for place in self._places[folder.path]:
            yield from self._items(place, known)

    def _items(self, place: FilePath, known: Known) -> Iterator[Item | Seen | Flaw]:
        words = _read_keywords(place / _KEYWORDS)
        try:
            found = sorted((name, which) for which in ("cur", "new") for name in _files(place / which))
        except OSError as error:
            yield Flaw(str(place), (error.strerror or str(error)).lower())
            return
        for start in range(0, len(found), _LOOK):
            some = {key_of(name.partition(":")[0]): (name, which) for name, which in found[start : start + _LOOK]}
            before = known(some)
            if before:
                yield Seen(len(before), len(before))
            for key, (name, which) in some.items():
                if key not in before:
                    yield self._item(place / which / name, key, words)

    def close(self) -> None:
        """Nothing is held."""

    def _gather(self, place: FilePath, path: Path) -> None:
        """A folder, and those in it: ".A.B" of the root is A/B; a directory with a cur is one of its name."""
        if is_maildir(place):
            self._places.setdefault(path, []).append(place)
        for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
            if entry.name in ("cur", "new", "tmp") or not entry.is_dir(follow_symlinks=False):
                continue
            if entry.name.startswith("."):
                levels = tuple(map(_read_level, entry.name[1:].split("."))) if not path and len(entry.name) > 1 else ()
                if levels and is_maildir(FilePath(entry.path)):
                    self._places.setdefault(levels, []).append(FilePath(entry.path))
            elif len(path) < _DEEPEST:
                self._gather(FilePath(entry.path), (*path, _read_level(entry.name)))

    def _item(self, file: FilePath, key: bytes, words: dict[str, str]) -> Item | Flaw:
        _, _, info = file.name.partition(":2,")
        try:
            status = file.lstat()
        except OSError as error:
            return Flaw(str(file), (error.strerror or str(error)).lower())
        if not stat.S_ISREG(status.st_mode):
            return Flaw(str(file), "it is no file")
        keywords = {_LETTERS[letter] for letter in info if letter in _LETTERS}
        keywords |= {words[letter] for letter in info if letter in words}
        received_at = max(0, status.st_mtime_ns // 1_000_000)
        pieces = with_crlf(_read(file))
        return Item(str(file), key, frozenset(keywords), "T" in info, received_at, pieces)


def _read(file: FilePath) -> Iterator[bytes]:
    # It may have become something else since it was looked at.
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as opened:
        while piece := opened.read(_PIECE):
            yield piece


def _files(directory: FilePath) -> Iterator[str]:
    with os.scandir(directory) as entries:
        yield from (entry.name for entry in entries if not entry.name.startswith("."))


def _count(place: FilePath) -> int:
    try:
        return sum(1 for which in ("cur", "new") for _ in _files(place / which))
    except OSError:
        return 0  # told of when its messages are asked for


def _read_level(written: str) -> str:
    """A level of a folder's name: modified UTF-7 with what the dot needs (\\2e), or as it is."""
    try:
        name = names.decode(written.encode("utf-8", "surrogateescape"), utf8=False)
    except ValueError:
        name = written.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return name.replace("\\2e", ".").replace("\\2f", "/").replace("\\5c", "\\")


def _read_keywords(file: FilePath) -> dict[str, str]:
    """Dovecot's: a line "0 name" a letter, from a on."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines() if not file.is_symlink() else []
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        number, _, name = line.partition(" ")
        if number.isdecimal() and int(number) < len(string.ascii_lowercase) and name:
            found[string.ascii_lowercase[int(number)]] = FROM_IMAP.get(name.lower(), name)
    return found


# writing --------------------------------------------------------------------------------------------------------------


def level(name: str) -> str:
    """A level of a mailbox's name in a folder's name."""
    escaped = name.replace("\\", "\\5c").replace(".", "\\2e").replace("/", "\\2f")
    return names.encode(escaped, utf8=False).decode("ascii")


class Writer:
    """One folder of a Maildir++ that is written, or was written before."""

    def __init__(self, root: FilePath, path: Path) -> None:
        """Raises OSError."""
        self._place = root / ("." + ".".join(map(level, path))) if path else root
        for which in ("", "cur", "new", "tmp"):
            (self._place / which).mkdir(mode=0o700, parents=True, exist_ok=True)
        if path:
            (self._place / "maildirfolder").touch(mode=0o600)
        self._there = {name.partition(":")[0]: name for name in _files(self._place / "cur")}
        there = _read_keywords(self._place / _KEYWORDS)
        self._letters = {word.lower(): letter for letter, word in there.items()}
        self._spelled = {word.lower(): word for word in there.values()}
        self.unnamed: set[str] = set()

    def put(
        self, base: str, keywords: Collection[str], *, deleted: bool, received_at: int, pieces: Iterable[bytes]
    ) -> bool:
        """Write a message, unless it is there; then its flags follow. True where it was written. Raises OSError."""
        name = f"{base}:2,{self._info(keywords, deleted)}"
        before = self._there.get(base)
        if before is not None:
            if before != name:
                os.rename(self._place / "cur" / before, self._place / "cur" / name)
                self._there[base] = name
            return False
        passing = self._place / "tmp" / base
        with open(passing, "wb", opener=_private) as file:
            for piece in with_lf(iter(pieces)):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.utime(passing, ns=(received_at * 1_000_000,) * 2)
        os.rename(passing, self._place / "cur" / name)
        self._there[base] = name
        return True

    def finish(self) -> None:
        """Write the names of keywords, and see all of it to the disk. Raises OSError."""
        if self._letters:
            order = sorted(self._letters.items(), key=lambda pair: pair[1])
            lines = [f"{string.ascii_lowercase.index(letter)} {self._spelled[word]}\n" for word, letter in order]
            (self._place / _KEYWORDS).write_text("".join(lines), "utf-8")
        for which in ("cur", ""):
            descriptor = os.open(self._place / which, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _info(self, keywords: Collection[str], deleted: bool) -> str:
        # Dovecot has no letter of its own for what was forwarded, and looks for a keyword.
        own = [TO_IMAP.get(word, word) for word in sorted(keywords) if word == "$forwarded" or word not in _FLAGS]
        letters = [letter for letter, word in _LETTERS.items() if word in keywords]
        letters += [letter for word in own if (letter := self._letter(word)) is not None]
        return "".join(sorted([*letters, "T"] if deleted else letters))

    def _letter(self, word: str) -> str | None:
        """The letter of a keyword; None where all are given away."""
        free = (one for one in string.ascii_lowercase if one not in self._letters.values())
        letter = self._letters.get(word.lower()) or next(free, None)
        if letter is None:
            self.unnamed.add(word)
        else:
            self._letters.setdefault(word.lower(), letter)
            self._spelled.setdefault(word.lower(), word)
        return letter


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
