"""Reception: from the first octet of a message to the answer behind its final dot. One transaction says who is
responsible.

Promises: `250` is given after the commit that files each local recipient's email, queues each other recipient and
records the journey, and never before; where that commit fails, nothing of the message stands and the peer hears 4xx.
Everything is decided before the transaction: judging, resolving, rendering. Inside it the facts that may have changed
are checked again.
Refuses: to bounce. What is judged here is answered to the peer who is still there, or filed in Junk.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Final

from posthouse import journey, limits, observe
from posthouse.clock import Clock
from posthouse.delivery.courier import filed_step
from posthouse.delivery.filing import INBOX, JUNK, Copy, Fate, file_local, prologue
from posthouse.directory import accounts, addresses
from posthouse.directory.addresses import Resolution
from posthouse.directory.cache import Directory
from posthouse.mailbox.append import Filed
from posthouse.mailbox.model import NoSuchAccount, OverQuota
from posthouse.mailbox.summary import Rendered, render
from posthouse.message import build
from posthouse.message.header import Header
from posthouse.observe import Step
from posthouse.policy.check import Action, Facts, RecipientFacts, Verdict
from posthouse.policy.pipeline import Pipeline
from posthouse.queue import queue
from posthouse.queue.queue import NewRecipient, QueuedMail
from posthouse.queue.schedule import LOCAL
from posthouse.store import blobs
from posthouse.store.blobs import Blobs, Spool, SpoolFull, Staged
from posthouse.store.database import StoreUnavailable, Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import Address, parse
from posthouse.terms.envelope import Envelope
from posthouse.terms.reply import Refusal, Reply

# Rendering more than this takes longer than the loop should stand still.
_IN_THREAD: Final = 128 * limits.KB
# Minutes until a recipient who was deferred after the dot is tried: as a greylisting peer would come back.
_DEFERRED_SECONDS: Final = 300.0
# In public what the peer needs.
_STORE_DOWN: Final = Reply(451, "4.3.0", "The mail store cannot take the message now; try again later")
_NO_ROOM: Final = Reply(452, "4.3.1", "No room for more mail just now; try again later")
_TOO_SLOW: Final = Reply(451, "4.3.0", "The message could not be judged in time; try again later")
_GONE: Final = Reply(451, "4.4.2", "You hung up before the answer")
_FULL: Final = Reply(452, "4.2.2", "The mailbox is full; try again later")
_CHANGED: Final = Reply(451, "4.3.0", "The address has changed meanwhile; try again")

HeaderEdit = Callable[[bytes], bytes]
"""Makes a header right before it is stored. Raises Refusal."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What reception is told of the configuration. `expire`: seconds until queued mail is given up."""

    hostname: str
    message_size: int
    judgement_timeout: float
    expire: float
    secret: bytes


class Reception:
    """Takes messages from both doors. One a process."""

    def __init__(
        self,
        store: SqliteStore,
        blob_store: Blobs,
        directory: Directory,
        pipeline: Pipeline,
        settings: Settings,
        clock: Clock,
        random: Random,
    ) -> None:
        self.store = store
        self.blobs = blob_store
        self.directory = directory
        self.pipeline = pipeline
        self.settings = settings
        self.clock = clock
        self.random = random

    def begin(self, facts: Facts, envelope: Envelope, protocol: str, edit: HeaderEdit) -> "Intake":
        """Take a message for this envelope. `protocol` is what the Received field says it came by (RFC 3848).

        Raises Refusal: 452 where unfinished mail fills what it may.
        """
        try:
            spool = self.blobs.spool()
        except SpoolFull as error:
            raise Refusal(_NO_ROOM.code, _NO_ROOM.enhanced, _NO_ROOM.text) from error
        now = self.clock.now()
        return Intake(
            self, facts, envelope, spool, journey.new_id(now, self.random.getrandbits(21)), now, protocol, edit
        )


