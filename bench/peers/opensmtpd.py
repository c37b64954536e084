"""OpenSMTPD in a private root: as a sender, and as a receiver into Maildirs.

Set up as its manual advises for virtual users of one domain. Version 6.8 announces 8BITMIME, ENHANCEDSTATUSCODES, SIZE,
DSN and STARTTLS, and nothing else.
"""

from collections.abc import Sequence
from pathlib import Path

from bench.peers.mta import Mta

PACKAGES = ["opensmtpd"]

_CONFIGURATION = """\
pki mail.{domain} cert "/peer/etc/cert.pem"
pki mail.{domain} key "/peer/etc/key.pem"
table users file:/peer/etc/users
smtp max-message-size 60M
bounce warn-interval {warn}
listen on {address} port {port} tls pki mail.{domain} hostname mail.{domain}
action "local" maildir "/peer/mail/%{{dest.user}}" virtual <users>
action "remote" relay host "smtp+tls://{host}:{host_port}" tls no-verify helo mail.{domain} src {address}
match from any for domain "{domain}" action "local"
match from local for any action "remote"
match from src "127.0.0.0/8" for any action "remote"
"""


class OpenSmtpd(Mta):
    """An OpenSMTPD for `domain` with a Maildir for each of `users`, listening at `address`:`port`.

    What is for others goes to the host `route` = (address, port), over TLS; `warn`: after what time a sender hears that
    it waits. It needs a certificate before it starts. Raises Unavailable (private_root).
    """

    # RFC 6522 §3 wants multipart/report, RFC 3464 §2.2.1 and §2.3.1 want back what the sender wrote.
    reports = "multipart/mixed"
    echoes = False

    def __init__(
        self, *, domain: str, users: Sequence[str], address: str, port: int, route: tuple[str, int], warn: str = "4h"
    ) -> None:
        super().__init__("opensmtpd", PACKAGES, domain=domain, address=address, port=port)
        (self.etc / "users").write_text("".join(f"{user}@{domain} nobody\n" for user in users))
        host, host_port = route
        (self.etc / "smtpd.conf").write_text(
            _CONFIGURATION.format(domain=domain, address=address, port=port, host=host, host_port=host_port, warn=warn)
        )
        # It asks DNS for names of addresses; nobody answers there, at once.
        self.resolve_at("127.0.0.1")

    @property
    def log(self) -> Path:
        return self.root.peer / "daemon.log"

    @property
    def spool(self) -> Path:
        return self.root.written / "var" / "spool" / "smtpd" / "queue"

    def certificate(self, certificate: Path, key: Path) -> None:
        """Copy a certificate into the root, as the one it shows."""
        self.copy_pair(certificate, key)

    def start(self) -> None:
        self._start("/usr/sbin/smtpd", "-d", "-T", "smtp", "-f", "/peer/etc/smtpd.conf")

    def hurry(self) -> None:
        """Its own pauses are 15 seconds for a way to a host that failed, and 400 for a message."""
        for line in self.daemon.run("/usr/sbin/smtpctl", "show", "routes").stdout.splitlines():
            # By now it may have gone.
            self.daemon.run("/usr/sbin/smtpctl", "resume", "route", line.partition(".")[0], check=False)
        self.daemon.run("/usr/sbin/smtpctl", "schedule", "all")
