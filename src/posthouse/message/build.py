"""Writing messages: whole ones, and single fields in front of those of others (RFC 5322, 2045, 2047, 5321 §4.4).

Promises: what is written is 7-bit, CRLF, lines of 998 octets at most, folded at 78 where it can be (RFC 5322 §2.1.1),
except local parts that are not ASCII, which stay UTF-8 (RFC 6532). No value can end a field: line endings in values
become spaces. Equal arguments give equal octets: dates, ids and tokens come from the caller.
Refuses: to change a body, or more of a stranger's header than it is told to.
"""

import binascii
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from mimetypes import MimeTypes
from typing import Final

from posthouse.message.addresses import Mailbox
from posthouse.message.date import format_date
from posthouse.terms.address import Address, quoted_local

_WIDTH: Final = 78
_LONGEST: Final = 900  # a word that comes near 998 octets is encoded, so that it can be folded
_BREAKS = re.compile(r"[\r\n\0]+[ \t]*")


# fields ---------------------------------------------------------------------------------------------------------------


def field(name: str, value: str) -> bytes:
    """An unstructured field (RFC 5322 §2.2.1): folded, encoded where it is not ASCII (RFC 2047)."""
    value = _BREAKS.sub(" ", value).strip()
    if not _is_plain(value):
        value = _encoded(value, len(name) + 2)
    return _folded(name, value)


def address_field(name: str, mailboxes: Iterable[Mailbox]) -> bytes:
    """A field with a list of addresses (RFC 5322 §3.6.3)."""
    return _folded(name, ", ".join(_mailbox(mailbox, len(name) + 2) for mailbox in mailboxes))


def date_field(at: int) -> bytes:
    """Date (RFC 5322 §3.6.1); `at` is UTC milliseconds."""
    return b"Date: %b\r\n" % format_date(at).encode()


def message_id(domain: str, token: str) -> str:
    """A message-id without its brackets (RFC 5322 §3.6.4). The caller's token makes it unique for ever."""
    return f"{token}@{domain}"


def message_id_field(id: str) -> bytes:
    """Message-ID; `id` as `message_id` gives it."""
    return b"Message-ID: <%b>\r\n" % id.encode()


def _is_plain(value: str) -> bool:
    return (
        value.isascii()
        and (value.isprintable() or value.replace("\t", " ").isprintable())
        and "=?" not in value
        and all(len(word) < _LONGEST for word in value.split(" "))
    )


def _folded(name: str, value: str) -> bytes:
    """RFC 5322 §2.2.3: broken in front of a space, so that unfolding gives the value back."""
    lines: list[str] = []
    line = f"{name}:"
    for word in value.split(" "):
        if word and line.strip() and len(line) + 1 + len(word) > _WIDTH and line != f"{name}:":
            lines.append(line)
            line = ""
        line += f" {word}"
    lines.append(line)
    return "\r\n".join(lines).rstrip(" ").encode() + b"\r\n"


_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")


def _mailbox(mailbox: Mailbox, before: int) -> str:
    domain = f"@{mailbox.domain}" if mailbox.domain else ""
    address = _BREAKS.sub("", quoted_local(mailbox.local) + domain)
    name = _BREAKS.sub(" ", mailbox.name).strip()
    if not name:
        return address
    if not _is_plain(name):
        name = _encoded(name, before)
    elif not _ATOMS.match(name):
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        name = f'"{escaped}"'
    return f"{name} <{address}>"


_ENCODED_WORD: Final = 75  # RFC 2047 §2
_Q_FRAME: Final = len("=?utf-8?q??=")
# What stands for itself in a phrase too (RFC 2047 §5 (3)).
_Q_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")


