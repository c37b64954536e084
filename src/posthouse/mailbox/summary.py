"""What an email shows without being opened, rendered once when its message is filed.

Promises: `render` is pure and never raises, whatever the octets. The summary (IMAP's ENVELOPE) and the structure
(BODYSTRUCTURE) are well-formed IMAP: 7-bit outside literals, strings quoted where they can be, no NUL (RFC 9051
§7.5.2, §9). They show the header's own octets: encoded-words stay encoded. A mapped message of any size costs little
memory.
Refuses: to speak any other IMAP, and to know accounts: what is rendered here is shared by all who received the message.
Where the RFC leaves room, the answers are those of Dovecot, which clients know.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from posthouse.limits import REFERENCES
from posthouse.mailbox import collation
from posthouse.message import mime, text
from posthouse.message.addresses import RawAddress, RawGroup, split_addresses
from posthouse.message.header import Buffer, Header, Parameters, decode_words, message_ids, parse_date
from posthouse.message.mime import Part
from posthouse.wire import multiline


class Rendered(NamedTuple):
    """What `render` gives.

    `summary` and `structure` are whole IMAP values; `parts` is a packed MIME tree, its offsets counting from the
    message. `head` and `body` are folded search text. `sent_at` is the Date field in UTC milliseconds. Message-ids
    are without their brackets; `references` run from the oldest to the nearest (References, then In-Reply-To).
    `base_subject` is RFC 5256 §2.1's. `sorting` and `links` are what SORT and THREAD go by (`collation.py`). `mended`:
    who reads it by POP3 gets other octets than these (`wire/multiline.py`, `message/downgrade.py`); `dotted`: a dot is
    doubled for him.
    """

    size: int
    summary: bytes
    structure: bytes
    parts: bytes
    preview: str
    head: str
    body: str
    text_at: int | None
    sent_at: int | None
    has_attachment: bool
    message_id: str | None
    references: tuple[str, ...]
    subject: str
    base_subject: str
    sorting: str
    links: bytes
    mended: bool
    dotted: bool


class Gist(NamedTuple):
    """The little of a message that its journey is found by."""

    size: int
    message_id: str | None
    subject: str


_MAX_SUBJECT: Final = 2000  # characters; RFC 5322 §2.1.1 allows 998 a line


def render(octets: Buffer) -> Rendered:
    """Everything at once, from one parse."""
    root, header = mime.read(octets)
    text_at = text.text_in_place(octets, root)
    words = text.words(octets, root) if text_at is None else []
    date = header.first(b"date")
    people = _people(header)
    subject = decode_words(header.first(b"subject") or b"")[:_MAX_SUBJECT]
    base, reply = base_subject(subject)
    ids = message_ids(header.first(b"message-id") or b"")
    message_id = ids[0] if ids else None
    references = message_ids(header.first(b"references") or b"")
    answered = message_ids(header.first(b"in-reply-to") or b"")
    return Rendered(
        size=root.end,
        summary=_summary(header, people),
        structure=structure(octets, root),
        parts=mime.pack(root),
        preview=text.preview_text(words) if text_at is None else text.preview_in_place(octets, root, text_at),
        head=text.head_text(header, subject, {name: field.text for name, field in people.items()}),
        body=text.body_text(words),
        text_at=text_at,
        sent_at=None if date is None else parse_date(date),
        has_attachment=has_attachment(root),
        message_id=message_id,
        references=_kept([*references, *answered]),
        subject=subject,
        base_subject=base,
        sorting=collation.sort_text(base, {name: people[name].sorting for name in _SORTED if name in people}),
        # RFC 5256 §3: In-Reply-To counts where References says nothing, and its first id only.
        links=collation.links(message_id, _kept(references) or answered[:1], reply),
        mended=not (bytes(octets[: header.end]).isascii() and multiline.is_kept(octets)),
        dotted=multiline.is_dotted(octets),
    )


def gist(octets: Buffer) -> Gist:
    """What `render` would say of these, without all the rest."""
    header = Header.parse(octets)
    ids = message_ids(header.first(b"message-id") or b"")
    subject = decode_words(header.first(b"subject") or b"")[:_MAX_SUBJECT]
    return Gist(len(octets), ids[0] if ids else None, subject)


def _kept(ids: Sequence[str]) -> tuple[str, ...]:
    """Each once, and not more than REFERENCES."""
    kept = list(dict.fromkeys(ids))
    # The thread's first message and the nearest ones say where this belongs.
    return tuple(kept if len(kept) <= REFERENCES else [kept[0], *kept[1 - REFERENCES :]])


def has_attachment(root: Part) -> bool:
    """Whether a reader should offer something to save (RFC 8621 §4.1.4): not the text, not its pictures, not
    signatures.
    """
    if _is_offered(root):
        return True
    inside = root.children if root.message is None else (*root.children, root.message)
    return any(map(has_attachment, inside))


# What programs read: signatures, and the middle part of reports.
_UNSEEN: Final = frozenset(
    [
        "pgp-signature",
        "pgp-encrypted",
        "pkcs7-signature",
        "x-pkcs7-signature",
        "delivery-status",
        "disposition-notification",
    ]
)


def _is_offered(part: Part) -> bool:
    if part.type == "multipart" or part.subtype in _UNSEEN:
        return False
    if part.is_attachment:
        return True
    if part.type == "text":
        return part.filename is not None and part.subtype not in ("plain", "html")
    return part.disposition is None and part.id is None


# IMAP's strings -------------------------------------------------------------------------------------------------------

_QUOTABLE = re.compile(rb"[ !#-\[\]-~]*\Z").match
_QUOTABLE_ESCAPED = re.compile(rb"[ -~\t]*\Z").match
_SPECIAL = re.compile(rb'(["\\])')
# A longer string goes as a literal: readers of quoted strings need not hold long ones (RFC 2683 §3.2.1.5 speaks of
# 1000).
_QUOTED_LIMIT: Final = 900


def _string(value: bytes) -> bytes:
    if len(value) <= _QUOTED_LIMIT:
        if _QUOTABLE(value):
            return b'"%b"' % value
        if _QUOTABLE_ESCAPED(value):
            return b'"%b"' % _SPECIAL.sub(rb"\\\1", value)
    value = value.replace(b"\0", b"")  # RFC 9051 §4.3: no NUL even in a literal
    return b"{%d}\r\n%b" % (len(value), value)


def _nstring(value: bytes | None) -> bytes:
    return b"NIL" if value is None else _string(value)


# ENVELOPE -------------------------------------------------------------------------------------------------------------


class _People:
    """What a field of addresses says, split once: as IMAP shows it, as it is searched, and (asked for From, To and Cc
    alone) as it is sorted."""

    __slots__ = ("_items", "_sorting", "imap", "text")

    def __init__(self, raw: bytes) -> None:
        self._items = split_addresses(raw)
        self._sorting: tuple[str, str] | None = None
        self.imap = b"(%b)" % b"".join(map(_address, self._items)) if self._items else b"NIL"
        self.text = text.address_text(self._items)

    @property
    def sorting(self) -> tuple[str, str]:
        if self._sorting is None:
            self._sorting = collation.sort_lines(self._items)
        return self._sorting


# The same people write again and again: where all of them are known, 2 KB are rendered in 52 µs, else in 69.
_KNOWN: Final = 1024
_KNOWN_LENGTH: Final = 200
_known = lru_cache(maxsize=_KNOWN)(_People)

_SORTED: Final = (b"from", b"to", b"cc")


def _people(header: Header) -> dict[bytes, _People]:
    """The address fields of a header. A field that stands there twice counts as one longer field."""
    found: dict[bytes, _People] = {}
    for name in (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc"):
        values = header.all(name)
        if values:
            raw = values[0] if len(values) == 1 else b", ".join(values)
            found[name] = _known(raw) if len(raw) <= _KNOWN_LENGTH else _People(raw)
    return found


def _address(item: RawAddress) -> bytes:
    if isinstance(item, RawGroup):
        # RFC 9051 §7.5.2: a group is opened by an address without a host, and closed by one without anything.
        members = b"".join(map(_address, item.members))
        return b"(NIL NIL %b NIL)%b(NIL NIL NIL NIL)" % (_string(item.name), members)
    name, route, local, domain = item
    # A NIL would speak of groups, so what is missing needs a name; these are the ones Dovecot gives it.
    return b"(%b %b %b %b)" % (
        b"NIL" if name is None else _string(name),
        b"NIL" if route is None else _string(route),
        b'"MISSING_MAILBOX"' if local is None else _string(local),
        b'"MISSING_DOMAIN"' if domain is None else _string(domain),
    )


def _summary(header: Header, people: Mapping[bytes, _People]) -> bytes:
    date, subject, answered, message_id = header.firsts(_SUMMED)
    # "If the Sender or Reply-To header line is absent or empty, the server sets it to the From header line."
    author = people[b"from"].imap if b"from" in people else b"NIL"
    shown = {name: field.imap for name, field in people.items() if field.imap != b"NIL"}
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        _nstring(date),
        _nstring(subject),
        author,
        shown.get(b"sender", author),
        shown.get(b"reply-to", author),
        shown.get(b"to", b"NIL"),
        shown.get(b"cc", b"NIL"),
        shown.get(b"bcc", b"NIL"),
        _nstring(answered),
        _nstring(message_id),
    )


_SUMMED: Final = (b"date", b"subject", b"in-reply-to", b"message-id")


def summary(header: Header) -> bytes:
    """IMAP's ENVELOPE of a header (RFC 9051 §7.5.2)."""
    return _summary(header, _people(header))


