"""`posthouse export`: an account's mail as mbox files or a Maildir."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from posthouse.cli.installation import CommandError, Installation, as_json, pass_installation, print_json
from posthouse.cli.plain import printable
from posthouse.directory import accounts
from posthouse.mailbox import mailboxes
from posthouse.mailbox.model import Mailbox
from posthouse.store.places import open_blobs
from posthouse.store.sqlite import SqliteStore
from posthouse.transfer import mbox, outgo
from posthouse.transfer.outgo import Destination, MaildirFolder, MboxFile


@click.command("export")
@click.argument("address", metavar="ACCOUNT")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--format",
    "shape",
    type=click.Choice(["maildir", "mbox"]),
    default="maildir",
    show_default=True,
    help="A Maildir (Maildir++), or a file NAME.mbox for each mailbox.",
)
@click.option("--mailbox", "chosen", multiple=True, metavar="PATH", help="Only this mailbox; may be repeated.")
@as_json
@pass_installation
def export(
    installation: Installation, address: str, directory: Path, shape: str, chosen: tuple[str, ...], json_output: bool
) -> None:
    """Write the mail of ACCOUNT into DIRECTORY, with flags and dates, while the server runs.

    A Maildir may be written again: what is there stays, flags follow, new mail is added; what was removed from the
    account meanwhile stays in the Maildir. An mbox file that is there already is never touched. `posthouse import`
    reads both. What cannot be read is told of and passed over; then the status is 1.
    """
    account = installation.read(accounts.by_address, address).id
    flaws: list[tuple[str, str]] = []
    unnamed: set[str] = set()

    def flaw(name: str, why: str) -> None:
        flaws.append((name, why))
        click.echo(f"posthouse: passed over {printable(name)}: {printable(why)}", err=True)

    async def work(store: SqliteStore) -> dict[str, int]:
        settings = installation.config
        blobs = open_blobs(settings.data, settings.store, settings.limits)
        written: dict[str, int] = {}
        try:
            some = _chosen(await store.read(mailboxes.list_mailboxes, account), chosen)
            total = max(1, sum(one.messages for one in some))
            with click.progressbar(length=total, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
                for one in some:
                    place = _place(directory, shape, one.path)
                    written[one.path] = await outgo.write(
                        store, blobs, account, one, place, progress=bar.update, flaw=flaw
                    )
                    unnamed.update(place.unnamed if isinstance(place, MaildirFolder) else ())
        except OSError as error:
            raise CommandError(f"{error.filename or directory}: {(error.strerror or str(error)).lower()}") from error
        finally:
            blobs.close()
        return written

    written = installation.with_store(work)
    if json_output:
        print_json({"written": written, "passed_over": len(flaws), "keywords_dropped": sorted(unnamed)})
    else:
        click.echo(f"{sum(written.values())} written, of {len(written)} mailboxes")
        if unnamed:
            click.echo(f"keywords that a Maildir has no letter for: {', '.join(map(printable, sorted(unnamed)))}")
    if flaws:
        sys.exit(1)


def _chosen(there: Sequence[Mailbox], wanted: Sequence[str]) -> list[Mailbox]:
    named = {one.path: one for one in there}
    missing = [path for path in wanted if path not in named]
    if missing:
        raise CommandError(f"there is no mailbox {missing[0]}")
    return [named[path] for path in dict.fromkeys(wanted)] if wanted else list(there)


def _place(directory: Path, shape: str, path: str) -> Destination:
    if shape == "mbox":
        return MboxFile(mbox.file_of(directory, path))
    return MaildirFolder(directory, outgo.maildir_path(path))
