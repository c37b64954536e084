"""The POP3 engine: transcripts, the table cell by cell, any octets, any split of them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse import limits
from posthouse.wire.pop3.command import TABLE, Auth, Pass, Retr, State, markdown
from posthouse.wire.pop3.server import AuthResponse, Command, Ended, Pop3Server
from tests import transcript
from tests.wire.pop3_talk import Talk

EXAMPLES = {
    b"AUTH": b"AUTH PLAIN",
    b"USER": b"USER alice",
    b"PASS": b"PASS secret",
    b"RETR": b"RETR 1",
    b"TOP": b"TOP 1 10",
    b"DELE": b"DELE 1",
}
STATES = [state for state in State if state is not State.UPDATE]


@pytest.mark.parametrize("pieces", transcript.PIECES)
@pytest.mark.parametrize("path", transcript.scripts("pop3"), ids=lambda path: path.stem)
def test_transcript(path: Path, pieces: transcript.Pieces) -> None:
    script = transcript.read(path)
    transcript.play(script, Talk(script.settings), pieces=pieces)


@pytest.mark.parametrize("good", [True, False], ids=["ok", "err"])
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
@pytest.mark.parametrize("name", TABLE, ids=bytes.decode)
def test_every_cell_of_the_table(name: bytes, state: State, good: bool) -> None:
    row = TABLE[name]
    server = Pop3Server()
    server.state = state
    server.receive(EXAMPLES.get(name, name).lower() + b"\r\n")
    event = server.next_event()
    if state not in row.states:
        assert event is None
        assert server.outgoing() == [b"-ERR %b is not for now\r\n" % name]
        assert server.state is state
        return
    assert isinstance(event, Command)
    assert event.row is row
    if good:
        server.ok("fine")
        assert server.outgoing() == [b"+OK fine\r\n"]
        assert server.state is (row.success or state)
    else:
        server.err("not now", "SYS/TEMP")
        assert server.outgoing() == [b"-ERR [SYS/TEMP] not now\r\n"]
        assert server.state is (row.failure or state)
    assert server.ended is (name == b"QUIT")


def test_a_failed_pass_names_nobody() -> None:
    server = Pop3Server()
    server.receive(b"USER alice\r\nPASS wrong\r\nPASS right\r\n")
    server.next_event()
    server.ok("go on")
    server.next_event()
    server.err("no", "AUTH")
    assert server.next_event() is None
    assert server.outgoing()[-1] == b"-ERR PASS is not for now\r\n"


def test_a_line_that_is_too_long_ends_the_connection() -> None:
    server = Pop3Server()
    server.receive(b"USER " + b"a" * limits.COMMAND_LINE)
    assert server.next_event() == Ended("a line was too long")
    assert server.ended


@pytest.mark.parametrize(
    ("said", "number"),
    [
        (b"RETR 1", 1), (b"retr 00012", 12), (b"Retr 9999999999  ", 9_999_999_999), (b"RETR " + b"0" * 1000 + b"7", 7),
        (b"RETR", None), (b"RETR ", None), (b"RETR 0", None), (b"RETR 10000000000", None), (b"RETR -1", None),
        (b"RETR +1", None), (b"RETR 1_0", None), (b"RETR  1", None), (b"RETR 1 2", None), (b"RETR 1\t", None),
        (b"RETR \xc2\xb2", None), (b"RETR " + b"9" * 2000, None),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else value,
)  # fmt: skip
def test_what_is_the_number_of_a_message(said: bytes, number: int | None) -> None:
    server = Pop3Server()
    server.state = State.TRANSACTION
    server.receive(said + b"\r\n")
    event = server.next_event()
    if number is None:
        assert event is None
        assert server.outgoing() == [b"-ERR RETR: it takes the number of a message\r\n"]
    else:
        assert isinstance(event, Command)
        assert event.request == Retr(number)


@pytest.mark.parametrize(
    "said", [b"RETRO 1", b"RET", b"RETR1", b"RETR\t1", b" RETR 1", b"\0RETR 1", b"R\xc3\x8aTR 1", b""]
)
def test_what_is_no_command(said: bytes) -> None:
    server = Pop3Server()
    server.state = State.TRANSACTION
    server.receive(said + b"\r\n")
    assert server.next_event() is None
    assert server.outgoing() == [b"-ERR There is no such command\r\n"]


def test_answers_are_one_line_whatever_they_say() -> None:
    server = Pop3Server()
    server.greet("hello\r\n+OK forged")
    server.state = State.TRANSACTION
    server.receive(b"NOOP\r\nNOOP\r\n")
    server.next_event()
    server.ok("ü\x7f.\u2028")
    server.next_event()
    server.err("no", "A\nB")
    server.bye("gone\nfor good")
    assert server.outgoing() == [
        b"+OK hello +OK forged\r\n", b"+OK ? .?\r\n", b"-ERR [A B] no\r\n", b"-ERR gone for good\r\n"
    ]  # fmt: skip


def test_a_secret_is_not_shown_by_accident() -> None:
    for value in (Pass(b"alice", b"hunter2"), Auth("PLAIN", b"\0alice\0hunter2"), AuthResponse(b"hunter2")):
        assert "hunter2" not in repr(value)


def test_lines_that_begin_with_a_dot_are_doubled() -> None:
    server = Pop3Server()
    server.state = State.TRANSACTION
    server.receive(b"UIDL\r\n")
    server.next_event()
    server.ok_lines("here", [b"1 a", b".", b"..x"])
    assert b"".join(server.outgoing()) == b"+OK here\r\n1 a\r\n..\r\n...x\r\n.\r\n"


def test_the_manual_shows_the_table() -> None:
    assert markdown() in (Path(__file__).parents[2] / "docs" / "wire-pop3.md").read_text()
    assert len(markdown().splitlines()) == len(TABLE) + 2


def meaning_lies_in_the_octets(octets: bytes) -> bool:
    """What follows STLS does not count where it is there ahead of the answer, which lies in the split."""
    return b"STLS" not in octets.upper()


SAID = st.lists(
    st.sampled_from(
        [b"USER alice", b"PASS secret", b"AUTH PLAIN", b"AUTH PLAIN AGEAYg==", b"AGEAYg==", b"*", b"STAT", b"LIST",
         b"RETR 1", b"TOP 2 1", b"UIDL 1", b"CAPA", b"nonsense", b"", b"QUIT"]
    ).map(lambda line: line + b"\r\n")
    | st.binary(max_size=12)
).map(b"".join).filter(meaning_lies_in_the_octets)  # fmt: skip


@given(octets=SAID, data=st.data())
def test_any_split_gives_the_same(octets: bytes, data: st.DataObject) -> None:
    whole, split = Talk({}), Talk({})
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
