"""The one transaction behind the final dot: file each local recipient's email, queue every other, record the journey.

Promises: all of it stands when the transaction has committed, and nothing where it has not. What may have changed since
it was decided is checked again: who the addresses lead to, whether the accounts are there, whether they have room.
Refuses: to work anything out that needs more than rows; the plan holds what was decided before.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from posthouse import journey, limits, observe
from posthouse.delivery.courier import filed_step
from posthouse.delivery.filing import INBOX, JUNK, SENT, Copy, Fate, file_local, prologue
from posthouse.delivery.forward import AS_IT_IS, Forwarding, forwarding, keep_sender
from posthouse.directory import accounts, addresses, lists
from posthouse.directory.addresses import Expansion, ListReached, RemoteRecipient, Resolution, Rules
from posthouse.directory.model import NoSuchAccount, NoSuchList
from posthouse.mailbox.append import Filed
from posthouse.mailbox.model import OverQuota
from posthouse.mailbox.summary import Gist, Rendered
from posthouse.observe import Step
from posthouse.policy.check import RecipientFacts
from posthouse.queue import feedback, queue
from posthouse.queue.feedback import Heard
from posthouse.queue.queue import HELD, LIST, NewRecipient, QueuedMail
from posthouse.queue.schedule import LOCAL
from posthouse.reception.refusals import MOST_TOLD
from posthouse.store import blobs
from posthouse.store.blobs import Staged
from posthouse.store.database import Tx
from posthouse.terms.address import Address, parse
from posthouse.terms.envelope import Envelope, Recipient
from posthouse.terms.keywords import SEEN
from posthouse.terms.reply import Reply

FULL: Final = Reply(452, "4.2.2", "The mailbox is full; try again later")
CHANGED: Final = Reply(451, "4.3.0", "The address has changed meanwhile; try again")


class Nobody(Exception):
    """Nobody can take the message any more: nothing is written. `reply` holds for all; `answers` as in Accepted."""

    def __init__(self, reply: Reply, answers: dict[Address, Reply]) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.answers = answers


@dataclass(frozen=True, slots=True)
class Later:
    """A recipient that the delivery courier looks after, from `due_at` on; `junk`: in Junk. With `accounts` or `lists`
    only those of the members of its alias: the others get the message otherwise.
    """

    recipient: Recipient
    due_at: int
    junk: bool = False
    accounts: tuple[int, ...] = ()
    lists: tuple[ListReached, ...] = ()

    def rows(self, tx: Tx) -> Iterator[NewRecipient]:
        """What is queued."""
        wish = self.recipient
        destination = LOCAL + (JUNK if self.junk else "")
        notify = _notify(wish, junk=self.junk)
        for address in self._members(tx) if self.accounts or self.lists else (wish.address,):
            yield NewRecipient(address, destination, None, notify, wish.orcpt, due_at=self.due_at)

    def _members(self, tx: Tx) -> Iterator[Address]:
        """Those that are still there."""
        for account in self.accounts:
            with suppress(NoSuchAccount):
                yield parse(accounts.find(tx, account).name)
        for reached in self.lists:
            with suppress(NoSuchList):
                yield lists.address_of(tx, reached)


def _notify(wish: Recipient, *, junk: bool) -> frozenset[str] | None:
    """What its sender hears. Nothing of junk that arrived: he who is named may be a victim."""
    if not junk or wish.notify is None:
        return wish.notify
    return wish.notify - {"SUCCESS"} or frozenset({"NEVER"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What the transaction is to do. `taken` recipients get the message now, `later` ones are queued as they are.

    `refused` are addresses that were told no, to find the journey by; `before` are its steps so far, `received` the
    one that tells of the message. `each`: every recipient is answered for himself (LMTP).
    `heard`: what the message tells of one that an account here sent. `rendered` None: nobody here was to get it.
    """

    id: int
    envelope: Envelope
    account: int | None
    rules: Rules
    taken: Sequence[RecipientFacts]
    later: Sequence[Later]
    junked: frozenset[Address]
    unwanted: frozenset[Address]
    refused: Sequence[str]
    resolution: Resolution
    rendered: Rendered | None
    gist: Gist
    staged: Staged
    now: int
    expires_at: int
    secret: bytes
    before: Sequence[Step]
    received: Step
    each: bool = False
    copy_to_sent: bool = False
    heard: Sequence[Heard] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of it: the steps, and with `each` the answers of those who did not get the message."""

    steps: Sequence[Step]
    answers: dict[Address, Reply] = field(default_factory=dict)


def accept(tx: Tx, plan: Plan) -> Accepted:
    """Do it all. Raises Nobody."""
    resolution = addresses.current(tx, plan.resolution, [one.recipient.address for one in plan.taken], plan.rules)
    if plan.copy_to_sent:
        _lock_all(tx, plan, resolution)
    if plan.rendered is None and resolution.local and not _is_crowd(resolution):
        # An address leads here only since it was looked up.
        raise Nobody(CHANGED, {})
    queued = _to_queue(tx, plan, resolution)
    copies = [] if _is_crowd(resolution) else _copies(plan, resolution)
    # Octets that are both filed and queued, or perhaps filed in two goes, are one blob.
    shared = queued or len(copies) > 1 or plan.copy_to_sent
    content = blobs.insert(tx, plan.staged) if shared else plan.staged
    fates, answers = _file(tx, plan, content, copies, resolution, queued)
    steps = [
        plan.received,
        *_broken_steps(plan, resolution),
        *_filed_steps(plan, copies, fates),
        *_refused_steps(plan, answers),
        *_unforwarded_steps(plan, resolution),
    ]
    if plan.heard:
        for account in [account for account, fate in fates.items() if isinstance(fate, Filed)]:
            steps += feedback.take_in(tx, plan.heard, account, plan.now)
    if plan.copy_to_sent:
        steps += _file_in_sent(tx, plan, content)
    if queued:
        assert isinstance(content, int), "what is queued has been inserted"
        queue.accept(tx, _queued_mail(plan, content), queued)
        steps.append(_queued_step(plan, queued))
    _record(tx, plan, [*plan.before, *steps])
    return Accepted(steps, answers)


# --- who gets it how --------------------------------------------------------------------------------------------------


def _is_crowd(resolution: Resolution) -> bool:
    """Too many to be filed here, for the writer is one: the delivery courier does it, in batches."""
    return len(resolution.local) > limits.LOCAL_RECIPIENTS


def _copies(plan: Plan, resolution: Resolution) -> list[tuple[Address, Copy]]:
    """Who gets a copy in this transaction, and by which address."""
    sender = plan.envelope.sender
    return [
        (one.original, Copy(one.account, prologue(sender, one.original), _role(plan, one.original)))
        for one in resolution.local
    ]


def _role(plan: Plan, original: Address) -> str:
    return JUNK if original in plan.junked else INBOX


def _to_queue(tx: Tx, plan: Plan, resolution: Resolution) -> list[NewRecipient]:
    """Recipients elsewhere; crowds, a row an account; those that wait; those whose address led to nobody meanwhile."""
    if not (resolution.remote or resolution.lists or resolution.failed or plan.later or _is_crowd(resolution)):
        return []
    wishes = {one.recipient.address: one.recipient for one in plan.taken}
    hold_until = plan.envelope.wishes.hold_until

    def row(address: Address, original: Address, destination: str | None, way: Forwarding = AS_IT_IS) -> NewRecipient:
        wish = wishes[original]
        notify = _notify(wish, junk=original in plan.junked)
        return NewRecipient(
            address, destination, str(original), notify, wish.orcpt, way.prologue, hold_until, way.return_path
        )

    def way(one: RemoteRecipient) -> Forwarding:
        return forwarding(tx, plan.rules, plan.envelope.sender, one.original, one.address)

    queued = [row(one.address, one.original, None, way(one)) for one in _forwarded(plan, resolution)]
    keep_sender(tx, plan.rules, plan.envelope.sender, [one.return_path for one in queued], plan.now)
    for reached, original in resolution.lists:
        destination = f"{LIST}{reached.id}{HELD if original in plan.junked else ''}"
        queued.append(row(lists.address_of(tx, reached), original, destination))
    if _is_crowd(resolution):
        for one in resolution.local:
            name = parse(accounts.find(tx, one.account).name)
            queued.append(row(name, one.original, _lane(plan, one.original)))
    if not plan.each and (resolution.local or resolution.remote or resolution.lists or plan.later):
        # SMTP cannot say no for one of several: the courier looks again, and the queue tells the sender.
        queued += [row(address, address, _lane(plan, address)) for address, _ in resolution.failed]
    return queued + [row for one in plan.later for row in one.rows(tx)]


def _lane(plan: Plan, original: Address) -> str:
    return LOCAL + (JUNK if original in plan.junked else "")


# --- filing -----------------------------------------------------------------------------------------------------------


def _file(
    tx: Tx,
    plan: Plan,
    content: Staged | int,
    copies: Sequence[tuple[Address, Copy]],
    resolution: Resolution,
    queued: Sequence[NewRecipient],
) -> tuple[dict[int, Fate], dict[Address, Reply]]:
    """File the copies: by account, what came of each; and, with `plan.each`, who is to be told no.

    Whoever could have been told that his mailbox is full is not over quota. Where that can no longer be said, because
    somebody else gets the message by the same reply, it overshoots by this one. Raises Nobody.
    """

    def file(some: Sequence[Copy], *, overshoot: bool) -> dict[int, Fate]:
        if plan.rendered is None:
            return {}
        return file_local(
            tx,
            content,
            plan.rendered,
            some,
            received_at=plan.now,
            thread_secret=plan.secret,
            overshoot=overshoot,
        )

    fates = file([copy for _, copy in copies], overshoot=bool(queued) and not plan.each)
    full = {account for account, fate in fates.items() if isinstance(fate, OverQuota)}
    reached = _expansions(tx, plan, resolution) if plan.each else {}
    gone = {address: CHANGED for address, _ in resolution.failed} if plan.each else {}
    answers = gone | _answers(reached, fates)
    if not queued and not any(isinstance(fate, Filed) for fate in fates.values()):
        raise Nobody(FULL if full else CHANGED, answers)
    if plan.each:
        # A member of an alias whose other members got the message.
        full &= {one.account for name, found in reached.items() if name not in answers for one in found.local}
    if full:
        fates |= file([copy for _, copy in copies if copy.account in full], overshoot=True)
        answers = gone | _answers(reached, fates)
    return fates, answers


def _lock_all(tx: Tx, plan: Plan, resolution: Resolution) -> None:
    """Everybody whose mailboxes are written, the sender too, in the one order: the copies are filed in two goes."""
    assert plan.account is not None, "a copy is an account's"
    filed = () if _is_crowd(resolution) else (one.account for one in resolution.local)
    for account in sorted({plan.account, *filed}):
        tx.one("account_lock", account=account)


def _file_in_sent(tx: Tx, plan: Plan, content: Staged | int) -> Iterator[Step]:
    """The sender's own copy. He has written it already, so no quota keeps him from it."""
    assert plan.account is not None, "a copy is an account's"
    assert plan.rendered is not None, "it was rendered for this"
    fates = file_local(
        tx,
        content,
        plan.rendered,
        [Copy(plan.account, b"", SENT, SEEN)],
        received_at=plan.now,
        thread_secret=plan.secret,
        overshoot=True,
    )
    fate = fates[plan.account]
    if isinstance(fate, Filed):
        own = parse(accounts.find(tx, plan.account).name)
        yield filed_step(plan.id, plan.now, own, SENT, fate)


