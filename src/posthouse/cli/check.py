"""`posthouse check-config`: can the configuration be used, and what is doubtful in it?"""

from collections.abc import Iterator

import click

from posthouse import config
from posthouse.cli.installation import Installation, as_json, pass_installation, print_json
from posthouse.config import Caution, Config
from posthouse.net.dns import system_servers
from posthouse.net.tls import has_authorities


@click.command("check-config")
@as_json
@pass_installation
def check_config(installation: Installation, json_output: bool) -> None:
    """Say whether the configuration can be used, and what is doubtful in it.

    Status 0: `posthouse serve` would take it. Status 1: it would not; the line says which key, what was found there
    and what is expected. Nothing is bound or changed.
    """
    cautions = [*config.check(installation.config), *_of_this_machine(installation.config)]
    if json_output:
        print_json(
            {"file": str(installation.path), "cautions": [{"key": one.key, "text": one.text} for one in cautions]}
        )
        return
    for one in cautions:
        click.echo(f"caution: {one}")
    click.echo(f"{installation.path} can be used")


def _of_this_machine(settings: Config) -> Iterator[Caution]:
    """What the file leaves to the machine, and the machine does not have."""
    servers = system_servers()
    remote = [str(server) for server in servers if not server.loopback]
    if settings.relay.dane and not settings.dns.resolver and settings.dns.trusted is None and remote:
        text = (
            f"this machine asks {', '.join(remote)}, whose DNSSEC verdict can be forged on the way; DANE is off."
            " A resolver that validates on this machine (unbound) turns it on"
        )
        yield Caution("dns.resolver", text)
    if settings.relay.authorities is None and not has_authorities():
        text = (
            "this machine has no certificate authorities (package ca-certificates); MTA-STS is off, nobody is verified"
        )
        yield Caution("relay.authorities", text)
