"""How many messages one command may be about (RFC 9738): where a command is cut, and what its client is told.

Promises: where a limit is set, what is more than it is left for another command: the messages with the highest uids are
done, and a response code says down to which. What is done whole or not at all is refused. Where no limit is set nothing
is counted.
Refuses: to limit EXPUNGE, CLOSE and STATUS (RFC 9738 §3.1: they must not be).
"""

from bisect import bisect_left
from collections.abc import Sequence

from posthouse import limits
from posthouse.imapd.refusal import Refused
from posthouse.imapd.session import Session
from posthouse.mailbox import query, ranges
from posthouse.mailbox.conditions import Condition
from posthouse.wire.imap import response
from posthouse.wire.imap.response import Code
from posthouse.wire.imap.sequence import Range


def last(session: Session, numbers: Sequence[Range]) -> tuple[Sequence[Range], bytes]:
    """Those of these messages that a command does, and the code that says so; b"" where that is all of them."""
    most = session.around.message_limit
    if not most or ranges.count(numbers) <= most:
        return numbers, b""
    kept = _tail(numbers, most)
    return kept, response.message_limit(most, session.open.view.uid(kept[0][0]))


def last_uids(session: Session, uids: Sequence[int]) -> tuple[Sequence[int], bytes]:
    """The same of messages by their uids, which ascend."""
    most = session.around.message_limit
    if not most or len(uids) <= most:
        return uids, b""
    return uids[-most:], response.message_limit(most, uids[-most])


def last_searched(session: Session, condition: Condition, uids: Sequence[int]) -> tuple[int, bytes]:
    """At which of these uids, which ascend, a search begins, and the code. RFC 9738 §3.1: what is looked through
    counts, not what is found; uids and message numbers that the search asks for bound it."""
    most = session.around.message_limit
    if not most or len(uids) <= most:
        return 0, b""
    named = query.within(uids, condition)
    if len(named) <= most:
        return 0, b""
    lowest = named[-most]
    return bisect_left(uids, lowest), response.message_limit(most, lowest)


def require(session: Session, count: int) -> None:
    """For what is done whole or not at all. Raises Refused where it is about so many messages."""
    most = session.around.message_limit
    if most and count > most:
        # RFC 9738 §5: no uid, where none was come to.
        raise too_many(response.message_limit(most))


def too_many(code: bytes) -> Refused:
    """The answer to a command that cannot be cut."""
    return Refused("That is about too many messages; name fewer", code)


def appends(session: Session) -> tuple[int, bytes]:
    """How many messages one APPEND files at most, and the code for more (RFC 9738 §3.1, RFC 5530 §3)."""
    most = session.around.message_limit
    if not most:
        return limits.IMAP_APPENDS, Code.LIMIT
    most = min(most, limits.IMAP_APPENDS)
    return most, response.message_limit(most)


def _tail(found: Sequence[Range], count: int) -> list[Range]:
    """The last so many numbers of these ranges, which are in order and hold more."""
    kept: list[Range] = []
    for low, high in reversed(found):
        kept.append((max(low, high - count + 1), high))
        count -= high - kept[-1][0] + 1
        if not count:
            break
    return kept[::-1]
