"""An IMAP session: who is logged in, which mailbox is open, and what its client has been told of it.

Promises: untagged responses stand before the answer that they come with; EXPUNGE only where the command's row allows
it (RFC 9051 §7.5.1). A client's numbers stay what they are until it has heard otherwise, whatever others do meanwhile.
Each command that ends tells what has changed in the open mailbox, and costs no look where nothing has. An error of the
model's is said in IMAP's words, by one table.
Refuses: to know any command; those are in the files beside.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from posthouse import observe
from posthouse.clock import Clock
from posthouse.directory.credentials import Authenticator
from posthouse.directory.model import Account
from posthouse.directory.presence import Presence
from posthouse.mailbox import emails, model
from posthouse.mailbox.model import DELETED, MailboxError, NoSuchMailbox
from posthouse.mailbox.snapshot import Entry, Snapshots, View
from posthouse.net.stream import Stream
from posthouse.net.tls import Certificates
from posthouse.store.blobs import Blobs
from posthouse.store.database import Listener, Store, StoreUnavailable, Topic, Tx
from posthouse.terms.keywords import FROM_IMAP, TO_IMAP
from posthouse.wire.imap import response
from posthouse.wire.imap.event import Command, Event
from posthouse.wire.imap.response import Code
from posthouse.wire.imap.sequence import STAR, Range, SequenceSet
from posthouse.wire.imap.server import ImapServer

P = ParamSpec("P")
T = TypeVar("T")

# What the model says, in IMAP's words (RFC 5530, RFC 9051 §7.1).
WORDS: Final[dict[type[MailboxError], tuple[str, bytes]]] = {
    model.NoSuchMailbox: ("There is no such mailbox", Code.NONEXISTENT),
    model.NoSuchAccount: ("This account is being removed", Code.UNAVAILABLE),
    model.NoSuchEmail: ("This message is gone", Code.EXPUNGEISSUED),
    model.MailboxExists: ("There is such a mailbox already", Code.ALREADYEXISTS),
    model.BadName: ("A mailbox cannot be named so", Code.CANNOT),
    model.ReservedMailbox: ("This cannot be done with the Inbox", Code.CANNOT),
    model.HasChildren: ("There are mailboxes below it", Code.HASCHILDREN),
    model.TooManyMailboxes: ("There are too many mailboxes", Code.LIMIT),
    model.TooManyKeywords: ("There are too many keywords", Code.LIMIT),
    model.BadKeyword: ("This cannot be a flag", Code.CANNOT),
    model.OverQuota: ("The mailbox is full", Code.OVERQUOTA),
    model.CannotCalculateChanges: ("What changed is not known any more", Code.UNAVAILABLE),
}
UNAVAILABLE: Final = ("The mail store cannot be reached; try again later", Code.UNAVAILABLE)

# `\\Deleted` is IMAP's own, and no keyword of the model.
DELETED_FLAG: Final = "\\deleted"
SYSTEM_FLAGS: Final = (b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Seen", b"\\Draft")

# Responses that are built before they are sent.
LINES: Final = 200
# A buffer above this leaves in pieces, at the client's speed: TLS would else encrypt a whole message into memory.
_PIECE: Final = 256 * 1024
_CHANGED: Final = b"* %d FETCH (UID %d FLAGS %b)\r\n"
# Combinations of flags whose text is kept; a mailbox has a few dozen.
_COMBINATIONS: Final = 500


class Refused(Exception):
    """NO: the command is not carried out. The answer is in it."""

    def __init__(self, text: str, code: bytes = b"") -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class Senseless(Exception):
    """BAD: the command means nothing here."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every IMAP session works with. Timeouts in seconds: until a client has logged in, and of its silence
    afterwards."""

    hostname: str
    clock: Clock
    store: Store
    secret: bytes
    blobs: Blobs
    snapshots: Snapshots
    authenticator: Authenticator
    presence: Presence
    certificates: Certificates
    append_limit: int
    login_timeout: float
    idle_timeout: float


@dataclass(frozen=True, slots=True)
class Entrance:
    """How one listener lets clients in."""

    starttls: bool
    clear_text_login: bool


@dataclass(slots=True)
class Selected:
    """The open mailbox. `saved` is what the last SEARCH kept for `$` (RFC 9051 §6.4.4.1), as ranges of uids; `gone`:
    it was deleted; `overheard`: that messages came or went was announced beside the answer to something else."""

    mailbox: int
    view: View
    read_only: bool
    saved: Sequence[Range] = ()
    gone: bool = False
    overheard: bool = False


class Ongoing(Protocol):
    """A command that more events belong to, before it is answered."""

    command: Command

    async def take(self, event: Event) -> None:
        """What the client says to it. Raises what a command raises."""
        ...

    async def drop(self) -> None:
        """It is over: let go of everything."""
        ...


class Session:
    """One client's state, and how things are said to it."""

    def __init__(self, stream: Stream, around: Surroundings, entrance: Entrance) -> None:
        self.stream = stream
        self.around = around
        self.entrance = entrance
        self.engine = ImapServer(append_limit=around.append_limit)
        self.account: Account | None = None
        self.selected: Selected | None = None
        self.ongoing: Ongoing | None = None
        self.rev2 = False
        # Why the connection ends, once it is to.
        self.parting: tuple[str, bytes] | None = None
        self._ear: Listener | None = None
        self._stale = False
        self._names: dict[int, str] = {}
        self._unnamed = 0
        self._flags: dict[int, bytes] = {}

    # --- who it is

    async def enter(self, account: Account) -> bool:
        """The client has logged in; False where the account is closed to it. Raises StoreUnavailable."""
        if not await self.around.presence.enter(account.id, self._show_out):
            return False
        self.account = account
        self._ear = self.around.store.listen(Topic.ACCOUNT, account.id)
        self.stream.timeout = self.around.idle_timeout
        return True

    async def leave(self) -> None:
        """The conversation is over."""
        await self.drop()
        if self.account is not None:
            self.around.presence.leave(self.account.id, self._show_out)
        if self._ear is not None:
            self._ear.close()

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

    async def write(self, function: Callable[Concatenate[Tx, int, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One change of it. Raises MailboxError, StoreUnavailable."""
        return await self.around.store.write(function, self.owner, *args, **kwargs)

    # --- answers

    async def ok(self, command: Command, text: str, code: bytes = b"") -> None:
        """Say what is new in the mailbox, then that the command is done."""
        await self.tell_news(expunge=command.row.expunge)
        self.engine.ok(command, text, code)

    def fail(self, command: Command, error: MailboxError | StoreUnavailable) -> None:
        """Say that the model could not."""
        if isinstance(error, StoreUnavailable):
            observe.tell("imap.unavailable", level=observe.ERROR, error=str(error))
            self.engine.no(command, *UNAVAILABLE)
        else:
            self.engine.no(command, *WORDS[type(error)])

    async def flush(self) -> None:
        """Send what is outgoing, at the client's speed. Raises ConnectionLost, StreamTimeout."""
        outgoing = self.engine.outgoing()
        if any(len(buffer) > _PIECE for buffer in outgoing):
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
        assert self._ear is not None, "the table lets this come after a login only"
        try:
            async with asyncio.timeout(seconds):
                await self._ear.wait()
        except TimeoutError:
            return False
        self._stale = True
        return True

    async def refresh(self) -> None:
        """Bring the open mailbox' view up to date, where anything has changed in the account. Raises
        StoreUnavailable."""
        if self._ear is not None and self._ear.rung:
            await self._ear.wait()
            self._stale = True
        if not self._stale or self.selected is None:
            return
        try:
            await self.around.snapshots.refresh(self.selected.view)
        except NoSuchMailbox:
            self.selected.gone = True
        self._stale = False

    async def tell_news(self, *, expunge: bool) -> None:
        """Untagged responses for what changed and the client has not heard of."""
        try:
            await self.refresh()
        except StoreUnavailable as error:
            # The command is done all the same; the next one looks again.
            observe.tell("imap.no_news", level=observe.WARNING, error=str(error))
        if self.selected is None:
            return
        if self.selected.gone:
            self.lose_mailbox()
        elif self.selected.view.stale:
            await self._announce(self.selected, expunge)

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
        if again and not (selected.overheard or selected.gone):
            self.engine.send(response.exists(len(selected.view)))
        selected.overheard = False

    async def _announce(self, selected: Selected, expunge: bool) -> None:
        view = selected.view
        while not self.knows(view.changed()):
            await self.learn_names()
        # From here to the end of what is announced nothing waits: it would change meanwhile, or be cancelled.
        if expunge and view.ghosts:
            self.engine.send(response.expunges([entry.seq for entry in view.announce_expunged()]))
            selected.overheard = True
        changed = view.announce_changed()
        more = view.announce_added()
        count = len(view)
        await self.tell_flags(changed)
        if more:
            self.engine.send(response.exists(count))
            selected.overheard = True

    def lose_mailbox(self) -> None:
        """The open mailbox was deleted."""
        self.selected = None
        if self.rev2:
            self.engine.unselect("The mailbox that was open has been deleted")
        else:
            # RFC 2180 §3.3: before RFC 9051 a client could not be told otherwise.
            self.part("The mailbox that was open has been deleted")

    async def tell_flags(self, entries: Sequence[Entry]) -> None:
        """FETCH responses that nobody asked for (RFC 9051 §7.5.2: with the UID); `learn_flags` has seen the entries."""
        for start in range(0, len(entries), LINES):
            some = entries[start : start + LINES]
            self.engine.send(
                b"".join([_CHANGED % (seq, uid, self.flags(flags)) for seq, uid, _, flags, _ in some]),
            )
            if len(entries) > LINES:
                await self.pause()

    # --- flags

    async def learn_flags(self, entries: Sequence[Entry]) -> None:
        """Know the names of all bits that these have: another session may have made new keywords."""
        if not self._names or not self.knows(entries):
            await self.learn_names()

    def knows(self, entries: Sequence[Entry]) -> bool:
        """False where one of these has a bit whose name is not known."""
        unnamed = self._unnamed
        return not any(entry.flags & unnamed for entry in entries)

    async def learn_names(self) -> None:
        """Read the account's keywords. Raises StoreUnavailable."""
        names = await self.read(emails.keyword_spellings)
        new = names.keys() - self._names.keys()
        self._names, self._unnamed = names, ~(sum(names) | DELETED)
        self._flags.clear()
        if new and self.selected is not None:
            # RFC 9051 §7.3.5: a client hears of a keyword before it sees it.
            self.engine.send(*self.describe_flags(self.selected.read_only))

    def describe_flags(self, read_only: bool) -> tuple[bytes, bytes]:
        """Every flag that the mailbox knows, the system's and the account's keywords, and which of them stay."""
        keywords = [TO_IMAP.get(name, name).encode() for name in self._names.values()]
        every = [*SYSTEM_FLAGS, *[name for name in keywords if not name.startswith(b"\\")]]
        permanent = response.permanent_flags([] if read_only else [*every, b"\\*"])
        return response.flags(every), response.ok("Flags that stay", permanent)

    def flags(self, bits: int) -> bytes:
        """The flags as a parenthesised list; `learn_flags` has seen them."""
        found = self._flags.get(bits)
        if found is None:
            names = [TO_IMAP.get(name, name).encode() for bit, name in self._names.items() if bits & bit]
            if bits & DELETED:
                names.append(b"\\Deleted")
            if len(self._flags) >= _COMBINATIONS:
                self._flags.clear()
            found = self._flags[bits] = response.parenthesized(names)
        return found

    def bits(self) -> dict[str, int]:
        """The account's keywords by the model's names, as far as this session has met them."""
        return {name.lower(): bit for bit, name in self._names.items()}

    # --- numbers

    def numbers(self, asked: SequenceSet, *, uid: bool) -> list[Range]:
        """The messages that a client means by what it knows of the mailbox: ranges of sequence numbers, in order.

        Raises Senseless for a sequence number above the last (RFC 9051 §9, seq-number).
        """
        view = self.open.view
        count = len(view)
        if uid:
            found = self._spans(asked.resolve(view.uid(count) if count else 0))
        else:
            for low, high in asked.ranges:
                if count < high < STAR:
                    raise Senseless(f"There is no message {high if low <= count else low}")
            found = list(asked.resolve(count))
        if asked.saved:
            found = _merged([*found, *self._spans(self.open.saved)])
        return found

    def uid_ranges(self, asked: SequenceSet, *, uid: bool) -> tuple[Range, ...]:
        """The same as ranges of uids. Raises Senseless."""
        view = self.open.view
        return tuple((view.uid(low), view.uid(high)) for low, high in self.numbers(asked, uid=uid))

    def _spans(self, uids: Sequence[Range]) -> list[Range]:
        spans = [self.open.view.span(low, high) for low, high in uids]
        return [(first, last) for first, last in spans if first <= last]

    def chunks(self, numbers: Sequence[Range], size: int) -> Iterator[list[Entry]]:
        """The messages of these sequence numbers, so many at a time, each lot as it is when it is asked for."""
        view = self.open.view
        chunk: list[Entry] = []
        for low, high in numbers:
            while low <= high:
                last = min(high, low + size - len(chunk) - 1)
                chunk += view.by_seq(low, last)
                low = last + 1
                if len(chunk) == size:
                    yield chunk
                    chunk = []
        if chunk:
            yield chunk

    def all_of(self, numbers: Sequence[Range]) -> list[Entry]:
        """The messages of these sequence numbers."""
        view = self.open.view
        return [entry for low, high in numbers for entry in view.by_seq(low, high)]


def _merged(numbers: Sequence[Range]) -> list[Range]:
    """Ranges in order, apart from each other."""
    found: list[Range] = []
    for low, high in sorted(numbers):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def split_flags(flags: Sequence[str]) -> tuple[list[str], bool]:
    """Keywords, the system's by the model's names and the others as they are written, and whether `\\Deleted` is among
    the flags. `\\Recent` cannot be set."""
    lowered = {flag.lower(): flag for flag in reversed(flags)}
    deleted = lowered.pop(DELETED_FLAG, None) is not None
    lowered.pop("\\recent", None)
    return [FROM_IMAP.get(flag, written) for flag, written in lowered.items()], deleted
