"""THE TABLE of IMAP: each command, how its arguments are read, when it is legal, and what its answer may do.

Promises: `parse` gives a request or raises ParseError; the states move by this table and by nothing else; manual and
tests are made from it. A new command is a row here, a value in `request.py` and a small parser; a new option of LIST,
STATUS, CREATE is a row in a table of its own.
Refuses: to frame (the server does) and to act (the door does).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any, Final

from posthouse import limits
from posthouse.wire.imap import acl, fetch, finding, metadata, notify, quota, request, search
from posthouse.wire.imap.grammar import MAX_NUMBER64, ParseError, Parser
from posthouse.wire.imap.request import ListReturn, ListSelect, Request, Resync, StatusItem, StoreHow
from posthouse.wire.imap.sequence import STAR, Range, SequenceSet


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


def _select(read_only: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        mailbox = _mailbox(parser)
        if not parser.accept(b" "):
            return request.Select(mailbox, read_only)
        # RFC 4466 §2.4 select-param
        options = _options(parser, SELECT_PARAMETERS, "a parameter of SELECT")
        return request.Select(mailbox, read_only, condstore=b"CONDSTORE" in options, resync=options.get(b"QRESYNC"))

    return parse


def _options(parser: Parser, table: Mapping[bytes, Callable[[Parser], Any]], what: str) -> dict[bytes, Any]:
    """Options in parentheses, each with its value; none may stand twice."""
    found: dict[bytes, Any] = {}

    def one(parser: Parser) -> None:
        start = parser.at
        name = parser.keyword()
        if name not in table or name in found:
            parser.at = start
            parser.fail(what)
        found[name] = table[name](parser)

    parser.listed(one)
    return found


def _nothing(_: Parser) -> None:
    """An option without a value."""


def _modseq(parser: Parser) -> int:
    # RFC 7162 §7: mod-sequence-valzer has 63 bits. Where the grammar would have no 0 it does no harm.
    parser.space()
    return parser.number(MAX_NUMBER64)


def _resync(parser: Parser) -> Resync:
    # RFC 7162 §7: "(" uidvalidity SP mod-sequence-value [SP known-uids] [SP seq-match-data] ")"
    parser.space()
    parser.expect(b"(", "a parenthesis")
    uidvalidity, modseq = parser.nz_number(), _modseq(parser)
    known: SequenceSet | None = None
    matches: tuple[Range, ...] = ()
    if parser.octets.startswith(b" ", parser.at) and not parser.octets.startswith(b" (", parser.at):
        parser.space()
        known = _plain_set(parser)
    if parser.accept(b" ("):
        matches = _matches(parser)
        parser.expect(b")", "a closing parenthesis")
    parser.expect(b")", "a closing parenthesis")
    return Resync(uidvalidity, modseq, known, matches)


def _plain_set(parser: Parser) -> SequenceSet:
    """A set without "*" and "$"."""
    start = parser.at
    found = parser.sequence_set()
    if found.saved or any(high == STAR for _, high in found.ranges):
        parser.at = start
        parser.fail("a set of plain numbers")
    return found


def _matches(parser: Parser) -> tuple[Range, ...]:
    """Message numbers and their uids, in pairs (RFC 7162 §3.2.5.2: both ascend)."""
    start = parser.at
    numbers = _plain_set(parser)
    parser.space()
    uids = _plain_set(parser)
    counts = [sum(high - low + 1 for low, high in found.ranges) for found in (numbers, uids)]
    if counts[0] != counts[1] or not (_ascends(numbers.ranges) and _ascends(uids.ranges)):
        parser.at = start
        parser.fail("as many message numbers as uids, ascending")
    if counts[0] > limits.RESYNC_MATCHES:
        raise ParseError("There are too many pairs of number and uid", b"LIMIT", no=True)
    spread = [[number for low, high in found.ranges for number in range(low, high + 1)] for found in (numbers, uids)]
    return tuple(zip(*spread, strict=True))


def _ascends(ranges: Sequence[Range]) -> bool:
    return all(before[1] < after[0] for before, after in pairwise(ranges))


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


_ListOption = ListReturn | tuple[StatusItem, ...] | metadata.Wanted


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
    noted = tuple(entry for option in options if isinstance(option, metadata.Wanted) for entry in option.entries)
    return request.List(reference, patterns, True, select, returns, status, metadata=noted)


def _list_select(parser: Parser) -> ListSelect:
    return parser.choice(LIST_SELECTS, "a selection option of LIST")


def _list_return(parser: Parser) -> _ListOption:
    return parser.choice(LIST_RETURNS, "a return option of LIST")(parser)


def _list_plain(option: ListReturn) -> Callable[[Parser], _ListOption]:
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
    return request.Append(_mailbox(parser))


def _replace(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        # RFC 8508 §5: one seq-number, or uid.
        parser.space()
        start = parser.at
        numbers = parser.sequence_set()
        if numbers.saved or len(numbers.ranges) != 1 or numbers.ranges[0][0] != numbers.ranges[0][1]:
            parser.at = start
            parser.fail("the number of one message")
        return request.Replace(uid, numbers, _mailbox(parser))

    return parse


def _compress(parser: Parser) -> Request:
    parser.space()
    return request.Compress(parser.keyword().decode("ascii"))


def _notify(parser: Parser) -> Request:
    # RFC 5465 §8: "NOTIFY" SP ("SET" [SP "STATUS"] SP event-groups / "NONE")
    parser.space()
    start = parser.at
    word = parser.keyword()
    if word == b"NONE":
        return request.Notify(())
    if word != b"SET":
        parser.at = start
        parser.fail("SET or NONE")
    status = parser.octets[parser.at : parser.at + 8].upper() == b" STATUS "
    parser.at += 7 * status
    return request.Notify(notify.parse_groups(parser), status)


def _expunge(_: Parser) -> Request:
    return request.Expunge(None)


def _uid_expunge(parser: Parser) -> Request:
    parser.space()
    return request.Expunge(parser.sequence_set())


def _search(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        returns = finding.parse_returns(parser)
        key = finding.parse_saving(parser, returns, search.parse_program)
        finding.require_fuzzy(returns, (), key)
        return request.Search(uid, key, returns)

    return parse


def _sort(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        returns = finding.parse_returns(parser)
        sorts = finding.parse_sort_keys(parser)
        key = finding.parse_saving(parser, returns, finding.parse_charset_and_keys)
        finding.require_fuzzy(returns, sorts, key)
        return request.Sort(uid, sorts, key, returns)

    return parse


def _thread(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        return request.Thread(uid, finding.parse_algorithm(parser), finding.parse_charset_and_keys(parser))

    return parse


def _esearch(parser: Parser) -> Request:
    sources = finding.parse_sources(parser)
    returns = finding.parse_returns(parser)
    key = search.parse_program(parser)
    finding.require_fuzzy(returns, (), key)
    return request.MultiSearch(sources, key, returns)


def _cancelupdate(parser: Parser) -> Request:
    return request.CancelUpdate(finding.parse_tags(parser))


def _fetch(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        parser.space()
        numbers = parser.sequence_set()
        parser.space()
        items = fetch.parse_items(parser)
        if not parser.accept(b" "):
            return request.Fetch(uid, numbers, items)
        # RFC 4466 §2.5 fetch-modifier
        start = parser.at
        options = _options(parser, FETCH_MODIFIERS, "a modifier of FETCH")
        since, vanished, partial = options.get(b"CHANGEDSINCE"), b"VANISHED" in options, options.get(b"PARTIAL")
        # RFC 7162 §3.2.6: VANISHED goes with UID FETCH and CHANGEDSINCE. RFC 9394 §3.3: PARTIAL with UID FETCH.
        if (vanished and (since is None or not uid)) or (partial and not uid):
            parser.at = start
            parser.fail("VANISHED and PARTIAL of a UID FETCH, and CHANGEDSINCE beside VANISHED")
        return request.Fetch(uid, numbers, items, changed_since=since, vanished=vanished, partial=partial)

    return parse


def _partial(parser: Parser) -> finding.Partial:
    parser.space()
    return finding.parse_partial(parser)


_STORE_ITEM = re.compile(rb"([+-]?)FLAGS(\.SILENT)?", re.IGNORECASE)


def _store(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        parser.space()
        numbers = parser.sequence_set()
        parser.space()
        options: dict[bytes, Any] = {}
        if parser.sees(b"("):
            # RFC 4466 §2.6 store-modifier
            options = _options(parser, STORE_MODIFIERS, "a modifier of STORE")
            parser.space()
        found = parser.match(_STORE_ITEM, "FLAGS, +FLAGS or -FLAGS")
        if parser.octets.startswith(b" (", parser.at):
            parser.at += 1
            flags = parser.flag_list()
        else:
            flags = parser.spaced(Parser.flag)
        return request.Store(
            uid,
            numbers,
            StoreHow(found.group(1)),
            flags,
            found.group(2) is not None,
            unchanged_since=options.get(b"UNCHANGEDSINCE"),
        )

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
LIST_RETURNS: Final[dict[bytes, Callable[[Parser], _ListOption]]] = {
    **{option.value: _list_plain(option) for option in ListReturn},
    b"STATUS": _list_status,
    b"METADATA": metadata.parse_wanted,
}
CREATE_PARAMETERS: Final[dict[bytes, Callable[[Parser], tuple[str, ...]]]] = {b"USE": Parser.flag_list}
SELECT_PARAMETERS: Final[dict[bytes, Callable[[Parser], Any]]] = {b"CONDSTORE": _nothing, b"QRESYNC": _resync}
FETCH_MODIFIERS: Final[dict[bytes, Callable[[Parser], Any]]] = {
    b"CHANGEDSINCE": _modseq,
    b"VANISHED": _nothing,
    b"PARTIAL": _partial,
}
STORE_MODIFIERS: Final[dict[bytes, Callable[[Parser], Any]]] = {b"UNCHANGEDSINCE": _modseq}

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
        Row(
            b"UNAUTHENTICATE", _plain(request.Unauthenticate()), _AFTER, "RFC 8437 §3",
            expunge=False, first=True, success=State.NOT_AUTHENTICATED,
        ),
        # RFC 9051 §6.3.2: the mailbox selected before is closed first, whatever comes of it; its numbers are void.
        Row(
            b"SELECT", _select(False), _AFTER, "RFC 9051 §6.3.2",
            expunge=False, first=True, success=State.SELECTED, failure=State.AUTHENTICATED,
        ),
        Row(
            b"EXAMINE", _select(True), _AFTER, "RFC 9051 §6.3.3",
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
        Row(b"APPEND", _append, _AFTER, "RFC 9051 §6.3.12", first=True, streams=1),
        Row(b"COMPRESS", _compress, _AFTER, "RFC 4978 §3", first=True),
        Row(b"IDLE", _plain(request.Idle()), _AFTER, "RFC 9051 §6.3.13", first=True),
        Row(b"NOTIFY", _notify, _AFTER, "RFC 5465 §3.1"),
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
        # RFC 5256 §3: likewise.
        Row(b"SORT", _sort(False), _SELECTED, "RFC 5256 §3", expunge=False),
        Row(b"THREAD", _thread(False), _SELECTED, "RFC 5256 §3", expunge=False),
        Row(b"ESEARCH", _esearch, _AFTER, "RFC 7377 §2.1"),
        Row(b"CANCELUPDATE", _cancelupdate, _SELECTED, "RFC 5267 §4.3.5"),
        Row(b"FETCH", _fetch(False), _SELECTED, "RFC 9051 §6.4.5", expunge=False),
        Row(b"STORE", _store(False), _SELECTED, "RFC 9051 §6.4.6", expunge=False),
        Row(b"COPY", _copy(False), _SELECTED, "RFC 9051 §6.4.7"),
        Row(b"MOVE", _move(False), _SELECTED, "RFC 9051 §6.4.8"),
        Row(b"REPLACE", _replace(False), _SELECTED, "RFC 8508 §3.2", first=True, streams=2),
        Row(b"UID SEARCH", _search(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID SORT", _sort(True), _SELECTED, "RFC 5256 §3"),
        Row(b"UID THREAD", _thread(True), _SELECTED, "RFC 5256 §3"),
        Row(b"UID FETCH", _fetch(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID STORE", _store(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID COPY", _copy(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID MOVE", _move(True), _SELECTED, "RFC 9051 §6.4.9"),
        Row(b"UID REPLACE", _replace(True), _SELECTED, "RFC 8508 §3.3", first=True, streams=2),
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


def parse(row: Row, octets: bytes, arguments: int, *, utf8: bool, charset: bool = True) -> Request:
    """The request in a whole command, of which `arguments` is where the arguments begin. Raises ParseError."""
    parser = Parser(octets, arguments, utf8=utf8, charset=charset)
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
