"""posthouse for ours.test beside a mail server that nobody here wrote, theirs.test; and what people do with them."""

import email
import email.message
import smtplib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.peers.mta import Mta
from bench.peers.private_root import Unavailable
from bench.peers.waiting import free_port, wait_until
from bench.posthouse_server import ENCRYPTED, PASSWORD, PosthouseServer
from posthouse.written import Endpoint
from tests.interop.authority import Authority, Pair
from tests.interop.clients import missing
from tests.interop.conftest import SETTINGS
from tests.interop.names import nameserver
from tests.interop.reading import messages, trusting

OURS, THEIRS = "ours.test", "theirs.test"
# Postfix listens only at addresses that an interface has; posthouse at any of loopback.
OUR_ADDRESS, THEIR_ADDRESS = "127.0.0.3", "127.0.0.1"
ALICE, BOB = f"alice@{OURS}", f"bob@{THEIRS}"
# Nobody listens there.
DEAD_ADDRESS = "127.0.0.9"
# How long what somebody else does is waited for; a sender hears of a delay a minute late where that fell on an attempt.
SECONDS = 90
DELAY_SECONDS = 240


class Setting(NamedTuple):
    """What a peer is set up with: the port of both (an MX record has none), posthouse, a certificate."""

    port: int
    ours: PosthouseServer
    certificate: Pair


class Peers(NamedTuple):
    """posthouse, and the other. `name`: what the other is."""

    ours: PosthouseServer
    theirs: Mta


@contextmanager
def peers(directory: Path, make: Callable[[Setting], Mta]) -> Iterator[Peers]:
    """Both, running. A name server tells posthouse where the other is; the other sends everything else to posthouse."""
    port = free_port(OUR_ADDRESS, THEIR_ADDRESS)
    zone = {
        THEIRS: {"MX": f"10 mail.{THEIRS}."},
        f"mail.{THEIRS}": {"A": THEIR_ADDRESS},
        "dead.test": {"MX": "10 mail.dead.test."},
        "mail.dead.test": {"A": DEAD_ADDRESS},
    }
    with ExitStack() as stack:
        ours = posthouse(port, stack.enter_context(nameserver(zone)))
        stack.callback(ours.stop)
        try:
            theirs = make(Setting(port, ours, Authority(directory).pair(f"mail.{THEIRS}")))
        except Unavailable as why:
            missing(str(why))
        stack.callback(theirs.stop)
        ours.start()
        theirs.start()
        yield Peers(ours, theirs)
        assert ours.errors() == []


def pair_with(make: Callable[[Setting], Mta]) -> Callable[[pytest.TempPathFactory], Iterator[Peers]]:
    """A fixture of a module: both, for all of its tests."""

    @pytest.fixture(scope="module")
    def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
        with peers(tmp_path_factory.mktemp("tls"), make) as running:
            yield running

    return pair


def posthouse(port: int, resolver: Endpoint) -> PosthouseServer:
    """Our side, which encrypts with whoever offers it, as everybody does. Its domain local.test is fed by LMTP."""
    settings = (
        f'[dns]\nresolver = "{resolver}"\n[relay]\nport = {port}\n'
        # Not at the time of an attempt: what is about to be tried is told of a minute later.
        '[queue]\nschedule = ["1s"]\ndelay_notice = "1500ms"\n'
    )
    server = PosthouseServer(
        domain=OURS,
        users=["alice"],
        listeners={**ENCRYPTED, "lmtp": "none"},
        settings=f"{SETTINGS}\n{settings}",
        address=OUR_ADDRESS,
        ports={"smtp": port},
    )
    server.command("domain", "add", "local.test")
    server.command("alias", "add", "crew@local.test", ALICE)
    server.command("alias", "add", f"驿站@{OURS}", ALICE)
    server.command("alias", "add", f"astray@{OURS}", f"nobody-here@{THEIRS}")
    server.command("alias", "add", f"waiting@{OURS}", "somebody@dead.test")
    return server