class Intake:
    """One message on its way in. Written to until its end, then finished or discarded."""

    def __init__(
        self,
        reception: Reception,
        facts: Facts,
        envelope: Envelope,
        spool: Spool,
        id: int,
        now: int,
        protocol: str,
        edit: HeaderEdit,
    ) -> None:
        self._reception = reception
        self._facts = facts
        self._envelope = envelope
        self._spool = spool
        self.journey = id
        self._now = now
        self._protocol = protocol
        self._edit = edit
        self._head: bytes | None = b""  # what came of the header, until it has ended
        self._header: Header | None = None
        self._size = 0
        self._refusal: Reply | None = None

    def write(self, octets: bytes) -> None:
        """Take more of the message. What is wrong with it is said at its end: before, nobody listens."""
        if self._refusal is not None:
            return
        self._size += len(octets)
        try:
            if self._size > self._reception.settings.message_size:
                # RFC 1870 §6.3
                raise Refusal(552, "5.3.4", f"A message may have {self._reception.settings.message_size} octets here")
            if self._head is None:
                self._spool.write(octets)
            else:
                self._gather(octets)
        except Refusal as refusal:
            self._refuse(refusal.reply)
        except SpoolFull:
            self._refuse(_NO_ROOM)

    def _gather(self, octets: bytes) -> None:
        """Hold the header until its end, then make it right and let all go on."""
        head = self._head = (self._head or b"") + octets
        end = 0 if head.startswith(b"\r\n") else head.find(b"\r\n\r\n", max(0, len(head) - len(octets) - 3)) + 2
        if end != 1:
            self._end_header(head[:end], head[end:])
        elif len(head) > limits.HEADER_SIZE:
            raise Refusal(552, "5.3.4", f"A header may have {limits.HEADER_SIZE} octets here")

    def _end_header(self, head: bytes, rest: bytes) -> None:
        self._head = None
        self._header = Header.parse(head)
        edited = self._edit(head)
        if edited is not head:
            self._header = Header.parse(edited)
        self._spool.write(b"".join((self._received(), edited, rest)))

    def _received(self) -> bytes:
        """RFC 5321 §4.4. Nobody is named in `for` where there are several: that would tell of hidden recipients."""
        facts, recipients = self._facts, self._facts.recipients
        return build.received_field(
            helo=facts.helo or "unknown",
            peer=facts.peer,
            peer_name=facts.peer_name,
            by=self._reception.settings.hostname,
            protocol=self._protocol,
            tls=facts.tls,
            id=observe.code(self.journey),
            recipient=recipients[0].recipient.address if len(recipients) == 1 else None,
            at=self._now,
        )

    def _refuse(self, reply: Reply) -> None:
        self._refusal = reply
        self._spool.discard()

    def discard(self) -> None:
        """Let go of everything that is not stored. Safe to call twice."""
        self._spool.discard()

    def __enter__(self) -> "Intake":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    # --- after the dot

    async def finish(self, still_there: Callable[[], bool], *, each: bool = False) -> list[Reply]:
        """The message is complete: judge it and take responsibility, or not.

        Returns one reply; with `each` (LMTP) one for each recipient, in their order. `still_there` tells whether the
        peer still waits for the answer: a message whose peer has gone is not committed, for it will come again (RFC
        1047).
        """
        if self._head is not None and self._refusal is None:
            # A message may end in its header (RFC 5322 §3.5).
            try:
                self._end_header(self._head, b"")
            except Refusal as refusal:
                self._refuse(refusal.reply)
            except SpoolFull:
                self._refuse(_NO_ROOM)
        count = len(self._facts.recipients) if each else 1
        if self._refusal is not None:
            self._tell_refused(self._refusal, ())
            return [self._refusal] * count
        try:
            async with asyncio.timeout(self._reception.settings.judgement_timeout):
                verdicts = await self._judge()
                decision = decide(verdicts, each=each)
                if decision.refusal is not None:
                    self._tell_refused(decision.refusal, [why for verdict in verdicts for why in verdict.reasons])
                    return [decision.refusal] * count if not each else [_said(verdict) for verdict in verdicts]
                plan = await self._plan(verdicts, decision)
        except TimeoutError:
            self._tell_refused(_TOO_SLOW, ())
            return [_TOO_SLOW] * count
        except StoreUnavailable as error:
            observe.tell("mail.deferred", level=observe.ERROR, error=str(error))
            return [_STORE_DOWN] * count
        if not still_there():
            self._reception.blobs.abandon(plan.staged)
            return [_GONE] * count
        return await self._commit(plan, verdicts, each=each)

    async def _judge(self) -> list[Verdict]:
        header = self._header
        assert header is not None, "the header ends with the message at the latest"
        self._facts.header = header
        self._facts.received = sum(1 for _ in header.all(b"received"))
        self._facts.size = self._size
        return await self._reception.pipeline.data(self._facts)

    async def _plan(self, verdicts: Sequence[Verdict], decision: "Decision") -> "Plan":
        """Everything the transaction needs, worked out before it."""
        reception, recipients = self._reception, self._facts.recipients
        taken = [recipients[index] for index in decision.taken]
        resolution = await reception.directory.resolve([one.recipient.address for one in taken])
        octets = self._spool.buffer()
        rendered = render(octets) if len(octets) <= _IN_THREAD else await asyncio.to_thread(render, octets)
        junked = {recipients[index].recipient.address for index in decision.junked}
        return Plan(
            journey=self.journey,
            envelope=self._envelope,
            account=self._facts.account.id if self._facts.account else None,
            rules=reception.directory.rules,
            taken=taken,
            later=[recipients[index] for index in decision.deferred],
            junked=junked,
            resolution=resolution,
            rendered=rendered,
            staged=await reception.blobs.stage(self._spool),
            now=reception.clock.now(),
            expires_at=self._now + int(reception.settings.expire * 1000),
            secret=reception.settings.secret,
            steps=(self._received_step(rendered, verdicts),),
        )

    async def _commit(self, plan: "Plan", verdicts: Sequence[Verdict], *, each: bool) -> list[Reply]:
        try:
            # The instant of responsibility. Until this returns the message is the peer's; from then on it is ours.
            accepted = await self._reception.store.write(accept, plan)
        except Nobody as nobody:
            self._reception.blobs.abandon(plan.staged)
            self._tell_refused(nobody.reply, ())
            return [nobody.reply] * (len(verdicts) if each else 1)
        except StoreUnavailable as error:
            self._reception.blobs.abandon(plan.staged)
            observe.tell("mail.deferred", level=observe.ERROR, error=str(error))
            return [_STORE_DOWN] * (len(verdicts) if each else 1)
        for step in accepted.steps:
            observe.emit(step)
        reply = Reply(250, "2.0.0", f"Taken as {observe.code(self.journey)}")
        if not each:
            return [reply]
        # RFC 2033 §4.2: one answer for each recipient.
        return [
            _said(verdict) if verdict.action >= Action.DEFER else accepted.answers.get(one.recipient.address, reply)
            for verdict, one in zip(verdicts, self._facts.recipients, strict=True)
        ]

    # --- the journey

    def _received_step(self, rendered: Rendered, verdicts: Sequence[Verdict]) -> Step:
        facts = self._facts
        return Step(
            "mail.received",
            self._now,
            self.journey,
            {
                "door": facts.door,
                "peer": facts.peer,
                "helo": facts.helo or "",
                "tls": facts.tls or "",
                "login": facts.account.name if facts.account else "",
                "sender": str(facts.sender or ""),
                "recipients": tuple(str(one.recipient.address) for one in facts.recipients[:20]),
                "size": rendered.size,
                "message_id": rendered.message_id or "",
                "reasons": tuple({reason: None for verdict in verdicts for reason in verdict.reasons}),
            },
        )

    def _tell_refused(self, reply: Reply, reasons: Sequence[str]) -> None:
        facts = self._facts
        step = Step(
            "mail.refused",
            self._reception.clock.now(),
            self.journey,
            {
                "peer": facts.peer,
                "helo": facts.helo or "",
                "sender": str(facts.sender or ""),
                "recipients": tuple(str(one.recipient.address) for one in facts.recipients[:20]),
                "reply": str(reply),
                "reasons": tuple(dict.fromkeys(reasons)),
            },
        )
        observe.emit(step)


