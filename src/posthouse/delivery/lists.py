"""The courier of mailing lists: what is posted goes to the members or waits for a moderator.

Promises: a message that was posted goes to each member once: the message for the members is queued in the commit that
ends the post (fanout.py), and kept there for the digest of those who take that (digests.py). Nothing posted is lost:
what may not go out is held, and moderators hear of it. A message that came by this list before goes nowhere, whatever
lists and aliases it has been through since.
Refuses: to bounce; who may not post heard so at the door (policy/posting.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from posthouse import journey
from posthouse.clock import Clock
from posthouse.delivery import fanout, posts, requests
from posthouse.delivery.fanout import SENT_OUT, Batches, Takers
from posthouse.delivery.letters import Letters, Settings
from posthouse.delivery.posts import Post
from posthouse.directory import digests, lists, members
from posthouse.directory.addresses import ListReached, Rules, expand
from posthouse.directory.digests import Gathered
from posthouse.directory.lists import MailingList
from posthouse.directory.members import Member
from posthouse.directory.verp import Verp
from posthouse.message.header import Header
from posthouse.message.listed import Edit, for_members
from posthouse.message.marks import senders_on
from posthouse.observe import Step
from posthouse.queue import queue
from posthouse.queue.attempt import BeforeDot
from posthouse.queue.outcome import Fate, Filed, Outcome, Report
from posthouse.queue.queue import HELD, MEMBERS, Job, NewRecipient, QueuedMail, QueuedRecipient
from posthouse.store import blobs
from posthouse.store.blobs import Blobs, Staged
from posthouse.store.database import Store, Tx
from posthouse.terms.address import Address, parse_domain
from posthouse.terms.envelope import Wishes
from posthouse.terms.reply import Reply

_TAKEN: Final = Reply(250, "2.1.5", "Taken by the list")
# RFC 3463 §3.3: X.2.4, a problem with the expansion of a mailing list.
_FULL: Final = Reply(450, "4.2.4", "Too many messages wait for the moderators")
_NO_LIST: Final = Reply(550, "5.1.1", "There is no such list any more")

Deed = Callable[[Tx], tuple[Step, ...]]
"""What is done for one recipient in the settling transaction; the steps that are to be recorded of it."""


class Policies(Protocol):
    """Who knows what a domain wants done with mail that fails DMARC."""

    async def strict(self, domain: str) -> bool:
        """Members' servers would refuse or junk a message of this domain whose signature does not hold. Raises
        nothing: what cannot be known is taken for strict."""
        ...


@dataclass(frozen=True, slots=True)
class _Made:
    """A post for the members: staged, with the journey it gets. `plain`: it is ASCII."""

    octets: Staged
    journey: int
    wishes: Wishes
    plain: bool


class ListCourier:
    """Attempts the jobs of `list:` and `members:` lanes."""

    def __init__(
        self,
        store: Store,
        stored: Blobs,
        rules: Rules,
        policies: Policies,
        settings: Settings,
        *,
        clock: Clock,
        random: Random,
    ) -> None:
        self._store = store
        self._blobs = stored
        self._rules = rules
        self._policies = policies
        self._settings = settings
        self._clock = clock
        self._random = random
        self._verp = Verp(settings.secret)

    async def attempt(self, job: Job, before_dot: BeforeDot) -> Report:
        """Do what the addresses of the list that were written to are for. Raises BlobLost, StoreUnavailable."""
        if job.destination.startswith(MEMBERS):
            ready = await self._store.read(fanout.ready, job, self._verp)
            return Report(inside=lambda tx: fanout.expand(tx, job, ready, self._verp, self._clock.now()))
        # The marks of the lists and aliases that it came by stand in front.
        octets = job.prologue + bytes(await self._blobs.load(job.blob))
        reached = await self._store.read(_reached, job.recipients, self._rules)
        outcomes: list[Outcome] = []
        deeds: list[tuple[QueuedRecipient, Reply, Deed]] = []
        for recipient, found in zip(job.recipients, reached, strict=True):
            if found is None:
                outcomes.append(Outcome(recipient.id, Fate.FAILED, _NO_LIST))
            else:
                reply, deed = await self._deed(job, *found, octets)
                deeds.append((recipient, reply, deed))
        done = (lambda tx: _carry_out(tx, job, deeds)) if deeds else None
        return Report(tuple(outcomes), inside=done)

    async def _deed(
        self, job: Job, mailing_list: MailingList, reached: ListReached, octets: bytes
    ) -> tuple[Reply, Deed]:
        """What is to be done at one of the list's addresses, with everything worked out that can be."""
        now = self._clock.now()
        letters = self._settings.letters(now, self._random)
        if not reached.purpose:
            return await self._posted(job, mailing_list, octets, letters)
        if reached.purpose in ("approve", "refuse"):
            return _TAKEN, await self._verdict(job, mailing_list, reached, octets, letters)
        if reached.purpose == "owner":
            # As with posts: what came by this address before goes nowhere.
            if str(mailing_list.beside("owner")).casefold() in senders_on(Header.parse(octets)):
                return _TAKEN, lambda tx: posts.dropped(job, mailing_list, "it came by this address before", now)
            return _TAKEN, lambda tx: _to_owners(tx, job, mailing_list, now)
        if reached.purpose == "bounces":
            report = requests.report_of(reached.token, octets)
            return _TAKEN, lambda tx: requests.bounced(tx, mailing_list, reached.token, report, self._verp, letters)
        post = posts.read(job, octets)
        wanted = requests.command(post, octets) if reached.purpose == "request" else ()
        return _TAKEN, lambda tx: requests.handle(tx, mailing_list, reached, post, wanted, letters, self._verp)

    # --- sending out

    async def _posted(self, job: Job, mailing_list: MailingList, octets: bytes, letters: Letters) -> tuple[Reply, Deed]:
        """A message for the members."""
        post, now = posts.read(job, octets), letters.now
        useless = posts.reason_to_drop(mailing_list, post)
        if useless is not None:
            return _TAKEN, lambda tx: posts.dropped(job, mailing_list, useless, now)
        author = await self._store.read(_standing, mailing_list, post)
        reason = posts.reason_to_hold(mailing_list, post, author, held=job.destination.endswith(HELD))
        if reason is None:
            return SENT_OUT, await self._distribution(job.mail, mailing_list, post, octets, now)
        return _TAKEN, lambda tx: posts.hold(tx, job, mailing_list, post, octets, reason, letters)

    async def _distribution(
        self, mail: QueuedMail, mailing_list: MailingList, post: Post, octets: bytes, now: int
    ) -> Deed:
        """The post for the members, made and staged; the deed queues it."""
        edit = await self._edit(mailing_list, post)
        found, gathered = await self._store.read(_takers, mailing_list)
        if not found and not gathered:
            return lambda tx: (Step("list.empty", now, mail.journey, {"list": str(mailing_list.address)}),)
        for_all = for_members(octets, edit)
        own = journey.new_id(now, self._random.getrandbits(21))
        made = _Made(await self._blobs.stage(for_all), own, _of_list(mail.wishes), for_all.isascii())
        return lambda tx: self._queue(tx, mail, mailing_list, post, found, made, now)

    async def _edit(self, mailing_list: MailingList, post: Post) -> Edit:
        edit = posts.finish(edit_of(mailing_list), mailing_list, post, rewritten=False)
        rewritten = mailing_list.rewrite_from == "always"
        if mailing_list.rewrite_from == "auto" and post.author is not None:
            # RFC 7489 §10: what a policy protects is a signature that holds and is the author's domain's.
            domain = parse_domain(post.author.domain)
            rewritten = not posts.keeps_a_seal(post, edit) and await self._policies.strict(domain)
        return posts.finish(edit, mailing_list, post, rewritten=rewritten)

    def _queue(
        self, tx: Tx, mail: QueuedMail, mailing_list: MailingList, post: Post, found: Batches, made: _Made, now: int
    ) -> tuple[Step, ...]:
        """Queue the post for the members, a row a batch, and keep it for the digest where somebody takes that.

        What goes out singly and what is gathered is decided here, in one commit.
        """
        list, own, address = mailing_list.id, made.journey, str(mailing_list.address)
        digests.make_room(tx, list, made.octets.size, mailing_list.bounds)
        blob = blobs.insert(tx, made.octets)
        written = Step("list.sent", now, own, {"list": address, "about": journey.code(mail.journey)})
        told = Step("list.sent_out", now, mail.journey, {"list": address, "copy": journey.code(own)})
        sender, size = mailing_list.beside("bounces"), made.octets.size
        expires_at = now + int(self._settings.expire * 1000)
        sent = QueuedMail(own, blob, size, sender, now, expires_at, wishes=made.wishes)
        singly = Takers(list, digests.EACH, digests.period(tx, list))
        # Somebody may have begun to take them singly since.
        found = found or fanout.batches(tx, singly)
        if found:
            fanout.send(tx, mailing_list, sent, singly, found)
        steps = [written]
        if digests.wanted(tx, list):
            digests.gather(tx, list, _gathered(post, blob, made), size, mailing_list.bounds, now)
            steps.append(Step("list.gathered", now, own, {"list": address}))
        elif not found:
            blobs.suspect(tx, [blob], now)
        journey.open(
            tx, own, message_id=post.message_id, sender=str(sender), recipients=[address], subject=post.subject,
            secret=self._settings.secret, steps=steps,
        )  # fmt: skip
        return (told,)

    async def _verdict(
        self, job: Job, mailing_list: MailingList, reached: ListReached, octets: bytes, letters: Letters
    ) -> Deed:
        """A moderator's answer, by the token that only moderators were sent; what a program of his answers is none."""
        now, answer = letters.now, posts.read(job, octets)
        held = await self._store.read(posts.find_held, mailing_list.id, reached.token)
        if held is None:
            return lambda tx: requests.too_late(tx, mailing_list, answer, letters)
        # What the command lets out is the post itself, which may have been sent to many.
        if answer.impersonal and job.mail.blob != held.blob:
            return lambda tx: ()
        if reached.purpose == "refuse":
            return lambda tx: posts.drop(tx, mailing_list, held, now)
        ref = await self._store.read(blobs.find, held.blob)
        if ref is None:
            return lambda tx: posts.drop(tx, mailing_list, held, now)
        post = held.prologue + bytes(await self._blobs.load(ref))
        mail = posts.mail_of(held)
        send = await self._distribution(mail, mailing_list, posts.read_again(held, post), post, now)

        def let_out(tx: Tx) -> tuple[Step, ...]:
            # Another moderator may have answered meanwhile.
            steps = posts.drop(tx, mailing_list, held, now, approved=True)
            return (*steps, *send(tx)) if steps else ()

        return let_out


