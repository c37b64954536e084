"""A server's replies as a client reads them (RFC 5321 §4.2): from lines to a Reply, and to text fit for people.

Promises: what comes out is printable, whatever the peer said. Refuses: to say whether a reply fits where it came.
"""

import re
from functools import lru_cache
from typing import Final

from posthouse.terms.reply import Reply

# A line of a reply: its code, whether more of it follows, its text.
REPLY: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?\Z", re.DOTALL)
# Octets of a reply that is remembered.
SHORT: Final = 200
# RFC 3463 §2
_ENHANCED: Final = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |\Z)")


def _clean(line: bytes) -> str:
    """A line of the peer's as text fit for logs, bounces and journeys."""
    text = line.decode(errors="replace")
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def read_lines(lines: list[bytes]) -> tuple[list[str], Reply]:
    """The lines as they are shown, and the reply that they are in our terms: cleaned of what is not printable, the
    enhanced code taken out of the text."""
    shown = [_clean(line) for line in lines]
    code = int(shown[0][:3])
    texts = [line[4:] for line in shown]
    enhanced = None
    match = _ENHANCED.match(texts[0])
    # RFC 2034 §4: its first digit is the reply's.
    if match and match[1][0] == str(code)[0]:
        enhanced = match[1]
        texts = [text[len(enhanced) + 1 :] if text.startswith(enhanced) else text for text in texts]
    return shown, Reply(code, enhanced, "\n".join(texts))


@lru_cache(maxsize=1024)
def read_line(line: bytes) -> tuple[str, Reply] | None:
    """The same for a reply of one short line: servers say few different ones, again and again. None: it is none, or
    more of it follows."""
    match = REPLY.match(line)
    if match is None or match[2] == b"-":
        return None
    (shown,), reply = read_lines([line])
    return shown, reply
