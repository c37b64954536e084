"""posthouse as tests and benchmarks see it from outside: configured by a file, run by its own command, asked at its
doors.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

import apsw

from bench.peers.waiting import free_port, wait_for_greeting
from posthouse.directory.credentials import verifier_of
from posthouse.mailbox import packer
from posthouse.store.database import Value
from posthouse.store.statements import load

SOURCE = Path(__file__).parent.parent / "src"
PASSWORD = "secret of nobody"

# Every protocol in clear text, for measuring: TLS would be measured instead.
CLEAR: Mapping[str, str] = dict.fromkeys(("smtp", "lmtp", "submission", "imap", "pop3"), "none")
# As a real installation has it, certificates from the installation's own CA.
ENCRYPTED: Mapping[str, str] = {
    "smtp": "starttls",
    "submission": "starttls",
    "submissions": "implicit",
    "imap": "starttls",
    "imaps": "implicit",
    "pop3": "starttls",
    "pop3s": "implicit",
}


# As observe.py writes it.
_ERROR = '"level":"error"'


class PosthouseServer:
    """A posthouse for `domain` with an account for each of `users` (password PASSWORD), in a directory of its own.

    `ports` tells the port of each protocol. `settings` is TOML that stands before the listeners; where it names a
    certificate, `authority` has signed that. RuntimeError with the command's words where it cannot be set up.
    """

    def __init__(
        self,
        *,
        domain: str,
        users: Sequence[str],
        listeners: Mapping[str, str] = CLEAR,
        address: str = "127.0.0.1",
        settings: str = "",
        ports: Mapping[str, int] | None = None,
        authority: Path | None = None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="posthouse-", dir="/var/tmp"))
        self.domain, self.address = domain, address
        self._authority = authority
        self.ports = {protocol: (ports or {}).get(protocol) or free_port(address) for protocol in listeners}
        self.log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.configuration = self.directory / "posthouse.toml"
        self.configuration.write_text(self._toml(listeners, settings))
        try:
            self.command("domain", "add", domain)
            self._import(users)
        except RuntimeError:
            self.stop()
            raise

    def _toml(self, listeners: Mapping[str, str], settings: str) -> str:
        return f'hostname = "mail.{self.domain}"\ndata = "{self.directory}/data"\n{settings}\n' + "".join(
            f'[[listener]]\nprotocol = "{protocol}"\naddress = "{self.address}:{self.ports[protocol]}"\ntls = "{tls}"\n'
            + ("clear_text_login = true\n" if tls == "none" and protocol not in ("smtp", "lmtp") else "")
            for protocol, tls in listeners.items()
        )

    def _import(self, users: Sequence[str]) -> None:
        scram = _scram(PASSWORD)
        accounts = self.directory / "accounts.jsonl"
        accounts.write_text(
            "".join(json.dumps({"address": f"{user}@{self.domain}", "scram": scram}) + "\n" for user in users)
        )
        self.command("account", "import", str(accounts))

    @property
    def certificates(self) -> Path:
        """The certificate of the CA, the installation's own or another, which clients are told to trust."""
        return self._authority or self.directory / "data" / "tls" / "ca.pem"

    def _argv(self, *argv: str) -> list[str]:
        return [sys.executable, "-m", "posthouse", "--config", str(self.configuration), *argv]

    def command(self, *argv: str, check: bool = True) -> str:
        """Run `posthouse …` on this installation; its output. RuntimeError with it where the command fails."""
        done = subprocess.run(self._argv(*argv), capture_output=True, text=True, check=False, env=_environment())
        if check and done.returncode:
            raise RuntimeError(f"posthouse {' '.join(argv)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self) -> None:
        """Start `posthouse serve` and wait until it greets. AssertionError, with the end of its log."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv("serve"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment()
            )
        try:
            wait_for_greeting(self.address, self.ports["smtp"], self._process)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.log.read_text()[-2000:]}") from error

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running server."""
        assert self._process is not None, "not started"
        return self._process

    def kill(self) -> None:
        """SIGKILL, as loss of power would: nothing is finished."""
        self.process.kill()
        self.process.wait(timeout=60)

    def terminate(self, seconds: float = 120) -> int:
        """SIGTERM; the exit status. What is being handed to another server may take a minute."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=seconds)

    def database(self) -> "contextlib.closing[apsw.Connection]":
        """The store, read from outside."""
        path = self.directory / "data" / "posthouse.db"
        database = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        database.set_busy_timeout(60_000)
        return contextlib.closing(database)

    def delivered(self) -> int:
        """Emails that are filed, indexed, and have their journeys found: what workers behind the commit still owe does
        not count.
        """
        with self.database() as database:
            (emails,) = next(database.execute("SELECT count(*) FROM email"))
            (pending,) = next(database.execute("SELECT total(next_email - 1 - search_mark) FROM account_state"))
            (unordered,) = next(database.execute("SELECT count(*) FROM journey_new"))
        return int(emails) - max(int(pending), int(unordered))

    def packed(self) -> bool:
        """True where large mailboxes are kept packed; that is done a few seconds behind the commits."""
        statement = load("sqlite")["packed_behind"]
        asked: dict[str, Value] = {"least": packer.LEAST, "enough": packer.ENOUGH, "share": packer.SHARE}
        asked["accounts"] = f"[[0,{1 << 62}]]"
        with self.database() as database:
            return next(database.execute(statement.sql, statement.bind(asked)), None) is None

    def errors(self) -> list[str]:
        """The lines of its log that tell of errors; what is no JSON is one, too."""
        return [line for line in self.log.read_text().splitlines() if not line.startswith('{"time"') or _ERROR in line]

    def stop(self) -> None:
        """End it and remove its directory."""
        if self._process is not None and self._process.poll() is None:
            self.terminate()
        shutil.rmtree(self.directory, ignore_errors=True)


def _scram(password: str) -> dict[str, object]:
    """A verifier as `account import` takes it, derived once for all accounts."""
    verifier = verifier_of(password)
    keys = {"salt": verifier.salt, "stored_key": verifier.stored_key, "server_key": verifier.server_key}
    return {"iterations": verifier.iterations, **{name: b64encode(key).decode() for name, key in keys.items()}}


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE)}