def _expansions(tx: Tx, plan: Plan, resolution: Resolution) -> dict[Address, Expansion]:
    """What each recipient leads to; nothing for a crowd, whose members are queued."""
    if _is_crowd(resolution):
        return {}
    return {
        # What was found at RCPT holds while the directory stands as it did then.
        one.recipient.address: one.expansion
        if one.expansion.version == resolution.version
        else addresses.expand(tx, one.recipient.address, plan.rules)
        for one in plan.taken
    }


def _answers(reached: dict[Address, Expansion], fates: dict[int, Fate]) -> dict[Address, Reply]:
    """By recipient, why nobody that he leads to got the message."""
    found = {address: _answer(expansion, fates) for address, expansion in reached.items()}
    return {address: answer for address, answer in found.items() if answer is not None}


def _answer(expansion: Expansion, fates: dict[int, Fate]) -> Reply | None:
    """None where somebody is reached."""
    reached = [fates.get(one.account) for one in expansion.local]
    if expansion.remote or expansion.lists or any(isinstance(fate, Filed) for fate in reached):
        return None
    return FULL if any(isinstance(fate, OverQuota) for fate in reached) else CHANGED


# --- the rows of queue and journey ------------------------------------------------------------------------------------


def _queued_mail(plan: Plan, blob: int) -> QueuedMail:
    envelope = plan.envelope
    return QueuedMail(
        journey=plan.id,
        blob=blob,
        size=plan.staged.size,
        sender=envelope.sender,
        queued_at=plan.now,
        expires_at=plan.expires_at,
        account=plan.account,
        wishes=envelope.wishes,
    )


