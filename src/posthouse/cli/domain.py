"""`posthouse domain`: which domains are served here."""

from collections.abc import Iterable

import click

from posthouse.cli.installation import ADDRESS, Installation, as_json, pass_installation, print_json
from posthouse.cli.quantities import NoneOrType, Nothing, SizeType
from posthouse.directory import domains, quotas, signing
from posthouse.directory.model import Domain
from posthouse.store.database import Tx
from posthouse.terms.address import Address
from posthouse.trust.keys import Algorithm, PrivateKey
from posthouse.written import format_size, rough_size


@click.group("domain")
def domain() -> None:
    """Domains that are served here: mail for them is ours to keep, and no other server's."""


@domain.command("add")
@click.argument("name")
@pass_installation
def add(installation: Installation, name: str) -> None:
    """Serve the domain NAME. Publish its DNS records then (`posthouse dns NAME`).

    Keys that sign its mail are made with it (`posthouse dkim`).
    """
    added = installation.write(serve, name, new_keys(), installation.clock.now())
    click.echo(f"serving {added.name}")


def new_keys(algorithms: Iterable[Algorithm] = tuple(Algorithm)) -> list[PrivateKey]:
    """New keys of these kinds, RSA first. Takes 100 ms of CPU or so."""
    return [PrivateKey.generate(one) for one in algorithms]


def serve(tx: Tx, name: str, keys: Iterable[PrivateKey], now: int) -> Domain:
    """Serve a domain from now on, and sign its mail with these keys. Raises DomainExists, BadAddress."""
    added = domains.add(tx, name, now)
    for key in keys:
        signing.add(tx, added.name, key, now)
    return added


@domain.command("list")
@as_json
@pass_installation
def list_(installation: Installation, json_output: bool) -> None:
    """List the domains, what they hold of their quotas, and who takes mail for their unknown addresses."""
    found = installation.read(lambda tx: [(one, *quotas.usage(tx, one.name)) for one in every_domain(tx)])
    if json_output:
        print_json([_described(*row) for row in found])
        return
    for one, octets, most in found:
        held = "" if most is None else f"  {rough_size(octets)} of {format_size(most)}"
        click.echo(one.name + held + (f"  (unknown addresses go to {one.catch_all})" if one.catch_all else ""))


def _described(one: Domain, octets: int, most: int | None) -> dict[str, object]:
    return {
        "name": one.name,
        "catch_all": one.catch_all,
        "created_at": one.created_at,
        "used_octets": octets,
        "quota_octets": most,
    }


def every_domain(tx: Tx) -> list[Domain]:
    """All that are served, in the order of their names."""
    found: list[Domain] = []
    while batch := domains.list_domains(tx, found[-1].name if found else ""):
        found += batch
    return found


@domain.command("rename")
@click.argument("old")
@click.argument("new")
@pass_installation
def rename(installation: Installation, old: str, new: str) -> None:
    """Serve NEW in place of OLD: its addresses, account names, aliases and keys move along.

    The keys' records have to be published anew (`posthouse dns NEW`).
    """
    click.echo(f"serving {installation.write(domains.rename, old, new).name} in place of {old}")


@domain.command("catch-all")
@click.argument("name")
@click.argument("address", type=ADDRESS, required=False)
@pass_installation
def catch_all(installation: Installation, name: str, address: Address | None) -> None:
    """Give mail for unknown addresses of NAME to ADDRESS; without ADDRESS such mail is refused (the default).

    A catch-all attracts spam: every guessed address exists then.
    """
    installation.write(domains.set_catch_all, name, address)
    click.echo(
        f"unknown addresses of {name} go to {address}" if address else f"unknown addresses of {name} are refused"
    )


@domain.command("quota")
@click.argument("name")
@click.argument("size", type=NoneOrType(SizeType(), "none"))
@pass_installation
def quota(installation: Installation, name: str, size: int | Nothing) -> None:
    """Limit what all accounts named in the domain NAME may hold together to SIZE (such as 50GB; none: any amount).

    Each account's own quota (`posthouse account quota`) holds as well. At 80 and 95 % the domain's postmaster gets a
    letter.
    """
    most = None if isinstance(size, Nothing) else size
    installation.write(quotas.set_quota, name, most)
    click.echo(f"the accounts of {name} may hold {'any amount' if most is None else format_size(most)}")


@domain.command("remove")
@click.argument("name")
@pass_installation
def remove(installation: Installation, name: str) -> None:
    """Serve NAME no more. Its accounts and aliases must be gone first."""
    installation.write(domains.remove, name)
    click.echo(f"{name} is not served any more")
