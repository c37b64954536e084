"""Which messages may have a say in where another stands in a conversation: those that are linked to it, by an id that
both name or have, or by a base subject that is not empty; and those linked to these.

Promises: all of them, or None where looking for them would take longer than putting all messages together; and some
more, where hashes are alike. Looks through packed columns, and keeps nothing.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from posthouse.mailbox.collation import ID
from posthouse.mailbox.columns import Texts

# Ids and subjects that are looked for: a tenth of a millisecond each among 20,000 messages.
_NAMES: Final = 100
_NO_ID: Final = bytes(ID)
# Messages that are looked at in one step.
_STEP: Final = 16_384


class Kin:
    """Some messages, with what they are linked by: `links` of each (collation.links), and the column of subjects."""

    def __init__(self, uids: Sequence[int], links: Sequence[bytes], subjects: Texts) -> None:
        self._uids = uids
        self._links = links
        packed: list[bytes] = []
        self._ends = array("Q")
        end = 0
        # In steps: in C each is done at once, and others have a turn between two.
        for start in range(0, len(links), _STEP):
            some = links[start : start + _STEP]
            packed.append(b"".join(some))
            self._ends.extend([end + one for one in accumulate(map(len, some))])
            end += len(packed[-1])
        self._packed = b"".join(packed)
        self._subjects = subjects

    def of(self, places: Iterable[int]) -> set[int] | None:
        """The places of all that are linked to these, and of these; None: too much to look for, or the subject of one
        is not in the column."""
        found: set[int] = set()
        waiting = set(places)
        known: set[tuple[bool, bytes]] = set()
        while waiting:
            place = waiting.pop()
            found.add(place)
            subject = self._subjects.one(self._uids[place])
            if subject is None:
                # That was read after the message had gone.
                return None
            for name in self._names(place, subject):
                if name in known:
                    continue
                if len(known) >= _NAMES:
                    return None
                known.add(name)
                waiting.update([other for other in self._having(*name) if other not in found])
        return found

    def _names(self, place: int, subject: bytes) -> Iterator[tuple[bool, bytes]]:
        """What a message is linked by: ids, and (True) a subject."""
        linked = self._links[place]
        for start in range(1, len(linked), ID):
            name = linked[start : start + ID]
            if name != _NO_ID:
                yield False, name
        if subject:
            yield True, subject

    def _having(self, subject: bool, name: bytes) -> Iterator[int]:
        if subject:
            for uid in self._subjects.equal(name):
                place = bisect_left(self._uids, uid)
                if place < len(self._uids) and self._uids[place] == uid:
                    yield place
            return
        at = -1
        while (at := self._packed.find(name, at + 1)) >= 0:
            place = bisect_right(self._ends, at)
            first = self._ends[place - 1] if place else 0
            # Behind the octet that tells of a reply.
            if (at - first - 1) % ID == 0:
                yield place
