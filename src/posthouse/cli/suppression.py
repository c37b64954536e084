"""`posthouse suppression`: addresses that an account's mail did not reach, and those that complained."""

import click

from posthouse.cli.installation import ADDRESS, CommandError, Installation, as_json, pass_installation, print_json
from posthouse.cli.plain import printable
from posthouse.cli.queue_print import timestamp
from posthouse.directory import accounts
from posthouse.directory import suppression as the_list
from posthouse.directory.suppression import Suppressed
from posthouse.store.database import Tx
from posthouse.terms.address import Address, parse


@click.group("suppression")
def suppression() -> None:
    """Addresses that an account's mail did not reach, or that complained of it, and why.

    The list fills by itself: from what fails in the queue, and from the reports of other servers that come back.
    """


@suppression.command("list")
@click.argument("account", type=ADDRESS)
@as_json
@pass_installation
def list_(installation: Installation, account: Address, json_output: bool) -> None:
    """List the addresses that mail of ACCOUNT did not reach. Those marked ! another try would not reach either."""
    found = installation.read(_whole_list, str(account))
    if json_output:
        print_json([_told(one) for one in found])
        return
    for one in found:
        mark = "!" if one.stops else " "
        click.echo(f"{mark} {one.address}  {one.cause}, {one.times}×, last {timestamp(one.last_at)}")
        click.echo(f"    {printable(one.words)}")
    if not found:
        click.echo(f"no address is on the list of {account}", err=True)


@suppression.command("clear")
@click.argument("account", type=ADDRESS)
@click.argument("address", type=ADDRESS, required=False)
@click.option("--all", "everything", is_flag=True, help="Take all addresses off the list.")
@pass_installation
def clear(installation: Installation, account: Address, address: Address | None, everything: bool) -> None:
    """Take ADDRESS, or with --all every address, off the list of ACCOUNT."""
    if (address is None) is not everything:
        raise click.UsageError("say an ADDRESS, or --all")
    count = installation.write(_clear, str(account), address)
    if address is not None and not count:
        raise CommandError(f"{address} is not on the list of {account}")
    click.echo(f"{count} taken off the list of {account}")


def _whole_list(tx: Tx, account: str) -> list[Suppressed]:
    id = accounts.by_address(tx, account).id
    found: list[Suppressed] = []
    while batch := the_list.listed(tx, id, parse(found[-1].address).key if found else ""):
        found += batch
    return found


def _clear(tx: Tx, account: str, address: Address | None) -> int:
    return the_list.clear(tx, accounts.by_address(tx, account).id, address)


def _told(one: Suppressed) -> dict[str, object]:
    return {
        "address": one.address,
        "cause": one.cause,
        "stops": one.stops,
        "words": one.words,
        "times": one.times,
        "first_at": timestamp(one.first_at),
        "last_at": timestamp(one.last_at),
    }
