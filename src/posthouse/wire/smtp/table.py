"""The protocol as a table: what is legal when, and where each reply leads (RFC 5321 §4.1.4 and the extensions' RFCs).

Promises: nothing but this table decides the state of a conversation. Manual and every-cell test are made from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

from posthouse.wire.smtp import command

Kind = Literal["mx", "msa", "lmtp"]


class State(IntEnum):
    """Where a conversation stands. In DATA, CHUNK, AUTH, TLS the next octets are no commands."""

    CONNECTED = 0  # nothing said yet
    TURNED_AWAY = 1  # greeted with 554: only QUIT is left
    GREETED = 2  # 220 said, EHLO not heard
    READY = 3
    MAIL = 4  # a sender, and no recipient taken yet
    RCPT = 5  # a recipient or more
    DATA = 6
    AUTH = 7
    TLS = 8
    CLOSED = 9
    CHUNKS = 10  # a chunk was taken, and the last one not
    CHUNK = 11


@dataclass(frozen=True, slots=True)
class Row:
    """One command, or (in parentheses) what else wants a reply.

    `done`: the states in which it is legal → the state after a 2xx; None where no 2xx is possible.
    `more`: the state after a 3xx; None where no 3xx is possible.
    `failed`: the state after 4xx and 5xx; None: unchanged.
    `last`: the reply leaves at once, and a client may pipeline nothing behind it (RFC 2920 §3.1, §3.2).
    `extension`: known only where this keyword is announced. `grants`: what a 2xx brings about, once.
    `silent`: its line moves the state as a 2xx would, and nothing is answered before the octets behind it are read.
    """

    verb: str
    done: Mapping[State, State | None]
    parse: command.Parser | None = None
    more: State | None = None
    failed: State | None = None
    last: bool = False
    extension: str | None = None
    grants: Literal["", "tls", "auth"] = ""
    kinds: tuple[Kind, ...] = ("mx", "msa", "lmtp")
    silent: bool = False


S = State
_SMTP: Final[tuple[Kind, ...]] = ("mx", "msa")
_ALWAYS: Final = (S.GREETED, S.READY, S.MAIL, S.RCPT, S.CHUNKS)
_TO_READY: Final = dict.fromkeys(_ALWAYS, S.READY)
_STAYS: Final = {state: state for state in _ALWAYS}
_CLOSES: Final = dict.fromkeys((*_ALWAYS, S.TURNED_AWAY), S.CLOSED)

TABLE: Final[tuple[Row, ...]] = (
    Row("(connection)", {S.CONNECTED: S.GREETED}, failed=S.TURNED_AWAY, last=True),
    # RFC 5321 §4.1.4: EHLO anywhere is also a RSET; refused, it changes nothing. RFC 2033 §4.1: LMTP has LHLO instead.
    Row("EHLO", _TO_READY, command.parse_ehlo, last=True, kinds=_SMTP),
    Row("HELO", _TO_READY, command.parse_helo, last=True, kinds=_SMTP),
    Row("LHLO", _TO_READY, command.parse_ehlo, last=True, kinds=("lmtp",)),
    Row("MAIL", {S.READY: S.MAIL}, command.parse_mail),
    # A refused RCPT leaves the envelope as it was (RFC 5321 §3.3).
    Row("RCPT", {S.MAIL: S.RCPT, S.RCPT: S.RCPT}, command.parse_rcpt),
    Row("DATA", {S.RCPT: None}, command.parse_data, more=S.DATA, last=True),
    # RFC 5321 §4.1.1.4: the transaction is over, whatever is said now.
    Row("(end of data)", {S.DATA: S.READY}, failed=S.READY),
    # RFC 3030 §2: a chunk is read before it is answered, refused or not; a refused one ends the transaction, so that
    # what was pipelined behind it finds none. DATA and BDAT don't mix.
    Row("BDAT", {S.RCPT: S.CHUNK, S.CHUNKS: S.CHUNK}, command.parse_bdat, extension="CHUNKING", silent=True),
    Row("(end of chunk)", {S.CHUNK: S.CHUNKS}, failed=S.READY),
    Row("(end of last chunk)", {S.CHUNK: S.READY}, failed=S.READY),
    # RFC 5321 §4.1.1.5: RSET before EHLO is a NOOP.
    Row("RSET", {**_TO_READY, S.GREETED: S.GREETED}, command.parse_rset),
    Row("NOOP", _STAYS, command.parse_noop, last=True),
    Row("VRFY", _STAYS, command.parse_vrfy, last=True),
    Row("EXPN", _STAYS, command.parse_expn, last=True),
    Row("ETRN", {S.READY: S.READY}, command.parse_etrn, last=True, extension="ETRN", kinds=("mx",)),
    Row("HELP", _STAYS, command.parse_help),
    Row("QUIT", _CLOSES, command.parse_quit, failed=S.CLOSED, last=True),
    Row("STARTTLS", {S.READY: S.TLS}, command.parse_starttls, last=True, extension="STARTTLS", grants="tls"),
    # RFC 4954 §4: not inside a transaction, and not twice.
    Row("AUTH", {S.READY: S.READY}, command.parse_auth, more=S.AUTH, last=True, extension="AUTH", grants="auth"),
    Row("(auth response)", {S.AUTH: S.READY}, more=S.AUTH, failed=S.READY, last=True, grants="auth"),
    # As in Postfix: a new client, who is greeted anew (220).
    Row("XCLIENT", {S.GREETED: S.GREETED, S.READY: S.GREETED}, command.parse_xclient, last=True, extension="XCLIENT"),
)
CONNECTION, END_OF_DATA, END_OF_CHUNK, END_OF_LAST_CHUNK, AUTH_RESPONSE = (
    row for row in TABLE if row.verb.startswith("(")
)
VERBS: Final[dict[Kind, dict[str, Row]]] = {
    kind: {row.verb: row for row in TABLE if row.parse and kind in row.kinds} for kind in ("mx", "msa", "lmtp")
}


def table_markdown() -> str:
    """The table for the manual: a row a command, with the states it is legal in and where replies lead."""
    lines = [
        "| command | legal in → after 2xx | after 3xx | after 4xx, 5xx | flushed at once | needs |",
        "|---|---|---|---|---|---|",
    ]
    for row in TABLE:
        moves = ", ".join(
            f"{state.name} → {after.name if after is not None else '(none)'}" for state, after in row.done.items()
        )
        more = "no reply" if row.silent else row.more.name if row.more is not None else ""
        failed = row.failed.name if row.failed is not None else "unchanged"
        needs = ", ".join([*([row.extension] if row.extension else []), *([] if len(row.kinds) == 3 else row.kinds)])
        lines.append(f"| {row.verb} | {moves} | {more} | {failed} | {'yes' if row.last else ''} | {needs} |")
    return "\n".join(lines) + "\n"
