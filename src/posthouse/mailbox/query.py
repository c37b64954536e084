"""Searching mail: which of a mailbox' emails a condition holds for. IMAP's SEARCH and JMAP's filters meet here.

Promises: the answer is exact, strings compared as `conditions` says. A search reads a bounded number of emails in one
transaction, keeps no other session waiting while it looks into octets, and where it can, it looks only at those emails
whose words allow it (`search.suspects`).
Refuses: to order what it finds.

How, each step for what the one before has left open: the snapshot and columns; the words of the account say which
emails may be meant, and of some that they are; narrow SQL sees placement and email; the texts' sees the message's rows;
then the header is read; then the whole message.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import compress
from typing import Final, NamedTuple

from posthouse import observe
from posthouse.limits import MB
from posthouse.mailbox import compiler, emails, ranges
from posthouse.mailbox import search as words
from posthouse.mailbox.compiler import Known, Row
from posthouse.mailbox.conditions import (
    And,
    Body,
    Condition,
    Deleted,
    Fields,
    Head,
    Header,
    Keywords,
    Leaf,
    Modseq,
    Not,
    OfEmail,
    OfThread,
    Or,
    Received,
    Saved,
    Sent,
    Size,
    Uids,
    leaves,
    prepared,
)
from posthouse.mailbox.emails import Content
from posthouse.mailbox.scan import Sight, Worded, scan, spread
from posthouse.mailbox.search import Suspects
from posthouse.mailbox.verify import Document, Headers
from posthouse.store.blobs import BlobLost, Blobs, Buffer
from posthouse.store.database import Store, StoreUnavailable, Tx

# Emails looked at in one transaction: by their narrow rows, by their text, by their headers, by their octets.
_NARROW: Final = 20_000
_TEXT: Final = 1000
_HEADERS: Final = 100
_OCTETS: Final = 50
# And no more octets than these, but for one email that has more: in a thread that others wait for.
_MUCH: Final = 4 * MB
# Fewer are looked at one by one sooner than by their words.
FEW: Final = 1000
# And so few are read sooner than found in what is known of all.
_ALONE: Final = 3
# Up to one in so many are looked up one by one.
_FEW: Final = 10
# Strings of one search that are looked for by words; the others only make the answer exact.
_MOST_HINTS: Final = 8

# What an email's rows or octets say of a leaf; None: they do not know.
Says = Callable[[Leaf], bool | None]


class _Open(NamedTuple):
    """An email of which it is not known yet whether the condition holds."""

    row: Row
    known: Known

    def says(self, leaf: Leaf) -> bool | None:
        verdict = _narrow_truth(leaf, self.row)
        return self.known.get(leaf) if verdict is None else verdict


# Told now and then how many of how many emails have been looked at.
Progress = Callable[[int, int], Awaitable[None]]


async def _unheard(done: int, goal: int) -> None:
    """Nobody wants to know."""


async def search(
    store: Store,
    blobs: Blobs,
    sight: Sight,
    condition: Condition,
    uids: Sequence[int],
    *,
    progress: Progress = _unheard,
) -> bytes:
    """For which of these uids (in order; a session's own) of the mailbox the condition holds: an octet for each, 1
    where it does. Raises StoreUnavailable."""
    asked = prepared(condition)
    narrower = within(uids, asked)
    held = await _Search(store, blobs, sight, asked, progress).marks(narrower)
    return held if narrower is uids else await _marked(uids, list(compress(narrower, held)))


async def _marked(uids: Sequence[int], some: Sequence[int]) -> bytes:
    """Some of these uids, both in order, as marks."""
    if len(some) * _FEW < len(uids):
        marks = bytearray(len(uids))
        for uid in some:
            marks[bisect_left(uids, uid)] = 1
        return bytes(marks)
    marked = set(some)
    windows: list[bytes] = []
    for start in range(0, len(uids), _NARROW):
        windows.append(bytes(map(marked.__contains__, uids[start : start + _NARROW])))
        await asyncio.sleep(0)
    return b"".join(windows)


def within(uids: Sequence[int], condition: Condition) -> Sequence[int]:
    """Those of these uids that a condition names, where it names some and asks more of them."""
    match condition:
        case Uids(uid_ranges):
            return [uid for low, high in uid_ranges for uid in uids[bisect_left(uids, low) : bisect_right(uids, high)]]
        case And(parts):
            for part in parts:
                uids = within(uids, part)
    return uids


class _Search:
    """One search under way: its steps."""

    def __init__(self, store: Store, blobs: Blobs, sight: Sight, condition: Condition, progress: Progress) -> None:
        self._store = store
        self._blobs = blobs
        self._sight = sight
        self._account = sight.snapshot.account
        self._mailbox = sight.snapshot.mailbox
        self._condition = condition
        self._progress = progress
        self._goal = 0
        distinct = dict.fromkeys(leaves(condition))
        self._bodies = frozenset([leaf.text for leaf in distinct if isinstance(leaf, Body)])
        # What SQL does not ask of the narrow rows.
        self._asks_uids = any(isinstance(leaf, Uids) for leaf in distinct)
        self._asks_headers = any(isinstance(leaf, Fields | Header | Head | Sent) for leaf in distinct)
        asked = [leaf for leaf in distinct if compiler.is_of_texts(leaf)]
        self._lots = [asked[at : at + compiler.AT_ONCE] for at in range(0, len(asked), compiler.AT_ONCE)]
        # The more is asked of each, the fewer are looked at in one transaction.
        self._narrow = max(1, _NARROW // (1 + len(distinct) // compiler.AT_ONCE))
        self._text = max(1, _TEXT // min(max(1, len(asked)), compiler.AT_ONCE))

    async def marks(self, uids: Sequence[int]) -> bytes:
        """For which of these it holds, an octet each: what one step leaves open is for the next."""
        if len(uids) <= _ALONE:
            return await _marked(uids, sorted(await self.by_rows(uids)))
        held, left = await scan(self._sight, self._condition, uids)
        count = left.count(1)
        if count > FEW and (words := await self._words()):
            # Only of what is open: the rest may be much more.
            some = uids if count == len(uids) else list(compress(uids, left))
            both = await scan(self._sight, self._condition, some, words)
            more, left = spread(both[0], left), spread(both[1], left)
            held = _either_mark(held, more)
            count = left.count(1)
        if count:
            found = sorted(await self.by_rows(list(compress(uids, left))))
            held = _either_mark(held, await _marked(uids, found))
        return held

    async def by_rows(self, uids: Sequence[int]) -> list[int]:
        """By the narrow rows, and for what these leave open by all others."""
        found: list[int] = []
        self._goal = len(uids)
        for start in range(0, len(uids), self._narrow):
            window = ranges.pack(uids[start : start + self._narrow])
            rows = await self._store.read(compiler.narrow, self._account, self._mailbox, self._condition, window)
            found += [row.uid for row, certain in rows if certain]
            left = [_Open(row, {}) for row, certain in rows if not certain]
            if left and self._asks_uids:
                held, left = await asyncio.to_thread(_judge, self._condition, left, _rows_say)
                found += held
            found += await self.by_texts(left, start)
        return found

    async def _words(self) -> dict[Leaf, Suspects]:
        """What the words of the account say of the leaves that have some and are not told by columns."""
        found: dict[Leaf, Suspects] = {}
        told = self._sight.columns.fits(len(self._sight.snapshot))
        for leaf in dict.fromkeys(leaves(self._condition)):
            if isinstance(leaf, Worded) and not (told and isinstance(leaf, Head)) and len(found) < _MOST_HINTS:
                suspects = await _suspects(self._store, self._account, leaf)
                if suspects is None:
                    await self._want_words()
                    break
                found[leaf] = suspects
        return found

    async def _want_words(self) -> None:
        # Where it cannot be written now, the next search asks again.
        with suppress(StoreUnavailable):
            await self._store.write(words.want_words, self._account)

    async def by_texts(self, asked: Sequence[_Open], before: int = 0) -> list[int]:
        """By the messages' rows; `before` so many have been looked at."""
        found: list[int] = []
        for start in range(0, len(asked), self._text):
            await self._progress(before + start, self._goal)
            rows = [email.row for email in asked[start : start + self._text]]
            perhaps = await self._texts({row.message for row in rows})
            left = [_Open(row, perhaps[row.message]) for row in rows if row.message in perhaps]
            # In a thread: a client may ask for hundreds of things at once.
            held, left = await asyncio.to_thread(_judge, self._condition, left, _rows_say)
            found += held
            if left and self._asks_headers:
                held, left = await self._by_headers(left)
                found += held
            found += await self._by_octets(left, before + start)
        return found

    async def _texts(self, messages: Collection[int]) -> Mapping[int, Known]:
        """What the rows of these messages say, of those for which the condition may hold."""
        if len(self._lots) < 2:
            return await self._store.read(compiler.texts, self._condition, messages)
        found: dict[int, dict[Leaf, bool | None]] = {message: {} for message in messages}
        for lot in self._lots:
            for message, known in (await self._store.read(compiler.said, lot, messages)).items():
                found[message].update(known)
        return found

    async def _by_headers(self, asked: Sequence[_Open]) -> tuple[list[int], list[_Open]]:
        """By their headers, as far as these lie in rows; and what is open still."""
        found: list[int] = []
        left: list[_Open] = []
        for start in range(0, len(asked), _HEADERS):
            chunk = asked[start : start + _HEADERS]
            headers = await self._store.read(_headers, self._account, [email.row.email for email in chunk])
            held, open_ = await asyncio.to_thread(_judge, self._condition, chunk, _reading(headers))
            found += held
            left += open_
        return found, left

    async def _by_octets(self, asked: Sequence[_Open], before: int) -> list[int]:
        """By all of their octets."""
        found: list[int] = []
        for chunk in _loads(asked):
            await self._progress(before, self._goal)
            contents = await self._store.read(emails.contents, self._account, [email.row.email for email in chunk])
            octets = await self._load(contents)
            # In a thread: one message may have 16 MB to look through.
            held, _ = await asyncio.to_thread(_judge, self._condition, chunk, self._opening(contents, octets))
            found += held
        return found

    async def _load(self, contents: dict[int, Content]) -> dict[int, Buffer]:
        """The octets of these; of what the store has lost, nothing is found by them."""
        octets: dict[int, Buffer] = {}
        for email, content in contents.items():
            try:
                octets[email] = await self._blobs.load(content.blob)
            except BlobLost as error:
                observe.fault("search.content_lost", error, account=self._account, email=email)
        return octets

    def _opening(self, contents: dict[int, Content], octets: dict[int, Buffer]) -> Callable[[_Open], Says]:
        def says(email: _Open) -> Says:
            content = contents.get(email.row.email)
            if content is None or email.row.email not in octets:
                return email.says
            document = Document(content.prologue, octets[email.row.email], content.parts, self._bodies)
            return _either(email.says, document.says)

        return says


def _loads(asked: Sequence[_Open]) -> Iterator[list[_Open]]:
    """As many at a time as are looked through in one go."""
    load: list[_Open] = []
    octets = 0
    for email in asked:
        if load and (len(load) == _OCTETS or octets + email.row.size > _MUCH):
            yield load
            load, octets = [], 0
        load.append(email)
        octets += email.row.size
    if load:
        yield load


def _rows_say(email: _Open) -> Says:
    return email.says


def _reading(headers: dict[int, tuple[bytes, bytes]]) -> Callable[[_Open], Says]:
    def says(email: _Open) -> Says:
        header = headers.get(email.row.email)
        return email.says if header is None else _either(email.says, Headers(*header).says)

    return says


def _either(first: Says, second: Says) -> Says:
    def says(leaf: Leaf) -> bool | None:
        verdict = first(leaf)
        return second(leaf) if verdict is None else verdict

    return says


def _headers(tx: Tx, account: int, asked: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
    """Prologue and header of those of these emails that lie in the database."""
    found = tx.all("search_headers", account=account, emails=ranges.pack(asked))
    return {email: (prologue, header) for email, prologue, header in found}


def _judge(
    condition: Condition, asked: Sequence[_Open], reader: Callable[[_Open], Says]
) -> tuple[list[int], list[_Open]]:
    """The uids for which the condition holds, and the emails of which that is still not known."""
    found: list[int] = []
    left: list[_Open] = []
    for email in asked:
        verdict = truth(condition, reader(email))
        if verdict is None:
            left.append(email)
        elif verdict:
            found.append(email.row.uid)
    return found, left


def truth(condition: Condition, says: Says) -> bool | None:
    """Whether the condition holds, by what is said of its leaves; None: that does not tell."""
    match condition:
        case Not(part):
            verdict = truth(part, says)
            return None if verdict is None else not verdict
        case And(parts) | Or(parts):
            settling = isinstance(condition, Or)
            open_ = False
            for part in parts:
                verdict = truth(part, says)
                if verdict is settling:
                    return settling
                open_ = open_ or verdict is None
            return None if open_ else not settling
        case _:
            return says(condition)


def _narrow_truth(leaf: Leaf, row: Row) -> bool | None:
    match leaf:
        case Uids(uid_ranges):
            index = bisect_right(uid_ranges, row.uid, key=_low)
            return index > 0 and uid_ranges[index - 1][1] >= row.uid
        case Keywords(bits):
            return row.keywords & bits == bits
        case Deleted():
            return bool(row.deleted)
        case Received(since, before):
            return (since is None or row.received_at >= since) and (before is None or row.received_at < before)
        case Size(above, below):
            return (above is None or row.size > above) and (below is None or row.size < below)
        case Saved(since, before):
            return (since is None or row.saved_at >= since) and (before is None or row.saved_at < before)
        case Modseq(least):
            return row.modseq >= least
        case OfEmail(email):
            return row.email == email
        case OfThread(thread):
            return row.thread == thread
        case _:
            return None


def _low(range_: tuple[int, int]) -> int:
    return range_[0]


# hints ----------------------------------------------------------------------------------------------------------------


async def _suspects(store: Store, account: int, leaf: Worded) -> Suspects | None:
    """Which emails may be meant by a leaf, by the words it has."""
    match leaf:
        case Head(_, text):
            return await words.suspects(store, account, text, words.HEAD)
        case Body(text):
            return await words.suspects(store, account, text, words.BODY)
        case Fields(text):
            return await words.suspects_by_header(store, account, text)
        case Header(name, text):
            # Both are in the line "name: value", where the text may begin within a word.
            return await words.suspects_by_header(store, account, f"{name.lower()}: ", text)


def _either_mark(first: bytes, second: bytes) -> bytes:
    return (int.from_bytes(first, "little") | int.from_bytes(second, "little")).to_bytes(len(first), "little")
