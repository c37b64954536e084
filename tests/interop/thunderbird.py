"""Mozilla Thunderbird without a screen, driven as its developers' tests drive it.

Promises: a fresh profile; nothing but loopback is contacted; every process is ended, whatever happens. Speaks
Marionette (LENGTH:JSON over TCP, a command [0, id, name, parameters], an answer [1, id, error, result]), by which
scripts run in Thunderbird's own main process. What they do stands in thunderbird.js.
"""

import base64
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers.waiting import wait_until
from bench.posthouse_server import PASSWORD, PosthouseServer
from tests.interop.clients import require

DEEDS = (Path(__file__).parent / "thunderbird.js").read_text()
HOST = "mail.example.test"
# A deed that takes longer has failed.
SECONDS = 90

# Marionette turns off most of what would speak with Mozilla; whatever is left finds a proxy that isn't there, and every
# name, that in the server's certificate too, is loopback's address. Mail is not proxied by these.
SETTINGS: Mapping[str, object] = {
    "marionette.port": 0,
    "network.dns.forceResolve": "127.0.0.1",
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "mail.provider.suppress_dialog_on_startup": True,
    "mailnews.start_page.enabled": False,
    "mail.shell.checkDefaultClient": False,
    "mail.biff.alert.show_preview": False,
    "mail.biff.show_alert": False,
    "mail.biff.play_sound": False,
    "mail.warn_on_delete_from_trash": False,
    "mailnews.confirm.moveFoldersToTrash": False,
}


# A connection, who speaks, and the words, in Thunderbird's log.
_SAID = re.compile(r"(?m)I/IMAP (\w+):\S+:(SendData|CreateNewLineFromSocket): (.*?)\r?$")


@dataclass(frozen=True, slots=True)
class Line:
    """A line said or heard by one connection, and what the connection was doing."""

    by: str
    words: str
    mailbox: str | None
    idling: bool


class Marionette:
    """The client's half of Marionette's protocol. RuntimeError with Thunderbird's words where a command fails."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS + 30)
        self._octets = self._socket.makefile("rb")
        self._commands = 0
        try:
            self._receive()
        except BaseException:
            self.close()
            raise

    def command(self, name: str, parameters: Mapping[str, object]) -> Any:
        """Send a command; its result."""
        self._commands += 1
        message = json.dumps([0, self._commands, name, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _, number, error, result = self._receive()
        assert number == self._commands, f"answer {number} to command {self._commands}"
        if error is not None:
            raise RuntimeError(f"{error['error']}: {error['message']} {error.get('data') or ''}\n{error['stacktrace']}")
        return result

    def _receive(self) -> Any:
        digits = b""
        while not digits.endswith(b":"):
            octet = self._octets.read(1)
            if not octet:
                raise ConnectionError("Thunderbird has gone")
            digits += octet
        return json.loads(self._octets.read(int(digits[:-1])))

    def close(self) -> None:
        """Leave."""
        self._octets.close()
        self._socket.close()


class Thunderbird:
    """A Thunderbird with a fresh profile in `directory` that trusts the server's CA, running until `stop`."""

    def __init__(self, server: PosthouseServer, directory: Path) -> None:
        program = require("thunderbird")
        self._server, self._directory = server, directory
        self._profile = directory / "profile"
        self._profile.mkdir()
        preferences = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in SETTINGS.items())
        (self._profile / "user.js").write_text("".join(preferences))
        with (directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(program, "--headless", "--no-remote", "--profile", str(self._profile)),
                    *("--marionette", "--remote-allow-system-access"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=self._environment(),
            )
        self._marionette: Marionette | None = None
        self._refused = 0
        try:
            self._begin()
        except BaseException:
            self.stop()
            raise

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self._directory),
            "MOZ_CRASHREPORTER_DISABLE": "1",
            "MOZ_LOG": "IMAP:4,timestamp,sync",
            "MOZ_LOG_FILE": str(self._directory / "imap"),
        }

    def _begin(self) -> None:
        port = self._profile / "MarionetteActivePort"

        def listening() -> bool:
            assert self._process.poll() is None, f"Thunderbird has ended: {self._words()}"
            return port.exists() and port.read_text() != ""

        wait_until(listening, SECONDS, "Thunderbird", pause=0.05)
        self._marionette = Marionette(int(port.read_text()))
        self._marionette.command(
            "WebDriver:NewSession",
            {"timeouts": {"script": SECONDS * 1000}, "unhandledPromptBehavior": "dismiss and notify"},
        )
        self._marionette.command("Marionette:SetContext", {"value": "chrome"})
        self.do("listen")
        authority = ssl.PEM_cert_to_DER_cert(self._server.certificates.read_text())
        self.do("trust", base64.b64encode(authority).decode())

    def _words(self) -> str:
        return (self._directory / "output").read_text(errors="replace")[-2000:]

    def do(self, deed: str, *arguments: object) -> Any:
        """Do what a function of thunderbird.js tells; its answer. AssertionError with the words of what failed."""
        assert self._marionette is not None, "not started"
        script = f"{DEEDS}\nreturn {deed}(...arguments);"
        called = {"script": script, "args": arguments, "sandbox": "system", "newSandbox": True, "filename": deed}
        try:
            return self._marionette.command("WebDriver:ExecuteScript", called)["value"]
        except RuntimeError as error:
            said = "\n".join(line.words for line in self._conversation())
            raise AssertionError(f"{deed}{arguments}: {error}\n{said[-2000:]}") from error

    def set_up(self, login: str, tls: str) -> None:
        """Add an account; `tls` is SSL or alwaysSTARTTLS."""
        names = ("imaps", "submissions") if tls == "SSL" else ("imap", "submission")
        imap, smtp = (self._server.ports[name] for name in names)
        account = {"login": login, "password": PASSWORD, "host": HOST, "tls": tls, "imap": imap, "smtp": smtp}
        self.do("setUp", account)

    def refusals(self) -> list[str]:
        """The answers NO and BAD that it has heard by IMAP since somebody asked."""
        every = [line.words for line in self._conversation() if re.match(r"\d+ (NO|BAD) ", line.words)]
        new, self._refused = every[self._refused :], len(every)
        return new

    def idles(self, mailbox: str) -> bool:
        """Whether one of its connections idles in a mailbox."""
        return any(
            one.idling and one.mailbox == mailbox for one in {line.by: line for line in self._conversation()}.values()
        )

    def heard_idling(self, mailbox: str) -> list[str]:
        """What the server told without being asked, while a connection idled in a mailbox."""
        heard = (line for line in self._conversation() if line.idling and line.mailbox == mailbox)
        return [line.words for line in heard if line.words.startswith("* ")]

    def _conversation(self) -> Iterator[Line]:
        """Its own log of what it said by IMAP, and heard."""
        mailboxes: dict[str, str] = {}
        idling: set[str] = set()
        for by, direction, words in _SAID.findall((self._directory / "imap.moz_log").read_text(errors="replace")):
            if direction == "SendData":
                idling.discard(by)
                if opened := re.fullmatch(r'\S+ select "(.*)"', words):
                    mailboxes[by] = opened[1]
            elif words.startswith("+ idling"):
                idling.add(by)
            yield Line(by, words, mailboxes.get(by), by in idling)

    def stop(self) -> None:
        """End it, and whatever it has started."""
        if self._marionette is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._marionette.command("Marionette:Quit", {"flags": ["eForceQuit"]})
            self._marionette.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=SECONDS)
