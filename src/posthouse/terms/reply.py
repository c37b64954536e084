"""A reply of SMTP (RFC 5321 §4.2) and the refusal that carries one.

A Refusal contains the whole answer for the peer, in plain words; what only we may know goes to the log, not in here.
"""

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Reply:
    """Code, enhanced status code (RFC 3463; None where RFC 2034 §4 allows none) and text, lines parted by "\\n"."""

    code: int
    enhanced: str | None
    text: str

    @property
    def positive(self) -> bool:
        """2xx or 3xx: what was asked is done, or goes on."""
        return self.code < 400

    @property
    def transient(self) -> bool:
        """4xx: asking again later may succeed (RFC 5321 §4.2.1)."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5xx: asking again in the same way is useless (RFC 5321 §4.2.1)."""
        return self.code >= 500

    def octets(self) -> bytes:
        """The reply as it travels: each line with the code, all but the last with a hyphen (RFC 5321 §4.2.1).

        The enhanced code stands on every line (RFC 2034 §4). Text outside UTF-8's printable set never gets in here:
        whoever builds a Reply from a stranger's words cleans them first.
        """
        return _octets(self.code, self.enhanced, self.text)

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.enhanced, self.text.replace("\n", " / ")) if part)


@lru_cache(maxsize=512)
def _octets(code: int, enhanced: str | None, text: str) -> bytes:
    """Kept, because nearly all replies are the same few dozen."""
    between = f"{enhanced} " if enhanced else ""
    *lines, last = text.split("\n")
    whole = [f"{code}-{between}{line}\r\n" for line in lines]
    return "".join([*whole, f"{code} {between}{last}\r\n"]).encode()


class Refusal(Exception):
    """What was asked is refused or deferred; `reply` says so to the peer."""

    def __init__(self, code: int, enhanced: str | None, text: str) -> None:
        super().__init__(f"{code} {enhanced or ''} {text}")
        self.reply = Reply(code, enhanced, text)
