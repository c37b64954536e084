"""What a client that was away has missed: changes and expunges since a modseq (RFC 7162).

Promises: what it costs follows what has changed, not what there is, as long as the feed of changes tells it; what this
process has followed costs no look at the store. Where it is forgotten, uids are compared (RFC 7162 §3.2.6: then all
that are not there are told).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from posthouse.imapd.session import Session
from posthouse.mailbox import changes, ranges
from posthouse.mailbox.model import CannotCalculateChanges
from posthouse.mailbox.view import Entries, View
from posthouse.wire.imap.sequence import Range, SequenceSet

# More changes of the account than this, and looking through them takes longer than comparing a large mailbox.
_FAR: Final = 100_000
# Modseqs that are looked through in a row: a millisecond or two.
_STRIDE: Final = 50_000


@dataclass(frozen=True, slots=True)
class Missed:
    """Ranges of uids that changed since `modseq`, and of those that went; None: it is not known."""

    modseq: int
    changed: Sequence[Range] | None = None
    gone: Sequence[Range] | None = None


async def look(session: Session, modseq: int, *, gone: bool) -> Missed:
    """What has changed in the open mailbox since then; `gone`: what went is asked for too. Raises StoreUnavailable."""
    opened = session.open
    snapshot = opened.view.snapshot
    behind = snapshot.modseq - modseq
    if behind <= 0:
        return Missed(modseq, (), ())
    # In another's mailbox each look asks for the right.
    happened = None if session.away else session.around.snapshots.since(snapshot, modseq)
    if happened is not None:
        return Missed(modseq, *happened)
    if behind > (_FAR if gone else len(snapshot)):
        return Missed(modseq)
    try:
        changed, went = await session.look(changes.uids_since, opened.mailbox, modseq, snapshot.modseq)
    except CannotCalculateChanges:
        return Missed(modseq)
    return Missed(modseq, changed, went)


def vanished(view: View, missed: Missed, asked: Sequence[Range]) -> list[Range]:
    """Of the uids that a client asks for, those that are gone. What it has open and has not heard to be gone is not
    among them: VANISHED without EARLIER tells that."""
    if missed.gone is not None:
        asked = ranges.intersect(asked, missed.gone)
    return view.absent(asked)


def changed(session: Session, missed: Missed, numbers: Sequence[Range], size: int) -> Iterator[Entries]:
    """Those of the messages of these sequence numbers that changed, about so many at a time, some of them none: between
    two lots others may have their turn."""
    modseq, view = missed.modseq, session.open.view
    if missed.changed is not None:
        numbers = ranges.intersect(numbers, view.spans(missed.changed))
        for lot in view.lots(numbers, size):
            yield lot.chosen([at > modseq for at in lot.modseqs])
        return
    for low, high in numbers:
        for start in range(low, high + 1, _STRIDE):
            found = view.changed_after(modseq, start, min(start + _STRIDE - 1, high))
            yield from found.lots(size) if found.uids else (found,)


def wanted(session: Session, asked: SequenceSet | None) -> list[Range]:
    """The uids that a client asks after, those that no message has any more among them: `*` is the last that was ever
    given, and nothing said means all (RFC 7162 §3.2.5.1)."""
    last = session.open.view.snapshot.uidnext - 1
    if asked is None:
        return [(1, last)] if last else []
    found = asked.resolve(last)
    if asked.saved:
        found = (*found, *session.open.saved)
    return ranges.join(found)


def first_unmatched(view: View, matches: Sequence[Range]) -> int:
    """The lowest uid that a client may not know to be gone: above the last message of which it knows that this number
    has this uid (RFC 7162 §3.2.5.2)."""
    for number, uid in reversed(matches):
        there = view.by_seq(number, number)
        if there and there[0].uid == uid:
            return uid + 1
    return 1