def _encoded(value: str, before: int) -> str:
    """Encoded-words that never cut a character in two (RFC 2047 §5); the first line already holds `before` octets."""
    letters = [letter.encode("utf-8", "replace") for letter in value]
    quoted = [_q(letter) for letter in letters]
    as_q = sum(map(len, quoted)) <= 2 * sum(map(len, letters))  # where most of it can still be read
    room = _ENCODED_WORD - _Q_FRAME - before
    words: list[str] = []
    held: list[bytes] = []
    used = 0
    for letter, shown in zip(letters, quoted, strict=True):
        size = len(shown) if as_q else len(letter)
        if held and (used + size if as_q else (used + size + 2) // 3 * 4) > room:
            words.append(_word(held, as_q))
            held, used, room = [], 0, _ENCODED_WORD - _Q_FRAME
        held.append(letter)
        used += size
    words.append(_word(held, as_q))
    return " ".join(words)


def _q(letter: bytes) -> str:
    if letter == b" ":
        return "_"
    return "".join(chr(octet) if octet in _Q_PLAIN else f"={octet:02X}" for octet in letter)


def _word(letters: list[bytes], as_q: bool) -> str:
    if as_q:
        return f"=?utf-8?q?{''.join(map(_q, letters))}?="
    return f"=?utf-8?b?{binascii.b2a_base64(b''.join(letters), newline=False).decode()}?="


# trace ----------------------------------------------------------------------------------------------------------------


def protocol(
    *, extended: bool = True, lmtp: bool = False, utf8: bool = False, tls: bool = False, auth: bool = False
) -> str:
    """The word behind `with` in Received (RFC 3848; with SMTPUTF8 RFC 6531 §4.3)."""
    if not extended and not lmtp:
        return "SMTP"
    base = ("UTF8LMTP" if utf8 else "LMTP") if lmtp else ("UTF8SMTP" if utf8 else "ESMTP")
    return base + ("S" if tls else "") + ("A" if auth else "")


_NOT_IN_DOMAIN = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_NOT_IN_COMMENT = re.compile(r"[^ -'*-\[\]-~]")


def received_field(
    *,
    helo: str | None,
    peer: str | None,
    peer_name: str | None = None,
    by: str,
    protocol: str,
    id: str,
    at: int,
    tls: str | None = None,
    recipient: Address | None = None,
) -> bytes:
    """Received (RFC 5321 §4.4), one clause a line.

    `helo`: what the client called itself; `peer`: its IP address; `peer_name`: its name by DNS, where that was
    verified. `tls`: version and cipher, for a comment. `recipient` only where the envelope has one: it would tell the
    others (§7.6).
    """
    lines: list[str] = []
    if peer is not None:
        literal = f"[IPv6:{peer}]" if ":" in peer else f"[{peer}]"
        said = _NOT_IN_DOMAIN.sub("?", helo or "")[:255] or literal
        info = f"{_NOT_IN_DOMAIN.sub('?', peer_name)} {literal}" if peer_name else literal
        lines.append(f"from {said} ({info})")
    secured = f" ({_NOT_IN_COMMENT.sub('?', tls)})" if tls else ""
    lines.append(f"by {by} (posthouse) with {protocol}{secured} id {id}")
    if recipient is not None:
        lines.append(f"for <{recipient}>")
    return ("Received: " + "\r\n\t".join(lines) + f";\r\n\t{format_date(at)}\r\n").encode()


# headers of others ----------------------------------------------------------------------------------------------------


def edit_header(header: bytes, *, remove: Collection[bytes] = (), add: Sequence[bytes] = ()) -> bytes:
    """A header (its empty line included) without the fields named (lower case), and with fields added at its end.

    Everything else stays octet by octet. `add` holds whole fields with their CRLF.
    """
    if remove:
        names = b"|".join(re.escape(name) for name in sorted(remove))
        header = re.sub(rb"(?im)^(?:%b)[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)" % names, b"", header)
    if not add:
        return header
    cut = len(header)
    if header.endswith((b"\n\r\n", b"\n\n")) or header in (b"\r\n", b"\n"):
        cut -= 1 if header.endswith(b"\n\n") or header == b"\n" else 2
    fields, rest = header[:cut], header[cut:]
    if fields and not fields.endswith(b"\n"):
        fields += b"\r\n"
    return b"".join([fields, *add, rest])


# whole messages -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file to send along. `type` "" is guessed from the name."""

    name: str
    octets: bytes
    type: str = ""


# The table that is part of Python, not the machine's.
_TYPES: Final = MimeTypes(filenames=())


def media_type(name: str) -> str:
    """The type of a file by its name; application/octet-stream where the name says nothing (RFC 2046 §4.5.1)."""
    kind, packed = _TYPES.guess_type(name)
    return kind if kind and not packed else "application/octet-stream"


def compose(
    *,
    sender: Mailbox,
    to: Sequence[Mailbox],
    subject: str,
    text: str,
    at: int,
    message_id: str,
    fields: Sequence[bytes] = (),
    attachments: Sequence[Attachment] = (),
) -> bytes:
    """A whole message: plain text, perhaps with files. `at` is its date; `fields` are further ones, whole."""
    parts = [
        address_field("From", [sender]),
        *([address_field("To", to)] if to else []),
        field("Subject", subject),
        date_field(at),
        message_id_field(message_id),
        *fields,
        b"MIME-Version: 1.0\r\n",
    ]
    boundary = make_boundary(message_id)
    if not attachments:
        return b"".join([*parts, *text_part(text, boundary)])
    return b"".join(
        [
            *parts,
            *multipart("mixed", boundary, [text_part(text, boundary), *(_file_part(file) for file in attachments)]),
        ]
    )


def make_boundary(seed: str) -> bytes:
    """A boundary that neither base64 nor quoted-printable can hold (RFC 2045 §6.7: "=_" is in no encoding)."""
    return b"=_" + sha256(seed.encode("utf-8", "replace")).hexdigest()[:24].encode()


def multipart(kind: str, boundary: bytes, parts: Sequence[Sequence[bytes]]) -> list[bytes]:
    """Content-Type of a multipart (`kind`: its subtype, perhaps with parameters) and its parts between delimiters
    (RFC 2046 §5.1).
    """
    pieces = [b'Content-Type: multipart/%b;\r\n boundary="%b"\r\n\r\n' % (kind.encode(), boundary)]
    for part in parts:
        pieces += [b"--%b\r\n" % boundary, *part, b"\r\n"]
    return [*pieces, b"--%b--\r\n" % boundary]


def text_part(text: str, boundary: bytes) -> list[bytes]:
    """text/plain with its header: as it is where it is ASCII with short lines, else quoted-printable or base64,
    whichever is shorter.
    """
    octets = re.sub(r"\r\n|\r|\n", "\r\n", text).encode("utf-8", "replace")
    if not octets.endswith(b"\n"):
        octets += b"\r\n"
    encoding = b"7bit"
    if not _is_safe(octets) or boundary in octets:
        quoted = quoted_printable(octets)
        encoded = in_base64(octets)
        encoding = b"quoted-printable" if len(quoted) <= len(encoded) else b"base64"
        octets = quoted if encoding == b"quoted-printable" else encoded
    charset = b"us-ascii" if encoding == b"7bit" else b"utf-8"
    return [
        b"Content-Type: text/plain; charset=%b\r\nContent-Transfer-Encoding: %b\r\n\r\n" % (charset, encoding),
        octets,
    ]


def _is_safe(octets: bytes) -> bool:
    """RFC 2045 §2.7: 7bit data."""
    return octets.isascii() and 0 not in octets and max(map(len, octets.split(b"\r\n"))) <= 998


def quoted_printable(octets: bytes) -> bytes:
    """RFC 2045 §6.7. Lines end as the first one does."""
    return binascii.b2a_qp(octets)


def in_base64(octets: bytes) -> bytes:
    """RFC 2045 §6.8, in lines of 76."""
    encoded = binascii.b2a_base64(octets, newline=False)
    return b"".join([encoded[at : at + 76] + b"\r\n" for at in range(0, len(encoded), 76)])


def message_part(octets: bytes) -> list[bytes]:
    """A whole message as a part, named in its header (RFC 2046 §5.2.1): as it is, or as a file where it has octets or
    lines that could not travel so."""
    if _is_unfit(octets):
        return _file_part(Attachment("message.eml", octets, "application/octet-stream"))
    encoding = b"7bit" if octets.isascii() else b"8bit"
    return [b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: %b\r\n\r\n" % encoding, octets]


def _file_part(file: Attachment) -> list[bytes]:
    kind = file.type or media_type(file.name)
    if not re.fullmatch(r"[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+", kind):
        kind = "application/octet-stream"
    encoding, octets = b"base64", b""
    if kind == "message/rfc822":
        # RFC 2046 §5.2.1: a message is never encoded as a whole. What cannot travel as it is, is a file.
        if _is_unfit(file.octets):
            kind = "application/octet-stream"
        else:
            encoding, octets = b"7bit" if file.octets.isascii() else b"8bit", file.octets
    header = b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\nContent-Disposition: attachment;%b\r\n\r\n"
    return [header % (kind.encode(), encoding, _filename(file.name)), octets or in_base64(file.octets)]


def _is_unfit(octets: bytes) -> bool:
    """A bare CR or LF, a NUL, or a line too long (RFC 5322 §2.1.1). No pattern: of 10 MB it would stop all threads for
    two seconds."""
    ends = octets.count(b"\r\n")
    bare = octets.count(b"\r") != ends or octets.count(b"\n") != ends
    return bare or 0 in octets or max(map(len, octets.split(b"\n"))) > _LONGEST_LINE


# With its CR.
_LONGEST_LINE: Final = 999
_SAFE_NAME = re.compile(r"[ A-Za-z0-9!#$&+.^_`{}~@,()=-]{1,60}\Z")


def _filename(name: str) -> bytes:
    """The parameter, quoted, or in RFC 2231's form, continued over lines."""
    if _SAFE_NAME.match(name):
        return b'\r\n filename="%b"' % name.encode()
    coded = [
        chr(octet) if octet in _Q_PLAIN - frozenset(b"*") or octet in b"._" else f"%{octet:02X}"
        for octet in name.encode("utf-8", "replace")
    ]
    lines: list[str] = ["utf-8''"]
    for shown in coded:
        if len(lines[-1]) + len(shown) > 60:
            lines.append("")
        lines[-1] += shown
    if len(lines) == 1:
        return f"\r\n filename*={lines[0]}".encode()
    return ";".join(f"\r\n filename*{number}*={line}" for number, line in enumerate(lines)).encode()
