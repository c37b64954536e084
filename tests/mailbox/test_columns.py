"""Columns of a mailbox: what is read once, and what it answers."""

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailbox import columns
from posthouse.mailbox.columns import UNSURE, Columns, Lists, Numbers, Texts
from tests.mailbox.support import INBOX, Db, file, make_account, message

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
