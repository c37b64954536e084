"""Dovecot reads posthouse by IMAP: its dsync carries an account away into a Maildir, and into another."""

import shutil
from collections.abc import Iterator

import pytest

from bench.peers.postfix import PACKAGES
from bench.peers.private_root import PrivateRoot, Unavailable
from bench.posthouse_server import PASSWORD, PosthouseServer
from tests.interop.clients import missing
from tests.interop.reading import connect, empty, fill, flags

# The first run on a machine installs the packages.
pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]

BOB, CAROL = "bob@example.test", "carol@example.test"
# imapc is Dovecot's own IMAP client. It cannot be told the name in the certificate, but wants one of our CA.
CONFIGURATION = """\
mail_location = maildir:/peer/mail
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
ssl_client_ca_file = /peer/ca.pem
imapc_host = {server.address}
imapc_port = {port}
imapc_ssl = imaps
imapc_ssl_verify = no
imapc_password = {password}
imapc_features = fetch-headers fetch-bodystructure search
log_path = /dev/stderr
namespace inbox {{
  inbox = yes
  separator = /
}}
"""


@pytest.fixture
def root(server: PosthouseServer) -> Iterator[PrivateRoot]:
    """A private root with Dovecot in it, which knows the server."""
    try:
        root = PrivateRoot("dsync", PACKAGES)
    except Unavailable as why:
        missing(str(why))
    try:
        shutil.copy(server.certificates, root.peer / "ca.pem")
        configuration = CONFIGURATION.format(server=server, port=server.ports["imaps"], password=PASSWORD)
        (root.peer / "dovecot.conf").write_text(configuration)
        for directory in ("mail", "home"):
            (root.peer / directory).mkdir()
            shutil.chown(root.peer / directory, "nobody", "nogroup")
        yield root
    finally:
        root.remove()


def doveadm(root: PrivateRoot, login: str, *argv: str) -> str:
    """Run doveadm, whose IMAP client logs in with this name; its output."""
    user = ("env", "HOME=/peer/home", f"USER={login}")
    done = root.run(*user, "doveadm", "-c", "/peer/dovecot.conf", "-o", f"imapc_user={login}", *argv, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_dsync_carries_an_account_away_and_into_another(server: PosthouseServer, root: PrivateRoot) -> None:
    sent = [f"From: a@b.test\r\nSubject: {n} äöü\r\n\r\nBody {n}\r\n.\r\n".encode() for n in range(100)]
    empty(server, BOB)
    fill(server, BOB, sent, ["", r"\Seen", r"\Flagged \Answered $Forwarded", "own-keyword"])
    with connect(server, BOB) as client:
        client.create('"Reisen/M&APw-nchen"')
        client.append('"Reisen/M&APw-nchen"', "", "", sent[0])

    doveadm(root, BOB, "backup", "-R", "imapc:")
    doveadm(root, CAROL, "sync", "-1", "imapc:")
    assert len(flags(server, BOB)) == 100
    assert flags(server, CAROL) == flags(server, BOB)
    with connect(server, CAROL) as client:
        assert client.select('"Reisen/M&APw-nchen"') == ("OK", [b"1"])


def test_imapc_searches_and_fetches(server: PosthouseServer, root: PrivateRoot) -> None:
    empty(server, BOB)
    fill(server, BOB, [b"Subject: one\r\n\r\nHello\r\n", b"Subject: two\r\n\r\nHello there\r\n"], ["", r"\Flagged"])
    there = ("-o", "mail_location=imapc:/peer/home/imapc")
    assert len(doveadm(root, BOB, *there, "search", "mailbox", "INBOX", "body", "hello").splitlines()) == 2
    assert len(doveadm(root, BOB, *there, "search", "mailbox", "INBOX", "flagged", "subject", "two").splitlines()) == 1
    shown = doveadm(
        root, BOB, *there, "fetch", "size.physical imap.bodystructure", "mailbox", "INBOX", "subject", "one"
    )
    assert "size.physical: 23\n" in shown
    assert '"text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 7 1 ' in shown
