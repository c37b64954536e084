"""A limit that sets no timer where nothing is waited for, and is asyncio's where something is."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from posthouse.reception import patience
from posthouse.reception.patience import within
from tests.support import run


async def at_once() -> int:
    return 7


async def in_three_waits() -> int:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, 3)
    await asyncio.sleep(0)
    found: int = await future
    await asyncio.sleep(0.001)
    return 4 + found


async def with_a_timeout_of_its_own() -> int:
    try:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()
    except TimeoutError:
        await asyncio.sleep(0)
        return 7
    return 0


@pytest.mark.parametrize("work", [at_once, in_three_waits, with_a_timeout_of_its_own])
def test_what_is_done_in_time_is_what_it_was(work: Callable[[], Coroutine[Any, Any, int]]) -> None:
    assert run(within(60, work())) == 7


def test_what_does_not_wait_sets_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(patience, "asyncio")
    assert run(within(60, at_once())) == 7


@pytest.mark.parametrize("waits", [0, 1, 2])
def test_what_it_raises_comes_through(waits: int) -> None:
    async def fail() -> None:
        for _ in range(waits):
            await asyncio.sleep(0)
        raise KeyError("no")

    with pytest.raises(KeyError, match="no"):
        run(within(60, fail()))


@pytest.mark.parametrize("waits", [0, 1])
def test_what_waits_too_long_is_cancelled(waits: int) -> None:
    tidied: list[bool] = []

    async def linger() -> None:
        try:
            for _ in range(waits):
                await asyncio.sleep(0)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidied.append(True)

    with pytest.raises(TimeoutError):
        run(within(0.01, linger()))
    assert tidied == [True]


def test_who_is_cancelled_is_cancelled() -> None:
    """Not by the limit: by whoever ends the session."""
    tidied: list[bool] = []

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tidied.append(True)

    async def main() -> None:
        task = asyncio.create_task(within(60, linger()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main())
    assert tidied == [True]


def test_an_error_of_what_is_waited_for_is_heard_where_it_is_waited_for() -> None:
    async def work() -> str:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, OSError("disk"))
        try:
            await future
        except OSError as error:
            await asyncio.sleep(0)
            return str(error)
        return ""

    assert run(within(60, work())) == "disk"
