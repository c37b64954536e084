"""The index of words, kept behind the commit: mail is filed first and indexed soon after, in large batches.

Promises: `email_words` holds every email up to the account's search mark, under rowid account << 32 | email, until
retention drops the email; what is past the mark is scanned by `query`. A crash costs nothing: the mark moves in the
commit that indexes. Chinese, Japanese and Korean are indexed by pairs of characters, so that two-character words are
found.
Refuses: to hold up filing, and to keep the writer for longer than a batch.
"""

import asyncio
import re
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from posthouse.limits import MB
from posthouse.mailbox import ranges
from posthouse.store.database import Store, Topic, Tx

# Emails indexed in one transaction: some 15 ms of the writer.
BATCH: Final = 500
# Long texts make a batch shorter: 12 ms a megabyte.
BATCH_CHARACTERS: Final = 2 * MB
_PAGE: Final = 20
# Between two rounds more mail comes together.
PAUSE_SECONDS: Final = 0.1

# Scripts written without spaces: kana, ideographs (and their extensions), bopomofo, hangul.
_UNSPACED: Final = re.compile(
    "[\u3040-\u30ff\u3100-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9d"
    "\U00020000-\U0003ffff]+"
)


def words(text: str) -> str:
    """Folded text as it goes into the index: runs of unspaced script as overlapping pairs of characters."""
    return text if text.isascii() else _UNSPACED.sub(_pairs, text)


def _pairs(run: re.Match[str]) -> str:
    text = run[0]
    if len(text) == 1:
        return f" {text} "
    return f" {' '.join([text[at : at + 2] for at in range(len(text) - 1)])} "


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
        [{"rowid": account << 32 | email, "text": words(f"{head}\n{body}")} for email, head, body in found],
    )
    return sum([len(head) + len(body) for _, head, body in found])


def forget(tx: Tx, account: int, emails: Iterable[int]) -> None:
    """Take emails out of the index: they are dropped."""
    tx.many("words_delete", [{"rowid": account << 32 | email} for email in emails])


def reset(tx: Tx, account: int) -> None:
    """Have an account indexed anew, from its first email on."""
    tx.run("search_mark", account=account, mark=0)
    tx.ring(Topic.SEARCH, account)


def find_words(tx: Tx, account: int, match: str, limit: int) -> list[int]:
    """Emails of the account that an FTS5 query finds, by id. Only what is up to the mark."""
    found = tx.all("words_find", match=match, low=account << 32, high=(account + 1 << 32) - 1, limit=limit)
    return [row[0] & 0xFFFFFFFF for row in found]


async def keep_indexed(store: Store) -> None:
    """Index whatever is filed, for ever. One process of a store need do it; more do no harm. Raises
    StoreUnavailable."""
    ear = store.listen(Topic.SEARCH)
    # What was filed before we heard may be anybody's.
    heard: Collection[int] = {0}
    try:
        while True:
            while (await store.write(index_pending, BATCH, None if 0 in heard else heard)).full:
                pass
            heard = await ear.wait()
            await asyncio.sleep(PAUSE_SECONDS)
    finally:
        ear.close()
