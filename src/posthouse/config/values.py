"""What can be configured: a frozen Struct a table of posthouse.toml, with each default and its reason.

Promises: nothing of a `Config` changes later; each room is given its slice (`config.limits`, `config.relay`) and sees
no other. A field's type says what may be written there (`scalars.py` reads it).
Refuses: to judge what is written (`reading.py`, `consistent.py`, `cautions.py`).
Every setting has its heading in docs/configuration.md; a test compares the two.
"""

from pathlib import Path
from typing import Final, Literal, NewType

from msgspec import Struct, field
from msgspec.structs import replace

from posthouse import limits
from posthouse.written import Dial, Duration, Endpoint, Rate, Size, Target

Count = NewType("Count", int)
"""1 or more."""
Port = NewType("Port", int)
Server = NewType("Server", Endpoint)
"""A DNS server; port 53 where none is written (RFC 1035 §4.2)."""
IpAddress = NewType("IpAddress", str)
Network = NewType("Network", str)
Pause = NewType("Pause", Duration)
"""A duration, or none at all."""
DomainPattern = NewType("DomainPattern", str)
"""A domain, or "*.domain": each below it; "<>" is the null sender's."""
MailAddress = NewType("MailAddress", str)
DomainOrAny = NewType("DomainOrAny", str)
DomainName = NewType("DomainName", str)

Protocol = Literal["smtp", "lmtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s"]
Encryption = Literal["none", "starttls", "implicit"]

# RFC 8314 §3.3: 465, 993 and 995 are TLS from the first octet. LMTP is for the same machine (RFC 2033 §2).
_USUAL_ENCRYPTION: Final[dict[str, Encryption]] = {
    "smtp": "starttls",
    "lmtp": "none",
    "submission": "starttls",
    "submissions": "implicit",
    "imap": "starttls",
    "imaps": "implicit",
    "pop3": "starttls",
    "pop3s": "implicit",
}
_WITHOUT_LOGIN: Final = ("smtp", "lmtp")


class Listener(Struct, frozen=True, kw_only=True):
    """One place where one protocol is spoken."""

    protocol: Protocol
    address: tuple[Endpoint, ...]
    wanted: Encryption | None = field(default=None, name="tls")
    clear_text_login: bool = False
    # RFC 8437 §8 asks for a way to turn it off.
    unauthenticate: bool = True
    socket_group: str | None = None
    proxy: tuple[Network, ...] = ()
    xclient_from: tuple[Network, ...] = ()

    @property
    def tls(self) -> Encryption:
        """What is configured, or what is usual for the protocol."""
        return self.wanted or _USUAL_ENCRYPTION[self.protocol]

    @property
    def login(self) -> bool:
        """People log in here."""
        return self.protocol not in _WITHOUT_LOGIN


class KeyPair(Struct, frozen=True, kw_only=True):
    """A certificate with its chain, and the private key to it, as PEM files."""

    certificate: Path
    key: Path


class Tls(Struct, frozen=True, kw_only=True):
    """The certificates shown to peers. None at all: a private CA of this installation signs one."""

    certificate: Path | None = None
    key: Path | None = None
    further: tuple[KeyPair, ...] = ()
    client_authorities: Path | None = None

    @property
    def pairs(self) -> tuple[KeyPair, ...]:
        """All certificates; the first is shown to those who ask for no name, or one we do not know."""
        if self.certificate is None or self.key is None:
            return self.further
        return (KeyPair(certificate=self.certificate, key=self.key), *self.further)


class Dns(Struct, frozen=True, kw_only=True):
    """Whom we ask for DNS records; no resolver: those of /etc/resolv.conf."""

    resolver: tuple[Server, ...] = ()
    trusted: bool | None = None
    timeout: Duration = Duration(3)
    attempts: Count = Count(3)


