"""Domains that are served here: add, list, rename, remove, and who takes mail for their unknown addresses.

Promises: a domain is held in normal form (`terms.address.parse_domain`); each function here is one change of the
directory, over a transaction, and rings its bell.
Refuses: to remove a domain that still has addresses.
"""

from posthouse.directory.model import Domain, DomainExists, DomainInUse, NoSuchDomain, changed
from posthouse.store.database import Topic, Tx
from posthouse.terms.address import Address, parse, parse_domain


def find(tx: Tx, name: str) -> Domain:
    """The domain of that name. Raises NoSuchDomain, BadAddress."""
    normal = parse_domain(name)
    row = tx.one("domain_find", name=normal)
    if row is None:
        raise NoSuchDomain(normal)
    return Domain(*row)


def list_domains(tx: Tx, after: str = "", limit: int = 1000) -> list[Domain]:
    """Up to `limit` domains in the order of their names, those behind `after`."""
    return [Domain(*row) for row in tx.all("domain_list", after=after, limit=limit)]


def add(tx: Tx, name: str, now: int) -> Domain:
    """Serve a domain from now on. Raises DomainExists, BadAddress."""
    normal = parse_domain(name)
    if tx.one("domain_find", name=normal) is not None:
        raise DomainExists(normal)
    tx.run("domain_insert", name=normal, catch_all=None, created_at=now)
    changed(tx)
    return Domain(normal, None, now)


def remove(tx: Tx, name: str) -> None:
    """Serve the domain no more. Raises NoSuchDomain, DomainInUse, BadAddress."""
    domain = find(tx, name)
    addresses = tx.value("domain_address_count", name=domain.name)
    if addresses:
        raise DomainInUse(domain.name, addresses)
    tx.run("domain_delete", name=domain.name)
    changed(tx)


def rename(tx: Tx, old: str, new: str) -> Domain:
    """Serve `new` instead of `old`: addresses, account names, aliases, what points to them, and keys move along.

    Raises NoSuchDomain, DomainExists, BadAddress.
    """
    domain, normal = find(tx, old), parse_domain(new)
    if tx.one("domain_find", name=normal) is not None:
        raise DomainExists(normal)
    tx.run("domain_insert", name=normal, catch_all=domain.catch_all, created_at=domain.created_at)
    names = {"old": domain.name, "new": normal}
    tx.run("quota_domain_copy", **names)
    tx.run("quota_domain_rename", **names)
    tx.run("domain_rename_addresses", **names)
    tx.run("domain_rename_aliases", **names)
    tx.run("domain_rename_accounts", **names)
    tx.run("domain_rename_send_as", **names)
    tx.run("domain_rename_lists", **names)
    tx.run("domain_rename_members", **names)
    tx.run("domain_rename_doubled_members", old=domain.name)
    tx.run("domain_rename_delete_addresses", old=domain.name)
    tx.run("domain_rename_targets", **names)
    tx.run("domain_rename_doubled_targets", old=domain.name)
    tx.run("domain_rename_keys", **names)
    tx.run("domain_rename_selectors", **names)
    tx.run("domain_delete", name=domain.name)
    for other, catch_all in tx.all("domain_catch_alls"):
        target = parse(catch_all)
        if target.domain == domain.name:
            tx.run("domain_set_catch_all", name=other, catch_all=str(Address(target.local, normal)))
    changed(tx)
    # What its accounts share has other names.
    tx.ring(Topic.SHARES)
    return find(tx, normal)


def set_catch_all(tx: Tx, name: str, target: Address | None) -> None:
    """Who takes mail for the domain's unknown local parts; None: such mail is refused. Raises NoSuchDomain, BadAddress.

    A target that leads nowhere is no error here, for it may come later: mail to it is then refused like any unknown's.
    """
    domain = find(tx, name)
    tx.run("domain_set_catch_all", name=domain.name, catch_all=None if target is None else str(target))
    changed(tx)
