"""Dovecot in a private root: LMTP into Maildir or sdbox, IMAP, POP3. Durable: mail_fsync=optimized, its default.

Set up as its manual advises for virtual users with one uid; its login processes in the high-performance mode, in which
one serves many connections; for Maildir without looking for changes that others made behind its back.
"""

import shutil
from collections.abc import Mapping
from typing import Final

from bench.peers.private_root import Daemon, PrivateRoot
from bench.peers.waiting import wait_for_port

_CONFIGURATION = """\
base_dir = /run/dovecot-peer
protocols = imap pop3 lmtp
listen = {address}
ssl = yes
ssl_cert = </peer/cert.pem
ssl_key = </peer/key.pem
disable_plaintext_auth = no
log_path = /peer/dovecot.log
mail_location = {location}
mail_uid = 65534
mail_gid = 65534
first_valid_uid = 1
auth_mechanisms = plain
auth_username_format = %Ln
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%n /peer/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%n /peer/users
}}
default_client_limit = 20000
default_process_limit = 400
maildir_very_dirty_syncs = yes
mail_max_userip_connections = 10000
service lmtp {{
  inet_listener lmtp {{
    address = {address}
    port = {lmtp}
  }}
}}
service imap-login {{
  service_count = 0
  process_min_avail = 2
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service pop3-login {{
  service_count = 0
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service imap {{
  process_limit = 5000
}}
namespace inbox {{
  inbox = yes
}}
"""

LOCATIONS = {
    "sdbox": "sdbox:/peer/mail/%n",
    "maildir": "maildir:/peer/mail/%n",
}


PACKAGES: Final = ["dovecot-core", "dovecot-imapd", "dovecot-pop3d", "dovecot-lmtpd"]
_CERTIFICATE: Final = (
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
    *("-subj", "/CN=localhost", "-days", "30", "-keyout", "/peer/key.pem", "-out", "/peer/cert.pem"),
)


class Dovecot:
    """A Dovecot for `users` at `address`. Raises Unavailable (private_root).

    A port of 0: that door stays shut. `secrets` are the passwords of users as its passwd-file has them, with their
    scheme; everybody else's is "secret".
    """

    def __init__(
        self,
        *,
        users: list[str],
        address: str,
        lmtp: int,
        imap: int,
        store: str,
        pop3: int = 0,
        imaps: int = 0,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self.root = PrivateRoot("dovecot", PACKAGES)
        self.address, self.lmtp, self.imap, self.pop3, self.imaps = address, lmtp, imap, pop3, imaps
        self.mail = self.root.peer / "mail"
        self.mail.mkdir()
        shutil.chown(self.mail, 65534, 65534)
        passwords = dict.fromkeys(users, "{PLAIN}secret") | dict(secrets or {})
        (self.root.peer / "users").write_text(
            "".join(f"{user}:{password}:65534:65534::/peer/mail/{user}::\n" for user, password in passwords.items())
        )
        self.root.run(*_CERTIFICATE)
        ports = {"lmtp": lmtp, "imap": imap, "imaps": imaps, "pop3": pop3}
        (self.root.peer / "dovecot.conf").write_text(
            _CONFIGURATION.format(address=address, location=LOCATIONS[store], **ports)
        )
        self._store = store
        self._daemon: Daemon | None = None

    def start(self) -> None:
        """Start it and wait until its doors answer."""
        self._daemon = self.root.start(
            *("/usr/sbin/dovecot", "-F", "-c", "/peer/dovecot.conf"), log=self.root.peer / "master.log"
        )
        for port in (self.lmtp, self.imap, self.pop3, self.imaps):
            if port:
                wait_for_port(self.address, port, self._daemon.process)

    def restart(self) -> None:
        """Have it end as its own command ends it, and start it anew."""
        # The command lives where the daemon does, and may end with it before it can say how it went.
        self.daemon.run("/usr/bin/doveadm", "-c", "/peer/dovecot.conf", "stop", check=False)
        self.daemon.process.wait(timeout=30)
        self.start()

    @property
    def daemon(self) -> Daemon:
        """The running daemon."""
        assert self._daemon is not None, "not started"
        return self._daemon

    def delivered(self) -> int:
        """How many messages lie in all mailboxes."""
        pattern = "*/mailboxes/INBOX/dbox-Mails/u.*" if self._store == "sdbox" else "*/new/*"
        return sum(1 for path in self.mail.glob(pattern))

    def stop(self) -> None:
        """End it and remove its root."""
        if self._daemon is not None:
            self._daemon.stop()
        self.root.remove()
