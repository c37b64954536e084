"""An IMAP session: who is logged in, which mailbox is open, and what its client has been told of it.

Promises: untagged responses stand before the answer that they come with; EXPUNGE only where the command's row allows
it (RFC 9051 §7.5.1). A client's numbers stay what they are until it has heard otherwise, whatever others do meanwhile.
Each command that ends tells what has changed in the open mailbox, and costs no look where nothing has. An error of the
model's is said in IMAP's words, by one table.
Refuses: to know any command; those are in the files beside.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial, reduce
from operator import or_
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from posthouse import observe
from posthouse.directory.model import Account
from posthouse.imapd import places
from posthouse.imapd.around import Entrance, Ongoing, Selected, Surroundings, Watch
from posthouse.imapd.flags import Flags, flag_lines, modseq_lines
from posthouse.imapd.places import Place
from posthouse.imapd.refusal import UNAVAILABLE, WORDS, Refused, Senseless, uid_required
from posthouse.mailbox import emails, model, ranges, shares
from posthouse.mailbox.model import MailboxError, NoSuchMailbox
from posthouse.mailbox.view import Entries
from posthouse.net.stream import Stream
from posthouse.store.database import Listener, StoreUnavailable, Topic, Tx
from posthouse.wire.imap import response
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.notify import OF_MESSAGES
from posthouse.wire.imap.notify import Event as Kind
from posthouse.wire.imap.response import Code
from posthouse.wire.imap.sequence import STAR, Range, SequenceSet, ranges_of
from posthouse.wire.imap.server import ImapServer

P = ParamSpec("P")
T = TypeVar("T")

# What is said of a command that was about more messages than one may be (RFC 9738).
PARTLY: Final = "Only the last of them; ask again for those below"
# Responses that are built before they are sent; and of those with nothing but flags and numbers, which others wait for
# less than half a millisecond, within these octets.
LINES: Final = 200
MANY_LINES: Final = 2000
_LINES_OCTETS: Final = 256 * 1024
# Octets of such a line without the flags, at most.
_LINE: Final = 80
# The same of EXPUNGE, which are shorter and made in one go: a millisecond.
_EXPUNGES: Final = 5000
# A buffer above this leaves in pieces, at the client's speed: TLS would else encrypt a whole message into memory.
_PIECE: Final = 256 * 1024
# Nobody but the client's commands says anything to it.
ALONE: Final[AbstractAsyncContextManager[None]] = nullcontext()


class Session:
    """One client's state, and how things are said to it.

    `rev2`, `condstore`, `qresync` and `uidonly` are what the client has enabled; `heeded` is what it wants to be told
    of in the open mailbox. `turn` is held by whoever speaks to the client. `names` are the keywords it has met, `flags`
    writes flags with them; `learn_flags` has seen them before.
    """

    def __init__(self, stream: Stream, around: Surroundings, entrance: Entrance) -> None:
        self.stream = stream
        self.around = around
        self.entrance = entrance
        self.engine = ImapServer(append_limit=around.append_limit)
        self.ongoing: Ongoing | None = None
        self.turn = ALONE
        self._forget()
        # Why the connection ends, once it is to.
        self.parting: tuple[str, bytes] | None = None

    def _forget(self) -> None:
        """Begin as nobody's (RFC 8437 §4.1)."""
        self.account: Account | None = None
        self.selected: Selected | None = None
        self.rev2 = self.condstore = self.qresync = self.uidonly = False
        self.heeded = OF_MESSAGES
        self.watch: Watch | None = None
        self._ear: Listener | None = None
        # To the account whose mailbox is open, where that is another's.
        self._away: Listener | None = None
        # Whose keywords `names` are.
        self.mail_of = 0
        self._stale = False
        # Where the client has put a message last, and what it calls the mailbox.
        self.filed_in: tuple[str, Place] | None = None
        self.names = Flags()
        self.flags = self.names.write

    # --- who it is

    async def enter(self, account: Account) -> bool:
        """The client has logged in; False where the account is closed to it. Raises StoreUnavailable."""
        if not await self.around.presence.enter(account.id, self._show_out):
            return False
        self.account = account
        self.mail_of = account.id
        self._ear = self.around.store.listen(Topic.ACCOUNT, account.id)
        self.stream.timeout = self.around.idle_timeout
        return True

    async def leave(self) -> None:
        """The conversation is over, or goes on as one with nobody yet."""
        if self.watch is not None:
            await self.watch.stop()
        await self.drop()
        if self.account is not None:
            self.around.presence.leave(self.account.id, self._show_out)
        for ear in self._ears:
            ear.close()
        self._forget()

    def _show_out(self) -> None:
        self.part("This account is closed", Code.UNAVAILABLE)

    def part(self, text: str, code: bytes = b"") -> None:
        """Say BYE as soon as the command under way has ended."""
        self.parting = text, code
        self.stream.stop()

    async def drop(self) -> None:
        """The command that took further events is over."""
        ongoing, self.ongoing = self.ongoing, None
        if ongoing is not None:
            await ongoing.drop()

    @property
    def owner(self) -> int:
        """The account that is logged in."""
        assert self.account is not None, "the table lets this come after a login only"
        return self.account.id

    @property
    def away(self) -> bool:
        """Another's mailbox is open."""
        return self._away is not None and self.selected is not None

    @property
    def ids(self) -> str:
        """What stands in ids of another's mail before the number (RFC 8474 §4): an account numbers its own."""
        return f"{self.open.account}-" if self.away else ""

    def has_open(self, mailbox: int) -> bool:
        """Is this mailbox of the client's own account open?"""
        return self.selected is not None and self.selected.mailbox == mailbox and not self.away

    def turn_to(self, account: int) -> None:
        """A mailbox of this account is about to be open, or none: hear its bell, forget others' keywords."""
        if account == self.mail_of:
            return
        self.mail_of = account
        self.names = Flags()
        self.flags = self.names.write
        if self._away is not None:
            self._away.close()
        self._away = None
        if account != self.owner:
            self._away = self.around.store.listen(Topic.ACCOUNT, account)
            # The client's rights were read before it was there to hear them taken.
            self._stale = True

    def shut(self) -> None:
        """No mailbox is open any more."""
        self.selected = None
        self.turn_to(self.owner)

    @property
    def open(self) -> Selected:
        """The open mailbox."""
        assert self.selected is not None, "the table lets this come in the selected state only"
        return self.selected

    @property
    def writable(self) -> Selected:
        """The open mailbox, to be changed. Raises Refused."""
        if self.open.read_only:
            raise Refused("The mailbox is open for reading only", Code.READ_ONLY)
        return self.open

    # --- the store

    async def read(self, function: Callable[Concatenate[Tx, int, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One look into the account's mail. Raises MailboxError, StoreUnavailable."""
        return await self.around.store.read(function, self.owner, *args, **kwargs)

    async def readable(self, path: str) -> Place:
        """The mailbox of this name, with its totals. Raises NoSuchMailbox, NoPermission, StoreUnavailable."""
        known = self.around.snapshots.accounts.of(self.owner)
        place: Place | None = known.get(path)
        if place is None:
            place = await self.read(places.find, path, "r")
            # Of others' mail nothing is known: their bells do not ring for this account.
            if place.own:
                known.tell(path, place)
        return place

    async def write(self, function: Callable[Concatenate[Tx, int, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One change of it. Raises MailboxError, StoreUnavailable."""
        return await self.write_to(self.owner, function, *args, **kwargs)

    async def write_to(
        self, account: int, function: Callable[Concatenate[Tx, int, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """One change of this account's mail. Raises MailboxError, StoreUnavailable."""
        if self.watch is None:
            return await self.around.store.write(function, account, *args, **kwargs)
        # It may be of another's mail too, which the client watches.
        watched = sorted({account, *self.watch.accounts})

        def counted(tx: Tx, account: int) -> tuple[T, list[int], list[int]]:
            before = [_modseq(tx, one) for one in watched]
            result = function(tx, account, *args, **kwargs)
            return result, before, [_modseq(tx, one) for one in watched]

        result, before, after = await self.around.store.write(counted, account)
        for one, low, high in zip(watched, before, after, strict=True):
            if low < high:
                self.watch.did(one, low + 1, high)
        return result

    async def look(self, function: Callable[Concatenate[Tx, int, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One look into the mail of whoever has the open mailbox. Raises NoPermission where it may not be read any
        more, MailboxError, StoreUnavailable."""
        if not self.away:
            return await self.read(function, *args, **kwargs)
        return await self.around.store.read(self._guarded(function, "r", *args, **kwargs), self.open.account)

    async def change(
        self, needed: str, function: Callable[Concatenate[Tx, int, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """One change there. Raises NoPermission where a right is needed that the client has not, also where it was
        taken meanwhile; MailboxError, StoreUnavailable."""
        if not self.away:
            return await self.write(function, *args, **kwargs)
        return await self.write_to(self.open.account, self._guarded(function, needed, *args, **kwargs))

    def _guarded(
        self, function: Callable[Concatenate[Tx, int, P], T], needed: str, *args: P.args, **kwargs: P.kwargs
    ) -> Callable[[Tx, int], T]:
        mailbox, client = self.open.mailbox, self.owner

        def guarded(tx: Tx, account: int) -> T:
            if not set(needed) <= set(shares.rights_of(tx, account, mailbox, client)):
                raise model.NoPermission(f"{needed} is not granted in mailbox {mailbox} of account {account}")
            return function(tx, account, *args, **kwargs)

        return guarded

    # --- answers

    async def ok(
        self,
        command: Command,
        text: str,
        code: bytes = b"",
        *,
        removed: bool = False,
        expunge: bool = True,
        look: bool = True,
        cut: bytes = b"",
    ) -> None:
        """Say what is new in the mailbox, then that the command is done. `removed`: it took messages away, of which the
        client hears whatever it wants to be told. `expunge` False: this one may not tell what went, though its row
        would. `look` False: its own transaction has seen that nothing happened in the open mailbox. `cut`:
        where it did not do all, the code of `limit.py` that says how far it came."""
        await self.tell_news(expunge=expunge and command.row.expunge, removed=removed, look=look)
        if self.selected is not None:
            self.selected.answered = self.selected.view.snapshot.modseq
        if self.condstore:
            code = self._settle(code)
        if cut and not code:
            text, code = PARTLY, cut
        elif cut:
            # RFC 9738 §3.1: what else is to be said has the place in the answer.
            self.engine.send(response.no(PARTLY, cut))
        self.engine.ok(command, text, code)

    def no(self, command: Command, text: str, code: bytes = b"") -> None:
        """Say that the command is not carried out."""
        if self.condstore:
            self.engine.no(command, text, self._settle(code))
        else:
            self.engine.no(command, text, code)

    def fail(self, command: Command, error: MailboxError | StoreUnavailable) -> None:
        """Say that the model could not."""
        if isinstance(error, StoreUnavailable):
            observe.tell("imap.unavailable", level=observe.ERROR, error=str(error))
            self.no(command, *UNAVAILABLE)
        else:
            self.no(command, *WORDS[type(error)])

    def heed_modseqs(self) -> None:
        """The client has said that it knows of modseqs (RFC 7162 §3.1: a CONDSTORE enabling command)."""
        if not self.condstore:
            self.condstore = True
            if self.selected is not None:
                self.selected.unsettled = False
                self.engine.send(_known_up_to(self.selected.view.modseq))

    def _settle(self, code: bytes) -> bytes:
        """RFC 7162 §3.2: a client takes the highest modseq it was told as what it knows all up to. Where something of a
        lower one is yet to be told, or where what was told has none, it hears how far it knows all: in the code of the
        answer, or before it."""
        selected = self.selected
        if selected is None or not (selected.unsettled or selected.view.stale):
            return code
        selected.unsettled = False
        modseq = selected.view.modseq
        if not code:
            return response.highest_modseq(modseq)
        self.engine.send(_known_up_to(modseq))
        return code

    async def flush(self) -> None:
        """Send what is outgoing, at the client's speed. Raises ConnectionLost, StreamTimeout."""
        outgoing = self.engine.outgoing()
        if outgoing and max(map(len, outgoing)) > _PIECE:
            for buffer in outgoing:
                await self.stream.send(buffer)
        elif outgoing:
            self.stream.write(outgoing)
        if self.stream.blocked:
            await self.stream.drain()

    async def pause(self) -> None:
        """Send what is outgoing, and let the other sessions have a turn: between the parts of a long answer."""
        await self.flush()
        await asyncio.sleep(0)

    # --- news of the mailbox

    async def wait_for_news(self, seconds: float) -> bool:
        """Wait until something has changed in the account; False where nothing has for so long."""
        assert self._ears, "the table lets this come after a login only"
        try:
            async with asyncio.timeout(seconds):
                await _first_of([self._listen(ear) for ear in self._ears])
        except TimeoutError:
            return False
        return True

    async def _listen(self, ear: Listener) -> None:
        """Hear this one, and note it in the same step: whoever ends the wait now has to look all the same."""
        self._hear(await ear.wait())

    @property
    def _ears(self) -> list[Listener]:
        return [ear for ear in (self._ear, self._away) if ear is not None]

    def _hear(self, rung: Collection[int]) -> None:
        if 0 in rung or self.owner in rung or self.mail_of in rung:
            self._stale = True
        if self.watch is not None:
            self.watch.hear(rung)

    def follow(self, bells: Collection[tuple[Topic, int]]) -> None:
        """Hear these too, for whoever watches, and none of those before."""
        assert self._ear is not None, "the table lets this come after a login only"
        self._ear.also(bells)

    async def refresh(self) -> None:
        """Bring the open mailbox' view up to date, where anything has changed in the account. Raises
        StoreUnavailable."""
        for ear in self._ears:
            if ear.rung:
                self._hear(await ear.wait())
        if not self._stale or self.selected is None:
            return
        # Before the look: a ring that whoever watches hears meanwhile is of what comes behind it.
        self._stale = False
        try:
            await self.around.snapshots.refresh(self.selected.view)
            if self.away:
                # Behind that look: what came after the right was taken is not told.
                await self._renew_rights(self.selected)
        except NoSuchMailbox:
            self.selected.gone = True
        except BaseException:
            # Nobody has looked.
            self._stale = True
            raise

    async def _renew_rights(self, opened: Selected) -> None:
        """What the client may do in another's mailbox has perhaps been changed (RFC 4314 §5.1.1)."""
        rights = await self.around.store.read(shares.rights_of, opened.account, opened.mailbox, self.owner)
        if "r" not in rights:
            raise NoSuchMailbox(f"mailbox {opened.mailbox} of account {opened.account} is not to be read any more")
        if rights != opened.rights:
            opened.rights = rights
            self.engine.send(*self.names.describe(opened.read_only, rights))

    async def tell_news(self, *, expunge: bool, removed: bool = False, look: bool = True) -> None:
        """Untagged responses for what changed and the client has not heard of, and wants to."""
        try:
            if look or self.watch is not None:
                await self.refresh()
        except StoreUnavailable as error:
            # The command is done all the same; the next one looks again.
            observe.tell("imap.no_news", level=observe.WARNING, error=str(error))
        if self.selected is not None:
            if self.selected.gone:
                self.lose_mailbox()
            elif self.selected.view.stale:
                try:
                    await self._announce(self.selected, expunge and (removed or Kind.MESSAGE_EXPUNGE in self.heeded))
                except StoreUnavailable as error:
                    # Nor is it undone because news cannot be told; what is not announced yet is, with the next one.
                    observe.tell("imap.no_news", level=observe.WARNING, error=str(error))
            await self._settle_results()
        if self.watch is not None:
            await self.watch.tell_others()

    async def tell_arrivals(self) -> None:
        """Say what came and changed in the open mailbox, before a search that is to find it: all but what went, which
        no search may tell (RFC 9051 §7.4.1, §7.5.1). Raises StoreUnavailable."""
        await self.refresh()
        selected = self.open
        if selected.view.stale and not selected.gone:
            await self._announce(selected, expunge=False)

    async def _settle_results(self) -> None:
        if self.selected is not None and self.selected.watched is not None:
            try:
                await self.selected.watched.settle()
            except StoreUnavailable as error:
                observe.tell("imap.no_news", level=observe.WARNING, error=str(error))

    async def tell_listener(self) -> None:
        """The same, for a client that idles. Where EXISTS or EXPUNGE stood beside the answer to something else, EXISTS
        is said once more, as RFC 9051 §5.2 allows: Thunderbird looks where it hears of it while it idles, and leaves
        what it hears of during a FETCH, STORE or CHECK until it looks by itself, ten minutes later.
        """
        selected = self.selected
        if selected is None:
            await self.tell_news(expunge=True)
            return
        again, selected.overheard = selected.overheard, False
        await self.tell_news(expunge=True)
        if again and Kind.MESSAGE_NEW in self.heeded and not (selected.overheard or selected.gone):
            self.engine.send(response.exists(len(selected.view)))
        selected.overheard = False

    async def _announce(self, selected: Selected, expunge: bool) -> None:
        view, heeded = selected.view, self.heeded
        flags = Kind.FLAG_CHANGE in heeded
        while True:
            if flags and not self.names.covers(view.changed_bits()):
                await self.learn_names()
            elif expunge and selected.watched is not None and selected.watched.leave([one.uid for one in view.ghosts]):
                await self.pause()
            else:
                break
        # All that is announced is taken in one step: it would change meanwhile.
        numbers, uids = view.announce_expunged() if expunge and view.ghosts else ([], [])
        changed = view.announce_changed() if flags else ()
        more = view.announce_added() if Kind.MESSAGE_NEW in heeded else ()
        count = len(view)
        if numbers:
            selected.overheard = selected.unsettled = True
            await self._tell_expunged(numbers, uids)
        for lot, some in enumerate(changed):
            if lot:
                await self.pause()
            if some.uids:
                await self.tell_flags(some)
        if more:
            self.engine.send(response.exists(count))
            selected.overheard = True
            if self.watch is not None:
                await self.watch.tell_added(more)

    async def _tell_expunged(self, numbers: Sequence[int], uids: Sequence[int]) -> None:
        if self.qresync or self.uidonly:
            # RFC 7162 §3.2.10.2, RFC 9586 §3.2
            self.engine.send(response.vanished(ranges_of(uids)))
            return
        # The last one first.
        for stop in range(len(numbers), 0, -_EXPUNGES):
            if len(numbers) > _EXPUNGES:
                await self.pause()
            self.engine.send(response.expunges(numbers[max(stop - _EXPUNGES, 0) : stop]))

    def lose_mailbox(self) -> None:
        """The open mailbox was deleted, or is not to be read any more."""
        self.shut()
        if self.rev2:
            self.engine.unselect("The mailbox that was open has been deleted")
        else:
            # RFC 2180 §3.3: before RFC 9051 a client could not be told otherwise.
            self.part("The mailbox that was open has been deleted")

    async def tell_flags(self, entries: Entries) -> None:
        """FETCH responses that nobody asked for (RFC 9051 §7.5.2: with the UID); `learn_flags` has seen the entries."""
        await self._tell_lines(entries, partial(flag_lines, self.flags, uidonly=self.uidonly, modseqs=self.condstore))

    async def tell_modseqs(self, entries: Entries) -> None:
        """The same without the flags, which the client knows (RFC 7162 §3.1.3)."""
        await self._tell_lines(entries, partial(modseq_lines, uidonly=self.uidonly))

    @property
    def lines(self) -> int:
        """How many responses of flags and numbers are built before they are sent; `learn_names` knows of the flags."""
        return max(LINES, min(MANY_LINES, _LINES_OCTETS // (_LINE + self.names.longest)))

    async def _tell_lines(self, entries: Entries, lines: Callable[[Entries], bytes]) -> None:
        if len(entries.uids) <= LINES:
            self.engine.send(lines(entries))
            return
        for some in entries.lots(self.lines):
            self.engine.send(lines(some))
            await self.pause()

    # --- flags

    async def learn_flags(self, entries: Entries) -> None:
        """Know the names of all bits that these have: another session may have made new keywords."""
        if not self.names or not self.names.covers(reduce(or_, set(entries.flags), 0)):
            await self.learn_names()

    async def learn_names(self) -> None:
        """Read the keywords of whoever has the open mailbox. Raises StoreUnavailable."""
        new = self.names.learn(await self.around.store.read(emails.keyword_spellings, self.mail_of))
        if new and self.selected is not None:
            # RFC 9051 §7.3.5: a client hears of a keyword before it sees it.
            self.engine.send(*self.names.describe(self.selected.read_only, self.selected.rights))

    # --- numbers

    def numbers(self, asked: SequenceSet, *, uid: bool) -> list[Range]:
        """The messages that a client means by what it knows of the mailbox: ranges of sequence numbers, in order.

        Raises Senseless for a sequence number above the last (RFC 9051 §9, seq-number), and for any where UIDONLY is
        enabled.
        """
        if not uid and self.uidonly:
            raise uid_required()
        view = self.open.view
        count = len(view)
        if uid:
            found = view.spans(asked.resolve(view.uid(count) if count else 0))
        else:
            for low, high in asked.ranges:
                if count < high < STAR:
                    raise Senseless(f"There is no message {high if low <= count else low}")
            found = list(asked.resolve(count))
        if asked.saved:
            found = ranges.join([*found, *view.spans(self.open.saved)])
        return found

    def uid_ranges(self, asked: SequenceSet, *, uid: bool) -> tuple[Range, ...]:
        """The same as ranges of uids, which may hold more than there are. Raises Senseless."""
        view = self.open.view
        if uid:
            # What is between them does no harm: no message has such a uid.
            count = len(view)
            found = asked.resolve(view.uid(count) if count else 0)
            return tuple(ranges.join([*found, *self.open.saved])) if asked.saved else found
        return view.uids(self.numbers(asked, uid=False))


async def _first_of(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do these at once, until one is done."""
    if len(works) == 1:
        await works[0]
        return
    doing = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(doing, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in doing:
            one.cancel()


def _modseq(tx: Tx, account: int) -> int:
    """How far the account has come, held there until the transaction ends; 0: it is gone."""
    try:
        return model.lock_account(tx, account).modseq
    except model.NoSuchAccount:
        return 0


def _known_up_to(modseq: int) -> bytes:
    return response.ok("All is known up to this", response.highest_modseq(modseq))
