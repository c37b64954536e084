"""Flags in IMAP's spelling: the system's, and the account's keywords as one session has met them (RFC 9051 §2.3.2).

Promises: a combination of flags is spelt once. Refuses: to read the account's keywords; the session does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from posthouse.mailbox.model import DELETED
from posthouse.mailbox.shares import ALL
from posthouse.mailbox.view import Entries, Entry
from posthouse.terms.keywords import FROM_IMAP, TO_IMAP
from posthouse.wire.imap import response

# `\\Deleted` is IMAP's own, and no keyword of the model.
DELETED_FLAG: Final = "\\deleted"
# RFC 4314 §4: what it takes to change a flag; "w" for all others.
_RIGHT_FOR: Final = {b"\\Seen": "s", b"\\Deleted": "t"}
_SYSTEM: Final = (b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Seen", b"\\Draft")
# Combinations of flags whose text is kept; a mailbox has a few dozen.
_COMBINATIONS: Final = 500


class Flags:
    """The names of an account's keywords by bit, and how flags are written with them."""

    __slots__ = ("_names", "_spelt", "_unnamed")

    def __init__(self) -> None:
        self._names: Mapping[int, str] = {}
        self._unnamed = 0
        self._spelt: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._names)

    def knows(self, entries: Sequence[Entry]) -> bool:
        """False where one of these has a bit whose name is not known."""
        unnamed = self._unnamed
        return not any(entry.flags & unnamed for entry in entries)

    def covers(self, bits: int) -> bool:
        """Are the names of all these bits known?"""
        return not bits & self._unnamed

    def learn(self, names: Mapping[int, str]) -> bool:
        """These are all names; True where some are new."""
        new = names.keys() - self._names.keys()
        self._names, self._unnamed = names, ~(sum(names) | DELETED)
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

    def write(self, bits: int) -> bytes:
        """The flags as a parenthesised list."""
        found = self._spelt.get(bits)
        if found is None:
            names = [TO_IMAP.get(name, name).encode() for bit, name in self._names.items() if bits & bit]
            if bits & DELETED:
                names.append(b"\\Deleted")
            if len(self._spelt) >= _COMBINATIONS:
                self._spelt.clear()
            found = self._spelt[bits] = response.parenthesized(names)
        return found

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
    spelt = {bits: write(bits) for bits in set(entries.flags)}
    columns = [map(spelt.__getitem__, entries.flags), *([entries.modseqs] if modseqs else [])]
    if uidonly:
        form = b"* %d UIDFETCH (FLAGS %b MODSEQ (%d))\r\n" if modseqs else b"* %d UIDFETCH (FLAGS %b)\r\n"
        return response.fetch_lines(form, list(zip(entries.uids, *columns, strict=True)))
    form = b"* %d FETCH (UID %d FLAGS %b MODSEQ (%d))\r\n" if modseqs else b"* %d FETCH (UID %d FLAGS %b)\r\n"
    return response.fetch_lines(form, list(zip(entries.seqs, entries.uids, *columns, strict=True)))


def modseq_lines(entries: Entries, *, uidonly: bool) -> bytes:
    """The same of modseqs alone."""
    if uidonly:
        form = b"* %d UIDFETCH (MODSEQ (%d))\r\n"
        return response.fetch_lines(form, list(zip(entries.uids, entries.modseqs, strict=True)))
    form = b"* %d FETCH (UID %d MODSEQ (%d))\r\n"
    return response.fetch_lines(form, list(zip(entries.seqs, entries.uids, entries.modseqs, strict=True)))