def _takers(tx: Tx, mailing_list: MailingList) -> tuple[Batches, bool]:
    """Who takes singly what is posted now, and whether anybody takes it in a digest."""
    list = mailing_list.id
    singly = Takers(list, digests.EACH, digests.period(tx, list))
    return fanout.batches(tx, singly), digests.wanted(tx, list)


def _gathered(post: Post, blob: int, made: _Made) -> Gathered:
    """What the digest has to know of it."""
    author = "" if post.author is None else post.author.name or str(post.author_address)
    subject, wishes = post.subject or posts.NO_SUBJECT, made.wishes
    return Gathered(
        blob,
        made.journey,
        author[: posts.LONGEST],
        subject[: posts.LONGEST],
        eight_bit=not made.plain,
        smtputf8=wishes.smtputf8,
        requiretls=wishes.requiretls,
    )


def edit_of(mailing_list: MailingList) -> Edit:
    """What the list's settings ask for."""
    return Edit(
        mailing_list.title,
        mailing_list.address,
        mailing_list.beside("owner"),
        mailing_list.beside("request"),
        subject_tag=mailing_list.subject_tag,
        footer=mailing_list.footer,
    )


def _reached(
    tx: Tx, recipients: Sequence[QueuedRecipient], rules: Rules
) -> list[tuple[MailingList, ListReached] | None]:
    """What each address of the job leads to; None: no list."""
    found: list[tuple[MailingList, ListReached] | None] = []
    for recipient in recipients:
        reached = expand(tx, recipient.address, rules).lists
        found.append((lists.get(tx, reached[0].id), reached[0]) if reached else None)
    return found


