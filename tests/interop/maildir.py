"""Folders in Maildir format, as clients fill them. https://cr.yp.to/proto/maildir.html"""

from pathlib import Path

# Its letters, in the words of IMAP.
LETTERS = {"F": rb"\Flagged", "R": rb"\Answered", "S": rb"\Seen", "D": rb"\Draft", "T": rb"\Deleted"}


def make(folder: Path) -> Path:
    """An empty one; its path."""
    for part in ("cur", "new", "tmp"):
        (folder / part).mkdir(parents=True)
    return folder


def files(folder: Path) -> list[Path]:
    """Its messages."""
    return sorted(path for part in ("cur", "new") for path in (folder / part).iterdir())


def content(path: Path) -> bytes:
    """A file's octets with the line ends of the network."""
    return path.read_bytes().replace(b"\n", b"\r\n")


def messages(folder: Path) -> list[bytes]:
    """The octets of all of them, sorted: a Maildir knows no order."""
    return sorted(content(path) for path in files(folder))


def flags(path: Path) -> frozenset[bytes]:
    """A message's."""
    return frozenset(LETTERS[letter] for letter in path.name.partition(":2,")[2])


def mark(path: Path, letters: str) -> None:
    """Give a message these flags."""
    path.rename(path.parent.parent / "cur" / f"{path.name.partition(':2,')[0]}:2,{letters}")
