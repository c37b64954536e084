"""What searching, sorting and threading ask of every message of a mailbox, packed in memory: one column a question.

What an email says of itself never changes, and uids only grow: so a column is read once and then only added to, by
whoever asks next. A subject is looked for in a few hundred KB at the speed of memory, where reading the rows took
longer than all the rest.

Promises: columns are dropped beyond a budget, those of accounts that have not searched for longest first, and of an
account those beyond half of it: nobody's columns push out all others'. A line that is long is not kept, so that a
column is not larger than its number of emails makes it. Reading goes in blocks, between which others have their turn; a
mailbox that is too large for the budget is told apart (`fits`). Refuses: what changes (flags): that is a snapshot's.
"""

import asyncio
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final, NamedTuple

from posthouse.limits import MB
from posthouse.mailbox.kept import Kept
from posthouse.message.text import HEAD_FIELDS
from posthouse.store.database import Row, Store, Tx

# Octets of columns that are kept.
BUDGET: Final = 96 * MB
# In larger mailboxes rows are read instead: one column of them would fill the budget.
MOST: Final = 1_500_000
# Values that are taken out without a pause: a millisecond or two.
_MANY: Final = 16_384
# Emails read in one transaction: some milliseconds.
BLOCK: Final = 2000
# Characters that are read of a head, octets of a subject: so much of each is in memory for a block (search.sql).
HEAD: Final = 4000
# What a column takes beside what is in it; and a number in a set.
_EACH: Final = 1000
_IN_SET: Final = 60

# Of uids (RFC 9051 §2.3.1.1).
LARGEST: Final = (1 << 32) - 1

_END: Final = ord("\n")

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

    def one(self, uid: int) -> int | None:
        """The number of one uid; None where it is not there."""
        index = _find(self.uids, uid)
        return None if index is None else self.values[index]

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

    def one(self, uid: int) -> bytes | None:
        """The octets of one uid; None where it is not there."""
        index = _find(self.uids, uid)
        return None if index is None else self.values[index]


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
            self._doubt([uid for uid, line in zip(uids, lines, strict=True) if line == UNSURE])
            lines = ["" if line == UNSURE else line for line in lines]
        if lines:
            text = "\n".join(lines).encode("utf-8", "replace")
            self._take(uids, _Block(0, _starts(text.split(b"\n")), text + b"\n"))

    def add_joined(self, some: "Joined") -> None:
        """Take more, at least one, with uids above all before."""
        if some.cut:
            self._doubt(some.cut)
        self._take(some.uids, some.block)

    def _doubt(self, uids: Iterable[int]) -> None:
        before = len(self.unsure)
        self.unsure.update(uids)
        self.octets += _IN_SET * (len(self.unsure) - before)

    def _take(self, uids: Sequence[int], block: _Block) -> None:
        last = self._blocks[-1] if self._blocks else None
        if last is not None and len(last.starts) + len(uids) <= BLOCK:
            # What comes one by one goes into the last block, so that there are few. It is put in the other's place at
            # once, for a thread may be reading.
            text = last.text + block.text
            self._blocks[-1] = _Block(last.first, _starts(text.split(b"\n")[:-1]), text)
        else:
            self._blocks.append(_Block(len(self.uids), block.starts, block.text))
        self.uids.extend(uids)
        self.octets += len(block.text) + 8 * len(uids)

    def _blocks_of(self, low: int, high: int) -> list[_Block]:
        """Those in which uids from one to the other may be."""
        start, stop = bisect_left(self.uids, low), bisect_right(self.uids, high)
        if start == stop:
            return []
        blocks = tuple(self._blocks)
        return list(blocks[bisect_right(blocks, start, key=_first) - 1 : bisect_left(blocks, stop, key=_first)])

    def containing(self, needle: str, low: int = 0, high: int = LARGEST) -> Iterator[list[int]]:
        """The uids from `low` to `high` whose line contains this, which is neither empty nor more than a line; a list a
        block."""
        octets = needle.encode("utf-8", "replace")
        for block in self._blocks_of(low, high):
            found = self._in_block(block, octets)
            yield found[bisect_left(found, low) : bisect_right(found, high)]

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

    def equal(self, line: bytes) -> list[int]:
        """The uids whose whole line this is; it is not empty."""
        found: list[int] = []
        octets = line + b"\n"
        for block in tuple(self._blocks):
            at = -1
            while (at := block.text.find(octets, at + 1)) >= 0:
                if at == 0 or block.text[at - 1] == _END:
                    found.append(self.uids[block.first + bisect_right(block.starts, at) - 1])
        return found

    def of(self, uids: Sequence[int]) -> list[bytes | None]:
        """The lines of these uids, which ascend; None where one is not there."""
        blocks = self._blocks_of(uids[0], uids[-1]) if uids else []
        if not blocks:
            return [None] * len(uids)
        lines = [line for block in blocks for line in block.text.split(b"\n")[:-1]]
        known = self.uids[blocks[0].first : blocks[0].first + len(lines)]
        # In a thread it may be added to meanwhile.
        return _of(known, lines[: len(known)], uids)

    def one(self, uid: int) -> bytes | None:
        """The line of one uid; None where it is not there."""
        index = _find(self.uids, uid)
        if index is None:
            return None
        block = self._blocks[bisect_right(self._blocks, index, key=_first) - 1]
        line = index - block.first
        end = block.starts[line + 1] if line + 1 < len(block.starts) else len(block.text)
        return block.text[block.starts[line] : end - 1]


