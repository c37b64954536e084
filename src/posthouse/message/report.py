"""Reports about delivery (DSN): a multipart/report with message/delivery-status (RFC 3464, 6522; addresses in UTF-8:
RFC 6533).

Promises: a report is 7-bit, unless it returns a whole message that is not. Its first part tells a person in plain words
what happened, with what the other server said; the second tells programs the same. `parse_report` reads those of
others and never raises.
Refuses: to decide who gets one. It is sent with the null reverse-path (RFC 3464 §2), which is the caller's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from posthouse.limits import RECIPIENTS
from posthouse.message import build, mime
from posthouse.message.addresses import Mailbox
from posthouse.message.cause import WORDS, cause_of
from posthouse.message.charset import undeclared
from posthouse.message.convert import NotConvertible, convert
from posthouse.message.date import format_date, parse_date
from posthouse.message.header import Buffer, Header, decode_words, message_ids
from posthouse.message.mime import Part
from posthouse.message.octets import searchable

Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]


@dataclass(frozen=True, slots=True)
class RecipientReport:
    """What happened to one recipient (RFC 3464 §2.3).

    `final`: the address as we last knew it; `original`: ORCPT, "addr-type;address", or None. `diagnostic`: the reply of
    `remote_mta` as it was given (or our own words, with `remote_mta` None). Times are UTC milliseconds.
    """

    final: str
    action: Action
    status: str
    original: str | None = None
    remote_mta: str | None = None
    diagnostic: str | None = None
    last_attempt_at: int | None = None
    will_retry_until: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A report that came in (RFC 3464 §2.2). `message_id`: of the message it is about, where the report returns its
    header.
    """

    reporting_mta: str
    recipients: tuple[RecipientReport, ...] = field(default=())
    envid: str | None = None
    arrived_at: int | None = None
    message_id: str | None = None


# writing --------------------------------------------------------------------------------------------------------------


def delivery_report(
    *,
    reporting_mta: str,
    sender: Mailbox,
    to: Mailbox,
    at: int,
    message_id: str,
    recipients: Sequence[RecipientReport],
    original: Buffer,
    full: bool = False,
    arrived_at: int | None = None,
    deliver_by: int | None = None,
    envid: str | None = None,
) -> bytes:
    """The report as a whole message.

    `original` is the message it is about (its header suffices unless `full`, which returns all of it; RFC 3461 §4.3:
    RET). `arrived_at`: when we took it; `deliver_by`: when it should have arrived; `envid`: ENVID as it came.
    """
    header = Header.parse(original)
    subject = decode_words(header.first(b"subject") or b"")
    boundary = build.make_boundary(message_id)
    about = _about_message(reporting_mta, arrived_at, deliver_by, envid)
    parts = [
        build.text_part(_words(reporting_mta, recipients, subject), boundary),
        [b"Content-Type: message/delivery-status\r\n\r\n", about, *(b"\r\n" + _about(one) for one in recipients)],
        _returned(original, header, full),
    ]
    return b"".join(
        [
            build.address_field("From", [sender]),
            build.address_field("To", [to]),
            build.field("Subject", f"{_TITLES[_gravest(recipients)]}: {subject or '(no subject)'}"),
            build.date_field(at),
            build.message_id_field(message_id),
            *_thread(header),
            b"Auto-Submitted: auto-replied\r\n",  # RFC 3834 §3.1.7: nobody should answer this
            b"MIME-Version: 1.0\r\n",
            *build.multipart("report; report-type=delivery-status", boundary, parts),
        ]
    )


def _thread(header: Header) -> list[bytes]:
    """What binds the report to the message: an id that is one (RFC 5322 §3.6.4: ASCII), for all else may not travel."""
    ids = message_ids(header.first(b"message-id") or b"")
    if not ids or not (ids[0].isascii() and ids[0].isprintable() and len(ids[0]) < _LINE):
        return []
    return [f"{name}: <{ids[0]}>\r\n".encode() for name in ("In-Reply-To", "References")]


_TITLES: Final[dict[Action, str]] = {
    "failed": "Could not be delivered",
    "delayed": "Still on its way",
    "delivered": "Delivered",
    "relayed": "Passed on",
    "expanded": "Passed on to a list",
}
_EXPLAINED: Final[dict[Action, str]] = {
    "failed": "Your message did not reach the recipients below. We will not try again.",
    "delayed": "Your message has not reached the recipients below yet. You need not do anything: we keep trying.",
    "delivered": "Your message is in the mailbox of the recipients below.",
    "relayed": "Your message for the recipients below was passed on to another server, which may not report further.",
    "expanded": "Your message was passed on to all who are behind the addresses below.",
}


