"""THE TABLE, cell by cell."""

from itertools import product
from pathlib import Path

import pytest

from posthouse.wire.imap import command
from posthouse.wire.imap.command import TABLE, Row, State
from posthouse.wire.imap.event import Command
from posthouse.wire.imap.grammar import ParseError
from posthouse.wire.imap.server import ImapServer

# At least one whole line of each command, without its tag.
EXAMPLES: dict[bytes, list[bytes]] = {
    b"CAPABILITY": [b"CAPABILITY"],
    b"NOOP": [b"NOOP"],
    b"LOGOUT": [b"LOGOUT"],
    b"ID": [b'ID ("name" "x")', b"ID NIL"],
    b"STARTTLS": [b"STARTTLS"],
    b"AUTHENTICATE": [b"AUTHENTICATE PLAIN", b"AUTHENTICATE PLAIN AGEAYg=="],
    b"LOGIN": [b'LOGIN alice "secret"', b"LOGIN {5+}\r\nalice {3+}\r\nabc"],
    b"ENABLE": [b"ENABLE IMAP4rev2 CONDSTORE"],
    b"UNAUTHENTICATE": [b"UNAUTHENTICATE"],
    b"SELECT": [b"SELECT INBOX", b"SELECT a (CONDSTORE QRESYNC (1 2 1:5 (1,3 1,4)))"],
    b"EXAMINE": [b'EXAMINE "a b"'],
    b"CREATE": [b"CREATE a/b", b"CREATE a (USE (\\Sent))"],
    b"DELETE": [b"DELETE a"],
    b"RENAME": [b"RENAME a &ZeVnLIqe-"],
    b"SUBSCRIBE": [b"SUBSCRIBE a"],
    b"UNSUBSCRIBE": [b"UNSUBSCRIBE a"],
    b"LIST": [b'LIST "" *', b'LIST (SUBSCRIBED) "" (a b) RETURN (CHILDREN STATUS (MESSAGES UNSEEN))'],
    b"LSUB": [b'LSUB "" %'],
    b"NAMESPACE": [b"NAMESPACE"],
    b"STATUS": [b"STATUS a (MESSAGES SIZE)"],
    b"APPEND": [b'APPEND a (\\Seen) " 1-Jan-2020 00:00:00 +0000" {3+}\r\nabc'],
    b"COMPRESS": [b"COMPRESS DEFLATE"],
    b"IDLE": [b"IDLE"],
    b"NOTIFY": [
        b"NOTIFY SET STATUS (selected (MessageNew (UID) MessageExpunge)) (mailboxes (a b) NONE)",
        b"NOTIFY NONE",
    ],
    b"GETQUOTA": [b'GETQUOTA ""', b"GETQUOTA {7+}\r\naccount"],
    b"GETQUOTAROOT": [b"GETQUOTAROOT INBOX"],
    b"SETQUOTA": [b'SETQUOTA "" (STORAGE 512 MESSAGE 9)', b"SETQUOTA account ()"],
    b"GETMETADATA": [
        b'GETMETADATA (MAXSIZE 9 DEPTH infinity) "" (/shared /private/comment)',
        b"GETMETADATA a (DEPTH 1) /private",
    ],
    b"SETMETADATA": [b"SETMETADATA a (/private/comment {3+}\r\nabc /shared/x NIL /shared/y ~{1+}\r\n\0)"],
    b"SETACL": [b"SETACL INBOX bob +cda", b'SETACL a "b c" ""'],
    b"DELETEACL": [b"DELETEACL INBOX bob"],
    b"GETACL": [b"GETACL INBOX"],
    b"LISTRIGHTS": [b"LISTRIGHTS INBOX {3+}\r\nbob"],
    b"MYRIGHTS": [b"MYRIGHTS INBOX"],
    b"CHECK": [b"CHECK"],
    b"CLOSE": [b"CLOSE"],
    b"UNSELECT": [b"UNSELECT"],
    b"EXPUNGE": [b"EXPUNGE"],
    b"SEARCH": [
        b"SEARCH RETURN (MIN COUNT) CHARSET UTF-8 OR (SEEN NOT DRAFT) FROM {3+}\r\nbob",
        b'SEARCH HEADER X-Y "" SENTSINCE 1-Jan-2020 LARGER 5 KEYWORD $Junk 1:5,$ UID *',
        b"SEARCH RETURN (UPDATE PARTIAL -1:-10 RELEVANCY) FUZZY (TEXT x) OLDER 5 EMAILID M1 FILTER a",
        b"SEARCH SAVEDON 1-Jan-2020",
        b'SEARCH MODSEQ "/flags/\\\\Seen" all 5',
    ],
    b"SORT": [b"SORT RETURN (ALL COUNT) (REVERSE DATE SUBJECT) UTF-8 ALL", b"SORT (DISPLAYFROM) US-ASCII SEEN"],
    b"THREAD": [b"THREAD REFERENCES UTF-8 ALL"],
    b"ESEARCH": [b'ESEARCH IN (mailboxes (a b) subtree "c" personal) RETURN (COUNT) SEEN', b"ESEARCH ALL"],
    b"CANCELUPDATE": [b'CANCELUPDATE "a" "b"'],
    b"FETCH": [
        b"FETCH 1:* (FLAGS UID ENVELOPE BODY.PEEK[HEADER.FIELDS (From To)]<0.20> BODY[1.2.MIME])",
        b"FETCH 1:* (BINARY[1] BINARY.PEEK[1.2]<0.5> BINARY.SIZE[2])",
        b"FETCH 1,2:3 FULL",
        b"FETCH 1 RFC822",
        b"FETCH 1 FLAGS (CHANGEDSINCE 5)",
    ],
    b"STORE": [b"STORE 1:3 +FLAGS.SILENT (\\Seen $x)", b"STORE 1 (UNCHANGEDSINCE 5) FLAGS \\Seen \\Draft"],
    b"COPY": [b"COPY 1:3 a"],
    b"MOVE": [b"MOVE 1:3 a"],
    b"REPLACE": [b"REPLACE 4 Drafts (\\Draft) {3+}\r\nabc"],
    b"UID SEARCH": [b"UID SEARCH ALL"],
    b"UID SORT": [b"UID SORT (SIZE) UTF-8 ALL"],
    b"UID THREAD": [b"UID THREAD ORDEREDSUBJECT UTF-8 ALL"],
    b"UID FETCH": [b"UID FETCH 1:* FLAGS", b"UID FETCH 1:* FLAGS (VANISHED CHANGEDSINCE 5 PARTIAL -1:-5)"],
    b"UID STORE": [b"UID STORE 1 -FLAGS (\\Seen)"],
    b"UID COPY": [b"UID COPY 5 a"],
    b"UID MOVE": [b"UID MOVE 5 a"],
    b"UID REPLACE": [b"UID REPLACE 2 {1+}\r\na {3+}\r\nabc", b'UID REPLACE 2 a CATENATE (URL "/a/;UID=2")'],
    b"UID EXPUNGE": [b"UID EXPUNGE 5:9"],
}
STATES = [state for state in State if state is not State.LOGOUT]


