"""What many tests need: running a coroutine on the loop we run in production."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop
from uvloop.loop import Server, UVBaseTransport  # type: ignore[attr-defined]  # its stub leaves them out

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T], seconds: float = 60) -> T:
    """Run to the end on uvloop; a hang is a failure after `seconds`, and a failure is none to wait for."""

    async def bounded() -> T:
        try:
            async with asyncio.timeout(seconds):
                return await coroutine
        except BaseException:
            _close_all()
            raise

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


async def until(true: Callable[[], object], seconds: float = 30) -> None:
    """Wait for what must come to be so, and stays; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


def _close_all() -> None:
    """What a test that failed has left open: while the traceback holds it, uvloop's `close` would wait for it."""
    for one in gc.get_objects():
        if isinstance(one, Server):
            one.close()
        elif isinstance(one, UVBaseTransport):
            one.abort()
