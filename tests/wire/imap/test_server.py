"""The engine where a transcript would be long: limits, large messages, any split of the octets."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse import limits
from posthouse.wire.imap import response
from posthouse.wire.imap.command import State
from posthouse.wire.imap.event import AppendEnd, AuthResponse, Command, Ended, LiteralChunk, LiteralEnd
from posthouse.wire.imap.request import Append, AppendMessage, Authenticate, Fetch, Login
from posthouse.wire.imap.server import ImapServer
from tests.wire.imap.talk import Talk


def engine(state: State = State.SELECTED) -> ImapServer:
    server = ImapServer()
    server.state = state
    return server


def test_greeting() -> None:
    server = ImapServer()
    server.greet("ready", [b"IMAP4rev2", b"AUTH=PLAIN"])
    assert server.outgoing() == [b"* OK [CAPABILITY IMAP4rev2 AUTH=PLAIN] ready\r\n"]
    assert server.outgoing() == []


def test_what_is_sent_keeps_its_order_and_its_buffers() -> None:
    server = engine()
    server.receive(b"1 FETCH 1 BODY[]\r\n")
    command = server.next_event()
    assert isinstance(command, Command)
    assert isinstance(command.request, Fetch)
    body = memoryview(b"x" * 100)
    server.send(response.fetch_start(1), *response.body(b"BODY[]", body), response.FETCH_END)
    server.ok(command, "done")
    out = server.outgoing()
    assert out[2] is body
    assert b"".join(out) == b"* 1 FETCH (BODY[] {100}\r\n" + b"x" * 100 + b")\r\n1 OK done\r\n"


@pytest.mark.parametrize(
    ("line", "literal", "rest"),
    [(b"1 APPEND INBOX {3}", b"abc", b""), (b"1 STATUS {5}", b"INBOX", b" (MESSAGES)"), (b"1 NOOP", b"", b"")],
)
def test_midway_lasts_from_a_literal_to_the_end_of_its_command(line: bytes, literal: bytes, rest: bytes) -> None:
    server = engine()
    seen = []
    for octets in (line, b"\r\n", literal, rest, b"\r\n" if literal else b""):
        server.receive(octets)
        while (event := server.next_event()) is not None:
            if isinstance(event, AppendMessage):
                server.accept()
        seen.append(server.midway)
    assert seen == [False, bool(literal), bool(literal), bool(literal), False]


def test_a_line_that_is_too_long_ends_the_connection() -> None:
    server = engine()
    server.receive(b"1 UID FETCH " + b"1," * limits.IMAP_LINE)
    assert server.next_event() == Ended("a line was too long")
    assert server.outgoing() == [b"* BYE [TOOBIG] The line is too long\r\n"]


def test_long_sequence_sets_are_taken() -> None:
    server = engine()
    uids = b",".join(b"%d" % uid for uid in range(1, 20_001, 2))
    server.receive(b"1 UID FETCH " + uids + b" FLAGS\r\n")
    command = server.next_event()
    assert isinstance(command, Command)
    assert isinstance(command.request, Fetch)
    assert len(command.request.numbers.ranges) == 10_000


@pytest.mark.parametrize(
    ("state", "limit"),
    [(State.NOT_AUTHENTICATED, limits.IMAP_COMMAND_BEFORE_LOGIN), (State.SELECTED, limits.IMAP_COMMAND)],
)
def test_literals_of_a_command_are_bounded_together(state: State, limit: int) -> None:
    server = engine(state)
    half = limit // 2
    name = b"LOGIN" if state is State.NOT_AUTHENTICATED else b"COPY 1"
    server.receive(b"1 %b {%d}\r\n" % (name, half))
    assert server.next_event() is None
    assert server.outgoing() == [b"+ go on\r\n"]
    server.receive(b"a" * half + b" {%d}\r\n" % half)
    assert server.next_event() is None
    assert server.outgoing() == [b"1 NO [TOOBIG] That is too big\r\n"]
    assert not server.ended


def test_the_number_of_literals_is_bounded() -> None:
    server = engine()
    server.receive(b"1 SEARCH TEXT" + b" {1+}\r\na OR" * (limits.IMAP_LITERALS + 1) + b" ALL\r\n")
    assert server.next_event() == Ended("a literal was too big")


def test_a_number_too_large_for_any_literal_is_no_literal() -> None:
    server = engine()
    server.receive(b"1 LIST {99999999999999999999+}\r\n2 NOOP\r\n")
    assert isinstance(server.next_event(), Command)
    assert server.outgoing() == [b"1 BAD Expected a literal at octet 8\r\n"]


def test_a_large_message_passes_through() -> None:
    server = ImapServer(append_limit=30 * limits.MB)
    server.state = State.AUTHENTICATED
    size = 25 * limits.MB
    server.receive(b"1 APPEND INBOX {%d}\r\n" % size)
    command = server.next_event()
    assert isinstance(command, Command)
    assert command.request == Append("INBOX")
    assert server.next_event() == AppendMessage((), None, size, False, False)
    assert server.next_event() is None
    assert server.outgoing() == []
    server.accept()
    assert server.outgoing() == [b"+ send the message\r\n"]
    piece = b"x" * limits.MB
    for _ in range(25):
        assert server.next_event() is None
        server.receive(piece)
        assert server.next_event() == LiteralChunk(piece)
        assert server.waiting == 0
    assert server.next_event() == LiteralEnd()
    assert server.next_event() is None
    server.receive(b"\r\n")
    assert server.next_event() == AppendEnd()
    server.ok(command, "appended", response.appenduid(1, [1]))
    assert server.outgoing() == [b"1 OK [APPENDUID 1 1] appended\r\n"]


def test_a_message_may_be_given_up_in_its_middle() -> None:
    server = engine()
    server.receive(b"1 APPEND INBOX {10}\r\n")
    command = server.next_event()
    assert isinstance(command, Command)
    assert isinstance(server.next_event(), AppendMessage)
    server.accept()
    server.receive(b"12345")
    assert server.next_event() == LiteralChunk(b"12345")
    server.no(command, "the disk is full", response.Code.UNAVAILABLE)
    server.receive(b"\r\n2 L\r\n3 NOOP\r\n")
    event = server.next_event()
    assert isinstance(event, Command)
    assert event.tag == b"3"


def test_a_message_may_be_given_up_at_its_end() -> None:
    server = engine()
    server.receive(b"1 APPEND INBOX {1+}\r\nx\r\n2 NOOP\r\n")
    command = server.next_event()
    assert isinstance(command, Command)
    server.next_event()
    server.accept()
    assert server.next_event() == LiteralChunk(b"x")
    assert server.next_event() == LiteralEnd()
    server.no(command, "no")
    event = server.next_event()
    assert isinstance(event, Command)
    assert event.tag == b"2"


def test_a_refused_message_may_have_others_behind_it() -> None:
    server = engine()
    server.receive(b"1 APPEND INBOX {8+}\r\n2 LOGOUT (\\Seen) {8+}\r\n3 LOGOUT\r\n4 NOOP\r\n")
    command = server.next_event()
    assert isinstance(command, Command)
    server.no(command, "no such mailbox", response.Code.TRYCREATE)
    event = server.next_event()
    assert isinstance(event, Command)
    assert event.tag == b"4"


def test_a_refused_literal_too_big_to_read_past_ends_the_connection() -> None:
    server = ImapServer(append_limit=100)
    server.state = State.SELECTED
    server.receive(b"1 APPEND INBOX {8+}\r\n2 LOGOUT (\\Seen) {800+}\r\n")
    command = server.next_event()
    assert isinstance(command, Command)
    server.no(command, "no such mailbox")
    assert server.next_event() == Ended("a literal was too big")


def test_answers_after_the_end_are_not_sent() -> None:
    server = engine()
    server.receive(b"1 NOOP\r\n")
    command = server.next_event()
    assert isinstance(command, Command)
    server.bye("Shutting down", response.Code.UNAVAILABLE)
    server.ok(command, "done")
    assert server.next_event() == Ended("Shutting down")
    assert server.next_event() is None
    assert server.outgoing() == [b"* BYE [UNAVAILABLE] Shutting down\r\n"]


def test_a_secret_is_not_shown_by_accident() -> None:
    for value in (Login(b"alice", b"hunter2"), Authenticate("PLAIN", b"\0alice\0hunter2"), AuthResponse(b"hunter2")):
        assert "hunter2" not in repr(value)


def test_refused_commands_with_literals_do_not_pile_up() -> None:
    server = engine()
    server.receive(b"1 SEARCH CHARSET X TEXT {1+}\r\na\r\n" * 2000 + b"2 NOOP\r\n")
    assert isinstance(server.next_event(), Command)


COMPRESSES = b"20 COMPRESS DEFLATE\r\n"


def until_it_compresses(said: list[bytes]) -> bytes:
    """Without what follows COMPRESS: whether that came ahead of the answer, and so ends the connection, lies in the
    split."""
    return b"".join(said[: said.index(COMPRESSES) + 1] if COMPRESSES in said else said)


def meaning_lies_in_the_octets(octets: bytes) -> bool:
    """Of STARTTLS, and of COMPRESS where chance has put it together, the same holds."""
    return re.search(rb"(?i)starttls|compress", octets.removesuffix(COMPRESSES)) is None


SAID = st.lists(
    st.sampled_from(
        [
            b"1 NOOP\r\n",
            b"2 LOGIN {3+}\r\nabc {3}\r\nabc\r\n",
            b"3 APPEND INBOX {12}\r\n4 LOGOUT\r\n\r\n",
            b"5 APPEND {5+}\r\nINBOX {4+}\r\nabcd {2+}\r\nef\r\n",
            b"6 APPEND x (\\Seen {12+}\r\n7 LOGOUT\r\n\r\n",
            b"8 IDLE\r\nDONE\r\n",
            b"9 AUTHENTICATE PLAIN\r\nAGEAYg==\r\n",
            b"10 SEARCH CHARSET X TEXT {1+}\r\na\r\n",
            b"11 FETCH 1 BODY[HEADER.FIELDS ({4+}\r\nFrom)]\r\n",
            b"12 nonsense {4+}\r\nabcd\r\n",
            b"13 SELECT INBOX\r\n14 FETCH 1:* FLAGS\r\n",
            b"15 CLOSE\r\n",
            b"17 APPEND x CATENATE (URL {2+}\r\n/a TEXT {12+}\r\n8 LOGOUT\r\n\r\n UTF8 (~{2+}\r\nab)) {2}\r\nab\r\n",
            b"18 REPLACE 4 {1+}\r\nx CATENATE (URL /a;UID=1)\r\n",
            b"19 APPEND x CATENATE (TEXT {3}\r\nabc URL {3}\r\nabc TEXT {3+}\r\nabc)\r\n",
            COMPRESSES,
            b"\r\n",
            b"16 LOGOUT\r\n",
        ]
    )
    | st.binary(max_size=12),
    max_size=8,
)
OCTETS = SAID.map(until_it_compresses).filter(meaning_lies_in_the_octets)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(["not authenticated", "authenticated", "selected"]),
        "answer": st.sampled_from(["OK", "NO TRYCREATE", "BAD"]),
        "refuse": st.just("message"),
        "limit": st.just("10"),
    },
)


@given(settings=SETTINGS, octets=OCTETS, data=st.data())
def test_any_split_gives_the_same(settings: dict[str, str], octets: bytes, data: st.DataObject) -> None:
    whole, split = Talk(settings), Talk(settings)
    whole.receive(octets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=8)))
    for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
        split.receive(octets[start:end])
    assert split.seen == whole.seen
    assert split.outgoing() == whole.outgoing()
    assert split.engine.state is whole.engine.state


@given(st.binary(max_size=300))
def test_no_octets_raise(octets: bytes) -> None:
    Talk({}).receive(octets)
