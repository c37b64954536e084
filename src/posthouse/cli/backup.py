"""`posthouse backup`: a copy of the store, while mail goes on."""

from pathlib import Path

import click

from posthouse.cli.installation import CommandError, Installation, as_json, pass_installation, print_json
from posthouse.store import backup as copying
from posthouse.store.places import open_blobs
from posthouse.store.sqlite import SqliteStore


@click.command("backup")
@click.argument("directory", type=click.Path(path_type=Path))
@as_json
@pass_installation
def backup(installation: Installation, json_output: bool, directory: Path) -> None:
    """Copy all mail, accounts and the queue to DIRECTORY, which is made. The server may run meanwhile.

    What is there then is the store as it was at one moment. The configuration and certificates are not in it.
    """

    async def copy(store: SqliteStore) -> int:
        settings = installation.config
        blobs = open_blobs(settings.data, settings.store, settings.limits)
        try:
            return await copying.backup(store, blobs, directory)
        finally:
            blobs.close()

    try:
        blobs = installation.with_store(copy)
    except copying.LostBefore as error:
        many = error.count > 1
        raise CommandError(
            f"{directory} holds the store, but of {error.count} large message{'s' * many} the "
            f"file{'s were' if many else ' was'} lost before: not to be found below {installation.config.data}"
        ) from error
    except OSError as error:
        raise CommandError(f"{directory}: {(error.strerror or str(error)).lower()}") from error
    if json_output:
        print_json({"directory": str(directory), "blobs": blobs})
    else:
        large = "1 large message" if blobs == 1 else f"{blobs} large messages"
        click.echo(f"{directory} holds the store: the database, and {large} beside it")
