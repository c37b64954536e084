"""A stranger who knows the words and puts them in any order, with octets that are none, cut anywhere, for a bounded
time. What may come of it: replies, and an end.

By seed, so that what fails once fails again. `POSTHOUSE_FUZZ_SEEDS` makes it longer.
"""

import os
from random import Random

import pytest

from posthouse.terms.reply import Reply
from posthouse.wire.smtp import command
from posthouse.wire.smtp.event import ChunkEnd, Closed, Connected, DataChunk, DataEnd, DataRefused, Event, Rejected
from posthouse.wire.smtp.server import SmtpServer
from posthouse.wire.smtp.table import Kind, State
from tests.wire.smtp.door import ALL, MORE, server

SEEDS = range(int(os.environ.get("POSTHOUSE_FUZZ_SEEDS", "1000")))
LINES = [
    b"EHLO a.example", b"HELO a", b"LHLO a", b"MAIL FROM:<a@b.example>", b"MAIL FROM:<> SIZE=1 BODY=BINARYMIME",
    b"MAIL FROM:a@b BY=1;R HOLDFOR=5", b"RCPT TO:<c@d.example>", b"RCPT TO:<\"x y\"@d.example> NOTIFY=NEVER", b"DATA",
    b".", b"..", b"", b"text", b"RSET", b"NOOP", b"VRFY x", b"EXPN y", b"HELP", b"QUIT", b"STARTTLS", b"AUTH PLAIN",
    b"AUTH LOGIN", b"AUTH SCRAM-SHA-256 biwsbj1hLHI9Yg==", b"AUTH PLAIN AGEAYg==", b"YWxpY2U=", b"*", b"BDAT 3",
    b"BDAT 0", b"BDAT 9 LAST", b"BDAT 0 LAST", b"BDAT -1", b"BDAT 99999999999999999999", b"ETRN @x.example",
    b"XCLIENT ADDR=192.0.2.1", b"GET / HTTP/1.1", b"TURN", b"MAIL FROM:<@a,@b:c@d>",
    b"RCPT TO:<" + b"a" * 3000 + b">", b"\xff\xfe", b"NOOP\0",
]  # fmt: skip
ENDINGS = [b"\r\n"] * 30 + [b"\n", b"\r", b"\r\r\n", b"", b"\r\n.\r\n", b"\n.\r\n"]
# Each reply answers one thing that was said, and is no longer than this: the longest is that to EHLO.
LONGEST = 1000
CODES = (220, 221, 235, 250, 252, 334, 354, 421, 450, 451, 452, 454, 500, 501, 503, 521, 535, 550, 552, 554)


def stream(random: Random) -> bytes:
    """What is said."""
    said = []
    for _ in range(random.randrange(1, 60)):
        if random.random() < 0.1:
            said.append(random.randbytes(random.randrange(40)))
        said.append(random.choice(LINES) + random.choice(ENDINGS))
    return b"".join(said)


class Whim:
    """A door that answers anything that the table lets it, by chance."""

    def __init__(self, engine: SmtpServer, random: Random) -> None:
        self.engine = engine
        self.random = random
        self.replies = 0
        self.closed = False

    def run(self) -> None:
        """Answer until the engine runs dry."""
        while (event := self.engine.next_event()) is not None:
            if isinstance(event, Closed):
                self.closed = True
                return
            if isinstance(event, DataRefused | Rejected):
                self.replies += max(self.engine.recipients, 1)
            elif not isinstance(event, DataChunk | command.Bdat):
                self.answer(event)
            if self.engine.state is State.TLS:
                self.engine.secured(ALL)

    def answer(self, event: Event) -> None:
        """One reply, or as many as are wanted."""
        likely = {Connected: 220, command.Data: 354, ChunkEnd: 250, DataEnd: 250}.get(type(event), 250)
        while self.engine.asked:
            code = likely if self.random.random() < 0.7 else self.random.choice(CODES)
            self.replies += 1
            try:
                self.engine.reply(Reply(code, None, "x"))
            except ValueError:
                # The table says that this is no answer; then no is one.
                self.engine.reply(Reply(550, "5.0.0", "no"))


@pytest.mark.parametrize("kind", ["mx", "msa", "lmtp"])
def test_nothing_a_stranger_says_makes_the_engine_raise_or_talk_without_end(kind: Kind) -> None:
    for seed in SEEDS:
        random = Random(f"{kind} {seed}")
        said = stream(random)
        engine = server(kind, ALL | MORE if random.random() < 0.8 else {})
        door = Whim(engine, random)
        door.run()
        sent = len(engine.outgoing())
        while said and not door.closed:
            piece = random.choice((1, 2, 7, 100, len(said)))
            engine.receive(said[:piece])
            said = said[piece:]
            door.run()
            if random.random() < 0.5:
                sent += len(engine.outgoing())
            if random.random() < 0.002:
                engine.end(Reply(421, "4.3.2", "enough"))
                door.replies += 1
        if not door.closed:
            engine.receive(b"")
            door.run()
        sent += len(engine.outgoing())
        assert door.closed, f"seed {seed}"
        assert engine.next_event() == engine.next_event(), f"seed {seed}"
        assert sent <= LONGEST * (door.replies + 1), f"seed {seed}: {sent} octets for {door.replies} replies"


@pytest.mark.parametrize("kind", ["mx", "lmtp"])
def test_any_cut_leads_to_the_same_answers(kind: Kind) -> None:
    for seed in SEEDS[:100]:
        said = stream(Random(f"cut {kind} {seed}"))
        heard = []
        for piece in (len(said), 1, 13):
            engine = server(kind, ALL | MORE)
            door = Whim(engine, Random(seed))
            door.run()
            for at in range(0, len(said), piece):
                engine.receive(said[at : at + piece])
                door.run()
            engine.receive(b"")
            door.run()
            heard.append((engine.outgoing(), engine.errors))
        # What STARTTLS is followed by is dropped if it is there already, which is what it depends on.
        if b"STARTTLS" not in said:
            assert heard[0] == heard[1] == heard[2], f"seed {seed}"
