import contextlib
import imaplib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.peers.waiting import free_port, wait_until
from tests.cli.support import Command, make_newer

SOURCE = Path(__file__).parent.parent.parent / "src"
# Of processes that are made, and may have to wait for a core.
SECONDS = 60
pytestmark = pytest.mark.timeout(300)


class Serving:
    """`posthouse serve` on one IMAP port, with its log."""

    def __init__(self, directory: Path) -> None:
        self.command = Command(directory)
        self.port = free_port()
        self.configure("")
        self._log = directory / "log"

    def configure(self, settings: str) -> None:
        self.command.configuration.write_text(
            f'hostname = "mail.example.org"\ndata = "data"\n{settings}\n'
            f'[[listener]]\nprotocol = "imap"\naddress = "127.0.0.1:{self.port}"\n'
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The process, once it is ready; killed at the end where it still runs."""
        argv = [sys.executable, "-m", "posthouse", "-c", str(self.command.configuration), "serve"]
        with self._log.open("ab") as log:
            process = subprocess.Popen(argv, stderr=log, env={**os.environ, "PYTHONPATH": str(SOURCE)})
        try:
            wait_until(lambda: process.poll() is not None or self.said("server.ready"), SECONDS, "the server")
            yield process
        finally:
            process.kill()
            process.wait()

    def error(self) -> str:
        """The one line with which it ends at once. (In a process of its own: it sets up the log, memory, signals.)"""
        argv = [sys.executable, "-m", "posthouse", "-c", str(self.command.configuration), "serve"]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=SECONDS, env=environment)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
        return line.removeprefix("posthouse: ")

    def log(self) -> list[dict[str, Any]]:
        """Every line, which is an object; of one that is just being written the beginning may be there."""
        whole, _, _ = self._log.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    def said(self, kind: str) -> bool:
        return any(line["kind"] == kind for line in self.log())

    def wait_for(self, kind: str) -> None:
        wait_until(lambda: self.said(kind), SECONDS, kind)


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Serving(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(serving: Serving, number: signal.Signals) -> None:
    with serving.running() as process:
        client = imaplib.IMAP4("127.0.0.1", serving.port, timeout=SECONDS)
        assert b"posthouse" in client.welcome
        process.send_signal(number)
        assert process.wait(SECONDS) == 0
        client.shutdown()
    kinds = [line["kind"] for line in serving.log()]
    assert kinds[-2:] == ["server.stopping", "server.stopped"]
    assert {"time", "level", "kind"} <= serving.log()[0].keys()


def test_sighup_reads_the_configuration_again(serving: Serving) -> None:
    with serving.running() as process:
        serving.configure('[limits]\nerrors = "many"')
        process.send_signal(signal.SIGHUP)
        serving.wait_for("reload.refused")
        serving.configure("[limits]\nerrors = 3")
        process.send_signal(signal.SIGHUP)
        serving.wait_for("reload.done")
        imaplib.IMAP4("127.0.0.1", serving.port, timeout=SECONDS).logout()


def test_a_port_in_use_is_one_clear_line(serving: Serving) -> None:
    with socket.create_server(("127.0.0.1", serving.port)):
        error = serving.error()
    assert error == f"cannot listen on 127.0.0.1:{serving.port}: port {serving.port} is in use by another program"
    assert not (serving.command.configuration.parent / "data").exists(), "nothing was opened"


def test_a_store_that_is_served_already_is_one_clear_line(serving: Serving) -> None:
    with serving.running():
        serving.port = free_port()
        serving.configure("")
        assert serving.error().endswith("data is served by another posthouse already")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ('[queue]\nexpire = "5 days"', "queue.expire: found"),
        ('[tls]\ncertificate = "none.pem"\nkey = "none.key"', "none.pem"),
        ('data_ = "x"', "data_: found an unknown setting"),
    ],
)
def test_a_bad_configuration_is_refused_in_one_line(serving: Serving, settings: str, expected: str) -> None:
    serving.configure(settings)
    assert expected in serving.error()


def test_a_store_of_a_newer_version_is_one_clear_line(serving: Serving) -> None:
    serving.command("domain", "add", "example.org")
    make_newer(serving.command.configuration.parent / "data" / "posthouse.db")
    assert "newer" in serving.error()
