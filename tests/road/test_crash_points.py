"""The process is killed at each point around the instant of responsibility: what was told stands, nothing stands twice.

Before the commit the message is the peer's, who was told nothing and comes again. After it the message is ours, told or
not: a 250 that was lost on its way makes the peer send again (RFC 1047), which no server can help.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import MESSAGE, house
from tests.support import run

POINTS = {
    # where the process dies → how many of the message stand afterwards
    "before the file has its name": 0,
    "before the function runs": 0,
    "inside the transaction": 0,
    "before COMMIT": 0,
    "behind COMMIT": 1,
    "before the reply": 1,
}

SERVER = r"""
import asyncio, os, signal, sys
from pathlib import Path
from posthouse.net.stream import Stream
from posthouse.queue import queue
from posthouse.reception import acceptance, answer
from posthouse.store.blob_files import BlobFiles
from posthouse.store.sqlite_tx import SqliteTx
from tests.harness import house
from tests.support import run

point, directory = sys.argv[1], Path(sys.argv[2])
accepting = False


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


real_accept, real_control, real_end, real_write = answer.accept, SqliteTx.control, SqliteTx.end_function, Stream.write


def accept(tx, plan):
    global accepting
    if point == "before the function runs":
        die()
    done = real_accept(tx, plan)
    accepting = True
    return done


def end_function(tx):
    real_end(tx)
    if accepting and point == "inside the transaction":
        die()


def control(tx, statement):
    if accepting and statement == "COMMIT" and point == "before COMMIT":
        die()
    real_control(tx, statement)
    if accepting and statement == "COMMIT" and point == "behind COMMIT":
        die()


def write(stream, octets):
    if b"Taken as" in octets and point == "before the reply":
        die()
    real_write(stream, octets)


async def main():
    async with house(directory, listeners={"smtp": "none"}) as home:
        answer.accept, Stream.write = accept, write
        SqliteTx.control, SqliteTx.end_function = control, end_function
        if point == "before the file has its name":
            BlobFiles.stage = die
        print(home.ports["smtp"], flush=True)
        await asyncio.Event().wait()


run(main())
"""


def answers(port: int, message: bytes) -> bytes:
    """Everything that the server says to one message, sent as a client that does not wait."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"EHLO far.example\r\nMAIL FROM:<eve@far.example>\r\nRCPT TO:<bob@home.example>\r\nDATA\r\n")
        said = b""
        while b"\r\n354" not in said:
            octets = client.recv(65536)
            assert octets, said
            said += octets
        client.sendall(message + b".\r\n")
        behind = b""
        try:
            while octets := client.recv(65536):
                behind += octets
                if b"\r\n" in behind:
                    break
        except ConnectionResetError:
            pass
        return behind


def settle_in(directory: Path) -> None:
    """Somebody to write to."""

    async def main() -> None:
        async with house(directory) as home:
            await home.people("bob@home.example")

    run(main())


def found(directory: Path) -> list[int]:
    """The sizes of bob's emails, after everything was looked at that a crash may leave behind."""

    async def main() -> list[int]:
        async with house(directory) as home:
            assert await home.query("PRAGMA integrity_check") == [("ok",)]
            assert home.unfinished() == []
            emails = await home.mail("bob@home.example")
            (row,) = await home.query("SELECT count(*) FROM journey")
            assert row == (len(emails),)
            client = await home.connect("smtp")
            assert (await client.send("eve@far.example", ["bob@home.example"])).startswith("250")
            assert len(await home.mail("bob@home.example")) == len(emails) + 1
            return [len(re.sub(rb"\A(?:.*\r\n)*?From:", b"From:", one)) for one in emails]

    return run(main())


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("size", [0, 600_000], ids=["small", "large"])
def test_killed_there_it_loses_and_doubles_nothing(tmp_path: Path, point: str, size: int) -> None:
    if point == "before the file has its name" and not size:
        pytest.skip("a small message has no file")
    settle_in(tmp_path)
    message = MESSAGE + b"x" * 900 + b"\r\n" + (b"y" * 998 + b"\r\n") * (size // 1000)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    argv = [sys.executable, "-c", SERVER, point, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        try:
            said = answers(int(process.stdout.readline()), message)
            assert process.wait(60) == -signal.SIGKILL
        finally:
            process.kill()
    # Whoever is told nothing sends again; nobody was told 250 here, not even for what stands.
    assert said == b""
    assert found(tmp_path) == [len(message)] * POINTS[point]
