"""The courier that hands messages to the next MTA: along a route, host by host, until each recipient has its answer.

Promises: every recipient of a job gets the outcome that the peer's own words give it; recipients that a host did not
answer for are offered to the next. Before the final dot is sent, the queue has noted that it will be. The peer's
replies stand verbatim in the journey, with the whole conversation.
Refuses: to decide what a failure means (queue/outcome.py), and to send what the peer cannot carry: a message with 8-bit
octets where 8BITMIME lacks, one that needs SMTPUTF8 where that lacks, one that is longer than the peer takes.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from posthouse import observe
from posthouse.clock import Clock
from posthouse.observe import Fact, Step
from posthouse.queue.outcome import Dooms, Fate, Outcome, Report, Stage, Trouble, after_all_hosts, classify
from posthouse.queue.queue import Job, QueuedRecipient
from posthouse.queue.runner import BeforeDot, LeaseLost
from posthouse.relay.connections import Connection, Hop, HopFailed, Opener, Pool, Timeouts, TlsPolicy, lost
from posthouse.relay.route import NoRoute, Router
from posthouse.store.blobs import Blobs, Buffer
from posthouse.terms.envelope import Envelope, Recipient
from posthouse.terms.reply import Reply
from posthouse.wire.lines import BareLineEnding
from posthouse.wire.smtp.client import Answered, Lost
from posthouse.written import Endpoint

# Addresses tried for one message in one attempt (Postfix: 5 MX addresses).
_MOST_ADDRESSES: Final = 5
# Hosts looked up for it: a domain may name thousands, each of which takes DNS its time.
_MOST_HOSTS: Final = 20
# RFC 5321 §4.5.3.1.8: a peer takes at least so many recipients in one transaction.
_RECIPIENTS: Final = 100
# What a journey keeps of one conversation.
_MOST_LINES: Final = 200
_LONGEST_LINE: Final = 1000

_OUR_FAULT: Final = Reply(451, "4.3.0", "An error of this server's; it will try again")
_STAGES: Final = {"MAIL": Stage.MAIL, "RCPT": Stage.RCPT, "DATA": Stage.DATA, ".": Stage.DOT}


class RelayCourier:
    """Attempts the jobs of `domain:` lanes."""

    def __init__(
        self, blobs: Blobs, router: Router, opener: Opener, pool: Pool, clock: Clock, policy: TlsPolicy | None = None
    ) -> None:
        self._blobs = blobs
        self._router = router
        self._opener = opener
        self._pool = pool
        self._clock = clock
        self._policy = policy or TlsPolicy()

    async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
        """Offer the message along the route of the job's domain. Raises BlobLost, LeaseLost."""
        trip = _Trip(job, self._blobs.load(job.blob), before_dot, self._clock)
        try:
            route = await self._router.find(job.domain)
        except NoRoute as error:
            trip.tell("relay.no_route", domain=job.domain, reply=str(error.reply))
            trip.settle(trip.left, classify(Stage.ROUTE, error.reply), error.reply, None)
            return trip.report(None)
        hosts = route.hosts[:_MOST_HOSTS]
        trip.tell("relay.route", domain=job.domain, hosts=tuple(map(str, hosts)), implicit=route.implicit)
        try:
            await self._travel(trip, [host.name for host in hosts])
        except LeaseLost:
            raise
        except Exception as error:
            if not trip.outcomes:
                raise
            # What peers have answered stands: forgotten, it would be sent again.
            observe.fault("relay.broke_off", error, journey=job.mail.journey, destination=job.destination)
            trip.settle(trip.left, Trouble(Fate.DEFERRED, Dooms.RECIPIENT), _OUR_FAULT, None)
        return trip.report(route.site)

    async def close(self) -> None:
        """End the connections that are kept."""
        await self._pool.close()

    async def _travel(self, trip: "_Trip", hosts: Sequence[str]) -> None:
        """Host by host, address by address, until every recipient has its outcome."""
        tried = 0
        for host in hosts:
            if tried == _MOST_ADDRESSES:
                break
            hop = Hop(host, self._router.port, self._policy)
            if connection := self._pool.take(hop):
                await self._offer_on(trip, connection)
            if not trip.left:
                return
            try:
                addresses = await self._router.addresses(host)
            except NoRoute as error:
                trip.tell("relay.no_address", host=host, reply=str(error.reply))
                fate = Fate.FAILED if error.reply.permanent else Fate.DEFERRED
                trip.troubles.append((Trouble(fate, Dooms.HOST), error.reply, None))
                continue
            for address in addresses:
                if tried == _MOST_ADDRESSES:
                    break
                tried += 1
                await self._try(trip, hop, address)
                if not trip.left:
                    return
        trip.all_hosts_failed()

    async def _offer_on(self, trip: "_Trip", connection: Connection) -> None:
        """Offer on a kept connection. That it died while it was idle says nothing of the host."""
        trip.tell("relay.kept", host=connection.hop.name, address=str(connection.address))
        trip.answered = False
        try:
            await self._offer(trip, connection)
        except HopFailed as error:
            if trip.answered:
                trip.host_failed(error, connection.hop.name)

    async def _try(self, trip: "_Trip", hop: Hop, address: Endpoint) -> None:
        """Connect to one address and offer the message there."""
        try:
            connection = await self._open(trip, hop, address)
            await self._offer(trip, connection)
        except HopFailed as error:
            trip.tell(
                "relay.failed", host=hop.name, address=str(address), stage=error.stage.value, reply=str(error.reply)
            )
            trip.host_failed(error, hop.name)

    async def _open(self, trip: "_Trip", hop: Hop, address: Endpoint) -> Connection:
        """A connection; where TLS was a wish and broke, one without (RFC 7435: some protection more often)."""
        trip.tell("relay.tries", host=hop.name, address=str(address))
        try:
            connection = await self._opener.open(hop, address)
        except HopFailed as error:
            if error.stage is not Stage.TLS or hop.policy.mode != "opportunistic":
                raise
            trip.tell("relay.tls_failed", host=hop.name, address=str(address), error=error.reply.text)
            connection = await self._opener.open(hop, address, plain=True)
        trip.tell("relay.connected", host=hop.name, address=str(address), tls=connection.tls)
        return connection

    async def _offer(self, trip: "_Trip", connection: Connection) -> None:
        """Offer the message to all who are left, in as many transactions as the peer wants. Raises HopFailed."""
        kept = False
        try:
            trip.carry(connection)
            while trip.left:
                count = len(trip.left)
                await _Transaction(trip, connection, self._opener.timeouts).run()
                if len(trip.left) == count:
                    # Nobody was refused and nobody served: offering it again would go on for ever.
                    raise HopFailed(Stage.DATA, Reply(451, "4.5.0", "The peer's answers make no sense"), said=False)
            kept = True
        finally:
            trip.tell_conversation(connection)
            if kept:
                self._pool.give(connection)
            else:
                connection.abort()