class Relay(Struct, frozen=True, kw_only=True):
    """How the next MTA is reached."""

    dial: Dial | None = None
    port: Port = Port(25)
    source: tuple[IpAddress, ...] = ()
    ipv6: Literal["auto", "on", "off"] = "auto"
    tls: Literal["opportunistic", "require", "verify", "off"] = "opportunistic"
    mta_sts: bool = True
    dane: bool = True
    downgrade: Literal["report", "refuse"] = "report"
    authorities: Path | None = None
    https_dial: Dial | None = None
    # RFC 5321 §4.5.3.2 names none for the connect; the kernel's own would hold a courier for two minutes.
    connect_timeout: Duration = Duration(30)
    trusted_networks: tuple[Network, ...] = ()


class Route(Struct, frozen=True, kw_only=True):
    """Where some mail goes instead of to the hosts that DNS names. The first route that fits is taken."""

    name: str
    to: tuple[Target, ...]
    recipient: tuple[DomainPattern, ...] = ()
    sender: tuple[DomainPattern, ...] = ()
    account: tuple[MailAddress, ...] = ()
    username: str | None = None
    password: str | None = None
    password_file: Path | None = None
    tls: Literal["off", "opportunistic", "require", "verify"] | None = None
    source: tuple[IpAddress, ...] = ()


class Queue(Struct, frozen=True, kw_only=True):
    """When mail that could not go out is tried again, and when we give up."""

    # RFC 5321 §4.5.4.1: wait at least 30 minutes, give up after 4-5 days. The first, shorter waits are for
    # greylisting and restarts, which Postfix and Exim also allow for (5 and 15 minutes). The last one repeats.
    schedule: tuple[Duration, ...] = tuple(Duration(60.0 * m) for m in (1, 5, 15, 30, 60, 120, 240))
    expire: Duration = Duration(5 * 86400)
    # What Sendmail, Exim and many since have told people to expect.
    delay_notice: Duration = Duration(4 * 3600)
    # Postfix: 100 processes.
    concurrency: Count = Count(100)
    # Postfix: 20, which large providers begin to complain at; the first few are 5 there as here.
    concurrency_per_destination: Count = Count(20)
    messages_per_connection: Count = Count(100)


class DomainLimits(Struct, frozen=True, kw_only=True):
    """How often mail may come from senders of a domain, and to recipients in it; "*": of each that is not named."""

    name: DomainOrAny
    sender_rate: Rate | None = None
    recipient_rate: Rate | None = None


class Limits(Struct, frozen=True, kw_only=True):
    """What one stranger, one account, or all together may use."""

    message_size: Size = Size(limits.MESSAGE_SIZE)
    recipients: Count = Count(limits.RECIPIENTS)
    unfinished_memory: Size = Size(limits.UNFINISHED_MEMORY)
    unfinished_disk: Size = Size(limits.UNFINISHED_DISK)
    connections: Count = Count(10_000)
    # A household behind one address, each client with several connections; Postfix allows 50, Dovecot 10 a user.
    connections_per_address: Count = Count(50)
    # Of one IPv4 /24 or IPv6 /48: one provider's customers shall not keep everybody else out.
    connections_per_neighbourhood: Count = Count(500)
    connection_rate: Rate = Rate(300, 60)
    message_rate: Rate = Rate(3000, 3600)
    login_failures: Rate = Rate(20, 600)
    # Of an account: enough for a newsletter to a school, too little to be worth stealing.
    submission_rate: Rate = Rate(1000, 3600)
    # Of one message: a club or a class, and no newsletter, whose readers should not all be named in one envelope.
    submission_recipients: Count = Count(500)
    # RFC 4865 leaves it to us; a month covers who is on leave.
    hold: Duration = Duration(30 * 86400)
    domains: tuple[DomainLimits, ...] = field(default=(), name="domain")
    errors: Count = Count(20)
    # Postfix's smtpd_error_sleep_time.
    error_delay: Pause = Pause(Duration(1))
    early_talkers: Literal["refuse", "note"] = "refuse"
    # RFC 5321 §4.5.3.2.1: clients have to be ready to wait 5 minutes. Postfix's postscreen makes strangers wait 6 s.
    greeting_delay: Pause = Pause(Duration(3))
    blocking: bool = True
    block_time: Duration = Duration(600)
    longest_block: Duration = Duration(86400)
    never_blocked: tuple[Network, ...] = ()
    # RFC 5321 §4.5.3.2.7 asks for 5 minutes at least, RFC 9051 §5.4 for 30 and RFC 1939 §3 for 10.
    smtp_timeout: Duration = Duration(300)
    # Postfix reuses a connection for 5 minutes at most.
    session_timeout: Duration = Duration(900)
    # Octets a second; Postfix's smtpd_min_data_rate.
    data_rate: Size = Size(500)
    imap_timeout: Duration = Duration(1800)
    pop3_timeout: Duration = Duration(600)
    # Before login nobody needs to think for long.
    login_timeout: Duration = Duration(120)
    # Judgement after the dot has 60 s in all, then 451.
    judgement_timeout: Duration = Duration(60)


