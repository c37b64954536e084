"""Postfix in a private root: as a sender, a receiver into Maildirs or LMTP, and the home of smtp-source.

Set up as its manual advises for a small server of virtual mailboxes; durable, as Postfix always is. Its own chroots are
off, because all of it lives in a private root.
"""

import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from bench.peers.mta import Mta

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


class Postfix(Mta):
    """A Postfix for `domain` with a Maildir for each of `users`, listening at `address`:`port`.

    `settings` are lines of main.cf that are added to ours. An interface must have the address: of loopback's, Postfix
    takes 127.0.0.1 only. Raises Unavailable (private_root).
    """

    def __init__(
        self, *, domain: str, users: Sequence[str], address: str, port: int, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__("postfix", PACKAGES, domain=domain, address=address, port=port)
        self._configure(users, settings or {})

    @property
    def log(self) -> Path:
        return self.root.peer / "postfix.log"

    @property
    def spool(self) -> Path:
        return self.root.written / "var" / "spool" / "postfix"

    def _configure(self, users: Sequence[str], settings: Mapping[str, str]) -> None:
        (self.etc / "users").write_text("".join(f"{user}@{self.domain} {user}/\n" for user in users))
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
        (self.etc / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in main.items()))
        (self.etc / "master.cf").write_text(_MASTER.format(address=self.address, port=self.port))

    def certificate(self, certificate: Path, key: Path) -> dict[str, str]:
        """Copy a certificate into the root; the settings that make smtpd offer it."""
        self.copy_pair(certificate, key)
        return {
            "smtpd_tls_cert_file": "/peer/etc/cert.pem",
            "smtpd_tls_key_file": "/peer/etc/key.pem",
            "smtpd_tls_security_level": "may",
        }

    def set(self, settings: Mapping[str, str]) -> None:
        """Add lines to main.cf; before start()."""
        with (self.etc / "main.cf").open("a") as main:
            main.writelines(f"{key} = {value}\n" for key, value in settings.items())

    def start(self) -> None:
        self._start("/usr/sbin/postfix", "-c", "/peer/etc", "start-fg")

    def hurry(self) -> None:
        self.daemon.run("/usr/sbin/postqueue", "-c", "/peer/etc", "-f")

    def command(self, *argv: str) -> None:
        """Run one of its own commands beside it."""
        self.daemon.run(*argv)

    def queued(self, most: int) -> int:
        """How many messages wait, in whichever queue; counted up to `most`, for there may be many."""
        queues = (self.spool / queue for queue in ("incoming", "active", "deferred"))
        files = (file for queue in queues for *_, files in os.walk(queue) for file in files)
        return sum(1 for _ in islice(files, most))
