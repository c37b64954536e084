from hashlib import sha256
from pathlib import Path

import pytest

from posthouse.clock import SetClock
from posthouse.directory import accounts, aliases, credentials, domains, identities
from posthouse.directory.model import (
    AccountExists,
    AddressInUse,
    AddressTaken,
    NoSuchAccount,
    NoSuchAddress,
    NoSuchDomain,
)
from posthouse.mailbox.append import file_email, store_message
from posthouse.mailbox.mailboxes import by_role, list_mailboxes
from posthouse.mailbox.summary import render
from posthouse.store.blobs import Staged
from posthouse.store.database import Store, Topic, Tx
from posthouse.terms.address import parse
from tests.directory.support import NOW, add_account, add_domain, in_transaction, with_store


def test_an_account_is_complete_when_it_is_created(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        verifier = credentials.verifier_of("secret", iterations=4096)
        account = accounts.create_account(
            tx, parse("Alice@Example.org"), now=NOW, verifier=verifier, full_name="Alice", quota_octets=1000
        )
        assert accounts.find(tx, account.id) == account
        assert account.name == "alice@example.org"
        assert identities.addresses_of(tx, account.id) == ["Alice@example.org"]
        assert accounts.by_address(tx, "ALICE@example.ORG") == account
        assert {mailbox.role for mailbox in list_mailboxes(tx, account.id)} >= {"inbox", "sent", "junk"}
        assert accounts.usage(tx, account.id) == (0, 0)
        assert [one.verifier for one in credentials.list_credentials(tx, account.id)] == [verifier]

    in_transaction(tmp_path, test)


def test_what_stands_in_the_way_is_said_before_anything_is_written(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        add_account(tx, "alice@example.org")
        aliases.add_alias(tx, parse("sales@example.org"), [parse("alice@example.org")])
        with pytest.raises(AccountExists, match=r"ALICE@example\.org exists already"):
            add_account(tx, "ALICE@example.org")
        with pytest.raises(AddressTaken):
            add_account(tx, "sales@example.org")
        with pytest.raises(NoSuchDomain):
            add_account(tx, "alice@elsewhere.example")
        with pytest.raises(NoSuchAccount):
            accounts.by_address(tx, "not an address")
        with pytest.raises(NoSuchAccount):
            accounts.set_quota(tx, 99, None, None)
        assert accounts.count(tx) == 1

    in_transaction(tmp_path, test)


def test_changes(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        account = add_account(tx, "alice@example.org").id
        accounts.set_quota(tx, account, 5000, 10)
        accounts.set_full_name(tx, account, "Alice")
        accounts.set_enabled(tx, account, False)
        identities.add(tx, account, parse("a.liddell@example.org"))
        with pytest.raises(AddressInUse, match="as its name"):
            identities.remove(tx, account, parse("alice@example.org"))
        accounts.set_name(tx, account, parse("a.liddell@example.org"))
        identities.remove(tx, account, parse("alice@example.org"))
        with pytest.raises(NoSuchAddress):
            accounts.set_name(tx, account, parse("alice@example.org"))
        found = accounts.find(tx, account)
        assert (found.name, found.full_name, found.quota_octets, found.quota_emails, found.enabled) == (
            "a.liddell@example.org",
            "Alice",
            5000,
            10,
            False,
        )

    in_transaction(tmp_path, test)


def test_a_removed_account_is_gone_and_its_address_free(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        account = add_account(tx, "alice@example.org").id
        other = add_account(tx, "bob@example.org").id
        aliases.add_alias(tx, parse("sales@example.org"), [parse("alice@example.org")])
        domains.set_catch_all(tx, "example.org", parse("alice@example.org"))
        with pytest.raises(AddressInUse, match=r"sales@example\.org, the catch-all of example\.org"):
            accounts.remove(tx, account, NOW)
        aliases.set_targets(tx, parse("sales@example.org"), [parse("bob@example.org")])
        domains.set_catch_all(tx, "example.org", None)
        accounts.remove(tx, account, NOW)
        with pytest.raises(NoSuchAccount):
            accounts.find(tx, account)
        assert [found.id for found in accounts.list_accounts(tx)] == [other]
        assert credentials.list_credentials(tx, account) == []
        assert add_account(tx, "alice@example.org").id not in (account, other)

    in_transaction(tmp_path, test)


def test_the_mail_of_a_removed_account_is_swept_in_batches(tmp_path: Path) -> None:
    async def main(store: Store, clock: SetClock) -> None:
        await store.write(add_domain, "example.org")
        account = (await store.write(add_account, "alice@example.org")).id
        other = (await store.write(add_account, "bob@example.org")).id
        for _ in range(3):
            await store.write(file, account)
        await store.write(file, other)
        assert not await store.write(accounts.sweep_removed, NOW)
        await store.write(accounts.remove, account, NOW)
        rounds = 0
        while await store.write(accounts.sweep_removed, NOW, 2):
            rounds += 1
        assert rounds == 3
        assert await store.read(accounts.usage, other) == (len(MESSAGE), 1)
        with pytest.raises(NoSuchAccount):
            await store.read(accounts.usage, account)

    with_store(tmp_path, main)


MESSAGE = b"Subject: Hello\r\n\r\nHi\r\n"


def file(tx: Tx, account: int) -> None:
    """One email in the account's Inbox."""
    rendered = render(MESSAGE)
    message = store_message(tx, Staged(len(MESSAGE), sha256(MESSAGE).digest(), MESSAGE, None), rendered)
    file_email(
        tx, account, message, rendered, mailboxes=[by_role(tx, account, "inbox")], received_at=NOW, thread_secret=b"s"
    )


def test_lists_go_on_behind_a_name(tmp_path: Path) -> None:
    def test(tx: Tx) -> None:
        for name in ("c", "a", "b"):
            add_account(tx, f"{name}@example.org")
        first = accounts.list_accounts(tx, limit=2)
        assert [account.name for account in first] == ["a@example.org", "b@example.org"]
        assert [account.name for account in accounts.list_accounts(tx, after=first[-1].name)] == ["c@example.org"]

    in_transaction(tmp_path, test)


def test_changes_ring_and_count(tmp_path: Path) -> None:
    async def main(store: Store, clock: SetClock) -> None:
        listener = store.listen(Topic.DIRECTORY)
        await store.write(add_domain, "example.org")
        assert await listener.wait() == {0}
        await store.write(add_account, "alice@example.org")
        assert await listener.wait() == {0}
        listener.close()

    with_store(tmp_path, main)
