"""Which thread an email belongs to (RFC 8621 §3).

Two emails share a thread where a message-id in Message-ID, In-Reply-To or References of one stands in those of the
other, *and* their base subjects are the same (RFC 8621 §3 recommends both). So each link is one keyed hash of
message-id and base subject together. Ids that are only referred to are kept as well: a reply that comes before what
it answers is joined by it.

Promises: a thread's id never changes and threads never merge: an email that links two joins its nearest ancestor's. A
thread has the id of the email that began it, so that most need no row of their own. The hash is keyed, so that nobody
outside can make two ids collide. Whoever files an email looks at all others of its thread, so a thread of MOST takes no
more: what is linked to it begins another, to which its links lead from then on.
Refuses: to look at dates or at anything else in the text.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Final, NamedTuple

from posthouse.mailbox import ranges
from posthouse.mailbox.model import Change
from posthouse.mailbox.summary import Rendered
from posthouse.store.database import Tx
from posthouse.terms.keywords import DRAFT, SEEN

# Emails of a thread. Strangers say what is linked, and a look at a thousand takes the only writer a millisecond.
MOST: Final = 1000


class Thread(NamedTuple):
    """A thread, and whether one of its emails could be seen before; `before`: how many could, and how many of these
    were unread, in the mailbox that was asked about (None: none was)."""

    id: int
    visible: bool
    before: tuple[int, int] | None = None


def links(message: Rendered, secret: bytes) -> list[int]:
    """The hashes that tie this message to others: nearest ancestor first, its own last."""
    nearest_first = message.references[::-1]
    ids = (*nearest_first, message.message_id) if message.message_id else nearest_first
    if not ids:
        return []
    subject = blake2b(
        "".join(message.base_subject.split()).casefold().encode("utf-8", "replace"), key=secret, digest_size=8
    )
    hashes: list[int] = []
    for message_id in ids:
        hasher = subject.copy()
        hasher.update(b"\0" + message_id.encode("utf-8", "replace"))
        hashes.append(int.from_bytes(hasher.digest(), "big", signed=True))
    return list(dict.fromkeys(hashes))


class Kin(NamedTuple):
    """What the links of a message lead to in an account: a thread, where there is one that takes more; links not seen
    before; and, where it is to begin another, those that lead to threads that take no more."""

    thread: Thread | None
    new_links: Sequence[int]
    full_links: Sequence[int] = ()


_NONE: Final = Kin(None, ())


def look(tx: Tx, account: int, hashes: Sequence[int], mailbox: int) -> Kin:
    """Where the links of a message lead to in a locked account; it is about to be placed in `mailbox`."""
    return Links(tx, account, [hashes], mailbox).kin(hashes)


class Links:
    """Where the links of some messages lead to in a locked account, looked up at once. They are about to be placed in
    `mailbox`, and until then nothing else happens in the account."""

    __slots__ = ("_found", "_full", "_threads")

    def __init__(self, tx: Tx, account: int, hashes: Iterable[Sequence[int]], mailbox: int) -> None:
        asked = list(dict.fromkeys(chain.from_iterable(hashes)))
        self._found = _find(tx, account, asked)
        self._threads: dict[int, Thread] = {}
        self._full: set[int] = set()
        if self._found:
            self._threads, self._full = _stand(tx, account, set(self._found.values()), mailbox)

    def kin(self, hashes: Sequence[int]) -> Kin:
        """Of one of them."""
        if not hashes:
            return _NONE
        found = self._found
        known = [hash for hash in hashes if hash in found]
        nearest = next((found[hash] for hash in known if found[hash] not in self._full), None)
        if nearest is None:
            return Kin(None, [hash for hash in hashes if hash not in found] if known else hashes, known)
        # One that began since we looked, or of which no email is left, has nothing to be seen.
        thread = self._threads.get(nearest) or Thread(nearest, False, (0, 0))
        return Kin(thread, [hash for hash in hashes if hash not in found])

    def joined(self, kin: Kin, thread: Thread) -> None:
        """A message has joined this thread, and brought its new links."""
        self._found.update(dict.fromkeys([*kin.new_links, *kin.full_links], thread.id))


def _find(tx: Tx, account: int, hashes: Sequence[int]) -> dict[int, int]:
    """The thread of each of these links that were seen before."""
    if len(hashes) == 1:
        thread: int | None = tx.value("thread_of_link", account=account, hash=hashes[0])
        return {} if thread is None else {hashes[0]: thread}
    return dict(tx.all("thread_links", account=account, hashes=_packed(hashes))) if hashes else {}


def _stand(tx: Tx, account: int, threads: Iterable[int], mailbox: int) -> tuple[dict[int, Thread], set[int]]:
    """These threads as they are, without those of which no email is left; and which of them take no more."""
    asked = {"account": account, "mailbox": mailbox, "read": SEEN | DRAFT}
    rows = tx.all("threads_stand", threads=ranges.pack(threads), **asked)
    stand = {thread: Thread(thread, bool(seen), (here or 0, unread or 0)) for thread, seen, here, unread, _ in rows}
    return stand, {row[0] for row in rows if row[4] >= MOST}


def join(change: Change, email: int, kin: Kin) -> Thread:
    """The thread of a new email: its kin's, or one that it begins. Its new links lead there from now on."""
    thread = kin.thread
    if thread is None:
        thread = Thread(email, False)
        change.threads_begun.add(email)
    if len(kin.new_links) == 1:
        change.tx.put("thread_link_one", account=change.account, hash=kin.new_links[0], thread=thread.id)
    elif kin.new_links:
        change.tx.put("thread_link", account=change.account, thread=thread.id, hashes=_packed(kin.new_links))
    if kin.full_links:
        change.tx.put("thread_links_move", account=change.account, thread=thread.id, hashes=_packed(kin.full_links))
    return thread


def _packed(hashes: Sequence[int]) -> str:
    return f"[{','.join(map(str, hashes))}]"
