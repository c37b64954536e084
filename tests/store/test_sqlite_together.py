"""Writes that are gathered and carried out together."""

import logging
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.store import sqlite_schema, sqlite_together
from posthouse.store.sqlite_together import MOST, definition, rounds
from posthouse.store.sqlite_tx import SqliteTx, connect
from posthouse.store.statements import collect, load

STEPS = 50


@pytest.fixture
def tx(tmp_path: Path) -> Iterator[SqliteTx]:
    sqlite_schema.prepare(tmp_path / "posthouse.db")
    made = SqliteTx(connect(tmp_path / "posthouse.db", writer=True, cache_kb=1000))
    yield made
    made.close()


def domains(tx: SqliteTx) -> list[str]:
    return [row[0] for row in tx.query("SELECT name FROM domain ORDER BY created_at", ())]


def add(tx: SqliteTx, *names: str) -> None:
    tx.put("blob_suspect_insert", blob=len(names), since_at=0)
    for at, name in enumerate(names):
        tx.put("domain_insert", name=name, catch_all=None, created_at=at)


def function(tx: SqliteTx, *names: str) -> None:
    """As the writer runs one."""
    tx.begin_function()
    tx.control("BEGIN")
    add(tx, *names)
    tx.end_function()
    tx.control("COMMIT")


def steps_of(tx: SqliteTx, *names: str) -> int:
    """How many statements carry a function out."""
    seen: list[str] = []

    def note(cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
        seen.append(sql)
        return True

    tx.connection.exec_trace = note
    function(tx, *names)
    tx.connection.exec_trace = None
    tx.between_transactions()
    return len(seen) - 2


def test_a_sequence_that_comes_again_becomes_one_statement(tx: SqliteTx) -> None:
    for n in range(sqlite_together._OFTEN):
        assert steps_of(tx, f"a{n}", f"b{n}") == 3
    assert steps_of(tx, "x", "y") == 1
    assert tx.query("SELECT name, created_at FROM domain WHERE name IN ('x', 'y')", ()) == [("x", 0), ("y", 1)]
    assert tx.query("SELECT blob FROM blob_suspect", ()) == [(2,)]


def test_a_long_sequence_is_carried_out_in_rounds(tx: SqliteTx) -> None:
    """Each round is one statement, once it is known; all of it is done, in its order."""

    def many(start: int) -> None:
        for at in range(start, start + MOST):
            tx.put("blob_suspect_insert", blob=at, since_at=0)
            tx.put("domain_insert", name=f"d{at}", catch_all=None, created_at=at)
        tx.put("domain_insert", name=f"last{start}", catch_all=None, created_at=start + MOST)

    seen: list[str] = []

    def note(cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
        seen.append(sql)
        return True

    for start in (0, 100):
        tx.connection.exec_trace = note
        tx.begin_function()
        tx.control("BEGIN")
        many(start)
        tx.end_function()
        tx.control("COMMIT")
        tx.connection.exec_trace = None
        tx.between_transactions()
    # The first time one by one. Then each round at once, but for the last, which has one more.
    assert len(seen) - 4 == (2 * MOST + 1) + (MOST - 1 + 3)
    assert domains(tx) == [f"d{at}" for at in range(MOST)] + ["last0"] + [f"d{at}" for at in range(100, 100 + MOST)] + [
        "last100"
    ]


@given(st.lists(st.sampled_from("abcd"), min_size=1))
def test_rounds_are_the_sequence(names: list[str]) -> None:
    found = list(rounds(names))
    assert [name for some in found for name in some] == names
    # All but what stands before the first begin alike.
    assert len({some[0] for some in found[1:]}) <= 1


def test_what_follows_sees_what_was_put(tx: SqliteTx) -> None:
    tx.put("domain_insert", name="a", catch_all=None, created_at=1)
    assert domains(tx) == ["a"]
    tx.put("domain_insert", name="b", catch_all=None, created_at=2)
    assert tx.one("domain_find", name="b") is not None
    tx.put("domain_insert", name="c", catch_all=None, created_at=3)
    assert tx.run("domain_delete", name="c") == 1
    tx.put("domain_insert", name="d", catch_all=None, created_at=4)
    tx.many("domain_delete", [{"name": "d"}])
    assert domains(tx) == ["a", "b"]


def test_one_that_fails_undoes_its_sequence_and_no_more(tx: SqliteTx) -> None:
    for n in range(STEPS):
        steps_of(tx, f"a{n}", f"b{n}")
    tx.begin_function()
    tx.control("BEGIN")
    tx.run("domain_insert", name="before", catch_all=None, created_at=-1)
    add(tx, "new", "a0")
    with pytest.raises(apsw.ConstraintError):
        tx.end_function()
    assert domains(tx)[0] == "before"
    assert "new" not in domains(tx)
    tx.control("ROLLBACK")
    function(tx, "c", "d")
    assert {"c", "d"} <= set(domains(tx))


def test_what_a_function_left_behind_is_not_the_next_ones(tx: SqliteTx) -> None:
    tx.begin_function()
    add(tx, "a")
    tx.begin_function()
    tx.end_function()
    assert domains(tx) == []


def test_a_long_sequence_goes_on_one_by_one(tx: SqliteTx) -> None:
    for n in range(STEPS):
        assert steps_of(tx, *[f"{n}.{at}" for at in range(MOST)]) == MOST + 1
    assert len(domains(tx)) == STEPS * MOST


def test_a_sequence_that_cannot_be_made_goes_on_one_by_one(
    tx: SqliteTx, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_together, "definition", lambda name, statements: "CREATE NONSENSE")
    with caplog.at_level(logging.ERROR):
        for n in range(STEPS):
            assert steps_of(tx, f"a{n}", f"b{n}") == 3
    assert len(caplog.records) == 1
    assert len(domains(tx)) == 2 * STEPS


def test_every_write_can_stand_in_a_sequence(tmp_path: Path) -> None:
    sqlite_schema.prepare(tmp_path / "posthouse.db")
    connection = connect(tmp_path / "posthouse.db", writer=True, cache_kb=1000)
    found = load("sqlite")
    writes = [
        (name, statement)
        for name, statement in found.items()
        if statement.sql.startswith(("INSERT", "UPDATE", "DELETE")) and "RETURNING" not in statement.sql
    ]
    assert len(writes) > 50
    wrong = []
    for number, (name, statement) in enumerate(writes):
        try:
            connection.execute(definition(f"t{number}", [statement, statement]))
            marks = ", NULL" * 2 * len(statement.names)
            connection.execute(f"EXPLAIN INSERT INTO temp.t{number} VALUES (NULL{marks})")
        except apsw.Error as error:
            wrong.append(f"{name}: {error}")
    connection.close()
    assert wrong == []


def test_values_take_the_places_of_parameters() -> None:
    found = collect({"a.sql": "-- name: b\nUPDATE t SET a = :x, b = ':y' WHERE c = :y OR d = :x"}, "sqlite")
    assert definition("n", [found["b"], found["b"]]) == (
        "CREATE TEMP VIEW n AS SELECT NULL AS v, NULL AS v0, NULL AS v1, NULL AS v2, NULL AS v3;\n"
        "CREATE TEMP TRIGGER n_run INSTEAD OF INSERT ON n BEGIN\n"
        "UPDATE t SET a = new.v0, b = ':y' WHERE c = new.v1 OR d = new.v0;\n"
        "UPDATE t SET a = new.v2, b = ':y' WHERE c = new.v3 OR d = new.v2;\n"
        "END"
    )
