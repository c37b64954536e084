"""`posthouse search`: the index of words that mail is searched by.

Promises: the server may run meanwhile. Until it is done, what is not indexed yet is looked through, so that a search
finds the same and takes longer. Interrupted, the server goes on by itself.
"""

import click

from posthouse.cli.installation import ADDRESS, Installation, as_json, pass_installation, print_json
from posthouse.cli.restore import Progress
from posthouse.directory import accounts
from posthouse.directory.model import Account
from posthouse.mailbox import search as words
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import Address


@click.group("search")
def search() -> None:
    """The index that mail is searched by."""


@search.command("reindex")
@click.argument("account", type=ADDRESS, required=False)
@as_json
@pass_installation
def reindex(installation: Installation, account: Address | None, json_output: bool) -> None:
    """Index all mail of ACCOUNT anew, or of every account.

    The index keeps itself up to date; this is for when it is in doubt. Searches find the same meanwhile, slower.
    """

    async def work(store: SqliteStore) -> list[tuple[Account, int]]:
        chosen = await store.read(_chosen, None if account is None else str(account))
        return [(one, await _anew(store, one)) for one in chosen]

    done = installation.with_store(work)
    if json_output:
        print_json([{"account": one.name, "emails": emails} for one, emails in done])
        return
    for one, emails in done:
        click.echo(f"{one.name}: {emails} emails indexed")
    if not done:
        click.echo("there is no account", err=True)


def _chosen(tx: Tx, name: str | None) -> list[Account]:
    if name is not None:
        return [accounts.by_address(tx, name)]
    found: list[Account] = []
    while batch := accounts.list_accounts(tx, found[-1].name if found else ""):
        found += batch
    return found


async def _anew(store: SqliteStore, account: Account) -> int:
    """How many emails the account has in the index then."""
    _, emails = await store.read(accounts.usage, account.id)
    await store.write(words.reset, account.id)
    progress = Progress(f"emails of {account.name}")
    indexed = 0
    while (done := await store.write(words.index_pending, words.BATCH, {account.id})).full:
        indexed += done.moved
        progress(min(indexed, emails), emails)
    await words.keep_words(store, {account.id})
    progress(emails, emails)
    return emails
