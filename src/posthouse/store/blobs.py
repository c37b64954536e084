"""Blobs: immutable octets, known by a number. Small ones are a row's column, large ones lie in a `Place`; a column says
in which.

Promises: a blob that `insert` names in a transaction survives loss of power when that commits: `stage` has brought it
to its place before. Unfinished mail of the process keeps to one memory and one disk budget, whatever strangers send,
and that of one owner to his share of both. A blob's hash verifies it; it is no key, so equal octets are stored once
only where the caller knows that they are shared.
Refuses: to change a blob, to know what a place is made of, and to remove what anything refers to (that is `sweep`).
"""

import asyncio
import hashlib
import mmap
import os
import weakref
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Protocol

from posthouse import limits, observe
from posthouse.store.blob_files import BlobFiles, Workshop
from posthouse.store.database import StoreUnavailable, Tx

Buffer = bytes | memoryview | mmap.mmap

IN_ROW: Final = 0  # any other number is a Place's

# Measured (docs/store.md): in the row 64 KB cost a quarter of the CPU that a file costs, 512 KB half, and 1 MB nearly
# as much. Past SPOOL_MEMORY a message is in a file anyway, and the only writer is better spared.
INLINE_LIMIT: Final = limits.SPOOL_MEMORY
# Whoever has used up a quarter leaves room for three others; the largest message fits into a quarter of the disk.
SHARES: Final = 4
# What comes in small pieces is held in pieces of this size.
_BLOCK: Final = 8 * limits.KB


class SpoolFull(Exception):
    """Unfinished mail has used up what this process may hold. Doors answer 452 4.3.1."""


class BlobLost(Exception):
    """The octets of a blob are not there or are damaged: never normal, and nothing a peer can help."""


class Place(Protocol):
    """Where octets lie that are too large for a row. Each has a name there, which is never used twice.

    It is asked on the event loop, and waits for what is slow without holding that up. Where it cannot do now what it is
    asked, it raises OSError. `tests/store/test_places.py` asks of each what stands here.
    """

    @property
    def number(self) -> int:
        """What `blob.place` says of what lies here; never 0, and never given to another."""
        ...

    async def stage(self, unfinished: Path, descriptor: int) -> str:
        """Take a file's octets, and return their name here once both survive loss of power.

        The file may be moved; what is left of it is removed by who asks. The descriptor reads it, until this returns.
        """
        ...

    async def load(self, name: str) -> Buffer:
        """The octets of this name. Raises FileNotFoundError where there are none."""
        ...

    async def remove(self, names: Sequence[str]) -> None:
        """Remove these; one that is not there is removed already."""
        ...

    def older_than(self, milliseconds: int) -> AsyncIterator[Sequence[str]]:
        """In batches, the names of all that lies here and was staged before that moment (since 1970, UTC)."""
        ...

    async def copy(self, names: Sequence[str], directory: Path) -> None:
        """Copy these for a backup: a place of the same kind that opens `directory` finds them. Raises FileNotFoundError
        where one is not there."""
        ...

    def close(self) -> None:
        """Let go of what it holds. Safe to call twice."""
        ...


class Staged(NamedTuple):
    """Octets ready to be named in a transaction: they go into the row, or have a name in a place already."""

    size: int
    sha256: bytes
    octets: bytes | None
    name: str | None
    place: int = IN_ROW


class BlobRef(NamedTuple):
    """A stored blob: enough to load it outside the transaction that found it."""

    id: int
    size: int
    sha256: bytes
    octets: bytes | None
    name: str | None
    place: int = IN_ROW


class Budget:
    """So many octets for all unfinished mail of the process. Used on the loop only."""

    __slots__ = ("left",)

    def __init__(self, octets: int) -> None:
        self.left = octets

    def take(self, octets: int) -> bool:
        """True where there was room, which is then taken."""
        if octets > self.left:
            return False
        self.left -= octets
        return True

    def give_back(self, octets: int) -> None:
        """They are free again."""
        self.left += octets


