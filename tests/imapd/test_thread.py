"""Conversations that are kept and mended, against such that are made afresh, while mail comes and goes."""

import gc
from array import array
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.imapd import forest, thread
from posthouse.imapd.forest import Forest, joined, mended, packed
from posthouse.mailbox import columns, conversations, kin, parted, placing
from posthouse.mailbox.columns import Columns, Texts
from posthouse.mailbox.conversations import Member
from posthouse.mailbox.kept import Kept
from posthouse.mailbox.kin import Kin
from posthouse.mailbox.scan import Sight
from posthouse.mailbox.snapshot import Snapshot
from posthouse.wire.imap.finding import Algorithm
from tests.doors.house import House, in_house, message
from tests.mailbox.support import INBOX, NOW, Looked, file


class Case(Looked):
    """A mailbox whose messages are linked at random; what is looked at is kept in one place."""

    def file(self) -> None:
        random = self.random
        ids = [f"<{random.randint(1, 40)}@x>" for _ in range(random.choice([0, 0, 1, 2, 3]))]
        octets = (
            f"Subject: {random.choice(['', 'Re: '])}{random.choice(['', '', 'a', 'b', 'c', 'd', 'ab'])}\r\n"
            f"Message-ID: <{random.randint(1, 40)}@x>\r\nReferences: {' '.join(ids)}\r\n"
            f"Date: Thu, {random.randint(1, 9):02} Jan 2026 09:00:00 +0000\r\n\r\n"
        ).encode()
        self.db.write(file, self.account, octets, at=NOW)

    def expunge(self, snapshot: Snapshot, count: int) -> None:
        gone = self.random.sample(list(snapshot.uids), min(count, len(snapshot)))
        if gone:
            self.db.write(placing.expunge, self.account, INBOX, sorted(gone), NOW)

    def grown(self, snapshot: Snapshot, uids: "array[int]", *, afresh: bool = False) -> Forest:
        columns = Columns(self.db.store) if afresh else self.columns
        return self.db.runner.run(thread.grown(Sight(snapshot, columns), uids, Algorithm.REFERENCES))


@pytest.mark.parametrize("seed", range(4))
def test_what_is_mended_is_what_would_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    case = Case(tmp_path, seed)
    random = case.random
    mendings: list[bool] = []
    mend = thread._mended

    async def noting(sight: Sight, uids: "array[int]", before: Forest) -> Forest | None:
        found = await mend(sight, uids, before)
        mendings.append(found is not None)
        return found

    monkeypatch.setattr(thread, "_mended", noting)
    if seed % 2:
        for module, name in ((thread, "_MUCH"), (forest, "_STEP"), (conversations, "_AT_ONCE"), (parted, "PART")):
            monkeypatch.setattr(module, name, 5)
    for _ in range(30):
        case.file()
    # Two sessions, of which the second is often behind.
    views = [case.snapshot(), case.snapshot()]
    for _ in range(50):
        for _ in range(random.choice([0, 1, 1, 3])):
            case.file()
        case.expunge(views[0], random.choice([0, 0, 1, 2]))
        if random.random() < 0.4:
            views[1] = case.snapshot()
        views[0] = case.snapshot()
        view = random.choice(views)
        uids = view.uids[:]
        if random.random() < 0.3:
            uids = array("I", [uid for uid in uids if random.random() < 0.95])
        expected = case.grown(view, uids, afresh=True)
        found = case.grown(view, uids)
        if len(expected.uids) == len(uids):
            # A column that is read later has not what is gone by then.
            assert (found.uids, found.places, found.trees) == (expected.uids, expected.places, expected.trees)
    assert mendings.count(True) > 10
    assert gc.isenabled()
    case.db.close()


