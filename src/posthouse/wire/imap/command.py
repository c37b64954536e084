"""THE TABLE of IMAP: each command, how its arguments are read, when it is legal, and what its answer may do.

Promises: `parse` gives a request or raises ParseError; the states move by this table and by nothing else; manual and
tests are made from it. A new command is a row here, a value in `request.py` and a small parser; a new option of LIST,
STATUS, CREATE is a row in a table of its own.
Refuses: to frame (the server does) and to act (the door does).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from posthouse import limits
from posthouse.wire.imap import fetch, request, search
from posthouse.wire.imap.grammar import ParseError, Parser
from posthouse.wire.imap.request import AppendMessage, ListReturn, ListSelect, Request, StatusItem, StoreHow


class State(Enum):
    """RFC 9051 §3."""

    NOT_AUTHENTICATED = "not authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logout"


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
    """

    name: bytes
    parse: Callable[[Parser], Request]
    states: frozenset[State]
    source: str
    expunge: bool = True
    first: bool = False
    success: State | None = None
    failure: State | None = None


# reading the arguments ------------------------------------------------------------------------------------------------


def _plain(value: Request) -> Callable[[Parser], Request]:
    return lambda _: value


def _id(parser: Parser) -> Request:
    # RFC 2971 §3.3: at most 30 pairs, fields of 30 octets, values of 1024; a field may stand once.
    parser.space()
    if parser.octets[parser.at :].upper() == b"NIL":
        parser.at += 3
        return request.Id(())
    pairs = parser.listed(_id_pair, empty=True)
    if len(pairs) > 30 or any(len(field) > 30 or len(value or b"") > 1024 for field, value in pairs):
        raise ParseError("ID says more than RFC 2971 allows")
    return request.Id(pairs)


def _id_pair(parser: Parser) -> tuple[bytes, bytes | None]:
    field = parser.string()
    parser.space()
    return field, parser.nstring()


def _authenticate(parser: Parser) -> Request:
    parser.space()
    mechanism = parser.keyword().decode("ascii")
    return request.Authenticate(mechanism, parser.initial_response() if parser.accept(b" ") else None)


def _login(parser: Parser) -> Request:
    parser.space()
    user = parser.astring()
    parser.space()
    return request.Login(user, parser.astring())


def _enable(parser: Parser) -> Request:
    return request.Enable(parser.spaced(Parser.keyword))


def _mailbox(parser: Parser) -> str:
    parser.space()
    return parser.mailbox()


def _select(parser: Parser) -> Request:
    return request.Select(_mailbox(parser), read_only=False)


def _examine(parser: Parser) -> Request:
    return request.Select(_mailbox(parser), read_only=True)


def _create(parser: Parser) -> Request:
    mailbox = _mailbox(parser)
    use: tuple[str, ...] = ()
    if parser.accept(b" "):
        # RFC 4466 §2.2 create-param, of which RFC 6154 §3 knows one.
        for words in parser.listed(_create_parameter):
            use += words
    return request.Create(mailbox, use)


def _create_parameter(parser: Parser) -> tuple[str, ...]:
    read = parser.choice(CREATE_PARAMETERS, "a parameter of CREATE")
    parser.space()
    return read(parser)


def _delete(parser: Parser) -> Request:
    return request.Delete(_mailbox(parser))


def _rename(parser: Parser) -> Request:
    return request.Rename(_mailbox(parser), _mailbox(parser))


def _subscribe(parser: Parser) -> Request:
    return request.Subscribe(_mailbox(parser), subscribed=True)


def _unsubscribe(parser: Parser) -> Request:
    return request.Subscribe(_mailbox(parser), subscribed=False)


def _list(parser: Parser) -> Request:
    # RFC 9051 §9: list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]
    parser.space()
    extended = parser.sees(b"(")
    select = frozenset(parser.listed(_list_select, empty=True)) if extended else frozenset()
    if extended:
        parser.space()
    # RFC 9051 §6.3.9.1: RECURSIVEMATCH asks for a selection that it can widen.
    if ListSelect.RECURSIVEMATCH in select and not select - {ListSelect.RECURSIVEMATCH, ListSelect.REMOTE}:
        raise ParseError("RECURSIVEMATCH needs another selection option beside it")
    reference = parser.mailbox()
    parser.space()
    many = parser.sees(b"(")
    patterns = parser.listed(Parser.list_mailbox) if many else (parser.list_mailbox(),)
    if len(patterns) > limits.LIST_PATTERNS:
        raise ParseError("There are too many patterns", b"LIMIT", no=True)
    if not parser.accept(b" "):
        return request.List(reference, patterns, extended or many, select)
    if parser.keyword() != b"RETURN":
        parser.fail("RETURN")
    parser.space()
    options = parser.listed(_list_return, empty=True)
    returns = frozenset(option for option in options if isinstance(option, ListReturn))
    status = tuple(item for option in options if isinstance(option, tuple) for item in option)
    return request.List(reference, patterns, True, select, returns, status)


