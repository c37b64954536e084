"""Reading one email after the other, as POP3's clients do: those that come next are read along with the one asked for.

Promises: `content` answers what `emails.content` does. What was read and not asked for yet takes 256 KB of memory at
most, and is let go when another email is asked for. A read of its own for each of 20,000 costs seven times as much.
Refuses: to read ahead for who jumps about.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from posthouse.limits import KB
from posthouse.mailbox.emails import Content
from posthouse.mailbox.model import NoSuchEmail

# What `emails.contents` finds of some emails.
Read = Callable[[Sequence[int]], Awaitable[Mapping[int, Content]]]

_OCTETS: Final = 256 * KB
_EMAILS: Final = 64


class Ahead:
    """What one reader of a list of emails gets, and what waits for him to ask for it."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._waiting: dict[int, Content] = {}
        self._next = 0

    async def content(self, ids: Sequence[int], sizes: Sequence[int], index: int) -> Content:
        """Where the octets are of the email at this place in the list. Raises NoSuchEmail, and what `read` raises."""
        email = ids[index]
        if email not in self._waiting:
            # What waits is nothing that he wants next.
            self._waiting = {}
            following = _following(ids, sizes, index) if index == self._next else ()
            self._waiting = dict(await self._read([email, *following]))
        self._next = index + 1
        if email not in self._waiting:
            raise NoSuchEmail(f"there is no email {email}")
        return self._waiting.pop(email)


def _following(ids: Sequence[int], sizes: Sequence[int], index: int) -> Sequence[int]:
    """Those behind it that may be read at once."""
    end, octets = index + 1, 0
    for size in sizes[index + 1 : index + _EMAILS]:
        octets += size
        if octets > _OCTETS:
            break
        end += 1
    return ids[index + 1 : end]
