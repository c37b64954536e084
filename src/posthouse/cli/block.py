"""`posthouse block`: networks that nobody is served from."""

import ipaddress
from collections.abc import Iterator
from typing import Any

import click

from posthouse.cli.installation import CommandError, Installation, as_json, pass_installation, print_json
from posthouse.cli.plain import printable
from posthouse.cli.queue_print import timestamp
from posthouse.config.values import Config
from posthouse.policy import blocks
from posthouse.policy.blocks import Block
from posthouse.policy.networks import LOOPBACK
from posthouse.store.database import Tx
from posthouse.written import Duration, parse_duration, parse_network

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class NetworkType(click.ParamType[Network]):
    """A command-line argument that is an address or a network."""

    name = "network"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Network:
        if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
            return value
        try:
            network = parse_network(value, strict=False)
            exact = parse_network(value.partition("/")[0])
        except ValueError:
            self.fail(f'{value}: an address or network such as "192.0.2.1" or "2001:db8::/64" is wanted', param, ctx)
        if network.network_address != exact.network_address:
            self.fail(f"{value}: the network is {network}", param, ctx)
        return network


class DurationType(click.ParamType[Duration]):
    """A command-line argument that is a duration."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        try:
            seconds = parse_duration(str(value))
        except ValueError:
            seconds = Duration(0)
        if seconds <= 0:
            self.fail(f'{value}: a duration such as "90s", "5m", "4h" or "5d" is wanted', param, ctx)
        return seconds


NETWORK = NetworkType()


@click.group("block")
def block() -> None:
    """Networks that nobody is served from, at any door.

    Whoever guesses passwords, tries to relay, tries out addresses or speaks out of turn is blocked by itself, for ten
    minutes at first and for longer each time. Loopback and `limits.never_blocked` never are.
    """


@block.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that have ended, and are remembered for a week.")
@as_json
@pass_installation
def list_(installation: Installation, everything: bool, json_output: bool) -> None:
    """List what is blocked, until when and why."""
    now = installation.clock.now()
    found = [one for one in installation.read(blocks.listed) if everything or one.holds(now)]
    if json_output:
        print_json([_told(one, now) for one in found])
        return
    for one in found:
        until = "until it is removed" if one.until is None else f"until {timestamp(one.until)}"
        ended = "" if one.holds(now) else "  (ended)"
        times = "by hand" if one.by_hand else f"{one.times}×"
        click.echo(f"{one.shown}  {until}  {times}  {printable(one.reason)}".rstrip() + ended)
    if not found:
        click.echo("nothing is blocked", err=True)


def _told(one: Block, now: int) -> dict[str, object]:
    return {
        "network": one.shown,
        "since": one.since,
        "until": one.until,
        "reason": one.reason,
        "times": one.times,
        "by_hand": one.by_hand,
        "in_force": one.holds(now),
    }


@block.command("add")
@click.argument("network", type=NETWORK, metavar="ADDRESS|NETWORK")
@click.option(
    "--for", "seconds", type=DurationType(), metavar="DURATION", help="For so long; else until it is removed."
)
@click.option("--reason", default="", help="Why, for those who read the list.")
@pass_installation
def add(installation: Installation, network: Network, seconds: Duration | None, reason: str) -> None:
    """Serve nobody from ADDRESS or NETWORK. Who is connected already may finish."""
    if any(_within(network, ipaddress.ip_network(near)) for near in LOOPBACK):
        raise CommandError(f"{network}: this machine itself is never blocked")
    for key, never in _never(installation.config):
        if _within(network, ipaddress.ip_network(never)):
            raise CommandError(f"{blocks.shown(str(network))} would be served all the same: {key} holds {never}")
    now = installation.clock.now()
    until = None if seconds is None else now + int(seconds * 1000)
    made = installation.write(blocks.add, str(network), now, until, reason)
    click.echo(f"{made.shown} is blocked" + ("" if until is None else f" until {timestamp(until)}"))


def _never(settings: Config) -> Iterator[tuple[str, str]]:
    """The networks that are configured never to be blocked, each with its setting."""
    for network in settings.limits.never_blocked:
        yield "limits.never_blocked", network
    for network in settings.relay.trusted_networks:
        yield "relay.trusted_networks", network


@block.command("remove")
@click.argument("network", type=NETWORK, metavar="ADDRESS|NETWORK")
@pass_installation
def remove(installation: Installation, network: Network) -> None:
    """Serve ADDRESS or NETWORK again, and forget that it was ever blocked."""
    wider, narrower = installation.write(_remove, network, installation.clock.now())
    click.echo(f"{blocks.shown(str(network))} is not blocked any more")
    for one in wider:
        click.echo(f"posthouse: but {one.shown} is, which it lies in", err=True)
    for one in narrower:
        click.echo(f"posthouse: but {one.shown} is, which lies in it", err=True)


def _remove(tx: Tx, network: Network, now: int) -> tuple[list[Block], list[Block]]:
    """Take this one back; those in force that hold it still, and those that hold part of it."""
    kept = blocks.listed(tx)
    others = [
        (one, ipaddress.ip_network(one.network)) for one in kept if one.network != str(network) and one.holds(now)
    ]
    wider = [one for one, other in others if _within(network, other)]
    narrower = [one for one, other in others if _within(other, network)]
    if not any(one.network == str(network) for one in kept) and wider:
        raise CommandError(
            f"{blocks.shown(str(network))} itself is not blocked, but {wider[0].shown} is, which it lies in"
        )
    blocks.remove(tx, str(network))
    return wider, narrower


def _within(network: Network, other: Network) -> bool:
    if isinstance(network, ipaddress.IPv4Network):
        return isinstance(other, ipaddress.IPv4Network) and network.subnet_of(other)
    return isinstance(other, ipaddress.IPv6Network) and network.subnet_of(other)