@dataclass(slots=True)
class _Trip:
    """One job on its way: who is left, what has been settled, and the steps."""

    job: Job
    octets: Buffer
    before_dot: BeforeDot
    clock: Clock
    left: list[QueuedRecipient] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    troubles: list[tuple[Trouble, Reply, str | None]] = field(default_factory=list)
    answered: bool = False
    eight_bit: bool = False
    needs_utf8: bool = False

    def __post_init__(self) -> None:
        self.left = list(self.job.recipients)
        self.eight_bit = not _is_ascii(self.octets)
        self.needs_utf8 = self.job.mail.wishes.smtputf8 and not self._ascii_throughout()

    def _ascii_throughout(self) -> bool:
        """RFC 6531 §3.4 lets a message that turns out not to need SMTPUTF8 travel without."""
        sender = self.job.mail.sender
        if (sender and not sender.ascii) or not all(one.address.ascii for one in self.left):
            return False
        end = self.octets.find(b"\r\n\r\n") if not isinstance(self.octets, memoryview) else -1
        return not self.eight_bit or (end >= 0 and _is_ascii(self.octets[:end]))

    def tell(self, kind: str, **facts: Fact) -> None:
        self.steps.append(Step(kind, self.clock.now(), self.job.mail.journey, facts))

    def tell_conversation(self, connection: Connection) -> None:
        """The lines that passed, verbatim but for their length: a peer may say megabytes in one conversation."""
        lines = [f"{who}: {line[:_LONGEST_LINE]}" for who, line in connection.client.take_transcript()]
        if len(lines) > _MOST_LINES:
            half = _MOST_LINES // 2
            lines = [*lines[:half], f"({len(lines) - _MOST_LINES} lines)", *lines[-half:]]
        self.tell("relay.said", host=connection.hop.name, address=str(connection.address), lines=tuple(lines))

    def settle(self, recipients: Iterable[QueuedRecipient], trouble: Trouble, reply: Reply, remote: str | None) -> None:
        """These have met their outcome."""
        for recipient in list(recipients):
            self.left.remove(recipient)
            self.outcomes.append(Outcome(recipient.id, trouble.fate, reply, trouble.dooms, remote))

    def host_failed(self, error: HopFailed, host: str) -> None:
        """This host did not answer for those who are left; what that means shows when all have been tried."""
        trouble = classify(error.stage, error.reply, said=error.said)
        remote = host if error.said else None
        if trouble.dooms is Dooms.MESSAGE:
            self.settle(self.left, trouble, error.reply, remote)
        else:
            self.troubles.append((trouble, error.reply, remote))

    def all_hosts_failed(self) -> None:
        """Nobody is left to try. A route has at least one host, and each that was tried left its trouble."""
        trouble, reply = after_all_hosts([(trouble, reply) for trouble, reply, _ in self.troubles])
        remote = next(host for _, other, host in self.troubles if other is reply)
        self.settle(self.left, trouble, reply, remote)

    def carry(self, connection: Connection) -> None:
        """Settle those for whom this peer cannot carry the message; an offer must not begin with what cannot end."""
        offered, host = connection.client.extensions, connection.hop.name
        size = len(self.job.prologue) + len(self.octets)
        limit = offered.get("SIZE", "").strip()
        refusal: Reply | None = None
        if self.needs_utf8 and "SMTPUTF8" not in offered:
            # RFC 6531 §3.5, RFC 3463 as extended there: 5.6.7 non-ASCII addresses not permitted.
            refusal = Reply(553, "5.6.7", f"{host} does not take internationalised mail, which this is")
        elif self.eight_bit and "8BITMIME" not in offered:
            refusal = Reply(554, "5.6.3", f"{host} takes only 7-bit mail, and this message is not")
        elif limit.isdigit() and 0 < int(limit) < size:
            # RFC 1870 §6.1: do not even try.
            refusal = Reply(552, "5.3.4", f"{host} takes messages up to {limit} octets; this one has {size}")
        if refusal:
            self.settle(self.left, Trouble(Fate.FAILED, Dooms.MESSAGE), refusal, None)

    def envelope(self, recipients: Sequence[QueuedRecipient]) -> Envelope:
        mail = self.job.mail
        return Envelope(
            sender=mail.sender,
            recipients=tuple(Recipient(one.address, one.notify, one.orcpt) for one in recipients),
            size=len(self.job.prologue) + len(self.octets),
            wishes=replace(mail.wishes, body="8BITMIME" if self.eight_bit else "7BIT", smtputf8=self.needs_utf8),
        )

    def report(self, site: str | None) -> Report:
        return Report(tuple(self.outcomes), tuple(self.steps), site)


