"""The configuration: one TOML file becomes frozen values, and each room is given its slice of them.

Promises: what `load` returns is complete (every default filled in), typed and consistent; nothing of it changes later.
An error names the file, the key, what was found there and what is expected. A key that does not exist is refused, with
the nearest that does. Paths are taken from the directory of the file.
Refuses: to bind, open or look up anything. `check` tells what is allowed but deserves a second thought.
Every setting has its heading in docs/configuration.md; a test compares the two.
"""

import difflib
import ipaddress
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, NewType, Union, get_args, get_origin

from msgspec import Struct, field
from msgspec.structs import fields, replace

from posthouse import limits
from posthouse.terms.address import BadAddress, parse_domain
from posthouse.terms.address import parse as parse_address
from posthouse.written import (
    Dial,
    Duration,
    Endpoint,
    Rate,
    Size,
    Target,
    format_duration,
    format_size,
    parse_dial,
    parse_duration,
    parse_endpoint,
    parse_network,
    parse_rate,
    parse_size,
    parse_target,
)

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
_ALWAYS_IMPLICIT: Final = ("submissions", "imaps", "pop3s")
_WITHOUT_LOGIN: Final = ("smtp", "lmtp")


# RFC 5321 §4.5.3.1.7.
_LEAST_MESSAGE: Final = 64 * limits.KB


class ConfigError(Exception):
    """The file cannot be used. `str()` is one line for the person who wrote it."""

    def __init__(self, file: str, key: str, found: str, expected: str) -> None:
        self.file, self.key, self.found, self.expected = file, key, found, expected
        where = f"{file}: {key}" if key else file
        super().__init__(f"{where}: found {found}; expected {expected}")


class Listener(Struct, frozen=True, kw_only=True):
    """One place where one protocol is spoken."""

    protocol: Protocol
    address: tuple[Endpoint, ...]
    wanted: Encryption | None = field(default=None, name="tls")
    clear_text_login: bool = False
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
    expunged: Duration = Duration(7 * 86400)
    tombstones: Duration = Duration(90 * 86400)


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

    def reloaded(self, new: "Config") -> "Config":
        """What a running server goes on with after SIGHUP: what doors look at as it is now, the rest as it started."""
        return replace(self, limits=new.limits, log=new.log, relay_domains=new.relay_domains, submission=new.submission)


@dataclass(frozen=True, slots=True)
class Caution:
    """A setting that is allowed and deserves a second thought: its key, and why."""

    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


# --- reading a file ---------------------------------------------------------------------------------------------------