def test_what_is_told_by_another_number_is_the_same_forest(tmp_path: Path) -> None:
    case = Case(tmp_path, 5)
    for _ in range(10):
        case.file()
    case.expunge(case.snapshot(), 3)
    snapshot = case.snapshot()
    found = case.grown(snapshot, snapshot.uids)
    assert case.grown(snapshot, snapshot.uids) is found
    by_uid = b"".join(found.pieces(list(snapshot.uids)))
    by_seq = b"".join(found.pieces(range(1, len(snapshot) + 1)))
    names = {b"%d" % number: b"%d" % uid for number, uid in enumerate(snapshot.uids, 1)}
    pieces = by_seq.replace(b"(", b" ( ").replace(b")", b" ) ").split()
    assert [names.get(piece, piece) for piece in pieces] == by_uid.replace(b"(", b" ( ").replace(b")", b" ) ").split()
    case.db.close()


def test_conversations_outlive_columns(tmp_path: Path) -> None:
    """A column that is read anew has not what has gone meanwhile, of which a session has not heard."""
    case = Case(tmp_path, 5)
    for subject in ("a", "same", "b", "same", "c"):
        case.db.write(file, case.account, f"Subject: {subject}\r\n\r\n".encode())
    case.grown(case.snapshot(), case.snapshot().uids)
    kept, case.columns = case.columns.kept, Columns(case.db.store)
    case.columns.kept = kept
    case.db.write(file, case.account, b"Subject: d\r\n\r\n")
    before = case.snapshot()
    case.db.runner.run(Sight(before, case.columns).column(columns.LINKS))
    case.db.write(placing.expunge, case.account, INBOX, [4], NOW)
    case.grown(before, before.uids)
    now = case.snapshot()
    found, expected = case.grown(now, now.uids), case.grown(now, now.uids, afresh=True)
    assert (found.uids, found.places, found.trees) == (expected.uids, expected.places, expected.trees)
    case.db.close()


def test_hostile_mail_is_not_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, 6)
    for _ in range(20):
        case.file()
    snapshot = case.snapshot()
    assert case.grown(snapshot, snapshot.uids, afresh=True).room is not None
    monkeypatch.setattr(conversations, "_PLACES", 1)
    monkeypatch.setattr(conversations, "_PLACES_EACH", 0)
    assert case.grown(snapshot, snapshot.uids, afresh=True).room is None
    case.db.close()


def test_much_that_came_or_hangs_together_is_made_afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, 7)
    for _ in range(20):
        case.file()
    first = case.snapshot()
    forest_ = case.grown(first, first.uids)
    case.file()
    second = case.snapshot()
    mend = thread._mended(Sight(second, case.columns), second.uids, forest_)
    assert case.db.runner.run(mend) is not None
    for module, bound in ((thread, "_FEW"), (kin, "_NAMES")):
        with monkeypatch.context() as patch:
            patch.setattr(module, bound, 0)
            assert case.db.runner.run(thread._mended(Sight(second, case.columns), second.uids, forest_)) is None
    case.db.close()


MAIL = st.lists(
    st.tuples(
        st.integers(0, 6), st.lists(st.integers(1, 6), max_size=3), st.sampled_from([b"", b"A", b"B"]), st.booleans(),
        st.integers(0, 3),
    ),
    max_size=12,
)  # fmt: skip


@given(MAIL, st.data())
def test_trees_taken_out_and_put_in_again(
    mail: list[tuple[int, list[int], bytes, bool, int]], data: st.DataObject
) -> None:
    roots = conversations.by_references(
        [
            Member(number, sent, subject, reply, id, names)
            for number, (id, names, subject, reply, sent) in enumerate(mail, 1)
        ]
    )
    whole = packed(roots)
    chosen = data.draw(st.lists(st.booleans(), min_size=len(roots), max_size=len(roots)))
    trees = list(range(len(roots)))
    out = [tree for tree in trees if chosen[tree]]
    parts = [whole.part(tree, tree + 1) for tree in trees]
    assert joined(parts) == whole == whole.part(0, len(roots))
    rest = joined([parts[tree] for tree in trees if not chosen[tree]])
    new = joined([parts[tree] for tree in out])
    assert mended(whole, out, joined([])) == rest
    assert mended(rest, [], new) == whole
    assert mended(whole, out, new) == whole
    assert whole.without({whole.order[whole.starts[tree]] for tree in out}) == out


