"""A person reads, files, writes and removes mail with Mozilla Thunderbird, by IMAP and submission over TLS.

Alice's account uses the ports of TLS, Bob's STARTTLS. Whatever Thunderbird does is looked at through another client;
after each test it must have had nothing to complain about, and no command of its own may have been refused.
"""

import base64
import email
import email.policy
import imaplib
import re
import smtplib
from collections.abc import Iterator

import pytest

from bench.peers.waiting import wait_until
from bench.posthouse_server import PosthouseServer
from tests.interop.reading import connect, fill, wait_for_message
from tests.interop.thunderbird import Thunderbird

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]

ALICE, BOB = "alice@example.test", "bob@example.test"
SECONDS = 90


@pytest.fixture(scope="module")
def running(server: PosthouseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Thunderbird]:
    """Thunderbird with both accounts."""
    program = Thunderbird(server, tmp_path_factory.mktemp("thunderbird"))
    try:
        program.set_up(ALICE, "SSL")
        program.set_up(BOB, "alwaysSTARTTLS")
        yield program
    finally:
        program.stop()


@pytest.fixture
def thunderbird(running: Thunderbird) -> Iterator[Thunderbird]:
    """It, showing Alice's INBOX; it must not complain."""
    running.do("show", ALICE, "INBOX")
    yield running
    assert running.do("complaints") == []
    assert running.refusals() == []


def letter(subject: str, body: str = "Grüße\r\n.\r\n..two dots\r\n") -> bytes:
    """A message from Bob to Alice."""
    return (
        f"From: Bob Müller <{BOB}>\r\nTo: {ALICE}\r\nSubject: {subject}\r\n"
        f"Message-ID: <{subject.replace(' ', '.')}@example.test>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
        f"\r\n{body}"
    ).encode()


def received(server: PosthouseServer, thunderbird: Thunderbird, *letters: bytes) -> None:
    """Put letters into Alice's INBOX, and have Thunderbird look for them."""
    fill(server, ALICE, letters)
    thunderbird.do("look", ALICE, "INBOX")
    for octets in letters:
        thunderbird.do("arrived", ALICE, "INBOX", email.message_from_bytes(octets)["Subject"])


def flags(server: PosthouseServer, path: str, subject: str) -> set[bytes] | None:
    """The flags of Alice's one message with a subject, as the server tells another client; None where there is none."""
    with connect(server, ALICE) as client:
        client.select(f'"{path}"', readonly=True)
        numbers = client.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
        if not numbers:
            return None
        assert len(numbers) == 1, f"{len(numbers)} messages with the subject {subject!r} in {path}"
        line = client.fetch(numbers[0].decode(), "(FLAGS)")[1][0]
    assert isinstance(line, bytes)
    return set(imaplib.ParseFlags(line))


def mailboxes(server: PosthouseServer) -> set[str]:
    """Alice's mailboxes, as the server tells another client."""
    with connect(server, ALICE) as client:
        lines = client.list()[1]
    return {line.partition(b' "/" ')[2].decode().strip('"') for line in lines if isinstance(line, bytes)}


def becomes(server: PosthouseServer, path: str, subject: str, expected: set[bytes] | None) -> None:
    """Wait until the server tells these flags of a message."""
    wait_until(lambda: flags(server, path, subject) == expected, SECONDS, f"{subject!r} in {path} with {expected}")


def test_it_knows_what_each_mailbox_is_for(thunderbird: Thunderbird) -> None:
    uses = {"INBOX": "Inbox", "Sent": "SentMail"} | {use: use for use in ("Archive", "Drafts", "Junk", "Trash")}
    wait_until(lambda: thunderbird.do("mailboxes", ALICE) == uses, SECONDS, "all mailboxes")


def test_what_is_read_is_seen(server: PosthouseServer, thunderbird: Thunderbird) -> None:
    received(server, thunderbird, letter("to be read"), letter("to be left"))
    shown = thunderbird.do("read", ALICE, "INBOX", "to be read")
    assert shown["from"] == f"Bob Müller <{BOB}>"
    assert "Grüße\n.\n..two dots\n" in shown["body"]
    becomes(server, "INBOX", "to be read", {rb"\Seen"})
    assert flags(server, "INBOX", "to be left") == set()


