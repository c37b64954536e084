"""What security each hop must have, and what came of it: asked before a connection, told after it.

Promises: a recipient domain's DANE and MTA-STS are found, and weighed with what is configured and wished
(trust/transport.py decides); every session with a host that DNS named is counted for reports, and remembered, so that a
domain which suddenly stops encrypting is noticed. What is counted is written once a minute and at the end, with no
commit a connection.
Refuses: to connect, and to go on where a demand is not met: the courier takes the next host.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from posthouse import observe
from posthouse.clock import Clock
from posthouse.limits import HEADER_SIZE
from posthouse.net.dns import DnsError, NoRecords, NoSuchDomain, Resolver
from posthouse.queue.outcome import Stage
from posthouse.queue.queue import QueuedMail
from posthouse.relay.connections import Connection, Hop, HopFailed, Place
from posthouse.store.blobs import Buffer
from posthouse.store.database import Store, StoreUnavailable, Tx
from posthouse.terms.reply import Reply
from posthouse.trust import dane, levels, policies, tlsrpt
from posthouse.trust.levels import Levels, Memory
from posthouse.trust.policies import Policies
from posthouse.trust.tlsrpt import Basis, Failure, Session, Tally
from posthouse.trust.transport import (
    Dane,
    Required,
    Target,
    TlsPolicy,
    Wish,
    encryption_needed,
    required,
    requiretls_missing,
)
from posthouse.written import Endpoint

# What a domain that always encrypted, and now does not, is answered with.
Downgrade = Literal["report", "refuse"]

_WRITE_SECONDS: Final = 60.0
# RFC 8689 §3: the one value there is, folded or not.
_TLS_OPTIONAL: Final = re.compile(rb"\ntls-required:(?:[ \t]*\r?\n(?=[ \t]))?[ \t]*no[ \t]*\r?\n")


@dataclass(frozen=True, slots=True)
class Approach:
    """A host, what the way to it must have, and how it is spoken to."""

    target: Target
    required: Required
    hop: Hop


def wish_of(mail: QueuedMail, octets: Buffer) -> Wish:
    """What the sender wants of TLS. A bounce goes out without what REQUIRETLS asks for (RFC 8689 §5)."""
    if mail.wishes.requiretls:
        return Wish.TLS if mail.sender is not None else Wish.NONE
    near = octets if isinstance(octets, bytes) else bytes(octets[:HEADER_SIZE])
    end = near.find(b"\r\n\r\n", 0, HEADER_SIZE)
    head = b"\n" + near[: end if end >= 0 else HEADER_SIZE].lower() + b"\r\n"
    at = head.find(b"\ntls-required:")
    return Wish.DELIVERY if at >= 0 and _TLS_OPTIONAL.match(head, at) else Wish.NONE


class Security:
    """Knows what hops must have. `policies` None: MTA-STS is off; `by_dane` False: DANE is."""

    def __init__(
        self,
        resolver: Resolver,
        store: Store,
        clock: Clock,
        tally: Tally,
        policies: Policies | None,
        *,
        by_dane: bool = True,
        downgrade: Downgrade = "report",
    ) -> None:
        self._resolver = resolver
        self._store = store
        self._clock = clock
        self._tally = tally
        self._policies = policies
        self._by_dane = by_dane
        self._downgrade = downgrade
        self._levels = Levels(store, clock)

    # --- before

    async def require(self, own: TlsPolicy, target: Target, wish: Wish = Wish.NONE) -> Required:
        """What the way to this host must have; with a `refusal`, no mail may go there. `own` is what is configured."""
        if own.mode == "off" or target.host.startswith("["):
            return required(own, target, wish=wish)
        try:
            tlsa = await self._tlsa(target)
        except DnsError as error:
            return self._unknown(own, target, error, wish)
        sts = None
        if self._policies and target.by_mx and not (tlsa and tlsa.usable):
            try:
                sts = await self._policies.find(target.domain)
            except StoreUnavailable:
                reply = Reply(451, "4.3.0", "An error of this server's; it will try again")
                return Required(own, refusal=reply, reason="what is kept of the domain's policy cannot be read")
        found = required(own, target, sts=sts, tlsa=tlsa, wish=wish)
        if found.failure is not None and target.by_mx:
            self._tally.note(Session(target.domain, found.basis, found.failure, target.host, reason=found.reason))
        return found

    async def _tlsa(self, target: Target) -> Dane | None:
        """The host's TLSA records, where DNSSEC vouches for its name, its address and them (RFC 7672 §2.2).

        Raises DnsError where they may be there and cannot be had.
        """
        if not self._by_dane or not target.vouched:
            return None
        try:
            addresses = await self._resolver.addresses(target.host)
        except (NoSuchDomain, NoRecords):
            return None
        if not addresses.authentic:
            return None
        for base in dict.fromkeys((addresses.name, target.host)):
            try:
                answer = await self._resolver.tlsa(dane.name_of(target.port, base))
            except (NoSuchDomain, NoRecords):
                continue
            if answer.authentic:
                return Dane(base, dane.usable(answer.records))
        return None

    def _unknown(self, own: TlsPolicy, target: Target, error: DnsError, wish: Wish) -> Required:
        """RFC 7672 §2.1.2: where it cannot be known whether there are TLSA records, that host gets no mail now."""
        reason = f"DNS cannot say now how {target.host} is to be known: {error}"
        basis = Basis("tlsa")
        if target.by_mx:
            self._tally.note(Session(target.domain, basis, "dnssec-invalid", target.host, reason=str(error)))
        refusal = None if wish is Wish.DELIVERY else Reply(451, "4.7.5", reason)
        return Required(own, basis, refusal, "dnssec-invalid", reason)

    # --- after

    async def opened(self, approach: Approach, connection: Connection, *, fallen: bool = False) -> bool:
        """Note how the session is protected. `fallen`: with less than was tried first, of which `failed` was told.

        True: worse than this domain was ever seen to be. Raises HopFailed where such a downgrade is refused.
        """
        target, found = approach.target, approach.required
        if not target.by_mx or found.policy.mode == "off":
            return False
        encrypted = connection.tls is not None
        if not fallen and found.failure is None:
            failure: Failure | None = None if encrypted else "starttls-not-supported"
            self._tally.note(_session(approach, connection.address, failure))
        try:
            downgrade = await self._levels.met(target.domain, encrypted=encrypted)
        except StoreUnavailable as error:
            observe.tell("tls.not_remembered", level=observe.WARNING, domain=target.domain, error=str(error))
            return False
        if downgrade and self._downgrade == "refuse":
            text = f"{target.host} offers no TLS, which {target.domain} always had until now"
            raise HopFailed(Stage.TLS, Reply(451, "4.7.5", text), said=False)
        return downgrade

    def failed(self, approach: Approach, place: Place, error: HopFailed) -> None:
        """Note that TLS did not come about as it should, whether mail goes on with less or not."""
        if approach.target.by_mx and error.stage is Stage.TLS:
            # What peers say differs each time; a report is to count.
            reason = "" if error.failure == "starttls-not-supported" else error.reply.text
            self._tally.note(_session(approach, place, error.failure, reason))

    # --- writing down

    async def run(self) -> None:
        """Write what was counted and remembered once a minute, for ever."""
        while True:
            await asyncio.sleep(_WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write it now. Where the store cannot, it waits for the next time."""
        counts, changed = self._tally.take(), self._levels.take()
        if not counts and not changed:
            return
        try:
            await self._store.write(_write, counts, changed)
        except StoreUnavailable as error:
            self._tally.give_back(counts)
            self._levels.give_back(changed)
            observe.tell("tls.not_written", level=observe.WARNING, error=str(error))

    async def close(self) -> None:
        """End what is under way, and write."""
        if self._policies is not None:
            await self._policies.close()
        await self.write()


