"""Reading a mailbox with the standard library, to see what a foreign client sent."""

import imaplib
import ssl

from bench.peers.waiting import wait_until
from bench.posthouse_server import PASSWORD, PosthouseServer


def connect(server: PosthouseServer, login: str) -> imaplib.IMAP4_SSL:
    """An IMAP connection over verified TLS, logged in, INBOX selected."""
    context = ssl.create_default_context(cafile=str(server.certificates))
    context.check_hostname = False  # the address is loopback's; that the CA is ours is checked
    client = imaplib.IMAP4_SSL(server.address, server.ports["imaps"], ssl_context=context, timeout=60)
    client.login(login, PASSWORD)
    client.select("INBOX")
    return client


def messages(server: PosthouseServer, login: str) -> list[bytes]:
    """Everything in somebody's INBOX."""
    with connect(server, login) as client:
        return _all(client)


def clear_text_messages(server: PosthouseServer, login: str) -> list[bytes]:
    """The same, of a server that lets loopback log in without TLS."""
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


def wait_for_message(server: PosthouseServer, login: str, subject: str, seconds: float = 20) -> bytes:
    """The one message with this Subject field, as soon as it is in INBOX."""
    wanted = f"\r\nSubject: {subject}\r\n".encode()
    found: list[bytes] = []

    def arrived() -> bool:
        found[:] = [octets for octets in messages(server, login) if wanted in octets]
        return bool(found)

    wait_until(arrived, seconds, f"a message with the subject {subject!r}", pause=0.1)
    assert len(found) == 1, f"{len(found)} messages with the subject {subject!r}"
    return found[0]