def _find(uids: "array[int]", uid: int) -> int | None:
    index = bisect_left(uids, uid)
    return index if index < len(uids) and uids[index] == uid else None


def _starts(lines: Iterable[bytes]) -> "array[int]":
    """Where these begin, where each ends with an octet of its own."""
    starts = array("I", accumulate(map((1).__add__, map(len, lines)), initial=0))
    starts.pop()
    return starts


class Joined(NamedTuple):
    """Lines for a column, made ready in the thread that read them; `cut`: the uids of those that are not whole, and are
    empty here."""

    uids: "array[int]"
    block: _Block
    cut: Sequence[int] = ()

    @classmethod
    def of(cls, uids: "array[int]", text: bytes) -> "Joined":
        """Lines, a line end between two, of these uids, as many. One of HEAD octets goes on perhaps."""
        lines = text.split(b"\n")
        assert len(lines) == len(uids), "each has one line"
        cut: list[int] = []
        if max(map(len, lines)) >= HEAD:
            cut = [uid for uid, line in zip(uids, lines, strict=True) if len(line) >= HEAD]
            lines = [b"" if len(line) >= HEAD else line for line in lines]
            text = b"\n".join(lines)
        return cls(uids, _Block(0, _starts(lines), text + b"\n"), cut)


def _first(block: _Block) -> int:
    return block.first


Column = Numbers | Texts | Lists


async def values(column: Column, uids: Sequence[int]) -> list[Any]:
    """What a column says of these uids, which ascend; None where one is not there."""
    if len(uids) <= _MANY:
        return list(column.of(uids))
    found: list[Any] = []
    for start in range(0, len(uids), _MANY):
        found += column.of(uids[start : start + _MANY])
        await asyncio.sleep(0)
    return found


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
    """What a column holds: the statement that reads it, and how a row's second value is made of its columns.
    `joined`: all come in one row, for `Texts.add_joined`."""

    statement: str
    make: Callable[[], Column]
    value: Callable[[Row], Any] | None = None
    joined: bool = False


def _line_of(number: int) -> Callable[[Row], str]:
    def line(row: Row) -> str:
        head: str = row[1]
        lines = head.split("\n", number + 1)
        # What was cut says nothing of what came behind.
        if number + 1 < len(lines) or len(head) < HEAD:
            return lines[number] if number < len(lines) else ""
        return UNSURE

    return line


def _sorting(number: int) -> Callable[[Row], str]:
    return lambda row: row[1].split("\n", number + 1)[number]


