"""What is answered behind the final dot, and at MAIL before there is a message: Reception takes messages or does not.

Promises: `250` is given after the commit that files each local recipient's email, queues each other recipient and
records the journey, and never before; where that commit fails, nothing of the message stands and the peer hears 4xx.
Everything is decided before the transaction: judging, resolving, rendering. That has a time limit, and a message whose
peer has gone meanwhile is not committed.
Refuses: to bounce. What is judged here is answered to the peer who is still there, or filed in Junk.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from posthouse import limits, observe
from posthouse.clock import Clock
from posthouse.directory.addresses import Resolution
from posthouse.directory.cache import Directory
from posthouse.mailbox.summary import Gist, Rendered, gist, render
from posthouse.message.feedback import Feedback
from posthouse.message.report import Report
from posthouse.observe import Step
from posthouse.policy.check import Facts, RecipientFacts, Verdict
from posthouse.policy.pipeline import Pipeline
from posthouse.queue import feedback
from posthouse.queue.feedback import Heard
from posthouse.reception.acceptance import Accepted, Later, Nobody, Plan, accept
from posthouse.reception.binary import GROWTH, as_text
from posthouse.reception.decision import Decision, decide
from posthouse.reception.intake import NO_ROOM, HeaderEdit, Intake, owner_of, too_long
from posthouse.reception.patience import within
from posthouse.reception.refusals import Refusals, Trail, recipients_of
from posthouse.store.blobs import Blobs, Buffer, Reserve, SpoolFull
from posthouse.store.database import Store, StoreUnavailable
from posthouse.terms.address import Address
from posthouse.terms.envelope import Envelope
from posthouse.terms.reply import Refusal, Reply

# Rendering more than this takes longer than the loop should stand still.
_IN_THREAD: Final = 128 * limits.KB
# Until a recipient who was deferred after the dot is tried: as a peer would come back after greylisting.
_DEFERRED_MS: Final = 300_000
# In public what the peer needs.
STORE_DOWN: Final = Reply(451, "4.3.0", "The mail store cannot be reached; try again later")
_TOO_SLOW: Final = Reply(451, "4.3.0", "The message could not be judged in time; try again later")
_GONE: Final = Reply(451, "4.4.2", "You hung up before the answer")


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
        store: Store,
        blobs: Blobs,
        directory: Directory,
        pipeline: Pipeline,
        refusals: Refusals,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._directory = directory
        self._pipeline = pipeline
        self._refusals = refusals
        self._settings = settings
        self._clock = clock

    def check_size(self, size: int, owner: str | None = None) -> None:
        """At MAIL: may a message have this size (0: not known), and is there room just now, also in the share of its
        owner (intake.owner_of)? Raises Refusal.
        """
        if size > self._settings.message_size:
            raise Refusal(552, "5.3.4", too_long(self._settings.message_size))  # RFC 1870 §6.1
        if not self._blobs.has_room(size, owner):
            raise Refusal(NO_ROOM.code, NO_ROOM.enhanced, NO_ROOM.text)

    def check_conversion(self, size: int, owner: str | None = None) -> None:
        """At MAIL: is there room for a binary message of this size (0: not known) as text, too? Raises Refusal."""
        if not self._blobs.has_room(size + int(size * GROWTH), owner):
            text = "No room to make text of a binary message; send it as 8BITMIME, or later"
            raise Refusal(455, "4.3.1", text)  # RFC 5321 §4.2.2: a parameter that cannot be had now

    def reserve(self, facts: Facts) -> Reserve:
        """For recipients beyond RECIPIENTS_FREE of a session's message: paid from the same budget as the message."""
        return self._blobs.reserve(owner_of(facts))

    def begin(
        self, facts: Facts, envelope: Envelope, trail: Trail, protocol: str, edit: HeaderEdit | None = None
    ) -> Intake:
        """Take a message for this envelope. `protocol` is what the Received field says it came by (RFC 3848).

        Raises Refusal: 452 where unfinished mail fills what it may.
        """
        try:
            return Intake(
                self._blobs,
                facts,
                envelope,
                trail,
                hostname=self._settings.hostname,
                protocol=protocol,
                edit=edit,
                at=self._clock.now(),
                most=self._settings.message_size,
            )
        except SpoolFull as error:
            raise Refusal(NO_ROOM.code, NO_ROOM.enhanced, NO_ROOM.text) from error

    async def finish(self, intake: Intake, still_there: Callable[[], bool], *, each: bool = False) -> list[Reply]:
        """The message is complete: judge it and take responsibility, or not.

        Returns one reply; with `each` (LMTP) one for each recipient, in their order. `still_there` tells whether the
        peer waits for the answer: whoever has gone will send again, so nothing is committed for him (RFC 1047).
        """
        intake.end()
        if intake.refusal is not None:
            return self._refuse(intake, intake.refusal, each=each)
        try:
            # 60 s in all, then 451: RFC 5321 §4.5.3.2.6 lets the peer wait for ten minutes.
            decided = await within(self._settings.judgement_timeout, self._decide(intake, each=each))
        except Refusal as refusal:
            return self._refuse(intake, refusal.reply, each=each)
        except TimeoutError:
            return self._refuse(intake, _TOO_SLOW, each=each)
        except StoreUnavailable as error:
            return self._unavailable(intake, error, each=each)
        if isinstance(decided, list):
            return decided
        plan, decision = decided
        if not still_there():
            await self._blobs.abandon(plan.staged)
            return self._refuse(intake, _GONE, each=each)
        return await self._commit(intake, plan, decision)

    async def _decide(self, intake: Intake, *, each: bool) -> tuple[Plan, Decision] | list[Reply]:
        """What is to be done; or the replies, where nobody gets the message."""
        facts, header = intake.facts, intake.header
        assert header is not None, "the header ends with the message at the latest"
        facts.header = header
        facts.received = header.count(b"received")
        facts.size = intake.size
        verdicts = await self._pipeline.data(facts)
        decision = decide(verdicts, each=each)
        if decision.nobody:
            return self._refuse_all(intake, verdicts, decision, each=each)
        if intake.envelope.wishes.body == "BINARYMIME":
            await as_text(self._blobs, intake)
        return await self._plan(intake, verdicts, decision, each=each), decision

    async def _plan(self, intake: Intake, verdicts: Sequence[Verdict], decision: Decision, *, each: bool) -> Plan:
        """Everything the transaction needs, worked out before it."""
        facts, trail = intake.facts, intake.trail
        for index, reply in enumerate(decision.refused):
            if reply is not None:
                self._refusals.refuse(
                    trail, facts, reply, verdicts[index].reasons, facts.recipients[index].recipient.address
                )
        now = self._clock.now()
        taken, later = _now_and_later(intake, decision, now)
        resolution = await self._directory.resolve([one.recipient.address for one in taken])
        octets = intake.spool.buffer()
        rendered = await _render(octets) if _filed_now(facts, resolution) else None
        known = gist(octets) if rendered is None else Gist(rendered.size, rendered.message_id, rendered.subject)
        report = _report(intake, octets)
        heard = () if report is None else await self._heard(report, resolution)
        # Nothing is waited for once it is staged: what fails there would leave a file behind.
        return Plan(
            id=trail.id,
            envelope=intake.envelope,
            account=facts.account.id if facts.account else None,
            rules=self._directory.rules,
            taken=taken,
            later=later,
            junked=frozenset(facts.recipients[index].recipient.address for index in decision.junked),
            unwanted=frozenset(facts.recipients[index].recipient.address for index in decision.unwanted),
            refused=trail.recipients,
            resolution=resolution,
            rendered=rendered,
            gist=known,
            staged=await self._blobs.stage(intake.spool),
            now=now,
            expires_at=_expires_at(intake, self._settings.expire),
            secret=self._settings.secret,
            before=tuple(trail.steps),
            copy_to_sent=facts.account is not None and facts.account.copy_to_sent,
            received=_received_step(intake, known, verdicts),
            each=each,
            heard=heard,
        )

    async def _heard(self, report: Report | Feedback, resolution: Resolution) -> Sequence[Heard]:
        """What it tells those who get it now of mail that they have sent."""
        if not 0 < len(resolution.local) <= limits.LOCAL_RECIPIENTS:
            return ()
        accounts = [one.account for one in resolution.local]
        return await self._store.read(feedback.look, accounts, report, self._settings.secret)

    async def _commit(self, intake: Intake, plan: Plan, decision: Decision) -> list[Reply]:
        try:
            # The instant of responsibility. Until this returns the message is the peer's; from then on it is ours.
            accepted = await self._store.write(accept, plan)
        except Nobody as nobody:
            await self._blobs.abandon(plan.staged)
            told = self._refuse(intake, nobody.reply, each=False)
            return _each(intake, decision, nobody, nobody.reply) if plan.each else told
        except StoreUnavailable as error:
            await self._blobs.abandon(plan.staged)
            return self._unavailable(intake, error, each=plan.each)
        intake.trail.steps = []
        for step in accepted.steps:
            observe.emit(step)
        reply = Reply(250, "2.0.0", f"Taken as {observe.code(plan.id)}")
        return _each(intake, decision, accepted, reply) if plan.each else [reply]

    # --- saying no

    def _refuse(self, intake: Intake, reply: Reply, reasons: Sequence[str] = (), *, each: bool) -> list[Reply]:
        self._refusals.refuse(intake.trail, intake.facts, reply, reasons)
        return [reply] * (len(intake.facts.recipients) if each else 1)

    def _refuse_all(
        self, intake: Intake, verdicts: Sequence[Verdict], decision: Decision, *, each: bool
    ) -> list[Reply]:
        replies = [reply for reply in decision.refused if reply is not None]
        reasons = [reason for verdict in verdicts for reason in verdict.reasons]
        told = self._refuse(intake, replies[0], reasons, each=False)
        return replies if each else told

    def _unavailable(self, intake: Intake, error: StoreUnavailable, *, each: bool) -> list[Reply]:
        observe.tell("mail.store_down", level=observe.ERROR, error=str(error))
        return self._refuse(intake, STORE_DOWN, each=each)


