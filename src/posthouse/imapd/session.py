"""An IMAP session: who is logged in, which mailbox is open, and what its client has been told of it.

Promises: untagged responses stand before the answer that they come with; EXPUNGE only where the command's row allows
it (RFC 9051 §7.5.1). An error of the model's is said in IMAP's words, by one table.
Refuses: to know any command; those are in the files beside.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Concatenate, Final, ParamSpec, TypeVar

from posthouse.clock import Clock
from posthouse.directory.credentials import Authenticator
from posthouse.directory.model import Account
from posthouse.mailbox import emails, model
from posthouse.mailbox.model import DELETED, MailboxError
from posthouse.mailbox.snapshot import Entry, Snapshots, View
from posthouse.net.stream import Stream
from posthouse.net.tls import Certificates
from posthouse.store.blobs import Blobs
from posthouse.store.database import Store, StoreUnavailable, Tx
from posthouse.terms.keywords import FROM_IMAP, TO_IMAP
from posthouse.wire.imap import response
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.response import Code
from posthouse.wire.imap.sequence import SequenceSet
from posthouse.wire.imap.server import ImapServer

P = ParamSpec("P")
T = TypeVar("T")

# What the model says, in IMAP's words (RFC 5530, RFC 9051 §7.1).
_WORDS: Final[dict[type[MailboxError], tuple[str, bytes]]] = {
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
}
_UNAVAILABLE: Final = ("The mail store cannot be reached; try again later", Code.UNAVAILABLE)

# `\\Deleted` is IMAP's own, and no keyword of the model.
DELETED_FLAG: Final = "\\deleted"
SYSTEM_FLAGS: Final = (b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Seen", b"\\Draft")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every IMAP session works with. Timeouts in seconds, before login and after it."""

    hostname: str
    clock: Clock
    store: Store
    secret: bytes
    blobs: Blobs
    snapshots: Snapshots
    authenticator: Authenticator
    certificates: Certificates
    append_limit: int
    login_timeout: float
    idle_timeout: float


@dataclass(slots=True)
class Selected:
    """The open mailbox. `saved` is what the last SEARCH kept for `$` (RFC 9051 §6.4.4.1), as uids."""

    mailbox: int
    path: str
    view: View
    read_only: bool
    saved: tuple[int, ...] = ()


class Session:
    """One client's state, and how things are said to it."""

    def __init__(self, stream: Stream, around: Surroundings) -> None:
        self.stream = stream
        self.around = around
        self.engine = ImapServer(append_limit=around.append_limit)
        self.account: Account | None = None
        self.selected: Selected | None = None
        self.rev2 = False
        self._names: dict[int, str] = {}
        self._flags: dict[int, bytes] = {}

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
        text, code = _UNAVAILABLE if isinstance(error, StoreUnavailable) else _WORDS[type(error)]
        self.engine.no(command, text, code)

    async def flush(self) -> None:
        """Send what is outgoing, at the client's speed."""
        self.stream.write(self.engine.outgoing())
        if self.stream.blocked:
            await self.stream.drain()

    # --- news of the mailbox

    async def refresh(self) -> None:
        """Bring the open mailbox' view up to date. Raises NoSuchMailbox, StoreUnavailable."""
        if self.selected is not None:
            await self.around.snapshots.refresh(self.selected.view)

    async def tell_news(self, *, expunge: bool) -> None:
        """Untagged responses for what changed and the client has not heard of."""
        if self.selected is None or not self.selected.view.stale:
            return
        view = self.selected.view
        if expunge and view.ghosts:
            gone = view.announce_expunged()
            self.engine.send(response.expunges([entry.seq for entry in gone]))
        changed = view.announce_changed()
        if changed:
            await self.learn_flags(changed)
            self.engine.send(*[self.flags_changed(entry) for entry in changed])
        if view.announce_added():
            self.engine.send(response.exists(len(view)))

    def flags_changed(self, entry: Entry) -> bytes:
        """A FETCH that was not asked for (RFC 9051 §7.5.2: with the UID)."""
        return response.fetch(entry.seq, b"UID %d FLAGS %b" % (entry.uid, self.flags(entry.flags)))

    # --- flags

    async def learn_flags(self, entries: Iterable[Entry]) -> None:
        """Know the names of all bits that these have: another session may have made new keywords."""
        known = DELETED
        for bit in self._names:
            known |= bit
        if not self._names or any(entry.flags & ~known for entry in entries):
            self._names = await self.read(emails.keyword_names)
            self._flags.clear()

    def flags(self, bits: int) -> bytes:
        """The flags as a parenthesised list; `learn_flags` has seen them."""
        found = self._flags.get(bits)
        if found is None:
            names = [TO_IMAP.get(name, name).encode() for bit, name in self._names.items() if bits & bit]
            if bits & DELETED:
                names.append(b"\\Deleted")
            found = self._flags[bits] = response.parenthesized(names)
        return found

    def all_flags(self) -> list[bytes]:
        """Every flag that the mailbox knows: the system's, then the account's keywords."""
        keywords = [TO_IMAP.get(name, name).encode() for name in self._names.values()]
        return [*SYSTEM_FLAGS, *[name for name in keywords if not name.startswith(b"\\")]]

    # --- numbers

    def entries(self, numbers: SequenceSet, *, uid: bool) -> list[Entry]:
        """The messages that a client means, in order, by what it knows of the mailbox."""
        view = self.open.view
        if not len(view):
            return []
        last = view.by_seq(len(view), len(view))[0]
        pick, largest = (view.by_uid, last.uid) if uid else (view.by_seq, last.seq)
        found = [entry for low, high in numbers.resolve(largest) for entry in pick(low, high)]
        if numbers.saved:
            seen = {entry.uid for entry in found}
            saved = [entry for one in self.open.saved if one not in seen for entry in view.by_uid(one, one)]
            found = sorted([*found, *saved])
        return found


def split_flags(flags: Sequence[str]) -> tuple[list[str], bool]:
    """Keywords by the model's names, and whether `\\Deleted` is among the flags. `\\Recent` cannot be set."""
    lowered = [flag.lower() for flag in flags]
    keywords = [FROM_IMAP.get(flag, flag) for flag in lowered if flag not in (DELETED_FLAG, "\\recent")]
    return keywords, DELETED_FLAG in lowered
