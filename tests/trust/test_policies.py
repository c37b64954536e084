"""MTA-STS policies of others: when they are fetched, kept, renewed and believed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from posthouse.clock import SetClock
from posthouse.net.dns import Answer, NoSuchDomain, TemporaryFailure
from posthouse.net.http import HttpError, Page
from posthouse.store.database import StoreUnavailable
from posthouse.store.sqlite import SqliteStore
from posthouse.trust.policies import AFTER_FAILURE, Policies, expire
from posthouse.trust.tlsrpt import Tally
from tests.relay.support import Names
from tests.store.support import opened
from tests.support import run

HOUR = 3600
AGE = 8 * HOUR


def page(mode: str = "enforce", mx: str = "mx.there.example", age: int = AGE) -> Page:
    return Page("text/plain", f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: {age}\n".encode())


class World(Names):
    """DNS and HTTPS of there.example, a store, and the policies found in them. `record` None: none is announced."""

    def __init__(self, store: SqliteStore, clock: SetClock) -> None:
        super().__init__()
        self.store, self.clock, self.tally = store, clock, Tally(clock)
        self.record: str | None = "1"
        self.dns_works = True
        self.page: Page | HttpError = page()
        self.fetched: list[str] = []
        self.slow: asyncio.Event | None = None
        self.restart()

    def restart(self) -> None:
        """Forget what is only in memory."""
        self.policies = Policies(self, self, self.store, self.tally, self.clock)

    async def txt(self, name: str) -> Answer[bytes]:
        if not self.dns_works:
            raise TemporaryFailure(name, "no answer")
        if self.record is None:
            raise NoSuchDomain(name, "no such domain")
        assert name == "_mta-sts.there.example"
        return Answer((f"v=STSv1; id={self.record};".encode(),), 60, False, name)

    async def get(self, host: str, path: str, *, seconds: float, most: int) -> Page:
        self.fetched.append(f"{host}{path}")
        if self.slow:
            await self.slow.wait()
        if isinstance(self.page, HttpError):
            raise self.page
        return self.page

    async def found(self, domain: str = "there.example") -> tuple[str, ...]:
        """The hosts of the policy that holds."""
        policy = await self.policies.find(domain)
        return policy.mx if policy else ()

    def failures(self) -> list[str | None]:
        return [session.failure for _, session in self.tally.take()]


Scene = Callable[[World], Coroutine[Any, Any, None]]


@asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    clock = SetClock()
    async with opened(directory, clock) as store:
        one = World(store, clock)
        try:
            yield one
        finally:
            await one.policies.close()


def play(tmp_path: Path, scene: Scene) -> None:
    async def main() -> None:
        async with world(tmp_path) as one:
            await scene(one)

    run(main())


def test_a_policy_is_fetched_once_and_kept(tmp_path: Path) -> None:
    async def scene(one: World) -> None:
        assert await one.found() == ("mx.there.example",)
        assert await one.found() == ("mx.there.example",)
        one.restart()
        assert await one.found() == ("mx.there.example",)
        assert one.fetched == ["mta-sts.there.example/.well-known/mta-sts.txt"]
        assert one.failures() == []

    play(tmp_path, scene)


def test_a_domain_that_announces_nothing_is_not_asked(tmp_path: Path) -> None:
    async def scene(one: World) -> None:
        one.record = None
        assert await one.found() == ()
        assert one.fetched == []

    play(tmp_path, scene)


def test_a_policy_holds_though_dns_and_https_fail(tmp_path: Path) -> None:
    """RFC 8461 §3.3: who can break DNS must not be able to switch it off."""

    async def scene(one: World) -> None:
        await one.found()
        for record, works in ((None, True), ("1", False)):
            one.record, one.dns_works, one.page = record, works, HttpError("gone")
            one.restart()
            assert await one.found() == ("mx.there.example",)
        one.clock.advance(AGE)
        assert await one.found() == ()

    play(tmp_path, scene)


def test_another_id_brings_another_policy(tmp_path: Path) -> None:
    async def scene(one: World) -> None:
        await one.found()
        one.clock.advance(60)
        one.record, one.page = "2", page(mx="new.there.example")
        assert await one.found() == ("new.there.example",)
        assert len(one.fetched) == 2
        one.restart()
        assert await one.found() == ("new.there.example",)

    play(tmp_path, scene)


def test_whoever_announces_another_id_each_time_is_asked_once_a_minute(tmp_path: Path) -> None:
    async def scene(one: World) -> None:
        for number in range(30):
            one.record = str(number)
            assert await one.found() == ("mx.there.example",)
            one.clock.advance(10)
        assert len(one.fetched) == 5

    play(tmp_path, scene)


def test_another_id_whose_policy_cannot_be_had_leaves_the_old_one(tmp_path: Path) -> None:
    async def scene(one: World) -> None:
        await one.found()
        one.clock.advance(60)
        one.record, one.page = "2", HttpError("gone")
        assert await one.found() == ("mx.there.example",)
        assert await one.found() == ("mx.there.example",)
        assert len(one.fetched) == 2
        assert one.failures() == ["sts-policy-fetch-error"]

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (HttpError("no answer"), "sts-policy-fetch-error"),
        (HttpError("certificate refused", untrusted=True), "sts-webpki-invalid"),
        (Page("text/html", page().body), "sts-policy-invalid"),
        (Page("", page().body), "sts-policy-invalid"),
        (Page("text/plain", b"mode: enforce"), "sts-policy-invalid"),
    ],
)
def test_a_policy_that_cannot_be_had_is_none_and_not_asked_for_again_at_once(
    tmp_path: Path, answer: Page | HttpError, failure: str
) -> None:
    async def scene(one: World) -> None:
        one.page = answer
        assert await one.found() == ()
        assert await one.found() == ()
        assert len(one.fetched) == 1
        assert one.failures() == [failure]
        one.clock.advance(AFTER_FAILURE / 1000)
        one.page = page()
        assert await one.found() == ("mx.there.example",)

    play(tmp_path, scene)


def test_past_half_of_its_life_it_is_renewed_behind_the_mail(tmp_path: Path) -> None:
    async def scene(one: World) -> None:
        await one.found()
        one.clock.advance(AGE / 2 + 1)
        one.slow, one.page = asyncio.Event(), page(mx="new.there.example")
        assert await one.found() == ("mx.there.example",)
        await asyncio.sleep(0)
        assert len(one.fetched) == 2
        one.slow.set()
        while await one.found() != ("new.there.example",):
            await asyncio.sleep(0.001)
        assert len(one.fetched) == 2

    play(tmp_path, scene)


def test_a_long_promise_is_looked_at_once_a_day(tmp_path: Path) -> None:
    async def scene(one: World) -> None:
        one.page = page(age=100 * 86_400)
        await one.found()
        one.clock.advance(86_401)
        one.page = HttpError("gone")
        await one.found()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(one.fetched) == 2
        assert await one.found() == ("mx.there.example",)

    play(tmp_path, scene)


def test_all_who_ask_at_once_share_one_fetch(tmp_path: Path) -> None:
    async def scene(one: World) -> None:
        one.slow = asyncio.Event()
        asking = [asyncio.create_task(one.found()) for _ in range(5)]
        while not one.fetched:
            await asyncio.sleep(0)
        asking[0].cancel()
        one.slow.set()
        assert await asyncio.gather(*asking[1:]) == [("mx.there.example",)] * 4
        assert len(one.fetched) == 1

    play(tmp_path, scene)


def test_mode_none_takes_the_policy_back(tmp_path: Path) -> None:
    async def scene(one: World) -> None:
        await one.found()
        one.clock.advance(60)
        one.record, one.page = "2", page("none")
        assert await one.found() == ()
        assert await one.found() == ()
        assert len(one.fetched) == 2

    play(tmp_path, scene)


def test_a_policy_for_no_time_holds_for_this_mail_and_is_not_fetched_for_each(tmp_path: Path) -> None:
    async def scene(one: World) -> None:
        one.page = page(age=0)
        assert await one.found() == ("mx.there.example",)
        assert await one.found() == ("mx.there.example",)
        assert len(one.fetched) == 1
        one.clock.advance(61)
        await one.found()
        assert len(one.fetched) == 2

    play(tmp_path, scene)


def test_without_the_store_nobody_can_say(tmp_path: Path) -> None:
    """What was promised and cannot be read must not count as no promise."""

    async def scene(one: World) -> None:
        class Away:
            async def read(self, *_: object) -> None:
                raise StoreUnavailable("disk")

        policies = Policies(one, one, Away(), one.tally, one.clock)  # type: ignore[arg-type]  # it has what is used
        with pytest.raises(StoreUnavailable):
            await policies.find("there.example")

    play(tmp_path, scene)


def test_expired_policies_are_swept(tmp_path: Path) -> None:
    async def scene(one: World) -> None:
        await one.found()
        await one.store.write(expire, one.clock.now() + AGE * 1000 - 1)
        rows = "SELECT domain FROM sts_policy"
        assert await one.store.read(lambda tx: tx.query(rows, ())) == [("there.example",)]
        await one.store.write(expire, one.clock.now() + AGE * 1000)
        assert await one.store.read(lambda tx: tx.query(rows, ())) == []

    play(tmp_path, scene)
