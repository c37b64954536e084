"""The MTA-STS policies of others: found, fetched, kept and renewed (RFC 8461 §3.3, §5.1).

Promises: a policy that was fetched holds until it expires, whatever becomes of DNS and HTTPS meanwhile; one fetch a
domain is under way at a time, and one that failed is not repeated for some minutes. A policy that is a day old, or past
half of its life, is renewed behind the mail's back. `find` never raises for what a stranger does.
Refuses: to apply a policy.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol

from posthouse import observe
from posthouse.clock import Clock
from posthouse.net.dns import DnsError, Resolver
from posthouse.net.http import HttpError, Page
from posthouse.store.database import Store, StoreUnavailable, Tx
from posthouse.trust.mta_sts import (
    LARGEST_POLICY,
    POLICY_PATH,
    BadPolicy,
    Policy,
    parse_policy,
    policy_host,
    read_record,
    record_name,
)
from posthouse.trust.tlsrpt import Basis, Failure, Session, Tally

# RFC 8461 §3.3 suggests a minute; the mail that waits for it holds a courier.
FETCH_SECONDS: Final = 30.0
# RFC 8461 §3.3 asks to limit how often a failing fetch is repeated, and suggests five minutes.
AFTER_FAILURE: Final = 300_000
RENEWED_AFTER: Final = 86_400_000
# A domain that says max_age 0, or another id each time, is not asked for each message.
SHORTEST_LIFE: Final = 60_000
# The largest take 100 KB.
_MOST_KNOWN: Final = 2000


class Fetcher(Protocol):
    """Who fetches a page by HTTPS."""

    async def get(self, host: str, path: str, *, seconds: float, most: int) -> Page:
        """The page, of at most so many octets, within so many seconds. Raises HttpError."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """A policy with the id it was announced by; times in UTC milliseconds."""

    record: str
    policy: Policy
    fetched_at: int
    expires_at: int

    def live(self, now: int) -> bool:
        return now < self.expires_at

    def settled(self, now: int) -> bool:
        """It was fetched long enough ago to be asked for again."""
        return now - self.fetched_at >= SHORTEST_LIFE

    def aging(self, now: int) -> bool:
        """It is a day old (RFC 8461 §3.3), or half of its life is over."""
        return now - self.fetched_at > min(RENEWED_AFTER, (self.expires_at - self.fetched_at) // 2)


class _CannotFetch(Exception):
    """The policy could not be had; `failure` is what RFC 8460 §4.3 calls it."""

    def __init__(self, failure: Failure, text: str) -> None:
        super().__init__(text)
        self.failure = failure


class Policies:
    """Finds the policies of domains."""

    def __init__(self, resolver: Resolver, fetcher: Fetcher, store: Store, tally: Tally, clock: Clock) -> None:
        self._resolver = resolver
        self._fetcher = fetcher
        self._store = store
        self._tally = tally
        self._clock = clock
        self._known: OrderedDict[str, Kept | None] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[Kept | None]] = {}
        self._not_before: OrderedDict[str, int] = OrderedDict()

    async def find(self, domain: str) -> Policy | None:
        """The policy that mail to the domain falls under now; None where there is none, or its mode is none.

        Raises StoreUnavailable: what is kept is not known then, and must not be passed by.
        """
        record = await self._announced(domain)
        kept = await self._recall(domain)
        now = self._clock.now()
        kept = kept if kept and kept.live(now) else None
        if record is not None and (kept is None or (kept.record != record and kept.settled(now))):
            kept = await self._fetched(domain, record) or kept
        elif record is not None and kept and kept.aging(now):
            self._fetch(domain, record, kept)
        return None if kept is None or kept.policy.mode == "none" else kept.policy

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _announced(self, domain: str) -> str | None:
        """The id of the record; None where there is no record, or DNS does not say: what is kept holds then."""
        try:
            return read_record((await self._resolver.txt(record_name(domain))).records)
        except DnsError:
            return None

    async def _recall(self, domain: str) -> Kept | None:
        """What is kept of this domain."""
        if domain not in self._known:
            found = await self._store.read(_read, domain)
            # What was fetched while the store was asked is newer.
            self._known.setdefault(domain, found)
        return self._touched(domain)

    def _touched(self, domain: str) -> Kept | None:
        self._known.move_to_end(domain)
        kept = self._known[domain]
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return kept

    # --- fetching

    async def _fetched(self, domain: str, record: str) -> Kept | None:
        """The policy as it is now; None where it cannot be had."""
        task = self._fetch(domain, record, None)
        # Whoever is cancelled leaves; the others still wait for the policy.
        return None if task is None else await asyncio.shield(task)

    def _fetch(self, domain: str, record: str, kept: Kept | None) -> "asyncio.Task[Kept | None] | None":
        """The one fetch of this domain's policy; None where the last one failed a moment ago."""
        task = self._fetching.get(domain)
        if task is None and self._clock.now() >= self._not_before.get(domain, 0):
            task = self._fetching[domain] = asyncio.create_task(self._renew(domain, record, kept))
            task.add_done_callback(lambda _: self._fetching.pop(domain, None))
        return task

    async def _renew(self, domain: str, record: str, held: Kept | None) -> Kept | None:
        try:
            policy = await self._get(domain)
        except _CannotFetch as error:
            self._failed(domain, error, held)
            return None
        now = self._clock.now()
        kept = Kept(record, policy, now, now + max(policy.max_age * 1000, SHORTEST_LIFE))
        self._known[domain] = kept
        self._touched(domain)
        self._not_before.pop(domain, None)
        try:
            await self._store.write(_write, domain, kept)
        except StoreUnavailable as error:
            # It holds in this process, and is fetched again by the next.
            observe.tell("sts.not_kept", level=observe.WARNING, domain=domain, error=str(error))
        return kept

    async def _get(self, domain: str) -> Policy:
        try:
            page = await self._fetcher.get(policy_host(domain), POLICY_PATH, seconds=FETCH_SECONDS, most=LARGEST_POLICY)
        except HttpError as error:
            raise _CannotFetch(
                "sts-webpki-invalid" if error.untrusted else "sts-policy-fetch-error", str(error)
            ) from error
        if page.media_type != "text/plain":
            # RFC 8461 §3.2: whoever may put pages or pictures on a host must not be able to put a policy there.
            raise _CannotFetch("sts-policy-invalid", f"the policy is {page.media_type or 'of no type'}, not text/plain")
        try:
            return parse_policy(page.body)
        except BadPolicy as error:
            raise _CannotFetch("sts-policy-invalid", f"the policy is broken: {error}") from error

    def _failed(self, domain: str, error: _CannotFetch, held: Kept | None) -> None:
        """Tell of it (RFC 8461 §3.3: administrators are to see it), and leave it alone for a while."""
        self._not_before[domain] = self._clock.now() + AFTER_FAILURE
        if len(self._not_before) > _MOST_KNOWN:
            self._not_before.popitem(last=False)
        basis = Basis("sts", tuple(str(held.policy).splitlines()) if held else ())
        self._tally.note(Session(domain, basis, error.failure, reason=str(error)))
        observe.tell("sts.not_fetched", level=observe.WARNING, domain=domain, error=str(error))


def _read(tx: Tx, domain: str) -> Kept | None:
    row = tx.one("sts_policy", domain=domain)
    if row is None:
        return None
    record, policy, fetched_at, expires_at = row
    return Kept(record, parse_policy(policy.encode()), fetched_at, expires_at)


def _write(tx: Tx, domain: str, kept: Kept) -> None:
    tx.put(
        "sts_policy_put",
        domain=domain,
        record=kept.record,
        policy=str(kept.policy),
        fetched_at=kept.fetched_at,
        expires_at=kept.expires_at,
    )


def expire(tx: Tx, now: int) -> None:
    """Remove policies that hold no more."""
    tx.run("sts_policy_expire", now=now)
