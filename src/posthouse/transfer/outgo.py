"""Writing an account's mail to files: mbox files, or a Maildir.

Promises: what is written is what people see: header lines of delivery in front, flags, date of arrival. It is on the
disk when this returns; a file appears under its name only when it is whole. Memory does not grow with the mailbox. Mail
that comes or goes meanwhile may be in it or not. A message that cannot be read is told of and passed over.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Final, Protocol

from posthouse.mailbox import emails
from posthouse.mailbox.emails import Content, EmailRow
from posthouse.mailbox.model import Mailbox
from posthouse.message.header import Header
from posthouse.store.blobs import BlobLost, Blobs
from posthouse.store.database import Store, Tx
from posthouse.terms.inbox import INBOX
from posthouse.transfer import maildir, mbox

# Emails whose contents are held at once: small ones come with their octets.
_TOGETHER: Final = 50
_PIECE: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Letter:
    """An email as it is written. `keywords` in JMAP's spelling; `base`: what names it for ever."""

    base: str
    keywords: frozenset[str]
    deleted: bool
    received_at: int
    content: Content
    octets: memoryview

    def pieces(self) -> Iterator[bytes]:
        """Its octets."""
        yield self.content.prologue
        for start in range(0, len(self.octets), _PIECE):
            yield bytes(self.octets[start : start + _PIECE])


class Destination(Protocol):
    """What one mailbox is written to."""

    def put(self, letter: Letter) -> bool:
        """Write one; False where it was there. Raises OSError."""
        ...

    def finish(self) -> None:
        """All is written: see it to the disk. Raises OSError."""
        ...


class MboxFile:
    """An mbox file for one mailbox."""

    def __init__(self, path: FilePath) -> None:
        """Raises OSError: also where the file is there already."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            raise FileExistsError(17, "is there already", str(path))
        self._path = path
        self._passing = path.with_name(path.name + ".part")
        self._file = os.fdopen(os.open(self._passing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")

    def put(self, letter: Letter) -> bool:
        """Append it."""
        head = letter.content.prologue + bytes(letter.octets[: Header.parse(letter.octets).end])
        sender = (Header.parse(head).first(b"return-path") or b"").strip(b" <>").decode("utf-8", "replace")
        self._file.write(mbox.begin(sender, letter.received_at))
        body = letter.octets[len(head) - len(letter.content.prologue) :]
        rest = (bytes(body[start : start + _PIECE]) for start in range(0, len(body), _PIECE))
        first = mbox.notes(letter.keywords, deleted=letter.deleted) + mbox.without_notes(head)
        for piece in mbox.quoted(_chain(first, rest)):
            self._file.write(piece)
        return True

    def finish(self) -> None:
        """The file gets its name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.rename(self._passing, self._path)
        descriptor = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class MaildirFolder:
    """A folder of a Maildir for one mailbox."""

    def __init__(self, root: FilePath, path: Sequence[str]) -> None:
        """Raises OSError."""
        self._writer = maildir.Writer(root, tuple(path))

    @property
    def unnamed(self) -> set[str]:
        """Keywords that a Maildir has no letter left for."""
        return self._writer.unnamed

    def put(self, letter: Letter) -> bool:
        """Write it, or let its flags follow."""
        return self._writer.put(
            letter.base,
            letter.keywords,
            deleted=letter.deleted,
            received_at=letter.received_at,
            pieces=letter.pieces(),
        )

    def finish(self) -> None:
        """The names of keywords, too."""
        self._writer.finish()


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def maildir_path(path: str) -> tuple[str, ...]:
    """The levels of a mailbox in a Maildir: the Inbox is its root."""
    return () if path == INBOX else tuple(path.split("/"))


async def write(
    store: Store,
    blobs: Blobs,
    account: int,
    mailbox: Mailbox,
    destination: Destination,
    *,
    progress: Callable[[int], None],
    flaw: Callable[[str, str], None],
) -> int:
    """Write all of a mailbox; how many. Raises OSError, StoreUnavailable."""
    written = 0
    spelled = await store.read(emails.keyword_spellings, account)
    after = 0
    while True:
        rows = await store.read(_rows, account, mailbox.id, after)
        if not rows:
            destination.finish()
            return written
        for start in range(0, len(rows), _TOGETHER):
            some = rows[start : start + _TOGETHER]
            contents = await store.read(emails.contents, account, [row.id for _, _, row in some])
            for uid, deleted, row in some:
                content = contents.get(row.id)
                if content is None:
                    continue  # gone meanwhile
                words = frozenset(name for bit, name in spelled.items() if row.keywords & bit)
                base = f"{row.received_at // 1000}.M{mailbox.uidvalidity}U{uid}.posthouse"
                try:
                    octets = memoryview(await blobs.load(content.blob))
                except BlobLost as error:
                    flaw(f"{mailbox.path}, uid {uid}", str(error))
                    continue
                written += destination.put(Letter(base, words, deleted, row.received_at, content, octets))
            progress(len(some))
        after = rows[-1][0]


def _rows(tx: Tx, account: int, mailbox: int, after: int) -> list[tuple[int, bool, EmailRow]]:
    """The next of a mailbox behind a uid: uid, \\Deleted, row."""
    placed = tx.all("export_placements", account=account, mailbox=mailbox, after=after, limit=emails.CHUNK)
    rows = emails.rows(tx, account, {row[1] for row in placed})
    return [(uid, bool(deleted), rows[email]) for uid, email, deleted in placed if email in rows]
