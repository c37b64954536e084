"""The mailbox model: its errors and values, the lock on an account, and the ledger of one change.

Promises:
- Whoever writes in an account holds its row (`lock_account`) and takes modseq, uids and ids from rows so locked; a
  function that touches several accounts locks them in ascending id.
- One change has one modseq. The totals of each mailbox, IMAP's and JMAP's, the counters of threads, the feed of
  changes and the account's own row are written once, by `Change.finish`, and the account's bell is rung.
Refuses: to know IMAP's or JMAP's words.
"""

import json
from dataclasses import dataclass
from operator import add
from typing import Final, NamedTuple

from posthouse.mailbox import ranges
from posthouse.mailbox.ranges import Ranges
from posthouse.store.database import Topic, Tx
from posthouse.terms.keywords import DRAFT, SEEN

# `\Deleted` belongs to a placement. Where flags travel as one integer it is the bit above all keywords.
DELETED: Final = 1 << 62
KEYWORDS: Final = DELETED - 1


class MailboxError(Exception):
    """What was asked of the model cannot be done; each door says it in its own words."""


class NoSuchAccount(MailboxError):
    """The account has no mail store: it was never made, or is being removed."""


class NoSuchMailbox(MailboxError):
    """The mailbox is not there, or not any more."""


class NoSuchEmail(MailboxError):
    """The email is not there, or its content is not kept any more."""


class MailboxExists(MailboxError):
    """Another mailbox has this name (or this role) already."""


class BadName(MailboxError):
    """The text cannot name a mailbox; the message says why."""


class ReservedMailbox(MailboxError):
    """The Inbox cannot be deleted, and nothing can be put in its place."""


class HasChildren(MailboxError):
    """The mailbox has mailboxes below it."""


class TooManyMailboxes(MailboxError):
    """The account has as many mailboxes as it may."""


class TooManyKeywords(MailboxError):
    """The account has met as many different keywords as it may."""


class BadKeyword(MailboxError):
    """The text cannot be a keyword (RFC 8621 §4.1.1)."""


class OverQuota(MailboxError):
    """The account would hold more octets or emails than its quota allows, or its domain more than that one's."""

    def __init__(self, account: int) -> None:
        super().__init__(f"account {account} is over its quota")
        self.account = account


class AnnotationTooLong(MailboxError):
    """The value is longer than what is kept of any."""


class TooManyAnnotations(MailboxError):
    """The mailbox or the account has as many annotations as it may."""


class NoPermission(MailboxError):
    """The mailbox is another's, who has not granted this."""


class TooManyShares(MailboxError):
    """The mailbox is shared with as many accounts as it may be."""


class CannotCalculateChanges(MailboxError):
    """The changes since then are not known any more."""


class State(NamedTuple):
    """An account's counters while it is locked. Quotas None: no limit.

    `quota_domain`: the domain it is named in, where that has a quota; `domain_octets`: what that holds already.
    """

    account: int
    epoch: int
    modseq: int
    next_email: int
    next_mailbox: int
    used_octets: int
    used_emails: int
    tombstone_floor: int
    mailbox_modseq: int
    email_modseq: int
    thread_modseq: int
    last_uidvalidity: int
    quota_octets: int | None
    quota_emails: int | None
    quota_domain: str | None
    domain_quota: int | None
    domain_octets: int | None


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox as it stands in its row; `path` is its names from the top, parted by "/"; the Inbox's is "INBOX".

    messages, unseen, octets, deleted, deleted_octets are IMAP's totals, of every placement. emails, unread, threads,
    unread_threads are JMAP's: of emails with a placement here that is not \\Deleted.
    """

    id: int
    parent: int | None
    name: str
    path: str
    role: str | None
    subscribed: bool
    sort_order: int
    uidvalidity: int
    uidnext: int
    highest_modseq: int
    messages: int
    unseen: int
    octets: int
    deleted: int
    deleted_octets: int
    emails: int
    unread: int
    threads: int
    unread_threads: int


def lock_account(tx: Tx, account: int) -> State:
    """Hold the account until the transaction ends; its counters. Raises NoSuchAccount."""
    row = tx.one("account_lock", account=account)
    if row is None:
        raise NoSuchAccount(f"account {account} has no mail store")
    return State(*row)


def lock_account_to_file(tx: Tx, account: int, role: str) -> tuple[State, int, int]:
    """The same, with the mailbox that has this role, or else the Inbox, and its next uid. Raises NoSuchAccount."""
    row = tx.one("account_lock_to_file", account=account, role=role)
    if row is None:
        raise NoSuchAccount(f"account {account} has no mail store")
    return State._make(row[2:]), row[0], row[1]


class Standing(NamedTuple):
    """A mailbox at the top as it is while its account is locked; `watched`: the highest modseq of another (0: there is
    none)."""

    name: str
    role: str | None
    uidnext: int
    watched: int


def lock_account_to_append(tx: Tx, account: int, mailbox: int, watched: int = 0) -> tuple[State, Standing] | None:
    """The same, with a mailbox that stood at the top; None where it does not any more, or the account is gone."""
    row = tx.one("account_lock_to_append", account=account, mailbox=mailbox, watched=watched)
    if row is None:
        return None
    return State._make(row[4:]), Standing(row[0], row[1], row[2], row[3] or 0)


def is_unread(keywords: int) -> bool:
    """What JMAP counts as unread: neither seen nor a draft (RFC 8621 §2)."""
    return not keywords & (SEEN | DRAFT)


class Totals(NamedTuple):
    """JMAP's totals of a mailbox, or of a part of it."""

    emails: int
    unread: int
    threads: int
    unread_threads: int


