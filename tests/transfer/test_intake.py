"""Filing what comes: what is left behind where it fails, and names that no mailbox can have."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from posthouse.clock import SetClock
from posthouse.mailbox import mailboxes
from posthouse.store.database import StoreUnavailable
from posthouse.transfer.intake import Intake, Listener, fit
from posthouse.transfer.source import Flaw, Folder, Item, Known, Seen, SourceError
from tests.mailbox.support import NOW, Db, make_account

LARGE = b"Subject: large\r\n\r\n" + b"x" * 100_000
QUIET = Listener(lambda size: None, lambda name, why: None)


class Fixed:
    """A source of given messages. None: the connection is lost there."""

    def __init__(self, *texts: bytes | None) -> None:
        self._texts = texts

    def folders(self) -> list[Folder]:
        return [Folder(("x",), len(self._texts))]

    def items(self, folder: Folder, known: Known) -> Iterator[Item | Seen | Flaw]:
        for number, text in enumerate(self._texts):
            if text is None:
                raise SourceError("gone")
            if not known([str(number).encode()]):
                yield Item(str(number), str(number).encode(), frozenset(), False, NOW, iter([text]))

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with Db(tmp_path) as made:
        made.write(make_account)
        yield made


def intake(db: Db) -> Intake:
    return Intake(db.store, db.blobs, SetClock(NOW), 1, bytes(32))


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "blobs").rglob("*") if path.is_file() and path.stat().st_size > 1000]


def bring(db: Db, *texts: bytes | None) -> Intake:
    made = intake(db)
    source = Fixed(*texts)
    db.runner.run(made.bring(source, source.folders()[0], QUIET))
    return made


def test_what_was_filed_before_is_known(db: Db, tmp_path: Path) -> None:
    assert bring(db, LARGE, b"A: b\r\n\r\n").tally.filed == 2
    assert bring(db, LARGE, b"A: b\r\n\r\n", b"C: d\r\n\r\n").tally.filed == 1
    assert len(files(tmp_path)) == 1
    assert db.rows("SELECT messages, subscribed FROM mailbox WHERE name = 'x'") == [(3, 1)]


def test_a_source_that_ends_early_leaves_nothing_behind(db: Db, tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        bring(db, LARGE, None)
    assert files(tmp_path) == []
    assert db.blobs.has_room(60 * 1024 * 1024)


def test_a_store_that_cannot_write_leaves_nothing_behind(db: Db, tmp_path: Path) -> None:
    with mock.patch.object(db.store, "write", side_effect=StoreUnavailable("full")), pytest.raises(StoreUnavailable):
        bring(db, LARGE)
    assert files(tmp_path) == []


def test_who_is_cancelled_keeps_what_may_be_committed(db: Db, tmp_path: Path) -> None:
    with (
        mock.patch.object(db.store, "write", side_effect=asyncio.CancelledError),
        pytest.raises(asyncio.CancelledError),
    ):
        bring(db, LARGE)
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    ("path", "made"),
    [
        ((), "INBOX"),
        (("Work", "Old"), "Work/Old"),
        (("a/b",), "a_b"),
        (("",), "_"),
        (("a\x00b", "\r\n"), "a_b/__"),
        (("#x",), "_#x"),
        (("ü" * 300,), "ü" * 75),
        (("x" * 100_000,), "x" * 150),
        (("a",) * 30, "/".join(["a"] * 19) + "/" + "-".join(["a"] * 11)),
    ],
)
def test_paths_are_made_to_fit(path: tuple[str, ...], made: str) -> None:
    assert fit(path) == made
    assert mailboxes.split(fit(path))
