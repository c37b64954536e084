"""NOTIFY (RFC 5465): what a client is told of while it says nothing, in the open mailbox and in others.

Promises: it is told what it asked for and nothing else, as soon as the bell rings, by whichever process; not of its
own doing. Several changes at once are one look, whose cost follows what changed. A client that waits costs the names it
gave, a task, and a share in the tree of mailboxes that all who watch the account have in common; and what `abroad.py`
says of each mailbox that others share with it, where it wants to hear of those.
Refuses: to fall far behind. A client that did not read for so long hears NOTIFICATIONOVERFLOW and nothing after it
(RFC 5465 §5.8). Messages have no annotations here.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

from posthouse import limits, observe
from posthouse.imapd import fetch, mailboxes
from posthouse.imapd.abroad import Abroad, items
from posthouse.imapd.refusal import Refused
from posthouse.imapd.session import LINES, Session
from posthouse.imapd.wishes import Wishes
from posthouse.mailbox import changes
from posthouse.mailbox import mailboxes as names
from posthouse.mailbox.changes import Heard
from posthouse.mailbox.metadata import OF_ACCOUNT
from posthouse.mailbox.model import CannotCalculateChanges, Mailbox, MailboxError, NoSuchMailbox
from posthouse.mailbox.ranges import Ranges
from posthouse.mailbox.tree import Node, Tree
from posthouse.mailbox.view import Entry
from posthouse.net.stream import StreamTimeout
from posthouse.store.database import StoreUnavailable, Topic, Tx
from posthouse.wire.imap import metadata as notes
from posthouse.wire.imap import notify as wire
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.fetch import Attribute
from posthouse.wire.imap.notify import OF_MESSAGES, OF_SELECTED, Event, Filter
from posthouse.wire.imap.response import Code

# How long one wait for the bell may last: it has no end of its own.
_WAIT: Final = 3600.0
# Mailboxes of which it is kept what uid comes next, before the tree is read anew.
_KEPT: Final = 100

# The tree of a client that watches the open mailbox only.
_NOTHING: Final = Tree(0, {}, frozenset())


async def notify(session: Session, command: Command, asked: request.Notify) -> None:
    """NOTIFY."""
    # RFC 5465 §3.1: it implies a NOOP. What was not wanted until now is told, for a client that wants it from now on.
    heeded, session.heeded = session.heeded, OF_MESSAGES
    try:
        await session.tell_news(expunge=True)
        watch = await _begin(session, asked) if asked.groups else None
    except (MailboxError, StoreUnavailable, Refused):
        # What was asked for before stands.
        session.heeded = heeded
        _attend(session)
        raise
    if session.watch is not None:
        await session.watch.stop()
    if not isinstance(session.turn, asyncio.Lock):
        session.turn = asyncio.Lock()
    session.watch, session.heeded = watch, watch.heeded if watch is not None else frozenset()
    _attend(session)
    await session.ok(command, "So be it")


def _attend(session: Session) -> None:
    """Listen to what the watch that stands is about, and to nothing that another would have been about: it has perhaps
    missed a bell."""
    session.follow(session.watch.bells if isinstance(session.watch, Watching) else ())
    if session.watch is not None:
        session.watch.hear({0})


async def _begin(session: Session, asked: request.Notify) -> "Watching":
    """What was asked for, told how things stand. Raises Refused, MailboxError, StoreUnavailable."""
    others = any(group.filter not in OF_SELECTED for group in asked.groups)
    tree = await session.around.snapshots.trees.find(session.owner) if others else _NOTHING
    watch = Watching(session, asked.groups, tree)
    await watch.begin(tell=asked.status)
    return watch


class Watching:
    """What one client watches, how far it has been told, and the task that tells it.

    `_at` is the modseq up to which all has been heard. Of a mailbox that is not in `_uidnexts` the tree says what uid
    came next then.
    """

    def __init__(self, session: Session, groups: Sequence[wire.Group], tree: Tree) -> None:
        self._session = session
        others = [group for group in groups if group.filter not in OF_SELECTED]
        self._wishes = Wishes(others) if others else None
        self._abroad = Abroad(session, self._wishes) if self._wishes is not None and self._wishes.abroad else None
        self._selected = next((group for group in groups if group.filter in OF_SELECTED), None)
        self.heeded = self._selected.events if self._selected else frozenset()
        self._tree = tree
        self._at = tree.modseq
        self._uidnexts: dict[int, int] = {}
        self._own: list[tuple[int, int]] = []
        self._stale = True
        self._task: asyncio.Task[None] | None = None

    # --- for the session

    @property
    def accounts(self) -> Collection[int]:
        """Those of which it is to be known what the client does itself."""
        return (self._session.owner, *(self._abroad.accounts if self._abroad is not None else ()))

    @property
    def bells(self) -> Collection[tuple[Topic, int]]:
        """What is to be listened to beside the client's own account."""
        return self._abroad.bells if self._abroad is not None else ()

    def hear(self, rung: Collection[int]) -> None:
        """These bells have rung."""
        if 0 in rung or self._session.owner in rung:
            self._stale = True
        if self._abroad is not None:
            self._abroad.hear(rung)

    def did(self, account: int, first: int, last: int) -> None:
        """The client's own doing."""
        if account == self._session.owner:
            self._own.append((first, last))
        elif self._abroad is not None:
            self._abroad.did(account, first, last)

    def subscribed(self, account: int, mailbox: int, subscribed: bool) -> None:
        """The client itself has subscribed to another's mailbox, or does not any more."""
        if self._abroad is not None:
            self._abroad.subscribed(account, mailbox, subscribed)

    def listen(self) -> None:
        """Begin to tell."""
        if self._task is None and self._session.ongoing is None:
            self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Tell no more."""
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task])

    async def tell_added(self, entries: Sequence[Entry]) -> None:
        """New messages in the open mailbox, with what was asked for; the client's own are known to it."""
        items = self._selected.items if self._selected else ()
        if items and self._session.condstore:
            # RFC 7162 §3.1.3: both are told of whatever an external agent does.
            items = (*items, *[item for item in (Attribute.UID, Attribute.MODSEQ) if item not in items])
        # Of another's mailbox it is not known what the client did itself.
        others = [entry for entry in entries if self._session.away or not self._is_own(entry.modseq)]
        if items and others:
            for start in range(0, len(others), LINES):
                await fetch.tell(self._session, others[start : start + LINES], items)
                await self._session.pause()

    def _is_own(self, modseq: int) -> bool:
        return any(low <= modseq <= high for low, high in self._own)

    async def tell_others(self) -> None:
        """What happened outside the open mailbox."""
        try:
            await self._tell_own()
            if self._abroad is not None:
                await self._abroad.tell()
        except StoreUnavailable as error:
            observe.tell("imap.no_news", level=observe.WARNING, error=str(error))
        except CannotCalculateChanges:
            self._give_up()

    async def _tell_own(self) -> None:
        """The same of the client's own mailboxes. Raises CannotCalculateChanges, StoreUnavailable."""
        if not self._stale:
            return
        self._stale = False
        if self._wishes is None:
            # What the client did itself has been told, if at all, by now.
            self._own.clear()
            return
        try:
            await self._look(tell=True)
        except StoreUnavailable:
            self._stale = True
            raise

    # --- looking

    async def begin(self, *, tell: bool) -> None:
        """Hear what happened since the tree was read, which the client knows; where asked, tell how things stand (RFC
        5465 §3.1 STATUS). Raises Refused, MailboxError, StoreUnavailable."""
        if self._wishes is None:
            return
        await self._begin_own()
        try:
            abroad = [] if self._abroad is None else await self._abroad.begin()
        except CannotCalculateChanges as error:
            # RFC 5465 §3.1
            raise Refused("Others share too much to follow it all", Code.NOTIFICATIONOVERFLOW) from error
        if tell:
            await self._tell_standing()
        if self._abroad is not None:
            for account, news in abroad:
                await self._abroad.say(account, news if tell else news._replace(counted=()))

    async def _begin_own(self) -> None:
        try:
            await self._look(tell=False)
        except CannotCalculateChanges:
            # Others may hold a tree that is too old.
            now = await self._session.read(changes.states)
            self._tree = await self._session.around.snapshots.trees.find(self._session.owner, now.modseq)
            self._at = self._tree.modseq

    async def _look(self, *, tell: bool) -> None:
        """Hear what has changed, and tell it. Raises CannotCalculateChanges, StoreUnavailable."""
        session, before = self._session, self._tree
        at, own = self._at, tuple(self._own)
        heard = await self._hear(self._at, None)
        if heard.renamed or len(self._uidnexts) > _KEPT:
            self._tree = await session.around.snapshots.trees.find(session.owner, heard.until)
            if self._tree.modseq > heard.until:
                heard = _together(heard, await self._hear(heard.until, self._tree.modseq))
        self._at = heard.until
        self._own = [(low, high) for low, high in self._own if high > heard.until]
        if heard.more:
            raise CannotCalculateChanges("too much has changed at once")
        counted = await self._tell_counts(heard, before, tell=tell)
        if self._tree is before:
            self._uidnexts.update(counted)
        else:
            self._uidnexts = counted
            if tell:
                await self._tell_names(before, self._tree, heard.named)
        if tell and heard.annotated and self._wishes is not None and self._wishes.annotations:
            await self._tell_annotations(at, heard.until, own)

    async def _hear(self, modseq: int, until: int | None) -> Heard:
        own = tuple(self._own)
        return await self._session.read(changes.heard, modseq, until, own=own, limit=limits.NOTIFY_CHANGES)

    def _give_up(self) -> None:
        """RFC 5465 §5.8: as if the client had said NOTIFY NONE."""
        session, task = self._session, self._task
        session.watch, session.heeded = None, frozenset()
        _attend(session)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        session.engine.send(
            response.ok("More has happened than can be told; look for yourself", Code.NOTIFICATIONOVERFLOW)
        )

    # --- other mailboxes' messages

    async def _tell_counts(self, heard: Heard, before: Tree, *, tell: bool) -> dict[int, int]:
        """STATUS of mailboxes in which something happened that the client wants to know (RFC 5465 §5.1 - §5.3); what
        uid comes next in each."""
        watched = [mailbox for mailbox in sorted(heard.mailboxes) if self._events(mailbox) & OF_MESSAGES]
        if tell and len(watched) > limits.NOTIFY_MAILBOXES:
            raise CannotCalculateChanges("too many mailboxes have changed at once")
        counted: dict[int, int] = {}
        found = await self._session.read(_standing, watched) if watched else []
        for number, mailbox in enumerate(found, 1):
            fresh = mailbox.uidnext > self._uidnext(mailbox.id, before)
            counted[mailbox.id] = mailbox.uidnext
            if self._session.has_open(mailbox.id):
                continue
            events = self._events(mailbox.id)
            changed, gone = mailbox.id in heard.changed, mailbox.id in heard.gone
            if tell and (gone or (changed and (fresh or Event.FLAG_CHANGE in events))):
                self._session.engine.send(mailboxes.describe(self._session, mailbox, items(self._session)))
            if number % LINES == 0:
                await self._session.pause()
        return counted

    def _uidnext(self, mailbox: int, before: Tree) -> int:
        """What uid came next when the client was told last."""
        known = self._uidnexts.get(mailbox)
        if known is None:
            node = before.nodes.get(mailbox)
            known = 1 if node is None else node.uidnext
        return known

    def _events(self, mailbox: int) -> frozenset[Event]:
        node = self._tree.nodes.get(mailbox)
        return frozenset() if node is None else self._wanted(node)

    def _wanted(self, node: Node) -> frozenset[Event]:
        return frozenset() if self._wishes is None else self._wishes.of(node)

    async def _tell_standing(self) -> None:
        """STATUS of every watched mailbox but the open one."""
        session = self._session
        for number, mailbox in enumerate(await session.read(names.list_mailboxes), 1):
            events = self._events(mailbox.id)
            if events & OF_MESSAGES and not session.has_open(mailbox.id):
                wanted = items(session, modseqs=Event.FLAG_CHANGE in events)
                session.engine.send(mailboxes.describe(session, mailbox, wanted))
            if number % LINES == 0:
                await session.pause()

    # --- names

    async def _tell_names(self, before: Tree, now: Tree, named: set[int]) -> None:
        """LIST of what others made, removed, renamed, subscribed to (RFC 5465 §5.4, §5.5), and of what is right above
        what came or went."""
        told: dict[str, bytes] = {}
        above: set[int] = set()
        for id in sorted(named):
            old, new = before.nodes.get(id), now.nodes.get(id)
            if new is None:
                if old is not None and Event.MAILBOX_NAME in self._wanted(old):
                    told[old.path] = self._list(old, now, gone=True)
            elif old is None:
                if Event.MAILBOX_NAME in self._wanted(new):
                    told[new.path] = self._list(new, now)
            elif old.path != new.path:
                if Event.MAILBOX_NAME in self._wanted(old) | self._wanted(new):
                    told[new.path] = self._list(new, now, oldname=old.path)
            elif old.subscribed != new.subscribed and Event.SUBSCRIPTION_CHANGE in self._wanted(new):
                told[new.path] = self._list(new, now)
            if (old is None or new is None) and (parent := (new or old or _NOBODY).parent) is not None:
                above.add(parent)
        for id in sorted(above):
            node = now.nodes.get(id)
            if node is not None and node.path not in told and Event.MAILBOX_NAME in self._wanted(node):
                told[node.path] = self._list(node, now)
        if len(told) > limits.NOTIFY_MAILBOXES:
            raise CannotCalculateChanges("too many mailboxes have changed at once")
        for number, line in enumerate(told.values(), 1):
            self._session.engine.send(line)
            if number % LINES == 0:
                await self._session.pause()

    def _list(self, node: Node, tree: Tree, *, gone: bool = False, oldname: str | None = None) -> bytes:
        if gone and not any(other.path == node.path for other in tree.nodes.values()):
            attributes = [b"\\NonExistent"]
        else:
            attributes = mailboxes.mark(node.role, parent=node.id in tree.parents, subscribed=node.subscribed)
        return response.listed(node.path, attributes, utf8=self._session.engine.utf8, oldname=oldname)

    # --- annotations

    async def _tell_annotations(self, at: int, until: int, own: Ranges) -> None:
        """METADATA of what others have set or removed, without values (RFC 5465 §5.6, §5.7)."""
        session = self._session
        limit = limits.NOTIFY_CHANGES
        found = await session.read(changes.annotated, at, until, own=own, limit=limit)
        watched = [mailbox for mailbox in sorted(found.entries) if self._hears_annotations(mailbox)]
        if found.more or len(watched) > limits.NOTIFY_MAILBOXES:
            raise CannotCalculateChanges("too many annotations have changed at once")
        for number, mailbox in enumerate(watched, 1):
            path = notes.SERVER if mailbox == OF_ACCOUNT else self._tree.nodes[mailbox].path
            session.engine.send(notes.changed(path, found.entries[mailbox], utf8=session.engine.utf8))
            if number % LINES == 0:
                await session.pause()

    def _hears_annotations(self, mailbox: int) -> bool:
        if mailbox == OF_ACCOUNT:
            return self._wishes is not None and self._wishes.server
        return Event.MAILBOX_METADATA_CHANGE in self._events(mailbox)

    # --- the task

    async def _watch(self) -> None:
        session = self._session
        try:
            while session.parting is None and session.watch is self:
                await session.wait_for_news(_WAIT)
                async with session.turn:
                    # RFC 5465 §6.1: SELECTED-DELAYED waits with expunges for a command that may tell them.
                    delayed = self._selected is not None and self._selected.filter is Filter.SELECTED_DELAYED
                    await session.tell_news(expunge=not delayed)
                    await session.flush()
        except (ConnectionError, StreamTimeout):
            session.stream.abort()
        except (MailboxError, StoreUnavailable) as error:
            # The client comes again, and hears then what it has not heard now.
            observe.tell("imap.notify_ended", level=observe.WARNING, error=str(error))
            session.part("News cannot be told just now")
        except Exception as error:
            observe.fault("session.failed", error, peer=str(session.stream.peer))
            session.stream.abort()


_NOBODY: Final = Node(0, None, "", None, False, 1)


def _standing(tx: Tx, account: int, ids: Sequence[int]) -> list[Mailbox]:
    """Those of these mailboxes that are there, with their totals."""
    found: list[Mailbox] = []
    for mailbox in ids:
        try:
            found.append(names.get(tx, account, mailbox))
        except NoSuchMailbox:
            # It went behind what is being told; the next look tells that.
            continue
    return found


def _together(first: Heard, then: Heard) -> Heard:
    return Heard(
        then.until,
        first.more or then.more,
        first.mailboxes | then.mailboxes,
        first.changed | then.changed,
        first.gone | then.gone,
        first.named | then.named,
        True,
        first.annotated or then.annotated,
    )
