"""A header for those who cannot read UTF-8 in headers (RFC 6858): rudimentary, and always ASCII.

Promises: what is ASCII stays octet by octet; a text is encoded (RFC 2047), a person keeps the name, a parameter of
MIME is encoded (RFC 2231). An address that needs UTF-8 becomes one that leads nowhere: nobody answers to a wrong
person. Refuses: to change what is stored, and bodies.
"""

import re
from typing import Final
from urllib.parse import quote_from_bytes

from posthouse.message import build
from posthouse.message.addresses import Group, Mailbox, parse_addresses
from posthouse.message.charset import undeclared
from posthouse.message.header import Header, parse_parameters
from posthouse.message.octets import Buffer
from posthouse.terms.address import BadAddress, parse_domain

# RFC 5322 §3.6.2, §3.6.3, §3.6.6.
_PEOPLE: Final = frozenset(
    f"{prefix}{name}".encode()
    for prefix in ("", "resent-")
    for name in ("from", "sender", "reply-to", "to", "cc", "bcc")
)
_MIME: Final = frozenset({b"content-type", b"content-disposition"})
# RFC 6858 §2.1: .invalid is nobody's (RFC 2606 §2).
_NOWHERE: Final = "invalid", "internationalized-address.invalid"
_EIGHT_BIT: Final = re.compile(rb"[\x80-\xff]")
_NAME: Final = re.compile(rb"[!-9;-~]+\Z")
_PLAIN_VALUE: Final = re.compile(rb"[A-Za-z0-9!#$&+.^_`{|}~-]+\Z")


def for_ascii(prologue: bytes, octets: Buffer) -> tuple[Buffer, ...]:
    """A stored message, whose header may go on behind `prologue`, with a header in ASCII."""
    if prologue.isascii() and isinstance(octets, bytes) and octets.isascii():
        return prologue, octets
    cut = Header.parse(octets).end
    header = prologue + octets[:cut]
    return (prologue, octets) if header.isascii() else (conventional(header), memoryview(octets)[cut:])


def has_ascii_header(octets: Buffer) -> bool:
    """Whether a message can be shown to those who cannot read UTF-8 in headers as it is."""
    return bytes(octets[: Header.parse(octets).end]).isascii()


def conventional(header: bytes) -> bytes:
    """The header (its empty line included) in ASCII. What cannot be said in it is left out (RFC 6858 §2.4)."""
    if header.isascii():
        return header
    parsed = Header.parse(header)
    if not parsed.complete:
        return _EIGHT_BIT.sub(b"?", header)
    ends = (b"\r\n\r\n", b"\n\n")
    empty_line = b"\r\n" if header.endswith(ends) or header in (b"\r\n", b"\n") else b""
    return b"".join([_field(parsed.octets(one), one.name, parsed.value(one)) for one in parsed.fields]) + empty_line


def _field(octets: bytes, name: bytes, value: bytes) -> bytes:
    if octets.isascii():
        return octets
    written = octets.partition(b":")[0].strip()
    if not _NAME.match(written):
        return b""
    if name in _PEOPLE:
        return build.address_field(written.decode(), [_reachable(one) for one in _people(value)])
    if name in _MIME:
        return _with_parameters(written, value)
    return build.field(written.decode(), undeclared(value.strip()))


def _people(value: bytes) -> list[Mailbox]:
    found: list[Mailbox] = []
    for one in parse_addresses(value):
        found += one.members if isinstance(one, Group) else (one,)
    return found


def _reachable(person: Mailbox) -> Mailbox:
    """The person with an address in ASCII; a domain has one (RFC 5891), a local part has not."""
    try:
        domain = person.domain if person.domain.isascii() else parse_domain(person.domain)
    except BadAddress:
        domain = ""
    if person.local.isascii() and (domain or not person.domain):
        return Mailbox(person.name, person.local, domain)
    return Mailbox(person.name, *_NOWHERE)


def _with_parameters(name: bytes, value: bytes) -> bytes:
    kind, parameters = parse_parameters(value)
    if not kind.isascii():
        return b""
    said = [kind]
    for key, octets in parameters:
        if not key.isascii():
            continue
        if not octets.isascii():
            # RFC 2231 §4.
            key, octets = key.rstrip(b"*") + b"*", b"utf-8''" + quote_from_bytes(undeclared(octets).encode()).encode()
        elif not _PLAIN_VALUE.match(octets):
            octets = b'"%b"' % octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        said.append(b"%b=%b" % (key, octets))
    return name + b": " + b";\r\n\t".join(said) + b"\r\n"
