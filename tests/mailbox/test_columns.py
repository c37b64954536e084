"""Columns of a mailbox: what is read once, and what it answers."""

import asyncio
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailbox import columns, placing
from posthouse.mailbox.columns import HEAD, UNSURE, Columns, Joined, Lists, Numbers, Texts
from posthouse.store.database import StoreUnavailable
from tests.mailbox.support import INBOX, NOW, Db, file, make_account, message

LINES = st.lists(st.text(alphabet="abé日\U0001f600 ", max_size=6))


@given(
    lines=LINES, needle=st.text(alphabet="abé日\U0001f600 ", min_size=1, max_size=3), sizes=st.lists(st.integers(1, 4))
)
def test_a_string_is_found_in_the_lines_that_have_it(lines: list[str], needle: str, sizes: list[int]) -> None:
    texts = Texts()
    rows = [(3 * number + 1, line) for number, line in enumerate(lines)]
    at = 0
    for size in [*sizes, len(rows)]:
        texts.add(rows[at : at + size])
        at += size
    found = [uid for some in texts.containing(needle) for uid in some]
    assert found == [uid for uid, line in rows if needle in line]
    for low, high in ((5, 12), (0, 3), (11, 99)):
        some = [uid for uids in texts.containing(needle, low, high) for uid in uids]
        assert some == [uid for uid in found if low <= uid <= high]
    uids = [uid for uid, _ in rows]
    assert texts.of(uids) == [line.encode() for line in lines]
    assert texts.of(uids[1::2]) == [line.encode() for line in lines[1::2]]
    assert texts.octets >= sum(len(line.encode()) for line in lines)


@given(lines=LINES, sizes=st.lists(st.integers(1, 4)))
def test_lines_that_come_joined_are_the_same_column(lines: list[str], sizes: list[int]) -> None:
    one, other = Texts(), Texts()
    uids = array("I", [3 * number + 1 for number in range(len(lines))])
    at = 0
    for size in [*sizes, len(lines)]:
        some, texts = uids[at : at + size], lines[at : at + size]
        one.add(list(zip(some, texts, strict=True)))
        if some:
            other.add_joined(Joined.of(some, "\n".join(texts).encode()))
        at += size
    assert one.of(uids) == other.of(uids) == [line.encode() for line in lines]
    assert one.octets == other.octets
    assert one.uids == other.uids


