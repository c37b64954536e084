"""What a client can ask of an IMAP server, as values: one frozen dataclass a command (two that differ only in a word
share one), made by `command.py` and matched upon by the door.

Names of mailboxes are decoded, flags are as written ("\\Seen", "$Junk"), points in time are UTC milliseconds.
"""

from dataclasses import dataclass, field
from enum import Enum

from posthouse.wire.imap import fetch, search
from posthouse.wire.imap.sequence import SequenceSet

# any state ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Capability:
    """CAPABILITY: RFC 9051 §6.1.1."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP: RFC 9051 §6.1.2."""


@dataclass(frozen=True, slots=True)
class Logout:
    """LOGOUT: RFC 9051 §6.1.3. The engine writes the BYE."""


@dataclass(frozen=True, slots=True)
class Id:
    """ID: RFC 2971 §3.1. Pairs of field and value; () for NIL."""

    fields: tuple[tuple[bytes, bytes | None], ...]


# not authenticated ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS: RFC 9051 §6.2.1."""


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE: RFC 9051 §6.2.2. `initial` is decoded, None where there is none (RFC 4959)."""

    mechanism: str
    initial: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Login:
    """LOGIN: RFC 9051 §6.2.3."""

    user: bytes
    password: bytes = field(repr=False)


# authenticated --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Enable:
    """ENABLE: RFC 9051 §6.3.1. Upper case. Answer with `ImapServer.enable`."""

    capabilities: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT, and EXAMINE where `read_only`: RFC 9051 §6.3.2, §6.3.3."""

    mailbox: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE: RFC 9051 §6.3.4. `use` are special-use attributes as written (RFC 6154 §3)."""

    mailbox: str
    use: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE: RFC 9051 §6.3.5."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename:
    """RENAME: RFC 9051 §6.3.6."""

    mailbox: str
    to: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE, and UNSUBSCRIBE where not `subscribed`: RFC 9051 §6.3.7, §6.3.8."""

    mailbox: str
    subscribed: bool


class StatusItem(Enum):
    """What STATUS tells of a mailbox (RFC 9051 §6.3.11; RECENT is RFC 3501's, SIZE also RFC 8438's)."""

    MESSAGES = b"MESSAGES"
    UIDNEXT = b"UIDNEXT"
    UIDVALIDITY = b"UIDVALIDITY"
    UNSEEN = b"UNSEEN"
    DELETED = b"DELETED"
    SIZE = b"SIZE"
    RECENT = b"RECENT"


class ListSelect(Enum):
    """Which mailboxes a LIST is about (RFC 9051 §6.3.9.1, RFC 6154 §2)."""

    SUBSCRIBED = b"SUBSCRIBED"
    REMOTE = b"REMOTE"
    RECURSIVEMATCH = b"RECURSIVEMATCH"
    SPECIAL_USE = b"SPECIAL-USE"


class ListReturn(Enum):
    """What a LIST tells beside (RFC 9051 §6.3.9.2, RFC 6154 §2). STATUS stands apart, for it has items."""

    SUBSCRIBED = b"SUBSCRIBED"
    CHILDREN = b"CHILDREN"
    SPECIAL_USE = b"SPECIAL-USE"


@dataclass(frozen=True, slots=True)
class List:
    """LIST: RFC 9051 §6.3.9. `extended`: more than RFC 3501's form was used. `status`: of RETURN (STATUS (...))."""

    reference: str
    patterns: tuple[str, ...]
    extended: bool = False
    select: frozenset[ListSelect] = frozenset()
    returns: frozenset[ListReturn] = frozenset()
    status: tuple[StatusItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Lsub:
    """LSUB: RFC 3501 §6.3.9."""

    reference: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Namespace:
    """NAMESPACE: RFC 9051 §6.3.10."""


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS: RFC 9051 §6.3.11."""

    mailbox: str
    items: tuple[StatusItem, ...]


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND: RFC 9051 §6.3.12. Its messages follow as events of their own."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class AppendMessage:
    """A message of APPEND is announced. Answer with `accept`, or refuse the whole command with `no`.

    `size` is in octets; `received_at` None: now; `binary`: a literal8, which may hold NUL (RFC 9051 §9); `utf8`: its
    header may hold UTF-8 (RFC 9755 §4). More than one follow a command where the client uses MULTIAPPEND (RFC 3502).
    """

    flags: tuple[str, ...]
    received_at: int | None
    size: int
    binary: bool
    utf8: bool


@dataclass(frozen=True, slots=True)
class Idle:
    """IDLE: RFC 9051 §6.3.13. Answer with `ImapServer.idle`; IdleDone follows."""


# selected -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """CHECK: RFC 3501 §6.4.1."""


@dataclass(frozen=True, slots=True)
class Close:
    """CLOSE, and UNSELECT where not `expunge`: RFC 9051 §6.4.1, §6.4.2."""

    expunge: bool


@dataclass(frozen=True, slots=True)
class Expunge:
    """EXPUNGE; UID EXPUNGE names the UIDs: RFC 9051 §6.4.3, §6.4.9."""

    uids: SequenceSet | None


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH: RFC 9051 §6.4.4. `returns` None asks for the untagged SEARCH of RFC 3501, unless IMAP4rev2 is enabled."""

    uid: bool
    key: search.Key
    returns: tuple[search.Return, ...] | None


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH: RFC 9051 §6.4.5."""

    uid: bool
    numbers: SequenceSet
    items: tuple[fetch.Item, ...]


class StoreHow(Enum):
    """What STORE does with the flags it names."""

    SET = b""
    ADD = b"+"
    REMOVE = b"-"


@dataclass(frozen=True, slots=True)
class Store:
    """STORE: RFC 9051 §6.4.6. `silent`: no FETCH is expected in answer."""

    uid: bool
    numbers: SequenceSet
    how: StoreHow
    flags: tuple[str, ...]
    silent: bool


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY: RFC 9051 §6.4.7."""

    uid: bool
    numbers: SequenceSet
    mailbox: str


@dataclass(frozen=True, slots=True)
class Move:
    """MOVE: RFC 9051 §6.4.8."""

    uid: bool
    numbers: SequenceSet
    mailbox: str


Request = (
    Capability
    | Noop
    | Logout
    | Id
    | StartTls
    | Authenticate
    | Login
    | Enable
    | Select
    | Create
    | Delete
    | Rename
    | Subscribe
    | List
    | Lsub
    | Namespace
    | Status
    | Append
    | Idle
    | Check
    | Close
    | Expunge
    | Search
    | Fetch
    | Store
    | Copy
    | Move
)
