"""Commands that change what is in the open mailbox: STORE, COPY, MOVE, EXPUNGE (RFC 9051 §6.4).

Promises: an answer of OK follows the commit. A change of many messages is made in batches, so that no other writer
waits long; what fits a batch is one transaction. A client that asked not to be told of its own change still hears of
what others changed at the same time.
"""

import asyncio
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from operator import itemgetter
from typing import Final, NamedTuple

from posthouse.imapd import across, limit, places, portions
from posthouse.imapd.finding import Progress
from posthouse.imapd.flags import split_flags
from posthouse.imapd.refusal import Refused
from posthouse.imapd.session import MANY_LINES, Session
from posthouse.mailbox import emails, flagging, masks, placing, ranges, shares
from posthouse.mailbox.flagging import Stored
from posthouse.mailbox.model import DELETED, KEYWORDS, NoPermission, NoSuchMailbox
from posthouse.mailbox.view import Entries, View
from posthouse.store.database import Tx
from posthouse.terms.keywords import DRAFT, SEEN
from posthouse.wire.imap import request, response
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.request import StoreHow
from posthouse.wire.imap.response import Code
from posthouse.wire.imap.sequence import Range

# The flags of so many are brought into the snapshot without reading them back, where they stand in few ranges.
_MANY: Final = 500
_FEW_RANGES: Final = 50
# Messages that are changed first, when it is not known yet what one costs, and the fewest at once: below that the
# commits would cost more than the changes.
_FIRST: Final = 2000
_LEAST: Final = 1000
# The most whose flags are changed at once, where that is a matter of one walk; else `emails.BATCH`: that one costs
# nothing where all are so already says nothing of the next.
_FLAGS: Final = 20_000
# Seconds of the one writer: whoever delivers meanwhile waits for two such at most, and a commit each.
_SHARE: Final = 0.015


# --- STORE ------------------------------------------------------------------------------------------------------------


async def store(session: Session, command: Command, asked: request.Store) -> None:
    """STORE and UID STORE."""
    opened, view = session.writable, session.writable.view
    numbers, cut = limit.last(session, session.numbers(asked.numbers, uid=asked.uid))
    if asked.unchanged_since is not None:
        session.heed_modseqs()
    change = await _read_change(session, asked)
    needed = change.needs()
    expected: list[tuple[array[int], array[int]]] = []
    done = 0
    unheard: set[int] = set()
    modified: set[int] = set()
    ours: set[int] = set()
    progress, goal = Progress(session, command.tag, "Storing"), ranges.count(numbers)
    pace = _Pace(_FLAGS if change.is_plain else emails.BATCH)
    for lot in _lots(view, numbers, pace):
        uids, flags, modseqs = lot
        expected.append((uids, masks.changed(flags, change.kept, change.given)))
        # Their flags as they are in the view are not yet those that the client knows.
        unheard.update(view.unheard(uids))
        if session.watch is not None:
            # RFC 5465 §4: told since the last answer, perhaps while this command was on its way: a client could take
            # it for what came of it.
            unheard.update([uid for uid, at in zip(uids, modseqs, strict=True) if at > opened.answered])
        now = session.around.clock.now()
        with pace.of(len(uids)):
            stored, since = await session.change(needed, _store, opened.mailbox, lot.asked, change, ours, now)
        modified.update(stored.modified)
        if stored.modseq is not None:
            ours.add(stored.modseq)
        if since is not None and stored.modseq is not None:
            session.around.snapshots.flagged(
                opened.account, opened.mailbox, since, stored.modseq, stored.uids, change.kept, change.given
            )
        done += len(uids)
        await progress(done, goal)
    await session.refresh()
    ghosts = {place.uid for place in view.ghosts}
    missing = bool(ghosts) and any(not ghosts.isdisjoint(uids) for uids, _ in expected)
    if asked.silent:
        # RFC 9051 §6.4.6: what another changed is told, silent or not.
        own = _all_of(expected, [view.having(uids, flags) for uids, flags in expected])
        if unheard or modified:
            own = set(own).difference(unheard, modified)
        known = _known(session, numbers, own, all_of_them=asked.unchanged_since is not None)
        view.silence(own)
        for entries in known:
            await session.tell_modseqs(entries)
    else:
        lots = portions.lots_from_last if cut else portions.lots
        await _tell(session, lots(session, numbers, MANY_LINES))
    # RFC 5530 §3: others have expunged some, which the client has yet to hear.
    code = Code.EXPUNGEISSUED if missing else b""
    if modified:
        told = sorted(modified)
        code = response.modified(told if asked.uid else view.seqs(told))
    await session.ok(command, "Stored", code, cut=cut)