def test_a_line_that_may_go_on_is_not_sure() -> None:
    texts = Texts()
    # Of one in octets perhaps half a character.
    lines = [b"x" * (HEAD - 1), b"y" + "é".encode() * (HEAD // 2), b"", "é".encode() * (HEAD // 2 - 1), b"x" * HEAD]
    lines[1] = lines[1][:HEAD]
    texts.add_joined(Joined.of(array("I", [1, 2, 5, 7, 9]), b"\n".join(lines)))
    assert texts.unsure == {2, 9}
    assert texts.of([1, 2, 5, 7, 9]) == [lines[0], b"", b"", lines[3], b""]
    assert texts.octets > 2 * HEAD


def test_what_is_not_there_is_told_apart() -> None:
    texts = Texts()
    texts.add([(2, "one"), (5, UNSURE)])
    assert texts.of([1, 2, 5, 6]) == [None, b"one", b"", None]
    assert texts.unsure == {5}
    numbers = Numbers()
    numbers.add([(2, 20), (5, -50)])
    assert numbers.of([2, 3, 5]) == [20, None, -50]
    lists = Lists()
    lists.add([(7, b"x")])
    assert lists.of([7, 8]) == [b"x", None]
    assert Numbers().of([]) == []


def _filled(directory: Path, count: int) -> tuple[Db, int]:
    db = Db(directory)
    account = db.write(make_account)
    for number in range(count):
        db.write(file, account, message(f"Number {number}"))
    return db, account


def test_a_column_is_read_once_and_then_added_to(tmp_path: Path) -> None:
    db, account = _filled(tmp_path, 5)
    kept = Columns(db.store)

    async def look(upto: int) -> list[list[bytes | None]]:
        # Two who ask at once share one column.
        both = await asyncio.gather(*[kept.get(account, INBOX, 1, columns.SORTING[0], upto) for _ in range(2)])
        assert both[0] is both[1]
        return [list(one.of(range(1, upto + 1))) for one in both if isinstance(one, Texts)]

    assert db.runner.run(look(5))[0] == [b"NUMBER %d" % number for number in range(5)]
    db.write(file, account, message("Another"))
    assert db.runner.run(look(6))[1][4:] == [b"NUMBER 4", b"ANOTHER"]
    db.close()


def test_subjects_are_read_by_two_who_share_the_mailbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BLOCK", 3)
    db, account = _filled(tmp_path, 20)
    gone = [1, 4, 5, 6, 7, 12, 20]
    db.write(placing.expunge, account, INBOX, gone, NOW)
    left = [uid for uid in range(1, 21) if uid not in gone]

    async def look(upto: int) -> Texts:
        both = await asyncio.gather(*[kept.get(account, INBOX, 1, columns.HEADS[b"subject"], upto) for _ in range(2)])
        assert both[0] is both[1]
        assert isinstance(both[0], Texts)
        return both[0]

    for first in (1, 2, 3, 11, 13, 19, 20, 25):
        kept = Columns(db.store)
        for upto in (first, 19, 20):
            texts = db.runner.run(look(upto))
            assert list(texts.uids)[: len(left)] == left[: len(texts.uids)]
            assert texts.of(left)[: len(texts.uids)] == [b"number %d" % (uid - 1) for uid in left[: len(texts.uids)]]
        assert list(texts.uids) == left
    db.write(file, account, message("Grüße"))
    assert db.runner.run(look(21)).one(21) == "grüsse".encode()
    empty = db.runner.run(kept.get(account, INBOX + 1, 1, columns.HEADS[b"subject"], 7))
    assert list(empty.uids) == []
    db.close()


def test_messages_that_say_nothing_of_themselves_have_their_line(tmp_path: Path) -> None:
    db = Db(tmp_path)
    account = db.write(make_account)
    said = (b"", b"one", b"", b"", b"two\0", b"")
    for number, subject in enumerate(said, 1):
        header = b"" if number % 3 == 0 else b"From: a@example.org\r\n"
        db.write(file, account, (b"Subject: %b\r\n" % subject if subject else header) + b"\r\nx")
        kept = Columns(db.store)
        subjects = db.runner.run(kept.get(account, INBOX, 1, columns.HEADS[b"subject"], number))
        assert isinstance(subjects, Texts)
        assert [line and line[:3] for line in subjects.of(range(1, number + 1))] == [one[:3] for one in said[:number]]
    db.close()


def test_of_subjects_that_could_not_be_read_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BLOCK", 3)
    db, account = _filled(tmp_path, 20)
    kept = Columns(db.store)
    read, asked = db.store.read, 0

    async def fail(function: Any, *args: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise StoreUnavailable("the disk is gone")
        return await read(function, *args)

    async def get() -> columns.Column:
        return await kept.get(account, INBOX, 1, columns.HEADS[b"subject"], 20)

    with monkeypatch.context() as failing:
        failing.setattr(db.store, "read", fail)
        with pytest.raises(StoreUnavailable):
            db.runner.run(get())
    assert list(db.runner.run(get()).uids) == list(range(1, 21))
    db.close()


def test_what_was_not_asked_for_lately_is_dropped(tmp_path: Path) -> None:
    db, account = _filled(tmp_path, 3)
    kept = Columns(db.store, budget=3000)

    async def get(kind: columns.Kind) -> columns.Column:
        return await kept.get(account, INBOX, 1, kind, 3)

    first = db.runner.run(get(columns.SIZE))
    assert db.runner.run(get(columns.SIZE)) is first
    db.runner.run(get(columns.RECEIVED))
    assert db.runner.run(get(columns.SIZE)) is not first
    db.close()


def test_an_account_leaves_others_half_of_the_room(tmp_path: Path) -> None:
    db, account = _filled(tmp_path, 3)
    other = db.write(make_account, "other@example.org")
    kept = Columns(db.store, budget=10_000)

    async def get(account: int, mailbox: int, kind: columns.Kind) -> columns.Column:
        return await kept.get(account, mailbox, 1, kind, 3)

    first = db.runner.run(get(other, INBOX, columns.SIZE))
    for mailbox in range(100):
        # Mailboxes without mail too, and those that have been deleted: each has its weight.
        db.runner.run(get(account, mailbox, columns.SIZE))
        assert kept.octets <= 10_000
    assert db.runner.run(get(other, INBOX, columns.SIZE)) is first
    db.close()


def test_one_that_is_too_large_is_not_kept(tmp_path: Path) -> None:
    db, account = _filled(tmp_path, 50)
    kept = Columns(db.store, budget=3000)

    async def get(kind: columns.Kind) -> columns.Column:
        return await kept.get(account, INBOX, 1, kind, 50)

    assert len(db.runner.run(get(columns.SIZE)).of(range(1, 51))) == 50
    assert kept.octets == 0
    db.close()


def test_a_line_that_is_long_is_not_kept(tmp_path: Path) -> None:
    db = Db(tmp_path)
    account = db.write(make_account)
    # A ligature of eighteen letters.
    for subject in ("short", "\ufdfa" * 100, "\ufdfa" * 1000):
        db.write(file, account, message(subject))
    kept = Columns(db.store)
    subjects = db.runner.run(kept.get(account, INBOX, 1, columns.HEADS[b"subject"], 3))
    senders = db.runner.run(kept.get(account, INBOX, 1, columns.HEADS[b"from"], 3))
    assert isinstance(subjects, Texts)
    assert isinstance(senders, Texts)
    assert subjects.unsure == senders.unsure == {3}
    db.close()


def test_lines_that_come_while_a_thread_reads_do_no_harm() -> None:
    texts = Texts()
    texts.add([(1, "one"), (2, "two")])
    # As the thread sees it between the two steps of adding.
    texts.uids.append(3)
    assert texts.of([1, 2]) == [b"one", b"two"]
    texts.uids.pop()
    before, texts.uids = texts.uids, texts.uids[:]
    texts.add([(3, "three")])
    texts.uids = before
    assert texts.of([1, 2]) == [b"one", b"two"]
