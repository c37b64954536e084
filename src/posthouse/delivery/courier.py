"""The courier that delivers at home what could not be filed when it was accepted: deferrals, large aliases, bounces.

Promises: exactly once. The recipient's row in the queue goes in the commit that files its email. Addresses are
resolved again, for the directory may have changed; an alias files what fits one transaction and queues the rest.
Refuses: to bounce (the queue does) and to talk to anybody.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from posthouse import limits
from posthouse.clock import Clock
from posthouse.delivery.filing import INBOX, JUNK, Copy, file_local, prologue
from posthouse.delivery.forward import AS_IT_IS, Forwarding, forwarding, keep_sender
from posthouse.directory import accounts, addresses, lists
from posthouse.directory.addresses import Expansion, Rules, Standing
from posthouse.directory.model import version
from posthouse.mailbox.append import Filed as Email
from posthouse.mailbox.model import OverQuota
from posthouse.mailbox.summary import Rendered, render
from posthouse.message.header import Header
from posthouse.observe import Step
from posthouse.queue import feedback, queue
from posthouse.queue.attempt import BeforeDot
from posthouse.queue.feedback import Heard
from posthouse.queue.outcome import Fate, Filed, Outcome, Report
from posthouse.queue.queue import Job, NewRecipient, QueuedRecipient
from posthouse.queue.schedule import LOCAL
from posthouse.store.blobs import Blobs
from posthouse.store.database import Store, Tx
from posthouse.terms.address import Address, parse
from posthouse.terms.reply import Reply

# Rendering a larger one takes longer than the loop should stand still.
_IN_THREAD: Final = 128 * limits.KB

_DELIVERED: Final = Reply(250, "2.1.5", "Delivered")
_FORWARDED: Final = Reply(250, "2.1.5", "Sent on to the address that it stands for")
_EXPANDED: Final = Reply(250, "2.1.5", "Sent on to the addresses that it stands for")
_MOVED: Final = Reply(250, "2.1.5", "Sent on: the domain is served elsewhere")
_FULL: Final = Reply(452, "4.2.2", "Mailbox is full")
_LATER: Final = Reply(451, "4.3.0", "The address changed while mail was delivered")
_REFUSALS: Final[dict[Standing, Reply]] = {
    Standing.UNKNOWN: Reply(550, "5.1.1", "No such address here"),
    Standing.DISABLED: Reply(550, "5.2.1", "This account is disabled"),
    Standing.LOOP: Reply(554, "5.4.6", "This alias leads back to itself"),
    Standing.TOO_DEEP: Reply(554, "5.4.6", "Aliases nest too deep"),
    Standing.TOO_MANY: Reply(554, "5.4.6", "This alias stands for too many addresses"),
}


Notify = frozenset[str] | None


@dataclass(slots=True)
class _Plan:
    """What the recipients of a job lead to. `filed`: account → recipients that it answers for, the first one first.

    `fan_out` recipients lead to several places: `queued` are those of them that get a row of their own. `kept`: junk
    that is not sent on (recipient, address elsewhere), for a mailbox here has it.
    """

    version: int
    refused: list[Outcome] = field(default_factory=list)
    filed: dict[int, list[QueuedRecipient]] = field(default_factory=dict)
    fan_out: dict[int, tuple[QueuedRecipient, Reply]] = field(default_factory=dict)
    queued: list[NewRecipient] = field(default_factory=list)
    kept: list[tuple[Address, Address]] = field(default_factory=list)


class DeliveryCourier:
    """Delivers the jobs of `local:` lanes. `rules` are how addresses are read; `secret` keys threads."""

    def __init__(self, store: Store, blobs: Blobs, rules: Rules, secret: bytes, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._rules = rules
        self._secret = secret
        self._clock = clock

    async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
        """Look where the recipients lead; the filing itself is left to the settling commit. Raises BlobLost."""
        plan = await self._store.read(_plan, job, self._rules)
        if not plan.filed and not plan.fan_out:
            return Report(tuple(plan.refused))
        octets = await self._blobs.load(job.blob)
        rendered = render(octets) if len(octets) <= _IN_THREAD else await asyncio.to_thread(render, octets)
        now = self._clock.now()
        news = feedback.read(Header.parse(octets), octets, null_sender=job.sender is None)
        heard = await self._store.read(feedback.look, list(plan.filed), news, self._secret) if news else ()
        return Report(tuple(plan.refused), inside=lambda tx: self._deliver(tx, job, plan, rendered, heard, now))

    def _deliver(self, tx: Tx, job: Job, plan: _Plan, rendered: Rendered, heard: Sequence[Heard], now: int) -> Filed:
        """In the settling transaction: file and queue as planned, or as planned anew where the directory changed."""
        later: list[Outcome] = []
        if version(tx) != plan.version:
            answered = {outcome.recipient for outcome in plan.refused}
            plan = _plan(tx, job, self._rules, answered)
            # A refusal wants a bounce, which is written outside transactions: the next attempt gives it.
            later = [Outcome(refused.recipient, Fate.DEFERRED, _LATER) for refused in plan.refused]
        copies = [
            Copy(account, prologue(job.sender, first.address) + job.prologue, job.domain or INBOX)
            for account, (first, *_) in plan.filed.items()
        ]
        fates = file_local(
            tx, job.mail.blob, rendered, copies, received_at=job.mail.queued_at, thread_secret=self._secret
        )
        outcomes = later + [
            Outcome(one.id, Fate.DELIVERED, reply, expanded=reply is _EXPANDED, dsn_carried=reply is not _EXPANDED)
            for one, reply in plan.fan_out.values()
        ]
        steps = [_not_forwarded(job, now, *one) for one in plan.kept]
        queued = list(plan.queued)
        for account, recipients in plan.filed.items():
            fate = fates[account]
            if isinstance(fate, Email):
                steps.append(filed_step(job.mail.journey, now, recipients[0].address, job.domain or INBOX, fate))
                feedback.take_in(tx, heard, account, now)
            elif isinstance(fate, OverQuota):
                queued += _postponed(tx, account, recipients, plan, job)
            outcomes += [_outcome(one, fate) for one in recipients if one.id not in plan.fan_out]
        if queued:
            keep_sender(tx, self._rules, job.sender, [one.return_path for one in queued], now)
            queue.add(tx, job.message, queued, now)
        return Filed(tuple(outcomes), tuple(steps))


def filed_step(journey: int, now: int, recipient: Address, role: str, email: Email) -> Step:
    """The line of the journey that tells where an email was filed."""
    return Step("delivery.filed", now, journey, {"recipient": str(recipient), "mailbox": role, "email": email.email})


def _not_forwarded(job: Job, now: int, original: Address, address: Address) -> Step:
    return Step("mail.not_forwarded", now, job.mail.journey, {"recipient": str(address), "original": str(original)})


def _outcome(recipient: QueuedRecipient, fate: object) -> Outcome:
    match fate:
        case Email():
            return Outcome(recipient.id, Fate.DELIVERED, _DELIVERED)
        case OverQuota():
            return Outcome(recipient.id, Fate.DEFERRED, _FULL)
        case _:
            return Outcome(recipient.id, Fate.DEFERRED, _LATER)


def _postponed(
    tx: Tx, account: int, recipients: Sequence[QueuedRecipient], plan: _Plan, job: Job
) -> list[NewRecipient]:
    """A member of an alias that cannot take its copy now gets a row of its own, for the alias' row goes."""
    by_alias = [one for one in recipients if one.id in plan.fan_out]
    if not by_alias or len(by_alias) < len(recipients):
        return []
    return [_member(tx, account, by_alias[0], job, _of_member(by_alias[0].notify))]