# BODY and BODYSTRUCTURE -----------------------------------------------------------------------------------------------

_ASCII: Final = b'("charset" "us-ascii")'


def structure(octets: Buffer, root: Part) -> bytes:
    """IMAP's BODYSTRUCTURE: the tree with extension data (RFC 9051 §7.5.2)."""
    return _structure(octets, root, True)


def body(octets: Buffer, root: Part) -> bytes:
    """IMAP's BODY without section: the tree without extension data."""
    return _structure(octets, root, False)


def _structure(octets: Buffer, part: Part, extended: bool) -> bytes:
    if part.children:
        children = b"".join([_structure(octets, child, extended) for child in part.children])
        subtype = _string(part.subtype.encode())
        if not extended:
            return b"(%b %b)" % (children, subtype)
        return b"(%b %b %b %b)" % (children, subtype, _parameters(part.parameters), _extension(part))
    kind = _leaf(octets, part, extended)
    if not extended:
        return b"(%b)" % kind
    return b"(%b %b %b)" % (kind, _nstring(part.md5), _extension(part))


def _leaf(octets: Buffer, part: Part, extended: bool) -> bytes:
    parameters = part.parameters
    is_text = part.type == "text"
    kind = (_text_kind if is_text and _is_short(parameters) else _kind)(part.type, part.subtype, parameters)
    fields = b"%b %b %b %b %d" % (
        kind,
        _nstring(part.id),
        _nstring(part.description),
        _string(part.encoding),
        part.size,
    )
    if part.message is not None:
        inner = part.message
        envelope = summary(Header.parse(octets, inner.header_start, inner.body_start))
        return b"%b %b %b %d" % (fields, envelope, _structure(octets, inner, extended), part.lines)
    return b"%b %d" % (fields, part.lines) if is_text else fields


