"""mbsync (isync) keeps a Maildir and an IMAP account alike, both ways, over TLS.

It verifies the name of the server by its configuration alone, which here is an address: so it is told to trust the
server's certificate itself, not the CA.
"""

import re
from pathlib import Path

import pytest

from bench.posthouse_server import PASSWORD, PosthouseServer
from tests.interop import maildir, reading
from tests.interop.clients import require, run

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

BOB, CAROL = "bob@example.test", "carol@example.test"
CONFIGURATION = """\
IMAPAccount far
Host {server.address}
Port {port}
User {login}
Pass "{password}"
SSLType {tls}
CertificateFile {server.directory}/data/tls/server.pem

IMAPStore far
Account far
Trash Trash

MaildirStore near
Path {directory}/folders/
Inbox {directory}/inbox
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
"""


class Maildir:
    """A Maildir that mbsync keeps like the account's mailboxes."""

    def __init__(self, server: PosthouseServer, login: str, tls: str, directory: Path) -> None:
        self.inbox, self.folders = directory / "inbox", directory / "folders"
        self.folders.mkdir()
        maildir.make(self.inbox)
        self._configuration = directory / "mbsyncrc"
        port = server.ports["imaps" if tls == "IMAPS" else "imap"]
        self._configuration.write_text(
            CONFIGURATION.format(server=server, port=port, login=login, password=PASSWORD, tls=tls, directory=directory)
        )

    def sync(self) -> None:
        """Run mbsync. AssertionError with its words where it fails or one of its commands is refused."""
        said = run([require("mbsync", "isync"), "-Dn", "-c", str(self._configuration), "all"]).decode()
        assert re.findall(r"(?m)^\d+ (?:NO|BAD)\b.*|^IMAP (?:error|warning).*|^Warning.*", said) == []

    def files(self) -> list[Path]:
        """The messages in INBOX."""
        return maildir.files(self.inbox)

    def write(self, name: str, octets: bytes, letters: str = "") -> None:
        """A message that arrives in INBOX here."""
        (self.inbox / "cur" / f"{name}:2,{letters}").write_bytes(octets.replace(b"\r\n", b"\n"))

    def mark(self, octets: bytes, letters: str) -> None:
        """Give a message these flags."""
        (path,) = [path for path in self.files() if content(path) == octets]
        maildir.mark(path, letters)

    def flags(self) -> dict[bytes, frozenset[bytes]]:
        """Everything in INBOX, with its flags in the words of IMAP."""
        return {content(path): maildir.flags(path) for path in self.files()}


def content(path: Path) -> bytes:
    """A file's octets with the line ends of the network."""
    return untagged(maildir.content(path))


def untagged(octets: bytes) -> bytes:
    """Without the field that mbsync adds to what it copies."""
    return re.sub(rb"\AX-TUID: [^\r]*\r\n|(?<=\r\n)X-TUID: [^\r]*\r\n", b"", octets, count=1)


def both_ways_alike(server: PosthouseServer, login: str, kept: Maildir) -> int:
    """Assert that neither side has what the other has not, octet by octet and flag by flag; how many there are."""
    far = {untagged(octets): flags for octets, flags in reading.flags(server, login).items()}
    near = kept.flags()
    assert len(near) == len(kept.files()), "a message is there twice"
    assert near == far
    return len(near)


def letters(count: int, place: str) -> list[bytes]:
    """Messages of which each differs from all others, with what transports trip over."""
    return [
        (
            f"From: Écrivain <writer@elsewhere.test>\r\nTo: {CAROL}\r\nSubject: {place} {n} äöü\r\n"
            f"Message-ID: <{place}.{n}@elsewhere.test>\r\nDate: Sat, 21 Nov 2026 10:{n // 60:02}:{n % 60:02} +0000\r\n"
            f"\r\nBody {n}\r\n.\r\n..two dots\r\nFrom here\r\n"
        ).encode()
        for n in range(count)
    ]


def test_a_thousand_messages_each_way_without_a_difference(server: PosthouseServer, tmp_path: Path) -> None:
    reading.fill(server, CAROL, letters(1000, "far"), ["", r"\Seen", r"\Flagged \Answered"])
    kept = Maildir(server, CAROL, "IMAPS", tmp_path)
    for n, octets in enumerate(letters(1000, "near")):
        kept.write(f"{n}.near", octets, ("", "S", "FR")[n % 3])
    kept.sync()
    assert both_ways_alike(server, CAROL, kept) == 2000

    here, there = kept.files(), reading.numbers(server, CAROL)
    kept.sync()
    assert (kept.files(), reading.numbers(server, CAROL)) == (here, there), "the second run found something to do"


def test_changes_go_both_ways(server: PosthouseServer, tmp_path: Path) -> None:
    first, second, third, fourth, *_ = sent = letters(20, "changes")
    reading.fill(server, BOB, sent)
    kept = Maildir(server, BOB, "STARTTLS", tmp_path)
    kept.sync()
    assert both_ways_alike(server, BOB, kept) == 20

    kept.mark(first, "FS")
    kept.mark(second, "T")
    kept.write("new.here", b"Subject: written here\r\n\r\nHello\r\n", "D")
    with reading.connect(server, BOB) as client:
        client.store("3", "+FLAGS", r"(\Answered)")
        client.store("4", "+FLAGS", r"(\Deleted)")
        client.expunge()
    kept.sync()
    assert both_ways_alike(server, BOB, kept) == 19
    now = kept.flags()
    assert now[first] == {rb"\Flagged", rb"\Seen"}
    assert now[third] == {rb"\Answered"}
    assert second not in now
    assert fourth not in now
    with reading.connect(server, BOB) as client:
        client.select("Trash", readonly=True)
        (trashed, _) = client.fetch("1:*", "(BODY.PEEK[])")[1]
    assert isinstance(trashed, tuple)
    assert trashed[1] == second


def test_folders_are_made_on_both_sides(server: PosthouseServer, tmp_path: Path) -> None:
    kept = Maildir(server, BOB, "IMAPS", tmp_path)
    name = "There/Reisen &- M&APw-nchen"  # modified UTF-7, RFC 3501 §5.1.3, which mbsync hands through
    with reading.connect(server, BOB) as client:
        client.create(f'"{name}"')
        client.append(f'"{name}"', "", "", b"Subject: far\r\n\r\nHello\r\n")
    maildir.make(kept.folders / "Here")
    (kept.folders / "Here" / "new" / "1.here").write_bytes(b"Subject: near\n\nHello\n")
    kept.sync()
    assert len(list((kept.folders / name / "new").iterdir())) == 1
    with reading.connect(server, BOB) as client:
        assert client.select("Here") == ("OK", [b"1"])
