"""Digests of mailing lists: which posts are gathered for one, and who takes posts in one.

Promises: a list's time is cut into periods, a digest each. A post belongs to one period, and in a period a member
takes all posts singly or all in its digest: who changes while something is gathered does so from the next period on, so
nothing is lost to him and nothing comes twice. A digest that is sealed gains nothing more.
Refuses: to write digests (delivery/digests.py does).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from posthouse.store import blobs
from posthouse.store.database import Topic, Tx

Form = Literal["each", "digest"]
EACH: Final[Form] = "each"
DIGEST: Final[Form] = "digest"

# Digests made in a row before others are looked for.
_MOST_DUE: Final = 100


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a digest is full: so many posts, or octets of them."""

    posts: int
    size: int


@dataclass(frozen=True, slots=True)
class Gathered:
    """A post as the members get it: the blob that it is, its journey, what a table of contents tells of it, and what it
    needs on its way."""

    blob: int
    journey: int
    author: str
    subject: str
    eight_bit: bool = False
    smtputf8: bool = False
    requiretls: bool = False


# --- gathering --------------------------------------------------------------------------------------------------------


def wanted(tx: Tx, list: int) -> bool:
    """Somebody takes what is posted now in a digest."""
    return bool(tx.value("list_digest_wanted", list=list, period=period(tx, list)))


def period(tx: Tx, list: int) -> int:
    """The period that what is posted now belongs to."""
    number: int = tx.value("list_period", list=list)
    return number


def gathering(tx: Tx, list: int) -> bool:
    """Posts wait for the digest of this period."""
    return tx.one("list_digest_get", list=list, period=period(tx, list)) is not None


def make_room(tx: Tx, list: int, size: int, bounds: Bounds) -> None:
    """Where a post of that size would make the digest larger than it may be, that is closed: the post belongs to the
    next period. To be called before the post is sent to anybody."""
    row = tx.one("list_digest_get", list=list, period=period(tx, list))
    if row is not None and row[1] + size > bounds.size:
        seal(tx, list, period(tx, list))


def gather(tx: Tx, list: int, post: Gathered, size: int, bounds: Bounds, now: int) -> None:
    """The post will stand in the digest of this period. The caller refers to the blob no more than it wants to."""
    to = period(tx, list)
    tx.run(
        "list_digest_post_insert",
        list=list,
        period=to,
        blob=post.blob,
        journey=post.journey,
        author=post.author,
        subject=post.subject,
        eight_bit=int(post.eight_bit),
        smtputf8=int(post.smtputf8),
        requiretls=int(post.requiretls),
    )
    tx.run("list_digest_add", list=list, period=to, size=size, now=now)
    posts, gathered, _ = tx.one("list_digest_get", list=list, period=to) or (0, 0, 0)
    if posts >= bounds.posts or gathered >= bounds.size:
        seal(tx, list, to)
    elif posts == 1:
        tx.ring(Topic.DIGESTS)


# --- making -----------------------------------------------------------------------------------------------------------


def due(tx: Tx, now: int) -> Sequence[tuple[int, int]]:
    """The lists and periods whose digests are to be made now."""
    return [(list, of) for list, of in tx.all("list_digest_due", now=now, limit=_MOST_DUE)]


def next_due(tx: Tx) -> int | None:
    """When the next of those that are gathered has its time, in UTC milliseconds; None where nothing is."""
    at: int | None = tx.value("list_digest_next")
    return at


def seal(tx: Tx, list: int, of: int) -> None:
    """What is posted from now on is for the next digest."""
    if tx.run("list_digest_seal", list=list, period=of):
        tx.run("list_period_next", list=list)
        tx.ring(Topic.DIGESTS)


def posts(tx: Tx, list: int, of: int) -> Sequence[Gathered]:
    """What stands in the digest of that period, in the order in which it was posted."""
    rows = tx.all("list_digest_post_list", list=list, period=of)
    return [Gathered(*row[:4], *map(bool, row[4:])) for row in rows]


def finish(tx: Tx, list: int, of: int, now: int) -> bool:
    """The digest is made, in this transaction; False where it was before, or the list is gone."""
    if not tx.run("list_digest_take", list=list, period=of):
        return False
    blobs.suspect(tx, [blob for (blob,) in tx.all("list_digest_post_take", list=list, period=of)], now)
    return True


# --- who takes what ---------------------------------------------------------------------------------------------------


def turn(tx: Tx, list: int, number: int, before: Form | None) -> None:
    """The member of that number takes posts otherwise from now on: at once, or, while a digest is gathered, behind it.

    `before`: how he has taken them; None: not at all, and then there is nothing to wait for.
    """
    now = period(tx, list)
    under_way = gathering(tx, list)
    if before is not None:
        tx.run("list_turn_insert", list=list, number=number, period=now, form=before)
        if not under_way:
            tx.run("list_period_next", list=list)
    tx.run("list_turn_forget", list=list)


def form(tx: Tx, list: int, number: int, otherwise: Form | None) -> Form | None:
    """How the member of that number takes posts in this period, who takes them `otherwise` from the next on."""
    found: Form | None = tx.value("list_turn_get", list=list, number=number, period=period(tx, list))
    return found or otherwise
