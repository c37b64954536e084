"""`posthouse check-config`: can the configuration be used, and what is doubtful in it?

Promises: what `serve` reads at its start beside the configuration (certificates, keys, passwords, users) is read here
too. What only somebody else may read is a caution: `serve` may be started by him.
"""

import grp
import pwd
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click

from posthouse.cli.installation import CommandError, Installation, as_json, pass_installation, print_json
from posthouse.config import cautions
from posthouse.config.cautions import Caution
from posthouse.config.values import Config
from posthouse.net.dns import system_servers
from posthouse.net.tls import CertificateError, Certificates, client_context, has_authorities
from posthouse.relay.ways import password_of


@click.command("check-config")
@as_json
@pass_installation
def check_config(installation: Installation, json_output: bool) -> None:
    """Say whether the configuration can be used, and what is doubtful in it.

    Status 0: `posthouse serve` would take it. Status 1: it would not; the line says which key, what was found there
    and what is expected. Nothing is bound or changed.
    """
    settings = installation.config
    found = [*cautions.check(settings), *_of_files(settings), *_of_this_machine(settings)]
    if json_output:
        print_json({"file": str(installation.path), "cautions": [{"key": one.key, "text": one.text} for one in found]})
        return
    for one in found:
        click.echo(f"caution: {one}")
    click.echo(f"{installation.path} can be used")


def _of_files(settings: Config) -> Iterator[Caution]:
    """What the file names must be there. Raises CommandError."""
    for key, read in _named(settings):
        try:
            read()
        except KeyError as error:
            raise CommandError(f"{key}: {error.args[0]}") from error
        except (OSError, CertificateError) as error:
            text = _words(error)
            if not isinstance(error, PermissionError) and not isinstance(error.__cause__, PermissionError):
                raise CommandError(f"{key}: {text}") from error
            yield Caution(key, f"{text}; whether it is good only those can say who may read it")


def _look_into(data: Path) -> None:
    """Whether mail can be kept there; `serve` makes what is missing. Raises OSError."""
    if data.exists():
        next(data.iterdir(), None)


def _words(error: OSError | CertificateError) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {(error.strerror or str(error)).lower()}"
    return str(error)


def _named(settings: Config) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each key that names something, and how `serve` gets it: KeyError where this machine does not know it, OSError and
    CertificateError where it cannot be used."""
    yield "data", partial(_look_into, settings.data)
    if settings.user is not None:
        yield "user", partial(pwd.getpwnam, settings.user)
    if settings.group is not None:
        yield "group", partial(grp.getgrnam, settings.group)
    for n, listener in enumerate(settings.listeners, 1):
        if listener.socket_group is not None:
            yield f"listener[{n}].socket_group", partial(grp.getgrnam, listener.socket_group)
    clients = settings.tls.client_authorities
    if settings.tls.pairs:
        pairs = [(one.certificate, one.key) for one in settings.tls.pairs]
        yield "tls", partial(Certificates, pairs, clients=clients)
    elif clients is not None:
        yield "tls.client_authorities", partial(client_context, verify=True, authorities=clients)
    if settings.relay.authorities is not None:
        yield "relay.authorities", partial(client_context, verify=True, authorities=settings.relay.authorities)
    for n, route in enumerate(settings.routes, 1):
        if route.password_file is not None:
            yield f"route[{n}].password_file", partial(password_of, route)


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
