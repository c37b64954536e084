"""A connection to SQLite, and the transaction that a room's function sees of it.

Promises: a Tx is thin: a name becomes prepared SQL and a tuple, nothing else happens on the way. What the database
could not do (disk full, I/O error, locked) comes out as StoreUnavailable, and no later statement of that function gets
through: an error of that kind may have rolled back the whole transaction, and SQL after it would commit by itself.
Refuses: to begin or end a transaction; that is the writer's and the readers' business.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from posthouse.store.database import Row, StoreUnavailable, Topic, Value
from posthouse.store.sqlite_together import MOST, Sequences, rounds
from posthouse.store.statements import Statement, load

# Statements kept prepared. apsw looks for one by walking along all of these places, and lets go of the one whose place
# comes round: more would cost the frequent ones, fewer the rare ones.
STATEMENT_CACHE: Final = 200
# Numbers of a series that a connection takes at once.
NUMBERS: Final = 100
BUSY_MS: Final = 10_000

# What says "not now" and not "this program is wrong". FULL, IOERR, NOMEM, BUSY and INTERRUPT may have rolled back the
# whole transaction (https://www.sqlite.org/lang_transaction.html, section 3).
UNAVAILABLE: Final = (
    apsw.FullError,
    apsw.IOError,
    apsw.NoMemError,
    apsw.BusyError,
    apsw.InterruptError,
    apsw.LockedError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.PermissionsError,
    apsw.ProtocolError,
)


def connect(path: Path, *, writer: bool, cache_kb: int, vfs: str | None = None) -> apsw.Connection:
    """A connection as this store uses them. The file exists and is migrated. Raises apsw.Error."""
    connection = apsw.Connection(str(path), apsw.SQLITE_OPEN_READWRITE, vfs, STATEMENT_CACHE)
    connection.set_busy_timeout(BUSY_MS)
    connection.wal_autocheckpoint(0)
    # A plan does not depend on the values bound: SQLite would else prepare some statements again at each new binding,
    # which cost half of the time of filing.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.pragma("synchronous", "FULL")
    connection.pragma("foreign_keys", True)
    connection.pragma("temp_store", "MEMORY")
    connection.pragma("trusted_schema", False)
    connection.pragma("cache_size", -cache_kb)
    connection.pragma("query_only", not writer)
    return connection


def as_unavailable(error: BaseException) -> StoreUnavailable:
    """What a caller is told of an error of the database's."""
    unavailable = StoreUnavailable(f"{type(error).__name__}: {error}")
    unavailable.__cause__ = error
    return unavailable


