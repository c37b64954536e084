"""What is to be told of the mailboxes that one other account shares with a client (RFC 5465, RFC 4314), as one
transaction finds it.

Promises: the transaction looks up what the client may do there now: what may not be read is not told of, whatever was
allowed before. A right that is given or taken is news itself (§5.4, §5.9). A look costs what has changed, and the
account's list of mailboxes only where a name or a right is another. What the client did itself is not told.
Refuses: to know sessions.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from posthouse import limits
from posthouse.imapd.mailboxes import mark
from posthouse.imapd.places import PREFIX
from posthouse.imapd.wishes import Wishes
from posthouse.mailbox import changes, shares
from posthouse.mailbox import mailboxes as names
from posthouse.mailbox.changes import Heard
from posthouse.mailbox.mailboxes import SEPARATOR
from posthouse.mailbox.model import CannotCalculateChanges, Mailbox, NoSuchAccount
from posthouse.mailbox.shares import Shared
from posthouse.store.database import Tx
from posthouse.wire.imap.notify import OF_MESSAGES, Event

# RFC 5465 §3.1, §5.9: it may be seen, or could be, and not be read.
_NO_ACCESS: Final = b"\\NoAccess"
_GONE: Final = b"\\NonExistent"


class Seen(NamedTuple):
    """Another's mailbox as the client knows it: its name, what may be done there ("": nothing any more, as it was
    told), whether it is subscribed to, and which uid came next when its messages were told of last."""

    path: str
    rights: str
    subscribed: bool
    uidnext: int

    @property
    def readable(self) -> bool:
        """May more be told of it than its name? RFC 5465 §5: that takes "l" and "r"; what has no "l" is not here."""
        return "r" in self.rights


class Line(NamedTuple):
    """A LIST response."""

    path: str
    attributes: list[bytes]
    oldname: str | None = None


class News(NamedTuple):
    """What is to be told of one account's mailboxes as they are at `until`: names; totals, with their modseqs where
    that is asked for; which entries are others."""

    until: int
    seen: dict[int, Seen]
    listed: Collection[Line] = ()
    counted: Collection[tuple[Mailbox, bool]] = ()
    noted: Collection[tuple[str, list[str]]] = ()


@dataclass(slots=True)
class Owner:
    """Another account, and how far it has been told of: up to the modseq `at`. `seen`: None where none of its mailboxes
    was looked at, for none was meant until the client subscribed to one; `mine`: those that this session subscribed to
    by then. `own`: the modseqs of the client's doing."""

    seen: dict[int, Seen] | None
    at: int = 0
    own: list[tuple[int, int]] = field(default_factory=list)
    mine: Collection[int] = ()

    def wanted(self, wishes: Wishes) -> bool:
        """Can anything still happen that is to be told?"""
        return any(
            wishes.means(one.path) or (one.subscribed and wishes.at(one.path, True))
            for one in (self.seen or {}).values()
        )


_Sight = tuple[dict[int, Shared], dict[int, Mailbox]]


def sharing(
    tx: Tx, client: int, known: Mapping[int, Mapping[int, Seen] | None], wishes: Wishes
) -> tuple[dict[int, bool], list[int]]:
    """Whose mailboxes may be meant, and whether that is so whatever is subscribed to; and those who are known, but
    share others now, or otherwise, or are called otherwise."""
    meant: dict[int, bool] = {}
    granted: dict[int, list[Shared]] = {}
    for one in shares.shared_with(tx, client):
        if "l" in one.rights:
            granted.setdefault(one.owner, []).append(one)
            named = wishes.means(_path(one))
            if named or (one.subscribed and wishes.subscribed):
                meant[one.owner] = named
    return meant, [owner for owner, seen in known.items() if not _as_known(granted.get(owner, ()), seen or {})]


def _as_known(granted: Iterable[Shared], seen: Mapping[int, Seen]) -> bool:
    now = {one.mailbox: one for one in granted}
    before = {id: one for id, one in seen.items() if one.rights}
    return now.keys() == before.keys() and all(_is_same(now[id], one) for id, one in before.items())