class Share(Budget):
    """So much of a budget: what one owner takes of it leaves room for the others."""

    __slots__ = ("_whole",)

    def __init__(self, whole: Budget, octets: int) -> None:
        super().__init__(octets)
        self._whole = whole

    def take(self, octets: int) -> bool:
        """True where the share and the whole had room."""
        if octets > self.left or not self._whole.take(octets):
            return False
        self.left -= octets
        return True

    def give_back(self, octets: int) -> None:
        """They are free again, for everybody."""
        self.left += octets
        self._whole.give_back(octets)


class Purse:
    """What one owner's unfinished mail is paid from. Forgotten with the last spool that holds it."""

    __slots__ = ("__weakref__", "disk", "memory")

    def __init__(self, memory: Budget, disk: Budget) -> None:
        self.memory = memory
        self.disk = disk

    @property
    def empty(self) -> bool:
        """Nothing is left to begin with."""
        return self.memory.left <= 0 and self.disk.left <= 0

    def holds(self, size: int) -> bool:
        """Is there room for so many octets?"""
        in_memory = size <= limits.SPOOL_MEMORY and self.memory.left >= max(size, 1)
        return in_memory or self.disk.left >= max(size, 1)


class Spool:
    """A message that is still arriving: in memory, and beyond SPOOL_MEMORY (or where memory is short) in a file."""

    __slots__ = ("_disk", "_hash", "_held", "_map", "_memory", "_path", "_purse", "_workshop", "descriptor", "size")

    def __init__(self, workshop: Workshop, purse: Purse) -> None:
        self._workshop = workshop
        self._purse = purse
        self._memory = purse.memory
        self._disk = purse.disk
        self._held: list[bytes | bytearray] = []  # while in memory
        self._hash = hashlib.sha256()
        self._map: mmap.mmap | None = None
        self._path: Path | None = None
        self.descriptor = -1
        self.size = 0

    def write(self, octets: bytes | bytearray | memoryview) -> None:
        """Take more of the message. Raises SpoolFull; what came before is then still to be discarded."""
        count = len(octets)
        if self.descriptor < 0:
            if self.size + count <= limits.SPOOL_MEMORY and self._memory.take(count):
                self._gather(octets)
                self.size += count
                return
            self._spill()
        self._append(octets)

    def buffer(self) -> Buffer:
        """The whole message: bytes while in memory, a map of the file where it spilled. Valid until `discard`."""
        if self.descriptor >= 0:
            if self._map is None or len(self._map) != self.size:
                self._map = mmap.mmap(self.descriptor, self.size, prot=mmap.PROT_READ)
            return self._map
        whole = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        if not isinstance(whole, bytes):
            whole = bytes(whole)
        self._held = [whole]
        return whole

    def sha256(self) -> bytes:
        """The hash of the whole message."""
        if self.descriptor >= 0:
            return self._hash.digest()
        return hashlib.sha256(self.buffer()).digest()

    def file(self) -> tuple[Path, int] | None:
        """Path of the unfinished file and a descriptor that the caller closes; None while in memory."""
        return (self._path, os.dup(self.descriptor)) if self._path is not None else None

    def kept(self) -> None:
        """A place has the octets now: what is left of the file goes. The spool stays readable."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def discard(self) -> None:
        """Give back memory, disk and budget. Safe to call twice. A map still in use elsewhere stays readable."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            self._disk.give_back(self.size)
            self.kept()
        else:
            self._memory.give_back(self.size)
        self._held, self._map = [], None
        self.size = 0

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _gather(self, octets: bytes | bytearray | memoryview) -> None:
        """Small pieces grow together, and no further: 500 messages that grew as one piece each, side by side, left
        holes as large as themselves in the heap.
        """
        last = self._held[-1] if self._held else b""
        if not self._held or len(last) + len(octets) > _BLOCK:
            self._held.append(bytes(octets))
        elif isinstance(last, bytearray):
            last += octets
        else:
            self._held[-1] = bytearray(last) + octets

    def _spill(self) -> None:
        """Move to a file."""
        held = self.buffer()
        if not self._disk.take(self.size):
            raise SpoolFull
        try:
            self._path, descriptor = self._workshop.begin()
        except OSError as error:
            self._disk.give_back(self.size)
            raise SpoolFull from error
        self._memory.give_back(self.size)
        self.descriptor = descriptor
        self._held = []
        self._put(held)

    def _append(self, octets: bytes | bytearray | memoryview) -> None:
        if not self._disk.take(len(octets)):
            raise SpoolFull
        self.size += len(octets)
        self._put(octets)

    def _put(self, octets: Buffer | bytearray) -> None:
        self._hash.update(octets)
        try:
            _write_all(self.descriptor, octets)
        except OSError as error:
            raise SpoolFull from error


