"""Searching mail: which of a mailbox' emails a condition holds for. IMAP's SEARCH and JMAP's filters meet here.

Promises: the answer is exact, strings compared as `conditions` says. A search reads a bounded number of emails in one
transaction, keeps no other session waiting while it looks into octets, and where it can, it looks only at those emails
whose words allow it (`search.suspects`).
Refuses: to order what it finds.

How, each step for what the one before has left open: the words of the account say which emails may be meant; narrow
SQL sees placement and email; the texts' sees the message's rows; then the header is read; then the whole message.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

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
from posthouse.mailbox.scan import Sight, scan
from posthouse.mailbox.verify import Document, Headers
from posthouse.store.blobs import Blobs, Buffer
from posthouse.store.database import Store, StoreUnavailable, Tx

# Emails looked at in one transaction: by their narrow rows, by their text, by their headers, by their octets.
_NARROW: Final = 20_000
_TEXT: Final = 1000
_HEADERS: Final = 100
_OCTETS: Final = 50
# Fewer are looked at one by one sooner than by their words.
FEW: Final = 1000
# And so few are read sooner than found in what is known of all.
_ALONE: Final = 3
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
    account: int,
    mailbox: int,
    condition: Condition,
    uids: Sequence[int],
    *,
    sight: Sight | None = None,
    progress: Progress = _unheard,
) -> list[int]:
    """Those of these uids (in order; a session's own) for which the condition holds, in order. With a `sight` of the
    mailbox, all that it can tell is taken from there. Raises StoreUnavailable."""
    asked = prepared(condition)
    uids = _within(uids, asked)
    found: list[int] = []
    if sight is not None and len(uids) > _ALONE:
        found, uids = await scan(sight, asked, uids)
    if uids:
        searched = _Search(store, blobs, account, mailbox, asked, progress)
        if len(uids) > FEW:
            uids = await searched.hinted(uids)
        found += await searched.by_rows(uids)
    return sorted(found)


def _within(uids: Sequence[int], condition: Condition) -> Sequence[int]:
    """Those of these uids that a condition names, where it names some and asks more of them."""
    match condition:
        case Uids(uid_ranges):
            return [uid for low, high in uid_ranges for uid in uids[bisect_left(uids, low) : bisect_right(uids, high)]]
        case And(parts):
            for part in parts:
                uids = _within(uids, part)
    return uids


class _Search:
    """One search under way: its steps."""

    def __init__(
        self, store: Store, blobs: Blobs, account: int, mailbox: int, condition: Condition, progress: Progress
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._account = account
        self._mailbox = mailbox
        self._condition = condition
        self._progress = progress
        self._goal = 0
        distinct = dict.fromkeys(leaves(condition))
        self._bodies = frozenset([leaf.text for leaf in distinct if isinstance(leaf, Body)])
        # What SQL does not ask of the narrow rows.
        self._asks_uids = any(isinstance(leaf, Uids) for leaf in distinct)
        self._asks_headers = any(isinstance(leaf, Fields | Header | Head | Sent) for leaf in distinct)

    async def by_rows(self, uids: Sequence[int]) -> list[int]:
        """By the narrow rows, and for what these leave open by all others."""
        found: list[int] = []
        self._goal = len(uids)
        for start in range(0, len(uids), _NARROW):
            window = ranges.pack(uids[start : start + _NARROW])
            rows = await self._store.read(compiler.narrow, self._account, self._mailbox, self._condition, window)
            found += [row.uid for row, certain in rows if certain]
            left = [_Open(row, {}) for row, certain in rows if not certain]
            if left and self._asks_uids:
                held, left = await asyncio.to_thread(_judge, self._condition, left, _rows_say)
                found += held
            found += await self.by_texts(left, start)
        return found

    async def hinted(self, uids: Sequence[int]) -> Sequence[int]:
        """Those of these uids that may be meant, by the words of the account."""
        hints: dict[Leaf, set[int] | None] = {}
        for leaf in _hinting(self._condition):
            if len(hints) < _MOST_HINTS and leaf not in hints:
                look, needle = _words_of(leaf)
                suspects = await look(self._store, self._account, needle)
                if suspects is None:
                    await self._want_words()
                    return uids
                hints[leaf] = (
                    None
                    if suspects.emails is None
                    else await self._store.read(words.uids_of, self._account, self._mailbox, suspects)
                )
        may = _may(self._condition, hints)
        return uids if may is None else [uid for uid in uids if uid in may]

    async def _want_words(self) -> None:
        # Where it cannot be written now, the next search asks again.
        with suppress(StoreUnavailable):
            await self._store.write(words.want_words, self._account)

    async def by_texts(self, asked: Sequence[_Open], before: int = 0) -> list[int]:
        """By the messages' rows; `before` so many have been looked at."""
        found: list[int] = []
        for start in range(0, len(asked), _TEXT):
            await self._progress(before + start, self._goal)
            rows = [email.row for email in asked[start : start + _TEXT]]
            perhaps = await self._store.read(compiler.texts, self._condition, {row.message for row in rows})
            left = [_Open(row, perhaps[row.message]) for row in rows if row.message in perhaps]
            # In a thread: a client may ask for hundreds of things at once.
            held, left = await asyncio.to_thread(_judge, self._condition, left, _rows_say)
            found += held
            if left and self._asks_headers:
                held, left = await self._by_headers(left)
                found += held
            found += await self._by_octets(left)
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

    async def _by_octets(self, asked: Sequence[_Open]) -> list[int]:
        """By all of their octets."""
        found: list[int] = []
        for start in range(0, len(asked), _OCTETS):
            chunk = asked[start : start + _OCTETS]
            contents = await self._store.read(emails.contents, self._account, [email.row.email for email in chunk])
            octets = {email: await self._blobs.load(content.blob) for email, content in contents.items()}
            # In a thread: one message may have 16 MB to look through.
            held, _ = await asyncio.to_thread(_judge, self._condition, chunk, self._opening(contents, octets))
            found += held
        return found

    def _opening(self, contents: dict[int, Content], octets: dict[int, Buffer]) -> Callable[[_Open], Says]:
        def says(email: _Open) -> Says:
            content = contents.get(email.row.email)
            if content is None:
                return email.says
            document = Document(content.prologue, octets[email.row.email], content.parts, self._bodies)
            return _either(email.says, document.says)

        return says


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


_Hinting = Head | Body | Fields | Header


def _words_of(leaf: _Hinting) -> tuple[Callable[[Store, int, str], Awaitable[words.Suspects | None]], str]:
    """Where the words of a leaf are looked for, and the string that has them."""
    match leaf:
        case Head(_, text) | Body(text):
            return words.suspects, text
        case Fields(text):
            return words.suspects_by_header, text
        case Header(name, text):
            # Both are in the line "name: value", though perhaps not beside each other.
            return words.suspects_by_header, f"{name.lower()}: {text}"


def _hinting(condition: Condition) -> list[_Hinting]:
    """The leaves whose words can narrow the condition: not those that are negated, nor one beside an alternative that
    has no words."""
    match condition:
        case And(parts):
            return [leaf for part in parts for leaf in _hinting(part)]
        case Or(parts):
            each = [_hinting(part) for part in parts]
            return [leaf for some in each for leaf in some] if all(each) else []
        case Head() | Body() | Fields() | Header():
            return [condition]
        case _:
            return []


def _may(condition: Condition, hints: dict[Leaf, set[int] | None]) -> set[int] | None:
    """The uids for which the condition may hold; None: all."""
    match condition:
        case And(parts):
            known = [some for part in parts if (some := _may(part, hints)) is not None]
            return set.intersection(*known) if known else None
        case Or(parts):
            either: set[int] = set()
            for part in parts:
                some = _may(part, hints)
                if some is None:
                    return None
                either |= some
            return either
        case Head() | Body() | Fields() | Header():
            return hints.get(condition)
        case _:
            return None
