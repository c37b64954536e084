"""imapflow, an IMAP client of the world of Node.js, driven from here. What it does with a line: node/drive.js."""

import contextlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from bench.peers.waiting import wait_until
from bench.posthouse_server import PASSWORD, PosthouseServer
from tests.interop.clients import require
from tests.interop.packages import node_packages

HOST = "mail.example.test"


class Driver:
    """A Node process with imapflow in it, until `stop`."""

    def __init__(self, server: PosthouseServer, directory: Path) -> None:
        node_packages(Path(__file__).parent / "node", directory)
        self._server, self._log = server, directory / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [require("node", "nodejs"), "drive.js"],
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._complained = 0

    def open(self, name: str, login: str, **options: object) -> "Client":
        """A client that is logged in over TLS, having verified the certificate."""
        authority = self._server.certificates.read_text()
        connection: dict[str, object] = {
            "host": self._server.address,
            "port": self._server.ports["imaps"],
            "secure": True,
            "servername": HOST,
            "tls": {"ca": authority},
            "auth": {"user": login, "pass": PASSWORD},
            **options,
        }
        client = Client(self, name)
        client.capabilities = self.perform(name, "open", connection)
        return client

    def perform(self, *line: object) -> Any:
        """Do this; AssertionError with imapflow's words and the end of the conversation where it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([*line[:2], line[2:]]).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"node has ended: {self._log.read_text()[-3000:]}"
        state, result = json.loads(answer)
        assert state == "ok", f"{line[1]}: {result}\n{self._log.read_text()[-3000:]}"
        return result

    def complaints(self) -> list[str]:
        """What it warned of, and each NO and BAD that it heard, since somebody asked."""
        lines = self._log.read_text().splitlines()
        new, self._complained = lines[self._complained :], len(lines)
        return [line for line in new if _complains(json.loads(line))]

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(timeout=30)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _complains(entry: dict[str, Any]) -> bool:
    refused = entry.get("src") == "s" and re.match(r"\S+ (NO|BAD)\b", str(entry.get("msg")))
    return entry["level"] in ("warn", "error", "fatal") or bool(refused)


class Client:
    """A client by the words of imapflow's own documentation."""

    def __init__(self, driver: Driver, name: str) -> None:
        self._driver, self._name = driver, name
        self.capabilities: dict[str, object] = {}

    def do(self, method: str, *parameters: object) -> Any:
        """Call a method; its result."""
        return self._driver.perform(self._name, method, *parameters)

    def hears(self, kind: str, seconds: float = 90) -> dict[str, Any]:
        """The next event of a kind."""
        heard: list[dict[str, Any]] = []

        def told() -> bool:
            heard.extend(event for name, event in self.do("events") if name == kind)
            return bool(heard)

        wait_until(told, seconds, f"an event {kind!r}", pause=0.02)
        return heard[0]
