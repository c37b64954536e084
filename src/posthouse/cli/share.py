"""`posthouse share`: mailboxes that several accounts use."""

import re
from typing import Final

import click

from posthouse.cli.installation import CommandError, Installation, as_json, pass_installation, print_json
from posthouse.cli.plain import printable
from posthouse.directory import accounts
from posthouse.mailbox import mailboxes, shares
from posthouse.mailbox.model import BadName, NoSuchMailbox, TooManyShares
from posthouse.store.database import Tx

# In words, for those who do not know the letters by heart (RFC 4314 §2.1).
_SETS: Final = {"read": "lrs", "write": "lrswite", "all": shares.ALL}
_LETTERS: Final = re.compile(rf"[{shares.ALL}]+\Z")


class RightsType(click.ParamType[str]):
    """Rights by a word or by their letters."""

    name = "rights"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if text in _SETS or _LETTERS.match(text):
            return _SETS.get(text) or shares.ordered(text)
        return self.fail(f"{text}: neither read, write nor all, nor letters of {shares.ALL}", param, ctx)


@click.group("share")
def share() -> None:
    """Mailboxes that several accounts use. Another's stand under `Other Users/ADDRESS/` in a mail program."""


@share.command("list")
@click.argument("owner")
@as_json
@pass_installation
def list_(installation: Installation, owner: str, json_output: bool) -> None:
    """List which mailboxes of the account OWNER are shared, with whom, and what these may do."""

    def look(tx: Tx) -> list[tuple[str, str, str]]:
        account = accounts.by_address(tx, owner).id
        paths = {one.id: one.path for one in mailboxes.list_mailboxes(tx, account)}
        found = shares.granted_by(tx, account)
        return sorted((paths[one.mailbox], one.name, one.rights) for one in found if one.mailbox in paths)

    found = installation.read(look)
    if json_output:
        print_json([{"mailbox": path, "account": name, "rights": rights} for path, name, rights in found])
        return
    for path, name, rights in found:
        click.echo(f"{printable(path)} → {name}  {rights}")


@share.command("grant")
@click.argument("owner")
@click.argument("mailbox")
@click.argument("account")
@click.argument("rights", type=RightsType())
@pass_installation
def grant(installation: Installation, owner: str, mailbox: str, account: str, rights: str) -> None:
    """Let ACCOUNT use the MAILBOX of OWNER: `read` it, `write` to it, do `all` with it, or what the letters of RFC 4314
    say. What it may do already is replaced. `anyone` are all accounts of this installation, whatever their domains."""
    name = _change(installation, owner, mailbox, account, rights)
    click.echo(f"{name} may use {printable(mailbox)} of {owner}: {rights}")


@share.command("deny")
@click.argument("owner")
@click.argument("mailbox")
@click.argument("account")
@click.argument("rights", type=RightsType())
@pass_installation
def deny(installation: Installation, owner: str, mailbox: str, account: str, rights: str) -> None:
    """Do not let ACCOUNT do this with the MAILBOX of OWNER, whatever is granted to it or to `anyone`."""
    name = _change(installation, owner, mailbox, account, rights, denies=True)
    click.echo(f"{name} may not use {printable(mailbox)} of {owner} for: {rights}")


@share.command("revoke")
@click.argument("owner")
@click.argument("mailbox")
@click.argument("account")
@pass_installation
def revoke(installation: Installation, owner: str, mailbox: str, account: str) -> None:
    """Take back what was granted or denied to ACCOUNT. A mail program that has the MAILBOX open loses it at once."""
    name = _change(installation, owner, mailbox, account, "")
    click.echo(f"nothing is granted or denied to {name} in {printable(mailbox)} of {owner} any more")


def _change(
    installation: Installation, owner: str, path: str, account: str, rights: str, *, denies: bool = False
) -> str:
    """The name of whom it was granted or denied to."""

    def change(tx: Tx) -> str:
        whose = accounts.by_address(tx, owner).id
        whom, name = _meant(tx, account)
        if whose == whom:
            raise CommandError("an owner keeps all rights")
        mailbox = mailboxes.find(tx, whose, path)
        if not rights and shares.held(tx, whose, mailbox, whom) == ("", ""):
            raise CommandError(f"nothing is granted to {name} there")
        shares.grant(tx, whose, mailbox, whom, rights, denies=denies)
        if not rights:
            shares.grant(tx, whose, mailbox, whom, "", denies=True)
        return name

    try:
        return installation.write(change)
    except (NoSuchMailbox, BadName) as error:
        raise CommandError(f"{owner} has no mailbox {printable(path)}") from error
    except TooManyShares as error:
        raise CommandError(f"{printable(path)} is shared with too many accounts") from error


def _meant(tx: Tx, account: str) -> tuple[int, str]:
    if account == shares.ANYONE_NAME:
        return shares.ANYONE, account
    found = accounts.by_address(tx, account)
    return found.id, found.name
