"""Every transcript of SMTP's server: what is said, and what became of it, whatever the pieces it arrives in."""

from pathlib import Path
from typing import cast

import pytest

from posthouse.terms.reply import Reply
from posthouse.wire.smtp.event import Closed, DataRefused
from posthouse.wire.smtp.table import Kind
from tests.transcript import PIECES, Driven, Pieces, Script, play, read, scripts, unescape
from tests.wire.smtp.door import ALL, MORE, Door, server


def door(script: Script) -> Door:
    """The door that a script asks for."""
    extensions = dict(ALL)
    for keyword in script.settings.get("without", "").split():
        del extensions[keyword]
    for keyword in script.settings.get("with", "").split():
        extensions[keyword] = MORE[keyword]
    engine = server(cast(Kind, script.settings.get("kind", "mx")), extensions)
    made = Door(engine, most=int(script.settings.get("most", 100_000)))
    for name, text in script.settings.items():
        if name in ("greeting", "hello", "tls"):
            code, enhanced, words = text.split(" ", 2)
            setattr(made, name, Reply(int(code), None if enhanced == "-" else enhanced, words))
    return made


def act(door: Door, what: str) -> None:
    """Carry out an `A:` line of a transcript."""
    verb, _, argument = what.partition(" ")
    match verb:
        case "secured":
            door.engine.secured(door.after_tls)
        case "ends":
            door.engine.end(Reply(421, "4.3.2", argument))
        case "message":
            assert [octets for _, octets in door.messages] == [unescape(argument)]
        case "messages":
            assert len(door.messages) == int(argument)
        case "refused":
            assert any(isinstance(event, DataRefused) for event in door.events)
            assert not door.messages
        case "errors":
            assert door.engine.errors == int(argument)
        case "closed":
            assert isinstance(last := door.events[-1], Closed)
            assert last.why == argument
        case "recipients":
            assert [str(r.address) for envelope, _ in door.messages for r in envelope.recipients] == argument.split()
        case "saw":
            assert argument in map(repr, door.events), door.events
        case _:
            raise AssertionError(f"nobody knows how to {what}")


@pytest.mark.parametrize("path", scripts("smtp"), ids=lambda path: path.stem)
@pytest.mark.parametrize("pieces", PIECES)
def test_conversation_goes_as_written(path: Path, pieces: Pieces) -> None:
    script = read(path)
    made = door(script)
    conversation = Driven(
        made.engine,
        made.run,
        ended=lambda: any(isinstance(event, Closed) for event in made.events),
        acts=lambda what: act(made, what),
    )
    play(script, conversation, pieces=pieces)


def test_there_is_a_transcript_for_every_command() -> None:
    said = " ".join(path.read_text() for path in scripts("smtp"))
    for verb in (
        "EHLO",
        "HELO",
        "LHLO",
        "MAIL",
        "RCPT",
        "DATA",
        "RSET",
        "NOOP",
        "QUIT",
        "VRFY",
        "EXPN",
        "HELP",
        "AUTH",
        "BDAT",
        "ETRN",
        "XCLIENT",
    ):
        assert f"C: {verb}" in said
    assert len(scripts("smtp")) >= 60
