"""What searching, sorting and threading ask of every message of a mailbox, packed in memory: one column a question.

What an email says of itself never changes, and uids only grow: so a column is read once and then only added to, by
whoever asks next. A subject is looked for in a few hundred KB at the speed of memory, where reading the rows took
longer than all the rest.

Promises: columns are dropped beyond a budget, least recently used first; reading goes in blocks, between which others
have their turn; a mailbox that is too large for the budget is told apart (`fits`). Refuses: what changes (flags): that
is a snapshot's.
"""

import asyncio
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from posthouse.limits import MB, SEARCH_TEXT
from posthouse.message.text import HEAD_FIELDS
from posthouse.store.database import Row, Store, Tx

# Octets of columns that are kept.
BUDGET: Final = 96 * MB
# In larger mailboxes rows are read instead: one column of them would fill the budget.
MOST: Final = 1_500_000
# More values than these are taken out in a thread.
_MANY: Final = 30_000
# Emails read in one transaction: some milliseconds.
BLOCK: Final = 2000

# Stands for a text that is not whole: it may say more.
UNSURE: Final = "\n"


class Numbers:
    """A column of whole numbers; `uids` and `values` have one length."""

    def __init__(self) -> None:
        self.uids = array("I")
        self.values = array("q")

    def add(self, rows: Sequence[Row]) -> None:
        """Take more rows: uid and number, uids above all before."""
        self.uids.extend([row[0] for row in rows])
        self.values.extend([row[1] for row in rows])

    def of(self, uids: Sequence[int]) -> list[int | None]:
        """The numbers of these uids, which ascend; None where one is not there."""
        return _of(self.uids, self.values, uids)

    @property
    def octets(self) -> int:
        """What it takes of memory, about."""
        return 12 * len(self.uids)


class Lists:
    """A column of octets each."""

    def __init__(self) -> None:
        self.uids = array("I")
        self.values: list[bytes] = []
        self.octets = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Take more rows: uid and octets, uids above all before."""
        self.uids.extend([row[0] for row in rows])
        self.values += [row[1] for row in rows]
        self.octets += sum([len(row[1]) for row in rows]) + 45 * len(rows)

    def of(self, uids: Sequence[int]) -> list[bytes | None]:
        """The octets of these uids, which ascend; None where one is not there."""
        return _of(self.uids, self.values, uids)


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines of text from the one with number `first` on, packed: line n begins at `starts[n]`."""

    first: int
    starts: "array[int]"
    text: bytes


class Texts:
    """A column of lines of text, that can be looked through. `unsure`: the uids of those that are not whole."""

    def __init__(self) -> None:
        self.uids = array("I")
        self.unsure: set[int] = set()
        self.octets = 0
        self._blocks: list[_Block] = []

    def add(self, rows: Sequence[Row]) -> None:
        """Take more rows: uid and line, or UNSURE; uids above all before."""
        uids = [row[0] for row in rows]
        lines: Sequence[str] = [row[1] for row in rows]
        if UNSURE in lines:
            self.unsure.update([uid for uid, line in zip(uids, lines, strict=True) if line == UNSURE])
            lines = ["" if line == UNSURE else line for line in lines]
        last = self._blocks[-1] if self._blocks else None
        first = len(self.uids)
        if last is not None and len(last.starts) + len(rows) <= BLOCK:
            # What comes one by one goes into the last block, so that there are few.
            first = last.first
            lines = [*last.text.decode().split("\n")[:-1], *lines]
            self._blocks.pop()
            self.octets -= len(last.text)
        block = _packed(first, lines)
        self._blocks.append(block)
        self.uids.extend(uids)
        self.octets += len(block.text) + 8 * len(rows)

    def containing(self, needle: str) -> Iterator[list[int]]:
        """The uids whose line contains this, which is neither empty nor more than a line; a list a block."""
        octets = needle.encode("utf-8", "replace")
        # What is added meanwhile may take the place of the last block.
        for block in tuple(self._blocks):
            yield self._in_block(block, octets)

    def _in_block(self, block: _Block, needle: bytes) -> list[int]:
        text, starts, uids = block.text, block.starts, self.uids
        found: list[int] = []
        at = text.find(needle)
        while at >= 0:
            line = bisect_right(starts, at)
            found.append(uids[block.first + line - 1])
            if line == len(starts):
                break
            at = text.find(needle, starts[line])
        return found

    def of(self, uids: Sequence[int]) -> list[bytes | None]:
        """The lines of these uids, which ascend; None where one is not there."""
        # In a thread it may be added to meanwhile.
        lines = [line for block in tuple(self._blocks) for line in block.text.split(b"\n")[:-1]]
        return _of(self.uids, lines, uids)


