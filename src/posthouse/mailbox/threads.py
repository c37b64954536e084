"""Which thread an email belongs to (RFC 8621 §3).

Two emails share a thread where a message-id in Message-ID, In-Reply-To or References of one stands in those of the
other, *and* their base subjects are the same (RFC 8621 §3 recommends both). So each link is one keyed hash of
message-id and base subject together. Ids that are only referred to are kept as well: a reply that comes before what
it answers is joined by it.

Promises: a thread's id never changes and threads never merge: an email that links two joins its nearest ancestor's. A
thread has the id of the email that began it, so that most need no row of their own. The hash is keyed, so that nobody
outside can make two ids collide.
Refuses: to look at dates or at anything else in the text.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from posthouse.mailbox.model import Change
from posthouse.mailbox.summary import Rendered
from posthouse.store.database import Tx


class Thread(NamedTuple):
    """A thread, and whether one of its emails could be seen before."""

    id: int
    visible: bool


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
    """What the links of a message lead to in an account: a thread, where there is one; and links not seen before."""

    thread: Thread | None
    new_links: Sequence[int]


def look(tx: Tx, account: int, hashes: Sequence[int]) -> Kin:
    """Where the links of a message lead to in a locked account."""
    if not hashes:
        return Kin(None, ())
    found: dict[int, int] = dict(tx.all("thread_links", account=account, hashes=_packed(hashes)))
    if not found:
        return Kin(None, hashes)
    thread = next(found[hash] for hash in hashes if hash in found)
    visible = bool(tx.all("threads_visible", account=account, threads=f"[[{thread},{thread}]]"))
    return Kin(Thread(thread, visible), [hash for hash in hashes if hash not in found])


def join(change: Change, email: int, kin: Kin) -> Thread:
    """The thread of a new email: its kin's, or one that it begins. Its new links lead there from now on."""
    thread = kin.thread
    if thread is None:
        thread = Thread(email, False)
        change.threads_begun.add(email)
    if kin.new_links:
        change.tx.put("thread_link", account=change.account, thread=thread.id, hashes=_packed(kin.new_links))
    return thread


def _packed(hashes: Sequence[int]) -> str:
    return f"[{','.join(map(str, hashes))}]"
