"""What the demo's clients do when a server does not answer as it should: one line, and no hanging."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from posthouse.cli.demo_print import Teller
from posthouse.cli.demo_talk import Door, User, Wire, submit
from posthouse.cli.installation import CommandError
from posthouse.written import Endpoint

ALICE = User("alice@example.org", "secret")


@contextmanager
def saying(octets: bytes) -> Iterator[Door]:
    """A server that says this to whoever comes, and hangs up once it has been told something."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)

        def serve() -> None:
            peer, _ = listening.accept()
            peer.settimeout(30)
            with peer:
                peer.sendall(octets)
                peer.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Door(Endpoint(*listening.getsockname()), "mail.example.org", Path("ca.pem"))
        finally:
            thread.join()


def failure(octets: bytes, talk: Callable[[Door], object]) -> str:
    with saying(octets) as door, pytest.raises(CommandError) as error:
        talk(door)
    return str(error.value)


def submitting(door: Door) -> object:
    return submit(door, Teller(), ALICE, ["bob@far.example"], b"Subject: x\r\n\r\n")


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"554 No\r\n", "the server answered '554 No' where 220 was expected"),
        (b"220-Well\r\n220 come\r\n500 What?\r\n", "the server answered '500 What?' where 250 was expected"),
        (b"220 Hello\r\n250 Hi\r\n220 Go\r\n220 forged\r\n", "the server said something behind its answer to STARTTLS"),
        (b"220 Hello\r\n", "mail.example.org hung up"),
    ],
)
def test_an_answer_that_was_not_expected(octets: bytes, expected: str) -> None:
    assert failure(octets, submitting).startswith(expected)


def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        door = Door(Endpoint(*unused.getsockname()), "mail.example.org", Path("ca.pem"))
        with pytest.raises(CommandError, match=r"mail\.example\.org cannot be reached at 127\.0\.0\.1"):
            Wire(door, Teller())


def test_secrets_are_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    with saying(b"+OK\r\n") as door:
        wire = Wire(door, Teller())
        wire.send("PASS secret", "PASS ********")
        assert wire.hear() == "+OK"
        wire.close()
    shown = capsys.readouterr().out
    assert "PASS ********" in shown
    assert "secret" not in shown


def test_octets_and_lines_may_come_in_any_pieces() -> None:
    with saying(b"first\r\n12345678rest\r\nabc\r\n.\r\n") as door:
        wire = Wire(door, Teller())
        assert wire.hear() == "first"
        assert wire.hear_octets(8) == b"12345678"
        assert wire.hear_until(b"\r\n.\r\n") == b"rest\r\nabc\r\n.\r\n"
        wire.send("bye")
        wire.close()