def _gravest(recipients: Sequence[RecipientReport]) -> Action:
    actions = {recipient.action for recipient in recipients}
    return next((action for action in _TITLES if action in actions), "failed")


def _words(reporting_mta: str, recipients: Sequence[RecipientReport], subject: str) -> str:
    """For the person who wrote the message."""
    lines = [f"This is the mail server {reporting_mta}."]
    for action, explanation in _EXPLAINED.items():
        concerned = [recipient for recipient in recipients if recipient.action == action]
        if concerned:
            lines += ["", explanation, ""]
            for recipient in concerned:
                lines += _recipient_words(recipient)
    lines += [
        "",
        f"The message's subject was: {subject or '(none)'}",
        "What comes below is for programs, and the message itself.",
    ]
    return "\n".join(lines) + "\n"


def _recipient_words(recipient: RecipientReport) -> list[str]:
    lines = [f"  {recipient.final}"]
    if recipient.action in ("failed", "delayed"):
        cause = WORDS[cause_of(recipient.status, recipient.diagnostic or "")]
        lines += [f"    {cause}"] if cause else []
    if recipient.diagnostic:
        said = f"The server {recipient.remote_mta} said:" if recipient.remote_mta else "The reason:"
        lines += [f"    {said}", *(f"      {line}" for line in recipient.diagnostic.splitlines())]
    if recipient.will_retry_until is not None:
        lines.append(f"    We try until {format_date(recipient.will_retry_until)}.")
    return lines


def _about_message(reporting_mta: str, arrived_at: int | None, deliver_by: int | None, envid: str | None) -> bytes:
    fields: list[tuple[str, str | None]] = [
        ("Original-Envelope-Id", envid),
        ("Reporting-MTA", f"dns; {reporting_mta}"),
        ("Arrival-Date", _moment(arrived_at)),
        ("Deliver-By-Date", _moment(deliver_by)),  # RFC 2852
    ]
    return b"".join(_line(name, value) for name, value in fields if value is not None)


def _moment(at: int | None) -> str | None:
    return None if at is None else format_date(at)


def _about(recipient: RecipientReport) -> bytes:
    fields: list[tuple[str, str | None]] = [
        ("Original-Recipient", _original(recipient.original)),
        ("Final-Recipient", _typed(recipient.final)),
        ("Action", recipient.action),
        ("Status", recipient.status),
        ("Remote-MTA", recipient.remote_mta and f"dns; {recipient.remote_mta}"),
        ("Diagnostic-Code", _diagnostic(recipient)),
        ("Last-Attempt-Date", _moment(recipient.last_attempt_at)),
        ("Will-Retry-Until", _moment(recipient.will_retry_until)),
    ]
    return b"".join(_line(name, value) for name, value in fields if value)


def _diagnostic(recipient: RecipientReport) -> str | None:
    if not recipient.diagnostic:
        return None
    # RFC 3464 §2.3.6: what another server said is smtp's; our own words are not.
    kind = "smtp" if recipient.remote_mta else "x-posthouse"
    return f"{kind}; {' '.join(recipient.diagnostic.split())}"


def _typed(address: str) -> str:
    return f"rfc822; {address}" if address.isascii() else f"utf-8; {_in_xtext(address)}"


def _original(orcpt: str | None) -> str | None:
    if orcpt is None:
        return None
    kind, _, address = orcpt.partition(";")
    # RFC 6533 §3: what stands behind rfc822 is ASCII.
    return f"{kind.strip() if address.isascii() else 'utf-8'}; {_in_xtext(address.strip())}"


def _in_xtext(address: str) -> str:
    """RFC 6533 §3: utf-8-addr-xtext, which is ASCII."""
    return "".join(letter if letter.isascii() else f"\\x{{{ord(letter):X}}}" for letter in address)


_LINE: Final = 900


def _line(name: str, value: str) -> bytes:
    """One field, 7-bit, folded where it would be too long."""
    text = re.sub(r"[^ -~]", "?", value)
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    folded = "\r\n ".join(lines)
    return f"{name}: {folded}\r\n".encode()


def _returned(original: Buffer, header: Header, full: bool) -> list[bytes]:
    """The message, or its header (RFC 6522 §3, §4)."""
    octets = searchable(original)[: None if full else header.end]
    if not full:
        if octets.isascii():
            return [b"Content-Type: text/rfc822-headers\r\n\r\n", octets]
        return [
            b"Content-Type: text/rfc822-headers; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
            build.quoted_printable(octets),
        ]
    if octets.isascii():
        return [b"Content-Type: message/rfc822\r\n\r\n", octets]
    # RFC 6532 §3.7: a header in UTF-8 makes it message/global, which may be encoded as a whole.
    kind = b"rfc822" if octets[: header.end].isascii() and _is_convertible(octets) else b"global"
    return [b"Content-Type: message/%b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" % kind, octets]


