"""Why mail was not taken: what a status code (RFC 3463, 5248) and the words beside it come to.

Promises: one of a dozen causes for whatever a server says, with a sentence for whoever wrote the message. The code
decides; where it says nothing of its own (5.0.0, none at all) the words do, by phrases that many servers share.
Refuses: to guess beyond that: OTHER is an answer.
"""

import re
from enum import Enum
from typing import Final


class Cause(Enum):
    """The kinds of failure that call for different things to be done."""

    NO_SUCH_USER = "no such user"
    NO_SUCH_DOMAIN = "no such domain"
    DISABLED = "disabled"
    FULL = "full"
    TOO_LARGE = "too large"
    POLICY = "policy"
    REPUTATION = "reputation"
    CONTENT = "content"
    AUTHENTICATION = "authentication"
    ENCRYPTION = "encryption"
    UNSUPPORTED = "unsupported"
    LOOP = "loop"
    BUSY = "busy"
    NETWORK = "network"
    EXPIRED = "expired"
    OTHER = "other"

    @property
    def of_address(self) -> bool:
        """The address itself is wrong: writing to it again is of no use."""
        return self in (Cause.NO_SUCH_USER, Cause.NO_SUCH_DOMAIN, Cause.DISABLED)


WORDS: Final[dict[Cause, str]] = {
    Cause.NO_SUCH_USER: "There is no such address there. Look whether it is spelt right.",
    Cause.NO_SUCH_DOMAIN: "What stands behind the @ takes no mail. Look whether it is spelt right.",
    Cause.DISABLED: "The address exists and takes no mail at present.",
    Cause.FULL: "The mailbox is full. Its owner has to make room first.",
    Cause.TOO_LARGE: "The message is larger than the other side takes. Send less, or a link.",
    Cause.POLICY: "The other side's rules do not let the message in.",
    Cause.REPUTATION: "The other side does not trust where the message came from. Your postmaster can look into it.",
    Cause.CONTENT: "The other side took the message for spam, or as dangerous.",
    Cause.AUTHENTICATION: "The other side could not verify who the message is from. Your postmaster can look into it.",
    Cause.ENCRYPTION: "The other side could not be reached with the encryption that is asked for.",
    Cause.UNSUPPORTED: "The other side cannot take a message of this form.",
    Cause.LOOP: "The message went round in circles.",
    Cause.BUSY: "The other side could not take the message just then.",
    Cause.NETWORK: "The other side could not be reached.",
    Cause.EXPIRED: "The other side could not be reached in time.",
    Cause.OTHER: "",
}

# By subject and detail of the code (RFC 3463 §3, and the registry of RFC 5248).
_BY_CODE: Final[dict[str, Cause]] = {
    **dict.fromkeys(("1.0", "1.1", "1.3", "1.6"), Cause.NO_SUCH_USER),
    **dict.fromkeys(("1.2", "1.10", "4.3", "4.4"), Cause.NO_SUCH_DOMAIN),
    **dict.fromkeys(("2.1",), Cause.DISABLED),
    **dict.fromkeys(("2.2",), Cause.FULL),
    **dict.fromkeys(("2.3", "3.4"), Cause.TOO_LARGE),
    **dict.fromkeys(("2.4", "4.6"), Cause.LOOP),
    **dict.fromkeys(("3.0", "3.1", "3.2", "4.5", "5.3"), Cause.BUSY),
    **dict.fromkeys(("4.1", "4.2"), Cause.NETWORK),
    **dict.fromkeys(("4.7",), Cause.EXPIRED),
    **dict.fromkeys(("6.0", "6.1", "6.2", "6.3", "6.4", "6.5", "6.6", "6.7", "6.8", "6.9", "6.10"), Cause.UNSUPPORTED),
    **dict.fromkeys(("7.0", "7.1", "7.2"), Cause.POLICY),
    **dict.fromkeys(("7.4", "7.5", "7.10", "7.30"), Cause.ENCRYPTION),
    # RFC 7372: DKIM, SPF and several of them, reverse DNS.
    **dict.fromkeys(("7.20", "7.21", "7.22", "7.23", "7.24", "7.26"), Cause.AUTHENTICATION),
    **dict.fromkeys(("7.25", "7.28"), Cause.REPUTATION),
    "7.27": Cause.NO_SUCH_DOMAIN,  # the sender's domain has a null MX (RFC 7505 §4.2)
}
# Codes that are given for everything: words beside them may tell more.
_VAGUE: Final = frozenset({"0.0", "1.0", "2.0", "3.0", "4.0", "5.0", "6.0", "7.0", "7.1"})

_BY_WORDS: Final[tuple[tuple[Cause, re.Pattern[str]], ...]] = tuple(
    (cause, re.compile(words, re.IGNORECASE))
    for cause, words in (
        (Cause.REPUTATION, r"block ?list|black ?list|dnsbl|\brbl\b|spamhaus|reputation|\blisted (at|in|by|on)\b"),
        (Cause.CONTENT, r"\bspam\b|spammy|virus|malware|phish|unsolicited|junk mail"),
        (Cause.AUTHENTICATION, r"\bdmarc\b|\bdkim\b|\bspf\b|unauthenticated"),
        (Cause.FULL, r"mailbox (is )?full|over ?quota|quota exceeded|exceeded .{0,20}(quota|storage)"
         r"|insufficient .{0,9}storage"),
        (Cause.NO_SUCH_USER, r"user unknown|unknown (user|recipient|mailbox)|no such (user|recipient|address|mailbox)"
         r"|(user|recipient|mailbox|address) (was |is )?(not found|unavailable|does ?n.t exist|does not exist|rejected)"
         r"|invalid (recipient|mailbox)|no mailbox here"),
        (Cause.DISABLED, r"(account|mailbox|user) .{0,20}(disabled|inactive|suspended|deactivated)"),
        (Cause.TOO_LARGE, r"too (large|big|long)|size (limit|exceed)|exceeds .{0,30}size"),
        (Cause.LOOP, r"mail loop|loops? back|too many hops|routing loop"),
        (Cause.BUSY, r"gr[ea]ylist|try again|rate limit|too many (connections|messages)|temporarily"),
        (Cause.POLICY, r"polic(y|ies)|not (allowed|permitted|authori[sz]ed)|relay|access denied|denied|prohibited"),
        (Cause.NETWORK, r"timed? ?out|connection|unreachable|refused to talk"),
    )
)  # fmt: skip
# Whatever a server says, so much of it is looked at.
_LOOKED_AT: Final = 2000


def cause_of(status: str | None, words: str) -> Cause:
    """What an enhanced status code ("5.1.1"; None: there is none) and the reply's text come to. Never raises."""
    code = status.partition(".")[2] if status else "0.0"
    known = _BY_CODE.get(code)
    if known is not None and code not in _VAGUE:
        return known
    text = words[:_LOOKED_AT]
    return next((cause for cause, pattern in _BY_WORDS if pattern.search(text)), known or Cause.OTHER)
