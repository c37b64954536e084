"""The courier that hands messages to the next MTA: along a route, host by host, until each recipient has its answer.

Promises: every recipient of a job gets the outcome that the peer's own words give it; recipients that a host did not
answer for are offered to the next. Before the end of the message is sent, the queue has noted that it will be. The
peer's replies stand verbatim in the journey, with the whole conversation.
Refuses: to decide what a failure means (queue/outcome.py), and to send what the peer cannot carry (trip.py).
"""

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from posthouse import observe
from posthouse.clock import Clock
from posthouse.net.stream import Stream
from posthouse.observe import DEBUG, Step
from posthouse.queue.attempt import AtWork, Held, LeaseLost
from posthouse.queue.outcome import Dooms, Fate, Filed, Outcome, Report, Stage, Trouble, classify
from posthouse.queue.queue import Job, QueuedRecipient
from posthouse.relay.alone import Alone
from posthouse.relay.connections import Connection, Hop, HopFailed, Opener, Place, Pool
from posthouse.relay.route import NoRoute, Router, is_address
from posthouse.relay.security import Approach, Security, meets_requiretls, returned
from posthouse.relay.transaction import Transaction
from posthouse.relay.trip import Signer, Trip
from posthouse.relay.ways import ROUTE, Way, Ways
from posthouse.store.blobs import Blobs, Buffer, SpoolFull
from posthouse.store.database import Tx
from posthouse.terms.reply import Reply
from posthouse.trust.transport import Target, Wish
from posthouse.written import Target as Written

# Addresses tried for one message in one attempt (Postfix: 5 MX addresses).
_MOST_ADDRESSES: Final = 5
# Hosts looked up for it: a domain may name thousands, each of which takes DNS its time.
_MOST_HOSTS: Final = 20
# Recipients of a message whose envelope leaves behind another message: all of it must be said at once.
_MOST_AHEAD: Final = 50

_OUR_FAULT: Final = Reply(451, "4.3.0", "An error of this server's; it will try again")