class Reserve:
    """Memory of the budget for what belongs to unfinished mail and is no message."""

    __slots__ = ("_purse", "taken")

    def __init__(self, purse: Purse) -> None:
        self._purse = purse
        self.taken = 0

    def take(self, octets: int) -> bool:
        """True where there was room, which is then taken."""
        if not self._purse.memory.take(octets):
            return False
        self.taken += octets
        return True

    def discard(self) -> None:
        """Give it back. Safe to call twice."""
        self._purse.memory.give_back(self.taken)
        self.taken = 0


class Blobs:
    """Where octets are staged and loaded. `directory` is `blobs/` beside the database."""

    def __init__(
        self,
        directory: Path,
        places: Sequence[Place] = (),
        *,
        memory_budget: int = limits.UNFINISHED_MEMORY,
        disk_budget: int = limits.UNFINISHED_DISK,
        inline_limit: int = INLINE_LIMIT,
    ) -> None:
        """`places` are all there are, the one that takes what is new first; none given: files in the directory.

        Raises OSError where the directory cannot be made or written.
        """
        self.directory = directory
        self._workshop = Workshop(directory)
        self.places: Sequence[Place] = places or [BlobFiles(directory)]
        self._numbered = {place.number: place for place in self.places}
        assert len(self._numbered) == len(self.places), "two places have one number"
        assert IN_ROW not in self._numbered, "a place has the number of rows"
        self._memory = Budget(memory_budget)
        self._disk = Budget(disk_budget)
        self._purse = Purse(self._memory, self._disk)
        self._shares = memory_budget // SHARES, disk_budget // SHARES
        self._purses: weakref.WeakValueDictionary[str, Purse] = weakref.WeakValueDictionary()
        self._inline_limit = inline_limit

    def has_room(self, size: int, owner: str | None = None) -> bool:
        """Is there room now for a message of this size (0: nobody knows)? Its spool has the last word."""
        return self._purse.holds(size) and (owner is None or self._purse_of(owner).holds(size))

    def spool(self, owner: str | None = None) -> Spool:
        """A place for a message that begins to arrive. Raises SpoolFull where nothing is left to begin with.

        All spools of one owner together get no more than one part in SHARES of what there is; None: no owner, no limit.
        """
        purse = self._purse if owner is None else self._purse_of(owner)
        if self._purse.empty or purse.empty:
            raise SpoolFull
        return Spool(self._workshop, purse)

    def reserve(self, owner: str | None = None) -> Reserve:
        """Nothing yet, to be taken from what this owner's spools may hold in memory."""
        return Reserve(self._purse if owner is None else self._purse_of(owner))

    def _purse_of(self, owner: str) -> Purse:
        purse = self._purses.get(owner)
        if purse is None:
            memory, disk = self._shares
            purse = Purse(Share(self._memory, memory), Share(self._disk, disk))
            self._purses[owner] = purse
        return purse

    async def stage(self, source: Spool | bytes) -> Staged:
        """Make octets ready to be named in a transaction; what is for no row is in its place when this returns.

        Raises StoreUnavailable where the place does not take them.
        """
        if isinstance(source, bytes):
            size, digest = len(source), hashlib.sha256(source).digest()
            octets: Buffer = source
        else:
            size, digest = source.size, source.sha256()
            octets = source.buffer()
        if size <= self._inline_limit:
            return Staged(size, digest, bytes(octets), None)
        place = self.places[0]
        unfinished = source.file() if isinstance(source, Spool) else None
        try:
            # Not cancelled with its caller: a thread would go on with a descriptor that is another file's by then.
            name = await asyncio.shield(self._to_place(place, unfinished, octets))
        except OSError as error:
            raise StoreUnavailable(f"a message could not be written: {error}") from error
        if isinstance(source, Spool):
            source.kept()
        return Staged(size, digest, None, name, place.number)

    async def _to_place(self, place: Place, spooled: tuple[Path, int] | None, octets: Buffer) -> str:
        path, descriptor = spooled or self._workshop.begin()
        try:
            if spooled is None:
                await asyncio.to_thread(_write_all, descriptor, octets)
            return await place.stage(path, descriptor)
        finally:
            os.close(descriptor)
            if spooled is None:
                path.unlink(missing_ok=True)

    async def abandon(self, staged: Staged) -> None:
        """Remove what no transaction will name.

        Only for what was never handed to `store.write`, or where that raised: a write whose caller was cancelled
        commits all the same. What is not abandoned, or cannot be removed now, goes with the sweep of what has no row.
        """
        if staged.name is not None:
            try:
                await self._numbered[staged.place].remove([staged.name])
            except OSError as error:
                observe.fault("store.not_removed", error, place=staged.place, name=staged.name)

    async def load(self, blob: BlobRef | Staged) -> Buffer:
        """The octets; those of a file are mapped. Raises BlobLost, StoreUnavailable."""
        if blob.octets is not None:
            return blob.octets
        place = self._numbered.get(blob.place)
        if blob.name is None or place is None:
            raise BlobLost(f"{blob} lies nowhere, or in a place that is not open")
        try:
            octets = await place.load(blob.name)
        except FileNotFoundError as error:
            raise BlobLost(f"{blob.name} of a blob is not in place {blob.place}: {error}") from error
        except OSError as error:
            raise StoreUnavailable(f"{blob.name} of a blob cannot be opened: {error}") from error
        if len(octets) != blob.size:
            raise BlobLost(f"{blob.name} of a blob has lost octets in place {blob.place}")
        return octets

    def close(self) -> None:
        """Remove what is unfinished, and close the places."""
        self._workshop.close()
        for place in self.places:
            place.close()


