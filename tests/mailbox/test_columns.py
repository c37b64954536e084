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
    kept = Columns(db.store, budget=50)

    async def get(kind: columns.Kind) -> columns.Column:
        return await kept.get(account, INBOX, 1, kind, 3)

    first = db.runner.run(get(columns.SIZE))
    assert db.runner.run(get(columns.SIZE)) is first
    db.runner.run(get(columns.RECEIVED))
    assert db.runner.run(get(columns.SIZE)) is not first
    db.close()
