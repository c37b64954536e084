"""Mailbox names on the wire: modified UTF-7 for IMAP4rev1 (RFC 3501 §5.1.3, RFC 9051 Appendix A.1), UTF-8 for
IMAP4rev2 (RFC 9051 §5.1) and UTF8=ACCEPT (RFC 9755 §3).

Promises: `decode` takes only what `encode` writes, so that one name has one spelling; both raise ValueError and nothing
else. INBOX is recognised in any case and always held as "INBOX" (RFC 9051 §5.1).
Refuses: to judge whether a mailbox may be called so; the mailbox model does.
"""

import re
from binascii import a2b_base64, b2a_base64

from posthouse.terms.inbox import at_top

_SHIFTED = re.compile(r"[^ -~]+|&")
_PLAIN = re.compile(rb"[ -%'-~]*\Z")


def decode(octets: bytes, *, utf8: bool) -> str:
    """The name that `octets` spell. Raises ValueError."""
    if utf8:
        name = octets.decode("utf-8")
    elif _PLAIN.match(octets):
        name = octets.decode("ascii")
    else:
        name = _from_modified_utf7(octets)
    return at_top(name)


def encode(name: str, *, utf8: bool) -> bytes:
    """The octets that spell `name`, not yet quoted. Raises ValueError for a lone surrogate."""
    if utf8 or (name.isascii() and name.isprintable() and "&" not in name):
        return name.encode("utf-8")
    return _SHIFTED.sub(_shift, name).encode("ascii")


def _shift(match: re.Match[str]) -> str:
    run = match.group()
    if run == "&":
        return "&-"
    packed = b2a_base64(run.encode("utf-16-be"), newline=False).rstrip(b"=").replace(b"/", b",")
    return f"&{packed.decode('ascii')}-"


def _from_modified_utf7(octets: bytes) -> str:
    first, *shifts = octets.split(b"&")
    pieces = [first.decode("ascii")]
    for shift in shifts:
        packed, dash, plain = shift.partition(b"-")
        if not dash:
            raise ValueError("a shift of modified UTF-7 does not end")
        pieces += [_unshift(packed), plain.decode("ascii")]
    name = "".join(pieces)
    # RFC 3501 §5.1.3: no superfluous shifts, and printable ASCII represents itself.
    if encode(name, utf8=False) != octets:
        raise ValueError("modified UTF-7 is not written in its one way")
    return name


def _unshift(packed: bytes) -> str:
    if not packed:
        return "&"
    base64 = packed.replace(b",", b"/") + b"=" * (-len(packed) % 4)
    return a2b_base64(base64).decode("utf-16-be")
