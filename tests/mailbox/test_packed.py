"""Mailboxes kept packed: what is read with their help is what placements say, whatever happened since, and whatever
died on the way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthouse.mailbox import flagging, mailboxes, packed, packer, placing, restored, retention, snapshot
from posthouse.mailbox.newest import Snapshots
from posthouse.mailbox.packer import Packer
from posthouse.mailbox.snapshot import Followed, Snapshot
from posthouse.store.database import Tx
from posthouse.terms.keywords import FLAGGED, SEEN
from tests.mailbox.support import ARCHIVE, INBOX, NOW, Db, file, make_account, message, told


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Db]:
    """An account with ten emails in its Inbox; three make a piece."""
    monkeypatch.setattr(packed, "PIECE", 3)
    monkeypatch.setattr(packer, "LEAST", 5)
    monkeypatch.setattr(packer, "ENOUGH", 4)
    with Db(tmp_path) as made:
        made.write(make_account)
        for _ in range(10):
            made.write(file, 1, message())
        yield made


def pack(db: Db, mailbox: int = INBOX) -> None:
    db.runner.run(Packer(db.store, Snapshots(db.store)).pack_mailbox(1, mailbox))


def read(db: Db, mailbox: int = INBOX) -> Followed:
    """As a process reads it that has just begun. It is what placements say."""
    found = db.read(snapshot.follow, 1, mailbox)
    assert rows(found.snapshot) == truth(db, mailbox)
    return found


def rows(s: Snapshot) -> list[tuple[int, ...]]:
    return list(zip(s.uids, s.emails, s.flags, s.modseqs, strict=True))


def truth(db: Db, mailbox: int) -> list[tuple[Any, ...]]:
    return db.read(lambda tx: tx.all("snapshot_load", account=1, mailbox=mailbox, after=0, limit=-1))


def pieces(db: Db) -> list[int]:
    return [row[0] for row in db.rows("SELECT id FROM packed_piece ORDER BY id")]


def sizes(db: Db, mailbox: int = INBOX) -> list[int]:
    found = db.read(packed.find, 1, mailbox)
    assert found is not None
    return [piece.size for piece in found.pieces]


def test_what_is_packed_is_not_looked_at_one_by_one(db: Db) -> None:
    assert read(db).looked == 10
    pack(db)
    assert read(db).looked == 0
    db.write(flagging.store_flags, 1, INBOX, [2], now=NOW, add=SEEN)
    db.write(placing.expunge, 1, INBOX, [5], NOW)
    db.write(file, 1, message())
    found = read(db)
    assert (found.looked, found.news, len(found.snapshot)) == (3, None, 10)


def test_only_what_has_changed_is_written_again(db: Db) -> None:
    pack(db)
    before = pieces(db)
    assert sizes(db) == [3, 3, 3, 1]
    db.write(flagging.store_flags, 1, INBOX, [5], now=NOW, add=SEEN)
    db.write(file, 1, message())
    pack(db)
    assert len(set(before) & set(pieces(db))) == 2
    assert sizes(db) == [3, 3, 3, 2]
    db.write(placing.expunge, 1, INBOX, [4, 5, 7], NOW)
    pack(db)
    # The first is as it was; what is left of the others is put together.
    assert pieces(db)[0] == before[0]
    assert sizes(db) == [3, 3, 2]
    read(db)


def test_nothing_is_done_where_nothing_has_changed(db: Db) -> None:
    pack(db)
    before = pieces(db)
    pack(db)
    assert pieces(db) == before


def test_what_has_become_small_is_not_kept(db: Db) -> None:
    pack(db)
    db.write(placing.expunge, 1, INBOX, list(range(1, 9)), NOW)
    # Half of what makes a mailbox large is two.
    pack(db)
    assert sum(sizes(db)) == 2
    db.write(placing.expunge, 1, INBOX, [9], NOW)
    db.runner.run(Packer(db.store, Snapshots(db.store)).pack([1]))
    assert (pieces(db), db.read(packed.find, 1, INBOX)) == ([], None)
    assert read(db).looked == 1


def test_what_does_not_fit_is_not_believed_and_made_anew(db: Db) -> None:
    for damage in (
        "UPDATE packed_piece SET octets = zeroblob(length(octets)) WHERE id = (SELECT max(id) FROM packed_piece)",
        "UPDATE packed_piece SET octets = x'00'",
        "DELETE FROM packed_piece WHERE id = (SELECT min(id) FROM packed_piece)",
        "UPDATE packed_mailbox SET pieces = '[]'",
        "UPDATE packed_mailbox SET uidvalidity = uidvalidity + 1",
        "UPDATE packed_mailbox SET modseq = modseq + 1000",
    ):
        pack(db)
        assert read(db).looked == 0
        db.write(lambda tx, sql: tx.query(sql, ()), damage)
        assert read(db).looked == 10, damage
        pack(db)
        assert read(db).looked == 0, damage


def test_a_death_between_two_writes_leaves_what_was(db: Db) -> None:
    pack(db)
    before = pieces(db)
    db.write(flagging.store_flags, 1, INBOX, [1, 9], now=NOW, add=SEEN)
    db.write(packed.put, 1, INBOX, [b"half"])
    assert (read(db).looked, len(pieces(db))) == (2, len(before) + 1)
    pack(db)
    # What nothing names is gone with the next packing.
    assert len(pieces(db)) == len(sizes(db))
    read(db)


def test_of_two_who_pack_at_once_one_prevails(db: Db) -> None:
    pack(db)
    old = db.read(packed.find, 1, INBOX)
    assert old is not None
    db.write(flagging.store_flags, 1, INBOX, [1], now=NOW, add=SEEN)
    pack(db)
    new = db.read(packed.find, 1, INBOX)
    assert not db.write(packed.name, 1, INBOX, old.modseq, old)
    # Nor does one whose pieces another took away.
    assert new is not None
    db.write(lambda tx: tx.query("DELETE FROM packed_piece WHERE id = ?", (new.pieces[0].id,)))
    assert not db.write(packed.name, 1, INBOX, new.modseq, new)
    assert db.read(packed.find, 1, INBOX) == new


def test_changes_that_are_forgotten(db: Db) -> None:
    pack(db)
    # Nothing has changed since: what is forgotten does not matter.
    db.write(file, 1, message(), boxes=[ARCHIVE])
    db.write(retention.expire_changes, 1, NOW + 1)
    assert read(db).looked == 0
    db.write(placing.expunge, 1, INBOX, [3], NOW)
    db.write(file, 1, message(), boxes=[ARCHIVE])
    db.write(retention.expire_changes, 1, NOW + 1)
    assert read(db).looked == 9


def test_mail_that_came_back_from_a_backup(db: Db) -> None:
    pack(db)
    db.write(restored.leap, 1, NOW)
    assert read(db).looked == 10
    pack(db)
    assert read(db).looked == 0


def test_it_goes_with_the_mailbox(db: Db) -> None:
    made = db.write(mailboxes.create, 1, "a", NOW)
    for _ in range(5):
        db.write(file, 1, message(), boxes=[made])
    pack(db, made)
    pack(db)
    mine = len(sizes(db))
    db.write(mailboxes.delete, 1, made, NOW)
    assert db.read(packed.find, 1, made) is None
    while db.write(packed.sweep):
        pass
    assert len(pieces(db)) == mine
    db.write(lambda tx: tx.query("DELETE FROM account", ()))
    while db.write(packed.sweep):
        pass
    assert pieces(db) == []


def test_what_is_worth_packing(db: Db) -> None:
    """A large mailbox that was not, or in which much has changed."""
    snapshots = Snapshots(db.store)
    worker = Packer(db.store, snapshots)
    db.write(file, 1, message(), boxes=[ARCHIVE])
    db.runner.run(worker.pack([2]))
    assert pieces(db) == []
    db.runner.run(worker.pack([0]))
    assert db.rows("SELECT mailbox, messages FROM packed_mailbox") == [(INBOX, 10)]
    db.write(placing.expunge, 1, INBOX, [1, 2, 3], NOW)
    db.runner.run(worker.pack([1]))
    assert db.rows("SELECT messages FROM packed_mailbox") == [(10,)]
    db.write(placing.expunge, 1, INBOX, [4, 5], NOW)
    db.runner.run(worker.pack([1]))
    assert db.rows("SELECT messages FROM packed_mailbox") == [(5,)]


def test_what_sessions_had_to_look_up_is_packed(db: Db) -> None:
    """Many flags are one change, which no number tells."""
    snapshots = Snapshots(db.store)
    worker = Packer(db.store, snapshots)
    view = db.runner.run(snapshots.open(1, INBOX))
    db.runner.run(worker.pack([]))
    assert read(db).looked == 0
    db.write(flagging.store_flags, 1, INBOX, [1, 2, 3, 4, 5], now=NOW, add=FLAGGED)
    db.runner.run(snapshots.refresh(view))
    db.runner.run(worker.pack([]))
    assert read(db).looked == 0
    # It is packed from what the process has: that is still what it was.
    assert len(told(view.announce_changed())) == 5


def test_what_a_session_says_that_it_changed_is_packed(db: Db) -> None:
    snapshots = Snapshots(db.store)
    worker = Packer(db.store, snapshots)
    before = db.runner.run(snapshots.open(1, INBOX)).modseq
    db.runner.run(worker.pack([]))
    done = db.write(flagging.store_flags, 1, INBOX, [1, 2, 3, 4, 5], now=NOW, add=FLAGGED)
    assert done.modseq is not None
    snapshots.flagged(1, INBOX, before, done.modseq, done.uids, -1, FLAGGED)
    assert read(db).looked == 5
    db.runner.run(worker.pack([]))
    assert read(db).looked == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["file", "flag", "delete", "expunge", "move", "copy", "undelete", "forget", "pack", "half"]),
        st.integers(1, 255),
    ),
    max_size=25,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=STEPS)
def test_after_any_changes_it_is_what_placements_say(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "PIECE", 3)
    with Db(tmp_path_factory.mktemp("store")) as db:
        db.write(make_account)
        for _ in range(8):
            db.write(file, 1, message())
        snapshots = Snapshots(db.store)
        for step, which in steps:
            db.write(carry_out, step, which)
            if step == "pack":
                pack(db)
            for mailbox in (INBOX, ARCHIVE):
                read(db, mailbox)
                assert rows(db.runner.run(snapshots.current(1, mailbox))) == truth(db, mailbox)


def carry_out(tx: Tx, step: str, which: int) -> None:
    there = [row[0] for row in tx.all("snapshot_load", account=1, mailbox=INBOX, after=0, limit=-1)]
    some = [uid for at, uid in enumerate(there) if which >> (at % 8) & 1]
    match step:
        case "file":
            file(tx, 1, message(), boxes=[INBOX, ARCHIVE] if which & 1 else [INBOX])
        case "flag":
            flagging.store_flags(tx, 1, INBOX, some, now=NOW, add=SEEN if which & 2 else 0, remove=SEEN | FLAGGED)
        case "delete":
            flagging.store_flags(tx, 1, INBOX, some, now=NOW, deleted=bool(which & 1))
        case "expunge":
            placing.expunge(tx, 1, INBOX, some, NOW)
        case "move":
            placing.move(tx, 1, INBOX, some, ARCHIVE, NOW)
        case "copy":
            # Few at a time: a mailbox that is copied into itself again and again would fill the disk.
            placing.copy(tx, 1, INBOX, some[:8], INBOX if which & 1 else ARCHIVE, NOW)
        case "undelete":
            gone = [row[0] for row in tx.query("SELECT email FROM expunged WHERE account = 1", ())]
            retention.undelete(tx, 1, gone, NOW)
        case "forget":
            retention.expire_changes(tx, 1, NOW + 1)
        case "half":
            packed.put(tx, 1, INBOX, [bytes(24)])
