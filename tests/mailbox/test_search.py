"""The index of words, behind the commit."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from posthouse.limits import SEARCH_TEXT
from posthouse.mailbox import placing, retention, search, vocabulary
from posthouse.mailbox.search import Suspects
from posthouse.store.database import Store, Tx
from tests.mailbox.support import INBOX, NOW, Db, file, make_account, message


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with Db(tmp_path) as made:
        made.write(make_account)
        yield made


def index_all(db: Db, limit: int = search.BATCH) -> int:
    batches = 0
    while db.write(search.index_pending, limit).moved:
        batches += 1
    return batches


def found(db: Db, match: str, account: int = 1) -> list[int]:
    return db.read(find_words, account, match, 100)


def find_words(tx: Tx, account: int, match: str, limit: int) -> list[int]:
    """Emails that the index knows by these words."""
    rows = tx.all("words_find", match=match, low=account << 32, high=(account + 1 << 32) - 1, limit=limit)
    return [rowid & 0xFFFFFFFF for (rowid,) in rows]


def test_mail_is_found_once_it_is_indexed(db: Db) -> None:
    bob = db.write(make_account, "bob@example.org")
    db.write(file, 1, message("Stagecoach", "grey horse"))
    db.write(file, bob, message("Stagecoach", "brown horse"))
    assert found(db, "horse") == []
    assert index_all(db) == 1
    assert (found(db, "horse"), found(db, "horse", bob), found(db, "brown"), found(db, "stagecoach alice")) == (
        [1],
        [1],
        [],
        [1],
    )
    db.write(file, 1, message("Another", "grey mare"))
    assert index_all(db) == 1
    assert found(db, "grey") == [1, 2]


def test_batches_are_bounded_and_miss_nothing(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_PAGE", 2)
    for number in range(9):
        db.write(file, 1, message(f"word{number}"))
    db.write(placing.expunge, 1, INBOX, [4, 5], NOW)
    assert index_all(db, 4) == 3
    assert found(db, "alice") == [1, 2, 3, 6, 7, 8, 9]
    monkeypatch.setattr(search, "BATCH_CHARACTERS", 1)
    db.write(search.reset, 1)
    assert index_all(db) == 5
    assert found(db, "alice") == [1, 2, 3, 6, 7, 8, 9]


def test_scripts_without_spaces_are_found_by_two_characters(db: Db) -> None:
    db.write(file, 1, message("x", "駅馬車は九時に出ます。 한국어 메일 中"))
    index_all(db)
    assert vocabulary.indexed("駅馬車 ok") == " 駅馬 馬車  ok"
    for word in ("駅馬", "馬車", "九時", "한국", "中"):
        assert found(db, vocabulary.indexed(word)) == [1], word
    assert found(db, vocabulary.indexed("馬出")) == []


def test_texts_in_place_and_others_are_indexed_alike(db: Db) -> None:
    db.write(file, 1, message("Stagecoach", "grey\r\nhorse"))
    db.write(file, 1, message("Grüße", "grey horse"))
    db.write(file, 1, message("Stagecoach", "grey\r\nstallion, größer"))
    index_all(db)
    stored = db.rows("SELECT message, body FROM message_text")
    assert stored == [(3, "grey stallion, grösser")]
    assert (found(db, '"grey horse"'), found(db, '"grey stallion"'), found(db, "grüsse")) == ([1, 2], [3], [2])
    db.write(search.reset, 1)
    index_all(db)
    assert found(db, "grey") == [1, 2, 3]


def test_what_is_dropped_is_forgotten(db: Db) -> None:
    db.write(file, 1, message("Stagecoach"))
    index_all(db)
    db.write(placing.expunge, 1, INBOX, [1], NOW)
    db.write(retention.drop_expunged, NOW + 1, NOW + 1)
    assert found(db, "stagecoach") == []


def test_the_worker_follows_the_bell(db: Db) -> None:
    async def main() -> int:
        worker = asyncio.create_task(search.keep_indexed(db.store))
        try:
            for number in range(3):
                await db.store.write(file, 1, message(f"word{number}"))
                async with asyncio.timeout(30):
                    while await db.store.read(find_words, 1, f"word{number}", 9) != [number + 1]:
                        await asyncio.sleep(0.01)
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        return (await db.store.write(search.index_pending)).moved

    assert db.runner.run(main()) == 0


# substrings -----------------------------------------------------------------------------------------------------------


def suspected(db: Db, needle: str, where: str = search.HEAD) -> tuple[int, list[int] | None] | None:
    found = db.runner.run(search.suspects(db.store, 1, needle, where))
    return None if found is None else (found.mark, None if found.emails is None else sorted(found.emails))


def test_words_are_kept_of_accounts_that_want_them(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "TOGETHER", 3)
    bob = db.write(make_account, "bob@example.org")
    for number in range(1, 9):
        db.write(file, 1, message(f"coach{number}"))
        db.write(file, bob, message(f"coach{number}"))
    assert suspected(db, "oach2") is None

    async def main() -> None:
        worker = asyncio.create_task(search.keep_indexed(db.store))
        try:
            await db.store.write(search.want_words, 1)
            async with asyncio.timeout(30):
                ready = Suspects(6, frozenset({2}))
                while (found := await search.suspects(db.store, 1, "oach2", search.HEAD)) != ready:
                    assert found is not None
                    await asyncio.sleep(0.01)
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    db.runner.run(main())
    assert suspected(db, "oach7") == (6, [])
    assert suspected(db, "oach") == (6, [1, 2, 3, 4, 5, 6])
    assert db.rows("SELECT DISTINCT account FROM search_words") == [(1,)]
    db.write(search.reset, 1)
    assert suspected(db, "oach2") == (0, None)
    assert db.rows("SELECT upto FROM search_words") == []


def kept(db: Db, *messages: bytes) -> None:
    """File these, and keep the words of all."""
    for octets in messages:
        db.write(file, 1, octets)
    db.write(search.want_words, 1)
    index_all(db)
    db.runner.run(search.keep_words(db.store, None))


def test_strings_that_words_cannot_narrow(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "TOGETHER", 2)
    kept(db, message("one", "駅馬車 word1 →→ plain"), message("two", "word2 word3"))
    body = search.BODY
    assert suspected(db, "ord", body) == (2, [1, 2])
    assert suspected(db, "...", body) == suspected(db, "駅", body) == (2, None)
    # Words of which the index has no token cannot be asked for.
    assert suspected(db, "→", body) == (2, None)
    assert suspected(db, "→ pla", body) == (2, [1])
    monkeypatch.setattr(search, "_MOST_WORDS", 2)
    assert suspected(db, "ord", body) == (2, None)
    assert suspected(db, "ord3", body) == (2, [2])
    monkeypatch.setattr(search, "_LONGEST_WORD", 4)
    assert suspected(db, "ord3", body) == (2, None)
    monkeypatch.setattr(search, "_MOST_SUSPECTS", 1)
    assert suspected(db, "ain", body) == (2, None)


def test_some_are_certain(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "TOGETHER", 5)
    long = "\r\n".join(["filler"] * (SEARCH_TEXT // 6))
    kept(
        db,
        message("grey", "brown"),
        message("two", "a greyhound"),
        message("three", "größer, a grey 駅馬車"),
        message("four", f"greyish {long}"),
        message("five", long),
    )

    def suspects(needle: str, where: str) -> Suspects | None:
        return db.runner.run(search.suspects(db.store, 1, needle, where))

    assert suspects("grey", search.BODY) == Suspects(5, frozenset({2, 3, 4, 5}), frozenset({2, 3, 4}))
    assert suspects("grey", search.HEAD) == Suspects(5, frozenset({1}))
    assert suspects("駅馬", search.BODY) == Suspects(5, frozenset({3, 4, 5}), frozenset({3}))
    # Words beside each other are no phrase.
    assert suspects("a grey", search.BODY) == Suspects(5, frozenset({2, 3, 4, 5}))
    assert suspects("unheard", search.BODY) == Suspects(5, frozenset({4, 5}))


def test_words_of_which_there_are_too_many_are_not_kept(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stranger writes fills no memory: nothing is ruled out by what is not kept."""
    monkeypatch.setattr(search, "TOGETHER", 2)
    monkeypatch.setattr(search, "_MOST_KEPT", 200)
    kept(db, message("one"), message("two"))
    assert suspected(db, "one") == (2, [1])
    kept(db, message("three", " ".join([f"word{number}" for number in range(100)])), message("four"))
    assert [len(row[0]) > 0 for row in db.rows("SELECT words FROM search_words ORDER BY upto")] == [True, False]
    assert suspected(db, "one") == suspected(db, "word7", search.BODY) == (4, None)
    monkeypatch.setattr(search, "_MOST_KEPT", 5)
    kept(db, message("five"), message("six"), message("seven"), message("eight"))
    assert db.runner.run(search.suspects_by_header(db.store, 1, "nowhere")) == Suspects(8, frozenset({5, 6, 7, 8}))


