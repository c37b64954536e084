"""Every cell of the table: each command in each state, and where each class of reply leads."""

from pathlib import Path

import pytest

from posthouse.terms.reply import Reply
from posthouse.wire.smtp.command import Bdat
from posthouse.wire.smtp.event import Closed, DataChunk, Event, Rejected
from posthouse.wire.smtp.server import SmtpServer
from posthouse.wire.smtp.table import TABLE, VERBS, Row, State, table_markdown
from tests.wire.smtp.door import ALL, MORE, server

HELLO = b"LHLO client.example\r\n"
LINES = {
    "EHLO": b"EHLO client.example\r\n",
    "HELO": b"HELO client.example\r\n",
    "LHLO": HELLO,
    "MAIL": b"MAIL FROM:<a@example.org>\r\n",
    "RCPT": b"RCPT TO:<b@example.org>\r\n",
    "AUTH": b"AUTH LOGIN\r\n",
    "VRFY": b"VRFY someone\r\n",
    "EXPN": b"EXPN list\r\n",
    "BDAT": b"BDAT 5\r\n",
    "BDAT LAST": b"BDAT 5 LAST\r\n",
    "ETRN": b"ETRN example.org\r\n",
    "XCLIENT": b"XCLIENT ADDR=192.0.2.1\r\n",
    "chunk": b"BDAT 2\r\nab",
    "(end of chunk)": b"abcde",
    "(end of last chunk)": b"abcde",
    "(connection)": b"",
    "(end of data)": b".\r\n",
    "(auth response)": b"YWxpY2U=\r\n",
}
OK, GO_ON, NO = Reply(250, "2.0.0", "Yes"), Reply(334, None, ""), Reply(550, "5.0.0", "No")
# What leads from the connection to a state: what is said, and the answers; None where nobody is asked.
WAYS: dict[State, list[tuple[str, Reply | None]]] = {
    State.CONNECTED: [],
    State.TURNED_AWAY: [("(connection)", NO)],
    State.GREETED: [("(connection)", OK)],
    State.READY: [("(connection)", OK), ("hello", OK)],
    State.MAIL: [("(connection)", OK), ("hello", OK), ("MAIL", OK)],
    State.RCPT: [("(connection)", OK), ("hello", OK), ("MAIL", OK), ("RCPT", OK)],
    State.DATA: [("(connection)", OK), ("hello", OK), ("MAIL", OK), ("RCPT", OK), ("DATA", GO_ON)],
    State.AUTH: [("(connection)", OK), ("hello", OK), ("AUTH", GO_ON)],
    State.TLS: [("(connection)", OK), ("hello", OK), ("STARTTLS", OK)],
    State.CLOSED: [("(connection)", OK), ("QUIT", OK)],
    State.CHUNKS: [("(connection)", OK), ("hello", OK), ("MAIL", OK), ("RCPT", OK), ("chunk", OK)],
    State.CHUNK: [("(connection)", OK), ("hello", OK), ("MAIL", OK), ("RCPT", OK), ("BDAT", None)],
}
COMMAND_STATES = (State.TURNED_AWAY, State.GREETED, State.READY, State.MAIL, State.RCPT, State.CHUNKS)


def say(engine: SmtpServer, verb: str) -> Event | None:
    if octets := LINES.get(verb, f"{verb}\r\n".encode()):
        engine.receive(octets)
    event = engine.next_event()
    while isinstance(event, Bdat | DataChunk) and not verb.startswith("BDAT"):
        event = engine.next_event()
    return event


def reach(state: State, row: Row) -> SmtpServer:
    """An engine of a kind that has this row, in this state."""
    engine = server("lmtp" if "mx" not in row.kinds else "mx", ALL | MORE)
    for verb, reply in WAYS[state]:
        if verb == "hello":
            verb = "LHLO" if engine.kind == "lmtp" else "EHLO"
        if verb == "BDAT" and row.verb == "(end of last chunk)":
            verb = "BDAT LAST"
        event = say(engine, verb)
        if reply is not None:
            engine.reply(reply)
        else:
            assert isinstance(event, Bdat)
    assert engine.state is state
    engine.outgoing()
    return engine


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.verb)
@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_every_cell(row: Row, state: State) -> None:
    engine = reach(state, row)
    if state not in row.done:
        illegal(engine, row, state)
        return
    if row.silent:
        assert isinstance(say(engine, row.verb), Bdat)
        assert engine.state is row.done[state]
        assert not engine.outgoing()
        return
    for code, after in (
        (250, row.done[state]),
        (334, row.more),
        (450, state if row.failed is None else row.failed),
        (550, state if row.failed is None else row.failed),
        (421, State.CLOSED),
    ):
        engine = reach(state, row)
        event = say(engine, row.verb)
        assert event is not None
        assert not isinstance(event, Rejected | Closed)
        assert not engine.outgoing()
        reply = Reply(code, None, "")
        if after is None:
            with pytest.raises(ValueError, match="is no answer to"):
                engine.reply(reply)
            continue
        engine.reply(reply)
        assert engine.state is after
        assert engine.must_flush == (row.last or after is State.CLOSED)
        assert engine.outgoing() == reply.octets()


def illegal(engine: SmtpServer, row: Row, state: State) -> None:
    """Where a command is not legal the engine answers by itself, or the octets are no command at all."""
    if row.parse is None:
        return
    event = say(engine, row.verb)
    if row.silent and state in COMMAND_STATES:
        # What is refused is consumed first.
        assert event is None
        engine.receive(b"QUIT\n")
        event = engine.next_event()
    if state in COMMAND_STATES:
        assert isinstance(event, Rejected)
        assert event.reply.code == 503
        assert engine.errors == 1
        assert engine.state is state
        assert engine.outgoing() == event.reply.octets()
    elif state is State.CONNECTED:
        assert type(event).__name__ == "Connected"
    elif state in (State.TLS, State.CLOSED):
        assert isinstance(event, Closed)
    elif state is State.AUTH:
        assert isinstance(event, Rejected) or type(event).__name__ == "AuthResponse"
    else:
        assert type(event).__name__ in ("DataChunk", "ChunkEnd", "NoneType")


def test_a_kind_has_only_its_own_commands() -> None:
    assert "LHLO" not in VERBS["mx"]
    assert not {"EHLO", "HELO"} & VERBS["lmtp"].keys()
    assert VERBS["mx"].keys() == VERBS["msa"].keys() | {"ETRN"}


def test_the_manual_shows_every_row() -> None:
    shown = table_markdown()
    assert all(f"| {row.verb} |" in shown for row in TABLE)
    assert len({line.count("|") for line in shown.splitlines()}) == 1
    assert shown in (Path(__file__).parents[3] / "docs" / "wire.md").read_text()
