"""Servers that break off, fall silent or refuse at a chosen point, and take mail afterwards."""

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

# Where a conversation can break, in the order in which it gets there. At "content" half of the message has come, at
# "dot" all of it.
POINTS: Final = ("connect", "EHLO", "MAIL", "RCPT", "DATA", "content", "dot", "QUIT")


class Liar:
    """Listens at `address`:`port`; in its first conversation it does what it is for when it gets to `point`.

    `kept` are the messages that it has answered by 250. `offers` counts conversations that came to MAIL.
    """

    def __init__(self, address: str, port: int, point: str, deed: Callable[["Liar", socket.socket], None]) -> None:
        self.address, self.point = address, point
        self.kept: list[bytes] = []
        self.offers = 0
        self.reached = threading.Event()
        self.released = threading.Event()
        self._deed = deed
        self._conversations = itertools.count(1)
        self._listener = socket.create_server((address, port))
        self._thread = threading.Thread(target=self._listen, name=f"liar at {point}", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with suppress(OSError):  # shut down
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        lies = next(self._conversations) == 1
        with connection, connection.makefile("rb") as lines, suppress(OSError):
            for point in self._converse(connection, lines):
                if lies and point == self.point:
                    self.reached.set()
                    self._deed(self, connection)
                    return

    def _converse(self, connection: socket.socket, lines: BinaryIO) -> Iterator[str]:
        """Speak SMTP without extensions; the points as they come, each before it is answered."""
        yield "connect"
        connection.sendall(b"220 liar.test ESMTP\r\n")
        for line in lines:
            verb = line[:4].upper().decode()
            if verb == "MAIL":
                self.offers += 1
            yield verb
            if verb == "DATA":
                connection.sendall(b"354 Go on\r\n")
                yield from self._take(lines)
            connection.sendall(b"221 2.0.0 Bye\r\n" if verb == "QUIT" else b"250 2.0.0 Good\r\n")
            if verb == "QUIT":
                return

    def _take(self, lines: BinaryIO) -> Iterator[str]:
        message: list[bytes] = []
        for line in lines:
            if line == b".\r\n":
                break
            message.append(line)
            if len(message) == 10:
                yield "content"
        else:
            return  # it was never ended
        yield "dot"
        self.kept.append(b"".join(message))

    def close(self) -> None:
        """Listen no more."""
        self.released.set()
        # Closing alone leaves `accept` waiting for whoever gets the descriptor next.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._listener.close()


def hang_up(liar: Liar, connection: socket.socket) -> None:
    """Break off without a word."""


def fall_silent(liar: Liar, connection: socket.socket) -> None:
    """Say nothing until released, then break off."""
    liar.released.wait()


def wait_a_little(liar: Liar, connection: socket.socket) -> None:
    """Refuse for now (greylisting), and break off."""
    connection.sendall(b"451 4.7.1 Greylisted, come again\r\n")


@contextmanager
def liar(address: str, port: int, point: str, deed: Callable[[Liar, socket.socket], None] = hang_up) -> Iterator[Liar]:
    """One, listening for as long as it is needed."""
    one = Liar(address, port, point, deed)
    try:
        yield one
    finally:
        one.close()
