"""What a header tells of how a message came to be and which way it came: written by hand or not, sent on by whom.

Promises: never raises. Refuses: to believe it; anybody can write such fields, or leave them out.
"""

from typing import Final

from posthouse.message.charset import undeclared
from posthouse.message.header import Header

# What programs write that answer or distribute, beside the fields that RFC 3834 §2 and RFC 2369 know.
_OF_PROGRAMS: Final = (
    b"x-autoreply", b"x-autorespond", b"x-failed-recipients", b"list-id", b"list-post", b"list-help", b"list-subscribe",
    b"list-unsubscribe", b"list-owner", b"list-archive",
)  # fmt: skip


def is_automatic(header: Header) -> bool:
    """RFC 3834 §5: Auto-Submitted says something other than "no"."""
    said = (header.first(b"auto-submitted") or b"").partition(b";")[0].partition(b"(")[0].strip().lower()
    return said not in (b"", b"no")


def is_impersonal(header: Header) -> bool:
    """RFC 3834 §2: automatic, or sent to many: nothing that is to be answered by a program."""
    precedence = (header.first(b"precedence") or b"").strip().lower()
    mass = precedence in (b"bulk", b"junk", b"list")
    return mass or is_automatic(header) or any(header.count(name) for name in _OF_PROGRAMS)


def senders_on(header: Header) -> frozenset[str]:
    """The addresses, case-folded, that have taken the message or sent it on (RFC 9228 §4)."""
    return frozenset(undeclared(value).strip().casefold() for value in header.all(b"delivered-to"))
