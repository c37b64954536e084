"""The route of a domain: which hosts to try for it, in which order, at which addresses (RFC 5321 §5.1, RFC 7505).

Promises: equal preferences are shuffled; our own names, and hosts less preferred than they, are left out, so that mail
never circles; a temporary DNS failure defers and never bounces. NoRoute carries the reply that says why there is none.
Refuses: to connect, and to judge TLS.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import zip_longest
from random import Random
from typing import Final, Literal

from posthouse.net.dial import source_towards
from posthouse.net.dns import DnsError, NoRecords, NoSuchDomain, Resolver
from posthouse.terms.reply import Reply
from posthouse.written import Dial, Endpoint

Ipv6 = Literal["auto", "first", "last", "never"]
"""`auto`: first where our own IPv6 address has a PTR record, else last."""

SMTP_PORT: Final = 25


class NoRoute(Exception):
    """There is no host to try, now (4xx) or ever (5xx)."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(f"{code} {enhanced} {text}")
        self.reply = Reply(code, enhanced, text)


@dataclass(frozen=True, slots=True)
class Host:
    """One host of a route. `preference` as in its MX record; 0 where there is none."""

    name: str
    preference: int = 0

    def __str__(self) -> str:
        return f"{self.preference} {self.name}"


@dataclass(frozen=True, slots=True)
class Route:
    """Hosts in the order in which to try them. `implicit`: the domain has no MX and is its own host (RFC 5321 §5.1).

    `site` is what domains at one provider have in common: all of their hosts. It is called after the first by name of
    the most preferred, and where there are others, by a number that stands for all: who names another's host beside one
    of his own cannot make it answer for that. `authentic`: DNSSEC vouches for the MX records.
    """

    hosts: tuple[Host, ...]
    site: str
    implicit: bool = False
    authentic: bool = False


def order(records: Sequence[tuple[int, str]], own: frozenset[str], random: Random) -> list[Host]:
    """Hosts of these (preference, name) by preference, equals shuffled; ours and those no better than ours left out.

    RFC 5321 §5.1: "all records of equal or lower preference [must be] discarded" where we are in the list.
    """
    hosts = [Host(name.lower().rstrip("."), preference) for preference, name in records]
    ours = min((host.preference for host in hosts if host.name in own), default=None)
    left = [host for host in hosts if ours is None or host.preference < ours]
    random.shuffle(left)
    return sorted(left, key=lambda host: host.preference)


class Router:
    """Finds routes. `own` are the names of this host in MX records; `dial` replaces address or port of every host."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        own: frozenset[str],
        random: Random,
        ipv6: Ipv6 = "last",
        dial: Dial | None = None,
        port: int = SMTP_PORT,
        source: tuple[str, ...] = (),
    ) -> None:
        self._resolver = resolver
        self._own = own
        self._random = random
        self._ipv6 = ipv6
        self._dial = dial
        self._source = source
        self.port = dial.port if dial and dial.port else port
        self.official_port = port

    async def find(self, domain: str) -> Route:
        """The route of a domain or address literal. Raises NoRoute."""
        if domain.startswith("["):
            # RFC 5321 §5.1: a literal is the address of the host itself.
            return Route((Host(domain),), domain)
        try:
            answer = await self._resolver.mx(domain)
        except NoSuchDomain:
            raise NoRoute(550, "5.1.2", f"Domain {domain} does not exist") from None
        except NoRecords:
            return self._implicit(domain)
        except DnsError as error:
            raise NoRoute(451, "4.4.3", f"DNS cannot say now where mail for {domain} goes: {error}") from error
        return self._explicit(domain, [(record.preference, record.host) for record in answer.records], answer.authentic)

    def _implicit(self, domain: str) -> Route:
        """RFC 5321 §5.1: without MX records the domain is its own host, at preference 0. Whether it has an address
        shows when it is looked up."""
        if domain in self._own:
            raise NoRoute(554, "5.4.6", f"Mail for {domain} would come back to this server")
        return Route((Host(domain),), domain, implicit=True)

    def _explicit(self, domain: str, records: Sequence[tuple[int, str]], authentic: bool) -> Route:
        if all(name.rstrip(".") == "" for _, name in records):
            # RFC 7505 §3: "0 ." says that the domain takes no mail; §4.1 gives the codes.
            raise NoRoute(556, "5.1.10", f"Domain {domain} takes no mail")
        named = [(preference, name) for preference, name in records if name.rstrip(".")]
        hosts = order(named, self._own, self._random)
        if not hosts:
            # RFC 5321 §5.1: "an error condition"; RFC 3463 §3.5: 5.4.6 routing loop detected.
            raise NoRoute(554, "5.4.6", f"Mail for {domain} would come back to this server")
        return Route(tuple(hosts), _site(hosts), authentic=authentic)

    async def addresses(self, host: str) -> list[Endpoint]:
        """Where to reach a host of a route, in the order in which to try. Raises NoRoute."""
        if self._dial and self._dial.host:
            return [Endpoint(self._dial.host, self.port)]
        return await self.addresses_of(host, self.port)

    async def addresses_of(self, host: str, port: int) -> list[Endpoint]:
        """Where to reach a host that the operator named, whatever is dialled instead of others. Raises NoRoute."""
        return [Endpoint(address, port) for address in await self._look_up(host)]

    async def _look_up(self, host: str) -> list[str]:
        if host.startswith("["):
            return [host[1:-1].removeprefix("IPv6:")]
        if is_address(host):
            return [host]
        try:
            answer = await self._resolver.addresses(host, ipv6=self._ipv6 != "never")
        except (NoSuchDomain, NoRecords):
            # RFC 3463 §3.5: 5.4.4 unable to route.
            raise NoRoute(550, "5.4.4", f"Host {host} has no address") from None
        except DnsError as error:
            raise NoRoute(451, "4.4.3", f"DNS cannot say now where {host} is: {error}") from error
        v4 = [address for address in answer.records if ":" not in address]
        v6 = [address for address in answer.records if ":" in address]
        return interleave(v6, v4) if v6 and await self._v6_first(v6[0]) else interleave(v4, v6)

    async def _v6_first(self, towards: str) -> bool:
        """Many servers take no mail from an IPv6 address without a name: ours must have one to be preferred."""
        if self._ipv6 != "auto":
            return self._ipv6 == "first"
        own = next((source for source in self._source if ":" in source), None) or source_towards(towards)
        if own is None:
            return False
        try:
            return bool((await self._resolver.ptr(own)).records)
        except DnsError:
            return False


def _site(hosts: Sequence[Host]) -> str:
    """What domains with these hosts, the most preferred first, roll up to."""
    first = min(host.name for host in hosts if host.preference == hosts[0].preference)
    names = sorted({host.name for host in hosts})
    if len(names) == 1:
        return first
    return f"{first}+{blake2b(' '.join(names).encode('utf-8', 'replace'), digest_size=8).hexdigest()}"


def interleave(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """RFC 8305 §4: the families take turns, so that a broken one costs one wait and not all."""
    pairs = zip_longest(first, second)
    return [address for pair in pairs for address in pair if address is not None]


@lru_cache(maxsize=1024)
def is_address(host: str) -> bool:
    """It is an IP address, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