def begin(row: Row, state: State) -> tuple[ImapServer, Command | None]:
    """The engine in `state`, having received the row's first example."""
    server = ImapServer()
    server.state = state
    server.receive(b"a " + EXAMPLES[row.name][0] + b"\r\n")
    event = server.next_event()
    assert event is None or isinstance(event, Command)
    return server, event


def test_every_command_has_an_example() -> None:
    assert list(EXAMPLES) == list(TABLE)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
@pytest.mark.parametrize("row", TABLE.values(), ids=lambda row: row.name.decode())
def test_a_command_is_legal_where_the_table_says(row: Row, state: State) -> None:
    server, event = begin(row, state)
    if state in row.states:
        assert event is not None
        assert event.row is row
        assert event.tag == b"a"
    else:
        assert event is None
        assert server.outgoing() == [b"a BAD Not while %b\r\n" % state.value.encode()]


@pytest.mark.parametrize(
    ("row", "state"), [(row, state) for row, state in product(TABLE.values(), STATES) if state in row.states]
)
def test_an_answer_moves_the_state_as_the_table_says(row: Row, state: State) -> None:
    for answer, expected in ((ImapServer.ok, row.success), (ImapServer.no, row.failure), (ImapServer.bad, None)):
        server, event = begin(row, state)
        assert event is not None
        answer(server, event, "so be it")
        assert server.state is (expected or state)


