"""What happens in mailboxes that others share with a client, for NOTIFY (RFC 5465): whom it follows, and how far.

Promises: what is told of another's mailbox is what `shared.py` finds. Each account that is followed is looked at when
its bell has rung, or when the client's own says that another shares something with it. A mailbox that one who is
followed shares with the client costs some 300 octets, whether or not it is meant, and there is a limit to both.
"""

from collections.abc import Collection
from typing import Final

from posthouse import limits
from posthouse.imapd import mailboxes, shared
from posthouse.imapd.session import LINES, Session
from posthouse.imapd.shared import News, Owner, Seen
from posthouse.imapd.wishes import Wishes
from posthouse.mailbox.model import CannotCalculateChanges
from posthouse.store.database import Topic
from posthouse.wire.imap import metadata as notes
from posthouse.wire.imap import response
from posthouse.wire.imap.request import StatusItem

_COUNTS: Final = (StatusItem.MESSAGES, StatusItem.UIDNEXT, StatusItem.UIDVALIDITY, StatusItem.UNSEEN)


def items(session: Session, *, modseqs: bool = False) -> tuple[StatusItem, ...]:
    """What STATUS tells of a mailbox that is watched (RFC 5465 §5.1 - §5.3). `modseqs`: HIGHESTMODSEQ in any case."""
    return (*_COUNTS, StatusItem.HIGHESTMODSEQ) if modseqs or session.condstore else _COUNTS


class Abroad:
    """The other accounts whose mailboxes one client watches."""

    def __init__(self, session: Session, wishes: Wishes) -> None:
        self._session = session
        self._wishes = wishes
        self._owners: dict[int, Owner] = {}
        self._stale: set[int] = set()
        # Mailboxes that this session has subscribed to, of those who are not followed yet.
        self._mine: dict[int, set[int]] = {}
        # Whether somebody may share with the client who is not among them, or another mailbox.
        self._unsure = True

    @property
    def accounts(self) -> Collection[int]:
        """Those that are followed."""
        return self._owners.keys()

    @property
    def bells(self) -> list[tuple[Topic, int]]:
        """What is to be listened to, beside the client's own account."""
        return [(Topic.SHARES, 0), *[(Topic.ACCOUNT, owner) for owner in self._owners]]

    def hear(self, rung: Collection[int]) -> None:
        """These bells have rung."""
        known = self._owners.keys()
        self._unsure = self._unsure or not known >= {*rung}
        self._stale.update(known if 0 in rung else known & {*rung})

    def did(self, account: int, first: int, last: int) -> None:
        """The client's own doing."""
        if account in self._owners:
            self._owners[account].own.append((first, last))

    def subscribed(self, account: int, mailbox: int, subscribed: bool) -> None:
        """The client has subscribed to this one itself, or does not any more."""
        owner = self._owners.get(account)
        if owner is None:
            if subscribed and self._wishes.subscribed:
                self._mine.setdefault(account, set()).add(mailbox)
        elif owner.seen and mailbox in owner.seen:
            owner.seen[mailbox] = owner.seen[mailbox]._replace(subscribed=subscribed)

    # --- looking

    async def begin(self) -> list[tuple[int, News]]:
        """Take note of how things stand; what there is to be said of it. Raises CannotCalculateChanges where that is
        more than can be followed, MailboxError, StoreUnavailable."""
        # The bells first: what is behind what was read is news.
        self._session.follow(self.bells)
        found = await self._find()
        self._session.follow(self.bells)
        standing: list[tuple[int, News]] = []
        for account in found:
            news = await self._session.read(shared.standing, account, self._wishes)
            self._note(account, news)
            standing.append((account, news))
        # Somebody else has heard what rang meanwhile.
        self.hear({0})
        return standing

    async def tell(self) -> None:
        """Tell what has happened. Raises CannotCalculateChanges, MailboxError, StoreUnavailable."""
        if self._unsure:
            await self._find()
            self._session.follow(self.bells)
        for account in sorted(self._stale):
            self._stale.discard(account)
            try:
                news = await self._session.read(shared.look, account, self._owners[account], self._wishes)
            except BaseException:
                self._stale.add(account)
                raise
            self._note(account, news)
            await self.say(account, news)
            if not self._owners[account].wanted(self._wishes):
                del self._owners[account]
                self._stale.discard(account)
                self._session.follow(self.bells)

    async def _find(self) -> list[int]:
        """See who shares what: follow whoever is new, look at those who share otherwise. Those that are new."""
        self._unsure = False
        try:
            known = {account: owner.seen for account, owner in self._owners.items()}
            meant, others = await self._session.read(shared.sharing, known, self._wishes)
        except BaseException:
            self._unsure = True
            raise
        new = [account for account in meant if account not in self._owners]
        if len(self._owners) + len(new) > limits.NOTIFY_ACCOUNTS:
            raise CannotCalculateChanges("too many others share something")
        for account in new:
            seen: dict[int, Seen] | None = {} if meant[account] else None
            self._owners[account] = Owner(seen, mine=self._mine.pop(account, ()))
        self._mine.clear()
        self._stale.update(others, new)
        return new

    def _note(self, account: int, news: News) -> None:
        owner = self._owners[account]
        owner.at, owner.seen = news.until, news.seen
        owner.own = [(low, high) for low, high in owner.own if high > news.until]
        if sum([len(one.seen or ()) for one in self._owners.values()]) > limits.NOTIFY_SHARED:
            raise CannotCalculateChanges("others share too many mailboxes")

    # --- telling

    async def say(self, account: int, news: News) -> None:
        """Tell this of the account's mailboxes."""
        session, engine = self._session, self._session.engine
        lines = [
            response.listed(line.path, line.attributes, utf8=engine.utf8, oldname=line.oldname) for line in news.listed
        ]
        lines += [
            mailboxes.describe(session, mailbox, items(session, modseqs=modseqs))
            for mailbox, modseqs in news.counted
            if not self._is_open(account, mailbox.id)
        ]
        lines += [notes.changed(path, entries, utf8=engine.utf8) for path, entries in news.noted]
        for start in range(0, len(lines), LINES):
            if start:
                await session.pause()
            engine.send(*lines[start : start + LINES])

    def _is_open(self, account: int, mailbox: int) -> bool:
        session = self._session
        return session.away and (session.open.account, session.open.mailbox) == (account, mailbox)