class Ledger:
    """What one change does to one mailbox: differences to its totals, and the uids that change, go or come."""

    __slots__ = (
        "before", "changed", "deleted", "deleted_octets", "emails", "first_uid", "gone", "messages", "more_threads",
        "more_unread_threads", "octets", "placed", "taken", "threads", "unread", "unseen",
    )  # fmt: skip

    def __init__(self) -> None:
        self.messages = self.unseen = self.octets = self.deleted = self.deleted_octets = 0
        self.emails = self.unread = 0
        # thread → emails, unread: more, and (where it is known) before
        self.threads: dict[int, tuple[int, int]] = {}
        self.before: dict[int, tuple[int, int]] = {}
        # Threads that are known to be more already.
        self.more_threads = self.more_unread_threads = 0
        # email, \Deleted, whether it is the email's home: they get uids when the change is finished, from `first_uid`
        # on (0: not known yet)
        self.placed: list[tuple[int, bool, bool]] = []
        self.first_uid = 0
        # So many uids from there on were taken for placements that are written already.
        self.taken = 0
        self.changed: list[tuple[int, int]] = []
        self.gone: list[tuple[int, int]] = []

    def enter(self, messages: int, octets: int, unseen: int, deleted: int, deleted_octets: int) -> None:
        """Count placements in IMAP's totals, or take them out."""
        self.messages += messages
        self.octets += octets
        self.unseen += unseen
        self.deleted += deleted
        self.deleted_octets += deleted_octets

    def add_placement(self, keywords: int, size: int, deleted: bool) -> None:
        """Count a placement in IMAP's totals."""
        self.messages += 1
        self.octets += size
        if not keywords & SEEN:
            self.unseen += 1
        if deleted:
            self.deleted += 1
            self.deleted_octets += size

    def add_email(self, thread: int, unread: bool) -> None:
        """Count an email in JMAP's totals."""
        emails, unreads = self.threads.get(thread, (0, 0))
        self.emails += 1
        if unread:
            self.unread += 1
            unreads += 1
        self.threads[thread] = (emails + 1, unreads)

    def weigh(self, before: Totals, after: Totals) -> None:
        """Enter the difference between two states of JMAP's totals, of which the second is written already."""
        self.emails += after.emails - before.emails
        self.unread += after.unread - before.unread
        self.more_threads += after.threads - before.threads
        self.more_unread_threads += after.unread_threads - before.unread_threads

    @property
    def came(self) -> Ranges:
        """The uids of what was placed, once it has been."""
        count = self.taken + len(self.placed)
        return [(self.first_uid, self.first_uid + count - 1)] if count else ()


