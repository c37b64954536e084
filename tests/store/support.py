"""Stores for tests of this room and of all above it."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from posthouse.clock import Clock, SystemClock
from posthouse.store import blobs
from posthouse.store.blobs import BlobLost, BlobRef, Blobs, Staged
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteStore


def open_store(directory: Path, clock: Clock | None = None, *, vfs: str | None = None) -> SqliteStore:
    """A store in `directory` (a test's tmp_path); opened again where it exists. Whoever opens it closes it."""
    return SqliteStore.open(directory / "posthouse.db", clock=clock or SystemClock(), vfs=vfs)


@asynccontextmanager
async def opened(directory: Path, clock: Clock | None = None, *, vfs: str | None = None) -> AsyncIterator[SqliteStore]:
    """The same, closed at the end."""
    store = open_store(directory, clock, vfs=vfs)
    try:
        yield store
    finally:
        await store.close()


# The smallest row there is, for tests that need something written and read: a blob, named by its hash.


def put(tx: Tx, octets: bytes) -> int:
    """Write a row; its id."""
    return blobs.insert(tx, Staged(len(octets), b"", octets, None))


def get(tx: Tx, row: int) -> bytes | None:
    """The octets of a row that `put` wrote; None where there is none."""
    found = blobs.find(tx, row)
    return found.octets if found else None


def count(tx: Tx) -> int:
    """How many rows there are."""
    rows: int = tx.query("SELECT count(*) FROM blob", ())[0][0]
    return rows


async def intact(holder: Blobs, blob: BlobRef) -> bool:
    """Whether a blob's octets are those that were stored."""
    try:
        return hashlib.sha256(await holder.load(blob)).digest() == blob.sha256
    except BlobLost:
        return False