def _is_ascii(octets: Buffer) -> bool:
    if isinstance(octets, bytes):
        return octets.isascii()
    step = 1 << 20
    return all(bytes(octets[start : start + step]).isascii() for start in range(0, len(octets), step))


class _Transaction:
    """One mail transaction: MAIL, RCPTs, DATA, the message, and what each answer means."""

    def __init__(self, trip: _Trip, connection: Connection, timeouts: Timeouts) -> None:
        self._trip = trip
        self._connection = connection
        self._client = connection.client
        self._times = timeouts
        self._batch = trip.left[:_RECIPIENTS]
        envelope = trip.envelope(self._batch)
        self._of = {id(sent): one for sent, one in zip(envelope.recipients, self._batch, strict=True)}
        self._envelope = envelope
        self._accepted: list[QueuedRecipient] = []
        self._sent = False

    async def run(self) -> None:
        """Until every recipient of the batch has an outcome, or waits for the next transaction. Raises HopFailed."""
        self._connection.messages += 1
        self._client.transaction(self._envelope)
        stage = Stage.MAIL
        while not self._client.idle or self._client.ready_for_content:
            if self._client.ready_for_content:
                await self._send_message()
                stage = Stage.DOT
            event = await self._connection.next_event(self._patience(stage))
            if isinstance(event, Lost):
                raise lost(stage, event)
            stage = self._STAGE_AFTER.get(event.verb, stage)
            self._hear(event)
        if not self._sent:
            await self._reset()

    # After the answer to this verb, the next one awaited is of that stage (or of the same: another RCPT).
    _STAGE_AFTER: Final = {"MAIL": Stage.RCPT, "RCPT": Stage.RCPT, "DATA": Stage.DOT}

    def _patience(self, stage: Stage) -> float:
        times = self._times
        return {Stage.MAIL: times.mail, Stage.RCPT: max(times.rcpt, times.data), Stage.DOT: times.dot}[stage]

    def _hear(self, event: Answered) -> None:
        """What this answer means. 421 is for the host: the loss that follows tells it."""
        reply = event.reply
        if reply.code == 421:
            raise HopFailed(_STAGES[event.verb], reply, said=True)
        self._trip.answered = True
        match event.verb:
            case "RCPT":
                self._hear_of_recipient(event)
            case "." if self._accepted:
                self._hear_of_message(Stage.DOT, reply)
            case "MAIL" if not reply.positive:
                self._hear_of_message(Stage.MAIL, reply)
            case "DATA" if reply.code != 354:
                self._hear_of_message(Stage.DATA, reply)
            case _:
                pass

    def _hear_of_recipient(self, event: Answered) -> None:
        recipient = self._of[id(event.recipient)]
        if recipient not in self._trip.left:
            # MAIL was refused with RCPT on its way already; what is said of it now means nothing.
            return
        if event.reply.positive:
            self._accepted.append(recipient)
            return
        trouble = classify(Stage.RCPT, event.reply, accepted=len(self._accepted))
        if trouble.dooms is not Dooms.TRANSACTION:
            self._trip.settle([recipient], trouble, event.reply, self._connection.hop.name)

    def _hear_of_message(self, stage: Stage, reply: Reply) -> None:
        trip, host = self._trip, self._connection.hop.name
        if stage is Stage.DOT and reply.code // 100 == 2:
            # The instant of responsibility: with this reply the message is the peer's; ours until then.
            trip.settle(self._accepted, Trouble(Fate.RELAYED, Dooms.RECIPIENT), reply, host)
            return
        if stage is Stage.DATA and not self._accepted:
            # RFC 2920 §3.1: DATA behind RCPTs that were all refused is refused too; they have their outcomes.
            return
        trip.settle(trip.left, classify(stage, reply), reply, host)

    async def _send_message(self) -> None:
        """The message, and its end once the queue has noted that it will be sent. Raises HopFailed, LeaseLost."""
        if not self._accepted:
            # MAIL was refused and DATA, pipelined behind it, taken all the same: RFC 2920 §3.1, an empty message.
            await self._connection.send(b"".join(self._client.content()), self._times.block)
            return
        noting = asyncio.ensure_future(self._trip.before_dot([one.id for one in self._accepted]))
        try:
            held = b""
            for octets in self._client.content(self._trip.job.prologue, self._trip.octets):
                if held:
                    await self._connection.send(held, self._times.block)
                held = octets
            await noting
        except BareLineEnding as error:
            # RFC 5321 §2.3.8: it must not leave in any form that another server may read otherwise.
            reply = Reply(554, "5.6.0", f"The message holds a bare {error}, which no server should send")
            self._trip.settle(self._trip.left, Trouble(Fate.FAILED, Dooms.MESSAGE), reply, None)
            raise HopFailed(Stage.DATA, reply, said=False) from error
        finally:
            noting.cancel()
        self._sent = True
        await self._connection.send(held, self._times.block)

    async def _reset(self) -> None:
        """Leave no transaction open behind us."""
        self._client.rset()
        await self._connection.expect(Stage.MAIL, self._times.mail)
