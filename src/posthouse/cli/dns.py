"""`posthouse dns`: the records that make other servers and people's clients find this one."""

from dataclasses import dataclass

import click

from posthouse.cli.domain import every_domain
from posthouse.cli.installation import CommandError, Installation, as_json, pass_installation, print_json
from posthouse.terms.address import BadAddress, parse_domain


@dataclass(frozen=True, slots=True)
class Record:
    """A DNS record to publish, and why. `name` is absolute."""

    name: str
    type: str
    value: str
    why: str


def records(domain: str, hostname: str) -> list[Record]:
    """What is true of a served domain so far: where its mail goes, who may send it, where its people log in."""
    found = [
        Record(f"{domain}.", "MX", f"10 {hostname}.", "mail for the domain comes here"),
        # RFC 7208 §5.4: whoever the MX records name may send; nobody else.
        Record(f"{domain}.", "TXT", '"v=spf1 mx -all"', "only this server sends mail of the domain"),
    ]
    # RFC 6186 §3, RFC 8314 §5.1: how clients find the ports that are TLS from the first octet.
    services = {"submissions": 465, "imaps": 993, "pop3s": 995}
    for service, port in services.items():
        found.append(
            Record(f"_{service}._tcp.{domain}.", "SRV", f"0 1 {port} {hostname}.", "clients configure themselves")
        )
    return found


def print_records(found: list[Record], hostname: str) -> None:
    """In the form of a zone file, with comments."""
    width = max(len(record.name) for record in found)
    for record in found:
        click.echo(f"{record.name:{width}}  IN {record.type:4} {record.value:40} ; {record.why}")
    click.echo(
        f"\nBesides, {hostname} needs an A (and AAAA) record with this machine's public address, and the address a"
        f"\nPTR record with {hostname}: many servers take no mail from an address without one."
    )


@click.command("dns")
@click.argument("domain", required=False)
@as_json
@pass_installation
def dns(installation: Installation, domain: str | None, json_output: bool) -> None:
    """Print the DNS records to publish for DOMAIN, or for every domain that is served."""
    hostname = installation.config.hostname
    names = [_parsed(domain)] if domain else [one.name for one in installation.read(every_domain)]
    found = [record for name in names for record in records(name, hostname)]
    if json_output:
        print_json([{"name": one.name, "type": one.type, "value": one.value, "why": one.why} for one in found])
    elif found:
        print_records(found, hostname)
    else:
        click.echo("no domain is served yet; `posthouse domain add NAME`")


def _parsed(text: str) -> str:
    try:
        return parse_domain(text.rstrip("."))
    except BadAddress as error:
        raise CommandError(f"{text}: {error}") from error
