"""What is old goes: removed accounts, journeys, expunged mail, posts that nobody approved, tombstones, blocks, octets
that nothing refers to.

Promises: each room's function is called until it has no more to do, a batch a transaction, so that nobody waits long.
Refuses: to know how often; app.py does.
"""

from posthouse import journey
from posthouse.clock import Clock
from posthouse.config import values
from posthouse.delivery import posts
from posthouse.directory import accounts
from posthouse.mailbox import packed, retention
from posthouse.policy import blocks
from posthouse.relay import security
from posthouse.store import sweep
from posthouse.store.blobs import Blobs
from posthouse.store.sqlite import SqliteStore


async def clean(store: SqliteStore, blobs: Blobs, clock: Clock, kept: values.Store) -> None:
    """Do all of it once. Raises StoreUnavailable, and OSError where a blob cannot be removed; the next call goes on."""
    now = clock.now()
    while await store.write(accounts.sweep_removed, now):
        pass
    while await store.write(journey.expire, now - int(kept.journeys * 1000)):
        pass
    while await store.write(retention.drop_expunged, now - int(kept.expunged * 1000), now):
        pass
    while await store.write(posts.expire, now - int(kept.held * 1000), now):
        pass
    after = 0
    while batch := await store.read(retention.accounts_after, after):
        for account in batch:
            while await store.write(retention.expire_changes, account, now - int(kept.tombstones * 1000)):
                pass
        after = batch[-1]
    while await store.write(packed.sweep):
        pass
    await store.write(security.expire, now)
    await store.write(blocks.forget_old, now)
    await sweep.sweep(store, blobs, clock)
    await store.shrink()
