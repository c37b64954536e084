"""ACL on the wire (RFC 4314): its commands, what they ask for, and the responses.

Promises: an unknown right is BAD; the virtual rights "c" and "d" stand for what they mean, on both ways (§2.1.1).
Refuses: to know who an identifier is.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from posthouse.wire.imap.grammar import Parser
from posthouse.wire.imap.response import astring, mailbox

# RFC 4314 §2.1, and what c and d stand for (§2.1.1; as Dovecot and Cyrus have it).
_RIGHTS: Final = "lrswipkxtea"
_VIRTUAL: Final = {"c": "kx", "d": "te"}
_MODIFICATION: Final = re.compile(rb"([+-]?)([lrswipkxteacd]*)\Z")


@dataclass(frozen=True, slots=True)
class SetAcl:
    """SETACL: RFC 4314 §3.1. `how`: "+" adds `rights`, "-" takes them, "" puts them in the place of what was."""

    mailbox: str
    identifier: str
    how: str
    rights: str


@dataclass(frozen=True, slots=True)
class DeleteAcl:
    """DELETEACL: RFC 4314 §3.2."""

    mailbox: str
    identifier: str


@dataclass(frozen=True, slots=True)
class GetAcl:
    """GETACL: RFC 4314 §3.3."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class ListRights:
    """LISTRIGHTS: RFC 4314 §3.4."""

    mailbox: str
    identifier: str


@dataclass(frozen=True, slots=True)
class MyRights:
    """MYRIGHTS: RFC 4314 §3.5."""

    mailbox: str


def parse_set(parser: Parser) -> SetAcl:
    """Behind SETACL: SP mailbox SP identifier SP mod-rights."""
    name, identifier = _mailbox(parser), _identifier(parser)
    parser.space()
    start = parser.at
    found = _MODIFICATION.match(parser.astring())
    if found is None:
        # RFC 4314 §3.1: an unrecognized right is BAD.
        parser.at = start
        parser.fail("rights of lrswipkxtea")
    how, letters = found.group(1).decode(), found.group(2).decode()
    meant = letters + "".join([members for letter, members in _VIRTUAL.items() if letter in letters])
    return SetAcl(name, identifier, how, "".join([right for right in _RIGHTS if right in meant]))


def parse_delete(parser: Parser) -> DeleteAcl:
    """Behind DELETEACL: SP mailbox SP identifier."""
    return DeleteAcl(_mailbox(parser), _identifier(parser))


def parse_get(parser: Parser) -> GetAcl:
    """Behind GETACL: SP mailbox."""
    return GetAcl(_mailbox(parser))


def parse_list(parser: Parser) -> ListRights:
    """Behind LISTRIGHTS: SP mailbox SP identifier."""
    return ListRights(_mailbox(parser), _identifier(parser))


def parse_my(parser: Parser) -> MyRights:
    """Behind MYRIGHTS: SP mailbox."""
    return MyRights(_mailbox(parser))


def _mailbox(parser: Parser) -> str:
    parser.space()
    return parser.mailbox()


def _identifier(parser: Parser) -> str:
    parser.space()
    start = parser.at
    try:
        found = parser.astring().decode()
    except UnicodeDecodeError:
        found = ""
    if not found:
        parser.at = start
        parser.fail("an identifier")
    return found


def _shown(rights: str) -> bytes:
    """RFC 4314 §2.1.1: "c" and "d" are told where any of their members is."""
    virtual = "".join([letter for letter, members in _VIRTUAL.items() if set(members) & set(rights)])
    return string_of(rights + virtual)


def string_of(rights: str) -> bytes:
    """Rights as an astring."""
    return astring(rights.encode("ascii"))


def acl(name: str, entries: Iterable[tuple[str, str]], *, utf8: bool) -> bytes:
    """ACL (RFC 4314 §3.6): identifiers and their rights."""
    words = [b"%b %b" % (astring(identifier.encode()), _shown(rights)) for identifier, rights in entries]
    return b" ".join([b"* ACL", mailbox(name, utf8=utf8), *words]) + b"\r\n"


def list_rights(name: str, identifier: str, required: str, more: str, *, utf8: bool) -> bytes:
    """LISTRIGHTS (RFC 4314 §3.7): what the identifier has in any case, and what more it can be granted, one by one."""
    optional = [*more, *[letter for letter, members in _VIRTUAL.items() if set(members) <= set(more)]]
    words = [_shown(required), *map(string_of, optional)]
    head = b"* LISTRIGHTS %b %b " % (mailbox(name, utf8=utf8), astring(identifier.encode()))
    return head + b" ".join(words) + b"\r\n"


def my_rights(name: str, rights: str, *, utf8: bool) -> bytes:
    """MYRIGHTS (RFC 4314 §3.8)."""
    return b"* MYRIGHTS %b %b\r\n" % (mailbox(name, utf8=utf8), _shown(rights))
