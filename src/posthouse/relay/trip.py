"""One job on its way: who is left to be offered, what has been settled, what happened; and the message in the form that
the peer at hand can carry.

Promises: one outcome a recipient. The octets a peer gets are final when they are signed: converted first where the
peer needs that and nobody's signature forbids it (RFC 6152 §3), then signed.
Refuses: to convert mail that was neither submitted nor written here (it may carry signatures of others), and to send
what the peer cannot carry: that is answered here, without an offer.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from posthouse.clock import Clock
from posthouse.message.convert import NotConvertible, convert, is_binary
from posthouse.message.header import Header
from posthouse.observe import DEBUG, INFO, Fact, Level, Step
from posthouse.queue.attempt import AtWork
from posthouse.queue.outcome import Dooms, Fate, Outcome, Report, Stage, Trouble, after_all_hosts, classify, pushes_back
from posthouse.queue.queue import Job, QueuedRecipient
from posthouse.relay.connections import Connection, HopFailed
from posthouse.relay.security import wish_of
from posthouse.relay.signing import Signed
from posthouse.relay.ways import Way
from posthouse.store.blobs import Blobs, Buffer, Spool
from posthouse.terms.address import Address
from posthouse.terms.envelope import Body, DeliverBy, Envelope, Recipient
from posthouse.terms.reply import Reply
from posthouse.trust.transport import Required, Target, Wish
from posthouse.wire.smtp.client import SmtpClient

# What a journey keeps of one conversation.
_MOST_LINES: Final = 200
_LONGEST_LINE: Final = 1000
# Steps that every message has when all goes well: the journey keeps them, and the log need not.
_DETAILS: Final = frozenset(
    {"relay.way", "relay.route", "relay.kept", "relay.tries", "relay.connected", "relay.signed", "relay.said"}
)
# What is told of the way of one message of a lane holds for the next.
_OF_THE_WAY: Final = frozenset({"relay.way", "relay.route"})
_BASES: Final = {"tlsa": "DANE", "sts": "MTA-STS"}
# Octets: converting more than this would hold the loop for milliseconds.
_INLINE: Final = 64 * 1024
_WIDTH: Final[dict[Body, int]] = {"7BIT": 0, "8BITMIME": 1, "BINARYMIME": 2}


class Signer(Protocol):
    """What signs mail that leaves."""

    async def sign(self, sender: Address | None, prologue: bytes, octets: Buffer) -> Signed:
        """Header lines to be put in front of everything, or UNSIGNED. `prologue` and `octets` are final."""
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """The message as a peer gets it: `front` (signatures, prologue), then `octets`."""

    front: bytes
    octets: Buffer
    body: Body

    @property
    def size(self) -> int:
        return len(self.front) + len(self.octets)


@dataclass(slots=True)
class Trip:
    """One job on its way. `left` have no outcome yet; `answered`: a peer has said something about this offer. `said`:
    lines of the conversation that were taken before its end. `site`: what the destination rolls up to. `way`: None
    where the configuration does not know it. `alone`: nothing is to be said behind it. `tried`: a host was, and
    failed by itself, not by what the recipient's domain or the sender asks of TLS."""

    job: Job
    way: Way | None
    octets: Buffer
    before_dot: AtWork
    clock: Clock
    blobs: Blobs
    signer: Signer | None = None
    many_domains: bool = False
    left: list[QueuedRecipient] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    troubles: list[tuple[Trouble, Reply, str | None]] = field(default_factory=list)
    answered: bool = False
    alone: bool = False
    tried: bool = False
    said: list[tuple[str, str]] = field(default_factory=list)
    site: str | None = None
    body: Body = "7BIT"
    needs_utf8: bool = False
    wish: Wish = Wish.NONE
    _forms: dict[Body, Form] = field(default_factory=dict)
    _spools: list[Spool] = field(default_factory=list)

    def __post_init__(self) -> None:
        mail = self.job.mail
        wishes = mail.wishes
        self.left = list(self.job.recipients)
        self.wish = wish_of(mail, self.octets)
        self.body = "7BIT" if _is_ascii(self.octets) else "8BITMIME"
        if wishes.body == "BINARYMIME" and is_binary(self.octets):
            self.body = "BINARYMIME"
        # An alias or a list may lead to an address that whoever wrote did not know of, and wished nothing for.
        self.needs_utf8 = not (self._ascii_throughout() if wishes.smtputf8 else self._addresses_ascii())

    def close(self) -> None:
        """Give back what converted forms took. The octets of `form` are no longer valid."""
        for spool in self._spools:
            spool.discard()

    def _addresses_ascii(self) -> bool:
        sender = self.job.sender
        return (sender is None or sender.ascii) and all(one.address.ascii for one in self.left)

    def _ascii_throughout(self) -> bool:
        """RFC 6531 §3.4 lets a message that turns out not to need SMTPUTF8 travel without."""
        if not self._addresses_ascii():
            return False
        end = self.octets.find(b"\r\n\r\n") if not isinstance(self.octets, memoryview) else -1
        return self.body == "7BIT" or (end >= 0 and _is_ascii(self.octets[:end]))

    # --- what happened

    def tell(self, kind: str, **facts: Fact) -> None:
        """A step of the journey. What goes as it should is a line of the log only where details are asked for."""
        level: Level = DEBUG if kind in _DETAILS else INFO
        self.steps.append(Step(kind, self.clock.now(), self.job.mail.journey, facts, level))

    def comes_behind(self, other: "Trip") -> None:
        """It goes where the other one goes."""
        self.site = other.site
        now, of = self.clock.now(), self.job.mail.journey
        of_the_way = [step for step in other.steps if step.kind in _OF_THE_WAY]
        self.steps += [Step(step.kind, now, of, step.facts, step.level) for step in of_the_way]

    def tell_security(self, target: Target, required: Required) -> None:
        """What the recipient's domain, or the sender, asks for on the way to this host; nothing where nobody does."""
        basis = _BASES.get(required.basis.type)
        if basis is None and self.wish is Wish.NONE and required.refusal is None:
            return
        self.tell(
            "relay.security",
            host=target.host,
            basis=basis,
            wish=None if self.wish is Wish.NONE else self.wish.value,
            mode=required.policy.mode,
            fallback=required.policy.fallback,
            problem=required.reason or None,
            refusal=str(required.refusal) if required.refusal else None,
        )

    def tell_conversation(self, connection: Connection) -> None:
        """The lines that passed, verbatim but for their length: a peer may say megabytes in one conversation."""
        said, self.said = self.said + connection.client.take_transcript(), []
        lines = [f"{who}: {line[:_LONGEST_LINE]}" for who, line in said]
        if len(lines) > _MOST_LINES:
            half = _MOST_LINES // 2
            lines = [*lines[:half], f"({len(lines) - _MOST_LINES} lines)", *lines[-half:]]
        self.tell("relay.said", host=connection.hop.name, address=connection.shown_address, lines=tuple(lines))

    def settle(
        self,
        recipients: Iterable[QueuedRecipient],
        trouble: Trouble,
        reply: Reply,
        remote: str | None,
        kept: Collection[str] = (),
    ) -> None:
        """These have met their outcome; `kept`: the extensions of whoever has the message now."""
        dsn, by = "DSN" in kept, "DELIVERBY" in kept
        for recipient in tuple(recipients):
            self.left.remove(recipient)
            self.outcomes.append(
                Outcome(recipient.id, trouble.fate, reply, trouble.dooms, remote, dsn_carried=dsn, by_carried=by)
            )

    def host_failed(self, error: HopFailed, host: str) -> None:
        """This host did not answer for those who are left; what that means shows when all have been tried."""
        self.tried = self.tried or error.stage is not Stage.TLS
        trouble = classify(error.stage, error.reply, said=error.said)
        remote = host if error.said else None
        if trouble.dooms is Dooms.MESSAGE:
            self.settle(self.left, trouble, error.reply, remote)
        else:
            self.troubles.append((trouble, error.reply, remote))

    def passed_over(self, reply: Reply) -> None:
        """A host that no mail may go to, or that has no address, counts as one that was tried."""
        fate = Fate.FAILED if reply.permanent else Fate.DEFERRED
        self.troubles.append((Trouble(fate, Dooms.HOST), reply, None))

    def all_hosts_failed(self) -> None:
        """Nobody is left to try. A route has at least one host, and each that was tried left its trouble."""
        if not self.tried and self.way is not None and self.way.by_mx:
            # What the recipient's domain or the sender asks for says nothing of the hosts, which others use too.
            self.site = None
        trouble, reply = after_all_hosts([(trouble, reply) for trouble, reply, _ in self.troubles])
        remote = next(host for _, other, host in self.troubles if other is reply)
        self.destination_failed(trouble, reply, remote)

    def destination_failed(self, trouble: Trouble, reply: Reply, remote: str | None = None) -> None:
        """All who are left have met what `trouble` says; where the lane leads to many domains, only they."""
        if self.many_domains:
            trouble = Trouble(trouble.fate, Dooms.RECIPIENT)
        self.settle(self.left, trouble, reply, remote)

    def report(self) -> Report:
        """What there is to say of it all."""
        pushed_back = any(remote is not None and pushes_back(reply) for _, reply, remote in self.troubles)
        return Report(tuple(self.outcomes), tuple(self.steps), self.site, pushed_back=pushed_back)

    # --- what this peer gets

    async def form(self, connection: Connection) -> Form | None:
        """The message for this peer. None: it cannot carry it, and those who are left are settled.

        Raises StoreUnavailable, SpoolFull.
        """
        offered, host = connection.client.extensions, connection.hop.name
        refusal_or_form = self._too_late(offered, host) or await self._fitting(offered, host)
        if isinstance(refusal_or_form, Form):
            refusal_or_form = _too_large(connection.client, host, refusal_or_form)
        if isinstance(refusal_or_form, Form):
            return refusal_or_form
        self.settle(self.left, Trouble(Fate.FAILED, Dooms.MESSAGE), refusal_or_form, None)
        return None

    def _too_late(self, offered: Mapping[str, str], host: str) -> Reply | None:
        """RFC 2852 §4: what must arrive in time or return is not given to who does not promise the same."""
        by = self.job.mail.wishes.deliver_by
        if by is None or not by.returned:
            return None
        left = _seconds_left(by, self.clock)
        if left <= 0:
            return Reply(554, "5.4.7", "It was to arrive by a time that has passed")
        if "DELIVERBY" not in offered:
            return Reply(554, "5.3.3", f"It is to arrive by a certain time, which {host} does not promise")
        least = offered["DELIVERBY"].split(",")[0].strip()
        if least.isascii() and least.isdigit() and left < int(least[:12]):
            return Reply(554, "5.4.7", f"It is to arrive within {left} seconds; {host} promises no less than {least}")
        return None

    async def _fitting(self, offered: Mapping[str, str], host: str) -> Form | Reply:
        """The message as it is, or converted, and signed; or why not."""
        if self.needs_utf8 and "SMTPUTF8" not in offered:
            # RFC 6531 §3.5, RFC 3463 as extended there: 5.6.7 non-ASCII addresses not permitted.
            return Reply(553, "5.6.7", f"{host} does not take internationalised mail, which this is")
        carries: Body = "8BITMIME" if "8BITMIME" in offered else "7BIT"
        if "BINARYMIME" in offered and "CHUNKING" in offered:
            carries = "BINARYMIME"
        wanted = min(self.body, carries, key=_WIDTH.__getitem__)
        if wanted not in self._forms:
            try:
                octets = self.octets if wanted == self.body else await self._convert(wanted)
            except NotConvertible as error:
                takes = "only 7-bit mail" if carries == "7BIT" else "no binary mail"
                text = f"{host} takes {takes}, and this message is not and cannot be converted: {error}"
                # RFC 3463 §3.7: conversion required but prohibited, or not supported.
                return Reply(554, "5.6.2" if error.prohibited else "5.6.3", text)
            self._forms[wanted] = await self._sign(octets, wanted)
        return self._forms[wanted]

    async def _convert(self, wanted: Body) -> Buffer:
        """Raises NotConvertible."""
        if self.job.mail.account is None and not self._written_here():
            # Signatures of others hold for it, also those that DKIM's header does not show (S/MIME detached, a list's).
            raise NotConvertible("it was only forwarded here", prohibited=True)
        if len(self.octets) <= _INLINE:
            return b"".join(convert(self.octets, eight_bit=wanted == "8BITMIME"))
        spool = self.blobs.spool()
        self._spools.append(spool)
        pieces = await asyncio.to_thread(convert, self.octets, eight_bit=wanted == "8BITMIME")
        while piece := await asyncio.to_thread(next, pieces, b""):
            spool.write(piece)
        return spool.buffer()

    def _written_here(self) -> bool:
        """By this server itself: reports, letters, digests. Whatever comes in by a door has a Received field of ours
        (RFC 5321 §4.4)."""
        return not Header.parse(self.octets).count(b"received")

    async def _sign(self, octets: Buffer, body: Body) -> Form:
        front = self.job.prologue
        if self.signer is not None:
            signed = await self.signer.sign(self.job.sender, front, octets)
            front = signed.fields + front
            if signed.domain:
                self.tell("relay.signed", domain=signed.domain, selectors=signed.selectors)
        return Form(front, octets, body)

    def envelope(self, recipients: Sequence[QueuedRecipient], form: Form, connection: Connection) -> Envelope:
        """What is said of the message to this peer."""
        mail = self.job.mail
        # RFC 8689 §2: only on a session that meets it. §5: a bounce goes without where it must; for all else
        # `meets_requiretls` has asked.
        secure = connection.verified and "REQUIRETLS" in connection.client.extensions
        wishes, requiretls = mail.wishes, mail.wishes.requiretls and secure
        if (wishes.body, wishes.smtputf8, wishes.requiretls) != (form.body, self.needs_utf8, requiretls):
            wishes = replace(wishes, body=form.body, smtputf8=self.needs_utf8, requiretls=requiretls)
        return Envelope(
            sender=self.job.sender,
            recipients=tuple([Recipient(one.address, one.notify, one.orcpt) for one in recipients]),
            size=form.size,
            wishes=wishes,
        )


def _too_large(client: SmtpClient, host: str, form: Form) -> Form | Reply:
    limit = client.size_limit
    if limit is None or form.size <= limit:
        return form
    # RFC 1870 §6.1: do not even try.
    return Reply(552, "5.3.4", f"{host} takes messages up to {limit} octets; this one has {form.size}")


def _seconds_left(by: DeliverBy, clock: Clock) -> int:
    return (by.at - clock.now()) // 1000


def _is_ascii(octets: Buffer) -> bool:
    if isinstance(octets, bytes):
        return octets.isascii()
    step = 1 << 20
    return all(bytes(octets[start : start + step]).isascii() for start in range(0, len(octets), step))