def _all_of(
    asked: Sequence[tuple["array[int]", "array[int]"]], found: Sequence[Collection[int]]
) -> "array[int] | set[int]":
    """All uids that were found: a column, where they are all that stand first in what was asked."""
    if all(one is uids for one, (uids, _) in zip(found, asked, strict=True)):
        return array("I", b"".join([uids for uids, _ in asked]))
    return set(chain.from_iterable(found))


class _FlagChange(NamedTuple):
    """Keywords to add, and to remove before that, and what becomes of \\Deleted (None: it stays); what has a higher
    modseq than `unchanged_since` is left alone."""

    add: int
    remove: int
    deleted: bool | None
    unchanged_since: int | None

    @property
    def kept(self) -> int:
        """What stays of the flags that a message has."""
        return KEYWORDS & ~self.remove | (DELETED if self.deleted is None else 0)

    @property
    def given(self) -> int:
        """What it has then in any case."""
        return self.add | (DELETED if self.deleted else 0)

    @property
    def is_plain(self) -> bool:
        """Is nothing counted by what it changes?"""
        return self.deleted is None and not (self.add | self.remove) & (SEEN | DRAFT)

    def within(self, rights: str) -> "_FlagChange":
        """As much of it as these rights allow (RFC 4314 §4). Raises Refused where that is nothing."""
        may = (SEEN if "s" in rights else 0) | (KEYWORDS & ~SEEN if "w" in rights else 0)
        deleted = self.deleted if "t" in rights else None
        allowed = self._replace(add=self.add & may, remove=self.remove & may, deleted=deleted)
        if self.needs() and not allowed.needs():
            raise Refused("You may not change these flags", Code.NOPERM)
        return allowed

    def needs(self) -> str:
        """The rights that it takes."""
        touched = self.add | self.remove
        seen, others = bool(touched & SEEN), bool(touched & ~SEEN)
        return "s" * seen + "w" * others + "t" * (self.deleted is not None)


class _Lot(NamedTuple):
    """Some messages as three columns, in order."""

    uids: "array[int]"
    flags: "array[int]"
    modseqs: "array[int]"

    @property
    def asked(self) -> Collection[int]:
        """The uids, which ascend, as a statement is told of them soonest."""
        uids = self.uids
        whole = len(uids) > 0 and uids[-1] - uids[0] == len(uids) - 1
        return range(uids[0], uids[-1] + 1) if whole else uids


