"""No 250 precedes what it promises: the sync of the write-ahead log, of a message's file, and of its directory."""

import asyncio
import os
import re
import threading
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

from posthouse.net.stream import Stream
from tests.harness import MESSAGE, Client, House, house
from tests.store.disk import Disk, DiskFile, disk
from tests.support import run

LARGE = MESSAGE + b"x" * 70 + b"\r\n" + (b"y" * 990 + b"\r\n") * 600
TAKEN = re.compile(rb"250 2\.0\.0 Taken")


FRAME, SYNC, TOLD = ("frame", ""), ("sync", ".db-wal"), ("told", "")


class Watch:
    """What was done to the disk and told to clients, in the order of time.

    `mark` are octets of what is being accepted, by which its frames of the write-ahead log are known from those that
    workers write meanwhile: of a large message the name of its file.
    """

    def __init__(self, recorded: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
        self._recorded = recorded
        self.mark = b""
        real_fsync, real_rename, real_write, real_frame = os.fsync, os.rename, Stream.write, DiskFile.xWrite

        def fsync(descriptor: int) -> None:
            where = os.readlink(f"/proc/self/fd/{descriptor}")
            real_fsync(descriptor)
            recorded.note("fsync", where)

        def rename(source: Path, target: Path) -> None:
            real_rename(source, target)
            recorded.note("rename", str(target))
            self.mark = target.name.encode()

        def frame(file: DiskFile, data: Any, offset: int) -> None:
            real_frame(file, data, offset)
            if file.kind == ".db-wal" and self.mark and self.mark in bytes(data):
                recorded.note(*FRAME)

        def write(stream: Stream, octets: Any) -> None:
            for _ in TAKEN.findall(bytes(octets)):
                recorded.note(*TOLD)
            real_write(stream, octets)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "rename", rename)
        monkeypatch.setattr(Stream, "write", write)
        monkeypatch.setattr(DiskFile, "xWrite", frame)

    def events(self) -> list[tuple[str, str]]:
        """So far."""
        with self._recorded.lock:
            return list(self._recorded.events)


def test_each_250_follows_the_sync_of_its_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(recorded: Disk) -> None:
        async with house(tmp_path, vfs="recorded-road") as home:
            await home.people("bob@home.example", "ann@home.example")
            client = await home.connect("smtp")
            await client.say("EHLO far.example")
            watch = Watch(recorded, monkeypatch)
            for number in range(10):
                recorded.events.clear()
                watch.mark = b"<%d@marked.example>" % number
                await client.say(
                    "MAIL FROM:<eve@far.example>", f"RCPT TO:<{'bob' if number % 2 else 'ann'}@home.example>"
                )
                assert (await client.data(MESSAGE.replace(b"<1@far.example>", watch.mark))).startswith("250")
                events = watch.events()
                # Its frames, then a sync, then the 250.
                assert SYNC in events[events.index(FRAME) : events.index(TOLD)]

    with disk("recorded-road") as recorded:
        run(main(recorded))


def test_the_file_of_a_large_message_and_its_name_are_synced_before_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(recorded: Disk) -> None:
        async with house(tmp_path, vfs="recorded-file") as home:
            await home.people("bob@home.example")
            client = await home.connect("smtp")
            await client.envelope("eve@far.example", ["bob@home.example"])
            watch = Watch(recorded, monkeypatch)
            recorded.events.clear()
            assert (await client.data(LARGE)).startswith("250")
            events = watch.events()
            (final,) = home.kept_files()
            renamed = events.index(("rename", str(final)))
            written = next(at for at, (what, where) in enumerate(events) if what == "fsync" and "/blobs/tmp/" in where)
            named = events.index(("fsync", str(final.parent)), renamed)
            framed = events.index(FRAME)
            committed = events.index(SYNC, framed)
            assert written < renamed < named < framed < committed < events.index(TOLD)
            # The directories that lead to it were new: their names were synced, too.
            assert ("fsync", str(final.parent.parent)) in events[:renamed]

    with disk("recorded-file") as recorded:
        run(main(recorded))


class Tiring:
    """A disk that is full from time to time, for some writes in a row."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._left = 0
        self._lock = threading.Lock()
        self.refused = 0

    def __call__(self, what: str, file: str, octets: int) -> None:
        with self._lock:
            if not self._left and self._random.random() < 0.03:
                self._left = self._random.randrange(1, 5)
            if self._left:
                self._left -= 1
                self.refused += 1
                raise apsw.FullError


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nobody_is_told_250_wrongly_while_the_disk_fills(tmp_path: Path, seed: int) -> None:
    told: list[int] = []
    refused: list[int] = []

    async def offer(home: House, numbers: range) -> None:
        client = await home.connect("smtp")
        for number in numbers:
            lines = (b"z" * 900 + b"\r\n") * (400 if number % 10 == 0 else 1)
            reply = await transaction(client, b"Subject: number %d\r\n\r\n%s" % (number, lines))
            (told if reply.startswith("250") else refused).append(number)
            assert reply[:1] in "24", reply

    async def main(broken: Disk) -> None:
        tiring = Tiring(seed)
        async with house(tmp_path, vfs=f"tiring-{seed}") as home:
            await home.people("bob@home.example")
            works, broken.fail = broken.fail, tiring
            await asyncio.gather(*(offer(home, range(first, first + 12)) for first in range(0, 120, 12)))
            broken.fail = works
        assert tiring.refused > 0
        async with house(tmp_path) as home:
            found = sorted(
                int(match[1]) for octets in await home.mail("bob@home.example")
                if (match := re.search(rb"^Subject: number (\d+)", octets, re.MULTILINE))
            )  # fmt: skip
            # What was told stands, once; what was not told does not.
            assert found == sorted(told)
            assert sorted(told + refused) == list(range(120))
            assert refused, "the disk was never full at a bad moment"
            assert await home.query("PRAGMA integrity_check") == [("ok",)]

    with disk(f"tiring-{seed}") as broken:
        run(main(broken))


async def transaction(client: Client, message: bytes) -> str:
    """One message; the first reply that says no, or the one behind the dot."""
    for line in ("EHLO far.example", "MAIL FROM:<eve@far.example>", "RCPT TO:<bob@home.example>"):
        reply = await client.say(line)
        if not reply.startswith("250"):
            return reply
    return await client.data(message)
