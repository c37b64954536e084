"""What a client can ask of an IMAP server, as values: one frozen dataclass a command (two that differ only in a word
share one), made by `command.py` and matched upon by the door.

Names of mailboxes are decoded, flags are as written ("\\Seen", "$Junk"), points in time are UTC milliseconds.
"""

from dataclasses import dataclass, field
from enum import Enum

from posthouse.wire.imap import acl, fetch, finding, metadata, notify, quota, search
from posthouse.wire.imap.sequence import Range, SequenceSet

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
class Unauthenticate:
    """UNAUTHENTICATE: RFC 8437 §3. It cannot be refused with NO."""


@dataclass(frozen=True, slots=True)
class Resync:
    """QRESYNC as a parameter of SELECT (RFC 7162 §3.2.5): what a client knows of the mailbox. `known`: uids, None: all;
    `matches`: pairs of message number and uid, ascending."""

    uidvalidity: int
    modseq: int
    known: SequenceSet | None = None
    matches: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT, and EXAMINE where `read_only`: RFC 9051 §6.3.2, §6.3.3. `condstore`: RFC 7162 §3.1.8."""

    mailbox: str
    read_only: bool
    condstore: bool = field(default=False, kw_only=True)
    resync: Resync | None = field(default=None, kw_only=True)


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
    """What STATUS tells of a mailbox (RFC 9051 §6.3.11; RECENT is RFC 3501's, SIZE also RFC 8438's, HIGHESTMODSEQ RFC
    7162's, MAILBOXID RFC 8474's, APPENDLIMIT RFC 7889's, DELETED-STORAGE RFC 9208's)."""

    MESSAGES = b"MESSAGES"
    UIDNEXT = b"UIDNEXT"
    UIDVALIDITY = b"UIDVALIDITY"
    UNSEEN = b"UNSEEN"
    DELETED = b"DELETED"
    SIZE = b"SIZE"
    RECENT = b"RECENT"
    HIGHESTMODSEQ = b"HIGHESTMODSEQ"
    MAILBOXID = b"MAILBOXID"
    APPENDLIMIT = b"APPENDLIMIT"
    DELETED_STORAGE = b"DELETED-STORAGE"


class ListSelect(Enum):
    """Which mailboxes a LIST is about (RFC 9051 §6.3.9.1, RFC 6154 §2)."""

    SUBSCRIBED = b"SUBSCRIBED"
    REMOTE = b"REMOTE"
    RECURSIVEMATCH = b"RECURSIVEMATCH"
    SPECIAL_USE = b"SPECIAL-USE"


class ListReturn(Enum):
    """What a LIST tells beside (RFC 9051 §6.3.9.2, RFC 6154 §2, RFC 8440 §3). STATUS stands apart, for it has
    items."""

    SUBSCRIBED = b"SUBSCRIBED"
    CHILDREN = b"CHILDREN"
    SPECIAL_USE = b"SPECIAL-USE"
    MYRIGHTS = b"MYRIGHTS"


@dataclass(frozen=True, slots=True)
class List:
    """LIST: RFC 9051 §6.3.9. `extended`: more than RFC 3501's form was used. `status`: of RETURN (STATUS (...)).
    `metadata`: entries of RETURN (METADATA (...)) (RFC 9590 §3).
    """

    reference: str
    patterns: tuple[str, ...]
    extended: bool = False
    select: frozenset[ListSelect] = frozenset()
    returns: frozenset[ListReturn] = frozenset()
    status: tuple[StatusItem, ...] = ()
    metadata: tuple[str, ...] = field(default=(), kw_only=True)


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
class Replace:
    """REPLACE: RFC 8508 §3. `numbers` is one message; the one to come in its place follows as that of APPEND does."""

    uid: bool
    numbers: SequenceSet
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
class CatenatedMessage:
    """A message of APPEND is announced that is made of parts (RFC 4469): they follow, then MessageEnd."""

    flags: tuple[str, ...]
    received_at: int | None


@dataclass(frozen=True, slots=True)
class AppendText:
    """A part of it comes as octets. Answer with `accept`, or refuse the whole command with `no`."""

    size: int
    binary: bool


@dataclass(frozen=True, slots=True)
class AppendUrl:
    """A part of it is what this URL names. Read it before the next event is asked for."""

    url: bytes


@dataclass(frozen=True, slots=True)
class Compress:
    """COMPRESS: RFC 4978 §3. Upper case."""

    algorithm: str


@dataclass(frozen=True, slots=True)
class Idle:
    """IDLE: RFC 9051 §6.3.13. Answer with `ImapServer.idle`; IdleDone follows."""


@dataclass(frozen=True, slots=True)
class Notify:
    """NOTIFY: RFC 5465 §3.1. No groups: NOTIFY NONE. `status`: tell how the watched mailboxes stand."""

    groups: tuple[notify.Group, ...]
    status: bool = False


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
    returns: finding.Returns | None


@dataclass(frozen=True, slots=True)
class Sort:
    """SORT: RFC 5256 §3. `returns` None asks for the untagged SORT; else it is RFC 5267 §3's."""

    uid: bool
    sorts: tuple[finding.SortKey, ...]
    key: search.Key
    returns: finding.Returns | None


@dataclass(frozen=True, slots=True)
class Thread:
    """THREAD: RFC 5256 §3."""

    uid: bool
    algorithm: finding.Algorithm
    key: search.Key


@dataclass(frozen=True, slots=True)
class MultiSearch:
    """ESEARCH: RFC 7377 §2.1. No `sources`: the open mailbox."""

    sources: tuple[finding.Mailboxes, ...]
    key: search.Key
    returns: finding.Returns | None


@dataclass(frozen=True, slots=True)
class CancelUpdate:
    """CANCELUPDATE: RFC 5267 §4.3.5. The tags of the commands whose results are watched no longer."""

    tags: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH: RFC 9051 §6.4.5. `changed_since`: only what has a higher modseq, and with `vanished` what went since (RFC
    7162 §3.1.4.1, §3.2.6). `partial`: only the messages at these places, -1 being the last (RFC 9394 §3.3)."""

    uid: bool
    numbers: SequenceSet
    items: tuple[fetch.Item, ...]
    changed_since: int | None = field(default=None, kw_only=True)
    vanished: bool = field(default=False, kw_only=True)
    partial: finding.Partial | None = field(default=None, kw_only=True)


class StoreHow(Enum):
    """What STORE does with the flags it names."""

    SET = b""
    ADD = b"+"
    REMOVE = b"-"


@dataclass(frozen=True, slots=True)
class Store:
    """STORE: RFC 9051 §6.4.6. `silent`: no FETCH is expected in answer. `unchanged_since`: leave alone what has a
    higher modseq (RFC 7162 §3.1.3)."""

    uid: bool
    numbers: SequenceSet
    how: StoreHow
    flags: tuple[str, ...]
    silent: bool
    unchanged_since: int | None = field(default=None, kw_only=True)


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
    | Unauthenticate
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
    | Replace
    | Compress
    | Idle
    | Notify
    | quota.GetQuota
    | quota.GetQuotaRoot
    | quota.SetQuota
    | metadata.GetMetadata
    | metadata.SetMetadata
    | acl.SetAcl
    | acl.DeleteAcl
    | acl.GetAcl
    | acl.ListRights
    | acl.MyRights
    | Check
    | Close
    | Expunge
    | Search
    | Sort
    | Thread
    | MultiSearch
    | CancelUpdate
    | Fetch
    | Store
    | Copy
    | Move
)