class _Pace:
    """How many messages are changed at once: as many as the store settles in a share of time, going by the last ones.
    What one costs depends on where else it is placed, and in which conversation it stands. Never more than `most`;
    `whole`: always as many as may be, where all are to be changed or none."""

    def __init__(self, most: int, *, whole: bool = False) -> None:
        self._most = most
        self._least = most if whole else _LEAST
        self.size = most if whole else min(_FIRST, most)

    @contextmanager
    def of(self, count: int) -> Iterator[None]:
        """So many are changed inside."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        yield
        took = max(loop.time() - began, 1e-6)
        self.size = min(max(int(_SHARE * count / took), self._least), self._most)


def _lots(view: View, numbers: Sequence[Range], pace: _Pace) -> Iterator[_Lot]:
    """The messages of these sequence numbers, as many at a time as the pace allows, each lot as it is when it is asked
    for."""
    for spans in _divided(numbers, pace):
        uids, flags, modseqs = array("I"), array("q"), array("q")
        for low, high in spans:
            if view.ghosts:
                entries = view.by_seq(low, high)
                uids.extend([entry.uid for entry in entries])
                flags.extend([entry.flags for entry in entries])
                modseqs.extend([entry.modseq for entry in entries])
            else:
                uids += view.snapshot.uids[low - 1 : high]
                flags += view.snapshot.flags[low - 1 : high]
                modseqs += view.snapshot.modseqs[low - 1 : high]
        yield _Lot(uids, flags, modseqs)


def _divided(numbers: Sequence[Range], pace: _Pace) -> Iterator[list[Range]]:
    """These ranges in lots."""
    lot: list[Range] = []
    room = pace.size
    for low, high in numbers:
        while low <= high:
            last = min(high, low + room - 1)
            lot.append((low, last))
            room -= last - low + 1
            low = last + 1
            if not room:
                yield lot
                lot, room = [], pace.size
    if lot:
        yield lot


def _store(
    tx: Tx, account: int, mailbox: int, uids: Collection[int], change: _FlagChange, ours: Collection[int], now: int
) -> tuple[Stored, int | None]:
    """Change flags; what became of it. `ours` are the modseqs of what the command has changed before. Of many, the
    mailbox' highest modseq before, where no more than these uids tell has changed in it."""
    since = tx.value("mailbox_modseq", account=account, mailbox=mailbox) if len(uids) >= _MANY else None
    stored = flagging.store_flags(
        tx,
        account,
        mailbox,
        uids,
        now=now,
        add=change.add,
        remove=change.remove,
        deleted=change.deleted,
        unchanged_since=change.unchanged_since,
        ours=ours,
    )
    return stored, since if stored.only and len(stored.uids) <= _FEW_RANGES else None


async def _read_change(session: Session, asked: request.Store) -> _FlagChange:
    names, deleted = split_flags(asked.flags)
    since = asked.unchanged_since
    rights = session.open.rights
    if asked.how is StoreHow.REMOVE:
        # What nobody has met cannot be removed, and need not be learnt for it.
        bits = await session.look(emails.known_keywords, names)
        return _FlagChange(0, bits, False if deleted else None, since).within(rights)
    learnt = across.permitted(names, rights)
    if len(learnt) < len(names) and not learnt and not (deleted and "t" in rights) and asked.how is StoreHow.ADD:
        raise Refused("You may not change these flags", Code.NOPERM)
    bits = await session.change(across.needed(learnt), emails.learn_keywords, learnt) if learnt else 0
    if asked.how is StoreHow.SET:
        return _FlagChange(bits, KEYWORDS, deleted, since).within(rights)
    return _FlagChange(bits, 0, True if deleted else None, since).within(rights)


async def _tell(session: Session, lots: Iterable[Entries]) -> None:
    """The flags of these messages as they are now, also where they are the old ones (RFC 9051 §6.4.6), some at a time.
    What else has changed is told as news."""
    view = session.open.view
    told: list[tuple[array[int], array[int]]] = []
    for entries in lots:
        await session.learn_flags(entries)
        if view.ghosts:
            gone = {place.uid for place in view.ghosts}
            entries = entries.chosen([uid not in gone for uid in entries.uids])
        told.append((array("I", entries.uids), array("q", entries.modseqs)))
        await session.tell_flags(entries)
    view.silence(_all_of(told, [view.unchanged(uids, modseqs) for uids, modseqs in told]))