def _is_convertible(octets: bytes) -> bool:
    """Whether it can become 7-bit part by part, as message/rfc822 must (RFC 2046 §5.2.1)."""
    try:
        convert(octets, signed=True)
    except NotConvertible:
        return False
    return True


# reading --------------------------------------------------------------------------------------------------------------

_STATUS_TYPES: Final = ("delivery-status", "global-delivery-status")
_STATUS = re.compile(rb"\s*([245]\.\d{1,3}\.\d{1,3})")


def parse_report(octets: Buffer) -> Report | None:
    """The report that a message is, or None where it is none, or reports on nobody."""
    root = mime.scan(octets)
    if root.type != "multipart":
        return None
    status = next((part for part in root.children if part.type == "message" and part.subtype in _STATUS_TYPES), None)
    if status is None:
        return None
    blocks = _blocks(mime.decode_body(octets, status))
    if len(blocks) < 2:
        return None
    message = blocks[0]
    recipients = tuple(report for block in blocks[1:] if (report := _recipient(block)) is not None)
    if not recipients:
        return None
    envid = message.first(b"original-envelope-id")
    return Report(
        reporting_mta=_untyped(message.first(b"reporting-mta")) or "",
        recipients=recipients,
        envid=None if envid is None else undeclared(envid),
        arrived_at=_date(message, b"arrival-date"),
        message_id=returned_id(octets, root),
    )


def _blocks(octets: bytes) -> list[Header]:
    """RFC 3464 §2.1: groups of fields with empty lines between."""
    blocks: list[Header] = []
    at = 0
    while at < len(octets) and len(blocks) <= RECIPIENTS:
        block = Header.parse(octets, at)
        at = block.end
        if block.fields:
            blocks.append(block)
    return blocks


def _recipient(block: Header) -> RecipientReport | None:
    final = _untyped(block.first(b"final-recipient")) or _untyped(block.first(b"original-recipient"))
    written = (block.first(b"action") or b"").lower().decode("ascii", "replace").split()
    action = next((known for known in get_args(Action) if written[:1] == [known]), None)
    status = _STATUS.match(block.first(b"status") or b"")
    if not final or action is None:
        return None
    original = block.first(b"original-recipient")
    return RecipientReport(
        final=final,
        action=action,
        status=status[1].decode() if status else _DEFAULT_STATUS[action],
        original=None if original is None else _from_xtext(undeclared(original)),
        remote_mta=_untyped(block.first(b"remote-mta")),
        diagnostic=_untyped(block.first(b"diagnostic-code")),
        last_attempt_at=_date(block, b"last-attempt-date"),
        will_retry_until=_date(block, b"will-retry-until"),
    )


# RFC 3464 §2.3.4 demands a status; for reports that lack it, the class that the action means.
_DEFAULT_STATUS: Final[dict[Action, str]] = {
    "failed": "5.0.0", "delayed": "4.0.0", "delivered": "2.0.0", "relayed": "2.0.0", "expanded": "2.0.0",
}  # fmt: skip


def _untyped(value: bytes | None) -> str | None:
    """What stands behind "type;" (RFC 3464 §2.1.2)."""
    if value is None:
        return None
    kind, semicolon, rest = undeclared(value).partition(";")
    text = (rest if semicolon else kind).strip()
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    return _from_xtext(text) or None


_CODE_POINT = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


def _from_xtext(text: str) -> str:
    def letter(match: re.Match[str]) -> str:
        number = int(match[1], 16)
        return chr(number) if number < 0xD800 or 0xDFFF < number <= 0x10FFFF else "\ufffd"

    return _CODE_POINT.sub(letter, text)


def _date(block: Header, name: bytes) -> int | None:
    value = block.first(name)
    return None if value is None else parse_date(value)


_HEADERS: Final = (("text", "rfc822-headers"), ("text", "global-headers"), ("message", "global-headers"))


def returned_id(octets: Buffer, root: Part) -> str | None:
    """The Message-ID of the message that a report returns, or whose header."""
    for part in root.children:
        if part.message is not None:
            header = Header.parse(octets, part.message.header_start, part.message.body_start)
        elif (part.type, part.subtype) in _HEADERS:
            header = Header.parse(mime.decode_body(octets, part))
        else:
            continue
        if ids := message_ids(header.first(b"message-id") or b""):
            return ids[0]
    return None
