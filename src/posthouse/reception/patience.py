"""A limit on how long something may take, which costs nothing where it does not wait.

Promises: `within` is `asyncio.timeout` around an await; but what is done without a wait, as most messages are judged
and planned, sets no timer: that was a twentieth of what the road of a message costs the loop.
Refuses: to interrupt who does not wait; no timer of a loop can.
"""

import asyncio
import types
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns or raises; TimeoutError where it still waits after so many seconds, and is cancelled."""
    try:
        waited_for = work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    async with asyncio.timeout(seconds):
        return await _go_on(work, waited_for)


@types.coroutine
def _go_on(work: Coroutine[Any, Any, T], waited_for: Any) -> Generator[Any, Any, T]:
    """`await work`, which has begun already and waits for this (PEP 380, entered in the middle)."""
    while True:
        try:
            resume = partial(work.send, (yield waited_for))
        except BaseException as error:
            resume = partial(work.throw, error)
        try:
            waited_for = resume()
        except StopIteration as done:
            result: T = done.value
            return result
