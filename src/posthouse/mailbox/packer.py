"""When large mailboxes are packed in the store (`packed.py`): behind the commit, as the index of words is made.

Promises: a mailbox is packed again once so much has changed in it that what is written stays little beside what the
changes themselves cost; what has not changed is not written again. No transaction writes more than some hundred KB.
Whatever goes wrong, or dies, costs the time of opening a mailbox once as if it were not packed.
Refuses: to be waited for by anybody.
"""

import asyncio
from array import array
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from posthouse.mailbox import packed, ranges, retention
from posthouse.mailbox.model import NoSuchMailbox
from posthouse.mailbox.newest import Snapshots
from posthouse.mailbox.packed import Cut, Packed, Piece
from posthouse.mailbox.snapshot import Snapshot, follow
from posthouse.store.database import Store, Topic, Tx

# Placements of a mailbox that is worth it: fewer are read one by one in less than a millisecond. It stays so until half
# of them are gone.
LEAST: Final = 1000
# So many changes, or so large a part of a mailbox, make it worth packing again: a change then costs some 2 KB of
# writing at most, and opening the mailbox 3 ms or a tenth of its time.
ENOUGH: Final = 200
SHARE: Final = 100
# Seconds between two looks.
PAUSE: Final = 2.0
# Pieces that are written in one transaction: 100 KB, which a disk takes in a millisecond or two.
_TOGETHER: Final = 2
_ALL: Final = 1 << 62


class Packer:
    """Packs what is worth it of a store; one process need do it, more do no harm."""

    def __init__(self, store: Store, snapshots: Snapshots) -> None:
        self._store = store
        self._snapshots = snapshots

    async def run(self) -> None:
        """For ever. Raises StoreUnavailable."""
        ear = self._store.listen(Topic.ACCOUNT)
        try:
            # What was filed before we heard may be anybody's.
            heard: Collection[int] = {0}
            while True:
                # First, too: after a start all clients come at once, and what they open is then here already.
                await asyncio.sleep(PAUSE)
                await self.pack(heard)
                heard = await ear.wait() if ear.rung else ()
        finally:
            ear.close()

    async def pack(self, accounts: Collection[int]) -> None:
        """Pack what has changed much in these accounts (0: in all), and what sessions of this process looked up."""
        worn = self._snapshots.worn
        due = {key for key, looked in worn.items() if looked >= self._enough(*key)}
        for key in due:
            del worn[key]
        if 0 in accounts:
            after = 0
            while batch := await self._store.read(retention.accounts_after, after):
                due |= await self._store.read(_behind, [(batch[0], batch[-1])])
                after = batch[-1]
        elif accounts:
            due |= await self._store.read(_behind, ranges.spans(accounts))
        for account, mailbox in sorted(due):
            try:
                await self.pack_mailbox(account, mailbox)
            except NoSuchMailbox:
                continue  # deleted just now

    def _enough(self, account: int, mailbox: int) -> int:
        newest = self._snapshots.newest(account, mailbox)
        count = 0 if newest is None else len(newest)
        return max(ENOUGH, count // SHARE) if count >= LEAST else _ALL

    async def pack_mailbox(self, account: int, mailbox: int) -> None:
        """Pack one; what has become small is not kept packed. Raises NoSuchMailbox, StoreUnavailable."""
        look = await self._store.read(_look, account, mailbox, self._snapshots.newest(account, mailbox))
        if look is None:
            return
        new = look.snapshot
        if len(new) < LEAST // 2:
            await self._store.write(packed.forget, account, mailbox)
        else:
            made = await self._write(look)
            pieces = tuple([one if isinstance(one, Piece) else made[one] for one in look.plan])
            kept = Packed(new.uidvalidity, new.uidnext, new.modseq, pieces)
            await self._store.write(packed.name, account, mailbox, look.old, kept)
        while await self._store.write(packed.drop_unnamed, account, mailbox):
            pass

    async def _write(self, look: "_Look") -> dict[Cut, Piece]:
        """Keep the pieces that are to be made anew."""
        new, cuts = look.snapshot, [one for one in look.plan if isinstance(one, Cut)]
        made: dict[Cut, Piece] = {}
        for start in range(0, len(cuts), _TOGETHER):
            some = cuts[start : start + _TOGETHER]
            octets = [packed.encode(_columns(new, cut)) for cut in some]
            ids = await self._store.write(packed.put, new.account, new.mailbox, octets)
            for cut, id in zip(some, ids, strict=True):
                made[cut] = Piece(id, new.uids[cut.start], cut.stop - cut.start)
        return made


class _Look(NamedTuple):
    """A mailbox that is to be packed: how it is, of what pieces, and at which modseq it was packed last (0: never)."""

    snapshot: Snapshot
    plan: Sequence[Piece | Cut]
    old: int


def _behind(tx: Tx, accounts: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """The mailboxes of these accounts that are worth packing anew."""
    asked = ranges.pack_ranges(accounts)
    rows = tx.all("packed_behind", accounts=asked, least=LEAST, enough=ENOUGH, share=SHARE)
    return {(account, mailbox) for account, mailbox in rows}


def _look(tx: Tx, account: int, mailbox: int, newest: Snapshot | None) -> _Look | None:
    """None where it is packed as it is now. Raises NoSuchMailbox."""
    new = follow(tx, account, mailbox, newest).snapshot
    old = base = packed.find(tx, account, mailbox)
    if base is not None and base[:3] == (new.uidvalidity, new.uidnext, new.modseq) and len(new) >= LEAST // 2:
        found = packed.columns(tx, account, mailbox, base)
        if found is not None and len(found[0]) == len(new):
            return None
        base = None  # what is there is broken
    if base is not None and base.uidvalidity != new.uidvalidity:
        base = None
    return _Look(new, packed.plan(base, new.uids, new.modseqs), 0 if old is None else old.modseq)


def _columns(s: Snapshot, cut: Cut) -> list["array[int]"]:
    start, stop = cut
    return [s.uids[start:stop], s.emails[start:stop], s.flags[start:stop], s.modseqs[start:stop]]