def _filed_steps(plan: Plan, copies: Sequence[tuple[Address, Copy]], fates: dict[int, Fate]) -> Iterator[Step]:
    for original, copy in copies:
        fate = fates[copy.account]
        if isinstance(fate, Filed):
            yield filed_step(plan.id, plan.now, original, copy.role, fate)


def _broken_steps(plan: Plan, resolution: Resolution) -> Iterator[Step]:
    """Members of an alias that lead nowhere: others of it get the message, and somebody should mend it."""
    for original, member, standing in resolution.broken:
        facts = {"alias": str(original), "member": member, "why": standing.value}
        yield Step("alias.broken", plan.now, plan.id, facts, observe.WARNING)


def _refused_steps(plan: Plan, answers: dict[Address, Reply]) -> Iterator[Step]:
    for address, reply in answers.items():
        yield Step("mail.refused", plan.now, plan.id, {"recipients": (str(address),), "reply": str(reply)})


def _forwarded(plan: Plan, resolution: Resolution) -> list[RemoteRecipient]:
    """Those elsewhere who get it. Junk is not sent on where a mailbox here has it; what an address refuses never is."""
    if not plan.junked:
        return list(resolution.remote)
    at_home = {one.recipient.address for one in plan.taken if one.expansion.local}
    at_home.update([one.original for one in resolution.local])
    kept = at_home & plan.junked
    return [one for one in resolution.remote if one.original not in kept and one.original not in plan.unwanted]