def _packed(first: int, lines: Sequence[str]) -> _Block:
    if not lines:
        return _Block(first, array("I"), b"")
    whole = "\n".join(lines)
    text = whole.encode("utf-8", "replace") + b"\n"
    each: Iterable[str | bytes] = lines if len(text) == len(whole) + 1 else text.split(b"\n")[:-1]
    starts = array("I", accumulate(map((1).__add__, map(len, each)), initial=0))
    starts.pop()
    return _Block(first, starts, text)


Column = Numbers | Texts | Lists


async def values(column: Column, uids: Sequence[int]) -> list[Any]:
    """What a column says of these uids, which ascend; None where one is not there."""
    return list(column.of(uids)) if len(uids) <= _MANY else list(await asyncio.to_thread(column.of, uids))


def _of(known: "array[int]", values: Sequence[Any], uids: Sequence[int]) -> list[Any]:
    low = bisect_left(known, uids[0]) if uids else 0
    high = bisect_right(known, uids[-1]) if uids else 0
    there = known[low:high]
    if len(there) == len(uids) and (there == uids if isinstance(uids, array) else there.tolist() == uids):
        # Nothing has been expunged since it was read.
        return list(values[low:high])
    places = dict(zip(there, values[low:high], strict=True))
    return [places.get(uid) for uid in uids]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a column holds: the statement that reads it, and how a row's second value is made of its columns."""

    statement: str
    make: Callable[[], Column]
    value: Callable[[Row], Any] | None = None


def _line_of(number: int) -> Callable[[Row], str]:
    def line(row: Row) -> str:
        head: str = row[1]
        lines = head.split("\n", number + 1)
        found = lines[number] if number < len(lines) else ""
        # A head that was cut says nothing of what came behind.
        return UNSURE if len(head) >= SEARCH_TEXT else found

    return line


def _sorting(number: int) -> Callable[[Row], str]:
    return lambda row: row[1].split("\n", number + 1)[number]


# The subject stands first and is never cut.
HEADS: Final = {
    field: Kind("column_head", Texts, _line_of(number)) if number else Kind("column_subject", Texts)
    for number, field in enumerate(HEAD_FIELDS)
}
RECEIVED: Final = Kind("column_received", Numbers)
SIZE: Final = Kind("column_size", Numbers)
SENT: Final = Kind("column_sent", Numbers)
# What stands there for an email without a Date that can be read.
UNDATED: Final = -(1 << 62)
THREAD: Final = Kind("column_thread", Numbers)
SAVED: Final = Kind("column_saved", Numbers)
LINKS: Final = Kind("column_links", Lists)
# The lines of `collation.sort_text`.
SORTING: Final = tuple([Kind("column_sorting", Texts, _sorting(number)) for number in range(6)])


def _read(tx: Tx, account: int, mailbox: int, kind: Kind, after: int, limit: int) -> list[Row]:
    rows = tx.all(kind.statement, account=account, mailbox=mailbox, after=after, limit=limit)
    value = kind.value
    return rows if value is None else [(row[0], value(row)) for row in rows]


_Key = tuple[int, int, int, int]


class Columns:
    """The columns of this process."""

    def __init__(self, store: Store, budget: int = BUDGET) -> None:
        self._store = store
        self._budget = budget
        self._octets = 0
        self._kept: OrderedDict[_Key, tuple[Column, asyncio.Lock, int]] = OrderedDict()

    @staticmethod
    def fits(count: int) -> bool:
        """False where a mailbox has too many emails for columns of it to be kept."""
        return count <= MOST

    async def get(self, account: int, mailbox: int, validity: int, kind: Kind, upto: int) -> Column:
        """A column of a mailbox with this uidvalidity that has every uid up to `upto` which is there. Raises
        StoreUnavailable."""
        key = account, mailbox, validity, id(kind)
        if key not in self._kept:
            self._kept[key] = kind.make(), asyncio.Lock(), 0
        column, lock, _ = self._kept[key]
        if not column.uids or column.uids[-1] < upto:
            async with lock:
                while not column.uids or column.uids[-1] < upto:
                    after = column.uids[-1] if column.uids else 0
                    rows = await self._store.read(_read, account, mailbox, kind, after, BLOCK)
                    if rows:
                        column.add(rows)
                    if len(rows) < BLOCK:
                        break
        self._keep(key, column, lock)
        return column

    def _keep(self, key: _Key, column: Column, lock: asyncio.Lock) -> None:
        old = self._kept.pop(key, None)
        self._octets += column.octets - (old[2] if old else 0)
        self._kept[key] = column, lock, column.octets
        while self._octets > self._budget and len(self._kept) > 1:
            _, (_, _, octets) = self._kept.popitem(last=False)
            self._octets -= octets
