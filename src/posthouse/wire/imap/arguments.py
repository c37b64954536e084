"""How the arguments of IMAP's commands are read: a parser a command, for its row in command.py.

Promises: each gives a request of request.py, or raises ParseError. An option of LIST, an item of STATUS, a parameter of
CREATE or SELECT, a modifier of FETCH or STORE (RFC 4466) is a row in a table at the end.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from posthouse import limits
from posthouse.wire.imap import fetch, finding, metadata, notify, request, search
from posthouse.wire.imap.grammar import MAX_NUMBER64, ParseError, Parser
from posthouse.wire.imap.request import ListReturn, ListSelect, Request, Resync, StatusItem, StoreHow
from posthouse.wire.imap.sequence import STAR, Range, SequenceSet


def plain(value: Request) -> Callable[[Parser], Request]:
    return lambda _: value


def identification(parser: Parser) -> Request:
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


def authenticate(parser: Parser) -> Request:
    parser.space()
    mechanism = parser.keyword().decode("ascii")
    return request.Authenticate(mechanism, parser.initial_response() if parser.accept(b" ") else None)


def login(parser: Parser) -> Request:
    parser.space()
    user = parser.astring()
    parser.space()
    return request.Login(user, parser.astring())


def enable(parser: Parser) -> Request:
    return request.Enable(parser.spaced(Parser.keyword))


def _mailbox(parser: Parser) -> str:
    parser.space()
    return parser.mailbox()


def select(read_only: bool) -> Callable[[Parser], Request]:
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


def create(parser: Parser) -> Request:
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


def delete(parser: Parser) -> Request:
    return request.Delete(_mailbox(parser))


def rename(parser: Parser) -> Request:
    return request.Rename(_mailbox(parser), _mailbox(parser))


def subscribe(parser: Parser) -> Request:
    return request.Subscribe(_mailbox(parser), subscribed=True)


def unsubscribe(parser: Parser) -> Request:
    return request.Subscribe(_mailbox(parser), subscribed=False)


_ListOption = ListReturn | tuple[StatusItem, ...] | metadata.Wanted


def listing(parser: Parser) -> Request:
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
    # What is asked for twice is told once: it is told of each mailbox.
    status = dict.fromkeys([item for option in options if isinstance(option, tuple) for item in option])
    noted = dict.fromkeys(
        [entry for option in options if isinstance(option, metadata.Wanted) for entry in option.entries]
    )
    if len(noted) > limits.METADATA_ASKED:
        raise ParseError("There are too many entries", b"LIMIT", no=True)
    return request.List(reference, patterns, True, select, returns, tuple(status), metadata=tuple(noted))


def _list_select(parser: Parser) -> ListSelect:
    return parser.choice(LIST_SELECTS, "a selection option of LIST")


def _list_return(parser: Parser) -> _ListOption:
    return parser.choice(LIST_RETURNS, "a return option of LIST")(parser)


def _list_plain(option: ListReturn) -> Callable[[Parser], _ListOption]:
    return lambda _: option


def _list_status(parser: Parser) -> tuple[StatusItem, ...]:
    parser.space()
    return parser.listed(_status_item)


def lsub(parser: Parser) -> Request:
    reference = _mailbox(parser)
    parser.space()
    return request.Lsub(reference, parser.list_mailbox())


def status(parser: Parser) -> Request:
    mailbox = _mailbox(parser)
    parser.space()
    return request.Status(mailbox, tuple(dict.fromkeys(parser.listed(_status_item))))


def _status_item(parser: Parser) -> StatusItem:
    return parser.choice(STATUS_ITEMS, "a STATUS item")


def append(parser: Parser) -> Request:
    return request.Append(_mailbox(parser))


def replace(uid: bool) -> Callable[[Parser], Request]:
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


def compress(parser: Parser) -> Request:
    parser.space()
    return request.Compress(parser.keyword().decode("ascii"))


def notifying(parser: Parser) -> Request:
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


def expunge(_: Parser) -> Request:
    return request.Expunge(None)


def uid_expunge(parser: Parser) -> Request:
    parser.space()
    return request.Expunge(parser.sequence_set())


def searching(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        returns = finding.parse_returns(parser)
        key = finding.parse_saving(parser, returns, search.parse_program)
        finding.require_fuzzy(returns, (), key)
        return request.Search(uid, key, returns)

    return parse


def sort(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        returns = finding.parse_returns(parser)
        sorts = finding.parse_sort_keys(parser)
        key = finding.parse_saving(parser, returns, finding.parse_charset_and_keys)
        finding.require_fuzzy(returns, sorts, key)
        return request.Sort(uid, sorts, key, returns)

    return parse


def thread(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        return request.Thread(uid, finding.parse_algorithm(parser), finding.parse_charset_and_keys(parser))

    return parse


def esearch(parser: Parser) -> Request:
    sources = finding.parse_sources(parser)
    returns = finding.parse_returns(parser)
    key = search.parse_program(parser)
    finding.require_fuzzy(returns, (), key)
    return request.MultiSearch(sources, key, returns)


def cancelupdate(parser: Parser) -> Request:
    return request.CancelUpdate(finding.parse_tags(parser))


def fetching(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        parser.space()
        numbers = parser.sequence_set()
        parser.space()
        # What is asked for twice is told once.
        items = tuple(dict.fromkeys(fetch.parse_items(parser)))
        if len(items) > limits.FETCH_ITEMS:
            raise ParseError("There are too many items", b"LIMIT", no=True)
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


def store(uid: bool) -> Callable[[Parser], Request]:
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


def copy(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        parser.space()
        return request.Copy(uid, parser.sequence_set(), _mailbox(parser))

    return parse


def move(uid: bool) -> Callable[[Parser], Request]:
    def parse(parser: Parser) -> Request:
        parser.space()
        return request.Move(uid, parser.sequence_set(), _mailbox(parser))

    return parse


# options, a row each --------------------------------------------------------------------------------------------------

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
