"""Writes that are carried out together: a sequence of statements that was met often becomes one.

Each step of SQLite lets the interpreter's lock go and takes it again, which beside a busy loop costs more than most
statements do. So `Tx.put` gathers writes, and a sequence of them that comes again and again is made one statement: an
INSERT into a temporary view, whose trigger carries the sequence out with the values given.

Promises: what is done is what the statements would do one by one, in their order; where one of them fails, all of the
sequence are undone. A sequence that is not known yet is carried out one by one.
Refuses: to make anything inside a transaction, where a rollback would take it away again.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import apsw

from posthouse.store.statements import Statement, replace_parameters

# A sequence is made of so many statements at most.
MOST: Final = 32
# A sequence is worth making when it has been met so often; so many are kept.
_OFTEN: Final = 8
_KEPT: Final = 64
# Sequences looked at, while they are not met often.
_WATCHED: Final = 1000

log = logging.getLogger(__name__)


class Together(NamedTuple):
    """What carries a sequence out at once, the values of all its statements given in order: so many."""

    sql: str
    values: int


def rounds(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A sequence too long to be made one, as the shorter ones that it is made of: each begins with the statement that
    is the first to come again."""
    seen: set[str] = set()
    again = None
    for name in names:
        if name in seen:
            again = name
            break
        seen.add(name)
    start = 0
    for at, name in enumerate(names):
        if name == again and at > start:
            yield tuple(names[start:at])
            start = at
    yield tuple(names[start:])


class Sequences:
    """The sequences of one connection."""

    __slots__ = ("_connection", "_made", "_met", "_worth")

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._made: dict[tuple[str, ...], Together | None] = {}
        self._met: dict[tuple[str, ...], int] = {}
        self._worth: dict[tuple[str, ...], Sequence[Statement]] = {}

    def find(self, names: tuple[str, ...]) -> Together | None:
        """What carries these statements out at once; None where nothing does."""
        return self._made.get(names)

    def met(self, names: tuple[str, ...], statements: Sequence[Statement]) -> None:
        """This sequence was carried out one by one."""
        if not 1 < len(names) <= MOST or names in self._made or len(self._made) >= _KEPT:
            return
        if len(self._met) >= _WATCHED:
            self._met.clear()
        self._met[names] = self._met.get(names, 0) + 1
        if self._met[names] >= _OFTEN:
            self._worth[names] = statements

    def make(self) -> None:
        """Make what is worth it. Outside a transaction."""
        for names, statements in self._worth.items():
            name = f"together_{len(self._made)}"
            try:
                self._connection.execute(definition(name, statements))
            except apsw.Error:
                # It goes on one by one; somebody should see why.
                log.exception("a sequence of statements could not be made one: %s", ", ".join(names))
                self._made[names] = None
            else:
                values = sum(len(one.names) for one in statements)
                sql = f"INSERT INTO temp.{name} VALUES (NULL{', ?' * values})"  # noqa: S608 (a name of ours and marks)
                self._made[names] = Together(sql, values)
            self._met.pop(names, None)
        self._worth.clear()


def definition(name: str, statements: Sequence[Statement]) -> str:
    """The SQL that makes a view whose insert trigger carries the statements out."""
    columns: list[str] = []
    bodies: list[str] = []
    for statement in statements:
        first = len(columns)
        places = {parameter: f"new.v{first + at}" for at, parameter in enumerate(statement.names)}
        bodies.append(f"{replace_parameters(statement.sql, places)};")
        columns += [f"v{first + at}" for at in range(len(statement.names))]
    # Where no statement takes a value, the view needs a column all the same.
    nulls = ", ".join([f"NULL AS {column}" for column in ("v", *columns)])
    body = "\n".join(bodies)
    return (
        f"CREATE TEMP VIEW {name} AS SELECT {nulls};\n"
        f"CREATE TEMP TRIGGER {name}_run INSTEAD OF INSERT ON {name} BEGIN\n{body}\nEND"
    )