@pytest.mark.parametrize("lines", [1, 5000])
def test_a_message_arrives_octet_for_octet(server: PosthouseServer, thunderbird: Thunderbird, lines: int) -> None:
    subject = f"{lines} lines"
    sent = letter(subject, "".join(f"Zeile {n} für alle\r\nFrom here\r\n.\r\n" for n in range(lines)))
    received(server, thunderbird, sent)
    kept = thunderbird.do("source", ALICE, "INBOX", subject).encode("latin-1")
    assert re.sub(rb"\A(X-Mozilla-[^\r\n]*\r?\n)*", b"", kept) == sent


def test_flags_and_tags_are_kept(server: PosthouseServer, thunderbird: Thunderbird) -> None:
    received(server, thunderbird, letter("to be marked"))
    thunderbird.do("command", ALICE, "INBOX", "to be marked", "cmd_markAsFlagged")
    thunderbird.do("tag", ALICE, "INBOX", "to be marked")
    becomes(server, "INBOX", "to be marked", {rb"\Seen", rb"\Flagged", b"$label1"})
    thunderbird.do("command", ALICE, "INBOX", "to be marked", "cmd_markAsUnread")
    becomes(server, "INBOX", "to be marked", {rb"\Flagged", b"$label1"})


def test_the_server_searches(server: PosthouseServer, thunderbird: Thunderbird) -> None:
    needle = letter("a needle", "Im Heu: eine Nähnadel\r\n")
    received(server, thunderbird, letter("a haystack"), needle)
    assert thunderbird.do("search", ALICE, "INBOX", "Body", "nähnadel") == ["a needle"]
    assert thunderbird.do("search", ALICE, "INBOX", "Subject", "HAYSTACK") == ["a haystack"]
    assert thunderbird.do("search", ALICE, "INBOX", "Sender", "nobody") == []


def test_folders_are_made_renamed_and_filled(server: PosthouseServer, thunderbird: Thunderbird) -> None:
    thunderbird.do("create", ALICE, "Reisen")
    assert "Reisen" in mailboxes(server)
    thunderbird.do("rename", ALICE, "Reisen", "Reisen & München")
    name = "Reisen &- M&APw-nchen"  # modified UTF-7, RFC 3501 §5.1.3
    assert {name, "Reisen"} & mailboxes(server) == {name}

    received(server, thunderbird, letter("to be filed"))
    thunderbird.do("move", ALICE, "INBOX", "to be filed", "Reisen & München")
    becomes(server, name, "to be filed", set())
    assert flags(server, "INBOX", "to be filed") is None
    thunderbird.do("show", ALICE, "Reisen & München")
    thunderbird.do("read", ALICE, "Reisen & München", "to be filed")
    becomes(server, name, "to be filed", {rb"\Seen"})


def test_a_folder_that_is_removed_is_in_the_trash_until_that_is_emptied(
    server: PosthouseServer, thunderbird: Thunderbird
) -> None:
    # An empty one: Thunderbird synchronises others in the background, and may open them by their old name.
    thunderbird.do("create", ALICE, "Vorbei")
    thunderbird.do("remove", ALICE, "Vorbei")
    assert {"Vorbei", "Trash/Vorbei"} & mailboxes(server) == {"Trash/Vorbei"}
    thunderbird.do("emptyTrash", ALICE)
    wait_until(lambda: "Trash/Vorbei" not in mailboxes(server), SECONDS, "an empty trash")


def test_what_is_deleted_is_in_the_trash_until_it_is_deleted_there(
    server: PosthouseServer, thunderbird: Thunderbird
) -> None:
    received(server, thunderbird, letter("to be deleted"))
    thunderbird.do("command", ALICE, "INBOX", "to be deleted", "cmd_delete")
    becomes(server, "Trash", "to be deleted", {rb"\Seen"})
    assert flags(server, "INBOX", "to be deleted") is None

    thunderbird.do("show", ALICE, "Trash")
    thunderbird.do("command", ALICE, "Trash", "to be deleted", "cmd_delete")
    becomes(server, "Trash", "to be deleted", {rb"\Seen", rb"\Deleted"})
    thunderbird.do("compact", ALICE, "Trash")
    assert flags(server, "Trash", "to be deleted") is None