def _expires_at(intake: Intake, seconds: float) -> int:
    """When the queue gives up: that long after the message may leave, or when it should have arrived (RFC 2852 §4)."""
    wishes = intake.envelope.wishes
    expires_at = max(intake.at, wishes.hold_until or 0) + int(seconds * 1000)
    by = wishes.deliver_by
    return min(expires_at, by.at) if by is not None and by.returned else expires_at


def _now_and_later(intake: Intake, decision: Decision, now: int) -> tuple[list[RecipientFacts], list[Later]]:
    """Who gets the message in the accepting transaction, or is relayed to; and whom the courier delivers to.

    That is whoever was deferred; all whose mail is held back (RFC 4865); and, where somebody wants to be told that it
    was delivered (RFC 3461), all who have a mailbox here, so that an account that two of them lead to gets one email.
    """
    wishes, recipients = intake.envelope.wishes, intake.facts.recipients
    # Who is reached by two gets it by the one that wants it, for the first one counts (addresses.merge).
    order = sorted(decision.taken, key=decision.junked.__contains__) if decision.junked else decision.taken
    taken = [recipients[index] for index in order]
    deferred: list[Later] = []
    if decision.deferred:
        put_off = _once([recipients[index] for index in decision.deferred])
        deferred = [Later(one.recipient, now + _DEFERRED_MS) for one in put_off]
    if wishes.hold_until is None and not any("SUCCESS" in (one.recipient.notify or ()) for one in taken):
        return taken, deferred
    junked = {recipients[index].recipient.address for index in decision.junked}
    local = [one for one in taken if one.expansion.local]
    later = _by_courier(local, junked, wishes.hold_until or now)
    return [one for one in taken if not one.expansion.local], later + deferred


