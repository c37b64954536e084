"""Creating, migrating and refusing files."""

import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from posthouse.store import sqlite_schema
from posthouse.store.database import StoreError
from tests.store.support import count, get, open_store, opened, put
from tests.support import run

LAST = max(sqlite_schema.migrations())


def pragma(path: Path, name: str) -> object:
    connection = apsw.Connection(str(path))
    value = connection.pragma(name)
    connection.close()
    return value


def test_a_new_file_has_what_is_chosen_at_creation(tmp_path: Path) -> None:
    path = tmp_path / "posthouse.db"
    sqlite_schema.prepare(path)
    assert pragma(path, "page_size") == sqlite_schema.PAGE_SIZE
    assert pragma(path, "auto_vacuum") == 2
    assert pragma(path, "journal_mode") == "wal"
    assert pragma(path, "user_version") == LAST


def test_the_secret_is_made_once(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    second = open_store(tmp_path)
    assert len(first.secret) == 32
    assert first.secret == second.secret
    run(first.close())
    run(second.close())


def test_missing_migrations_run_and_keep_what_is_there(tmp_path: Path) -> None:
    async def write() -> int:
        async with opened(tmp_path) as store:
            return await store.write(put, b"old")

    row = run(write())
    path = tmp_path / "posthouse.db"
    more = sqlite_schema.migrations() | {
        LAST + 1: "CREATE TABLE later (a INTEGER) STRICT; INSERT INTO later VALUES (1);",
        LAST + 2: "ALTER TABLE later ADD COLUMN b INTEGER; UPDATE later SET b = a + 1;",
    }
    sqlite_schema.prepare(path, steps=more)
    connection = apsw.Connection(str(path))
    assert connection.execute("SELECT a, b FROM later").fetchall() == [(1, 2)]
    assert connection.execute("SELECT octets FROM blob WHERE id = ?", (row,)).fetchall() == [(b"old",)]
    connection.close()


def test_a_migration_that_fails_leaves_the_old_version(tmp_path: Path) -> None:
    path = tmp_path / "posthouse.db"
    sqlite_schema.prepare(path)
    more = sqlite_schema.migrations() | {
        LAST + 1: "CREATE TABLE later (a INTEGER);",
        LAST + 2: "CREATE TABLE later (b);",
    }
    with pytest.raises(StoreError, match="later"):
        sqlite_schema.prepare(path, steps=more)
    assert pragma(path, "user_version") == LAST
    more[LAST + 2] = "DROP TABLE later"
    sqlite_schema.prepare(path, steps=more)


def test_a_newer_version_is_refused_in_one_line_that_names_both(tmp_path: Path) -> None:
    path = tmp_path / "posthouse.db"
    sqlite_schema.prepare(path, steps=sqlite_schema.migrations() | {LAST + 7: "CREATE TABLE later (a)"})
    with pytest.raises(StoreError) as refused:
        open_store(tmp_path)
    assert str(refused.value) == (f"{path}: the store has version {LAST + 7}, this program knows versions up to {LAST}")


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "posthouse.db"
    path.write_bytes(b"From alice@example.org\n" * 400)
    with pytest.raises(StoreError, match="this file is not a database"):
        open_store(tmp_path)
    path.unlink()
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE recipes (name)")
    connection.close()
    with pytest.raises(StoreError, match="belongs to another program"):
        open_store(tmp_path)
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(StoreError, match="belongs to another program"):
        open_store(tmp_path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "posthouse.db"
    sqlite_schema.prepare(path)
    octets = bytearray(path.read_bytes())
    octets[100:4096] = bytes(range(256)) * 15 + bytes(156)
    path.write_bytes(octets)
    with pytest.raises(StoreError, match="damaged"):
        open_store(tmp_path)


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened or written"):
        open_store(tmp_path / "nowhere")
    (tmp_path / "posthouse.db").mkdir()
    with pytest.raises(StoreError, match="cannot be opened or written"):
        open_store(tmp_path)


def test_processes_that_start_at_once_create_one_store(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}; from pathlib import Path; "
        "from posthouse.store import sqlite_schema; sqlite_schema.prepare(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "posthouse.db")]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    assert [process.communicate()[1] for process in started] == [b""] * 4

    async def main() -> None:
        async with opened(tmp_path) as store:
            row = await store.write(put, b"x")
            assert await store.read(get, row) == b"x"
            assert await store.read(count) == 1

    run(main())