# --- deciding ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decision:
    """What the verdicts come to, by index of the recipients. `refusal`: nobody gets the message, and the peer hears
    this.
    """

    refusal: Reply | None = None
    taken: tuple[int, ...] = ()
    junked: frozenset[int] = frozenset()
    deferred: tuple[int, ...] = ()


def decide(verdicts: Sequence[Verdict], *, each: bool) -> Decision:
    """SMTP has one reply behind the dot: it refuses or defers only where that holds for all.

    Otherwise whoever refuses finds the message in Junk, and a deferral becomes a row of the queue. LMTP (`each`)
    answers every recipient for himself.
    """
    actions = [verdict.action for verdict in verdicts]
    if all(action >= Action.DEFER for action in actions):
        # The weaker of both: what is refused will be refused again, what is deferred may be taken then.
        weakest = min(verdicts, key=lambda verdict: verdict.action)
        return Decision(_said(weakest))
    taken, junked, deferred = [], set(), []
    for index, action in enumerate(actions):
        if action is Action.ACCEPT or action is Action.JUNK or (action is Action.REFUSE and not each):
            taken.append(index)
            if action is not Action.ACCEPT:
                junked.add(index)
        elif action is Action.DEFER and not each:
            deferred.append(index)
    return Decision(None, tuple(taken), frozenset(junked), tuple(deferred))


