"""The parameters of MAIL and RCPT (RFC 5321 §4.1.1.11): what a client wishes beside the address.

Promises: a parameter is known only where the extension it belongs to is announced, is given once, and has a value that
its RFC allows; else a Refusal. Times come out as they were said: what is relative stays so, for there is no clock here.

A new one is a row in MAIL_PARAMETERS or RCPT_PARAMETERS, a small function, and a field.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from posthouse.terms.envelope import Body, DeliverBy
from posthouse.terms.reply import Refusal
from posthouse.terms.text import is_line


@dataclass(frozen=True, slots=True)
class Situation:
    """What the meaning of a command depends on.

    `extensions` is what EHLO announces, keyword → its parameters. `home` is the domain of a `<Postmaster>` without one.
    `smtputf8` is true inside a transaction whose MAIL asked for it.
    """

    extensions: Mapping[str, str]
    home: str
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class DeliverWithin:
    """RFC 2852's BY: so many `seconds` from now, fewer than none for one that is late already. The rest: DeliverBy."""

    seconds: int
    returned: bool
    trace: bool


@dataclass(slots=True)
class MailWishes:
    """What MAIL asks for."""

    size: int | None = None
    body: Body = "7BIT"
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
    auth: str | None = None
    requiretls: bool = False
    priority: int = 0
    hold_for: int | None = None
    hold_until: int | None = None
    by: DeliverWithin | None = None


@dataclass(slots=True)
class RcptWishes:
    """What RCPT asks for."""

    notify: frozenset[str] | None = None
    orcpt: str | None = None


_Asked = TypeVar("_Asked")
# The extension that must be announced, and what sets the wish. The value is "" where none is given.
ParameterTable = Mapping[str, tuple[str, Callable[[_Asked, str, Situation], None]]]


def _bad_value(keyword: str) -> Refusal:
    return Refusal(501, "5.5.4", f"Bad value of {keyword}")


def apply(text: str, table: ParameterTable[_Asked], wishes: _Asked, situation: Situation) -> None:
    """Set what `text` asks for. RFC 5321 §4.1.1.11: 555 for a parameter that is not known here."""
    seen: set[str] = set()
    for word in text.split():
        keyword, _, value = word.partition("=")
        keyword = keyword.upper() if keyword.isascii() else ""
        row = table.get(keyword)
        if row is None or row[0] not in situation.extensions:
            raise Refusal(555, "5.5.4", "A parameter behind the address is not known here")
        if keyword in seen:
            raise Refusal(501, "5.5.4", f"{keyword} is given twice")
        seen.add(keyword)
        row[1](wishes, value, situation)


def _set_size(wishes: MailWishes, value: str, situation: Situation) -> None:
    # RFC 1870 §5: up to 20 digits.
    if not (value.isascii() and value.isdigit() and len(value) <= 20):
        raise _bad_value("SIZE")
    # Whether that is too much is for the door to say: it knows what the limit is, and tells the sender's journey.
    wishes.size = int(value)


def _set_body(wishes: MailWishes, value: str, situation: Situation) -> None:
    match value.upper():
        case "7BIT":
            wishes.body = "7BIT"
        case "8BITMIME":
            wishes.body = "8BITMIME"
        case "BINARYMIME" if "BINARYMIME" in situation.extensions:
            wishes.body = "BINARYMIME"
        case _:
            raise _bad_value("BODY")


def _set_smtputf8(wishes: MailWishes, value: str, situation: Situation) -> None:
    if value:
        raise _bad_value("SMTPUTF8")
    wishes.smtputf8 = True


def _set_ret(wishes: MailWishes, value: str, situation: Situation) -> None:
    wishes.ret = value.upper()
    if wishes.ret not in ("FULL", "HDRS"):
        raise _bad_value("RET")


def _set_envid(wishes: MailWishes, value: str, situation: Situation) -> None:
    # RFC 3461 §4.4: at most 100 characters.
    wishes.envid = decode_xtext(value)
    if not wishes.envid or len(value) > 100:
        raise _bad_value("ENVID")


def _set_auth(wishes: MailWishes, value: str, situation: Situation) -> None:
    # RFC 4954 §5: an address in xtext, or <>.
    decoded = decode_xtext(value)
    if not decoded or len(value) > 500:
        raise _bad_value("AUTH")
    wishes.auth = "" if decoded == "<>" else decoded


def _set_requiretls(wishes: MailWishes, value: str, situation: Situation) -> None:
    # RFC 8689 §2
    if value:
        raise _bad_value("REQUIRETLS")
    wishes.requiretls = True


def _set_priority(wishes: MailWishes, value: str, situation: Situation) -> None:
    # RFC 6710 §3: -9 to 9.
    if not _PRIORITY.match(value):
        raise _bad_value("MT-PRIORITY")
    wishes.priority = int(value)


def _set_by(wishes: MailWishes, value: str, situation: Situation) -> None:
    # RFC 2852 §4. What is to be returned when it is late must have some time.
    match = _BY.match(value)
    if match is None or (match[2] in "Rr" and int(match[1]) <= 0):
        raise _bad_value("BY")
    wishes.by = DeliverWithin(int(match[1]), match[2] in "Rr", bool(match[3]))


def _set_hold_for(wishes: MailWishes, value: str, situation: Situation) -> None:
    # RFC 4865: 1 to 9 digits, and one of the two only.
    if not _HOLD_FOR.match(value) or wishes.hold_until is not None:
        raise _bad_value("HOLDFOR")
    wishes.hold_for = int(value)


