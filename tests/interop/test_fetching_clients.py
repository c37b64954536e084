"""mpop and getmail fetch mail into a Maildir over TLS, by POP3 and IMAP."""

from functools import reduce
from pathlib import Path

import pytest

from bench.posthouse_server import PASSWORD, PosthouseServer
from tests.interop import maildir
from tests.interop.clients import require, run
from tests.interop.reading import connect, empty, fill, flags, messages

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

CAROL = "carol@example.test"
HOST = "mail.example.test"


def letters(count: int, place: str) -> list[bytes]:
    """Messages with what POP3 trips over, and one of 300 KB."""
    return [
        (
            f"From: writer@elsewhere.test\r\nTo: {CAROL}\r\nSubject: {place} {n} =?utf-8?q?=C3=A4=C3=B6=C3=BC?=\r\n"
            f"Message-ID: <{place}.{n}@elsewhere.test>\r\nDate: Sat, 21 Nov 2026 10:00:{n:02} +0000\r\n"
            f"\r\nKörper {n}\r\n.\r\n..two dots\r\nFrom here\r\n" + ("ß" * 70 + "\r\n") * (2200 if n == 1 else 0)
        ).encode()
        for n in range(count)
    ]


@pytest.fixture
def folder(server: PosthouseServer, tmp_path: Path) -> Path:
    """A Maildir, as empty as Carol's INBOX."""
    empty(server, CAROL)
    return maildir.make(tmp_path / "mail")


# --- mpop


def mpop(
    server: PosthouseServer, folder: Path, *options: str, tls: str = "implicit", auth: str = "scram-sha-256"
) -> str:
    """What mpop says of fetching into the folder, the conversation among it."""
    port = server.ports["pop3s" if tls == "implicit" else "pop3"]
    configuration = folder.parent / "mpoprc"
    configuration.write_text(
        f"account carol\nhost {server.address}\nport {port}\nuser {CAROL}\npassword {PASSWORD}\nauth {auth}\n"
        f"tls on\ntls_starttls {'off' if tls == 'implicit' else 'on'}\ntls_trust_file {server.certificates}\n"
        f"tls_host_override {HOST}\ntimeout off\nreceived_header off\ndelivery maildir {folder}\n"
        f"uidls_file {folder.parent}/uidls\n"
    )
    configuration.chmod(0o600)
    said = run([require("mpop"), "--debug", "-C", str(configuration), *options, "carol"]).decode()
    assert "-ERR" not in said
    return said


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
@pytest.mark.parametrize("auth", ["scram-sha-256", "plain", "user"])
def test_mpop_fetches_and_deletes(server: PosthouseServer, folder: Path, tls: str, auth: str) -> None:
    sent = letters(4, "mpop")
    fill(server, CAROL, sent)
    said = mpop(server, folder, tls=tls, auth=auth)
    assert maildir.messages(folder) == sorted(sent)
    assert messages(server, CAROL) == []
    assert said.count("DELE ") == 4


def test_mpop_leaves_mail_and_fetches_only_what_is_new(server: PosthouseServer, folder: Path) -> None:
    """By UIDL, which stays as it is though another client removes mail."""
    sent = letters(5, "left")
    fill(server, CAROL, sent[:3])
    mpop(server, folder, "--keep=on")
    with connect(server, CAROL) as client:
        client.store("1", "+FLAGS", r"(\Deleted)")
        client.expunge()
    fill(server, CAROL, sent[3:])
    assert mpop(server, folder, "--keep=on").count("> RETR ") == 2
    assert maildir.messages(folder) == sorted(sent)
    assert messages(server, CAROL) == sent[1:]


# --- getmail


def getmail(
    server: PosthouseServer,
    folder: Path,
    kind: str,
    *,
    settings: str = "",
    options: str = "",
    arguments: tuple[str, ...] = (),
) -> str:
    """What getmail says of fetching into the folder, its conversation among it."""
    configuration = folder.parent / "getmailrc"
    port = server.ports["pop3s" if "POP3" in kind else "imaps"]
    configuration.write_text(
        f"[retriever]\ntype = {kind}\nserver = {server.address}\nport = {port}\nusername = {CAROL}\n"
        f"password = {PASSWORD}\nca_certs = {server.certificates}\nssl_cert_hostname = {HOST}\n{settings}\n"
        # As root it would refuse to deliver to a Maildir by itself.
        f"[destination]\ntype = MDA_external\npath = {require('sh', 'dash')}\nallow_root_commands = true\n"
        f"arguments = ('-c', 'cat > $(mktemp {folder}/new/XXXXXXXX)')\n"
        f"[options]\nverbose = 2\ndelivered_to = false\nreceived = false\n{options}\n"
    )
    argv = [require("getmail", "getmail6"), "--getmaildir", str(folder.parent), "--rcfile", "getmailrc", *arguments]
    return run(argv, HOME=str(folder.parent)).decode()


def fetched(folder: Path) -> list[bytes]:
    """What getmail has put into the folder, without the fields that it adds."""
    added = (b"Return-Path: <unknown>\r\n", b"X-getmail-retrieved-from-mailbox: INBOX\r\n")
    return sorted(reduce(lambda left, field: left.replace(field, b""), added, one) for one in maildir.messages(folder))


@pytest.mark.parametrize("kind", ["SimplePOP3SSLRetriever", "SimpleIMAPSSLRetriever"])
def test_getmail_fetches_only_what_is_new_and_deletes_at_last(server: PosthouseServer, folder: Path, kind: str) -> None:
    sent = letters(5, "getmail")
    fill(server, CAROL, sent[:3])
    assert "3 messages" in getmail(server, folder, kind, options="read_all = false")
    assert fetched(folder) == sorted(sent[:3])
    fill(server, CAROL, sent[3:])
    assert "2 messages" in getmail(server, folder, kind, options="read_all = false\ndelete = true")
    assert fetched(folder) == sorted(sent)
    assert messages(server, CAROL) == []


def test_getmail_moves_what_it_has_fetched(server: PosthouseServer, folder: Path) -> None:
    sent = letters(2, "moved")
    fill(server, CAROL, sent)
    getmail(server, folder, "SimpleIMAPSSLRetriever", settings="move_on_delete = Archive", options="delete = true")
    assert fetched(folder) == sorted(sent)
    assert messages(server, CAROL) == []
    with connect(server, CAROL) as client:
        client.select("Archive", readonly=True)
        for octets in sent:
            (number,) = client.search(
                None, "HEADER", "Message-ID", octets.partition(b"Message-ID: ")[2].split()[0].decode()
            )[1][0].split()
            found = client.fetch(number.decode(), "(BODY.PEEK[])")[1][0]
            assert isinstance(found, tuple)
            assert found[1] == octets


def test_getmail_fetches_the_unseen_and_marks_them(server: PosthouseServer, folder: Path) -> None:
    first, second = sent = letters(2, "unseen")
    fill(server, CAROL, sent, [r"\Seen", ""])
    search = "imap_search = UNSEEN\nimap_on_delete = (\\Seen \\Answered)"
    getmail(server, folder, "SimpleIMAPSSLRetriever", settings=search, options="delete = true")
    assert fetched(folder) == [second]
    assert flags(server, CAROL) == {first: {rb"\Seen"}, second: {rb"\Seen", rb"\Answered"}}
