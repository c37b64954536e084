"""The directory as the doors ask it: answers from memory, looked up in the store once.

Promises: a warm answer costs no trip to the database; memory is bounded, and a flood of addresses that somebody makes
up, unknown ones or with tags, cannot push out those that stand in the directory. Every answer carries the directory's
version of the snapshot it was read in, so that the accepting transaction can tell whether it still holds
(`addresses.current`). A change is noticed by the bell; where a ring was lost, after FRESH seconds.
Refuses: to change anything.
"""

from collections.abc import Sequence
from typing import Final

from posthouse.clock import Clock
from posthouse.directory import accounts, addresses, aliases, identities, lists, signing
from posthouse.directory.addresses import Expansion, Resolution, Rules, Standing
from posthouse.directory.identities import Identities
from posthouse.directory.kept import Kept, forget_when_changed
from posthouse.directory.model import Account, NoSuchAccount, NoSuchAlias, NoSuchList, version
from posthouse.directory.signing import Signatory
from posthouse.store.database import Store, Tx
from posthouse.terms.address import Address

# Seconds. The bell makes this superfluous; it bounds the harm where a ring is lost between processes.
FRESH: Final = 60.0
# An entry takes some 500 octets: 25 MB where a very large site is busy.
KNOWN: Final = 50_000
OTHERS: Final = 10_000


class Directory:
    """Questions about addresses and accounts, answered from memory where possible. Serves one event loop.

    `follow` has to run as a task, or answers are up to FRESH seconds old.
    """

    def __init__(self, store: Store, clock: Clock, rules: Rules) -> None:
        self.rules = rules
        self._store = store
        self._clock = clock
        self._known: Kept[str, Expansion] = Kept(KNOWN)
        self._made_up: Kept[str, Expansion] = Kept(OTHERS)
        self._elsewhere: Kept[str, int] = Kept(OTHERS)
        self._identities: Kept[int, Identities] = Kept(KNOWN)
        self._accounts: Kept[int, Account] = Kept(KNOWN)
        self._signatories: Kept[str, Signatory] = Kept(OTHERS)
        self._signs: bool | None = None
        self._fresh_until = 0.0
        # Grows whenever all is forgotten: what was read before that is not kept afterwards.
        self._generation = 0

    async def follow(self) -> None:
        """Forget everything each time the directory has changed. Runs until it is cancelled."""
        await forget_when_changed(self._store, self.forget)

    def forget(self) -> None:
        """The directory has changed, or may have."""
        self._generation += 1
        answers = (self._known, self._made_up, self._elsewhere, self._identities, self._accounts, self._signatories)
        for kept in answers:
            kept.clear()
        self._signs = None
        self._fresh_until = self._clock.monotonic() + FRESH

    def _forget_if_old(self) -> None:
        if self._clock.monotonic() >= self._fresh_until:
            self.forget()

    def look(self, address: Address) -> Expansion | None:
        """What the address leads to, where memory knows."""
        self._forget_if_old()
        key = address.key
        found = self._known.get(key)
        if found is not None:
            return found
        at_version = self._elsewhere.get(address.domain)
        if at_version is not None:
            return _relay(address, at_version)
        return self._made_up.get(key)

    async def recipient(self, address: Address) -> Expansion:
        """What the address leads to. Raises StoreUnavailable."""
        found = self.look(address)
        if found is not None:
            return found
        generation = self._generation
        found = await self._store.read(addresses.expand, address, self.rules)
        if generation == self._generation:
            if found.standing is Standing.RELAY:
                self._elsewhere.put(address.domain, found.version)
            else:
                (self._known if found.entered else self._made_up).put(address.key, found)
        return found

    async def resolve(self, recipients: Sequence[Address]) -> Resolution:
        """What all of these lead to, together; the accepting transaction asks `addresses.current` of it.

        Raises StoreUnavailable.
        """
        return addresses.merge([(one, self.look(one) or await self.recipient(one)) for one in recipients])

    async def identities(self, account: int) -> Identities:
        """What an account may send as. Raises StoreUnavailable."""
        self._forget_if_old()
        found = self._identities.get(account)
        if found is None:
            generation = self._generation
            found = await self._store.read(identities.find_identities, account, self.rules)
            if generation == self._generation:
                self._identities.put(account, found)
        return found

    async def account(self, account: int) -> Account | None:
        """The account of that id, None where it is gone. Raises StoreUnavailable."""
        self._forget_if_old()
        found = self._accounts.get(account)
        if found is None:
            generation = self._generation
            found = await self._store.read(_account, account)
            if generation == self._generation and found is not None:
                self._accounts.put(account, found)
        return found

    async def signs(self) -> bool:
        """Whether mail of any domain is signed here. Raises StoreUnavailable."""
        self._forget_if_old()
        found = self._signs
        if found is None:
            generation = self._generation
            found = await self._store.read(signing.signs)
            if generation == self._generation:
                self._signs = found
        return found

    def known_signatory(self, domain: str) -> Signatory | None:
        """Who signs mail of this domain, where memory knows."""
        self._forget_if_old()
        return self._signatories.get(domain)

    async def signatory(self, domain: str) -> Signatory:
        """Who signs mail of this domain. Raises StoreUnavailable."""
        self._forget_if_old()
        found = self._signatories.get(domain)
        if found is None:
            generation = self._generation
            found = signing.signatory(*await self._store.read(signing.signing, domain))
            if generation == self._generation:
                self._signatories.put(domain, found)
        return found

    async def members(self, address: Address, account: int) -> tuple[str, ...] | None:
        """Whom the alias or list of this address stands for, as written, for this account to know; None: it is neither.
        Not kept.

        Raises MembersHidden, StoreUnavailable.
        """
        return await self._store.read(_members, address, account)

    async def version(self) -> int:
        """The directory's version now. Raises StoreUnavailable."""
        return await self._store.read(version)


def _relay(address: Address, at_version: int) -> Expansion:
    """Kept by domain, not by address: the local part travels as it was written (RFC 5321 §2.4)."""
    return Expansion(Standing.RELAY, remote=(address,), version=at_version)


def _members(tx: Tx, address: Address, account: int) -> tuple[str, ...] | None:
    try:
        return aliases.find_alias(tx, address).targets
    except NoSuchAlias:
        return _members_of_list(tx, address, account)


def _members_of_list(tx: Tx, address: Address, account: int) -> tuple[str, ...] | None:
    try:
        return lists.members_for(tx, address, account)
    except NoSuchList:
        return None


def _account(tx: Tx, account: int) -> Account | None:
    try:
        return accounts.find(tx, account)
    except NoSuchAccount:
        return None