def test_news_are_heard_while_idling(server: PosthouseServer, thunderbird: Thunderbird) -> None:
    wait_until(lambda: thunderbird.idles("INBOX"), SECONDS, "IDLE")
    before = len(thunderbird.heard_idling("INBOX"))
    with smtplib.SMTP(server.address, server.ports["smtp"], timeout=60) as stranger:
        stranger.sendmail("stranger@elsewhere.test", [ALICE], letter("from a stranger"))
    thunderbird.do("arrived", ALICE, "INBOX", "from a stranger")
    heard = thunderbird.heard_idling("INBOX")[before:]
    assert [words for words in heard if re.fullmatch(r"\* \d+ EXISTS", words)]

    with connect(server, ALICE) as other:
        number = other.search(None, "SUBJECT", '"from a stranger"')[1][0].decode()
        other.store(number, "+FLAGS", r"(\Flagged)")
        thunderbird.do("flagged", ALICE, "INBOX", "from a stranger")
        other.store(number, "+FLAGS", r"(\Deleted)")
        other.expunge()
        thunderbird.do("gone", ALICE, "INBOX", "from a stranger")


def test_what_is_announced_beside_another_answer_is_heard_of(server: PosthouseServer, thunderbird: Thunderbird) -> None:
    """Thunderbird reads over what stands beside the answer to its STORE. IDLE, two seconds later, says it again."""
    received(server, thunderbird, letter("already here"), letter("soon gone"))
    thunderbird.do("tag", ALICE, "INBOX", "already here")
    becomes(server, "INBOX", "already here", {b"$label1"})
    fill(server, ALICE, [letter("just come")])
    with connect(server, ALICE) as other:
        number = other.search(None, "SUBJECT", '"soon gone"')[1][0].decode()
        other.store(number, "+FLAGS", r"(\Deleted)")
        other.expunge()
    thunderbird.do("command", ALICE, "INBOX", "already here", "cmd_markAsFlagged")
    thunderbird.do("arrived", ALICE, "INBOX", "just come")
    thunderbird.do("gone", ALICE, "INBOX", "soon gone")


@pytest.mark.parametrize(("writer", "reader"), [(ALICE, BOB), (BOB, ALICE)], ids=["465", "587"])
def test_a_message_with_an_attachment_is_sent(
    server: PosthouseServer, thunderbird: Thunderbird, writer: str, reader: str
) -> None:
    subject, octets = f"sent by {writer}", bytes(range(256)) * 400
    thunderbird.do("send", writer, reader, subject, "Schöne Grüße", base64.b64encode(octets).decode())
    arrived = wait_for_message(server, reader, subject, SECONDS)
    assert re.search(rb"with ESMTPSA", arrived)
    message = email.message_from_bytes(arrived, policy=email.policy.default)
    text, attachment = message.iter_parts()
    assert text.get_content().strip() == "Schöne Grüße"
    assert attachment.get_content() == octets

    thunderbird.do("show", reader, "INBOX")
    shown = thunderbird.do("read", reader, "INBOX", subject)
    assert shown["attachments"] == ["attached.bin"]
    assert "Schöne Grüße" in shown["body"]
    with connect(server, writer) as client:
        client.select("Sent", readonly=True)
        assert client.search(None, "SEEN", "HEADER", "Message-ID", message["Message-ID"])[1][0].split()


def test_an_answer_marks_what_it_answers(server: PosthouseServer, thunderbird: Thunderbird) -> None:
    received(server, thunderbird, letter("to be answered"))
    thunderbird.do("answer", ALICE, "INBOX", "to be answered")
    becomes(server, "INBOX", "to be answered", {rb"\Seen", rb"\Answered"})
    arrived = wait_for_message(server, BOB, "Re: to be answered", SECONDS)
    assert b"\r\nIn-Reply-To: <to.be.answered@example.test>\r\n" in arrived


def test_a_draft_is_kept(server: PosthouseServer, thunderbird: Thunderbird) -> None:
    thunderbird.do("draft", ALICE, "to be written")
    becomes(server, "Drafts", "to be written", {rb"\Draft"})
