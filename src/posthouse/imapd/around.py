"""Around an IMAP session: what all sessions work with, the open mailbox, and what speaks beside its commands."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from posthouse.clock import Clock
from posthouse.directory.credentials import Authenticator
from posthouse.directory.presence import Presence
from posthouse.imapd.fields import Kept
from posthouse.mailbox.columns import Columns
from posthouse.mailbox.newest import Snapshots
from posthouse.mailbox.shares import ALL
from posthouse.mailbox.view import Entry, View
from posthouse.net.tls import Certificates
from posthouse.store.blobs import Blobs
from posthouse.store.database import Store
from posthouse.wire.imap.event import Command, Event
from posthouse.wire.imap.sequence import Range


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every IMAP session works with. Timeouts in seconds: until a client has logged in, and of its silence
    afterwards. `raw_headers`: APPEND takes those that are not ASCII from anybody. `message_limit`: how many messages
    one command may be about (RFC 9738); 0: any number."""

    hostname: str
    clock: Clock
    store: Store
    secret: bytes
    blobs: Blobs
    snapshots: Snapshots
    columns: Columns
    authenticator: Authenticator
    presence: Presence
    certificates: Certificates
    append_limit: int
    login_timeout: float
    idle_timeout: float
    fields: Kept = field(default_factory=Kept)
    raw_headers: bool = True
    message_limit: int = 0


@dataclass(frozen=True, slots=True)
class Entrance:
    """How one listener lets clients in. `certificates`: they are asked for theirs, which log them in."""

    starttls: bool
    clear_text_login: bool
    unauthenticate: bool = True
    certificates: bool = False


class Results(Protocol):
    """Results of searches that a client wants to be kept up to date (RFC 5267)."""

    def leave(self, uids: Sequence[int]) -> bool:
        """These are about to be told as gone: tell of one result what leaves it. False where none has any of them."""
        ...

    async def settle(self) -> None:
        """Tell what has come into the results and what has left them, as far as the client knows the messages."""
        ...


@dataclass(slots=True)
class Selected:
    """The open mailbox. `saved` is what the last SEARCH kept for `$` (RFC 9051 §6.4.4.1), as ranges of uids; `gone`:
    it was deleted, or is not to be read any more; `overheard`: that messages came or went was announced beside the
    answer to something else; `unsettled`: that messages went was announced, and up to which modseq all is known has yet
    to be said; `answered`: the modseq it had when a command was answered last; `path` and `rights`: what the client
    calls it, and may do there (RFC 4314)."""

    mailbox: int
    view: View
    read_only: bool
    saved: Sequence[Range] = ()
    gone: bool = False
    overheard: bool = False
    watched: Results | None = None
    unsettled: bool = False
    answered: int = 0
    rights: str = ALL
    path: str = ""

    @property
    def account(self) -> int:
        """Whose mailbox it is."""
        return self.view.snapshot.account


class Ongoing(Protocol):
    """A command that more events belong to, before it is answered."""

    command: Command

    async def take(self, event: Event) -> None:
        """What the client says to it. Raises what a command raises."""
        ...

    async def drop(self) -> None:
        """It is over: let go of everything."""
        ...


class Watch(Protocol):
    """What a client is told of beside its commands (RFC 5465)."""

    @property
    def accounts(self) -> Collection[int]:
        """Those of which it is to be known what the client does itself."""
        ...

    def hear(self, rung: Collection[int]) -> None:
        """The bells of these accounts have rung; 0 stands for any."""
        ...

    def did(self, account: int, first: int, last: int) -> None:
        """These modseqs of the account are the client's own doing."""
        ...

    def subscribed(self, account: int, mailbox: int, subscribed: bool) -> None:
        """The client itself has subscribed to another's mailbox, or does not any more."""
        ...

    def listen(self) -> None:
        """Tell what happens while the client says nothing. Safe to call twice."""
        ...

    async def stop(self) -> None:
        """Tell nothing until `listen` is called again. Safe to call twice."""
        ...

    async def tell_added(self, entries: Sequence[Entry]) -> None:
        """What was asked for of new messages in the open mailbox."""
        ...

    async def tell_others(self) -> None:
        """What happened outside the open mailbox."""
        ...
