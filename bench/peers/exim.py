"""Exim in a private root: as a sender, and as a receiver into Maildirs at one address or many.

Set up as its specification advises for a small server; everything it can offer is offered to everybody, and used with
everybody.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.peers.mta import Mta

# "heavy" is the one with DANE and addresses in UTF-8.
PACKAGES = ["exim4-daemon-heavy"]

_CONFIGURATION = """\
{settings}
domainlist ours = {domains}
local_interfaces = <; {addresses}
daemon_smtp_ports = {port}
spool_directory = /peer/spool
log_file_path = /peer/log/%slog
log_selector = +tls_cipher +received_recipients +smtp_confirmation +pipelining +incoming_interface -queue_run
host_lookup =
dkim_verify_signers =
rfc1413_query_timeout = 0s
message_size_limit = 60M
smtp_accept_max = 200
tls_advertise_hosts = ${{if exists{{{certificate}cert.pem}}{{*}}}}
tls_certificate = {certificate}cert.pem
tls_privatekey = {certificate}key.pem
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
chunking_advertise_hosts = *
prdr_enable = true
acl_smtp_rcpt = at_rcpt
acl_smtp_data = accept
never_users =

begin acl
at_rcpt:
{rcpt}
  require verify = recipient
  accept hosts = 127.0.0.0/8

begin routers
unknown:
  driver = redirect
  domains = +ours
  local_parts = ! {users}
  allow_fail
  data = :fail: 550 5.1.1 No such user here
local:
  driver = accept
  domains = +ours
  transport = maildir
{routers}

begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = /peer/mail/${{lookup{{$local_part}}lsearch,ret=key{{/peer/etc/users}}}}
  user = nobody
  group = nogroup
  delivery_date_add
  envelope_to_add
  return_path_add
smtp:
  driver = smtp
{transport}

begin retry
* * F,1h,1s
"""

# Where the next hop is told, and not found by MX.
_ROUTER = """\
remote:
  driver = manualroute
  route_data = {host}
  transport = smtp
  self = send
"""


class Exim(Mta):
    """An Exim for `domain` with a Maildir for each of `users`, listening at `address`:`port`.

    What is for others goes to the host `route` = (address, port), over TLS. With `addresses` it plays many hosts of
    many `domains`, each with the certificate that was copied under the name of its address, if there is one. `settings`
    are lines of its main section, `rcpt` statements of an ACL that stand in front of the one that accepts. Raises
    Unavailable (private_root).
    """

    def __init__(
        self,
        *,
        domain: str,
        users: Sequence[str],
        address: str,
        port: int,
        route: tuple[str, int] | None = None,
        addresses: Sequence[str] = (),
        domains: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        rcpt: str = "",
    ) -> None:
        super().__init__("exim", PACKAGES, domain=domain, address=address, port=port)
        # Nothing but what it is told to ask is asked.
        self.resolve_at("127.0.0.1")
        self._make_directories()
        (self.etc / "users").write_text("".join(f"{user}:\n" for user in users))
        main = {"primary_hostname": f"mail.{domain}", **(settings or {})}
        self._configure(
            settings="".join(f"{key} = {value}\n" for key, value in main.items()),
            domains=":".join((domain, *domains)),
            addresses=";".join((address, *addresses)),
            certificate="/peer/etc/" + ("${received_ip_address}" if addresses else ""),
            port=port,
            users=" : ! ".join(users),
            rcpt=rcpt,
            routers="" if route is None else _ROUTER.format(host=route[0]),
            transport="" if route is None else f"  port = {route[1]}\n  hosts_require_tls = *\n  interface = {address}",
        )

    @property
    def log(self) -> Path:
        return self.root.peer / "log" / "mainlog"

    @property
    def spool(self) -> Path:
        return self.root.peer / "spool" / "input"

    def _make_directories(self) -> None:
        for name in ("log", "spool"):
            (self.root.peer / name).mkdir()
        self.root.run("chown", "Debian-exim:Debian-exim", "/peer/log", "/peer/spool")

    def _configure(self, **parts: object) -> None:
        """Exim believes a file of another name only as long as it is root."""
        (self.etc / "exim4.conf").write_text(_CONFIGURATION.format(**parts))
        self.root.run("cp", "/peer/etc/exim4.conf", "/etc/exim4/exim4.conf")

    def certificate(self, certificate: Path, key: Path, name: str = "") -> None:
        """Copy a certificate into the root, as the one it shows, or under another name for settings that choose."""
        self.copy_pair(certificate, key, name)
        (self.etc / f"{name}key.pem").chmod(0o644)

    def start(self) -> None:
        self._start("/usr/sbin/exim4", "-bdf", "-q1s")

    def hurry(self) -> None:
        self.daemon.run("/usr/sbin/exim4", "-qff")
