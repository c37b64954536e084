"""What a message is sorted and threaded by, in IMAP's way: made once, when it is filed, and kept in its row.

Promises: never raises, bounded in size whatever the message. Texts compare by their code points as i;unicode-casemap
compares them (RFC 5051), which is what RFC 5256 §2.2 asks for, and I18NLEVEL=1 (RFC 5255 §4.3).
Refuses: to sort (`sorting.py`) and to thread (`conversations.py`).
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from struct import Struct
from typing import Final

from posthouse.message.addresses import RawAddress, RawGroup
from posthouse.message.header import decode_words

# The lines of a message's sort text, in this order.
SUBJECT, FROM, TO, CC, DISPLAY_FROM, DISPLAY_TO = range(6)
# Characters that are compared. Normalising takes time by the square of a run of marks.
_LONGEST: Final = 500
# Octets of one id in a message's links.
ID: Final = 8
_NO_ID: Final = bytes(ID)


def casemap(text: str) -> str:
    """The text in the form in which i;unicode-casemap compares it: title case letter by letter, decomposed (RFC 5051
    §2)."""
    if text.isascii():
        return text.upper()
    titled = [letter if len(title := letter.title()) != 1 else title for letter in text]
    return unicodedata.normalize("NFKD", "".join(titled))


def sort_text(base_subject: str, addresses: Mapping[bytes, tuple[str, str]]) -> str:
    """What SORT compares, a line each: base subject, mailboxes of From, To and Cc (RFC 5256 §3), the names shown for
    From and To (RFC 5957 §2). `addresses`: the `sort_lines` of these fields."""
    senders, receivers = addresses.get(b"from", _NOBODY), addresses.get(b"to", _NOBODY)
    copies = addresses.get(b"cc", _NOBODY)
    return "\n".join((_compared(base_subject), senders[0], receivers[0], copies[0], senders[1], receivers[1]))


_NOBODY: Final = ("", "")


def sort_lines(addresses: Sequence[RawAddress]) -> tuple[str, str]:
    """What is compared of a field: its first address' mailbox, and the name shown for that address."""
    return _compared(_mailbox(addresses)), _compared(_shown(addresses))


def _compared(line: str) -> str:
    # A letter may become eighteen.
    return casemap(line[:_LONGEST] if line.isprintable() else " ".join(line[:_LONGEST].split()))[:_LONGEST]


def _mailbox(addresses: Sequence[RawAddress]) -> str:
    """addr-mailbox of the first address, as ENVELOPE has it: of a group its name."""
    if not addresses:
        return ""
    first = addresses[0]
    return ((first.name if isinstance(first, RawGroup) else first.local) or b"").decode("utf-8", "replace")


def _shown(addresses: Sequence[RawAddress]) -> str:
    """The first address' name, or else the address."""
    if not addresses:
        return ""
    first = addresses[0]
    if first.name:
        return decode_words(first.name)
    if isinstance(first, RawGroup):
        return ""
    return ((first.local or b"") + b"@" + (first.domain or b"")).decode("utf-8", "replace")


def links(message_id: str | None, references: Sequence[str], reply: bool) -> bytes:
    """What THREAD goes by: whether the subject is that of a reply or of what is forwarded, the message's own id, and
    those of its ancestors from the oldest to its parent, as hashes of ID octets."""
    own = _hash(message_id) if message_id else _NO_ID
    return b"".join([b"\1" if reply else b"\0", own, *map(_hash, references)])


def _hash(message_id: str) -> bytes:
    return blake2b(message_id.encode("utf-8", "replace"), digest_size=ID).digest()


def read_links(packed: bytes) -> tuple[bool, int, Sequence[int]]:
    """The same, taken apart: a reply's?, own id (0: none), ancestors."""
    found = _form(len(packed))(packed)
    return found[0] == 1, found[1], found[2:]


@cache
def _form(size: int) -> Callable[[bytes], tuple[int, ...]]:
    return Struct(f">B{(size - 1) // ID}Q").unpack