@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)), st.sampled_from([1, 2, 16_384]))
def test_what_has_come_and_gone(before: set[int], now: set[int], step: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thread, "_STEP", step)
        apart = thread._apart(array("I", sorted(before)), array("I", sorted(now)))
    expected = now - before, before - now
    assert apart == (expected if sum(map(len, expected)) <= thread._FEW else None)


@given(MAIL)
def test_much_mail_is_put_together_as_little_is(mail: list[tuple[int, list[int], bytes, bool, int]]) -> None:
    members = [
        Member(number, sent, subject, reply, id, names)
        for number, (id, names, subject, reply, sent) in enumerate(mail, 1)
    ]
    for put_together in (conversations.by_references, conversations.by_ancestors, conversations.by_subject):
        little = packed(put_together(members))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(conversations, "_AT_ONCE", 2)
            roots = put_together(members)
            assert packed(roots) == little
            conversations.part(roots)
            assert roots == []


def test_kin() -> None:
    def links(own: int, *others: int) -> bytes:
        return b"\1" + b"".join([number.to_bytes(8, "big") for number in (own, *others)])

    subjects = Texts()
    subjects.add([(1, "A"), (2, ""), (3, "AB"), (5, "A"), (6, ""), (7, "B"), (9, "")])
    # The octets of an id that stand across two others are no id. No id is nobody's.
    linked = [links(1), links(2, 1), links(0), links(3 << 8), links(0, 4 << 56), links(0x0300, 9), links(0)]
    made = Kin([1, 2, 3, 5, 6, 7, 9], linked, subjects)
    assert made.of([0]) == {0, 1, 3, 5}
    assert made.of([1]) == {0, 1, 3, 5}
    assert made.of([2]) == {2}
    assert made.of([4, 6]) == {4, 6}


def test_deep_and_hostile_trees_are_packed() -> None:
    chain = [Member(n, n, b"", False, n, [n - 1] if n > 1 else []) for n in range(1, 3000)]
    trees = packed(conversations.by_references(chain))
    assert trees.form % tuple(trees.order) == b"(" + b" ".join([b"%d" % n for n in range(1, 3000)]) + b")"
    assert forest.packed([]) == joined([])


def test_two_clients_are_told_what_would_be_made_afresh(tmp_path: Path) -> None:
    """One changes the mailbox, the other asks by numbers and by uids, also where it has not heard yet of what went."""
    random = Random(8)
    asked = [
        f"{uid}{command}"
        for uid in ("", "UID ")
        for command in (
            "SORT (SUBJECT) UTF-8 ALL",
            "SORT (REVERSE SUBJECT SIZE) UTF-8 UNFLAGGED",
            "THREAD REFERENCES UTF-8 ALL",
            "THREAD REFS UTF-8 UNFLAGGED",
            "SEARCH UNFLAGGED",
            "SEARCH SUBJECT coach",
        )
    ]

    async def test(house: House) -> None:
        for number in range(12):
            await house.file(message(number % 4))
        client, other = await house.imap(), await house.imap()
        for number in range(20):
            await house.file(message(number % 5))
            await other.ok("NOOP")
            await other.ok(f"STORE {random.randint(1, 5)} +FLAGS.SILENT (\\Flagged)")
            if number % 3 == 0:
                await other.ok(f"STORE {random.randint(1, 5)} +FLAGS.SILENT (\\Deleted)")
                await other.ok("EXPUNGE")
            for command in random.sample(asked, 4):
                # News first; but not of what went, where numbers are told.
                await client.ok(command)
                told = await client.ok(command)
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(Kept, "get", lambda *_: None)
                    assert await client.ok(command) == told

    in_house(tmp_path, test)
