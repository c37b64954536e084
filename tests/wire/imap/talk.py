"""A door without a house: it answers an ImapServer's events as a transcript's settings say, and remembers them.

Settings: `@ state authenticated` (else selected; or `not authenticated`), `@ answer NO [CODE]` to every command,
`@ answer later` (then `A: ok`, `A: no`), `@ refuse message` (APPEND is refused when its message is announced),
`@ limit 100` (octets of a message), `@ challenges 2`, `@ utf8` (mailbox names are UTF-8), `@ login disabled`.
"""

from posthouse import limits
from posthouse.wire.imap import response
from posthouse.wire.imap.command import State
from posthouse.wire.imap.event import (
    AppendEnd,
    AuthResponse,
    Broken,
    Command,
    Ended,
    Event,
    IdleDone,
    LiteralChunk,
)
from posthouse.wire.imap.request import Append, AppendMessage, AppendText, Authenticate, Enable, Idle, Replace
from posthouse.wire.imap.server import ImapServer
from tests.wire.shown import shown


class Talk:
    """A Conversation (tests/transcript.py)."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings
        self.engine = ImapServer(append_limit=int(settings.get("limit", limits.MESSAGE_SIZE)))
        self.engine.state = State(settings.get("state", "selected"))
        self.engine.utf8 = "utf8" in settings
        self.engine.login_disabled = "Not in clear text" if "login" in settings else None
        self.seen: list[str] = []
        self.commands: list[Command] = []
        self.challenges = int(settings.get("challenges", "0"))
        self.over = False
        self.chunk = b""

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
            self.note(event)
            self.meet(event)

    def note(self, event: Event) -> None:
        """Remember an event; chunks in a row are one."""
        match event:
            case Command(request=request):
                self.seen.append(shown(request))
            case LiteralChunk(octets=octets) if self.seen and self.seen[-1].startswith("LiteralChunk("):
                self.chunk += octets
                self.seen[-1] = shown(LiteralChunk(self.chunk))
            case LiteralChunk(octets=octets):
                self.seen.append(shown(event))
                self.chunk = octets
            case Broken(text=text):
                self.seen.append(f"Broken({text!r})")
            case _:
                self.seen.append(shown(event))

    def meet(self, event: Event) -> None:
        """Answer an event."""
        match event:
            case Command():
                self.commands.append(event)
                self.begin(event)
            case AppendMessage() | AppendText():
                if self.settings.get("refuse") == "message":
                    self.engine.no(self.commands.pop(), "no room", response.Code.OVERQUOTA)
                else:
                    self.engine.accept()
            case AuthResponse() if self.challenges:
                self.challenges -= 1
                self.engine.challenge(b"more")
            case AppendEnd() | AuthResponse() | IdleDone():
                self.finish(self.commands[-1])
            case Broken(command=command):
                self.commands.remove(command)
            case Ended():
                self.over = True

    def begin(self, command: Command) -> None:
        """What a door does first."""
        answer = self.settings.get("answer", "OK")
        match command.request:
            case _ if answer != "OK":
                if answer != "later":
                    self.finish(command)
            case Authenticate(initial=initial):
                if initial is None:
                    self.engine.challenge(b"")
                else:
                    self.finish(command)
            case Idle():
                self.engine.idle()
            case Append() | Replace():
                pass
            case Enable(capabilities=capabilities):
                self.engine.enable([name for name in capabilities if name == b"IMAP4REV2"])
                self.finish(command)
            case _:
                self.finish(command)

    def finish(self, command: Command) -> None:
        """The tagged answer."""
        self.commands.remove(command)
        answer, _, code = self.settings.get("answer", "OK").partition(" ")
        if answer == "NO":
            self.engine.no(command, "failed", code.encode())
        elif answer == "BAD":
            self.engine.bad(command, "senseless")
        else:
            self.engine.ok(command, "done")

    def act(self, what: str) -> None:
        """`saw EVENT`, `saw nothing`, `state STATE`, `ok`, `no`, `send TEXT`, `tls`, `bye TEXT`, `utf8`."""
        verb, _, rest = what.partition(" ")
        match verb:
            case "saw" if rest == "nothing":
                assert not self.seen, self.seen
            case "saw":
                assert self.seen, f"nothing was seen, not {rest}"
                assert self.seen.pop(0) == rest
            case "state":
                assert self.engine.state.value == rest
            case "ok":
                self.engine.ok(self.commands.pop(0), "done")
            case "no":
                self.engine.no(self.commands.pop(0), "failed")
            case "send":
                self.engine.send(rest.encode() + b"\r\n")
            case "tls":
                self.engine.tls_started()
            case "bye":
                self.engine.bye(rest)
            case "utf8":
                assert self.engine.utf8
            case _:
                raise AssertionError(f"nobody knows how to {what}")
        self.drive()