def _known(session: Session, numbers: Sequence[Range], own: Collection[int], *, all_of_them: bool) -> list[Entries]:
    """Whose modseqs a client of CONDSTORE is told, of what it has itself changed: of all that a conditional STORE let
    pass (RFC 7162 §3.1.3: silent or not), else of those that it made a difference to."""
    if not session.condstore:
        return []
    view, own = session.open.view, set(own)
    lots = portions.lots(session, numbers) if all_of_them else view.changed()
    chosen = [lot.chosen([uid in own for uid in lot.uids]) for lot in lots]
    return [entries for entries in chosen if entries.uids]


# --- COPY, MOVE, EXPUNGE ----------------------------------------------------------------------------------------------


async def copy(session: Session, command: Command, asked: request.Copy) -> None:
    """COPY and UID COPY."""
    function = placing.copy if asked.uid else _copy_all
    progress = Progress(session, command.tag, "Copying")
    numbers, cut = limit.last(session, session.numbers(asked.numbers, uid=asked.uid))
    if cut:
        # RFC 9738 §3.1: all or none.
        raise limit.too_many(cut)
    placed, validity = await _transfer(session, function, asked, numbers, progress)
    await session.ok(command, "Copied", _copyuid(validity, placed))


class _Missing(Exception):
    """Some of the messages are not there any more."""


def _copy_all(
    tx: Tx, account: int, mailbox: int, uids: Collection[int], target: int, now: int
) -> list[tuple[int, int]]:
    """RFC 9051 §6.4.7: all of them or none. Raises _Missing."""
    placed = placing.copy(tx, account, mailbox, uids, target, now)
    if len(placed) < len(uids):
        raise _Missing
    return placed


async def move(session: Session, command: Command, asked: request.Move) -> None:
    """MOVE and UID MOVE: RFC 9051 §6.4.8, RFC 6851."""
    progress = Progress(session, command.tag, "Moving")
    if not set("te") <= set(session.writable.rights):
        # RFC 6851 §4.2: as for COPY, STORE +FLAGS.SILENT \Deleted and EXPUNGE.
        raise Refused("You may take nothing out of this mailbox", Code.NOPERM)
    numbers, cut = limit.last(session, session.numbers(asked.numbers, uid=asked.uid))
    placed, validity = await _transfer(session, placing.move, asked, numbers, progress)
    if placed:
        # RFC 6851 §4.3: COPYUID stands before the EXPUNGEs.
        session.engine.send(response.ok("Moved", _copyuid(validity, placed)))
    await session.ok(command, "Moved", removed=True, cut=cut)


_Transfer = Callable[[Tx, int, int, Collection[int], int, int], list[tuple[int, int]]]


async def _transfer(
    session: Session,
    function: _Transfer,
    asked: request.Copy | request.Move,
    numbers: Sequence[Range],
    progress: Progress,
) -> tuple[list[tuple[int, int]], int]:
    """Place messages in another mailbox: pairs of uid here and there, and the uidvalidity there. Raises Refused."""
    placed: list[tuple[int, int]] = []
    try:
        target = await session.read(places.find, asked.mailbox, "i")
        try:
            await _transfer_to(target, session, function, numbers, progress, placed, some=asked.uid)
        except BaseException:  # also where the client has gone, or the server stops: nobody is told that it is done
            if function is not placing.move:
                await _take_back(session, target, placed)
            raise
    except NoSuchMailbox as error:
        # RFC 9051 §6.4.7: the client may make it and try again.
        raise Refused("There is no such mailbox", Code.TRYCREATE) from error
    except _Missing as error:
        raise Refused("Some of these messages have been expunged; say NOOP", Code.EXPUNGEISSUED) from error
    return placed, target.mailbox.uidvalidity


