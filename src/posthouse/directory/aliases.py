"""Aliases: addresses that stand for others. What mail to one leads to is told by addresses.py.

Promises: an alias never points to an address of ours that leads nowhere at the time it is set; it may lead round.
"""

from collections.abc import Sequence

from posthouse.directory.addresses import POSTMASTER, claim, require_unused
from posthouse.directory.model import Alias, BadAlias, NoSuchAddress, NoSuchAlias, changed
from posthouse.limits import ALIAS_FANOUT
from posthouse.store.database import Tx
from posthouse.terms.address import Address


def list_aliases(tx: Tx, after: str = "", limit: int = 1000) -> list[Alias]:
    """Up to `limit` aliases in the order of their keys, those behind the key `after`."""
    return [
        Alias(written, tuple(target for (target,) in tx.all("alias_targets", alias=key, limit=ALIAS_FANOUT)))
        for key, written in tx.all("alias_list", after=after, limit=limit)
    ]


def find_alias(tx: Tx, address: Address) -> Alias:
    """The alias of that address. Raises NoSuchAlias."""
    row = tx.one("address_find", key=address.key)
    if row is None or row[2] is not None or row[3] is not None:
        raise NoSuchAlias(str(address))
    targets = tx.all("alias_targets", alias=address.key, limit=ALIAS_FANOUT)
    return Alias(row[1], tuple(target for (target,) in targets))


def add_alias(tx: Tx, address: Address, targets: Sequence[Address]) -> Alias:
    """Let `address` stand for the targets. Raises NoSuchDomain, AddressTaken, BadAlias, NoSuchAddress.

    NoSuchAddress: a target in a domain of ours that leads nowhere. Targets elsewhere are taken as they are.
    """
    claim(tx, address, None)
    _set_targets(tx, address, targets)
    changed(tx)
    return find_alias(tx, address)


def set_targets(tx: Tx, address: Address, targets: Sequence[Address]) -> Alias:
    """Let the alias stand for these targets and no others. Raises NoSuchAlias, BadAlias, NoSuchAddress."""
    find_alias(tx, address)
    tx.run("alias_target_delete_all", alias=address.key)
    _set_targets(tx, address, targets)
    changed(tx)
    return find_alias(tx, address)


def remove_alias(tx: Tx, address: Address) -> None:
    """Raises NoSuchAlias; AddressInUse where another alias or a catch-all points to it."""
    find_alias(tx, address)
    require_unused(tx, address)
    tx.run("alias_target_delete_all", alias=address.key)
    tx.run("address_delete", key=address.key)
    changed(tx)


def _set_targets(tx: Tx, address: Address, targets: Sequence[Address]) -> None:
    wanted = {target.key: target for target in targets}
    if not wanted:
        raise BadAlias(f"alias {address} needs at least one target")
    if len(wanted) > ALIAS_FANOUT:
        raise BadAlias(f"alias {address} has {len(wanted)} targets; {ALIAS_FANOUT} is the most")
    if address.key in wanted:
        raise BadAlias(f"alias {address} cannot stand for itself")
    for target in wanted.values():
        _require_target(tx, target)
    rows = [{"alias": address.key, "target_key": key, "target": str(target)} for key, target in wanted.items()]
    tx.many("alias_target_insert", rows)


def _require_target(tx: Tx, target: Address) -> None:
    """A target in a domain of ours must exist, with or without a tag. Whether it leads round, mail will show."""
    row = tx.one("domain_find", name=target.domain)
    if row is None or row[1] is not None or target.local.casefold() == POSTMASTER:
        return
    # Any character may be the separator: the longest user part that exists is enough to call the target real.
    local = target.local.casefold()
    candidates = [local, *(local[:end] for end in range(len(local) - 1, 0, -1) if not local[end].isalnum())]
    if not any(tx.one("address_find", key=f"{user}@{target.domain}") for user in candidates):
        raise NoSuchAddress(str(target))
