"""The model against a reference of plain dictionaries, over random changes: rows, totals of both kinds, the feed,
snapshots and a session's view."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from posthouse.mailbox import changes, emails, flagging, mailboxes, placing, retention, snapshot
from posthouse.mailbox.model import DELETED, KEYWORDS, Mailbox, MailboxError
from posthouse.mailbox.newest import Snapshots
from posthouse.store.database import Tx
from posthouse.terms.keywords import DRAFT, FLAGGED, SEEN
from tests.mailbox.support import INBOX, NOW, Db, file, make_account, message, told

FLAGS = st.sampled_from([0, SEEN, FLAGGED, DRAFT, SEEN | FLAGGED, SEEN | DRAFT, 1 << 20])


@dataclass
class Email:
    thread: int
    keywords: int
    size: int


@dataclass
class Box:
    path: str
    uids: dict[int, tuple[int, bool]] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What JMAP sees at one moment: emails with what can change in them, threads with their emails, mailboxes."""

    emails: dict[int, tuple[int, frozenset[int]]]
    threads: dict[int, frozenset[int]]
    mailboxes: dict[int, tuple[int | None, str]]


class Model(RuleBasedStateMachine):
    boxes = Bundle("boxes")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.db = Db(Path(self.directory.name))
        self.account = self.db.write(make_account)
        self.mail: dict[int, Email] = {}
        self.box: dict[int, Box] = {}
        self.past: dict[int, Seen] = {}
        self.expunged: dict[int, Email] = {}
        self.snapshots = Snapshots(self.db.store)
        self.view = self.db.runner.run(self.snapshots.open(self.account, INBOX))
        self.client: list[int] = []

    def teardown(self) -> None:
        self.db.close()
        self.directory.cleanup()

    @initialize(target=boxes)
    def standard(self) -> object:
        for mailbox in self.db.read(mailboxes.list_mailboxes, self.account):
            self.box[mailbox.id] = Box(mailbox.path)
        return multiple(INBOX, 5, 6)

    # changes ----------------------------------------------------------------------------------------------------------

    @rule(
        box=boxes, other=boxes, keywords=FLAGS, deleted=st.booleans(), subject=st.sampled_from("ab"),
        id=st.integers(0, 9), refs=st.lists(st.integers(0, 9), max_size=2),
    )  # fmt: skip
    def append(
        self, box: int, other: int, keywords: int, deleted: bool, subject: str, id: int, refs: list[int]
    ) -> None:
        places = [place for place in dict.fromkeys([box, other]) if place in self.box]
        if not places:
            return
        octets = message(subject, message_id=f"{id}@x", references=[f"{ref}@x" for ref in refs])
        prologue = b"Return-Path: <>\r\n"
        filed = self.db.write(
            file, self.account, octets, boxes=places, keywords=keywords, deleted=deleted, prologue=prologue
        )
        self.mail[filed.email] = Email(filed.thread, keywords, len(octets) + len(prologue))
        for place in places:
            assert filed.uids[place] not in self.box[place].uids
            self.box[place].uids[filed.uids[place]] = (filed.email, deleted)

    def pick(self, box: int, which: int) -> list[int]:
        """Some uids of a mailbox, by the bits of a number; now and then one that is not there."""
        return [uid for at, uid in enumerate(self.box[box].uids) if which >> (at % 8) & 1] + [999] * (which & 1)

    @rule(
        box=boxes, which=st.integers(1, 255), add=FLAGS, remove=st.one_of(FLAGS, st.just(KEYWORDS)),
        deleted=st.sampled_from([None, True, False]), back=st.sampled_from([None, 0, 1, 3]), told=st.booleans(),
    )  # fmt: skip
    def store(
        self, box: int, which: int, add: int, remove: int, deleted: bool | None, back: int | None, told: bool
    ) -> None:
        """`back`: with UNCHANGEDSINCE, so many modseqs ago. `told`: the sessions' snapshot is brought on by what the
        change says of itself."""
        if box not in self.box:
            return
        uids = self.pick(box, which)
        before = self.db.runner.run(self.snapshots.current(self.account, box))
        since = None if back is None else before.modseq - back
        least = 1 << 62 if since is None else since
        late = [uid for uid, modseq in zip(before.uids, before.modseqs, strict=True) if modseq > least]
        stored = self.db.write(
            flagging.store_flags, self.account, box, uids,
            now=NOW, add=add, remove=remove, deleted=deleted, unchanged_since=since,
        )  # fmt: skip
        assert stored.modified == [uid for uid in late if uid in uids]
        for uid in set(uids).intersection(self.box[box].uids).difference(stored.modified):
            email, was = self.box[box].uids[uid]
            self.mail[email].keywords = self.mail[email].keywords & ~remove | add
            self.box[box].uids[uid] = (email, was if deleted is None else deleted)
        if told and stored.only and stored.modseq is not None:
            keep = KEYWORDS & ~remove | (DELETED if deleted is None else 0)
            given = add | (DELETED if deleted else 0)
            self.snapshots.flagged(self.account, box, before.modseq, stored.modseq, stored.uids, keep, given)

    @rule(box=boxes, into=boxes, which=st.integers(1, 255))
    def copy(self, box: int, into: int, which: int) -> None:
        """Few at a time: a mailbox that is copied into itself again and again would have no end."""
        if box in self.box and into in self.box:
            pairs = self.db.write(placing.copy, self.account, box, self.pick(box, which)[-9:], into, NOW)
            placed = {new: self.box[box].uids[uid] for uid, new in pairs}
            assert not placed.keys() & self.box[into].uids.keys()
            self.box[into].uids.update(placed)

    @rule(box=boxes, into=boxes, which=st.integers(1, 255))
    def move(self, box: int, into: int, which: int) -> None:
        if box in self.box and into in self.box:
            wanted = {uid for uid in self.pick(box, which) if uid in self.box[box].uids}
            pairs = self.db.write(placing.move, self.account, box, self.pick(box, which), into, NOW)
            assert {uid for uid, _ in pairs} == wanted
            placed = {new: self.box[box].uids.pop(uid) for uid, new in pairs}
            self.box[into].uids.update(placed)

    @rule(box=boxes, which=st.integers(1, 255), only_deleted=st.booleans())
    def expunge(self, box: int, which: int, only_deleted: bool) -> None:
        if box not in self.box:
            return
        uids = self.pick(box, which)
        if only_deleted:
            gone = self.db.write(placing.expunge_deleted, self.account, box, NOW, uids)
            assert gone == sorted(uid for uid in uids if uid in self.box[box].uids and self.box[box].uids[uid][1])
        else:
            gone = self.db.write(placing.expunge, self.account, box, uids, NOW)
            assert gone == sorted(uid for uid in uids if uid in self.box[box].uids)
        for uid in gone:
            del self.box[box].uids[uid]
        self.drop_lost()

    def drop_lost(self) -> None:
        placed = {email for box in self.box.values() for email, _ in box.uids.values()}
        for email in [email for email in self.mail if email not in placed]:
            self.expunged[email] = self.mail.pop(email)

    @rule(target=boxes)
    def undelete(self) -> object:
        fresh = self.db.write(retention.undelete, self.account, list(self.expunged), NOW)
        assert fresh.keys() == self.expunged.keys()
        made = [one for one in self.db.read(mailboxes.list_mailboxes, self.account) if one.id not in self.box]
        self.box |= {one.id: Box(one.path) for one in made}
        for old, new in fresh.items():
            self.mail[new.email] = self.expunged.pop(old)
            for mailbox, uid, deleted in self.db.read(emails.placements, self.account, new.email):
                assert mailbox == new.mailbox
                self.box[mailbox].uids[uid] = (new.email, deleted)
        return multiple(*(one.id for one in made))

    # mailboxes --------------------------------------------------------------------------------------------------------

    @rule(target=boxes, names=st.lists(st.sampled_from(["p", "q", "r"]), min_size=1, max_size=3))
    def create(self, names: list[str]) -> object:
        path = "/".join(names)
        before = set(self.box)
        try:
            made = self.db.write(mailboxes.create, self.account, path, NOW)
        except MailboxError:
            assert path in {box.path for box in self.box.values()}
            return multiple()
        for mailbox in self.db.read(mailboxes.list_mailboxes, self.account):
            self.box.setdefault(mailbox.id, Box(mailbox.path))
        assert self.box[made].path == path
        return multiple(*sorted(set(self.box) - before))

    @rule(box=consumes(boxes).filter(lambda box: box > 6))
    def delete(self, box: int) -> None:
        path = self.box[box].path
        if any(other.path.startswith(f"{path}/") for other in self.box.values()):
            return
        self.db.write(mailboxes.delete, self.account, box, NOW)
        del self.box[box]
        self.drop_lost()

    @rule(target=boxes, box=boxes, names=st.lists(st.sampled_from(["p", "q", "s"]), min_size=1, max_size=2))
    def rename(self, box: int, names: list[str]) -> object:
        if box not in self.box:
            return multiple()
        path = "/".join(names)
        old = self.box[box].path
        try:
            self.db.write(mailboxes.rename, self.account, box, path, NOW)
        except MailboxError:
            taken = path in {other.path for other in self.box.values()}
            assert taken or f"{path}/".startswith(f"{old}/")
            return multiple()
        if box != INBOX:
            for other in self.box.values():
                if f"{other.path}/".startswith(f"{old}/"):
                    other.path = path + other.path[len(old) :]
        fresh = [m for m in self.db.read(mailboxes.list_mailboxes, self.account) if m.id not in self.box]
        for mailbox in fresh:
            self.box[mailbox.id] = Box(mailbox.path)
        if box == INBOX:
            made = next(m.id for m in fresh if m.path == path)
            self.box[made].uids = dict(enumerate(self.box[INBOX].uids.values(), 1))
            self.box[INBOX].uids = {}
        return multiple(*[mailbox.id for mailbox in fresh])

    # what must hold ---------------------------------------------------------------------------------------------------

    @invariant()
    def totals_are_what_a_recount_gives(self) -> None:
        if not self.box:
            return
        listed = {mailbox.id: mailbox for mailbox in self.db.read(mailboxes.list_mailboxes, self.account)}
        assert listed.keys() == self.box.keys()
        for id, box in self.box.items():
            self.check_totals(listed[id], box)
        used = self.db.rows("SELECT used_octets, used_emails FROM account_state WHERE account = ?", self.account)
        assert used == [(sum(email.size for email in self.mail.values()), len(self.mail))]
        miscounted = """SELECT id FROM message AS m WHERE emails <>
            (SELECT count(*) FROM email WHERE message = m.id) + (SELECT count(*) FROM expunged WHERE message = m.id)"""
        assert self.db.rows(miscounted) == []

    def check_totals(self, mailbox: Mailbox, box: Box) -> None:
        placed = [(self.mail[email], deleted) for email, deleted in box.uids.values()]
        shown = {email: self.mail[email] for email, deleted in box.uids.values() if not deleted}
        unread = [email for email in shown.values() if not email.keywords & (SEEN | DRAFT)]
        assert mailbox.path == box.path
        assert mailbox.uidnext > max(box.uids, default=0)
        assert (mailbox.messages, mailbox.unseen, mailbox.octets, mailbox.deleted, mailbox.deleted_octets) == (
            len(placed),
            sum(not email.keywords & SEEN for email, _ in placed),
            sum(email.size for email, _ in placed),
            sum(deleted for _, deleted in placed),
            sum(email.size for email, deleted in placed if deleted),
        )
        assert (mailbox.emails, mailbox.unread, mailbox.threads, mailbox.unread_threads) == (
            len(shown),
            len(unread),
            len({email.thread for email in shown.values()}),
            len({email.thread for email in unread}),
        )

    def seen(self) -> Seen:
        """What JMAP ought to see now."""
        where: dict[int, set[int]] = {}
        for id, box in self.box.items():
            for email, deleted in box.uids.values():
                if not deleted:
                    where.setdefault(email, set()).add(id)
        by_path = {box.path: id for id, box in self.box.items()}
        threads: dict[int, set[int]] = {}
        for email in where:
            threads.setdefault(self.mail[email].thread, set()).add(email)
        return Seen(
            {email: (self.mail[email].keywords, frozenset(boxes)) for email, boxes in where.items()},
            {thread: frozenset(members) for thread, members in threads.items()},
            {
                id: (by_path.get(box.path.rpartition("/")[0]), box.path.rpartition("/")[2])
                for id, box in self.box.items()
            },
        )

    @invariant()
    def the_feed_leads_from_every_past_to_now(self) -> None:
        if not self.box:
            return
        now = self.seen()
        modseq = self.db.read(changes.states, self.account).modseq
        for past, then in self.past.items():
            found = self.db.read(changes.since, self.account, past)
            assert (found.until, found.more) == (modseq, False)
            check_delta(found.emails, then.emails, now.emails)
            check_delta(found.threads, then.threads, now.threads)
            check_delta(found.mailboxes, then.mailboxes, now.mailboxes)
        self.past[modseq] = now
        while len(self.past) > 4:
            del self.past[sorted(self.past)[1]]

    @invariant()
    def snapshots_kept_up_to_date_equal_fresh_ones(self) -> None:
        for id, box in self.box.items():
            current = self.db.runner.run(self.snapshots.current(self.account, id))
            fresh = self.db.read(snapshot.load, self.account, id)
            assert columns(current) == columns(fresh)
            flags = {uid: self.mail[email].keywords | DELETED * deleted for uid, (email, deleted) in box.uids.items()}
            assert dict(zip(fresh.uids, fresh.flags, strict=True)) == flags
            assert all(modseq <= fresh.modseq for modseq in fresh.modseqs)

    @rule(expunged=st.booleans(), changed=st.booleans(), added=st.booleans())
    def a_session_hears(self, expunged: bool, changed: bool, added: bool) -> None:
        """The client's list of uids, kept by what it hears alone, is the view's; all told, it is the mailbox'."""
        assert [entry.uid for entry in self.view.everything()] == self.client
        if changed:
            for entry in told(self.view.announce_changed()):
                assert self.client[entry.seq - 1] == entry.uid
        if expunged:
            numbers, uids = self.view.announce_expunged()
            for number, uid in zip(reversed(numbers), reversed(uids), strict=True):
                assert self.client.pop(number - 1) == uid
        if added:
            for entry in self.view.announce_added():
                assert entry.seq == len(self.client) + 1
                self.client.append(entry.uid)
        assert [entry.uid for entry in self.view.everything()] == self.client
        for seq, uid in enumerate(self.client, 1):
            assert (self.view.seq(uid), self.view.uid(seq)) == (seq, uid)
            assert self.view.by_uid(uid, uid) == self.view.by_seq(seq, seq)
        if expunged and changed and added:
            assert not self.view.stale
            assert self.client == sorted(self.box[INBOX].uids)
            assert self.view.modseq == self.view.snapshot.modseq


def check_delta(delta: changes.Delta, then: Mapping[int, object], now: Mapping[int, object]) -> None:
    assert delta.destroyed == then.keys() - now.keys()
    assert delta.created == now.keys() - then.keys()
    both = then.keys() & now.keys()
    assert delta.updated <= both
    assert {id for id in both if then[id] != now[id]} <= delta.updated


def columns(s: snapshot.Snapshot) -> tuple[object, ...]:
    return s.uidvalidity, s.uidnext, s.modseq, list(s.uids), list(s.emails), list(s.flags), list(s.modseqs)


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_a_change_is_whole_or_not_at_all(tmp_path: Path) -> None:
    def half(tx: Tx, account: int) -> None:
        file(tx, account, message())
        raise MailboxError("the caller thought better of it")

    with Db(tmp_path) as db:
        account = db.write(make_account)
        before = db.read(changes.states, account)
        with pytest.raises(MailboxError):
            db.write(half, account)
        assert db.read(changes.states, account) == before
        assert db.rows("SELECT count(*) FROM message") == [(0,)]