def _said(verdict: Verdict) -> Reply:
    return verdict.reply or Reply(554, "5.7.1", "This message is not taken")


# --- the transaction --------------------------------------------------------------------------------------------------


class Nobody(Exception):
    """Nobody can take the message any more: nothing is written, the peer hears `reply`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Plan:
    """What the accepting transaction is to do. `taken` recipients are resolved, `later` ones are queued as they are."""

    journey: int
    envelope: Envelope
    account: int | None
    rules: addresses.Rules
    taken: Sequence[RecipientFacts]
    later: Sequence[RecipientFacts]
    junked: set[Address]
    resolution: Resolution
    rendered: Rendered
    staged: Staged
    now: int
    expires_at: int
    secret: bytes
    steps: tuple[Step, ...]


@dataclass(slots=True)
class Accepted:
    """What became of it: the steps, and for LMTP the answers that differ from a plain yes."""

    steps: list[Step] = field(default_factory=list)
    answers: dict[Address, Reply] = field(default_factory=dict)


def accept(tx: Tx, plan: Plan) -> Accepted:
    """The one transaction: file, queue, record. Raises Nobody where there is nobody left to take the message."""
    resolution = addresses.current(tx, plan.resolution, [one.recipient.address for one in plan.taken], plan.rules)
    queued = _to_queue(tx, plan, resolution)
    copies = _copies(plan, resolution)
    # Octets that both are filed and queued are one blob.
    content: Staged | int = blobs.insert(tx, plan.staged) if queued else plan.staged
    fates = _file(tx, plan, content, copies, bool(queued))
    steps = [*plan.steps, *_broken_steps(plan, resolution), *_filed_steps(plan, copies, fates)]
    if queued:
        assert isinstance(content, int), "what is queued has been inserted"
        queue.accept(tx, _queued_mail(plan, content), queued)
        steps.append(_queued_step(plan, queued))
    _record(tx, plan, steps)
    full = {address: _FULL for address, fate in fates.items() if isinstance(fate, OverQuota)}
    gone = {address: _CHANGED for address, fate in fates.items() if isinstance(fate, NoSuchAccount)}
    return Accepted(steps, full | gone)


def _filed_steps(plan: Plan, copies: Sequence[tuple[Address, Copy]], fates: dict[Address, Fate]) -> Iterator[Step]:
    for original, copy in copies:
        fate = fates[original]
        if isinstance(fate, Filed):
            yield filed_step(plan.journey, plan.now, original, copy.role, fate)


def _broken_steps(plan: Plan, resolution: Resolution) -> Iterator[Step]:
    """Members of an alias that lead nowhere: others of it get the message, and somebody should mend it."""
    for original, member, standing in resolution.broken:
        facts = {"alias": str(original), "member": member, "why": standing.value}
        yield Step("alias.broken", plan.now, plan.journey, facts, observe.WARNING)


def _copies(plan: Plan, resolution: Resolution) -> list[tuple[Address, Copy]]:
    """Who gets a copy in this transaction, and by which address; crowds are left to the courier: the writer is one."""
    if len(resolution.local) > limits.LOCAL_RECIPIENTS:
        return []
    sender = plan.envelope.sender
    return [
        (
            one.original,
            Copy(one.account, prologue(sender, one.original), JUNK if one.original in plan.junked else INBOX),
        )
        for one in resolution.local
    ]


def _file(
    tx: Tx, plan: Plan, content: Staged | int, copies: Sequence[tuple[Address, Copy]], others: bool
) -> dict[Address, Fate]:
    """File the copies; by the address that led to them, what came of each.

    Where somebody gets the message, a full mailbox overshoots by this one; else nobody does, and Nobody is raised.
    """

    def file(some: Sequence[Copy], *, overshoot: bool) -> dict[int, Fate]:
        return file_local(
            tx,
            content,
            plan.rendered,
            some,
            received_at=plan.now,
            thread_secret=plan.secret,
            overshoot=overshoot,
        )

    fates = file([copy for _, copy in copies], overshoot=others)
    full = [copy for _, copy in copies if isinstance(fates[copy.account], OverQuota)]
    if not others and not any(isinstance(fate, Filed) for fate in fates.values()):
        raise Nobody(_FULL if full else _CHANGED)
    if full:
        fates |= file(full, overshoot=True)
    return {original: fates[copy.account] for original, copy in copies}


def _to_queue(tx: Tx, plan: Plan, resolution: Resolution) -> list[NewRecipient]:
    """Recipients elsewhere; crowds, a row an account; those that wait; those whose address led to nobody meanwhile."""
    wishes = {one.recipient.address: one.recipient for one in (*plan.taken, *plan.later)}

    def row(address: Address, original: Address, destination: str | None, due_at: int | None = None) -> NewRecipient:
        wish = wishes[original]
        return NewRecipient(address, destination, str(original), wish.notify, wish.orcpt, due_at=due_at)

    queued = [row(one.address, one.original, None) for one in resolution.remote]
    if len(resolution.local) > limits.LOCAL_RECIPIENTS:
        names = {one.account: parse(accounts.find(tx, one.account).name) for one in resolution.local}
        queued += [row(names[one.account], one.original, LOCAL) for one in resolution.local]
    if resolution.local or resolution.remote:
        queued += [row(address, address, LOCAL) for address, _ in resolution.failed]
    due_at = plan.now + int(_DEFERRED_SECONDS * 1000)
    return queued + [row(one.recipient.address, one.recipient.address, LOCAL, due_at) for one in plan.later]


def _queued_mail(plan: Plan, blob: int) -> QueuedMail:
    envelope = plan.envelope
    return QueuedMail(
        journey=plan.journey,
        blob=blob,
        size=plan.staged.size,
        sender=envelope.sender,
        queued_at=plan.now,
        expires_at=plan.expires_at,
        account=plan.account,
        body=envelope.body,
        smtputf8=envelope.smtputf8,
        envid=envelope.envid,
        ret=envelope.ret,
    )


def _queued_step(plan: Plan, queued: Sequence[NewRecipient]) -> Step:
    told = tuple(str(one.address) for one in queued[:20])
    return Step("mail.queued", plan.now, plan.journey, {"recipients": told, "count": len(queued)})


def _record(tx: Tx, plan: Plan, steps: Sequence[Step]) -> None:
    """The journey, in the commit that it tells of."""
    rendered = plan.rendered
    journey.open(
        tx,
        plan.journey,
        message_id=rendered.message_id,
        sender=str(plan.envelope.sender) if plan.envelope.sender else None,
        recipients=[str(one.recipient.address) for one in (*plan.taken, *plan.later)],
        subject=rendered.subject,
        secret=plan.secret,
    )
    journey.record(tx, plan.journey, steps)
