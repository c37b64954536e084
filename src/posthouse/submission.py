"""Submission: may this account send as that, and what does its message lack? RFC 6409.

Promises: the envelope's sender and every address of From are identities of the account (its own addresses and those it
was granted, with or without a tag), so nobody writes in another's name. What is right is left octet for octet as it
was; Date, Message-ID and From are added where they are missing, Bcc is taken out, a Sender that is not the account's
too.
Where senders are rewritten (which has to be configured), what is not the account's becomes its own address, and the
author that was named is whom answers go to.
Refuses: to guess at a header that cannot be read (two From fields, a line that is no field): who sent it is there to
hear it. The recipients' number is metered by policy/limits.SubmissionRate.
"""

import re
from collections.abc import Callable
from random import Random
from typing import Final

from posthouse.clock import Clock
from posthouse.directory.cache import Directory
from posthouse.directory.identities import Identities
from posthouse.directory.kept import Kept
from posthouse.directory.model import Account
from posthouse.limits import HEADER_ADDRESSES, HEADER_FIELDS, HEADER_SIZE
from posthouse.message import build
from posthouse.message.header import Header, Mailbox
from posthouse.message.people import people
from posthouse.terms.address import Address, BadAddress, parse, parse_domain
from posthouse.terms.envelope import Envelope
from posthouse.terms.reply import Refusal