def _unforwarded_steps(plan: Plan, resolution: Resolution) -> Iterator[Step]:
    """For the same reply somebody else got the message, so the peer was not told."""
    forwarded = _forwarded(plan, resolution)
    for one in resolution.remote:
        if one not in forwarded:
            facts = {"recipient": str(one.address), "original": str(one.original)}
            yield Step("mail.not_forwarded", plan.now, plan.id, facts)


def _queued_step(plan: Plan, queued: Sequence[NewRecipient]) -> Step:
    told = tuple(str(one.address) for one in queued[:MOST_TOLD])
    return Step("mail.queued", plan.now, plan.id, {"recipients": told, "count": len(queued)})


def _record(tx: Tx, plan: Plan, steps: Sequence[Step]) -> None:
    """The journey, in the commit that it tells of."""
    journey.open(
        tx,
        plan.id,
        message_id=plan.gist.message_id,
        sender=str(plan.envelope.sender) if plan.envelope.sender else None,
        recipients=[
            *(str(one.recipient.address) for one in plan.taken),
            *(str(one.recipient.address) for one in plan.later),
            *plan.refused,
        ],
        subject=plan.gist.subject,
        secret=plan.secret,
        steps=steps,
        account=plan.account,
        envid=plan.envelope.wishes.envid,
    )
