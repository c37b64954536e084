"""Searching mail: conditions as values, and the compiler that makes SQL of them. IMAP's SEARCH and JMAP's filters
meet here.

Promises: the answer is exact. Strings are compared as substrings in the folded form of `message.text.fold` (case and
compatibility forms folded, white space collapsed). SQL decides what it can; it may say "perhaps", and then the stored
octets decide (`verify.py`). A search reads a bounded number of emails in one transaction.
Refuses: to know IMAP's grammar, sequence numbers and time zones: doors turn dates into milliseconds.

How: a condition is asked three ways. `upper` is SQL that holds wherever the condition may hold; its negation is
`lower` of the negated part, SQL that holds only where the condition certainly does. Narrow SQL sees placement and
email; the text's sees the message's rows, which are looked up by their own id in a second step. What neither settles,
`truth` does, on the row and on the octets.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from posthouse.mailbox import emails, ranges, verify
from posthouse.message.text import CUT, fold
from posthouse.store.blobs import Blobs
from posthouse.store.database import Store, Tx, Value

# Emails looked at in one transaction: by their narrow rows, by their text, by their octets.
_NARROW: Final = 20_000
_TEXT: Final = 1000
_OCTETS: Final = 50
# More ranges than this are not said in SQL: limits.SEARCH_KEYS of them, each twice, are SQLite's 32,766 parameters.
_SQL_RANGES: Final = 8
# Words of a phrase that are looked for in SQL: the longest; parameters are bounded as above.
_SQL_WORDS: Final = 2
# A Date field's day may be this far from the day in UTC.
_ZONE: Final = 26 * 3600 * 1000
# Above every size there is; the numbers of SQL end not far beyond.
_LARGEST: Final = 1 << 62

_YES: Final = "1"
_NO: Final = "0"


@dataclass(frozen=True, slots=True)
class And:
    """All of them hold; of none: everything."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of them holds; of none: nothing."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """It does not hold."""

    part: "Condition"


@dataclass(frozen=True, slots=True)
class Uids:
    """The uid lies in one of these ranges: in order, ends included."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Keywords:
    """The email has all these keywords (bits)."""

    bits: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """The placement is marked \\Deleted."""


@dataclass(frozen=True, slots=True)
class Received:
    """Received at `since` or later, and before `before` (UTC milliseconds)."""

    since: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """The Date field's own day and time, without regard to its zone, compared as if it were UTC (RFC 9051 §6.4.4)."""

    since: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """More than `above` octets, and fewer than `below`, prologue included."""

    above: int | None = None
    below: int | None = None


@dataclass(frozen=True, slots=True)
class Modseq:
    """Changed at this modseq or later (RFC 7162 §3.1.5)."""

    least: int


@dataclass(frozen=True, slots=True)
class Subject:
    """The decoded subject contains this."""

    text: str


