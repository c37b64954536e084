"""Postfix in a private root: as a sender, a receiver into Maildirs or LMTP, and the home of smtp-source.

Set up as its manual advises for a small server of virtual mailboxes; durable, as Postfix always is. Its own chroots are
off, because all of it lives in a private root.
"""

import shutil
import smtplib
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.peers.private_root import Daemon, PrivateRoot
from bench.peers.waiting import wait_for_port

PACKAGES = ["postfix", "dovecot-core", "dovecot-imapd", "dovecot-lmtpd"]

_MASTER = """\
{address}:{port} inet n - n - - smtpd
pickup    unix  n - n 60    1   pickup
cleanup   unix  n - n -     0   cleanup
qmgr      unix  n - n 300   1   qmgr
tlsmgr    unix  - - n 1000? 1   tlsmgr
rewrite   unix  - - n -     -   trivial-rewrite
bounce    unix  - - n -     0   bounce
defer     unix  - - n -     0   bounce
trace     unix  - - n -     0   bounce
verify    unix  - - n -     1   verify
flush     unix  n - n 1000? 0   flush
proxymap  unix  - - n -     -   proxymap
smtp      unix  - - n -     -   smtp
relay     unix  - - n -     -   smtp
showq     unix  n - n -     -   showq
error     unix  - - n -     -   error
retry     unix  - - n -     -   error
discard   unix  - - n -     -   discard
virtual   unix  - n n -     -   virtual
lmtp      unix  - - n -     -   lmtp
anvil     unix  - - n -     1   anvil
scache    unix  - - n -     1   scache
postlog   unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """A Postfix for `domain` with a Maildir for each of `users`, listening at `address`:`port`.

    `settings` are lines of main.cf that are added to ours. An interface must have the address: of loopback's, Postfix
    takes 127.0.0.1 only. Raises Unavailable (private_root).
    """

    def __init__(
        self, *, domain: str, users: Sequence[str], address: str, port: int, settings: Mapping[str, str] | None = None
    ) -> None:
        self.root = PrivateRoot("postfix", PACKAGES)
        self.domain, self.address, self.port = domain, address, port
        self.mail = self.root.peer / "mail"
        self.log = self.root.peer / "postfix.log"
        self._daemon: Daemon | None = None
        self._configure(users, settings or {})

    def _configure(self, users: Sequence[str], settings: Mapping[str, str]) -> None:
        etc = self.root.peer / "etc"
        etc.mkdir()
        self.mail.mkdir()
        self.mail.chmod(0o777)
        (etc / "users").write_text("".join(f"{user}@{self.domain} {user}/\n" for user in users))
        main = {
            "compatibility_level": "3.6",
            "myhostname": f"mail.{self.domain}",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": self.address,
            "inet_protocols": "ipv4",
            "smtp_bind_address": self.address,
            "maillog_file": "/peer/postfix.log",
            "maillog_file_prefixes": "/peer",
            "alias_maps": "",
            "local_transport": "error:no local mail",
            "virtual_mailbox_domains": self.domain,
            "virtual_mailbox_base": "/peer/mail",
            "virtual_mailbox_maps": "texthash:/peer/etc/users",
            "virtual_uid_maps": "static:65534",
            "virtual_gid_maps": "static:65534",
            "virtual_mailbox_limit": "0",
            "message_size_limit": "60000000",
            "smtpd_peername_lookup": "no",
            "smtpd_recipient_restrictions": "permit_mynetworks, reject_unauth_destination",
            "smtpd_client_connection_count_limit": "0",
            **settings,
        }
        (etc / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in main.items()))
        (etc / "master.cf").write_text(_MASTER.format(address=self.address, port=self.port))

    def certificate(self, certificate: Path, key: Path) -> dict[str, str]:
        """Copy a certificate into the root; the settings that make smtpd offer it."""
        shutil.copy(certificate, self.root.peer / "etc" / "cert.pem")
        shutil.copy(key, self.root.peer / "etc" / "key.pem")
        return {
            "smtpd_tls_cert_file": "/peer/etc/cert.pem",
            "smtpd_tls_key_file": "/peer/etc/key.pem",
            "smtpd_tls_security_level": "may",
        }

    def set(self, settings: Mapping[str, str]) -> None:
        """Add lines to main.cf; before start()."""
        with (self.root.peer / "etc" / "main.cf").open("a") as main:
            main.writelines(f"{key} = {value}\n" for key, value in settings.items())

    def start(self) -> None:
        """Start it and wait until it greets."""
        self._daemon = self.root.start(
            *("/usr/sbin/postfix", "-c", "/peer/etc", "start-fg"), log=self.root.peer / "master.log"
        )
        wait_for_port(self.address, self.port, self._daemon.process)

    @property
    def daemon(self) -> Daemon:
        """The running daemon."""
        assert self._daemon is not None, "not started"
        return self._daemon

    def submit(self, sender: str, recipients: Sequence[str], message: bytes, options: Sequence[str] = ()) -> None:
        """Hand a message to Postfix by SMTP on its own port; `options` are parameters of MAIL."""
        with smtplib.SMTP(self.address, self.port, timeout=30) as client:
            client.sendmail(sender, recipients, message, options)

    def mailbox(self, user: str) -> list[bytes]:
        """The messages in a user's Maildir, oldest first."""
        new = self.mail / user / "new"
        return [path.read_bytes() for path in sorted(new.iterdir())] if new.is_dir() else []

    def delivered(self) -> int:
        """How many messages lie in all Maildirs."""
        return sum(1 for path in self.mail.glob("*/new/*"))

    def halt(self) -> None:
        """End its processes, as loss of power would; what it holds is kept."""
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None

    def stop(self) -> None:
        """End it and remove its root."""
        self.halt()
        self.root.remove()