async def _transfer_to(
    target: places.Place,
    session: Session,
    function: _Transfer,
    numbers: Sequence[Range],
    progress: Progress,
    placed: list[tuple[int, int]],
    *,
    some: bool,
) -> None:
    """Batch by batch; what is placed stands in `placed` as soon as it is. `some`: what is gone is passed over."""
    opened, moves = session.open, function is placing.move
    done, goal = 0, ranges.count(numbers)
    if target.account != opened.account:
        for chunk in opened.view.chunks(numbers, emails.BATCH):
            await across.carry(session, chunk, target, placed, moves=moves, some=moves or some)
            done += len(chunk)
            await progress(done, goal)
        return
    pace = _Pace(emails.BATCH, whole=not moves)
    for lot in _lots(opened.view, numbers, pace):
        needed, to, now = "rte" if moves else "r", target.mailbox.id, session.around.clock.now()
        with pace.of(len(lot.uids)):
            placed += await session.change(needed, _place, function, opened.mailbox, lot.asked, to, session.owner, now)
        done += len(lot.uids)
        await progress(done, goal)


async def _take_back(session: Session, target: places.Place, placed: Sequence[tuple[int, int]]) -> None:
    """RFC 9051 §6.4.7: a COPY that fails between two batches leaves its target as it was. Raises StoreUnavailable."""
    uids = [there for _, there in placed]
    with suppress(NoSuchMailbox):  # it has been deleted, and they with it
        for start in range(0, len(uids), emails.BATCH):
            batch, now = uids[start : start + emails.BATCH], session.around.clock.now()
            await session.write_to(target.account, placing.expunge, target.mailbox.id, batch, now)


def _place(
    tx: Tx, account: int, function: _Transfer, mailbox: int, uids: Collection[int], target: int, client: int, now: int
) -> list[tuple[int, int]]:
    """Within one account, as a client may who has rights there. Raises NoPermission."""
    rights = shares.rights_of(tx, account, target, client)
    if "i" not in rights:
        raise NoPermission(f"account {client} may not put anything into mailbox {target} of account {account}")
    placed = function(tx, account, mailbox, uids, target, now)
    if "t" not in rights:
        # RFC 4314 §4: the flag is not set there.
        flagging.store_flags(tx, account, target, [there for _, there in placed], now=now, deleted=False)
    return placed


def _copyuid(validity: int, placed: Sequence[tuple[int, int]]) -> bytes:
    if not placed:
        return b""
    return response.copyuid(validity, [source for source, _ in placed], [target for _, target in placed])


async def expunge(session: Session, command: Command, asked: request.Expunge) -> None:
    """EXPUNGE and UID EXPUNGE."""
    if "e" not in session.open.rights:
        raise Refused("You may not expunge here", Code.NOPERM)
    within = None if asked.uids is None else session.uid_ranges(asked.uids, uid=True)
    cut = await remove_deleted(session, command.tag, within)
    await session.ok(command, "Expunged", removed=True, cut=cut)


async def remove_deleted(session: Session, tag: bytes, within: Sequence[Range] | None = None) -> bytes:
    """Take away what is marked \\Deleted, where asked only among these uids, batch by batch; the code that says so
    where that is too much for one command. Raises Refused."""
    mailbox = session.writable.mailbox
    marked: Sequence[int] = await session.look(emails.deleted_uids, mailbox)
    cut = b""
    if within is not None:
        # RFC 9738 §3.1: neither EXPUNGE nor CLOSE is limited.
        marked, cut = limit.last_uids(session, [uid for uid in marked if _lies_in(uid, within)])
    progress, pace, done = Progress(session, tag, "Expunging"), _Pace(emails.BATCH), 0
    while done < len(marked):
        batch = marked[done : done + pace.size]
        with pace.of(len(batch)):
            await session.change("e", placing.expunge_deleted, mailbox, session.around.clock.now(), batch)
        done += len(batch)
        await progress(done, len(marked))
    return cut


def _lies_in(uid: int, within: Sequence[Range]) -> bool:
    """Is it in one of these, which are in order?"""
    index = bisect_right(within, uid, key=itemgetter(0)) - 1
    return index >= 0 and uid <= within[index][1]
