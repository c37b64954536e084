"""`posthouse dns`: the records that make other servers and people's clients find this one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click

from posthouse.cli.domain import every_domain
from posthouse.cli.installation import CommandError, Installation, as_json, pass_installation, print_json
from posthouse.directory import signing
from posthouse.directory.model import NoSuchDomain
from posthouse.directory.signing import DomainKey, State
from posthouse.store.database import Tx
from posthouse.terms.address import BadAddress, parse_domain
from posthouse.trust.keys import record_text

# RFC 1035 §3.3: one string of a TXT record; readers put them together without anything between (RFC 6376 §3.6.2.2).
_STRING: Final = 255
_WHY: Final = {
    State.SIGNING: "by this key receivers check our signatures",
    State.WAITING: "a key that signs once `posthouse dkim rotate` has found this record",
    State.RETIRED: "a key that signed until lately; a week later: `posthouse dkim remove`",
}


@dataclass(frozen=True, slots=True)
class Record:
    """A DNS record to publish, and why. `name` is absolute."""

    name: str
    type: str
    value: str
    why: str


def records(domain: str, hostname: str, keys: Sequence[DomainKey] = ()) -> list[Record]:
    """What is true of a served domain so far: where its mail goes, who may send it, by which keys it is signed, where
    its people log in.
    """
    found = [
        Record(f"{domain}.", "MX", f"10 {hostname}.", "mail for the domain comes here"),
        # RFC 7208 §5.4: whoever the MX records name may send; nobody else.
        Record(f"{domain}.", "TXT", '"v=spf1 mx -all"', "only this server sends mail of the domain"),
    ]
    found += map(dkim_record, keys)
    # RFC 6186 §3, RFC 8314 §5.1: how clients find the ports that are TLS from the first octet.
    services = {"submissions": 465, "imaps": 993, "pop3s": 995}
    for service, port in services.items():
        found.append(
            Record(f"_{service}._tcp.{domain}.", "SRV", f"0 1 {port} {hostname}.", "clients configure themselves")
        )
    return found


def dkim_record(key: DomainKey) -> Record:
    """The record by which others find a key."""
    text = record_text(key.algorithm, key.public)
    strings = [text[at : at + _STRING] for at in range(0, len(text), _STRING)]
    return Record(f"{key.name}.", "TXT", " ".join(f'"{one}"' for one in strings), _WHY[key.state])


def print_zone(found: Sequence[Record]) -> None:
    """In the form of a zone file, with comments."""
    width = max(len(record.name) for record in found)
    for record in found:
        click.echo(f"{record.name:{width}}  IN {record.type:4} {record.value:40} ; {record.why}")


def print_records(found: Sequence[Record], hostname: str) -> None:
    """The zone, and what belongs to it and stands elsewhere."""
    print_zone(found)
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
    wanted = installation.read(_wanted, _parsed(domain) if domain else None)
    found = [record for name, keys in wanted for record in records(name, hostname, keys)]
    if json_output:
        print_json([{"name": one.name, "type": one.type, "value": one.value, "why": one.why} for one in found])
    elif found:
        print_records(found, hostname)
    else:
        click.echo("no domain is served yet; `posthouse domain add NAME`")


def _wanted(tx: Tx, domain: str | None) -> list[tuple[str, list[DomainKey]]]:
    """That domain, served or not yet, or all that are; each with its keys."""
    if domain is None:
        return [(one.name, signing.keys(tx, one.name)) for one in every_domain(tx)]
    try:
        return [(domain, signing.keys(tx, domain))]
    except NoSuchDomain:
        return [(domain, [])]


def _parsed(text: str) -> str:
    try:
        return parse_domain(text.rstrip("."))
    except BadAddress as error:
        raise CommandError(f"{text}: {error}") from error