class SqliteTx:
    """Tx over one connection. The same object serves one function after the other."""

    __slots__ = (
        "_cursor", "_failure", "_names", "_numbers", "_rings", "_sequences", "_statements", "_values", "connection",
    )  # fmt: skip

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        # One cursor for everything: whatever is executed next ends the statement before it.
        self._cursor = connection.cursor()
        self._statements = load("sqlite")
        self._failure: StoreUnavailable | None = None
        self._rings: set[tuple[Topic, int]] = set()
        # What `put` has gathered: names of statements, and the values of all of them in order.
        self._names: list[str] = []
        self._values: list[Value] = []
        self._sequences = Sequences(connection)
        # Of each series, the next number and the first that is not ours.
        self._numbers: dict[str, tuple[int, int]] = {}

    def one(self, statement: str, **parameters: Value) -> Row | None:
        """The first row, or None."""
        return self._first(self._statements[statement], parameters)

    def all(self, statement: str, **parameters: Value) -> list[Row]:
        """Every row."""
        found = self._statements[statement]
        return self._rows(found.sql, _bound(found, parameters))

    def value(self, statement: str, **parameters: Value) -> Any:
        """The first column of the first row; None where there is no row."""
        row = self._first(self._statements[statement], parameters)
        return row[0] if row else None

    def run(self, statement: str, **parameters: Value) -> int:
        """Carry the statement out; the number of rows it changed."""
        found = self._statements[statement]
        self._execute(found.sql, _bound(found, parameters))
        return self.connection.changes()

    def put(self, statement: str, **parameters: Value) -> None:
        """Write something whose answer nobody waits for, at the latest at the function's end."""
        found = self._statements[statement]
        try:
            values = found.bind(parameters)
        except KeyError:
            values = ()
        if len(values) != len(parameters):
            _bound(found, parameters)  # which says what is wrong
        self._values += values
        self._names.append(statement)

    def many(self, statement: str, rows: Iterable[Mapping[str, Value]]) -> None:
        """Carry the statement out once for each row of parameters."""
        found = self._statements[statement]
        # All rows are made before the first is bound: making them may use this transaction.
        bound = [_bound(found, row) for row in rows]
        if self._names:
            self._put_gathered()
        if self._failure:
            raise self._failure
        try:
            self._cursor.executemany(found.sql, bound).fetchall()
        except UNAVAILABLE as error:
            raise self._failed(error) from error

    def query(self, sql: str, parameters: Sequence[Value]) -> list[Row]:
        """Run compiled SQL with positional parameters."""
        return self._rows(sql, tuple(parameters))

    def number(self, series: str) -> int:
        """A number that this series has never given before."""
        number, end = self._numbers.get(series, (0, 0))
        if number == end:
            number = self.value("series_take", series=series, count=NUMBERS)
            end = number + NUMBERS
        self._numbers[series] = (number + 1, end)
        return number

    def ring(self, topic: Topic, id: int = 0) -> None:
        """After the commit, tell every process on this store to look at this."""
        self._rings.add((topic, id))

    def begin_function(self) -> set[tuple[Topic, int]]:
        """Forget what the function before this one asked for and met; the set that this one's rings will be in."""
        self._failure = None
        if self._names:
            self._names, self._values = [], []
        self._rings = set()
        return self._rings

    def end_function(self) -> None:
        """Write what is gathered. Raise again what the function caught and should not have: what it did after that was
        not done."""
        if self._names:
            self._put_gathered()
        if self._failure:
            raise self._failure

    def control(self, sql: str) -> None:
        """BEGIN, SAVEPOINT, COMMIT and their like. Raises apsw.Error."""
        self._cursor.execute(sql)

    def rolled_back(self) -> None:
        """Something was undone, perhaps the taking of numbers."""
        self._numbers.clear()

    def between_transactions(self) -> None:
        """What can be prepared for the next transactions now."""
        self._sequences.make()

    def close(self) -> None:
        """Close the connection."""
        self._cursor.close(force=True)
        self.connection.close(force=True)

    def _first(self, statement: Statement, parameters: Mapping[str, Value]) -> Row | None:
        bound = _bound(statement, parameters)
        if self._names:
            self._put_gathered()
        if self._failure:
            raise self._failure
        try:
            cursor = self._cursor.execute(statement.sql, bound)
            if statement.reads:
                return cursor.fetchone()  # the step to the end is saved; what is executed next resets it
            rows = cursor.fetchall()
        except UNAVAILABLE as error:
            raise self._failed(error) from error
        return rows[0] if rows else None

    def _put_gathered(self) -> None:
        """Carry out what `put` gathered."""
        names, values = self._names, self._values
        self._names, self._values = [], []
        if len(names) <= MOST:
            self._carry_out(tuple(names), values)
            return
        at = 0
        for some in rounds(names):
            at += self._carry_out(some, values, at)

    def _carry_out(self, names: tuple[str, ...], values: Sequence[Value], start: int = 0) -> int:
        """Carry these statements out: as one, where the sequence is known; else one by one. How many values it took."""
        if (together := self._sequences.find(names)) is not None:
            whole = len(values) == together.values
            self._execute(together.sql, values if whole else values[start : start + together.values])
            return together.values
        statements = [self._statements[name] for name in names]
        at = start
        for statement in statements:
            end = at + len(statement.names)
            self._execute(statement.sql, values[at:end])
            at = end
        self._sequences.met(names, statements)
        return at - start

    def _execute(self, sql: str, bound: Sequence[Value]) -> None:
        if self._names:
            self._put_gathered()
        if self._failure:
            raise self._failure
        try:
            self._cursor.execute(sql, bound)
        except UNAVAILABLE as error:
            raise self._failed(error) from error

    def _rows(self, sql: str, bound: tuple[Value, ...]) -> list[Row]:
        if self._names:
            self._put_gathered()
        if self._failure:
            raise self._failure
        try:
            return self._cursor.execute(sql, bound).fetchall()
        except UNAVAILABLE as error:
            raise self._failed(error) from error

    def _failed(self, error: apsw.Error) -> StoreUnavailable:
        self._failure = as_unavailable(error)
        return self._failure


def _bound(statement: Statement, parameters: Mapping[str, Value]) -> tuple[Value, ...]:
    """The parameters in the statement's order. A call that does not fit is a mistake in the program: TypeError."""
    try:
        bound = statement.bind(parameters)
    except KeyError as missing:
        raise TypeError(f"parameter {missing} is missing for: {statement.sql}") from None
    if len(parameters) != len(bound):
        raise TypeError(f"unknown parameters {sorted(parameters.keys() - set(statement.names))} for: {statement.sql}")
    return bound
