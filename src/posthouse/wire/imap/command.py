"""THE TABLE of IMAP: each command, how its arguments are read, when it is legal, and what its answer may do.

Promises: `parse` gives a request or raises ParseError; the states move by this table and by nothing else; manual and
tests are made from it. A new command is a row here, a value in `request.py` and a small parser in `arguments.py`.
Refuses: to frame (the server does) and to act (the door does).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from posthouse.wire.imap import acl, arguments, metadata, quota, request
from posthouse.wire.imap.grammar import ParseError, Parser
from posthouse.wire.imap.request import Request


class State(Enum):
    """RFC 9051 §3."""

    NOT_AUTHENTICATED = "not authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logout"

    # Looked up in sets several times a command; Enum's own hash is a function in Python.
    __hash__ = object.__hash__


_ANY: Final = frozenset({State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED})
_BEFORE: Final = frozenset({State.NOT_AUTHENTICATED})
_AFTER: Final = frozenset({State.AUTHENTICATED, State.SELECTED})
_SELECTED: Final = frozenset({State.SELECTED})


@dataclass(frozen=True, slots=True)
class Row:
    """One command.

    `states` is where it is legal; `success` and `failure` the state that OK and NO lead to (None: no move; BAD never
    moves). `expunge`: may EXPUNGE responses be sent while it is answered (RFC 9051 §7.5.1)? `first`: its answer decides
    how the octets behind it are to be read or what is legal there, so nothing behind it is parsed before it (§5.5).
    `streams`: so many arguments, the last of which is a mailbox, and then messages, which are events of their own.
    """

    name: bytes
    parse: Callable[[Parser], Request]
    states: frozenset[State]
    source: str
    expunge: bool = True
    first: bool = False
    success: State | None = None
    failure: State | None = None
    streams: int = 0


TABLE: Final[dict[bytes, Row]] = {
    row.name: row
    for row in (
        Row(b"CAPABILITY", arguments.plain(request.Capability()), _ANY, "RFC 9051 §6.1.1"),
        Row(b"NOOP", arguments.plain(request.Noop()), _ANY, "RFC 9051 §6.1.2"),
        Row(
            b"LOGOUT", arguments.plain(request.Logout()), _ANY, "RFC 9051 §6.1.3",
            expunge=False, first=True, success=State.LOGOUT,
        ),
        Row(b"ID", arguments.identification, _ANY, "RFC 2971 §3.1"),
        Row(b"STARTTLS", arguments.plain(request.StartTls()), _BEFORE, "RFC 9051 §6.2.1", first=True),
        Row(
            b"AUTHENTICATE", arguments.authenticate, _BEFORE, "RFC 9051 §6.2.2",
            first=True, success=State.AUTHENTICATED,
        ),
        Row(b"LOGIN", arguments.login, _BEFORE, "RFC 9051 §6.2.3", first=True, success=State.AUTHENTICATED),
        Row(b"ENABLE", arguments.enable, _AFTER, "RFC 9051 §6.3.1", first=True),
        Row(
            b"UNAUTHENTICATE", arguments.plain(request.Unauthenticate()), _AFTER, "RFC 8437 §3",
            expunge=False, first=True, success=State.NOT_AUTHENTICATED,
        ),
        # RFC 9051 §6.3.2: the mailbox selected before is closed first, whatever comes of it; its numbers are void.
        Row(
            b"SELECT", arguments.select(False), _AFTER, "RFC 9051 §6.3.2",
            expunge=False, first=True, success=State.SELECTED, failure=State.AUTHENTICATED,
        ),
        Row(
            b"EXAMINE", arguments.select(True), _AFTER, "RFC 9051 §6.3.3",
            expunge=False, first=True, success=State.SELECTED, failure=State.AUTHENTICATED,
        ),
        Row(b"CREATE", arguments.create, _AFTER, "RFC 9051 §6.3.4"),
        Row(b"DELETE", arguments.delete, _AFTER, "RFC 9051 §6.3.5"),
        Row(b"RENAME", arguments.rename, _AFTER, "RFC 9051 §6.3.6"),
        Row(b"SUBSCRIBE", arguments.subscribe, _AFTER, "RFC 9051 §6.3.7"),
        Row(b"UNSUBSCRIBE", arguments.unsubscribe, _AFTER, "RFC 9051 §6.3.8"),
        Row(b"LIST", arguments.listing, _AFTER, "RFC 9051 §6.3.9"),
        Row(b"LSUB", arguments.lsub, _AFTER, "RFC 3501 §6.3.9"),
        Row(b"NAMESPACE", arguments.plain(request.Namespace()), _AFTER, "RFC 9051 §6.3.10"),
        Row(b"STATUS", arguments.status, _AFTER, "RFC 9051 §6.3.11"),
        Row(b"APPEND", arguments.append, _AFTER, "RFC 9051 §6.3.12", first=True, streams=1),
        Row(b"COMPRESS", arguments.compress, _AFTER, "RFC 4978 §3", first=True),
        Row(b"IDLE", arguments.plain(request.Idle()), _AFTER, "RFC 9051 §6.3.13", first=True),
        Row(b"NOTIFY", arguments.notifying, _AFTER, "RFC 5465 §3.1"),
        Row(b"GETQUOTA", quota.parse_get, _AFTER, "RFC 9208 §4.1.1"),
        Row(b"GETQUOTAROOT", quota.parse_get_root, _AFTER, "RFC 9208 §4.1.2"),
        Row(b"SETQUOTA", quota.parse_set, _AFTER, "RFC 9208 §4.1.3"),
        Row(b"GETMETADATA", metadata.parse_get, _AFTER, "RFC 5464 §4.2"),
        Row(b"SETMETADATA", metadata.parse_set, _AFTER, "RFC 5464 §4.3"),
        # RFC 4314 §5.1.1: what comes behind sees what was changed; commands are carried out in their order.
        Row(b"SETACL", acl.parse_set, _AFTER, "RFC 4314 §3.1"),
        Row(b"DELETEACL", acl.parse_delete, _AFTER, "RFC 4314 §3.2"),
        Row(b"GETACL", acl.parse_get, _AFTER, "RFC 4314 §3.3"),
        Row(b"LISTRIGHTS", acl.parse_list, _AFTER, "RFC 4314 §3.4"),
        Row(b"MYRIGHTS", acl.parse_my, _AFTER, "RFC 4314 §3.5"),
        Row(b"CHECK", arguments.plain(request.Check()), _SELECTED, "RFC 3501 §6.4.1"),
        # RFC 9051 §6.4.1: CLOSE sends no EXPUNGE.
        Row(
            b"CLOSE", arguments.plain(request.Close(expunge=True)), _SELECTED, "RFC 9051 §6.4.1",
            expunge=False, first=True, success=State.AUTHENTICATED,
        ),
        Row(
            b"UNSELECT", arguments.plain(request.Close(expunge=False)), _SELECTED, "RFC 9051 §6.4.2",
            expunge=False, first=True, success=State.AUTHENTICATED,
        ),
        Row(b"EXPUNGE", arguments.expunge, _SELECTED, "RFC 9051 §6.4.3"),
        # RFC 9051 §7.5.1: never in answer to FETCH, STORE or SEARCH, whose numbers it would shift.
        # RFC 3501 §7.4.1: their UID forms are other commands, and may carry it.
        Row(b"SEARCH", arguments.searching(False), _SELECTED, "RFC 9051 §6.4.4", expunge=False),
        # RFC 5256 §3: likewise.
        Row(b"SORT", arguments.sort(False), _SELECTED, "RFC 5256 §3", expunge=False),
        Row(b"THREAD", arguments.thread(False), _SELECTED, "RFC 5256 §3", expunge=False),
        Row(b"ESEARCH", arguments.esearch, _AFTER, "RFC 7377 §2.1"),
        Row(b"CANCELUPDATE", arguments.cancelupdate, _SELECTED, "RFC 5267 §4.3.5"),
        Row(b"FETCH", arguments.fetching(False), _SELECTED, "RFC 9051 §6.4.5", expunge=False),
        Row(b"STORE", arguments.store(False), _SELECTED, "RFC 9051 §6.4.6", expunge=False),
        Row(b"COPY", arguments.copy(False), _SELECTED, "RFC 9051 §6.4.7"),
        Row(b"MOVE", arguments.move(False), _SELECTED, "RFC 9051 §6.4.8"),
        Row(b"REPLACE", arguments.replace(False), _SELECTED, "RFC 8508 §3.2", first=True, streams=2),
        Row(b"UID SEARCH", arguments.searching(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID SORT", arguments.sort(True), _SELECTED, "RFC 5256 §3"),
        Row(b"UID THREAD", arguments.thread(True), _SELECTED, "RFC 5256 §3"),
        Row(b"UID FETCH", arguments.fetching(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID STORE", arguments.store(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID COPY", arguments.copy(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID MOVE", arguments.move(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID REPLACE", arguments.replace(True), _SELECTED, "RFC 8508 §3.3", first=True, streams=2),
        Row(b"UID EXPUNGE", arguments.uid_expunge, _SELECTED, "RFC 9051 §6.4.9"),
    )
}  # fmt: skip

# Octets of arguments that are remembered with what they mean.
_SHORT: Final = 100
# RFC 9051 §9: a tag is 1*<any ASTRING-CHAR except "+">.
_HEAD = re.compile(rb"([!#$&',-\[\]-z|}~]+) ((?:UID )?[A-Z]+)(?= |\Z)", re.IGNORECASE)
_TAG = re.compile(rb"([!#$&',-\[\]-z|}~]+)(?: |\Z)")


class Head(NamedTuple):
    """The start of a command: its tag, its row (None: no such command), and where its arguments begin."""

    tag: bytes
    row: Row | None
    arguments: int


def head(octets: bytes) -> Head | None:
    """Tag and command, or None where there is not even a tag to answer to."""
    found = _HEAD.match(octets)
    if found is not None:
        tag, name = found.groups()
        return Head(tag, TABLE.get(name.upper()), found.end())
    tagged = _TAG.match(octets)
    return Head(tagged.group(1), None, len(octets)) if tagged else None


def parse(row: Row, octets: bytes, arguments: int, *, utf8: bool, charset: bool = True) -> Request:
    """The request in a whole command, of which `arguments` is where the arguments begin. Raises ParseError."""
    if len(octets) - arguments <= _SHORT and row.states <= _AFTER:
        try:
            return _parsed(row.name, octets[arguments:], utf8, charset)
        except ParseError:
            pass  # what is said of it counts octets from the tag on
    return _parse(row, Parser(octets, arguments, utf8=utf8, charset=charset))


# Clients say the same again and again. Nothing that is said before a login is kept: passwords are.
@lru_cache(maxsize=256)
def _parsed(name: bytes, arguments: bytes, utf8: bool, charset: bool) -> Request:
    return _parse(TABLE[name], Parser(arguments, utf8=utf8, charset=charset))


def _parse(row: Row, parser: Parser) -> Request:
    found = row.parse(parser)
    parser.end()
    return found


def markdown() -> str:
    """The table as the manual shows it."""
    lines = [
        "| command | legal when | after OK | after NO | may carry EXPUNGE | answered first | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in TABLE.values():
        states = "any" if row.states == _ANY else ", ".join(state.value for state in State if state in row.states)
        cells = (
            row.name.decode(),
            states,
            row.success.value if row.success else "",
            row.failure.value if row.failure else "",
            "yes" if row.expunge else "no",
            "yes" if row.first else "",
            row.source,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
