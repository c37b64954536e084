"""Flags in IMAP's spelling: the system's, and the account's keywords as one session has met them (RFC 9051 §2.3.2).

Promises: a combination of flags is spelt once. Refuses: to read the account's keywords; the session does.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from posthouse.mailbox.model import DELETED
from posthouse.mailbox.shares import ALL
from posthouse.mailbox.view import Entries
from posthouse.terms.keywords import FROM_IMAP, TO_IMAP
from posthouse.wire.imap import response

# `\\Deleted` is IMAP's own, and no keyword of the model.
DELETED_FLAG: Final = "\\deleted"
# RFC 4314 §4: what it takes to change a flag; "w" for all others.
_RIGHT_FOR: Final = {b"\\Seen": "s", b"\\Deleted": "t"}
_SYSTEM: Final = (b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Seen", b"\\Draft")
# Combinations of flags whose text is kept; a mailbox has a few dozen.
_COMBINATIONS: Final = 500


class _Spelt(dict[int, bytes]):
    """Flags as parenthesised lists, by their bits: written where they are asked for the first time."""

    __slots__ = ("names",)

    def __init__(self) -> None:
        super().__init__()
        self.names: Mapping[int, str] = {}

    def __missing__(self, bits: int) -> bytes:
        names = [TO_IMAP.get(name, name).encode() for bit, name in self.names.items() if bits & bit]
        if bits & DELETED:
            names.append(b"\\Deleted")
        if len(self) >= _COMBINATIONS:
            self.clear()
        found = self[bits] = response.parenthesized(names)
        return found


class Flags:
    """The names of an account's keywords by bit, and how flags are written with them.

    `write` gives the flags of some bits as a parenthesised list; it is to be mapped over columns.
    """

    __slots__ = ("_names", "_spelt", "_unnamed", "write")

    def __init__(self) -> None:
        self._names: Mapping[int, str] = {}
        self._unnamed = 0
        self._spelt = _Spelt()
        self.write: Callable[[int], bytes] = self._spelt.__getitem__

    @property
    def longest(self) -> int:
        """No list of flags is written in more octets."""
        return len(self.write(-1))

    def __len__(self) -> int:
        return len(self._names)

    def covers(self, bits: int) -> bool:
        """Are the names of all these bits known?"""
        return not bits & self._unnamed

    def learn(self, names: Mapping[int, str]) -> bool:
        """These are all names; True where some are new."""
        new = names.keys() - self._names.keys()
        self._names, self._unnamed = names, ~(sum(names) | DELETED)
        self._spelt.names = names
        self._spelt.clear()
        return bool(new)

    def describe(self, read_only: bool, rights: str = ALL) -> tuple[bytes, bytes]:
        """Every flag that the mailbox knows, the system's and the account's keywords, and which of them stay where the
        client has these rights (RFC 4314 §5.1.1)."""
        keywords = [TO_IMAP.get(name, name).encode() for name in self._names.values()]
        every = [*_SYSTEM, *[name for name in keywords if not name.startswith(b"\\")]]
        stay = [name for name in (*every, b"\\*") if _RIGHT_FOR.get(name, "w") in rights]
        permanent = response.permanent_flags([] if read_only else stay)
        return response.flags(every), response.ok("Flags that stay", permanent)

    def bits(self) -> dict[str, int]:
        """The account's keywords by the model's names, in lower case."""
        return {name.lower(): bit for bit, name in self._names.items()}


def split_flags(flags: Sequence[str]) -> tuple[list[str], bool]:
    """Keywords, the system's by the model's names and the others as they are written, and whether `\\Deleted` is among
    the flags. `\\Recent` cannot be set."""
    lowered = {flag.lower(): flag for flag in reversed(flags)}
    deleted = lowered.pop(DELETED_FLAG, None) is not None
    lowered.pop("\\recent", None)
    return [FROM_IMAP.get(flag, written) for flag, written in lowered.items()], deleted


# --- how they are told ------------------------------------------------------------------------------------------------


def flag_lines(write: Callable[[int], bytes], entries: Entries, *, uidonly: bool, modseqs: bool) -> bytes:
    """FETCH responses of flags that nobody asked for, with the uid (RFC 9051 §7.5.2), and with the modseq where the
    client has enabled CONDSTORE (RFC 7162 §3.2.4). `uidonly`: RFC 9586 §3.3."""
    columns: list[Iterable[Any]] = [map(write, entries.flags), *([entries.modseqs] if modseqs else [])]
    if uidonly:
        form = b"* %d UIDFETCH (FLAGS %b MODSEQ (%d))\r\n" if modseqs else b"* %d UIDFETCH (FLAGS %b)\r\n"
        return response.fetch_columns(form, entries.uids, columns)
    form = b"* %d FETCH (UID %d FLAGS %b MODSEQ (%d))\r\n" if modseqs else b"* %d FETCH (UID %d FLAGS %b)\r\n"
    return response.fetch_columns(form, entries.seqs, [entries.uids, *columns])


def modseq_lines(entries: Entries, *, uidonly: bool) -> bytes:
    """The same of modseqs alone."""
    if uidonly:
        return response.fetch_columns(b"* %d UIDFETCH (MODSEQ (%d))\r\n", entries.uids, [entries.modseqs])
    return response.fetch_columns(b"* %d FETCH (UID %d MODSEQ (%d))\r\n", entries.seqs, [entries.uids, entries.modseqs])
