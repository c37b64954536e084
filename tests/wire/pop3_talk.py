"""A door without a house: it answers a Pop3Server's events as a transcript's settings say, and remembers them.

Settings: `@ state TRANSACTION` (else AUTHORIZATION), `@ answer -ERR [CODE]` to every command, `@ answer later` (then
`A: ok`), `@ challenges 2`, `@ greeting TEXT`. The maildrop holds two messages; the second has lines that begin
with dots.
"""

from posthouse.wire.multiline import top, whole
from posthouse.wire.pop3.command import Auth, Capa, Lang, List, Request, Retr, State, Top, Uidl
from posthouse.wire.pop3.server import AuthResponse, Broken, Command, Ended, Pop3Server
from tests.wire.shown import shown

MESSAGES = (b"Subject: one\r\n\r\nfirst\r\nsecond\r\nthird\r\n", b"Subject: two\r\n\r\n.\r\n..dots\r\nend")


class Talk:
    """A Conversation (tests/transcript.py)."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings
        self.engine = Pop3Server()
        self.engine.state = State(settings.get("state", "AUTHORIZATION"))
        self.seen: list[str] = []
        self.challenges = int(settings.get("challenges", "0"))
        self.over = False
        if "greeting" in settings:
            self.engine.greet(settings["greeting"])

    def receive(self, octets: bytes) -> None:
        self.engine.receive(octets)
        self.drive()

    def outgoing(self) -> bytes:
        return b"".join(self.engine.outgoing())

    @property
    def closed(self) -> bool:
        return self.over

    def drive(self) -> None:
        """Answer until the engine runs dry."""
        while (event := self.engine.next_event()) is not None:
            match event:
                case Command(request=request):
                    self.seen.append(shown(request))
                    self.answer(request)
                case AuthResponse():
                    self.seen.append(shown(event))
                    if self.challenges:
                        self.challenges -= 1
                        self.engine.challenge(b"more")
                    else:
                        self.engine.ok("done")
                case Broken(text=text):
                    self.seen.append(f"Broken({text!r})")
                case Ended():
                    self.seen.append(shown(event))
                    self.over = True

    def answer(self, request: Request) -> None:
        """What a door does."""
        answer, _, code = self.settings.get("answer", "+OK").partition(" ")
        if answer == "-ERR":
            self.engine.err("failed", code)
            return
        if answer == "later":
            return
        match request:
            case Auth(initial=None):
                self.engine.challenge(b"")
            case Capa():
                self.engine.ok_lines("this is offered", [b"TOP", b"UIDL", b"PIPELINING"])
            case Lang(wanted=None):
                self.engine.ok_lines("listing follows", [b"en English"])
            case List(number=None):
                self.engine.ok_lines("2 messages", [b"1 38", b"2 30"])
            case Uidl(number=None):
                self.engine.ok_lines("2 messages", [b"1 a", b"2 b"])
            case Retr(number=number):
                self.engine.ok("message follows")
                self.engine.send(*whole([MESSAGES[number - 1]]))
            case Top(number=number, lines=lines):
                self.engine.ok("top follows")
                self.engine.send(*top([MESSAGES[number - 1]], lines))
            case _:
                self.engine.ok("done")

    def act(self, what: str) -> None:
        """`saw EVENT`, `saw nothing`, `state STATE`, `utf8 True`, `ok`, `tls`, `bye TEXT`."""
        verb, _, rest = what.partition(" ")
        match verb:
            case "saw" if rest == "nothing":
                assert not self.seen, self.seen
            case "saw":
                assert self.seen, f"nothing was seen, not {rest}"
                assert self.seen.pop(0) == rest
            case "state":
                assert self.engine.state.value == rest
            case "utf8":
                assert str(self.engine.utf8) == rest
            case "ok":
                self.engine.ok("done")
            case "tls":
                self.engine.tls_started()
            case "bye":
                self.engine.bye(rest)
            case _:
                raise AssertionError(f"nobody knows how to {what}")
        self.drive()
