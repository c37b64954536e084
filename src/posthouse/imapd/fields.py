"""Fields of messages' headers (HEADER.FIELDS, RFC 9051 §6.4.5.1): found without parsing the others, and kept for who
asks for the same ones again.

Promises: what is kept is what `named_fields` finds in the whole header. An email's octets never change and no other
email gets its id, so nothing kept is ever wrong. It takes so many octets of memory and no more: accounts that have not
asked for longest go first, an account has no more than half of it, and few lists of names.
Runs of items that never change are kept with them, under names in upper case (`runs.py`).
Refuses: to read; whoever asks brings the headers.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from posthouse.limits import KB, MB
from posthouse.wire.imap.fetch import Item, Section, Text

# Octets that are kept of all accounts: of some 100,000 messages what Thunderbird asks for.
BUDGET: Final = 64 * MB
# Lists of names that are kept of an account: people have a few programs, each of which asks for the same ones always.
_LISTS: Final = 8
# What is kept of one message has an end. Few have more than a tenth.
_LONGEST: Final = 8 * KB
# What an entry takes beside its octets, and a list.
_EACH: Final = 150
_LIST: Final = 2000
# Up to so many fields are looked for one by one; for more, all are parsed.
FEW_NAMES: Final = 30
_LONGEST_NAMES: Final = 1000
# RFC 9051 §4.3.1 lets no NUL leave but in a literal8. What replaces it keeps the size, as in Dovecot.
INSTEAD_OF_NUL: Final = b"\x80"

# Names of fields, in lower case and in order, each once.
Names = tuple[bytes, ...]


def is_of_header(item: Item) -> bool:
    """Is it fields of a message's header, by few names, all of each?"""
    return (
        isinstance(item, Section)
        and item.text is Text.FIELDS
        and not item.part
        and item.partial is None
        and len(item.fields) <= FEW_NAMES
    )


def names_of(item: Section) -> Names:
    """The names that are asked for, by which an answer is the same."""
    return tuple(sorted({name.lower() for name in item.fields}))


def literal(header: bytes, names: Names) -> bytes:
    """What the literal of such an item holds."""
    return _without_nul(b"".join([*named_fields(header, names), b"\r\n"]))


def literal_of_beginning(prologue: bytes, octets: bytes, names: Names) -> bytes | None:
    """The same, of the octets that a message begins with; None where its header goes on behind them."""
    found: list[bytes] = _expression(names).findall(b"\n" + prologue + octets)
    if not found or found[-1]:
        return None
    return _without_nul(b"\n".join(found) + b"\r\n")


def _without_nul(octets: bytes) -> bytes:
    return octets.replace(b"\0", INSTEAD_OF_NUL) if b"\0" in octets else octets


def named_fields(header: bytes, names: Iterable[bytes]) -> list[bytes]:
    """The fields of these names (lower case), in their order, without parsing the others: what `Header.parse` finds."""
    expression = _expression(tuple(sorted(names)))
    found: list[bytes] = expression.findall(b"\n" + header)
    if found and not found[-1]:
        found.pop()
    elif found and not header.endswith(b"\n"):
        *_, last = expression.finditer(b"\n" + header)
        if last.end() == len(b"\n" + header):
            return [*(field + b"\n" for field in found[:-1]), found[-1]]
    return [field + b"\n" for field in found]


@lru_cache(maxsize=100)
def _expression(names: Names) -> re.Pattern[bytes]:
    """Fields of these names, each without its last LF, which the next one begins behind; then b"" for the empty line
    that ends the header, with all that follows. A line that begins with white space, or a control character (a CR that
    ends no line too), goes on with the field above (RFC 5322 §2.2.3).

    Most lines are told apart by their first octet, which takes a fifth off.
    """
    firsts = b"".join(map(re.escape, sorted({first for name in names for first in (name[:1], name[:1].upper())})))
    alternatives = b"|".join(map(re.escape, names))
    return re.compile(
        rb"\n(?=[\r\n" + firsts + rb"])"
        rb"(?:\r?\n(?s:.*)|"
        rb"((?i:" + alternatives + rb")[ \t]*:[^\n]*(?:\n(?:[\x00-\x09\x0b\x0c\x0e-\x20]|\r(?!\n))[^\n]*)*))"
    )


class _Account:
    """What one account has asked for: of each list of names the literals by email, the last one asked for last."""

    __slots__ = ("lists", "octets", "sizes")

    def __init__(self) -> None:
        self.lists: OrderedDict[Names, dict[int, bytes]] = OrderedDict()
        self.sizes: dict[Names, int] = {}
        self.octets = 0

    def add(self, names: Names, found: Mapping[int, bytes], size: int) -> None:
        if names not in self.lists:
            self.lists[names] = {}
            self.sizes[names] = _LIST
            self.octets += _LIST
        self.lists[names].update(found)
        self.sizes[names] += size
        self.octets += size

    def make_room(self, names: Names, most: int) -> bool:
        """Drop lists, those that were not asked for longest first, until all together take no more than `most` and this
        one may be among them. False where it alone takes more."""
        while self.lists and (self.octets > most or (names not in self.lists and len(self.lists) >= _LISTS)):
            oldest = next(iter(self.lists))
            if oldest == names:
                return False
            del self.lists[oldest]
            self.octets -= self.sizes.pop(oldest)
        return most >= 0


class Kept:
    """The literals that were answered, of all accounts of this process."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._accounts: OrderedDict[int, _Account] = OrderedDict()
        self.octets = 0

    def of(self, account: int, names: Names) -> Mapping[int, bytes]:
        """What is kept, by email. Of what is dropped later the caller has the rest of his answer still."""
        kept = self._accounts.get(account)
        if kept is None or names not in kept.lists:
            return {}
        self._accounts.move_to_end(account)
        kept.lists.move_to_end(names)
        return kept.lists[names]

    def keep(self, account: int, names: Names, found: Mapping[int, bytes]) -> None:
        """Keep these literals, as far as there is room."""
        there = self.of(account, names)
        found = {email: one for email, one in found.items() if len(one) <= _LONGEST and email not in there}
        if not found or sum(map(len, names)) > _LONGEST_NAMES:
            return
        size = sum(map(len, found.values())) + _EACH * len(found)
        kept = self._accounts.pop(account, None) or _Account()
        self.octets -= kept.octets
        if kept.make_room(names, self._budget // 2 - size - _LIST):
            kept.add(names, found, size)
        if kept.lists:
            self._accounts[account] = kept
            self.octets += kept.octets
        while self.octets > self._budget:
            _, oldest = self._accounts.popitem(last=False)
            self.octets -= oldest.octets