class Submission(Struct, frozen=True, kw_only=True):
    """What is done with the mail of people of ours."""

    rewrite_sender: bool = False
    check_domains: bool = True


class Log(Struct, frozen=True, kw_only=True):
    """How the log reads."""

    format: Literal["auto", "text", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Store(Struct, frozen=True, kw_only=True):
    """What is kept where, and for how long."""

    inline: Size = Size(256 * limits.KB)
    journeys: Duration = Duration(30 * 86400)
    # Who deletes something on holiday's first day, or loses it to a broken program, notices within two weeks.
    expunged: Duration = Duration(14 * 86400)
    tombstones: Duration = Duration(90 * 86400)
    # A moderator's holiday; most of what waits longer is spam that nobody cared to refuse.
    held: Duration = Duration(30 * 86400)


class Imap(Struct, frozen=True, kw_only=True):
    """How IMAP is spoken."""

    # RFC 9755 §4 refuses them before ENABLE UTF8=ACCEPT. Programs that move mail do not enable it (mbsync, offlineimap,
    # Dovecot's dsync): whoever moves in with old mail would lose what is refused, so we take it, as Dovecot does.
    raw_headers: bool = True
    # RFC 9738 §4.2: few clients know what to do where they meet a limit.
    message_limit: int = 0


class Pop3(Struct, frozen=True, kw_only=True):
    """How POP3 is spoken."""

    # RFC 1939 §4 asks for a lock so that nothing is removed beneath a session; here what a session lists stays readable
    # without one, and two devices that fetch at once need not wait. Dovecot locks only where it is told to, too.
    maildrop: Literal["concurrent", "exclusive"] = "concurrent"


class Delivery(Struct, frozen=True, kw_only=True):
    """How addresses of ours are read."""

    separator: str = "+"
    postmaster: MailAddress | None = None


def _usual_listeners() -> tuple[Listener, ...]:
    ports: dict[Protocol, int] = {
        "smtp": 25,
        "submission": 587,
        "submissions": 465,
        "imap": 143,
        "imaps": 993,
        "pop3": 110,
        "pop3s": 995,
    }
    return tuple(Listener(protocol=name, address=(Endpoint("*", port),)) for name, port in ports.items())


class Config(Struct, frozen=True, kw_only=True):
    """The whole; each room is given its slice."""

    hostname: str
    data: Path = Path("/var/lib/posthouse")
    user: str | None = None
    group: str | None = None
    listeners: tuple[Listener, ...] = field(default_factory=_usual_listeners, name="listener")
    tls: Tls = Tls()
    dns: Dns = Dns()
    relay: Relay = Relay()
    routes: tuple[Route, ...] = field(default=(), name="route")
    relay_domains: tuple[DomainName, ...] = ()
    submission: Submission = Submission()
    queue: Queue = Queue()
    limits: Limits = Limits()
    log: Log = Log()
    store: Store = Store()
    delivery: Delivery = Delivery()
    imap: Imap = Imap()
    pop3: Pop3 = Pop3()

    def reloaded(self, new: "Config") -> "Config":
        """What a running server goes on with after SIGHUP: what doors look at as it is now, the rest as it started."""
        return replace(self, limits=new.limits, log=new.log, relay_domains=new.relay_domains, submission=new.submission)