def _kind(type: str, subtype: str, parameters: Parameters) -> bytes:
    if type == "text" and not any(name == b"charset" or name == b"charset*" for name, _ in parameters):
        shown = b'(%b "charset" "us-ascii")' % _pairs(parameters) if parameters else _ASCII  # RFC 2045 §5.2
    else:
        shown = _parameters(parameters)
    return b'"%b" "%b" %b' % (type.encode(), subtype.encode(), shown)


# What text says of itself is nearly always the same.
_text_kind = lru_cache(maxsize=256)(_kind)


def _is_short(parameters: Parameters) -> bool:
    """A charset at most, of a name that may be one."""
    return len(parameters) < 2 and sum([len(name) + len(value) for name, value in parameters]) < _KNOWN_LENGTH


def _extension(part: Part) -> bytes:
    disposition = b"NIL"
    if part.disposition is not None:
        disposition = b"(%b %b)" % (_string(part.disposition), _parameters(part.disposition_parameters))
    return b"%b %b %b" % (disposition, _language(part.language), _nstring(part.location))


def _language(value: bytes | None) -> bytes:
    """RFC 3282: one tag, or several with commas."""
    tags = [tag.strip() for tag in value.split(b",") if tag.strip()] if value else []
    if len(tags) < 2:
        return _string(tags[0]) if tags else b"NIL"
    return b"(%b)" % b" ".join(map(_string, tags))


def _parameters(parameters: Parameters) -> bytes:
    return b"(%b)" % _pairs(parameters) if parameters else b"NIL"


def _pairs(parameters: Parameters) -> bytes:
    return b" ".join([b"%b %b" % (_string(name), _string(value)) for name, value in parameters])


# subjects -------------------------------------------------------------------------------------------------------------

_BLOB = r"\[[^\[\]]*\]\s*"
_LEADER = re.compile(rf"\s*(?:{_BLOB}){{0,20}}(?:re|fwd?)\s*(?:{_BLOB})?:", re.IGNORECASE)
_BLOB_FIRST = re.compile(rf"\s*{_BLOB}(?=\S)")


def base_subject(subject: str) -> tuple[str, bool]:
    """RFC 5256 §2.1: the decoded subject without "Re:", "Fwd:", "(fwd)" and list names, what IMAP sorts and threads by;
    and whether what was taken away says that it was a reply or forwarded."""
    base = " ".join(subject[:_MAX_SUBJECT].split())  # (1)
    reply = False
    while True:
        while base[-5:].lower() == "(fwd)":  # (2)
            base, reply = base[:-5].rstrip(), True
        while True:
            if match := _LEADER.match(base):  # (3)
                base, reply = base[match.end() :].lstrip(), True
            elif match := _BLOB_FIRST.match(base):  # (4), unless nothing would be left
                base = base[match.end() :]
            else:  # (5)
                break
        if base[:5].lower() == "[fwd:" and base.endswith("]"):  # (6)
            base, reply = base[5:-1].strip(), True
        else:
            return base, reply
