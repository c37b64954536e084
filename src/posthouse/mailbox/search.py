"""The index of words, kept behind the commit: mail is filed first and indexed soon after, in large batches.

Promises: `email_words` holds every email up to the account's search mark, under rowid account << 32 | email, until
retention drops the email; what is past the mark is scanned by `query`. A crash costs nothing: the mark moves in the
commit that indexes. Chinese, Japanese and Korean are indexed by pairs of characters, so that two-character words are
found. Of accounts that are searched by substrings (`want_words`), `search_words` holds the words themselves, so that
those which contain a string can be looked for: `suspects`. Head and body are indexed apart, for they are asked apart.
Refuses: to hold up filing, and to keep the writer for longer than a batch.
"""

import asyncio
import json
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from posthouse.limits import MB, SEARCH_TEXT
from posthouse.mailbox import ranges, vocabulary
from posthouse.mailbox.verify import Headers
from posthouse.message.text import CUT
from posthouse.store.database import Store, Topic, Tx

# Emails indexed in one transaction: some 15 ms of the writer.
BATCH: Final = 500
# Long texts make a batch shorter: 12 ms a megabyte.
BATCH_CHARACTERS: Final = 2 * MB
_PAGE: Final = 20
# Between two rounds more mail comes together.
PAUSE_SECONDS: Final = 0.1

# The words of so many emails are kept together, once they are there; the texts of those behind them are scanned.
TOGETHER: Final = 1000
# Emails whose words are taken from their texts in one look: up to half a MB each.
_LOOK: Final = 20
# Characters of the words that are kept together; honest mail has a tenth. Of more nothing is kept: what a stranger
# writes must not fill memory.
_MOST_KEPT: Final = 8 * MB
_TOO_MUCH: Final = ""
# Rows of words looked through in one transaction: some hundred KB each.
_ROWS: Final = 4
# More words than these, or longer ones, are not asked for: other parts of the string must do, or the texts are scanned.
_MOST_WORDS: Final = 500
_LONGEST_WORD: Final = 1000
_MOST_PARTS: Final = 8
# More emails than these are scanned in order, rather than gathered.
_MOST_SUSPECTS: Final = 200_000

# Stands in the index for a text of which only the beginning is there. A letter of private use (U+E000), which is no
# part of a word that anybody looks for.
_CUT_MARK: Final = "\ue000"

# The columns of the index.
HEAD: Final = "head"
BODY: Final = "body"


class Round(NamedTuple):
    """What one transaction has indexed: how many ids the marks moved on by, and whether it stopped at its bounds."""

    moved: int
    full: bool


def index_pending(tx: Tx, limit: int = BATCH, accounts: Collection[int] | None = None) -> Round:
    """Index emails past their account's mark, about `limit`: of these accounts, or of all."""
    moved = 0
    characters = 0
    if accounts is None:
        pending = tx.all("search_accounts", limit=limit)
    else:
        pending = tx.all("search_accounts_of", accounts=ranges.pack(accounts), limit=limit)
    for account, mark, last in pending:
        while mark < last:
            if moved >= limit or characters >= BATCH_CHARACTERS:
                tx.put("search_mark", account=account, mark=mark)
                return Round(moved, True)
            # Ids of emails that are gone again are passed over.
            upto = min(last, mark + _PAGE)
            characters += _index(tx, account, mark, upto)
            moved += upto - mark
            mark = upto
        tx.put("search_mark", account=account, mark=mark)
    return Round(moved, moved >= limit)


def _index(tx: Tx, account: int, mark: int, upto: int) -> int:
    """Index the emails of one account with ids in (mark, upto]; how many characters that is, about."""
    here = {"account": account, "mark": mark, "upto": upto}
    sizes = tx.all("search_sizes", **here)
    if all(in_place for _, in_place in sizes):
        tx.put("words_insert_in_place", **here)
        return sum([size for size, _ in sizes])
    # All of them together, for rows go into the index in their order or cost much more.
    found = tx.all("search_texts", **here)
    tx.many(
        "words_insert",
        [
            {"rowid": account << 32 | email, **_indexed(head, body, bool(in_place))}
            for email, head, body, in_place in found
        ],
    )
    return sum([len(head) + len(body) for _, head, body, _ in found])


def _indexed(head: str, body: str, in_place: bool) -> dict[str, str]:
    cut = body.endswith(CUT) and not in_place
    return {HEAD: _marked(head, len(head) >= SEARCH_TEXT), BODY: _marked(body, cut)}


