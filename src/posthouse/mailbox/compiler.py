"""Conditions as SQL: what the rows of the database say of them.

Promises: `upper` holds wherever the condition may hold, `lower` only where it certainly does. `narrow` asks placement
and email, `texts` the messages' rows, which are looked up by their own id in a second step; what a row cannot know is
None. Parameters are bounded by limits.SEARCH_KEYS.
Refuses: to look into octets; `query` does, where these leave it open.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from posthouse.limits import SEARCH_TEXT
from posthouse.mailbox import ranges
from posthouse.mailbox.conditions import (
    ZONE,
    And,
    Body,
    Condition,
    Deleted,
    Fields,
    Head,
    Keywords,
    Leaf,
    Modseq,
    Not,
    OfEmail,
    OfThread,
    Or,
    Received,
    Saved,
    Sent,
    Size,
    Uids,
    leaves,
)
from posthouse.message.text import CUT, HEAD_FIELDS
from posthouse.store.database import Tx, Value

# Words of a phrase that are looked for in SQL: the longest. limits.SEARCH_KEYS of them have to be parameters.
_SQL_WORDS: Final = 2
# LIKE goes through text twice as fast as instr, and compares longer strings a letter at a time.
_LIKED: Final = 32
_WILD: Final = re.compile("[!%_]")
# Above every size there is; the numbers of SQL end not far beyond.
_LARGEST: Final = 1 << 62

# Leaves that one statement asks for: to plan for hundreds takes SQLite a tenth of a second.
AT_ONCE: Final = 16

_YES: Final = "1"
_NO: Final = "0"


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
    thread: int
    saved_at: int


class Sql(NamedTuple):
    """An expression with its positional parameters."""

    text: str
    parameters: tuple[Value, ...] = ()


_ALWAYS: Final = Sql(_YES)

# Upper and lower SQL of a leaf; None where that SQL cannot see it.
LeafSql = Callable[[Leaf], "tuple[Sql, Sql] | None"]
# What the messages' rows say of leaves; one that is not there they cannot know.
Known = Mapping[Leaf, bool | None]


def narrow(tx: Tx, account: int, mailbox: int, condition: Condition, uids: str) -> list[tuple[Row, bool]]:
    """Placements of these uids (ranges) for which the condition may hold, in order, and whether it certainly does."""
    upper, lower = _bounds(condition, False, _narrow_sql)
    found = tx.query(
        "SELECT p.uid, p.email, e.message, e.keywords, p.deleted, e.received_at, e.size, "  # noqa: S608
        "max(p.modseq, e.modseq), e.thread, p.saved_at, "
        f"{lower.text} FROM json_each(?) AS r CROSS JOIN placement AS p ON p.account = ? AND p.mailbox = ? "
        "AND p.uid BETWEEN r.value ->> 0 AND r.value ->> 1 "
        f"CROSS JOIN email AS e ON e.account = p.account AND e.id = p.email WHERE {upper.text} ORDER BY p.uid",
        (*lower.parameters, uids, account, mailbox, *upper.parameters),
    )
    return [(Row._make(row[:-1]), bool(row[-1])) for row in found]


def texts(tx: Tx, condition: Condition, messages: Collection[int]) -> dict[int, Known]:
    """Those of these messages for which the condition may hold, and what their rows say of each leaf about text."""
    upper, _ = _bounds(condition, False, _text_bounds)
    return said(tx, tuple(dict.fromkeys(leaves(condition))), messages, upper)


def is_of_texts(leaf: Leaf) -> bool:
    """Whether a message's rows may say something of this leaf."""
    return _text_sql(leaf) is not None


def said(tx: Tx, asked_for: Sequence[Leaf], messages: Collection[int], where: Sql = _ALWAYS) -> dict[int, Known]:
    """What the rows of these messages say of each of these leaves, of those messages where this holds."""
    asked = [(leaf, sql) for leaf in asked_for if (sql := _text_sql(leaf)) is not None]
    columns = "".join([f", {sql.text}" for _, sql in asked])
    parameters = [value for _, sql in asked for value in sql.parameters]
    found = tx.query(
        f"SELECT m.id{columns} FROM json_each(?) AS r CROSS JOIN message AS m "  # noqa: S608 (the compiler)
        "ON m.id BETWEEN r.value ->> 0 AND r.value ->> 1 "
        "LEFT JOIN message_text AS t ON t.message = m.id "
        f"LEFT JOIN blob AS b ON b.id = m.id AND m.text_at IS NOT NULL WHERE {where.text}",
        (*parameters, ranges.pack(messages), *where.parameters),
    )
    return {
        row[0]: {leaf: _said(leaf, value) for (leaf, _), value in zip(asked, row[1:], strict=True)} for row in found
    }


