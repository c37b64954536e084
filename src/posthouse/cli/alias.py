"""`posthouse alias`: addresses that stand for others."""

import click

from posthouse.cli.installation import ADDRESS, Installation, as_json, pass_installation, print_json
from posthouse.directory import aliases
from posthouse.directory.model import Alias
from posthouse.store.database import Tx
from posthouse.terms.address import Address, parse


@click.group("alias")
def alias() -> None:
    """Addresses that stand for others, ours or another server's. An alias may point to aliases."""


@alias.command("add")
@click.argument("address", type=ADDRESS)
@click.argument("targets", type=ADDRESS, nargs=-1, required=True)
@pass_installation
def add(installation: Installation, address: Address, targets: tuple[Address, ...]) -> None:
    """Let ADDRESS stand for TARGETS: each of them gets a copy."""
    added = installation.write(aliases.add_alias, address, targets)
    click.echo(f"{added.address} stands for {', '.join(added.targets)}")


@alias.command("set")
@click.argument("address", type=ADDRESS)
@click.argument("targets", type=ADDRESS, nargs=-1, required=True)
@pass_installation
def set_(installation: Installation, address: Address, targets: tuple[Address, ...]) -> None:
    """Let the alias ADDRESS stand for TARGETS and no others."""
    changed = installation.write(aliases.set_targets, address, targets)
    click.echo(f"{changed.address} stands for {', '.join(changed.targets)}")


@alias.command("list")
@as_json
@pass_installation
def list_(installation: Installation, json_output: bool) -> None:
    """List the aliases, and whom they stand for."""
    found = installation.read(_every_alias)
    if json_output:
        print_json([{"address": one.address, "targets": one.targets} for one in found])
        return
    for one in found:
        click.echo(f"{one.address} → {', '.join(one.targets)}")


def _every_alias(tx: Tx) -> list[Alias]:
    found: list[Alias] = []
    while batch := aliases.list_aliases(tx, parse(found[-1].address).key if found else ""):
        found += batch
    return found


@alias.command("remove")
@click.argument("address", type=ADDRESS)
@pass_installation
def remove(installation: Installation, address: Address) -> None:
    """Remove the alias ADDRESS."""
    installation.write(aliases.remove_alias, address)
    click.echo(f"{address} is no alias any more")
