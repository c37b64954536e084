"""Keywords of an email: the flags of IMAP (RFC 9051 §2.3.2) and the keywords of JMAP (RFC 8621 §4.1.1), one set.

An email's keywords are a set of names, lower case, in JMAP's spelling ("$seen"). The store keeps the common ones as
bits of one integer; bits 0 to 15 are given here for ever, the others an account gives to names as it meets them.
`\\Deleted` belongs to a placement and is no keyword; `\\Recent` is kept nowhere.
"""

from typing import Final

SEEN: Final = 1 << 0
ANSWERED: Final = 1 << 1
FLAGGED: Final = 1 << 2
DRAFT: Final = 1 << 3
FORWARDED: Final = 1 << 4
MDN_SENT: Final = 1 << 5
JUNK: Final = 1 << 6
NOT_JUNK: Final = 1 << 7
PHISHING: Final = 1 << 8
IMPORTANT: Final = 1 << 9

FIRST_OWN_BIT: Final = 16
LAST_OWN_BIT: Final = 61

BITS: Final[dict[str, int]] = {
    "$seen": SEEN,
    "$answered": ANSWERED,
    "$flagged": FLAGGED,
    "$draft": DRAFT,
    "$forwarded": FORWARDED,
    "$mdnsent": MDN_SENT,
    "$junk": JUNK,
    "$notjunk": NOT_JUNK,
    "$phishing": PHISHING,
    "$important": IMPORTANT,
}

# RFC 8621 §4.1.1: the system flags of IMAP, and what JMAP calls them.
FROM_IMAP: Final[dict[str, str]] = {
    "\\seen": "$seen",
    "\\answered": "$answered",
    "\\flagged": "$flagged",
    "\\draft": "$draft",
}
# Spellings that clients expect to see in a FLAGS answer.
TO_IMAP: Final[dict[str, str]] = {
    "$seen": "\\Seen",
    "$answered": "\\Answered",
    "$flagged": "\\Flagged",
    "$draft": "\\Draft",
    "$forwarded": "$Forwarded",
    "$mdnsent": "$MDNSent",
    "$junk": "$Junk",
    "$notjunk": "$NotJunk",
    "$phishing": "$Phishing",
    "$important": "$Important",  # RFC 8457 §2
}
