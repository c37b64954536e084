"""`posthouse domain`: which domains are served here."""

import click

from posthouse.cli.installation import ADDRESS, Installation, as_json, pass_installation, print_json
from posthouse.directory import domains
from posthouse.directory.model import Domain
from posthouse.store.database import Tx
from posthouse.terms.address import Address


@click.group("domain")
def domain() -> None:
    """Domains that are served here: mail for them is ours to keep, and no other server's."""


@domain.command("add")
@click.argument("name")
@pass_installation
def add(installation: Installation, name: str) -> None:
    """Serve the domain NAME. Publish its DNS records then (`posthouse dns NAME`)."""
    added = installation.write(domains.add, name, installation.clock.now())
    click.echo(f"serving {added.name}")


@domain.command("list")
@as_json
@pass_installation
def list_(installation: Installation, json_output: bool) -> None:
    """List the domains, and who takes mail for their unknown addresses."""
    found = installation.read(every_domain)
    if json_output:
        print_json([{"name": one.name, "catch_all": one.catch_all, "created_at": one.created_at} for one in found])
        return
    for one in found:
        click.echo(one.name + (f"  (unknown addresses go to {one.catch_all})" if one.catch_all else ""))


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
    """Serve NEW in place of OLD: its addresses, account names and aliases move along."""
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


@domain.command("remove")
@click.argument("name")
@pass_installation
def remove(installation: Installation, name: str) -> None:
    """Serve NAME no more. Its accounts and aliases must be gone first."""
    installation.write(domains.remove, name)
    click.echo(f"{name} is not served any more")