@dataclass(frozen=True, slots=True)
class Address:
    """A name or address in a field ("from", "to", "cc", "bcc") contains this."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Header:
    """A field of this name contains this, decoded; with an empty text: there is such a field."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Body:
    """The decoded text of a part contains this."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """Header or body contain this."""

    text: str


Leaf = Uids | Keywords | Deleted | Received | Sent | Size | Modseq | Subject | Address | Header | Body | Text
Condition = And | Or | Not | Leaf

# Upper and lower SQL of a leaf; None where that SQL cannot see it.
LeafSql = Callable[[Leaf], "tuple[Sql, Sql] | None"]

EVERYTHING: Final = And(())
NOTHING: Final = Or(())


class Row(NamedTuple):
    """What the narrow rows say of a placement."""

    uid: int
    email: int
    message: int
    keywords: int
    deleted: int
    received_at: int
    size: int
    modseq: int


class Sql(NamedTuple):
    """An expression with its positional parameters."""

    text: str
    parameters: tuple[Value, ...] = ()


async def search(
    store: Store, blobs: Blobs, account: int, mailbox: int, condition: Condition, uids: Sequence[int]
) -> list[int]:
    """Those of these uids (in order; a session's own) for which the condition holds, in order. Raises
    StoreUnavailable."""
    found: list[int] = []
    for start in range(0, len(uids), _NARROW):
        window = uids[start : start + _NARROW]
        rows = await store.read(narrow, account, mailbox, condition, window[0], window[-1])
        known = rows if len(rows) == len(window) else _within(rows, window)
        found += [row.uid for row, certain in known if certain]
        open_rows = [row for row, certain in known if not certain]
        found += await _search_texts(store, blobs, account, condition, open_rows)
    return sorted(found)


async def _search_texts(
    store: Store, blobs: Blobs, account: int, condition: Condition, rows: Sequence[Row]
) -> list[int]:
    """The second step: by the messages' rows."""
    found: list[int] = []
    for start in range(0, len(rows), _TEXT):
        chunk = rows[start : start + _TEXT]
        perhaps = await store.read(texts, condition, {row.message for row in chunk})
        doubtful: list[Row] = []
        for row in chunk:
            if row.message not in perhaps:
                continue
            verdict = truth(condition, row, perhaps[row.message])
            if verdict is None:
                doubtful.append(row)
            elif verdict:
                found.append(row.uid)
        found += await _search_octets(store, blobs, account, condition, doubtful)
    return found


async def _search_octets(
    store: Store, blobs: Blobs, account: int, condition: Condition, rows: Sequence[Row]
) -> list[int]:
    """The third step: by the stored octets."""
    found: list[int] = []
    for start in range(0, len(rows), _OCTETS):
        chunk = rows[start : start + _OCTETS]
        contents = await store.read(emails.contents, account, [row.email for row in chunk])
        for row in chunk:
            content = contents.get(row.email)
            if content is None:
                continue
            document = verify.Document(content.prologue, blobs.load(content.blob), content.parts)
            if truth(condition, row, {}, document):
                found.append(row.uid)
    return found


def _within(rows: Sequence[tuple[Row, bool]], window: Sequence[int]) -> list[tuple[Row, bool]]:
    wanted = set(window)
    return [item for item in rows if item[0].uid in wanted]


# the three ways to ask ------------------------------------------------------------------------------------------------


def narrow(tx: Tx, account: int, mailbox: int, condition: Condition, low: int, high: int) -> list[tuple[Row, bool]]:
    """Placements of these uids for which the condition may hold, in order, and whether it certainly does."""
    upper, lower = _bounds(condition, False, _narrow_sql)
    found = tx.query(
        "SELECT p.uid, p.email, e.message, e.keywords, p.deleted, e.received_at, e.size, p.modseq, "  # noqa: S608 (compiler)
        f"{lower.text} FROM placement AS p JOIN email AS e ON e.account = p.account AND e.id = p.email "
        f"WHERE p.account = ? AND p.mailbox = ? AND p.uid BETWEEN ? AND ? AND {upper.text} ORDER BY p.uid",
        (*lower.parameters, account, mailbox, low, high, *upper.parameters),
    )
    return [(Row._make(row[:8]), bool(row[8])) for row in found]


def texts(tx: Tx, condition: Condition, messages: Collection[int]) -> dict[int, dict[Leaf, bool | None]]:
    """Those of these messages for which the condition may hold, and what their rows say of each leaf about text."""
    leaves = [(leaf, sql) for leaf in dict.fromkeys(_leaves(condition)) if (sql := _text_sql(leaf)) is not None]
    upper, _ = _bounds(condition, False, _text_bounds)
    columns = "".join([f", {sql.text}" for _, sql in leaves])
    parameters = [value for _, sql in leaves for value in sql.parameters]
    found = tx.query(
        f"SELECT m.id{columns} FROM json_each(?) AS r CROSS JOIN message AS m "  # noqa: S608 (the compiler)
        "ON m.id BETWEEN r.value ->> 0 AND r.value ->> 1 "
        "LEFT JOIN message_text AS t ON t.message = m.id "
        f"LEFT JOIN blob AS b ON b.id = m.id AND m.text_at IS NOT NULL WHERE {upper.text}",
        (*parameters, ranges.pack(messages), *upper.parameters),
    )
    return {
        row[0]: {leaf: None if value is None else bool(value) for (leaf, _), value in zip(leaves, row[1:], strict=True)}
        for row in found
    }


def truth(
    condition: Condition,
    row: Row,
    known: dict[Leaf, bool | None],
    document: verify.Document | None = None,
) -> bool | None:
    """Whether the condition holds; None: not to be known without the octets."""
    match condition:
        case Not(part):
            verdict = truth(part, row, known, document)
            return None if verdict is None else not verdict
        case And(parts) | Or(parts):
            settling = isinstance(condition, Or)
            open_ = False
            for part in parts:
                verdict = truth(part, row, known, document)
                if verdict is settling:
                    return settling
                open_ = open_ or verdict is None
            return None if open_ else not settling
        case _:
            verdict = _narrow_truth(condition, row)
            if verdict is None:
                verdict = known.get(condition)
            if verdict is None and document is not None:
                verdict = _octets_truth(condition, document)
            return verdict


# compiling ------------------------------------------------------------------------------------------------------------


def _leaves(condition: Condition) -> Iterator[Leaf]:
    match condition:
        case Not(part):
            yield from _leaves(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from _leaves(part)
        case _:
            yield condition


def _bounds(condition: Condition, negated: bool, leaf_sql: LeafSql) -> tuple[Sql, Sql]:
    """`upper` and `lower` of a condition or of its negation."""
    match condition:
        case Not(part):
            return _bounds(part, not negated, leaf_sql)
        case And(parts) | Or(parts):
            word = " AND " if isinstance(condition, And) is not negated else " OR "
            both = [_bounds(part, negated, leaf_sql) for part in parts]
            return _join(word, [upper for upper, _ in both]), _join(word, [lower for _, lower in both])
        case _:
            found = leaf_sql(condition)
            if found is None:
                return Sql(_YES), Sql(_NO)
            upper, lower = found
            if negated:
                return Sql(f"NOT {lower.text}", lower.parameters), Sql(f"NOT {upper.text}", upper.parameters)
            return upper, lower


def _join(word: str, parts: Sequence[Sql]) -> Sql:
    if not parts:
        return Sql(_YES if word == " AND " else _NO)
    return Sql(f"({word.join([part.text for part in parts])})", tuple([v for part in parts for v in part.parameters]))


def _narrow_sql(leaf: Leaf) -> tuple[Sql, Sql] | None:
    """What the narrow rows say of a leaf: they know it, or they do not."""
    sql: Sql
    match leaf:
        case Uids(uid_ranges):
            if len(uid_ranges) > _SQL_RANGES:
                return None
            parts = [Sql("p.uid BETWEEN ? AND ?", (low, high)) for low, high in uid_ranges]
            sql = _join(" OR ", parts)
        case Keywords(bits):
            sql = Sql("(e.keywords & ?) = ?", (bits, bits))
        case Deleted():
            sql = Sql("p.deleted")
        case Received(since, before):
            sql = _between("e.received_at", since, before)
        case Size(above, below):
            sql = _between("e.size", None if above is None else min(above, _LARGEST) + 1, below)
        case Modseq(least):
            sql = Sql("p.modseq >= ?", (least,))
        case _:
            return None
    return sql, sql


def _between(column: str, least: int | None, below: int | None) -> Sql:
    parts = []
    if least is not None:
        parts.append(Sql(f"{column} >= ?", (least,)))
    if below is not None:
        parts.append(Sql(f"{column} < ?", (below,)))
    return _join(" AND ", parts)


def _text_bounds(leaf: Leaf) -> tuple[Sql, Sql] | None:
    sql = _text_sql(leaf)
    if sql is None:
        return None
    return Sql(f"coalesce({sql.text}, 1)", sql.parameters), Sql(f"coalesce({sql.text}, 0)", sql.parameters)


def _text_sql(leaf: Leaf) -> Sql | None:
    """What the message's rows say of a leaf: 1, 0, or NULL for "perhaps"."""
    match leaf:
        case Subject(text):
            # The head holds the subject and all addresses: what is not in there is not in the subject.
            return Sql("CASE WHEN instr(m.head, ?) THEN NULL ELSE 0 END", (fold(text),))
        case Address(_, text):
            return Sql("CASE WHEN instr(m.head, ?) THEN NULL ELSE 0 END", (verify.address_needle(text),))
        case Body(text):
            return _body_sql(fold(text))
        case Text(text):
            # Fields that the head does not hold are in the octets alone.
            body = _body_sql(fold(text))
            return Sql(f"CASE WHEN instr(m.head, ?) OR ({body.text}) THEN 1 END", (fold(text), *body.parameters))
        case Sent(since, before):
            inner = _between("m.sent_at", since and since + _ZONE, before and before - _ZONE)
            outer = _between("m.sent_at", since and since - _ZONE, before and before + _ZONE)
            return Sql(
                f"CASE WHEN {inner.text} THEN 1 WHEN {outer.text} THEN NULL ELSE 0 END",
                (*inner.parameters, *outer.parameters),
            )
        case _:
            return None


def _body_sql(needle: str) -> Sql:
    """Whether the body's text has this, which is folded."""
    # What stands in the blob as it is has its own white space: a needle of several words may be there where the words
    # are.
    words = sorted(needle.split(), key=len)[-_SQL_WORDS:] or [""]
    there = " AND ".join([f"instr({_IN_PLACE}, ?)"] * len(words))
    return Sql(
        f"CASE WHEN m.text_at IS NULL THEN CASE WHEN instr(t.body, ?) THEN 1 WHEN {_CUT} THEN NULL ELSE 0 END "
        f"WHEN b.place <> 0 THEN NULL WHEN {there} THEN {'1' if needle == words[0] else 'NULL'} ELSE 0 END",
        (needle, *words),
    )


_IN_PLACE: Final = "lower(CAST(substr(b.octets, m.text_at + 1) AS TEXT))"
# A text that was cut says nothing of what came behind.
_CUT: Final = f"substr(t.body, -1) = char({ord(CUT)})"


def _narrow_truth(leaf: Leaf, row: Row) -> bool | None:
    match leaf:
        case Uids(uid_ranges):
            index = bisect_right(uid_ranges, row.uid, key=_low)
            return index > 0 and uid_ranges[index - 1][1] >= row.uid
        case Keywords(bits):
            return row.keywords & bits == bits
        case Deleted():
            return bool(row.deleted)
        case Received(since, before):
            return (since is None or row.received_at >= since) and (before is None or row.received_at < before)
        case Size(above, below):
            return (above is None or row.size > above) and (below is None or row.size < below)
        case Modseq(least):
            return row.modseq >= least
        case _:
            return None


def _low(range_: tuple[int, int]) -> int:
    return range_[0]


def _octets_truth(leaf: Leaf, document: verify.Document) -> bool:
    match leaf:
        case Subject(text):
            return document.subject_contains(text)
        case Address(field, text):
            return document.address_contains(field, text)
        case Header(name, text):
            return document.header_contains(name, text)
        case Body(text):
            return document.body_contains(text)
        case Text(text):
            return document.contains(text)
        case Sent(since, before):
            day = document.sent_on
            return day is not None and (since is None or day >= since) and (before is None or day < before)
        case _:
            raise AssertionError(f"{leaf} is settled by its row")
