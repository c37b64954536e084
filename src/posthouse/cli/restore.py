"""`posthouse restore`: a backup put in the place of a store that is lost."""

import asyncio
import errno
import sys
import time
from pathlib import Path
from typing import Final

import click

from posthouse.cli.installation import (
    DATABASE,
    CommandError,
    Installation,
    as_json,
    become_owner,
    data_alone,
    pass_installation,
    print_json,
)
from posthouse.directory import accounts
from posthouse.mailbox import restored, retention
from posthouse.queue import control
from posthouse.store import restore as copying
from posthouse.store.database import StoreError, StoreUnavailable
from posthouse.store.sqlite import SqliteStore

_TELL_SECONDS: Final = 0.2


@click.command("restore")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--incomplete", is_flag=True, help="Restore also where files of large messages are missing.")
@as_json
@pass_installation
def restore(installation: Installation, json_output: bool, incomplete: bool, directory: Path) -> None:
    """Bring back what `posthouse backup` has copied to DIRECTORY. There must be no store, and no server running.

    Mail programs that have seen what came after the backup notice, and look at everything anew. Mail that waits to be
    sent to others is held, for it may have left since: `posthouse queue list` shows it, `posthouse queue release` lets
    it go, `posthouse queue drop` takes it away.
    """
    data = installation.config.data
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        become_owner(installation.config)
        with data_alone(data):
            staging = copying.stage(directory, data, DATABASE, Progress("files"), incomplete=incomplete)
            count, held = asyncio.run(_leap(installation, staging))
            copying.finish(staging, data, DATABASE)
    except (copying.CannotRestore, StoreError, StoreUnavailable) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        # Where there is no room left, it is not the backup's file that is in the way, but the one it is copied to.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        name = (full and error.filename2) or error.filename or data
        raise CommandError(f"{name}: {(error.strerror or str(error)).lower()}") from error
    if json_output:
        print_json({"directory": str(directory), "accounts": count, "held": held})
        return
    click.echo(f"{data} holds the store again: {_counted(count, 'account')}")
    if held:
        click.echo(f"{_counted(held, 'recipient')} of mail to others held, for it may have been sent since the backup")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


async def _leap(installation: Installation, staging: Path) -> tuple[int, int]:
    """Accounts that were led past what they may have met since, and recipients that are held."""
    store = SqliteStore.open(staging / DATABASE, clock=installation.clock)
    try:
        held = await store.write(control.hold_restored)
        count = after = 0
        total = await store.read(accounts.count)
        progress = Progress("accounts")
        while batch := await store.read(retention.accounts_after, after):
            for after in batch:
                await store.write(restored.leap, after, installation.clock.now())
                count += 1
                progress(count, max(total, count))
        return count, held
    finally:
        await store.close()


class Progress:
    """On a terminal, and where it takes a while, tells how far it is."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told_at = time.monotonic()
        self._told = False

    def __call__(self, done: int, total: int) -> None:
        """So many of so many."""
        now = time.monotonic()
        if not sys.stderr.isatty() or (now - self._told_at < _TELL_SECONDS and not (self._told and done == total)):
            return
        self._told, self._told_at = True, now
        click.echo(f"\r{done} of {total} {self._what}", nl=done == total, err=True)
