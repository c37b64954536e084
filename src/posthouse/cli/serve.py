"""`posthouse serve`: bind, give up root, open the store, and serve until told to stop."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Sequence
from random import SystemRandom
from typing import Final

import click

from posthouse import observe
from posthouse.app import App
from posthouse.cli.installation import CommandError, Installation, pass_installation
from posthouse.config import cautions, reading
from posthouse.config.errors import ConfigError
from posthouse.config.values import Config, Listener
from posthouse.net import listen, stream
from posthouse.net.tls import CertificateError, Certificates
from posthouse.store.sqlite import SqliteStore

Bound = Sequence[tuple[Listener, Sequence[socket.socket]]]

# Objects made before the youngest are looked through for circles, and how often the older are. Python's own 700 cost
# a tenth of the loop's time: mail makes many objects and hardly a circle.
_COLLECT_AFTER: Final = (10_000, 20, 20)


@click.command("serve")
@pass_installation
def serve(installation: Installation) -> None:
    """Run the mail server, until SIGTERM or Ctrl-C.

    Ports are bound first (or taken from systemd), then root is given up for the configured user, then the store is
    opened. SIGTERM finishes what was promised and stops within seconds; a message that is being handed to another
    server gets up to a minute to be answered. SIGHUP reads the configuration and the certificates again. On a
    terminal the log reads as text, elsewhere each line is a JSON object.
    """
    settings = installation.config
    observe.configure(format=settings.log.format, level=settings.log.level)
    listen.tune_allocator()
    listen.raise_descriptor_limit()
    # What only root may read is read before root is given up, and what cannot be used is said before anything is bound.
    given = _certificates(settings)
    bound = bind(settings)
    store = installation.open_to_serve()
    for caution in cautions.check(settings):
        observe.tell("caution", level=observe.WARNING, setting=caution.key, text=caution.text)
    if os.geteuid() == 0:
        text = "this server runs as root; name a user, or give the data directory to one"
        observe.tell("caution", level=observe.WARNING, setting="user", text=text)
    stream.run(_serve(installation, store, bound, given))


def _certificates(settings: Config) -> Certificates | None:
    """Those that are configured. Raises CommandError."""
    if not settings.tls.pairs:
        return None
    try:
        pairs = [(pair.certificate, pair.key) for pair in settings.tls.pairs]
        return Certificates(pairs, clients=settings.tls.client_authorities)
    except CertificateError as error:
        raise CommandError(str(error)) from error


def bind(settings: Config) -> Bound:
    """The sockets of every listener, systemd's where it has bound them. Raises CommandError."""
    inherited = listen.inherited()
    bound: list[tuple[Listener, Sequence[socket.socket]]] = []
    try:
        for listener in settings.listeners:
            group = listener.socket_group
            found = [one for at in listener.address for one in listen.bind(at, inherited, group=group)]
            bound.append((listener, found))
        _require_used(inherited, bound)
    except listen.BindError as error:
        for one in (*inherited, *(one for _, sockets in bound for one in sockets)):
            one.close()
        raise CommandError(str(error)) from error
    return bound


def _require_used(inherited: Sequence[socket.socket], bound: Bound) -> None:
    """Clients of a socket that is nobody's would wait for ever. Raises BindError."""
    used = {id(one) for _, sockets in bound for one in sockets}
    for one in inherited:
        if id(one) not in used:
            raise listen.BindError(f"systemd listens on {one.getsockname()}, which no [[listener]] names")


async def _serve(installation: Installation, store: SqliteStore, bound: Bound, given: Certificates | None) -> None:
    loop = asyncio.get_running_loop()
    try:
        app = App(installation.config, store, installation.clock, SystemRandom(), certificates=given)
    except (OSError, CertificateError) as error:
        await store.close()
        raise CommandError(str(error)) from error
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: _reload(installation, app))
    try:
        endpoints = await app.start(bound)
        _spare_the_collector()
        observe.tell("server.ready", listeners=endpoints)
        await stopping.wait()
        observe.tell("server.stopping")
    finally:
        await app.stop()
        await store.close()
        observe.tell("server.stopped")
        observe.flush()


def _spare_the_collector() -> None:
    """What stands now stays until the end, and is not looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def _reload(installation: Installation, app: App) -> None:
    """SIGHUP: a configuration that cannot be used changes nothing."""
    try:
        app.reload(reading.load(installation.path))
    except (ConfigError, CertificateError) as error:
        observe.tell("reload.refused", level=observe.ERROR, error=str(error))
