"""The SQL of all rooms, by name: each room's statements stand in one file `sql/<room>.sql`.

A statement begins with a line `-- name: emails_insert` and reaches to the next such line; comment lines may stand
anywhere in it. Parameters are written `:name`. Where two engines must say a thing differently, both spellings stand
under the same name: `-- name: emails_insert (sqlite)` and `-- name: emails_insert (postgres)`.

Promises: every file is read once a process; a name means one statement; the order of parameters is worked out here,
so that a call is a lookup and a tuple.
Refuses: SQL that is put together at run time (the one exception is the compiler of mail queries: `Tx.query`).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from operator import itemgetter
from typing import Any, NamedTuple

from posthouse.store.database import StoreError, Value

Binder = Callable[[Mapping[str, Value]], tuple[Value, ...]]

_HEADING = re.compile(r"^-- name: (\w+)(?: \((\w+)\))?[ \t]*$", re.MULTILINE)
# What a parameter cannot stand in: 'text', "identifier", -- comment.
_OPAQUE = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*")
_PARAMETER = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")


class UnknownStatement(LookupError):
    """No file in `sql/` has a statement of this name: a mistake in the program."""


class Statement(NamedTuple):
    """One statement: its text without comments, and how a call's parameters become the tuple that it binds."""

    sql: str
    names: tuple[str, ...]
    bind: Binder
    reads: bool  # nothing is changed by it, so it need not be stepped to its end


class Statements(dict[str, Statement]):
    """All statements of one engine by name. Raises UnknownStatement."""

    def __missing__(self, name: str) -> Statement:
        raise UnknownStatement(f"no statement is named {name!r} in store/sql/*.sql")


@cache
def load(engine: str) -> Statements:
    """The statements as `engine` spells them. Raises StoreError where a name stands twice or a file is malformed."""
    texts = {
        entry.name: entry.read_text("utf-8")
        for entry in files("posthouse.store").joinpath("sql").iterdir()
        if entry.name.endswith(".sql")
    }
    return collect(texts, engine)


def collect(texts: Mapping[str, str], engine: str) -> Statements:
    """The statements of these files (name → text) as `engine` spells them. Raises StoreError."""
    found = Statements()
    homes: dict[str, dict[str | None, str]] = {}
    for file, text in sorted(texts.items()):
        for name, spelling, sql in _split(file, text):
            spellings = homes.setdefault(name, {})
            # A name is either said once for all engines, or once for each.
            if spelling in spellings or None in spellings or (spelling is None and spellings):
                raise StoreError(f"statement {name} stands twice: in {next(iter(spellings.values()))} and in {file}")
            spellings[spelling] = file
            if spelling in (None, engine):
                found[name] = _statement(sql)
    return found


def _split(file: str, text: str) -> Iterator[tuple[str, str | None, str]]:
    headings = list(_HEADING.finditer(text))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        sql = text[heading.end() : following.start() if following else len(text)]
        yield heading[1], heading[2], sql


def _statement(sql: str) -> Statement:
    bare = _OPAQUE.sub(lambda match: "" if match[0].startswith("--") else match[0], sql)
    plain = " ".join(bare.split()).rstrip(";").rstrip()
    names = tuple(dict.fromkeys(_PARAMETER.findall(_OPAQUE.sub("''", plain))))
    return Statement(plain, names, _binder(names), plain[:7].upper() == "SELECT ")


def replace_parameters(sql: str, places: Mapping[str, str]) -> str:
    """A statement's SQL with something else in place of each of its parameters."""
    kept: list[str] = []
    at = 0
    for opaque in _OPAQUE.finditer(sql):
        kept += [_PARAMETER.sub(lambda found: places[found[1]], sql[at : opaque.start()]), opaque[0]]
        at = opaque.end()
    kept.append(_PARAMETER.sub(lambda found: places[found[1]], sql[at:]))
    return "".join(kept)


def _binder(names: tuple[str, ...]) -> Binder:
    if len(names) > 1:
        pick: Callable[[Mapping[str, Any]], tuple[Any, ...]] = itemgetter(*names)
        return pick
    if names:
        only = names[0]
        return lambda parameters: (parameters[only],)
    return lambda _: ()
