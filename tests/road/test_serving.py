"""`posthouse serve` as systemd and an administrator meet it: privileges, sockets, signals, one clear line."""

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from bench.peers.waiting import free_port, wait_until

SOURCE = Path(__file__).parent.parent.parent / "src"
NOBODY = "nobody"


class Serving:
    """A configuration with one SMTP listener, and the server that is run with it."""

    def __init__(self, directory: Path, port: int, python: str = sys.executable) -> None:
        self.directory = directory
        self.port = port
        self.python = python
        self.configuration = directory / "posthouse.toml"
        self.data = directory / "data"
        self._log = directory / "log"
        self.configure("")

    def configure(self, settings: str) -> None:
        """Write the configuration anew."""
        self.configuration.write_text(
            f'hostname = "mail.example.org"\ndata = "{self.data}"\n{settings}\n'
            f'[[listener]]\nprotocol = "smtp"\naddress = "127.0.0.1:{self.port}"\n'
        )

    def argv(self, *command: str) -> list[str]:
        """The command line."""
        return [self.python, "-m", "posthouse", "--config", str(self.configuration), *command]

    @property
    def environment(self) -> dict[str, str]:
        """Where another interpreter finds the libraries of this one."""
        libraries = [path for path in sys.path if path.endswith("site-packages")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), *libraries])}

    @contextmanager
    def running(self, argv: Sequence[str] = (), **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """The server, once it is ready."""
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                argv or self.argv("serve"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
                **options,
            )  # fmt: skip
        try:
            wait_until(lambda: process.poll() is not None or self.said("server.ready"), 60, "the server")
            assert process.poll() is None, self._log.read_text()
            yield process
        finally:
            process.kill()
            process.wait()

    def error(self, argv: Sequence[str] = (), **options: Any) -> str:
        """The one line with which it ends."""
        done = subprocess.run(
            argv or self.argv("serve"), capture_output=True, text=True, check=False, timeout=60,
            env=self.environment, **options,
        )  # fmt: skip
        assert done.returncode == 1, done
        lines = [line for line in str(done.stderr).splitlines() if not line.startswith("{")]
        assert len(lines) == 1, lines
        return lines[0]

    def log(self) -> list[dict[str, Any]]:
        """What it told, each line an object; the last may be half written."""
        return [json.loads(line) for line in self._log.read_text().split("\n")[:-1] if line.startswith("{")]

    def said(self, kind: str) -> bool:
        """Whether it told that."""
        return any(line["kind"] == kind for line in self.log())

    def talk(self, *lines: str) -> str:
        """What it answers to these lines and QUIT."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as client:
            client.sendall("".join(f"{line}\r\n" for line in (*lines, "QUIT")).encode())
            answers = b""
            while octets := client.recv(65536):
                answers += octets
            return answers.decode()


def handed_over(serving: Serving, bound: socket.socket) -> tuple[list[str], dict[str, Any]]:
    """How systemd would start it with this socket: as descriptor 3 (sd_listen_fds(3))."""
    script = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3, inheritable=True);"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}; os.execv(sys.argv[2], sys.argv[2:])"
    )
    argv = [sys.executable, "-c", script, str(bound.fileno()), *serving.argv("serve")]
    return argv, {"pass_fds": [bound.fileno()]}


def test_sockets_of_systemd_are_served(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        serving = Serving(tmp_path, bound.getsockname()[1])
        argv, options = handed_over(serving, bound)
        with serving.running(argv, **options) as process:
            assert serving.talk("EHLO far.example").startswith("220 mail.example.org")
            # It serves the very socket that was handed over; and its children are told nothing of it.
            assert os.readlink(f"/proc/{process.pid}/fd/3") == os.readlink(f"/proc/self/fd/{bound.fileno()}")


def test_a_socket_of_systemd_that_is_nobodys_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        serving = Serving(tmp_path, free_port())
        argv, options = handed_over(serving, bound)
        assert "which no [[listener]] names" in serving.error(argv, **options)
        assert not serving.data.exists()


def test_what_cannot_be_used_is_said_before_anything_is_bound(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        serving = Serving(tmp_path, taken.getsockname()[1])
        assert "in use by another program" in serving.error()
        serving.configure('[tls]\ncertificate = "none.pem"\nkey = "none.key"')
        assert "none.pem" in serving.error()
        serving.configure('limits.errors = "many"')
        assert "limits.errors" in serving.error()
    assert not serving.data.exists()


def test_a_data_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    serving = Serving(tmp_path, free_port())
    serving.data.write_text("a file")
    assert str(serving.data) in serving.error()


def test_sigterm_ends_it_within_seconds(tmp_path: Path) -> None:
    serving = Serving(tmp_path, free_port())
    with serving.running() as process, socket.create_connection(("127.0.0.1", serving.port), timeout=60) as client:
        assert client.recv(1000).startswith(b"220")
        client.sendall(b"EHLO far.example\r\n")
        assert client.recv(1000).startswith(b"250")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert client.recv(1000).startswith(b"421 4.3.2")
    assert [line["kind"] for line in serving.log()][-2:] == ["server.stopping", "server.stopped"]
    # The port is free again at once, and nothing unfinished is left.
    assert list((serving.data / "blobs" / "tmp").iterdir()) == []
    with serving.running():
        serving.talk("NOOP")


def test_sighup_changes_what_new_connections_are_told(tmp_path: Path) -> None:
    serving = Serving(tmp_path, free_port())
    with serving.running() as process:
        assert "SIZE 52428800" in serving.talk("EHLO far.example")
        serving.configure('limits.message_size = "1MB"')
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: serving.said("reload.done"), 60, "the reload")
        assert "SIZE 1048576" in serving.talk("EHLO far.example")
        serving.configure('limits.message_size = "much"')
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: serving.said("reload.refused"), 60, "the reload")
        assert "SIZE 1048576" in serving.talk("EHLO far.example")


def privileged_port() -> int:
    """A port that only root may bind, where one is free; another each time, for who else may be running this."""
    for port in SystemRandom().sample(range(600, 1024), 424):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except PermissionError:
                pytest.skip("this user may not bind ports below 1024")
            except OSError:
                continue
            return port
    raise AssertionError("no port below 1024 is free")


def everybodys_python() -> str:
    """An interpreter of this version that any user can run."""
    for python in (sys.executable, "/usr/bin/python3"):
        asked = [python, "-c", "import sys; print(sys.version_info[:2])"]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, check=False, user=NOBODY, group=NOGROUP)
        except OSError:
            continue
        if done.stdout.strip() == str(sys.version_info[:2]):
            return python
    pytest.skip("every Python of this version here is readable for root alone")


@pytest.fixture
def everybodys_directory() -> Iterator[Path]:
    """One that any user can enter, wherever the others are."""
    with TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


NOGROUP = pwd.getpwnam(NOBODY).pw_gid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give root up")
def test_root_is_given_up_behind_binding(everybodys_directory: Path) -> None:
    python, nobody = everybodys_python(), pwd.getpwnam(NOBODY)
    serving = Serving(everybodys_directory, privileged_port(), python)
    serving.configure(f'user = "{NOBODY}"')
    with serving.running() as process:
        assert serving.talk("EHLO far.example").startswith("220")
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
        assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert status["Gid"].split() == [str(nobody.pw_gid)] * 4
        assert status["Groups"].split() == []
        assert int(status["CapEff"], 16) == 0
        made = list(serving.data.rglob("*"))
        assert made
        assert {path.stat().st_uid for path in made} == {nobody.pw_uid}
        assert {path.stat().st_mode & 0o077 for path in (serving.data, serving.data / "tls" / "server.key")} == {0}
        assert "user" not in [line.get("setting") for line in serving.log()]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    # What a running server cannot do any more, the next start can: the port is bound again.
    with serving.running():
        serving.talk("NOOP")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run as root")
def test_running_as_root_is_cautioned_against(tmp_path: Path) -> None:
    serving = Serving(tmp_path, free_port())
    with serving.running():
        cautions = [line["setting"] for line in serving.log() if line["kind"] == "caution"]
        assert "user" in cautions