def _by_courier(local: Sequence[RecipientFacts], junked: Collection[Address], due_at: int) -> list[Later]:
    """What the courier delivers to those with a mailbox here. Junk and the rest go apart: who gets the message by an
    address that wants it need not have it in Junk, too.
    """
    wanted = _once([one for one in local if one.recipient.address not in junked])
    reached = {found.account for one in wanted for found in one.expansion.local}
    later = [Later(one.recipient, due_at) for one in wanted]
    for one in _once([one for one in local if one.recipient.address in junked]):
        found = one.expansion
        left = tuple([member.account for member in found.local if member.account not in reached])
        if len(left) == len(found.local):
            later.append(Later(one.recipient, due_at, True))
        elif left or found.lists:
            later.append(Later(one.recipient, due_at, True, left, found.lists))
    return later


def _once(some: Sequence[RecipientFacts]) -> Sequence[RecipientFacts]:
    """Each address once, however often it was said. Of more than the courier takes in one go also each account once: it
    gets one email and, of those who want to hear of success, the first one hears.
    """
    chosen: dict[str | int, RecipientFacts] = {}
    crowd = len(some) > limits.LOCAL_RECIPIENTS
    for one in some:
        found = one.expansion
        alone = crowd and len(found.local) == 1 and not found.remote and not found.lists
        chosen.setdefault(found.local[0].account if alone else one.recipient.address.key, one)
    return list(chosen.values())


def _each(intake: Intake, decision: Decision, found: Accepted | Nobody, otherwise: Reply) -> list[Reply]:
    """RFC 2033 §4.2: one answer for each recipient, in their order."""
    return [
        refused or found.answers.get(one.recipient.address, otherwise)
        for refused, one in zip(decision.refused, intake.facts.recipients, strict=True)
    ]


def _filed_now(facts: Facts, resolution: Resolution) -> bool:
    """The accepting transaction files it; mail that is only passed on need not be taken apart."""
    local = len(resolution.local)
    return 0 < local <= limits.LOCAL_RECIPIENTS or (facts.account is not None and facts.account.copy_to_sent)


def _report(intake: Intake, octets: Buffer) -> Report | Feedback | None:
    """What the message tells of one that an account here sent."""
    if intake.header is None:
        return None
    return feedback.read(intake.header, octets, null_sender=intake.envelope.sender is None)


async def _render(octets: Buffer) -> Rendered:
    return render(octets) if len(octets) <= _IN_THREAD else await asyncio.to_thread(render, octets)


def _received_step(intake: Intake, known: Gist, verdicts: Sequence[Verdict]) -> Step:
    facts = intake.facts
    return Step(
        "mail.received",
        intake.at,
        intake.trail.id,
        {
            "door": facts.door,
            "peer": facts.peer,
            "helo": facts.helo or "",
            "tls": facts.tls or "",
            "login": facts.account.name if facts.account else "",
            "sender": str(facts.sender or ""),
            "recipients": recipients_of(facts),
            "size": known.size,
            "message_id": known.message_id or "",
            "reasons": tuple({reason: None for verdict in verdicts for reason in verdict.reasons}),
        },
    )