def _list_select(parser: Parser) -> ListSelect:
    return parser.choice(LIST_SELECTS, "a selection option of LIST")


def _list_return(parser: Parser) -> ListReturn | tuple[StatusItem, ...]:
    return parser.choice(LIST_RETURNS, "a return option of LIST")(parser)


def _list_plain(option: ListReturn) -> Callable[[Parser], ListReturn | tuple[StatusItem, ...]]:
    return lambda _: option


def _list_status(parser: Parser) -> tuple[StatusItem, ...]:
    parser.space()
    return parser.listed(_status_item)


def _lsub(parser: Parser) -> Request:
    reference = _mailbox(parser)
    parser.space()
    return request.Lsub(reference, parser.list_mailbox())


def _status(parser: Parser) -> Request:
    mailbox = _mailbox(parser)
    parser.space()
    return request.Status(mailbox, parser.listed(_status_item))


def _status_item(parser: Parser) -> StatusItem:
    return parser.choice(STATUS_ITEMS, "a STATUS item")


def _append(parser: Parser) -> Request:
    # The server streams the messages; an APPEND that comes here whole has none.
    _mailbox(parser)
    parser.fail("a message as a literal")


_ANNOUNCED = re.compile(rb"(~?)\{([0-9]{1,19})\+?\}\Z")


def append_message(parser: Parser) -> AppendMessage:
    """One message of APPEND up to its literal, which ends the line (RFC 9051 §9, append-message; RFC 9755 §4).

    Raises ParseError.
    """
    parser.space()
    flags: tuple[str, ...] = ()
    if parser.sees(b"("):
        flags = parser.flag_list()
        parser.space()
    received_at = None
    if parser.sees(b'"'):
        received_at = parser.date_time()
        parser.space()
    utf8 = parser.utf8 and parser.octets[parser.at : parser.at + 6].upper() == b"UTF8 ("
    if utf8:
        parser.at += 6
    literal = parser.match(_ANNOUNCED, "a message as a literal")
    return AppendMessage(flags, received_at, int(literal.group(2)), bool(literal.group(1)), utf8)


def _expunge(_: Parser) -> Request:
    return request.Expunge(None)


def _uid_expunge(parser: Parser) -> Request:
    parser.space()
    return request.Expunge(parser.sequence_set())


