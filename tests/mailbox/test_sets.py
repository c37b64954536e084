"""Changes of runs of emails, by seed, against plain dictionaries: who came together is changed in one go, and that must
come to the same as one by one."""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from posthouse.mailbox import changes, flagging, placing, snapshot
from posthouse.mailbox.model import DELETED, KEYWORDS
from posthouse.terms.keywords import DRAFT, FLAGGED, SEEN
from tests.mailbox.support import ARCHIVE, INBOX, NOW, TRASH, Db, file, make_account, message

BOXES = (INBOX, TRASH, ARCHIVE)

RECOUNT = """
SELECT count(*), total(keywords & 1 = 0), total(size), total(deleted), total(deleted * size),
  count(DISTINCT CASE WHEN deleted = 0 THEN e.id END),
  count(DISTINCT CASE WHEN deleted = 0 AND keywords & 9 = 0 THEN e.id END),
  count(DISTINCT CASE WHEN deleted = 0 THEN thread END),
  count(DISTINCT CASE WHEN deleted = 0 AND keywords & 9 = 0 THEN thread END)
FROM placement AS p JOIN email AS e ON e.account = p.account AND e.id = p.email WHERE p.mailbox = ?
"""
KEPT = """
SELECT messages, unseen, octets, deleted, deleted_octets, emails, unread, threads, unread_threads
FROM mailbox WHERE id = ?
"""


@dataclass
class Place:
    email: int
    deleted: bool
    modseq: int


@dataclass
class Mail:
    """What is where, by uid, and which keywords the emails have."""

    db: Db
    random: Random
    boxes: dict[int, dict[int, Place]] = field(default_factory=lambda: {box: {} for box in BOXES})
    keywords: dict[int, int] = field(default_factory=dict)

    @property
    def modseq(self) -> int:
        return self.db.read(changes.states, 1).modseq

    def file(self) -> None:
        random = self.random
        keywords = random.choice([0, 0, SEEN, DRAFT, FLAGGED])
        refs = [f"{random.randint(0, 9)}@x"] if random.random() < 0.5 else []
        octets = message("a", message_id=f"{random.randint(0, 9)}@x", references=refs)
        filed = self.db.write(file, 1, octets, boxes=[INBOX], keywords=keywords)
        self.keywords[filed.email] = keywords
        self.boxes[INBOX][filed.uids[INBOX]] = Place(filed.email, False, self.modseq)

    def some(self, box: int) -> list[int]:
        """A run of uids, mostly; now and then with a gap, or with one that is not there."""
        there = sorted(self.boxes[box])
        if not there:
            return [1]
        start = self.random.randrange(len(there))
        found = there[start : start + self.random.choice([1, 3, 20])]
        if self.random.random() < 0.2:
            found = self.random.sample(found, len(found) // 2 + 1)
        return [*found, 9999] if self.random.random() < 0.1 else found

    def store(self, box: int, uids: list[int]) -> None:
        add, remove = (self.random.choice([0, SEEN, FLAGGED, DRAFT]) for _ in range(2))
        deleted = self.random.choice([None, None, None, True, False])
        since = self.modseq - self.random.randint(0, 5) if self.random.random() < 0.2 else None
        there = {uid: place for uid, place in self.boxes[box].items() if uid in uids}
        late = sorted([uid for uid, place in there.items() if since is not None and place.modseq > since])
        before = self.modseq
        stored = self.db.write(
            flagging.store_flags, 1, box, uids, now=NOW, add=add, remove=remove, deleted=deleted, unchanged_since=since
        )
        assert stored.modified == late
        for uid in there.keys() - set(late):
            place = there[uid]
            new = self.keywords[place.email] & KEYWORDS & ~remove | add
            if new != self.keywords[place.email]:
                self.keywords[place.email] = new
                every = [one for box in BOXES for one in self.boxes[box].values() if one.email == place.email]
                for one in every:
                    one.modseq = self.modseq
            if deleted is not None and deleted != place.deleted:
                place.deleted, place.modseq = deleted, self.modseq
        seen = {one.email for place in self.boxes.values() for one in place.values() if not one.deleted}
        assert self.db.read(changes.since, 1, before).emails.updated <= seen

    def copy(self, box: int, uids: list[int], target: int) -> None:
        pairs = self.db.write(placing.copy, 1, box, uids, target, NOW)
        self.place(target, [(there, self.boxes[box][here]) for here, there in pairs])

    def move(self, box: int, uids: list[int], target: int) -> None:
        pairs = self.db.write(placing.move, 1, box, uids, target, NOW)
        assert [here for here, _ in pairs] == sorted(set(uids) & self.boxes[box].keys())
        self.place(target, [(there, self.boxes[box].pop(here)) for here, there in pairs])

    def place(self, target: int, placed: list[tuple[int, Place]]) -> None:
        self.boxes[target].update({uid: Place(one.email, one.deleted, self.modseq) for uid, one in placed})

    def expunge(self, box: int, uids: list[int]) -> None:
        gone = self.db.write(placing.expunge, 1, box, uids, NOW)
        assert sorted(gone) == sorted(set(uids) & self.boxes[box].keys())
        for uid in gone:
            del self.boxes[box][uid]

    def check(self) -> None:
        for box in BOXES:
            found = self.db.read(snapshot.load, 1, box)
            rows = list(zip(found.uids, found.emails, found.flags, found.modseqs, strict=True))
            assert rows == [
                (uid, one.email, self.keywords[one.email] | one.deleted * DELETED, one.modseq)
                for uid, one in sorted(self.boxes[box].items())
            ]
            assert self.db.rows(KEPT, box) == self.db.rows(RECOUNT, box)


@pytest.mark.parametrize("seed", range(8))
def test_runs_of_emails(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    with Db(tmp_path) as db:
        db.write(make_account)
        mail = Mail(db, random)
        for _ in range(12):
            mail.file()
        for _ in range(40):
            box, target = random.choice([INBOX, INBOX, ARCHIVE]), random.choice(BOXES)
            uids = mail.some(box)
            match random.choices(["store", "copy", "move", "expunge", "file"], [12, 3, 4, 1, 2])[0]:
                case "store":
                    mail.store(box, uids)
                case "copy":
                    mail.copy(box, uids, target)
                case "move":
                    mail.move(box, uids, target)
                case "expunge":
                    mail.expunge(box, uids)
                case _:
                    mail.file()
            mail.check()