class Change:
    """The ledger of one change in a locked account. Totals and the feed are not written before `finish`."""

    def __init__(self, tx: Tx, state: State, now: int) -> None:
        self.tx = tx
        self.state = state
        self.account = state.account
        self.modseq = state.modseq + 1
        self.now = now
        self.next_email = state.next_email
        self.next_mailbox = state.next_mailbox
        self.last_uidvalidity = state.last_uidvalidity
        self.octets = 0
        self.emails = 0
        self.mailboxes: dict[int, Ledger] = {}
        self.emails_created: list[int] = []
        self.emails_updated: list[tuple[int, int]] = []
        self.emails_destroyed: list[tuple[int, int]] = []
        # Threads that an email began; came into (True: the thread was visible before); left.
        self.threads_begun: set[int] = set()
        self.threads_joined: dict[int, bool] = {}
        self.threads_left: set[int] = set()
        self.mailboxes_created: list[int] = []
        self.mailboxes_updated: set[int] = set()
        self.mailboxes_destroyed: list[int] = []
        # Entries that were set or removed, by mailbox; 0: the account's own.
        self.annotations: dict[int, list[str]] = {}

    def __getitem__(self, mailbox: int) -> Ledger:
        """The ledger of a mailbox, begun where there is none."""
        ledger = self.mailboxes.get(mailbox)
        if ledger is None:
            ledger = self.mailboxes[mailbox] = Ledger()
        return ledger

    def new_email(self) -> int:
        """An email id that was never used in this account."""
        self.next_email += 1
        return self.next_email - 1

    def new_mailbox(self) -> tuple[int, int]:
        """A mailbox id that was never used in this account, and a uidvalidity above all there were (RFC 9051
        §2.3.1.1)."""
        self.next_mailbox += 1
        self.last_uidvalidity = max(self.last_uidvalidity + 1, self.now // 1000)
        return self.next_mailbox - 1, self.last_uidvalidity

    def next_uid(self, mailbox: int) -> int:
        """The uid of what is placed next in this mailbox. Raises NoSuchMailbox."""
        ledger = self[mailbox]
        if not ledger.first_uid:
            ledger.first_uid = self.tx.value("mailbox_uidnext", account=self.account, mailbox=mailbox) or 0
            if not ledger.first_uid:
                raise NoSuchMailbox(f"account {self.account} has no mailbox {mailbox}")
        return ledger.first_uid + ledger.taken + len(ledger.placed)

    def take_uids(self, mailbox: int, count: int) -> int:
        """The first of so many uids in this mailbox, for placements that the caller writes. Raises NoSuchMailbox."""
        first, ledger = self.next_uid(mailbox), self[mailbox]
        assert not ledger.placed, "what is written by the caller comes before what is written in the end"
        ledger.taken += count
        return first

    def finish(self) -> int:
        """Write what was gathered; the modseq. Raises NoSuchMailbox where a ledger's mailbox is not there."""
        for mailbox in sorted(self.mailboxes):
            self._settle(mailbox, self.mailboxes[mailbox])
        self._log()
        self._save()
        self.tx.ring(Topic.ACCOUNT, self.account)
        return self.modseq

    def _settle(self, mailbox: int, ledger: Ledger) -> None:
        if ledger.placed:
            self._place(mailbox, ledger)
        threads, unread_threads = self._settle_threads(mailbox, ledger)
        placed = ledger.taken + len(ledger.placed)
        shown = placed or ledger.changed or ledger.gone
        self.tx.put(
            "mailbox_settle",
            account=self.account,
            mailbox=mailbox,
            placed=placed,
            modseq=self.modseq if shown else 0,
            messages=ledger.messages,
            unseen=ledger.unseen,
            octets=ledger.octets,
            deleted=ledger.deleted,
            deleted_octets=ledger.deleted_octets,
            emails=ledger.emails,
            unread=ledger.unread,
            threads=threads,
            unread_threads=unread_threads,
        )

    def _place(self, mailbox: int, ledger: Ledger) -> None:
        """Give uids to what was placed, in the order it was placed."""
        account, modseq = self.account, self.modseq
        self.next_uid(mailbox)
        first = ledger.first_uid + ledger.taken
        if len(ledger.placed) == 1:
            ((email, deleted, home),) = ledger.placed
            self.tx.put(
                "placement_insert",
                account=account,
                mailbox=mailbox,
                uid=first,
                email=email,
                deleted=int(deleted),
                home=int(home),
                modseq=modseq,
                saved_at=self.now,
            )
            return
        placed = ",".join([str(email << 2 | home << 1 | deleted) for email, deleted, home in ledger.placed])
        self.tx.put(
            "placements_insert",
            account=account,
            mailbox=mailbox,
            first=first,
            placed=f"[{placed}]",
            modseq=modseq,
            saved_at=self.now,
        )

    def _settle_threads(self, mailbox: int, ledger: Ledger) -> tuple[int, int]:
        """By how much a mailbox' number of threads and of unread threads changes. Its rows are already as they will
        be."""
        moved = {thread: more for thread, more in ledger.threads.items() if more != (0, 0)}
        before = ledger.before
        now: dict[int, tuple[int, int]] = {}
        if older := moved.keys() - self.threads_begun - before.keys():
            threads_in = {"account": self.account, "mailbox": mailbox, "read": SEEN | DRAFT, "low": 0, "high": 0}
            rows = self.tx.all("threads_in_mailbox", threads=ranges.pack(older), **threads_in)
            now = {thread: (emails, unread) for thread, emails, unread in rows}
        threads, unread_threads = ledger.more_threads, ledger.more_unread_threads
        for thread, more in moved.items():
            if thread in older:
                emails, unread = now.get(thread, (0, 0))
            else:
                # A thread that was begun here had nothing before.
                emails, unread = map(add, before.get(thread, (0, 0)), more)
            threads += (emails > 0) - (emails - more[0] > 0)
            unread_threads += (unread > 0) - (unread - more[1] > 0)
        return threads, unread_threads

    def _threads(self) -> tuple[list[int], list[int], list[int]]:
        """Threads created, updated and destroyed: a thread is there as long as one of its emails can be seen."""
        if not self.threads_left and self.threads_joined.keys() == self.threads_begun:
            return list(self.threads_joined), [], []
        remain: set[int] = set()
        if self.threads_left:
            packed = ranges.pack(self.threads_left)
            remain = {row[0] for row in self.tx.all("threads_visible", account=self.account, threads=packed)}
        created = [thread for thread, before in self.threads_joined.items() if not before]
        updated = {thread for thread, before in self.threads_joined.items() if before} | (remain - set(created))
        gone = self.threads_left - remain
        return created, sorted(updated - gone), sorted(gone)

    def _log(self) -> None:
        """Write the change into the feed: a row for each mailbox whose uids changed, the account's news in the
        first."""
        created, updated, gone = self._threads()
        self._note_states(bool(created or updated or gone))
        named = self.mailboxes_updated.union(self.mailboxes_created, self.mailboxes_destroyed)
        news = {
            "emails_created": self.emails_created,
            "threads_created": created,
            "threads_updated": updated,
            "threads_destroyed": gone,
            "mailboxes_created": self.mailboxes_created,
            "mailboxes_updated": self.mailboxes_updated.difference(self.mailboxes_created),
            "mailboxes_counted": self.mailboxes.keys() - named,
            "mailboxes_destroyed": self.mailboxes_destroyed,
        }
        told = _NO_NEWS | {kind: ranges.told(numbers) for kind, numbers in news.items() if numbers}
        if self.emails_updated or self.emails_destroyed:
            told |= self._emails_told()
        shown = [
            (mailbox, ledger)
            for mailbox, ledger in sorted(self.mailboxes.items())
            if ledger.came or ledger.changed or ledger.gone
        ]
        shown += [(mailbox, Ledger()) for mailbox in self.annotations if mailbox not in dict(shown)]
        for mailbox, ledger in shown or [(0, Ledger())]:
            self.tx.put(
                "change_insert",
                account=self.account,
                modseq=self.modseq,
                mailbox=mailbox,
                at=self.now,
                uids_changed=ranges.told_ranges([*ledger.changed, *ledger.came]),
                uids_gone=ranges.told_ranges(ledger.gone),
                annotations=json.dumps(self.annotations[mailbox]) if mailbox in self.annotations else None,
                **told,
            )
            told = _NO_NEWS

    def _emails_told(self) -> dict[str, str | None]:
        """What came or went is not said to be updated as well."""
        destroyed = ranges.join(self.emails_destroyed)
        others = ranges.join([*destroyed, *ranges.spans(self.emails_created)])
        updated = ranges.without(ranges.join(self.emails_updated), others)
        return {"emails_updated": ranges.told_ranges(updated), "emails_destroyed": ranges.told_ranges(destroyed)}

    def _note_states(self, threads: bool) -> None:
        emails = bool(self.emails_created or self.emails_updated or self.emails_destroyed)
        mailboxes = bool(self.mailboxes or self.mailboxes_updated or self.mailboxes_created or self.mailboxes_destroyed)
        modseq, state = self.modseq, self.state
        self._states = (
            modseq if mailboxes else state.mailbox_modseq,
            modseq if emails else state.email_modseq,
            modseq if threads else state.thread_modseq,
        )

    def _save(self) -> None:
        mailbox_modseq, email_modseq, thread_modseq = self._states
        self.tx.put(
            "account_save",
            account=self.account,
            modseq=self.modseq,
            next_email=self.next_email,
            next_mailbox=self.next_mailbox,
            used_octets=self.state.used_octets + self.octets,
            used_emails=self.state.used_emails + self.emails,
            mailbox_modseq=mailbox_modseq,
            email_modseq=email_modseq,
            thread_modseq=thread_modseq,
            last_uidvalidity=self.last_uidvalidity,
        )
        if self.state.quota_domain is not None and self.octets:
            self.tx.put("quota_domain_used", domain=self.state.quota_domain, octets=self.octets)


_NO_NEWS: Final[dict[str, str | None]] = dict.fromkeys(
    [
        *(f"emails_{what}" for what in ("created", "updated", "destroyed")),
        *(f"threads_{what}" for what in ("created", "updated", "destroyed")),
        *(f"mailboxes_{what}" for what in ("created", "updated", "counted", "destroyed")),
    ]
)
