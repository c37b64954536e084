"""The keys that sign in the name of our domains (DKIM, RFC 6376), and their life: waiting, signing, retired.

Promises: of each algorithm a domain signs with one key; another waits until it is put to use, for a signature is worth
nothing before its record can be looked up. A key that signs no more stays here, and its record stays listed, until it
is removed: mail that it signed may still be on its way. Private keys leave this file by `signing` alone.
Refuses: to make keys (that takes CPU, and is done before a transaction begins) and to ask DNS.
"""

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from posthouse import observe
from posthouse.directory import domains
from posthouse.directory.model import DirectoryError, changed
from posthouse.store.database import Row, Tx
from posthouse.trust.dkim import SigningKey
from posthouse.trust.keys import Algorithm, BadKey, PrivateKey, record_name

# Each is a record that somebody has to publish, and to take away again.
MOST_KEYS: Final = 20
# How far above a name its domain may be: mail.example.org may be signed for by example.org.
_STEPS_UP: Final = 5
# Looked at to find the next one, the longest first: people's own are among them.
_MOST_SELECTORS: Final = 1000
_LONGEST_NAME: Final = 253
# RFC 6376 §3.1: a selector is one or more labels of a host name.
_SELECTOR: Final = re.compile(r"(?!.{64})[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z")
_OWN_SELECTOR: Final = re.compile(r"(\d{6})([a-z]+)\Z")


class BadSelector(DirectoryError):
    """The text cannot be a selector."""

    def __init__(self, selector: str) -> None:
        super().__init__(f"{selector!r} cannot be a selector: letters, digits and hyphens, perhaps in labels with dots")


class KeyExists(DirectoryError):
    """The domain has a key of that selector."""

    def __init__(self, selector: str, domain: str) -> None:
        super().__init__(f"{domain} has a key {selector} already")


class NoSuchKey(DirectoryError):
    """The domain has no key of that selector."""

    def __init__(self, selector: str, domain: str) -> None:
        super().__init__(f"{domain} has no key {selector}")


class KeyInUse(DirectoryError):
    """The key signs the domain's mail."""

    def __init__(self, selector: str, domain: str) -> None:
        super().__init__(f"key {selector} signs mail of {domain}; --force removes it all the same")


class TooManyKeys(DirectoryError):
    """The domain has as many keys as it may have."""

    def __init__(self, domain: str) -> None:
        super().__init__(f"{domain} has {MOST_KEYS} keys; remove those that are no longer needed")


class State(StrEnum):
    """What a key is for now."""

    WAITING = "waiting"
    SIGNING = "signing"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class DomainKey:
    """A key of a domain without its private half. `state` holds since `since_at`."""

    domain: str
    selector: str
    algorithm: Algorithm
    public: bytes
    state: State
    created_at: int
    since_at: int

    @property
    def name(self) -> str:
        """Where its record stands."""
        return record_name(self.selector, self.domain)


@dataclass(frozen=True, slots=True)
class Signatory:
    """Who signs for a domain: `domain` is that of the keys, "" where there are none."""

    domain: str
    keys: tuple[SigningKey, ...]


NOBODY: Final = Signatory("", ())


def keys(tx: Tx, name: str) -> list[DomainKey]:
    """The keys of a domain, the oldest first. Raises NoSuchDomain, BadAddress."""
    domain = domains.find(tx, name)
    return [_key(row) for row in tx.all("dkim_key_list", domain=domain.name, limit=MOST_KEYS)]


def add(tx: Tx, name: str, new: PrivateKey, now: int, selector: str | None = None) -> DomainKey:
    """Keep a key. It signs from now on where none of its algorithm does; otherwise it waits for `rotate`.

    `selector` None: the month and a letter. Raises NoSuchDomain, BadAddress, BadSelector, KeyExists, TooManyKeys.
    """
    kept = keys(tx, name)
    domain = domains.find(tx, name).name
    if len(kept) >= MOST_KEYS:
        raise TooManyKeys(domain)
    chosen = _next_selector(tx, domain, now) if selector is None else _normal(selector, domain)
    if any(one.selector == chosen for one in kept):
        raise KeyExists(chosen, domain)
    taken = any(one.algorithm is new.algorithm and one.state is State.SIGNING for one in kept)
    state = State.WAITING if taken else State.SIGNING
    tx.run(
        "dkim_key_insert",
        domain=domain,
        selector=chosen,
        algorithm=new.algorithm.value,
        private=new.octets(),
        public=new.public,
        state=state.value,
        now=now,
    )
    tx.put("dkim_selector_put", domain=domain, selector=chosen)
    changed(tx)
    return DomainKey(domain, chosen, new.algorithm, new.public, state, now, now)


