"""`posthouse account`: where mail is kept, and who may log in."""

import sys
from collections.abc import Iterator
from typing import BinaryIO, TypeVar

import click

from posthouse.cli.installation import ADDRESS, CommandError, Installation, as_json, pass_installation, print_json
from posthouse.cli.quantities import COUNT, NONE, NoneOrType, Nothing, RateType, SizeType
from posthouse.directory import accounts, addresses, bulk, credentials, identities, quotas
from posthouse.directory.bulk import BadRecord, Outcome, Record
from posthouse.directory.model import Account, BadPassword
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import Address
from posthouse.wire.sasl.verifier import ScramVerifier
from posthouse.written import Rate, format_size, rough_size

T = TypeVar("T")


def _given(value: T | Nothing | None, before: T | None) -> T | None:
    """The limit as it is to be: as it was where nothing was said of it."""
    if value is None:
        return before
    return None if isinstance(value, Nothing) else value


@click.group("account")
def account() -> None:
    """Accounts: where mail is kept, and who may log in. An account is named by any of its addresses."""


@account.command("add")
@click.argument("address", type=ADDRESS)
@click.option(
    "--password", help="The password. Asked for when missing; visible to other users of the machine when given."
)
@click.option("--name", default="", help="The person's name.")
@click.option("--quota", type=SizeType(), help="What the account may hold, such as 2GB. Otherwise: no limit.")
@pass_installation
def add(installation: Installation, address: Address, password: str | None, name: str, quota: int | None) -> None:
    """Create an account for ADDRESS, whose domain is served here (`posthouse domain add`)."""
    installation.read(addresses.require_free, address)
    verifier = _verifier(password or _ask_password())
    installation.write(
        accounts.create_account,
        address,
        now=installation.clock.now(),
        verifier=verifier,
        full_name=name,
        quota_octets=quota,
    )
    click.echo(f"created {address}")


def _ask_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    asked: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return asked


def _verifier(password: str) -> ScramVerifier:
    try:
        return credentials.verifier_of(password)
    except BadPassword as error:
        raise CommandError(str(error)) from error


@account.command("list")
@as_json
@pass_installation
def list_(installation: Installation, json_output: bool) -> None:
    """List the accounts, and how much they hold."""
    found = installation.read(_list)
    if json_output:
        print_json([_described(*row) for row in found])
        return
    for one, written, granted, octets, emails in found:
        also = [address for address in written if address.casefold() != one.name]
        quota = f" of {format_size(one.quota_octets)}" if one.quota_octets is not None else ""
        notes = "" if one.enabled else "  disabled"
        notes += f"  also {', '.join(also)}" if also else ""
        notes += f"  sends as {', '.join(granted)}" if granted else ""
        notes += "  copies to Sent" if one.copy_to_sent else ""
        click.echo(f"{one.name}  {emails} emails, {format_size(octets)}{quota}{notes}")


def _list(tx: Tx) -> list[tuple[Account, list[str], list[str], int, int]]:
    rows: list[tuple[Account, list[str], list[str], int, int]] = []
    after = ""
    while batch := accounts.list_accounts(tx, after):
        rows += [_row(tx, one) for one in batch]
        after = batch[-1].name
    return rows


def _row(tx: Tx, one: Account) -> tuple[Account, list[str], list[str], int, int]:
    return one, identities.addresses_of(tx, one.id), identities.granted(tx, one.id), *accounts.usage(tx, one.id)


def _described(one: Account, written: list[str], granted: list[str], octets: int, emails: int) -> dict[str, object]:
    return {
        "id": one.id,
        "name": one.name,
        "full_name": one.full_name,
        "addresses": written,
        "sends_as": granted,
        "copy_to_sent": one.copy_to_sent,
        "enabled": one.enabled,
        "quota_octets": one.quota_octets,
        "quota_emails": one.quota_emails,
        "submission_rate": None if one.submission_rate is None else str(one.submission_rate),
        "submission_recipients": one.submission_recipients,
        "used_octets": octets,
        "emails": emails,
        "created_at": one.created_at,
    }


@account.command("show")
@click.argument("address")
@as_json
@pass_installation
def show(installation: Installation, address: str, json_output: bool) -> None:
    """Show the account: its addresses, what it holds and may hold, what it may send."""

    def look(tx: Tx) -> tuple[tuple[Account, list[str], list[str], int, int], tuple[int, int | None]]:
        row = _row(tx, accounts.by_address(tx, address))
        return row, quotas.usage(tx, row[0].name.rpartition("@")[2])

    found, (domain_used, domain_quota) = installation.read(look)
    if json_output:
        print_json({**_described(*found), "domain_used_octets": domain_used, "domain_quota_octets": domain_quota})
        return
    for name, value in _shown(installation, *found):
        click.echo(f"{name}: {value}")
    if domain_quota is not None:
        click.echo(f"its domain holds: {rough_size(domain_used)} of {format_size(domain_quota)}")