def _set_hold_until(wishes: MailWishes, value: str, situation: Situation) -> None:
    # RFC 4865: a date and time of RFC 3339.
    if not _DATE_TIME.match(value) or wishes.hold_for is not None:
        raise _bad_value("HOLDUNTIL")
    try:
        wishes.hold_until = int(datetime.fromisoformat(value.upper()).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise _bad_value("HOLDUNTIL") from None


def _set_notify(wishes: RcptWishes, value: str, situation: Situation) -> None:
    # RFC 3461 §4.1: NEVER stands alone.
    notify = frozenset(value.upper().split(","))
    known = value.isascii() and notify <= {"NEVER", "SUCCESS", "FAILURE", "DELAY"}
    if not known or ("NEVER" in notify and len(notify) > 1):
        raise _bad_value("NOTIFY")
    wishes.notify = notify


def _set_orcpt(wishes: RcptWishes, value: str, situation: Situation) -> None:
    # RFC 3461 §4.2: at most 500 characters.
    kind, semicolon, text = value.partition(";")
    decoded = _decode_original(kind, text)
    if not semicolon or not _ADDRESS_TYPE.match(kind) or not decoded or len(value) > 500:
        raise _bad_value("ORCPT")
    wishes.orcpt = f"{kind if decoded.isascii() else 'utf-8'};{decoded}"


MAIL_PARAMETERS: Final[ParameterTable[MailWishes]] = {
    "SIZE": ("SIZE", _set_size),
    "BODY": ("8BITMIME", _set_body),
    "SMTPUTF8": ("SMTPUTF8", _set_smtputf8),
    "RET": ("DSN", _set_ret),
    "ENVID": ("DSN", _set_envid),
    "AUTH": ("AUTH", _set_auth),
    "REQUIRETLS": ("REQUIRETLS", _set_requiretls),
    "MT-PRIORITY": ("MT-PRIORITY", _set_priority),
    "BY": ("DELIVERBY", _set_by),
    "HOLDFOR": ("FUTURERELEASE", _set_hold_for),
    "HOLDUNTIL": ("FUTURERELEASE", _set_hold_until),
}
RCPT_PARAMETERS: Final[ParameterTable[RcptWishes]] = {
    "NOTIFY": ("DSN", _set_notify),
    "ORCPT": ("DSN", _set_orcpt),
}

_PRIORITY: Final = re.compile(r"(?:-?[1-9]|0)\Z")
_BY: Final = re.compile(r"([+-]?[0-9]{1,9});([RNrn])([Tt]?)\Z", re.ASCII)
_HOLD_FOR: Final = re.compile(r"[0-9]{1,9}\Z", re.ASCII)
_DATE_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})\Z",
    re.ASCII | re.IGNORECASE,
)
_ADDRESS_TYPE: Final = re.compile(r"[A-Za-z0-9-]{1,40}\Z")
_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*\Z")
_HEXCHAR: Final = re.compile(r"\+([0-9A-F]{2})")
_UTF_8_ADDRESS: Final = re.compile(r"(?:[!-*,-<>-\[\]-~\x80-\U0010FFFF]|\\x\{[0-9A-F]{2,6}\})+\Z")
_EMBEDDED: Final = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_UNSAFE: Final = re.compile(r"[^!-*,-<>-~]")
# RFC 6533 §3: what stands for itself in utf-8-addr-xtext.
_NOT_QCHAR: Final = re.compile(r"[^!-*,-<>-\[\]-~]")


def decode_xtext(text: str) -> str | None:
    """RFC 3461 §4. None where it is malformed or hides what is not printable ASCII: it will stand in a report."""
    if not _XTEXT.match(text):
        return None
    decoded = _HEXCHAR.sub(lambda match: chr(int(match[1], 16)), text)
    return decoded if decoded.isascii() and decoded.isprintable() else None


def _decode_original(kind: str, text: str) -> str | None:
    """An original recipient of this type, decoded. None where it is malformed or hides what no line may hold."""
    if kind.lower() == "utf-8":
        # RFC 6533 §3: UTF-8 as it is, or \\x{...} for single characters.
        if not _UTF_8_ADDRESS.match(text):
            return None
        points = [int(point, 16) for point in _EMBEDDED.findall(text)]
        if any(point > 0x10FFFF for point in points):
            return None
        decoded = _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), text)
    elif not _XTEXT.match(text):
        return None
    else:
        # ASCII, says RFC 3461 §4.2. Postfix 3.7 writes the octets of UTF-8 so.
        octets = _HEXCHAR.sub(lambda match: chr(int(match[1], 16)), text).encode("latin-1")
        decoded = octets.decode("utf-8", errors="surrogateescape")
    return decoded if is_line(decoded) else None


def encode_xtext(text: str) -> str:
    """RFC 3461 §4, for printable ASCII."""
    return _UNSAFE.sub(lambda match: f"+{ord(match[0]):02X}", text)


def encode_by(wish: DeliverBy, now: int) -> str:
    """RFC 2852 §4: the seconds that are left, less than none where the time has passed already."""
    return f"BY={(wish.at - now) // 1000};{'R' if wish.returned else 'N'}{'T' if wish.trace else ''}"


def encode_orcpt(orcpt: str) -> str:
    """RFC 3461 §4.2; where it is not ASCII, RFC 6533 §3's utf-8-addr-xtext, which passes everywhere."""
    kind, _, text = orcpt.partition(";")
    if text.isascii():
        return f"{kind};{encode_xtext(text)}"
    return f"{kind};{_NOT_QCHAR.sub(lambda match: f'{chr(92)}x{{{ord(match[0]):X}}}', text)}"
