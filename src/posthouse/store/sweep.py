"""The sweep: blobs that nothing refers to, and octets in a place that no row names, are removed.

Promises: what is removed had no reference in the transaction that removed its row. Its octets stay in their place
another day, for whoever found it before; those without a row (their transaction never came) stay a day too. One process
sweeps at a time, and none while a backup copies.
Refuses: to search the mail for unreferenced blobs. Whoever takes a reference away says so (`blobs.suspect`), in the
same transaction.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from posthouse.clock import Clock
from posthouse.store.blobs import Blobs, Place
from posthouse.store.database import Store, Tx

DAY_MS: Final = 24 * 3600 * 1000
# Rows in one transaction.
BATCH: Final = 200
LOCK: Final = "sweep.lock"


async def sweep(store: Store, blobs: Blobs, clock: Clock) -> int:
    """Remove what may be removed now; how many blobs and names in places that were. Nothing, while another holds the
    sweep. Raises StoreUnavailable, and OSError where a place cannot now."""
    with holding(blobs.directory, shared=False) as alone:
        if not alone:
            return 0
        removed = await _sweep_suspects(store, clock)
        for place in blobs.places:
            removed += await _sweep_gone(store, place, clock) + await _sweep_nameless(store, place, clock)
        return removed


@contextmanager
def holding(directory: Path, *, shared: bool) -> Iterator[bool]:
    """Hold the sweep: alone to sweep, shared to keep others from sweeping. False where it is held otherwise."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


async def _sweep_suspects(store: Store, clock: Clock) -> int:
    removed = 0
    while True:
        looked, gone = await store.write(clear_suspects, clock.now())
        removed += gone
        if looked < BATCH:
            return removed


def clear_suspects(tx: Tx, now: int) -> tuple[int, int]:
    """Look at some suspects; how many, and how many of them had no reference left and are gone."""
    suspects = tx.all("blob_suspects", limit=BATCH)
    gone = 0
    for blob, place, name, referred in suspects:
        tx.run("blob_suspect_delete", blob=blob)
        if not referred:
            gone += tx.run("blob_delete", id=blob)
            if name is not None:
                tx.run("blob_gone_insert", place=place, name=name, gone_at=now)
    return len(suspects), gone


async def _sweep_gone(store: Store, place: Place, clock: Clock) -> int:
    """What lost its row a day ago. The octets go first: what is interrupted is done again."""
    removed = 0
    while names := await store.read(_gone_before, place.number, clock.now() - DAY_MS):
        await place.remove(names)
        await store.write(_forget_gone, place.number, names)
        removed += len(names)
    return removed


async def _sweep_nameless(store: Store, place: Place, clock: Clock) -> int:
    """What was staged a day ago and no row names."""
    removed = 0
    async for names in place.older_than(clock.now() - DAY_MS):
        nameless = await store.read(_without_row, place.number, names)
        await place.remove(nameless)
        removed += len(nameless)
    return removed


def _gone_before(tx: Tx, place: int, before: int) -> list[str]:
    return [name for (name,) in tx.all("blob_gone_before", place=place, before=before, limit=BATCH)]


def _forget_gone(tx: Tx, place: int, names: Sequence[str]) -> None:
    tx.many("blob_gone_delete", [{"place": place, "name": name} for name in names])


def _without_row(tx: Tx, place: int, names: Sequence[str]) -> list[str]:
    return [name for name in names if not tx.value("blob_known", place=place, name=name)]
