"""`posthouse undelete`: what was removed and is still kept, and how it comes back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import click

from posthouse.cli.installation import CommandError, Installation, as_json, pass_installation, print_json
from posthouse.cli.plain import printable
from posthouse.cli.queue_print import aligned, timestamp
from posthouse.directory import accounts
from posthouse.mailbox import emails, retention
from posthouse.mailbox.emails import Content
from posthouse.mailbox.model import NoSuchEmail, OverQuota
from posthouse.mailbox.retention import Expunged, Restored
from posthouse.message.header import Header
from posthouse.message.people import author
from posthouse.message.words import decode_words
from posthouse.store.blobs import BlobLost, Blobs
from posthouse.store.database import Store, Tx
from posthouse.store.places import open_blobs
from posthouse.store.sqlite import SqliteStore
from posthouse.written import format_duration, parse_duration, rough_size

# Messages whose headers are looked at in one go: small ones come with all of their octets.
_LOOK: Final = 50


class MomentType(click.ParamType[int]):
    """A moment, as UTC milliseconds: a date, a date with a time, or how long ago."""

    name = "when"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if isinstance(value, int):
            return value
        try:
            moment = datetime.fromisoformat(text)
            return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        except ValueError:
            try:
                return int((datetime.now(UTC).timestamp() - parse_duration(text)) * 1000)
            except ValueError:
                self.fail(f"{text}: neither a date (2026-03-01T14:30) nor a duration such as 3d", param, ctx)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of what is kept is meant. Moments are UTC milliseconds, of the removal."""

    ids: frozenset[int]
    mailbox: str | None
    since: int | None
    until: int | None

    def fits(self, one: Expunged, path: str) -> bool:
        """Is it meant?"""
        return (
            (not self.ids or one.email in self.ids)
            and self.mailbox in (None, path)
            and (self.since is None or one.gone_at >= self.since)
            and (self.until is None or one.gone_at < self.until)
        )

    @property
    def anything(self) -> bool:
        """Nothing was said of which."""
        return not self.ids and self.mailbox is None and self.since is None and self.until is None


@dataclass(frozen=True, slots=True)
class Kept:
    """A removed email, the mailbox it was last in, and whether that is still there."""

    email: Expunged
    path: str
    there: bool


@click.command("undelete")
@click.argument("address", metavar="ACCOUNT")
@click.argument("ids", metavar="[ID]...", type=click.IntRange(1), nargs=-1)
@click.option("--mailbox", metavar="PATH", help="What was last in this mailbox, be that gone or not.")
@click.option("--since", type=MomentType(), metavar="WHEN", help="What was removed then or later.")
@click.option("--until", type=MomentType(), metavar="WHEN", help="What was removed before.")
@click.option("--restore", is_flag=True, help="Bring back all that fits; ids alone are brought back in any case.")
@click.option("--all", "everything", is_flag=True, help="With --restore: all that is kept.")
@as_json
@pass_installation
def undelete(
    installation: Installation,
    address: str,
    ids: tuple[int, ...],
    mailbox: str | None,
    since: int | None,
    until: int | None,
    restore: bool,
    everything: bool,
    json_output: bool,
) -> None:
    """List what was removed from ACCOUNT and is still kept (store.expunged), by mailbox and date; bring it back.

    Without an ID and without --restore it lists. What comes back lies in the mailbox it was last in, or in one of that
    name, which is made where it is gone. Mail programs see it as new mail, with its flags and dates. WHEN is a date
    (2026-03-01), a date with a time (2026-03-01T14:30; UTC), or how long ago (3d).

    \b
    posthouse undelete alice@example.org --since 2d
    posthouse undelete alice@example.org 1017 1018
    posthouse undelete alice@example.org --mailbox Work/Old --restore
    """
    wanted = Wanted(frozenset(ids), mailbox, since, until)
    if restore and wanted.anything and not everything:
        raise CommandError("which? Give an ID, --mailbox, --since, --until, or --all")
    account = installation.read(accounts.by_address, address).id
    found = installation.read(_kept, account, wanted)
    missing = sorted(wanted.ids - {one.email.email for one in found})
    if missing:
        raise CommandError(f"nothing that is kept has the id {missing[0]}, or it does not fit; nothing is restored")
    if ids or restore:
        _restore(installation, address, account, found, json_output)
    else:
        installation.with_store(lambda store: _list(store, installation, account, found, json_output))