def submit(
    server: PosthouseServer,
    recipients: str | Sequence[str],
    subject: str,
    body: str = "Hello\r\n",
    options: Sequence[str] = (),
    recipient_options: Sequence[str] = (),
) -> None:
    """Alice hands a message in, by the standard library; with parameters of MAIL and of RCPT."""
    named = [recipients] if isinstance(recipients, str) else list(recipients)
    utf8 = [] if all(one.isascii() for one in named) else ["SMTPUTF8"]
    octets = f"From: {ALICE}\r\nTo: {', '.join(named)}\r\nSubject: {subject}\r\n\r\n{body}".encode()
    with smtplib.SMTP_SSL(server.address, server.ports["submissions"], context=trusting(server), timeout=30) as client:
        client.login(ALICE, PASSWORD)
        client.sendmail(ALICE, named, octets, ["BODY=8BITMIME", *utf8, *options], recipient_options)


# --- looking for what arrived


def wait_at(theirs: Mta, *wanted: bytes, user: str = "bob", seconds: float = SECONDS) -> bytes:
    """The one message in a user's Maildir that has all this in it, as soon as it is there."""
    found: list[bytes] = []

    def arrived() -> bool:
        found[:] = [octets for octets in theirs.mailbox(user) if all(one in octets for one in wanted)]
        return bool(found)

    try:
        wait_until(arrived, seconds, f"a message with {wanted}")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{theirs.log.read_text()[-3000:]}") from error
    assert len(found) == 1, f"{len(found)} messages with {wanted!r}"
    return found[0]


def wait_for_report(server: PosthouseServer, *wanted: bytes, seconds: float = SECONDS) -> bytes:
    """The one report in Alice's INBOX that has all this in it, as soon as it is there."""
    found: list[bytes] = []

    def arrived() -> bool:
        found[:] = [
            octets
            for octets in messages(server, ALICE)
            if b"delivery-status" in octets and all(one in octets for one in wanted)
        ]
        return bool(found)

    try:
        wait_until(arrived, seconds, f"a report with {wanted}", pause=0.1)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{server.log.read_text()[-3000:]}") from error
    assert len(found) == 1, f"{len(found)} reports with {wanted!r}"
    return found[0]


class Status(NamedTuple):
    """The fields of the message and of the first recipient in a report (RFC 3464 §2), and what came back as."""

    of_message: email.message.Message
    of_recipient: email.message.Message
    returned: str


def read_report(octets: bytes, kind: str = "multipart/report") -> Status:
    """As the standard library reads it."""
    report = email.message_from_bytes(octets)
    assert report.get_content_type() == kind
    assert report.get_param("report-type") == ("delivery-status" if kind == "multipart/report" else None)
    parts = report.get_payload()
    assert isinstance(parts, list)
    text, status, returned = parts
    assert isinstance(text, email.message.Message)
    assert text.get_content_maintype() == "text"
    assert isinstance(status, email.message.Message)
    assert status.get_content_type() == "message/delivery-status"
    assert isinstance(returned, email.message.Message)
    fields = status.get_payload()
    assert isinstance(fields, list)
    first, second = fields
    assert isinstance(first, email.message.Message)
    assert isinstance(second, email.message.Message)
    return Status(first, second, returned.get_content_type())


def named(of_recipient: email.message.Message, field: str) -> str:
    """The address in a field of a recipient; whether a space stands behind its type is everybody's own."""
    kind, _, address = str(of_recipient[field]).partition(";")
    assert kind == "rfc822"
    return address.strip()


def wait_for_words(server: PosthouseServer, address: str, words: str) -> None:
    """Wait until the journeys of mail to or from an address tell this, which they do once it is settled."""
    wait_until(lambda: words in server.command("journey", address), SECONDS, f"{words!r} in a journey", pause=0.2)
