"""Mail goes from Dovecot to posthouse, by IMAP and as its Maildir, and from posthouse's Maildir to Dovecot."""

import imaplib
import re
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.peers.dovecot import Dovecot
from bench.peers.private_root import Unavailable
from bench.peers.waiting import free_port
from tests.cli.support import Command
from tests.cli.test_import import ALICE, held
from tests.interop.clients import missing

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]

AT = '"01-Jan-2026 09:00:00 +0100"'
FLAGS = [r"", r"\Seen \Answered", r"\Flagged \Draft Work $Forwarded", r"\Deleted"]
FOLDERS = ["INBOX", "Entw&APw-rfe", "Work.Old"]
SECONDS = 1_767_254_400


def text(number: int) -> bytes:
    return f"Subject: {number}\r\n\r\nFrom here\r\n".encode() + b"x" * 70 * number + b"\r\n"


@pytest.fixture
def dovecot() -> Iterator[Dovecot]:
    """With mail of bob's, and an empty maildrop of carol's."""
    imap, imaps, lmtp = (free_port("127.0.0.1") for _ in range(3))
    try:
        made = Dovecot(users=["bob", "carol"], address="127.0.0.1", lmtp=lmtp, imap=imap, imaps=imaps, store="maildir")
    except Unavailable as why:
        missing(str(why))
    try:
        made.start()
        with connected(made, "bob") as client:
            for folder in FOLDERS[1:]:
                client.create(folder)
            for folder in FOLDERS:
                for number, flags in enumerate(FLAGS, 1):
                    assert client.append(folder, flags, AT, text(number))[0] == "OK"
        yield made
    finally:
        made.stop()


def connected(dovecot: Dovecot, user: str) -> imaplib.IMAP4:
    context = ssl.create_default_context(cafile=str(dovecot.root.peer / "cert.pem"))
    client = imaplib.IMAP4_SSL("localhost", dovecot.imaps, ssl_context=context, timeout=30)
    client.login(user, "secret")
    return client


@pytest.fixture
def command(tmp_path: Path) -> Command:
    made = Command(tmp_path)
    made("init", "--domain", "example.org", "--hostname", "mail.example.org")
    made("account", "add", ALICE, "--password", "long enough for us")
    return made


EXPECTED = [
    ("Subject: 1", set(), False, SECONDS),
    ("Subject: 2", {"$seen", "$answered"}, False, SECONDS),
    ("Subject: 3", {"$flagged", "$draft", "Work", "$forwarded"}, False, SECONDS),
    ("Subject: 4", set(), True, SECONDS),
]


def check(command: Command) -> None:
    found = held(command)
    assert found.keys() == {"INBOX", "Entwürfe", "Work/Old"}
    for rows in found.values():
        seen = sorted((subject, words, deleted, at // 1000) for subject, words, deleted, at in rows)
        assert seen == EXPECTED


def test_from_its_imap(dovecot: Dovecot, command: Command, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    source = f"imaps://bob@localhost:{dovecot.imaps}"
    options = ("--password-file", str(tmp_path / "password"), "--authorities", str(dovecot.root.peer / "cert.pem"))
    assert command("import", ALICE, source, *options) == "12 imported, 0 were there\n"
    check(command)
    assert command("import", ALICE, source, *options) == "0 imported, 12 were there\n"


def test_from_its_maildir_and_back(dovecot: Dovecot, command: Command, tmp_path: Path) -> None:
    copy = tmp_path / "Maildir"
    shutil.copytree(dovecot.mail / "bob", copy)
    assert command("import", ALICE, str(copy)) == "12 imported, 0 were there\n"
    check(command)
    command("export", ALICE, str(dovecot.mail / "carol"))
    for path in (dovecot.mail / "carol", *(dovecot.mail / "carol").rglob("*")):
        shutil.chown(path, 65534, 65534)
    with connected(dovecot, "carol") as client:
        for folder in FOLDERS:
            assert client.select(folder, readonly=True) == ("OK", [b"4"])
            for number, flags in enumerate(FLAGS, 1):
                (which,) = client.search(None, "SUBJECT", str(number))[1]
                answer = client.fetch(which.decode(), "(FLAGS INTERNALDATE BODY.PEEK[])")[1]
                assert isinstance(answer[0], tuple)
                told = re.search(rb"FLAGS \(([^)]*)\)", answer[0][0])
                assert told
                assert set(told[1].decode().split()) - {r"\Recent"} == set(flags.split())
                assert answer[0][1] == text(number)
                moment = imaplib.Internaldate2tuple(answer[0][0])
                assert moment is not None
