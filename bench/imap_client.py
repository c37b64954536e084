"""Clients that are no bottleneck: they send a command, count the octets until its end, and look at nothing else."""

import contextlib
import selectors
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Final

from bench.corpus import Sample

_SECONDS: Final = 600
_ROOM: Final = 1024 * 1024
# The longest tagged line that is understood.
_LINE: Final = 8192
# No message has it at the beginning of a line.
_TAG: Final = b"zqx"


class Client:
    """An IMAP connection, greeted. AssertionError where a command is not answered by OK."""

    def __init__(self, address: str, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._socket = socket.create_connection((address, port), timeout=_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket)
        self._room = memoryview(bytearray(_ROOM))
        self._number = 0
        greeting = self._socket.recv(_LINE)
        assert greeting.startswith(b"* OK"), greeting

    def log_in(self, user: str, password: str) -> "Client":
        """LOGIN."""
        self.command(f'LOGIN "{user}" "{password}"'.encode())
        return self

    def command(self, text: bytes) -> int:
        """Send a command; the octets of its answer."""
        self._number += 1
        tag = b"%b%d" % (_TAG, self._number)
        self._socket.sendall(b"%b %b\r\n" % (tag, text))
        return sum(len(piece) for piece in self._until(tag))

    def ask(self, text: bytes) -> bytes:
        """Send a command; its answer."""
        self._number += 1
        tag = b"%b%d" % (_TAG, self._number)
        self._socket.sendall(b"%b %b\r\n" % (tag, text))
        return b"".join([bytes(piece) for piece in self._until(tag)])

    def append(self, mailbox: str, samples: Sequence[Sample]) -> None:
        """APPEND of these messages in one command (RFC 3502), without waiting to be asked for each."""
        parts = [f'APPEND "{mailbox}"'.encode()]
        for one in samples:
            parts += [b" %b %b {%d+}\r\n" % (one.flags, one.internal_date, len(one.octets)), one.octets]
        self.command(b"".join(parts))

    def idle(self) -> None:
        """IDLE, until the connection is closed."""
        self._socket.sendall(b"idle IDLE\r\n")
        answer = self._socket.recv(_LINE)
        assert answer.startswith(b"+"), answer

    def close(self) -> None:
        """Go away without a word."""
        self._socket.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _until(self, tag: bytes) -> Iterator[memoryview]:
        """What comes, up to the line with this tag."""
        tail = b""
        while True:
            count = self._socket.recv_into(self._room)
            assert count, f"the server went away: {tail[-200:]!r}"
            piece = self._room[:count]
            yield piece
            tail = bytes(piece[-_LINE:]) if count >= _LINE else (tail + bytes(piece))[-_LINE:]
            last = tail[tail.rfind(b"\r\n", 0, -2) + 2 :] if b"\r\n" in tail[:-2] else tail
            if last.endswith(b"\r\n") and last.startswith(tag + b" "):
                assert last.startswith(tag + b" OK"), last[:500]
                return


class Pop3:
    """A POP3 connection, greeted."""

    def __init__(self, address: str, port: int) -> None:
        self._socket = socket.create_connection((address, port), timeout=_SECONDS)
        self._room = memoryview(bytearray(_ROOM))
        self._line(b"")

    def log_in(self, user: str, password: str) -> "Pop3":
        """USER and PASS."""
        self._line(f"USER {user}\r\n".encode())
        self._line(f"PASS {password}\r\n".encode())
        return self

    def _line(self, text: bytes) -> None:
        self._socket.sendall(text)
        answer = self._socket.recv(_LINE)
        assert answer.startswith(b"+OK"), answer

    def retrieve(self, numbers: range) -> int:
        """RETR of these messages, a hundred commands at a time; the octets that came."""
        octets = 0
        for start in range(0, len(numbers), 100):
            some = numbers[start : start + 100]
            self._socket.sendall(b"".join([b"RETR %d\r\n" % number for number in some]))
            octets += self._messages(len(some))
        return octets

    def _messages(self, left: int) -> int:
        octets, tail = 0, b""
        while left:
            count = self._socket.recv_into(self._room)
            assert count, "the server went away"
            octets += count
            piece = tail + bytes(self._room[:count])
            left -= piece.count(b"\r\n.\r\n")
            tail = piece[-4:]
        return octets

    def close(self) -> None:
        """Go away without QUIT: nothing is changed."""
        self._socket.close()


def log_in_many(address: str, port: int, people: Sequence[tuple[str, str]], at_once: int) -> None:
    """Connect, log in and out again, for each of these people (login and password), so many at once."""
    waiting = iter(people)
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as opened:

        def begin() -> None:
            person = next(waiting, None)
            if person is not None:
                connection = opened.enter_context(socket.create_connection((address, port), timeout=_SECONDS))
                selector.register(connection, selectors.EVENT_READ, _Login(connection, *person))

        for _ in range(at_once):
            begin()
        while selector.get_map():
            for key, _ in selector.select(_SECONDS):
                if key.data.step():
                    selector.unregister(key.fileobj)
                    begin()


class _Login:
    """One person who comes and goes."""

    def __init__(self, connection: socket.socket, user: str, password: str) -> None:
        self._connection = connection
        # What is waited for, and what is said then.
        self._steps = [
            (b"* OK", f'a LOGIN "{user}" "{password}"\r\n'.encode()),
            (b"a OK", b"b LOGOUT\r\n"),
            (b"b OK", b""),
        ]
        self._got = b""

    def step(self) -> bool:
        """Take what has come; true when all is said."""
        piece = self._connection.recv(_LINE)
        assert piece, f"the server went away: {self._got!r}"
        self._got += piece
        awaited, then = self._steps[0]
        if not any(line.startswith(awaited) for line in self._got.split(b"\r\n")[:-1]):
            return False
        self._got = b""
        del self._steps[0]
        if self._steps:
            self._connection.sendall(then)
            return False
        self._connection.close()
        return True