def _marked(text: str, cut: bool) -> str:
    return vocabulary.indexed(f"{text} {_CUT_MARK}" if cut else text)


def forget(tx: Tx, account: int, emails: Iterable[int]) -> None:
    """Take emails out of the index: they are dropped."""
    tx.many("words_delete", [{"rowid": account << 32 | email} for email in emails])


def reset(tx: Tx, account: int) -> None:
    """Have an account indexed anew, from its first email on."""
    tx.run("search_reset", account=account)
    tx.run("search_words_forget", account=account)
    tx.ring(Topic.SEARCH, account)


# substrings -----------------------------------------------------------------------------------------------------------


class Suspects(NamedTuple):
    """The emails up to `mark` that may hold a needle; all others up to there do not. None: any may. `certain`: those of
    which it is known that they do."""

    mark: int
    emails: frozenset[int] | None
    certain: frozenset[int] = frozenset()


async def suspects(store: Store, account: int, needle: str, where: str) -> Suspects | None:
    """Which emails may hold a folded needle in their HEAD or BODY, by the words they have; None where the account's
    words are not kept. Raises StoreUnavailable."""
    mark = await store.read(_words_mark, account)
    if not mark:
        return None if mark is None else Suspects(0, None)
    clues = vocabulary.clues(needle)
    terms = clues.terms[:_MOST_PARTS]
    alternatives = await _words(store, account, sorted(clues.patterns, key=len)[-_MOST_PARTS:])
    if not alternatives and not terms:
        return Suspects(mark, None)
    match = vocabulary.match(where, alternatives, terms)
    # The head has fields of which only one is asked for.
    return await store.read(_find, account, mark, where, match, exact=clues.exact and where == BODY)


def _words_mark(tx: Tx, account: int) -> int | None:
    mark: int | None = tx.value("search_words_mark", account=account)
    return mark


def _find(tx: Tx, account: int, mark: int, where: str, match: str | None, *, exact: bool) -> Suspects:
    found: frozenset[int] = frozenset() if match is None else _emails(tx, account, mark, match)
    # Where the words are made anew, not all of them were there to be looked at.
    if len(found) == _MOST_SUSPECTS or (_words_mark(tx, account) or 0) < mark:
        return Suspects(mark, None)
    cut = _emails(tx, account, mark, f'{where} : "{_CUT_MARK}"')
    return Suspects(mark, found | cut, found if exact else frozenset())


def _emails(tx: Tx, account: int, mark: int, match: str) -> frozenset[int]:
    low = account << 32
    rows = tx.all("words_find", match=match, low=low, high=low | mark, limit=_MOST_SUSPECTS)
    return frozenset([row[0] - low for row in rows])


async def _words(store: Store, account: int, patterns: Sequence[str]) -> list[list[str]]:
    """The account's words with each of these patterns, without those patterns that too many words have."""
    found: dict[str, set[str]] = {pattern: set() for pattern in patterns}
    after = 0
    while found and (page := await store.read(_words_page, account, tuple(found), after)) is not None:
        after, more = page
        for pattern, words in more.items():
            if words is None or len(found[pattern] | words) > _MOST_WORDS:
                del found[pattern]
            else:
                found[pattern] |= words
    return [sorted(words) for words in found.values()]


def _words_page(
    tx: Tx, account: int, patterns: Sequence[str], after: int
) -> tuple[int, dict[str, set[str] | None]] | None:
    """The words with each pattern in the next rows, None for too many; and which row was the last."""
    rows = tx.all("search_words_next", account=account, after=after, limit=_ROWS)
    if not rows:
        return None
    found: dict[str, set[str] | None] = {}
    whole = all(packed != _TOO_MUCH for _, packed in rows)
    for pattern in patterns:
        words: set[str] = set()
        fits = whole and all(_add_words(words, vocabulary.containing(pattern, packed)) for _, packed in rows)
        found[pattern] = words if fits else None
    return rows[-1][0], found


def _add_words(found: set[str], more: Iterable[str]) -> bool:
    """False where there are more words than can be asked for."""
    for word in more:
        found.add(word)
        if len(found) > _MOST_WORDS or len(word) > _LONGEST_WORD or not vocabulary.askable(word):
            return False
    return True


