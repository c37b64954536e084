"""An account's identities: the addresses it receives at, those it was granted, and whether it may send as another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from posthouse.directory.addresses import Rules, claim, require_unused, split_tag
from posthouse.directory.model import AddressInUse, NoSuchAccount, NoSuchAddress, NoSuchGrant, changed
from posthouse.store.database import Tx
from posthouse.terms.address import Address

# More addresses than this an account never needs; it bounds what submission keeps in memory of it.
ADDRESSES_PER_ACCOUNT: Final = 1000


def addresses_of(tx: Tx, account: int) -> list[str]:
    """The addresses of an account as they were written: what it receives at, and may send as."""
    return [written for _, written in tx.all("address_of_account", account=account, limit=ADDRESSES_PER_ACCOUNT)]


@dataclass(frozen=True, slots=True)
class Identities:
    """What an account may send as: its addresses and those it was granted, by key; and any of them with a tag that is
    not itself another's."""

    keys: frozenset[str]
    taken: frozenset[str] = frozenset()
    separator: str = "+"

    def owns(self, address: Address) -> bool:
        """May the account send as this address?"""
        key = address.key
        if key in self.keys:
            return True
        user, tag = split_tag(address.local, self.separator)
        if not tag or Address(user, address.domain).key not in self.keys:
            return False
        return self.taken.isdisjoint([key, *_above(address)])


def _above(address: Address) -> Iterator[str]:
    """The addresses that this one would be a list's other address of (team-owner@: team@)."""
    local = address.local
    for at, letter in enumerate(local):
        if letter == "-" and at:
            yield Address(local[:at], address.domain).key


def find_identities(tx: Tx, account: int, rules: Rules) -> Identities:
    """What the account may send as."""
    own = [key for key, _ in tx.all("address_of_account", account=account, limit=ADDRESSES_PER_ACCOUNT)]
    own += [key for key, _ in tx.all("send_as_of_account", account=account, limit=ADDRESSES_PER_ACCOUNT)]
    taken: set[str] = set()
    for key in own if rules.separator else ():
        local, _, domain = key.rpartition("@")
        low = local + rules.separator
        bounds = {"domain": domain, "low": low, "high": low + "\U0010ffff", "limit": ADDRESSES_PER_ACCOUNT}
        taken.update(found for (found,) in tx.all("address_between", account=account, **bounds))
    return Identities(frozenset(own), frozenset(taken), rules.separator)


def granted(tx: Tx, account: int) -> list[str]:
    """Addresses of others that the account may send as, as they were written."""
    return [written for _, written in tx.all("send_as_of_account", account=account, limit=ADDRESSES_PER_ACCOUNT)]


def grant(tx: Tx, account: int, address: Address) -> None:
    """Let an account send as an address that is another's, or an alias. Raises NoSuchAccount, NoSuchAddress."""
    if tx.one("account_find", account=account) is None:
        raise NoSuchAccount(account)
    if tx.one("address_find", key=address.key) is None:
        raise NoSuchAddress(str(address))
    tx.run("send_as_insert", account=account, key=address.key)
    changed(tx)


def revoke(tx: Tx, account: int, address: Address) -> None:
    """Take that back. Raises NoSuchGrant."""
    if not tx.run("send_as_delete", account=account, key=address.key):
        raise NoSuchGrant(str(address))
    changed(tx)


def add(tx: Tx, account: int, address: Address) -> None:
    """One more address for an account. Raises NoSuchAccount, NoSuchDomain, AddressTaken."""
    if tx.one("account_find", account=account) is None:
        raise NoSuchAccount(account)
    claim(tx, address, account)
    changed(tx)


def remove(tx: Tx, account: int, address: Address) -> None:
    """Take an address from an account.

    Raises NoSuchAddress; AddressInUse where it is the account's name, or something points to it.
    """
    row = tx.one("address_find", key=address.key)
    if row is None or row[2] != account:
        raise NoSuchAddress(str(address))
    named = tx.one("account_find", account=account)
    if named is not None and named[1] == address.key:
        raise AddressInUse(str(address), ["the account as its name"])
    require_unused(tx, address)
    tx.run("address_delete", key=address.key)
    changed(tx)