def _is_same(now: Shared, one: Seen) -> bool:
    # An account is called otherwise where its domain is renamed.
    return (now.rights, now.subscribed) == (one.rights, one.subscribed) and one.path.startswith(_path(now))


def _path(one: Shared, inner: str = "") -> str:
    """What the client calls the owner's mailbox of this name."""
    return f"{PREFIX}{one.name}{SEPARATOR}{inner}"


def _granted(tx: Tx, client: int, account: int) -> dict[int, Shared]:
    """What the client may see of this account's."""
    return {one.mailbox: one for one in shares.shared_with(tx, client, account) if "l" in one.rights}


def _seen(granted: Mapping[int, Shared], there: Mapping[int, Mailbox]) -> dict[int, Seen]:
    """The same as it stands in the account's list of mailboxes."""
    return {
        id: Seen(_path(one, there[id].path), one.rights, one.subscribed, there[id].uidnext)
        for id, one in granted.items()
        if id in there
    }


def standing(tx: Tx, client: int, account: int, wishes: Wishes) -> News:
    """How things stand with the account's mailboxes: which cannot be read, and the totals of the others."""
    granted = _granted(tx, client, account)
    there = {one.id: one for one in names.list_mailboxes(tx, account)}
    seen = _seen(granted, there)
    parents = _parents(seen)
    listed: list[Line] = []
    counted: list[tuple[Mailbox, bool]] = []
    for id, one in seen.items():
        events = wishes.at(one.path, one.subscribed)
        if events and not one.readable:
            # RFC 5465 §3.1
            listed.append(_line(one, parents))
        elif events & OF_MESSAGES:
            counted.append((_as_seen(there[id], one), Event.FLAG_CHANGE in events))
    return News(changes.states(tx, account).modseq if granted else 0, seen, listed, counted)


def look(tx: Tx, client: int, account: int, known: Owner, wishes: Wishes) -> News:
    """What is to be told of what has happened. Raises CannotCalculateChanges."""
    granted = _granted(tx, client, account)
    before = known.seen
    heard = _hear(tx, account, known, granted)
    there: dict[int, Mailbox] = {}
    if before is not None and not heard.renamed and _as_known(granted.values(), before):
        found = _Look(tx, account, wishes, heard, before, dict(before), there, set())
    else:
        there = {one.id: one for one in names.list_mailboxes(tx, account)}
        now = _seen(granted, there)
        if before is None:
            before = {id: one._replace(subscribed=one.subscribed and id in known.mine) for id, one in now.items()}
        found = _Look(tx, account, wishes, heard, before, now, there, _made(tx, account, known, heard))
        found.rename()
    found.count()
    if heard.annotated and wishes.annotations:
        found.note(known)
    return News(heard.until, found.now, found.listed(), found.counted, found.noted)


def _hear(tx: Tx, account: int, known: Owner, granted: Mapping[int, Shared]) -> Heard:
    """What has happened in the account, where the client could see any of it."""
    if any(one.rights for one in (known.seen or {}).values()):
        try:
            heard = changes.heard(tx, account, known.at, own=tuple(known.own), limit=limits.NOTIFY_CHANGES)
        except NoSuchAccount:
            # It has been removed, and all that it had with it.
            return _nothing(known.at)
        if heard.more:
            raise CannotCalculateChanges("too much has changed at once")
        return heard
    return _nothing(changes.states(tx, account).modseq if granted else known.at)


def _nothing(until: int) -> Heard:
    return Heard(until, False, set(), set(), set(), set(), False, False)


def _made(tx: Tx, account: int, known: Owner, heard: Heard) -> set[int]:
    """Mailboxes that the client itself made, removed or renamed, and nobody else."""
    if not (heard.renamed and known.own):
        return set()
    everyone = changes.heard(tx, account, known.at, heard.until, limit=limits.NOTIFY_CHANGES)
    return everyone.named - heard.named