async def suspects_by_header(store: Store, account: int, *needles: str) -> Suspects | None:
    """Which emails may have all words of each of these folded needles in their header; None where these are not kept.
    Raises StoreUnavailable."""
    mark = await store.read(_words_mark, account)
    if not mark:
        return None if mark is None else Suspects(0, None)
    every = {pattern for needle in needles for pattern in vocabulary.clues(needle).in_headers()}
    patterns = sorted(every, key=len)[-_MOST_PARTS:]
    if not patterns:
        return Suspects(mark, None)
    found: list[int] = []
    after = 0
    while after < mark and (page := await store.read(_fields_page, account, patterns, after)) is not None:
        after, more = page
        found += more
    return Suspects(mark, None if len(found) > mark // 2 or after < mark else frozenset(found))


def _fields_page(tx: Tx, account: int, patterns: Sequence[str], after: int) -> tuple[int, list[int]] | None:
    """The emails in the next rows whose headers may have all patterns; and which row was the last."""
    rows = tx.all("search_fields_next", account=account, after=after, limit=_ROWS)
    if not rows:
        return None
    found: list[int] = []
    for upto, packed, unread in rows:
        if packed == _TOO_MUCH or all(pattern in packed for pattern in patterns):
            found += range(after + 1, upto + 1)
        else:
            found += json.loads(unread)
        after = upto
    return after, found


def want_words(tx: Tx, account: int) -> None:
    """Have the account's words kept from now on: it is searched by substrings."""
    if tx.run("search_words_want", account=account):
        tx.ring(Topic.SEARCH, account)


async def keep_words(store: Store, accounts: Collection[int] | None) -> None:
    """Keep the words of indexed mail, as far as TOGETHER emails have come together."""
    asked = ranges.pack_ranges([(0, 1 << 62)]) if accounts is None else ranges.pack(accounts)
    while (due := await store.read(_words_due, asked)) is not None:
        account, mark = due
        words, fields = _Words(), _Words()
        unread: list[int] = []
        for start in range(mark, mark + TOGETHER, _LOOK):
            await store.read(_add_words_of, account, start, start + _LOOK, words)
            unread += await store.read(_add_fields_of, account, start, start + _LOOK, fields)
            # Others have their turn: there may be much to catch up with.
            await asyncio.sleep(0)
        await store.write(_keep, account, mark, words.packed, fields.packed, json.dumps(unread))


class _Words:
    """Words of some emails, as long as they are not too many."""

    def __init__(self) -> None:
        self._found: set[str] = set()
        self._room = _MOST_KEPT

    def add(self, words: set[str]) -> None:
        """Take more."""
        if self._room >= 0:
            new = words - self._found
            self._room -= sum(map(len, new)) + len(new)
            self._found |= new
        if self._room < 0:
            self._found.clear()

    @property
    def packed(self) -> str:
        """As they are kept."""
        return _TOO_MUCH if self._room < 0 else vocabulary.pack(self._found)


def _words_due(tx: Tx, accounts: str) -> tuple[int, int] | None:
    row = tx.one("search_words_due", accounts=accounts, together=TOGETHER)
    return None if row is None else (row[0], row[1])


def _add_words_of(tx: Tx, account: int, mark: int, upto: int, found: _Words) -> None:
    for _, head, body, _ in tx.all("search_texts", account=account, mark=mark, upto=upto):
        # Apart: text that stands in place is not folded.
        found.add(vocabulary.words(head))
        found.add(vocabulary.words(body))


def _add_fields_of(tx: Tx, account: int, mark: int, upto: int, found: _Words) -> list[int]:
    """Add the words of these emails' headers; the emails whose header does not lie in the database."""
    unread: list[int] = []
    for email, prologue, header in tx.all("search_headers_upto", account=account, mark=mark, upto=upto):
        if header is None:
            unread.append(email)
        else:
            found.add(Headers(prologue, header).words)
    return unread


def _keep(tx: Tx, account: int, mark: int, words: str, fields: str, unread: str) -> None:
    # Another process may have done the same, or the account is to be indexed anew.
    upto = mark + TOGETHER
    if tx.run("search_words_move", account=account, mark=mark, upto=upto):
        tx.run("search_words_insert", account=account, upto=upto, words=words, fields=fields, unread=unread)


async def keep_indexed(store: Store) -> None:
    """Index whatever is filed, for ever. One process of a store need do it; more do no harm. Raises
    StoreUnavailable."""
    ear = store.listen(Topic.SEARCH)
    # What was filed before we heard may be anybody's.
    heard: Collection[int] = {0}
    try:
        while True:
            accounts = None if 0 in heard else heard
            while (await store.write(index_pending, BATCH, accounts)).full:
                pass
            await keep_words(store, accounts)
            heard = await ear.wait()
            await asyncio.sleep(PAUSE_SECONDS)
    finally:
        ear.close()
