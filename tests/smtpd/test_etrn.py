"""ETRN: what it starts, how often, and what it says where nothing can be started."""

import asyncio
from pathlib import Path

import pytest

from posthouse.app import App
from posthouse.clock import SetClock
from posthouse.store.database import StoreUnavailable
from tests.harness import house
from tests.support import run

DOMAINS = 'relay_domains = ["backup.example", "sub.backup.example"]'


def test_a_domain_is_tried_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    async def flush(app: App, domain: str) -> int:
        tried.append(domain)
        return 0

    monkeypatch.setattr(App, "_flush", flush)

    clock = SetClock()

    async def main() -> None:
        async with house(tmp_path, settings=DOMAINS, clock=clock) as home:
            client = await home.connect("smtp")
            await client.say("EHLO backup.example")
            for _ in range(3):
                assert (await client.say("ETRN backup.example")).startswith("250 ")
            assert tried == ["backup.example"]
            assert (await client.say("ETRN @backup.example")).startswith("250 ")
            assert tried == ["backup.example", "sub.backup.example"]
            # The bell of another connection finds it tried, too.
            other = await home.connect("smtp")
            await other.say("EHLO backup.example")
            assert (await other.say("ETRN backup.example")).startswith("250 ")
            assert len(tried) == 2
            clock.advance(61)
            assert (await other.say("ETRN backup.example")).startswith("250 ")
            assert len(tried) == 3

    run(main())


def test_what_waits_is_due_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        # The clock stands still: what is to be tried later never is, unless somebody asks.
        async with house(tmp_path, settings=DOMAINS, clock=SetClock()) as home:

            async def waits_behind(attempts: int) -> None:
                waiting = "SELECT r.attempts FROM queued_recipient r JOIN lane l ON l.id = r.lane WHERE l.due_at > ?"
                async with asyncio.timeout(30):
                    while await home.query(waiting, home.clock.now()) != [(attempts,)]:
                        await asyncio.sleep(0.005)

            client = await home.connect("smtp")
            assert (await client.send("eve@far.example", ["ann@backup.example"])).startswith("250")
            # Nobody answers for the name, so it waits.
            await waits_behind(1)
            assert (await client.say("ETRN backup.example")).startswith("250 ")
            await waits_behind(2)

    run(main())


def test_a_store_that_is_away_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def flush(app: App, domain: str) -> int:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(App, "_flush", flush)

    async def main() -> None:
        async with house(tmp_path, settings=DOMAINS) as home:
            client = await home.connect("smtp")
            await client.say("EHLO backup.example")
            # Nothing has been tried, so whoever asks again is not told that it was.
            for _ in range(2):
                reply = await client.say("ETRN backup.example")
                assert reply == "458 4.3.0 Unable to queue messages for backup.example"

    run(main())
