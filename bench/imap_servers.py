"""The servers that `python -m bench imap` puts beside each other, under the same names and with the same people."""

import ssl
from base64 import b64encode
from pathlib import Path
from typing import Final, Protocol

from bench.peers import cpu
from bench.peers.dovecot import Dovecot
from bench.peers.waiting import free_port, wait_until
from bench.posthouse_server import PASSWORD, PosthouseServer
from posthouse.directory.credentials import verifier_of

ADDRESS: Final = "127.0.0.1"
DOMAIN: Final = "bench.test"
LISTENERS: Final = {"smtp": "none", "imap": "none", "imaps": "implicit", "pop3": "none"}
# One machine plays two thousand: the limits on one address are not what is measured.
GENEROUS: Final = """
[limits]
connections_per_address = 10000
connections_per_neighbourhood = 10000
connection_rate = "1000000/1m"
message_rate = "1000000/1m"
"""


class Server(Protocol):
    """A server under load."""

    name: str
    imap: int
    imaps: int
    pop3: int

    def person(self, user: str) -> tuple[str, str]:
        """Login and password."""
        ...

    def restart(self) -> None:
        """End it in peace and start it anew."""
        ...

    def settle(self) -> None:
        """Wait until all work behind the commits is done."""
        ...

    def cpu(self) -> float:
        """CPU seconds used so far by the whole server."""
        ...

    def memory(self) -> float:
        """KB that its processes have, shared pages divided among those that share them (PSS)."""
        ...

    def stop(self) -> None:
        """End it and remove what it wrote."""
        ...


class Posthouse:
    """posthouse with accounts for these users; all passwords are hashed."""

    name = "posthouse"

    def __init__(self, users: list[str]) -> None:
        self.server = PosthouseServer(domain=DOMAIN, users=users, settings=GENEROUS, listeners=LISTENERS)
        self.server.start()
        self.imap, self.imaps, self.pop3 = (self.server.ports[door] for door in ("imap", "imaps", "pop3"))

    def person(self, user: str) -> tuple[str, str]:
        return f"{user}@{DOMAIN}", PASSWORD

    def restart(self) -> None:
        wait_until(self.server.packed, 60, "packing", pause=0.1)
        self.server.terminate()
        self.server.start()

    def settle(self) -> None:
        wait_until(lambda: not self._behind(), 300, "the search index", pause=0.05)

    def _behind(self) -> bool:
        """Emails are not indexed yet, or the words of an account that is searched are not gathered."""
        with self.server.database() as database:
            sql = "SELECT 1 FROM account_state WHERE search_mark < next_email - 1 OR search_mark >= words_mark + ?"
            return next(database.execute(sql, (_WORDS_AT_ONCE,)), None) is not None

    def cpu(self) -> float:
        return cpu.seconds([self.server.process.pid])

    def memory(self) -> float:
        return _proportional([self.server.process.pid])

    def stop(self) -> None:
        self.server.stop()


# Words are gathered of so many emails at a time: the last ones wait for more.
_WORDS_AT_ONCE: Final = 1000


class DovecotServer:
    """Dovecot over one of its stores. Those of `hashed` have passwords that cost as much to check as posthouse's."""

    def __init__(self, store: str, users: list[str], hashed: list[str]) -> None:
        self.name = f"Dovecot {store}"
        self.imap, self.imaps, self.pop3 = (free_port(ADDRESS) for _ in range(3))
        self._dovecot = Dovecot(
            users=users,
            address=ADDRESS,
            lmtp=free_port(ADDRESS),
            imap=self.imap,
            store=store,
            pop3=self.pop3,
            imaps=self.imaps,
            secrets=dict.fromkeys(hashed, _scram("secret")),
        )
        self._dovecot.start()

    @property
    def version(self) -> str:
        """As it tells it."""
        return self._dovecot.root.run("dovecot", "--version").stdout.strip()

    def person(self, user: str) -> tuple[str, str]:
        return user, "secret"

    def restart(self) -> None:
        self._dovecot.restart()

    def settle(self) -> None:
        """Nothing is done behind an answer."""

    def cpu(self) -> float:
        return cpu.seconds(self._dovecot.daemon.pids())

    def memory(self) -> float:
        return _proportional(self._dovecot.daemon.pids())

    def stop(self) -> None:
        self._dovecot.stop()


def _scram(password: str) -> str:
    """A verifier as Dovecot's passwd-file has it."""
    made = verifier_of(password)
    salt, stored, server = (b64encode(part).decode() for part in (made.salt, made.stored_key, made.server_key))
    return f"{{SCRAM-SHA-256}}{made.iterations},{salt},{stored},{server}"


def _proportional(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended since it was listed
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def unverified() -> ssl.SSLContext:
    """TLS as a client does it, whoever signed the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