def _standing(tx: Tx, mailing_list: MailingList, post: Post) -> Member | None:
    return members.find(tx, mailing_list.id, post.author_address) if post.author_address else None


def _of_list(wishes: Wishes) -> Wishes:
    """What of a post's wishes holds for the members' copies: what the message needs. What its writer wants to hear
    goes no further than to the list (RFC 3461 §5.2.7), and so does by when."""
    return Wishes(wishes.body, wishes.smtputf8, requiretls=wishes.requiretls, priority=wishes.priority)


def _carry_out(tx: Tx, job: Job, deeds: Sequence[tuple[QueuedRecipient, Reply, Deed]]) -> Filed:
    """RFC 3464 §2.3.3: given to a list a message is delivered; the members' copies are messages of the list's."""
    outcomes: list[Outcome] = []
    steps: list[Step] = []
    for recipient, reply, deed in deeds:
        try:
            done = deed(tx)
        except posts.TooManyWait:
            outcomes.append(Outcome(recipient.id, Fate.DEFERRED, _FULL))
            continue
        for step in done:
            if step.journey == job.mail.journey:
                steps.append(step)
            elif step.journey is not None:
                journey.record(tx, step.journey, [step])
        outcomes.append(Outcome(recipient.id, Fate.DELIVERED, reply))
    return Filed(tuple(outcomes), tuple(steps))


def _to_owners(tx: Tx, job: Job, mailing_list: MailingList, now: int) -> tuple[Step, ...]:
    """As an alias of the owners; bounces of it lead nowhere."""
    owners = members.staff(tx, mailing_list.id, "owner")
    rows = [_owner_row(tx, job, mailing_list, one.address) for one in owners]
    if rows:
        queue.add(tx, job.message, rows, now)
    return ()


def _owner_row(tx: Tx, job: Job, mailing_list: MailingList, address: Address) -> NewRecipient:
    return NewRecipient(
        address,
        queue.destination_of(tx, address),
        original=str(mailing_list.beside("owner")),
        notify=frozenset({"NEVER"}),
        prologue=f"Delivered-To: {mailing_list.beside('owner')}\r\n".encode() + job.prologue,
        return_path=mailing_list.beside("bounces"),
    )
