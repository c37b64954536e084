"""Dovecot in a private root: LMTP into Maildir or sdbox, IMAP. Durable: mail_fsync=optimized, its default for LMTP.

Set up as its manual advises for virtual users with one uid.
"""

import shutil

from bench.peers.postfix import PACKAGES
from bench.peers.private_root import Daemon, PrivateRoot
from bench.peers.waiting import wait_for_port

_CONFIGURATION = """\
base_dir = /run/dovecot-peer
protocols = imap lmtp
listen = {address}
ssl = no
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
service lmtp {{
  inet_listener lmtp {{
    address = {address}
    port = {lmtp}
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
namespace inbox {{
  inbox = yes
}}
"""

LOCATIONS = {
    "sdbox": "sdbox:/peer/mail/%n",
    "maildir": "maildir:/peer/mail/%n",
}


class Dovecot:
    """A Dovecot for `users` (password: "secret"), LMTP and IMAP at `address`. Raises Unavailable (private_root)."""

    def __init__(self, *, users: list[str], address: str, lmtp: int, imap: int, store: str) -> None:
        self.root = PrivateRoot("dovecot", PACKAGES)
        self.address, self.lmtp, self.imap = address, lmtp, imap
        self.mail = self.root.peer / "mail"
        self.mail.mkdir()
        shutil.chown(self.mail, 65534, 65534)
        (self.root.peer / "users").write_text(
            "".join(f"{user}:{{PLAIN}}secret:65534:65534::/peer/mail/{user}::\n" for user in users)
        )
        (self.root.peer / "dovecot.conf").write_text(
            _CONFIGURATION.format(address=address, location=LOCATIONS[store], lmtp=lmtp, imap=imap)
        )
        self._store = store
        self._daemon: Daemon | None = None

    def start(self) -> None:
        """Start it and wait until LMTP and IMAP answer."""
        self._daemon = self.root.start(
            *("/usr/sbin/dovecot", "-F", "-c", "/peer/dovecot.conf"), log=self.root.peer / "master.log"
        )
        wait_for_port(self.address, self.lmtp, self._daemon.process)
        wait_for_port(self.address, self.imap, self._daemon.process)

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