@pytest.mark.parametrize(
    ("row", "state"), [(row, state) for row, state in product(TABLE.values(), STATES) if state in row.states]
)
def test_what_matters_for_the_next_command_is_answered_first(row: Row, state: State) -> None:
    server, _ = begin(row, state)
    server.receive(b"b NOOP\r\n")
    following = server.next_event()
    if row.streams:
        # What belongs to the command, and not the next one.
        assert following is not None
        assert not isinstance(following, Command)
    else:
        assert (following is None) is row.first


def test_what_moves_the_state_is_answered_first() -> None:
    for row in TABLE.values():
        if row.success or row.failure:
            assert row.first, row.name


def test_which_answers_carry_expunge() -> None:
    """RFC 9051 §7.5.1: not FETCH, STORE, SEARCH; RFC 5256 §3: not SORT, THREAD; and not what leaves the mailbox."""
    silent = {name for name, row in TABLE.items() if State.SELECTED in row.states and not row.expunge}
    leaving = {b"CLOSE", b"UNSELECT", b"LOGOUT", b"SELECT", b"EXAMINE", b"UNAUTHENTICATE"}
    assert silent == {b"FETCH", b"STORE", b"SEARCH", b"SORT", b"THREAD", *leaving}


def test_every_example_parses() -> None:
    for name, lines in EXAMPLES.items():
        for line in lines:
            head = command.head(b"a " + line)
            assert head is not None
            assert head.row is TABLE[name]
            if not head.row.streams:
                command.parse(head.row, b"a " + line, head.arguments, utf8=False)


def test_what_is_said_again_means_the_same_and_cannot_be_changed() -> None:
    for name, lines in EXAMPLES.items():
        row = TABLE[name]
        for line in lines:
            if row.streams or State.NOT_AUTHENTICATED in row.states:
                continue
            first, again, strange = (
                command.parse(row, tag + line, len(tag) + len(name), utf8=False) for tag in (b"a ", b"b1 ", b"c23 ")
            )
            assert first == again == strange
            # All of it, to the bottom: what can be changed has no hash.
            hash(first)


def test_a_mistake_is_told_where_it_stands() -> None:
    row = TABLE[b"SELECT"]
    for tag in (b"a ", b"long-tag "):
        with pytest.raises(ParseError) as caught:
            command.parse(row, tag + b"SELECT a (X)", len(tag) + 6, utf8=False)
        assert caught.value.text == f"Expected a parameter of SELECT at octet {len(tag) + 11}"


def test_names_mean_what_the_client_has_enabled() -> None:
    row = TABLE[b"SELECT"]
    line = b'a SELECT "&ZeVnLIqe-"'
    found = [command.parse(row, line, 8, utf8=utf8) for utf8 in (False, True, False)]
    assert [getattr(one, "mailbox", None) for one in found] == ["日本語", "&ZeVnLIqe-", "日本語"]


def test_of_passwords_nothing_is_remembered() -> None:
    command._parsed.cache_clear()
    for name in (b"LOGIN", b"AUTHENTICATE", b"ID"):
        for line in EXAMPLES[name]:
            command.parse(TABLE[name], b"a " + line, 2 + len(name), utf8=False)
    command.parse(TABLE[b"CREATE"], b"a CREATE " + b"x" * 200, 8, utf8=False)
    assert command._parsed.cache_info().currsize == 0
    command.parse(TABLE[b"CREATE"], b"a CREATE x", 8, utf8=False)
    assert command._parsed.cache_info().currsize == 1


def test_the_manual_shows_the_table() -> None:
    assert command.markdown() in (Path(__file__).parents[3] / "docs" / "wire-imap.md").read_text()
    assert len(command.markdown().splitlines()) == len(TABLE) + 2