def meets_requiretls(connection: Connection) -> None:
    """Raise HopFailed unless the peer of this verified connection promises to hand on what requires TLS in the same
    way."""
    if not connection.verified:
        raise HopFailed(Stage.TLS, encryption_needed("the session is not verified"), said=False)
    if "REQUIRETLS" not in connection.client.extensions:
        raise HopFailed(Stage.TLS, requiretls_missing(connection.hop.name), said=False)


def returned(error: HopFailed) -> HopFailed:
    """What a failure of TLS is to a message that requires it: the end (RFC 8689 §4.2.1)."""
    if error.stage is not Stage.TLS or error.reply.permanent:
        return error
    return HopFailed(error.stage, encryption_needed(error.reply.text), said=False).called(error.failure)


def _session(approach: Approach, place: Place, failure: Failure | None, reason: str = "") -> Session:
    target, basis = approach.target, approach.required.basis
    if failure is None:
        return Session(target.domain, basis)
    address = place.host if isinstance(place, Endpoint) else ""
    return Session(target.domain, basis, failure, target.host, address, reason)


def _write(tx: Tx, counts: Mapping[tuple[int, Session], int], changed: Mapping[str, Memory | None]) -> None:
    tlsrpt.add(tx, counts)
    levels.write(tx, changed)


def expire(tx: Tx, now: int) -> None:
    """Remove what is no longer needed: policies that hold no more, counts of old days, domains long unheard of."""
    policies.expire(tx, now)
    tlsrpt.expire(tx, now)
    levels.expire(tx, now)
