"""The bell between processes that share the file."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from posthouse.store import sqlite
from posthouse.store.bell import Bell, Wire
from posthouse.store.database import Topic, Tx
from posthouse.store.sqlite import SqliteStore
from tests.store.support import count, open_store, opened, put
from tests.support import run

OTHER = """
import asyncio, sys
sys.path[:0] = {path!r}
from pathlib import Path
from posthouse.store.database import Topic
from tests.store.support import open_store, put

def news(tx, account):
    tx.ring(Topic.ACCOUNT, account)
    put(tx, b"news")

async def main():
    store = open_store(Path(sys.argv[1]))
    ear = store.listen(Topic.QUEUE)
    print("ready", flush=True)
    assert await ear.wait() == {{0}}
    for account in range(1, 51):
        await store.write(news, account)
    await store.close()

asyncio.run(main())
"""


def put_and_ring(tx: Tx, topic: Topic, id: int) -> None:
    put(tx, b"news")
    tx.ring(topic, id)


def other_process(directory: Path) -> subprocess.Popen[bytes]:
    program = OTHER.format(path=sys.path)
    return subprocess.Popen([sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE)


def test_processes_hear_each_other_and_write_to_one_file(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            ear, last = store.listen(Topic.ACCOUNT), store.listen(Topic.ACCOUNT, 50)
            others = [other_process(tmp_path) for _ in range(2)]
            try:
                for other in others:
                    assert other.stdout
                    assert await asyncio.to_thread(other.stdout.readline) == b"ready\n"
                await store.write(lambda tx: tx.ring(Topic.QUEUE))
                await asyncio.gather(*[store.write(put, b"here") for _ in range(300)])
                heard: set[int] = set()
                while not heard >= set(range(1, 51)) and 0 not in heard:
                    heard |= await ear.wait()
                await last.wait()
                for other in others:
                    assert await asyncio.to_thread(other.wait) == 0
            finally:
                for other in others:
                    other.kill()
                    other.communicate()
            assert await store.read(count) == 400
        assert os.listdir(tmp_path / "bell") == []

    run(main())


def test_a_ring_between_two_stores_of_one_file(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as one, opened(tmp_path) as other:
            heard = other.listen(Topic.ACCOUNT, 7)
            elsewhere = one.listen(Topic.ACCOUNT, 7)
            await one.write(lambda tx: tx.ring(Topic.ACCOUNT, 7))
            assert await heard.wait() == {7}
            assert await elsewhere.wait() == {7}

    # (The same process and loop: what matters is that there are two sockets.)
    run(main())


def test_very_many_rings_are_heard_as_look_at_all(tmp_path: Path) -> None:
    def all_accounts(tx: Tx) -> None:
        for account in range(1, 2000):
            tx.ring(Topic.ACCOUNT, account)

    async def main() -> None:
        async with opened(tmp_path) as one, opened(tmp_path) as other:
            heard = other.listen(Topic.ACCOUNT, 7)
            await one.write(all_accounts)
            assert await heard.wait() == {0}

    run(main())


def test_sockets_of_the_dead_are_swept_and_nonsense_is_ignored(tmp_path: Path) -> None:
    wire = Wire(tmp_path / "bell")
    dead = Wire(tmp_path / "bell")
    os.close(os.dup(dead.fileno()))
    dead._socket.close()
    assert len(os.listdir(tmp_path / "bell")) == 2
    wire.look_around()
    wire.send({(Topic.QUEUE, 0)})
    assert len(os.listdir(tmp_path / "bell")) == 1

    bell = Bell(tmp_path / "bell")
    bell.wire._send(b"nonsense")
    bell.wire._send(b"\xff" + bytes(8))
    assert wire.receive() == set()
    bell.wire.send({(Topic.ACCOUNT, 1 << 40)})
    assert wire.receive() == {(Topic.ACCOUNT, 1 << 40)}
    bell.wire.close()
    bell.wire.close()
    wire.close()
    os.close(dead._directory)


def test_a_full_socket_loses_rings_and_holds_nobody_up(tmp_path: Path) -> None:
    wire, deaf = Wire(tmp_path / "bell"), Wire(tmp_path / "bell")
    wire.receive()
    for account in range(5000):
        wire.send({(Topic.ACCOUNT, account)})
    assert (Topic.ACCOUNT, 0) in deaf.receive()
    wire.close()
    deaf.close()


def test_a_long_directory_is_no_obstacle(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 100) / ("y" * 100)
    directory.mkdir(parents=True)
    run(open_store_and_close(directory))


async def open_store_and_close(directory: Path) -> None:
    await open_store(directory).close()


def test_a_ring_that_was_lost_among_others_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LOOK_SECONDS", 0.02)

    async def main() -> None:
        async with opened(tmp_path) as store, opened(tmp_path) as other:
            lost, heard = store.listen(Topic.ACCOUNT, 7), store.listen(Topic.QUEUE)
            wire, other._bell.wire = other._bell.wire, Wire(tmp_path / "nobody")
            await other.write(put_and_ring, Topic.ACCOUNT, 7)
            await other.write(count)  # the writer has rung what came before
            other._bell.wire.close()
            other._bell.wire = wire
            await other.write(put_and_ring, Topic.QUEUE, 0)
            assert await heard.wait() == {0}
            assert await lost.wait() == {0}

    run(main())


def test_who_writes_without_ringing_here_is_found_by_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LOOK_SECONDS", 0.02)
    looks: asyncio.Queue[None] = asyncio.Queue()
    looked = SqliteStore._looked

    def noted(store: SqliteStore, answer: "asyncio.Future[int]") -> None:
        looked(store, answer)
        looks.put_nowait(None)

    monkeypatch.setattr(SqliteStore, "_looked", noted)

    async def main() -> None:
        async with opened(tmp_path) as store:
            ear = store.listen(Topic.ACCOUNT, 7)
            waiting = asyncio.ensure_future(ear.wait())
            # Looks that have nothing to tell: one at least begins behind our own write.
            for _ in range(3):
                await store.write(put, b"ours")
                await looks.get()
                await asyncio.sleep(0)
            assert not waiting.done()
            other = apsw.Connection(str(tmp_path / "posthouse.db"))
            other.execute("DELETE FROM blob")
            other.close()
            assert await waiting == {0}

    run(main())