def _shown(
    installation: Installation, one: Account, written: list[str], granted: list[str], octets: int, emails: int
) -> Iterator[tuple[str, str]]:
    configured = installation.config.limits
    yield "account", one.name + ("" if one.enabled else " (disabled)")
    if one.full_name:
        yield "name", one.full_name
    yield "addresses", ", ".join(written)
    if granted:
        yield "sends as", ", ".join(granted)
    most = "any amount" if one.quota_octets is None else format_size(one.quota_octets)
    many = "any number" if one.quota_emails is None else str(one.quota_emails)
    yield "holds", f"{format_size(octets)} of {most}, {emails} emails of {many}"
    yield "may write to", _own_or(one.submission_rate, configured.submission_rate, "recipients")
    yield "in one message", _own_or(one.submission_recipients, configured.submission_recipients, "recipients")
    yield "copies to Sent", "yes" if one.copy_to_sent else "no"


def _own_or(own: object, configured: object, what: str) -> str:
    number, slash, period = str(configured if own is None else own).partition("/")
    said = f"{number} {what}" + (f" in {period}" if slash else "")
    return said + (" (as configured)" if own is None else "")


@account.command("password")
@click.argument("address")
@click.option("--password", help="The new password; asked for when missing.")
@click.option("--label", help="Add an app password of this name beside the account's own, in place of changing that.")
@pass_installation
def password_(installation: Installation, address: str, password: str | None, label: str | None) -> None:
    """Change the account's password, or add an app password."""
    if label == "":
        raise click.UsageError("an app password needs a name: --label")
    new = password or _ask_password()
    found = installation.read(accounts.by_address, address)

    async def change(store: SqliteStore) -> None:
        try:
            if label is None:
                await credentials.change_password(store, installation.clock, found.id, new)
            else:
                await credentials.add_password(store, installation.clock, found.id, label, new)
        except BadPassword as error:
            raise CommandError(str(error)) from error

    installation.with_store(change)
    click.echo(f"{found.name} has a new password" + (f" for {label}" if label else ""))


@account.command("revoke")
@click.argument("address")
@click.argument("label")
@pass_installation
def revoke(installation: Installation, address: str, label: str) -> None:
    """Take the app password of that LABEL back."""
    installation.write(lambda tx: credentials.remove(tx, accounts.by_address(tx, address).id, label))
    click.echo(f"the password for {label} is no more")


@account.command("address")
@click.argument("address")
@click.argument("another", type=ADDRESS)
@click.option("--remove", is_flag=True, help="Take the address from the account instead.")
@pass_installation
def address_(installation: Installation, address: str, another: Address, remove: bool) -> None:
    """Let the account of ADDRESS also receive and send as ANOTHER."""
    change = identities.remove if remove else identities.add
    installation.write(lambda tx: change(tx, accounts.by_address(tx, address).id, another))
    click.echo(f"{another} is {'no address' if remove else 'an address'} of {address}")


@account.command("grant-send-as")
@click.argument("address")
@click.argument("another", type=ADDRESS)
@pass_installation
def grant_send_as(installation: Installation, address: str, another: Address) -> None:
    """Let the account of ADDRESS send as ANOTHER, an address or alias of somebody else here."""
    installation.write(lambda tx: identities.grant(tx, accounts.by_address(tx, address).id, another))
    click.echo(f"{address} may send as {another}")


@account.command("revoke-send-as")
@click.argument("address")
@click.argument("another", type=ADDRESS)
@pass_installation
def revoke_send_as(installation: Installation, address: str, another: Address) -> None:
    """Let the account of ADDRESS no longer send as ANOTHER."""
    installation.write(lambda tx: identities.revoke(tx, accounts.by_address(tx, address).id, another))
    click.echo(f"{address} may not send as {another}")


@account.command("set")
@click.argument("address")
@click.option(
    "--copy-to-sent",
    type=click.Choice(["on", "off"]),
    help="File what the account submits in its Sent, too. For programs that don't; others would have two.",
)
@click.option("--name", help="The person's name.")
@click.option("--address", "main", type=ADDRESS, help="The one of its addresses that the account is named by.")
@click.option(
    "--submission-rate",
    "rate",
    type=NoneOrType(RateType(), "default"),
    metavar="RATE|default",
    help="How many recipients it may write to, such as 5000/1h; default: as limits.submission_rate says for all.",
)
@click.option(
    "--submission-recipients",
    "recipients",
    type=NoneOrType(COUNT, "default"),
    metavar="NUMBER|default",
    help="How many recipients a message of its may have; default: as limits.submission_recipients says for all.",
)
@pass_installation
def set_(
    installation: Installation,
    address: str,
    copy_to_sent: str | None,
    name: str | None,
    main: Address | None,
    rate: Rate | Nothing | None,
    recipients: int | Nothing | None,
) -> None:
    """Change what is told of the account, done for it, or allowed to it."""
    if all(given is None for given in (copy_to_sent, name, main, rate, recipients)):
        raise CommandError("nothing to set")

    def change(tx: Tx) -> None:
        one = accounts.by_address(tx, address)
        found = one.id
        if rate is not None or recipients is not None:
            own = _given(rate, one.submission_rate), _given(recipients, one.submission_recipients)
            accounts.set_submission(tx, found, *own)
        if copy_to_sent is not None:
            accounts.set_copy_to_sent(tx, found, copy_to_sent == "on")
        if name is not None:
            accounts.set_full_name(tx, found, name)
        if main is not None:
            accounts.set_name(tx, found, main)

    installation.write(change)
    click.echo(f"{address} is set")


