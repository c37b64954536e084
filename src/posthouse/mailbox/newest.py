"""The newest snapshot of each mailbox that a process looks at, and the views that look at it.

Promises: views follow when a newer snapshot is made, whatever their session does: no old one is held for a client that
sleeps. Where the account's bell has not rung since the last look none is taken; all who ask at once share two at most.
Snapshots that nobody looks at are kept within a budget, and with them what happened in a mailbox while it was followed.
"""

import asyncio
from collections import Counter, OrderedDict
from typing import Final
from weakref import WeakSet, WeakValueDictionary

from posthouse.limits import MB
from posthouse.mailbox.known import Accounts, Known
from posthouse.mailbox.ranges import Ranges
from posthouse.mailbox.recent import Happened, Recent
from posthouse.mailbox.snapshot import Diff, Snapshot, diff, flagged, follow
from posthouse.mailbox.tree import Trees
from posthouse.mailbox.view import View
from posthouse.store.database import Store

# Octets of snapshots that are kept while no session looks at them.
CACHE: Final = 64 * MB
# Mailboxes of which it is remembered how much was looked at one by one.
_MOST_WORN: Final = 10_000

_Key = tuple[int, int]


class Snapshots:
    """The snapshots of this process: each mailbox' newest one, and the views that look at it; `trees`: those of names;
    `accounts`: what else is known of whom; `worn`: how many placements of which mailbox changed, or had to be looked at
    one by one, until somebody takes that away."""

    def __init__(self, store: Store, budget: int = CACHE) -> None:
        self.trees = Trees(store)
        self.accounts = Accounts(store)
        self._store = store
        self._budget = budget
        self._octets = 0
        self._newest: OrderedDict[_Key, Snapshot] = OrderedDict()
        # What led to the newest one, of those of which that is known.
        self._recent: dict[_Key, Recent] = {}
        self._views: WeakValueDictionary[_Key, WeakSet[View]] = WeakValueDictionary()
        # Looks under way, each with its number, and the number of the last one.
        self._looking: dict[_Key, tuple[int, asyncio.Future[Snapshot | None]]] = {}
        self._looks = 0
        self.worn: Counter[_Key] = Counter()

    def __len__(self) -> int:
        """How many mailboxes anybody looks at."""
        return len(self._views)

    async def current(self, account: int, mailbox: int) -> Snapshot:
        """The mailbox as it is now. Raises NoSuchMailbox, StoreUnavailable.

        A thousand who ask at once, because the bell rang for all of them, are answered by two looks: the one that is
        under way may have begun too early for some, the next one has not.
        """
        key = account, mailbox
        before = self._looks
        while (found := self._settled(key)) is None and (look := self._looking.get(key)) is not None:
            number, end = look
            await asyncio.wait([end])
            found = end.result()
            if number > before and found is not None:
                return found
        return await self._look(key) if found is None else found

    def _settled(self, key: _Key, known: Known | None = None) -> Snapshot | None:
        """The newest snapshot, where nothing has happened in the account since it was looked for."""
        newest = self._newest.get(key)
        if newest is None or (known or self.accounts.of(key[0])).get(key[1]) != newest.modseq:
            return None
        self._newest.move_to_end(key)
        return newest

    async def _look(self, key: _Key) -> Snapshot:
        self._looks += 1
        end: asyncio.Future[Snapshot | None] = asyncio.get_running_loop().create_future()
        self._looking[key] = self._looks, end
        new: Snapshot | None = None
        try:
            old, known = self._newest.get(key), self.accounts.of(key[0])
            found, news, looked, happened = await self._store.read(follow, *key, old)
            self._wear(key, looked)
            new = self._keep(found, old, news, happened)
            known.tell(key[1], new.modseq)
            return new
        finally:
            del self._looking[key]
            end.set_result(new)

    def newest(self, account: int, mailbox: int) -> Snapshot | None:
        """The newest snapshot that is here, without a look whether it is the newest there is."""
        return self._newest.get((account, mailbox))

    def since(self, snapshot: Snapshot, modseq: int) -> Happened | None:
        """What happened in a mailbox after `modseq`, up to a snapshot, where all of it was followed here: without a
        look at the store."""
        recent = self._recent.get((snapshot.account, snapshot.mailbox))
        return None if recent is None else recent.since(modseq, snapshot.modseq)

    async def open(self, account: int, mailbox: int, known: Known | None = None) -> View:
        """A view for a session; it lives as long as the session holds it. `known`: what is known of the account, where
        the caller has just asked for it. Raises NoSuchMailbox, StoreUnavailable."""
        key = account, mailbox
        settled = self._settled(key, known)
        view = View(await self.current(account, mailbox) if settled is None else settled)
        others = self._views.get(key)
        if others is None:
            others = self._views[key] = WeakSet()
        view.others = others
        others.add(view)
        # Another reader may have gone on while this one waited.
        newest = self._newest.get(key, view.snapshot)
        if newest is not view.snapshot:
            view.rebase(newest)
        return view

    async def refresh(self, view: View) -> None:
        """Bring a view, and all others of its mailbox, up to date. Raises NoSuchMailbox, StoreUnavailable."""
        await self.current(view.snapshot.account, view.snapshot.mailbox)

    def flagged(self, account: int, mailbox: int, since: int, modseq: int, uids: Ranges, keep: int, add: int) -> None:
        """A session has changed the flags of these placements, and nothing else has happened in the mailbox after
        `since`: the snapshot of that modseq leads to the next one without a look at the store. They `keep` so much of
        what they had, and get the flags of `add`."""
        old = self._newest.get((account, mailbox))
        if old is not None and old.modseq == since:
            new, news = flagged(old, modseq, uids, keep, add)
            self._wear((account, mailbox), len(news.changed))
            self._keep(new, old, news, (uids, ()))

    def _wear(self, key: _Key, looked: int) -> None:
        if looked and (key in self.worn or len(self.worn) < _MOST_WORN):
            self.worn[key] += looked

    def _keep(self, new: Snapshot, base: Snapshot | None, news: Diff | None, happened: Happened | None) -> Snapshot:
        """Make it the newest one, unless a newer is there; `news` lead to it from `base`, and so does what happened."""
        key = new.account, new.mailbox
        old = self._newest.get(key)
        if old is not None:
            if old.uidvalidity == new.uidvalidity and old.modseq >= new.modseq:
                self._newest.move_to_end(key)
                return old
            self._octets -= old.octets
        self._note(key, base if base is old else None, new, happened)
        self._newest[key] = new
        self._newest.move_to_end(key)
        self._octets += new.octets
        self._lead(key, base, new, news)
        self._shrink()
        return new

    def _note(self, key: _Key, base: Snapshot | None, new: Snapshot, happened: Happened | None) -> None:
        """Remember what led to it from the one before, `base`, where both are known; else forget all that did."""
        recent = self._recent.get(key)
        if recent is not None:
            self._octets -= recent.octets
        if base is None or happened is None:
            self._recent.pop(key, None)
            return
        if recent is None:
            recent = self._recent[key] = Recent(base.modseq)
        recent.add(new.modseq, happened)
        self._octets += recent.octets

    def _lead(self, key: _Key, old: Snapshot | None, new: Snapshot, news: Diff | None) -> None:
        """Bring the views of a mailbox to its newest snapshot; most look at the one before."""
        views = self._views.get(key)
        if not views:
            return
        for view in list(views):
            if view.snapshot is not old:
                view.rebase(new)
                continue
            news = news or diff(view.snapshot, new)
            view.rebase(new, news)

    def _shrink(self) -> None:
        """Forget the snapshots that were asked for least recently. Views keep theirs alive."""
        while self._octets > self._budget and len(self._newest) > 1:
            key, oldest = self._newest.popitem(last=False)
            recent = self._recent.pop(key, None)
            self._octets -= oldest.octets + (0 if recent is None else recent.octets)
