"""One mail transaction: MAIL, RCPTs, the message, and what each answer means for whom.

Promises: the queue has noted that the message may be taken before its end is sent, and nobody counts as relayed without
a 2xx behind that end. What the peer's limits leave out waits for the next transaction.
Refuses: to choose hosts, and to read the message as anything but octets.

How the message leaves: where the peer announces CHUNKING and PIPELINING, a small one goes with its envelope in one
packet, one round trip in all (RFC 3030 §4.2). A larger one follows the answers by one BDAT, or by DATA where there is
no CHUNKING. The price of the single packet: whoever is lost after it may have taken the message.
Behind the end of DATA's message, the envelope of the next one leaves in the same packet where the peer announces
PIPELINING (RFC 2920 §3.1): again one round trip a message. Nothing is sure of that next one before its own answers.
What breaks while something stands behind an end, or speaks of the protocol's order then, may come of that: HopFailed
says so (`behind`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from posthouse.clock import Clock
from posthouse.limits import KB
from posthouse.queue.lanes import possible_duplicate
from posthouse.queue.outcome import Dooms, Fate, Stage, Trouble, classify
from posthouse.queue.queue import QueuedRecipient
from posthouse.relay.alone import out_of_order
from posthouse.relay.connections import Connection, HopFailed, Timeouts, lost
from posthouse.relay.trip import Form, Trip
from posthouse.terms.reply import Reply
from posthouse.wire.lines import BareLineEnding, clean
from posthouse.wire.smtp.client import Answered, Commands, Lost

# RFC 5321 §4.5.3.1.8: a peer takes at least so many recipients in one transaction.
_RECIPIENTS: Final = 100
# What may be sent in vain to a peer that refuses all recipients.
_ONE_PACKET: Final = 64 * KB
# Seconds for the answer to a MAIL that stood behind a message's end, which was answered: some peers throw it away, and
# nothing is lost where it is said again.
_SOON: Final = 30.0

_STAGES: Final = {"MAIL": Stage.MAIL, "RCPT": Stage.RCPT, "DATA": Stage.DATA, ".": Stage.DOT}
# After the answer to this verb, the next one awaited is of that stage (or of the same: another RCPT).
_STAGE_AFTER: Final = {"MAIL": Stage.RCPT, "RCPT": Stage.RCPT, "DATA": Stage.DOT}


# The transaction that is to leave behind the message of another, if there is one.
Follow = Callable[[], Awaitable["Transaction | None"]]


class Transaction:
    """Offers the message to as many of those who are left as the peer takes at once."""

    def __init__(self, trip: Trip, connection: Connection, form: Form, timeouts: Timeouts, clock: Clock) -> None:
        self._trip = trip
        self._connection = connection
        self.form = form
        self._follow: Follow = _nothing
        self._follower: Transaction | None = None
        self._begun = False
        self._written: Commands = ()
        self._client = connection.client
        self._times = timeouts
        self._clock = clock
        self._batch = batch(trip.left, connection.client.limits)
        envelope = trip.envelope(self._batch, form, connection)
        self._of = {id(sent): one for sent, one in zip(envelope.recipients, self._batch, strict=True)}
        self._envelope = envelope
        self._accepted: list[QueuedRecipient] = []
        self._stage = Stage.MAIL
        self._all_sent = False
        self._over = False
        self._chunking = "CHUNKING" in connection.client.extensions
        self._ending = b"" if form.body == "BINARYMIME" or _ends(form) else b"\r\n"

    async def run(self, follow: Follow | None = None) -> "Transaction | None":
        """Until every recipient of the batch has an outcome, or waits for the next transaction. `follow` is asked for
        what may be begun behind the message; what has been. Raises HopFailed, LeaseLost, Held.
        """
        self._follow = follow or _nothing
        if not self._begun:
            await self._say()
        await self._hear_all()
        if self._chunking and not self._all_sent and self._accepted:
            self._client.chunk(self.form.size + len(self._ending))
            await self._hear_all()
        if not self._over:
            await self._reset()
        return self._follower

    async def _say(self) -> None:
        """The envelope, and the message where it may leave with it."""
        self._connection.messages += 1
        chunk = self._one_packet()
        if chunk is not None:
            await self._trip.before_dot([one.id for one in self._batch])
            self._all_sent = True
        now = self._clock.now()
        self._client.transaction(self._envelope, chunk=chunk, now=now, data=not self._chunking)

    def write(self) -> None:
        """The envelope, for `begin`. Raises NotOffered, and ValueError for what cannot be said."""
        self._written = self._client.written(self._envelope, now=self._clock.now())

    def begin(self) -> bytes:
        """The envelope, to be sent behind a message whose end was not answered yet; `run` hears what is said of it."""
        self._begun = True
        self._connection.messages += 1
        self._client.say(self._written)
        self._trip.said += self._client.take_transcript()
        return self._client.outgoing()

    def _one_packet(self) -> bytes | None:
        """The whole message, where it may leave with its envelope."""
        form, offered = self.form, self._client.extensions
        if not self._chunking or "PIPELINING" not in offered or self._client.lmtp or form.size > _ONE_PACKET:
            return None
        chunk = form.front + form.octets + self._ending if isinstance(form.octets, bytes) else None
        # What is no text is found out by the slow way, which words it.
        return chunk if chunk is not None and (form.body == "BINARYMIME" or clean(chunk)) else None

    async def _hear_all(self) -> None:
        while not (self._over and self._follower) and (not self._client.idle or self._client.ready_for_content):
            if self._client.ready_for_content:
                await self._send_message()
                self._stage = Stage.DOT
            # What the engine wants sent leaves before anything is waited for.
            event = self._client.next_event() or await self._connection.next_event(self._patience())
            if isinstance(event, Lost):
                self._tell_of_loss(event)
                raise self._lost(event)
            self._stage = _STAGE_AFTER.get(event.verb, self._stage)
            self._hear(event)

    def _patience(self) -> float:
        times = self._times
        if self._stage is Stage.MAIL:
            return min(times.mail, _SOON) if self._begun else times.mail
        return times.dot if self._all_sent else max(times.rcpt, times.data)

    def _lost_at(self, event: Lost) -> Stage:
        """What was under way. Who hangs up a kept connection without a word has not read what we said on it."""
        unread = self._connection.kept and not self._trip.answered and not event.silent
        return Stage.DOT if self._all_sent and not unread else self._stage

    def _lost(self, event: Lost) -> HopFailed:
        failed = lost(self._lost_at(event), event)
        # A peer that has borne an envelope behind a message may hang up for any other reason.
        chance = self._connection.followed and not event.silent
        failed.behind = self._follower is not None or (self._begun and not self._all_sent and not chance)
        return failed

    def _tell_of_loss(self, event: Lost) -> None:
        """RFC 1047 §2: whether it has the message is the peer's secret, and it will be offered again."""
        if self._lost_at(event) is Stage.DOT:
            trip = self._trip
            unsure = [str(one.address) for one in self._batch if one in trip.left]
            trip.steps += [possible_duplicate(trip.job.mail.journey, address, self._clock.now()) for address in unsure]

    def _hear(self, event: Answered) -> None:
        """What this answer means. 421 is for the host: the loss that follows tells it."""
        reply = event.reply
        if reply.code >= 400:
            self._weigh(event)
        self._trip.answered = True
        match event.verb:
            case "RCPT":
                self._hear_of_recipient(event)
            case "." if self._client.lmtp:
                self._hear_of_delivery(event)
            case ".":
                self._hear_of_end(reply)
            case "MAIL" if not reply.positive:
                self._hear_of_message(Stage.MAIL, reply)
            case "DATA" if reply.code != 354 and self._accepted:
                # RFC 2920 §3.1: DATA behind RCPTs that were all refused is refused too; they have their outcomes.
                self._hear_of_message(Stage.DATA, reply)
            case _:
                pass

    def _weigh(self, event: Answered) -> None:
        """Raises HopFailed where this refusal is not for the mail: for the host, or for what stood behind an end."""
        misplaced = self._misplaced(event)
        if misplaced or event.reply.code == 421:
            failed = HopFailed(_STAGES[event.verb], event.reply, said=True)
            failed.behind = misplaced or self._follower is not None
            raise failed

    def _misplaced(self, event: Answered) -> bool:
        if self._follower is not None:
            return out_of_order(event.reply)
        if not self._begun or self._all_sent or not self._trip.left:
            return False
        match event.verb:
            case "MAIL":
                return out_of_order(event.reply)
            case "RCPT":
                # Some say 5.5.z of a mailbox.
                return event.reply.code == 503
            case "DATA":
                return bool(self._accepted) and out_of_order(event.reply)
            case _:
                return False

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

    def _hear_of_end(self, reply: Reply) -> None:
        """RFC 5321 §4.1.1.4: the end of data ends the transaction, also where it is refused. Not so BDAT."""
        positive = reply.code // 100 == 2
        self._over = positive or not self._chunking
        if not self._accepted:
            # Nobody was taken, and the message, pipelined behind, was refused for it.
            self._over = False
        elif positive:
            self._relayed(self._accepted, reply)
        else:
            self._hear_of_message(Stage.DOT, reply)

    def _hear_of_delivery(self, event: Answered) -> None:
        """RFC 2033 §4.2: each recipient has a reply to the message of its own."""
        self._over = not self._chunking
        if event.recipient is None:
            return
        recipient = self._of[id(event.recipient)]
        if event.reply.code // 100 == 2:
            self._relayed([recipient], event.reply)
        else:
            trouble = Trouble(classify(Stage.DOT, event.reply).fate, Dooms.RECIPIENT)
            self._trip.settle([recipient], trouble, event.reply, self._connection.hop.name)

    def _relayed(self, recipients: Sequence[QueuedRecipient], reply: Reply) -> None:
        # The instant of responsibility: with this reply the message is the peer's; ours until then.
        relayed = Trouble(Fate.RELAYED, Dooms.RECIPIENT)
        self._trip.settle(recipients, relayed, reply, self._connection.hop.name, self._client.extensions)

    def _hear_of_message(self, stage: Stage, reply: Reply) -> None:
        self._trip.settle(self._trip.left, classify(stage, reply), reply, self._connection.hop.name)

    async def _send_message(self) -> None:
        """The message, and its end once the queue has noted that it will be sent. Raises HopFailed, LeaseLost, Held."""
        if not self._accepted:
            # MAIL was refused and DATA, pipelined behind it, taken all the same: RFC 2920 §3.1, an empty message.
            await self._connection.send(b"".join(self._client.content()), self._times.block)
            return
        form = self.form
        ending = self._ending if self._chunking else b""
        content = self._client.content(form.front, form.octets, ending, binary=form.body == "BINARYMIME")
        taken = [one.id for one in self._accepted]
        self._connection.followed |= self._begun
        follower = await self._find_follower()
        try:
            if form.size <= _ONE_PACKET:
                held = b"".join(content)
                await self._trip.before_dot(taken)
            else:
                held = await self._send_all_but_the_end(content, taken)
        except BareLineEnding as error:
            # RFC 5321 §2.3.8: it must not leave in any form that another server may read otherwise.
            reply = Reply(554, "5.6.0", f"The message holds a bare {error}, which no server should send")
            self._trip.settle(self._trip.left, Trouble(Fate.FAILED, Dooms.MESSAGE), reply, None)
            raise HopFailed(Stage.DATA, reply, said=False) from error
        if (early := await self._connection.interrupted()) is not None:
            raise lost(Stage.DATA, early)
        self._all_sent = True
        behind = b""
        if follower is not None:
            self._trip.said += self._client.take_transcript()
            self._follower = follower
            behind = follower.begin()
        await self._connection.send(held, self._times.block, behind)

    async def _find_follower(self) -> "Transaction | None":
        """What may be begun behind this message: only where its end, however it is answered, is the last word on it."""
        if self._chunking or self._client.lmtp or "PIPELINING" not in self._client.extensions:
            return None
        return await self._follow() if len(self._accepted) == len(self._trip.left) else None

    async def _send_all_but_the_end(self, content: Iterable[bytes], taken: Sequence[int]) -> bytes:
        """While the queue notes that the end will be sent; the end. Raises as the sending, and BareLineEnding."""
        noting = asyncio.ensure_future(self._trip.before_dot(taken))
        try:
            held = b""
            for octets in content:
                if held:
                    await self._connection.send(held, self._times.block)
                held = octets
            await noting
        finally:
            noting.cancel()
        return held

    async def _reset(self) -> None:
        """Leave no transaction open behind us."""
        self._client.rset()
        await self._connection.expect(Stage.MAIL, self._times.mail)


async def _nothing() -> None:
    return None


def batch(left: Sequence[QueuedRecipient], limits: dict[str, int]) -> list[QueuedRecipient]:
    """As many of these as the peer takes in one transaction (RFC 9422 §4)."""
    most = min(limits.get("RCPTMAX", _RECIPIENTS), _RECIPIENTS)
    if "RCPTDOMAINMAX" not in limits:
        return list(left[:most])
    domains: set[str] = set()
    most_domains = limits["RCPTDOMAINMAX"]
    chosen: list[QueuedRecipient] = []
    for recipient in left:
        if len(domains | {recipient.address.domain}) <= most_domains:
            domains.add(recipient.address.domain)
            chosen.append(recipient)
            if len(chosen) == most:
                break
    return chosen


def _ends(form: Form) -> bool:
    """True where the last line has its end (RFC 5321 §4.1.1.4 adds one; behind BDAT nobody does)."""
    return bytes(form.octets[-2:]) == b"\r\n" if len(form.octets) else form.front.endswith(b"\r\n")
