"""A mail store as the manual describes it, in lists: what every door must show after any order of commands.

One account with a few mailboxes. Keywords belong to the email, and so to all its placements; `\\Deleted`, the uid and
the order belong to the placement. A session's view is what it has been told, and changes where the protocol lets it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

DELETED = b"\\Deleted"


@dataclass(eq=False)
class Email:
    """One message of the account. `serial` stands in its subject; no two have the same."""

    serial: int
    keywords: set[bytes] = field(default_factory=set)


@dataclass(eq=False)
class Placement:
    """An email in a mailbox."""

    uid: int
    email: Email
    deleted: bool = False

    @property
    def flags(self) -> frozenset[bytes]:
        """As IMAP tells them."""
        return frozenset(self.email.keywords | ({DELETED} if self.deleted else set()))


@dataclass
class Mailbox:
    """Placements in the order of their uids."""

    placements: list[Placement] = field(default_factory=list)
    uidnext: int = 1

    def put(self, email: Email, *, deleted: bool = False) -> Placement:
        """One more."""
        placement = Placement(self.uidnext, email, deleted)
        self.uidnext += 1
        self.placements.append(placement)
        return placement

    def find(self, uid: int) -> Placement | None:
        """The placement of this uid, if it is there still."""
        return next((one for one in self.placements if one.uid == uid), None)

    def having(self, uids: Iterable[int]) -> list[Placement]:
        """Those that are there still."""
        wanted = set(uids)
        return [one for one in self.placements if one.uid in wanted]


@dataclass
class View:
    """What a session has open: the uids it has been told of, in their order."""

    mailbox: str
    uids: list[int]


class Store:
    """The account."""

    def __init__(self, names: Sequence[str]) -> None:
        self.mailboxes = {name: Mailbox() for name in names}
        self._serial = 0

    def new(self, mailbox: str, keywords: Iterable[bytes] = (), *, deleted: bool = False) -> int:
        """A message arrives or is appended: its serial."""
        self._serial += 1
        self.mailboxes[mailbox].put(Email(self._serial, set(keywords)), deleted=deleted)
        return self._serial

    @property
    def next_serial(self) -> int:
        """That of the message that comes next."""
        return self._serial + 1

    # --- what a session does; each acts on what is there still of what it means

    def store(self, view: View, uids: Iterable[int], how: str, flags: frozenset[bytes]) -> None:
        """STORE."""
        keywords, deleted = flags - {DELETED}, DELETED in flags
        for one in self.mailboxes[view.mailbox].having(uids):
            if how == "FLAGS":
                one.email.keywords = set(keywords)
                one.deleted = deleted
            elif how == "+FLAGS":
                one.email.keywords |= keywords
                one.deleted = one.deleted or deleted
            else:
                one.email.keywords -= keywords
                one.deleted = one.deleted and not deleted

    def copy(self, view: View, uids: Iterable[int], target: str) -> None:
        """COPY: the same emails, placed once more."""
        for one in self.mailboxes[view.mailbox].having(uids):
            self.mailboxes[target].put(one.email, deleted=one.deleted)

    def move(self, view: View, uids: Iterable[int], target: str) -> None:
        """MOVE."""
        source = self.mailboxes[view.mailbox]
        moved = source.having(uids)
        source.placements = [one for one in source.placements if one not in moved]
        for one in moved:
            self.mailboxes[target].put(one.email, deleted=one.deleted)

    def expunge(self, mailbox: str, uids: Iterable[int] | None = None) -> None:
        """EXPUNGE, and UID EXPUNGE of some."""
        place = self.mailboxes[mailbox]
        among = None if uids is None else set(uids)
        place.placements = [one for one in place.placements if not one.deleted or (among and one.uid not in among)]

    def found(self, view: View, flag: bytes, *, having: bool) -> list[int]:
        """The uids that SEARCH finds among those that the view shows and that are there."""
        there = self.mailboxes[view.mailbox].having(view.uids)
        return [one.uid for one in there if (flag in one.flags) is having]

    def drop(self) -> list[int]:
        """The serials that POP3 lists: each email of the Inbox once, without what is marked \\Deleted."""
        return list(dict.fromkeys(one.email.serial for one in self.mailboxes["INBOX"].placements if not one.deleted))

    def take_out(self, serials: Iterable[int]) -> None:
        """POP3's QUIT."""
        gone = set(serials)
        inbox = self.mailboxes["INBOX"]
        inbox.placements = [one for one in inbox.placements if one.email.serial not in gone]

    # --- what a session is told

    def open(self, mailbox: str) -> View:
        """SELECT."""
        return View(mailbox, [one.uid for one in self.mailboxes[mailbox].placements])

    def tell(self, view: View, *, expunge: bool) -> None:
        """A command has ended: what is new, and, where that may be said, what is gone."""
        there = [one.uid for one in self.mailboxes[view.mailbox].placements]
        if expunge:
            view.uids = there
        else:
            last = view.uids[-1] if view.uids else 0
            view.uids += [uid for uid in there if uid > last]
