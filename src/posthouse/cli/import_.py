"""`posthouse import`: mail from an mbox file, a Maildir, or an account on another server."""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NoReturn
from urllib.parse import unquote, urlsplit

import click

from posthouse.cli.installation import CommandError, Installation, as_json, pass_installation, print_json
from posthouse.cli.plain import printable
from posthouse.directory import accounts
from posthouse.mailbox.model import MailboxError, OverQuota
from posthouse.store.blobs import SpoolFull
from posthouse.store.places import open_blobs
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.inbox import INBOX
from posthouse.transfer.intake import Intake, Listener, Tally
from posthouse.transfer.maildir import Maildir, is_maildir
from posthouse.transfer.mbox import Mbox, MboxTree, Quoting, folder_of
from posthouse.transfer.remote import Login, RemoteAccount, Security
from posthouse.transfer.source import Folder, Source, SourceError

_PORTS: Final = {"imaps": 993, "imap": 143}


@click.command("import")
@click.argument("address", metavar="ACCOUNT")
@click.argument("what", metavar="SOURCE")
@click.option("--into", metavar="PATH", default="", help="Put all of it below this mailbox; of an mbox: into it.")
@click.option("--folder", "folders", multiple=True, metavar="PATH", help="Only this folder of it; may be repeated.")
@click.option("--again", is_flag=True, help="Also what was imported before, which then is there twice.")
@click.option(
    "--quoting",
    type=click.Choice(["mboxrd", "mboxo"]),
    default="mboxrd",
    show_default=True,
    help="How lines of a text that begin with From are told from those that begin a message.",
)
@click.option("--password-file", type=click.Path(path_type=Path), help="IMAP: a file that holds the password.")
@click.option("--authorities", type=click.Path(path_type=Path), help="IMAP: trust the certificates in this PEM file.")
@as_json
@pass_installation
def import_(
    installation: Installation,
    address: str,
    what: str,
    into: str,
    folders: tuple[str, ...],
    again: bool,
    quoting: Quoting,
    password_file: Path | None,
    authorities: Path | None,
    json_output: bool,
) -> None:
    """Bring mail into ACCOUNT from SOURCE, with folders, flags and dates, while the server runs.

    SOURCE is an mbox file, a directory of such files (NAME.mbox), a Maildir, - (an mbox on standard input), or an
    account on another server: imaps://user@host, or imap://user@host, which goes on by STARTTLS (an @ of the user is
    written %40). The password is asked for. A Maildir has to be readable for the user that the server runs as.

    It may be broken off and run again: what was brought is known, and is not brought twice, wherever people have put it
    meanwhile. A connection that is lost is made anew, in five attempts within a minute. What cannot be read is told of
    and passed over; then the status is 1.

    \b
    posthouse import alice@example.org ~alice/Maildir
    posthouse import alice@example.org old.mbox --into Old
    posthouse import alice@example.org imaps://alice%40old.example@imap.old.example
    """
    # First, while we may read what root may.
    source = _open(what, folders, quoting, bool(into), password_file, authorities)
    below = tuple(level for level in into.split("/") if level)

    async def work(store: SqliteStore) -> Tally:
        account = (await store.read(accounts.by_address, address)).id
        settings = installation.config
        blobs = open_blobs(settings.data, settings.store, settings.limits)
        intake = Intake(store, blobs, installation.clock, account, store.secret, below=below, again=again)
        try:
            chosen = _chosen(source, folders)
            with _told(sum(folder.size for folder in chosen)) as listener:
                for folder in chosen:
                    await intake.bring(source, folder, listener)
        except (SourceError, SpoolFull, MailboxError) as error:
            raise CommandError(f"{_why(error, address)} ({_said(intake.tally)}; run it again to go on)") from error
        except asyncio.CancelledError:
            _break_off(intake.tally)
        finally:
            blobs.close()
        return intake.tally

    try:
        tally = installation.with_store(work)
    finally:
        source.close()
    _report(tally, source, json_output)
    if tally.flawed:
        sys.exit(1)


def _break_off(tally: Tally) -> NoReturn:
    """Ctrl-C: end now. The thread that reads would be waited for, and may wait for its source itself, for ever where
    that is a pipe. What is filed is filed, as if we had been killed."""
    click.echo(f"\nposthouse: broken off ({_said(tally)}; run it again to go on)", err=True)
    sys.stderr.flush()
    os._exit(1)


