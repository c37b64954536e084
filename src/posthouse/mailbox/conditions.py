"""What a search asks for, as values: the tree that IMAP's SEARCH and JMAP's filters are made into.

Promises: strings are compared as substrings in the folded form of `message.text.fold` (case and compatibility forms
folded, white space collapsed); dates are UTC milliseconds. `prepared` folds each string, once a search, and says the
condition in the leaves that `query` answers.
Refuses: to know IMAP's grammar, sequence numbers and time zones: doors turn dates into milliseconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from posthouse.message.text import HEAD_FIELDS, fold

# A Date field's day may be this far from the day in UTC (milliseconds).
ZONE: Final = 26 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class And:
    """All of them hold; of none: everything."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of them holds; of none: nothing."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """It does not hold."""

    part: "Condition"


@dataclass(frozen=True, slots=True)
class Uids:
    """The uid lies in one of these ranges: in order, ends included."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Keywords:
    """The email has all these keywords (bits)."""

    bits: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """The placement is marked \\Deleted."""


@dataclass(frozen=True, slots=True)
class Received:
    """Received at `since` or later, and before `before` (UTC milliseconds)."""

    since: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """The Date field's own day and time, without regard to its zone, compared as if it were UTC (RFC 9051 §6.4.4)."""

    since: int | None = None
    before: int | None = None

    def within(self, zone: int) -> tuple[int | None, int | None]:
        """Since and before with so many milliseconds in front of them and behind; fewer than none: with so many less.
        What is not asked for stays so; a bound of 0 is one (1970)."""
        since = None if self.since is None else self.since - zone
        return since, None if self.before is None else self.before + zone


@dataclass(frozen=True, slots=True)
class Size:
    """More than `above` octets, and fewer than `below`, prologue included."""

    above: int | None = None
    below: int | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """Put into the mailbox at `since` or later, and before `before` (UTC milliseconds; RFC 8514)."""

    since: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class OfEmail:
    """It is this email (RFC 8474 §7)."""

    email: int


@dataclass(frozen=True, slots=True)
class OfThread:
    """The email belongs to this thread."""

    thread: int


@dataclass(frozen=True, slots=True)
class Modseq:
    """Changed at this modseq or later (RFC 7162 §3.1.5)."""

    least: int


@dataclass(frozen=True, slots=True)
class Subject:
    """The decoded subject contains this."""

    text: str


@dataclass(frozen=True, slots=True)
class Address:
    """A name or address in a field ("from", "to", "cc", "bcc") contains this."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Header:
    """A field of this name contains this, decoded; with an empty text: there is such a field."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Body:
    """The decoded text of a part contains this."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """Header or body contain this."""

    text: str


# what `prepared` makes of the last ones -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """The line of `message.head` for this field (one of HEAD_FIELDS) contains this, which is not empty."""

    field: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Fields:
    """Some field of the header contains this, in the form "name: value"."""

    text: str


Narrow = Uids | Keywords | Deleted | Received | Saved | Size | Modseq | OfEmail | OfThread
Leaf = Narrow | Sent | Subject | Address | Header | Body | Text | Head | Fields
Condition = And | Or | Not | Leaf

EVERYTHING: Final = And(())
NOTHING: Final = Or(())

# The head holds these as the header has them; of addresses it leaves comments, quotes and brackets out.
_WHOLE: Final = frozenset({b"subject", b"message-id"})


def prepared(condition: Condition) -> Condition:
    """The same, of leaves whose strings are folded; Subject, Address and Text are said by Head, Fields and Body."""
    match condition:
        case Not(part):
            return Not(prepared(part))
        case And(parts):
            return And(tuple([prepared(part) for part in parts]))
        case Or(parts):
            return Or(tuple([prepared(part) for part in parts]))
        case Subject(text):
            return _in_field("subject", fold(text))
        case Address(field, text):
            # They are kept as "name local@domain", without the angle brackets.
            return _in_field(field, fold(text.replace("<", " ").replace(">", " ")), known=True)
        case Header(name, text):
            return _in_field(name, fold(text))
        case Body(text):
            return Body(fold(text))
        case Text(text):
            return Or((Fields(fold(text)), Body(fold(text))))
        case _:
            return condition


def _in_field(name: str, text: str, *, known: bool = False) -> Leaf:
    field = name.lower().encode("ascii", "replace")
    # An empty text asks whether there is such a field, and the head has lines for fields that are not there.
    return Head(field, text) if text and field in HEAD_FIELDS and (known or field in _WHOLE) else Header(name, text)


def leaves(condition: Condition) -> Iterator[Leaf]:
    """Every leaf of a condition, in order."""
    match condition:
        case Not(part):
            yield from leaves(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from leaves(part)
        case _:
            yield condition
