"""QUOTA on the wire (RFC 9208): its commands, what they ask for, and the responses.

Promises: names of quota roots are octets as the client wrote them. Refuses: to know what is limited.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from posthouse.wire.imap.grammar import MAX_NUMBER64, Parser
from posthouse.wire.imap.response import astring, mailbox, parenthesized


@dataclass(frozen=True, slots=True)
class GetQuota:
    """GETQUOTA: RFC 9208 §4.1.1."""

    root: bytes


@dataclass(frozen=True, slots=True)
class GetQuotaRoot:
    """GETQUOTAROOT: RFC 9208 §4.1.2."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class SetQuota:
    """SETQUOTA: RFC 9208 §4.1.3. Pairs of resource, in upper case, and limit."""

    root: bytes
    limits: tuple[tuple[bytes, int], ...]


def parse_get(parser: Parser) -> GetQuota:
    """Behind GETQUOTA: SP quota-root-name."""
    parser.space()
    return GetQuota(parser.astring())


def parse_get_root(parser: Parser) -> GetQuotaRoot:
    """Behind GETQUOTAROOT: SP mailbox."""
    parser.space()
    return GetQuotaRoot(parser.mailbox())


def parse_set(parser: Parser) -> SetQuota:
    """Behind SETQUOTA: SP quota-root-name SP setquota-list."""
    parser.space()
    root = parser.astring()
    parser.space()
    return SetQuota(root, parser.listed(_limit, empty=True))


def _limit(parser: Parser) -> tuple[bytes, int]:
    resource = parser.keyword()
    parser.space()
    # RFC 9208 §7: resource-limit = number64
    return resource, parser.number(MAX_NUMBER64)


def quota(root: bytes, resources: Iterable[tuple[bytes, int, int]]) -> bytes:
    """QUOTA (RFC 9208 §4.2.1): resource, usage and limit of each that is limited."""
    return b"* QUOTA %b %b\r\n" % (astring(root), parenthesized(b"%b %d %d" % resource for resource in resources))


def quota_root(name: str, roots: Iterable[bytes], *, utf8: bool) -> bytes:
    """QUOTAROOT (RFC 9208 §4.2.2): what limits a mailbox; nothing, where nothing does."""
    return b" ".join([b"* QUOTAROOT", mailbox(name, utf8=utf8), *map(astring, roots)]) + b"\r\n"
