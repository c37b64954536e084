"""Reading one email after the other, as POP3's clients do: those that come next are read along with the one asked for.

Promises: who asks gets what a read of this one email would find. What was read and not asked for yet takes 512 KB of
memory at most, and is let go when another email is asked for. A read of its own for each of 20,000 costs seven times as
much.
Refuses: to read ahead for who jumps about.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from posthouse.limits import KB
from posthouse.mailbox.model import NoSuchEmail

T = TypeVar("T")
# What is found of some emails.
Read = Callable[[Sequence[int]], Awaitable[Mapping[int, T]]]

_OCTETS: Final = 512 * KB
_EMAILS: Final = 128


class Ahead(Generic[T]):
    """What one reader of a list of emails gets, and what waits for him to ask for it."""

    def __init__(self, read: Read[T]) -> None:
        self._read = read
        self._waiting: dict[int, T] = {}
        self._next = 0

    def waiting(self, ids: Sequence[int], index: int) -> T | None:
        """What `find` finds of the email at this place in the list, where that waits already; else None."""
        found = self._waiting.pop(ids[index], None)
        if found is not None:
            self._next = index + 1
        return found

    async def find(self, ids: Sequence[int], sizes: Sequence[int], index: int) -> T:
        """What is found of the email at this place in the list. Raises NoSuchEmail, and what `read` raises."""
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
