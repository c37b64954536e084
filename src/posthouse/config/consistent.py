"""What no single key of the configuration shows: settings that must fit together.

Promises: what passes `check` can be served: each place is bound once, nobody logs in in clear text but on loopback,
each route has one meaning.
Refuses: to judge what is allowed but unwise (`cautions.py`).
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from posthouse import limits
from posthouse.config.errors import Misfit, Words
from posthouse.config.scalars import expects
from posthouse.config.values import Config, Listener, Route
from posthouse.terms.address import BadAddress, parse_domain
from posthouse.written import Endpoint, format_size

_ALWAYS_IMPLICIT: Final = ("submissions", "imaps", "pop3s")

# RFC 5321 §4.5.3.1.7.
_LEAST_MESSAGE: Final = 64 * limits.KB
# RFC 9738 §3; and what a number of IMAP's may be.
_MESSAGE_LIMITS: Final = range(1000, 1 << 32)


def check(config: Config) -> None:
    """Raises Misfit for the first thing that does not fit."""
    if not _is_full_name(config.hostname):
        raise Misfit("hostname", config.hostname, 'a full host name in lower case, "mx.example.org"')
    if not config.listeners:
        raise Misfit("listener", [], "at least one [[listener]], or none at all for the usual ones")
    for n, listener in enumerate(config.listeners, 1):
        _check_listener(listener, f"listener[{n}]")
    _check_places(config.listeners)
    if (config.tls.certificate is None) != (config.tls.key is None):
        raise Misfit("tls", Words("one of certificate and key"), "both or neither")
    for n, route in enumerate(config.routes, 1):
        _check_route(route, f"route[{n}]")
    names = [route.name for route in config.routes]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise Misfit("route", twice, "each name once: the queue knows routes by their names")
    domains = [domain.name for domain in config.limits.domains]
    if twice := next((name for name in domains if domains.count(name) > 1), None):
        raise Misfit("limits.domain", twice, "each name once")
    if config.limits.message_size < _LEAST_MESSAGE:
        found = Words(format_size(config.limits.message_size))
        raise Misfit("limits.message_size", found, f"{format_size(_LEAST_MESSAGE)} or more, as RFC 5321 asks")
    if config.imap.message_limit and config.imap.message_limit not in _MESSAGE_LIMITS:
        raise Misfit("imap.message_limit", config.imap.message_limit, "0 for none, or 1000 or more, as RFC 9738 asks")
    if not config.queue.schedule:
        raise Misfit("queue.schedule", [], "at least one duration")
    separator = config.delivery.separator
    if len(separator) > 1 or separator in ("@", ".", " ", '"') or separator.isalnum():
        raise Misfit("delivery.separator", config.delivery.separator, 'one character such as "+", or ""')


def _check_places(listeners: Sequence[Listener]) -> None:
    """Each is bound once: the system would say of the second that somebody else has it."""
    held: list[tuple[str, Endpoint]] = []
    for n, listener in enumerate(listeners, 1):
        for endpoint in listener.address:
            for holder, other in held:
                if _overlap(endpoint, other):
                    expected = f"a place that {holder} does not hold ({other})"
                    raise Misfit(f"listener[{n}].address", Words(endpoint), expected)
            held.append((f"listener[{n}]", endpoint))


def _check_route(route: Route, key: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", route.name):
        raise Misfit(f"{key}.name", route.name, 'lower case letters, digits, "-", "_" and ".", such as "office"')
    hosts = [target for target in route.to if target.kind in ("smtp", "lmtp")]
    if not route.to or (len(route.to) > 1 and len(hosts) < len(route.to)):
        raise Misfit(f"{key}.to", [str(target) for target in route.to], '"mx" or "hold" alone, or some hosts')
    if not hosts:
        for name in ("username", *(("source", "tls") if route.to[0].kind == "hold" else ())):
            if getattr(route, name):
                raise Misfit(f"{key}.{name}", getattr(route, name), "nothing, for there is no host of ours")
    passwords = (route.password is not None) + (route.password_file is not None)
    if passwords != (route.username is not None):
        raise Misfit(key, Words("username, password or password_file"), "a username and one of the others")
    if any(target.implicit for target in hosts) and route.tls in ("off", "opportunistic"):
        raise Misfit(f"{key}.tls", route.tls, '"require" or "verify": smtps is TLS from the first octet')


def _check_listener(listener: Listener, key: str) -> None:
    if not listener.address:
        raise Misfit(f"{key}.address", [], expects(Endpoint))
    loopback = all(endpoint.loopback for endpoint in listener.address)
    paths = [endpoint for endpoint in listener.address if endpoint.is_path]
    if paths and (listener.protocol != "lmtp" or listener.tls != "none"):
        raise Misfit(f"{key}.address", str(paths[0]), 'a Unix socket for "lmtp" without TLS only')
    if paths and listener.proxy:
        raise Misfit(f"{key}.proxy", Words(paths[0]), "a network address: no balancer comes by a Unix socket")
    if listener.socket_group is not None and not paths:
        raise Misfit(f"{key}.socket_group", listener.socket_group, "nothing, for no address is a Unix socket")
    if listener.clear_text_login and not listener.login:
        raise Misfit(f"{key}.clear_text_login", True, f"nothing: nobody logs in to {listener.protocol}")
    if listener.clear_text_login and not loopback:
        found = ", ".join(str(endpoint) for endpoint in listener.address)
        raise Misfit(f"{key}.clear_text_login", Words(f"true on {found}"), "true only on 127.0.0.1 or [::1]")
    if listener.xclient_from and listener.protocol != "smtp":
        raise Misfit(f"{key}.xclient_from", listener.protocol, 'nothing: only "smtp" knows XCLIENT')
    if listener.protocol in _ALWAYS_IMPLICIT and listener.tls == "starttls":
        raise Misfit(f"{key}.tls", "starttls", f'"implicit": that is what {listener.protocol} means')
    if listener.tls == "none" and listener.login and not listener.clear_text_login:
        expected = '"starttls" or "implicit", for without TLS nobody may log in'
        if loopback:
            expected += "; or clear_text_login = true beside it, on loopback only"
        raise Misfit(f"{key}.tls", "none", expected)


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
