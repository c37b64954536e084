"""The grammar of SMTP's commands (RFC 5321 §4.1): from the text of one line to an event.

Promises: each parser takes the argument of its command and the Situation, and returns its event or raises the Refusal
that answers the client. What stands behind the address of MAIL and RCPT is parameters.py's.
Refuses: source routes, and non-ASCII outside of SMTPUTF8. Tolerated, as Postfix does where it is not told to be strict:
spaces before the bracket and at the end of the line, a plain address without brackets, words behind the client's name.
"""

import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from posthouse.terms import address
from posthouse.terms.address import Address, BadAddress
from posthouse.terms.envelope import Envelope, Recipient, Wishes
from posthouse.terms.reply import Refusal, Reply
from posthouse.wire.smtp.parameters import (
    MAIL_PARAMETERS,
    RCPT_PARAMETERS,
    DeliverWithin,
    MailWishes,
    RcptWishes,
    Situation,
    apply,
    decode_xtext,
)


@dataclass(frozen=True, slots=True)
class Hello:
    """EHLO, LHLO (`extended`) or HELO. `name`: 1 to 255 printable ASCII characters, not checked to be a domain."""

    name: str
    extended: bool


@dataclass(frozen=True, slots=True, repr=False)
class Mail:
    """MAIL: an envelope without recipients. `auth` is RFC 4954 §5's: None where not given, "" for `<>`.

    What depends on the time is not in the envelope's wishes yet: `by`, and `hold_for` in seconds (RFC 4865). A
    HOLDUNTIL is: whether that time is past, or too far away, is for those who have a clock.
    """

    envelope: Envelope
    auth: str | None = None
    hold_for: int | None = None
    by: DeliverWithin | None = None

    def __repr__(self) -> str:
        """Only what was said."""
        said = [(name, getattr(self, name)) for name in ("envelope", "auth", "hold_for", "by")]
        return f"Mail({', '.join(f'{name}={value!r}' for name, value in said if value is not None)})"


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT: one more forward-path."""

    recipient: Recipient


@dataclass(frozen=True, slots=True)
class Data:
    """DATA: the client wants to send the message. 354 lets it."""


@dataclass(frozen=True, slots=True)
class Bdat:
    """BDAT: a chunk of `size` octets follows, as DataChunks; nothing is answered before its end (RFC 3030 §2)."""

    size: int
    last: bool


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS. After a 220 the handshake follows."""


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH with one of the mechanisms announced; `initial`: the initial response, decoded, None where there is none."""

    mechanism: str
    initial: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The answer to a challenge, decoded."""

    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rset:
    """RSET: forget the envelope."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP."""


@dataclass(frozen=True, slots=True)
class Vrfy:
    """VRFY: is there such a user? `utf8`: the answer may be beyond ASCII (RFC 6531 §3.7.4.2)."""

    text: str
    utf8: bool = False


@dataclass(frozen=True, slots=True)
class Expn:
    """EXPN: who is on this list? `utf8` as of Vrfy."""

    text: str
    utf8: bool = False


@dataclass(frozen=True, slots=True)
class Etrn:
    """ETRN: try now what waits for `node`. `option`: "@", its subdomains too; "#", a queue by its name (RFC 1985)."""

    node: str
    option: Literal["", "@", "#"] = ""