@account.command("quota")
@click.argument("address")
@click.argument("size", type=NoneOrType(SizeType(), "none"), required=False)
@click.option(
    "--emails",
    type=NoneOrType(COUNT, "none"),
    metavar="NUMBER|none",
    help="How many emails it may hold; none: any number.",
)
@pass_installation
def quota(installation: Installation, address: str, size: int | Nothing | None, emails: int | Nothing | None) -> None:
    """Limit what the account may hold to SIZE (such as 2GB; none: any amount), or to a number of emails.

    What is not given stays as it is. Where neither is given there is no limit any more.
    """
    if size is None and emails is None:
        size = emails = NONE

    def change(tx: Tx) -> tuple[int | None, int | None]:
        one = accounts.by_address(tx, address)
        new = _given(size, one.quota_octets), _given(emails, one.quota_emails)
        accounts.set_quota(tx, one.id, *new)
        return new

    octets, number = installation.write(change)
    amount = "any amount" if octets is None else format_size(octets)
    click.echo(f"{address} may hold {amount}" + (f", {number} emails at most" if number is not None else ""))


@account.command("enable")
@click.argument("address")
@pass_installation
def enable(installation: Installation, address: str) -> None:
    """Let the account take mail and log in again."""
    installation.write(lambda tx: accounts.set_enabled(tx, accounts.by_address(tx, address).id, True))
    click.echo(f"{address} is enabled")


@account.command("disable")
@click.argument("address")
@pass_installation
def disable(installation: Installation, address: str) -> None:
    """Keep the account's mail, but take no more for it and let nobody log in."""
    installation.write(lambda tx: accounts.set_enabled(tx, accounts.by_address(tx, address).id, False))
    click.echo(f"{address} is disabled")


@account.command("remove")
@click.argument("address")
@click.option("--yes", is_flag=True, help="Don't ask.")
@pass_installation
def remove(installation: Installation, address: str, yes: bool) -> None:
    """Remove the account and all its mail."""
    found = installation.read(accounts.by_address, address)
    if not yes:
        click.confirm(f"Remove {found.name} and all its mail?", abort=True)
    installation.write(accounts.remove, found.id, installation.clock.now())
    click.echo(f"removed {found.name}")


@account.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--add-domains", is_flag=True, help="Also serve domains that are not served yet.")
@as_json
@pass_installation
def import_(installation: Installation, file: BinaryIO, add_domains: bool, json_output: bool) -> None:
    """Create an account for each line of FILE (- for standard input), a JSON object.

    \b
    {"address": "alice@example.org", "password": "...", "name": "Alice", "quota": 2000000000}

    In place of "password", "scram" brings a verifier made elsewhere: {"iterations", "salt", "stored_key",
    "server_key"}, the last three in base64 (RFC 5803). Lines that are no account are told of, and the others created.
    It may be run again: what exists already is told of too, and left as it is. Status 1 when a line was refused.
    """
    refused: list[Outcome] = []
    lines: list[int] = []

    def told(outcome: Outcome) -> None:
        if outcome.error is not None:
            number = lines[outcome.number - 1]
            refused.append(Outcome(number, outcome.address, outcome.error))
            click.echo(f"line {number}: {outcome.address}: {outcome.error}", err=True)

    async def run(store: SqliteStore) -> int:
        return await bulk.import_accounts(
            store, installation.clock, _records(file, lines, refused), told=told, add_domains=add_domains
        )

    created = installation.with_store(run)
    if json_output:
        refused.sort(key=lambda one: one.number)
        print_json({"created": created, "refused": [{"line": one.number, "error": one.error} for one in refused]})
    else:
        click.echo(f"created {created} accounts" + (f", refused {len(refused)} lines" if refused else ""))
    if refused:
        sys.exit(1)


def _records(file: BinaryIO, lines: list[int], refused: list[Outcome]) -> Iterator[Record]:
    """The records of the file; in which `lines` they are. A line that is none is told of at once."""
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            record = bulk.parse_record(line)
        except BadRecord as error:
            refused.append(Outcome(number, "", str(error)))
            click.echo(f"line {number}: {error}", err=True)
            continue
        lines.append(number)
        yield record
