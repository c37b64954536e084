"""The sweep: blobs that nothing refers to, and files that no row names, are removed.

Promises: what is removed had no reference in the transaction that removed its row. Its file stays another day, for
whoever found it before; a file without a row (its transaction never came) stays a day too. One process sweeps at a
time, and none while a backup copies files.
Refuses: to search the mail for unreferenced blobs. Whoever takes a reference away says so (`blobs.suspect`), in the
same transaction.
"""

import asyncio
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from posthouse.clock import Clock
from posthouse.store.blobs import Blobs
from posthouse.store.database import Store, Tx

DAY_MS: Final = 24 * 3600 * 1000
# Rows in one transaction, files between two questions to the database.
BATCH: Final = 200


async def sweep(store: Store, blobs: Blobs, clock: Clock) -> int:
    """Remove what may be removed now; how many blobs and files that were. Nothing, while another holds the sweep."""
    with holding(blobs.files.directory, shared=False) as alone:
        if not alone:
            return 0
        return (
            await _sweep_suspects(store, clock)
            + await _sweep_gone(store, blobs, clock)
            + await _sweep_nameless(store, blobs, clock)
        )


@contextmanager
def holding(directory: Path, *, shared: bool) -> Iterator[bool]:
    """Hold the sweep: alone to sweep, shared to keep others from sweeping. False where it is held otherwise."""
    descriptor = os.open(directory / "sweep.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
    for blob, file, referred in suspects:
        tx.run("blob_suspect_delete", blob=blob)
        if not referred:
            gone += tx.run("blob_delete", id=blob)
            if file is not None:
                tx.run("blob_gone_insert", file=file, gone_at=now)
    return len(suspects), gone


async def _sweep_gone(store: Store, blobs: Blobs, clock: Clock) -> int:
    """Files whose row went a day ago. The octets go first: what is interrupted is done again."""
    removed = 0
    while files := await store.read(_gone_before, clock.now() - DAY_MS):
        await asyncio.to_thread(_remove, blobs, files)
        await store.write(_forget_gone, files)
        removed += len(files)
    return removed


async def _sweep_nameless(store: Store, blobs: Blobs, clock: Clock) -> int:
    """Files that were written a day ago and that no row names."""
    removed = 0
    old = blobs.files.older_than((clock.now() - DAY_MS) / 1000)
    while files := await asyncio.to_thread(lambda: list(islice(old, BATCH))):
        nameless = await store.read(_without_row, files)
        await asyncio.to_thread(_remove, blobs, nameless)
        removed += len(nameless)
    return removed


def _gone_before(tx: Tx, before: int) -> list[str]:
    return [file for (file,) in tx.all("blob_gone_before", before=before, limit=BATCH)]


def _forget_gone(tx: Tx, files: Sequence[str]) -> None:
    tx.many("blob_gone_delete", [{"file": file} for file in files])


def _without_row(tx: Tx, files: Sequence[str]) -> list[str]:
    return [file for file in files if not tx.value("blob_file_known", file=file)]


def _remove(blobs: Blobs, files: Sequence[str]) -> None:
    for file in files:
        blobs.files.remove(file)
