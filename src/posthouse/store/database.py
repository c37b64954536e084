"""What a room sees of the database: a transaction to run named SQL in, and a store to hand functions of it to.

Promises, the same for every engine:
- A transaction is a plain function `def f(tx, ...)`, handed to `await store.write(f, ...)` or `store.read(f, ...)`.
  It runs in a thread of the store's, never on the event loop. It does no I/O but SQL, and may be run more than once.
- When `await store.write(...)` returns, what the function wrote survives loss of power. When it raises, nothing of it
  stands.
- A read sees everything whose write had returned when the read was handed over.
- What `tx.ring` asked for is rung after the commit, and never when there is none.
Demands of the function: it first locks every account it touches, in ascending id (`mailbox.model.lock_account`); it
catches no database error (`ON CONFLICT` instead); it has no effect outside `tx`.
Refuses: to say which engine runs. SQL stands by name in `store/sql/*.sql`.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Row = tuple[Any, ...]
Value = int | float | str | bytes | None


class Topic(StrEnum):
    """What a bell says to look at; `id` beside it is the account's, or 0 where a topic has only one subject."""

    ACCOUNT = "account"
    QUEUE = "queue"
    DIRECTORY = "directory"
    SEARCH = "search"
    JOURNEY = "journey"
    BLOCKS = "blocks"
    DIGESTS = "digests"
    SHARES = "shares"


class Tx(Protocol):
    """One database transaction. Statements are called by name; parameters by theirs."""

    def one(self, statement: str, **parameters: Value) -> Row | None:
        """The first row, or None."""
        ...

    def all(self, statement: str, **parameters: Value) -> list[Row]:
        """Every row. Whoever asks bounds the number by LIMIT."""
        ...

    def value(self, statement: str, **parameters: Value) -> Any:
        """The first column of the first row; None where there is no row."""
        ...

    def run(self, statement: str, **parameters: Value) -> int:
        """Carry the statement out; the number of rows it changed."""
        ...

    def put(self, statement: str, **parameters: Value) -> None:
        """Write something whose answer nobody waits for: carried out in order, before the next statement of another
        method and at the latest at the function's end. What stands between two others is carried out at once.
        """
        ...

    def many(self, statement: str, rows: Iterable[Mapping[str, Value]]) -> None:
        """Carry the statement out once for each row of parameters."""
        ...

    def query(self, sql: str, parameters: Sequence[Value]) -> list[Row]:
        """Run SQL that was compiled, with positional `?` parameters. Only for the compiler of mail queries."""
        ...

    def number(self, series: str) -> int:
        """The id of a new row: a number from 1 on that this series (`series` in the schema) has never given before.

        Numbers grow within a process; some are never used.
        """
        ...

    def ring(self, topic: Topic, id: int = 0) -> None:
        """After the commit, tell every process on this store to look at this. Carries no news."""
        ...


class Store(Protocol):
    """The database, opened."""

    async def read(self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` on a consistent snapshot that is released when it returns. It must not write."""
        ...

    async def write(self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` and commit. Cancelling the caller abandons the answer, not the commit.

        Raises what the function raised (its writes are undone, those of others in the same group stand),
        or StoreUnavailable where the database could not commit (disk full, I/O error): nothing stands then.
        """
        ...

    def listen(self, topic: Topic, id: int = 0) -> "Listener":
        """Hear the bell of this topic; `id` 0 hears every id of the topic."""
        ...

    def hear(self) -> None:
        """Hear now what other processes have rung: what one of them has committed before it answered has rung here."""
        ...

    async def close(self) -> None:
        """Finish the writes handed over, then close. Safe to call twice."""
        ...


class Listener(Protocol):
    """One ear to the bell. Several rings while nobody waited are heard as one."""

    async def wait(self) -> set[int]:
        """Wait until it rings; the ids that rang since the last wait. A set holding 0 means: look at all of them."""
        ...

    @property
    def rung(self) -> bool:
        """True where it rang since the last wait, which would return at once."""
        ...

    def also(self, rings: Iterable[tuple[Topic, int]]) -> None:
        """Hear these bells too, instead of those that were named so before: one wait is for all of them."""
        ...

    def close(self) -> None:
        """Hear no more."""
        ...

    def __aiter__(self) -> AsyncIterator[set[int]]: ...


class StoreUnavailable(Exception):
    """The database could not do it now (disk full, I/O error, locked); nothing was written. Doors answer 4xx."""


class StoreError(Exception):
    """The store cannot be opened: the message is one line for the person who started us."""
