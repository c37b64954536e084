"""`posthouse init`: the first configuration, the store, the first domain, and the DNS records to publish."""

import json
import os
import socket
from collections.abc import Iterable
from pathlib import Path

import click

from posthouse.cli.dns import print_records, records
from posthouse.cli.domain import new_keys, serve
from posthouse.cli.installation import CommandError, Installation, pass_installation
from posthouse.config import reading
from posthouse.config.errors import ConfigError
from posthouse.directory import domains, signing
from posthouse.directory.model import NoSuchDomain
from posthouse.directory.signing import DomainKey
from posthouse.store.database import Tx
from posthouse.terms.address import BadAddress, parse_domain
from posthouse.trust.keys import PrivateKey

_TEMPLATE = """\
# posthouse's configuration. docs/configuration.md explains every setting; only what differs from the default need be
# here. `posthouse check-config` says whether it can be used.

hostname = "{hostname}"
data = {data}
{user}
# Certificates that others trust. Without them the installation's own CA signs one, so that encryption always works.
# [tls]
# certificate = "/etc/letsencrypt/live/{hostname}/fullchain.pem"
# key = "/etc/letsencrypt/live/{hostname}/privkey.pem"
"""


@click.command("init")
@click.option("--domain", help="The first domain to serve, such as example.org.")
@click.option(
    "--hostname", help="This machine's full name, as DNS and other servers know it, such as mail.example.org."
)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Where mail is kept.")
@click.option("--user", help="The user to become once ports are bound, when started as root.")
@click.option("--force", is_flag=True, help="Replace a configuration that is there.")
@pass_installation
def init(
    installation: Installation,
    domain: str | None,
    hostname: str | None,
    data: Path | None,
    user: str | None,
    force: bool,
) -> None:
    """Write a configuration, make the store with a first domain, and print the DNS records to publish.

    Asks for what is not given. Afterwards: `posthouse account add you@DOMAIN`, `posthouse check-config`, `posthouse
    serve`.
    """
    if installation.path.exists() and not force:
        raise CommandError(f"{installation.path} is there already; --force replaces it")
    name = _domain(domain or click.prompt("Domain to serve (the part after the @)"))
    host = _domain(hostname or click.prompt("Full name of this machine", default=_own_name(name)))
    text = _TEMPLATE.format(
        hostname=host,
        data=_quoted(_as_typed(data, installation.path) if data else _data_directory(installation.path)),
        user=f"user = {_quoted(user)}\n" if user else "",
    )
    try:
        reading.parse(text, file=str(installation.path), base=installation.path.absolute().parent)
        installation.path.parent.mkdir(parents=True, exist_ok=True)
        installation.path.write_text(text)
    except ConfigError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{installation.path}: {(error.strerror or str(error)).lower()}") from error
    try:
        kept = installation.write(_serve, name, new_keys(), installation.clock.now())
    except CommandError as error:
        raise CommandError(f"{error.message}; {installation.path} is written, and init --force replaces it") from error
    click.echo(f"wrote {installation.path}; mail is kept in {installation.config.data}\n\nPublish these DNS records:\n")
    print_records(records(name, host, kept), host)
    click.echo(f"\nNext: posthouse account add you@{name}, then posthouse serve")


def _serve(tx: Tx, name: str, keys: Iterable[PrivateKey], now: int) -> list[DomainKey]:
    """The domain's keys, which are those that it has where it is served already."""
    try:
        domains.find(tx, name)
    except NoSuchDomain:
        serve(tx, name, keys, now)
    return signing.keys(tx, name)


def _domain(text: str) -> str:
    try:
        return parse_domain(text.strip().rstrip("."))
    except BadAddress as error:
        raise CommandError(f"{text}: {error}") from error


def _quoted(text: str) -> str:
    """As TOML has it, which takes the escapes of JSON (https://toml.io/en/v1.0.0#string)."""
    return json.dumps(text, ensure_ascii=False)


def _as_typed(data: Path, configuration: Path) -> str:
    """Relative paths are taken from the directory of the configuration, and typed from where one is."""
    return str(data if configuration.absolute().parent == Path.cwd() else data.absolute())


def _own_name(domain: str) -> str:
    own = socket.getfqdn()
    return own if own.endswith(f".{domain}") else f"mail.{domain}"


def _data_directory(path: Path) -> str:
    """The system's place for root, and beside the configuration for everybody else."""
    return "/var/lib/posthouse" if os.geteuid() == 0 and path.is_relative_to("/etc") else "data"
