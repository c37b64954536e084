import asyncio
from pathlib import Path

import pytest

from posthouse.clock import SetClock
from posthouse.directory import accounts, addresses, aliases, cache, domains
from posthouse.directory.addresses import Rules, Standing
from posthouse.directory.cache import Directory
from posthouse.store.sqlite import SqliteStore
from posthouse.terms.address import parse
from tests.directory.support import NOW, add_account, add_domain, with_store

ALICE = parse("alice@example.org")


def test_a_warm_answer_needs_no_store_and_a_change_is_heard(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        await store.write(add_domain, "example.org")
        directory = Directory(store, clock, Rules())
        follower = asyncio.create_task(directory.follow())
        await asyncio.sleep(0)
        assert directory.look(ALICE) is None
        assert (await directory.recipient(ALICE)).standing is Standing.UNKNOWN
        assert directory.look(ALICE) is not None

        account = await store.write(add_account, "alice@example.org")
        await asyncio.sleep(0)
        assert directory.look(ALICE) is None
        found = await directory.recipient(ALICE)
        assert [local.account for local in found.local] == [account.id]
        assert directory.look(parse("ALICE@example.org")) is found
        assert (await directory.identities(account.id)).keys == {"alice@example.org"}
        assert await directory.account(account.id) == account

        await store.write(accounts.remove, account.id, NOW)
        await asyncio.sleep(0)
        assert (await directory.recipient(ALICE)).standing is Standing.UNKNOWN
        assert await directory.account(account.id) is None
        assert (await directory.identities(account.id)).keys == frozenset()
        follower.cancel()

    with_store(tmp_path, main)


def test_addresses_elsewhere_are_kept_by_domain_and_as_written(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        directory = Directory(store, clock, Rules())
        await directory.recipient(parse("Bob@elsewhere.example"))
        found = directory.look(parse("Carol@elsewhere.example"))
        assert found is not None
        assert found.standing is Standing.RELAY
        assert found.remote == (parse("Carol@elsewhere.example"),)

    with_store(tmp_path, main)


def test_what_was_read_before_a_change_is_not_kept_after_it(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        await store.write(add_domain, "example.org")
        directory = Directory(store, clock, Rules())
        directory.look(ALICE)
        reading = asyncio.create_task(directory.recipient(ALICE))
        await asyncio.sleep(0)
        directory.forget()
        await reading
        assert directory.look(ALICE) is None

    with_store(tmp_path, main)


def test_without_the_bell_answers_grow_old(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        await store.write(add_domain, "example.org")
        directory = Directory(store, clock, Rules())
        await directory.recipient(ALICE)
        await store.write(add_account, "alice@example.org")
        assert (await directory.recipient(ALICE)).standing is Standing.UNKNOWN
        clock.advance(cache.FRESH + 1)
        assert (await directory.recipient(ALICE)).standing is Standing.KNOWN

    with_store(tmp_path, main)


def test_an_old_answer_is_found_out_in_the_accepting_transaction(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        await store.write(add_domain, "example.org")
        account = await store.write(add_account, "alice@example.org")
        directory = Directory(store, clock, Rules())
        resolution = await directory.resolve([ALICE])
        assert await store.write(addresses.current, resolution, [ALICE], directory.rules) is resolution
        await store.write(accounts.set_enabled, account.id, False)
        # The bell has not been heard: memory still says yes, the transaction does not.
        assert (await directory.resolve([ALICE])).local == resolution.local
        now = await store.write(addresses.current, resolution, [ALICE], directory.rules)
        assert now.local == ()
        assert now.failed == ((ALICE, Standing.DISABLED),)

    with_store(tmp_path, main)


def test_a_flood_of_unknown_addresses_leaves_the_known_ones(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        await store.write(add_domain, "example.org")
        await store.write(add_account, "alice@example.org")
        directory = Directory(store, clock, Rules())
        await directory.recipient(ALICE)
        for n in range(200):
            await directory.recipient(parse(f"nobody{n}@example.org"))
        assert directory.look(ALICE) is not None

    with_store(tmp_path, main)


def test_a_flood_of_tags_leaves_those_that_stand_in_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "KNOWN", 20)
    monkeypatch.setattr(cache, "OTHERS", 20)

    async def main(store: SqliteStore, clock: SetClock) -> None:
        await store.write(add_domain, "example.org")
        await store.write(add_domain, "all.example")
        await store.write(add_account, "alice@example.org")
        await store.write(domains.set_catch_all, "all.example", ALICE)
        await store.write(aliases.add_alias, parse("team@example.org"), [ALICE])
        directory = Directory(store, clock, Rules())
        standing = [ALICE, parse("Team@example.org")]
        for one in standing:
            await directory.recipient(one)
        for n in range(100):
            for made_up in (f"alice+{n}@example.org", f"team+{n}@example.org", f"any{n}@all.example"):
                assert (await directory.recipient(parse(made_up))).standing is Standing.KNOWN
        assert None not in [directory.look(one) for one in standing]
        # The last one is still known, with its tag.
        await directory.recipient(parse("alice+last@example.org"))
        found = directory.look(parse("alice+last@example.org"))
        assert found is not None
        assert [local.tag for local in found.local] == ["last"]

    with_store(tmp_path, main)


def test_who_is_on_a_list(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        await store.write(add_domain, "example.org")
        await store.write(add_account, "alice@example.org")
        await store.write(aliases.add_alias, parse("team@example.org"), [ALICE, parse("ann@far.example")])
        directory = Directory(store, clock, Rules())
        assert await directory.members(parse("TEAM@example.org"), 1) == ("alice@example.org", "ann@far.example")
        assert await directory.members(ALICE, 1) is None

    with_store(tmp_path, main)