def _chosen(source: Source, folders: Sequence[str]) -> list[Folder]:
    found = list(source.folders())
    if not folders:
        return found
    named = {"/".join(folder.path) or INBOX: folder for folder in found}
    missing = [name for name in folders if name not in named]
    if missing:
        raise CommandError(f"there is no folder {missing[0]}; there are {', '.join(sorted(named)) or 'none'}")
    return [named[name] for name in dict.fromkeys(folders)]


def _why(error: Exception, address: str) -> str:
    match error:
        case OverQuota():
            return f"{address} may not hold more (posthouse account quota)"
        case SpoolFull(__cause__=OSError() as cause):
            return f"a message cannot be held: {(cause.strerror or str(cause)).lower()}"
        case SpoolFull():
            return "a message is too large for what may be held (limits.unfinished_disk)"
        case _:
            return str(error)


# --- telling how it goes ----------------------------------------------------------------------------------------------


@contextmanager
def _told(total: int) -> Iterator[Listener]:
    """A bar on a terminal; flaws as they are met."""
    with click.progressbar(length=max(total, 1), file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def flaw(name: str, why: str) -> None:
            click.echo(f"posthouse: passed over {printable(name)}: {printable(why)}", err=True)

        yield Listener(bar.update, flaw)


def _said(tally: Tally) -> str:
    parts = [f"{tally.filed} imported", f"{tally.known} were there"]
    return ", ".join([*parts, f"{tally.flawed} passed over"] if tally.flawed else parts)


def _report(tally: Tally, source: Source, json_output: bool) -> None:
    views = source.left_out if isinstance(source, RemoteAccount) else []
    if json_output:
        described = {"imported": tally.filed, "known": tally.known, "passed_over": tally.flawed}
        print_json(described | {"keywords_dropped": sorted(tally.keywords), "folders_left_out": views})
        return
    click.echo(_said(tally))
    if tally.keywords:
        click.echo(f"keywords that the account has no room for: {', '.join(map(printable, sorted(tally.keywords)))}")
    if views:
        click.echo(f"left out, because they show what others hold: {', '.join(map(printable, views))} (--folder)")


# --- what it is -------------------------------------------------------------------------------------------------------


def _open(
    what: str,
    folders: Sequence[str],
    quoting: Quoting,
    named: bool,
    password_file: Path | None,
    authorities: Path | None,
) -> Source:
    """The source that is meant. `named`: it was said where an mbox goes. Raises CommandError."""
    try:
        if what.startswith(("imap://", "imaps://")):
            return RemoteAccount(_login(what, password_file, authorities), folders, tell=_tell)
        if what == "-":
            return Mbox(sys.stdin.buffer, (), 0, quoting)
        path = Path(what)
        if is_maildir(path):
            return Maildir(path)
        if path.is_dir():
            return MboxTree(path, quoting)
        return _mbox(path, () if named else folder_of(path.name), quoting)
    except SourceError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{what}: {(error.strerror or str(error)).lower()}") from error


def _tell(text: str) -> None:
    click.echo(f"posthouse: {printable(text)}", err=True)


def _mbox(path: Path, folder: tuple[str, ...], quoting: Quoting) -> Mbox:
    stream: BinaryIO = path.open("rb")
    return Mbox(stream, folder, os.fstat(stream.fileno()).st_size, quoting)


def _login(url: str, password_file: Path | None, authorities: Path | None) -> Login:
    """Whose account it is, and where. Raises CommandError, SourceError."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise CommandError(f"{url}: {error}") from error
    if parts.password is not None:
        raise CommandError("a password does not belong there: it is asked for, or --password-file names it")
    if not parts.hostname or not parts.username or parts.path not in ("", "/"):
        raise CommandError(f"{url}: it should be {parts.scheme}://user@host (an @ of the user is written %40)")
    try:
        port = parts.port or _PORTS[parts.scheme]
    except ValueError as error:
        raise CommandError(f"{url}: {error}") from error
    security: Security = "implicit" if parts.scheme == "imaps" else "starttls"
    user = unquote(parts.username)
    trusted = None if authorities is None else str(authorities)
    return Login(parts.hostname, port, security, user, _password(user, password_file), trusted)


def _password(user: str, file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file}: it cannot be read as text") from error
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    asked: str = click.prompt(f"Password of {user}", hide_input=True, err=True)
    return asked