def _search(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        returns = search.parse_returns(parser)
        return request.Search(uid, search.parse_program(parser), returns)

    return parse


def _fetch(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        parser.space()
        numbers = parser.sequence_set()
        parser.space()
        return request.Fetch(uid, numbers, fetch.parse_items(parser))

    return parse


_STORE_ITEM = re.compile(rb"([+-]?)FLAGS(\.SILENT)?", re.IGNORECASE)


def _store(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        parser.space()
        numbers = parser.sequence_set()
        parser.space()
        found = parser.match(_STORE_ITEM, "FLAGS, +FLAGS or -FLAGS")
        if parser.octets.startswith(b" (", parser.at):
            parser.at += 1
            flags = parser.flag_list()
        else:
            flags = parser.spaced(Parser.flag)
        return request.Store(uid, numbers, StoreHow(found.group(1)), flags, found.group(2) is not None)

    return parse


def _copy(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        parser.space()
        return request.Copy(uid, parser.sequence_set(), _mailbox(parser))

    return parse


def _move(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        parser.space()
        return request.Move(uid, parser.sequence_set(), _mailbox(parser))

    return parse


# the tables -----------------------------------------------------------------------------------------------------------

STATUS_ITEMS: Final[dict[bytes, StatusItem]] = {item.value: item for item in StatusItem}
LIST_SELECTS: Final[dict[bytes, ListSelect]] = {option.value: option for option in ListSelect}
LIST_RETURNS: Final[dict[bytes, Callable[[Parser], ListReturn | tuple[StatusItem, ...]]]] = {
    **{option.value: _list_plain(option) for option in ListReturn},
    b"STATUS": _list_status,
}
CREATE_PARAMETERS: Final[dict[bytes, Callable[[Parser], tuple[str, ...]]]] = {b"USE": Parser.flag_list}

TABLE: Final[dict[bytes, Row]] = {
    row.name: row
    for row in (
        Row(b"CAPABILITY", _plain(request.Capability()), _ANY, "RFC 9051 §6.1.1"),
        Row(b"NOOP", _plain(request.Noop()), _ANY, "RFC 9051 §6.1.2"),
        Row(
            b"LOGOUT", _plain(request.Logout()), _ANY, "RFC 9051 §6.1.3",
            expunge=False, first=True, success=State.LOGOUT,
        ),
        Row(b"ID", _id, _ANY, "RFC 2971 §3.1"),
        Row(b"STARTTLS", _plain(request.StartTls()), _BEFORE, "RFC 9051 §6.2.1", first=True),
        Row(b"AUTHENTICATE", _authenticate, _BEFORE, "RFC 9051 §6.2.2", first=True, success=State.AUTHENTICATED),
        Row(b"LOGIN", _login, _BEFORE, "RFC 9051 §6.2.3", first=True, success=State.AUTHENTICATED),
        Row(b"ENABLE", _enable, _AFTER, "RFC 9051 §6.3.1", first=True),
        # RFC 9051 §6.3.2: the mailbox selected before is closed first, whatever comes of it; its numbers are void.
        Row(
            b"SELECT", _select, _AFTER, "RFC 9051 §6.3.2",
            expunge=False, first=True, success=State.SELECTED, failure=State.AUTHENTICATED,
        ),
        Row(
            b"EXAMINE", _examine, _AFTER, "RFC 9051 §6.3.3",
            expunge=False, first=True, success=State.SELECTED, failure=State.AUTHENTICATED,
        ),
        Row(b"CREATE", _create, _AFTER, "RFC 9051 §6.3.4"),
        Row(b"DELETE", _delete, _AFTER, "RFC 9051 §6.3.5"),
        Row(b"RENAME", _rename, _AFTER, "RFC 9051 §6.3.6"),
        Row(b"SUBSCRIBE", _subscribe, _AFTER, "RFC 9051 §6.3.7"),
        Row(b"UNSUBSCRIBE", _unsubscribe, _AFTER, "RFC 9051 §6.3.8"),
        Row(b"LIST", _list, _AFTER, "RFC 9051 §6.3.9"),
        Row(b"LSUB", _lsub, _AFTER, "RFC 3501 §6.3.9"),
        Row(b"NAMESPACE", _plain(request.Namespace()), _AFTER, "RFC 9051 §6.3.10"),
        Row(b"STATUS", _status, _AFTER, "RFC 9051 §6.3.11"),
        Row(b"APPEND", _append, _AFTER, "RFC 9051 §6.3.12", first=True),
        Row(b"IDLE", _plain(request.Idle()), _AFTER, "RFC 9051 §6.3.13", first=True),
        Row(b"CHECK", _plain(request.Check()), _SELECTED, "RFC 3501 §6.4.1"),
        # RFC 9051 §6.4.1: CLOSE sends no EXPUNGE.
        Row(
            b"CLOSE", _plain(request.Close(expunge=True)), _SELECTED, "RFC 9051 §6.4.1",
            expunge=False, first=True, success=State.AUTHENTICATED,
        ),
        Row(
            b"UNSELECT", _plain(request.Close(expunge=False)), _SELECTED, "RFC 9051 §6.4.2",
            expunge=False, first=True, success=State.AUTHENTICATED,
        ),
        Row(b"EXPUNGE", _expunge, _SELECTED, "RFC 9051 §6.4.3"),
        # RFC 9051 §7.5.1: never in answer to FETCH, STORE or SEARCH, whose numbers it would shift.
        # RFC 3501 §7.4.1: their UID forms are other commands, and may carry it.
        Row(b"SEARCH", _search(False), _SELECTED, "RFC 9051 §6.4.4", expunge=False),
        Row(b"FETCH", _fetch(False), _SELECTED, "RFC 9051 §6.4.5", expunge=False),
        Row(b"STORE", _store(False), _SELECTED, "RFC 9051 §6.4.6", expunge=False),
        Row(b"COPY", _copy(False), _SELECTED, "RFC 9051 §6.4.7"),
        Row(b"MOVE", _move(False), _SELECTED, "RFC 9051 §6.4.8"),
        Row(b"UID SEARCH", _search(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID FETCH", _fetch(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID STORE", _store(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID COPY", _copy(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID MOVE", _move(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID EXPUNGE", _uid_expunge, _SELECTED, "RFC 9051 §6.4.9"),
    )
}  # fmt: skip

# RFC 9051 §9: a tag is 1*<any ASTRING-CHAR except "+">.
_HEAD = re.compile(rb"([!#$&',-\[\]-z|}~]+) ((?:UID )?[A-Z]+)(?= |\Z)", re.IGNORECASE)
_TAG = re.compile(rb"([!#$&',-\[\]-z|}~]+)(?: |\Z)")


@dataclass(frozen=True, slots=True)
class Head:
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


def parse(row: Row, octets: bytes, arguments: int, *, utf8: bool) -> Request:
    """The request in a whole command, of which `arguments` is where the arguments begin. Raises ParseError."""
    parser = Parser(octets, arguments, utf8=utf8)
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