HEADS: Final = {
    name: Kind("column_head", Texts, _line_of(number)) if number else Kind("column_subject", Texts, joined=True)
    for number, name in enumerate(HEAD_FIELDS)
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


def _read_joined(tx: Tx, account: int, mailbox: int, kind: Kind, after: int, upto: int) -> Joined | None:
    row = tx.one(kind.statement, account=account, mailbox=mailbox, after=after, upto=upto, limit=BLOCK)
    # Of no lines at all SQL makes one of NULL.
    return None if row is None or row[0] is None else Joined.of(array("I", map(int, row[0].split(","))), row[1])


_Key = tuple[int, int, int]


@dataclass(slots=True)
class _Kept:
    """A column, who reads more of it, and what it was said to take."""

    column: Column
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    octets: int = 0


@dataclass(slots=True)
class _Shelf:
    """An account's columns, the least recently used first, and what they take."""

    columns: "OrderedDict[_Key, _Kept]" = field(default_factory=OrderedDict)
    octets: int = 0


class Columns:
    """The columns of this process."""

    def __init__(self, store: Store, budget: int = BUDGET) -> None:
        # What is made of them.
        self.kept = Kept()
        self._store = store
        self._budget = budget
        self._octets = 0
        # The account that has not searched for longest first.
        self._shelves: OrderedDict[int, _Shelf] = OrderedDict()

    @staticmethod
    def fits(count: int) -> bool:
        """False where a mailbox has too many emails for columns of it to be kept."""
        return count <= MOST

    @property
    def octets(self) -> int:
        """What all that is kept takes of memory, about."""
        return self._octets

    async def get(self, account: int, mailbox: int, validity: int, kind: Kind, upto: int) -> Column:
        """A column of a mailbox with this uidvalidity that has every uid up to `upto` which is there. Raises
        StoreUnavailable."""
        key = mailbox, validity, id(kind)
        shelf = self._shelves.get(account)
        kept = None if shelf is None else shelf.columns.get(key)
        if kept is None:
            kept = _Kept(kind.make())
            self._keep(account, key, kept)
        column = kept.column
        if not column.uids or column.uids[-1] < upto:
            async with kept.lock:
                if isinstance(column, Texts) and kind.joined:
                    await self._add_joined(column, account, mailbox, kind, upto)
                else:
                    await self._add(column, account, mailbox, kind, upto)
        self._keep(account, key, kept)
        return column

    async def _add(self, column: Column, account: int, mailbox: int, kind: Kind, upto: int) -> None:
        while not column.uids or column.uids[-1] < upto:
            after = column.uids[-1] if column.uids else 0
            rows = await self._store.read(_read, account, mailbox, kind, after, BLOCK)
            if rows:
                column.add(rows)
            if len(rows) < BLOCK:
                break

    async def _add_joined(self, column: Texts, account: int, mailbox: int, kind: Kind, upto: int) -> None:
        """The same by two readers at once: a block is one step of SQLite's, which leaves the interpreter to others."""
        after = column.uids[-1] if column.uids else 0
        if after >= upto:
            return
        middle = after + (upto - after) // 2 if upto - after > BLOCK else upto

        async def half(after: int, upto: int) -> list[Joined]:
            found: list[Joined] = []
            while after < upto and (some := await self._store.read(_read_joined, account, mailbox, kind, after, upto)):
                found.append(some)
                after = some.uids[-1] if len(some.uids) == BLOCK else upto
            return found

        for found in await asyncio.gather(half(after, middle), half(middle, upto)):
            for some in found:
                column.add_joined(some)

    def _keep(self, account: int, key: _Key, kept: _Kept) -> None:
        """It is the one that was used last, and takes what it takes now. Others make room, those of its account first;
        itself, where it is too large."""
        shelf = self._shelves.setdefault(account, _Shelf())
        self._shelves.move_to_end(account)
        old = shelf.columns.pop(key, None)
        self._weigh(shelf, -old.octets if old else 0)
        kept.octets = _EACH + kept.column.octets
        shelf.columns[key] = kept
        self._weigh(shelf, kept.octets)
        while shelf.octets > self._budget // 2:
            self._drop(account, shelf)
        while self._octets > self._budget:
            self._drop(*next(iter(self._shelves.items())))

    def _drop(self, account: int, shelf: _Shelf) -> None:
        _, oldest = shelf.columns.popitem(last=False)
        self._weigh(shelf, -oldest.octets)
        if not shelf.columns:
            del self._shelves[account]

    def _weigh(self, shelf: _Shelf, octets: int) -> None:
        shelf.octets += octets
        self._octets += octets