@dataclass(frozen=True, slots=True)
class _Stop:
    """A host of the route: who it is, how it is spoken to at the least, and how the operator wrote it, if he did."""

    target: Target
    hop: Hop
    written: Written | None = None


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A job that will be attempted next: its envelope leaves behind the message before it, on the same connection."""

    trip: Trip
    connection: Connection
    transaction: Transaction

    def end(self) -> None:
        """It is not to be: nothing but its envelope was said."""
        self.connection.abort()
        self.trip.close()


class RelayCourier:
    """Attempts the jobs of `domain:` and `route:` lanes; ways.py says what these words mean."""

    def __init__(
        self,
        blobs: Blobs,
        router: Router,
        security: Security,
        opener: Opener,
        pool: Pool,
        clock: Clock,
        ways: Ways,
        signer: Signer | None = None,
    ) -> None:
        self._blobs = blobs
        self._router = router
        self._security = security
        self._opener = opener
        self._pool = pool
        self._clock = clock
        self._ways = ways
        self._signer = signer
        self._stops: dict[str, list[_Stop]] = {}
        self._alone = Alone(clock)
        # By its first recipient.
        self._ahead: dict[int, _Ahead] = {}

    async def attempt(self, job: Job, before_dot: AtWork) -> Report:
        """Offer the message along the way that is for it. Raises BlobLost, StoreUnavailable, LeaseLost, Held."""
        if ahead := self._ahead.pop(job.recipients[0].id, None):
            return await self._report(ahead.trip, self._go_on(ahead))
        way = await self._way_of(job)
        if way is not None and way.held:
            return self._hold(job, way)
        octets = await self._blobs.load(job.blob)
        trip = self._trip(job, way, octets, before_dot)
        return await self._report(trip, self._send(trip))

    def _trip(self, job: Job, way: Way | None, octets: Buffer, at_work: AtWork) -> Trip:
        by_name = job.destination.startswith(ROUTE)
        return Trip(job, way, octets, at_work, self._clock, self._blobs, self._signer, many_domains=by_name)

    async def _report(self, trip: Trip, sending: Coroutine[None, None, None]) -> Report:
        job = trip.job
        try:
            await sending
            return trip.report()
        except LeaseLost:
            raise
        except Held:
            if not trip.outcomes:
                raise
            # Who was not answered for stays as he is.
            return trip.report()
        except Exception as error:
            if not trip.outcomes:
                raise
            # What peers have answered stands: forgotten, it would be sent again.
            observe.fault("relay.broke_off", error, journey=job.mail.journey, destination=job.destination)
            answered = {outcome.recipient for outcome in trip.outcomes}
            trip.left = [one for one in job.recipients if one.id not in answered]
            trip.settle(trip.left, Trouble(Fate.DEFERRED, Dooms.RECIPIENT), _OUR_FAULT, None)
            trip.site = None
            return trip.report()
        finally:
            trip.close()

    async def close(self) -> None:
        """End the connections that are kept, and write down what was seen of others' security."""
        for ahead in self._ahead.values():
            ahead.end()
        self._ahead.clear()
        await self._pool.close()
        await self._security.close()

    # --- the way

    async def _way_of(self, job: Job) -> Way | None:
        if job.destination.startswith(ROUTE):
            return self._ways.named(job.domain)
        return await self._ways.find(job.domain, job.mail)

    async def _send(self, trip: Trip) -> None:
        """Until every recipient has its outcome."""
        job, way = trip.job, trip.way
        if way is None:
            # RFC 3463 §3.4: 4.3.5 system incorrectly configured.
            reply = Reply(451, "4.3.5", f"There is no route {job.domain} in the configuration")
            trip.many_domains = False
            trip.destination_failed(Trouble(Fate.DEFERRED, Dooms.DESTINATION), reply)
            return
        if not way.by_mx:
            trip.many_domains = False
            trip.site = f"{ROUTE}{way.name}"
            trip.tell("relay.way", name=way.name, hosts=tuple(map(str, way.to)))
            await self._travel(trip, self._written_stops(way))
            return
        if way is not self._ways.usual:
            trip.tell("relay.way", name=way.name, hosts="the hosts that DNS names")
        if not trip.many_domains:
            await self._by_mx(trip, way, job.domain)
            return
        for domain, recipients in _by_domain(job.recipients).items():
            trip.left, trip.troubles = recipients, []
            await self._by_mx(trip, way, domain)
        trip.site = None

    def _written_stops(self, way: Way) -> list[_Stop]:
        """The hosts that the configuration names, made once for each way: every message passes here."""
        if way.name not in self._stops:
            self._stops[way.name] = [_written_stop(way, target) for target in way.to]
        return self._stops[way.name]

    async def _by_mx(self, trip: Trip, way: Way, domain: str) -> None:
        try:
            route = await self._router.find(domain)
        except NoRoute as error:
            trip.tell("relay.no_route", domain=domain, reply=str(error.reply))
            trip.site = None
            trip.destination_failed(classify(Stage.ROUTE, error.reply), error.reply)
            return
        trip.site = route.site
        hosts = route.hosts[:_MOST_HOSTS]
        trip.tell("relay.route", domain=domain, hosts=tuple(map(str, hosts)), implicit=route.implicit)
        vouched, port = route.authentic or route.implicit, self._router.official_port
        stops = [
            _Stop(
                Target(domain, host.name, port, vouched=vouched),
                Hop(host.name, self._router.port, way.policy, source=way.source),
            )
            for host in hosts
        ]
        await self._travel(trip, stops)

    def _hold(self, job: Job, way: Way) -> Report:
        """Nothing leaves: the recipients are held, as if by hand."""
        reply = Reply(451, "4.3.0", f"Held by the route {way.name} until released")
        step = Step("relay.held", self._clock.now(), job.mail.journey, {"name": way.name})

        def inside(tx: Tx) -> Filed:
            tx.many("queue_hold_recipient", [{"id": one.id} for one in job.recipients])
            return Filed(tuple(Outcome(one.id, Fate.DEFERRED, reply) for one in job.recipients), (step,))

        return Report(inside=inside)

    # --- host by host

    async def _travel(self, trip: Trip, stops: Sequence[_Stop]) -> None:
        """Host by host, address by address, until every recipient has its outcome."""
        tried = 0
        for stop in stops:
            if tried >= _MOST_ADDRESSES:
                break
            required = await self._security.require(stop.hop.policy, stop.target, trip.wish)
            trip.tell_security(stop.target, required)
            if required.refusal:
                trip.passed_over(required.refusal)
                continue
            hop = stop.hop if required.policy == stop.hop.policy else replace(stop.hop, policy=required.policy)
            approach = Approach(stop.target, required, hop)
            if connection := self._pool.take(approach.hop):
                await self._offer_on(trip, connection)
            if not trip.left:
                return
            try:
                places = await self._places(stop)
            except NoRoute as error:
                trip.tell("relay.no_address", host=stop.hop.name, reply=str(error.reply))
                trip.passed_over(error.reply)
                continue
            tried += await self._try_all(trip, approach, places[: _MOST_ADDRESSES - tried])
            if not trip.left:
                return
        trip.all_hosts_failed()

    async def _places(self, stop: _Stop) -> Sequence[Place]:
        """Where the host is. Raises NoRoute."""
        if stop.written is None:
            return await self._router.addresses(stop.hop.name)
        if stop.written.path is not None:
            return [stop.written.path]
        return await self._router.addresses_of(stop.hop.name, stop.hop.port)

    async def _offer_on(self, trip: Trip, connection: Connection, begun: Transaction | None = None) -> None:
        """Offer on a kept connection. That it died while it was idle says nothing of the host."""
        trip.tell("relay.kept", host=connection.hop.name, address=connection.shown_address)
        trip.answered = False
        try:
            await self._offer(trip, connection, begun)
        except HopFailed as error:
            if trip.answered or error.stage is Stage.DOT:
                trip.host_failed(error, connection.hop.name)

    async def _try_all(self, trip: Trip, approach: Approach, places: Sequence[Place]) -> int:
        """Connect to the host, wherever it answers first, and offer the message there; how many places were tried."""
        waiting = list(places)
        while waiting and trip.left:
            trip.tell("relay.tries", host=approach.hop.name, address=", ".join(map(str, waiting)))
            place, stream, failures = await self._opener.reach(approach.hop, waiting)
            for failure in failures:
                self._failed(trip, approach, failure.place, failure)
            waiting = [one for one in waiting if one != place and all(one != failure.place for failure in failures)]
            if place is None:
                break
            try:
                await self._visit(trip, approach, place, stream)
            except HopFailed as error:
                self._failed(trip, approach, place, error)
        return len(places) - len(waiting)

    def _failed(self, trip: Trip, approach: Approach, place: Place | None, error: HopFailed) -> None:
        host = approach.hop.name
        trip.tell("relay.failed", host=host, address=str(place), stage=error.stage.value, reply=str(error.reply))
        trip.host_failed(error, host)

    async def _visit(self, trip: Trip, approach: Approach, place: Place, stream: Stream | None) -> None:
        """Offer the message, on as many connections as the peer wants (RFC 9422 §4). Raises HopFailed."""
        while trip.left:
            await self._offer(trip, await self._open(trip, approach, place, stream))
            stream = None

    async def _open(self, trip: Trip, approach: Approach, place: Place, stream: Stream | None) -> Connection:
        """A connection; where TLS broke, one with as much less as will do (RFC 7435: some protection more often)."""
        hop, policy, fallen = approach.hop, approach.hop.policy, False
        while True:
            try:
                if stream is None:
                    connection = await self._opener.open(hop, place, policy)
                else:
                    connection = await self._opener.begin(hop, place, stream, policy)
                break
            except HopFailed as error:
                stream = None
                weaker = policy.weaker if error.stage is Stage.TLS and not hop.implicit else None
                if not fallen:
                    self._security.failed(approach, place, error)
                if weaker is None:
                    if trip.wish is Wish.TLS:
                        raise returned(error) from error
                    raise
                trip.tell("relay.tls_failed", host=hop.name, address=str(place), error=error.reply.text)
                policy, fallen = weaker, True
        trip.tell(
            "relay.connected", host=hop.name, address=str(place), tls=connection.tls, verified=connection.verified
        )
        await self._note(trip, approach, connection, fallen)
        return connection

    async def _note(self, trip: Trip, approach: Approach, connection: Connection, fallen: bool) -> None:
        """Remember how it is protected. Raises HopFailed where that is worse than ever, and refused."""
        try:
            if await self._security.opened(approach, connection, fallen=fallen):
                trip.tell("relay.downgraded", host=approach.hop.name, domain=approach.target.domain)
        except BaseException:
            connection.abort()
            raise

    async def _offer(self, trip: Trip, connection: Connection, begun: Transaction | None = None) -> None:
        """Offer the message to those who are left, in as many transactions as the peer wants; the first may have been
        begun. Raises HopFailed."""
        follower: Transaction | None = None
        kept = False
        try:
            if trip.wish is Wish.TLS:
                meets_requiretls(connection)
            form = begun.form if begun else await trip.form(connection)
            while form and trip.left and (begun or not connection.spent):
                count = len(trip.left)
                transaction = begun or Transaction(trip, connection, form, self._opener.timeouts, self._clock)
                begun = None
                follower = await transaction.run(partial(self._prepare, trip, connection))
                if len(trip.left) == count:
                    # Nobody was refused and nobody served: offering it again would go on for ever.
                    raise HopFailed(Stage.DATA, Reply(451, "4.5.0", "The peer's answers make no sense"), said=False)
            kept = True
        except HopFailed as error:
            if not (error.behind and self._goes_alone(trip, connection, error)):
                raise
        except SpoolFull as error:
            raise HopFailed(Stage.MAIL, Reply(452, "4.3.1", "No room to convert the message"), said=False) from error
        finally:
            trip.tell_conversation(connection)
            if not kept:
                self._abort(connection)
            elif follower is None:
                self._pool.give(connection)

    # --- the message behind

    def _goes_alone(self, trip: Trip, connection: Connection, error: HopFailed) -> bool:
        """Learn that each message goes alone here. True: this one is to be offered again at once, in a conversation of
        its own; False: the peer may have it, or wants to be left in peace."""
        trip.alone = True
        trip.tell("relay.alone", host=connection.hop.name, stage=error.stage.value, reply=str(error.reply))
        self._alone.learn(_site(trip, connection))
        return error.stage is not Stage.DOT or (error.said and error.reply.code != 421)

    async def _prepare(self, trip: Trip, connection: Connection) -> Transaction | None:
        """The transaction of the job behind this one, where it goes the same way and wants nothing special of it."""
        if trip.many_domains or trip.wish is not Wish.NONE or self._pool.has_served(connection):
            return None
        if trip.alone or self._alone.holds(_site(trip, connection)):
            return None
        job = trip.before_dot.ahead(self._forgo)
        if job is None or len(job.recipients) > _MOST_AHEAD:
            return None
        following: Trip | None = None
        try:
            if await self._way_of(job) is not trip.way:
                return None
            following = self._trip(job, trip.way, await self._blobs.load(job.blob), trip.before_dot)
            following.comes_behind(trip)
            form = await following.form(connection) if following.wish is Wish.NONE else None
            if form is not None:
                transaction = Transaction(following, connection, form, self._opener.timeouts, self._clock)
                transaction.write()
                self._ahead[job.recipients[0].id] = _Ahead(following, connection, transaction)
                return transaction
        except Exception as error:
            # The message before it must not suffer: what is wrong will be met, and told, at the job's own attempt.
            observe.tell("relay.not_ahead", level=DEBUG, journey=job.mail.journey, error=str(error))
        if following is not None:
            following.close()
        return None

    async def _go_on(self, ahead: _Ahead) -> None:
        """Attempt what was begun; where its connection is lost, as if it had not been."""
        await self._offer_on(ahead.trip, ahead.connection, ahead.transaction)
        if ahead.trip.left:
            await self._send(ahead.trip)

    def _forgo(self, job: Job) -> None:
        """This job will not be attempted next."""
        if ahead := self._ahead.pop(job.recipients[0].id, None):
            ahead.end()

    def _abort(self, connection: Connection) -> None:
        """End the connection, and what was to go on it."""
        connection.abort()
        for first in [first for first, ahead in self._ahead.items() if ahead.connection is connection]:
            self._ahead.pop(first).trip.close()


def _site(trip: Trip, connection: Connection) -> str:
    """What is learnt of this peer holds for all of these."""
    return trip.site or connection.hop.name


def _written_stop(way: Way, target: Written) -> _Stop:
    """A host that the operator named is vouched for by him. DNS knows nothing of one that he wrote as an address."""
    hop = way.hop(target)
    known = f"[{hop.name}]" if is_address(hop.name) or target.path else hop.name
    return _Stop(Target("", known, hop.port, by_mx=False, vouched=True), hop, target)


def _by_domain(recipients: Sequence[QueuedRecipient]) -> dict[str, list[QueuedRecipient]]:
    groups: dict[str, list[QueuedRecipient]] = {}
    for one in recipients:
        groups.setdefault(one.address.domain, []).append(one)
    return groups