def _said(leaf: Leaf, value: int | str | None) -> bool | None:
    if isinstance(leaf, Head) and isinstance(value, str):
        # The head has it; and the line of this field?
        lines = value.split("\n")
        line = HEAD_FIELDS.index(leaf.field)
        if line < len(lines) and leaf.text in lines[line]:
            return True
        return None if len(value) >= SEARCH_TEXT else False
    return None if value is None else bool(value)


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
        case Uids(((low, high),)):
            # More ranges are not said in SQL: the planner weighs all that it might do with them, for seconds.
            sql = Sql("+p.uid BETWEEN ? AND ?", (low, high))
        case Keywords(bits):
            sql = Sql("(e.keywords & ?) = ?", (bits, bits))
        case Deleted():
            sql = Sql("p.deleted")
        case Received(since, before):
            sql = _between("e.received_at", since, before)
        case Size(above, below):
            sql = _between("e.size", None if above is None else min(above, _LARGEST) + 1, below)
        case Saved(since, before):
            sql = _between("p.saved_at", since, before)
        case Modseq(least):
            sql = Sql("max(p.modseq, e.modseq) >= ?", (least,))
        case OfEmail(email):
            sql = Sql("+p.email = ?", (email,))
        case OfThread(thread):
            sql = Sql("+e.thread = ?", (thread,))
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
    if isinstance(leaf, Head):
        there = _contains("m.head", leaf.text)
        return Sql(f"({there.text} OR {_HEAD_CUT})", there.parameters), Sql(_NO)
    sql = _text_sql(leaf)
    if sql is None:
        return None
    return Sql(f"coalesce({sql.text}, 1)", sql.parameters), Sql(f"coalesce({sql.text}, 0)", sql.parameters)


def _text_sql(leaf: Leaf) -> Sql | None:
    """What the message's rows say of a leaf: 1, 0, or NULL for "perhaps"; of a Head, the head for "look into it"."""
    match leaf:
        case Head(_, text):
            there = _contains("m.head", text)
            return Sql(f"CASE WHEN {there.text} THEN m.head WHEN {_HEAD_CUT} THEN NULL ELSE 0 END", there.parameters)
        case Body(text):
            return _body_sql(text)
        case Fields(text):
            # Fields that the head does not hold are in the octets alone.
            there = _contains("m.head", text)
            return Sql(f"CASE WHEN {there.text} THEN 1 END", there.parameters)
        case Sent():
            inner = _between("m.sent_at", *leaf.within(-ZONE))
            outer = _between("m.sent_at", *leaf.within(ZONE))
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
    there = _join(" AND ", [_contains(_IN_PLACE, word) for word in words])
    kept = _contains("t.body", needle)
    return Sql(
        f"CASE WHEN m.text_at IS NULL THEN CASE WHEN {kept.text} THEN 1 WHEN {_CUT} THEN NULL ELSE 0 END "
        f"WHEN b.place <> 0 THEN NULL WHEN {there.text} THEN {'1' if needle == words[0] else 'NULL'} ELSE 0 END",
        (*kept.parameters, *there.parameters),
    )


def _contains(column: str, needle: str) -> Sql:
    """Whether text contains this, which is in lower case; of the text's letters ASCII need not be."""
    if len(needle) > _LIKED:
        return Sql(f"instr(lower({column}), ?)", (needle,))
    literal = _WILD.sub(r"!\g<0>", needle)
    return Sql(f"{column} LIKE ? ESCAPE '!'", (f"%{literal}%",))


_IN_PLACE: Final = "CAST(substr(b.octets, m.text_at + 1) AS TEXT)"
# A text that was cut says nothing of what came behind.
_CUT: Final = f"substr(CAST(t.body AS BLOB), -1) = x'{ord(CUT):02X}'"
_HEAD_CUT: Final = f"octet_length(m.head) >= {SEARCH_TEXT}"