@dataclass(frozen=True, slots=True)
class Xclient:
    """XCLIENT: who the client of our client is. Upper case names; values may be `[UNAVAILABLE]`, `[TEMPUNAVAIL]`."""

    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Help:
    """HELP, perhaps about something."""

    text: str


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT."""


Command = Hello | Mail | Rcpt | Data | Bdat | StartTls | Auth | Rset | Noop | Vrfy | Expn | Etrn | Xclient | Help | Quit
Parser = Callable[[str, Situation], Command]

_DATA, _STARTTLS, _RSET, _NOOP, _QUIT = Data(), StartTls(), Rset(), Noop(), Quit()


# Greeting -------------------------------------------------------------------------------------------------------------


def parse_ehlo(argument: str, situation: Situation) -> Hello:
    """RFC 5321 §4.1.1.1. What the name is worth is for the checks to judge (§4.1.4): much honest software lies.

    Machines whose owner gave them a name of two words say both; the first is taken.
    """
    return Hello(_host_name(argument), True)


def parse_helo(argument: str, situation: Situation) -> Hello:
    """RFC 5321 §4.1.1.1."""
    return Hello(_host_name(argument), False)


def _host_name(argument: str) -> str:
    name = argument.partition(" ")[0]
    if not name or len(name) > 255 or not name.isascii():
        raise Refusal(501, "5.5.4", "Say your host name behind it")
    return name


# Paths ----------------------------------------------------------------------------------------------------------------

_PATH: Final = re.compile(r'<((?:"(?:[^"\\]|\\.)*")?[^<>"\\]*)>(?: +(.*))?\Z')
# What programs that know no brackets send: one address, of which nothing can be read in two ways.
_BARE: Final = re.compile(r'([^ <>"\\(),:;@\[\]]+@[^ <>"\\(),:;@]+)(?: +(.*))?\Z')


def _split_path(argument: str, prefix: str, syntax: str) -> tuple[str, str]:
    """What stands between the brackets, and the parameters behind them."""
    if argument[: len(prefix)].upper() == prefix:
        path = argument[len(prefix) :].lstrip(" ")
        match = _PATH.match(path) or _BARE.match(path)
        if match:
            return match[1], match[2] or ""
    raise Refusal(501, "5.5.4", f"Syntax: {syntax} [parameters]")


def _parse_path(path: str, enhanced: str, *, utf8: bool) -> Address:
    if path.startswith("@"):
        # RFC 5321 §F.2: a server may decline source routes. Stripping them would let the text decide who is written to
        # in a way that the checks in front of us may read otherwise; nobody honest has sent one for decades.
        raise Refusal(553, enhanced, "Source routes are not taken")
    if not utf8 and not path.isascii():
        # RFC 6531 §3.5
        raise Refusal(553, "5.6.7", "An address beyond ASCII needs SMTPUTF8 with MAIL")
    try:
        return address.parse(path, utf8=utf8)
    except BadAddress as error:
        raise Refusal(501, enhanced, f"Bad address: {error}") from None


def parse_mail(argument: str, situation: Situation) -> Mail:
    """RFC 5321 §4.1.1.2."""
    path, parameters = _split_path(argument, "FROM:", "MAIL FROM:<address>")
    if not parameters:
        return Mail(Envelope(_parse_path(path, "5.1.7", utf8=False) if path else None))
    said = MailWishes()
    apply(parameters, MAIL_PARAMETERS, said, situation)
    sender = _parse_path(path, "5.1.7", utf8=said.smtputf8) if path else None
    wanted = Wishes(
        said.body,
        said.smtputf8,
        said.envid,
        said.ret,
        said.requiretls,
        said.priority,
        hold_until=said.hold_until,
    )
    return Mail(Envelope(sender, size=said.size, wishes=wanted), said.auth, said.hold_for, said.by)


def parse_rcpt(argument: str, situation: Situation) -> Rcpt:
    """RFC 5321 §4.1.1.3."""
    path, parameters = _split_path(argument, "TO:", "RCPT TO:<address>")
    # RFC 5321 §4.5.1: Postmaster needs no domain and is compared without regard to case.
    if path.lower() == "postmaster":
        forward = Address(path, situation.home)
    else:
        forward = _parse_path(path, "5.1.3", utf8=situation.smtputf8)
    if not parameters:
        return Rcpt(Recipient(forward))
    wishes = RcptWishes()
    apply(parameters, RCPT_PARAMETERS, wishes, situation)
    return Rcpt(Recipient(forward, wishes.notify, wishes.orcpt))


# The others -----------------------------------------------------------------------------------------------------------


def _nothing(argument: str) -> None:
    if argument:
        raise Refusal(501, "5.5.4", "Nothing may stand behind this command")


def parse_data(argument: str, situation: Situation) -> Data:
    """RFC 5321 §4.1.1.4."""
    _nothing(argument)
    return _DATA


_BDAT: Final = re.compile(r"([0-9]{1,20})(?: +(LAST))?\Z", re.ASCII | re.IGNORECASE)


def parse_bdat(argument: str, situation: Situation) -> Bdat:
    """RFC 3030 §2. Raises 521: where a chunk without a readable size ends, nobody knows."""
    match = _BDAT.match(argument)
    if match is None:
        raise Refusal(521, "5.5.4", "Syntax: BDAT size [LAST]; what follows cannot be told from commands")
    return Bdat(int(match[1]), match[2] is not None)


def parse_starttls(argument: str, situation: Situation) -> StartTls:
    """RFC 3207 §4."""
    _nothing(argument)
    return _STARTTLS


def parse_rset(argument: str, situation: Situation) -> Rset:
    """RFC 5321 §4.1.1.5."""
    _nothing(argument)
    return _RSET


def parse_quit(argument: str, situation: Situation) -> Quit:
    """RFC 5321 §4.1.1.10."""
    _nothing(argument)
    return _QUIT


def parse_noop(argument: str, situation: Situation) -> Noop:
    """RFC 5321 §4.1.1.9: what stands behind it is ignored."""
    return _NOOP


def parse_vrfy(argument: str, situation: Situation) -> Vrfy:
    """RFC 5321 §4.1.1.6."""
    return Vrfy(*_string(argument, situation))


def parse_expn(argument: str, situation: Situation) -> Expn:
    """RFC 5321 §4.1.1.7."""
    return Expn(*_string(argument, situation))


_NODE: Final = re.compile(r"([@#]?)([A-Za-z0-9_.:\[\]-]{1,255})\Z", re.ASCII)


def parse_etrn(argument: str, situation: Situation) -> Etrn:
    """RFC 1985."""
    match = _NODE.match(argument)
    if match is None:
        raise Refusal(501, "5.5.4", "Syntax: ETRN domain")
    option: Literal["", "@", "#"] = "@" if match[1] == "@" else "#" if match[1] else ""
    return Etrn(match[2].lower(), option)


def parse_xclient(argument: str, situation: Situation) -> Xclient:
    """Postfix's XCLIENT: attributes that are announced, each once, their values in xtext."""
    offered = situation.extensions["XCLIENT"].split()
    attributes: dict[str, str] = {}
    for word in argument.split():
        name, _, text = word.partition("=")
        name, value = name.upper(), decode_xtext(text)
        if name not in offered or name in attributes or not value:
            raise Refusal(501, "5.5.4", "Syntax: XCLIENT attribute=value...")
        attributes[name] = value
    if not attributes:
        raise Refusal(501, "5.5.4", "Syntax: XCLIENT attribute=value...")
    return Xclient(attributes)