class _Look:
    """One look at an account's mailboxes, within a transaction: what the client saw of them `before`, and sees `now`.
    `there`: all that the account has; `made`: those of which what happened was the client's doing."""

    def __init__(
        self,
        tx: Tx,
        account: int,
        wishes: Wishes,
        heard: Heard,
        before: Mapping[int, Seen],
        now: dict[int, Seen],
        there: Mapping[int, Mailbox],
        made: Collection[int],
    ) -> None:
        self._tx = tx
        self._account = account
        self._wishes = wishes
        self._heard = heard
        self._before = before
        self.now = now
        self._there = there
        self._made = made
        self._paths = {one.path: one for one in now.values() if one.rights}
        self._parents = _parents(now)
        self._names = {one.path for one in before.values()}
        self.gone: dict[str, Line] = {}
        self.lines: dict[str, Line] = {}
        self.counted: list[tuple[Mailbox, bool]] = []
        self.noted: list[tuple[str, list[str]]] = []
        # Those that may be read and could not be.
        self._gained: set[int] = set()

    # --- names

    def rename(self) -> None:
        """What came, went, is called otherwise, may be read or not any more, is subscribed to or not."""
        both = [(old, self.now[id]) for id, old in self._before.items() if old.rights and id in self.now]
        moved = {old.path: new.path for old, new in both if old.path != new.path}
        above: set[str] = set()
        for id in sorted(self._before.keys() | self.now.keys()):
            old, new = self._before.get(id), self.now.get(id)
            if old is None or not old.rights:
                if new is not None:
                    self._come(id, old, new, above)
                elif old is not None and id in self._there:
                    # What it was told to be it still is.
                    self.now[id] = old
            elif new is None:
                self._go(id, old, above)
            else:
                self._change(id, old, new, moved)
        for path in sorted(above):
            self._tell_above(path)

    def _come(self, id: int, old: Seen | None, new: Seen, above: set[str]) -> None:
        """RFC 5465 §5.4: who may see it now is told as if it had been made; §5.9: also who was told that it may not."""
        if id in self._made:
            return
        if new.readable:
            self._gained.add(id)
            # RFC 5465 §5.1: where another had this name, the client does not know yet that this one has another
            # UIDVALIDITY.
            self.now[id] = new._replace(uidnext=0 if new.path in self._names else 1)
        events = self._at(new)
        if Event.MAILBOX_NAME in events or (old is not None and events):
            self._tell(new)
        above.add(_parent(new.path))

    def _go(self, id: int, old: Seen, above: set[str]) -> None:
        """RFC 5465 §5.4: who may not see it any more is told as if it had been deleted; §5.9: and so is who did not ask
        for names."""
        events = self._at(old)
        if id in self._there:
            if events:
                self.now[id] = old._replace(rights="")
                self.gone[old.path] = Line(old.path, [_GONE, _NO_ACCESS])
        elif id in self._made:
            return
        elif Event.MAILBOX_NAME in events:
            self.gone[old.path] = Line(old.path, [_GONE])
        above.add(_parent(old.path))

    def _change(self, id: int, old: Seen, new: Seen, moved: Mapping[str, str]) -> None:
        events = self._at(new)
        if new.readable and not old.readable:
            self._gained.add(id)
            self.now[id] = new._replace(uidnext=1)
        elif new.readable and self._at(old) & OF_MESSAGES:
            self.now[id] = new._replace(uidnext=old.uidnext)
        renamed = old.path != new.path and id not in self._made and not _moved_along(old.path, new.path, moved)
        if renamed and Event.MAILBOX_NAME in events | self._at(old):
            # RFC 5465 §5.4: of each that can be listed, which takes "l" alone.
            self._tell(new, old.path)
        elif (
            # RFC 5465 §5.9
            (events and new.readable != old.readable)
            or (new.subscribed != old.subscribed and new.readable and Event.SUBSCRIPTION_CHANGE in events)
        ):
            self._tell(new)

    def _tell_above(self, path: str) -> None:
        """RFC 5465 §5.4: what is right above what came or went, whether or not it is a mailbox to the client."""
        there = self._paths.get(path)
        events = self._wishes.at(path, there is not None and there.subscribed)
        if path in self.lines or path in self.gone or Event.MAILBOX_NAME not in events:
            return
        if there is None:
            self.lines[path] = Line(path, _gap(path in self._parents))
        elif there.readable:
            self._tell(there)

    def _tell(self, one: Seen, oldname: str | None = None) -> None:
        self.lines[one.path] = _line(one, self._parents, oldname)

    def listed(self) -> list[Line]:
        """In the order in which a client can follow: it knows mailboxes by their names before it hears of others."""
        # What has the name of what is gone is told itself, unless the client made it.
        gone = [line for path, line in self.gone.items() if path not in self._paths or path in self.lines]
        # What is below others first; and what makes way for another, before that one.
        old = sorted([one.oldname for one in self.lines.values() if one.oldname], key=_depth, reverse=True)
        by_old = {one.oldname: one for one in self.lines.values() if one.oldname}
        pending = {name: by_old[name] for name in old}
        found: list[Line] = []
        while pending:
            chain: list[Line] = []
            name = next(iter(pending))
            while name in pending:
                chain.append(pending.pop(name))
                name = chain[-1].path
            found += reversed(chain)
        return [*gone, *found, *[one for one in self.lines.values() if not one.oldname]]

    def _at(self, one: Seen) -> frozenset[Event]:
        return self._wishes.at(one.path, one.subscribed)

    # --- messages and annotations

    def count(self) -> None:
        """Totals where something happened that is to be told (RFC 5465 §5.1 - §5.3)."""
        for id in sorted(self._heard.mailboxes | self._gained):
            one = self.now.get(id)
            if one is None or not one.readable:
                continue
            events = self._at(one)
            if not events & OF_MESSAGES:
                continue
            mailbox = names.get(self._tx, self._account, id)
            fresh = mailbox.uidnext > one.uidnext
            self.now[id] = one._replace(uidnext=mailbox.uidnext)
            changed = id in self._heard.changed and (fresh or Event.FLAG_CHANGE in events)
            if changed or id in self._heard.gone or (fresh and id in self._gained):
                self.counted.append((_as_seen(mailbox, one), False))

    def note(self, known: Owner) -> None:
        """Entries that others have changed (RFC 5465 §5.6): those that all see (RFC 5464 §3.3)."""
        found = changes.annotated(
            self._tx,
            self._account,
            known.at,
            self._heard.until,
            own=tuple(known.own),
            limit=limits.NOTIFY_CHANGES,
        )
        if found.more:
            raise CannotCalculateChanges("too many annotations have changed at once")
        for id in sorted(found.entries):
            one = self.now.get(id)
            if one is not None and one.readable and Event.MAILBOX_METADATA_CHANGE in self._at(one):
                entries = [entry for entry in found.entries[id] if not entry.startswith("/private/")]
                if entries:
                    self.noted.append((one.path, entries))


def _as_seen(mailbox: Mailbox, one: Seen) -> Mailbox:
    return replace(mailbox, path=one.path)


def _line(one: Seen, parents: Collection[str], oldname: str | None = None) -> Line:
    found = mark(None, parent=one.path in parents, subscribed=one.subscribed)
    return Line(one.path, found if one.readable else [_NO_ACCESS, b"\\Noselect", *found], oldname)


def _gap(parent: bool) -> list[bytes]:
    return [b"\\Noselect", _GONE, b"\\HasChildren"] if parent else [_GONE]


def _parents(seen: Mapping[int, Seen]) -> set[str]:
    return {_parent(one.path) for one in seen.values() if one.rights}


def _depth(path: str) -> int:
    return path.count(SEPARATOR)


def _parent(path: str) -> str:
    return path.rpartition(SEPARATOR)[0]


def _moved_along(old: str, new: str, moved: Mapping[str, str]) -> bool:
    """Has one above it been renamed, which takes it along?"""
    while True:
        old, _, last = old.rpartition(SEPARATOR)
        new, _, same = new.rpartition(SEPARATOR)
        if not old or last != same:
            return False
        if moved.get(old) == new:
            return True
