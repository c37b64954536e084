"""Words of the protocol are ASCII (RFC 5321 §2.4): letters that only become such in upper case are others."""

import pytest

from posthouse.terms.reply import Reply
from posthouse.wire.smtp.event import Rejected
from posthouse.wire.smtp.server import SmtpServer


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("MA\u0131L FROM:<a@far.example>", 500),
        ("qu\u0131t", 500),
        ("PO\u017fT / HTTP/1.1", 500),
        ("MAIL FROM:<a@far.example> \u017fIZE=12", 555),
        ("RCPT TO:<b@home.example> NOTIFY=\u017fUCCESS", 501),
    ],
)
def test_what_only_looks_like_a_word(line: str, code: int) -> None:
    engine = SmtpServer("mx", {"SIZE": "", "DSN": "", "SMTPUTF8": ""}, home="home.example")
    engine.next_event()
    engine.reply(Reply(220, None, "hello"))
    for before in ("EHLO far.example", *(["MAIL FROM:<>"] if line.startswith("RCPT") else [])):
        engine.receive(f"{before}\r\n".encode())
        engine.next_event()
        engine.reply(Reply(250, None, "ok"))
    engine.receive(f"{line}\r\n".encode())
    event = engine.next_event()
    assert isinstance(event, Rejected)
    assert event.reply.code == code
