"""The worker that makes digests: what members of a list get in place of single posts.

Promises: a digest is made once, and goes out as posts do (fanout.py): the commit that queues it takes away what was
gathered for it, so that whoever is interrupted before makes it again, and after it nobody does. No more than one post
of it is held in memory. A post whose octets are lost is told of in its place, and the others go out.
Refuses: to decide what belongs to which digest (directory/digests.py).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Final

from posthouse import journey, observe
from posthouse.clock import Clock
from posthouse.delivery import fanout
from posthouse.delivery.fanout import Batches, Takers
from posthouse.delivery.letters import Settings
from posthouse.directory import digests, lists
from posthouse.directory.digests import Gathered
from posthouse.directory.lists import MailingList
from posthouse.directory.model import NoSuchList
from posthouse.message import build, digest
from posthouse.message.addresses import Mailbox
from posthouse.message.date import format_date
from posthouse.message.digest import Cover
from posthouse.observe import Fact, Step
from posthouse.queue.queue import QueuedMail
from posthouse.store import blobs
from posthouse.store.blobs import BlobLost, Blobs, Spool, SpoolFull, Staged
from posthouse.store.database import Store, StoreUnavailable, Topic, Tx
from posthouse.terms.address import Address
from posthouse.terms.envelope import Wishes

# Behind a clock that was set, or another process' work, we are late by so much at most.
_LONGEST_SLEEP: Final = 3600.0
_NO_ROOM: Final = "there is no room to make a digest"


class Digests:
    """Makes digests as they come due."""

    def __init__(self, store: Store, stored: Blobs, settings: Settings, *, clock: Clock, random: Random) -> None:
        self._store = store
        self._blobs = stored
        self._settings = settings
        self._clock = clock
        self._random = random

    async def run(self) -> None:
        """Make them for ever. Several processes may: each digest is made by one. Raises StoreUnavailable."""
        ear = self._store.listen(Topic.DIGESTS)
        try:
            while True:
                await self.make_due()
                due_at = await self._store.read(digests.next_due)
                left = _LONGEST_SLEEP if due_at is None else (due_at - self._clock.now()) / 1000
                try:
                    await asyncio.wait_for(ear.wait(), min(max(left, 0.0), _LONGEST_SLEEP))
                except TimeoutError:
                    continue
        finally:
            ear.close()

    async def make_due(self) -> int:
        """Make those whose time has come, or that are full; how many. Raises StoreUnavailable."""
        made = 0
        while found := await self._store.read(digests.due, self._clock.now()):
            for list, period in found:
                await self._make(list, period)
            made += len(found)
        return made

    async def _make(self, list: int, period: int) -> None:
        await self._store.write(digests.seal, list, period)
        takers = Takers(list, digests.DIGEST, period)
        mailing_list, posts, found = await self._store.read(_look, takers)
        now = self._clock.now()
        if mailing_list is None or not found:
            await self._store.write(_to_nobody, mailing_list, takers, posts, now)
            return
        own = journey.new_id(now, self._random.getrandbits(21))
        cover = self._cover(mailing_list, posts, own, now)
        with self._spool() as spool:
            await self._write(spool, cover, posts)
            staged = await self._blobs.stage(spool)
        mail = QueuedMail(
            own,
            0,
            staged.size,
            mailing_list.beside("bounces"),
            now,
            now + int(self._settings.expire * 1000),
            wishes=_wishes(posts),
        )
        # The instant of responsibility: before this commits, the posts are kept to be gathered; after it, the digest is
        # the queue's.
        if not await self._store.write(self._send, mailing_list, takers, found, posts, mail, staged, cover):
            await self._blobs.abandon(staged)

    def _cover(self, mailing_list: MailingList, posts: Sequence[Gathered], own: int, now: int) -> Cover:
        """What stands in front."""
        count = f"{len(posts)} message{'s' if len(posts) > 1 else ''}"
        day = format_date(now).partition(", ")[2].rpartition(" ")[0].rpartition(" ")[0]
        entries = digest.contents([(one.subject, one.author) for one in posts])
        text = (
            f"{count} from {mailing_list.title}:\n\n{entries}\n"
            f"To write to all members: {mailing_list.address}\n"
            f'To get single messages again: write "each" to {mailing_list.beside("request")}\n'
            f"To leave: {mailing_list.beside('unsubscribe')}\n"
        )
        return Cover(
            _mailbox(mailing_list.title, mailing_list.beside("request")),
            _mailbox(mailing_list.title, mailing_list.address),
            _mailbox(mailing_list.title, mailing_list.address),
            f"{mailing_list.title}: digest of {day}, {count}",
            text,
            now,
            build.message_id(self._settings.hostname, f"digest.{journey.code(own)}"),
            any(one.eight_bit for one in posts),
        )

    def _spool(self) -> Spool:
        try:
            return self._blobs.spool()
        except SpoolFull as error:
            raise StoreUnavailable(_NO_ROOM) from error

    async def _write(self, spool: Spool, cover: Cover, posts: Sequence[Gathered]) -> None:
        try:
            spool.write(digest.beginning(cover))
            for one in posts:
                octets = await self._load(one)
                written = await asyncio.to_thread(digest.part, cover, octets)
                spool.write(written)
            spool.write(digest.ending(cover))
        except SpoolFull as error:
            raise StoreUnavailable(_NO_ROOM) from error

    async def _load(self, post: Gathered) -> bytes:
        """A post; where its octets are lost, a message that says so."""
        try:
            ref = await self._store.read(blobs.find, post.blob)
            if ref is None:
                raise BlobLost(f"blob {post.blob} has no row")
            return bytes(await self._blobs.load(ref))
        except BlobLost as error:
            code = journey.code(post.journey)
            observe.tell("digest.post_lost", level=observe.ERROR, journey=code, error=str(error))
            return build.field("Subject", post.subject) + f"\r\nThis message was lost (journey {code}).\r\n".encode()

    def _send(
        self,
        tx: Tx,
        mailing_list: MailingList,
        takers: Takers,
        found: Batches,
        posts: Sequence[Gathered],
        mail: QueuedMail,
        staged: Staged,
        cover: Cover,
    ) -> bool:
        """Queue the digest; False where it is queued already, or the list is gone."""
        now = mail.queued_at
        if not digests.finish(tx, takers.list, takers.period, now):
            return False
        mail = replace(mail, blob=blobs.insert(tx, staged))
        fanout.send(tx, mailing_list, mail, takers, found)
        address = str(mailing_list.address)
        for one in posts:
            facts: dict[str, Fact] = {"list": address, "copy": journey.code(mail.journey)}
            journey.record(tx, one.journey, [Step("list.digested", now, one.journey, facts)])
        written = Step("list.digest", now, mail.journey, {"list": address, "posts": len(posts)})
        journey.open(
            tx, mail.journey, message_id=cover.message_id, sender=str(mail.sender), recipients=[address],
            subject=cover.subject, secret=self._settings.secret, steps=[written],
        )  # fmt: skip
        return True


def _look(tx: Tx, takers: Takers) -> tuple[MailingList | None, Sequence[Gathered], Batches]:
    """The list (None: it is gone), what was gathered, and who is to get it."""
    try:
        mailing_list = lists.get(tx, takers.list)
    except NoSuchList:
        return None, (), ()
    return mailing_list, digests.posts(tx, takers.list, takers.period), fanout.batches(tx, takers)


def _to_nobody(tx: Tx, mailing_list: MailingList | None, takers: Takers, posts: Sequence[Gathered], now: int) -> None:
    """All who took the digest have left, or their mail came back: it is not made."""
    if digests.finish(tx, takers.list, takers.period, now) and mailing_list is not None:
        for one in posts:
            step = Step("list.undigested", now, one.journey, {"list": str(mailing_list.address)})
            journey.record(tx, one.journey, [step])


def _wishes(posts: Sequence[Gathered]) -> Wishes:
    """What the digest needs on its way: all that one of the posts needs."""
    return Wishes(
        "8BITMIME" if any(one.eight_bit for one in posts) else "7BIT",
        any(one.smtputf8 for one in posts),
        requiretls=any(one.requiretls for one in posts),
    )


def _mailbox(name: str, address: Address) -> Mailbox:
    return Mailbox(name, address.local, address.domain)
