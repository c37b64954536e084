"""The composition root: each room is built once, in the order of the road, and handed what it needs.

Promises: after `start` every listener is served; `stop` finishes what was promised: sessions say goodbye, couriers
past the dot are waited for, the rest ends at once. `reload` gives new connections the new limits and certificates.
Refuses: to bind, to become somebody else, to read configuration files: the command does that.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

from posthouse import housekeeping, journey, observe, outward, pop3d
from posthouse.clock import Clock
from posthouse.config.values import Config, DomainLimits, Listener
from posthouse.delivery.courier import DeliveryCourier
from posthouse.delivery.digests import Digests
from posthouse.delivery.dmarc import DmarcPolicies
from posthouse.delivery.fullness import Attendant
from posthouse.delivery.letters import Settings as LetterSettings
from posthouse.delivery.lists import ListCourier
from posthouse.delivery.warnings import Warnings
from posthouse.directory.addresses import Rules
from posthouse.directory.cache import Directory
from posthouse.directory.credentials import Authenticator, LoginRefused
from posthouse.directory.familiar import Familiar
from posthouse.directory.model import Account
from posthouse.directory.presence import Presence
from posthouse.directory.srs import Srs
from posthouse.directory.throttle import GuessThrottle
from posthouse.imapd import around as imap
from posthouse.imapd.server import ImapDoor
from posthouse.mailbox import search
from posthouse.mailbox.columns import Columns
from posthouse.mailbox.maildrop import Drops, Sizes
from posthouse.mailbox.newest import Snapshots
from posthouse.mailbox.packer import Packer
from posthouse.net.server import Server
from posthouse.net.stream import Stream
from posthouse.net.tls import CertificateError, Certificates, private_pair
from posthouse.policy import abuse
from posthouse.policy.abuse import Abuse
from posthouse.policy.check import Check
from posthouse.policy.elsewhere import TakesMail
from posthouse.policy.forwarding import BouncesOnly, ForwardingLoops
from posthouse.policy.limits import (
    Connections,
    Conversation,
    DomainRate,
    DomainRates,
    HeloRequired,
    Limits,
    Loops,
    SubmissionRate,
)
from posthouse.policy.pipeline import Pipeline
from posthouse.policy.posting import Posting
from posthouse.policy.recipient import Quota, RecipientExists
from posthouse.policy.relaying import Relaying
from posthouse.queue import control, lanes, runner, schedule
from posthouse.queue.runner import Runner
from posthouse.reception.answer import Reception
from posthouse.reception.answer import Settings as ReceptionSettings
from posthouse.reception.refusals import Refusals
from posthouse.smtpd.msa import Msa
from posthouse.smtpd.mx import Mx
from posthouse.smtpd.role import Surroundings
from posthouse.store.database import StoreUnavailable
from posthouse.store.places import open_blobs
from posthouse.store.sqlite import SqliteStore
from posthouse.submission import Submission
from posthouse.terms.address import parse
from posthouse.written import Rate

# Sessions say goodbye within this; then they are ended.
_GOODBYE_SECONDS: Final = 3.0
# Nothing of housekeeping is urgent.
_HOUSEKEEPING_SECONDS: Final = 3600.0
_PAUSE_SECONDS: Final = 1.0
# Settings that are read once, at start; of the others new connections notice a reload.
_FIXED: Final = (
    *("hostname", "data", "user", "group", "listeners", "tls"),
    *("dns", "relay", "routes", "queue", "store", "delivery", "imap", "pop3"),
)
_FIXED_LIMITS: Final = ("unfinished_memory", "unfinished_disk", "login_failures")


class Door(Protocol):
    """What serves the connections of one listener."""

    async def serve(self, stream: Stream) -> None:
        """Hold one conversation, from the greeting to its end."""
        ...


class App:
    """A posthouse, built and ready to start. Blocks while it is built."""

    def __init__(
        self,
        settings: Config,
        store: SqliteStore,
        clock: Clock,
        random: Random,
        certificates: Certificates | None = None,
    ) -> None:
        """`certificates`: those of the configuration; None: the private CA's. `random` must be one that nobody can
        predict: tokens are made of it. Raises OSError, CertificateError."""
        self._settings = settings
        self._store = store
        self._clock = clock
        self._random = random
        self._own_certificate = certificates is None
        clients = settings.tls.client_authorities
        self._certificates = certificates or Certificates([self._private_pair()], clients=clients)
        self._blobs = open_blobs(settings.data, settings.store, settings.limits)
        rules = Rules(
            settings.delivery.separator,
            postmaster=None if settings.delivery.postmaster is None else parse(settings.delivery.postmaster),
            hosts=frozenset({"", settings.hostname}),
            srs=Srs(store.secret, clock),
        )
        self._directory = Directory(store, clock, rules)
        self._recorder = journey.Recorder(store, store.secret, clock)
        self._abuse = Abuse(store, clock, _blocking(settings))
        self._familiar = Familiar(clock)
        self._throttle = GuessThrottle(clock, settings.limits.login_failures, self._abuse, self._familiar)
        self._authenticator = Authenticator(store, clock, self._throttle, secret=store.secret)
        self._presence = Presence(store)
        self._connections = Connections(clock, _policy_limits(settings), blocked=self._abuse.refusal)
        self._snapshots = Snapshots(store)
        self._columns = Columns(store)
        self._drops = Drops(exclusive=settings.pop3.maildrop == "exclusive")
        self._sizes = Sizes()
        self._letters = LetterSettings(settings.hostname, settings.queue.expire, store.secret)
        self._warnings = Warnings(store, self._letters, clock=clock, random=random)
        self._attendant = Attendant(store, self._letters, clock=clock, random=random)
        self._outward = outward.build(settings, store, self._blobs, self._directory, clock=clock, random=random)
        self._runner = self._build_runner()
        self._counted: tuple[tuple[Rate, int], SubmissionRate] | None = None
        self._doors: dict[Listener, Door] = {}
        self._servers: list[Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._recording: asyncio.Task[None] | None = None
        self._build_doors()

    # --- building

    def _build_runner(self) -> Runner:
        settings = self._settings
        relay = self._outward.courier
        delivery = DeliveryCourier(self._store, self._blobs, self._directory.rules, self._store.secret, self._clock)
        self._digests = Digests(self._store, self._blobs, self._letters, clock=self._clock, random=self._random)
        mailing_lists = ListCourier(
            self._store,
            self._blobs,
            self._directory.rules,
            DmarcPolicies(self._outward.resolver),
            self._letters,
            clock=self._clock,
            random=self._random,
        )
        return Runner(
            self._store,
            self._blobs,
            {"domain": relay, "route": relay, "local": delivery, "list": mailing_lists, "members": mailing_lists},
            runner.Settings(
                settings.hostname,
                self._store.secret,
                settings.queue.schedule,
                settings.queue.expire,
                schedule.Limits(settings.queue.concurrency, settings.queue.concurrency_per_destination),
                delay_notice=settings.queue.delay_notice,
            ),
            clock=self._clock,
            random=self._random,
        )

    def _build_doors(self) -> None:
        settings = self._settings
        conversation = Conversation(self._clock, _policy_limits(settings))
        pipeline = Pipeline(self._checks(conversation))
        refusals = Refusals(self._recorder, self._clock, self._random)
        reception = Reception(
            self._store,
            self._blobs,
            self._directory,
            pipeline,
            refusals,
            ReceptionSettings(
                settings.hostname,
                settings.limits.message_size,
                settings.limits.judgement_timeout,
                settings.queue.expire,
                self._store.secret,
            ),
            self._clock,
        )
        smtp = Surroundings(
            settings.hostname,
            self._clock,
            settings.limits,
            self._certificates,
            self._directory,
            pipeline,
            self._abuse,
            conversation,
            reception,
            refusals,
        )
        self._doors = {listener: self._door(listener, smtp) for listener in settings.listeners}

    def _checks(self, conversation: Conversation) -> list[Check]:
        """The configured list, in its order. A new check is a file in policy/ and a line here."""
        settings, domains = self._settings, self._settings.limits.domains
        return [
            HeloRequired(),
            conversation,
            Relaying(settings.relay.trusted_networks, settings.relay_domains),
            RecipientExists(),
            BouncesOnly(),
            *([TakesMail(self._outward.resolver)] if _asks_dns(settings) else []),
            Quota(self._store, self._clock),
            self._allowances(),
            *([DomainRate(self._clock, _domain_rates(domains))] if domains else []),
            Loops(),
            ForwardingLoops(),
            Posting(self._store),
        ]

    def _allowances(self) -> SubmissionRate:
        """What accounts may send: counted on across a reload, which is done each time that a certificate is renewed."""
        limits = self._settings.limits
        given = (limits.submission_rate, limits.submission_recipients)
        if self._counted is None or self._counted[0] != given:
            self._counted = (given, SubmissionRate(self._clock, *given, self._warnings.warn))
        return self._counted[1]

    def _door(self, listener: Listener, smtp: Surroundings) -> Door:
        starttls, clear = listener.tls == "starttls", listener.clear_text_login
        asks = self._settings.tls.client_authorities is not None
        match listener.protocol:
            case "smtp":
                return Mx(
                    smtp,
                    kind="mx",
                    starttls=starttls,
                    xclient_from=listener.xclient_from,
                    named=self._name_login,
                    relay_domains=self._settings.relay_domains,
                    flush=self._flush,
                )
            case "lmtp":
                return Mx(smtp, kind="lmtp", starttls=starttls)
            case "submission" | "submissions":
                return Msa(
                    smtp,
                    self._authenticator,
                    self._submission(),
                    starttls=starttls,
                    clear_text_login=clear,
                    certificates=asks,
                )
            case "imap" | "imaps":
                return ImapDoor(
                    self._imap(),
                    starttls=starttls,
                    clear_text_login=clear,
                    unauthenticate=listener.unauthenticate,
                    certificates=asks,
                )
            case "pop3" | "pop3s":
                return pop3d.Pop3Door(self._pop3(), starttls=starttls, clear_text_login=clear, certificates=asks)

    def _submission(self) -> Submission:
        settings = self._settings
        return Submission(
            self._directory, self._clock, self._random, settings.hostname, rewrite=settings.submission.rewrite_sender
        )

    async def _flush(self, domain: str) -> int:
        """ETRN: what waits for this domain is tried now."""
        return await self._store.write(control.flush, domain, self._clock.now())

    async def _name_login(self, login: str) -> Account | None:
        found = await self._authenticator.certified(login)
        return None if isinstance(found, LoginRefused) else found

    def _imap(self) -> imap.Surroundings:
        settings = self._settings
        return imap.Surroundings(
            settings.hostname,
            self._clock,
            self._store,
            self._store.secret,
            self._blobs,
            self._snapshots,
            self._columns,
            self._authenticator,
            self._presence,
            self._certificates,
            settings.limits.message_size,
            settings.limits.login_timeout,
            settings.limits.imap_timeout,
            raw_headers=settings.imap.raw_headers,
            message_limit=settings.imap.message_limit,
        )

    def _pop3(self) -> pop3d.Surroundings:
        settings = self._settings
        return pop3d.Surroundings(
            settings.hostname,
            self._clock,
            self._store,
            self._blobs,
            self._authenticator,
            self._presence,
            self._certificates,
            settings.limits.login_timeout,
            settings.limits.pop3_timeout,
            self._drops,
            self._sizes,
        )

    # --- running

    async def start(self, bound: Sequence[tuple[Listener, Sequence[socket.socket]]]) -> tuple[str, ...]:
        """Serve these listeners, run the queue and the workers behind the commit; what is spoken where, in words."""
        # Nobody else works on this store: what a killed predecessor held need not run out first.
        await self._store.write(lanes.abandon_leases)
        for work in (
            self._directory.follow,
            self._authenticator.follow,
            self._presence.follow,
            self._abuse.follow,
            self._abuse.write,
            lambda: self._familiar.follow(self._store),
            self._runner.run,
            self._outward.security.run,
            self._digests.run,
            self._attendant.run,
            lambda: search.keep_indexed(self._store),
            Packer(self._store, self._snapshots).run,
            lambda: journey.keep_ordered(self._store),
            self._keep_house,
        ):
            self._tasks.append(asyncio.create_task(_keep_running(work)))
        self._recording = asyncio.create_task(_keep_running(self._recorder.run))
        served: list[str] = []
        for listener, sockets in bound:
            tls = self._tls_of(listener) if listener.tls == "implicit" else None
            server = Server(self._serve(listener), tls, self._connections, listener.proxy)
            await server.start(sockets)
            self._servers.append(server)
            served.append(f"{listener.protocol} {', '.join(map(str, server.endpoints))}")
        return tuple(served)

    def _tls_of(self, listener: Listener) -> ssl.SSLContext:
        """Clients are asked for certificates where people of ours log in, and nowhere else: a stranger's may be any."""
        certificates = self._certificates
        return certificates.context if listener.protocol in ("smtp", "lmtp") else certificates.asking

    def _serve(self, listener: Listener) -> Callable[[Stream], Awaitable[None]]:
        """The door that is the listener's when a connection comes: `reload` builds new ones."""
        return lambda stream: self._doors[listener].serve(stream)

    async def stop(self) -> None:
        """Finish what was promised. A courier past the dot may take a minute (until then nobody knows whose
        it is).
        """
        await asyncio.gather(*(server.stop(_GOODBYE_SECONDS) for server in self._servers))
        await self._runner.stop()
        await self._outward.courier.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._finish_recording()
        await self._warnings.settled(_GOODBYE_SECONDS)
        self._authenticator.close()
        self._blobs.close()

    async def _finish_recording(self) -> None:
        """The journeys of what was refused in the last moments are written, where the store can."""
        if self._recording is None:
            return
        self._recorder.close()
        await asyncio.wait({self._recording}, timeout=_GOODBYE_SECONDS)
        self._recording.cancel()

    def reload(self, settings: Config) -> None:
        """Certificates, log and limits as they are configured now; what needs a restart is told of.

        Raises CertificateError, and then nothing has changed.
        """
        self._renew_certificates()
        observe.configure(format=settings.log.format, level=settings.log.level)
        changed = _changed(_FIXED, self._settings, settings)
        changed += [f"limits.{name}" for name in _changed(_FIXED_LIMITS, self._settings.limits, settings.limits)]
        if changed:
            observe.tell("reload.needs_restart", level=observe.WARNING, settings=tuple(changed))
        self._settings = self._settings.reloaded(settings)
        self._connections.limit(_policy_limits(self._settings))
        self._abuse.set(_blocking(self._settings))
        self._build_doors()
        observe.tell("reload.done")

    def _renew_certificates(self) -> None:
        """Read the files again; our own certificate is made anew where it soon expires. Raises CertificateError."""
        if self._own_certificate:
            self._private_pair()
        self._certificates.reload()

    def _private_pair(self) -> tuple[Path, Path]:
        return private_pair(self._settings.data / "tls", self._settings.hostname, self._clock)

    async def _keep_house(self) -> None:
        """What is old goes, and our own certificate before it expires."""
        while True:
            try:
                await housekeeping.clean(self._store, self._blobs, self._clock, self._settings.store)
                if self._own_certificate:
                    self._renew_certificates()
            except (StoreUnavailable, CertificateError, OSError) as error:
                observe.tell("housekeeping.waits", level=observe.WARNING, error=str(error))
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)


