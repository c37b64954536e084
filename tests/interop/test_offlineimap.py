"""offlineimap3 keeps Maildirs and an IMAP account alike, both ways, over TLS and with COMPRESS.

It verifies the name of the server, which here is an address: so it is told the certificate's fingerprint, not the CA.

Its IMAP library reads and writes one TLS connection in two threads, which older Pythons do not lock against each other
(https://github.com/python/cpython/issues/124984). After STARTTLS that meets the session tickets that TLS 1.3 sends
behind the handshake, and one run in some sixty hung or died of a segmentation fault. TLS 1.2 sends nothing there.
"""

import hashlib
import re
import ssl
from pathlib import Path

import pytest

from bench.posthouse_server import PASSWORD, PosthouseServer
from tests.interop import maildir, reading
from tests.interop.clients import require, run

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

BOB, CAROL = "bob@example.test", "carol@example.test"
CONFIGURATION = """\
[general]
accounts = both
metadata = {directory}/metadata
fsync = no
[Account both]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {directory}/mail
[Repository far]
type = IMAP
remotehost = {server.address}
remoteport = {port}
remoteuser = {login}
remotepass = {password}
ssl = {ssl}
starttls = {starttls}
cert_fingerprint = {fingerprint}
usecompression = yes
maxconnections = 2
expunge = yes
"""
OPENSSL = """\
openssl_conf = start
[start]
ssl_conf = defaults
[defaults]
system_default = tls
[tls]
MaxProtocol = TLSv1.2
"""


class Account:
    """Maildirs that offlineimap keeps like an account's mailboxes."""

    def __init__(self, server: PosthouseServer, login: str, tls: str, directory: Path) -> None:
        self.mail, self._directory = directory / "mail", directory
        certificate = (server.directory / "data" / "tls" / "server.pem").read_text()
        octets = ssl.PEM_cert_to_DER_cert(certificate[: certificate.index("-----END") + 25])
        (directory / "openssl.cnf").write_text(OPENSSL)
        implicit = tls == "implicit"
        (directory / "rc").write_text(
            CONFIGURATION.format(
                server=server,
                directory=directory,
                login=login,
                password=PASSWORD,
                port=server.ports["imaps" if implicit else "imap"],
                ssl="yes" if implicit else "no",
                starttls="no" if implicit else "yes",
                fingerprint=hashlib.sha256(octets).hexdigest(),
            )
        )

    def sync(self) -> list[str]:
        """Run it; the commands that it sent. Nothing may have been refused."""
        argv = [require("offlineimap", "offlineimap3"), "-c", str(self._directory / "rc"), "-o", "-d", "imap"]
        log = self._directory / "log"
        home = str(self._directory)
        run([*argv, "-l", str(log), "-u", "quiet"], HOME=home, OPENSSL_CONF=f"{home}/openssl.cnf")
        said = log.read_text()
        log.unlink()
        assert re.findall(r"reader < b'\S+ (?:NO|BAD) .*", said) == []
        assert re.findall(r"(?m)^(?:ERROR|WARNING).*", said) == []
        return re.findall(r"writer > b'\S+ (.*?)(?:\\r\\n)?'", said)

    def folder(self, name: str) -> Path:
        """A mailbox's Maildir."""
        return self.mail / name

    def flags(self, name: str) -> dict[bytes, frozenset[bytes]]:
        """Everything in it, with its flags."""
        return {maildir.content(path): maildir.flags(path) for path in maildir.files(self.folder(name))}


def letters(count: int, place: str) -> list[bytes]:
    """Messages of which each differs from all others, with 8-bit octets in header and body."""
    return [
        (
            f"From: Écrivain <writer@elsewhere.test>\r\nTo: {BOB}\r\nSubject: {place} {n} äöü\r\n"
            f"Message-ID: <{place}.{n}@elsewhere.test>\r\nDate: Sat, 21 Nov 2026 10:00:{n:02} +0000\r\n"
            f"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
            f"\r\nKörper {n}\r\n.\r\n..two dots\r\nFrom here\r\n"
        ).encode()
        for n in range(count)
    ]


def put(folder: Path, name: str, octets: bytes, marks: str) -> None:
    """A message that arrives here."""
    (folder / "cur" / f"{name}:2,{marks}").write_bytes(octets.replace(b"\r\n", b"\n"))


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_both_sides_become_alike(server: PosthouseServer, tmp_path: Path, tls: str) -> None:
    reading.empty(server, BOB)
    far, near = letters(15, "far"), letters(15, "near")
    reading.fill(server, BOB, far, ["", r"\Seen", r"\Flagged \Answered"])
    account = Account(server, BOB, tls, tmp_path)
    assert "COMPRESS DEFLATE" in account.sync()
    for n, octets in enumerate(near):
        put(account.folder("INBOX"), f"{n}.near", octets, ("", "S", "FR")[n % 3])
    account.sync()
    assert reading.flags(server, BOB) == account.flags("INBOX")
    assert set(account.flags("INBOX")) == {*far, *near}

    here, there = maildir.files(account.folder("INBOX")), reading.numbers(server, BOB)
    commands = account.sync()
    assert (maildir.files(account.folder("INBOX")), reading.numbers(server, BOB)) == (here, there)
    assert [one for one in commands if re.match("UID FETCH|APPEND|STORE|UID STORE", one)] == []


def test_changes_go_both_ways(server: PosthouseServer, tmp_path: Path) -> None:
    reading.empty(server, CAROL)
    first, second, third, _, fifth = sent = letters(5, "changes")
    reading.fill(server, CAROL, sent)
    account = Account(server, CAROL, "implicit", tmp_path)
    account.sync()
    by_content = {maildir.content(path): path for path in maildir.files(account.folder("INBOX"))}
    maildir.mark(by_content[first], "FS")
    by_content[second].unlink()
    with reading.connect(server, CAROL) as client:
        client.store("3", "+FLAGS", r"(\Answered)")
        client.store("4", "+FLAGS", r"(\Deleted)")
        client.expunge()
    account.sync()
    expected = {first: {rb"\Flagged", rb"\Seen"}, third: {rb"\Answered"}, fifth: frozenset()}
    assert account.flags("INBOX") == reading.flags(server, CAROL) == expected


def test_folders_are_made_on_both_sides(server: PosthouseServer, tmp_path: Path) -> None:
    name = "Reisen &- M&APw-nchen"  # modified UTF-7, RFC 3501 §5.1.3, which offlineimap hands through
    with reading.connect(server, CAROL) as client:
        client.create(f'"{name}"')
        client.append(f'"{name}"', "", "", letters(1, "munich")[0])
    account = Account(server, CAROL, "implicit", tmp_path)
    put(maildir.make(account.folder("Here")), "1.here", letters(1, "here")[0], "F")
    account.sync()
    assert maildir.messages(account.folder(name)) == letters(1, "munich")
    with reading.connect(server, CAROL) as client:
        assert client.select("Here") == ("OK", [b"1"])
        assert client.search(None, "FLAGGED") == ("OK", [b"1"])
