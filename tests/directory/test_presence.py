import asyncio
from pathlib import Path

from posthouse.clock import SetClock
from posthouse.directory import accounts
from posthouse.directory.presence import Presence
from posthouse.store.database import Tx
from posthouse.store.sqlite import SqliteStore
from tests.directory.support import NOW, add_account, add_domain, with_store


def _people(tx: Tx) -> tuple[int, int]:
    add_domain(tx, "example.org")
    return add_account(tx, "alice@example.org").id, add_account(tx, "bob@example.org").id


def test_whoever_is_disabled_or_removed_is_shown_out(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        alice, bob = await store.write(_people)
        presence = Presence(store)
        following = asyncio.create_task(presence.follow())
        out: asyncio.Queue[str] = asyncio.Queue()
        sessions = [lambda: out.put_nowait("first"), lambda: out.put_nowait("second"), lambda: out.put_nowait("bob")]
        for account, session in zip((alice, alice, bob), sessions, strict=True):
            assert await presence.enter(account, session)
        presence.leave(alice, sessions[1])
        await store.write(accounts.set_enabled, alice, False)
        assert await out.get() == "first"
        await store.write(accounts.remove, bob, NOW)
        while (who := await out.get()) != "bob":
            assert who == "first"
        following.cancel()
        await asyncio.wait([following])

    with_store(tmp_path, main)


def test_nobody_comes_in_who_is_disabled_already(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        alice, _ = await store.write(_people)
        await store.write(accounts.set_enabled, alice, False)
        presence = Presence(store)
        assert not await presence.enter(alice, lambda: None)
        assert not await presence.enter(99, lambda: None)

    with_store(tmp_path, main)


def test_whoever_goes_away_at_the_entrance_is_not_inside(tmp_path: Path) -> None:
    async def main(store: SqliteStore, clock: SetClock) -> None:
        alice, _ = await store.write(_people)
        presence = Presence(store)
        out: asyncio.Queue[str] = asyncio.Queue()
        entering = asyncio.create_task(presence.enter(alice, lambda: out.put_nowait("gone")))
        await asyncio.sleep(0)
        entering.cancel()
        await asyncio.wait([entering])
        assert entering.cancelled()
        assert await presence.enter(alice, lambda: out.put_nowait("inside"))
        await store.write(accounts.set_enabled, alice, False)
        following = asyncio.create_task(presence.follow())
        assert await out.get() == "inside"
        following.cancel()
        await asyncio.wait([following])
        assert out.empty()

    with_store(tmp_path, main)