def _asks_dns(settings: Config) -> bool:
    """Whether mail goes where DNS says, so that what DNS says of a recipient's domain is to be told at once."""
    return settings.submission.check_domains and settings.relay.dial is None and not settings.routes


def _domain_rates(domains: Sequence[DomainLimits]) -> dict[str, DomainRates]:
    return {one.name: DomainRates(one.sender_rate, one.recipient_rate) for one in domains}


def _blocking(settings: Config) -> abuse.Settings:
    given = settings.limits
    never = (*given.never_blocked, *settings.relay.trusted_networks)
    return abuse.Settings(given.blocking, given.block_time, given.longest_block, never)


def _policy_limits(settings: Config) -> Limits:
    given = settings.limits
    return Limits(
        connections=given.connections,
        connections_per_network=given.connections_per_address,
        connections_per_neighbours=given.connections_per_neighbourhood,
        connection_rate=given.connection_rate,
        message_rate=given.message_rate,
        recipients=given.recipients,
        errors=given.errors,
        tarpit=given.error_delay,
    )


def _changed(names: Sequence[str], before: object, now: object) -> list[str]:
    return [name for name in names if getattr(before, name) != getattr(now, name)]


async def _keep_running(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it to its end, and begin again where it fails: what a worker is behind with, it finds by itself."""
    while True:
        try:
            return await work()
        except StoreUnavailable as error:
            observe.tell("worker.waits", level=observe.WARNING, error=str(error))
        except Exception as error:
            observe.fault("worker.failed", error)
        await asyncio.sleep(_PAUSE_SECONDS)
