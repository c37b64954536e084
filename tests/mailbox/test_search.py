"""The index of words, behind the commit."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.mailbox import emails, retention, search
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
    return db.read(search.find_words, account, match, 100)


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
    db.write(emails.expunge, 1, INBOX, [4, 5], NOW)
    assert index_all(db, 4) == 3
    assert found(db, "alice") == [1, 2, 3, 6, 7, 8, 9]
    monkeypatch.setattr(search, "BATCH_CHARACTERS", 1)
    db.write(search.reset, 1)
    assert index_all(db) == 5
    assert found(db, "alice") == [1, 2, 3, 6, 7, 8, 9]


def test_scripts_without_spaces_are_found_by_two_characters(db: Db) -> None:
    db.write(file, 1, message("x", "駅馬車は九時に出ます。 한국어 메일 中"))
    index_all(db)
    assert search.words("駅馬車 ok") == " 駅馬 馬車  ok"
    for word in ("駅馬", "馬車", "九時", "한국", "中"):
        assert found(db, search.words(word)) == [1], word
    assert found(db, search.words("馬出")) == []


def test_texts_in_place_and_others_are_indexed_alike(db: Db) -> None:
    db.write(file, 1, message("Stagecoach", "grey\r\nhorse"))
    db.write(file, 1, message("Grüße", "grey horse"))
    db.write(file, 1, message("Stagecoach", "grey\r\nstallion, größer"))
    index_all(db)
    stored = db.rows("SELECT message, body FROM message_text")
    assert stored == [(3, "grey stallion, grösser")]
    assert (found(db, '"grey horse"'), found(db, '"grey stallion"'), found(db, "grusse")) == ([1, 2], [3], [2])
    db.write(search.reset, 1)
    index_all(db)
    assert found(db, "grey") == [1, 2, 3]


def test_what_is_dropped_is_forgotten(db: Db) -> None:
    db.write(file, 1, message("Stagecoach"))
    index_all(db)
    db.write(emails.expunge, 1, INBOX, [1], NOW)
    db.write(retention.drop_expunged, NOW + 1, NOW + 1)
    assert found(db, "stagecoach") == []


def test_the_worker_follows_the_bell(db: Db) -> None:
    async def main() -> int:
        worker = asyncio.create_task(search.keep_indexed(db.store))
        try:
            for number in range(3):
                await db.store.write(file, 1, message(f"word{number}"))
                async with asyncio.timeout(10):
                    while await db.store.read(search.find_words, 1, f"word{number}", 9) != [number + 1]:
                        await asyncio.sleep(0.01)
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        return (await db.store.write(search.index_pending)).moved

    assert db.runner.run(main()) == 0
