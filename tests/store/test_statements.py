"""Every room's SQL: named once, and compiling against the schema."""

from pathlib import Path

import apsw
import pytest

from posthouse.store import sqlite_schema
from posthouse.store.database import StoreError
from posthouse.store.sqlite_tx import SqliteTx, connect
from posthouse.store.statements import UnknownStatement, collect, load


def test_every_statement_compiles_and_binds_in_the_order_it_says(tmp_path: Path) -> None:
    sqlite_schema.prepare(tmp_path / "posthouse.db")
    connection = connect(tmp_path / "posthouse.db", writer=True, cache_kb=1000)
    wrong = []
    for name, statement in load("sqlite").items():
        try:
            cursor = connection.execute(statement.sql, (None,) * len(statement.names), explain=1)
            if cursor.bindings_names != statement.names:
                wrong.append(f"{name}: binds {cursor.bindings_names}, calls give {statement.names}")
            cursor.close(force=True)
        except apsw.Error as error:
            wrong.append(f"{name}: {error}")
    connection.close()
    assert wrong == []


def test_no_statement_walks_along_all_emails_or_placements_of_an_account(tmp_path: Path) -> None:
    sqlite_schema.prepare(tmp_path / "posthouse.db")
    connection = connect(tmp_path / "posthouse.db", writer=True, cache_kb=1000)
    walks = tuple(f"{how} " for p in "pe" for how in (f"SCAN {p}", f"SEARCH {p} USING PRIMARY KEY (account=?)"))
    wrong = []
    for name, statement in load("sqlite").items():
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", (None,) * len(statement.names))
        wrong += [f"{name}: {row[3]}" for row in plan if f"{row[3]} ".startswith(walks)]
    connection.close()
    assert wrong == []


def test_a_statement_is_its_sql_without_comments() -> None:
    found = collect({"a.sql": "-- of a room\n\n-- name: b\n-- why\nSELECT :x,  -- here :y\n ':z', :x;\n"}, "sqlite")
    assert found["b"].sql == "SELECT :x, ':z', :x"
    assert found["b"].names == ("x",)
    assert found["b"].reads


def test_each_engine_gets_its_spelling() -> None:
    text = "-- name: a (sqlite)\nSELECT 1\n-- name: a (postgres)\nSELECT 2\n-- name: b\nSELECT 3\n"
    assert collect({"a.sql": text}, "sqlite")["a"].sql == "SELECT 1"
    assert collect({"a.sql": text}, "postgres")["a"].sql == "SELECT 2"
    assert collect({"a.sql": text}, "postgres")["b"].sql == "SELECT 3"


@pytest.mark.parametrize(
    ("one", "other"),
    [("a", "a"), ("a (sqlite)", "a (sqlite)"), ("a", "a (postgres)"), ("a (postgres)", "a")],
)
def test_a_name_stands_once(one: str, other: str) -> None:
    with pytest.raises(StoreError, match=r"a stands twice: in 1\.sql and in 2\.sql"):
        collect({"1.sql": f"-- name: {one}\nSELECT 1", "2.sql": f"-- name: {other}\nSELECT 1"}, "sqlite")


def test_an_unknown_name_and_wrong_parameters_are_said_clearly(tmp_path: Path) -> None:
    sqlite_schema.prepare(tmp_path / "posthouse.db")
    tx = SqliteTx(connect(tmp_path / "posthouse.db", writer=True, cache_kb=1000))
    with pytest.raises(UnknownStatement, match="no statement is named 'blob_fnid'"):
        tx.one("blob_fnid", id=1)
    with pytest.raises(TypeError, match="parameter 'id' is missing for: SELECT id"):
        tx.one("blob_find")
    with pytest.raises(TypeError, match=r"unknown parameters \['di'\]"):
        tx.one("blob_find", id=1, di=2)
    tx.close()