def rotate(tx: Tx, name: str, selectors: Iterable[str], now: int) -> list[DomainKey]:
    """Let these keys sign that wait, and retire those of their algorithms that have signed; the keys as they are then.

    What waits no more is left as it is. Raises NoSuchDomain, BadAddress.
    """
    chosen = frozenset(selectors)
    kept = keys(tx, name)
    for one in kept:
        if one.selector in chosen and one.state is State.WAITING:
            tx.run("dkim_key_retire", domain=one.domain, algorithm=one.algorithm.value, now=now)
            tx.run("dkim_key_use", domain=one.domain, selector=one.selector, now=now)
    changed(tx)
    return keys(tx, name)


def remove(tx: Tx, name: str, selector: str, *, force: bool = False) -> DomainKey:
    """Forget a key, private half and all. Raises NoSuchDomain, BadAddress, NoSuchKey; without `force` KeyInUse."""
    kept = keys(tx, name)
    found = next((one for one in kept if one.selector == selector.lower()), None)
    if found is None:
        raise NoSuchKey(selector, domains.find(tx, name).name)
    if found.state is State.SIGNING and not force:
        raise KeyInUse(found.selector, found.domain)
    tx.run("dkim_key_delete", domain=found.domain, selector=found.selector)
    changed(tx)
    return found


def signing(tx: Tx, domain: str) -> tuple[str, list[Row]]:
    """The keys that sign mail of this domain, for `signatory`: its own, or those of the nearest of ours above it.

    A report from a host of ours, mail.example.org, is signed for by example.org: DMARC takes that for the same
    (RFC 7489 §3.1.1).
    """
    name = domain
    for _ in range(_STEPS_UP):
        rows = tx.all("dkim_key_signing", domain=name, limit=MOST_KEYS)
        if rows:
            return name, rows
        _, _, name = name.partition(".")
        if not name:
            break
    return "", []


def signs(tx: Tx) -> bool:
    """Whether mail of any domain is signed here."""
    return bool(tx.value("dkim_key_any"))


def signatory(domain: str, rows: Iterable[Row]) -> Signatory:
    """What `signing` found, ready to sign with. A key that cannot be read is told of and left out."""
    found: list[SigningKey] = []
    for selector, private in rows:
        try:
            found.append(SigningKey(selector, PrivateKey.of(private)))
        except BadKey as error:
            observe.fault("dkim.bad_key", error, domain=domain, selector=selector)
    return Signatory(domain, tuple(found)) if found else NOBODY


def _key(row: Row) -> DomainKey:
    domain, selector, algorithm, public, state, created_at, since_at = row
    return DomainKey(domain, selector, Algorithm(algorithm), public, State(state), created_at, since_at)


def _normal(selector: str, domain: str) -> str:
    lowered = selector.lower()
    if not _SELECTOR.match(lowered) or len(record_name(lowered, domain)) > _LONGEST_NAME:
        raise BadSelector(selector)
    return lowered


def _next_selector(tx: Tx, domain: str, now: int) -> str:
    """The month and the letter behind the last one taken, be its key gone or not: 202611a, 202611b. A selector means
    one key for ever (RFC 6376 §3.1), for its record is cached everywhere.
    """
    month = datetime.datetime.fromtimestamp(now // 1000, datetime.UTC).strftime("%Y%m")
    taken = (selector for (selector,) in tx.all("dkim_selectors", domain=domain, month=month, limit=_MOST_SELECTORS))
    own = (match[2] for one in taken if (match := _OWN_SELECTOR.match(one)))
    return month + _after(max(own, key=lambda letters: (len(letters), letters), default=""))


def _after(letters: str) -> str:
    """a, b, … z, za, zb: what sorts behind is newer."""
    if not letters or letters.endswith("z"):
        return letters + "a"
    return letters[:-1] + chr(ord(letters[-1]) + 1)