def load(path: Path) -> Config:
    """The configuration that the file holds. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), "", (error.strerror or str(error)).lower(), "a readable file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "", f"an octet that is not UTF-8 at {error.start}", "UTF-8 text") from error
    return parse(text, file=str(path), base=path.absolute().parent)


def parse(text: str, *, file: str = "posthouse.toml", base: Path | None = None) -> Config:
    """The configuration that TOML text spells; relative paths are taken from `base`. Raises ConfigError."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(file, "", str(error) or "tables nested too deep", "TOML (https://toml.io)") from error
    reader = _Reader(file, base or Path.cwd())
    config = reader.struct(Config, table, "")
    assert isinstance(config, Config)
    reader.consistent(config)
    return config


class _Reader:
    """Fits TOML values to types, and says where one does not fit."""

    def __init__(self, file: str, base: Path) -> None:
        self._file = file
        self._base = base

    def error(self, key: str, found: object, expected: str) -> ConfigError:
        return ConfigError(self._file, key, found if isinstance(found, _Words) else _show(found), expected)

    def struct(self, kind: type[Struct], value: object, key: str) -> Struct:
        """A table as the struct of this kind."""
        if not isinstance(value, dict):
            raise self.error(key, value, f"a table [{key}]")
        known = {info.encode_name: info for info in fields(kind)}
        for name in value:
            if name not in known:
                raise self.error(_below(key, name), _Words("an unknown setting"), _nearest(name, list(known)))
        filled: dict[str, Any] = {}
        for name, info in known.items():
            if name in value:
                filled[info.name] = self.fit(info.type, value[name], _below(key, name))
            elif info.required:
                raise self.error(_below(key, name), _Words("nothing"), _expects(info.type))
        return kind(**filled)

    def fit(self, kind: Any, value: object, key: str) -> Any:
        """The value as this type. TOML has no null: None is what a setting is when it is absent."""
        origin = get_origin(kind)
        if origin in (Union, UnionType):
            (kind,) = (part for part in get_args(kind) if part is not NoneType)
            return self.fit(kind, value, key)
        if origin is tuple:
            return self.several(get_args(kind)[0], value, key)
        if origin is Literal:
            if value not in get_args(kind) or not isinstance(value, str):
                raise self.error(key, value, _expects(kind))
            return value
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self.struct(kind, value, key)
        if kind is Path:
            return self._base / self.scalar(Path, value, key)
        return self.scalar(kind, value, key)

    def several(self, kind: Any, value: object, key: str) -> tuple[Any, ...]:
        """A list; where plain values are listed, one value may stand alone."""
        if not isinstance(value, list):
            if isinstance(kind, type) and issubclass(kind, Struct):
                raise self.error(key, value, f"tables [[{key}]]")
            return (self.fit(kind, value, key),)
        return tuple(self.fit(kind, one, f"{key}[{n}]") for n, one in enumerate(value, 1))

    def scalar(self, kind: Any, value: object, key: str) -> Any:
        expects, read = _SCALARS[kind]
        try:
            return read(value)
        except ValueError as error:
            raise self.error(key, value, expects) from error

    def consistent(self, config: Config) -> None:
        """What no single key shows."""
        if not _is_full_name(config.hostname):
            raise self.error("hostname", config.hostname, 'a full host name in lower case, "mx.example.org"')
        if not config.listeners:
            raise self.error("listener", [], "at least one [[listener]], or none at all for the usual ones")
        for n, listener in enumerate(config.listeners, 1):
            self._check_listener(listener, f"listener[{n}]")
        self._check_places(config.listeners)
        if (config.tls.certificate is None) != (config.tls.key is None):
            raise self.error("tls", _Words("one of certificate and key"), "both or neither")
        for n, route in enumerate(config.routes, 1):
            self._check_route(route, f"route[{n}]")
        names = [route.name for route in config.routes]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise self.error("route", twice, "each name once: the queue knows routes by their names")
        domains = [domain.name for domain in config.limits.domains]
        if twice := next((name for name in domains if domains.count(name) > 1), None):
            raise self.error("limits.domain", twice, "each name once")
        if config.limits.message_size < _LEAST_MESSAGE:
            found = _Words(format_size(config.limits.message_size))
            raise self.error("limits.message_size", found, f"{format_size(_LEAST_MESSAGE)} or more, as RFC 5321 asks")
        if not config.queue.schedule:
            raise self.error("queue.schedule", [], "at least one duration")
        separator = config.delivery.separator
        if len(separator) > 1 or separator in ("@", ".", " ", '"') or separator.isalnum():
            raise self.error("delivery.separator", config.delivery.separator, 'one character such as "+", or ""')

    def _check_places(self, listeners: Sequence[Listener]) -> None:
        """Each is bound once: the system would say of the second that somebody else has it."""
        held: list[tuple[str, Endpoint]] = []
        for n, listener in enumerate(listeners, 1):
            for endpoint in listener.address:
                for holder, other in held:
                    if _overlap(endpoint, other):
                        expected = f"a place that {holder} does not hold ({other})"
                        raise self.error(f"listener[{n}].address", _Words(endpoint), expected)
                held.append((f"listener[{n}]", endpoint))

    def _check_route(self, route: Route, key: str) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", route.name):
            raise self.error(
                f"{key}.name", route.name, 'lower case letters, digits, "-", "_" and ".", such as "office"'
            )
        hosts = [target for target in route.to if target.kind in ("smtp", "lmtp")]
        if not route.to or (len(route.to) > 1 and len(hosts) < len(route.to)):
            raise self.error(f"{key}.to", [str(target) for target in route.to], '"mx" or "hold" alone, or some hosts')
        if not hosts:
            for name in ("username", *(("source", "tls") if route.to[0].kind == "hold" else ())):
                if getattr(route, name):
                    raise self.error(f"{key}.{name}", getattr(route, name), "nothing, for there is no host of ours")
        passwords = (route.password is not None) + (route.password_file is not None)
        if passwords != (route.username is not None):
            raise self.error(key, _Words("username, password or password_file"), "a username and one of the others")
        if any(target.implicit for target in hosts) and route.tls in ("off", "opportunistic"):
            raise self.error(f"{key}.tls", route.tls, '"require" or "verify": smtps is TLS from the first octet')

    def _check_listener(self, listener: Listener, key: str) -> None:
        if not listener.address:
            raise self.error(f"{key}.address", [], _expects(Endpoint))
        loopback = all(endpoint.loopback for endpoint in listener.address)
        paths = [endpoint for endpoint in listener.address if endpoint.is_path]
        if paths and (listener.protocol != "lmtp" or listener.tls != "none"):
            raise self.error(f"{key}.address", str(paths[0]), 'a Unix socket for "lmtp" without TLS only')
        if paths and listener.proxy:
            raise self.error(f"{key}.proxy", _Words(paths[0]), "a network address: no balancer comes by a Unix socket")
        if listener.socket_group is not None and not paths:
            raise self.error(f"{key}.socket_group", listener.socket_group, "nothing, for no address is a Unix socket")
        if listener.clear_text_login and not listener.login:
            raise self.error(f"{key}.clear_text_login", True, f"nothing: nobody logs in to {listener.protocol}")
        if listener.clear_text_login and not loopback:
            found = ", ".join(str(endpoint) for endpoint in listener.address)
            raise self.error(f"{key}.clear_text_login", _Words(f"true on {found}"), "true only on 127.0.0.1 or [::1]")
        if listener.xclient_from and listener.protocol != "smtp":
            raise self.error(f"{key}.xclient_from", listener.protocol, 'nothing: only "smtp" knows XCLIENT')
        if listener.protocol in _ALWAYS_IMPLICIT and listener.tls == "starttls":
            raise self.error(f"{key}.tls", "starttls", f'"implicit": that is what {listener.protocol} means')
        if listener.tls == "none" and listener.login and not listener.clear_text_login:
            expected = '"starttls" or "implicit", for without TLS nobody may log in'
            if loopback:
                expected += "; or clear_text_login = true beside it, on loopback only"
            raise self.error(f"{key}.tls", "none", expected)


class _Words(str):
    """Found: told in words, not shown as a value."""


def _is_full_name(host: str) -> bool:
    """RFC 5321 §2.3.5: a domain name of several labels, not an address."""
    try:
        parsed = parse_domain(host)
    except BadAddress:
        return False
    last = parsed.rpartition(".")[2]
    # RFC 1035 §2.3.4 counts 255 octets with the lengths of the labels.
    return len(host) <= 253 and parsed == host and last != parsed and not last.isdecimal() and not host.startswith("[")


# The host that stands for all addresses of a family.
_ALL: Final = {str(ipaddress.IPv4Address(0)): 4, str(ipaddress.IPv6Address(0)): 6}


def _overlap(one: Endpoint, other: Endpoint) -> bool:
    """Who listens at one of them is in the other's way."""
    if one.is_path or other.is_path:
        return one.host == other.host
    if one.port != other.port or one.port == 0:
        return False
    hosts = {one.host, other.host}
    versions = {_ALL.get(host) or (6 if ":" in host else 4) for host in hosts - {"*"}}
    return len(hosts) == 1 or "*" in hosts or (len(versions) == 1 and not hosts.isdisjoint(_ALL))


def _below(key: str, name: str) -> str:
    name = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
    return f"{key}.{name}" if key else name


def _show(value: object) -> str:
    """A value as TOML spells it, cut where it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    shown = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, str | dict | list) else str(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f'"{near[0]}"?' if near else "one of " + ", ".join(sorted(known))


def _expects(kind: Any) -> str:
    """What may stand for this type, in words."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _expects(next(part for part in get_args(kind) if part is not NoneType))
    if origin is Literal:
        return "one of " + ", ".join(f'"{value}"' for value in get_args(kind))
    if origin is tuple:
        return f"a list: each {_expects(get_args(kind)[0])}"
    if isinstance(kind, type) and issubclass(kind, Struct):
        return "a table with " + ", ".join(info.encode_name for info in fields(kind))
    return _SCALARS[kind][0]


def _text(parse_text: Callable[[str], object]) -> Callable[[object], object]:
    def read(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError
        return parse_text(value)

    return read


def _number(low: int, high: int) -> Callable[[object], object]:
    def read(value: object) -> object:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError
        return value

    return read


def _read_bool(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _read_size(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Size(value)
    return _text(parse_size)(value)


def _read_server(text: str) -> Server:
    endpoint = parse_endpoint(text, port=53)
    if endpoint.host == "*" or endpoint.port == 0:
        raise ValueError(f"{text!r} cannot be asked")
    return Server(endpoint)


def _read_plain(text: str) -> str:
    if not text.isprintable():
        raise ValueError("control characters")
    return text


def _read_duration(text: str) -> Duration:
    seconds = parse_duration(text)
    if seconds <= 0:
        raise ValueError("no time at all")
    return seconds


def _read_network(text: str) -> str:
    return str(parse_network(text))


def _read_pattern(text: str) -> str:
    if text == "<>":
        return text
    star = "*." if text.startswith("*.") else ""
    return star + parse_domain(text.removeprefix(star))


def _read_address(text: str) -> str:
    return str(ipaddress.ip_address(text))


_SCALARS: Final[Mapping[Any, tuple[str, Callable[[object], object]]]] = {
    str: ("text in quotes", _text(_read_plain)),
    bool: ("true or false", _read_bool),
    int: ("a whole number", _number(-(2**63), 2**63 - 1)),
    Path: ("a path", _text(_read_plain)),
    Count: ("a whole number, 1 or more", _number(1, 2**31)),
    Port: ("a port, 1 to 65535", _number(1, 65535)),
    Duration: ('a duration such as "90s", "5m", "4h" or "5d"', _text(_read_duration)),
    Pause: ('a duration such as "3s", or "0s"', _text(parse_duration)),
    Size: ('a size such as "500KB" or "25MB"', _read_size),
    Rate: ('a rate such as "100/1h"', _text(parse_rate)),
    Endpoint: (
        'an address and port such as "127.0.0.1:25", "[::1]:25" or "*:25", or "unix:/path"',
        _text(parse_endpoint),
    ),
    Server: ('an IP address, and a port where it is not 53, such as "127.0.0.1:5353"', _text(_read_server)),
    IpAddress: ('an IP address such as "192.0.2.1"', _text(_read_address)),
    Network: ('a network such as "192.0.2.0/24"', _text(_read_network)),
    DomainPattern: ('a domain such as "example.org" or "*.example.org"', _text(_read_pattern)),
    DomainName: ('a domain such as "example.org"', _text(parse_domain)),
    DomainOrAny: (
        'a domain such as "example.org", or "*"',
        _text(lambda text: text if text == "*" else parse_domain(text)),
    ),
    MailAddress: ('an address such as "alice@example.org"', _text(lambda text: parse_address(text).key)),
    Target: ('"mx", "hold", "smtp://host:587", "smtps://host", "lmtp://host:24" or "lmtp:/path"', _text(parse_target)),
    Dial: ('an address, a port, or both: "127.0.0.1:2525", "127.0.0.1" or ":2525"', _text(parse_dial)),
}


# --- second thoughts ------------------------------------------------------------------------------------------------


def check(config: Config) -> list[Caution]:
    """What is allowed and deserves a second thought, in the order of the file."""
    cautions = []
    for n, listener in enumerate(config.listeners, 1):
        shown = ", ".join(str(endpoint) for endpoint in listener.address)
        if listener.clear_text_login:
            text = f"passwords travel in clear text on {shown} ({listener.protocol}); meant for tests on one machine"
            cautions.append(Caution(f"listener[{n}].clear_text_login", text))
        elif listener.protocol == "smtp" and listener.tls == "none":
            cautions.append(Caution(f"listener[{n}].tls", f"mail is received on {shown} without offering encryption"))
        elif listener.protocol == "lmtp" and not all(endpoint.loopback for endpoint in listener.address):
            text = f"whoever reaches {shown} may deliver to every account, unasked"
            cautions.append(Caution(f"listener[{n}].address", text))
        if listener.clear_text_login and listener.proxy:
            text = f"who comes through a balancer is not on this machine, and logs in in clear text on {shown}"
            cautions.append(Caution(f"listener[{n}].proxy", text))
    if not config.tls.pairs:
        text = "no certificate is configured: a private CA signs one, which strangers' programs do not trust"
        cautions.append(Caution("tls.certificate", text))
    cautions += _check_outward(config)
    return cautions


def _is_near(target: Target) -> bool:
    try:
        return target.path is not None or ipaddress.ip_address(target.host).is_loopback
    except ValueError:
        return target.host == "localhost"


def _check_outward(config: Config) -> Iterator[Caution]:
    remote = [str(endpoint) for endpoint in config.dns.resolver if not endpoint.loopback]
    if remote and config.dns.trusted is None and config.relay.dane:
        text = f"the DNSSEC verdict of {', '.join(remote)} is not trusted, for it can be forged on the way; DANE is off"
        yield Caution("dns.resolver", text)
    elif remote and config.dns.trusted:
        yield Caution("dns.trusted", f"whoever can forge answers of {', '.join(remote)} can forge DNSSEC's verdict too")
    if config.relay.dial is not None:
        yield Caution("relay.dial", f"all outgoing mail is sent to {config.relay.dial}, whatever DNS says")
    for n, route in enumerate(config.routes, 1):
        if route.username and route.tls in ("opportunistic", "require"):
            text = f'whoever answers in the name of {route.to[0].host} is given the password; "verify" is safe'
            yield Caution(f"route[{n}].tls", text)
        for target in route.to:
            if target.kind == "lmtp" and route.tls is None and route.username is None and not _is_near(target):
                yield Caution(f"route[{n}].tls", f"mail travels to {target.host} in clear text; LMTP does unless told")
    for n, listener in enumerate(config.listeners, 1):
        for name in ("proxy", "xclient_from"):
            for network in getattr(listener, name):
                if ipaddress.ip_network(network).prefixlen == 0:
                    yield Caution(f"listener[{n}].{name}", f"{network}: everybody may say that he is somebody else")
    for network in config.relay.trusted_networks:
        if ipaddress.ip_network(network).prefixlen == 0:
            yield Caution("relay.trusted_networks", f"{network}: everybody may send mail through this server")
    if config.relay.tls == "off":
        yield Caution("relay.tls", "all outgoing mail travels in clear text, whatever the recipients' domains ask for")
    elif config.relay.tls == "verify":
        yield Caution("relay.tls", "mail to the many servers without a certificate that verifies will come back")
    if config.queue.expire < 86400:
        # RFC 5321 §4.5.4.1: the give-up time generally needs to be at least 4-5 days.
        text = f"mail is given up after {format_duration(config.queue.expire)}; an outage of a peer often lasts longer"
        yield Caution("queue.expire", text)
