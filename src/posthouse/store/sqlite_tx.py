"""A connection to SQLite, and the transaction that a room's function sees of it.

Promises: a Tx is thin: a name becomes prepared SQL and a tuple, nothing else happens on the way. What the database could
not do (disk full, I/O error, locked) comes out as StoreUnavailable, and no later statement of that function gets
through: an error of that kind may have rolled back the whole transaction, and SQL after it would commit by itself.
Refuses: to begin or end a transaction; that is the writer's and the readers' business.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from posthouse.store.database import Row, StoreUnavailable, Topic, Value
from posthouse.store.statements import Statement, load

# More than all rooms' statements: each is prepared once a connection.
STATEMENT_CACHE: Final = 1000
BUSY_MS: Final = 10_000

# What says "not now" and not "this program is wrong". FULL, IOERR, NOMEM, BUSY and INTERRUPT may have rolled back the whole
# transaction (https://www.sqlite.org/lang_transaction.html, section 3).
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
    """A connection as this store uses them. The file exists and is migrated."""
    connection = apsw.Connection(str(path), apsw.SQLITE_OPEN_READWRITE, vfs, STATEMENT_CACHE)
    connection.set_busy_timeout(BUSY_MS)
    connection.wal_autocheckpoint(0)
    for pragma in (
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "trusted_schema=OFF",
        f"cache_size=-{cache_kb}",
        f"query_only={'OFF' if writer else 'ON'}",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def as_unavailable(error: BaseException) -> StoreUnavailable:
    """What a caller is told of an error of the database's."""
    unavailable = StoreUnavailable(f"{type(error).__name__}: {error}")
    unavailable.__cause__ = error
    return unavailable


class SqliteTx:
    """Tx over one connection. The same object serves one function after the other."""

    __slots__ = ("_connection", "_cursor", "_failure", "_rings", "_statements")

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._statements = load("sqlite")
        self._failure: StoreUnavailable | None = None
        self._rings: set[tuple[Topic, int]] = set()

    def one(self, statement: str, **parameters: Value) -> Row | None:
        """The first row, or None."""
        # Every row is stepped through: a statement left half-way would keep its snapshot.
        rows = self._execute(self._statements[statement], parameters)
        return rows[0] if rows else None

    def all(self, statement: str, **parameters: Value) -> list[Row]:
        """Every row."""
        return self._execute(self._statements[statement], parameters)

    def value(self, statement: str, **parameters: Value) -> Any:
        """The first column of the first row; None where there is no row."""
        rows = self._execute(self._statements[statement], parameters)
        return rows[0][0] if rows else None

    def run(self, statement: str, **parameters: Value) -> int:
        """Carry the statement out; the number of rows it changed."""
        self._execute(self._statements[statement], parameters)
        return self._connection.changes()

    def many(self, statement: str, rows: Iterable[Mapping[str, Value]]) -> None:
        """Carry the statement out once for each row of parameters."""
        sql, _, bind = self._statements[statement]
        # All rows are made before the first is bound: making them may use this transaction.
        bound = [bind(row) for row in rows]
        if self._failure:
            raise self._failure
        try:
            self._cursor.executemany(sql, bound).fetchall()
        except UNAVAILABLE as error:
            raise self._failed(error) from error

    def query(self, sql: str, parameters: Sequence[Value]) -> list[Row]:
        """Run compiled SQL with positional parameters."""
        return self._fetch(sql, tuple(parameters))

    def ring(self, topic: Topic, id: int = 0) -> None:
        """After the commit, tell every process on this store to look at this."""
        self._rings.add((topic, id))

    def begin_function(self) -> set[tuple[Topic, int]]:
        """Forget what the function before this one asked for and met; the set that this one's rings will be in."""
        self._failure = None
        self._rings = set()
        return self._rings

    def end_function(self) -> None:
        """Raise again what the function caught and should not have: what it did after that was not done."""
        if self._failure:
            raise self._failure

    def control(self, sql: str) -> None:
        """BEGIN, SAVEPOINT, COMMIT and their like. Raises apsw.Error."""
        self._cursor.execute(sql)

    def close(self) -> None:
        """Close the connection."""
        self._cursor.close(force=True)
        self._connection.close(force=True)

    @property
    def connection(self) -> apsw.Connection:
        """The connection below, for checkpoints and pragmas."""
        return self._connection

    def _execute(self, statement: Statement, parameters: dict[str, Value]) -> list[Row]:
        sql, names, bind = statement
        bound = bind(parameters)
        if len(parameters) != len(names):
            raise TypeError(f"unknown parameters {sorted(parameters.keys() - set(names))} for: {sql}")
        return self._fetch(sql, bound)

    def _fetch(self, sql: str, bound: tuple[Value, ...]) -> list[Row]:
        if self._failure:
            raise self._failure
        try:
            return self._cursor.execute(sql, bound).fetchall()
        except UNAVAILABLE as error:
            raise self._failed(error) from error

    def _failed(self, error: apsw.Error) -> StoreUnavailable:
        self._failure = as_unavailable(error)
        return self._failure
