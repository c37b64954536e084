"""The race of a host's addresses, and sockets in the file system."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from posthouse.net import dial
from posthouse.net.stream import DialError, Stream
from posthouse.written import Endpoint
from tests.support import run, until

PLACES = [Endpoint(f"192.0.2.{n}", 25) for n in range(1, 4)]
Behaviour = Callable[[], Awaitable[Stream]]


class Net:
    """Addresses that behave as a test says; `log` tells who was tried, and who was given up."""

    def __init__(self, behaviour: dict[Endpoint, str]) -> None:
        self.behaviour = behaviour
        self.log: list[str] = []
        self.streams: dict[Endpoint, Stream] = {}

    async def connect(self, place: Endpoint) -> Stream:
        self.log.append(f"tries {place.host[-1]}")
        try:
            match self.behaviour[place]:
                case "refuses":
                    raise DialError("refused")
                case "hangs":
                    await asyncio.sleep(3600)
                case "slow":
                    await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.log.append(f"gives up {place.host[-1]}")
            raise
        self.streams[place] = Stream(asyncio.get_running_loop())
        return self.streams[place]


def hold(*behaviour: str, stagger: float = 0.01) -> tuple[dial.Race, Net]:
    async def main() -> tuple[dial.Race, Net]:
        net = Net(dict(zip(PLACES, behaviour, strict=False)))
        return await dial.race(PLACES[: len(behaviour)], net.connect, stagger=stagger), net

    return run(main())


def test_the_first_address_wins_where_it_answers_at_once() -> None:
    ended, net = hold("answers", "answers")
    assert (ended.address, ended.failed) == (PLACES[0], ())
    assert net.log == ["tries 1"]


def test_one_that_refuses_costs_no_wait() -> None:
    ended, net = hold("refuses", "answers", stagger=3600)
    assert ended.address == PLACES[1]
    assert [place for place, _ in ended.failed] == [PLACES[0]]
    assert net.log == ["tries 1", "tries 2"]


def test_one_that_hangs_costs_a_moment_and_is_given_up() -> None:
    ended, net = hold("hangs", "answers")
    assert (ended.address, ended.failed) == (PLACES[1], ())
    assert net.log == ["tries 1", "tries 2", "gives up 1"]


def test_a_slow_one_may_still_win() -> None:
    ended, net = hold("slow", "hangs", "hangs", stagger=0.02)
    assert ended.address == PLACES[0]
    assert net.log[:2] == ["tries 1", "tries 2"]
    assert net.log[-1].startswith("gives up")


def test_where_nobody_answers_all_reasons_are_told() -> None:
    ended, _ = hold("refuses", "refuses", "refuses")
    assert (ended.stream, ended.address) == (None, None)
    assert [place for place, _ in ended.failed] == PLACES


def test_a_cancelled_race_leaves_nobody_running() -> None:
    async def main() -> None:
        net = Net(dict.fromkeys(PLACES, "hangs"))
        task = asyncio.create_task(dial.race(PLACES, net.connect, stagger=0.001))
        while len(net.log) < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sum(line.startswith("gives up") for line in net.log) == 3

    run(main())


class Noted(Stream):
    """Knows whether it was ended."""

    aborted = False

    def abort(self) -> None:
        """End it."""
        self.aborted = True


def test_nobody_waits_for_who_is_given_up_and_who_then_comes_in_second_is_ended() -> None:
    """Who was cancelled in such a wait would leave the winner connected."""

    async def main() -> None:
        loop, gate = asyncio.get_running_loop(), asyncio.Event()
        first, second = Noted(loop), Noted(loop)

        async def connect(place: Endpoint) -> Stream:
            if place == PLACES[1]:
                return first
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                await gate.wait()
            return second

        task = asyncio.create_task(dial.race(PLACES[:2], connect, stagger=0.001))
        try:
            await until(task.done)
        finally:
            gate.set()
        assert (await task).stream is first
        await until(lambda: second.aborted)
        assert not first.aborted

    run(main())


def test_a_socket_in_the_file_system(tmp_path: Path) -> None:
    async def main() -> None:
        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            writer.close()

        with pytest.raises(DialError, match="no such file"):
            await dial.connect_unix(tmp_path / "socket", seconds=30)
        async with await asyncio.start_unix_server(greet, tmp_path / "socket"):
            stream = await dial.connect_unix(tmp_path / "socket", seconds=30)
            assert await stream.read() == b"hello"
            await stream.close()

    run(main())


def test_the_source_towards_an_address_is_of_its_family() -> None:
    assert dial.source_towards("127.0.0.5") == "127.0.0.1"
    assert dial.source_towards("not an address") is None