def _kept(tx: Tx, account: int, wanted: Wanted) -> list[Kept]:
    """What is meant, by mailbox and then by when it was removed."""
    places = retention.last_places(tx, account)
    found: list[Kept] = []
    after = 0
    while batch := retention.list_expunged(tx, account, after):
        for one in batch:
            path, there = places.get(one.mailbox, ("", False))
            if wanted.fits(one, path):
                found.append(Kept(one, path, there))
        after = batch[-1].email
    return sorted(found, key=lambda one: (one.path, one.email.mailbox, one.email.gone_at, one.email.email))


# --- bringing back ----------------------------------------------------------------------------------------------------


def _restore(installation: Installation, address: str, account: int, found: Sequence[Kept], json_output: bool) -> None:
    async def work(store: SqliteStore) -> tuple[dict[int, Restored], dict[int, tuple[str, bool]]]:
        fresh: dict[int, Restored] = {}
        for start in range(0, len(found), retention.BATCH):
            chosen = [one.email.email for one in found[start : start + retention.BATCH]]
            try:
                fresh |= await store.write(retention.undelete, account, chosen, installation.clock.now())
            except OverQuota as error:
                said = f"{address} would hold more than it may (posthouse account quota); {len(fresh)} were restored"
                raise CommandError(said) from error
        return fresh, await store.read(retention.last_places, account)

    fresh, places = installation.with_store(work)
    if json_output:
        rows = [{"id": old, "email": new.email, "mailbox": places[new.mailbox][0]} for old, new in fresh.items()]
        print_json({"restored": rows})
        return
    counts: dict[str, int] = {}
    for new in fresh.values():
        path = places[new.mailbox][0]
        counts[path] = counts.get(path, 0) + 1
    for path, count in sorted(counts.items()):
        click.echo(f"{count} {_emails(count)} restored into {path}")
    if not fresh:
        click.echo("Nothing that is kept fits.")


# --- listing ----------------------------------------------------------------------------------------------------------


async def _list(store: Store, installation: Installation, account: int, found: Sequence[Kept], as_json: bool) -> None:
    settings = installation.config
    blobs = open_blobs(settings.data, settings.store, settings.limits)
    try:
        told: list[tuple[Kept, str, str]] = []
        for start in range(0, len(found), _LOOK):
            some = found[start : start + _LOOK]
            contents = await store.read(emails.contents, account, [one.email.email for one in some])
            told += [(one, *await _head(blobs, contents.get(one.email.email))) for one in some]
    finally:
        blobs.close()
    if as_json:
        print_json([_described(*row) for row in told])
    elif told:
        click.echo("\n".join(_lines(told)))
    else:
        click.echo("Nothing that is kept fits." if found else _nothing(settings.store.expunged))


def _nothing(kept: float) -> str:
    return f"Nothing that fits was removed in the last {format_duration(kept)}."


async def _head(blobs: Blobs, content: Content | None) -> tuple[str, str]:
    """Who wrote it, and its subject."""
    try:
        if content is None:
            raise NoSuchEmail
        header = Header.parse(await blobs.load(content.blob))
    except (BlobLost, NoSuchEmail):
        return "", "(its octets are lost)"
    person = author(header)
    return person.address if person else "", decode_words(header.first(b"subject") or b"")


def _described(one: Kept, sender: str, subject: str) -> dict[str, object]:
    return {
        "id": one.email.email,
        "mailbox": one.path,
        "mailbox_is_gone": not one.there,
        "removed_at": timestamp(one.email.gone_at),
        "received_at": timestamp(one.email.received_at),
        "size": one.email.size,
        "from": sender,
        "subject": subject,
    }


def _lines(told: Sequence[tuple[Kept, str, str]]) -> Iterator[str]:
    """For people: a table for each mailbox."""
    places = {(one.path, one.email.mailbox, one.there) for one, _, _ in told}
    for path, mailbox, there in sorted(places):
        some = [row for row in told if row[0].email.mailbox == mailbox]
        gone = "" if there else " (the mailbox is gone, too)"
        yield f"{printable(path) or 'a mailbox'}{gone}: {len(some)} {_emails(len(some))}"
        rows: list[tuple[str, ...]] = [("id", "removed", "received", "size", "from", "subject")]
        rows += [_row(one.email, sender, subject) for one, sender, subject in some]
        yield from (f"  {line}" for line in aligned(rows))


def _row(one: Expunged, sender: str, subject: str) -> tuple[str, ...]:
    return str(one.email), timestamp(one.gone_at), timestamp(one.received_at), rough_size(one.size), sender, subject


def _emails(count: int) -> str:
    return "email" if count == 1 else "emails"
