"""Accounts: where mail is kept, whom it belongs to, how much it may hold.

Promises: an account is complete in the commit that creates it: its first address, its counters, its mailboxes and,
where a verifier is given, its password. Its name is the key of one of its addresses. A removed account is nameless and
unreachable at once.
Refuses: to hash a password inside a transaction (credentials.py does it before), and to remove an account that an alias
or a catch-all still points to.
"""

from posthouse.directory import addresses, credentials, identities
from posthouse.directory.model import (
    Account,
    AccountExists,
    AddressInUse,
    NoSuchAccount,
    NoSuchAddress,
    account_from,
    changed,
)
from posthouse.mailbox import retention
from posthouse.mailbox.mailboxes import create_account_mailboxes
from posthouse.mailbox.model import lock_account
from posthouse.store.database import Topic, Tx
from posthouse.terms.address import Address, BadAddress, parse
from posthouse.wire.sasl.verifier import ScramVerifier
from posthouse.written import Rate


def create_account(
    tx: Tx,
    address: Address,
    *,
    now: int,
    verifier: ScramVerifier | None = None,
    full_name: str = "",
    quota_octets: int | None = None,
    quota_emails: int | None = None,
) -> Account:
    """A new account with its first address, mailboxes and (with `verifier`) password.

    Raises NoSuchDomain, AccountExists (the address is an account's), AddressTaken (it is an alias).
    """
    taken = tx.one("address_find", key=address.key)
    if taken is not None and taken[2] is not None:
        raise AccountExists(str(address))
    addresses.require_free(tx, address)
    account: int = tx.value(
        "account_insert",
        name=address.key,
        full_name=full_name,
        quota_octets=quota_octets,
        quota_emails=quota_emails,
        created_at=now,
    )
    addresses.claim(tx, address, account)
    # Seconds are fine enough: restoring a backup, which makes another epoch, takes longer than one.
    tx.run("account_state_insert", account=account, epoch=now // 1000)
    tx.run("quota_join", account=account, domain=address.domain)
    create_account_mailboxes(tx, account, now)
    if verifier is not None:
        credentials.insert(tx, account, credentials.MAIN, verifier, now)
    changed(tx)
    return Account(account, address.key, full_name, quota_octets, quota_emails, True, now)


def find(tx: Tx, account: int) -> Account:
    """The account of that id. Raises NoSuchAccount."""
    row = tx.one("account_find", account=account)
    if row is None:
        raise NoSuchAccount(account)
    return account_from(row)


def by_address(tx: Tx, text: str) -> Account:
    """The account that has this address, however it is spelled. Raises NoSuchAccount (no address at all included)."""
    try:
        key = parse(text).key
    except BadAddress as error:
        raise NoSuchAccount(text) from error
    row = tx.one("account_by_address", key=key)
    if row is None:
        raise NoSuchAccount(text)
    return account_from(row)


def list_accounts(tx: Tx, after: str = "", limit: int = 1000) -> list[Account]:
    """Up to `limit` accounts in the order of their names, those behind the name `after`."""
    return [account_from(row) for row in tx.all("account_list", after=after, limit=limit)]


def count(tx: Tx) -> int:
    """How many accounts there are."""
    found: int = tx.value("account_count")
    return found


def usage(tx: Tx, account: int) -> tuple[int, int]:
    """Octets and emails that the account holds, by kept totals. Raises NoSuchAccount."""
    row = tx.one("account_usage", account=account)
    if row is None:
        raise NoSuchAccount(account)
    return row[0], row[1]


def set_name(tx: Tx, account: int, address: Address) -> None:
    """Name the account by another of its addresses. Raises NoSuchAccount, NoSuchAddress."""
    find(tx, account)
    row = tx.one("address_find", key=address.key)
    if row is None or row[2] != account:
        raise NoSuchAddress(str(address))
    tx.run("account_set_name", account=account, name=address.key)
    _leave_quota(tx, account)
    tx.run("quota_join", account=account, domain=address.domain)
    tx.run("quota_join_count", account=account)
    changed(tx)


def set_full_name(tx: Tx, account: int, full_name: str) -> None:
    """The name of the person. Raises NoSuchAccount."""
    find(tx, account)
    tx.run("account_set_full_name", account=account, full_name=full_name)
    changed(tx)


def set_quota(tx: Tx, account: int, octets: int | None, emails: int | None) -> None:
    """What the account may hold; None: no limit. What it holds already stays. Raises NoSuchAccount."""
    find(tx, account)
    tx.run("account_set_quota", account=account, quota_octets=octets, quota_emails=emails)
    changed(tx)


def set_enabled(tx: Tx, account: int, enabled: bool) -> None:
    """A disabled account keeps its mail, takes none and lets nobody log in. Raises NoSuchAccount."""
    find(tx, account)
    tx.run("account_set_enabled", account=account, enabled=int(enabled))
    tx.ring(Topic.ACCOUNT, account)
    changed(tx)


def set_copy_to_sent(tx: Tx, account: int, copy: bool) -> None:
    """Whether what it submits is filed in Sent, too. Raises NoSuchAccount."""
    find(tx, account)
    tx.run("account_set_copy_to_sent", account=account, copy=int(copy))
    changed(tx)


def set_submission(tx: Tx, account: int, rate: Rate | None, recipients: int | None) -> None:
    """How many recipients it may write to, and in one message; None: what is configured. Raises NoSuchAccount."""
    find(tx, account)
    tx.run("account_set_submission", account=account, rate=None if rate is None else str(rate), recipients=recipients)
    changed(tx)


def warned(tx: Tx, account: int, now: int, since: int, *, stopped: bool) -> bool:
    """Note that the account is told of its rate now (`stopped`: that it stops it). False: it was told after `since`, or
    is gone.
    """
    return tx.one("account_warned", account=account, stopped=int(stopped), now=now, since=since) is not None


def remove(tx: Tx, account: int, now: int) -> None:
    """The account is gone for everybody; `sweep_removed` takes its mail. Raises NoSuchAccount, AddressInUse."""
    find(tx, account)
    used: list[str] = []
    for written in identities.addresses_of(tx, account):
        try:
            addresses.require_unused(tx, parse(written))
        except AddressInUse as error:
            used += error.by
    if used:
        raise AddressInUse(f"of account {account}", used)
    _leave_quota(tx, account)
    tx.run("credential_delete_all", account=account)
    tx.run("address_delete_of_account", account=account)
    # No key lacks an "@", so this name can never be anybody's.
    tx.run("account_remove", account=account, name=f"removed {account}", now=now)
    tx.ring(Topic.ACCOUNT, account)
    changed(tx)


def _leave_quota(tx: Tx, account: int) -> None:
    """What it holds counts no more for the domain that it was named in."""
    tx.run("quota_leave_count", account=account)
    tx.run("quota_leave", account=account)


def sweep_removed(tx: Tx, now: int, limit: int = retention.BATCH) -> bool:
    """Take away a batch of a removed account's mail, in the end its row. False: there is no removed account."""
    account = tx.value("account_removed", limit=1)
    if account is None:
        return False
    lock_account(tx, account)
    # In one transaction, so that nothing is filed between the last look and the end.
    if not retention.empty_account(tx, account, now, limit):
        tx.run("account_delete", account=account)
    return True
