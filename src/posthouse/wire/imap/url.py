"""URLs of messages as CATENATE names them (RFC 4469 §3): relative IMAP URLs (RFC 5092 §7).

Promises: `parse` gives what a URL names or raises ParseError, and nothing else. Names of mailboxes are UTF-8.
Refuses: absolute URLs, URLAUTH, and URLs of mailboxes and searches: RFC 4469 leaves them out.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from posthouse.wire.imap import names
from posthouse.wire.imap.fetch import Section, section_named
from posthouse.wire.imap.grammar import MAX_NUMBER, MAX_NUMBER64, ParseError

# RFC 5092 §11 enc-mailbox: bchar without ";" and "?"; isection-only and ipartial-only follow the uid.
_URL = re.compile(
    rb"""
    (?: / (?P<mailbox> (?!/) (?: [A-Za-z0-9$_.+!*'(),:@&=~/-] | %[0-9A-Fa-f]{2} )+? )
        (?: ;UIDVALIDITY= (?P<validity> [1-9][0-9]{0,9} ) )? )?
    /? ;UID= (?P<uid> [1-9][0-9]{0,9} )
    (?: /;SECTION= (?P<section> (?: [A-Za-z0-9$_.+!*'(),:@&=~/\[\] -] | %[0-9A-Fa-f]{2} )+? ) )?
    (?: /;PARTIAL= (?P<origin> [0-9]{1,19} ) (?: \. (?P<count> [1-9][0-9]{0,18} ) )? )?
    \Z""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class MessageUrl:
    """A message, or a part of one. `mailbox` None: the one that is open; `uidvalidity` None: any."""

    mailbox: str | None
    uidvalidity: int | None
    uid: int
    section: Section


def parse(octets: bytes) -> MessageUrl:
    """What a URL names. Raises ParseError."""
    found = _URL.match(octets)
    if found is None:
        raise ParseError("This is no URL of a message here")
    uid, validity = int(found["uid"]), int(found["validity"] or 1)
    if uid > MAX_NUMBER or validity > MAX_NUMBER:
        raise ParseError("A number in the URL is too large")
    return MessageUrl(
        None if found["mailbox"] is None else _name(found["mailbox"]),
        validity if found["validity"] else None,
        uid,
        _section(found["section"] or b"", found["origin"], found["count"]),
    )


def _name(encoded: bytes) -> str:
    # RFC 5092 §11: a "/" may stand before ";UID".
    try:
        return names.decode(unquote_to_bytes(encoded).removesuffix(b"/"), utf8=True)
    except ValueError as error:
        raise ParseError("The mailbox of the URL is not named in UTF-8") from error


def _section(encoded: bytes, origin: bytes | None, count: bytes | None) -> Section:
    """The section, whole or from an origin on."""
    section = section_named(unquote_to_bytes(encoded))
    if origin is None:
        return section
    partial = min(int(origin), MAX_NUMBER64), MAX_NUMBER64 if count is None else min(int(count), MAX_NUMBER64)
    return Section(section.label, section.part, section.text, section.fields, partial, peek=True)
