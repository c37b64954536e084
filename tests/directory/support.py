"""A directory to ask: a store with a domain or two, and accounts in them."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from posthouse.clock import SetClock
from posthouse.directory import accounts, aliases, domains
from posthouse.directory.model import Account
from posthouse.store.database import Store, Tx
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import parse
from posthouse.wire.sasl.verifier import ScramVerifier
from tests.support import run

NOW = 1_767_225_600_000


def add_domain(tx: Tx, name: str) -> None:
    """Serve it."""
    domains.add(tx, name, NOW)


def add_account(
    tx: Tx,
    address: str,
    verifier: ScramVerifier | None = None,
    quota_octets: int | None = None,
    quota_emails: int | None = None,
) -> Account:
    """An account of that address."""
    return accounts.create_account(
        tx, parse(address), now=NOW, verifier=verifier, quota_octets=quota_octets, quota_emails=quota_emails
    )


def with_store(path: Path, main: Callable[[SqliteStore, SetClock], Coroutine[Any, Any, None]]) -> None:
    """Run `main` with a fresh store in `path`, which is closed in the end."""
    clock = SetClock(NOW)
    store = SqliteStore.open(path / "posthouse.db", clock=clock)

    async def body() -> None:
        try:
            await main(store, clock)
        finally:
            await store.close()

    run(body())


def in_transaction(path: Path, test: Callable[[Tx], None]) -> None:
    """Run a plain function in one transaction of a fresh store that serves example.org."""

    def whole(tx: Tx) -> None:
        add_domain(tx, "example.org")
        test(tx)

    async def main(store: Store, clock: SetClock) -> None:
        await store.write(whole)

    with_store(path, main)


def alias(tx: Tx, address: str, *targets: str) -> None:
    """Let the one stand for the others."""
    aliases.add_alias(tx, parse(address), [parse(target) for target in targets])