# RFC 5322 §3.6.3: how hidden recipients stay hidden. Resent-Bcc is the same for a message sent again (§3.6.6).
_HIDDEN: Final = (b"bcc", b"resent-bcc")
# A line begins with the name of a field, or with white space where it goes on with the one above; an empty one is none.
_NO_START: Final = re.compile(rb"\n[\x00-\x08\n-\x1f\x7f]")
_NO_FIRST: Final = frozenset(bytes([octet]) for octet in (*range(33), 127))
_SENDING: Final = 20_000
# What says nothing of where an address ends: quoted strings and comments (RFC 5322 §3.2.2, §3.2.4).
_ASIDE: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|\((?:[^()\\"]|\\.)*+\)', re.DOTALL)
_DEEPEST_COMMENT: Final = 10


class Submission:
    """What both submission doors ask. One a process."""

    def __init__(
        self, directory: Directory, clock: Clock, random: Random, hostname: str, *, rewrite: bool = False
    ) -> None:
        """`rewrite`: senders that are not the account's become its own address, and are not refused."""
        self._directory = directory
        self._rewrite = rewrite
        self._clock = clock
        self._random = random
        self._hostname = hostname
        # What MAIL was judged by, for the header that follows it.
        self._identities: Kept[int, Identities] = Kept(_SENDING)

    async def check_sender(self, account: Account, sender: Address | None) -> Address | None:
        """The reverse-path that the account sends with: this one, where it may. The null one anybody may, for receipts
        (RFC 8098 §3).

        Raises Refusal, StoreUnavailable.
        """
        identities = await self._directory.identities(account.id)
        self._identities.put(account.id, identities)
        if sender is None or identities.owns(sender):
            return sender
        if self._rewrite:
            return parse(account.name)
        raise Refusal(550, "5.7.1", "You may not send as that address: it is none of yours")

    def header_edit(self, account: Account, envelope: Envelope) -> Callable[[bytes], bytes]:
        """What makes the header of this envelope's message right; it raises Refusal where that cannot be done.

        `check_sender` was called for it. The function takes and gives the fields, each with its CRLF, without the empty
        line behind them; the very same object where nothing is to be done.
        """
        identities = self._identities.get(account.id)
        if identities is None:
            raise Refusal(451, "4.3.0", "Your addresses cannot be looked up now; try again")
        author = envelope.sender or Address(*account.name.rpartition("@")[::2])
        named = Mailbox(account.full_name, author.local, author.domain)
        return lambda head: self._complete(head, identities, named)

    def _complete(self, head: bytes, identities: Identities, author: Mailbox) -> bytes:
        header = Header.parse(head)
        _check_fields(head, header)
        people = _authors(header)
        authors, added = len(people), list[bytes]()
        removed = [name for name in _HIDDEN if header.count(name)]
        if not all(_is_own(one, identities) for one in people):
            if not self._rewrite:
                raise Refusal(550, "5.7.1", "The From field names an address that is none of yours")
            removed.append(b"from")
            authors = 0
            if not header.count(b"reply-to"):
                added.append(build.address_field("Reply-To", people))
        senders = header.all(b"sender")
        if len(senders) > 1 or not all(_names_own(sender, identities) for sender in senders):
            # RFC 6409 §8.1: the MSA may replace the Sender with what it knows to be true.
            removed.append(b"sender")
            senders = []
        if authors == 0:
            added.append(build.address_field("From", [author]))
        elif authors > 1 and not senders:
            # RFC 5322 §3.6.2: several authors need a Sender.
            added.append(build.address_field("Sender", [author]))
        if header.first(b"date") is None:
            added.append(build.date_field(self._clock.now()))  # RFC 6409 §8.2
        if header.first(b"message-id") is None:
            added.append(build.message_id_field(self._message_id(author)))  # RFC 6409 §8.3
        return build.edit_header(head, remove=removed, add=added) if removed or added else head

    def _message_id(self, author: Mailbox) -> str:
        """RFC 5322 §3.6.4: unique by the instant and 64 random bits, in a domain that is ours."""
        domain = self._hostname if author.domain.startswith("[") else author.domain
        return build.message_id(domain, f"{self._clock.now():x}.{self._random.getrandbits(64):016x}")


def _check_fields(head: bytes, header: Header) -> None:
    """What no later eye may read otherwise than we do."""
    if len(head) > HEADER_SIZE or not header.complete:
        # The fields past the limits are not known: one of them may be another From.
        raise Refusal(550, "5.6.0", f"The header has more than {HEADER_FIELDS} fields or {HEADER_SIZE} octets")
    if b"\0" in head:
        raise Refusal(550, "5.6.0", "The header holds a NUL")  # RFC 5322 §3.5
    if (
        head[:1] in _NO_FIRST
        or _NO_START.search(head)
        or not all(field.name and field.name.isascii() for field in header.fields)
    ):
        raise Refusal(550, "5.6.0", "A line of the header is no field")


def _authors(header: Header) -> list[Mailbox]:
    """The addresses in From; none: there is no such field."""
    fields = header.all(b"from")
    if not fields:
        return []
    if len(fields) > 1:
        raise Refusal(550, "5.6.0", "The header has more than one From field")  # RFC 5322 §3.6
    authors = people(fields[0])
    if not authors:
        raise Refusal(550, "5.6.0", "The From field names no address")
    if len(authors) >= HEADER_ADDRESSES or not _reads_one_way(fields[0]):
        raise Refusal(550, "5.6.0", "The From field cannot be read")
    return authors


def _reads_one_way(value: bytes) -> bool:
    """Whether every program finds the same addresses: each stands by itself between commas.

    Of `<a@b.example> <c@d.example>`, `a@b.example c@d.example` and `<a@b.example:c@d.example>` some take the first and
    some the last.
    """
    for _ in range(_DEEPEST_COMMENT):
        value, found = _ASIDE.subn(b" ", value)
        if not found:
            break
    if any(mark in value for mark in (b'"', b"(", b")")):
        return False
    for piece in re.split(rb"[,;]", value):
        phrase, bracket, rest = piece.partition(b"<")
        address, closing, behind = rest.partition(b">")
        if (address if bracket else phrase).count(b"@") > 1:
            return False
        if bracket and (not closing or behind.strip() or (b"@" in phrase and phrase.split() != address.split())):
            return False
    return True


def _names_own(value: bytes, identities: Identities) -> bool:
    found = people(value)
    return len(found) == 1 and _is_own(found[0], identities)


def _is_own(person: Mailbox, identities: Identities) -> bool:
    try:
        return identities.owns(Address(person.local, parse_domain(person.domain)))
    except BadAddress:
        return False
