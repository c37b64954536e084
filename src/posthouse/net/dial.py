"""Reaching a host: all of its addresses in a staggered race (RFC 8305), or a socket in the file system.

Promises: of several addresses the first that answers is the connection, those still being tried are given up, and those
that failed are told with their reasons; nobody is left connected unawares. Refuses: to look up names, and to order
addresses.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from posthouse.net.stream import DialError, Stream
from posthouse.written import Endpoint

# RFC 8305 §5: how long one address is waited for before the next is tried beside it.
STAGGER: Final = 0.25

Connect = Callable[[Endpoint], Awaitable[Stream]]


@dataclass(frozen=True, slots=True)
class Race:
    """How a race ended. `stream` and `address` are the winner's, None where everybody lost; `failed` in that order."""

    stream: Stream | None
    address: Endpoint | None
    failed: tuple[tuple[Endpoint, DialError], ...]


async def race(addresses: Sequence[Endpoint], connect: Connect, *, stagger: float = STAGGER) -> Race:
    """Connect to these (at least one), the next each time one has failed or has been silent for `stagger` seconds.

    What `connect` raises besides DialError ends the race.
    """
    waiting, failed = deque(addresses), list[tuple[Endpoint, DialError]]()
    running: dict[asyncio.Future[Stream], Endpoint] = {}
    try:
        while waiting or running:
            if waiting:
                address = waiting.popleft()
                running[asyncio.ensure_future(connect(address))] = address
            done, _ = await asyncio.wait(
                running, timeout=stagger if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in [task for task in running if task in done]:
                try:
                    stream = task.result()
                except DialError as error:
                    failed.append((running.pop(task), error))
                else:
                    return Race(stream, running.pop(task), tuple(failed))
        return Race(None, None, tuple(failed))
    finally:
        # Without waiting: whoever is cancelled here would leave the winner connected.
        for task in running:
            _give_up(task)


def _give_up(loser: "asyncio.Future[Stream]") -> None:
    """End one that is still connecting, or came in second."""
    loser.add_done_callback(_hang_up)
    loser.cancel()


def _hang_up(loser: "asyncio.Future[Stream]") -> None:
    if not loser.cancelled() and loser.exception() is None:
        loser.result().abort()


async def connect_unix(path: Path, *, seconds: float) -> Stream:
    """A connection to the socket at `path`. Raises DialError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            _, stream = await loop.create_unix_connection(lambda: Stream(loop), str(path))
    except TimeoutError as error:
        raise DialError(f"no answer from {path} within {seconds:g} s", timed_out=True) from error
    except OSError as error:
        raise DialError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    return stream


def source_towards(address: str) -> str | None:
    """The address of this machine that packets to `address` would come from; None where no way leads there.

    Nothing is sent: connecting a datagram socket only asks the kernel for its route.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None
