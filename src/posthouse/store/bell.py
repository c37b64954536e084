"""The bell: "look at account 7", "look at the queue". It carries no news; losing or doubling a ring costs nothing.

Promises: a ring reaches every listener of its topic in this process when the commit it belongs to has returned, and
those in other processes on the same store a moment later, by a datagram to the socket that each has in `bell/` beside
the database. What is lost on that way, and the ring of a process that died behind its commit, is made good by the
store's slow look at whether another process wrote.
Refuses: to say what changed; that is a row, written in the transaction that rang.
"""

import asyncio
import logging
import os
import secrets
import select
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

from posthouse.store.database import Topic

log = logging.getLogger(__name__)

Ring = tuple[Topic, int]

_TOPICS: Final = tuple(Topic)
_RING: Final = struct.Struct("!BQ")
# More than this many in one datagram, and the listeners are told to look at all of the topic.
_MOST: Final = 200
# The datagram of a process that has just come: "I am here, look who there is".
_HELLO: Final = b""


class Ear:
    """One listener. Several rings while nobody waited are heard as one. Used on the loop only."""

    def __init__(self, bell: "Bell", key: Ring) -> None:
        self._bell = bell
        self._key = key
        self._more: tuple[Ring, ...] = ()
        self._heard: set[int] = set()
        self._waiters: set[asyncio.Future[None]] = set()

    async def wait(self) -> set[int]:
        """Wait until it rings; the ids that rang since the last wait. 0 among them: look at all."""
        while not self._heard:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        heard, self._heard = self._heard, set()
        return heard

    @property
    def rung(self) -> bool:
        """True where it rang since the last wait, which would return at once."""
        return bool(self._heard)

    def also(self, rings: Iterable[Ring]) -> None:
        """Hear these too, instead of those that were named so before."""
        before, self._more = self._more, tuple({*rings} - {self._key})
        for key in {*before}.difference(self._more):
            self._bell.forget(self, key)
        for key in self._more:
            self._bell.join(self, key)

    def close(self) -> None:
        """Hear no more."""
        self.also(())
        self._bell.forget(self, self._key)

    def hear(self, id: int) -> None:
        """It rings."""
        self._heard.add(id)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def __aiter__(self) -> AsyncIterator[set[int]]:
        while True:
            yield await self.wait()


class Bell:
    """The listeners of this process, and the wire to the other processes on the same store."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError where `directory` cannot be made or written."""
        self._ears: dict[Ring, set[Ear]] = {}
        self.wire = Wire(directory)

    def listen(self, topic: Topic, id: int) -> Ear:
        """A new ear; `id` 0 hears every id of the topic."""
        ear = Ear(self, (topic, id))
        self.join(ear, (topic, id))
        return ear

    def join(self, ear: Ear, key: Ring) -> None:
        """This ear hears this too."""
        self._ears.setdefault(key, set()).add(ear)

    def forget(self, ear: Ear, key: Ring) -> None:
        """This ear hears no more."""
        ears = self._ears.get(key, set())
        ears.discard(ear)
        if not ears:
            self._ears.pop(key, None)

    def ring(self, rings: Iterable[Ring]) -> None:
        """Tell the listeners of this process; on the loop. Id 0 is heard by all of the topic, as "look at all"."""
        for topic, id in rings:
            for ear in self._ears.get((topic, 0), ()):
                ear.hear(id)
            if id:
                for ear in self._ears.get((topic, id), ()):
                    ear.hear(id)
                continue
            for (other, _), ears in self._ears.items():
                if other is topic:
                    for ear in ears:
                        ear.hear(0)

    def ring_all(self) -> None:
        """Tell everybody to look at all."""
        self.ring((topic, 0) for topic in _TOPICS)

    def receive(self) -> bool:
        """Ring what other processes rang; on the loop, when the wire is readable. True where there was anything."""
        rings = self.wire.receive()
        self.ring(rings)
        return bool(rings)


class Wire:
    """A datagram socket of our own in the directory, and the names of the others'. Safe to send on from any thread."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._name = secrets.token_hex(8)
        self._directory = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self._path(self._name))
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._others: tuple[str, ...] = ()
        self._changed_ns = 0
        self.look_around()
        self._send(_HELLO)

    def fileno(self) -> int:
        """The descriptor that becomes readable when another process rings."""
        return self._socket.fileno()

    def look_around(self) -> None:
        """See which processes there are."""
        self._changed_ns = os.fstat(self._directory).st_mtime_ns
        self._others = tuple(name for name in os.listdir(self._directory) if name != self._name)

    def send(self, rings: Iterable[Ring]) -> None:
        """Ring in the other processes."""
        try:
            # Who came since we last looked has said hello; but that may lie unheard behind a busy loop.
            if os.fstat(self._directory).st_mtime_ns != self._changed_ns:
                self.look_around()
        except OSError as error:
            log.warning("other processes cannot be told of changes: %s", error)
        if not self._others:
            return
        packed = [_RING.pack(_TOPICS.index(topic), id) for topic, id in rings]
        if len(packed) > _MOST:
            packed = [_RING.pack(index, 0) for index in sorted({ring[0] for ring in packed})]
        self._send(b"".join(packed))

    def receive(self) -> set[Ring]:
        """All that has arrived."""
        rings: set[Ring] = set()
        # Mostly there is nothing: to ask costs a third of the error that says so.
        if not self._poll.poll(0):
            return rings
        while True:
            try:
                datagram = self._socket.recv(_MOST * _RING.size + 1)
            except BlockingIOError:
                return rings
            if datagram == _HELLO:
                self.look_around()
            elif len(datagram) % _RING.size == 0:
                rings |= {(_TOPICS[index], id) for index, id in _RING.iter_unpack(datagram) if index < len(_TOPICS)}

    def close(self) -> None:
        """Take our socket away."""
        if self._socket.fileno() >= 0:
            self._socket.close()
            _unlink(self._name, self._directory)
            os.close(self._directory)

    def _send(self, datagram: bytes) -> None:
        for name in self._others:
            try:
                self._socket.sendto(datagram, self._path(name))
            except (ConnectionRefusedError, FileNotFoundError):
                # The process that bound it is gone.
                _unlink(name, self._directory)
                self._others = tuple(other for other in self._others if other != name)
            except OSError as error:
                # Most likely its buffer is full of rings that it has not heard yet. The slow look makes this one good.
                log.debug("a ring was lost: %s", error)

    def _path(self, name: str) -> str:
        # A socket's path has at most 107 octets, which a store's directory may pass; the descriptor makes it short.
        return f"/proc/self/fd/{self._directory}/{name}"


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
