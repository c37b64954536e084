"""Which thread an email belongs to (RFC 8621 §3).

Two emails share a thread where a message-id in Message-ID, In-Reply-To or References of one stands in those of the
other, *and* their base subjects are the same (RFC 8621 §3 recommends both). So each link is one keyed hash of
message-id and base subject together. Ids that are only referred to are kept as well: a reply that comes before what
it answers is joined by it.

Promises: a thread's id never changes and threads never merge: an email that links two joins its nearest ancestor's. The
hash is keyed, so that nobody outside can make two ids collide.
Refuses: to look at dates or at anything else in the text.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from posthouse.mailbox.model import Change
from posthouse.mailbox.summary import Rendered


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


def join(change: Change, hashes: Sequence[int]) -> Thread:
    """The thread that these links lead to, or a new one; links not seen before lead to it from now on."""
    if not hashes:
        return Thread(change.new_thread(), False)
    tx, account = change.tx, change.account
    packed = f"[{','.join(map(str, hashes))}]"
    found = {row[0]: Thread(row[1], bool(row[2])) for row in tx.all("thread_links", account=account, hashes=packed)}
    thread = next((found[hash] for hash in hashes if hash in found), None) or Thread(change.new_thread(), False)
    if len(found) < len(hashes):
        tx.run("thread_link", account=account, thread=thread.id, hashes=packed)
    return thread