def parse_help(argument: str, situation: Situation) -> Help:
    """RFC 5321 §4.1.1.8."""
    return Help(argument)


def _string(argument: str, situation: Situation) -> tuple[str, bool]:
    # RFC 6531 §3.7.4.2: SMTPUTF8 may stand behind the string where it is announced.
    text, _, last = argument.rpartition(" ")
    if last.upper() == "SMTPUTF8" and text and "SMTPUTF8" in situation.extensions:
        return text, True
    if not argument:
        raise Refusal(501, "5.5.4", "Say whom or what behind it")
    if not argument.isascii():
        raise Refusal(553, "5.6.7", "An address beyond ASCII needs SMTPUTF8")
    return argument, False


# Their hashes are outdated, or the server would have to keep what is as good as the password.
_WEAK: Final = frozenset({"CRAM-MD5", "DIGEST-MD5", "NTLM", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"})


def parse_auth(argument: str, situation: Situation) -> Auth:
    """RFC 4954 §4."""
    mechanism, _, initial = argument.partition(" ")
    mechanism = mechanism.upper()
    if not mechanism:
        raise Refusal(501, "5.5.4", "Syntax: AUTH mechanism [initial response]")
    if mechanism not in situation.extensions["AUTH"].split():
        if mechanism in _WEAK:
            # RFC 4954 §6
            raise Refusal(534, "5.7.9", "This mechanism is too weak; take one of those that are offered")
        raise Refusal(504, "5.5.4", "This mechanism is not offered")
    if not initial:
        return Auth(mechanism, None)
    # RFC 4954 §4: an empty initial response is written "=".
    return Auth(mechanism, b"" if initial == "=" else decode_base64(initial))


def parse_auth_response(line: bytes) -> AuthResponse:
    """RFC 4954 §4: a line of base64, or "*" to cancel."""
    if line == b"*":
        raise Refusal(501, "5.7.0", "Authentication cancelled")
    return AuthResponse(decode_base64(line))


def decode_base64(text: str | bytes) -> bytes:
    """RFC 4648 §4, strict. Raises the Refusal of RFC 4954 §4."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        raise Refusal(501, "5.5.2", "This is not base64") from None


def challenge(octets: bytes) -> Reply:
    """The 334 that asks the client to go on with AUTH (RFC 4954 §4)."""
    return Reply(334, None, binascii.b2a_base64(octets, newline=False).decode())
