"""Reading and filling a mailbox with the standard library, to see what a foreign client sent, or will find."""

import imaplib
import re
import ssl
from collections.abc import Sequence

from bench.peers.waiting import wait_until
from bench.posthouse_server import PASSWORD, PosthouseServer


def trusting(server: PosthouseServer) -> ssl.SSLContext:
    """A context that wants a certificate of the server's own CA."""
    context = ssl.create_default_context(cafile=str(server.certificates))
    context.check_hostname = False  # we connect to an address of loopback; the certificate names mail.example.test
    return context


def connect(server: PosthouseServer, login: str) -> imaplib.IMAP4_SSL:
    """An IMAP connection over verified TLS, logged in, INBOX selected."""
    client = imaplib.IMAP4_SSL(server.address, server.ports["imaps"], ssl_context=trusting(server), timeout=60)
    client.login(login, PASSWORD)
    client.select("INBOX")
    return client


def empty(server: PosthouseServer, login: str) -> None:
    """Remove everything from somebody's INBOX."""
    with connect(server, login) as client:
        client.store("1:*", "+FLAGS", r"(\Deleted)")
        client.expunge()


def fill(server: PosthouseServer, login: str, messages: Sequence[bytes], flags: Sequence[str] = ("",)) -> None:
    """Append messages to INBOX; the flags are given out in turns."""
    with connect(server, login) as client:
        for n, octets in enumerate(messages):
            answer, words = client.append("INBOX", f"({flags[n % len(flags)]})", "", octets)
            assert answer == "OK", words


def messages(server: PosthouseServer, login: str) -> list[bytes]:
    """Everything in somebody's INBOX."""
    with connect(server, login) as client:
        return _all(client)


def flags(server: PosthouseServer, login: str) -> dict[bytes, frozenset[bytes]]:
    """Everything in somebody's INBOX, with its flags but \\Recent."""
    with connect(server, login) as client:
        found = client.fetch("1:*", "(FLAGS BODY.PEEK[])")[1]
    shown = [(part[1], imaplib.ParseFlags(part[0])) for part in found if isinstance(part, tuple)]
    return {octets: frozenset(names) - {rb"\Recent"} for octets, names in shown}


def numbers(server: PosthouseServer, login: str) -> list[tuple[int, int]]:
    """UID and octets of everything in somebody's INBOX."""
    with connect(server, login) as client:
        lines = client.fetch("1:*", "(UID RFC822.SIZE)")[1]
    found = [re.search(rb"UID (\d+) RFC822\.SIZE (\d+)", line) for line in lines if isinstance(line, bytes)]
    return [(int(one[1]), int(one[2])) for one in found if one]


def clear_text_messages(server: PosthouseServer, login: str) -> list[bytes]:
    """Everything in somebody's INBOX, of a server that lets loopback log in without TLS."""
    with imaplib.IMAP4(server.address, server.ports["imap"], timeout=60) as client:
        client.login(login, PASSWORD)
        client.select("INBOX", readonly=True)
        return _all(client)


def _all(client: imaplib.IMAP4) -> list[bytes]:
    numbers = client.search(None, "ALL")[1][0].split()
    if not numbers:
        return []
    parts = client.fetch("1:*", "(BODY.PEEK[])")[1]
    return [part[1] for part in parts if isinstance(part, tuple)]


def wait_for_message(server: PosthouseServer, login: str, subject: str, seconds: float = 90) -> bytes:
    """The one message with this Subject field, as soon as it is in INBOX."""
    wanted = f"\r\nSubject: {subject}\r\n".encode()
    found: list[bytes] = []

    def arrived() -> bool:
        found[:] = [octets for octets in messages(server, login) if wanted in octets]
        return bool(found)

    wait_until(arrived, seconds, f"a message with the subject {subject!r}", pause=0.1)
    assert len(found) == 1, f"{len(found)} messages with the subject {subject!r}"
    return found[0]
