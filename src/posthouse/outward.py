"""The way out, put together: whom we ask for names, which hosts and how secured, who carries mail there.

Promises: what is built here talks to nobody before it is asked to.
Refuses: to know the queue; app.py gives its runner the courier.
"""

import ssl
from dataclasses import dataclass
from random import Random
from typing import Final

from posthouse.clock import Clock
from posthouse.config.values import Config
from posthouse.directory.cache import Directory
from posthouse.net.dns import StubResolver, system_servers
from posthouse.net.http import HttpClient
from posthouse.net.tls import client_context
from posthouse.relay.connections import Opener, Pool, Timeouts, TlsPolicy
from posthouse.relay.courier import RelayCourier
from posthouse.relay.route import Ipv6, Router
from posthouse.relay.security import Security
from posthouse.relay.signing import DkimSigner
from posthouse.relay.ways import Way, Ways, configured
from posthouse.store.blobs import Blobs
from posthouse.store.database import Store
from posthouse.trust.policies import Policies
from posthouse.trust.tlsrpt import Tally
from posthouse.written import Target

_IPV6: Final[dict[str, Ipv6]] = {"on": "first", "auto": "auto", "off": "never"}


@dataclass(frozen=True, slots=True)
class Outward:
    """The courier to other servers, and what others need of its tools. `security.run` has to run as a task."""

    resolver: StubResolver
    security: Security
    courier: RelayCourier


def build(
    settings: Config, store: Store, blobs: Blobs, directory: Directory, *, clock: Clock, random: Random
) -> Outward:
    """All of it, as it is configured. Blocks while it reads certificates and /etc/resolv.conf."""
    resolver = StubResolver(
        settings.dns.resolver or system_servers(),
        clock,
        trusted=settings.dns.trusted,
        timeout=settings.dns.timeout,
        attempts=settings.dns.attempts,
    )
    router = Router(
        resolver,
        own=frozenset({settings.hostname}),
        random=random,
        ipv6=_IPV6[settings.relay.ipv6],
        dial=settings.relay.dial,
        port=settings.relay.port,
        source=settings.relay.source,
    )
    timeouts = Timeouts(connect=settings.relay.connect_timeout)
    verifying = client_context(verify=True, authorities=settings.relay.authorities)
    strangers = client_context(verify=False)
    opener = Opener(settings.hostname, timeouts, strangers, verifying, clock, settings.relay.source)
    pool = Pool(timeouts, settings.queue.messages_per_connection)
    security = _security(settings, store, resolver, verifying, clock)
    ways = _ways(settings, directory)
    signer = DkimSigner(directory, clock, settings.relay.trusted_networks)
    courier = RelayCourier(blobs, router, security, opener, pool, clock, ways, signer)
    return Outward(resolver, security, courier)


def _security(
    settings: Config, store: Store, resolver: StubResolver, verifying: ssl.SSLContext, clock: Clock
) -> Security:
    """What is known of others' TLS. MTA-STS policies are fetched under the authorities that verify hosts."""
    relay, tally = settings.relay, Tally(clock)
    fetcher = HttpClient(resolver, verifying, relay.https_dial)
    policies = Policies(resolver, fetcher, store, tally, clock) if relay.mta_sts else None
    return Security(resolver, store, clock, tally, policies, by_dane=relay.dane, downgrade=relay.downgrade)


def _ways(settings: Config, directory: Directory) -> Ways:
    async def name(account: int) -> str | None:
        found = await directory.account(account)
        return None if found is None else found.name

    usual = Way("mx", (Target("mx"),), TlsPolicy(settings.relay.tls))
    return Ways(usual, configured(settings.routes, usual.policy), name)