# --- planning ---------------------------------------------------------------------------------------------------------


def _plan(tx: Tx, job: Job, rules: Rules, without: set[int] | None = None) -> _Plan:
    """Where the recipients lead now. At most LOCAL_RECIPIENTS accounts are filed at once; the others become rows."""
    plan = _Plan(version(tx))
    for recipient in job.recipients:
        if without and recipient.id in without:
            continue
        expansion = addresses.expand(tx, recipient.address, rules)
        if job.domain == JUNK and expansion.local:
            plan.kept += [(recipient.address, address) for address in expansion.remote]
            expansion = replace(expansion, remote=())
        if not expansion.reaches:
            plan.refused.append(Outcome(recipient.id, Fate.FAILED, _REFUSALS[expansion.standing]))
        elif len(expansion.local) == 1 and not expansion.remote and not expansion.lists:
            plan.filed.setdefault(expansion.local[0].account, []).append(recipient)
        else:
            _plan_fan_out(tx, plan, recipient, expansion, job, rules)
    return plan


def _plan_fan_out(
    tx: Tx, plan: _Plan, recipient: QueuedRecipient, expansion: Expansion, job: Job, rules: Rules
) -> None:
    if expansion.standing is Standing.RELAY:
        reply = _MOVED
    else:
        places = len(expansion.local) + len(expansion.remote) + len(expansion.lists)
        reply = _EXPANDED if places > 1 else _FORWARDED
    plan.fan_out[recipient.id] = (recipient, reply)
    # RFC 3461 §5.2.7: of several it is told that the address was expanded, and of each only what goes wrong; one that
    # stands for another leaves it to that to tell.
    notify = _of_member(recipient.notify) if reply is _EXPANDED else recipient.notify
    for reached in expansion.local:
        if len(plan.filed) < limits.LOCAL_RECIPIENTS or reached.account in plan.filed:
            plan.filed.setdefault(reached.account, []).append(recipient)
        else:
            plan.queued.append(_member(tx, reached.account, recipient, job, notify))
    for reached_list in expansion.lists:
        address = lists.address_of(tx, reached_list)
        destination = f"{queue.LIST}{reached_list.id}{queue.HELD if job.domain == JUNK else ''}"
        plan.queued.append(_sent_on(address, recipient, job, notify, destination))
    for address in expansion.remote:
        way = forwarding(tx, rules, job.sender, recipient.address, address)
        plan.queued.append(_sent_on(address, recipient, job, notify, None, way))


def _member(tx: Tx, account: int, recipient: QueuedRecipient, job: Job, notify: Notify) -> NewRecipient:
    address = parse(accounts.find(tx, account).name)
    return _sent_on(address, recipient, job, notify, LOCAL + job.domain)


def _sent_on(
    address: Address,
    recipient: QueuedRecipient,
    job: Job,
    notify: Notify,
    destination: str | None,
    way: Forwarding = AS_IT_IS,
) -> NewRecipient:
    return NewRecipient(
        address=address,
        destination=destination,
        original=recipient.original,
        notify=notify,
        orcpt=recipient.orcpt,
        prologue=way.prologue + job.prologue,
        return_path=way.return_path or job.return_path,
    )


def _of_member(notify: Notify) -> Notify:
    return None if notify is None else (notify - {"SUCCESS"} or frozenset({"NEVER"}))