def test_texts_that_were_cut_are_always_suspected(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "TOGETHER", 3)
    long = message("long", "\r\n".join(["filler"] * (SEARCH_TEXT // 6)))
    in_place = message("short", "ends with a line\r\n")
    kept(db, in_place, long, message("größer", "ends with a line\r\n"))
    assert suspected(db, "nowhere", search.BODY) == (3, [2])


def test_headers_that_lie_elsewhere_are_always_suspected(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "TOGETHER", 4)

    def move_away(tx: Tx) -> None:
        tx.query("UPDATE blob SET place = 1, octets = NULL, name = 'elsewhere' WHERE id = 2", ())

    for number in (1, 2, 3, 4):
        db.write(file, 1, message("any", fields=f"X-Number: =?utf-8?Q?n=C3=BAmero{number}?=\r\n"))
    db.write(move_away)
    kept(db)
    assert db.runner.run(search.suspects_by_header(db.store, 1, "xylophone")) == Suspects(4, frozenset({2}))
    # All of a row's emails where one of them may be meant: half of the account's, so they are scanned.
    assert db.runner.run(search.suspects_by_header(db.store, 1, "número3")) == Suspects(4, None)
    assert db.runner.run(search.suspects_by_header(db.store, 1, "->")) == Suspects(4, None)


def test_words_that_are_made_anew_meanwhile_settle_nothing(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "TOGETHER", 3)
    for number in range(1, 7):
        db.write(file, 1, message(f"coach{number}"))
    kept(db)
    assert suspected(db, "oach2") == (6, [2])
    words = search._words

    async def interrupted(store: Store, account: int, patterns: Sequence[str]) -> list[list[str]]:
        found = await words(store, account, patterns)
        await store.write(search.reset, account)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(search, "_words", interrupted)
        assert suspected(db, "oach2") == (6, None)
    kept(db)
    with monkeypatch.context() as patch:
        # The rows are gone when they are looked at.
        patch.setattr(search, "_fields_page", lambda *_: None)
        assert db.runner.run(search.suspects_by_header(db.store, 1, "oach2")) == Suspects(6, None)
