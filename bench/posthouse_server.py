"""posthouse as a benchmark sees it: started by its own command, with accounts imported, asked through its doors."""

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import apsw
from posthouse.directory.credentials import precomputed

from bench.peers.waiting import free_port, wait_for_port


class PosthouseServer:
    """A posthouse for `domain` with an account (password "secret") for each of `users`, in a directory of its own."""

    def __init__(self, *, domain: str, users: list[str], address: str = "127.0.0.1", settings: str = "") -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="posthouse-bench-", dir="/var/tmp"))
        self.domain, self.address = domain, address
        self.smtp, self.lmtp, self.submission = free_port(address), free_port(address), free_port(address)
        self.imap, self.pop3 = free_port(address), free_port(address)
        self.log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.configuration = self.directory / "posthouse.toml"
        self.configuration.write_text(self._toml(settings))
        self.command("domain", "add", domain)
        accounts = "".join(
            json.dumps({"address": f"{user}@{domain}", "scram": precomputed("secret")}) + "\n" for user in users
        )
        (self.directory / "accounts.jsonl").write_text(accounts)
        self.command("account", "import", str(self.directory / "accounts.jsonl"))

    def _toml(self, settings: str) -> str:
        listeners = {
            "smtp": self.smtp,
            "lmtp": self.lmtp,
            "submission": self.submission,
            "imap": self.imap,
            "pop3": self.pop3,
        }
        return f'hostname = "mail.{self.domain}"\ndata = "{self.directory}/data"\n{settings}\n' + "".join(
            f'[[listener]]\nprotocol = "{protocol}"\naddress = "{self.address}:{port}"\ntls = "none"\n'
            + ("clear_text_login = true\n" if protocol not in ("smtp", "lmtp") else "")
            for protocol, port in listeners.items()
        )

    def command(self, *argv: str) -> str:
        """Run `posthouse …` on this installation; its output."""
        done = subprocess.run(
            [sys.executable, "-m", "posthouse", "--config", str(self.configuration), *argv],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"posthouse {' '.join(argv)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self) -> None:
        """Start `posthouse serve` and wait until it listens."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "posthouse", "--config", str(self.configuration), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for_port(self.address, self.smtp, self._process)

    @property
    def pid(self) -> int:
        """The process of the server."""
        assert self._process is not None, "not started"
        return self._process.pid

    def delivered(self) -> int:
        """Emails that are filed and indexed: what the workers behind the commit still owe is not counted."""
        with contextlib.closing(self._database()) as database:
            (emails,) = next(database.execute("SELECT count(*) FROM email"))
            (pending,) = next(database.execute("SELECT count(*) FROM search_pending"))
        return int(emails) - int(pending)

    def _database(self) -> apsw.Connection:
        database = apsw.Connection(str(self.directory / "data" / "posthouse.db"), flags=apsw.SQLITE_OPEN_READONLY)
        database.set_busy_timeout(5000)
        return database

    def stop(self) -> None:
        """End it by SIGTERM and remove its directory."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
        subprocess.run(["rm", "-rf", str(self.directory)], check=True)