def _write_all(descriptor: int, octets: Buffer | bytearray) -> None:
    with memoryview(octets) as rest:
        done = 0
        while done < len(rest):
            done += os.write(descriptor, rest[done:])


def in_row(octets: bytes) -> Staged:
    """A few octets that are to lie beside their row, whatever the limit is."""
    return Staged(len(octets), hashlib.sha256(octets).digest(), octets, None)


def insert(tx: Tx, staged: Staged) -> int:
    """Name staged octets: the new blob's id. The caller refers to it in the same transaction."""
    blob = tx.number("blob")
    tx.put(
        "blob_insert",
        id=blob,
        place=staged.place,
        size=staged.size,
        sha256=staged.sha256,
        octets=staged.octets,
        name=staged.name,
    )
    return blob


def find(tx: Tx, blob: int) -> BlobRef | None:
    """The blob of this id, to be loaded outside the transaction."""
    row = tx.one("blob_find", id=blob)
    return BlobRef(*row) if row else None


def find_many(tx: Tx, blobs: Sequence[int]) -> dict[int, BlobRef]:
    """Those of these blobs that exist. Whoever asks bounds their number, and minds that small ones come with octets."""
    return {row[0]: BlobRef._make(row) for row in tx.all("blobs_find", ids=f"[{','.join(map(str, blobs))}]")}


def suspect(tx: Tx, blobs: Iterable[int], now: int) -> None:
    """A reference to these went, in this transaction: the sweep is to look whether any is left."""
    tx.many("blob_suspect_insert", [{"blob": blob, "since_at": now} for blob in blobs])
